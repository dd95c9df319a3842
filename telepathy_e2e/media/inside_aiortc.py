"""What we need of aiortc beyond its documented door; all of its private names that we use.

``tests/unit/test_media_inside.py`` fails if one of them goes. aiortc is pinned to 1.16.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from aiortc import RTCRtpReceiver, RTCRtpSender, rtcrtpreceiver, rtcrtpsender, rtp
from aiortc.codecs import get_decoder, get_encoder
from aiortc.codecs.base import Decoder, Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
)
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpreceiver import NackGenerator, RemoteStreamTrack
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtpPacket, is_rtcp
from aiortc.utils import uint16_gt
from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL, crypto

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.media.dtmf import Numbering
from telepathy_e2e.media.events import DtlsFacts
from telepathy_e2e.media.frames import MAX_PIXELS
from telepathy_e2e.media.path import Path
from telepathy_e2e.xtls.identity import Credentials

log = logging.getLogger(__name__)

# AEAD only. Whose certificate is RSA (clients that build on GStreamer or GnuTLS) is talked to as
# well: who he is says the fingerprint.
CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-GCM-SHA256")
    for signature in ("ECDSA", "RSA")
).encode()
# The wire's numbers (RFC 6347, RFC 9147); pyOpenSSL has no names for them.
DTLS_1_2 = 0xFEFD
DTLS_VERSIONS = {DTLS_1_2: "DTLSv1.2", 0xFEFC: "DTLSv1.3"}

# SSRCs that are taken from a peer on one road; aiortc remembers each for ever. Two for each of
# eight contents, and some for streams that begin anew.
MAX_SSRCS = 64
# Frames that may wait for the decoder's thread, which a peer can make slow: a second of sound.
MAX_UNDECODED = 50
# Decoded frames that may wait for whoever plays them; a frame of video is large.
MAX_DECODED = {"audio": 25, "video": 3}

# RFC 6562 section 3: from the sizes of packets words can be told, and that somebody is silent.
# Constant, so that 64 kbit/s, which is good for speech in stereo, are sent in silence as well.
OPUS_BIT_RATE = 64000

# Packets of pictures that wait for one that is missing, before a whole picture is asked for: a
# large one has a hundred. aiortc's 512 are eight seconds of a still picture.
PICTURE_PACKETS = 256

# What parsing somebody's bytes raises inside aiortc: it catches the first only, and would end.
_WRONG_BYTES = (ValueError, struct.error, IndexError, KeyError)

# Not a fingerprint: aiortc wants one, and we compare ourselves.
_NO_FINGERPRINT = RTCDtlsParameters([RTCDtlsFingerprint("sha-256", "")])


class Incoming(Protocol):
    """Who takes the packets of one content."""

    def take(self, packet: RtpPacket, size: int) -> list[RtpPacket]:
        """Those that the receiver may have now, in order."""


class _Certificate(RTCCertificate):
    """Our leaf, and the context of its handshake."""

    def __init__(self, credentials: Credentials, check_peer: Callable[[bytes, int], None]) -> None:
        super().__init__(
            key=credentials.key.reveal(), cert=x509.load_der_x509_certificate(credentials.leaf)
        )
        self._check_peer = check_peer

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_min_proto_version(DTLS_1_2)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(CIPHERS)
        if srtp_profiles:
            context.set_tlsext_use_srtp(b":".join(each.openssl_profile for each in srtp_profiles))
        context.use_certificate(self._cert)
        context.use_privatekey(self._key)

        def verify(
            connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int
        ) -> bool:
            # What is raised here fails the handshake and comes out of it.
            self._check_peer(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown), depth)
            return True

        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return context


class SecureTransport(RTCDtlsTransport):
    """DTLS-SRTP with our leaf (RFC 5764) over a ``Path``.

    Args:
        check_peer: is given each certificate that the peer shows, DER, and its depth in the
            chain, while the handshake runs; raises ``SecurityError``.
    """

    SRTP: ClassVar[bool] = True

    def __init__(
        self, path: Path, credentials: Credentials, check_peer: Callable[[bytes, int], None]
    ) -> None:
        # A Path has what is used of an RTCIceTransport: role, _recv, _send.
        super().__init__(path, [_Certificate(credentials, check_peer)])  # type: ignore[arg-type]
        if not self.SRTP:
            self._srtp_profiles = []
        self._check = check_peer
        self._incoming: dict[object, Incoming] = {}
        self._outgoing: dict[int, Numbering] = {}
        self._ssrcs: set[int] = set()

    # -- DTLS -----------------------------------------------------------------------------------

    async def handshake(self, role: str) -> DtlsFacts | None:
        """Run the handshake.

        Args:
            role: ``client`` or ``server``.
        Returns:
            None: it failed in OpenSSL.
        Raises:
            SecurityError: the peer or what was agreed is not good.
        """
        self._set_role(role)
        await self.start(_NO_FINGERPRINT)
        return self._facts() if self.state == "connected" else None

    def _validate_peer_identity(self, remoteParameters: RTCDtlsParameters) -> None:
        """Between the handshake and the first SRTP key."""
        connection = self._connection()
        # Who resumes a session shows no certificate; that we never agree to it is not relied on.
        self._check(self._peer_leaf(), 0)
        version = _version(connection)
        if version not in DTLS_VERSIONS:
            raise SecurityError("another version of DTLS was negotiated")
        lib, ssl = Binding().lib, getattr(connection, "_ssl", None)
        # RFC 7627: without it, somebody in between can have two sessions with one secret, and
        # what is exported would not bind to either. Part of the protocol since 1.3.
        if version == DTLS_1_2 and (ssl is None or lib.SSL_get_extms_support(ssl) != 1):
            raise SecurityError("DTLS without the extended master secret")

    async def end(self) -> None:
        """Say so to the peer, and wait until nothing runs; may be called twice."""
        task = self._task
        await self.stop()
        if task is not None:
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Keying material (RFC 5705)."""
        return self._connection().export_keying_material(label, length, context)

    def _facts(self) -> DtlsFacts:
        connection = self._connection()
        return DtlsFacts(
            peer_leaf=self._peer_leaf(),
            protocol=DTLS_VERSIONS[_version(connection)],
            cipher=connection.get_cipher_name() or "",
            srtp_profile=connection.get_selected_srtp_profile().decode() if self.SRTP else "",
            key_exchange=connection.get_group_name() or "",
        )

    def _connection(self) -> SSL.Connection:
        if self._ssl is None:
            raise NotAvailable("There is no handshake yet")
        return self._ssl

    def _peer_leaf(self) -> bytes:
        certificate = self._connection().get_peer_certificate(as_cryptography=False)
        if certificate is None:
            raise SecurityError("no certificate was shown")
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)

    # -- RTP ------------------------------------------------------------------------------------

    def listen(self, receiver: RTCRtpReceiver, incoming: Incoming | None) -> None:
        """Who takes the packets for a receiver; without one they are dropped."""
        if incoming is None:
            self._incoming.pop(receiver, None)
        else:
            self._incoming[receiver] = incoming

    def number(self, ssrc: int, numbering: Numbering | None) -> None:
        """Who numbers the packets of a sender."""
        if numbering is None:
            self._outgoing.pop(ssrc, None)
        else:
            self._outgoing[ssrc] = numbering

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        if len(data) < 12:
            return
        ssrc = int.from_bytes(data[8:12])
        if ssrc not in self._ssrcs:
            if len(self._ssrcs) >= MAX_SSRCS or not self._incoming:
                return
        try:
            packet = RtpPacket.parse(data, self._rtp_header_extensions_map)
            receiver = self._rtp_router.route_rtp(packet)
            incoming = self._incoming.get(receiver)
            if receiver is None or incoming is None:
                return
            self._ssrcs.add(ssrc)
            for ready in incoming.take(packet, len(data)):
                await receiver._handle_rtp_packet(ready, arrival_time_ms=arrival_time_ms)
        except _WRONG_BYTES as error:
            log.debug("a wrong RTP packet: %s", type(error).__name__)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        try:
            for packet in RtcpPacket.parse(data):
                # A receiver of aiortc ends for ever with the first BYE; when a content ends, the
                # signalling says so.
                if not isinstance(packet, RtcpByePacket):
                    for recipient in self._rtp_router.route_rtcp(packet):
                        await recipient._handle_rtcp_packet(packet)
        except _WRONG_BYTES as error:
            log.debug("a wrong RTCP packet: %s", type(error).__name__)

    async def _send_rtp(self, data: bytes) -> None:
        if not is_rtcp(data):
            numbering = self._outgoing.get(int.from_bytes(data[8:12]))
            if numbering is not None:
                renumbered = numbering.sound(data, time.monotonic())
                if renumbered is None:
                    return
                data = renumbered
        await super()._send_rtp(data)

    async def send_event(self, packet: bytes) -> None:
        """An RTP packet of ours, beside those of senders."""
        await super()._send_rtp(packet)


class DataTransport(SecureTransport):
    """The same without SRTP: for data channels (RFC 8831)."""

    SRTP = False

    def _setup_srtp(self) -> None:
        """No keys: nothing but DTLS is read."""


def _version(connection: SSL.Connection) -> int:
    return connection.get_protocol_version()


def _bounded_decoder(codec: RTCRtpCodecParameters) -> Decoder:
    """A decoder that makes no picture larger than we show, whatever its headers claim."""
    decoder = get_decoder(codec)
    context = getattr(decoder, "codec", None)
    if codec.mimeType.startswith("video/") and context is not None:
        context.options = {"max_pixels": str(MAX_PIXELS)}
    return decoder


# The decoder's thread looks it up there.
rtcrtpreceiver.get_decoder = _bounded_decoder  # type: ignore[attr-defined]


def _even_encoder(codec: RTCRtpCodecParameters) -> Encoder:
    """An encoder whose packets of sound are all of one size."""
    encoder = get_encoder(codec)
    if isinstance(encoder, OpusEncoder):
        encoder.codec.options = {"application": "voip", "vbr": "off"}
        encoder.codec.bit_rate = OPUS_BIT_RATE
    return encoder


rtcrtpsender.get_encoder = _even_encoder  # type: ignore[attr-defined]


def _no_level(frame: object) -> int:
    """Of a frame that is sent, for a header that is never sent (``docs/media.md``): aiortc would
    compute it for each in Python, a seventh of what a call costs."""
    return -127


rtp.compute_audio_level_dbov = _no_level


def picture_too_large(payload: bytes) -> bool:
    """Whether a VP8 packet begins a picture (RFC 6386 section 9.1) larger than we show.

    libvpx makes room for it before FFmpeg could object.
    """
    descriptor, rest = VpxPayloadDescriptor.parse(payload)
    if descriptor.partition_id or not descriptor.partition_start or len(rest) < 10 or rest[0] & 1:
        return False
    width, height = (int.from_bytes(rest[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height > MAX_PIXELS


class _Recent(asyncio.Queue[Any]):
    """What nobody fetched in time gives way to what comes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    async def put(self, item: Any) -> None:
        while self.qsize() >= self._size:
            self.get_nowait()
        self.put_nowait(item)


class _Through:
    """In the place of aiortc's jitter buffer for sound: packets come in order already."""

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        data = packet._data  # type: ignore[attr-defined]
        return False, JitterFrame(data, packet.timestamp) if data else None


def make_receiver(kind: str, transport: SecureTransport, rtcp_ssrc: int) -> RTCRtpReceiver:
    """A receiver with a track, which only ``RTCPeerConnection`` gives it otherwise.

    Args:
        rtcp_ssrc: from which its reports come.
    """
    receiver = RTCRtpReceiver(kind, transport)
    track = RemoteStreamTrack(kind=kind)
    track._queue = _Recent(MAX_DECODED[kind])
    receiver._track = track
    receiver._set_rtcp_ssrc(rtcp_ssrc)
    if kind == "audio":
        receiver._RTCRtpReceiver__jitter_buffer = _Through()  # type: ignore[attr-defined]
    else:
        forget_pictures(receiver)
    return receiver


def undecoded(receiver: RTCRtpReceiver) -> int:
    """How many frames wait for the decoder."""
    return int(receiver._RTCRtpReceiver__decoder_queue.qsize())  # type: ignore[attr-defined]


def not_lost(receiver: RTCRtpReceiver, packet: RtpPacket) -> None:
    """A packet that came and is not for the decoder: neither we nor our reports miss it.

    Before the first one that is for it nothing is missed.
    """
    streams = receiver._RTCRtpReceiver__remote_streams  # type: ignore[attr-defined]
    figures = streams.get(packet.ssrc)
    if figures is None or figures.max_seq is None:
        return
    figures.packets_received += 1
    if uint16_gt(packet.sequence_number, figures.max_seq):
        if packet.sequence_number < figures.max_seq:
            figures.cycles += 1 << 16
        figures.max_seq = packet.sequence_number


def set_ssrcs(sender: RTCRtpSender, ssrc: int, rtx_ssrc: int) -> None:
    """Before the sender starts: what the signalling announced."""
    sender._ssrc, sender._rtx_ssrc = ssrc, rtx_ssrc


def enable(half: RTCRtpSender | RTCRtpReceiver, on: bool) -> None:
    """Let it work, or let it drop everything; its SSRC and its numbers go on.

    It is never stopped and made anew for that: a new sender with the same SSRC would begin with
    numbers that were used, and SRTP with them twice is no encryption.
    """
    half._enabled = on


def enabled(half: RTCRtpSender | RTCRtpReceiver) -> bool:
    return half._enabled


def forget_pictures(receiver: RTCRtpReceiver) -> None:
    """Wait for none of the packets that did not come: after a hold they are not coming."""
    buffer = JitterBuffer(capacity=PICTURE_PACKETS, is_video=True)
    receiver._RTCRtpReceiver__jitter_buffer = buffer  # type: ignore[attr-defined]
    receiver._RTCRtpReceiver__nack_generator = NackGenerator()  # type: ignore[attr-defined]


async def ask_for_picture(receiver: RTCRtpReceiver, ssrc: int) -> None:
    """Of the peer, one that can be decoded without those before it (RFC 4585 section 6.3.1)."""
    await receiver._send_rtcp_pli(ssrc)
