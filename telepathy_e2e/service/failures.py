"""Why a session with a peer ends: for D-Bus callers, for the peer, and by whose fault."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from telepathy_e2e.errors import (
    E2EError,
    EncryptionError,
    NetworkError,
    TelepathyError,
    Terminated,
)
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

# Seconds in which the peer's reason may come after his road broke: he says it through the servers,
# which takes a few round trips longer.
REASON_GRACE: Final = 2.0


class Fault(Enum):
    """Who made it fail."""

    USER = auto()  # the person here, who wanted it
    OURS = auto()  # this program, or another on this machine
    CONTACT = auto()  # the person there, who wanted it
    PEER = auto()  # the program there, or the way to it


class SessionFailed(E2EError):
    """The session is over.

    Args:
        error: what D-Bus callers are told from now on.
        condition: the Jingle reason for the peer (XEP-0166 section 7.4); None where the peer ended
            it, or is told by other means.
        fault: who made it fail.
    """

    def __init__(
        self, error: TelepathyError, condition: str | None, fault: Fault = Fault.PEER
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.condition = condition
        self.fault = fault


class SecurityFailed(SessionFailed):
    """No payload may flow, or flow on. See ``SessionFailed``."""

    condition: str

    def __init__(
        self, error: TelepathyError, condition: str = "security-error", fault: Fault = Fault.PEER
    ) -> None:
        super().__init__(error, condition, fault)


class NoRoad(E2EError):
    """No transport could be brought up."""


def failure_of(error: Exception) -> SessionFailed:
    """What an error of a script, or of the session, means for a session over a stream."""
    match error:
        case SessionFailed():
            return error
        case NoRoad():
            return SessionFailed(NetworkError(str(error)), "connectivity-error")
        case StreamBroken():
            return peer_broke()
        case IqTimeout():
            return SessionFailed(NetworkError("The contact's client does not answer"), "timeout")
        case StanzaError():
            return SessionFailed(
                NetworkError(f"The contact's client refused ({error.condition})"), "general-error"
            )
        case TelepathyError():
            return SessionFailed(error, "cancel", Fault.OURS)
        case _:
            return SessionFailed(NetworkError(str(error)), "general-error")


def ended_by_peer(condition: str, what: str) -> SessionFailed:
    """The peer's session-terminate with another reason than success.

    Args:
        what: was ended, for people.
    """
    if condition in ("cancel", "decline", "busy"):
        return SessionFailed(Terminated(f"The contact cancelled the {what}"), None, Fault.CONTACT)
    if condition == "gone":
        return SessionFailed(peer_left().error, None)
    if condition == "security-error":
        return SessionFailed(
            EncryptionError("The contact's client found the protection tampered with or refused"),
            None,
        )
    return SessionFailed(NetworkError(f"The contact's client gave up ({condition})"), None)


def road_broke(error: Exception) -> bool:
    """Whether a session-terminate that says why may still be on its way."""
    if isinstance(error, SessionFailed):
        return error.condition == "failed-transport"
    return isinstance(error, StreamBroken)


def peer_broke() -> SessionFailed:
    return SessionFailed(NetworkError("The connection to the contact broke"), "failed-transport")


def peer_left() -> SessionFailed:
    return SessionFailed(Terminated("The contact's client went offline"), "gone")
