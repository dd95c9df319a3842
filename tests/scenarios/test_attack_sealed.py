"""A server drops, repeats, reorders and alters the sealed messages that bring the identities."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.hostile.attacks import (
    INITIATOR,
    RESPONDER,
    AlterSealed,
    Delay,
    DropSealed,
    HoldSealed,
    OnSealed,
    ReflectSealed,
    RenumberSealed,
    RepeatSealed,
)
from tests.hostile.server import Together
from tests.hostile.stage import (
    Stage,
    assert_completed,
    assert_found_out,
)
from tests.support.prosody import available
from tests.support.side import FILE_TRANSFER

pytest_plugins = ["tests.hostile.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DATA = secrets.token_bytes(200_000)
ROLES = pytest.mark.parametrize("role", [INITIATOR, RESPONDER])


@ROLES
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda role: AlterSealed(role, 0, 0), id="first bit"),
        pytest.param(lambda role: AlterSealed(role, 0, -1), id="last bit of the tag"),
        pytest.param(lambda role: RenumberSealed(role, 0), id="another number"),
    ],
)
async def test_an_altered_hello_is_found_out(
    stage: Stage, kind: Callable[[str], OnSealed], role: str
) -> None:
    attack = kind(role)
    await stage.server.use(attack)
    assert_found_out(await stage.transfer(DATA))
    assert attack.done == 1


@ROLES
async def test_a_hello_that_comes_back_to_its_sender_is_not_taken_for_the_others(
    stage: Stage, role: str
) -> None:
    other = RESPONDER if role == INITIATOR else INITIATOR
    await stage.server.use(Together(HoldSealed(other, 0), ReflectSealed(role, 0)))
    assert_found_out(await stage.transfer(DATA))


@ROLES
async def test_a_hello_that_comes_twice_changes_nothing(stage: Stage, role: str) -> None:
    attack = RepeatSealed(role, 0)
    await stage.server.use(attack)
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    assert attack.done == 1


@pytest.mark.parametrize("action", ["session-accept", "transport-info", "security-info"])
async def test_what_comes_late_still_counts(stage: Stage, action: str) -> None:
    attack = Delay(0.5, action)
    await stage.server.use(attack)
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    assert attack.delayed


async def test_a_hello_that_never_comes_ends_the_session(stage: Stage) -> None:
    """Both roles side by side, because it takes the 30 seconds of the wire format."""
    drop_hers, drop_his = DropSealed(INITIATOR, 0), DropSealed(RESPONDER, 0)
    await stage.server.use(drop_hers)
    first = await stage.begin(DATA)
    await stage.server.until(lambda: drop_hers.done or None)
    await stage.server.use(drop_his)
    second = await stage.begin(DATA)
    await stage.server.until(lambda: drop_his.done or None)
    for side, path in (
        (stage.bob, first.theirs),
        (stage.bob, second.theirs),
        (stage.alice, second.mine),
    ):
        assert (await side.get_all(path, FILE_TRANSFER))["TransferredBytes"] == 0
    for attempt in (first, second):
        assert_found_out(await attempt.ended())
