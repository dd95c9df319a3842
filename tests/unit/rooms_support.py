"""A connection with rooms, without a server: tests say what the rooms send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal, cast
from xml.etree.ElementTree import XML, Element, SubElement

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import ChannelEvent, ConnectionEvent, Emitter
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.room_channel import RoomChannel
from telepathy_e2e.service.rooms import Rooms
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp import muc
from telepathy_e2e.xmpp.iq import StanzaError
from telepathy_e2e.xmpp.markup import CLIENT, serialise
from telepathy_e2e.xmpp.roster import RosterItem

ME, BOB, EVE = "me@example.test", "bob@example.test", "eve@spam.test"
SERVER = "muc.example.test"
ROOM = f"room@{SERVER}"
ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"

INFO = """<query xmlns='http://jabber.org/protocol/disco#info'>
<identity category='conference' type='text' name='Lounge'/>
<feature var='http://jabber.org/protocol/muc'/></query>"""


class FakeClient:
    """Answers of ``answers`` by the tag of the question, or by a function of it."""

    jid = ME + "/here"

    def __init__(self) -> None:
        self.items = {BOB: RosterItem("", "both", ())}
        self.sent: list[Element] = []
        self.asked: list[tuple[str | None, Element]] = []
        self.answers: dict[str, str | Callable[[Element], str] | Exception] = {
            "{http://jabber.org/protocol/disco#info}query": INFO
        }
        self.gone = False

    def contacts(self) -> Mapping[str, RosterItem]:
        return self.items

    def send(self, stanza: Element) -> None:
        if self.gone:
            raise Disconnected("The connection is not up")
        serialise(stanza)
        self.sent.append(stanza)

    async def send_iq(
        self, to: str | None, payload: Element, type: Literal["get", "set"] = "set"
    ) -> Element | None:
        if self.gone:
            raise Disconnected("The connection is not up")
        self.asked.append((to, payload))
        await asyncio.sleep(0)
        answer = self.answers.get(payload.tag, "")
        if isinstance(answer, Exception):
            raise answer
        text = answer if isinstance(answer, str) else answer(payload)
        return XML(text) if text else None


class World:
    """A connection that is up."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.handles = Handles()
        self.tasks = TaskOwner("test")
        self.announced: list[RoomChannel] = []
        self.told: list[ChannelEvent] = []
        self.events: Emitter[ConnectionEvent] = Emitter()
        self._paths = 0
        self.account = SimpleNamespace(
            handles=self.handles,
            self_id=ME,
            self_handle=self.handles.ensure(ME),
            client=self.client,
            tasks=self.tasks,
            events=self.events,
            policy=Policy.OPPORTUNISTIC,
            parameters={},
            status=0,
            blocking=set(),
            object_path="/c",
            aliases=SimpleNamespace(of_self=lambda: "me"),
            presences=SimpleNamespace(
                own_elements=lambda: [], occupant_changed=lambda handle: None
            ),
            next_path=self._next_path,
            announce=self.announce,
            channel_closed=lambda channel: None,
        )
        self.rooms = Rooms(cast(Account, self.account))

    def _next_path(self, kind: str) -> str:
        self._paths += 1
        return f"/c/{kind}{self._paths}"

    def announce(self, channel: Channel) -> None:
        assert isinstance(channel, RoomChannel)
        self.announced.append(channel)
        channel.events.subscribe(self.told.append)

    def request(self, jid: str = ROOM) -> ChannelRequest:
        return ChannelRequest(names.TEXT, 2, self.handles.ensure(jid, 2), {})

    async def enter(self, *others: str, jid: str = ROOM, **item: str) -> RoomChannel:
        """A channel of a room that we are in."""
        task = asyncio.create_task(self.rooms.create(self.request(jid)))
        await self.settle()
        for each in others:
            self.presence(each, jid=jid)
        self.presence("me", 110, jid=jid, **item)
        channel = await task
        assert isinstance(channel, RoomChannel)
        await self.settle()
        channel.events.subscribe(self.told.append)
        return channel

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    def presence(
        self, who: str, /, *codes: int, type: str = "", jid: str = ROOM, **item: str
    ) -> bool:
        stanza = Element(f"{{{CLIENT}}}presence", {"from": f"{jid}/{who}" if who else jid})
        if type:
            stanza.set("type", type)
        x = SubElement(stanza, f"{{{muc.USER}}}x")
        given = {key.replace("real", "jid"): value for key, value in item.items()}
        SubElement(x, f"{{{muc.USER}}}item", {"role": "participant", **given})
        for code in codes:
            SubElement(x, f"{{{muc.USER}}}status", code=str(code))
        return self.rooms.receive_presence(stanza)

    def refuse(self, condition: str, *, jid: str = ROOM, nick: str = "me") -> None:
        self.rooms.receive_presence(
            XML(
                f"<presence xmlns='{CLIENT}' type='error' from='{jid}/{nick}'><error type='cancel'>"
                f"<{condition} xmlns='{ERRORS}'/></error></presence>"
            )
        )

    def say(self, who: str, body: str, inner: str = "", jid: str = ROOM, **attributes: str) -> bool:
        given = {"type": "groupchat", **attributes}
        shown = "".join(f" {name}='{value}'" for name, value in given.items())
        text = f"<body>{body}</body>" if body else ""
        sender = f"{jid}/{who}" if who else jid
        return self.rooms.receive_message(
            XML(f"<message xmlns='{CLIENT}' from='{sender}'{shown}>{text}{inner}</message>")
        )

    def invite(self, room: str, inviter: str, *, direct: bool = False) -> bool:
        inner = (
            f"<x xmlns='{muc.DIRECT}' jid='{room}'/>"
            if direct
            else f"<x xmlns='{muc.USER}'><invite from='{inviter}'/></x>"
        )
        sender = inviter if direct else room
        return self.rooms.receive_message(
            XML(f"<message xmlns='{CLIENT}' from='{sender}'>{inner}</message>")
        )

    def events_of(self, *kinds: type[ChannelEvent]) -> list[Any]:
        return [each for each in self.told if isinstance(each, kinds)]

    def error(self, condition: str) -> StanzaError:
        return StanzaError(condition)
