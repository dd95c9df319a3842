"""A connection that is up, on a server that keeps vCards and personal events, without a network."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import XML, Element, SubElement

from telepathy_e2e.service.account import Account
from telepathy_e2e.service.avatar_cache import AvatarCache
from telepathy_e2e.service.avatars import Avatars
from telepathy_e2e.service.client_types import ClientTypes
from telepathy_e2e.service.contact_info import ContactInfo
from telepathy_e2e.service.events import ConnectionEvent, Emitter
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.pep import Pep
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import caps, pubsub, vcard
from telepathy_e2e.xmpp.iq import StanzaError
from telepathy_e2e.xmpp.roster import Resource

ME = "me@example.test"
HERE = ME + "/here"
BOB = "bob@example.test"
EVE = "eve@elsewhere.test"

P = f"{{{pubsub.PUBSUB}}}"


class FakeServer:
    """Answers a moment later, so that what runs at the same time gets its turn.

    Attributes:
        asked: (whom, type, payload) of each question.
        refuses: the tag of a payload and the condition with which it is refused, for ``set`` alone
            if it ends in ``!``.
        converts: XEP-0398.
    """

    def __init__(self) -> None:
        self.cards: dict[str, Element] = {}
        self.nodes: dict[tuple[str, str], dict[str, Element]] = {}
        self.asked: list[tuple[str | None, str, Element]] = []
        self.refuses: dict[str, str] = {}
        self.converts = False
        self.flying = self.most_flying = 0
        self.gate: asyncio.Event | None = None

    async def send_iq(
        self, to: str | None, payload: Element, type: str = "set", timeout: float = 30
    ) -> Element | None:
        self.asked.append((to, type, payload))
        self.flying += 1
        self.most_flying = max(self.flying, self.most_flying)
        try:
            if self.gate is not None:
                await self.gate.wait()
            for _ in range(3):
                await asyncio.sleep(0)
            condition = self.refuses.get(payload.tag) or (
                self.refuses.get(payload.tag + "!") if type == "set" else None
            )
            if condition:
                raise StanzaError(condition)
            return self._answer(to or ME, type, copy.deepcopy(payload))
        finally:
            self.flying -= 1

    def _answer(self, jid: str, type: str, payload: Element) -> Element | None:
        if payload.tag == vcard.TAG:
            if type == "set":
                self.cards[jid] = payload
                return None
            if jid not in self.cards:
                raise StanzaError("item-not-found")
            return copy.deepcopy(self.cards[jid])
        if payload.tag == caps.QUERY_INFO:
            answer = Element(caps.QUERY_INFO)
            if self.converts:
                SubElement(answer, f"{{{caps.DISCO_INFO}}}feature", var=CONVERSION)
            return answer
        inner = payload[0]
        node = self.nodes.setdefault((jid, inner.get("node", "")), {})
        if inner.tag == P + "publish":
            if payload.find(P + "publish-options") is not None and "options" in self.refuses:
                raise StanzaError(self.refuses["options"])
            if payload.findtext(".//*[@var='pubsub#max_items']/*", "1") == "1":
                node.clear()
            node[inner[0].get("id", "")] = inner[0][0]
            return None
        if inner.tag == P + "retract":
            node.pop(inner[0].get("id", ""), None)
            return None
        answer = Element(pubsub.QUERY)
        items = SubElement(answer, P + "items", node=inner.get("node", ""))
        for id, child in node.items():
            SubElement(items, P + "item", id=id).append(child)
        return answer

    def sets(self, tag: str) -> int:
        """How often something was set."""
        return len([1 for _, type, each in self.asked if type == "set" and each.tag == tag])

    def gets(self, tag: str) -> int:
        return len([1 for _, type, each in self.asked if type == "get" and each.tag == tag])


CONVERSION = "urn:xmpp:pep-vcard-conversion:0"


class FakeClient(FakeServer):
    jid = HERE

    def __init__(self) -> None:
        super().__init__()
        self.list: dict[str, Any] = {BOB: object()}
        self.roster = SimpleNamespace(loading=False)
        self.online: dict[str, list[Resource]] = {}
        self.extras: Callable[[], list[Element]] = list
        self.presences: list[str] = []
        self.questions: list[str] = []
        self.knowledge: dict[str, Resource] = {}

    def contacts(self) -> dict[str, Any]:
        return self.list

    def resources(self, jid: str) -> list[Resource]:
        return self.online.get(jid, [])

    async def features_of(self, full_jid: str) -> frozenset[str]:
        self.questions.append(full_jid)
        await asyncio.sleep(0)
        known = self.knowledge.get(full_jid)
        if known is None:
            return frozenset()
        self.online[full_jid.partition("/")[0]] = [known]
        return known.features or frozenset()

    def presence_extras_changed(self) -> None:
        """What each presence says of the picture: its hash, "none", or "-" for no word."""
        (x,) = self.extras()
        self.presences.append((x[0].text or "none") if len(x) else "-")


class FakeAliases:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def nickname_in_card(self, jid: str, name: str) -> None:
        self.told.append((jid, name))


class World:
    """All features of what people publish, on one account."""

    def __init__(self, directory: Path) -> None:
        self.client = FakeClient()
        self.told: list[ConnectionEvent] = []
        emitter: Emitter[ConnectionEvent] = Emitter()
        emitter.subscribe(self.told.append)
        self.aliases = FakeAliases()
        self.tasks = TaskOwner("test")
        self.account = SimpleNamespace(
            handles=Handles(),
            events=emitter,
            status=0,
            self_id=ME,
            client=self.client,
            tasks=self.tasks,
            aliases=self.aliases,
        )
        self.me = self.account.self_handle = self.account.handles.ensure(ME)
        self.bob = self.account.handles.ensure(BOB)
        account = cast(Account, self.account)
        self.pep = self.account.pep = Pep(account)
        self.info = self.account.contact_info = ContactInfo(account)
        self.avatars = Avatars(account, AvatarCache(directory))
        self.types = ClientTypes(account)
        self.client.extras = self.avatars.presence_extras

    def hears(self, text: str) -> bool:
        """A presence or message; True if a feature took it."""
        stanza = XML(text.replace(">", " xmlns='jabber:client'>", 1))
        if stanza.tag.endswith("message"):
            return self.pep.receive_message(stanza)
        return self.avatars.receive_presence(stanza)

    def event(self, sender: str, node: str, inner: str) -> bool:
        return self.hears(
            f"<message from='{sender}'><event xmlns='{pubsub.EVENT}'>"
            f"<items node='{node}'>{inner}</items></event></message>"
        )

    def shows(self, sender: str, inner: str = "") -> None:
        """A presence with the update of XEP-0153, or without anything."""
        self.hears(f"<presence from='{sender}'>{inner}</presence>")

    async def settle(self) -> None:
        """Until nobody has anything more to do, and what was gathered is told."""
        for _ in range(200):
            await asyncio.sleep(0)
        self.avatars.flush()
        for _ in range(200):
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.tasks.close()


def update(photo: str) -> str:
    return f"<x xmlns='vcard-temp:x:update'>{photo}</x>"
