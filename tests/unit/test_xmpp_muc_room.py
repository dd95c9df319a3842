"""One room as we see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import XML, Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import muc, muc_room
from telepathy_e2e.xmpp.markup import CLIENT
from telepathy_e2e.xmpp.messages import Delay, Message
from telepathy_e2e.xmpp.muc import Destroyed, Extension
from telepathy_e2e.xmpp.muc_room import (
    Became,
    Came,
    Departure,
    Joined,
    Occupant,
    Out,
    Reconfigured,
    Refused,
    Renamed,
    Room,
    Said,
    Send,
    SubjectChanged,
    Went,
)

JID = "room@muc.example.test"
STAMP = datetime(2020, 1, 1, tzinfo=UTC)


def presence(who: str, /, *codes: int, type: str = "", room: str = JID, **item: str) -> Element:
    element = Element(f"{{{CLIENT}}}presence", {"from": f"{room}/{who}" if who else room})
    if type:
        element.set("type", type)
    x = SubElement(element, f"{{{muc.USER}}}x")
    SubElement(x, f"{{{muc.USER}}}item", {"role": "participant", **item})
    for code in codes:
        SubElement(x, f"{{{muc.USER}}}status", code=str(code))
    return element


def error(condition: str, nick: str = "me", text: str = "") -> Element:
    space = "urn:ietf:params:xml:ns:xmpp-stanzas"
    words = f"<text xmlns='{space}'>{text}</text>" if text else ""
    return XML(
        f"<presence xmlns='{CLIENT}' type='error' from='{JID}{'/' if nick else ''}{nick}'>"
        f"<error type='cancel'><{condition} xmlns='{space}'/>{words}</error></presence>"
    )


def inside(*others: str, nick: str = "me") -> Room:
    room = Room(JID, nick)
    room.join()
    for each in others:
        assert room.receive_presence(presence(each)) == []
    assert room.receive_presence(presence(nick, 110)) == [Joined(False, frozenset({110}))]
    return room


def said(room: Room, nick: str = "bob", *codes: int, **more: Any) -> list[muc_room.Event]:
    given = {"from_": f"{JID}/{nick}" if nick else JID, "type": "groupchat", **more}
    return room.receive_message(Message(**given), Extension(statuses=frozenset(codes)))


# -- coming in ------------------------------------------------------------------------------


def test_joining_is_over_when_our_own_presence_comes() -> None:
    room = Room(JID, "me")
    stanza = room.join(password="pw", history=5)
    assert stanza.get("to") == f"{JID}/me"
    assert room.receive_presence(presence("bob", affiliation="owner", jid="Bob@x.test/1")) == []
    assert room.state == "joining"
    assert room.receive_presence(presence("me", 110, 201, 100)) == [
        Joined(True, frozenset({110, 201, 100}))
    ]
    assert room.state == "in"
    assert list(room.occupants) == ["bob", "me"]
    assert room.occupants["bob"] == Occupant("bob", "owner", "participant", "bob@x.test")
    assert room.me.role == "participant"


def test_old_servers_do_not_say_which_presence_is_ours() -> None:
    room = Room(JID, "me")
    room.join()
    assert room.receive_presence(presence("me")) == [Joined(False, frozenset())]


def test_a_room_may_give_us_another_nick() -> None:
    room = Room(JID, "me")
    room.join()
    room.receive_presence(presence("assigned", 110, 210))
    assert room.nick == "assigned"
    assert room.me.nick == "assigned"


def test_a_nick_that_is_taken_gets_a_tail_a_few_times() -> None:
    room = Room(JID, "me")
    room.join(password="pw")
    for number in range(1, muc_room.MAX_NICKS_TRIED + 1):
        (event,) = room.receive_presence(error("conflict", room.nick))
        assert isinstance(event, Send)
        assert event.stanza.get("to") == f"{JID}/me" + "_" * number
        assert event.stanza.findtext(f"{{{muc.MUC}}}x/{{{muc.MUC}}}password") == "pw"
    assert room.receive_presence(error("conflict", room.nick)) == [Refused("conflict", "")]
    assert room.state == "out"


def test_a_nick_that_is_as_long_as_can_be_gets_no_tail() -> None:
    room = Room(JID, "m" * muc_room.MAX_NICK)
    room.join()
    assert room.receive_presence(error("conflict", room.nick)) == [Refused("conflict", "")]


@pytest.mark.parametrize("nick", ["me", ""])
def test_an_error_is_the_end_of_joining(nick: str) -> None:
    room = Room(JID, "me")
    room.join()
    assert room.receive_presence(error("forbidden", "somebody")) == []
    assert room.receive_presence(error("forbidden", nick, "No")) == [Refused("forbidden", "No")]
    assert room.receive_presence(presence("me", 110)) == []


def test_the_end_of_an_earlier_visit_is_not_the_end_of_this_one() -> None:
    room = Room(JID, "me")
    room.join()
    assert room.receive_presence(presence("me", 110, type="unavailable", role="none")) == []
    assert room.state == "joining"
    assert isinstance(room.receive_presence(presence("me", 110))[0], Joined)


def test_who_is_thrown_out_while_coming_in_is_out() -> None:
    room = Room(JID, "me")
    room.join()
    (event,) = room.receive_presence(presence("me", 110, 301, type="unavailable"))
    assert event == Out(Departure.BANNED, "", "")


def test_who_changes_or_goes_while_we_come_in_is_shown_as_he_is_then() -> None:
    room = Room(JID, "me")
    room.join()
    for each in ("a", "b"):
        room.receive_presence(presence(each))
    room.receive_presence(presence("a", type="unavailable"))
    room.receive_presence(presence("b", 303, type="unavailable", nick="c"))
    room.receive_presence(presence("c"))
    room.receive_presence(presence("me", 110))
    assert list(room.occupants) == ["c", "me"]


def test_presences_of_other_rooms_are_refused_and_of_none_ignored() -> None:
    room = inside()
    with pytest.raises(PeerError):
        room.receive_presence(presence("bob", room="other@muc.example.test"))
    with pytest.raises(PeerError):
        room.receive_presence(Element("presence"))
    assert room.receive_presence(presence("")) == []
    assert room.receive_presence(presence("bob", type="subscribe")) == []
    assert Room(JID, "me").receive_presence(presence("bob")) == []


# -- others ---------------------------------------------------------------------------------


def test_occupants_come_change_and_go() -> None:
    room = inside()
    bob = Occupant("bob", "none", "participant")
    assert room.receive_presence(presence("bob")) == [Came(bob)]
    assert room.receive_presence(presence("bob")) == []
    after = Occupant("bob", "none", "visitor", "b@x.test")
    assert room.receive_presence(presence("bob", role="visitor", jid="b@x.test/1")) == [
        Became(bob, after)
    ]
    assert room.receive_presence(presence("bob", type="unavailable")) == [
        Went(after, Departure.LEFT, "", "")
    ]
    assert room.receive_presence(presence("bob", type="unavailable")) == []
    assert list(room.occupants) == ["me"]


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ((301,), Departure.BANNED),
        ((307,), Departure.KICKED),
        ((307, 333), Departure.FAILED),
        ((321,), Departure.REMOVED),
        ((322,), Departure.REMOVED),
        ((332,), Departure.SHUTDOWN),
        ((), Departure.LEFT),
    ],
)
def test_why_somebody_went_is_said(codes: tuple[int, ...], why: Departure) -> None:
    inner = "<d><actor nick='boss'/><reason>Because</reason></d>"
    wrapped = XML(inner.replace("<d>", f"<d xmlns='{muc.USER}'>"))
    for nick in ("bob", "me"):
        room = inside("bob")
        stanza = presence(nick, *codes, type="unavailable", role="none")
        item = stanza.find(f"{{{muc.USER}}}x/{{{muc.USER}}}item")
        assert item is not None
        item.extend(wrapped)
        (event,) = room.receive_presence(stanza)
        if nick == "bob":
            assert isinstance(event, Went)
            assert (event.occupant.nick, event.why) == ("bob", why)
            assert room.state == "in"
        else:
            assert isinstance(event, Out)
            assert event.why is why
            assert room.state == "out"
            assert room.occupants == {}
            assert room.receive_presence(presence("bob")) == []
        assert (event.actor, event.reason) == ("boss", "Because")


def test_a_destroyed_room_is_left_for_another() -> None:
    room = inside()
    stanza = presence("me", type="unavailable")
    x = stanza.find(f"{{{muc.USER}}}x")
    assert x is not None
    x.append(XML(f"<destroy xmlns='{muc.USER}' jid='new@m.test'><reason>Moved</reason></destroy>"))
    assert room.receive_presence(stanza) == [
        Out(Departure.DESTROYED, "", "Moved", Destroyed("new@m.test", "Moved"))
    ]


def test_the_message_of_who_goes_is_his_reason() -> None:
    room = inside("bob")
    stanza = presence("bob", type="unavailable")
    SubElement(stanza, f"{{{CLIENT}}}status").text = "Bye"
    assert room.receive_presence(stanza)[0].reason == "Bye"  # type: ignore[attr-defined]


def test_a_new_nick_is_one_change() -> None:
    room = inside("bob")
    assert room.receive_presence(presence("bob", 303, type="unavailable", nick="rob")) == []
    (event,) = room.receive_presence(presence("rob"))
    assert event == Renamed(
        Occupant("bob", "none", "participant"), Occupant("rob", "none", "participant"), False
    )
    assert set(room.occupants) == {"me", "rob"}


def test_our_own_new_nick_is_ours() -> None:
    room = inside("bob")
    room.receive_presence(presence("me", 110, 303, type="unavailable", nick="I"))
    assert room.state == "in"
    (event,) = room.receive_presence(presence("I", 110))
    assert isinstance(event, Renamed)
    assert event.ours
    assert room.nick == room.me.nick == "I"


def test_a_nick_of_two_programs_is_one_occupant() -> None:
    room = inside("a", "b")
    room.receive_presence(presence("a", 303, type="unavailable", nick="b"))
    went, renamed = room.receive_presence(presence("b"))
    assert isinstance(went, Went)
    assert isinstance(renamed, Renamed)
    assert set(room.occupants) == {"me", "b"}


def test_promises_of_new_nicks_are_kept_once_each() -> None:
    room = inside("bob")
    for number in range(1_000):
        room.receive_presence(presence("bob", 303, type="unavailable", nick=f"n{number}"))
    assert len(room._renaming) == 1
    for number in range(1_000):
        room.receive_presence(presence(f"x{number}"))
        room.receive_presence(presence(f"x{number}", 303, type="unavailable", nick="never"))
        room.receive_presence(presence(f"x{number}", type="unavailable"))
    assert len(room._renaming) <= 2


@pytest.mark.parametrize("joining", [False, True])
def test_a_room_is_never_too_full_for_us(joining: bool) -> None:
    room = Room(JID, "me") if joining else inside()
    if joining:
        room.join()
    told = [
        room.receive_presence(presence(f"n{number}"))
        for number in range(muc_room.MAX_OCCUPANTS + 100)
    ]
    if joining:
        assert not any(told)
        assert isinstance(room.receive_presence(presence("me", 110))[0], Joined)
    else:
        assert sum(map(len, told)) == len(room.occupants) - 1
    assert muc_room.MAX_OCCUPANTS - 1 <= len(room.occupants) <= muc_room.MAX_OCCUPANTS
    assert room.receive_presence(presence("one more")) == []
    assert "me" in room.occupants
    # Who has left makes room.
    room.receive_presence(presence("n0", type="unavailable"))
    room.receive_presence(presence("n1", type="unavailable"))
    assert isinstance(room.receive_presence(presence("one more"))[0], Came)


def test_what_occupants_say_of_themselves_is_bounded() -> None:
    room = inside()
    stanza = presence("bob")
    SubElement(stanza, f"{{{CLIENT}}}show").text = "x" * 10_000
    SubElement(stanza, f"{{{CLIENT}}}status").text = "x" * 10_000
    room.receive_presence(stanza)
    assert room.occupants["bob"].show == ""
    assert len(room.occupants["bob"].status) == muc_room.MAX_STATUS


# -- messages -------------------------------------------------------------------------------


def test_messages_say_whose_they_are_and_from_when() -> None:
    room = inside("bob")
    (live,) = said(room, body="Hello")
    assert isinstance(live, Said)
    assert (live.nick, live.stamp, live.ours) == ("bob", None, False)
    (own,) = said(room, "me", body="Hello")
    assert isinstance(own, Said)
    assert own.ours
    (old,) = said(room, body="Hello", delays=(Delay(STAMP, JID),))
    assert isinstance(old, Said)
    assert old.stamp == STAMP


def test_only_the_room_says_that_something_is_history() -> None:
    room = inside("bob")
    for by in ("", f"{JID}/bob", "bob@x.test"):
        (event,) = said(room, body="Hello", delays=(Delay(STAMP, by),))
        assert isinstance(event, Said)
        assert event.stamp is None


def test_a_subject_comes_without_a_text() -> None:
    room = inside("bob")
    assert said(room, subject="Tea", id="i", delays=(Delay(STAMP, JID),)) == [
        SubjectChanged("Tea", "bob", STAMP, "i")
    ]
    assert said(room, "", subject="") == [SubjectChanged("", "", None, "")]
    (event,) = said(room, subject="Tea", body="and cake")
    assert isinstance(event, Said)
    assert event.message.subject is None
    said(room, subject="x" * (muc_room.MAX_SUBJECT + 1))
    assert len(room.subject) == muc_room.MAX_SUBJECT


def test_only_the_room_says_that_it_is_another_now() -> None:
    room = inside("bob")
    assert said(room, "", 104, 172, 999) == [Reconfigured(frozenset({104, 172}))]
    assert said(room, "", 104, type="normal") == [Reconfigured(frozenset({104}))]
    assert said(room, "bob", 104) == []


def test_messages_from_elsewhere_are_refused() -> None:
    room = inside()
    with pytest.raises(PeerError):
        said(room, from_="bob@x.test/1", body="Hello")
    assert said(room, "bob", type="chat", body="Hello") == []
    room.leave()
    assert said(room, body="Hello") == []


# -- whatever comes -------------------------------------------------------------------------

NICKS = st.sampled_from(["me", "a", "b", "c", "me_", ""])
CODES = st.lists(st.sampled_from([110, 201, 210, 301, 303, 307, 321, 332, 333]), max_size=3)


class AnyRoom(RuleBasedStateMachine):
    """Whatever a room sends, what we show stays consistent with what we were told."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(JID, "me")
        self.shown: set[str] | None = None

    @rule()
    def join(self) -> None:
        if self.room.state == "out":
            self.room.join()
            self.shown = None

    @rule(nick=NICKS, codes=CODES, type=st.sampled_from(["", "unavailable"]), new=NICKS)
    def hear(self, nick: str, codes: list[int], type: str, new: str) -> None:
        self.follow(self.room.receive_presence(presence(nick, *codes, type=type, nick=new)))

    @rule(nick=NICKS, condition=st.sampled_from(["conflict", "forbidden"]))
    def fail(self, nick: str, condition: str) -> None:
        self.follow(self.room.receive_presence(error(condition, nick)))

    def follow(self, events: list[muc_room.Event]) -> None:
        for event in events:
            match event:
                case Joined():
                    self.shown = set(self.room.occupants)
                case Came(occupant):
                    assert self.shown is not None
                    assert occupant.nick not in self.shown
                    self.shown.add(occupant.nick)
                case Went(occupant):
                    assert self.shown is not None
                    self.shown.remove(occupant.nick)
                case Renamed(before, after):
                    assert self.shown is not None
                    self.shown.remove(before.nick)
                    assert after.nick not in self.shown
                    self.shown.add(after.nick)
                case Out() | Refused():
                    self.shown = None

    @invariant()
    def consistent(self) -> None:
        if self.room.state == "in":
            assert self.shown == set(self.room.occupants)
            assert self.room.nick in self.room.occupants
        assert len(self.room._renaming) <= len(self.room.occupants)


TestAnyRoom = AnyRoom.TestCase


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_presence_raises_anything_but_a_peer_error(sender: str, nick: str) -> None:
    room = inside()
    stanza = presence("x", nick=nick)
    stanza.set("from", f"{JID}/{sender}")
    try:
        room.receive_presence(stanza)
    except PeerError:
        return
