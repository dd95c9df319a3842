"""A server disturbs a comparison of short strings: it can make it fail, never succeed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio

from tests.hostile import stanzas
from tests.hostile.attacks import (
    INITIATOR,
    RESPONDER,
    AlterSealed,
    HoldSealed,
    OnSealed,
    ReflectSealed,
    RenumberSealed,
    ReorderSealed,
    RepeatSealed,
)
from tests.hostile.server import Together
from tests.hostile.stage import (
    BOTH_HANDLE_QUESTIONS,
    COMPLETED,
    ERROR,
    Attempt,
    Stage,
    assert_nothing_delivered,
)
from tests.support.prosody import available
from tests.support.side import VERIFICATION, DBusFailure, Side
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

DATA = secrets.token_bytes(100_000)
NOT_AVAILABLE = ERROR + "NotAvailable"

# What Alice says and what Bob says when she begins; 0 is the hello.
COMMIT, REVEAL = (INITIATOR, 1), (INITIATOR, 2)
NONCE = (RESPONDER, 1)


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """New daemons for each test: failed tries are remembered."""
    stage = await Stage.start(**BOTH_HANDLE_QUESTIONS)
    yield stage
    await stage.stop()


async def string(side: Side, question: str) -> str:
    """What the user is shown, once there is something to be shown."""
    found = await side.signal(
        lambda s: (
            s.path == question
            and s.member == "PropertiesChanged"
            and bool(s.body[1].get("ShortAuthenticationString"))
        )
    )
    return str(found.body[1]["ShortAuthenticationString"])


async def state(side: Side, question: str, *wanted: str) -> str:
    async with asyncio.timeout(PATIENCE):
        while (now := await side.get(question, VERIFICATION, "State")) not in wanted:
            await asyncio.sleep(0.02)
    return str(now)


async def begin_comparison(stage: Stage, hers: str, his: str) -> None:
    """Alice begins; Bob agrees if he gets to know of it."""
    await stage.alice.cm(hers, VERIFICATION, "StartSAS")
    await stage.bob.signal(lambda s: s.path == his and s.member == "PeerStarted")
    await stage.bob.cm(his, VERIFICATION, "StartSAS")


async def give_up(stage: Stage, attempt: Attempt, hers: str) -> None:
    """Alice says no; nothing may have crossed until then, nor may anybody count as verified."""
    assert await stage.alice.get(hers, VERIFICATION, "State") != "verified"
    await stage.alice.cm(hers, VERIFICATION, "Reject", "s", "it failed")
    outcome = await attempt.ended()
    assert_nothing_delivered(outcome)
    assert not any(end.verified for end in outcome.ends)


async def test_without_an_attack_people_verify_each_other(stage: Stage) -> None:
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await begin_comparison(stage, hers, his)
    assert await string(stage.alice, hers) == await string(stage.bob, his)
    await stage.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
    await stage.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", True)
    outcome = await attempt.ended()
    assert outcome.got == DATA
    for end in outcome.ends:
        assert (end.state, end.verified) == (COMPLETED, True)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda role, n: AlterSealed(role, n, 0), id="altered"),
        pytest.param(lambda role, n: AlterSealed(role, n, -1), id="tag altered"),
        pytest.param(lambda role, n: RenumberSealed(role, n), id="renumbered"),
    ],
)
@pytest.mark.parametrize("message", [NONCE, REVEAL], ids=["nonce", "reveal"])
async def test_a_disturbed_answer_fails_the_comparison(
    stage: Stage, kind: Callable[[str, int], OnSealed], message: tuple[str, int]
) -> None:
    attack = kind(*message)
    await stage.server.use(attack)
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await begin_comparison(stage, hers, his)
    await stage.server.until(lambda: attack.done or None)
    # Who spent a try is told that it failed: the question is open again.
    await state(stage.bob, his, "pending")
    await give_up(stage, attempt, hers)


async def test_a_disturbed_beginning_never_reaches_the_other(stage: Stage) -> None:
    attack = AlterSealed(*COMMIT)
    await stage.server.use(attack)
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await stage.alice.cm(hers, VERIFICATION, "StartSAS")
    await stage.server.until(lambda: attack.done or None)
    assert await stage.bob.get(his, VERIFICATION, "State") == "pending"
    assert not [s for s in stage.bob.signals if s.path == his and s.member == "PeerStarted"]
    await give_up(stage, attempt, hers)


@pytest.mark.parametrize("message", [NONCE, REVEAL], ids=["nonce", "reveal"])
async def test_a_repeated_answer_fails_the_comparison(
    stage: Stage, message: tuple[str, int]
) -> None:
    attack = RepeatSealed(*message)
    await stage.server.use(attack)
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await begin_comparison(stage, hers, his)
    await stage.server.until(lambda: attack.done or None)
    side, question = (stage.alice, hers) if message == NONCE else (stage.bob, his)
    await state(side, question, "pending")
    await give_up(stage, attempt, hers)


@pytest.mark.parametrize("message", [COMMIT, NONCE], ids=["commit", "nonce"])
async def test_what_comes_back_to_its_sender_is_not_the_others(
    stage: Stage, message: tuple[str, int]
) -> None:
    attack = ReflectSealed(*message)
    await stage.server.use(attack)
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await begin_comparison(stage, hers, his)
    await stage.server.until(lambda: attack.done or None)
    await give_up(stage, attempt, hers)


async def test_messages_in_another_order_fail_the_comparison(stage: Stage) -> None:
    attack = ReorderSealed(*NONCE)
    await stage.server.use(attack)
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await begin_comparison(stage, hers, his)
    await stage.server.until(lambda: attack.done or None)
    # Bob has spent his try and waits; whatever he says next overtakes his nonce.
    await stage.bob.cm(his, VERIFICATION, "Reject", "s", "takes too long")
    outcome = await attempt.ended()
    assert_nothing_delivered(outcome)
    assert not any(end.verified for end in outcome.ends)


class RepeatAnswers(OnSealed):
    """Whatever Bob says after his hello comes twice."""

    def __init__(self) -> None:
        super().__init__(RESPONDER, 1)

    def sealed(self, element: Element, number: int) -> list[Element]:
        return [element, stanzas.again(element)] if number else [element]


async def fail_once(stage: Stage, hers: str, his: str) -> None:
    """A comparison that fails after both have spent a try."""
    seen = len(stage.bob.signals)
    await stage.alice.cm(hers, VERIFICATION, "StartSAS")
    async with asyncio.timeout(PATIENCE):
        while not any(
            s.path == his and s.member == "PeerStarted" for s in stage.bob.signals[seen:]
        ):
            await asyncio.sleep(0.01)
    await stage.bob.cm(his, VERIFICATION, "StartSAS")
    await state(stage.alice, hers, "pending")
    await state(stage.bob, his, "pending")


async def test_three_failed_tries_close_the_method(stage: Stage) -> None:
    await stage.server.use(RepeatAnswers())
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    for _ in range(3):
        await fail_once(stage, hers, his)
    for side, question in ((stage.alice, hers), (stage.bob, his)):
        with pytest.raises(DBusFailure) as refused:
            await side.cm(question, VERIFICATION, "StartSAS")
        assert refused.value.name == NOT_AVAILABLE
    await give_up(stage, attempt, hers)


async def test_starts_that_cross_become_one_comparison(stage: Stage) -> None:
    hers_held, his_held = HoldSealed(INITIATOR, 1), HoldSealed(RESPONDER, 1)
    await stage.server.use(Together(hers_held, his_held))
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await stage.alice.cm(hers, VERIFICATION, "StartSAS")
    await stage.bob.cm(his, VERIFICATION, "StartSAS")
    await stage.server.until(lambda: (hers_held.done and his_held.done) or None)
    hers_held.release()
    his_held.release()
    assert await string(stage.alice, hers) == await string(stage.bob, his)
    await stage.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
    await stage.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", True)
    outcome = await attempt.ended()
    assert outcome.got == DATA
    assert all(end.verified for end in outcome.ends)


async def test_a_second_comparison_at_once_is_refused_and_the_first_goes_on(
    stage: Stage,
) -> None:
    attempt = await stage.begin(DATA)
    hers, his = await attempt.questions()
    await begin_comparison(stage, hers, his)
    assert await string(stage.alice, hers) == await string(stage.bob, his)
    for side, question in ((stage.alice, hers), (stage.bob, his)):
        with pytest.raises(DBusFailure) as refused:
            await side.cm(question, VERIFICATION, "StartSAS")
        assert refused.value.name == NOT_AVAILABLE
    await stage.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
    await stage.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", True)
    assert (await attempt.ended()).got == DATA
