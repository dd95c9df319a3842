"""Two accounts with XML streams between them, over the server in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.jingle.xml_streams import FEATURE
from telepathy_e2e.service.capabilities import XTLS_FEATURE
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.xml_stream import XmlStream
from telepathy_e2e.service.xml_streams import XmlStreams
from telepathy_e2e.xmpp import caps
from telepathy_e2e.xmpp.roster import Resource, RosterItem
from tests.unit.service_support import ALICE, BOB, Server, Side, turns

CONTACT = RosterItem("", "both", ())
CLIENT = "{jabber:client}"


class StreamSide(Side):
    """``account.Account`` with XML streams.

    Attributes:
        got: messages and presences that came through one, with their marks.
    """

    def __init__(self, server: Server, jid: str, peer: str) -> None:
        super().__init__(server, jid, peer)
        client = cast(Any, self.client)
        client.in_roster[peer] = CONTACT
        client.online[peer] = [
            Resource(peer + "/here", features=frozenset({FEATURE, XTLS_FEATURE}))
        ]
        client.info = lambda node: Element(caps.QUERY_INFO)
        self.peer_jid = peer + "/here"
        self.got: list[tuple[Element, ProtectedPeer]] = []
        self.xml_streams = XmlStreams(self.account)

    def _offered(self, link: Link, content: Content) -> None:
        assert content.description is not None
        if self.xml_streams.understands(content.description):
            self.xml_streams.offered(link, content)
        else:
            super()._offered(link, content)

    def protected_received(self, stanza: Element, peer: ProtectedPeer) -> None:
        self.got.append((stanza, peer))

    def key_judged(self, bare_jid: str, fingerprint: bytes, *, accepted: bool) -> None:
        super().key_judged(bare_jid, fingerprint, accepted=accepted)
        self.xml_streams.key_judged(bare_jid, fingerprint, accepted=accepted)

    @property
    def streams(self) -> list[XmlStream]:
        return list(self.xml_streams._streams.values())

    def bodies(self) -> list[str | None]:
        return [stanza.findtext(CLIENT + "body") for stanza, _ in self.got]


def message(text: str = "", **attributes: str) -> Element:
    element = Element(CLIENT + "message", attributes)
    body = Element(CLIENT + "body")
    body.text = text
    element.append(body)
    return element


@asynccontextmanager
async def stream_sides() -> AsyncIterator[tuple[StreamSide, StreamSide]]:
    """Alice and Bob, each in the other's roster, online, and able to take XML streams."""
    server = Server()
    alice, bob = StreamSide(server, ALICE, BOB), StreamSide(server, BOB, ALICE)
    try:
        yield alice, bob
    finally:
        for side in (alice, bob):
            for stream in side.streams:
                stream.abandon("gone", NotAvailable("the test is over"))
            for channel in list(side.channels.values()):
                channel.close()
        await turns()
        await alice.close()
        await bob.close()
