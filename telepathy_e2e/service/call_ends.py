"""Why a call ends: in Telepathy's words, in Jingle's, and in a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass

from telepathy_e2e.errors import EncryptionError, NetworkError, SecurityError, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.call_words import Reason, StateReason, ended_by_peer, of_error
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError


@dataclass(frozen=True)
class End:
    """One end.

    Attributes:
        reason: for CallStateReason.
        error: what D-Bus callers are told from now on.
        condition: the Jingle reason for the peer; None where he ended it.
    """

    reason: StateReason
    error: TelepathyError
    condition: str | None


def end_of(error: Exception, *, own: int, peer: int, condition: str = "general-error") -> End:
    """What an error of the session, of its media or of a script means for the call.

    Args:
        own, peer: handles.
        condition: what the peer shall be told, where the error does not say.
    """
    match error:
        case SecurityFailed():
            said = of_error(error.error, Reason.SERVICE_ERROR)
            if error.fault is Fault.USER:
                said = StateReason(own, Reason.USER_REQUESTED, said.error, said.message)
            return End(said, error.error, error.condition)
        case SecurityError():
            wrong = EncryptionError(str(error))
            return End(of_error(wrong, Reason.SERVICE_ERROR), wrong, "security-error")
        case IqTimeout():
            silent = NetworkError("The contact's client does not answer")
            return End(ended_by_peer("timeout", peer), silent, "timeout")
        case StanzaError():
            text = f"The contact's client refused ({error.condition})"
            return End(_confused(peer, text), NetworkError(text), None)
        case TelepathyError():
            kind = ended_by_peer(condition, 0).reason
            if condition == "general-error":
                kind = Reason.INTERNAL_ERROR
            return End(of_error(error, kind), error, condition)
        case _:
            said = ended_by_peer(condition, 0)
            if condition == "general-error":
                said = _confused(peer, str(error))
            return End(said, NetworkError(str(error)), condition)


def _confused(peer: int, text: str) -> StateReason:
    return StateReason(peer, Reason.SERVICE_ERROR, names.TP + "Error.ServiceConfused", text)
