"""Two people call each other: real daemons, a real server, real codecs and real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from dbus_fast import Variant

from tests.support.calls import (
    ACTIVE,
    CALL,
    ENDED,
    INITIALISED,
    PENDING_INITIATOR,
    OneCall,
    call,
    incoming,
    strength,
)
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, FILE_TRANSFER, SECURABLE, DBusFailure

BOTH = (CALL, FILE_TRANSFER)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    pair = await Pair.start(prosody, alice=media, bob=media, alice_handles=BOTH, bob_handles=BOTH)
    yield pair
    await pair.stop()


async def talking(pair: Pair) -> tuple[OneCall, OneCall]:
    """Alice has called Bob, and they hear each other."""
    ours = await call(pair.alice, pair.server.jid("bob"))
    assert await ours.state() == PENDING_INITIATOR
    await ours.accept()
    theirs = await incoming(pair.bob)
    await pair.bob.cm(theirs.path, CALL, "SetRinging")
    await ours.until(INITIALISED)
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    return ours, theirs


async def test_people_talk_and_the_channel_says_that_it_is_encrypted(
    pair: Pair, tmp_path: Path
) -> None:
    ours, theirs = await talking(pair)
    heard = tmp_path / "heard.wav"
    await theirs.choose("AudioSink", f"file:{heard}")
    await asyncio.gather(ours.figures(packets_received=50), theirs.figures(packets_received=50))
    for one in (ours, theirs):
        assert await one.property(SECURABLE, "Encrypted") is True
        assert await one.property(SECURABLE, "Verified") is False
        assert await one.property(E2E, "Protocol") == "dtls-srtp"
    fingerprints = await ours.property(E2E, "PeerFingerprints")
    assert fingerprints == await theirs.property(E2E, "OwnFingerprints")
    assert len(fingerprints["sha-256"]) == 95
    await asyncio.sleep(2)
    await ours.hangup()
    _, _, reason = await theirs.until(ENDED)
    assert reason[1:3] == (2, "")
    assert strength(heard, 440) > 0.5


async def test_a_call_that_is_not_taken(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob)
    await theirs.hangup(4)
    _, _, reason = await ours.until(ENDED)
    assert reason[1:3] == (4, "org.freedesktop.Telepathy.Error.Rejected")


async def test_a_caller_who_gives_up(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob)
    await ours.hangup()
    _, _, reason = await theirs.until(ENDED)
    assert reason[1:3] == (5, "org.freedesktop.Telepathy.Error.NoAnswer")


async def test_hanging_up_while_it_is_answered(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob)
    taken, _ = await asyncio.gather(theirs.accept(), ours.hangup(), return_exceptions=True)
    assert taken is None or isinstance(taken, DBusFailure)  # whoever was faster
    await theirs.until(ENDED)
    assert await ours.state() == ENDED
