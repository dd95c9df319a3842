"""What a verification ceremony tells, and the words it uses.

One outcome type for every method, so that nobody above has to know which one ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias
from xml.etree.ElementTree import Element

V = "urn:x-telepathy-e2e:verification:0"


class Outcome(StrEnum):
    """How a ceremony ended, or what a comparison said."""

    VERIFIED = "verified"
    """This user has convinced himself."""
    FAILED = "failed"
    """It came to no result; nothing is known now that was not known before."""
    REJECTED = "rejected"
    """Somebody saw that the peer is not who he should be."""


@dataclass(frozen=True)
class Send:
    """Seal this element and send it, in the order of the list."""

    element: Element


@dataclass(frozen=True)
class PeerStarted:
    """The other side began; nothing goes back before this user has agreed."""

    method: str
    """``sas`` or ``password``."""


@dataclass(frozen=True)
class StringReady:
    """Show this to the user: both nonces are known."""

    text: str = field(repr=False)
    """Six characters; never to be logged."""


@dataclass(frozen=True)
class CeremonyEnded:
    """The ceremony is over. A ``rejected`` may follow a ``verified`` of the same ceremony: the
    other user may look later, and his no counts for both."""

    outcome: Outcome
    method: str
    reason: str
    """For logs and people: a reason of ``<cancel/>``, ``mismatch`` (this user saw two strings),
    ``peer-mismatch`` (the other did), ``wrong-reveal``, ``bad-share``, ``out-of-place``,
    ``crossed`` (the other's start counts), ``tries`` (none left by then), ``cancelled`` (by this
    user), what ``disturbed`` and ``abandon`` were told, or empty for ``verified``."""
    spent: bool = False
    """It had spent its try: with another outcome than ``verified`` that is a failed try, which
    the user must see."""


@dataclass(frozen=True)
class PeerVerdict:
    """What the other side says it holds of us. For display only: it decides nothing."""

    value: str
    """``verified``, ``unverified`` or ``rejected``."""
    method: str
    """How, a word of at most 32 characters, or empty."""


@dataclass(frozen=True)
class Reported:
    """An oddity worth a log line; holds nothing that the peer wrote."""

    text: str


Event: TypeAlias = Send | PeerStarted | StringReady | CeremonyEnded | PeerVerdict | Reported
