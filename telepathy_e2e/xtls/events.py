"""What the protection of a session tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias
from xml.etree.ElementTree import Element

from telepathy_e2e.verify.events import (
    CeremonyEnded,
    Outcome,
    PeerStarted,
    PeerVerdict,
    Reported,
    StringReady,
)
from telepathy_e2e.xtls.hello import Attestation

__all__ = [
    "CeremonyEnded",
    "Event",
    "Failed",
    "Outcome",
    "PeerStarted",
    "PeerVerdict",
    "Protected",
    "Reported",
    "SendSealed",
    "StringReady",
]


@dataclass(frozen=True)
class SendSealed:
    """Send this in a security-info stanza, in the order of the events."""

    element: Element


@dataclass(frozen=True)
class Protected:
    """Both hellos are there and right: payload may flow, as far as policy and people allow."""

    identity_certificate: bytes | None
    """DER; None with ``leaf_only``."""
    peer_fingerprint: bytes
    """Identity fingerprint of the peer, 32 bytes; with ``leaf_only`` that of its leaf."""
    own_fingerprint: bytes
    """The same of what the peer has seen of us."""
    leaf_only: bool
    """The peer has no verification messages: no identity, no ceremonies."""
    cipher_suite: str
    key_exchange: str
    peer_methods: tuple[str, ...]
    """What the peer says it can do, words that we do not know included."""
    attestations: tuple[Attestation, ...]
    """What came with the peer's identity, not judged."""
    peer_leaf: bytes = field(default=b"", repr=False)
    """DER of what the peer showed in the handshake."""


@dataclass(frozen=True)
class Failed:
    """It is over; terminate the session with this reason.

    Only ``failed-transport`` leaves something: the peer's direction was cut (there was no
    close_notify), and ours goes on as long as the transport does. Whether that matters depends on
    which direction carries payload, which the caller knows.
    """

    reason: str
    """Condition of a Jingle reason: ``security-error`` or ``failed-transport``."""
    text: str
    """For logs and people; nothing the peer wrote."""


Event: TypeAlias = (
    SendSealed
    | Protected
    | PeerStarted
    | StringReady
    | CeremonyEnded
    | PeerVerdict
    | Reported
    | Failed
)
