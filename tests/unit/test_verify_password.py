"""The password method, for both roles and both starters (xtls-wire, section 5)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, NotAvailable, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.ceremony import (
    MAX_PEER_STARTS,
    TIMEOUT,
    CeremonyEnded,
    Event,
    Outcome,
    PeerStarted,
    V,
)
from telepathy_e2e.verify.pake import SUITE
from telepathy_e2e.verify.tries import MAX_TRIES_PER_CONTACT, ContactTries
from tests.unit.verify_support import SECRET, Side, compare, element, names, of, one, pair, sent

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "xtls.json").read_text())
LOW_ORDER = [
    base64.b64encode(bytes.fromhex(each)).decode() for each in VECTORS["cpace_refused_shares"]
]
TAG = base64.b64encode(b"t" * 64).decode()
SHARE = base64.b64encode(b"\x09" + bytes(31)).decode()


@pytest.fixture(params=list(Role), ids=lambda role: f"{role} starts")
def starter(request: pytest.FixtureRequest) -> Side:
    role: Role = request.param
    return Side(role)


@pytest.fixture
def other(starter: Side) -> Side:
    return Side(starter.role.other)


def ended(outcome: str, reason: str, *, spent: bool = False) -> CeremonyEnded:
    return CeremonyEnded(Outcome(outcome), "password", reason, spent)


def cancels(events: list[Event]) -> list[tuple[str | None, str | None]]:
    return [(e.get("id"), e.get("reason")) for e in sent(events) if e.tag == f"{{{V}}}cancel"]


def start_of_peer(side: Side, ceremony: str = "p1", share: str = SHARE) -> list[Event]:
    return side.hear(element("pake-start", share, id=ceremony, suite=SUITE))


def replied(starter: Side, other: Side, secret: str = SECRET) -> list[Event]:
    """Up to the reply, which is on its way."""
    other.hear(one(starter.password()))
    return other.password(secret)


VERIFIED = ended("verified", "", spent=True)
WRONG = ended("failed", "wrong-password", spent=True)


# -- the ordinary course ----------------------------------------------------------------------


def test_the_same_password_verifies_both(starter: Side, other: Side) -> None:
    start = starter.password()
    assert names(start) == ["pake-start"]
    assert one(start).get("suite") == "CPACE-X25519-SHA512"
    assert other.hear(one(start)) == [PeerStarted("password")]
    reply = other.password(" open sesame\n")
    assert names(reply) == ["pake-reply"]
    assert other.tries.failed == 1, "spent until it ends well"
    confirm = starter.hear(one(reply))
    assert names(confirm) == ["pake-confirm", "CeremonyEnded"]
    assert confirm[-1] == VERIFIED
    assert other.hear(one(confirm)) == [VERIFIED]
    assert starter.tries.failed == other.tries.failed == 0
    for side in (starter, other):
        assert side.machine.deadline() is None


def test_a_wrong_password_is_a_failed_try_on_both_sides(starter: Side, other: Side) -> None:
    reply = one(replied(starter, other, "open barley"))
    events = starter.hear(reply)
    assert names(events) == ["cancel", "CeremonyEnded"]
    assert cancels(events) == [(reply.get("id"), "wrong-password")]
    assert events[-1] == WRONG
    assert other.hear(one(events)) == [WRONG]
    assert starter.tries.failed == other.tries.failed == 1


def test_a_wrong_confirmation_is_a_failed_try(starter: Side, other: Side) -> None:
    reply = one(replied(starter, other))
    events = other.hear(element("pake-confirm", TAG, id=reply.get("id", "")))
    assert cancels(events) == [(reply.get("id"), "wrong-password")]
    assert events[-1] == WRONG
    assert other.tries.failed == 1


def test_nothing_goes_back_before_this_user_has_typed(starter: Side, other: Side) -> None:
    other.hear(one(starter.password()))
    assert sent(other.said) == []
    assert starter.tries.failed == other.tries.failed == 0


def test_after_one_run_another_may_follow_in_the_other_direction(
    starter: Side, other: Side
) -> None:
    starter.hear(one(replied(starter, other, "typo")))
    other.hear(sent(starter.said)[-1])
    confirm = other.hear(one(replied(other, starter)))
    starter.hear(one(confirm))
    assert starter.ends == other.ends == [WRONG, VERIFIED]
    assert starter.tries.failed == other.tries.failed == 1


def test_a_string_and_a_password_may_follow_each_other(starter: Side, other: Side) -> None:
    compare(starter, other)
    starter.confirm(True)
    other.confirm(True)
    confirm = starter.hear(one(replied(starter, other)))
    other.hear(one(confirm))
    for side in (starter, other):
        assert [(e.method, str(e.outcome)) for e in side.ends] == [
            ("sas", "verified"),
            ("password", "verified"),
        ]


def test_the_last_message_may_be_lost_then_only_the_starter_knows(
    starter: Side, other: Side
) -> None:
    """No protocol can help that. What the starter holds is true, and what the other lacks is a
    failed try for him, which can be repeated."""
    starter.hear(one(replied(starter, other)))
    assert starter.ends == [VERIFIED]
    events = other.tick(TIMEOUT)
    assert other.ends == [ended("failed", "timeout", spent=True)]
    assert starter.hear(one(events)) == []
    assert starter.ends == [VERIFIED]
    starter.hear(one(other.hear(one(replied(other, starter)))))
    assert other.ends[-1] == VERIFIED


# -- tries ------------------------------------------------------------------------------------


def test_a_reply_spends_a_try_when_it_is_sent_and_when_it_comes(starter: Side, other: Side) -> None:
    other.hear(one(starter.password()))
    assert (starter.tries.failed, other.tries.failed) == (0, 0)
    reply = one(other.password())
    assert (starter.tries.failed, other.tries.failed) == (0, 1)
    starter.hear(element("pake-reply", SHARE, id=reply.get("id", ""), tag=TAG))
    assert (starter.tries.failed, other.tries.failed) == (1, 1)


ENDINGS: dict[str, Callable[[Side, str], object]] = {
    "refused": lambda side, i: side.hear(element("cancel", id=i, reason="refused")),
    "error": lambda side, i: side.hear(element("cancel", id=i, reason="error")),
    "timeout": lambda side, i: side.tick(TIMEOUT),
    "gap": lambda side, i: side.disturb(),
    "out-of-place": lambda side, i: side.hear(element("pake-reply", SHARE, id=i, tag=TAG)),
    "wrong-password": lambda side, i: side.hear(element("pake-confirm", TAG, id=i)),
    "cancelled": lambda side, i: side._note(side.machine.cancel(0)),
    "the end": lambda side, i: side._note(side.machine.abandon("the end", 0)),
}


@pytest.mark.parametrize("reason", ENDINGS)
def test_whatever_ends_it_after_the_reply_but_success_is_a_failed_try(
    starter: Side, other: Side, reason: str
) -> None:
    reply = one(replied(starter, other))
    ENDINGS[reason](other, reply.get("id", ""))
    assert other.ends == [ended("failed", reason, spent=True)]
    assert other.tries.failed == 1
    assert other.machine.deadline() is None


def test_busy_ends_nothing_after_the_reply(starter: Side, other: Side) -> None:
    reply = one(replied(starter, other))
    assert other.hear(element("cancel", id=reply.get("id", ""), reason="busy")) == []
    other.hear(one(starter.hear(reply)))
    assert other.ends == [VERIFIED]


def test_three_replies_without_success_close_both_methods_for_the_session(starter: Side) -> None:
    side = starter
    for number in range(3):
        start_of_peer(side, str(number))
        assert names(side.password()) == ["pake-reply"]
        side.hear(element("cancel", id=str(number), reason="refused"))
    assert cancels(start_of_peer(side, "more")) == [("more", "refused")]
    for begin in (side.password, side.start):
        with pytest.raises(NotAvailable, match="too often"):
            begin()


def test_tries_of_both_methods_are_counted_together(starter: Side, other: Side) -> None:
    compare(starter, other)
    starter.tick(TIMEOUT)
    for number in range(2):
        start_of_peer(starter, str(number))
        starter.password()
        starter.disturb()
    with pytest.raises(NotAvailable):
        starter.start()


def test_a_starter_whose_day_was_used_up_meanwhile_looks_at_no_reply(starter: Side) -> None:
    contacts = ContactTries()
    side = Side(starter.role, contacts=contacts)
    peer = Side(starter.role.other)
    peer.hear(one(side.password()))
    account = f"{side.role}@me"
    for _ in range(MAX_TRIES_PER_CONTACT):
        contacts.spend(account, "contact@example.org", 0)
    events = side.hear(one(peer.password()))
    assert names(events) == ["cancel", "CeremonyEnded"]
    assert side.ends == [ended("failed", "tries")]


def test_who_has_no_try_left_may_not_answer(starter: Side) -> None:
    contacts = ContactTries()
    side = Side(starter.role, contacts=contacts)
    start_of_peer(side)
    for _ in range(MAX_TRIES_PER_CONTACT):
        contacts.spend(f"{side.role}@me", "contact@example.org", 0)
    with pytest.raises(NotAvailable, match="Too many"):
        side.password()
    assert sent(side.said) == []


def test_starts_that_are_taken_back_are_bounded(starter: Side) -> None:
    for i in range(MAX_PEER_STARTS):
        assert start_of_peer(starter, str(i)) == [PeerStarted("password")]
        starter.hear(element("cancel", id=str(i), reason="refused"))
    assert cancels(start_of_peer(starter, "more")) == [("more", "refused")]
    assert starter.tries.failed == 0


def test_before_the_reply_nobody_is_told_of_a_wrong_password(starter: Side) -> None:
    start_of_peer(starter)
    starter.hear(element("cancel", id="p1", reason="wrong-password"))
    assert starter.ends == [ended("failed", "error")]


# -- shares -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_share_of_low_order_ends_it_before_anything_goes_out(starter: Side, share: str) -> None:
    assert start_of_peer(starter, share=share) == [PeerStarted("password")]
    events = starter.password()
    assert names(events) == ["cancel", "Reported", "CeremonyEnded"]
    assert cancels(events) == [("p1", "error")]
    assert starter.ends == [ended("failed", "bad-share")]
    assert starter.tries.failed == 0


@pytest.mark.parametrize("share", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_reply_of_low_order_is_a_failed_try(starter: Side, share: str) -> None:
    own = one(starter.password()).get("id", "")
    events = starter.hear(element("pake-reply", share, id=own, tag=TAG))
    assert names(events) == ["cancel", "Reported", "CeremonyEnded"]
    assert cancels(events) == [(own, "error")]
    assert starter.ends == [ended("failed", "bad-share", spent=True)]


def test_our_own_share_is_no_reply(starter: Side) -> None:
    own = one(starter.password())
    events = starter.hear(element("pake-reply", own.text, id=own.get("id", ""), tag=TAG))
    assert starter.ends == [ended("failed", "bad-share", spent=True)]
    assert "pake-confirm" not in names(events)


def test_our_own_start_sent_back_is_none_of_the_peers(starter: Side) -> None:
    own = one(starter.password())
    events = starter.hear(own)
    assert cancels(events) == [(own.get("id"), "error")]
    assert starter.ends == [ended("failed", "out-of-place")]
    # ... and not later either.
    assert cancels(starter.hear(own)) == [(own.get("id"), "error")]


def test_our_own_share_and_tag_through_a_second_ceremony_verify_nobody() -> None:
    """The responder answers a start that crossed its own; its answer comes back twice."""
    victim = Side(Role.RESPONDER)
    own = one(victim.password())
    reply = one(victim.hear(element("pake-start", own.text, id="second", suite=SUITE)))
    assert reply.get("id") == "second"
    first = element("pake-reply", reply.text, id=own.get("id", ""), tag=reply.get("tag", ""))
    assert victim.hear(first) == []
    events = victim.hear(element("pake-confirm", reply.get("tag"), id="second"))
    assert events[-1] == WRONG


def test_a_relay_between_two_tls_sessions_verifies_nobody(starter: Side) -> None:
    far = Side(starter.role.other, binding=b"another TLS session, other key.."[:32])
    far.hear(one(starter.password()))
    events = starter.hear(one(far.password()))
    assert starter.ends == [WRONG]
    far.hear(one(events))
    assert far.ends == [WRONG]


# -- starts that cross ------------------------------------------------------------------------


def test_when_starts_cross_the_initiators_counts_and_each_password_is_the_answer() -> None:
    initiator, responder = pair()
    first, second = one(initiator.password()), one(responder.password())
    assert initiator.hear(second) == []
    reply = responder.hear(first)
    assert names(reply) == ["pake-reply"]
    assert one(reply).get("id") == first.get("id")
    responder.hear(one(initiator.hear(one(reply))))
    assert initiator.ends == responder.ends == [VERIFIED]


def test_when_starts_cross_with_different_passwords_both_see_a_failed_try() -> None:
    initiator, responder = pair()
    first = one(initiator.password("one"))
    responder.password("two")
    responder.hear(one(initiator.hear(one(responder.hear(first)))))
    assert initiator.ends == responder.ends == [WRONG]


def test_when_methods_cross_the_responder_is_asked_for_the_initiators() -> None:
    for begin, answer, method in (
        (Side.start, Side.password, "sas"),
        (Side.password, Side.start, "password"),
    ):
        initiator, responder = pair()
        first = one(begin(initiator))
        answer(responder)
        events = responder.hear(first)
        assert names(events) == ["CeremonyEnded", "PeerStarted"]
        assert responder.ends[-1].reason == "crossed"
        assert events[-1] == PeerStarted(method)


def test_a_crossing_start_of_low_order_gets_no_answer() -> None:
    responder = Side(Role.RESPONDER)
    responder.password()
    events = start_of_peer(responder, share=LOW_ORDER[0])
    assert cancels(events) == [("p1", "error")]
    assert responder.ends == [ended("failed", "bad-share")]


def test_another_start_is_told_busy_and_ends_nothing(starter: Side, other: Side) -> None:
    reply = one(replied(starter, other))
    for name in ("pake-start", "sas-commit"):
        start = element(name, SHARE, id="new", suite=SUITE)
        assert cancels(other.hear(start)) == [("new", "busy")]
        for begin in (other.password, other.start):
            with pytest.raises(NotAvailable, match="running"):
                begin()
    other.hear(one(starter.hear(reply)))
    assert other.ends == [VERIFIED]


def test_who_is_asked_for_one_method_cannot_begin_another(starter: Side, other: Side) -> None:
    other.hear(one(starter.password()))
    with pytest.raises(NotAvailable, match="running"):
        other.start()
    with pytest.raises(NotAvailable):
        other.confirm(True)
    starter, other = Side(starter.role), Side(other.role)
    other.hear(one(starter.start()))
    with pytest.raises(NotAvailable, match="running"):
        other.password()


# -- out of place, time -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pake-confirm", "sas-nonce", "sas-result", "sas-whatever"])
def test_a_message_out_of_place_ends_it(starter: Side, name: str) -> None:
    own = one(starter.password()).get("id", "")
    content = {"pake-confirm": TAG, "sas-nonce": SHARE}.get(name)
    starter.hear(element(name, content, id=own, match="false"))
    assert starter.ends == [ended("failed", "out-of-place")]


def test_a_second_reply_finds_nothing(starter: Side, other: Side) -> None:
    reply = one(replied(starter, other))
    starter.hear(reply)
    assert starter.hear(reply) == []
    assert starter.ends == [VERIFIED]
    assert starter.tries.failed == 0


def test_there_is_a_minute_to_type_and_a_minute_to_confirm(starter: Side, other: Side) -> None:
    start = one(starter.password(now=100))
    other.hear(start, 100)
    assert starter.machine.deadline() == other.machine.deadline() == 160
    other.password(now=159)
    assert other.machine.deadline() == 159 + TIMEOUT
    assert cancels(starter.tick(160)) == [(start.get("id"), "timeout")]
    assert starter.ends == [ended("failed", "timeout")]
    assert starter.tries.failed == 0


def test_a_late_answer_finds_nothing_to_answer(starter: Side, other: Side) -> None:
    other.hear(one(starter.password()))
    events = other.password(now=TIMEOUT)
    assert names(events) == ["cancel", "CeremonyEnded"]
    assert names(other.password(now=TIMEOUT)) == ["pake-start"]


def test_another_suite_is_refused_whatever_it_holds(starter: Side) -> None:
    for number, suite in enumerate(("CPACE-P256_XMD:SHA-256_SSWU_NU_-SHA256", "", SUITE.lower())):
        start = element("pake-start", "whatever", id=str(number), suite=suite)
        assert cancels(starter.hear(start)) == [(str(number), "refused")]


def test_who_cannot_is_not_asked(starter: Side) -> None:
    side = Side(starter.role, ("sas",))
    with pytest.raises(NotAvailable):
        side.password()
    assert cancels(start_of_peer(side)) == [("p1", "refused")]


# -- passwords --------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["", "  ", "x" * 1025])
def test_what_is_no_password_changes_nothing(starter: Side, other: Side, empty: str) -> None:
    with pytest.raises(InvalidArgument):
        starter.password(empty)
    assert starter.machine.deadline() is None
    other.hear(one(starter.password()))
    with pytest.raises(InvalidArgument):
        other.password(empty)
    assert names(other.password()) == ["pake-reply"]


def held(side: Side) -> bool:
    """Whether anything that can be reached from the machine still holds the password."""
    seen: set[int] = set()
    todo: list[object] = [side.machine]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, bytes) and SECRET.encode() in each:
            return True
        if isinstance(each, str) and SECRET in each:
            return True
        if isinstance(each, dict):
            todo += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            todo += each
        else:
            todo += list(getattr(each, "__dict__", {}).values())
            todo += [getattr(each, slot, None) for slot in getattr(each, "__slots__", ())]
    return False


def test_the_password_is_held_no_longer_than_needed(starter: Side, other: Side) -> None:
    start = one(starter.password())
    # A responder whose start may cross the initiator's answers that with it.
    assert held(starter) is (starter.role is Role.RESPONDER)
    other.hear(start)
    reply = one(other.password())
    assert not held(other)
    starter.hear(reply)
    assert not held(starter)
    for end in (Side.disturb, lambda side: side.tick(TIMEOUT)):
        again = Side(starter.role)
        again.password()
        end(again)
        again.tick(TIMEOUT)
        assert not held(again)


def test_the_password_is_in_nothing_that_is_shown(starter: Side, other: Side) -> None:
    start = starter.password()
    run = starter.machine._run
    assert run is not None
    other.hear(one(start))
    shown = [repr(each) for each in (starter.machine, run, run._session, *start)]
    shown += [repr(each) for each in other.password()]
    with pytest.raises(NotAvailable) as caught:
        other.password()
    assert SECRET not in "".join(shown) + str(caught.value)


PIECES = st.sampled_from(["pake-start", "pake-reply", "pake-confirm", "cancel", "sas-result"])


@given(
    role=st.sampled_from(list(Role)),
    spoken=st.lists(
        st.tuples(
            PIECES,
            st.sampled_from(["p1", "own"]),
            st.one_of(st.sampled_from([SHARE, TAG, *LOW_ORDER]), st.text(max_size=90), st.none()),
            st.one_of(st.sampled_from([TAG, SHARE]), st.text(max_size=90)),
            st.booleans(),
        ),
        max_size=8,
    ),
)
def test_nothing_that_a_stranger_says_verifies_him(
    role: Role, spoken: list[tuple[str, str, str | None, str, bool]]
) -> None:
    """No bytes of a peer raise anything but PeerError, and none of it is success."""
    side = Side(role)
    for name, which, content, tag, types in spoken:
        own = next((e.get("id", "") for e in sent(side.said)), "own")
        made = element(name, content, id=own if which == "own" else which, tag=tag, suite=SUITE)
        try:
            side.hear(made)
        except PeerError:
            side.disturb()
        if types:
            try:
                side.password()
            except NotAvailable:
                continue
    assert all(end.outcome is Outcome.FAILED for end in of(side.said, CeremonyEnded))
    spent = [end for end in side.ends if end.spent]
    assert len(spent) <= side.tries.failed <= len(spent) + 1
