"""A server changes what was offered or accepted: both sides find it out before a byte flows."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.hostile import stanzas
from tests.hostile.attacks import (
    ANSWER,
    OFFER,
    AddFingerprint,
    ChangeContent,
    ChangeFileName,
    ChangeFileSize,
    ChangeFingerprint,
    OldAccept,
    RepeatAccept,
    Step,
)
from tests.hostile.server import Attack
from tests.hostile.stage import (
    CANCELLED,
    COMPLETED,
    REMOTE_ERROR,
    Stage,
    assert_completed,
    assert_found_out,
    assert_nothing_delivered,
)
from tests.support.prosody import available

pytest_plugins = ["tests.hostile.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DATA = secrets.token_bytes(200_000)


async def test_without_an_attack_the_file_arrives(stage: Stage) -> None:
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)


@pytest.mark.parametrize("where", [OFFER, ANSWER])
@pytest.mark.parametrize(
    "kind",
    [
        ChangeFingerprint,
        AddFingerprint,
        ChangeFileName,
        pytest.param(lambda where: ChangeFileSize(where, 1), id="one byte more"),
        pytest.param(lambda where: ChangeFileSize(where, -1), id="one byte less"),
    ],
)
async def test_a_change_is_found_out(
    stage: Stage, kind: Callable[[Step], ChangeContent], where: Step
) -> None:
    attack = kind(where)
    await stage.server.use(attack)
    outcome = await stage.transfer(DATA)
    assert_found_out(outcome)
    assert not outcome.alice.opened
    assert not outcome.bob.opened
    assert attack.done == 1


async def test_after_all_that_an_honest_server_is_served_again(stage: Stage) -> None:
    await stage.server.use(ChangeFingerprint(OFFER))
    await stage.transfer(DATA)
    await stage.server.use(Attack())
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)


async def test_an_answer_from_an_earlier_session_is_found_out(stage: Stage) -> None:
    attack = OldAccept()
    await stage.server.use(attack)
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    assert_found_out(await stage.transfer(DATA))
    assert len(attack.replayed) == 1


async def test_an_earlier_answer_before_anybody_answered_delivers_nothing(stage: Stage) -> None:
    attack = OldAccept(early=True)
    await stage.server.use(attack)
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    outcome = await stage.transfer(DATA)
    assert_nothing_delivered(outcome)
    for end in outcome.ends:
        assert (end.state, end.reason) == (CANCELLED, REMOTE_ERROR)
        assert end.error
    assert len(attack.replayed) == 1


async def test_an_earlier_offer_that_comes_again_brings_nothing(stage: Stage) -> None:
    """In Alice's name; but there is nobody who has the key of that session any more."""
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    old = [each for each in stage.server.seen if stanzas.jingle(each, OFFER) is not None][-1]
    before = len(stage.bob.signals)
    stage.server.inject(stanzas.again(old))
    path = await offered(stage, before)
    assert await stage.bob.accept(path) == b""
    assert await stage.bob.state(path, COMPLETED, CANCELLED) == (CANCELLED, REMOTE_ERROR)


async def offered(stage: Stage, after: int) -> str:
    """The file that Bob is offered in his signals from there on."""

    def found() -> list[str]:
        return [
            path
            for each in stage.bob.signals[after:]
            if each.member == "NewChannels"
            for path, _ in each.body[0]
        ]

    await stage.bob.signal(lambda _: bool(found()))
    return found()[0]


@pytest.mark.parametrize("after", ["session-accept", "transport-info", "security-info"])
async def test_an_answer_that_comes_twice_is_refused_and_changes_nothing(
    stage: Stage, after: str
) -> None:
    attack = RepeatAccept(after)
    await stage.server.use(attack)
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    assert attack.repeated is not None
    identifier = attack.repeated.get("id")
    (refusal,) = [
        each
        for each in stage.server.seen
        if each.get("id") == identifier and stanzas.name(each.get("from", "")) == "alice"
    ]
    assert refusal.get("type") == "error"
    conditions = {each.tag.rpartition("}")[2] for each in refusal.iter()}
    assert {"unexpected-request", "out-of-order"} <= conditions
