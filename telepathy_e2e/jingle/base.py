"""What sessions with one content (``session``) and calls (``call_session``) have in common.

Local moves return the stanza to send; ``receive`` takes the peer's and returns what happened. Both
look up the same tables in ``states``. A move that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role

from .events import Event, SecurityInfo, SessionInfo, Terminated, out_of_order, unknown_session
from .stanzas import CONDITIONS, Action, Content, Jingle, Reason
from .states import MOVES, REFUSALS, State


class BaseSession:
    """One session.

    Args:
        role: ours.
        own, peer: full JIDs, from the stanzas' ``to`` and ``from``.
        sid: the session's identifier; the initiator's choice.
    """

    moves: ClassVar[Mapping[tuple[State, Role, Action], State]] = MOVES

    def __init__(self, role: Role, own: str, peer: str, sid: str) -> None:
        self.role = role
        self.own = own
        self.peer = peer
        self.sid = sid
        self._state = State.NEW

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.role} {self._state}>"

    @property
    def state(self) -> State:
        return self._state

    @property
    def offered(self) -> tuple[Content, ...]:
        """The contents of the session-initiate, as they came; none before it."""
        raise NotImplementedError

    # -- our moves --------------------------------------------------------------------------

    def terminate(self, condition: str, text: str = "") -> Jingle:
        """End the session for one of ``CONDITIONS``.

        Raises:
            NotAvailable: the peer knows of no session: not begun, or over.
            ValueError: not a condition.
        """
        after = self._may_send(Action.SESSION_TERMINATE)
        reason = reason_of(condition, text)
        self._state = after
        return Jingle(Action.SESSION_TERMINATE, self.sid, reason=reason)

    def session_info(self, payload: Element | Iterable[Element] = ()) -> Jingle:
        """Session-level information; without payload a ping. Raises: NotAvailable."""
        self._may_send(Action.SESSION_INFO)
        return Jingle(Action.SESSION_INFO, self.sid, payload=elements(payload))

    def security_info(self, payload: Element | Iterable[Element]) -> Jingle:
        """Messages about the protection. Raises: NotAvailable."""
        self._may_send(Action.SECURITY_INFO)
        return Jingle(Action.SECURITY_INFO, self.sid, payload=elements(payload))

    def acknowledged(self, jingle: Jingle) -> None:
        """The peer answered our stanza with a result: it has taken it."""

    def not_taken(self, jingle: Jingle) -> None:
        """The peer answered our stanza with an error, or not at all."""
        self.refused(jingle.action)

    def refused(self, action: Action) -> None:
        """As ``not_taken``, of what concerns the whole session.

        A refused session-initiate leaves no session. After a refused session-accept the peer
        still waits in its own: ``terminate`` tells it.
        """
        self._state = REFUSALS.get((self._state, action), self._state)

    # -- the peer's -------------------------------------------------------------------------

    def receive(self, jingle: Jingle) -> list[Event]:
        """Take a stanza of the peer's: acknowledge it first, then act on the events.

        Raises:
            PeerError: answer with this error; nothing has changed.
        """
        if jingle.sid != self.sid:
            raise ValueError("a stanza of another session")
        if self._state is State.ENDED:
            raise unknown_session()
        action = jingle.action
        after = self.moves.get((self._state, self.role.other, action))
        if after is None:
            raise out_of_order(action)
        events = self._handle(jingle)
        over = any(isinstance(event, Terminated) for event in events)
        self._state = State.ENDED if over else after
        return events

    def _handle(self, jingle: Jingle) -> list[Event]:
        """Check first, then change what goes with the state."""
        match jingle.action:
            case Action.SESSION_TERMINATE:
                return [Terminated(jingle.reason or Reason("general-error"))]
            case Action.SESSION_INFO:
                # An empty one is a ping; its acknowledgement is all it wants.
                return [SessionInfo(jingle.payload)] if jingle.payload else []
            case Action.SECURITY_INFO:
                if not all(self._has(content) for content in jingle.contents):
                    raise PeerError("security-info for another content")
                return [SecurityInfo(jingle.payload, jingle.contents)]
            case _:
                raise out_of_order(jingle.action)

    def declined(self, jingle: Jingle) -> None:
        """A stanza that ``receive`` took was answered with an error after all, so that for the
        peer it has changed nothing."""

    # -- lookups ----------------------------------------------------------------------------

    def _has(self, content: Content) -> bool:
        """Whether a content of a stanza is one of the session's."""
        raise NotImplementedError

    def _may_send(self, action: Action) -> State:
        after = self.moves.get((self._state, self.role, action))
        if after is None:
            raise NotAvailable(f"{action} cannot be sent while the session is {self._state}")
        return after


def reason_of(condition: str, text: str = "") -> Reason:
    """Raises: ValueError: not a condition."""
    if condition not in CONDITIONS:
        raise ValueError("not a reason of XEP-0166")
    return Reason(condition, text)


def tag_of(element: Element | None) -> str:
    """Raises: ValueError: there is none."""
    if element is None:
        raise ValueError("no transport or description where there must be one")
    return element.tag


def elements(payload: Element | Iterable[Element]) -> tuple[Element, ...]:
    """An ``Element`` is itself an iterable, of its children."""
    return (payload,) if isinstance(payload, Element) else tuple(payload)
