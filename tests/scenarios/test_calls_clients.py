"""Calls and those who look on: the trust handler's memory, the specification's checker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.scenarios.test_trust_handler import DATA, Held, compare, questions
from tests.support.calls import ACTIVE, CALL, CALL_MEDIA, OneCall, call, incoming
from tests.support.checker import CHECKER, check
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import (
    CAPABILITIES,
    CHANNEL,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
)
from tests.support.trust import Trust
from tests.support.waiting import PATIENCE

BOTH = (CALL, FILE_TRANSFER)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    pair = await Pair.start(prosody, alice=media, bob=media, alice_handles=BOTH, bob_handles=BOTH)
    yield pair
    await pair.stop()


async def talk(pair: Pair, *, video: bool = False) -> tuple[OneCall, OneCall]:
    ours = await call(pair.alice, pair.server.jid("bob"), video=video)
    await ours.choose("VideoSource", "test-pattern")
    await ours.accept()
    theirs = await incoming(pair.bob)
    await theirs.choose("VideoSource", "test-pattern")
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    return ours, theirs


async def test_who_was_verified_by_a_file_is_verified_in_a_call(pair: Pair) -> None:
    trust = await Trust.start(pair.alice)
    try:
        held = await Held.start(pair)
        hers, _ = await pair.alice.new_channel(VERIFICATION, skip=questions(pair.alice))
        await pair.bob.changed(held.theirs, SECURABLE, "Encrypted", True)
        his = await pair.bob.cm(held.theirs, E2E, "Verify")
        await compare(pair.alice, hers, pair.bob, his)
        assert await held.go() == DATA
        await trust.pinned("sas")
        ours, _ = await talk(pair)
        await pair.alice.changed(ours.path, SECURABLE, "Verified", True)
        assert await ours.property(E2E, "VerifiedBy") == "pin"
    finally:
        await trust.stop()


async def test_who_is_verified_in_a_call_is_verified_in_the_next(pair: Pair) -> None:
    trust = await Trust.start(pair.alice)
    try:
        ours, theirs = await talk(pair)
        hers, _ = await pair.alice.new_channel(VERIFICATION)
        his = await pair.bob.cm(theirs.path, E2E, "Verify")
        await compare(pair.alice, hers, pair.bob, his)
        await trust.pinned("sas")
        await ours.hangup()
        again = await call(pair.alice, pair.server.jid("bob"))
        await again.accept()
        rings = await incoming(pair.bob, skip=1)
        await rings.accept()
        await again.until(ACTIVE)
        await pair.alice.changed(again.path, SECURABLE, "Verified", True)
        assert await again.property(E2E, "VerifiedBy") == "pin"
    finally:
        await trust.stop()


@pytest.mark.skipif(not CHECKER.is_file(), reason="no checker here")
async def test_the_specifications_checker_finds_nothing_wrong_with_calls(pair: Pair) -> None:
    await talk(pair, video=True)
    output = await check(pair.alice, 2.0)
    assert "Channel.Type.Call1" in output


async def test_contacts_can_be_called_when_a_client_of_theirs_takes_calls(pair: Pair) -> None:
    bob = pair.server.jid("bob")

    async def kinds() -> set[str]:
        handle = (
            await pair.alice.cm(
                pair.alice.connection, CONNECTION, "RequestHandles", "uas", 1, [bob]
            )
        )[0]
        classes = await pair.alice.cm(
            pair.alice.connection, CAPABILITIES, "GetContactCapabilities", "au", [handle]
        )
        return {
            name.rpartition(".")[2]
            for fixed, _ in classes[handle]
            if fixed[CHANNEL + ".ChannelType"] == CALL
            for name in fixed
            if name.startswith(CALL)
        }

    assert await kinds() == {"InitialAudio", "InitialVideo"}
    await pair.bob.announce((FILE_TRANSFER,))
    async with asyncio.timeout(PATIENCE):
        while await kinds():
            await asyncio.sleep(0.05)


async def test_a_source_that_is_none_is_refused(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    with pytest.raises(Exception, match="InvalidArgument"):
        await ours.choose("AudioSource", "telephone")
    assert await ours.property(CALL_MEDIA, "AudioSource") == "tone"
