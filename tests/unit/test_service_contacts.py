"""The contact list, groups, names and presence of a connection, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import XML, Element

import pytest

from telepathy_e2e.errors import (
    Disconnected,
    InvalidArgument,
    InvalidHandle,
    NotYet,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.service import contact_list as module
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.aliases import Aliases, AliasesChanged
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.contact_groups import (
    ContactGroups,
    GroupsChanged,
    GroupsCreated,
    GroupsRemoved,
)
from telepathy_e2e.service.contact_list import (
    ASK,
    MAX_REQUESTS,
    NO,
    REMOVED_REMOTELY,
    YES,
    ContactList,
    ContactsChanged,
    ContactsChangedWithID,
)
from telepathy_e2e.service.events import ConnectionEvent, Emitter, PresencesChanged
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.presence import MAX_MESSAGE, PresenceFeature
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.iq import StanzaError
from telepathy_e2e.xmpp.roster import LastWords, Resource, Roster, RosterChange

ME = "me@example.test"
BOB = "bob@example.test"


class FakeClient:
    jid = ME + "/here"
    presence_id = "p1"
    offers: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.list = Roster()
        self.sent: list[Element] = []
        self.online: dict[str, list[Resource]] = {}
        self.last: dict[str, LastWords] = {}
        self.shown: list[tuple[str, str, int]] = []

    def contacts(self) -> Mapping[str, Any]:
        return self.list.contacts

    def send(self, stanza: Element) -> None:
        self.sent.append(stanza)

    def resources(self, jid: str) -> list[Resource]:
        return self.online.get(jid, [])

    def last_words(self, jid: str) -> LastWords | None:
        return self.last.get(jid)

    def set_presence(self, show: str, status: str, priority: int) -> None:
        self.shown.append((show, status, priority))


class World:
    """A connection that is up, with its contact features."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.events: list[ConnectionEvent] = []
        emitter: Emitter[ConnectionEvent] = Emitter()
        emitter.subscribe(self.events.append)
        self.account = SimpleNamespace(
            handles=Handles(),
            events=emitter,
            status=0,
            self_id=ME,
            client=self.client,
            tasks=TaskOwner("test"),
            parameters={},
            blocking=set(),
            rooms=SimpleNamespace(presence_changed=lambda: None),
        )
        self.account.self_handle = self.account.handles.ensure(ME)
        account = cast(Account, self.account)
        self.presences = self.account.presences = PresenceFeature(account)
        self.aliases = self.account.aliases = Aliases(account)
        self.list = self.account.contact_list = ContactList(account)
        self.groups = self.account.groups = ContactGroups(account)

    def handle(self, jid: str) -> int:
        return int(self.account.handles.ensure(jid))

    def push(self, *items: str) -> None:
        changes = self.client.list.push(
            XML(f"<query xmlns='jabber:iq:roster'>{''.join(items)}</query>")
        )
        self.changed(changes)

    def changed(self, changes: list[RosterChange]) -> None:
        for feature in (self.presences, self.aliases, self.list, self.groups):
            feature.roster_changed(changes)

    async def load(self, *items: str) -> None:
        self.push(*items)
        self.list.connected()
        for feature in (self.presences, self.list):
            feature.roster_loaded(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.events.clear()

    def presence(self, type: str, sender: str, inside: str = "") -> None:
        stanza = XML(
            f"<presence xmlns='jabber:client' from='{sender}' type='{type}'>{inside}</presence>"
        )
        for feature in (self.presences, self.aliases, self.list):
            if feature.receive_presence(stanza):
                return

    def told(self, *kinds: type[ConnectionEvent]) -> Iterator[Any]:
        return (event for event in self.events if isinstance(event, kinds))

    def sent(self) -> list[tuple[str | None, str | None]]:
        return [(each.get("type"), each.get("to")) for each in self.client.sent]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.load()
    return world


async def test_requests_of_invented_people_fill_no_memory(world: World) -> None:
    for n in range(MAX_REQUESTS + 50):
        world.presence("subscribe", f"s{n}@spam.test")
        world.presence("unsubscribe", f"s{n}@spam.test")
    assert len(world.list.contacts()) == MAX_REQUESTS
    assert world.account.handles.find(f"s{MAX_REQUESTS - 1}@spam.test") is not None
    assert world.account.handles.find(f"s{MAX_REQUESTS}@spam.test") is None
    # One who is listed may still ask, and whoever is on the list as well.
    world.presence("subscribe", "s0@spam.test", "<status>again</status>")
    assert world.list.states("s0@spam.test") == (NO, ASK, "again")
    world.push(f"<item jid='{BOB}'/>")
    world.presence("subscribe", BOB)
    assert world.list.states(BOB)[1] == ASK
    # An answer makes room.
    await world.list.unpublish([world.handle("s1@spam.test")])
    world.presence("subscribe", "new@spam.test")
    assert world.list.states("new@spam.test")[1] == ASK


async def test_words_of_a_request_have_a_bound(world: World) -> None:
    world.presence("subscribe", BOB, f"<status>{'x' * (module.MAX_MESSAGE + 1)}</status>")
    assert len(world.list.states(BOB)[2]) == module.MAX_MESSAGE


async def test_each_request_is_told_even_the_same_again(world: World) -> None:
    for _ in range(3):
        world.presence("subscribe", BOB)
    assert [type(event) for event in world.events] == [ContactsChangedWithID, ContactsChanged] * 3


async def test_a_request_that_is_taken_back_stays_to_be_seen(world: World) -> None:
    world.presence("subscribe", BOB, "<status>hi</status>")
    world.presence("unsubscribe", BOB)
    assert world.list.states(BOB) == (NO, REMOVED_REMOTELY, "")
    await world.list.unpublish([world.handle(BOB)])
    assert world.list.states(BOB) == (NO, NO, "")
    assert world.sent() == []
    (*_, last) = world.told(ContactsChangedWithID)
    assert last.removals == {world.handle(BOB): BOB}


async def test_a_refusal_counts_for_contacts_only(world: World) -> None:
    world.presence("unsubscribed", "stranger@x.test")
    assert world.list.states("stranger@x.test")[0] == NO
    world.push(f"<item jid='{BOB}'/>")
    world.presence("unsubscribed", BOB)
    assert world.list.states(BOB)[0] == REMOVED_REMOTELY
    world.push(f"<item jid='{BOB}' ask='subscribe'/>")
    assert world.list.states(BOB)[0] == ASK
    world.push(f"<item jid='{BOB}' subscription='to'/>")
    assert world.list.states(BOB)[0] == YES


async def test_who_was_approved_beforehand_is_let_in(world: World) -> None:
    await world.list.authorize_publication([world.handle(BOB)])
    assert world.sent() == []
    world.presence("subscribe", BOB)
    assert world.sent() == [("subscribed", BOB)]
    assert not list(world.told(ContactsChanged))
    await world.list.unpublish([world.handle(BOB)])
    world.presence("subscribe", BOB)
    assert world.list.states(BOB)[1] == ASK


async def test_the_server_approves_beforehand_if_it_can(world: World) -> None:
    world.client.offers = frozenset({module.PRE_APPROVAL})
    await world.list.authorize_publication([world.handle(BOB)])
    assert world.sent() == [("subscribed", BOB)]


async def test_approvals_have_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_APPROVED", 2)
    people = [f"p{n}@x.test" for n in range(3)]
    await world.list.authorize_publication([world.handle(jid) for jid in people])
    for jid in people:
        world.presence("subscribe", jid)
    assert [to for _, to in world.sent()] == people[1:]


async def test_nothing_is_told_before_the_list_is_there() -> None:
    world = World()
    world.list.connected()
    world.presence("subscribe", BOB)
    assert not list(world.told(ContactsChanged))
    with pytest.raises(NotYet):
        world.list.contacts()
    assert world.list.known_states(world.handle(BOB)) is None
    with pytest.raises(NotYet):
        await world.list.unsubscribe([1])
    world.list.roster_loaded(StanzaError("forbidden"))
    with pytest.raises(PermissionDenied):
        world.list.contacts()
    world.list.roster_loaded(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.list.contacts() == [world.handle(BOB)]
    assert list(world.told(ContactsChanged))
    world.account.status = 2
    with pytest.raises(Disconnected):
        await world.list.unsubscribe([1])


async def test_blocked_contacts_are_listed_only_while_they_have_a_subscription() -> None:
    world = World()
    world.account.blocking = {BOB, "ann@x.test"}
    await world.load(f"<item jid='{BOB}'/>", "<item jid='ann@x.test' subscription='from'/>")
    assert world.list.contacts() == [world.handle("ann@x.test")]
    world.account.blocking = set()
    world.list.contacts_changed([BOB])
    assert next(world.told(ContactsChangedWithID)).identifiers == {world.handle(BOB): BOB}


async def test_changes_by_others_are_told_group_by_group(world: World) -> None:
    world.push(f"<item jid='{BOB}'><group>A</group><group>B</group></item>")
    bob = world.handle(BOB)
    assert list(world.told(GroupsCreated, GroupsChanged)) == [
        GroupsCreated(("A", "B")),
        GroupsChanged((bob,), ("A", "B"), ()),
    ]
    world.events.clear()
    world.push(f"<item jid='{BOB}'><group>B</group><group>C</group></item>")
    assert list(world.told(GroupsCreated, GroupsRemoved, GroupsChanged)) == [
        GroupsCreated(("C",)),
        GroupsRemoved(("A",)),
        GroupsChanged((bob,), ("C",), ("A",)),
    ]
    world.push(f"<item jid='{BOB}' subscription='remove'/>")
    assert world.groups.groups == []


@pytest.mark.parametrize("name", ["", "x" * 257, "\x01"])
async def test_groups_have_names(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await world.groups.add_to_group(name, [world.handle(BOB)])


async def test_nobody_is_in_a_group_of_his_own_list(world: World) -> None:
    with pytest.raises(InvalidHandle):
        await world.groups.add_to_group("A", [world.account.self_handle])


async def test_the_users_name_for_a_contact_goes_before_its_own(world: World) -> None:
    bob = world.handle(BOB)
    assert world.aliases.of(bob) == BOB
    world.aliases.nickname_in_card(BOB, "From the card")
    assert world.aliases.of(bob) == "From the card"
    world.aliases.nick_published(BOB, XML("<nick xmlns='http://jabber.org/protocol/nick'>N</nick>"))
    assert world.aliases.of(bob) == "N"
    world.push(f"<item jid='{BOB}' name='Bobby'/>")
    assert world.aliases.of(bob) == "Bobby"
    world.aliases.nick_published(BOB, None)
    told = [event.aliases for event in world.told(AliasesChanged)]
    assert told == [((bob, "From the card"),), ((bob, "N"),), ((bob, "Bobby"),)]


async def test_a_contact_does_not_change_its_name_by_a_request(world: World) -> None:
    world.push(f"<item jid='{BOB}'/>")
    inside = "<nick xmlns='http://jabber.org/protocol/nick'>Boss</nick>"
    world.presence("subscribe", BOB, inside)
    assert world.aliases.of(world.handle(BOB)) == BOB
    world.presence("subscribe", "s@x.test", inside)
    assert world.aliases.of(world.handle("s@x.test")) == "Boss"


@pytest.mark.parametrize(
    ("resources", "last", "subscription", "expected"),
    [
        ([Resource(BOB + "/1", 1, "chat", "hi")], None, "none", (2, "chat", "hi")),
        ([Resource(BOB + "/1", 1, ""), Resource(BOB + "/2", 2, "dnd")], None, "to", (6, "dnd", "")),
        ([], None, "to", (1, "offline", "")),
        ([], None, "from", (7, "unknown", "")),
        ([], LastWords("Gone", False), "both", (1, "offline", "Gone")),
        ([], LastWords("no such server", True), "both", (8, "error", "no such server")),
    ],
)
async def test_presence_of_a_contact(
    world: World,
    resources: list[Resource],
    last: LastWords | None,
    subscription: str,
    expected: tuple[int, str, str],
) -> None:
    world.push(f"<item jid='{BOB}' subscription='{subscription}'/>")
    world.client.online[BOB] = resources
    if last is not None:
        world.client.last[BOB] = last
    assert world.presences.of(world.handle(BOB)) == expected


async def test_who_is_blocked_is_shown_as_gone(world: World) -> None:
    world.push(f"<item jid='{BOB}' subscription='both'/>")
    world.client.online[BOB] = [Resource(BOB + "/1")]
    world.account.blocking = {BOB}
    assert world.presences.of(world.handle(BOB)) == (1, "offline", "")


async def test_presence_of_strangers_costs_no_handle(world: World) -> None:
    for n in range(10):
        world.presences.changed(f"s{n}@spam.test")
    world.presences.changed(ME)
    await asyncio.sleep(0)
    assert not list(world.told(PresencesChanged))
    assert world.account.handles.find("s0@spam.test") is None


async def test_what_comes_together_is_told_together(world: World) -> None:
    people = [f"p{n}@x.test" for n in range(3)]
    world.push(*(f"<item jid='{jid}' subscription='to'/>" for jid in people))
    for jid in people * 2:
        world.presences.changed(jid)
    await asyncio.sleep(0)
    assert [len(event.presences) for event in world.told(PresencesChanged)] == [3]


async def test_our_presence_is_what_the_server_makes_of_it(world: World) -> None:
    me = world.account.self_handle
    world.presences.set("away", "x" * (MAX_MESSAGE + 1))
    assert world.client.shown == [("away", "x" * MAX_MESSAGE, 0)]
    stanza = "<presence xmlns='jabber:client' from='{}' id='{}'><show>{}</show></presence>"
    for sender, id in ((ME + "/other", "p1"), (ME + "/here", "p0")):
        world.presences.receive_presence(XML(stanza.format(sender, id, "dnd")))
        assert world.presences.of(me)[1] == "away"
    world.presences.receive_presence(XML(stanza.format(ME + "/here", "p1", "dnd")))
    assert world.presences.of(me) == (6, "dnd", "")


@pytest.mark.parametrize(
    ("status", "message"), [("offline", ""), ("hidden", ""), ("nonsense", ""), ("away", "\x00")]
)
async def test_some_presence_cannot_be_set(world: World, status: str, message: str) -> None:
    with pytest.raises(InvalidArgument):
        world.presences.set(status, message)
    assert world.client.shown == []


def test_what_a_server_refuses_has_a_name() -> None:
    assert refusal(StanzaError("not-allowed"), "No").dbus_name.endswith("PermissionDenied")
    assert refusal(StanzaError("remote-server-timeout"), "No").dbus_name.endswith("NetworkError")
    assert refusal(StanzaError("conflict", "busy"), "No").args == ("No: busy",)
    error = TelepathyError("x")
    assert refusal(error, "No") is error
