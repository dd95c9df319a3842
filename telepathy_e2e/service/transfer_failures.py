"""Why a file transfer ends: in Telepathy's words, in Jingle's, and in a sentence for people."""

from __future__ import annotations

from telepathy_e2e.errors import EncryptionError, NetworkError, TelepathyError, Terminated
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service.failures import Fault, NoRoad, SecurityFailed
from telepathy_e2e.service.file_details import (
    LOCAL_ERROR,
    LOCAL_STOPPED,
    REMOTE_ERROR,
    REMOTE_STOPPED,
)
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError


class TransferFailed(Exception):
    """The transfer is over.

    Args:
        reason: File_Transfer_State_Change_Reason.
        error: what D-Bus callers are told from now on.
        condition: the Jingle reason for the peer; None where the peer ended it.
    """

    def __init__(self, reason: int, error: TelepathyError, condition: str | None) -> None:
        super().__init__(str(error))
        self.reason = reason
        self.error = error
        self.condition = condition


_BLAME = {Fault.USER: LOCAL_STOPPED, Fault.OURS: LOCAL_ERROR, Fault.PEER: REMOTE_ERROR}


def failure_of(error: Exception) -> TransferFailed:
    """What an error of the script, or of the session, means for the transfer."""
    match error:
        case TransferFailed():
            return error
        case SecurityFailed():
            return TransferFailed(_BLAME[error.fault], error.error, error.condition)
        case NoRoad():
            return TransferFailed(REMOTE_ERROR, NetworkError(str(error)), "connectivity-error")
        case StreamBroken():
            return peer_broke()
        case IqTimeout():
            return TransferFailed(
                REMOTE_ERROR, NetworkError("The contact's client does not answer"), "timeout"
            )
        case StanzaError():
            return TransferFailed(
                REMOTE_ERROR,
                NetworkError(f"The contact's client refused ({error.condition})"),
                "general-error",
            )
        case TelepathyError():
            return TransferFailed(LOCAL_ERROR, error, "cancel")
        case _:
            return TransferFailed(REMOTE_ERROR, NetworkError(str(error)), "general-error")


def ended_by_peer(condition: str, what: str = "transfer") -> TransferFailed:
    """The peer's session-terminate with another reason than success.

    Args:
        what: was ended, for people.
    """
    if condition in ("cancel", "decline", "busy"):
        return TransferFailed(REMOTE_STOPPED, Terminated(f"The contact cancelled the {what}"), None)
    if condition == "security-error":
        return TransferFailed(
            REMOTE_ERROR,
            EncryptionError("The contact's client found the protection tampered with or refused"),
            None,
        )
    return TransferFailed(
        REMOTE_ERROR, NetworkError(f"The contact's client gave up ({condition})"), None
    )


def road_broke(error: Exception) -> bool:
    """Whether a session-terminate that says why may still be on its way."""
    if isinstance(error, TransferFailed | SecurityFailed):
        return error.condition == "failed-transport"
    return isinstance(error, StreamBroken)


def peer_broke() -> TransferFailed:
    return TransferFailed(
        REMOTE_ERROR, NetworkError("The connection to the contact broke"), "failed-transport"
    )


def client_broke() -> TransferFailed:
    return TransferFailed(
        LOCAL_ERROR,
        NetworkError("The local program closed the file's socket"),
        "failed-application",
    )
