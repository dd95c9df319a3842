"""Words of Telepathy's calls (Call1), and what a Jingle reason means in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from telepathy_e2e.errors import TelepathyError
from telepathy_e2e.service import names

_ERROR: Final = names.TP + "Error."


class State(IntEnum):
    """Call_State."""

    PENDING_INITIATOR = 1
    INITIALISING = 2
    INITIALISED = 3
    ACCEPTED = 4
    ACTIVE = 5
    ENDED = 6


class Flags(IntFlag):
    """Call_Flags."""

    LOCALLY_HELD = 1
    LOCALLY_RINGING = 2
    LOCALLY_QUEUED = 4


class MemberFlags(IntFlag):
    """Call_Member_Flags."""

    RINGING = 1
    HELD = 2


class Reason(IntEnum):
    """Call_State_Change_Reason."""

    UNKNOWN = 0
    PROGRESS_MADE = 1
    USER_REQUESTED = 2
    FORWARDED = 3
    REJECTED = 4
    NO_ANSWER = 5
    INVALID_CONTACT = 6
    PERMISSION_DENIED = 7
    BUSY = 8
    INTERNAL_ERROR = 9
    SERVICE_ERROR = 10
    NETWORK_ERROR = 11
    MEDIA_ERROR = 12
    CONNECTIVITY_ERROR = 13


class MediaType(IntEnum):
    """Media_Stream_Type."""

    AUDIO = 0
    VIDEO = 1

    @property
    def word(self) -> str:
        """As in Jingle descriptions and in names of contents."""
        return self.name.lower()


class Direction(IntFlag):
    """Media_Stream_Direction."""

    NONE = 0
    SEND = 1
    RECEIVE = 2
    BOTH = 3


class Mute(IntEnum):
    """Local_Mute_State."""

    UNMUTED = 0
    MUTED = 1
    PARTIALLY_MUTED = 4


class Sending(IntEnum):
    """Sending_State of a stream's member."""

    NONE = 0
    PENDING_SEND = 1
    SENDING = 2
    PENDING_STOP_SENDING = 3


@dataclass(frozen=True)
class StateReason:
    """Call_State_Reason.

    Attributes:
        actor: handle of who did it; 0: nobody.
        error: D-Bus error name, or empty.
        message: for developers.
    """

    actor: int = 0
    reason: Reason = Reason.PROGRESS_MADE
    error: str = ""
    message: str = ""

    def struct(self) -> tuple[int, int, str, str]:
        return self.actor, int(self.reason), self.error, self.message


# Condition of a Jingle reason (XEP-0166 section 7.4): the reason, and the last part of the error.
_OF_CONDITION: Final[dict[str, tuple[Reason, str]]] = {
    "success": (Reason.USER_REQUESTED, ""),
    "cancel": (Reason.USER_REQUESTED, ""),
    "decline": (Reason.REJECTED, "Rejected"),
    "busy": (Reason.BUSY, "Busy"),
    "timeout": (Reason.NO_ANSWER, "NoAnswer"),
    "expired": (Reason.NO_ANSWER, "NoAnswer"),
    "alternative-session": (Reason.FORWARDED, "PickedUpElsewhere"),
    "gone": (Reason.NETWORK_ERROR, "NetworkError"),
    "connectivity-error": (Reason.CONNECTIVITY_ERROR, "ConnectionFailed"),
    "failed-transport": (Reason.CONNECTIVITY_ERROR, "ConnectionLost"),
    "unsupported-transports": (Reason.CONNECTIVITY_ERROR, "ConnectionFailed"),
    "security-error": (Reason.SERVICE_ERROR, "EncryptionError"),
    "media-error": (Reason.MEDIA_ERROR, "Media.StreamingError"),
    "failed-application": (Reason.MEDIA_ERROR, "Media.StreamingError"),
    "incompatible-parameters": (Reason.MEDIA_ERROR, "Media.CodecsIncompatible"),
    "unsupported-applications": (Reason.MEDIA_ERROR, "Media.UnsupportedType"),
}


def ended_by_peer(condition: str, peer: int) -> StateReason:
    """What the peer's session-terminate means.

    Args:
        condition: of its reason; one that we do not know is a fault of the other side.
        peer: the contact's handle.
    """
    reason, error = _OF_CONDITION.get(condition, (Reason.SERVICE_ERROR, "ServiceConfused"))
    return StateReason(peer, reason, error and _ERROR + error)


# The other way round: what a client gives to Hangup.
_CONDITION_OF: Final[dict[Reason, str]] = {
    Reason.REJECTED: "decline",
    Reason.BUSY: "busy",
    Reason.NO_ANSWER: "timeout",
    Reason.PERMISSION_DENIED: "decline",
    Reason.INTERNAL_ERROR: "general-error",
    Reason.SERVICE_ERROR: "general-error",
    Reason.NETWORK_ERROR: "connectivity-error",
    Reason.MEDIA_ERROR: "media-error",
    Reason.CONNECTIVITY_ERROR: "connectivity-error",
}


def condition_of(reason: Reason, *, answered: bool, incoming: bool) -> str:
    """The Jingle condition of a hang-up by the user here.

    Args:
        answered: the call was accepted by both.
        incoming: the peer called.
    """
    otherwise = "success" if answered else "decline" if incoming else "cancel"
    return _CONDITION_OF.get(reason, otherwise)


def of_error(error: TelepathyError, reason: Reason) -> StateReason:
    """An error of ours as the reason for the end."""
    return StateReason(0, reason, error.dbus_name, str(error))
