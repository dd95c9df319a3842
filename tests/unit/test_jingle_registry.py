from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import registry
from telepathy_e2e.jingle.events import Accepted, Initiated, Terminated
from telepathy_e2e.jingle.registry import (
    MAX_PER_PEER,
    MAX_PER_STRANGER,
    MAX_SESSIONS,
    MAX_STRANGERS,
    Sessions,
)
from telepathy_e2e.jingle.session import Session
from telepathy_e2e.jingle.stanzas import Action, Content, Jingle, parse
from telepathy_e2e.jingle.states import State
from telepathy_e2e.role import Role

from .jingle_support import ALICE, BOB, content, jingles

RTP = "urn:xmpp:jingle:apps:rtp:1"


def offer(sid: str, offered: Content | None = None) -> Jingle:
    return Jingle(Action.SESSION_INITIATE, sid, (offered or content(),))


def receive(
    sessions: Sessions, jingle: Jingle, peer: str = BOB, *, in_roster: bool = True
) -> Session:
    return sessions.receive(peer, jingle, own=ALICE, in_roster=in_roster)[0]


def refused(
    sessions: Sessions, jingle: Jingle, peer: str = BOB, *, in_roster: bool = True
) -> tuple[str, str | None]:
    before = len(sessions)
    with pytest.raises(PeerError) as caught:
        receive(sessions, jingle, peer, in_roster=in_roster)
    assert len(sessions) == before
    return caught.value.condition, caught.value.jingle


def own_offer(sessions: Sessions, sid: str, offered: Content | None = None) -> Session:
    session = Session(Role.INITIATOR, ALICE, BOB, sid)
    session.initiate(offered or content())
    sessions.add(session)
    return session


FULL = ("resource-constraint", None)
TIE_BREAK = ("conflict", "tie-break")


def test_an_offer_makes_a_session_for_which_later_stanzas_are() -> None:
    sessions = Sessions()
    session, (initiated,) = sessions.receive(BOB, offer("s"), own=ALICE, in_roster=True)
    assert isinstance(initiated, Initiated)
    assert (session.role, session.own, session.peer) == (Role.RESPONDER, ALICE, BOB)
    again, (ended,) = sessions.receive(
        BOB, Jingle(Action.SESSION_TERMINATE, "s"), own=ALICE, in_roster=True
    )
    assert again is session
    assert isinstance(ended, Terminated)


def test_an_answer_reaches_our_own_session() -> None:
    sessions = Sessions()
    ours = own_offer(sessions, "s")
    session, (accepted,) = sessions.receive(
        BOB, Jingle(Action.SESSION_ACCEPT, "s", (content(),)), own=ALICE, in_roster=True
    )
    assert session is ours
    assert isinstance(accepted, Accepted)


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.SESSION_INITIATE])
def test_a_stanza_for_no_session_is_answered_so(action: Action) -> None:
    jingle = Jingle(action, "s", (content(),))
    assert refused(Sessions(), jingle) == ("item-not-found", "unknown-session")


def test_the_same_sid_of_two_peers_is_two_sessions() -> None:
    sessions = Sessions()
    one = receive(sessions, offer("s"), "one@example.test/x")
    two = receive(sessions, offer("s"), "two@example.test/x")
    other_client = receive(sessions, offer("s"), "one@example.test/y")
    assert len({one, two, other_client}) == 3
    receive(sessions, Jingle(Action.SESSION_TERMINATE, "s"), "one@example.test/x")
    assert [one.state, two.state] == [State.ENDED, State.PENDING]


def test_nobody_can_speak_in_a_session_of_somebody_else() -> None:
    sessions = Sessions()
    ours = own_offer(sessions, "s")
    accept = Jingle(Action.SESSION_ACCEPT, "s", (content(),))
    assert refused(sessions, accept, "mallory@example.test/x") == (
        "item-not-found",
        "unknown-session",
    )
    assert refused(sessions, accept, "bob@example.test/other")[1] == "unknown-session"
    assert ours.state is State.PENDING


def test_ended_sessions_are_forgotten() -> None:
    sessions = Sessions()
    receive(sessions, offer("s"))
    receive(sessions, Jingle(Action.SESSION_TERMINATE, "s"))
    assert len(sessions) == 0
    assert refused(sessions, Jingle(Action.SESSION_INFO, "s"))[1] == "unknown-session"


def test_a_session_that_we_ended_is_not_found_even_before_it_is_removed() -> None:
    sessions = Sessions()
    session = receive(sessions, offer("s"))
    session.terminate("decline")
    assert sessions.get(BOB, "s") is None
    with pytest.raises(PeerError):
        receive(sessions, Jingle(Action.SESSION_INFO, "s"))
    assert receive(sessions, offer("s")) is not session


def test_removing_twice_is_fine_and_never_removes_a_successor() -> None:
    sessions = Sessions()
    old = receive(sessions, offer("s"))
    old.terminate("decline")
    sessions.remove(old)
    new = receive(sessions, offer("s"))
    sessions.remove(old)
    assert sessions.get(BOB, "s") is new
    assert list(sessions) == [new]


def test_an_offer_under_the_sid_of_a_session_is_out_of_order() -> None:
    sessions = Sessions()
    first = receive(sessions, offer("s"))
    assert refused(sessions, offer("s", content(name="other"))) == (
        "unexpected-request",
        "out-of-order",
    )
    assert first.content_name == "file"


def test_nobody_takes_the_place_of_our_session_by_sending_its_sid_back() -> None:
    for peer_wins_by_jid in (ALICE, BOB):  # whichever JID is lower
        sessions = Sessions()
        ours = Session(Role.INITIATOR, ALICE, peer_wins_by_jid, "s")
        ours.initiate(content())
        sessions.add(ours)
        assert refused(sessions, offer("s"), peer_wins_by_jid) == TIE_BREAK
        assert sessions.get(peer_wins_by_jid, "s") is ours


def test_our_own_sids_are_used_once() -> None:
    sessions = Sessions()
    own_offer(sessions, "s")
    with pytest.raises(ValueError, match="in use"):
        own_offer(sessions, "s")


# -- ties -------------------------------------------------------------------------------------


def test_of_two_equal_offers_that_cross_the_lower_sid_counts() -> None:
    call = content(application=RTP, senders=None)
    sessions = Sessions()
    ours = own_offer(sessions, "m", call)
    assert refused(sessions, offer("n", call)) == TIE_BREAK
    theirs = receive(sessions, offer("b", call))
    assert theirs.state is State.PENDING
    assert ours.state is State.PENDING  # until the peer has refused it
    ours.refused(Action.SESSION_INITIATE)
    assert sessions.get(BOB, "m") is None


def test_both_sides_of_a_tie_keep_the_same_session() -> None:
    call = content(application=RTP, senders="both")
    alice, bob = Sessions(), Sessions()
    a = Session(Role.INITIATOR, ALICE, BOB, "aaa")
    b = Session(Role.INITIATOR, BOB, ALICE, "bbb")
    to_bob, to_alice = a.initiate(call), b.initiate(call)
    alice.add(a)
    bob.add(b)
    survivor, _ = bob.receive(ALICE, to_bob, own=BOB, in_roster=True)
    with pytest.raises(PeerError):
        alice.receive(BOB, to_alice, own=ALICE, in_roster=True)
    b.refused(Action.SESSION_INITIATE)
    assert [session.sid for session in bob if session.state is State.PENDING] == [survivor.sid]
    assert [session.sid for session in alice] == [survivor.sid] == ["aaa"]


def test_sids_are_compared_by_their_octets() -> None:
    call = content(application=RTP)
    for lower, higher in (("Z", "a"), ("10", "9"), ("z", "\u00e9"), ("\uffee", "\U0001f600")):
        sessions = Sessions()
        own_offer(sessions, lower, call)
        mirrored = content(application=RTP, senders="responder")
        assert refused(sessions, offer(higher, mirrored)) == TIE_BREAK


def test_two_files_in_opposite_directions_are_no_tie() -> None:
    sessions = Sessions()
    own_offer(sessions, "a")
    assert receive(sessions, offer("b")).state is State.PENDING


@pytest.mark.parametrize(
    ("ours", "theirs", "tie"),
    [
        ("initiator", "initiator", False),
        ("initiator", "responder", True),
        ("responder", "initiator", True),
        ("both", "both", True),
        (None, "both", True),
        ("both", "initiator", False),
        ("none", "none", True),
    ],
)
def test_a_tie_is_about_the_same_thing_in_the_same_direction(
    ours: str | None, theirs: str | None, tie: bool
) -> None:
    sessions = Sessions()
    own_offer(sessions, "a", content(senders=ours))
    jingle = offer("b", content(senders=theirs))
    if tie:
        assert refused(sessions, jingle) == TIE_BREAK
    else:
        receive(sessions, jingle)


def test_another_application_another_peer_or_a_session_that_runs_is_no_tie() -> None:
    call = content(application=RTP, senders="both")
    sessions = Sessions()
    own_offer(sessions, "a", call)
    receive(sessions, offer("b", content(senders="both")))
    receive(sessions, offer("b", call), "carol@example.test/x")
    receive(sessions, Jingle(Action.SESSION_ACCEPT, "a", (call,)))
    receive(sessions, offer("c", call))


def test_two_offers_of_the_same_peer_are_no_tie() -> None:
    call = content(application=RTP, senders="both")
    sessions = Sessions()
    receive(sessions, offer("a", call))
    receive(sessions, offer("b", call))
    assert len(sessions) == 2


# -- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_roster", "bound"), [(True, MAX_PER_PEER), (False, MAX_PER_STRANGER)])
def test_the_sessions_of_one_peer_are_bounded_over_all_its_clients(
    in_roster: bool, bound: int
) -> None:
    sessions = Sessions()
    for number in range(bound):
        peer = f"bob@example.test/{number % 5}"
        receive(sessions, offer(f"s{number}"), peer, in_roster=in_roster)
    late = offer("late")
    assert refused(sessions, late, "bob@example.test/new", in_roster=in_roster) == FULL
    receive(sessions, offer("s"), "carol@example.test/x", in_roster=in_roster)
    receive(sessions, Jingle(Action.SESSION_TERMINATE, "s0"), "bob@example.test/0")
    receive(sessions, late, "bob@example.test/new", in_roster=in_roster)


def test_our_own_sessions_with_a_peer_do_not_count_as_his() -> None:
    sessions = Sessions()
    for number in range(MAX_PER_PEER):
        own_offer(sessions, f"s{number}")
    receive(sessions, offer("theirs"))


def test_strangers_together_cannot_keep_the_contacts_out() -> None:
    sessions = Sessions()
    for number in range(MAX_STRANGERS):
        receive(sessions, offer("s"), f"stranger{number}@example.test/x", in_roster=False)
    assert refused(sessions, offer("s"), "one@more.test/x", in_roster=False) == FULL
    receive(sessions, offer("s"), BOB, in_roster=True)


def test_sessions_in_all_are_bounded_for_peers_and_not_for_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "MAX_SESSIONS", 10)
    sessions = Sessions()
    for number in range(10):
        receive(sessions, offer("s"), f"contact{number}@example.test/x")
    assert refused(sessions, offer("s"), BOB) == FULL
    own_offer(sessions, "ours")
    assert len(sessions) == 11


def test_the_bounds_leave_room_for_one_another() -> None:
    assert MAX_PER_STRANGER < MAX_PER_PEER < MAX_STRANGERS < MAX_SESSIONS


def test_sessions_that_are_over_take_no_room() -> None:
    sessions = Sessions()
    for number in range(MAX_PER_STRANGER):
        receive(sessions, offer(f"s{number}"), in_roster=False).terminate("decline")
    receive(sessions, offer("s"), in_roster=False)
    assert len(sessions) == 1


def test_a_malformed_offer_makes_no_session() -> None:
    two = Jingle(Action.SESSION_INITIATE, "s", (content(), content(name="two")))
    assert refused(Sessions(), two) == ("feature-not-implemented", None)


@given(st.lists(st.tuples(jingles(), st.sampled_from((BOB, "eve@example.test/x"))), max_size=8))
def test_no_stanza_raises_anything_but_a_peer_error(stanzas: list[tuple[Element, str]]) -> None:
    sessions = Sessions()
    own_offer(sessions, "sid1")
    for stanza, peer in stanzas:
        try:
            session, _ = sessions.receive(peer, parse(stanza), own=ALICE, in_roster=False)
        except PeerError:
            continue
        assert session.peer == peer
        assert (sessions.get(peer, "sid1") is session) == (session.state is not State.ENDED)
