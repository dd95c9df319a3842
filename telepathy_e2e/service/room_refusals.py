"""Why a room does not let us in, in Telepathy's words (XEP-0045 section 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from telepathy_e2e.errors import (
    ChannelBanned,
    ChannelFull,
    ChannelInviteOnly,
    DoesNotExist,
    E2EError,
    InvalidHandle,
    NetworkError,
    NotAvailable,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.service.group import Reason

_KINDS: Final[Mapping[str, type[TelepathyError]]] = {
    "forbidden": ChannelBanned,
    "gone": DoesNotExist,
    "item-not-found": DoesNotExist,
    "jid-malformed": InvalidHandle,
    "not-allowed": PermissionDenied,
    "registration-required": ChannelInviteOnly,
    "remote-server-not-found": NetworkError,
    "remote-server-timeout": NetworkError,
    "resource-constraint": ChannelFull,
    "service-unavailable": ChannelFull,
}
_WORDS: Final[Mapping[str, str]] = {
    "conflict": "The nickname is in use there",
    "forbidden": "You are banned from this room",
    "gone": "This room does not exist any longer",
    "item-not-found": "This room does not exist, or is not ready yet",
    "not-acceptable": "The room wants you to use the nickname that you registered with it",
    "not-allowed": "You may not create rooms there",
    "registration-required": "Only members may come in",
    "resource-constraint": "The room is full",
    "service-unavailable": "The room is full, or there is none",
}
_REASONS: Final[Mapping[type[TelepathyError], Reason]] = {
    ChannelBanned: Reason.BANNED,
    ChannelInviteOnly: Reason.PERMISSION_DENIED,
    PermissionDenied: Reason.PERMISSION_DENIED,
    DoesNotExist: Reason.INVALID_CONTACT,
}


class PasswordNeeded(E2EError):
    """The room takes only who knows its password, and what was said is not it."""


def refusal(condition: str, text: str) -> E2EError:
    """What comes of an error that answers our joining.

    Args:
        condition: of RFC 6120 section 8.3.3.
        text: the room's words, or empty.
    """
    if condition == "not-authorized":
        return PasswordNeeded("The room has a password")
    words = _WORDS.get(condition, "The room does not let you in")
    return _KINDS.get(condition, NotAvailable)(f"{words}: {text}" if text else words)


def reason_of(error: TelepathyError) -> Reason:
    """The Channel_Group_Change_Reason that goes with it."""
    return _REASONS.get(type(error), Reason.ERROR)
