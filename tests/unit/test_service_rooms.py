"""Rooms in the service layer: what they cost, whatever they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from telepathy_e2e.errors import (
    ChannelBanned,
    ChannelFull,
    ChannelInviteOnly,
    Disconnected,
    DoesNotExist,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    NotImplementedByUs,
    PeerError,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.service import names, room_guests, room_list, room_stay, room_talk, rooms
from telepathy_e2e.service.events import Changed, Closed
from telepathy_e2e.service.group import (
    Flag,
    GroupFlagsChanged,
    HandleOwnersChanged,
    MembersChanged,
    MembersChangedDetailed,
    Reason,
    SelfContactChanged,
)
from telepathy_e2e.service.messages import DELIVERY_REPORT, REPORT_DELIVERY, Text
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.room_channel import RoomChannel
from telepathy_e2e.service.room_list import GotRooms, ListingRooms, RoomListChannel
from telepathy_e2e.service.room_stay import PasswordFlagsChanged
from telepathy_e2e.service.text_channel import COMPOSING
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp import muc, muc_room
from tests.unit.rooms_support import BOB, EVE, ME, ROOM, SERVER, World

DELAY = f"<delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='2020-01-01T00:00:00Z'/>"
OWNER = f"{{{muc.OWNER}}}query"
ITEMS = "{http://jabber.org/protocol/disco#items}query"
INFO = "{http://jabber.org/protocol/disco#info}query"


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    yield found
    await found.tasks.close()


def say(channel: RoomChannel, words: str, flags: int = 0, **header: object) -> str:
    named = {key.replace("_", "-"): value for key, value in header.items()}
    parts: list[dict[str, object]] = [named, {"content-type": "text/plain", "content": words}]
    return channel.send_message(parts, flags).token


def texts(channel: RoomChannel) -> list[Text]:
    return [each for each in channel.messages.pending if each.kind != DELIVERY_REPORT]


def reports(channel: RoomChannel) -> list[object]:
    return [
        (each.headers or {})["delivery-status"]
        for each in channel.messages.pending
        if each.kind == DELIVERY_REPORT
    ]


def nick(world: World, name: str) -> int:
    return world.handles.of_jid(f"{ROOM}/{name}")


# -- coming in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("forbidden", ChannelBanned),
        ("registration-required", ChannelInviteOnly),
        ("service-unavailable", ChannelFull),
        ("item-not-found", DoesNotExist),
        ("not-allowed", PermissionDenied),
        ("not-acceptable", NotAvailable),
        ("remote-server-not-found", NetworkError),
        ("undefined-condition", NotAvailable),
    ],
)
async def test_why_a_room_keeps_us_out_is_said(
    world: World, condition: str, error: type[TelepathyError]
) -> None:
    task = asyncio.create_task(world.rooms.create(world.request()))
    await world.settle()
    world.refuse(condition)
    with pytest.raises(error) as caught:
        await task
    assert type(caught.value) is error
    # And it is as if we had never asked.
    assert not world.rooms.is_occupant(f"{ROOM}/me")
    await world.enter()


async def test_two_who_ask_for_the_same_room_get_the_same_channel(world: World) -> None:
    first = asyncio.create_task(world.rooms.ensure(world.request()))
    second = asyncio.create_task(world.rooms.ensure(world.request()))
    await world.settle()
    with pytest.raises(NotAvailable):
        await world.rooms.create(world.request())
    world.presence("me", 110)
    (yours, one), (mine, other) = await asyncio.gather(first, second)
    assert (yours, mine) == (True, False)
    assert one is other
    joins = [each for each in world.client.sent if each.find(f"{{{muc.MUC}}}x") is not None]
    assert len(joins) == 1


async def test_both_who_ask_hear_that_there_is_no_way_in(world: World) -> None:
    tasks = [asyncio.create_task(world.rooms.ensure(world.request())) for _ in range(2)]
    await world.settle()
    world.refuse("forbidden")
    for each in tasks:
        with pytest.raises(ChannelBanned):
            await each


async def test_the_end_of_the_connection_ends_coming_in(world: World) -> None:
    task = asyncio.create_task(world.rooms.create(world.request()))
    await world.settle()
    world.rooms.disconnected(Disconnected("gone"), stopped=False)
    with pytest.raises(Disconnected):
        await task


async def test_a_room_that_says_nothing_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_stay, "JOIN_SECONDS", 0)
    with pytest.raises(NetworkError):
        await world.rooms.create(world.request())
    assert world.client.sent[-1].get("type") == "unavailable"


async def test_a_new_room_is_unlocked_before_anybody_sees_it(world: World) -> None:
    task = asyncio.create_task(world.rooms.create(world.request()))
    await world.settle()
    world.presence("me", 110, 201, affiliation="owner", role="moderator")
    channel = await task
    assert isinstance(channel, RoomChannel)
    assert (world.client.asked[0][0], world.client.asked[0][1].tag) == (ROOM, OWNER)
    assert channel.creator == ME


async def test_a_new_room_that_cannot_be_unlocked_is_left(world: World) -> None:
    world.client.answers[OWNER] = world.error("forbidden")
    task = asyncio.create_task(world.rooms.create(world.request()))
    await world.settle()
    world.presence("me", 110, 201)
    with pytest.raises(PermissionDenied):
        await task
    assert world.client.sent[-1].get("type") == "unavailable"


async def test_a_password_is_asked_for_until_it_is_right(world: World) -> None:
    task = asyncio.create_task(world.rooms.create(world.request()))
    await world.settle()
    world.refuse("not-authorized")
    channel = await task
    assert isinstance(channel, RoomChannel)
    channel.events.subscribe(world.told.append)
    assert channel.password_flags == 8
    assert channel.group.remote_pending_members == [channel.self_handle]
    for password, condition in (("no", "not-authorized"), ("yes", "")):
        provided = asyncio.create_task(channel.provide_password(password))
        await world.settle()
        with pytest.raises(InvalidArgument):
            await channel.provide_password("meanwhile")
        if condition:
            world.refuse(condition)
        else:
            world.presence("me", 110)
        assert await provided is (condition == "")
        assert bool(condition) is (channel.password_flags == 8)
    assert world.events_of(PasswordFlagsChanged) == [PasswordFlagsChanged(0, 8)]
    assert channel.group.member_list == [channel.self_handle]


async def test_who_is_banned_meanwhile_needs_no_password(world: World) -> None:
    task = asyncio.create_task(world.rooms.create(world.request()))
    await world.settle()
    world.refuse("not-authorized")
    channel = await task
    assert isinstance(channel, RoomChannel)
    channel.events.subscribe(world.told.append)
    provided = asyncio.create_task(channel.provide_password("x"))
    await world.settle()
    world.refuse("forbidden")
    with pytest.raises(ChannelBanned):
        await provided
    (changed,) = world.events_of(MembersChangedDetailed)
    assert changed.removed == [channel.self_handle]
    assert changed.details["change-reason"] == Reason.BANNED
    assert isinstance(world.told[-1], Closed)


async def test_a_nick_that_is_taken_changes_who_we_are_before_we_are_in(world: World) -> None:
    world.invite(ROOM, BOB)
    (channel,) = world.announced
    accepted = asyncio.create_task(channel.accept())
    await world.settle()
    world.refuse("conflict")
    world.presence("me_", 110)
    await accepted
    me = nick(world, "me_")
    assert channel.self_handle == me
    assert channel.group.member_list == [me]
    assert world.events_of(SelfContactChanged) == [SelfContactChanged(me, f"{ROOM}/me_")]
    assert channel.group.handle_owners == {me: world.account.self_handle}


# -- who is in ------------------------------------------------------------------------------


async def test_members_and_owners_are_told_in_the_order_of_the_specification(world: World) -> None:
    channel = await world.enter("old")
    assert channel.group.member_list == [channel.self_handle, nick(world, "old")]
    world.presence("bob", real=BOB + "/x")
    bob, owner = nick(world, "bob"), world.handles.ensure(BOB)
    kinds = (HandleOwnersChanged, MembersChanged)
    assert world.events_of(*kinds) == [
        HandleOwnersChanged({bob: owner}, []),
        MembersChanged("", [bob], [], [], [], bob, 0),
    ]
    (change,) = world.events_of(MembersChangedDetailed)
    assert change.details["contact-ids"] == {bob: f"{ROOM}/bob"}
    world.told.clear()
    world.presence("bob", 307, type="unavailable")
    assert world.events_of(*kinds) == [
        MembersChanged("", [], [bob], [], [], 0, Reason.KICKED),
        HandleOwnersChanged({}, [bob]),
    ]


async def test_a_new_nick_is_one_out_and_one_in(world: World) -> None:
    channel = await world.enter("bob")
    world.presence("bob", 303, type="unavailable", nick="rob")
    world.presence("rob")
    rob = nick(world, "rob")
    assert world.events_of(MembersChanged) == [
        MembersChanged("", [rob], [nick(world, "bob")], [], [], rob, Reason.RENAMED)
    ]
    world.told.clear()
    world.presence("me", 110, 303, type="unavailable", nick="I")
    world.presence("I", 110)
    assert world.events_of(SelfContactChanged) == [
        SelfContactChanged(nick(world, "I"), f"{ROOM}/I")
    ]
    assert channel.group.member_list == [rob, nick(world, "I")]


async def test_what_we_may_do_is_a_matter_of_our_role(world: World) -> None:
    channel = await world.enter()
    may = Flag(channel.group.group_flags)
    assert Flag.CAN_ADD in may
    assert Flag.CAN_REMOVE not in may
    assert Flag.HANDLE_OWNERS_NOT_AVAILABLE in may
    world.presence("me", 110, role="moderator", affiliation="admin")
    world.presence("bob", real=BOB)
    may = Flag(channel.group.group_flags)
    assert Flag.CAN_REMOVE | Flag.MESSAGE_REMOVE in may
    assert Flag.HANDLE_OWNERS_NOT_AVAILABLE not in may
    assert world.events_of(GroupFlagsChanged)


async def test_occupants_cost_handles_up_to_a_bound_and_are_heard_beyond(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MAX_ROOM_HANDLES", 100)
    monkeypatch.setattr(rooms, "MAX_OCCUPANT_HANDLES", 150)
    channel = await world.enter()
    # One who changes his nick for ever.
    world.presence("n0")
    for number in range(1_000):
        world.presence(f"n{number}", 303, type="unavailable", nick=f"n{number + 1}")
        world.presence(f"n{number + 1}")
    assert len(channel.room.occupants) == 2
    assert world.handles.find(f"{ROOM}/n1000") is None
    assert channel.group.member_list == [channel.self_handle]
    world.say("n1000", "Still here")
    (heard,) = texts(channel)
    assert (heard.sender, heard.nickname, heard.text) == (0, "n1000", "Still here")
    # He comes back under a nick that is known.
    world.presence("n1000", 303, type="unavailable", nick="n5")
    world.presence("n5")
    assert nick(world, "n5") in channel.group.member_list
    # Another room gets what is left of all, and contacts are not concerned.
    other = f"other@{SERVER}"
    await world.enter(*(f"x{number}" for number in range(100)), jid=other)
    assert world.handles.find(f"{other}/x49") is not None
    assert world.handles.find(f"{other}/x50") is None
    assert world.handles.ensure("anybody@example.test")


async def test_fifty_thousand_presences_are_so_many_occupants(world: World) -> None:
    channel = await world.enter()
    for number in range(50_000):
        world.presence(f"n{number}")
    assert len(channel.room.occupants) == muc_room.MAX_OCCUPANTS - 1
    assert len(channel.group.member_list) == muc_room.MAX_OCCUPANTS - 1
    assert world.handles.find(f"{ROOM}/n49999") is None


async def test_presences_of_rooms_that_we_are_not_in_say_nothing_of_contacts(world: World) -> None:
    assert world.presence("bob") is True
    await world.enter()
    assert world.presence("bob", jid=f"other@{SERVER}") is True
    assert world.handles.find(f"other@{SERVER}/bob") is None


async def test_a_contacts_presence_is_left_to_others(world: World) -> None:
    from xml.etree.ElementTree import XML

    stanza = XML(f"<presence xmlns='jabber:client' from='{BOB}/x'/>")
    assert world.rooms.receive_presence(stanza) is False
    await world.enter()
    assert world.rooms.receive_presence(stanza) is False
    with pytest.raises(PeerError):
        world.rooms.receive_presence(XML("<presence xmlns='jabber:client' from='@'/>"))


async def test_who_is_put_out_is_told_why_and_the_channel_ends(world: World) -> None:
    channel = await world.enter()
    world.presence("me", 110, 301, type="unavailable")
    (changed,) = world.events_of(MembersChangedDetailed)
    assert changed.removed == [channel.self_handle]
    assert changed.details["change-reason"] == Reason.BANNED
    assert channel.closed
    with pytest.raises(NotAvailable):
        say(channel, "Hello?")
    await world.enter()


async def test_putting_others_out_asks_the_room(world: World) -> None:
    channel = await world.enter("bob", "eve")
    world.presence("eve", real=EVE + "/x")
    bob, eve = nick(world, "bob"), nick(world, "eve")
    await channel.remove_members([bob, eve], "Out", Reason.KICKED)
    await channel.remove_members([bob, eve], "", Reason.BANNED)
    items = [query.find(f"{{{muc.ADMIN}}}item") for _, query in world.client.asked]
    assert [dict(each.attrib) for each in items if each is not None] == [
        {"nick": "bob", "role": "none"},
        {"nick": "eve", "role": "none"},
        {"nick": "bob", "affiliation": "outcast"},
        {"jid": EVE, "affiliation": "outcast"},
    ]
    world.client.answers[f"{{{muc.ADMIN}}}query"] = world.error("not-allowed")
    with pytest.raises(PermissionDenied):
        await channel.remove_members([bob], "", 0)
    with pytest.raises(NotAvailable):
        await channel.remove_members([world.handles.ensure(BOB)], "", 0)
    with pytest.raises(InvalidArgument):
        await channel.remove_members([bob], "", 12)
    with pytest.raises(InvalidArgument):
        await channel.remove_members([bob] * (room_guests.MAX_CONTACTS + 1), "", 0)


# -- messages -------------------------------------------------------------------------------


async def test_our_own_words_are_shown_once(world: World) -> None:
    channel = await world.enter()
    token = say(channel, "Hello", REPORT_DELIVERY)
    world.say("me", "Hello", id=token)
    world.say("me", "Hello", id=token)
    assert texts(channel) == []
    assert reports(channel) == [1]
    # A service that gives each message an id of its own.
    say(channel, "Again")
    world.say("me", "Again", id="other")
    assert texts(channel) == []
    # Another program of ours, and what we said before we came.
    world.say("me", "From my phone", id="phone")
    world.say("me", "Hello", DELAY, id=token)
    assert [(each.text, each.silent, each.scrollback) for each in texts(channel)] == [
        ("From my phone", True, False),
        ("Hello", True, True),
    ]


async def test_nobody_else_can_say_that_our_words_have_arrived(world: World) -> None:
    channel = await world.enter("eve")
    token = say(channel, "Hello", REPORT_DELIVERY)
    world.say("eve", "Hello", id=token)
    assert reports(channel) == []
    assert [each.sender for each in texts(channel)] == [nick(world, "eve")]


async def test_words_that_come_back_are_reported(world: World) -> None:
    channel = await world.enter()
    token = say(channel, "Hello")
    error = "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    world.say("eve", "", error, type="error", id=token)
    assert reports(channel) == []
    world.say("", "", error, type="error", id="unknown")
    world.say("", "", error, type="error", id=token)
    world.say("", "", error, type="error", id=token)
    assert reports(channel) == [3]
    # Lost with the connection.
    token = say(channel, "Hello")
    world.rooms.undelivered([world.client.sent[-1]])
    assert reports(channel) == [3, 2]


async def test_sent_words_are_remembered_for_a_while(world: World) -> None:
    channel = await world.enter()
    first = say(channel, "0")
    for number in range(room_talk.MAX_SENT):
        say(channel, str(number + 1))
    world.say("me", "0", id=first)
    assert [each.text for each in texts(channel)] == ["0"]


async def test_only_authors_correct_their_words(world: World) -> None:
    channel = await world.enter("bob", "eve")
    replace = "<replace xmlns='urn:xmpp:message-correct:0' id='1'/>"
    world.say("bob", "Helo", id="1")
    world.say("eve", "Hell", replace, id="2")
    world.say("bob", "Hello", replace, id="3")
    assert [each.supersedes for each in texts(channel)] == ["", "", "1"]
    # Whoever takes the nick of somebody who left did not write his words.
    world.presence("bob", type="unavailable")
    world.presence("bob")
    world.say("bob", "Bye", "<replace xmlns='urn:xmpp:message-correct:0' id='3'/>", id="4")
    assert texts(channel)[-1].supersedes == ""
    for number in range(2 * room_talk.MAX_CORRECTABLE):
        world.say("bob", "x", id=f"i{number}")
    assert len(channel.talk._theirs) == room_talk.MAX_CORRECTABLE


async def test_a_busy_room_forgets_its_oldest_unread_words(world: World) -> None:
    channel = await world.enter("bob")
    for number in range(3 * room_stay.MAX_MESSAGES):
        world.say("bob", str(number))
    kept = [each.text for each in texts(channel)]
    assert len(kept) == room_stay.MAX_MESSAGES
    assert kept[-1] == str(3 * room_stay.MAX_MESSAGES - 1)
    big = "x" * (room_stay.MAX_BYTES // 2)
    for _ in range(10):
        world.say("bob", big)
    assert len(texts(channel)) == 1
    world.say("bob", "x" * (2 * room_stay.MAX_BYTES))
    assert len(texts(channel)) == 0 or texts(channel)[0].text == big


async def test_messages_of_no_room_are_dropped(world: World) -> None:
    assert world.say("bob", "Hello") is True
    channel = await world.enter()
    assert world.say("bob", "Hello", jid=f"other@{SERVER}") is True
    assert texts(channel) == []
    # What somebody says to us alone is for the conversations, as is what contacts say.
    assert world.say("bob", "Psst", type="chat") is False
    assert world.say("", "Hi", jid=BOB, type="chat") is False
    assert world.rooms.is_occupant(f"{ROOM}/bob")
    assert not world.rooms.is_occupant(ROOM)


async def test_rooms_are_in_the_clear(world: World) -> None:
    channel = await world.enter()
    world.account.policy = Policy.REQUIRED
    with pytest.raises(PermissionDenied):
        say(channel, "Secret")
    assert (channel.encrypted, channel.verified) == (False, False)


async def test_states_are_those_of_members(world: World) -> None:
    channel = await world.enter("bob")
    composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
    world.say("bob", "", composing)
    world.say("stranger", "", composing)
    assert channel.chat_states == {nick(world, "bob"): COMPOSING}
    world.presence("bob", type="unavailable")
    assert channel.chat_states == {}
    before = len(world.client.sent)
    channel.set_chat_state(COMPOSING)
    assert len(world.client.sent) == before + 1
    # Who has no voice keeps quiet.
    world.presence("me", 110, role="visitor")
    channel.set_chat_state(2)
    assert len(world.client.sent) == before + 1


# -- invitations ----------------------------------------------------------------------------


async def test_floods_of_invitations_are_a_few_channels(world: World) -> None:
    for number in range(1_000):
        assert world.invite(f"r{number}@{SERVER}", EVE)
    assert len(world.announced) == rooms.MAX_STRANGERS
    for number in range(1_000):
        world.invite(f"b{number}@{SERVER}", BOB + "/x", direct=True)
    assert len(world.announced) == rooms.MAX_INVITATIONS
    assert world.handles.find(f"r999@{SERVER}", 2) is None
    # Answered, they make room for others.
    world.announced[0].close()
    world.invite(f"late@{SERVER}", EVE)
    assert world.announced[-1].target_id == f"late@{SERVER}"


async def test_nobody_is_invited_twice_or_by_somebody_blocked(world: World) -> None:
    await world.enter()
    assert world.invite(ROOM, BOB) is True
    world.account.blocking.add(EVE)
    world.invite(f"other@{SERVER}", EVE + "/x")
    assert world.announced == []
    world.invite(f"other@{SERVER}", BOB)
    world.invite(f"other@{SERVER}", BOB)
    assert len(world.announced) == 1


@pytest.mark.parametrize("direct", [False, True])
async def test_declining_tells_whoever_can_be_told(world: World, direct: bool) -> None:
    world.invite(ROOM, BOB, direct=direct)
    (channel,) = world.announced
    assert channel.is_invitation
    assert (Flag.MESSAGE_REJECT in Flag(channel.group.group_flags)) is not direct
    await channel.remove_members([channel.self_handle], "No", 0)
    assert channel.closed
    assert [each.tag.rpartition("}")[2] for each in world.client.sent] == ["message"] * (not direct)


async def test_whoever_is_invited_to_a_locked_room_is_asked_for_the_password(world: World) -> None:
    world.invite(ROOM, BOB)
    (channel,) = world.announced
    adding = asyncio.create_task(channel.add_members([channel.self_handle], ""))
    await world.settle()
    world.refuse("not-authorized")
    await adding
    assert channel.password_flags == 8
    assert not channel.is_invitation
    assert channel.group.remote_pending_members == [channel.self_handle]


async def test_an_invitation_to_a_room_that_keeps_us_out_is_over(world: World) -> None:
    world.invite(ROOM, BOB)
    (channel,) = world.announced
    adding = asyncio.create_task(channel.add_members([channel.self_handle], ""))
    await world.settle()
    world.refuse("registration-required")
    with pytest.raises(ChannelInviteOnly):
        await adding
    assert channel.closed


async def test_those_whom_we_invite_are_waited_for_up_to_a_bound(world: World) -> None:
    channel = await world.enter()
    for start in range(0, 2 * room_guests.MAX_INVITED, 100):
        handles = [world.handles.ensure(f"c{n}@example.test") for n in range(start, start + 100)]
        await channel.add_members(handles, "Come")
    assert len(channel.group.remote_pending_members) == room_guests.MAX_INVITED
    assert len(channel.guests._invited) == room_guests.MAX_INVITED
    with pytest.raises(PermissionDenied):
        await channel.remove_members([world.handles.ensure("c0@example.test")], "", 0)


async def test_a_room_that_does_not_invite_lets_us_do_it(world: World) -> None:
    channel = await world.enter()
    bob = world.handles.ensure(BOB)
    await channel.add_members([bob], "Come")
    error = "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    token = world.client.sent[-1].get("id", "")
    world.say("", "", error, type="error", id=token)
    direct = world.client.sent[-1]
    assert direct.get("to") == BOB
    assert direct.find(f"{{{muc.DIRECT}}}x") is not None
    assert channel.group.remote_pending_members == [bob]
    # A room for members would not let him in.
    channel.settings.invite_only = True
    await channel.add_members([world.handles.ensure(EVE)], "Come")
    token = world.client.sent[-1].get("id", "")
    world.say("", "", error, type="error", id=token)
    assert channel.group.remote_pending_members == [bob]
    (change,) = [each for each in world.events_of(MembersChanged) if each.removed]
    assert change.reason == Reason.PERMISSION_DENIED


async def test_a_room_cannot_decline_for_ourselves_or_for_members(world: World) -> None:
    channel = await world.enter("bob")
    for each in (f"{ROOM}/me", f"{ROOM}/bob", BOB, EVE):
        world.say("", "", f"<x xmlns='{muc.USER}'><decline from='{each}'/></x>", type="normal")
    assert len(channel.group.member_list) == 2
    assert world.events_of(MembersChanged) == []


# -- subject, configuration -----------------------------------------------------------------


async def test_a_subject_waits_for_the_room(world: World) -> None:
    channel = await world.enter()
    setting = asyncio.create_task(channel.topic.set("Tea"))
    await world.settle()
    token = world.client.sent[-1].get("id", "")
    world.say("me", "", "<subject>Tea</subject>", id=token)
    await setting
    assert (channel.topic.text, channel.topic.actor) == ("Tea", f"{ROOM}/me")
    await channel.topic.set("Tea")  # the same again is nothing new
    setting = asyncio.create_task(channel.topic.set("Coffee"))
    await world.settle()
    token = world.client.sent[-1].get("id", "")
    error = "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    world.say("", "", error, type="error", id=token)
    with pytest.raises(PermissionDenied):
        await setting
    setting = asyncio.create_task(channel.topic.set("Coffee"))
    await world.settle()
    channel.close()
    with pytest.raises(NotAvailable):
        await setting


async def test_an_absurd_form_is_no_configuration(world: World) -> None:
    fields = "".join(f"<field var='f{n}'><value>x</value></field>" for n in range(5_000))
    world.client.answers[OWNER] = (
        f"<query xmlns='{muc.OWNER}'><x xmlns='jabber:x:data' type='form'>{fields}</x></query>"
    )
    channel = await world.enter(affiliation="owner", role="moderator")
    assert channel.settings.configuration_retrieved is False
    with pytest.raises(NotAvailable):
        await channel.settings.update({"Title": "x"})


async def test_a_room_that_changes_all_the_time_is_looked_at_once_in_a_while(world: World) -> None:
    await world.enter()
    before = len(world.client.asked)
    for _ in range(1_000):
        world.say("", "", f"<x xmlns='{muc.USER}'><status code='104'/></x>")
        await asyncio.sleep(0)
    assert len(world.client.asked) <= before + 2


async def test_settings_that_the_room_does_not_have_are_not_implemented(world: World) -> None:
    world.client.answers[OWNER] = (
        f"<query xmlns='{muc.OWNER}'><x xmlns='jabber:x:data' type='form'>"
        "<field var='muc#roomconfig_roomname' type='text-single'/></x></query>"
    )
    channel = await world.enter(affiliation="owner", role="moderator")
    assert channel.settings.mutable_properties == ["Title"]
    assert any(isinstance(each, Changed) for each in world.told) is False
    with pytest.raises(NotImplementedByUs):
        await channel.settings.update({"Moderated": True})
    await channel.settings.update({"Title": "Den"})
    world.client.answers[OWNER] = world.error("forbidden")
    with pytest.raises(PermissionDenied):
        await channel.settings.update({"Title": "x"})


# -- names and lists ------------------------------------------------------------------------


def offers(server: str) -> dict[str, str | Callable[..., str] | Exception]:
    return {ITEMS: f"<query xmlns='{ITEMS[1:-6]}'><item jid='{server}'/></query>"}


async def test_rooms_without_a_server_are_on_the_servers_own(world: World) -> None:
    world.client.answers.update(offers(SERVER))
    assert await world.rooms.complete(["room", ROOM, ""]) == [ROOM, ROOM, ""]
    request = {"org.freedesktop.Telepathy.Channel.ChannelType": names.TEXT}
    found = await world.rooms.completed({**request, rooms.ROOM_NAME: "room"})
    assert found["org.freedesktop.Telepathy.Channel.TargetID"] == ROOM
    for wrong in ({rooms.ROOM_NAME: "a@b"},):
        with pytest.raises(InvalidArgument):
            await world.rooms.completed({**request, **wrong})
    assert await world.rooms.completed(request) == request


async def test_without_rooms_of_its_own_the_fallback_is_taken(world: World) -> None:
    world.client.answers[ITEMS] = world.error("item-not-found")
    with pytest.raises(NotAvailable):
        await world.rooms.complete(["room"])
    world.account.parameters["fallback-conference-server"] = "muc.other.test"
    assert await world.rooms.complete(["room"]) == ["room@muc.other.test"]


def list_request(server: str = SERVER) -> ChannelRequest:
    return ChannelRequest(names.ROOM_LIST, 0, 0, {rooms.LIST_SERVER: server})


async def listed(world: World) -> RoomListChannel:
    channel = await world.rooms.create(list_request())
    assert isinstance(channel, RoomListChannel)
    channel.events.subscribe(world.told.append)
    channel.list_rooms()
    channel.list_rooms()
    async with asyncio.timeout(60):
        while channel.listing:
            await asyncio.sleep(0)
    return channel


def page(first: int, count: int, last: str) -> str:
    items = "".join(f"<item jid='r{n}@{SERVER}'/>" for n in range(first, first + count))
    return (
        f"<query xmlns='{ITEMS[1:-6]}'>{items}<set xmlns='http://jabber.org/protocol/rsm'>"
        f"<last>{last}</last></set></query>"
    )


async def test_a_list_ends_wherever_the_server_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_list, "MAX_ROOMS", 250)
    pages = 0

    def endless(_: object) -> str:
        nonlocal pages
        pages += 1
        return page(pages * 100, 100, f"mark{pages}")

    world.client.answers[ITEMS] = endless
    await listed(world)
    assert sum(len(each.rooms) for each in world.events_of(GotRooms)) == 250
    assert world.events_of(ListingRooms) == [ListingRooms(True), ListingRooms(False)]
    assert pages == 3
    # One that gives the same page for ever.
    world.client.answers[ITEMS] = page(0, 10, "mark")
    for each in list(world.rooms._lists.values()):
        each.close()
    world.told.clear()
    await listed(world)
    assert sum(len(each.rooms) for each in world.events_of(GotRooms)) == 20


async def test_a_list_that_cannot_be_had_is_empty(world: World) -> None:
    world.client.answers[ITEMS] = world.error("forbidden")
    await listed(world)
    assert world.events_of(GotRooms) == []
    assert world.events_of(ListingRooms) == [ListingRooms(True), ListingRooms(False)]


async def test_there_are_only_so_many_rooms_and_lists(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MAX_ROOMS", 1)
    await world.enter()
    with pytest.raises(NotAvailable):
        await world.rooms.create(world.request(f"other@{SERVER}"))
    world.invite(f"other@{SERVER}", BOB)
    assert world.announced == []
    for number in range(rooms.MAX_LISTS):
        await world.rooms.create(list_request(f"m{number}.test"))
    with pytest.raises(NotAvailable):
        await world.rooms.create(list_request())
    for wrong in ("@", "a@b.test", "b.test/c"):
        with pytest.raises(InvalidArgument):
            await world.rooms.ensure(list_request(wrong))
