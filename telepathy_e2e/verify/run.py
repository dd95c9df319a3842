"""What the runs of all methods share: what they are bound to, how long they take, their shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from telepathy_e2e.role import Role
from telepathy_e2e.verify.events import CeremonyEnded, Event, Outcome
from telepathy_e2e.verify.messages import Message
from telepathy_e2e.verify.tries import Tries

# From the wire page. It runs once for people to agree and starts again when the own try is
# spent, so that somebody who agreed late still has a minute to compare.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Session:
    """What every ceremony of an epoch is bound to."""

    role: Role
    binding: bytes
    """B, 32 bytes from the TLS exporter. A ceremony in another TLS session gives other results."""
    initiator_fingerprint: bytes
    responder_fingerprint: bytes
    """FI and FR, 32 bytes each."""
    tries: Tries
    random: Callable[[int], bytes]

    def __repr__(self) -> str:
        return f"Session({self.role})"


class Run(Protocol):
    """One ceremony, whatever its method. Ends with a ``CeremonyEnded`` as the last event."""

    id: str
    deadline: float
    """Monotonic seconds."""
    spent: bool
    """Whether its try is spent: from then on anything but success is a failed try."""

    @property
    def method(self) -> str:
        """``sas`` or ``password``."""

    @property
    def ours_unanswered(self) -> bool:
        """We began and nothing came back: the one time at which a start of the peer crosses."""

    @property
    def awaits_agreement(self) -> bool:
        """The peer began and this user has not agreed."""

    def receive(self, message: Message, now: float) -> list[Event]:
        """A message with our id, other than ``<cancel/>``."""

    def end(self, outcome: Outcome, reason: str) -> CeremonyEnded:
        """It is over, whatever was awaited; what was secret is forgotten."""
