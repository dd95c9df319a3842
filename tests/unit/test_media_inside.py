"""What we use of aiortc and aioice beyond their documented doors is there, and behaves as we think.

When one of these fails after an upgrade, ``telepathy_e2e/media/inside_*.py`` is to be read again.
"""

from __future__ import annotations

import asyncio
import random
import struct
from types import SimpleNamespace
from typing import Any

import aioice
import pytest
from aioice import stun
from aioice.candidate import Candidate
from aiortc import RTCRtpReceiver, RTCRtpSender, rtcrtpreceiver, rtcrtpsender
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.media import frames, inside_aioice, inside_aiortc, silence
from telepathy_e2e.media.dtmf import Numbering
from telepathy_e2e.media.inside_aioice import TrickleConnection
from telepathy_e2e.media.inside_aiortc import SecureTransport
from telepathy_e2e.media.path import Path
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.media.sources import Tone
from telepathy_e2e.tasks import TaskOwner
from tests.support.media import make_credentials
from tests.support.waiting import until

CREDENTIALS = make_credentials()


def transport() -> SecureTransport:
    path = Path(True, lambda: None)
    return SecureTransport(path, CREDENTIALS, lambda certificate, depth: None)


async def test_a_dtls_transport_has_what_we_override_and_use() -> None:
    made = transport()
    for name in (
        "_set_role",
        "_validate_peer_identity",
        "_handle_rtp_data",
        "_handle_rtcp_data",
        "_send_rtp",
    ):
        assert callable(getattr(RTCDtlsTransport, name))
    assert made._ssl is None
    assert made._task is None
    assert made._rtp_router.route_rtp(RtpPacket()) is None
    made._set_role("client")
    assert made._role == "client"
    assert callable(RTCCertificate._create_ssl_context)
    with pytest.raises(NotAvailable):
        made.export(b"label", b"", 32)


async def test_a_receiver_has_what_we_replace() -> None:
    for kind in ("audio", "video"):
        plain = RTCRtpReceiver(kind, transport())
        assert callable(plain._RTCRtpReceiver__jitter_buffer.add)  # type: ignore[attr-defined]
        assert plain._enabled is True
        assert callable(plain._send_rtcp_pli)
        assert hasattr(plain, "_RTCRtpReceiver__nack_generator")
        ours = inside_aiortc.make_receiver(kind, transport(), 17)
        assert ours.track.kind == kind
        assert inside_aiortc.undecoded(ours) == 0
        inside_aiortc.enable(ours, False)
        assert ours._enabled is False


async def test_a_sender_sends_with_the_numbers_it_was_given() -> None:
    sender = RTCRtpSender("audio", transport())
    assert isinstance(sender._ssrc, int)
    assert isinstance(sender._rtx_ssrc, int)
    assert sender._enabled is True
    inside_aiortc.set_ssrcs(sender, 1, 2)
    assert (sender._ssrc, sender._rtx_ssrc) == (1, 2)


async def test_the_loudness_of_what_is_sent_is_not_computed_for_headers_that_are_not_sent() -> None:
    sender = RTCRtpSender(Tone(440), transport())
    codec = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, payloadType=96)
    encoded = await sender._next_encoded_frame(codec)
    assert encoded is not None
    assert encoded.audio_level == -127
    await sender.stop()


async def test_what_waits_for_a_slow_reader_is_bounded_and_the_newest_stay() -> None:
    receiver = inside_aiortc.make_receiver("video", transport(), 17)
    queue = receiver.track._queue  # type: ignore[attr-defined]
    for number in range(10):
        await queue.put(number)
    assert [queue.get_nowait() for _ in range(queue.qsize())] == [7, 8, 9]


def test_decoders_of_pictures_are_made_with_a_limit() -> None:
    assert rtcrtpreceiver.get_decoder is inside_aiortc._bounded_decoder  # type: ignore[attr-defined]
    codec = RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000, payloadType=99)
    decoder: Any = inside_aiortc._bounded_decoder(codec)
    assert decoder.codec.options == {"max_pixels": str(frames.MAX_PIXELS)}


def test_packets_of_sound_tell_nothing_by_their_sizes() -> None:
    assert rtcrtpsender.get_encoder is inside_aiortc._even_encoder  # type: ignore[attr-defined]
    codec = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, payloadType=96)
    encoder = inside_aiortc._even_encoder(codec)
    noise = random.Random(1).randbytes(frames.FRAME_BYTES)  # noqa: S311
    sizes = set()
    for number in range(30):
        pcm = noise if number % 3 else frames.SILENCE
        payloads, _ = encoder.encode(frames.audio_frame(pcm, number * frames.SAMPLES))
        sizes |= {len(each) for each in payloads}
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("width", "height", "large"), [(640, 480, False), (4096, 2304, False), (4098, 2304, True)]
)
def test_a_vp8_picture_that_claims_to_be_huge_is_found_out(
    width: int, height: int, large: bool
) -> None:
    key_frame = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    assert inside_aiortc.picture_too_large(b"\x10" + key_frame) is large
    # The same bytes in the middle of a picture, or in one that is not a key frame, say nothing.
    assert not inside_aiortc.picture_too_large(b"\x00" + key_frame)
    assert not inside_aiortc.picture_too_large(b"\x10\x11" + key_frame[1:])


class Everything:
    """Takes all packets."""

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []

    def take(self, packet: RtpPacket, size: int) -> list[RtpPacket]:
        self.packets.append(packet)
        return []


def listening() -> tuple[SecureTransport, Everything]:
    made, everything = transport(), Everything()
    receiver = RTCRtpReceiver("audio", made)
    made._rtp_router.register_receiver(receiver, [], [0])
    made.listen(receiver, everything)
    return made, everything


def rtp(ssrc: int, payload_type: int = 0) -> bytes:
    return RtpPacket(payload_type=payload_type, ssrc=ssrc, payload=b"x").serialize()


async def test_only_so_many_sources_are_taken_on_a_road() -> None:
    made, everything = listening()
    for ssrc in range(1, inside_aiortc.MAX_SSRCS + 3):
        await made._handle_rtp_data(rtp(ssrc), 0)
    assert len(everything.packets) == inside_aiortc.MAX_SSRCS
    await made._handle_rtp_data(rtp(1), 0)  # one that is known goes on
    assert len(everything.packets) == inside_aiortc.MAX_SSRCS + 1


async def test_packets_of_nobody_take_no_room() -> None:
    made, everything = listening()
    for ssrc in range(inside_aiortc.MAX_SSRCS):
        await made._handle_rtp_data(rtp(ssrc, 55), 0)
    await made._handle_rtp_data(rtp(1), 0)
    assert len(everything.packets) == 1


@given(st.binary(max_size=200))
async def test_no_bytes_of_a_peer_end_the_reading(data: bytes) -> None:
    made, _ = listening()
    await made._handle_rtp_data(data, 0)
    await made._handle_rtcp_data(data)
    await made._handle_rtp_data(b"\x90\x00" + data, 0)
    await made._handle_rtcp_data(b"\x81\xc8\x00\x06" + data)


async def test_an_extension_of_the_wrong_length_is_dropped() -> None:
    # aiortc raises struct.error for it, which would have ended the transport.
    made, everything = listening()
    made._rtp_header_extensions_map._HeaderExtensionsMap__ids.abs_send_time = 3  # type: ignore[attr-defined]
    packet = struct.pack("!BBHLL", 0x90, 0, 1, 1, 1) + b"\xbe\xde\x00\x01\x31\x00\x00\x00"
    await made._handle_rtp_data(packet, 0)
    assert everything.packets == []


async def test_what_a_sender_sends_goes_through_its_numbering() -> None:
    made = transport()
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    plain: Any = SimpleNamespace(protect=lambda data: data)
    made._tx_srtp = plain
    made._state = type(made._state).CONNECTED
    made.transport._send = send
    numbering = Numbering(8000)
    made.number(7, numbering)
    await made._send_rtp(RtpPacket(sequence_number=5, ssrc=7, payload=b"a").serialize())
    await made.send_event(numbering.event(101, 7, 0, b"abcd", True))
    await made._send_rtp(RtpPacket(sequence_number=6, ssrc=7, payload=b"b").serialize())
    await made._send_rtp(RtpPacket(sequence_number=6, ssrc=7, payload=b"again").serialize())
    assert [RtpPacket.parse(each).sequence_number for each in sent] == [5, 6, 7]


# -- aioice ---------------------------------------------------------------------------------------


async def test_a_connection_has_what_we_use() -> None:
    made = TrickleConnection(controlling=True)
    for name in (
        "_closing",
        "_local_candidates",
        "_local_candidates_end",
        "_local_candidates_start",
        "_pair_remote_candidate",
        "_protocols",
        "_queue",
        "_remote_candidates",
        "_remote_candidates_end",
        "_remote_candidates_resolving",
    ):
        assert hasattr(aioice.Connection(ice_controlling=True), name)
    for name in ("check_incoming", "data_received", "get_component_candidates", "sort_check_list"):
        assert callable(getattr(aioice.Connection, name))
    assert len(made.local_username) >= 4
    assert len(made.local_password) >= 22
    assert made.local_password not in repr(made)


class StunServer(asyncio.DatagramProtocol):
    """Says that everybody comes from 192.0.2.77."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        request = stun.parse_message(data)
        answer = stun.Message(
            message_method=stun.Method.BINDING,
            message_class=stun.Class.RESPONSE,
            transaction_id=request.transaction_id,
        )
        answer.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.77", addr[1])
        self.transport.sendto(bytes(answer), addr)


async def test_a_candidate_comes_from_a_server_though_others_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(inside_aioice.LOOPBACK_VARIABLE, "1")
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(StunServer, local_addr=("127.0.0.1", 0))
    port = server.get_extra_info("sockname")[1]
    made, tasks = TrickleConnection(controlling=True), TaskOwner("test")
    hosts = await made.gather_hosts()
    assert {each.host for each in hosts} <= {"127.0.0.1", "::1"}
    found: list[Candidate] = []
    servers = [
        IceServer("stun", "no such host", 1),
        IceServer("turn", "127.0.0.1", 1, "tcp", "user", "secret"),
        IceServer("stun", "127.0.0.1", port),
        IceServer("stun", "127.0.0.1", port),
    ]
    await made.gather_servers(servers, tasks, found.append)
    # The second server says the same as the first.
    assert [(each.type, each.host) for each in found] == [("srflx", "192.0.2.77")]
    assert found[0] in made.local_candidates
    await made.close()
    await tasks.close()
    server.close()


async def test_a_server_that_does_not_answer_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(inside_aioice.LOOPBACK_VARIABLE, "1")
    monkeypatch.setattr(inside_aioice, "SERVER_DEADLINE", 0.05)
    made, tasks = TrickleConnection(controlling=True), TaskOwner("test")
    await made.gather_hosts()
    await made.gather_servers([IceServer("stun", "127.0.0.1", 9)], tasks, lambda each: None)
    await made.close()
    assert tasks._tasks == set()


def test_the_password_of_a_server_does_not_show() -> None:
    assert "secret" not in repr(IceServer("turn", "example.org", 3478, "udp", "user", "secret"))


async def test_datagrams_that_nobody_reads_are_bounded() -> None:
    made = TrickleConnection(controlling=True)
    made.data_received(b"", 1)
    assert made._queue.qsize() == 0
    for _ in range(inside_aioice.MAX_WAITING + 5):
        made.data_received(b"x", 1)
    assert made._queue.qsize() == inside_aioice.MAX_WAITING


async def test_a_check_without_a_priority_or_from_too_many_places_is_dropped() -> None:
    made = TrickleConnection(controlling=False)
    protocol: Any = SimpleNamespace(
        local_candidate=Candidate("1", 1, "udp", 1, "127.0.0.1", 1, "host")
    )
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    made.check_incoming(message, ("127.0.0.1", 9), protocol)
    assert made.remote_candidates == []
    message.attributes["PRIORITY"] = 1
    made.check_start_task = lambda pair: None  # type: ignore[method-assign]
    for port in range(1, inside_aioice.MAX_REMOTE + 3):
        made.check_incoming(message, ("127.0.0.1", port), protocol)
    assert len(made.remote_candidates) == inside_aioice.MAX_REMOTE
    assert made.full


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("10.1.2.3", True),
        ("f00d.local", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:224.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("224.0.0.251", False),
        ("ff02::1", False),
        ("255.255.255.255", False),
        ("example.org", False),
    ],
)
def test_only_addresses_of_other_machines_are_sent_checks(address: str, good: bool) -> None:
    assert inside_aioice.usable(address, ["192.0.2.9"]) is good


def test_a_machine_with_loopback_only_may_be_called_there() -> None:
    assert inside_aioice.usable("127.0.0.1", ["127.0.0.1", "::1"])


def test_a_machine_without_addresses_uses_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(inside_aioice.LOOPBACK_VARIABLE, raising=False)
    monkeypatch.setattr(inside_aioice, "get_host_addresses", lambda use_ipv4, use_ipv6: [])
    assert inside_aioice.host_addresses() == ["127.0.0.1", "::1"]
    many = [f"192.0.2.{n}" for n in range(40)]
    monkeypatch.setattr(inside_aioice, "get_host_addresses", lambda use_ipv4, use_ipv6: many)
    assert inside_aioice.host_addresses() == many[: inside_aioice.MAX_ADDRESSES]
    monkeypatch.setenv(inside_aioice.LOOPBACK_VARIABLE, "1")
    assert inside_aioice.host_addresses() == ["127.0.0.1", "::1"]


async def test_a_path_waits_for_a_successor_and_says_once_that_it_lost_the_former() -> None:
    lost: list[bool] = []
    path = Path(True, lambda: lost.append(True))

    class Dead:
        async def recv(self) -> bytes:
            raise ConnectionError

    class Alive:
        async def recv(self) -> bytes:
            return b"data"

    path.use(Dead())  # type: ignore[arg-type]
    reading = asyncio.create_task(path._recv())
    await asyncio.sleep(0)
    await path._send(b"goes nowhere")
    path.use(Alive())  # type: ignore[arg-type]
    assert await reading == b"data"
    assert lost == [True]
    path.close()
    with pytest.raises(ConnectionError):
        await path._recv()
    with pytest.raises(ConnectionError):
        await path._send(b"")


def test_what_comes_and_is_not_taken_is_not_lost() -> None:
    receiver = inside_aiortc.make_receiver("audio", transport(), 1)
    figures = rtcrtpreceiver.StreamStatistics(48000)
    streams = receiver._RTCRtpReceiver__remote_streams  # type: ignore[attr-defined]

    def packet(number: int) -> RtpPacket:
        return RtpPacket(payload_type=96, sequence_number=number & 0xFFFF, timestamp=0, ssrc=7)

    inside_aiortc.not_lost(receiver, packet(1))  # nothing is expected yet
    assert streams == {}
    streams[7] = figures
    figures.add(packet(65533))
    for number in range(65534, 65536 + 5):
        inside_aiortc.not_lost(receiver, packet(number))
    inside_aiortc.not_lost(receiver, packet(65536 + 6))
    figures.add(packet(65536 + 7))
    assert (figures.packets_received, figures.packets_lost) == (10, 1)


# -- consent (RFC 7675) ---------------------------------------------------------------------------


class Slow:
    """A peer's address: each check is answered when the test says so, or never."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[None]] = []

    async def request(self, request: object, addr: object, **how: object) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        await answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[TrickleConnection, Slow]:
    """A connection that asks for consent all the time, and whom it asks."""
    monkeypatch.setattr(silence, "AGAIN", 0.01)
    monkeypatch.setattr(silence, "CONSENT", 0.0)
    connection, slow = TrickleConnection(controlling=True), Slow()
    connection.remote_username = connection.remote_password = "his"
    made: Any = SimpleNamespace(
        protocol=slow,
        remote_addr=("192.0.2.1", 9),
        local_candidate=Candidate("1", 1, "udp", 1, "192.0.2.2", 9, "host"),
        component=1,
    )
    connection._nominated[1] = made
    return connection, slow


async def test_an_answer_that_comes_behind_later_questions_is_one(
    asked: tuple[TrickleConnection, Slow],
) -> None:
    connection, slow = asked
    asking = asyncio.ensure_future(connection.query_consent())
    try:
        await until(lambda: len(slow.answers) >= 5)
        before = connection.answered
        slow.answers[0].set_result(None)
        await until(lambda: connection.answered > before)
        assert connection.heard == connection.answered
    finally:
        asking.cancel()
        await asyncio.wait([asking])
    assert all(answer.done() for answer in slow.answers)


async def test_without_an_answer_consent_ends(
    asked: tuple[TrickleConnection, Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "EXPIRY", 0.1)
    connection, slow = asked
    await connection.query_consent()
    assert slow.answers
    assert all(answer.cancelled() for answer in slow.answers)
    assert connection._closing
