"""Media as a Jingle application (XEP-0167), with feedback (XEP-0293), header extensions (XEP-0294)
and sources (XEP-0339).

``parse`` bounds and checks; which of it can be used is for ``call_negotiation`` to say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError

from .grouping import build_group as build_group
from .grouping import parse_group as parse_group
from .reading import decimal, identifier, local_name, namespace, xml_text

RTP_NS: Final = "urn:xmpp:jingle:apps:rtp:1"
FEEDBACK_NS: Final = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0"
EXTENSIONS_NS: Final = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0"
SOURCES_NS: Final = "urn:xmpp:jingle:apps:rtp:ssma:0"

#: What whoever makes calls says of itself in service discovery.
FEATURES: Final = (
    RTP_NS,
    "urn:xmpp:jingle:apps:rtp:audio",
    "urn:xmpp:jingle:apps:rtp:video",
    FEEDBACK_NS,
    EXTENSIONS_NS,
    SOURCES_NS,
    "urn:xmpp:jingle:apps:grouping:0",
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:jingle-message:0",
)

# RFC 3550 section 5.1: seven bits. No two payload types of a description share a number, so this
# bounds how many there are.
MAX_PAYLOAD_ID: Final = 127

# The largest known clock rate is 90,000; 31 bits are what every library keeps it in.
MAX_CLOCKRATE: Final = 2**31

# XEP-0167, schema: an unsigned byte.
MAX_CHANNELS: Final = 255

# Milliseconds; a minute in one packet is already beyond all sense.
MAX_PACKET_TIME: Final = 60_000

# Of one payload type; Chromium's H264 has three, and the largest in use (H265) about a dozen.
MAX_PARAMETERS: Final = 64

# Characters of a parameter's name or value; sprop-parameter-sets of H264 have some hundred.
MAX_VALUE: Final = 1024

# Of one payload type or description; Chromium sends five.
MAX_FEEDBACK: Final = 64

# Chromium sends eleven for video; RFC 8285 section 4.2 has room for fourteen in one-byte headers.
MAX_EXTENSIONS: Final = 32

# RFC 8285 section 5: up to 255, or above 4,095 in an offer that leaves the choice to its answerer.
MAX_EXTENSION_ID: Final = 4351

# Simulcast of three layers has six sources with their retransmissions.
MAX_SOURCES: Final = 64

# One group per layer, and one that has all.
MAX_GROUPS: Final = 16

# Characters of an encoding's name, a kind of media, a type of feedback: words.
MAX_WORD: Final = 64

_MAX_SSRC: Final = 2**32 - 1

_DESCRIPTION: Final = f"{{{RTP_NS}}}description"
_PAYLOAD_TYPE: Final = f"{{{RTP_NS}}}payload-type"
_PARAMETER: Final = f"{{{RTP_NS}}}parameter"
_RTCP_MUX: Final = f"{{{RTP_NS}}}rtcp-mux"
_REDUCED_SIZE: Final = f"{{{RTP_NS}}}rtcp-reduced-size"
_ENCRYPTION: Final = f"{{{RTP_NS}}}encryption"
_FEEDBACK: Final = f"{{{FEEDBACK_NS}}}rtcp-fb"
_INTERVAL: Final = f"{{{FEEDBACK_NS}}}rtcp-fb-trr-int"
_EXTENSION: Final = f"{{{EXTENSIONS_NS}}}rtp-hdrext"
_SOURCE: Final = f"{{{SOURCES_NS}}}source"
_SOURCE_PARAMETER: Final = f"{{{SOURCES_NS}}}parameter"
_GROUP: Final = f"{{{SOURCES_NS}}}ssrc-group"

#: The type of a ``Feedback`` that stands for ``<rtcp-fb-trr-int/>``.
INTERVAL: Final = "trr-int"

# RFC 3551 section 6: payload types that need neither name nor clock rate to be known.
_STATIC: Final = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 13: ("CN", 8000)}
_FIRST_DYNAMIC: Final = 96
_SENDERS: Final = frozenset(("both", "initiator", "none", "responder"))


@dataclass(frozen=True, slots=True)
class Feedback:
    """What RTCP may say (XEP-0293): ``<rtcp-fb/>`` or ``<rtcp-fb-trr-int/>``."""

    type: str
    """``nack``, ``ccm``, ...; ``INTERVAL`` for the smallest interval between reports."""
    subtype: str = ""
    """``pli``, ``fir``, ...; empty where there is none."""
    value: str = ""
    """Milliseconds, of an interval only."""


@dataclass(frozen=True, slots=True)
class PayloadType:
    """One way to encode (XEP-0167 section 4)."""

    id: int
    name: str
    """As it came; to be compared without case (RFC 8866 section 6.6). May be empty below 96."""
    clockrate: int
    """Hertz; 0 where it is not given and the number does not tell."""
    channels: int = 1
    ptime: int | None = None
    """Milliseconds of sound in a packet."""
    maxptime: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    """Names and values in the order given; either may be empty."""
    feedback: tuple[Feedback, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """An extension of the packets' headers (XEP-0294)."""

    id: int
    uri: str
    senders: str = "both"


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of packets and what belongs to it (XEP-0339), such as ``cname`` and ``msid``."""

    ssrc: int
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """Sources that belong together; ``FID``: the second repeats what was lost of the first."""

    semantics: str
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """One ``<description/>``: what one side would receive, and how it sends."""

    media: str
    """``audio``, ``video``; others parse too."""
    payload_types: tuple[PayloadType, ...]
    feedback: tuple[Feedback, ...] = ()
    """For all payload types."""
    extensions: tuple[HeaderExtension, ...] = ()
    sources: tuple[Source, ...] = ()
    groups: tuple[SourceGroup, ...] = ()
    ssrc: int | None = None
    rtcp_mux: bool = False
    rtcp_reduced_size: bool = False
    sdes: bool = False
    """Keys for SRTP came in the clear. They are not kept: every server on the way has read them."""


def is_rtp(element: Element | None) -> bool:
    """Whether a content is media of XEP-0167."""
    return element is not None and element.tag == _DESCRIPTION


def parse(element: Element | None) -> Description:
    """Read a ``<description/>``. Raises: PeerError."""
    if element is None or element.tag != _DESCRIPTION:
        raise PeerError("not the description of media")
    ssrc = element.get("ssrc")
    payload_types = tuple(
        _payload_type(child)
        for child in _bounded(element, _PAYLOAD_TYPE, MAX_PAYLOAD_ID + 1, "payload types")
    )
    _unique((each.id for each in payload_types), "payload types")
    extensions = tuple(
        _extension(child)
        for child in _bounded(element, _EXTENSION, MAX_EXTENSIONS, "header extensions")
    )
    _unique((each.id for each in extensions), "header extensions")
    sources = tuple(
        Source(_ssrc(child.get("ssrc")), _parameters(child, _SOURCE_PARAMETER))
        for child in _bounded(element, _SOURCE, MAX_SOURCES, "sources")
    )
    _unique((each.ssrc for each in sources), "sources")
    return Description(
        media=identifier(element.get("media"), "media", MAX_WORD),
        payload_types=payload_types,
        feedback=_feedback(element),
        extensions=extensions,
        sources=sources,
        groups=tuple(
            SourceGroup(
                identifier(child.get("semantics"), "semantics of a group", MAX_WORD),
                tuple(
                    _ssrc(source.get("ssrc"))
                    for source in _bounded(child, _SOURCE, MAX_SOURCES, "sources of a group")
                ),
            )
            for child in _bounded(element, _GROUP, MAX_GROUPS, "groups of sources")
        ),
        ssrc=None if ssrc is None else _ssrc(ssrc),
        rtcp_mux=element.find(_RTCP_MUX) is not None,
        rtcp_reduced_size=_has_reduced_size(element),
        sdes=element.find(_ENCRYPTION) is not None,
    )


def build(description: Description) -> Element:
    """The ``<description/>`` to send; never with ``<encryption/>``."""
    element = Element(_DESCRIPTION, {"media": description.media})
    if description.ssrc is not None:
        element.set("ssrc", str(description.ssrc))
    for payload_type in description.payload_types:
        element.append(_build_payload_type(payload_type))
    if description.rtcp_mux:
        SubElement(element, _RTCP_MUX)
    if description.rtcp_reduced_size:
        SubElement(element, _REDUCED_SIZE)
    _add_feedback(element, description.feedback)
    for extension in description.extensions:
        child = SubElement(
            element, _EXTENSION, {"id": str(extension.id), "uri": xml_text(extension.uri)}
        )
        if extension.senders != "both":
            child.set("senders", extension.senders)
    for source in description.sources:
        child = SubElement(element, _SOURCE, {"ssrc": str(source.ssrc)})
        _add_parameters(child, _SOURCE_PARAMETER, source.parameters)
    for group in description.groups:
        child = SubElement(element, _GROUP, {"semantics": group.semantics})
        for ssrc in group.ssrcs:
            SubElement(child, _SOURCE, {"ssrc": str(ssrc)})
    return element


def _payload_type(element: Element) -> PayloadType:
    number = decimal(element.get("id"), "id of a payload type", maximum=MAX_PAYLOAD_ID)
    name, rate = _STATIC.get(number, ("", 0))
    if element.get("name"):
        name = identifier(element.get("name"), "name of a payload type", MAX_WORD)
    elif number >= _FIRST_DYNAMIC:
        raise PeerError("a dynamic payload type without a name")
    if element.get("clockrate") is not None:
        rate = decimal(element.get("clockrate"), "clockrate", minimum=1, maximum=MAX_CLOCKRATE)
    return PayloadType(
        id=number,
        name=name,
        clockrate=rate,
        channels=decimal(element.get("channels", "1"), "channels", minimum=1, maximum=MAX_CHANNELS),
        ptime=_packet_time(element, "ptime"),
        maxptime=_packet_time(element, "maxptime"),
        parameters=_parameters(element, _PARAMETER),
        feedback=_feedback(element),
    )


def _build_payload_type(payload_type: PayloadType) -> Element:
    element = Element(_PAYLOAD_TYPE, {"id": str(payload_type.id)})
    if payload_type.name:
        element.set("name", xml_text(payload_type.name))
    if payload_type.clockrate:
        element.set("clockrate", str(payload_type.clockrate))
    if payload_type.channels != 1:
        element.set("channels", str(payload_type.channels))
    for attribute, value in (("ptime", payload_type.ptime), ("maxptime", payload_type.maxptime)):
        if value is not None:
            element.set(attribute, str(value))
    _add_parameters(element, _PARAMETER, payload_type.parameters)
    _add_feedback(element, payload_type.feedback)
    return element


def _packet_time(element: Element, name: str) -> int | None:
    value = element.get(name)
    return None if value is None else decimal(value, name, maximum=MAX_PACKET_TIME)


def _parameters(element: Element, tag: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (_value(child, "name", "name of a parameter"), _value(child, "value", "parameter"))
        for child in _bounded(element, tag, MAX_PARAMETERS, "parameters")
    )


def _value(element: Element, attribute: str, what: str) -> str:
    """May be missing: SDP has parameters that are not ``name=value``, and stanza.js sends them."""
    value = element.get(attribute)
    return identifier(value, what, MAX_VALUE) if value else ""


def _feedback(element: Element) -> tuple[Feedback, ...]:
    found = [child for child in element if child.tag in (_FEEDBACK, _INTERVAL)]
    if len(found) > MAX_FEEDBACK:
        raise PeerError("too many kinds of feedback")
    return tuple(_one_feedback(child) for child in found)


def _one_feedback(element: Element) -> Feedback:
    if element.tag == _INTERVAL:
        interval = decimal(element.get("value"), "interval of feedback", maximum=2**32 - 1)
        return Feedback(INTERVAL, value=str(interval))
    type_ = identifier(element.get("type"), "type of feedback", MAX_WORD)
    if type_ == INTERVAL:
        raise PeerError("feedback of a type that has an element of its own")
    subtype = element.get("subtype")
    return Feedback(type_, identifier(subtype, "subtype of feedback", MAX_WORD) if subtype else "")


def _add_feedback(parent: Element, feedback: Iterable[Feedback]) -> None:
    for each in feedback:
        if each.type == INTERVAL:
            SubElement(parent, _INTERVAL, {"value": each.value})
            continue
        child = SubElement(parent, _FEEDBACK, {"type": xml_text(each.type)})
        if each.subtype:
            child.set("subtype", xml_text(each.subtype))


def _add_parameters(parent: Element, tag: str, parameters: Iterable[tuple[str, str]]) -> None:
    for name, value in parameters:
        child = SubElement(parent, tag, {"name": xml_text(name)})
        if value:
            child.set("value", xml_text(value))


def _extension(element: Element) -> HeaderExtension:
    senders = element.get("senders", "both")
    if senders not in _SENDERS:
        raise PeerError("senders of a header extension has an undefined value")
    return HeaderExtension(
        decimal(element.get("id"), "id of an extension", minimum=1, maximum=MAX_EXTENSION_ID),
        identifier(element.get("uri"), "uri of an extension", MAX_VALUE),
        senders,
    )


def _has_reduced_size(element: Element) -> bool:
    # stanza.js has it in the namespace of the description, others in their own: RFC 5506 has none.
    return any(
        local_name(child) == "rtcp-reduced-size" and namespace(child).startswith("urn:xmpp:jingle:")
        for child in element
    )


def _ssrc(value: str | None) -> int:
    return decimal(value, "ssrc", maximum=_MAX_SSRC)


def _bounded(element: Element, tag: str, maximum: int, what: str) -> list[Element]:
    found = [child for child in element if child.tag == tag]
    if len(found) > maximum:
        raise PeerError(f"too many {what}")
    return found


def _unique(keys: Iterable[Hashable], what: str) -> None:
    """Two readers that take different ones of a pair would not agree on what was agreed."""
    listed = list(keys)
    if len(set(listed)) != len(listed):
        raise PeerError(f"two {what} have the same number")
