"""Why a payload channel may not carry, or go on carrying, its payload."""

from __future__ import annotations

from enum import Enum, auto

from telepathy_e2e.errors import E2EError, TelepathyError


class Fault(Enum):
    """Who made it fail."""

    USER = auto()
    OURS = auto()
    PEER = auto()


class SecurityFailed(E2EError):
    """No payload may flow, or flow on.

    Args:
        error: what D-Bus callers are told.
        condition: the Jingle reason for the peer (XEP-0166 section 7.4).
        fault: who made it fail.
    """

    def __init__(
        self, error: TelepathyError, condition: str = "security-error", fault: Fault = Fault.PEER
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.condition = condition
        self.fault = fault


class NoRoad(E2EError):
    """No transport could be brought up."""
