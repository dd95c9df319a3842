"""A file by Jingle, step by step, from either side; each step can be taken in another way.

``run`` is the honest transfer. A test that wants a bug calls the steps itself, or sets what a step
would send.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from enum import Enum
from typing import Any
from xml.etree.ElementTree import Element

from telepathy_e2e.xtls.identity import Credentials
from tests.peer import credentials as certificates
from tests.peer import roads, stanzas
from tests.peer.client import WAIT, Peer, Session
from tests.peer.roads import CHUNK, InBand, Pipe, Streamhost, TcpPipe
from tests.peer.xtls import Secured


class Way(Enum):
    """How the bytes go."""

    CONNECT = "we connect to the other side's candidate"
    LISTEN = "the other side connects to our candidate"
    IN_BAND = "in-band, as offered (by us) or after SOCKS5 failed (by the other)"
    FALL_BACK = "SOCKS5 is offered by us and fails, then in-band"


class Transfer:
    """One file between this peer and somebody.

    Attributes:
        session: the Jingle session.
        offered, accepted: both contents, as they were on the wire.
        own: our certificates; None for a transfer in the clear.
        stream_id: of the transport.
    """

    def __init__(
        self,
        session: Session,
        *,
        way: Way = Way.CONNECT,
        xtls: bool = True,
        own: Credentials | None = None,
    ) -> None:
        self.session = session
        self.peer = session.peer
        self.way = way
        self.own = own
        if xtls and own is None:
            self.own = self.new_credentials()
        self.name = "file"
        self.stream_id = secrets.token_hex(8)
        self.cid = secrets.token_hex(4)
        self.streamhost: Streamhost | None = None
        self.block_size = 4096
        self.offered: Element
        self.accepted: Element
        self.pipe: Pipe
        self.in_band: InBand | None = None

    @property
    def sends(self) -> bool:
        return self.session.initiator

    def new_credentials(self) -> Credentials:
        """Right ones."""
        return certificates.credentials(stanzas.bare(self.peer.jid))

    # -- what goes into our offer or answer -------------------------------------------------

    def security(self) -> Element | None:
        """``<security/>`` for our leaf."""
        if self.own is None:
            return None
        return stanzas.security(stanzas.fingerprint(self.own.leaf))

    async def transport(self) -> Element:
        """Our side of the transport."""
        if self.in_band is not None or (self.way is Way.IN_BAND and self.sends):
            self.in_band = self.in_band or self.new_stream()
            return stanzas.ibb(self.stream_id, self.block_size)
        if self.way is Way.LISTEN:
            self.streamhost = Streamhost()
            port = await self.streamhost.start()
            candidate = stanzas.candidate(self.cid, "127.0.0.1", port, self.peer.jid)
            return stanzas.s5b(self.stream_id, candidate)
        return stanzas.s5b(self.stream_id)

    def new_stream(self) -> InBand:
        return InBand(self.peer, self.session.other, self.stream_id, block_size=self.block_size)

    def content(self, *children: Element | None) -> Element:
        return stanzas.content(*children, name=self.name)

    # -- offer and answer -------------------------------------------------------------------

    async def offer(
        self, description: Element, *, content: Element | None = None
    ) -> tuple[str, str]:
        """session-initiate; the error conditions of the answer."""
        self.offered = content or self.content(description, await self.transport(), self.security())
        return await self.session.send("session-initiate", self.offered)

    async def answered(self, *, timeout: float = WAIT) -> Element:
        """Wait until the other side accepts; its content."""
        element = await self.session.wait("session-accept", timeout=timeout)
        self.accepted = stanzas.only_content(element)
        if stanzas.part(self.accepted, "security") is None:
            self.own = None
        return self.accepted

    async def received_offer(self) -> Element:
        """The content that was offered to us."""
        element = await self.session.wait("session-initiate")
        self.offered = stanzas.only_content(element)
        self.name = self.offered.get("name", "")
        transport = stanzas.part(self.offered, "transport")
        assert transport is not None
        self.stream_id = transport.get("sid", "")
        if transport.tag == stanzas.ibb("").tag:
            self.way = Way.IN_BAND
            self.in_band = self.new_stream()
        if stanzas.part(self.offered, "security") is None:
            self.own = None
        return self.offered

    async def accept(
        self, *, content: Element | None = None, security: Element | None = None
    ) -> tuple[str, str]:
        """session-accept; the error conditions of the answer."""
        description = stanzas.part(self.offered, "description")
        self.accepted = (
            content
            if content is not None
            else self.content(
                description,
                await self.transport(),
                security if security is not None else self.security(),
            )
        )
        return await self.session.send("session-accept", self.accepted)

    # -- the road ---------------------------------------------------------------------------

    def note(self, name: str, cid: str = "") -> Element:
        """The content of a transport-info."""
        return self.content(stanzas.s5b(self.stream_id, stanzas.s5b_note(name, cid)))

    def theirs(self) -> Element:
        """The other side's transport."""
        transport = stanzas.part(self.accepted if self.sends else self.offered, "transport")
        assert transport is not None
        return transport

    def name_for_theirs(self) -> str:
        """What their candidates want to be asked for."""
        given = self.theirs().get("dstaddr")
        return given or stanzas.dstaddr(self.stream_id, self.session.other, self.peer.jid)

    def candidates(self) -> list[Element]:
        """The other side's direct candidates, those on loopback first."""
        found = self.theirs().findall(f"{{{stanzas.S5B}}}candidate")
        direct = [each for each in found if each.get("type", "direct") == "direct"]
        return sorted(direct, key=lambda each: each.get("host") != "127.0.0.1")

    async def connect(self) -> Pipe:
        """Bring the road up."""
        match self.way:
            case Way.CONNECT:
                self.pipe = await self.to_them()
            case Way.LISTEN:
                self.pipe = await self._to_us()
            case Way.IN_BAND if self.in_band is not None:
                if self.sends:
                    await self.in_band.open()
                else:
                    async with asyncio.timeout(WAIT):
                        await self.in_band.opened.wait()
                self.pipe = self.in_band
            case _:
                self.pipe = await self._after_failure()
        return self.pipe

    async def to_them(self) -> TcpPipe:
        chosen = self.candidates()[0]
        pipe = await roads.connect(
            chosen.get("host", ""), int(chosen.get("port", "0")), self.name_for_theirs()
        )
        note = self.note("candidate-used", chosen.get("cid", ""))
        assert await self.session.send("transport-info", note) == ("", "")
        await self.heard("candidate-error")
        return pipe

    async def _to_us(self) -> TcpPipe:
        assert self.streamhost is not None
        await self.session.send("transport-info", self.note("candidate-error"))
        await self.heard("candidate-used")
        return await self.streamhost.pipe()

    async def heard(self, name: str) -> Element:
        """Wait for a note of the other side's in a transport-info."""
        while True:
            element = await self.session.wait("transport-info")
            for child in stanzas.part(stanzas.only_content(element), "transport") or ():
                if stanzas.local(child) == name:
                    return child

    async def _after_failure(self) -> InBand:
        await self.session.send("transport-info", self.note("candidate-error"))
        await self.heard("candidate-error")
        if self.sends:
            return await self.replace()
        return await self.take_replacement(await self.session.wait("transport-replace"))

    async def replace(self) -> InBand:
        """Offer in-band instead, and open the stream."""
        self.stream_id = secrets.token_hex(8)
        stream = self.new_stream()
        replaced = self.content(stanzas.ibb(self.stream_id, self.block_size))
        assert await self.session.send("transport-replace", replaced) == ("", "")
        await self.session.wait("transport-accept")
        await stream.open()
        return stream

    async def take_replacement(self, element: Element) -> InBand:
        """Accept a transport-replace, and wait until the stream is open."""
        transport = stanzas.part(stanzas.only_content(element), "transport")
        assert transport is not None
        self.stream_id = transport.get("sid", "")
        self.block_size = min(self.block_size, int(transport.get("block-size", "4096")))
        stream = self.new_stream()
        accepted = self.content(stanzas.ibb(self.stream_id, self.block_size))
        assert await self.session.send("transport-accept", accepted) == ("", "")
        async with asyncio.timeout(WAIT):
            await stream.opened.wait()
        return stream

    # -- protection -------------------------------------------------------------------------

    def secured(self, own: Credentials | None = None, epoch: int = 0) -> Secured:
        """The protection of this transfer, not begun.

        Args:
            own: other certificates than announced.
            epoch: of the road.
        """
        own = own or self.own
        assert own is not None
        return Secured(self.session, self.pipe, own, self.offered, self.accepted, epoch)

    async def protect(self, epoch: int = 0) -> Any:
        """The stream that carries payload: protected, hellos said and heard, if that was agreed."""
        if self.own is None:
            return self.pipe
        secured = await self.secured(epoch=epoch).handshake()
        return await secured.hellos()

    async def stop(self) -> None:
        """Let go of sockets."""
        if self.streamhost is not None:
            await self.streamhost.stop()
        pipe = getattr(self, "pipe", None)
        if isinstance(pipe, TcpPipe):
            await pipe.close()

    # -- whole transfers --------------------------------------------------------------------

    async def send(self, data: bytes) -> str:
        """After the offer: everything that an honest sender does; how the session ended."""
        await self.answered()
        await self.connect()
        stream = await self.protect()
        await stream.write(data)
        await stream.write_eof()
        return await self.session.ended()

    async def receive(self) -> bytes:
        """After ``received_offer``: everything that an honest receiver does."""
        assert await self.accept() == ("", "")
        await self.connect()
        stream = await self.protect()
        data = bytearray()
        size = self.size()
        while self.own is not None or len(data) < size:
            chunk = await stream.read(CHUNK)
            if not chunk:
                break
            data += chunk
        if self.own is not None:
            await stream.write_eof()
        await self.session.send("session-info", stanzas.received(self.name))
        await self.session.terminate("success")
        return bytes(data)

    def size(self) -> int:
        """As offered."""
        for element in self.offered.iter(f"{{{stanzas.FILES}}}size"):
            return int(element.text or "")
        return 2**64


async def send(
    peer: Peer,
    to: str,
    data: bytes,
    *,
    name: str = "file.bin",
    way: Way = Way.CONNECT,
    xtls: bool = True,
) -> Transfer:
    """Offer a file honestly; then ``await transfer.send(data)``."""
    transfer = Transfer(peer.session(to), way=way, xtls=xtls)
    digest = hashlib.sha256(data).digest()
    answer = await transfer.offer(stanzas.description(name, len(data), sha256=digest))
    assert answer == ("", ""), answer
    return transfer


async def incoming(peer: Peer, *, way: Way = Way.CONNECT, xtls: bool = True) -> Transfer:
    """The next offer to us; then ``await transfer.receive()``."""
    transfer = Transfer(await peer.offered(), way=way, xtls=xtls)
    await transfer.received_offer()
    return transfer
