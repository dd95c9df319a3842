"""What became of the messages that we sent: receipts (XEP-0184) and errors as delivery reports."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from telepathy_e2e.errors import TP_ERROR
from telepathy_e2e.service.messages import (
    DELIVERED,
    DELIVERY_REPORT,
    PERMANENTLY_FAILED,
    TEMPORARILY_FAILED,
    Text,
)
from telepathy_e2e.xmpp.messages import Failure

# Messages of one connection that can still be answered for: errors come within minutes, receipts
# when the contact is back. Of each text so many characters are kept to be shown again.
MAX_SENT: Final = 500
MAX_ECHO: Final = 1_000

# Channel_Text_Send_Error
UNKNOWN, OFFLINE, INVALID_CONTACT, PERMISSION_DENIED, TOO_LONG, NOT_IMPLEMENTED = range(6)

_ERRORS: Final[dict[str, tuple[int, str]]] = {
    "bad-request": (UNKNOWN, "InvalidArgument"),
    "feature-not-implemented": (NOT_IMPLEMENTED, "NotImplemented"),
    "forbidden": (PERMISSION_DENIED, "PermissionDenied"),
    "gone": (INVALID_CONTACT, "DoesNotExist"),
    "item-not-found": (INVALID_CONTACT, "DoesNotExist"),
    "jid-malformed": (INVALID_CONTACT, "InvalidHandle"),
    "not-acceptable": (PERMISSION_DENIED, "PermissionDenied"),
    "not-allowed": (PERMISSION_DENIED, "PermissionDenied"),
    "not-authorized": (PERMISSION_DENIED, "PermissionDenied"),
    "policy-violation": (PERMISSION_DENIED, "PermissionDenied"),
    "recipient-unavailable": (OFFLINE, "Offline"),
    "registration-required": (PERMISSION_DENIED, "PermissionDenied"),
    "remote-server-not-found": (INVALID_CONTACT, "DoesNotExist"),
    "remote-server-timeout": (UNKNOWN, "NetworkError"),
    "resource-constraint": (UNKNOWN, "ServiceBusy"),
    "service-unavailable": (OFFLINE, "Offline"),
    "subscription-required": (PERMISSION_DENIED, "PermissionDenied"),
}
# RFC 6120 section 8.3.2: "retry after waiting".
_TEMPORARY: Final = frozenset(
    {"recipient-unavailable", "remote-server-timeout", "resource-constraint"}
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of ours.

    Attributes:
        target: whom it went to: a contact, a room's occupant, or a room.
        shown: as in MessageSent, its text perhaps shortened.
    """

    target: str
    shown: Text


class SentMessages:
    """The last messages that a connection sent, by their token."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        self._answered: set[str] = set()

    def add(self, token: str, sent: Sent) -> None:
        """Remember one; the oldest is forgotten."""
        self._sent[token] = sent
        if len(self._sent) > MAX_SENT:
            oldest, _ = self._sent.popitem(last=False)
            self._answered.discard(oldest)

    def is_ours(self, token: str, target: str) -> bool:
        """Whether this is a message that we sent there."""
        sent = self._sent.get(token)
        return sent is not None and sent.target == target

    def answered(self, token: str, target: str) -> Sent | None:
        """Somebody answers for a message: it, if it is one that went to him, the first time."""
        if not self.is_ours(token, target) or token in self._answered:
            return None
        self._answered.add(token)
        return self._sent[token]


def delivered(token: str, recipient: int, recipient_id: str, now: int) -> Text:
    """The report that a message arrived.

    Args:
        recipient: handle; "even if the delivery report actually came from an intermediate server".
        now: seconds since 1970.
    """
    return Text(
        "",
        DELIVERY_REPORT,
        sender=recipient,
        sender_id=recipient_id,
        received=now,
        headers={"delivery-status": DELIVERED, "delivery-token": token},
    )


def failed(
    token: str, sent: Sent, failure: Failure, recipient: int, recipient_id: str, now: int
) -> Text:
    """The report that a message did not arrive, and why."""
    code, name = _ERRORS.get(failure.condition, (UNKNOWN, "NotAvailable"))
    wait = failure.type == "wait" or (not failure.type and failure.condition in _TEMPORARY)
    headers: dict[str, object] = {
        "delivery-status": TEMPORARILY_FAILED if wait else PERMANENTLY_FAILED,
        "delivery-token": token,
        "delivery-dbus-error": TP_ERROR + name,
        "delivery-error-message": failure.text or failure.condition,
        "delivery-echo": sent.shown.parts(),
    }
    # "SHOULD be omitted if it would be Channel_Text_Send_Error_Unknown"
    if code != UNKNOWN:
        headers["delivery-error"] = code
    return Text(
        "",
        DELIVERY_REPORT,
        sender=recipient,
        sender_id=recipient_id,
        received=now,
        headers=headers,
    )
