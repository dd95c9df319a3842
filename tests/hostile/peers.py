"""Two simple XMPP clients, to look at the server itself without our daemon."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.hostile.server import HostileServer
from tests.support.prosody import PASSWORD
from tests.support.waiting import PATIENCE

WAIT = PATIENCE


class Peer:
    """A client that answers every Jingle set with an empty result and keeps what it got."""

    def __init__(self, server: HostileServer, name: str) -> None:
        self.jid = f"{server.jid(name)}/peer"
        self.got: list[Element] = []
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._client: Any = slixmpp.ClientXMPP(self.jid, PASSWORD)
        self._client.ca_certs = Path(server.ca_file)
        self._client.add_event_handler("session_start", self._started)
        for kind in ("iq", "message", "presence"):
            self._client.register_handler(
                Callback(f"all {kind}", MatchXPath(f"{{jabber:client}}{kind}"), self._received)
            )
        self._server = server

    async def start(self) -> None:
        self._client.connect(self._server.host, self._server.port)
        async with asyncio.timeout(WAIT):
            await self._ready.wait()

    async def stop(self) -> None:
        await self._client.disconnect(wait=0)

    async def _started(self, _: object) -> None:
        self._client.send_presence()
        self._ready.set()

    def _received(self, stanza: Any) -> None:
        element = copy.deepcopy(stanza.xml)
        self.got.append(element)
        if element.tag == "{jabber:client}iq" and element.get("type") == "set":
            answer = Element(
                "{jabber:client}iq",
                {"type": "result", "id": element.get("id", ""), "to": element.get("from", "")},
            )
            self.send(answer)
        self._news.set()

    def send(self, element: Element) -> None:
        """Elements without a namespace get the stream's."""
        if not element.tag.startswith("{"):
            element = copy.deepcopy(element)
            element.tag = f"{{jabber:client}}{element.tag}"
        self._client.send_raw(tostring(element, encoding="unicode"))

    async def receive(self, identifier: str) -> Element:
        """The stanza with this id, as it came or comes."""
        async with asyncio.timeout(WAIT):
            while True:
                for each in self.got:
                    if each.get("id") == identifier:
                        return each
                self._news.clear()
                await self._news.wait()

    async def more(self, count: int) -> None:
        """Wait until more than ``count`` stanzas have come."""
        while len(self.got) <= count:
            self._news.clear()
            await self._news.wait()
