"""Calls of peers that behave badly, against a real daemon. See ``tests.peer.bench``."""

from __future__ import annotations

import asyncio
import copy
import secrets
from xml.etree.ElementTree import Element

import pytest
from dbus_fast import Variant

from telepathy_e2e.jingle import rtp
from telepathy_e2e.media.inside_aiortc import SecureTransport
from telepathy_e2e.service.calls import MAX_CALLS, MAX_RINGING_EACH, MAX_RINGING_STRANGERS
from tests.peer import calls, stanzas
from tests.peer.bench import Bench
from tests.peer.calls import CALLS, Talker
from tests.peer.client import Peer, Session
from tests.support.calls import (
    ACTIVE,
    CALL,
    ENDED,
    INITIALISED,
    OneCall,
    call,
    incoming,
)
from tests.support.media import OPUS
from tests.support.prosody import available
from tests.support.side import FILE_TRANSFER, SECURABLE, DBusFailure
from tests.support.waiting import PATIENCE
from tests.unit.jingle_support import sample

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DAEMON = {
    "handles": (FILE_TRANSFER, CALL),
    "call_audio_source": Variant("s", "tone"),
    "call_audio_sink": Variant("s", "null"),
}
ENCRYPTION_ERROR = "org.freedesktop.Telepathy.Error.EncryptionError"
DECLINE, SECURITY = "decline", "security-error"


async def phone(bench: Bench) -> Peer:
    """A contact with a client for calls."""
    return await bench.peer("carol", features=CALLS, resource="phone")


async def rings(bench: Bench, session: Session, *contents: Element) -> OneCall:
    """A peer's offer was taken for one, and rings."""
    assert await session.send("session-initiate", *contents) == ("", "")
    return await incoming(bench.side)


async def ringing(bench: Bench) -> int:
    """Calls that were shown in this test, by what the daemon has told its other side so far."""
    await bench.channels()  # what it says of them on the bus is behind its signals
    return shown(bench)


def shown(bench: Bench) -> int:
    """Those of which the signals have come."""
    return sum(
        properties["org.freedesktop.Telepathy.Channel.ChannelType"] == CALL
        for each in bench.side.signals
        if each.member == "NewChannels"
        for _, properties in each.body[0]
    )


async def refused(bench: Bench, *contents: Element, condition: str) -> None:
    """An offer that rings nowhere.

    Args:
        condition: of the session-terminate, or of the error that answers the offer.
    """
    peer = await phone(bench)
    session = peer.session(bench.jid)
    error, _ = await session.send("session-initiate", *contents)
    if error:
        assert error == condition
    else:
        assert await session.ended() == condition
    assert await ringing(bench) == 0


# -- what is offered --------------------------------------------------------------------------


async def test_keys_in_the_signalling_alone_are_no_encryption(bench: Bench) -> None:
    offer = calls.content(
        description_=calls.description(sdes=True), transport_=calls.transport(digest=None)
    )
    await refused(bench, offer, condition=SECURITY)


async def test_an_offer_without_any_encryption_is_refused(bench: Bench) -> None:
    await refused(bench, calls.content(transport_=calls.transport(digest=None)), condition=SECURITY)


@pytest.mark.parametrize("setup", ["both-ways", ""])
async def test_a_role_in_the_handshake_that_is_none_is_refused(bench: Bench, setup: str) -> None:
    offer = calls.content(transport_=calls.transport(setup=setup))
    await refused(bench, offer, condition="bad-request")


@pytest.mark.parametrize("setup", [None, "holdconn"])
async def test_without_a_role_in_the_handshake_there_is_no_call(
    bench: Bench, setup: str | None
) -> None:
    offer = calls.content(transport_=calls.transport(setup=setup))
    await refused(bench, offer, condition="bad-request")


async def test_two_contents_with_different_certificates_are_refused(bench: Bench) -> None:
    voice = calls.content("voice")
    face = calls.content(
        "face",
        calls.description("video", [(97, "VP8", "90000", "1")]),
        calls.transport(digest=b"\1" * 32),
    )
    await refused(bench, voice, face, condition="bad-request")


async def test_media_that_nobody_knows_are_refused(bench: Bench) -> None:
    offer = calls.content(description_=calls.description("smell"))
    await refused(bench, offer, condition="unsupported-applications")


async def test_codecs_that_nobody_knows_are_refused(bench: Bench) -> None:
    offer = calls.content(description_=calls.description(payload_types=[(96, "x", "8000", "1")]))
    await refused(bench, offer, condition="unsupported-applications")


async def test_many_candidates_and_payload_types_ring_all_the_same(bench: Bench) -> None:
    many = [(id_, f"x{id_}", "8000", "1") for id_ in range(99)]
    offer = calls.content(
        description_=calls.description(payload_types=[*many, (111, "opus", "48000", "2")]),
        transport_=calls.transport(candidates=200),
    )
    session = (await phone(bench)).session(bench.jid)
    theirs = await rings(bench, session, offer)
    await theirs.accept()
    accept = await session.wait("session-accept")
    found = accept.iter(f"{{{calls.RTP}}}payload-type")
    assert [(each.get("id"), each.get("name")) for each in found] == [("111", "opus")]
    await theirs.hangup()
    assert await session.ended() == "success"


async def test_unknown_media_beside_a_voice_are_left_out(bench: Bench) -> None:
    session = (await phone(bench)).session(bench.jid)
    offer = calls.content(), calls.content("nose", calls.description("smell"))
    theirs = await rings(bench, session, *offer)
    assert len(await theirs.contents()) == 1
    await theirs.accept()
    accept = await session.wait("session-accept")
    assert [each.get("name") for each in accept.iter(f"{{{stanzas.JINGLE}}}content")] == ["voice"]


async def test_dino_is_answered_with_dtls_though_it_offers_sdes_too(bench: Bench) -> None:
    recorded = copy.deepcopy(sample("Dino", "session-initiate"))
    offer = recorded.findall(f"{{{stanzas.JINGLE}}}content")
    assert rtp.parse(offer[0].find(f"{{{calls.RTP}}}description")).sdes
    peer = await phone(bench)
    session = peer.session(bench.jid, recorded.get("sid", ""))
    peer.send(calls.propose(stanzas.bare(bench.jid), session.sid))
    theirs = await incoming(bench.side)
    await theirs.accept()
    await peer.until(
        lambda: any(each.find(f"{{{calls.MESSAGES}}}proceed") is not None for each in peer.messages)
    )
    assert await session.send("session-initiate", *offer) == ("", "")
    accept = await session.wait("session-accept")
    answer = accept.find(f"{{{stanzas.JINGLE}}}content")
    assert answer is not None
    assert list(answer.iter(f"{{{calls.RTP}}}encryption")) == []
    (fingerprint,) = answer.iter(f"{{{calls.DTLS}}}fingerprint")
    assert (fingerprint.get("hash"), fingerprint.get("setup")) == ("sha-256", "active")
    codecs = [each.get("name") for each in answer.iter(f"{{{calls.RTP}}}payload-type")]
    assert codecs == ["opus", "PCMU", "PCMA"]
    assert await theirs.property(SECURABLE, "Encrypted") is False  # nobody has shown that key


# -- while it rings, and afterwards -----------------------------------------------------------


async def test_news_of_contents_that_there_are_not_change_nothing(bench: Bench) -> None:
    session = (await phone(bench)).session(bench.jid)
    theirs = await rings(bench, session, calls.content())
    for _ in range(200):
        answer = await session.send("transport-info", calls.content("nose", Element("{x}y")))
        assert answer[0] in ("item-not-found", "bad-request")
    assert await theirs.state() == INITIALISED
    assert await session.terminate() == ("", "")
    _, _, reason = await theirs.until(ENDED)
    assert reason[2] == "org.freedesktop.Telepathy.Error.NoAnswer"


async def talks(bench: Bench) -> tuple[Talker, OneCall]:
    """A peer with real media has called, and is heard."""
    talker = Talker((await phone(bench)).session(bench.jid))
    assert await talker.offer() == ("", "")
    theirs = await incoming(bench.side)
    await theirs.accept()
    await talker.accepted()
    await talker.connected()
    await theirs.until(ACTIVE)
    return talker, theirs


async def test_packets_under_a_wrong_key_are_dropped_and_the_call_goes_on(bench: Bench) -> None:
    talker, theirs = await talks(bench)
    try:
        dtls = talker.engine._roads["m"].dtls
        assert dtls is not None
        for number in range(300):
            header = b"\x80\x60" + number.to_bytes(2) + bytes(4) + b"\1\2\3\4"
            await dtls.transport._send(header + secrets.token_bytes(90))
        (figures,) = (await theirs.statistics()).values()
        assert figures["packets-received"] == 0
        await talker.engine.open_content("voice", "m", send=OPUS, receive=OPUS, source="tone")
        await theirs.figures(packets_received=20)
        await theirs.until(ACTIVE)
    finally:
        await talker.engine.close()


async def test_a_peer_that_never_completes_dtls_hears_and_says_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def handshake(self: SecureTransport, role: str) -> None:
        await never.wait()

    monkeypatch.setattr(SecureTransport, "handshake", handshake)
    talker = Talker((await phone(bench)).session(bench.jid))
    try:
        assert await talker.offer() == ("", "")
        theirs = await incoming(bench.side)
        await theirs.accept()
        await talker.accepted()
        talker.start()
        await asyncio.sleep(1)
        assert await theirs.state() < ACTIVE
        assert await theirs.property(SECURABLE, "Encrypted") is False
        assert await theirs.statistics() == {}
        await theirs.hangup()
        assert await talker.session.ended() == "success"
    finally:
        await talker.engine.close()


@pytest.mark.parametrize("action", ["transport-info", "transport-replace"])
async def test_another_certificate_in_the_middle_of_a_call_ends_it(
    bench: Bench, action: str
) -> None:
    talker, theirs = await talks(bench)
    try:
        news = stanzas.content(
            calls.transport(digest=b"\1" * 32), name="voice", creator="initiator", senders=""
        )
        await talker.session.send(action, news)
        _, _, reason = await theirs.until(ENDED)
        assert reason[2] == ENCRYPTION_ERROR
        assert await talker.session.ended() == SECURITY
    finally:
        await talker.engine.close()


async def test_another_association_is_refused_and_the_call_goes_on(bench: Bench) -> None:
    talker, theirs = await talks(bench)
    try:
        # She began as the server of the handshake, for we answered as its client.
        fingerprint = talker.engine.local_transport("m").fingerprints[0]
        news = stanzas.content(
            calls.transport(digest=fingerprint.digest, setup="active"),
            name="voice",
            creator="initiator",
            senders="",
        )
        condition, _ = await talker.session.send("transport-info", news)
        assert condition == "not-acceptable"
        assert await talker.session.send("transport-replace", news) == ("", "")
        await talker.session.wait("transport-reject")
        sent = (await theirs.figures(packets_sent=1))["packets-sent"]
        await theirs.figures(packets_sent=sent + 25)
        await theirs.until(ACTIVE)
    finally:
        await talker.engine.close()


@pytest.mark.parametrize("action", ["transport-info", "transport-replace"])
async def test_who_looks_for_other_ways_all_the_time_holds_no_sockets(
    bench: Bench, action: str
) -> None:
    talker, theirs = await talks(bench)
    try:
        before = bench.descriptors()
        digest = talker.engine.local_transport("m").fingerprints[0].digest
        for _ in range(50):
            news = stanzas.content(
                calls.transport(digest=digest), name="voice", creator="initiator", senders=""
            )
            assert await talker.session.send(action, news) == ("", "")
        async with asyncio.timeout(PATIENCE):
            while bench.descriptors() > before + 10:
                await asyncio.sleep(0.05)
        # The way that there is carries on meanwhile.
        sent = (await theirs.figures(packets_sent=1))["packets-sent"]
        await theirs.figures(packets_sent=sent + 25)
        await theirs.until(ACTIVE)
    finally:
        await talker.engine.close()


async def test_a_road_that_one_content_had_for_itself_takes_nothing_but_that_along(
    bench: Bench,
) -> None:
    talker, theirs = await talks(bench)
    try:
        await talker.add("more")
        await theirs.figures(packets_sent=20)
        async with asyncio.timeout(PATIENCE):
            while len(await theirs.statistics()) < 2:
                await asyncio.sleep(0.05)
        first, added = await theirs.contents()
        await talker.engine.close_road("more")
        removal = await talker.session.wait("content-remove")
        (gone,) = removal.findall(f"{{{stanzas.JINGLE}}}content")
        assert gone.get("name") == "more"
        reason = removal.find(f"{{{stanzas.JINGLE}}}reason")
        assert reason is not None
        assert reason[0].tag == f"{{{stanzas.JINGLE}}}failed-transport"
        removed = await bench.side.signal(lambda each: each.member == "ContentRemoved")
        assert (removed.body[0], removed.body[1][1]) == (added, 13)
        sent = (await theirs.figures(packets_sent=1))["packets-sent"]
        await theirs.figures(packets_sent=sent + 50)
        await theirs.until(ACTIVE)
        assert await theirs.contents() == [first]
    finally:
        await talker.engine.close()


async def test_a_flood_of_contents_is_bounded(bench: Bench) -> None:
    talker, theirs = await talks(bench)
    try:
        answers = []
        for number in range(40):
            added = calls.content(f"more{number}", transport_=calls.transport(digest=None))
            answers.append(await talker.session.send("content-add", added))
        assert answers.count(("", "")) < 10
        assert len(await theirs.contents()) <= 8
        await theirs.until(ACTIVE)
    finally:
        await talker.engine.close()


@pytest.mark.parametrize("state", ["rings", "answered", "talks"])
@pytest.mark.parametrize("who", ["we", "they"])
async def test_hanging_up_leaves_nothing_whenever_it_is(bench: Bench, who: str, state: str) -> None:
    talker = Talker((await phone(bench)).session(bench.jid))
    try:
        assert await talker.offer() == ("", "")
        theirs = await incoming(bench.side)
        if state != "rings":
            await theirs.accept()
            await talker.accepted()
        if state == "talks":
            await talker.connected()
            await theirs.until(ACTIVE)
        if who == "we":
            await theirs.hangup()
            assert await talker.session.ended() == ("decline" if state == "rings" else "success")
        else:
            assert await talker.session.terminate("success") == ("", "")
        _, _, reason = await theirs.until(ENDED)
        assert reason[1] in (2, 4, 5)
    finally:
        await talker.engine.close()


# -- many -------------------------------------------------------------------------------------


async def test_strangers_ring_no_more_than_so_often(bench: Bench) -> None:
    conditions = []
    for _ in range(MAX_RINGING_STRANGERS + 2):
        session = (await bench.stranger(features=CALLS)).session(bench.jid)
        error = await session.send("session-initiate", calls.content())
        conditions.append(error[0] or ("" if "session-terminate" not in session.actions else "end"))
        if len(conditions) > MAX_RINGING_STRANGERS and not error[0]:
            assert await session.ended() == "busy"
    assert await ringing(bench) == MAX_RINGING_STRANGERS


async def test_one_contact_rings_no_more_than_so_often(bench: Bench) -> None:
    peer = await phone(bench)
    sessions = [peer.session(bench.jid) for _ in range(MAX_RINGING_EACH + 3)]
    for session in sessions:
        await session.send("session-initiate", calls.content())
    for session in sessions[MAX_RINGING_EACH:]:
        assert await session.ended() == "busy"
    assert await ringing(bench) == MAX_RINGING_EACH


async def test_a_flood_of_announcements_is_bounded(bench: Bench) -> None:
    peer = await phone(bench)
    for number in range(200):
        peer.send(calls.propose(bench.jid, f"flood{number}"))
    await peer.until(
        lambda: (
            sum(each.find(f"{{{calls.MESSAGES}}}reject") is not None for each in peer.messages)
            >= 200 - MAX_RINGING_EACH
        )
    )
    assert await ringing(bench) == MAX_RINGING_EACH


async def test_announcing_and_taking_back_leaves_nothing(bench: Bench) -> None:
    peer = await phone(bench)
    for number in range(50):
        peer.send(calls.propose(bench.jid, f"flicker{number}"))
        peer.send(calls.message(bench.jid, "retract", f"flicker{number}"))
    await bench.side.signal(lambda _: shown(bench) == 50)
    await bench.side.signal(
        lambda _: (
            sum(
                each.member == "CallStateChanged" and each.body[0] == ENDED
                for each in bench.side.signals
            )
            == 50
        )
    )


async def test_who_did_not_take_an_announced_call_gets_no_session(bench: Bench) -> None:
    peer = await phone(bench)
    session = peer.session(bench.jid)
    peer.send(calls.propose(bench.jid, session.sid))
    theirs = await incoming(bench.side)
    await session.send("session-initiate", calls.content())
    assert await session.ended() == "busy"
    assert await theirs.state() == INITIALISED
    await theirs.hangup()


async def test_a_wrong_offer_after_an_announcement_ends_the_call_at_once(bench: Bench) -> None:
    peer = await phone(bench)
    session = peer.session(bench.jid)
    peer.send(calls.propose(bench.jid, session.sid))
    theirs = await incoming(bench.side)
    await theirs.accept()
    await peer.until(
        lambda: any(each.find(f"{{{calls.MESSAGES}}}proceed") is not None for each in peer.messages)
    )
    await session.send("session-initiate", calls.content(transport_=calls.transport(digest=None)))
    _, _, reason = await theirs.until(ENDED)
    assert reason[2].endswith("EncryptionNotAvailable")


# -- at once ----------------------------------------------------------------------------------


async def reaches(bench: Bench, peer: Peer) -> OneCall:
    """The user here calls a contact's client that gets its offers at once."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                ours = await call(bench.side, stanzas.bare(peer.jid))
                break
            except DBusFailure:
                await asyncio.sleep(0.02)  # not online yet
    await ours.accept()
    return ours


@pytest.mark.parametrize("lower", [True, False])
async def test_of_two_offers_that_cross_the_lower_name_counts(bench: Bench, lower: bool) -> None:
    peer = await phone(bench)

    def unanswered(iq: Element) -> bool | None:
        found = iq.find(f"{{{stanzas.JINGLE}}}jingle")
        return False if found is not None and found.get("action") == "session-initiate" else None

    peer.answers = unanswered
    ours = await reaches(bench, peer)
    await peer.offered()
    session = peer.session(bench.jid, ("0" if lower else "z") * 32)
    answer = await session.send("session-initiate", calls.content())
    assert answer == (("", "") if lower else ("conflict", "tie-break"))
    assert await ringing(bench) == 1  # ours alone
    if lower:
        await session.wait("session-accept")  # both wanted to talk
    assert await ours.state() < ENDED


async def test_there_are_no_more_calls_than_so_many(bench: Bench) -> None:
    peer = await phone(bench)
    many = [await reaches(bench, peer)]
    while len(many) < MAX_CALLS:
        many.append(await reaches(bench, peer))
    with pytest.raises(DBusFailure) as failure:
        await call(bench.side, stanzas.bare(peer.jid))
    assert failure.value.name.endswith(".NotAvailable")
    for _ in many:
        await peer.offered()
    # A stranger's, so that it crosses none of ours.
    other = await bench.stranger(features=CALLS)
    session = other.session(bench.jid)
    await session.send("session-initiate", calls.content())
    assert await session.ended() == "busy"
    for each in many:
        await each.hangup()
        await each.until(ENDED)
    peer.send(calls.propose(bench.jid, "afterwards"))
    await incoming(bench.side)
