"""A place of the user's choice where programs connect, and from there into a tube.

The daemon chooses by itself where a tube's socket is, so that what listens at a certain port is
this program. It copies bytes in both directions and nothing else: it reads no more than it gets
rid of, an end of one direction is passed on while the other goes on, and a connection that breaks
on one side breaks on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import stat
import struct
from dataclasses import replace
from typing import Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.exits import UsageError
from telepathy_e2e.cli.places import Place

CHUNK: Final = 1 << 16

# Connections at the same time, as many as a tube has; further ones wait to be accepted.
MAX_CONNECTIONS: Final = 1024

# Descriptors: two for each connection, and some for everything else.
DESCRIPTORS: Final = 2 * MAX_CONNECTIONS + 64

# Seconds to wait when there are no descriptors left: asking again at once would spin.
PAUSE: Final = 0.5

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid

_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class Relay:
    """Takes the place at once. While there is no tube, programs that connect are told so.

    Args:
        place: where to listen.
    Raises:
        UsageError: it is taken, or not allowed.
    """

    def __init__(self, place: Place) -> None:
        # What went through, in bytes: from programs here, and to them.
        self.sent = 0
        self.received = 0
        self._targets: list[Place] = []
        self._inode = 0
        try:
            self._sock = self._bind(place)
        except OSError as error:
            raise UsageError(f"It is not possible to listen at {place}: {error.strerror}.") from (
                error
            )
        if not place.is_unix:
            place = replace(place, port=self._sock.getsockname()[1])
        #: Where it is in the end.
        self.place = place

    def _bind(self, place: Place) -> socket.socket:
        sock = socket.socket(place.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if place.kind == names.UNIX:
                _remove_dead(place)
                # Nobody else's programs, from the first moment on.
                before = os.umask(0o177)
                try:
                    sock.bind(place.address)
                finally:
                    os.umask(before)
                self._inode = os.stat(place.address).st_ino
            else:
                if not place.is_unix:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if place.kind == names.IPV6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(place.address)
            # At once: what is bound only, somebody else can still take.
            sock.listen(MAX_CONNECTIONS)
        except OSError:
            sock.close()
            raise
        return sock

    @property
    def upstream(self) -> int:
        """Socket_Address_Type to accept a tube with: of TCP both sides can tell a connection that
        broke from one that ended; a Unix socket is for this user's programs alone.
        """
        return names.UNIX if self.place.is_unix else names.IPV4

    def add(self, target: Place) -> None:
        """A tube is open: connections go there from now on."""
        self._targets.append(target)

    def remove(self, target: Place) -> None:
        """That tube is over."""
        self._targets.remove(target)

    def close(self) -> None:
        """Leave the place."""
        self._sock.close()
        if self._inode:
            with contextlib.suppress(OSError):
                if os.stat(self.place.address).st_ino == self._inode:
                    os.unlink(self.place.address)

    async def run(self) -> None:
        """Pass connections on until cancelled; then all of them are cut."""
        _allow_descriptors()
        room = asyncio.Semaphore(MAX_CONNECTIONS)
        async with asyncio.TaskGroup() as group:
            while True:
                await room.acquire()
                task = group.create_task(self._pass_on(await self._accept()))
                task.add_done_callback(lambda _: room.release())

    async def _accept(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                program = (await loop.sock_accept(self._sock))[0]
                if not self.place.is_unix or _same_user(program):
                    return program
                program.close()
            except ConnectionError:
                continue  # it was gone before we took it
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                await asyncio.sleep(PAUSE)

    async def _pass_on(self, program: socket.socket) -> None:
        tube: socket.socket | None = None
        whole = False
        try:
            tube = await self._connect()
            for sock in (program, tube):
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(program, tube))
                group.create_task(self._receive(tube, program))
            whole = True
        except* OSError:
            pass
        finally:
            if not whole:
                # Whoever is on the other side must not take a part for the whole.
                _break_off(program, tube)
            for each in (program, tube):
                if each is not None:
                    each.close()

    async def _connect(self) -> socket.socket:
        """Raises: OSError: there is no tube now."""
        if not self._targets:
            raise ConnectionRefusedError
        target = self._targets[-1]
        sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, target.address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _send(self, program: socket.socket, tube: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(program, CHUNK):
            await loop.sock_sendall(tube, data)
            self.sent += len(data)
        tube.shutdown(socket.SHUT_WR)

    async def _receive(self, tube: socket.socket, program: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(tube, CHUNK):
            await loop.sock_sendall(program, data)
            self.received += len(data)
        program.shutdown(socket.SHUT_WR)


def _same_user(sock: socket.socket) -> bool:
    """Whether who connected belongs to this user, by the kernel's word: an abstract socket has no
    permissions.
    """
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return bool(_UCRED.unpack(credentials)[1] == os.geteuid())


def _break_off(*sockets: socket.socket | None) -> None:
    for sock in sockets:
        if sock is not None and sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def _remove_dead(place: Place) -> None:
    """Take away the socket of a run that was killed: one that nobody listens at."""
    try:
        if not stat.S_ISSOCK(os.lstat(place.address).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        if sock.connect_ex(place.address) == errno.ECONNREFUSED:
            os.unlink(place.address)


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
