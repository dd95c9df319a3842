"""Rooms on a real server: two and three desktops."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.xmpp import forms, muc
from tests.peer.client import Peer
from tests.support.chat import (
    CHAT_STATE,
    DESTROYABLE,
    MESSAGES,
    REPORT_DELIVERY,
    TEXT,
    handle_of,
    next_message,
    online,
    open_text,
    received,
    report,
    send,
    state_of,
)
from tests.support.checker import CHECKER, check
from tests.support.prosody import Prosody, available
from tests.support.rooms import (
    BANNED,
    ERROR,
    GROUP,
    INVITED,
    KICKED,
    NONE,
    PASSWORD,
    ROOM,
    ROOM_CONFIG,
    ROOM_LIST,
    SUBJECT,
    changed,
    closed,
    configure,
    configured,
    create,
    enter,
    invited,
    members,
    name_of,
    nick_handle,
    refused,
    room_request,
)
from tests.support.side import CHANNEL, CONNECTION, REQUESTS, SECURABLE, DBusFailure, Side
from tests.support.waiting import PATIENCE

CONTACTS = CONNECTION + ".Interface.Contacts"
ALIASING = CONNECTION + ".Interface.Aliasing"
PRESENCE = CONNECTION + ".Interface.SimplePresence"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    if not available():
        pytest.skip("prosody is not installed")
    found = Prosody.start(rooms=True)
    yield found
    found.stop()


@dataclass
class Rooms:
    """Alice and Bob, and a room that is not there yet."""

    server: Prosody
    alice: Side
    bob: Side
    room: str

    async def both_in(self) -> tuple[str, str]:
        """Alice makes the room, Bob comes; their channels."""
        hers = await enter(self.alice, self.room)
        his = await enter(self.bob, self.room)
        await changed(self.alice, hers, added="bob")
        return hers, his


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(server: Prosody) -> AsyncIterator[tuple[Side, Side]]:
    alice, bob = await online(server, "alice"), await online(server, "bob")
    yield alice, bob
    await alice.stop()
    await bob.stop()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def rooms(server: Prosody, sides: tuple[Side, Side]) -> Rooms:
    alice, bob = sides
    alice.signals.clear()
    bob.signals.clear()
    return Rooms(server, alice, bob, f"room{next(_numbers)}@{server.conference}")


# -- coming and going -----------------------------------------------------------------------


async def test_a_new_room_is_ours(rooms: Rooms) -> None:
    alice = rooms.alice
    before = int(time.time())
    path, shown = await create(alice, room_request(rooms.room))
    assert shown[CHANNEL + ".TargetHandleType"] == 2
    assert shown[CHANNEL + ".TargetID"] == rooms.room
    assert shown[CHANNEL + ".Requested"] is True
    assert shown[CHANNEL + ".InitiatorID"] == rooms.server.jid("alice")
    assert shown[CHANNEL + ".Interfaces"] == [
        MESSAGES, CHAT_STATE, DESTROYABLE, SECURABLE, GROUP, PASSWORD, ROOM, ROOM_CONFIG, SUBJECT
    ]  # fmt: skip
    assert shown[ROOM + ".RoomName"] == rooms.room.partition("@")[0]
    assert shown[ROOM + ".Server"] == rooms.server.conference
    assert shown[ROOM + ".Creator"] == rooms.server.jid("alice")
    assert shown[ROOM + ".CreatorHandle"] == shown[CHANNEL + ".InitiatorHandle"]
    assert before <= shown[ROOM + ".CreationTimestamp"] <= time.time()
    group = await alice.get_all(path, GROUP)
    (me,) = group["Members"]
    assert group["SelfHandle"] == me
    assert group["MemberIdentifiers"][me] == f"{rooms.room}/alice"
    assert group["HandleOwners"] == {me: shown[CHANNEL + ".InitiatorHandle"]}
    assert group["LocalPendingMembers"] == group["RemotePendingMembers"] == []
    # Specific handles, properties, detailed, message on leaving; add and remove with a message.
    assert group["GroupFlags"] & ~1024 == 256 + 2048 + 4096 + 8192 + 1 + 8 + 2 + 16
    assert await alice.get_all(path, SECURABLE) == {"Encrypted": False, "Verified": False}
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await enter(alice, rooms.room)
    yours, same, _ = await alice.cm(
        alice.connection, REQUESTS, "EnsureChannel", "a{sv}", room_request(rooms.room)
    )
    assert (yours, same) == (False, path)
    await alice.cm(path, CHANNEL, "Close")
    await closed(alice, path)


async def test_two_in_a_room_see_and_hear_each_other_once(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers, his = await rooms.both_in()
    assert await members(alice, hers) == await members(bob, his) == {"alice", "bob"}
    token = await send(alice, hers, "Hello\nroom", REPORT_DELIVERY)
    path, header = await next_message(bob, "Hello\nroom")
    assert path == his
    sender = await nick_handle(bob, his, "alice")
    assert header["message-sender"] == sender
    assert header["message-sender-id"] == f"{rooms.room}/alice"
    assert header["message-token"] == token
    assert "scrollback" not in header
    assert "message-sent" not in header
    # The room shows it to Alice as well: so it has arrived.
    arrived = await report(alice, token)
    assert arrived["delivery-status"] == 1
    await send(bob, his, "/me waves")
    await send(bob, his, "waves", message_type=Variant("u", 1))
    _, header = await next_message(alice, "waves")
    assert header["message-type"] == 1
    texts = [parts[1]["content"] for parts in received(alice, hers) if len(parts) > 1]
    assert texts.count("Hello\nroom") == 0
    sent = [s for s in alice.signals if s.path == hers and s.member == "MessageSent"]
    assert [s.body[0][1]["content"] for s in sent] == ["Hello\nroom"]
    assert sent[0].body[0][0]["message-sender-id"] == f"{rooms.room}/alice"
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await send(bob, his, "notice", message_type=Variant("u", 2))


async def test_what_was_said_before_is_scrollback(rooms: Rooms) -> None:
    hers = await enter(rooms.alice, rooms.room)
    before = int(time.time())
    token = await send(rooms.alice, hers, "Old", REPORT_DELIVERY)
    await report(rooms.alice, token)
    his = await enter(rooms.bob, rooms.room)
    async with asyncio.timeout(PATIENCE):
        while not (pending := await rooms.bob.get(his, MESSAGES, "PendingMessages")):
            await rooms.bob.signal(lambda s: s.member == "MessageReceived")
    (parts,) = pending
    header = parts[0]
    assert header["scrollback"] is True
    assert before - 1 <= header["message-sent"] <= time.time()
    assert header["message-sender-id"] == f"{rooms.room}/alice"
    assert parts[1]["content"] == "Old"


async def test_occupants_are_contacts_of_their_own(rooms: Rooms) -> None:
    bob = rooms.bob
    _, his = await rooms.both_in()
    alice = await nick_handle(bob, his, "alice")
    attributes = await bob.cm(
        bob.connection,
        CONTACTS,
        "GetContactAttributes",
        "auasb",
        [alice],
        [ALIASING, PRESENCE],
        False,
    )
    assert attributes[alice][ALIASING + "/alias"] == "alice"
    assert attributes[alice][PRESENCE + "/presence"] == (2, "available", "")
    assert attributes[alice][CONNECTION + "/contact-id"] == f"{rooms.room}/alice"
    await rooms.alice.cm(rooms.alice.connection, PRESENCE, "SetPresence", "ss", "away", "Tea")
    await bob.signal(
        lambda s: s.member == "PresencesChanged" and s.body[0].get(alice) == (3, "away", "Tea")
    )
    await rooms.alice.cm(rooms.alice.connection, PRESENCE, "SetPresence", "ss", "available", "")


async def test_who_types_is_shown(rooms: Rooms) -> None:
    hers, his = await rooms.both_in()
    await rooms.alice.cm(hers, CHAT_STATE, "SetChatState", "u", 4)
    alice = await nick_handle(rooms.bob, his, "alice")
    await state_of(rooms.bob, his, alice, 4)
    assert await rooms.bob.get(his, CHAT_STATE, "ChatStates") == {alice: 4}


async def test_leaving_says_goodbye(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers, his = await rooms.both_in()
    handle = await nick_handle(alice, hers, "bob")
    me = await bob.get(his, GROUP, "SelfHandle")
    await bob.cm(his, GROUP, "RemoveMembers", "aus", [me], "Good night")
    details = await changed(alice, hers, removed=handle)
    assert details["message"] == "Good night"
    assert (details["change-reason"], details["actor"]) == (NONE, handle)
    assert (await changed(bob, his, removed=me))["actor"] == me
    await closed(bob, his)
    assert await members(alice, hers) == {"alice"}
    owners = await alice.get(hers, GROUP, "HandleOwners")
    assert handle not in owners
    # And back again, under the same handle.
    alice.signals.clear()
    again = await enter(bob, rooms.room)
    assert again != his
    await changed(alice, hers, added="bob")
    assert await nick_handle(alice, hers, "bob") == handle


async def test_destroying_the_channel_leaves_the_room(rooms: Rooms) -> None:
    hers, his = await rooms.both_in()
    handle = await nick_handle(rooms.alice, hers, "bob")
    await rooms.bob.cm(his, DESTROYABLE, "Destroy")
    await changed(rooms.alice, hers, removed=handle)


async def test_a_nick_that_is_taken_becomes_another(rooms: Rooms) -> None:
    # Her server keeps what she calls herself: nobody else's account.
    rooms.server.add_account("dora")
    dora = await online(rooms.server, "dora", alias=Variant("s", "alice"))
    try:
        hers = await enter(rooms.alice, rooms.room)
        third = await enter(dora, rooms.room)
        group = await dora.get_all(third, GROUP)
        assert group["MemberIdentifiers"][group["SelfHandle"]] == f"{rooms.room}/alice_"
        await changed(rooms.alice, hers, added="alice_")
    finally:
        await dora.stop()


async def test_a_room_is_found_without_its_server(rooms: Rooms) -> None:
    alice, name = rooms.alice, rooms.room.partition("@")[0]
    (handle,) = await alice.cm(alice.connection, CONNECTION, "RequestHandles", "uas", 2, [name])
    (found,) = await alice.cm(alice.connection, CONNECTION, "InspectHandles", "uau", 2, [handle])
    assert found == rooms.room
    path, shown = await create(alice, room_request(name))
    assert shown[CHANNEL + ".TargetHandle"] == handle
    await alice.cm(path, CHANNEL, "Close")
    # As Room2 has it.
    by_name = {
        CHANNEL + ".ChannelType": Variant("s", TEXT),
        ROOM + ".RoomName": Variant("s", name),
        ROOM + ".Server": Variant("s", rooms.server.conference),
    }
    path, shown = await create(alice, by_name)
    assert shown[CHANNEL + ".TargetID"] == rooms.room
    await alice.cm(path, CHANNEL, "Close")
    by_name[ROOM + ".RoomName"] = Variant("s", "")
    path, shown = await create(alice, by_name)
    assert shown[ROOM + ".RoomName"] == ""
    assert shown[CHANNEL + ".TargetHandleType"] == 2
    assert shown[CHANNEL + ".TargetID"].endswith(f"@{rooms.server.conference}")
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await create(alice, room_request(rooms.room, **{ROOM + ".RoomName": Variant("s", "x")}))


# -- what occupants do to one another -------------------------------------------------------


async def test_who_is_thrown_out_is_told_by_whom_and_why(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers, his = await rooms.both_in()
    her_bob = await nick_handle(alice, hers, "bob")
    me, his_alice = await nick_handle(bob, his, "bob"), await nick_handle(bob, his, "alice")
    with pytest.raises(DBusFailure, match="PermissionDenied"):
        await bob.cm(his, GROUP, "RemoveMembers", "aus", [his_alice], "")
    await alice.cm(hers, GROUP, "RemoveMembers", "aus", [her_bob], "Enough")
    details = await changed(bob, his, removed=me)
    assert details["change-reason"] == KICKED
    assert details["message"] == "Enough"
    assert details["actor"] == his_alice
    await closed(bob, his)
    assert (await changed(alice, hers, removed=her_bob))["change-reason"] == KICKED
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await alice.cm(hers, GROUP, "RemoveMembers", "aus", [her_bob], "")
    with pytest.raises(DBusFailure, match="InvalidHandle"):
        await alice.cm(hers, GROUP, "RemoveMembers", "aus", [987654], "")


async def test_who_is_banned_does_not_come_back(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers, his = await rooms.both_in()
    me = await nick_handle(bob, his, "bob")
    her_bob = await nick_handle(alice, hers, "bob")
    await alice.cm(hers, GROUP, "RemoveMembersWithReason", "ausu", [her_bob], "Never", BANNED)
    details = await changed(bob, his, removed=me)
    assert (details["change-reason"], details["message"]) == (BANNED, "Never")
    await closed(bob, his)
    assert await refused(bob, rooms.room) == "Channel.Banned"
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await alice.cm(hers, GROUP, "RemoveMembersWithReason", "ausu", [], "", 99)


async def test_what_occupants_say_to_one_alone_is_a_conversation(rooms: Rooms) -> None:
    hers, his = await rooms.both_in()
    handle = await nick_handle(rooms.alice, hers, "bob")
    alone = {
        CHANNEL + ".ChannelType": Variant("s", TEXT),
        CHANNEL + ".TargetHandleType": Variant("u", 1),
        CHANNEL + ".TargetHandle": Variant("u", handle),
    }
    mine, shown = await create(rooms.alice, alone)
    assert await open_text(rooms.alice, f"{rooms.room}/bob") == mine
    assert shown[CHANNEL + ".TargetID"] == f"{rooms.room}/bob"
    await send(rooms.alice, mine, "Psst")
    path, header = await next_message(rooms.bob, "Psst")
    assert path != his
    assert header["message-sender-id"] == f"{rooms.room}/alice"
    await send(rooms.bob, path, "What?")
    assert (await next_message(rooms.alice, "What?"))[0] == mine


# -- subject and configuration --------------------------------------------------------------


async def test_the_subject_is_seen_by_all_and_by_who_comes_later(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers = await enter(alice, rooms.room)
    await configured(alice, hers)
    assert await alice.get(hers, SUBJECT, "CanSet") is True
    before = int(time.time())
    await alice.cm(hers, SUBJECT, "SetSubject", "s", "Tea & cake")
    shown = await alice.get_all(hers, SUBJECT)
    assert shown["Subject"] == "Tea & cake"
    assert shown["Actor"] == f"{rooms.room}/alice"
    assert before <= shown["Timestamp"] <= time.time()
    his = await enter(bob, rooms.room)
    if await bob.get(his, SUBJECT, "Subject") != "Tea & cake":
        await bob.changed(his, SUBJECT, "Subject", "Tea & cake")
    found = await bob.get_all(his, SUBJECT)
    assert found["Actor"] == f"{rooms.room}/alice"
    assert await name_of(bob, found["ActorHandle"]) == f"{rooms.room}/alice"
    assert before - 1 <= found["Timestamp"] <= time.time()
    with pytest.raises(DBusFailure, match="PermissionDenied"):
        await bob.cm(his, SUBJECT, "SetSubject", "s", "Coffee")
    assert await bob.get(his, SUBJECT, "Subject") == "Tea & cake"


async def test_owners_configure_and_others_see_it(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers, his = await rooms.both_in()
    shown = await configured(alice, hers)
    assert shown["CanUpdateConfiguration"] is True
    assert {"Title", "Description", "Persistent", "Moderated", "InviteOnly"} <= set(
        shown["MutableProperties"]
    )
    assert shown["Anonymous"] is True
    await configured(bob, his)
    with pytest.raises(DBusFailure, match="PermissionDenied"):
        await configure(bob, his, Title=Variant("s", "Mine"))
    await configure(
        alice,
        hers,
        Title=Variant("s", "The lounge"),
        Description=Variant("s", "For tea"),
        Moderated=Variant("b", True),
        Anonymous=Variant("b", False),
        Password=Variant("s", "sesame"),
    )
    now = await alice.get_all(hers, ROOM_CONFIG)
    assert (now["Title"], now["Description"]) == ("The lounge", "For tea")
    assert (now["Moderated"], now["Anonymous"], now["PasswordProtected"]) == (True, False, True)
    assert now["Password"] == "sesame"
    await bob.changed(his, ROOM_CONFIG, "Title", "The lounge")
    seen = await bob.get_all(his, ROOM_CONFIG)
    assert (seen["PasswordProtected"], seen["Password"]) == (True, "")
    assert seen["CanUpdateConfiguration"] is False
    for name, value, error in (
        ("Nonsense", Variant("b", True), "InvalidArgument"),
        ("Title", Variant("b", True), "InvalidArgument"),
        ("PasswordHint", Variant("s", "x"), "NotImplemented"),
        ("CanUpdateConfiguration", Variant("b", True), "NotImplemented"),
    ):
        with pytest.raises(DBusFailure, match=error):
            await configure(alice, hers, **{name: value})


async def test_who_has_no_voice_is_told_that_nobody_heard_him(rooms: Rooms) -> None:
    hers = await enter(rooms.alice, rooms.room)
    await configure(rooms.alice, hers, Moderated=Variant("b", True))
    his = await enter(rooms.bob, rooms.room)
    token = await send(rooms.bob, his, "Hello?")
    failed = await report(rooms.bob, token)
    assert failed["delivery-status"] == 3
    assert failed["delivery-dbus-error"].endswith("PermissionDenied")
    assert failed.get("message-sender", 0) == 0


# -- doors that are shut --------------------------------------------------------------------


async def test_a_room_with_a_password_asks_for_it(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers = await enter(alice, rooms.room)
    await configure(alice, hers, Password=Variant("s", "sesame"))
    his, shown = await create(bob, room_request(rooms.room))
    assert PASSWORD in shown[CHANNEL + ".Interfaces"]
    assert await bob.cm(his, PASSWORD, "GetPasswordFlags") == 8
    group = await bob.get_all(his, GROUP)
    assert group["Members"] == []
    assert group["RemotePendingMembers"] == [group["SelfHandle"]]
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await send(bob, his, "Let me in")
    assert await bob.cm(his, PASSWORD, "ProvidePassword", "s", "wrong") is False
    assert await bob.cm(his, PASSWORD, "GetPasswordFlags") == 8
    assert await bob.cm(his, PASSWORD, "ProvidePassword", "s", "sesame") is True
    assert await bob.cm(his, PASSWORD, "GetPasswordFlags") == 0
    flags = await bob.signal(lambda s: s.path == his and s.member == "PasswordFlagsChanged")
    assert flags.body == (0, 8)
    assert await members(bob, his) == {"alice", "bob"}
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await bob.cm(his, PASSWORD, "ProvidePassword", "s", "sesame")
    assert "sesame" not in bob.log.replace("open sesame", "")


async def test_a_room_for_members_keeps_others_out(rooms: Rooms) -> None:
    hers = await enter(rooms.alice, rooms.room)
    await configure(rooms.alice, hers, InviteOnly=Variant("b", True))
    assert await refused(rooms.bob, rooms.room) == "Channel.InviteOnly"


async def test_what_is_no_room_is_told(rooms: Rooms) -> None:
    assert await refused(rooms.bob, "room@nowhere.example.test") in (
        "NetworkError",
        "PermissionDenied",  # a server that talks to no others
    )
    assert await refused(rooms.bob, "@@") == "InvalidHandle"


# -- invitations ----------------------------------------------------------------------------


async def test_an_invitation_is_followed(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers = await enter(alice, rooms.room)
    await configure(
        alice,
        hers,
        InviteOnly=Variant("b", True),
        Password=Variant("s", "sesame"),
        Anonymous=Variant("b", False),
    )
    contact = await handle_of(alice, rooms.server.jid("bob"))
    await alice.cm(hers, GROUP, "AddMembers", "aus", [contact], "Come in")
    assert await alice.get(hers, GROUP, "RemotePendingMembers") == [contact]
    his, shown = await invited(bob)
    inviter = await handle_of(bob, rooms.server.jid("alice"))
    assert shown[CHANNEL + ".TargetID"] == rooms.room
    assert shown[CHANNEL + ".Requested"] is False
    assert shown[CHANNEL + ".InitiatorID"] == rooms.server.jid("alice")
    assert shown[CHANNEL + ".InitiatorHandle"] == inviter
    group = await bob.get_all(his, GROUP)
    me = group["SelfHandle"]
    assert group["LocalPendingMembers"] == [(me, inviter, INVITED, "Come in")]
    assert group["Members"] == []
    await bob.cm(his, GROUP, "AddMembers", "aus", [me], "")
    assert await members(bob, his) == {"alice", "bob"}
    assert await bob.get(his, GROUP, "LocalPendingMembers") == []
    details = await changed(alice, hers, added="bob")
    assert details["change-reason"] == INVITED
    assert await alice.get(hers, GROUP, "RemotePendingMembers") == []
    owners = await alice.get(hers, GROUP, "HandleOwners")
    assert owners[await nick_handle(alice, hers, "bob")] == contact
    # Who is in already needs no invitation.
    await alice.cm(hers, GROUP, "AddMembers", "aus", [contact], "")
    assert await alice.get(hers, GROUP, "RemotePendingMembers") == []


async def test_an_invitation_is_declined(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    hers = await enter(alice, rooms.room)
    contact = await handle_of(alice, rooms.server.jid("bob"))
    await alice.cm(hers, GROUP, "AddMembers", "aus", [contact], "")
    his, shown = await invited(bob)
    # Who wants to stay unknown is so to whom he invites.
    assert shown[CHANNEL + ".InitiatorID"] == f"{rooms.room}/alice"
    me = await bob.get(his, GROUP, "SelfHandle")
    await bob.cm(his, GROUP, "RemoveMembers", "aus", [me], "No time")
    await closed(bob, his)
    details = await changed(alice, hers, removed=contact)
    assert details["message"] == "No time"
    assert await alice.get(hers, GROUP, "RemotePendingMembers") == []
    # Asked again, he may come by asking for the room himself.
    await alice.cm(hers, GROUP, "AddMembers", "aus", [contact], "")
    again, _ = await invited(bob, skip=1)
    yours, path, _ = await bob.cm(
        bob.connection, REQUESTS, "EnsureChannel", "a{sv}", room_request(rooms.room)
    )
    assert (yours, path) == (False, again)
    assert await members(bob, again) == {"alice", "bob"}


@pytest.mark.skipif(not CHECKER.is_file(), reason="no checker here")
async def test_the_specifications_checker_finds_nothing_wrong_with_rooms(rooms: Rooms) -> None:
    alice, bob = rooms.alice, rooms.bob
    watching = [asyncio.create_task(check(each, 3)) for each in (alice, bob)]
    hers = await enter(alice, rooms.room)
    await configure(alice, hers, Password=Variant("s", "sesame"))
    contact = await handle_of(alice, rooms.server.jid("bob"))
    await alice.cm(hers, GROUP, "AddMembers", "aus", [contact], "Come")
    his, _ = await invited(bob)
    listing = {
        CHANNEL + ".ChannelType": Variant("s", ROOM_LIST),
        CHANNEL + ".TargetHandleType": Variant("u", 0),
    }
    path, _ = await create(alice, listing)
    await alice.cm(path, ROOM_LIST, "ListRooms")
    first = await asyncio.gather(*watching)
    seen = [asyncio.create_task(check(each, 1)) for each in (alice, bob)]
    me = await bob.get(his, GROUP, "SelfHandle")
    await bob.cm(his, GROUP, "AddMembers", "aus", [me], "")
    await send(bob, his, "Here I am")
    # The first may have been over before the room was there.
    for outputs in zip(first, await asyncio.gather(*seen), strict=True):
        assert "PASS Channel/Text" in "".join(outputs)


# -- the end of rooms -----------------------------------------------------------------------


async def test_a_room_that_is_destroyed_is_over_for_all(rooms: Rooms) -> None:
    carol = await Peer.start(rooms.server, "carol")
    try:
        carol.send(muc.join(rooms.room, "carol"))
        async with asyncio.timeout(PATIENCE):
            answer = await carol.post(rooms.room, muc.owner(), type="get")
            while answer.get("type") == "error":
                answer = await carol.post(rooms.room, muc.owner(), type="get")
            await carol.post(rooms.room, muc.owner(forms.build(forms.Form("submit", {}))))
            his = await enter(rooms.bob, rooms.room)
            me = await rooms.bob.get(his, GROUP, "SelfHandle")
            other = f"other@{rooms.server.conference}"
            await carol.post(rooms.room, muc.destroy(alternate=other, reason="Moved"))
        details = await changed(rooms.bob, his, removed=me)
        assert details["change-reason"] == ERROR
        assert details["error"].endswith("DoesNotExist")
        assert "Moved" in details["message"]
        assert other in details["message"]
        await closed(rooms.bob, his)
    finally:
        await carol.stop()


async def test_the_end_of_the_connection_is_the_end_of_the_room(rooms: Rooms) -> None:
    hers = await enter(rooms.alice, rooms.room)
    carol = await online(rooms.server, "carol")
    try:
        third = await enter(carol, rooms.room)
        await changed(rooms.alice, hers, added="carol")
        handle = await nick_handle(rooms.alice, hers, "carol")
        await carol.cm(carol.connection, CONNECTION, "Disconnect")
        await closed(carol, third)
        await changed(rooms.alice, hers, removed=handle)
    finally:
        await carol.stop()


# -- lists ----------------------------------------------------------------------------------


async def test_rooms_are_listed(rooms: Rooms) -> None:
    alice = rooms.alice
    hers = await enter(alice, rooms.room)
    await configure(
        alice, hers, Title=Variant("s", "Listed"), Private=Variant("b", False),
        Description=Variant("s", "A room to be found"), Password=Variant("s", "sesame"),
    )  # fmt: skip
    request = {
        CHANNEL + ".ChannelType": Variant("s", ROOM_LIST),
        CHANNEL + ".TargetHandleType": Variant("u", 0),
    }
    path, shown = await create(rooms.bob, request)
    assert shown[ROOM_LIST + ".Server"] == rooms.server.conference
    assert await rooms.bob.cm(path, ROOM_LIST, "GetListingRooms") is False
    await rooms.bob.cm(path, ROOM_LIST, "ListRooms")
    await rooms.bob.signal(
        lambda s: s.path == path and s.member == "ListingRooms" and s.body == (False,)
    )
    listed = {
        info["handle-name"]: (handle, kind, info)
        for s in rooms.bob.signals
        if s.path == path and s.member == "GotRooms"
        for handle, kind, info in s.body[0]
    }
    handle, kind, info = listed[rooms.room]
    assert kind == TEXT
    assert info["name"] == "Listed"
    assert info["description"] == "A room to be found"
    assert (info["password"], info["invite-only"], info["members"]) == (True, False, 1)
    assert info["room-id"] == rooms.room.partition("@")[0]
    assert info["server"] == rooms.server.conference
    (same,) = await rooms.bob.cm(
        rooms.bob.connection, CONNECTION, "RequestHandles", "uas", 2, [rooms.room]
    )
    assert same == handle
    yours, again, _ = await rooms.bob.cm(
        rooms.bob.connection, REQUESTS, "EnsureChannel", "a{sv}", request
    )
    assert (yours, again) == (False, path)
    await rooms.bob.cm(path, ROOM_LIST, "ListRooms")
    await rooms.bob.cm(path, ROOM_LIST, "StopListing")
    assert await rooms.bob.cm(path, ROOM_LIST, "GetListingRooms") is False
    await rooms.bob.cm(path, CHANNEL, "Close")
    await closed(rooms.bob, path)
