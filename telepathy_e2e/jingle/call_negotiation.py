"""Which encodings a call uses: what we offer, what we answer, what may be sent (RFC 3264).

Everything here is a function of the two descriptions. Numbers of payload types are those of the
description they stand in: what is sent has the receiver's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role

from .rtp import Description, Feedback, HeaderExtension, PayloadType, Source, SourceGroup

TELEPHONE_EVENT: Final = "telephone-event"
RTX: Final = "rtx"


_VIDEO_FEEDBACK: Final = (
    Feedback("nack"),
    Feedback("nack", "pli"),
    Feedback("goog-remb"),
)

# Our preference, best first. The numbers are those that browsers use for the same.
OFFER_AUDIO: Final = (
    PayloadType(
        111, "opus", 48000, channels=2, parameters=(("minptime", "10"), ("useinbandfec", "1"))
    ),
    PayloadType(9, "G722", 8000),
    PayloadType(0, "PCMU", 8000),
    PayloadType(8, "PCMA", 8000),
    PayloadType(110, TELEPHONE_EVENT, 48000),
    PayloadType(126, TELEPHONE_EVENT, 8000),
)
OFFER_VIDEO: Final = (
    PayloadType(96, "VP8", 90000, feedback=_VIDEO_FEEDBACK),
    PayloadType(97, RTX, 90000, parameters=(("apt", "96"),)),
    PayloadType(
        108,
        "H264",
        90000,
        parameters=(
            ("level-asymmetry-allowed", "1"),
            ("packetization-mode", "1"),
            ("profile-level-id", "42e01f"),
        ),
        feedback=_VIDEO_FEEDBACK,
    ),
    PayloadType(109, RTX, 90000, parameters=(("apt", "108"),)),
)

# One number space for all contents, which a bundle's share (RFC 8843 section 9.2). Loudness
# (RFC 6464) is not among them: headers are in the clear, and it tells who speaks when.
_MID: Final = HeaderExtension(1, "urn:ietf:params:rtp-hdrext:sdes:mid")
_SEND_TIME: Final = HeaderExtension(3, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time")
_OFFERS: Final = {
    "audio": (OFFER_AUDIO, (_MID,)),
    "video": (OFFER_VIDEO, (_MID, _SEND_TIME)),
}

# RFC 8285 section 4.2: what fits the one-byte headers, which are all that we write.
_MAX_ONE_BYTE: Final = 14

# RFC 6184 section 8.1: without the parameter it is level 1 of the baseline; but browsers that leave
# it out mean this one, as RFC 7742 section 6.2 has it.
_DEFAULT_PROFILE: Final = "42e01f"
_PROFILE: Final = re.compile(r"[0-9a-fA-F]{6}\Z")
_OUR_LEVEL: Final = 0x1F


class Unsupported(PeerError):
    """Nothing of what the peer has is what we have."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "feature-not-implemented")


def offer(
    media: str, *, sources: tuple[Source, ...] = (), groups: tuple[SourceGroup, ...] = ()
) -> Description:
    """All that we can, for an offer.

    Args:
        media: ``audio`` or ``video``.
        sources, groups: of what we shall send, where that is known.
    """
    payload_types, extensions = _OFFERS[media]
    return Description(
        media,
        payload_types,
        extensions=extensions,
        sources=sources,
        groups=groups,
        ssrc=sources[0].ssrc if sources else None,
        rtcp_mux=True,
    )


def answer(
    offered: Description,
    *,
    sources: tuple[Source, ...] = (),
    groups: tuple[SourceGroup, ...] = (),
) -> Description:
    """What of an offer we take: with its numbers, in its order (RFC 3264 section 6.1).

    Args:
        sources, groups: of what we shall send, where that is known.
    Raises:
        Unsupported: nothing in common, or RTCP that is not multiplexed.
    """
    if offered.media not in _OFFERS:
        raise Unsupported("media that are neither sound nor picture")
    ours, extensions = _OFFERS[offered.media]
    _check_mux(offered)
    known = {each.uri for each in extensions}
    return Description(
        offered.media,
        _common(offered.payload_types, ours, answering=True),
        extensions=tuple(
            each for each in offered.extensions if each.uri in known and each.id <= _MAX_ONE_BYTE
        ),
        sources=sources,
        groups=groups,
        ssrc=sources[0].ssrc if sources else None,
        rtcp_mux=True,
    )


def agreed(own: Description, peer: Description) -> Description:
    """What may be sent: the peer's payload types that both have, in the peer's order.

    Args:
        own, peer: the offer and its answer, whoever made which.
    Returns:
        with the peer's numbers and parameters, and with our sources.
    Raises:
        Unsupported: nothing in common, other media, or RTCP that is not multiplexed.
    """
    if own.media != peer.media:
        raise Unsupported("an answer with other media than the offer")
    _check_mux(peer)
    extensions = {(each.id, each.uri) for each in own.extensions}
    return Description(
        own.media,
        _common(peer.payload_types, own.payload_types, answering=False),
        extensions=tuple(each for each in peer.extensions if (each.id, each.uri) in extensions),
        sources=own.sources,
        groups=own.groups,
        ssrc=own.ssrc,
        rtcp_mux=True,
    )


def received(own: Description, peer: Description) -> Description:
    """What is taken: what we said, and the sources that the peer announced."""
    return replace(own, sources=peer.sources, groups=peer.groups, ssrc=peer.ssrc)


def may_send(role: Role, senders: str | None) -> bool:
    """Whether a side may send in a content.

    Args:
        senders: of XEP-0166 section 7.3; None means ``both``.
    """
    return senders in (None, "both", role.value)


def may_receive(role: Role, senders: str | None) -> bool:
    """Whether the other side may send."""
    return may_send(role.other, senders)


def senders_for(role: Role, send: bool, receive: bool) -> str:
    """The word for these directions, seen from ``role``."""
    if send and receive:
        return "both"
    if send:
        return role.value
    return role.other.value if receive else "none"


def _check_mux(description: Description) -> None:
    # A second port for RTCP would be a second handshake, and is nobody's way any more (RFC 8834).
    if not description.rtcp_mux:
        raise Unsupported("RTP and RTCP on two ports")


def _common(
    theirs: Iterable[PayloadType], ours: Iterable[PayloadType], *, answering: bool
) -> tuple[PayloadType, ...]:
    """Those of ``theirs`` that are in ``ours``, with what belongs to them."""
    theirs, ours = list(theirs), list(ours)
    found: dict[int, PayloadType] = {}
    for each in theirs:
        if each.name.lower() in (RTX, TELEPHONE_EVENT):
            continue
        match = next((own for own in ours if _compatible(each, own)), None)
        if match is not None:
            found[each.id] = _merged(each, match, answering=answering)
    if not found:
        raise Unsupported("no encoding in common")
    rates = {each.clockrate for each in found.values()}
    events = {own.clockrate for own in ours if own.name.lower() == TELEPHONE_EVENT}
    repeats = any(own.name.lower() == RTX for own in ours)
    for each in theirs:
        name = each.name.lower()
        # RFC 4733 section 2.1: events share the clock of the sound that they interrupt.
        if name == TELEPHONE_EVENT and each.clockrate in rates & events:
            found[each.id] = replace(
                # Without ``events`` these are the sixteen keys (RFC 4733 section 7.1.1).
                each,
                parameters=() if answering else each.parameters,
                feedback=(),
            )
        elif name == RTX and repeats and (apt := _apt(each)) in found:
            # Not of another retransmission, nor of events.
            if found[apt].name.lower() not in (RTX, TELEPHONE_EVENT):
                found[each.id] = PayloadType(
                    each.id, each.name, each.clockrate, parameters=(("apt", str(apt)),)
                )
    return tuple(found[each.id] for each in theirs if each.id in found)


def _compatible(a: PayloadType, b: PayloadType) -> bool:
    name = a.name.lower()
    if name != b.name.lower() or a.clockrate != b.clockrate:
        return False
    if name == "opus":
        return True  # always two (RFC 7587 section 4.1), whatever clients write
    if name == "h264":
        return (
            _parameter(a, "packetization-mode", "0") == _parameter(b, "packetization-mode", "0")
            and _is_baseline(a)
            and _is_baseline(b)
        )
    return a.channels == b.channels


def _merged(theirs: PayloadType, ours: PayloadType, *, answering: bool) -> PayloadType:
    parameters = theirs.parameters
    if answering:
        parameters = ours.parameters if theirs.name.lower() != "h264" else _h264_answer(theirs)
    return PayloadType(
        theirs.id,
        theirs.name,
        theirs.clockrate,
        theirs.channels,
        ptime=None if answering else theirs.ptime,
        maxptime=None if answering else theirs.maxptime,
        parameters=parameters,
        feedback=tuple(each for each in theirs.feedback if each in ours.feedback),
    )


def _is_baseline(payload_type: PayloadType) -> bool:
    """Whether pictures of it can be made and read: (constrained) baseline, RFC 6184 section 8.1."""
    value = _parameter(payload_type, "profile-level-id", _DEFAULT_PROFILE)
    if not _PROFILE.match(value):
        return False
    profile, constraints = int(value[:2], 16), int(value[2:4], 16)
    # The low four bits are reserved.
    return profile == 0x42 and not constraints & 0x0F


def _h264_answer(theirs: PayloadType) -> tuple[tuple[str, str], ...]:
    """The offer's profile, and a level that is allowed (RFC 6184 section 8.2.2)."""
    value = _parameter(theirs, "profile-level-id", _DEFAULT_PROFILE)
    asymmetry = _parameter(theirs, "level-asymmetry-allowed", "0") == "1"
    level = _OUR_LEVEL if asymmetry else min(_OUR_LEVEL, int(value[4:], 16))
    return (
        *((("level-asymmetry-allowed", "1"),) if asymmetry else ()),
        ("packetization-mode", _parameter(theirs, "packetization-mode", "0")),
        ("profile-level-id", f"{value[:4].lower()}{level:02x}"),
    )


def _parameter(payload_type: PayloadType, name: str, default: str) -> str:
    return next((value for key, value in payload_type.parameters if key == name), default)


def _apt(payload_type: PayloadType) -> int:
    """The number of what it repeats (RFC 4588 section 8.6); -1 without a valid one."""
    value = _parameter(payload_type, "apt", "")
    return int(value) if re.fullmatch("[0-9]{1,3}", value) else -1
