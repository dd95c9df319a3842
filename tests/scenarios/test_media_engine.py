"""Two media engines in one process, over real UDP on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import socket
import threading
from collections.abc import AsyncIterator, Callable

import aioice.ice
import pytest
from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCRtpSender,
)
from aiortc.rtcicetransport import candidate_from_aioice
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from telepathy_e2e.errors import InvalidArgument, NotAvailable
from telepathy_e2e.jingle.ice import DtlsFingerprint
from telepathy_e2e.jingle.rtp import Description
from telepathy_e2e.media import dtmf, frames, inside_aiortc, mapping, path, road, silence
from telepathy_e2e.media.engine import MediaEngine, Stats
from telepathy_e2e.media.events import (
    Connected,
    Disconnected,
    DtmfReceived,
    GatheringDone,
    LocalCandidates,
    MediaLost,
    Restarted,
    RestartWanted,
    RoadFailed,
)
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.media.sources import MediaUnavailable, TestPattern, Tone
from tests.support.media import (
    G722,
    H264,
    OPUS,
    PCMA,
    PCMU,
    SECOND,
    VP8,
    Call,
    Clicks,
    Ears,
    Person,
    connected,
)
from tests.support.waiting import PATIENCE, until


@pytest.fixture(autouse=True)
async def nothing_left(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Calls over loopback; afterwards no task, thread or descriptor of theirs is there."""
    monkeypatch.setenv("TELEPATHY_E2E_MEDIA_LOOPBACK", "1")
    before = asyncio.all_tasks()
    descriptors = len(os.listdir("/proc/self/fd"))
    yield

    def left() -> list[str]:
        ours = asyncio.all_tasks() - before - {asyncio.current_task()}
        found = [task.get_name() for task in ours if not task.done()]
        found += [t.name for t in threading.enumerate() if t.name.endswith("-decoder")]
        now = len(os.listdir("/proc/self/fd"))
        return found + [f"{now} descriptors, not {descriptors}"] * (now > descriptors)

    # What is closed goes in the next turns of the loop; whatever waits for a deadline, in none.
    for _ in range(100):
        if not left():
            break
        await asyncio.sleep(0.01)
    assert left() == []


async def figures(person: Person, holds: Callable[[Stats], bool]) -> Stats:
    """Those of the content, once they are as they are to be."""
    shown = Stats()
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds(shown := (await person.engine.stats())["c"]):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{shown}") from None
    return shown


async def goes_on(ears: Ears) -> None:
    """Half a second is played from now on, with sound at its end."""
    heard = len(ears.pcm)
    await until(lambda: len(ears.pcm) > heard + SECOND // 2 and ears.loudest() > 3000)


@pytest.mark.parametrize("description", [OPUS, PCMU, PCMA, G722])
async def test_a_tone_arrives_as_a_tone(description: Description) -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(description, "tone:440", ears)
        await until(lambda: len(ears.pcm) > 192000 and ears.purity(440) > 0.95)
        assert ears.purity(600) < 0.01
        # The meter shows a tenth of a second, in which something may have been late.
        stats = await figures(
            call.bob,
            lambda shown: (
                shown.packets_received > 40 and shown.level_received == pytest.approx(-15, abs=2.5)
            ),
        )
        assert stats.codec_received == description.payload_types[0].name


@pytest.mark.parametrize("description", [VP8, H264])
async def test_pictures_arrive(description: Description) -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(description, "test-pattern", ears)
        await until(lambda: len(ears.pictures) > 10)
        assert (ears.pictures[-1].width, ears.pictures[-1].height) == (640, 480)
        first, last = (
            bytes(each.planes[0])[:640] for each in ears.pictures[:: len(ears.pictures) - 1]
        )
        assert first != last


async def test_each_click_is_heard_after_it_was_made() -> None:
    """How long it takes is measured by ``benchmarks`` (mouth to ear)."""
    async with connected() as call:
        mouth, ears = Clicks(), Ears()
        await call.open(OPUS, mouth, ears)
        await until(lambda: len(ears.clicks) >= 4)
        delays = [there - here for here, there in zip(mouth.times, ears.clicks, strict=False)]
        assert 0 < min(delays)


async def test_both_sides_export_the_same_keys_for_the_same_context() -> None:
    async with connected() as call:
        exported = [
            side.engine.export("m", b"EXPORTER-x-telepathy-e2e-v0", context, 96)
            for side in (call.alice, call.bob)
            for context in (b"a" * 32, b"b" * 32)
        ]
        assert exported[0] == exported[2]
        assert exported[1] == exported[3]
        assert exported[0] != exported[1]
        facts = (await call.alice.until(Connected)).facts
        assert facts.protocol in ("DTLSv1.2", "DTLSv1.3")
        assert "GCM" in facts.cipher or "CHACHA20" in facts.cipher


@pytest.mark.parametrize("strict", [True, False])
async def test_another_certificate_than_announced_is_a_matter_of_security(strict: bool) -> None:
    call = Call()
    try:
        wrong = DtlsFingerprint(hash="sha-256", digest=bytes(32), setup="active")
        await call.start(fingerprints=[wrong], strict=strict)
        assert (await call.alice.until(RoadFailed)).why == "security"
        # Alice says so with an alert; Bob had nothing against her.
        assert (await call.bob.until(RoadFailed)).why == "dtls"
        with pytest.raises(NotAvailable):
            call.alice.engine.export("m", b"label", b"", 32)
        with pytest.raises(NotAvailable):
            await call.alice.engine.open_content("c", "m", send=OPUS, receive=None)
    finally:
        await call.close()


async def test_one_wrong_fingerprint_beside_a_right_one_is_wrong() -> None:
    call = Call()
    try:
        right = call.bob.engine.local_transport("m").fingerprints[0]
        wrong = DtlsFingerprint(hash="sha-512", digest=bytes(64), setup="active")
        await call.start(fingerprints=[right, wrong])
        assert (await call.alice.until(RoadFailed)).why == "security"
    finally:
        await call.close()


async def test_dtls_without_the_extended_master_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = inside_aiortc._Certificate._create_ssl_context

    def without(self: inside_aiortc._Certificate, srtp_profiles: object) -> SSL.Context:
        context = make(self, srtp_profiles)  # type: ignore[arg-type]
        context.set_max_proto_version(inside_aiortc.DTLS_1_2)
        context.set_options(1)  # SSL_OP_NO_EXTENDED_MASTER_SECRET
        return context

    monkeypatch.setattr(inside_aiortc._Certificate, "_create_ssl_context", without)
    call = Call()
    try:
        await call.start()
        assert (await call.bob.until(RoadFailed)).why == "security"
        assert "extended master secret" in (await call.alice.until(RoadFailed)).text
    finally:
        await call.close()


async def test_a_peer_that_never_completes_dtls_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(road, "DTLS_DEADLINE", 0.5)

    call = Call()
    try:
        # Two servers wait for each other's first message.
        await asyncio.gather(call.alice.engine.gather("m"), call.bob.engine.gather("m"))
        hers, his = (side.engine.local_transport("m") for side in (call.alice, call.bob))
        call.alice.engine.remote_transport("m", his)
        call.bob.engine.remote_transport("m", hers)
        call.alice.engine.start("m", "server", his.fingerprints)
        call.bob.engine.start("m", "server", hers.fingerprints)
        assert (await call.alice.until(RoadFailed)).why == "dtls"
    finally:
        await call.close()


async def test_where_nobody_answers_ice_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(silence.PATIENCE_VARIABLE, "0.5")
    call = Call()
    try:
        await call.start()
        await call.bob.engine.close()
        assert (await call.alice.until(RoadFailed)).why in ("ice", "dtls")
    finally:
        await call.close()


async def test_candidates_of_this_machine_come_at_once_though_a_server_is_dead() -> None:
    call = Call()
    try:
        call.alice.engine._roads["m"]._servers = (IceServer("stun", "127.0.0.1", 9),)
        gathering = asyncio.create_task(call.alice.engine.gather("m"))
        # At once is before the server has been given up.
        told = await call.alice.until(LocalCandidates)
        assert {each.type for each in told.candidates} == {"host"}
        assert not any(isinstance(each, GatheringDone) for each in call.alice.events)
        gathering.cancel()
    finally:
        await call.close()


async def test_candidates_may_come_one_by_one_after_the_start() -> None:
    call = Call()
    try:
        alice, bob = call.alice.engine, call.bob.engine
        hers, his = alice.local_transport("m"), bob.local_transport("m", "active")
        assert hers.candidates == ()
        alice.remote_transport("m", his)
        bob.remote_transport("m", hers)
        alice.start("m", "server", his.fingerprints)
        bob.start("m", "client", hers.fingerprints)
        await asyncio.gather(alice.gather("m"), bob.gather("m"))
        for person, other in ((call.alice, bob), (call.bob, alice)):
            for event in person.events:
                if isinstance(event, LocalCandidates):
                    for candidate in event.candidates:
                        transport = type(hers)(
                            ufrag="", pwd="", candidates=(candidate,), fingerprints=()
                        )
                        other.remote_transport("m", transport)
        await call.alice.until(Connected)
        await call.bob.until(Connected)
    finally:
        await call.close()


async def test_ice_begins_anew_and_dtls_goes_on() -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(OPUS, "tone", ears)
        await until(lambda: ears.loudest() > 3000)
        before = call.alice.engine.export("m", b"label", b"", 32)
        old = call.bob.engine.local_transport("m")
        call.alice.engine.restart("m")
        hers = call.alice.engine.restart("m")  # he has not heard of the first
        # A candidate of before that was on its way says nothing of what comes.
        call.alice.engine.remote_transport("m", old)
        assert not call.alice.engine._roads["m"]._generation.credentials.is_set()
        await call.alice.engine.gather("m")
        call.bob.engine.remote_transport("m", call.alice.engine.local_transport("m"))
        await call.bob.until(RestartWanted)
        his = call.bob.engine.restart("m")
        assert (hers.ufrag, hers.pwd) != (his.ufrag, his.pwd)
        await call.bob.engine.gather("m")
        call.alice.engine.remote_transport("m", call.bob.engine.local_transport("m"))
        await call.alice.until(Restarted)
        await call.bob.until(Restarted)
        assert call.alice.engine.export("m", b"label", b"", 32) == before
        await goes_on(ears)


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_a_handshake_that_nobody_announced_changes_nothing(who: str) -> None:
    """Whoever can send from the peer's address could end calls otherwise (RFC 6347, 4.2.8)."""
    hello = SSL.Connection(SSL.Context(SSL.DTLS_METHOD), None)
    hello.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        hello.do_handshake()
    datagram = hello.bio_read(4096)
    assert datagram[0] == 22
    async with connected() as call:
        ears = Ears()
        await call.open(OPUS, "tone", ears)
        await until(lambda: ears.loudest() > 3000)
        sender: MediaEngine = getattr(call, who).engine
        before = call.alice.engine.export("m", b"label", b"", 32)
        dtls = sender._roads["m"].dtls
        assert dtls is not None
        for _ in range(5):
            await dtls.transport._send(datagram)
        await goes_on(ears)
        for side in (call.alice, call.bob):
            assert side.engine.export("m", b"label", b"", 32) == before
            assert not any(isinstance(each, RoadFailed) for each in side.events)


async def test_who_leaves_without_a_word_of_ice_is_told_of() -> None:
    async with connected() as call:
        await call.alice.engine._roads["m"]._generation.connection.close()
        await call.alice.until(Disconnected)


async def test_the_peers_end_of_dtls_is_told() -> None:
    async with connected() as call:
        await call.alice.engine.close()
        assert (await call.bob.until(RoadFailed)).why == "dtls"


async def test_muted_is_silent_and_comes_back() -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(PCMU, "tone", ears)
        await until(lambda: ears.loudest() > 3000)
        call.alice.engine.mute("c", True)
        await until(lambda: ears.loudest(0.3) < 20)
        sent = (await call.alice.engine.stats())["c"].packets_sent
        await figures(call.alice, lambda shown: shown.packets_sent > sent)
        call.alice.engine.mute("c", False)
        await until(lambda: ears.loudest() > 3000)


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_on_hold_nothing_is_heard_whoever_holds(who: str) -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(PCMU, "tone", ears)
        await until(lambda: ears.loudest() > 3000)
        engine: MediaEngine = getattr(call, who).engine
        engine.hold(True)
        await until(lambda: ears.loudest(0.3) == 0)
        if who == "alice":
            sent = await silent(call, ears)
        else:
            sent = (await call.alice.engine.stats())["c"].packets_sent
            await figures(call.alice, lambda shown: shown.packets_sent > sent)
        engine.hold(False)
        await until(lambda: ears.loudest(0.3) > 3000)
        shown = (await call.bob.engine.stats())["c"]
        assert shown.packets_lost == 0
        assert shown.packets_received >= sent


async def silent(call: Call, ears: Ears) -> int:
    """Wait until Alice sends nothing for half a second of what is played; packets she has sent.

    What was with the encoder when she was held goes out still.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            sent = (await call.alice.engine.stats())["c"].packets_sent
            heard = len(ears.pcm)
            await until(lambda heard=heard: len(ears.pcm) > heard + SECOND // 2)  # type: ignore[misc]
            if (await call.alice.engine.stats())["c"].packets_sent == sent:
                return sent


@pytest.mark.parametrize("description", [OPUS, PCMU])
async def test_keys_arrive_in_order_and_sound_goes_on(description: Description) -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(description, "tone", ears)
        await until(lambda: ears.loudest() > 3000)
        for event in (5, 5, 11, 15):
            call.alice.engine.dtmf("c", event, 60)
        await call.bob.until(DtmfReceived, 4)
        assert [e.event for e in call.bob.events if isinstance(e, DtmfReceived)] == [5, 5, 11, 15]
        await goes_on(ears)
        assert dtmf.KEYS[11] == "#"
        assert (await call.bob.engine.stats())["c"].packets_lost == 0


async def test_keys_need_a_payload_type_for_them() -> None:
    async with connected() as call:
        await call.open(G722, "tone", "null")
        with pytest.raises(NotAvailable):
            call.alice.engine.dtmf("c", 1)


async def test_a_direction_is_closed_and_opened_again() -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(OPUS, "tone", ears)
        await until(lambda: ears.loudest() > 3000)
        await call.alice.engine.change_content("c", send=None, receive=None)
        await until(lambda: ears.loudest(0.3) == 0)
        await call.alice.engine.change_content("c", send=OPUS, receive=None, source="tone:1000")
        await until(lambda: ears.loudest() > 3000)
        await until(lambda: ears.purity(1000) > 0.9)


async def test_a_content_closed_and_opened_again_has_another_ssrc() -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(OPUS, "tone", ears)
        first = call.alice.engine._contents["c"]._ssrcs
        await until(lambda: ears.loudest() > 3000)
        await call.alice.engine.close_content("c")
        await call.bob.engine.close_content("c")
        assert ears.closed
        again = Ears()
        await call.open(OPUS, "tone", again)
        assert not set(first) & set(call.alice.engine._contents["c"]._ssrcs)
        await until(lambda: again.loudest() > 3000)


class Unplugged(Tone):
    """Disappears after half a second."""

    def __init__(self) -> None:
        super().__init__(440)
        self.closed = False

    def _samples(self, position: int) -> bytes:
        if position > frames.RATE // 2:
            raise MediaUnavailable("It was unplugged")
        return super()._samples(position)

    async def close(self) -> None:
        self.closed = True
        await super().close()


async def test_a_device_that_disappears_leaves_silence() -> None:
    async with connected() as call:
        ears, source = Ears(), Unplugged()
        await call.open(OPUS, source, ears)
        lost = await call.alice.until(MediaLost)
        assert (lost.name, lost.direction, lost.text) == ("c", "source", "It was unplugged")
        assert source.closed
        sent = (await call.alice.engine.stats())["c"].packets_sent
        await until(lambda: ears.loudest() < 20)
        assert (await call.alice.engine.stats())["c"].packets_sent >= sent
        await call.alice.engine.replace_source("c", "tone")
        await until(lambda: ears.loudest() > 3000)


class Full(Ears):
    async def write(self, frame: object) -> None:
        raise MediaUnavailable("No space left")


async def test_a_sink_that_ends_is_told_of_and_replaced() -> None:
    async with connected() as call:
        full, ears = Full(), Ears()
        await call.open(OPUS, "tone", full)
        lost = await call.bob.until(MediaLost)
        assert (lost.direction, lost.text) == ("sink", "No space left")
        assert full.closed
        await call.bob.engine.replace_sink("c", ears)
        await until(lambda: ears.loudest() > 3000)


async def test_a_source_that_cannot_be_opened_opens_nothing(tmp_path: pathlib.Path) -> None:
    async with connected() as call:
        with pytest.raises(MediaUnavailable):
            await call.alice.engine.open_content(
                "c", "m", send=OPUS, receive=OPUS, source=f"file:{tmp_path}/nothing.wav"
            )
        assert await call.alice.engine.stats() == {}
        await call.alice.engine.open_content("c", "m", send=OPUS, receive=None, source="tone")


async def test_what_comes_before_a_content_is_open_is_dropped() -> None:
    async with connected() as call:
        await call.alice.engine.open_content("c", "m", send=OPUS, receive=None, source="tone")
        await figures(call.alice, lambda shown: shown.packets_sent > 10)
        there = call.bob.engine._roads["m"].dtls
        assert there is not None
        assert there._ssrcs == set()
        ears = Ears()
        await call.bob.engine.open_content("c", "m", send=None, receive=OPUS, sink=ears)
        await until(lambda: ears.loudest() > 3000)


async def test_datagrams_of_strangers_do_not_end_the_call() -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(OPUS, "tone", ears)
        target = call.bob.engine.local_transport("m").candidates[0]
        family = socket.AF_INET6 if ":" in target.ip else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stranger:
            for data in (b"", b"\x80", b"\x16\xfe\xfd", bytes(1400), b"\x80" * 40, b"\x15" * 20):
                stranger.sendto(data, (target.ip, target.port))
        await until(lambda: ears.loudest() > 3000)
        assert not any(isinstance(each, RoadFailed) for each in call.bob.events)


def late(mouth: Clicks, ears: Ears) -> float:
    """Of the last three clicks the one that was heard soonest, seconds."""
    return min(min(at - made for made in mouth.times if made < at) for at in ears.clicks[-3:])


async def test_after_losses_sound_is_not_late_for_the_rest_of_the_call() -> None:
    async with connected() as call:
        mouth, ears = Clicks(), Ears()
        there = call.bob.engine._roads["m"].dtls
        assert there is not None
        real, count = there._handle_rtp_data, 0

        async def lossy(data: bytes, arrival_time_ms: int) -> None:
            nonlocal count
            count += 1
            if count % 10 != 7:
                await real(data, arrival_time_ms)

        there._handle_rtp_data = lossy  # type: ignore[method-assign]
        await call.open(PCMU, mouth, ears)
        await until(lambda: count > 60)
        there._handle_rtp_data = real  # type: ignore[method-assign]
        heard = len(ears.clicks)
        await until(lambda: len(ears.clicks) >= heard + 3 and late(mouth, ears) < 0.2)
        assert (await call.bob.engine.stats())["c"].packets_lost >= 3


async def test_another_program_with_a_certificate_of_its_own_is_known_by_its_fingerprint() -> None:
    """A peer as browsers are: nothing of ours in it, a certificate of thirty days."""
    person = Person(False)
    gatherer = RTCIceGatherer(iceServers=[])
    ice = RTCIceTransport(gatherer)
    ice._connection.ice_controlling = True
    certificate = RTCCertificate.generateCertificate()
    dtls = RTCDtlsTransport(ice, [certificate])
    dtls._set_role("server")
    try:
        gatherer._connection._local_candidates_start = True
        gatherer._connection._local_candidates = (
            await gatherer._connection.get_component_candidates(1, ["127.0.0.1"])
        )
        gatherer._connection._local_candidates_end = True
        await person.engine.gather("m")
        hers = gatherer.getLocalParameters()
        told = [
            DtlsFingerprint(each.algorithm, bytes.fromhex(each.value.replace(":", "")), "passive")
            for each in certificate.getFingerprints()
        ]
        candidates = tuple(
            mapping.from_aioice(each, str(n), 0)
            for n, each in enumerate(gatherer._connection.local_candidates)
        )
        transport = person.engine.local_transport("m")
        person.engine.remote_transport(
            "m",
            type(transport)(
                ufrag=str(hers.usernameFragment), pwd=str(hers.password), candidates=candidates
            ),
        )
        for each in transport.candidates:
            await ice.addRemoteCandidate(
                candidate_from_aioice(mapping.to_aioice(each))  # type: ignore[arg-type]
            )
        person.engine.start("m", "client", told, strict_leaf=False)
        await ice.start(RTCIceParameters(transport.ufrag, transport.pwd))
        shown = transport.fingerprints[0]
        value = shown.digest.hex(":").upper()
        await dtls.start(RTCDtlsParameters([RTCDtlsFingerprint(shown.hash, value)]))
        facts = (await person.until(Connected)).facts
        assert dtls.state == "connected"
        assert facts.peer_leaf == certificate._cert.public_bytes(Encoding.DER)
        ears = Ears()
        await person.engine.open_content("c", "m", send=None, receive=PCMU, sink=ears)
        sender = RTCRtpSender(Tone(440), dtls)
        await sender.send(mapping.send_parameters(PCMU, "c", "somebody"))
        await until(lambda: ears.loudest() > 3000)
        await sender.stop()
    finally:
        await dtls.stop()
        await ice.stop()
        await person.engine.close()


async def test_without_a_new_source_the_old_one_goes_on() -> None:
    async with connected() as call:
        ears = Ears()
        await call.open(OPUS, "tone:700", ears)
        await call.alice.engine.change_content("c", send=None, receive=None)
        await call.bob.engine.change_content("c", send=None, receive=None)
        await call.bob.engine.change_content("c", send=OPUS, receive=OPUS)
        await call.alice.engine.change_content("c", send=OPUS, receive=OPUS)
        await until(lambda: ears.purity(700) > 0.9)
        await until(lambda: call.alice.engine._contents["c"]._bytes_received > 0)


async def test_names_and_states_that_make_no_sense_are_refused() -> None:
    call = Call()
    try:
        engine = call.alice.engine
        with pytest.raises(InvalidArgument):
            engine.add_road("m")
        with pytest.raises(NotAvailable):
            await engine.open_content("c", "m", send=OPUS, receive=None)
        with pytest.raises(InvalidArgument):
            await engine.open_content("c", "m", send=OPUS, receive=VP8)
        with pytest.raises(NotAvailable):
            engine.mute("c", True)
        with pytest.raises(NotAvailable):
            engine.local_transport("another")
        with pytest.raises(NotAvailable):
            engine.restart("m")
        await engine.close()
        await engine.close()
        with pytest.raises(NotAvailable):
            engine.add_road("n")
    finally:
        await call.close()


async def test_names_of_candidates_that_cannot_be_resolved_hold_up_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    async def no_multicast(subscriber: object) -> None:
        nonlocal asked
        asked += 1
        raise OSError

    monkeypatch.setattr(aioice.ice, "get_or_create_mdns_protocol", no_multicast)
    call = Call()
    try:
        alice, bob = call.alice.engine, call.bob.engine
        await asyncio.gather(alice.gather("m"), bob.gather("m"))
        hers, his = alice.local_transport("m"), bob.local_transport("m", "active")
        names = tuple(
            dataclasses.replace(hers.candidates[0], ip=f"name{n}.local") for n in range(3)
        )
        bob.remote_transport(
            "m",
            dataclasses.replace(
                hers, candidates=(*names, *hers.candidates), gathering_complete=True
            ),
        )
        alice.remote_transport("m", his)
        alice.start("m", "server", his.fingerprints)
        bob.start("m", "client", hers.fingerprints)
        await call.bob.until(Connected)
        assert asked == 3
    finally:
        await call.close()


async def test_when_both_have_no_more_candidates_failure_comes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(silence.PATIENCE_VARIABLE, str(10 * PATIENCE))
    call = Call()
    try:
        alice, bob = call.alice.engine, call.bob.engine
        await alice.gather("m")
        his = dataclasses.replace(bob.local_transport("m", "active"), gathering_complete=True)
        alice.remote_transport("m", his)
        alice.start("m", "server", his.fingerprints)
        assert (await call.alice.until(RoadFailed)).why == "ice"
    finally:
        await call.close()


async def test_who_hangs_up_while_candidates_are_gathered_leaves_no_sockets() -> None:
    for turns in range(1, 5):
        call = Call()
        call.alice.engine._roads["m"]._servers = (IceServer("stun", "127.0.0.1", 9),)
        gathering = asyncio.create_task(call.alice.engine.gather("m"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await call.close()
        await gathering
        assert not any(isinstance(each, GatheringDone) for each in call.alice.events)


async def test_who_hangs_up_while_ice_or_dtls_runs_leaves_nothing() -> None:
    for turns in (0, 1, 3, 10, 30, 100):
        call = Call()
        await call.start()
        for _ in range(turns):
            await asyncio.sleep(0.001)
        await call.close()


@pytest.mark.parametrize("datagram", range(2))
async def test_who_hangs_up_with_a_datagram_of_the_handshake_just_there_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, datagram: int
) -> None:
    """``asyncio.wait_for``, in which aiortc waits, forgets then that it was cancelled (3.11)."""
    call, count = Call(), 0
    there = call.alice.engine._roads["m"]._path
    closing: list[asyncio.Task[None]] = []
    receive = path.Path._recv

    async def received(self: path.Path) -> bytes:
        nonlocal count
        data = await receive(self)
        if self is there:
            if count == datagram:
                closing.append(asyncio.ensure_future(call.alice.engine.close()))
            count += 1
        return data

    monkeypatch.setattr(path.Path, "_recv", received)
    await call.start()
    await until(lambda: closing)
    await closing[0]
    assert not any(isinstance(each, Connected) for each in call.alice.events)
    await call.close()


@pytest.mark.parametrize("description", [VP8, H264])
async def test_who_begins_to_look_in_the_middle_gets_a_whole_picture(
    description: Description,
) -> None:
    """Unasked, libvpx makes one whole of 3000 (aiortc): nobody waits for that here."""
    async with connected() as call:
        source, ears = TestPattern(), Ears()
        await call.alice.engine.open_content(
            "c", "m", send=description, receive=None, source=source
        )
        await until(lambda: source._count > 15)
        await call.bob.engine.open_content("c", "m", send=None, receive=description, sink=ears)
        await until(lambda: len(ears.pictures) > 5)
        call.bob.engine.hold(True)
        held = source._count
        await until(lambda: source._count > held + 10)
        seen = len(ears.pictures)
        call.bob.engine.hold(False)
        await until(lambda: len(ears.pictures) > seen + 5)
