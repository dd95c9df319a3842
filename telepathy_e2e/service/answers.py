"""What a server's refusal means in Telepathy's words."""

from __future__ import annotations

from telepathy_e2e.errors import (
    E2EError,
    NetworkError,
    NotAvailable,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError

_DENIED = frozenset({"forbidden", "not-allowed", "not-authorized", "registration-required"})
_NETWORK = frozenset({"remote-server-not-found", "remote-server-timeout"})


def refusal(error: E2EError, what: str) -> TelepathyError:
    """The error for whoever called a method.

    Args:
        error: StanzaError or IqTimeout of ``Client.send_iq``; a TelepathyError stays as it is.
        what: a sentence without its end, such as "The contact could not be blocked".
    """
    match error:
        case TelepathyError():
            return error
        case IqTimeout():
            return NetworkError(f"{what}: the server did not answer")
        case StanzaError(condition=condition, text=text):
            kind = (
                PermissionDenied
                if condition in _DENIED
                else NetworkError
                if condition in _NETWORK
                else NotAvailable
            )
            return kind(f"{what}: {text or condition}")
        case _:
            return NotAvailable(what)
