"""SOCKS5 as SOCKS5 Bytestreams use it: no authentication, CONNECT, a digest for a name.

XEP-0065 section 5.3.2, RFC 1928.


The two machines do no I/O. ``needed`` says how many bytes they can take: whoever reads asks the
kernel for no more, so that the first byte of the payload is still there when its owner comes for
it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from telepathy_e2e.errors import PeerError

from .dial import dial
from .streams import SocketStream, StreamBroken

#: Seconds for name look-up, connection and handshake with one candidate. Three lost SYNs, and still
#: short enough that a peer's whole list of dead candidates does not feel like a hang.
CONNECT_SECONDS = 10.0

DSTADDR = re.compile(r"[0-9a-f]{40}")

_VERSION = 5
_NO_AUTHENTICATION = 0
_NO_METHOD = 0xFF
_CONNECT = 1
_IPV4, _DOMAIN, _IPV6 = 1, 3, 4

GRANTED = 0
NOT_ALLOWED = 2
COMMAND_NOT_SUPPORTED = 7
ADDRESS_TYPE_NOT_SUPPORTED = 8

_REPLIES = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


class Refused(PeerError):
    """What the client asked for cannot be given; send it ``reply`` and close."""

    def __init__(self, text: str, reply: bytes) -> None:
        super().__init__(text)
        self.reply = reply


class _Machine:
    """Collects ``needed`` bytes, then takes the next step, which says how many come next."""

    def __init__(self, needed: int, step: Callable[[bytes], bytes]) -> None:
        self._buffer = bytearray()
        self._total = needed
        self._step = step

    @property
    def needed(self) -> int:
        """How many bytes ``receive`` can take now; 0 when the handshake is done."""
        return self._total - len(self._buffer)

    def receive(self, data: bytes) -> bytes:
        """Take at most ``needed`` bytes; returns what to send now, often nothing.

        Raises: PeerError (also Refused): the handshake has failed, close the connection.
        """
        if len(data) > self.needed:
            raise ValueError("more than was asked for")
        self._buffer += data
        if self.needed or not data:
            return b""
        message = bytes(self._buffer)
        return self._step(message)

    def _go_on(self, more: int, step: Callable[[bytes], bytes]) -> None:
        self._total += more
        self._step = step

    def _start_over(self, needed: int, step: Callable[[bytes], bytes]) -> None:
        self._buffer.clear()
        self._total = needed
        self._step = step

    def _finish(self) -> None:
        self._total = len(self._buffer)


class ServerHandshake(_Machine):
    """Our side when the peer connects to us; at the end ``dstaddr`` is what it asked for."""

    def __init__(self) -> None:
        super().__init__(2, self._greeting)
        self.dstaddr = ""

    def answer(self, code: int) -> bytes:
        """The reply to the request. BND repeats DST (XEP-0065 section 5.3.2)."""
        return _message(code, self.dstaddr)

    def _greeting(self, message: bytes) -> bytes:
        if message[0] != _VERSION:
            raise PeerError("this is not SOCKS5")
        if message[1] == 0:
            raise Refused("no authentication method", bytes([_VERSION, _NO_METHOD]))
        self._go_on(message[1], self._methods)
        return b""

    def _methods(self, message: bytes) -> bytes:
        if _NO_AUTHENTICATION not in message[2:]:
            raise Refused("no authentication method that we have", bytes([_VERSION, _NO_METHOD]))
        self._start_over(5, self._request)
        return bytes([_VERSION, _NO_AUTHENTICATION])

    def _request(self, message: bytes) -> bytes:
        version, command, _reserved, kind, length = message
        if version != _VERSION:
            raise PeerError("this is not SOCKS5")
        if command != _CONNECT:
            raise Refused("not a CONNECT", self.answer(COMMAND_NOT_SUPPORTED))
        if kind != _DOMAIN:
            raise Refused("not a name", self.answer(ADDRESS_TYPE_NOT_SUPPORTED))
        # A relay is what RFC 1928 is for, and what we must never be: nothing but a digest passes.
        if length != 40:
            raise Refused("not a digest", self.answer(NOT_ALLOWED))
        self._go_on(length + 2, self._address)
        return b""

    def _address(self, message: bytes) -> bytes:
        name = message[5:-2].decode("ascii", "replace").lower()
        if not DSTADDR.fullmatch(name):
            raise Refused("not a digest", self.answer(NOT_ALLOWED))
        if message[-2:] != b"\0\0":  # 1 would ask for UDP, XEP-0065 section 8
            raise Refused("the port is not 0", self.answer(NOT_ALLOWED))
        self.dstaddr = name
        self._finish()
        return b""


class ClientHandshake(_Machine):
    """Our side when we connect to the peer or to a proxy. Send ``greeting`` first."""

    greeting = bytes([_VERSION, 1, _NO_AUTHENTICATION])

    def __init__(self, dstaddr: str) -> None:
        super().__init__(2, self._method)
        self._dstaddr = dstaddr

    def _method(self, message: bytes) -> bytes:
        if message != bytes([_VERSION, _NO_AUTHENTICATION]):
            raise PeerError("it does not let us in without authentication")
        self._start_over(5, self._reply)
        return _message(_CONNECT, self._dstaddr)

    def _reply(self, message: bytes) -> bytes:
        version, code, _reserved, kind, length = message
        if version != _VERSION:
            raise PeerError("this is not SOCKS5")
        if code != GRANTED:
            raise PeerError(f"it refused: {_REPLIES.get(code, 'reason unknown')}")
        # Some proxies name an address of their own here, of any kind; only its length matters.
        sizes = {_IPV4: 4 - 1, _DOMAIN: length, _IPV6: 16 - 1}
        if kind not in sizes:
            raise PeerError("an unknown type of address")
        self._go_on(sizes[kind] + 2, self._bound)
        return b""

    def _bound(self, _message: bytes) -> bytes:
        self._finish()
        return b""


def _message(code: int, dstaddr: str) -> bytes:
    name = dstaddr.encode("ascii")
    return bytes([_VERSION, code, 0, _DOMAIN, len(name)]) + name + b"\0\0"


async def read_request(stream: SocketStream) -> ServerHandshake:
    """Server side, up to the request: the machine knows its ``dstaddr`` and makes the ``answer``.

    Raises: StreamBroken; PeerError after telling the peer, where SOCKS5 has words for it.
    """
    machine = ServerHandshake()
    try:
        await _run(stream, machine)
    except Refused as refusal:
        await stream.write(refusal.reply)
        raise
    return machine


async def _run(stream: SocketStream, machine: _Machine) -> None:
    while machine.needed:
        data = await stream.read(machine.needed)
        if not data:
            raise StreamBroken("the connection ended within the SOCKS5 handshake")
        reply = machine.receive(data)
        if reply:
            await stream.write(reply)


async def connect(
    host: str,
    port: int,
    dstaddr: str,
    timeout: float = CONNECT_SECONDS,  # noqa: ASYNC109 - part of what the caller decides
) -> SocketStream:
    """Connect to a candidate (the peer itself or a proxy) and ask for ``dstaddr``.

    Args:
        host: an IPv4 or IPv6 address or a DNS name, as the peer wrote it.
        port: 1 to 65535.
        dstaddr: 40 hexadecimal digits in lower case.
        timeout: seconds for all of it.

    Raises: StreamBroken, whatever went wrong.
    """
    if not DSTADDR.fullmatch(dstaddr):
        raise ValueError("not a digest")
    stream: SocketStream | None = None
    try:
        async with asyncio.timeout(timeout):
            stream = SocketStream(await dial(host, port))
            await stream.write(ClientHandshake.greeting)
            await _run(stream, ClientHandshake(dstaddr))
            result, stream = stream, None
            return result
    except TimeoutError as error:
        raise StreamBroken("the candidate did not answer in time") from error
    except PeerError as error:
        raise StreamBroken(f"the candidate failed: {error}") from error
    finally:
        if stream is not None:
            stream.abort()
