"""A stream inside TLS: the protection machine between the road and the payload."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from telepathy_e2e.net.streams import CHUNK, SocketStream, Stream

if TYPE_CHECKING:
    from telepathy_e2e.xtls.association import Handshake


@runtime_checkable
class DtlsStream(Stream, Protocol):
    """A road with an encryption of its own (a data channel, XEP-0343), which is up.

    Who has it sees to it that the certificates shown are those of ``<security/>``; its end
    (``b""``) is authentic.
    """

    @property
    def handshake(self) -> Handshake:
        """What it agreed on."""

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Key material of the association (RFC 5705)."""

    async def wait_broken(self) -> None:
        """Wait until nothing can come from it any more, whether or not somebody reads."""


# Bytes of the road that ``read_now`` takes at most: as many as tubes put into one piece.
READ_NOW: Final = 240 * 1024
# More than they can bring.
_ALL: Final = 2 * READ_NOW


class Machine(Protocol):
    """What the stream asks of the protection of its road (``security.TlsRoad``).

    Each method raises ``SecurityFailed`` once the protection has failed, and ``StreamBroken`` once
    the road was cut where another may take its place.
    """

    def feed(self, data: bytes) -> None:
        """Bytes of TLS from the road; ``b""`` when the road ended."""

    def take(self) -> bytes:
        """Bytes of TLS for the road, all that is pending."""

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Payload in; then ``take``."""

    def decrypt(self, limit: int) -> bytes:
        """Payload that arrived, ``b""`` if none is there now."""

    def close_notify(self) -> None:
        """Our direction ends."""

    @property
    def more(self) -> bool:
        """``decrypt`` may have something without another ``feed``."""

    @property
    def peer_closed(self) -> bool:
        """The peer's direction ended with its close_notify."""


class SecureStream:
    """See ``net.streams.Stream``; reading and writing may go on side by side."""

    def __init__(self, road: Stream, machine: Machine) -> None:
        self._road = road
        self._machine = machine
        self._writing = asyncio.Lock()
        # Encrypted, and not taken by the road yet: goes before all that follows.
        self._rest: bytes | memoryview = b""

    async def read(self, limit: int) -> bytes:
        """Payload; ``b""`` after the peer's close_notify.

        Raises:
            SecurityFailed: also when the road ended without a close_notify: the stream was cut.
            StreamBroken: the road broke.
        """
        while True:
            data = self._machine.decrypt(limit)
            if data or self._machine.peer_closed:
                return data
            if not await self.advance():
                return self._machine.decrypt(limit)

    async def advance(self) -> bool:
        """One step of reading: bytes from the road to the machine, its answers to the road.

        Returns:
            False when the road has ended.
        """
        data = await self._road.read(CHUNK)
        self._machine.feed(data)
        await self.flush()
        return bool(data)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        async with self._writing:
            self._machine.encrypt(data)
            await self._send()

    # -- without waiting: see ``tube_road.SocketRoad`` ----------------------------------------

    @property
    def socket(self) -> SocketStream | None:
        """The road, if it is a socket; only there may the following be called, and only while
        nobody waits for this stream in any other way."""
        return self._road if isinstance(self._road, SocketStream) else None

    def read_now(self) -> bytes | None:
        """One step of reading: payload; ``b""`` at its end, None if there is none now.

        Raises: see ``read``.
        """
        machine, road = self._machine, self.socket
        if road is None:
            raise RuntimeError("only a socket is read without waiting")
        if machine.peer_closed:
            return b""
        if machine.more:
            data = machine.decrypt(_ALL)
            if data or machine.peer_closed:
                return data
        came = road.read_now(READ_NOW)
        if came is None:
            return None
        machine.feed(came)
        # What TLS answers (to a KeyUpdate) goes with what is written next (RFC 8446 section 4.6.3).
        data = machine.decrypt(_ALL)
        return data if data or machine.peer_closed or not came else None

    @property
    def more_now(self) -> bool:
        """After ``read_now`` gave payload: it has something more to say at once, for which the road
        will not be readable."""
        return self._machine.peer_closed or self._machine.more

    def write_now(self, data: bytes) -> None:
        """Encrypt it, and write what the road takes at once; ``unsent`` says whether that was all.

        Raises: SecurityFailed, StreamBroken.
        """
        if data:
            self._machine.encrypt(data)
        pending: bytes | memoryview = self._machine.take()
        if self._rest:
            pending = b"".join((self._rest, pending)) if pending else self._rest
        if pending and (road := self.socket) is not None:
            taken = road.write_now(pending)
            self._rest = memoryview(pending)[taken:]

    def end_now(self) -> None:
        """close_notify; when it is not ``unsent`` any more, ``SocketStream.end_now`` follows."""
        self._machine.close_notify()
        self.write_now(b"")

    @property
    def unsent(self) -> bool:
        """What ``write_now`` took waits for the road, and for another ``write_now``."""
        return bool(self._rest)

    async def flush(self) -> None:
        """Send what the machine has for the road: handshake messages, alerts.

        Whoever is writing does it. To wait for him here, where it is read, would be the end of
        two that write a lot to each other: each would stop reading until the other reads.
        """
        if not self._writing.locked():
            async with self._writing:
                await self._send()

    async def _send(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, b""
            await self._road.write(rest)
        while pending := self._machine.take():
            await self._road.write(pending)

    async def say_end(self) -> None:
        """close_notify alone; ``write_eof`` may follow. For who still waits for an answer: proxies
        take the half-close of one direction for the end of both."""
        self._machine.close_notify()
        await self.flush()

    async def write_eof(self) -> None:
        """close_notify, then the road's half-close (xtls-wire, section 2 step 6)."""
        async with self._writing:
            self._machine.close_notify()
            await self._send()
            await self._road.write_eof()

    def close(self) -> None:
        self._road.close()

    def abort(self) -> None:
        self._road.abort()
