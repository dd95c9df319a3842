"""Our dataclasses (``jingle.rtp``, ``jingle.ice``) and those of aiortc and aioice; no SDP."""

from __future__ import annotations

from aioice import Candidate as AioCandidate
from aiortc.rtcrtpparameters import (
    RTCRtcpFeedback,
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
    RTCRtpSendParameters,
)

from telepathy_e2e.jingle.ice import Candidate
from telepathy_e2e.jingle.rtp import Description, PayloadType

# Encodings that aiortc codes and decodes, by their names in lower case (names are compared without
# case, RFC 8866 section 6.6): its own spelling, clock rate.
_KNOWN = {
    ("audio", "opus"): ("opus", 48000),
    ("audio", "g722"): ("G722", 8000),
    ("audio", "pcmu"): ("PCMU", 8000),
    ("audio", "pcma"): ("PCMA", 8000),
    ("video", "vp8"): ("VP8", 90000),
    ("video", "h264"): ("H264", 90000),
}
TELEPHONE_EVENT = "telephone-event"
_RTX = "rtx"

# Those that aiortc writes and reads. Both sides of a bundle share the numbers. Not
# ssrc-audio-level, though it could: headers are not encrypted, and whoever looks at the packets
# would see the loudness of each syllable (RFC 6464 section 7).
EXTENSIONS = frozenset(
    {
        "urn:ietf:params:rtp-hdrext:sdes:mid",
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    }
)

CANDIDATE_TYPES = frozenset({"host", "srflx", "relay"})


def codec(media: str, payload: PayloadType) -> RTCRtpCodecParameters | None:
    """None: not one that aiortc codes."""
    name, rate = _KNOWN.get((media, payload.name.lower()), ("", 0))
    if not name or payload.clockrate != rate:
        return None
    return RTCRtpCodecParameters(
        mimeType=f"{media}/{name}",
        clockRate=rate,
        channels=(payload.channels if name != "opus" else 2) if media == "audio" else None,
        payloadType=payload.id,
        rtcpFeedback=[
            RTCRtcpFeedback(each.type, each.subtype or None) for each in payload.feedback
        ],
        parameters=dict(payload.parameters),
    )


def codecs(description: Description) -> list[RTCRtpCodecParameters]:
    """In the order of the description; retransmission (RFC 4588) for those that we have."""
    known = [each for pt in description.payload_types if (each := codec(description.media, pt))]
    ids = {each.payloadType for each in known}
    for payload in description.payload_types:
        apt = dict(payload.parameters).get("apt", "")
        if (
            payload.name.lower() == _RTX
            and apt.isascii()
            and apt.isdigit()
            and len(apt) <= 3
            and int(apt) in ids
        ):
            known.append(
                RTCRtpCodecParameters(
                    mimeType=f"{description.media}/rtx",
                    clockRate=payload.clockrate,
                    payloadType=payload.id,
                    parameters={"apt": int(apt)},
                )
            )
    return known


def event_types(description: Description) -> list[PayloadType]:
    """The payload types of telephone events."""
    return [pt for pt in description.payload_types if pt.name.lower() == TELEPHONE_EVENT]


def event_type(description: Description, clockrate: int) -> int | None:
    """The one that shares the clock of the sound (RFC 4733 section 2.1)."""
    return next((pt.id for pt in event_types(description) if pt.clockrate == clockrate), None)


def _extensions(description: Description) -> list[RTCRtpHeaderExtensionParameters]:
    return [
        RTCRtpHeaderExtensionParameters(id=each.id, uri=each.uri)
        for each in description.extensions
        # One-byte headers (RFC 8285 section 4.2) have no others.
        if each.uri in EXTENSIONS and 1 <= each.id <= 14
    ]


def send_parameters(description: Description, mid: str, cname: str) -> RTCRtpSendParameters:
    """For a sender.

    Raises:
        ValueError: no codec that we have.
    """
    usable = codecs(description)
    if not usable:
        raise ValueError("no codec in common")
    return RTCRtpSendParameters(
        codecs=usable,
        headerExtensions=_extensions(description),
        muxId=mid,
        rtcp=RTCRtcpParameters(cname=cname, mux=True),
    )


def receive_parameters(description: Description, mid: str) -> RTCRtpReceiveParameters:
    """For a receiver.

    Raises:
        ValueError: no codec that we have.
    """
    usable = codecs(description)
    if not usable:
        raise ValueError("no codec in common")
    for payload in event_types(description):
        # So that the packets are routed to the receiver; ``content`` takes them out.
        usable.append(
            RTCRtpCodecParameters(
                mimeType=f"{description.media}/{TELEPHONE_EVENT}",
                clockRate=payload.clockrate,
                payloadType=payload.id,
            )
        )
    retransmissions = {
        group.ssrcs[0]: group.ssrcs[1]
        for group in description.groups
        if group.semantics == "FID" and len(group.ssrcs) == 2
    }
    encodings = []
    for source in description.sources:
        if source.ssrc not in retransmissions.values():
            rtx = retransmissions.get(source.ssrc)
            encodings.append(
                RTCRtpDecodingParameters(
                    ssrc=source.ssrc,
                    payloadType=usable[0].payloadType or 0,
                    rtx=RTCRtpRtxParameters(rtx) if rtx is not None else None,
                )
            )
    return RTCRtpReceiveParameters(
        codecs=usable, headerExtensions=_extensions(description), muxId=mid, encodings=encodings
    )


def from_aioice(candidate: AioCandidate, id: str, generation: int) -> Candidate:
    """One of ours, for the peer."""
    return Candidate(
        component=candidate.component,
        foundation=candidate.foundation,
        generation=generation,
        id=id,
        ip=candidate.host,
        port=candidate.port,
        priority=candidate.priority,
        protocol=candidate.transport,
        type=candidate.type,
        related_address=candidate.related_address,
        related_port=candidate.related_port,
        network=0,
        tcptype=None,
    )


def to_aioice(candidate: Candidate) -> AioCandidate | None:
    """One of the peer's; None: not of a kind that we can check."""
    if (
        candidate.component != 1
        or candidate.protocol.lower() != "udp"
        or candidate.type not in CANDIDATE_TYPES
        or not 1 <= candidate.port <= 65535
    ):
        return None
    return AioCandidate(
        foundation=candidate.foundation,
        component=1,
        transport="udp",
        priority=candidate.priority,
        host=candidate.ip,
        port=candidate.port,
        type=candidate.type,
        generation=candidate.generation,
    )
