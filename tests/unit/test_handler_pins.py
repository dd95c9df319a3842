"""What follows from what is remembered: every combination, and what holds in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.handler.pins import (
    LEAP_OF_FAITH,
    NO_IDENTITY,
    REJECTED,
    STRICTEST,
    VERIFYING,
    Action,
    Alarm,
    Answer,
    InClear,
    Pin,
    Question,
    Settings,
    UnknownKey,
    after,
    decide,
    is_fingerprint,
)

ALICE, BOB = "alice@example.org", "bob@example.org"
KEY, OLD = (":".join([byte] * 32) for byte in ("AA", "BB"))
FIRST, TODAY = date(2026, 1, 1), date(2026, 1, 2)

REASONS = ("requested", "policy", "continuity", "upgrade", "no-encryption", "of-the-future")
DEMANDED = ("requested", "policy")
SETTINGS = [Settings(*each) for each in product(UnknownKey, InClear)]
# What may be known of one key; () is nothing.
KNOWN = ((), (LEAP_OF_FAITH,), ("sas",), (REJECTED,), ("sas", REJECTED))


def pin(fingerprint: str, *methods: str, seen: date = FIRST) -> Pin:
    return Pin(ALICE, BOB, fingerprint, methods, FIRST, seen)


def question(
    reason: str = "continuity", fingerprint: str | None = KEY, vouched_by: tuple[str, ...] = ()
) -> Question:
    return Question(ALICE, BOB, reason, fingerprint, vouched_by)


def everything() -> Iterator[tuple[Question, list[Pin]]]:
    """All questions with all that may be known of the key, of another one, and of sessions."""
    for reason, fingerprint, vouched in product(
        REASONS, (KEY, NO_IDENTITY, None), ((), (OLD,), (KEY,))
    ):
        for of_key, of_old, session in product(KNOWN, KNOWN, (False, True)):
            pins = [pin(f, *m) for f, m in ((KEY, of_key), (OLD, of_old)) if m]
            pins += [pin(NO_IDENTITY, LEAP_OF_FAITH)] if session else []
            yield question(reason, fingerprint, vouched), pins


CASES = list(everything())
ASK, PROCEED = Answer(Action.ASK), Answer(Action.PROCEED)
TRUST = Settings()


@pytest.mark.parametrize(
    ("reason", "pins", "answer"),
    [
        ("continuity", [], Answer(Action.PROCEED, remember=True)),
        ("continuity", [pin(OLD, LEAP_OF_FAITH)], Answer(Action.PROCEED, "", None, True, True)),
        ("continuity", [pin(NO_IDENTITY, LEAP_OF_FAITH)], Answer(Action.PROCEED, remember=True)),
        ("continuity", [pin(KEY, LEAP_OF_FAITH)], PROCEED),
        ("continuity", [pin(KEY, LEAP_OF_FAITH), pin(OLD, "sas")], PROCEED),
        ("continuity", [pin(KEY, "sas")], Answer(Action.ACCEPT, "pin")),
        ("continuity", [pin(OLD, "sas")], Answer(Action.ASK, alarm=Alarm.CHANGED_KEY)),
        ("continuity", [pin(KEY, REJECTED)], Answer(Action.ASK, alarm=Alarm.REJECTED_KEY)),
        *[(reason, [], ASK) for reason in DEMANDED],
        *[(reason, [pin(KEY, LEAP_OF_FAITH)], ASK) for reason in DEMANDED],
        *[(reason, [pin(KEY, "x509")], Answer(Action.ACCEPT, "pin")) for reason in DEMANDED],
        ("upgrade", [pin(KEY, "sas")], ASK),
        ("upgrade", [pin(OLD, "sas")], Answer(Action.ASK, alarm=Alarm.CHANGED_KEY)),
        ("of-the-future", [pin(KEY, "sas")], ASK),
    ],
)
def test_a_key_is_answered_by_what_is_known_of_it(
    reason: str, pins: list[Pin], answer: Answer
) -> None:
    assert decide(question(reason), pins, TRUST) == answer


@pytest.mark.parametrize(
    ("setting", "action"),
    [
        (InClear.PROCEED, Action.PROCEED),
        (InClear.ASK, Action.ASK),
        (InClear.REJECT, Action.REJECT),
    ],
)
def test_who_never_had_a_key_is_let_through_in_the_clear_as_the_user_says(
    setting: InClear, action: Action
) -> None:
    clear = question("no-encryption", None)
    assert decide(clear, [], Settings(in_the_clear=setting)) == Answer(action)


def test_a_key_that_a_verified_one_signed_is_accepted() -> None:
    asked = question(vouched_by=(OLD,))
    accepted = Answer(Action.ACCEPT, "cross-signature")
    assert decide(asked, [pin(OLD, "sas")], TRUST) == accepted
    assert decide(asked, [pin(OLD, "sas"), pin(KEY, LEAP_OF_FAITH)], TRUST) == accepted
    # Nobody vouches for a key that was rejected; one that nobody verified vouches for none.
    assert decide(asked, [pin(OLD, "sas"), pin(KEY, REJECTED)], TRUST).action is Action.ASK
    assert decide(asked, [pin(OLD, LEAP_OF_FAITH)], TRUST).action is Action.PROCEED
    assert decide(asked, [pin(OLD, "sas", REJECTED)], TRUST).action is Action.PROCEED


@pytest.mark.parametrize("settings", SETTINGS)
def test_in_every_case(settings: Settings) -> None:
    for asked, pins in CASES:
        answer = decide(asked, pins, settings)
        case = asked, pins, answer
        verified = {p.fingerprint for p in pins if "sas" in p.methods and REJECTED not in p.methods}
        rejected = {p.fingerprint for p in pins if REJECTED in p.methods}
        known = {p.fingerprint for p in pins} - rejected - {NO_IDENTITY}
        real = asked.fingerprint not in (None, NO_IDENTITY)
        vouched = real and bool(verified & set(asked.vouched_by))
        in_clear = asked.reason == "no-encryption"
        if answer.action is Action.ACCEPT:
            assert real, case
            assert not in_clear, case
            assert asked.fingerprint not in rejected, case
            assert asked.fingerprint in verified or vouched, case
            assert asked.reason != "upgrade", case
        if verified and asked.fingerprint not in known and not vouched:
            assert answer.action not in (Action.PROCEED, Action.ACCEPT), case
        if asked.fingerprint in rejected and not in_clear:
            assert answer == Answer(Action.ASK, alarm=Alarm.REJECTED_KEY), case
        if asked.reason in DEMANDED:
            assert answer.action in (Action.ACCEPT, Action.ASK), case
        changed = bool(verified) and asked.fingerprint is not None and not in_clear
        changed = changed and asked.fingerprint not in known | rejected and not vouched
        assert (answer.alarm is Alarm.CHANGED_KEY) == changed, case
        assert (answer.alarm is Alarm.DOWNGRADE) == (in_clear and bool(pins)), case
        if in_clear and pins:
            assert answer.action is Action.REJECT, case
        if answer.alarm is not None:
            assert answer.action in (Action.ASK, Action.REJECT), case
        if answer.remember:
            assert answer.action is Action.PROCEED, case
            assert asked.fingerprint not in known | rejected, case
        # No setting takes an alarm away.
        assert answer.alarm == decide(asked, pins, TRUST).alarm, case
        if settings == STRICTEST and answer.action is Action.PROCEED:
            assert asked.fingerprint in known, case


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_memory_that_cannot_be_read_lets_nobody_through(settings: Settings) -> None:
    for asked, _ in CASES:
        assert decide(asked, None, settings) == Answer(Action.ASK, alarm=Alarm.DAMAGED)


# -- what goes on record --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "state", "method", "recorded"),
    [
        ((), "unverified", "", (LEAP_OF_FAITH,)),
        ((), "rejected", "", (REJECTED,)),
        ((), "rejected", "sas", (REJECTED,)),
        ((), "verified", "pin", None),
        ((), "pending", "", None),
        *[((), "verified", method, (method,)) for method in VERIFYING],
        ((LEAP_OF_FAITH,), "verified", "sas", ("sas",)),
        ((LEAP_OF_FAITH,), "rejected", "", (REJECTED,)),
        ((LEAP_OF_FAITH,), "unverified", "", (LEAP_OF_FAITH,)),
        (("sas",), "verified", "password", ("sas", "password")),
        (("sas",), "verified", "sas", ("sas",)),
        (("sas",), "verified", "pin", ("sas",)),
        (("sas",), "unverified", "", ("sas",)),
        # A plain no may have many reasons; a comparison that failed has one.
        (("sas",), "rejected", "", ("sas",)),
        (("sas",), "rejected", "password", (REJECTED,)),
        ((REJECTED,), "unverified", "", (REJECTED,)),
        ((REJECTED,), "rejected", "", (REJECTED,)),
        ((REJECTED,), "verified", "fingerprint", ("fingerprint",)),
    ],
)
def test_how_a_question_ended_goes_on_record(
    known: tuple[str, ...], state: str, method: str, recorded: tuple[str, ...] | None
) -> None:
    pins = [pin(KEY, *known)] if known else []
    found = after(question(), pins, state, method, TODAY)
    assert (found.methods if found is not None else None) == recorded
    if found is not None:
        assert (found.account, found.contact, found.fingerprint) == (ALICE, BOB, KEY)
        assert found.seen == TODAY


def test_what_is_let_through_after_an_alarm_is_let_through_once() -> None:
    assert after(question(), [pin(OLD, "sas")], "unverified", "", TODAY) is None


@pytest.mark.parametrize("state", ["verified", "unverified"])
def test_keys_of_single_sessions_are_remembered_as_that_and_never_verified(state: str) -> None:
    found = after(question(fingerprint=NO_IDENTITY), [], state, "sas", TODAY)
    assert found == Pin(ALICE, BOB, NO_IDENTITY, (LEAP_OF_FAITH,), TODAY, TODAY)


def test_what_has_no_key_leaves_nothing() -> None:
    for state in ("verified", "unverified", "rejected"):
        assert after(question("no-encryption", None), [], state, "sas", TODAY) is None
    assert after(question(fingerprint=NO_IDENTITY), [], "rejected", "", TODAY) is None


def test_a_key_seen_today_writes_nothing() -> None:
    for state, method in (("verified", "pin"), ("unverified", ""), ("verified", "sas")):
        assert after(question(), [pin(KEY, "sas", seen=TODAY)], state, method, TODAY) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(REASONS),
            st.sampled_from((KEY, ":".join(["CC"] * 32), NO_IDENTITY, None)),
            st.sampled_from(("unverified", "rejected", "pending")),
            st.sampled_from(("", "sas", "pin")),
            st.sampled_from(SETTINGS),
        ),
        max_size=12,
    )
)
def test_whatever_others_present_a_verified_contact_gets_no_second_key_unasked(
    steps: list[tuple[str, str | None, str, str, Settings]],
) -> None:
    book = {OLD: pin(OLD, "sas")}
    for reason, fingerprint, state, method, settings in steps:
        asked = question(reason, fingerprint)
        answer = decide(asked, list(book.values()), settings)
        assert answer.action in (Action.ASK, Action.REJECT)
        assert answer.alarm is not None or fingerprint is None
        if (found := after(asked, list(book.values()), state, method, TODAY)) is not None:
            assert not found.verified
            book[found.fingerprint] = found
    assert book[OLD].verified


@pytest.mark.parametrize(
    "text", ["", KEY[:-1], KEY + ":AA", KEY.lower(), KEY + "\n", " " + KEY, KEY.replace(":", "")]
)
def test_only_a_fingerprint_as_it_is_shown_is_one(text: str) -> None:
    assert is_fingerprint(KEY)
    assert not is_fingerprint(text)
