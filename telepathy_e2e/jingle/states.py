"""All that can happen to a Jingle session, as tables.

The tables do not know which side is us: a move is (state, who sends, action). What is not here
cannot be sent, and is refused when it comes; neither changes anything. ``docs/states`` has the
pictures that ``docs/make_state_diagrams.py`` draws from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from telepathy_e2e.role import Role

from .stanzas import Action


class State(StrEnum):
    """XEP-0166 section 5.1."""

    NEW = "new"
    """session-initiate has neither been sent nor received."""
    PENDING = "pending"
    """session-accept is awaited."""
    ACTIVE = "active"
    ENDED = "ended"


class TransportState(StrEnum):
    """Whose transport-replace is to be answered (XEP-0166 section 7.2.15)."""

    AGREED = "agreed"
    INITIATOR_OFFERED = "initiator-offered"
    """The responder's transport-accept or transport-reject is awaited."""
    RESPONDER_OFFERED = "responder-offered"
    """The initiator's answer is awaited."""


class ContentState(StrEnum):
    """Of one content of a call; the creator is whoever offered it."""

    PENDING = "pending"
    """Offered with the session or by content-add; nothing flows."""
    AGREED = "agreed"
    GONE = "gone"


class Side(StrEnum):
    """Of a content, seen from who made it."""

    CREATOR = "creator"
    OTHER = "other"


_I, _R = Role.INITIATOR, Role.RESPONDER

# May be sent by either side at any time between initiate and terminate, and change no state.
# content-add is refused and content-modify ignored: a session of ours has one content, and its
# direction is that of the file. content-accept is missing, since we never send content-add.
INFORMATIONAL: Final = (
    Action.CONTENT_ADD,
    Action.CONTENT_MODIFY,
    Action.DESCRIPTION_INFO,
    Action.SECURITY_INFO,
    Action.SESSION_INFO,
    Action.TRANSPORT_INFO,
    Action.TRANSPORT_REPLACE,
    Action.TRANSPORT_ACCEPT,
    Action.TRANSPORT_REJECT,
)

MOVES: Final[Mapping[tuple[State, Role, Action], State]] = {
    (State.NEW, _I, Action.SESSION_INITIATE): State.PENDING,
    (State.PENDING, _R, Action.SESSION_ACCEPT): State.ACTIVE,
    # Without its only content a session is void (section 7.2.4, 7.2.5).
    (State.PENDING, _R, Action.CONTENT_REJECT): State.ENDED,
    **{
        (state, sender, action): State.ENDED
        for state in (State.PENDING, State.ACTIVE)
        for sender in Role
        for action in (Action.CONTENT_REMOVE, Action.SESSION_TERMINATE)
    },
    **{
        (state, sender, action): state
        for state in (State.PENDING, State.ACTIVE)
        for sender in Role
        for action in INFORMATIONAL
    },
}

# A call's contents come and go; that the last one's going ends the session is not in a table.
CALL_MOVES: Final[Mapping[tuple[State, Role, Action], State]] = {
    (State.NEW, _I, Action.SESSION_INITIATE): State.PENDING,
    (State.PENDING, _R, Action.SESSION_ACCEPT): State.ACTIVE,
    **{
        (state, sender, Action.SESSION_TERMINATE): State.ENDED
        for state in (State.PENDING, State.ACTIVE)
        for sender in Role
    },
    **{
        (state, sender, action): state
        for state in (State.PENDING, State.ACTIVE)
        for sender in Role
        for action in (
            *INFORMATIONAL,
            Action.CONTENT_ACCEPT,
            Action.CONTENT_REJECT,
            Action.CONTENT_REMOVE,
        )
    },
}

_AGREED = TransportState.AGREED
_BY_I, _BY_R = TransportState.INITIATOR_OFFERED, TransportState.RESPONDER_OFFERED

TRANSPORT_MOVES: Final[Mapping[tuple[TransportState, Role, Action], TransportState]] = {
    (_AGREED, _I, Action.TRANSPORT_REPLACE): _BY_I,
    (_AGREED, _R, Action.TRANSPORT_REPLACE): _BY_R,
    (_BY_I, _R, Action.TRANSPORT_ACCEPT): _AGREED,
    (_BY_I, _R, Action.TRANSPORT_REJECT): _AGREED,
    (_BY_R, _I, Action.TRANSPORT_ACCEPT): _AGREED,
    (_BY_R, _I, Action.TRANSPORT_REJECT): _AGREED,
    # They crossed: the initiator's counts (section 7.2.16). The responder's, which comes in
    # state _BY_I, is refused with tie-break and so is not in the table.
    (_BY_R, _I, Action.TRANSPORT_REPLACE): _BY_I,
}

# The other side answered with an error: (state, action) to the state that follows. Whoever
# refused an initiate has no session; whoever refused an accept is still in one.
REFUSALS: Final[Mapping[tuple[State, Action], State]] = {
    (State.PENDING, Action.SESSION_INITIATE): State.ENDED,
}

# Contents of a call. Those of the offer are agreed on by session-accept instead of content-accept.
CONTENT_MOVES: Final[Mapping[tuple[ContentState, Side, Action], ContentState]] = {
    (ContentState.PENDING, Side.OTHER, Action.SESSION_ACCEPT): ContentState.AGREED,
    (ContentState.PENDING, Side.OTHER, Action.CONTENT_ACCEPT): ContentState.AGREED,
    (ContentState.PENDING, Side.OTHER, Action.CONTENT_REJECT): ContentState.GONE,
    **{
        (state, side, Action.CONTENT_REMOVE): ContentState.GONE
        for state in (ContentState.PENDING, ContentState.AGREED)
        for side in Side
    },
    **{
        (state, side, action): state
        for state in (ContentState.PENDING, ContentState.AGREED)
        for side in Side
        for action in (
            Action.CONTENT_MODIFY,
            Action.DESCRIPTION_INFO,
            Action.TRANSPORT_INFO,
            Action.TRANSPORT_REPLACE,
            Action.TRANSPORT_ACCEPT,
            Action.TRANSPORT_REJECT,
        )
    },
}
