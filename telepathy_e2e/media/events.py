"""What a ``MediaEngine`` tells whoever has the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from telepathy_e2e.jingle.ice import Candidate

Why = Literal["ice", "dtls", "security"]


@dataclass(frozen=True, slots=True)
class DtlsFacts:
    """What a DTLS handshake ended in."""

    peer_leaf: bytes
    """DER of what the peer showed."""
    protocol: str
    """``DTLSv1.2`` or ``DTLSv1.3``."""
    cipher: str
    """OpenSSL's name."""
    srtp_profile: str
    """Name of the IANA registry."""
    key_exchange: str = ""
    """Name of the group, if OpenSSL tells."""


@dataclass(frozen=True, slots=True)
class LocalCandidates:
    """Candidates for the peer: those of this machine at once, those from servers as they come."""

    road: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class GatheringDone:
    """No more candidates come."""

    road: str


@dataclass(frozen=True, slots=True)
class Connected:
    """DTLS is established and the peer's leaf is one of the announced ones."""

    road: str
    facts: DtlsFacts


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The peer is not heard any more; ``restart`` may mend it, DTLS waits.

    Said again while that lasts, each time that another attempt makes sense.
    """

    road: str


@dataclass(frozen=True, slots=True)
class RestartWanted:
    """The peer sent new credentials of ICE: call ``restart``, send what it returns, ``gather``."""

    road: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The peer is heard again, over a new way or the old; the DTLS association is the old one."""

    road: str


@dataclass(frozen=True, slots=True)
class RoadFailed:
    """Nothing will come of this road any more, unless ICE failed and is restarted.

    ``security`` means that the call must end with ``<security-error/>``. ``text`` has nothing
    that the peer wrote.
    """

    road: str
    why: Why
    text: str


@dataclass(frozen=True, slots=True)
class MediaLost:
    """A device or file ended; silence (or nothing) goes on in its place."""

    name: str
    direction: Literal["source", "sink"]
    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The first packet of a content since it was opened for them."""

    name: str


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """The peer pressed a key (RFC 4733 section 3.2): see ``dtmf.KEYS``."""

    name: str
    event: int


MediaEvent: TypeAlias = (
    LocalCandidates
    | GatheringDone
    | Connected
    | Disconnected
    | RestartWanted
    | Restarted
    | RoadFailed
    | Heard
    | MediaLost
    | DtmfReceived
)
