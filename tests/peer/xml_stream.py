"""An XML stream (XEP-0247) as this peer speaks it: bytes by hand, so that each can be wrong."""

from __future__ import annotations

import asyncio
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.xmpp.parser import Closed, Opened, Stanza, StreamParser
from tests.peer import stanzas
from tests.peer.client import PROTECTED, WAIT, Peer
from tests.peer.transfer import Transfer, Way
from tests.peer.xtls import Ended, Secured

XML_STREAM = "urn:xmpp:jingle:apps:xmlstream:0"
FEATURES = (*PROTECTED, XML_STREAM)
HEADER = (
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    " version='1.0'>"
)


class StreamSession(Transfer):
    """The Jingle session of a stream."""

    def content(self, *children: Element | None) -> Element:
        return stanzas.content(*children, name="xmlstream", senders="both")


class PeerStream:
    """A stream that is open, from this peer.

    Attributes:
        got: elements that came, in order; ``None`` for the closing tag.
    """

    def __init__(self, session: StreamSession, secured: Secured) -> None:
        self.transfer = session
        self.session = session.session
        self.secured = secured
        self.got: list[Element | None] = []
        self._parser = StreamParser()

    async def write(self, text: str | bytes) -> None:
        await self.secured.write(text if isinstance(text, bytes) else text.encode())

    async def flood(self, text: str | bytes) -> None:
        """The same where the daemon is expected to hang up before the end."""
        try:
            await self.write(text)
        except (ConnectionError, SecurityError, Ended):
            return

    async def next(self) -> Element | None:
        """The next element that comes; None: the closing tag."""
        async with asyncio.timeout(WAIT):
            while not self.got:
                data = await self.secured.read()
                if not data:
                    raise Ended
                for each in self._parser.feed(data):
                    match each:
                        case Stanza(element):
                            self.got.append(element)
                        case Closed():
                            self.got.append(None)
                        case Opened():
                            pass
        return self.got.pop(0)

    async def answer(self, identifier: str) -> Element:
        """The next answer; it is to this question. What the daemon asks itself is passed over."""
        while True:
            element = await self.next()
            assert element is not None
            if element.get("type") in ("result", "error"):
                assert element.get("id") == identifier
                return element

    async def error(self) -> str:
        """The condition of the stream error that ends it, and its closing tag."""
        while True:
            element = await self.next()
            assert element is not None, "closed without an error"
            if stanzas.local(element) == "error":
                assert await self.next() is None
                return stanzas.local(element[0])

    async def ends(self) -> str:
        """Wait for the end of the session; its condition."""
        return await self.session.ended()

    async def stop(self) -> None:
        await self.transfer.stop()


async def offer(peer: Peer, to: str, *, way: Way = Way.CONNECT, xtls: bool = True) -> StreamSession:
    """Offer a stream; its acknowledgement came."""
    session = StreamSession(peer.session(to), way=way, xtls=xtls)
    session.name = "xmlstream"
    assert await session.offer(Element(f"{{{XML_STREAM}}}description")) == ("", "")
    return session


async def protect(session: StreamSession) -> PeerStream:
    """After the offer: the answer, the road, the handshake."""
    await session.answered()
    await session.connect()
    return PeerStream(session, await (await session.secured().handshake()).hellos())


async def open_stream(peer: Peer, to: str, *, way: Way = Way.CONNECT) -> PeerStream:
    """All of it, and both opening tags."""
    stream = await protect(await offer(peer, to, way=way))
    await stream.write(HEADER)
    element = await stream.next()
    assert element is not None
    assert stanzas.local(element) == "features"
    return stream
