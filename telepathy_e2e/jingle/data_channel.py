"""A data channel as a Jingle transport (XEP-0343): ICE, DTLS with the session's certificate, SCTP.

What is ours beyond the XEP is in ``spec/data-channels.md``.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError, SecurityError

from . import ice
from .reading import decimal, single

SCTP_NS: Final = "urn:xmpp:jingle:transports:dtls-sctp:1"
CHANNEL_NS: Final = "urn:xmpp:jingle:transports:webrtc-datachannel:0"
TRANSPORT: Final = ice.TRANSPORT
_SCTPMAP: Final = f"{{{SCTP_NS}}}sctpmap"
_CHANNEL: Final = f"{{{CHANNEL_NS}}}channel"

#: RFC 8841 section 5: what everybody uses.
PORT: Final = 5000

#: Of streams in each direction: one, and the number of ours may be the second.
STREAMS: Final = 2

_PROTOCOL: Final = "webrtc-datachannel"


@dataclass(frozen=True)
class DataTransport:
    """One ``<transport/>``."""

    ice: ice.Transport
    port: int | None = PORT
    """None: news of a transport that is known already, or a transport for media."""


def is_data(element: Element | None) -> bool:
    """Whether it is an offer, or an answer, of a data channel."""
    return element is not None and element.tag == TRANSPORT and element.find(_SCTPMAP) is not None


def parse(element: Element | None) -> DataTransport:
    """Read a ``<transport/>``.

    Raises:
        PeerError: malformed, or a channel of another kind.
        SecurityError: see ``ice.parse``.
    """
    transport = ice.parse(element)
    if element is None:  # pragma: no cover - parse has said so
        raise PeerError("no transport")
    map_ = single(element, _SCTPMAP, "sctpmap")
    if map_ is None:
        return DataTransport(transport, None)
    if map_.get("protocol", _PROTOCOL) != _PROTOCOL:
        raise PeerError("not a data channel", "feature-not-implemented")
    # The table of section 4.2 and the schema have different names for it.
    port = decimal(map_.get("number", map_.get("port")), "port of SCTP", minimum=1, maximum=65535)
    if element.find(_CHANNEL) is not None:
        # Channels that are there without being opened; ours is opened (RFC 8832).
        raise PeerError("a channel that is negotiated by stanzas", "feature-not-implemented")
    return DataTransport(transport, port)


def build(transport: DataTransport) -> Element:
    """The ``<transport/>`` to send."""
    element = ice.build(transport.ice)
    if transport.port is not None:
        values = {"number": str(transport.port), "protocol": _PROTOCOL, "streams": str(STREAMS)}
        SubElement(element, _SCTPMAP, values)
    return element


def check(
    transport: DataTransport, announced: Sequence[tuple[str, bytes]]
) -> tuple[ice.DtlsFingerprint, ...]:
    """What an offer or an answer has to have.

    Args:
        announced: hash and digest of the leaf in ``<security/>``.
    Returns:
        Its fingerprints.
    Raises:
        PeerError: no data channel, or nothing to check the other side by.
        SecurityError: its certificate is another one than that of the session.
    """
    if transport.port is None or not transport.ice.has_credentials:
        raise PeerError("an incomplete offer of a data channel")
    if not transport.ice.fingerprints:
        raise PeerError("a data channel without a fingerprint")
    known = dict(announced)
    for each in transport.ice.fingerprints:
        other = known.get(each.hash)
        # Of another hash function: the handshake shows whether it is the same certificate.
        if other is not None and not hmac.compare_digest(other, each.digest):
            raise SecurityError("the transport names another certificate than the session")
    return transport.ice.fingerprints
