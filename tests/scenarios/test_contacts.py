"""The contact list, its groups, names and blocks, and presence: over D-Bus, with a real server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import parameters
from tests.support.prosody import Prosody, available
from tests.support.side import CAPABILITIES, CONNECTION, DBusFailure, Side, Signal

LIST = CONNECTION + ".Interface.ContactList"
GROUPS = CONNECTION + ".Interface.ContactGroups"
BLOCKING = CONNECTION + ".Interface.ContactBlocking"
ALIASING = CONNECTION + ".Interface.Aliasing"
PRESENCE = CONNECTION + ".Interface.SimplePresence"
CONTACTS = CONNECTION + ".Interface.Contacts"

NO, REMOVED_REMOTELY, ASK, YES = 1, 2, 3, 4

CROWD = 2_000

_names = (f"person{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    if not available():
        pytest.skip("prosody is not installed")
    server = Prosody.start(modules=("blocklist",))
    yield server
    server.stop()


class Person:
    """Somebody with an account, online."""

    def __init__(self, server: Prosody, name: str, side: Side) -> None:
        self.server = server
        self.name = name
        self.side = side

    @property
    def jid(self) -> str:
        return self.server.jid(self.name)

    @classmethod
    async def start(cls, server: Prosody, name: str, **more: Variant) -> Person:
        person = cls(server, name, await Side.start(name))
        try:
            await person.connect(**more)
        except BaseException:
            await person.side.stop()
            raise
        return person

    async def connect(self, **more: Variant) -> None:
        self.side.signals.clear()
        await self.side.connect(parameters(self.server, self.jid, **more), handles=())
        await self.signal("ContactListStateChanged", lambda body: body[0] == 3)

    async def disconnect(self) -> None:
        await self.call(CONNECTION, "Disconnect")
        await self.signal("StatusChanged", lambda body: body[0] == 2)

    async def call(self, interface: str, member: str, signature: str = "", *args: Any) -> Any:
        return await self.side.cm(self.side.connection, interface, member, signature, *args)

    async def refused(self, interface: str, member: str, signature: str = "", *args: Any) -> str:
        with pytest.raises(DBusFailure) as caught:
            await self.call(interface, member, signature, *args)
        return caught.value.name.rpartition(".")[2]

    async def get(self, interface: str, name: str) -> Any:
        return await self.side.get(self.side.connection, interface, name)

    async def signal(self, member: str, matches: Any = lambda body: True) -> Signal:
        return await self.side.signal(
            lambda s: (
                s.path == self.side.connection and s.member == member and matches(list(s.body))
            )
        )

    def told(self, *members: str) -> list[tuple[str, tuple[Any, ...]]]:
        return [(s.member, s.body) for s in self.side.signals if s.member in members]

    async def handle(self, jid: str) -> int:
        return int((await self.call(CONNECTION, "RequestHandles", "uas", 1, [jid]))[0])

    async def attributes(self, jid: str, interface: str) -> dict[str, Any]:
        handle = await self.handle(jid)
        found = await self.call(
            CONTACTS, "GetContactAttributes", "auasb", [handle], [interface], False
        )
        prefix = interface + "/"
        return {
            key.removeprefix(prefix): value
            for key, value in found[handle].items()
            if key.startswith(prefix)
        }

    async def states(self, jid: str) -> tuple[int, int, str]:
        found = await self.attributes(jid, LIST)
        return found["subscribe"], found["publish"], found.get("publish-request", "")

    async def until_states(self, jid: str, *states: Any) -> None:
        handle = await self.handle(jid)
        await self.signal(
            "ContactsChangedWithID",
            lambda body: handle in body[0] and tuple(body[0][handle]) == states,
        )

    async def listed(self) -> dict[int, dict[str, Any]]:
        return dict(await self.call(LIST, "GetContactListAttributes", "asb", [], False))


@pytest_asyncio.fixture
async def people(server: Prosody) -> AsyncIterator[tuple[Person, Person]]:
    """Two who do not know one another."""
    names = next(_names), next(_names)
    for name in names:
        server.add_account(name)
    dora, emil = await asyncio.gather(*(Person.start(server, name) for name in names))
    yield dora, emil
    await asyncio.gather(dora.side.stop(), emil.side.stop())


async def _befriend(one: Person, other: Person) -> None:
    await one.call(LIST, "AuthorizePublication", "au", [await one.handle(other.jid)])
    await other.call(LIST, "AuthorizePublication", "au", [await other.handle(one.jid)])
    await one.call(LIST, "RequestSubscription", "aus", [await one.handle(other.jid)], "")
    await other.call(LIST, "RequestSubscription", "aus", [await other.handle(one.jid)], "")
    await one.until_states(other.jid, YES, YES, "")
    await other.until_states(one.jid, YES, YES, "")


async def test_a_request_is_seen_with_its_words_and_granted(people: tuple[Person, Person]) -> None:
    dora, emil = people
    assert await dora.listed() == {}
    hers, his = await dora.handle(emil.jid), await emil.handle(dora.jid)
    await dora.call(LIST, "RequestSubscription", "aus", [hers], "It's me & <you>")
    assert await dora.states(emil.jid) == (ASK, NO, "")
    assert list(await dora.listed()) == [hers]
    await emil.until_states(dora.jid, NO, ASK, "It's me & <you>")
    assert (await emil.listed())[his][LIST + "/publish-request"] == "It's me & <you>"
    await emil.call(LIST, "AuthorizePublication", "au", [his])
    assert await emil.states(dora.jid) == (NO, YES, "")
    await dora.until_states(emil.jid, YES, NO, "")
    await dora.signal("PresencesChanged", lambda body: body[0].get(hers) == (2, "available", ""))
    both = [member for member, _ in emil.told("ContactsChangedWithID", "ContactsChanged")]
    both = both[: len(both) // 2 * 2]  # the second of a pair may be on its way
    assert both[:2] == ["ContactsChangedWithID", "ContactsChanged"]
    assert both[::2] == ["ContactsChangedWithID"] * (len(both) // 2)


async def test_a_request_is_refused_and_one_is_taken_back(people: tuple[Person, Person]) -> None:
    dora, emil = people
    hers, his = await dora.handle(emil.jid), await emil.handle(dora.jid)
    await dora.call(LIST, "RequestSubscription", "aus", [hers], "")
    await emil.until_states(dora.jid, NO, ASK, "")
    await emil.call(LIST, "Unpublish", "au", [his])
    assert await emil.listed() == {}
    await dora.until_states(emil.jid, REMOVED_REMOTELY, NO, "")
    emil.side.signals.clear()
    await dora.call(LIST, "RequestSubscription", "aus", [hers], "please")
    assert await dora.states(emil.jid) == (ASK, NO, "")
    await emil.until_states(dora.jid, NO, ASK, "please")
    await dora.call(LIST, "Unsubscribe", "au", [hers])
    assert await dora.states(emil.jid) == (NO, NO, "")
    await emil.until_states(dora.jid, NO, REMOVED_REMOTELY, "")
    await emil.call(LIST, "RemoveContacts", "au", [his])
    assert await emil.listed() == {}


async def test_who_is_authorized_beforehand_need_not_wait(people: tuple[Person, Person]) -> None:
    await _befriend(*people)
    one, other = people
    asked = [body for _, body in other.told("ContactsChangedWithID") for body in body[0].values()]
    assert ASK not in [states[1] for states in asked]
    await one.call(LIST, "RemoveContacts", "au", [await one.handle(other.jid)])
    assert await one.listed() == {}
    removal = one.told("ContactsChangedWithID")[-1][1]
    assert removal[2] == {await one.handle(other.jid): other.jid}
    await other.until_states(one.jid, NO, NO, "")


async def test_wrong_calls_get_the_errors_of_the_specification(
    people: tuple[Person, Person],
) -> None:
    dora, emil = people
    me = await dora.handle(dora.jid)
    for member, signature, more in (
        ("RequestSubscription", "aus", ("",)),
        ("AuthorizePublication", "au", ()),
        ("RemoveContacts", "au", ()),
        ("Unsubscribe", "au", ()),
        ("Unpublish", "au", ()),
    ):
        assert await dora.refused(LIST, member, signature, [99_999], *more) == "InvalidHandle"
    assert await dora.refused(LIST, "RequestSubscription", "aus", [me], "") == "InvalidHandle"
    assert await dora.refused(GROUPS, "AddToGroup", "sau", "x", [99_999]) == "InvalidHandle"
    assert await dora.refused(GROUPS, "AddToGroup", "sau", "", []) == "InvalidArgument"
    assert await dora.refused(GROUPS, "RenameGroup", "ss", "no such", "x") == "DoesNotExist"
    assert await dora.refused(BLOCKING, "BlockContacts", "aub", [me], False) == "InvalidHandle"
    assert await dora.refused(ALIASING, "SetAliases", "a{us}", {99_999: "x"}) == "InvalidHandle"
    assert await dora.refused(PRESENCE, "SetPresence", "ss", "offline", "") == "InvalidArgument"
    assert await dora.refused(PRESENCE, "SetPresence", "ss", "away", "\x01") == "InvalidArgument"
    elsewhere = parameters(emil.server, emil.jid, resource=Variant("s", "elsewhere"))
    await emil.side.request_connection(elsewhere)
    calls: tuple[tuple[Any, ...], ...] = (
        ("GetContactListAttributes", "asb", [], False),
        ("Unpublish", "au", [1]),
    )
    errors = [await emil.refused(LIST, *call) for call in calls]
    assert errors == ["NotYet", "Disconnected"]


async def test_groups_are_seen_by_another_program_of_the_same_account(
    people: tuple[Person, Person], server: Prosody
) -> None:
    dora, _ = people
    other = await Person.start(server, dora.name, resource=Variant("s", "other"))
    try:
        jids = [f"friend{n}@example.test" for n in range(3)]
        handles = [await dora.handle(jid) for jid in jids]
        await dora.call(GROUPS, "SetContactGroups", "uas", handles[0], ["Work", "Friends"])
        assert await dora.get(GROUPS, "Groups") == ["Friends", "Work"]
        assert (await dora.attributes(jids[0], GROUPS))["groups"] == ["Friends", "Work"]
        await dora.call(GROUPS, "AddToGroup", "sau", "Friends", handles[1:])
        await dora.call(ALIASING, "SetAliases", "a{us}", {handles[1]: "Number one"})
        dora.side.signals.clear()
        await dora.call(GROUPS, "RenameGroup", "ss", "Friends", "Pals")
        told = dora.told("GroupRenamed", "GroupsCreated", "GroupsRemoved", "GroupsChanged")
        assert [(name, *body) for name, body in told] == [
            ("GroupRenamed", "Friends", "Pals"),
            ("GroupsCreated", ["Pals"]),
            ("GroupsRemoved", ["Friends"]),
            ("GroupsChanged", sorted(handles), ["Pals"], ["Friends"]),
        ]
        await dora.call(GROUPS, "SetGroupMembers", "sau", "Work", handles[1:2])
        await dora.call(GROUPS, "RemoveFromGroup", "sau", "Pals", handles[2:])
        theirs = [await other.handle(jid) for jid in jids]
        await other.signal("GroupsChanged", lambda body: body == [theirs[2:], [], ["Pals"]])
        shown = [(await other.attributes(jid, GROUPS))["groups"] for jid in jids]
        assert shown == [["Pals"], ["Pals", "Work"], []]
        assert (await other.attributes(jids[1], ALIASING))["alias"] == "Number one"
        dora.side.signals.clear()
        await other.call(GROUPS, "RemoveGroup", "s", "Pals")
        await dora.signal("GroupsRemoved", lambda body: body == [["Pals"]])
        assert await other.get(GROUPS, "Groups") == ["Work"]
        assert await dora.refused(GROUPS, "RenameGroup", "ss", "Pals", "Work") == "DoesNotExist"
    finally:
        await other.side.stop()


async def test_who_is_blocked_is_gone_until_unblocked(
    people: tuple[Person, Person], server: Prosody
) -> None:
    dora, emil = people
    await _befriend(dora, emil)
    other = await Person.start(server, dora.name, resource=Variant("s", "other"))
    try:
        assert await other.call(BLOCKING, "RequestBlockedContacts") == {}
        hers, his = await dora.handle(emil.jid), await emil.handle(dora.jid)
        assert await dora.get(BLOCKING, "ContactBlockingCapabilities") == 0
        emil.side.signals.clear()
        await dora.call(BLOCKING, "BlockContacts", "aub", [hers], True)
        assert dora.told("BlockedContactsChanged") == [
            ("BlockedContactsChanged", ({hers: emil.jid}, {}))
        ]
        assert await dora.attributes(emil.jid, BLOCKING) == {"blocked": True}
        assert await dora.call(BLOCKING, "RequestBlockedContacts") == {hers: emil.jid}
        await emil.signal("PresencesChanged", lambda body: body[0].get(his) == (1, "offline", ""))
        await dora.signal("PresencesChanged", lambda body: body[0].get(hers) == (1, "offline", ""))
        theirs = await other.handle(emil.jid)
        await other.signal("BlockedContactsChanged", lambda body: body[0] == {theirs: emil.jid})
        await other.call(BLOCKING, "UnblockContacts", "au", [theirs])
        await dora.signal("BlockedContactsChanged", lambda body: body[1] == {hers: emil.jid})
        assert await dora.attributes(emil.jid, BLOCKING) == {"blocked": False}
    finally:
        await other.side.stop()


async def test_a_server_that_cannot_block_says_so(prosody: Prosody) -> None:
    alice = await Person.start(prosody, "alice")
    try:
        assert await alice.refused(BLOCKING, "RequestBlockedContacts") == "NotImplemented"
        bob = await alice.handle("bob@example.test")
        assert await alice.refused(BLOCKING, "BlockContacts", "aub", [bob], False) == (
            "NotImplemented"
        )
    finally:
        await alice.side.stop()


async def test_presence_is_told_as_it_is(people: tuple[Person, Person]) -> None:
    dora, emil = people
    his = await emil.handle(dora.jid)
    assert await emil.call(PRESENCE, "GetPresences", "au", [his]) == {his: (7, "unknown", "")}
    await _befriend(dora, emil)
    order = [
        (s.member, s.body)
        for s in dora.side.signals
        if s.member in ("StatusChanged", "PresencesChanged")
    ]
    me = await dora.handle(dora.jid)
    assert order[:3] == [
        ("StatusChanged", (1, 1)),
        ("PresencesChanged", ({me: (2, "available", "")},)),
        ("StatusChanged", (0, 1)),
    ]
    assert "hidden" not in await dora.get(PRESENCE, "Statuses")
    longest = await dora.get(PRESENCE, "MaximumStatusMessageLength")
    for status, kind, message in (("dnd", 6, "busy"), ("chat", 2, ""), ("xa", 4, "z" * longest)):
        await dora.call(PRESENCE, "SetPresence", "ss", status, message + "more" * (status == "xa"))
        await emil.signal(
            "PresencesChanged",
            lambda body, told=(kind, status, message): body[0].get(his) == told,
        )
        assert (await dora.attributes(dora.jid, PRESENCE))["presence"] == (kind, status, message)
    await dora.call(CONNECTION, "Disconnect")
    await emil.signal("PresencesChanged", lambda body: body[0].get(his) == (1, "offline", ""))


def _fill(server: Prosody, name: str, version: int, word: str) -> None:
    """Put a list into the server's files; it reads them at the next login."""
    directory = server.directory / "data" / "example%2etest" / "roster"
    directory.mkdir(exist_ok=True)
    entries = "".join(
        f'["c{n}@elsewhere.test"] = {{ subscription = "none"; name = "{word} {n}";'
        f' groups = {{ ["Group {n % 10}"] = true; }}; }};'
        for n in range(CROWD)
    )
    (directory / f"{name}.dat").write_text(
        f"return {{ [false] = {{ version = {version}; pending = {{}}; }}; {entries} }};"
    )


async def test_a_list_of_thousands_holds_nobody_up(server: Prosody) -> None:
    name = next(_names)
    server.add_account(name)
    _fill(server, name, 7, "Contact")
    side = await Side.start(name)
    crowd = Person(server, name, side)
    answered: list[int] = []

    async def watch() -> None:
        while True:
            answered.append(await crowd.get(CONNECTION, "Status"))

    try:
        await side.request_connection(parameters(server, crowd.jid))
        await crowd.call(CONNECTION, "Connect")
        watching = asyncio.ensure_future(watch())
        await crowd.signal("ContactListStateChanged", lambda body: body[0] == 3)
        watching.cancel()
        # Between being connected and having the list: taken in one piece there would be no turn.
        assert answered.count(0) >= 5
        interfaces = [GROUPS, ALIASING, PRESENCE, BLOCKING, CAPABILITIES]
        found = await crowd.call(LIST, "GetContactListAttributes", "asb", interfaces, False)
        assert len(found) == CROWD
        some = next(iter(found.values()))
        assert {LIST + "/subscribe", GROUPS + "/groups", ALIASING + "/alias"} <= some.keys()
        assert len(await crowd.get(GROUPS, "Groups")) == 10
    finally:
        await side.stop()


async def test_a_list_that_has_not_changed_is_not_sent_again(server: Prosody) -> None:
    name = next(_names)
    server.add_account(name)
    _fill(server, name, 7, "Contact")
    person = await Person.start(server, name)
    try:
        first = "c0@elsewhere.test"
        assert (await person.attributes(first, ALIASING))["alias"] == "Contact 0"
        await person.disconnect()
        (file,) = (person.side.directory / "cache" / "telepathy-e2e" / "rosters").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        # What the server would send is told apart from our copy by its words.
        _fill(server, name, 7, "Sent")
        await person.connect()
        assert len(await person.listed()) == CROWD
        assert (await person.attributes(first, ALIASING))["alias"] == "Contact 0"
        await person.disconnect()
        _fill(server, name, 8, "Changed")
        await person.connect()
        assert (await person.attributes(first, ALIASING))["alias"] == "Changed 0"
        await person.disconnect()
        file.write_bytes(file.read_bytes()[:-100])
        _fill(server, name, 8, "Sent")
        await person.connect()
        assert (await person.attributes(first, ALIASING))["alias"] == "Sent 0"
    finally:
        await person.side.stop()


async def test_what_people_call_themselves_is_seen_by_their_contacts(
    people: tuple[Person, Person],
) -> None:
    dora, emil = people
    assert await dora.call(ALIASING, "GetAliasFlags") == 1
    me, hers, his = (
        await dora.handle(dora.jid),
        await dora.handle(emil.jid),
        await emil.handle(dora.jid),
    )
    await dora.call(ALIASING, "SetAliases", "a{us}", {me: "Dora D."})
    assert dora.told("AliasesChanged")[-1][1] == ([(me, "Dora D.")],)
    await dora.call(LIST, "RequestSubscription", "aus", [hers], "")
    # A stranger's own name comes with the request.
    await emil.signal("AliasesChanged", lambda body: body[0] == [(his, "Dora D.")])
    assert await emil.call(ALIASING, "RequestAliases", "au", [his]) == ["Dora D."]
    await _befriend(dora, emil)
    await dora.call(ALIASING, "SetAliases", "a{us}", {me: "Theodora"})
    await emil.signal("AliasesChanged", lambda body: body[0] == [(his, "Theodora")])
    await emil.call(ALIASING, "SetAliases", "a{us}", {his: "My own name for her"})
    assert await emil.call(ALIASING, "GetAliases", "au", [his]) == {his: "My own name for her"}
    await emil.call(ALIASING, "SetAliases", "a{us}", {his: ""})
    assert await emil.call(ALIASING, "GetAliases", "au", [his]) == {his: "Theodora"}


async def test_the_alias_of_the_account_is_published_at_login(
    people: tuple[Person, Person],
) -> None:
    dora, emil = people
    await _befriend(dora, emil)
    await dora.disconnect()
    await dora.connect(alias=Variant("s", "Dora of the account"))
    his = await emil.handle(dora.jid)
    await emil.signal("AliasesChanged", lambda body: body[0] == [(his, "Dora of the account")])
    assert (await dora.attributes(dora.jid, ALIASING))["alias"] == "Dora of the account"
