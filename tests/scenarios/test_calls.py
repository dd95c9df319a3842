"""Two people call each other: real daemons, a real server, real codecs and real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.calls import (
    ACCEPTED,
    ACTIVE,
    AUDIO_CONTROL,
    CALL,
    CONTENT,
    DTMF,
    ENDED,
    HOLD,
    INITIALISED,
    MUTE,
    PENDING_INITIATOR,
    STREAM,
    OneCall,
    call,
    incoming,
    loudness,
    sends_nothing,
    tone_share,
    written,
)
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import (
    CHANNEL,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
)
from tests.support.waiting import PATIENCE

BOTH = (CALL, FILE_TRANSFER)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    pair = await Pair.start(prosody, alice=media, bob=media, alice_handles=BOTH, bob_handles=BOTH)
    yield pair
    await pair.stop()


async def short_string(side: Side, question: str) -> str:
    async with asyncio.timeout(PATIENCE):
        while True:
            shown = await side.get(question, VERIFICATION, "ShortAuthenticationString")
            if shown:
                return str(shown)
            await asyncio.sleep(0.02)


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
    came = (await theirs.figures(packets_received=1))["packets-received"]
    await theirs.figures(packets_received=came + 100)
    await ours.hangup()
    _, _, reason = await theirs.until(ENDED)
    assert reason[1:3] == (2, "")
    await written(heard)
    assert tone_share(heard, 440) > 0.5


async def test_people_verify_while_they_talk(pair: Pair) -> None:
    ours, theirs = await talking(pair)
    question = await pair.alice.cm(ours.path, E2E, "Verify")
    assert question != "/"
    await pair.alice.cm(question, VERIFICATION, "StartSAS")
    asked, _ = await pair.bob.new_channel(VERIFICATION)
    await pair.bob.signal(lambda each: each.member == "PeerStarted")
    await pair.bob.cm(asked, VERIFICATION, "StartSAS")
    strings = [await short_string(*each) for each in ((pair.alice, question), (pair.bob, asked))]
    assert strings[0] == strings[1]
    await pair.alice.cm(question, VERIFICATION, "ConfirmSAS", "b", True)
    await pair.bob.cm(asked, VERIFICATION, "ConfirmSAS", "b", True)
    for one in (ours, theirs):
        await one.side.changed(one.path, SECURABLE, "Verified", True)
        assert await one.property(E2E, "VerifiedBy") == "sas"
        await one.until(ACTIVE)


async def test_who_rejects_hangs_up_at_once(pair: Pair) -> None:
    ours, theirs = await talking(pair)
    question = await pair.alice.cm(ours.path, E2E, "Verify")
    await pair.alice.cm(question, VERIFICATION, "Reject", "s", "somebody else's voice")
    _, _, reason = await theirs.until(ENDED)
    assert reason[2] == "org.freedesktop.Telepathy.Error.EncryptionError"
    await ours.until(ENDED)


async def test_where_verification_is_demanded_nothing_is_heard_before_it(pair: Pair) -> None:
    ours = await call(
        pair.alice, pair.server.jid("bob"), demands={E2E + ".RequireVerified": Variant("b", True)}
    )
    await ours.accept()
    theirs = await incoming(pair.bob)
    await theirs.accept()
    question, properties = await pair.alice.new_channel(VERIFICATION)
    assert properties[VERIFICATION + ".Reason"] == "requested"
    await theirs.until(ACTIVE)
    # Bob's side sends, and nobody takes it; Alice's sends nothing.
    await theirs.figures(packets_sent=50)
    (heard,) = (await theirs.statistics()).values()
    assert heard["packets-received"] == 0
    assert await ours.statistics() == {}
    assert await ours.state() == ACCEPTED
    await pair.alice.cm(question, VERIFICATION, "Accept", "s", "fingerprint")
    await ours.until(ACTIVE)
    await theirs.figures(packets_received=20)
    assert await ours.property(SECURABLE, "Verified") is True


async def test_sound_and_pictures_on_one_road(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"), video=True)
    await ours.choose("VideoSource", "test-pattern")
    await ours.accept()
    theirs = await incoming(pair.bob)
    assert theirs.properties[CALL + ".InitialAudio"] is True
    assert theirs.properties[CALL + ".InitialVideo"] is True
    await theirs.choose("VideoSource", "test-pattern")
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    for one in (ours, theirs):
        assert len(await one.contents()) == 2
        async with asyncio.timeout(PATIENCE):
            while True:
                figures = (await one.statistics()).values()
                if sum(each["packets-received"] > 20 for each in figures) == 2:
                    break
                await asyncio.sleep(0.1)


async def test_pictures_are_added_and_taken_away(pair: Pair) -> None:
    ours, theirs = await talking(pair)
    await ours.choose("VideoSource", "test-pattern")
    content = await pair.alice.cm(ours.path, CALL, "AddContent", "suu", "face", 1, 3)
    added = await pair.bob.signal(lambda each: each.member == "ContentAdded")
    (path,) = added.body
    shown = await pair.bob.get_all(path, CONTENT)
    assert (shown["Type"], shown["Disposition"]) == (1, 0)
    # Whether Bob is seen is for Bob to say.
    (stream,) = shown["Streams"]
    assert await pair.bob.get(stream, STREAM, "LocalSendingState") == 1
    async with asyncio.timeout(PATIENCE):
        while (await theirs.statistics()).get(path, {}).get("packets-received", 0) < 20:
            await asyncio.sleep(0.1)
    assert (await theirs.statistics())[path]["packets-sent"] == 0
    # Bob shows himself, and then no more.
    await theirs.choose("VideoSource", "test-pattern")
    await pair.bob.cm(stream, STREAM, "SetSending", "b", True)
    async with asyncio.timeout(PATIENCE):
        while (await ours.statistics())[content]["packets-received"] < 20:
            await asyncio.sleep(0.1)
    await pair.bob.cm(stream, STREAM, "SetSending", "b", False)
    assert await pair.bob.get(stream, STREAM, "LocalSendingState") == 0
    await pair.alice.signal(
        lambda each: (
            each.member == "RemoteMembersChanged"
            and each.path.startswith(content)
            and list(each.body[0].values()) == [0]
        )
    )
    await sends_nothing(theirs, path)
    await pair.alice.cm(content, CONTENT, "Remove")
    await pair.bob.signal(lambda each: each.member == "ContentRemoved" and each.body[0] == path)
    assert len(await ours.contents()) == len(await theirs.contents()) == 1
    # The end of its media is not the end of the call, now or a little later.
    heard = (await theirs.figures(packets_received=1))["packets-received"]
    await theirs.figures(packets_received=heard + 150)
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))


async def test_who_is_asked_not_to_send_stops_and_begins_again_when_he_wants(pair: Pair) -> None:
    ours, theirs = await talking(pair)
    (content,), (other,) = await ours.contents(), await theirs.contents()
    stream, his = content + "/Stream", other + "/Stream"
    (bob,) = await pair.alice.get(stream, STREAM, "RemoteMembers")

    async def shown(side: Side, path: str, name: str, value: object) -> None:
        async with asyncio.timeout(PATIENCE):
            while await side.get(path, STREAM, name) != value:
                await asyncio.sleep(0.02)

    await shown(pair.alice, stream, "RemoteMembers", {bob: 2})
    await pair.alice.cm(stream, STREAM, "RequestReceiving", "ub", bob, False)
    await shown(pair.alice, stream, "RemoteMembers", {bob: 0})
    await shown(pair.bob, his, "LocalSendingState", 0)
    (stopped,) = [
        each
        for each in pair.bob.signals
        if (each.path, each.member) == (his, "LocalSendingStateChanged") and each.body[0] == 0
    ]
    alice = theirs.properties[CHANNEL + ".TargetHandle"]
    assert stopped.body[1][:2] == (alice, 2)  # it was her wish
    # He sends nothing, and hears her.
    await sends_nothing(theirs, other)
    after = await theirs.figures()
    # She asks, and nobody opens his microphone but he.
    await pair.alice.cm(stream, STREAM, "RequestReceiving", "ub", bob, True)
    await shown(pair.bob, his, "LocalSendingState", 1)
    heard = after["packets-received"]
    assert (await theirs.figures(packets_received=heard + 25))["packets-sent"] == after[
        "packets-sent"
    ]
    await shown(pair.alice, stream, "RemoteMembers", {bob: 1})
    await pair.bob.cm(his, STREAM, "SetSending", "b", True)
    await shown(pair.alice, stream, "RemoteMembers", {bob: 2})
    with pytest.raises(DBusFailure) as failure:
        await pair.alice.cm(stream, STREAM, "RequestReceiving", "ub", 4711, True)
    assert failure.value.name.endswith(".InvalidHandle")


async def test_nobody_sends_before_the_call_is_accepted(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob)
    (content,) = await theirs.contents()
    with pytest.raises(DBusFailure) as failure:
        await pair.bob.cm(content + "/Stream", STREAM, "SetSending", "b", True)
    assert failure.value.name.endswith(".NotYet")
    assert await pair.bob.get(content + "/Stream", STREAM, "LocalSendingState") == 1


async def test_hold_mute_and_keys(pair: Pair) -> None:
    ours, _ = await talking(pair)
    await pair.alice.cm(ours.path, HOLD, "RequestHold", "b", True)
    await pair.bob.signal(
        lambda each: each.member == "CallMembersChanged" and 2 in each.body[0].values()
    )
    assert await ours.property(CALL, "CallFlags") == 1
    await pair.alice.cm(ours.path, HOLD, "RequestHold", "b", False)
    assert await pair.alice.cm(ours.path, HOLD, "GetHoldState") == [0, 1]
    await pair.alice.cm(ours.path, MUTE, "RequestMuted", "b", True)
    assert await ours.property(MUTE, "LocalMuteState") == 1
    (content,) = await ours.contents()
    await pair.alice.cm(content, DTMF, "MultipleTones", "s", "12#w3")
    await pair.alice.signal(lambda each: each.member == "StoppedTones")
    assert await pair.alice.get(content, DTMF, "DeferredTones") == "3"
    with pytest.raises(DBusFailure) as failure:
        await pair.alice.cm(content, DTMF, "StartTone", "y", 16)
    assert failure.value.name.endswith(".InvalidArgument")


async def received(one: OneCall, lowest: float, highest: float) -> None:
    """Wait until what the contact sends is this loud, dBFS."""
    async with asyncio.timeout(PATIENCE):
        while True:
            levels = [each["level-received"] for each in (await one.statistics()).values()]
            if levels and lowest <= max(levels) <= highest:
                return
            await asyncio.sleep(0.1)


async def test_how_loud_people_are_is_theirs_to_say(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = await talking(pair)
    (content,), (other,) = await ours.contents(), await theirs.contents()
    assert await pair.alice.get(content, AUDIO_CONTROL, "RequestedInputVolume") == 255
    await received(theirs, -17, -13)
    # A tenth of the amplitude are 20 dB.
    await pair.alice.cm(content, AUDIO_CONTROL, "ReportInputVolume", "i", 26)
    await pair.alice.changed(content, AUDIO_CONTROL, "RequestedInputVolume", 26)
    await received(theirs, -37, -33)
    assert await pair.alice.get(content, AUDIO_CONTROL, "RequestedOutputVolume") == 255
    # One that is not known changes nothing, and one that there is not neither.
    await pair.alice.cm(content, AUDIO_CONTROL, "ReportInputVolume", "i", -1)
    for wrong in (-2, 256):
        with pytest.raises(DBusFailure) as failure:
            await pair.alice.cm(content, AUDIO_CONTROL, "ReportInputVolume", "i", wrong)
        assert failure.value.name.endswith(".InvalidArgument")
    assert await pair.alice.get(content, AUDIO_CONTROL, "RequestedInputVolume") == 26
    await pair.alice.cm(content, AUDIO_CONTROL, "ReportInputVolume", "i", 255)
    await received(theirs, -17, -13)
    # What Bob plays is Bob's business, and what arrives is as loud as it was.
    await pair.bob.cm(other, AUDIO_CONTROL, "ReportOutputVolume", "i", 26)
    await theirs.choose("AudioSink", f"file:{tmp_path / 'heard.wav'}")
    arrived = (await theirs.figures(packets_received=1))["packets-received"]
    await theirs.figures(packets_received=arrived + 100)
    await received(theirs, -17, -13)
    await ours.hangup()
    await theirs.until(ENDED)
    await written(tmp_path / "heard.wav")
    assert 0.005 < loudness(tmp_path / "heard.wav") < 0.03


async def test_one_content_can_be_muted_alone(pair: Pair) -> None:
    ours, theirs = await talking(pair)
    await ours.choose("VideoSource", "test-pattern")
    face = await pair.alice.cm(ours.path, CALL, "AddContent", "suu", "face", 1, 3)
    voice = next(each for each in await ours.contents() if each != face)
    await pair.alice.cm(voice, MUTE, "RequestMuted", "b", True)
    await received(theirs, -127, -60)
    assert await pair.alice.get(face, MUTE, "LocalMuteState") == 0
    assert await ours.property(MUTE, "LocalMuteState") == 4
    await pair.alice.cm(face, CONTENT, "Remove")
    # Of what is left everything is muted, and unmuted by the call as a whole.
    assert await ours.property(MUTE, "LocalMuteState") == 1
    await pair.alice.cm(ours.path, MUTE, "RequestMuted", "b", False)
    assert await pair.alice.get(voice, MUTE, "LocalMuteState") == 0
    told = [each for each in pair.alice.signals if each.member == "MuteStateChanged"]
    assert [each.body for each in told if each.path == ours.path] == [(4,), (1,), (0,)]
    assert [each.body for each in told if each.path == voice] == [(1,), (0,)]
    await received(theirs, -17, -13)


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


async def test_who_call_each_other_at_once_talk_in_one_call(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    theirs = await call(pair.bob, pair.server.jid("alice"))
    await asyncio.gather(ours.accept(), theirs.accept())
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    await asyncio.gather(ours.figures(packets_received=20), theirs.figures(packets_received=20))
    for one in (ours, theirs):
        assert await one.property(SECURABLE, "Encrypted") is True
        assert len(await one.contents()) == 1
    for one in (ours, theirs):
        others = [
            path
            for each in one.side.signals
            if each.member == "NewChannels"
            for path, properties in each.body[0]
            if properties[CHANNEL + ".ChannelType"] == CALL and path != one.path
        ]
        # One may have rung before its user called; nothing rings any more.
        for path in others:
            await OneCall(one.side, path, {}).until(ENDED)
    await theirs.hangup()
    _, _, reason = await ours.until(ENDED)
    assert reason[1:3] == (2, "")


async def test_who_calls_somebody_who_is_calling_answers_that_call(pair: Pair) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    rings = await incoming(pair.bob)
    theirs = await call(pair.bob, pair.server.jid("alice"))
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    _, _, reason = await rings.until(ENDED)
    assert reason[2] == "org.freedesktop.Telepathy.Error.PickedUpElsewhere"
