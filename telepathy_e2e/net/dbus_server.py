"""The server's side of a D-Bus connection's beginning, with no I/O (D-Bus specification,
"Authentication Protocol").

Programs at both ends of a D-Bus tube are clients: each logs in here, at its own side, since what it
proves, a user id of this machine, means nothing on another. After BEGIN their messages go through
untouched, so file descriptors, which could not, are never agreed on.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import Final

from telepathy_e2e.errors import PeerError

# Bytes of a line; that of an unusually long mechanism's is far below.
MAX_LINE: Final = 1024

# Lines before BEGIN. libdbus tries three mechanisms, with a few lines each.
MAX_LINES: Final = 32

_UID: Final = re.compile(rb"[0-9]{1,10}\Z")


class DBusLogin:
    """One program that logs in.

    Args:
        uid: its user, by the kernel's word.
        anonymous: whether ANONYMOUS will do, and any user.
    """

    def __init__(self, uid: int, *, anonymous: bool) -> None:
        self._uid = uid
        self._anonymous = anonymous
        self._buffer = bytearray()
        self._started = False
        self._asked = False  # EXTERNAL was begun, and we wait for who it says it is
        self._authenticated = False
        self._lines = 0
        self._guid = secrets.token_hex(16)
        self.done = False
        """BEGIN was read."""

    def receive(self, data: bytes) -> bytes:
        """Bytes from the program; returns the answer.

        Raises: PeerError: not a D-Bus client, or one that may not come in.
        """
        self._buffer += data
        if not self._started and self._buffer:
            if self._buffer[0] != 0:
                raise PeerError("a D-Bus connection begins with a null byte")
            self._started = True
            del self._buffer[0]
        out = bytearray()
        while not self.done and (end := self._buffer.find(b"\r\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._lines += 1
            if end > MAX_LINE or self._lines > MAX_LINES:
                raise PeerError("a D-Bus login that comes to no end")
            out += self._answer(line)
        if not self.done and len(self._buffer) > MAX_LINE:
            raise PeerError("a D-Bus login that comes to no end")
        return bytes(out)

    @property
    def rest(self) -> bytes:
        """What came after BEGIN: the first of the messages."""
        return bytes(self._buffer)

    def _answer(self, line: bytes) -> bytes:
        command, _, rest = line.partition(b" ")
        match command:
            case b"AUTH":
                return self._auth(rest)
            case b"DATA" if self._asked:
                self._asked = False
                return self._external(rest)
            case b"CANCEL" | b"ERROR":
                self._asked = self._authenticated = False
                return self._rejected()
            case b"BEGIN":
                if not self._authenticated:
                    raise PeerError("a D-Bus program begins without having logged in")
                self.done = True
                return b""
            case _:  # NEGOTIATE_UNIX_FD with the rest: descriptors do not go through a tube
                return b"ERROR\r\n"

    def _auth(self, rest: bytes) -> bytes:
        if self._authenticated:
            return b"ERROR\r\n"
        mechanism, _, response = rest.partition(b" ")
        self._asked = False
        if mechanism == b"EXTERNAL":
            if response:
                return self._external(response)
            self._asked = True
            return b"DATA\r\n"
        if mechanism == b"ANONYMOUS" and self._anonymous:
            return self._ok()
        return self._rejected()

    def _external(self, response: bytes) -> bytes:
        """Whether it is who it says, and may come in; an empty identity is the kernel's."""
        try:
            named = bytes.fromhex(response.decode("ascii"))
        except ValueError:
            return self._rejected()
        if named and not (_UID.match(named) and int(named) == self._uid):
            return self._rejected()
        if self._uid != os.geteuid() and not self._anonymous:
            return self._rejected()
        return self._ok()

    def _ok(self) -> bytes:
        self._authenticated = True
        return f"OK {self._guid}\r\n".encode()

    def _rejected(self) -> bytes:
        return b"REJECTED EXTERNAL ANONYMOUS\r\n" if self._anonymous else b"REJECTED EXTERNAL\r\n"
