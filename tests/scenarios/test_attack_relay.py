"""A relay for which everything fits: only people who compare can find it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.verify.events import CeremonyEnded
from telepathy_e2e.verify.events import Outcome as VerifyOutcome
from tests.hostile.relay import ManInTheMiddle
from tests.hostile.stage import (
    BOTH_HANDLE_QUESTIONS,
    CANCELLED,
    DEMAND_ENCRYPTED,
    DEMAND_VERIFIED,
    ENCRYPTION_ERROR,
    ERROR,
    LOCAL_STOPPED,
    REMOTE_ERROR,
    Attempt,
    Stage,
    assert_completed,
    assert_found_out,
    assert_nothing_delivered,
)
from tests.support.prosody import available
from tests.support.side import CHANNEL, E2E, VERIFICATION, WAIT, Side
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

DATA = secrets.token_bytes(200_000)
UNTRUSTED = ERROR + "Cert.Untrusted"


@pytest_asyncio.fixture
async def asking() -> AsyncIterator[tuple[Stage, ManInTheMiddle]]:
    """On either side somebody handles questions."""
    relay = ManInTheMiddle()
    stage = await Stage.start(relay, **BOTH_HANDLE_QUESTIONS)
    yield stage, relay
    await stage.stop()


async def shown_string(side: Side, question: str) -> str:
    found = await side.signal(
        lambda s: (
            s.path == question
            and s.member == "PropertiesChanged"
            and bool(s.body[1].get("ShortAuthenticationString"))
        )
    )
    return str(found.body[1]["ShortAuthenticationString"])


async def compare(stage: Stage, hers: str, his: str) -> tuple[str, str]:
    """Alice begins, Bob agrees; what each is shown."""
    await stage.alice.cm(hers, VERIFICATION, "StartSAS")
    await stage.bob.signal(lambda s: s.path == his and s.member == "PeerStarted")
    await stage.bob.cm(his, VERIFICATION, "StartSAS")
    return await shown_string(stage.alice, hers), await shown_string(stage.bob, his)


async def failure(side: Side, question: str) -> tuple[object, ...]:
    """What its user is told when a ceremony comes to nothing."""
    found = await side.signal(lambda s: s.path == question and s.member == "CeremonyFailed")
    return found.body


def assert_nothing_read(relay: ManInTheMiddle) -> None:
    assert relay.plaintext == {"initiator": b"", "responder": b""}


@pytest.mark.parametrize("demands", [{}, DEMAND_ENCRYPTED], ids=["nothing", "encryption"])
async def test_where_nobody_asks_who_it_is_the_channels_do_not_claim_to_know(
    demands: dict[str, Variant],
) -> None:
    relay = ManInTheMiddle()
    stage = await Stage.start(relay)
    try:
        attempt = await stage.begin(DATA, demands)
        assert_completed(await attempt.ended(), DATA, encrypted=True)
        # The attack works, or the other tests here would prove nothing.
        assert relay.plaintext["initiator"] == DATA
        alice = await stage.alice.get_all(attempt.mine, E2E)
        bob = await stage.bob.get_all(attempt.theirs, E2E)
        assert alice["VerifiedBy"] == bob["VerifiedBy"] == ""
        assert alice["PeerFingerprints"] != bob["OwnFingerprints"]
        assert bob["PeerFingerprints"] != alice["OwnFingerprints"]
    finally:
        await stage.stop()


@pytest.mark.parametrize("role", ["initiator", "responder"])
async def test_a_relay_cannot_show_an_identity_that_it_has_learned(role: str) -> None:
    """With it the fingerprints would be the right ones, and comparing them would prove nothing."""
    spy = ManInTheMiddle()
    stage = await Stage.start(spy)
    try:
        assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
        relay = ManInTheMiddle(borrowed={role: spy.learned[role]})
        await stage.server.use(relay)
        assert_found_out(await stage.transfer(DATA))
        if role == "responder":
            # Shown to Alice, who has not sent anything then. Shown to Bob it leaves Alice with a
            # stranger for whom everything fits: that is seen by comparing, or by Bob's no.
            assert_nothing_read(relay)
    finally:
        await stage.stop()


@pytest.mark.parametrize("who_looks", ["alice", "bob"])
async def test_the_strings_differ_and_whoever_says_so_ends_it(
    asking: tuple[Stage, ManInTheMiddle], who_looks: str
) -> None:
    stage, relay = asking
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    at_alice, at_bob = await compare(stage, hers, his)
    assert at_alice != at_bob
    async with asyncio.timeout(WAIT):
        while len(relay.strings) < 2:  # the relay may be the last to know
            await asyncio.sleep(0.01)
    assert {at_alice, at_bob} == set(relay.strings.values())

    side, question = (stage.alice, hers) if who_looks == "alice" else (stage.bob, his)
    await side.cm(question, VERIFICATION, "ConfirmSAS", "b", False)
    await assert_rejected(attempt, who_looks)
    assert_nothing_read(relay)


async def assert_rejected(attempt: Attempt, by: str) -> None:
    outcome = await attempt.ended()
    assert_nothing_delivered(outcome)
    looked, other = outcome.ends if by == "alice" else outcome.ends[::-1]
    assert (looked.state, looked.error) == (CANCELLED, UNTRUSTED)
    assert (other.state, other.reason) == (CANCELLED, REMOTE_ERROR)
    assert other.error in (ENCRYPTION_ERROR, UNTRUSTED)
    assert not any(end.verified for end in outcome.ends)


@pytest.mark.parametrize("who_begins", ["alice", "bob"])
async def test_a_relay_that_does_not_know_the_password_has_one_guess_and_is_seen(
    asking: tuple[Stage, ManInTheMiddle], who_begins: str
) -> None:
    stage, relay = asking
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    people = [(stage.alice, hers), (stage.bob, his)]
    if who_begins == "bob":
        people.reverse()
    (begins, one), (answers, two) = people
    await begins.cm(one, VERIFICATION, "StartPassword", "s", "what only we know")
    await answers.signal(lambda s: s.path == two and s.member == "PeerStarted")
    await answers.cm(two, VERIFICATION, "StartPassword", "s", "what only we know")
    for side, question in people:
        assert await failure(side, question) == ("password", "wrong-password", True)
    assert not [
        each
        for events in relay.events.values()
        for each in events
        if isinstance(each, CeremonyEnded) and each.outcome is VerifyOutcome.VERIFIED
    ]
    await begins.cm(one, VERIFICATION, "Reject", "s", "it must have been right")
    await assert_rejected(attempt, who_begins)
    assert_nothing_read(relay)


async def test_the_fingerprints_differ_for_who_compares_them(
    asking: tuple[Stage, ManInTheMiddle],
) -> None:
    stage, relay = asking
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    alice = await stage.alice.get_all(hers, VERIFICATION)
    bob = await stage.bob.get_all(his, VERIFICATION)
    assert alice["PeerFingerprints"] != bob["OwnFingerprints"]
    assert bob["PeerFingerprints"] != alice["OwnFingerprints"]
    await stage.bob.cm(his, VERIFICATION, "Reject", "s", "another fingerprint")
    outcome = await attempt.ended()
    assert_nothing_delivered(outcome)
    assert (outcome.bob.reason, outcome.bob.error) == (LOCAL_STOPPED, UNTRUSTED)
    assert (outcome.alice.reason, outcome.alice.error) == (REMOTE_ERROR, ENCRYPTION_ERROR)
    assert_nothing_read(relay)


@pytest.mark.parametrize(
    ("options", "demands"),
    [
        pytest.param({}, DEMAND_VERIFIED, id="demanded"),
        pytest.param({"alice": {"e2e_policy": Variant("s", "verified")}}, {}, id="policy"),
    ],
)
async def test_where_verification_is_demanded_nothing_flows_without_an_answer(
    options: dict[str, Any], demands: dict[str, Variant]
) -> None:
    relay = ManInTheMiddle()
    stage = await Stage.start(relay, **options)
    try:
        attempt = await stage.begin(DATA, demands)
        hers, _ = await attempt.question(stage.alice)
        await stage.alice.cm(hers, CHANNEL, "Close")
        outcome = await attempt.ended()
        assert_nothing_delivered(outcome)
        assert outcome.alice.error == UNTRUSTED
        assert outcome.bob.error == ENCRYPTION_ERROR
        assert_nothing_read(relay)
    finally:
        await stage.stop()


async def test_a_handler_that_dies_with_the_question_open_does_not_open_the_gate(
    asking: tuple[Stage, ManInTheMiddle],
) -> None:
    """Mission Control closes the channels of a handler that is gone."""
    stage, relay = asking
    attempt = await stage.begin(DATA)
    hers, _ = await attempt.questions()
    await stage.alice.announce(())
    await stage.alice.cm(hers, CHANNEL, "Close")
    outcome = await attempt.ended()
    assert_nothing_delivered(outcome)
    assert outcome.alice.error == UNTRUSTED
    assert outcome.bob.error == ENCRYPTION_ERROR
    assert_nothing_read(relay)


async def test_a_relay_that_reveals_another_nonce_than_promised_gets_no_string() -> None:
    relay = ManInTheMiddle(lie=True)
    stage = await Stage.start(relay, **BOTH_HANDLE_QUESTIONS)
    try:
        attempt = await stage.begin(DATA)
        hers, his = await attempt.questions()
        await stage.alice.cm(hers, VERIFICATION, "StartSAS")
        await stage.bob.signal(lambda s: s.path == his and s.member == "PeerStarted")
        await stage.bob.cm(his, VERIFICATION, "StartSAS")
        await ceremony_failed(stage.bob, his)
        assert await stage.bob.get(his, VERIFICATION, "ShortAuthenticationString") == ""
        await stage.bob.cm(his, VERIFICATION, "Reject", "s", "it failed")
        outcome = await attempt.ended()
        assert_nothing_delivered(outcome)
        assert not any(end.verified for end in outcome.ends)
        assert_nothing_read(relay)
    finally:
        await stage.stop()


async def ceremony_failed(side: Side, question: str) -> None:
    """Wait until the question is open again after a comparison."""
    await side.signal(lambda s: _state(s.path, s.member, s.body, question) == "comparing")
    async with asyncio.timeout(PATIENCE):
        while await side.get(question, VERIFICATION, "State") != "pending":
            await asyncio.sleep(0.02)


def _state(path: str, member: str, body: tuple[Any, ...], question: str) -> str | None:
    if path != question or member != "PropertiesChanged":
        return None
    state = body[1].get("State")
    return None if state is None else str(state)
