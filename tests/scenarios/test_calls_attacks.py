"""A server attacks calls between two real daemons, and they get in each other's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.hostile.attacks import ANSWER, OFFER, ChangeContent, Step
from tests.hostile.calls import (
    CallInTheMiddle,
    ChangeDtlsFingerprint,
    SdesOnly,
    SetupIs,
    TransportRelay,
)
from tests.hostile.server import Attack
from tests.hostile.stage import Stage
from tests.support.calls import ACTIVE, CALL, ENDED, OneCall, call, incoming, loudness
from tests.support.pair import parameters
from tests.support.prosody import available
from tests.support.side import (
    CHANNEL,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
)
from tests.support.waiting import PATIENCE, until

pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

ERROR = "org.freedesktop.Telepathy.Error."
BOTH = (CALL, FILE_TRANSFER)
MEDIA = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theatre() -> AsyncIterator[Stage]:
    stage = await Stage.start(
        alice=MEDIA, bob=MEDIA, alice_handles=BOTH, bob_handles=BOTH, modules=("carbons",)
    )
    yield stage
    await stage.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def stage(theatre: Stage) -> AsyncIterator[Stage]:
    """Honest until the test says otherwise; afterwards nothing is left, and people can talk."""
    for side in (theatre.alice, theatre.bob):
        side.signals.clear()
    yield theatre
    await theatre.server.use(Attack())
    for side in (theatre.alice, theatre.bob):
        found = await side.get(
            side.connection, "org.freedesktop.Telepathy.Connection.Interface.Requests", "Channels"
        )
        for path, _ in found:
            with contextlib.suppress(DBusFailure):  # a question goes with its call
                await side.cm(path, CHANNEL, "Close")
        side.signals.clear()
    ours, theirs = await rings(theatre)
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    await ours.hangup()
    await theirs.until(ENDED)
    for each in (ours, theirs):
        await each.side.cm(each.path, CHANNEL, "Close")
        assert "Traceback" not in each.side.log
    assert theatre.server.problems == []


async def rings(stage: Stage) -> tuple[OneCall, OneCall]:
    """Alice calls Bob, and it rings there."""
    ours = await call(stage.alice, stage.server.jid("bob"))
    await ours.accept()
    return ours, await incoming(stage.bob)


def was_active(one: OneCall) -> bool:
    return any(
        each.path == one.path and each.member == "CallStateChanged" and each.body[0] == ACTIVE
        for each in one.side.signals
    )


@pytest.mark.parametrize("where", [OFFER, ANSWER])
@pytest.mark.parametrize(
    "kind",
    [
        ChangeDtlsFingerprint,
        SdesOnly,
        pytest.param(lambda where: SetupIs(where, None), id="no role"),
        pytest.param(lambda where: SetupIs(where, "both-ways"), id="no such role"),
        pytest.param(lambda where: SetupIs(where, "holdconn"), id="a role that begins nothing"),
    ],
)
async def test_a_server_that_meddles_with_the_protection_is_found_out(
    stage: Stage, tmp_path: Path, kind: type[ChangeContent], where: Step
) -> None:
    attack = kind(where)
    await stage.server.use(attack)
    ours, theirs = await rings(stage)
    heard = [tmp_path / "hers.wav", tmp_path / "his.wav"]
    for each, path in zip((ours, theirs), heard, strict=True):
        await each.choose("AudioSink", f"file:{path}")
    await theirs.accept()
    ends = await asyncio.gather(ours.until(ENDED), theirs.until(ENDED))
    assert attack.done
    attacked = ends[1] if where == OFFER else ends[0]
    assert attacked[2][2] in (ERROR + "EncryptionError", ERROR + "EncryptionNotAvailable")
    for each, path in zip((ours, theirs), heard, strict=True):
        assert not was_active(each)
        assert not path.exists() or loudness(path) == 0


async def test_a_relay_that_cannot_say_hello_is_found_out(stage: Stage) -> None:
    relay = TransportRelay()
    await stage.server.use(relay)
    ours, theirs = await rings(stage)
    await theirs.accept()
    ends = await asyncio.gather(ours.until(ENDED), theirs.until(ENDED))
    # The relay may be the last to know.
    await until(lambda: set(relay.connected) == {"initiator", "responder"})
    assert all(end[2][2] == ERROR + "EncryptionError" for end in ends)
    assert not was_active(ours)
    assert not was_active(theirs)


async def string(side: Side, question: str) -> str:
    async with asyncio.timeout(PATIENCE):
        while True:
            shown = await side.get(question, VERIFICATION, "ShortAuthenticationString")
            if shown:
                return str(shown)
            await asyncio.sleep(0.02)


async def test_who_is_between_two_people_in_everything_gives_them_different_strings(
    stage: Stage,
) -> None:
    relay = CallInTheMiddle()
    await stage.server.use(relay)
    ours, theirs = await rings(stage)
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    # The relay may be the last to know, of this and of the strings.
    await until(lambda: relay.protected == {"initiator", "responder"})
    question = await stage.alice.cm(ours.path, E2E, "Verify")
    await stage.alice.cm(question, VERIFICATION, "StartSAS")
    asked, _ = await stage.bob.new_channel(VERIFICATION)
    await stage.bob.signal(lambda each: each.member == "PeerStarted")
    await stage.bob.cm(asked, VERIFICATION, "StartSAS")
    hers, his = await string(stage.alice, question), await string(stage.bob, asked)
    assert hers != his
    await until(lambda: len(relay.strings) == 2)
    assert relay.strings == {"initiator": hers, "responder": his}
    await stage.alice.cm(question, VERIFICATION, "ConfirmSAS", "b", False)
    _, _, reason = await ours.until(ENDED)
    assert reason[2] == ERROR + "Cert.Untrusted"
    assert await ours.property(SECURABLE, "Verified") is False


async def test_accepting_and_giving_up_cross(stage: Stage) -> None:
    for _ in range(5):
        ours = await call(stage.alice, stage.server.jid("bob"))
        await ours.accept()
        theirs = await incoming(stage.bob)
        taken, _ = await asyncio.gather(theirs.accept(), ours.hangup(), return_exceptions=True)
        assert taken is None or isinstance(taken, DBusFailure)
        await asyncio.gather(ours.until(ENDED), theirs.until(ENDED))
        for each in (ours, theirs):
            await each.side.cm(each.path, CHANNEL, "Close")
        stage.bob.signals.clear()


async def test_answered_elsewhere(stage: Stage) -> None:
    other = await Side.start("bob2")
    try:
        given = parameters(stage.server.prosody, stage.server.jid("bob"), **MEDIA)
        await other.connect({**given, "resource": Variant("s", "phone")}, handles=BOTH)
        # The server has told them of one another, and brings the phone what is for Bob.
        await stage.pair.sees(other, stage.server.jid("alice"))
        ours, here = await rings(stage)
        there = await incoming(other)
        await there.accept()
        _, _, reason = await here.until(ENDED)
        assert reason[2] == ERROR + "PickedUpElsewhere"
        await asyncio.gather(ours.until(ACTIVE), there.until(ACTIVE))
        await ours.hangup()
        await there.until(ENDED)
    finally:
        await other.stop()
