"""A tube (spec/tubes.md) as this peer speaks it: frames by hand, so that each can be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from xml.etree.ElementTree import Element, SubElement

from dbus_fast import Variant

from telepathy_e2e.errors import SecurityError
from tests.peer import stanzas, transfer
from tests.peer.bench import Bench
from tests.peer.client import PROTECTED, WAIT, Peer
from tests.peer.transfer import Transfer
from tests.peer.xtls import Ended, Secured
from tests.support.side import CHANNEL, REQUESTS
from tests.support.tubes import LOCALHOST, STREAM_TUBE, UNIX, accept

TUBES = "urn:x-telepathy-e2e:tube:0"
FEATURES = (*PROTECTED, TUBES)
OPEN, DATA, WINDOW, EOF, RESET, CLOSE, ACK, PING, PONG = range(9)

_HEADER = struct.Struct(">BII")
_PREFACE = struct.Struct(">8sIIQ")


def frame(kind: int, number: int = 0, n: int = 0, payload: bytes = b"") -> bytes:
    return _HEADER.pack(kind, number, n) + payload


def data(number: int, payload: bytes) -> bytes:
    return frame(DATA, number, len(payload), payload)


def preface(connections: int = 1024, window: int = 32768, received: int = 0) -> bytes:
    return _PREFACE.pack(b"e2etube0", connections, window, received)


def description(kind: str = "stream", service: str = "test", **more: str) -> Element:
    return Element(f"{{{TUBES}}}description", {"type": kind, "service": service, **more})


def parameter(of: Element, name: str, type_: str, text: str) -> Element:
    """Add a parameter to a description."""
    container = of.find(f"{{{TUBES}}}parameters")
    if container is None:
        container = SubElement(of, f"{{{TUBES}}}parameters")
    SubElement(container, f"{{{TUBES}}}parameter", {"name": name, "type": type_}).text = text
    return of


class TubeSession(Transfer):
    """The Jingle session of a tube."""

    def content(self, *children: Element | None) -> Element:
        return stanzas.content(*children, name="tube", senders="both")


class PeerTube:
    """A tube that is open on this side.

    Attributes:
        path: the daemon's channel.
        got: frames that came, without acknowledgements: (kind, id, n, payload).
    """

    def __init__(self, path: str, session: Transfer, secured: Secured) -> None:
        self.path = path
        self.transfer = session
        self.session = session.session
        self.secured = secured
        self.got: list[tuple[int, int, int, bytes]] = []
        self._buffer = bytearray()
        self._preface = b""
        self._reading = asyncio.ensure_future(self._read())

    async def write(self, frames: bytes) -> None:
        await self.secured.write(frames)

    async def flood(self, frames: bytes) -> None:
        """The same where the daemon is expected to hang up before the end."""
        with contextlib.suppress(ConnectionError, SecurityError, Ended):
            await self.write(frames)

    async def until(self, *kinds: int, count: int = 1) -> list[tuple[int, int, int, bytes]]:
        """Wait for so many frames of these kinds."""
        async with asyncio.timeout(WAIT):
            while len(found := [each for each in self.got if each[0] in kinds]) < count:
                if self._reading.done():
                    raise AssertionError(f"it ended after {self.got[-10:]}")
                await asyncio.sleep(0.01)
        return found

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError, SecurityError, Ended):
            while chunk := await self.secured.read():
                self._buffer += chunk
                if not self._preface and len(self._buffer) >= _PREFACE.size:
                    self._preface = bytes(self._buffer[: _PREFACE.size])
                    del self._buffer[: _PREFACE.size]
                while self._preface and self._take():
                    pass

    def _take(self) -> bool:
        if len(self._buffer) < _HEADER.size:
            return False
        kind, number, n = _HEADER.unpack_from(self._buffer)
        size = _HEADER.size + (n if kind in (OPEN, DATA) else 0)
        if len(self._buffer) < size:
            return False
        if kind != ACK:
            self.got.append((kind, number, n, bytes(self._buffer[_HEADER.size : size])))
        del self._buffer[:size]
        return True

    async def stop(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self.transfer.stop()


async def offered(bench: Bench, peer: Peer, address: Variant) -> str:
    """The user here offers a service to the peer; the daemon's channel."""
    side = bench.side
    path, _ = await side.cm(
        side.connection,
        REQUESTS,
        "CreateChannel",
        "a{sv}",
        {
            CHANNEL + ".ChannelType": Variant("s", STREAM_TUBE),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", stanzas.bare(peer.jid)),
            STREAM_TUBE + ".Service": Variant("s", "test"),
        },
    )
    await side.cm(path, STREAM_TUBE, "Offer", "uvua{sv}", UNIX, address, LOCALHOST, {})
    return str(path)


async def taken(bench: Bench, peer: Peer, address: Variant) -> PeerTube:
    """The user here shares a service with the peer, who takes it; no preface was sent."""
    path = await offered(bench, peer, address)
    session = await transfer.incoming(peer)
    assert await session.accept() == ("", "")
    await session.connect()
    return PeerTube(path, session, await session.protect())


async def given(bench: Bench, peer: Peer) -> tuple[PeerTube, bytes]:
    """The peer shares a service with the user here, who takes it: the address for programs."""
    session = TubeSession(peer.session(bench.jid))
    assert await session.offer(description()) == ("", "")
    path, _ = await bench.side.new_channel(STREAM_TUBE)
    address = await accept(bench.side, path, UNIX)
    await session.answered()
    await session.connect()
    return PeerTube(path, session, await session.protect()), bytes(address)
