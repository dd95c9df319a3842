"""One Jingle session (XEP-0166) with one content, seen from either side.

Local moves return the stanza to send; ``receive`` takes the peer's and returns what happened. Both
look up the same tables in ``states``. A move that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role

from .events import (
    Accepted,
    Event,
    Ignored,
    Initiated,
    SecurityInfo,
    Send,
    SessionInfo,
    Terminated,
    TransportInfo,
    TransportReplaced,
    TransportReplaceOffered,
    TransportReplaceRejected,
    out_of_order,
    tie_break,
    unknown_session,
    unsupported_info,
)
from .stanzas import CONDITIONS, Action, Content, Jingle, Reason
from .states import MOVES, REFUSALS, TRANSPORT_MOVES, State, TransportState

__all__ = [
    "Accepted",
    "Event",
    "Ignored",
    "Initiated",
    "SecurityInfo",
    "Send",
    "Session",
    "SessionInfo",
    "State",
    "Terminated",
    "TransportInfo",
    "TransportReplaceOffered",
    "TransportReplaceRejected",
    "TransportReplaced",
    "TransportState",
    "out_of_order",
    "tie_break",
    "unknown_session",
    "unsupported_info",
]


class Session:
    """One session.

    Args:
        role: ours.
        own, peer: full JIDs, from the stanzas' ``to`` and ``from``.
        sid: the session's identifier; the initiator's choice.
    """

    def __init__(self, role: Role, own: str, peer: str, sid: str) -> None:
        self.role = role
        self.own = own
        self.peer = peer
        self.sid = sid
        self._state = State.NEW
        self._transport_state = TransportState.AGREED
        self._content: Content | None = None
        self._transport_tag = ""
        self._replacement: Element | None = None
        # Own offers of a transport that the peer's has overruled, and whose refusal is to come.
        self._overruled = 0

    def __repr__(self) -> str:
        return f"<Session {self.role} {self._state}>"

    @property
    def state(self) -> State:
        return self._state

    @property
    def transport_state(self) -> TransportState:
        return self._transport_state

    @property
    def content(self) -> Content:
        """The content as it was offered. Raises: NotAvailable before the offer."""
        if self._content is None:
            raise NotAvailable("Nothing has been offered in this session")
        return self._content

    @property
    def content_name(self) -> str:
        """The name of the only content. Raises: NotAvailable before the offer."""
        return self.content.name

    # -- our moves --------------------------------------------------------------------------

    def initiate(self, content: Content) -> Jingle:
        """Offer ``content``, whose creator is ``initiator``. Raises: NotAvailable, ValueError."""
        after = self._may_send(Action.SESSION_INITIATE)
        if content.creator != Role.INITIATOR or content.description is None:
            raise ValueError("an offer is the initiator's and has a description")
        tag = _tag_of(content.transport)
        self._state, self._content, self._transport_tag = after, content, tag
        return Jingle(Action.SESSION_INITIATE, self.sid, (content,), initiator=self.own)

    def accept(self, content: Content) -> Jingle:
        """Take the offer with an answer of the same name and transport.

        Raises: NotAvailable, ValueError.
        """
        after = self._may_send(Action.SESSION_ACCEPT)
        if not self._is_ours(content) or _tag_of(content.transport) != self._transport_tag:
            raise ValueError("the answer is not to what was offered")
        self._state = after
        return Jingle(Action.SESSION_ACCEPT, self.sid, (content,), responder=self.own)

    def terminate(self, condition: str, text: str = "") -> Jingle:
        """End the session for one of ``CONDITIONS``.

        Raises:
            NotAvailable: the peer knows of no session: not begun, or over.
            ValueError: not a condition.
        """
        after = self._may_send(Action.SESSION_TERMINATE)
        if condition not in CONDITIONS:
            raise ValueError("not a reason of XEP-0166")
        self._state = after
        return Jingle(Action.SESSION_TERMINATE, self.sid, reason=Reason(condition, text))

    def transport_info(self, transport: Element) -> Jingle:
        """Candidates and the like. Raises: NotAvailable."""
        return self._about_transport(Action.TRANSPORT_INFO, transport)

    def transport_replace(self, transport: Element) -> Jingle:
        """Offer another transport. Raises: NotAvailable while another offer is unanswered."""
        # Both sides' offers may cross on the wire, but whoever has seen the other's answers it.
        if self._transport_state is not TransportState.AGREED:
            raise NotAvailable("A change of transport is being agreed on already")
        after = self._may_change_transport(Action.TRANSPORT_REPLACE)
        jingle = self._about_transport(Action.TRANSPORT_REPLACE, transport)
        self._transport_state, self._replacement = after, transport
        return jingle

    def transport_accept(self, transport: Element) -> Jingle:
        """Take the peer's transport-replace. Raises: NotAvailable, ValueError."""
        after = self._may_change_transport(Action.TRANSPORT_ACCEPT)
        if transport.tag != _tag_of(self._replacement):
            raise ValueError("the answer is not to the transport that was offered")
        jingle = self._about_transport(Action.TRANSPORT_ACCEPT, transport)
        self._transport_state, self._replacement = after, None
        self._transport_tag = transport.tag
        return jingle

    def transport_reject(self) -> Jingle:
        """Refuse the peer's transport-replace. Raises: NotAvailable."""
        after = self._may_change_transport(Action.TRANSPORT_REJECT)
        refused = Element(_tag_of(self._replacement))
        jingle = self._about_transport(Action.TRANSPORT_REJECT, refused)
        self._transport_state, self._replacement = after, None
        return jingle

    def session_info(self, payload: Element | Iterable[Element] = ()) -> Jingle:
        """Session-level information; without payload a ping. Raises: NotAvailable."""
        self._may_send(Action.SESSION_INFO)
        return Jingle(Action.SESSION_INFO, self.sid, payload=_elements(payload))

    def security_info(self, payload: Element | Iterable[Element]) -> Jingle:
        """Messages about the protection. Raises: NotAvailable."""
        self._may_send(Action.SECURITY_INFO)
        return Jingle(Action.SECURITY_INFO, self.sid, payload=_elements(payload))

    def refused(self, action: Action) -> None:
        """The peer answered our stanza with an error, or not at all.

        A refused session-initiate leaves no session. After a refused session-accept the peer
        still waits in its own: ``terminate`` tells it.
        """
        self._state = REFUSALS.get((self._state, action), self._state)
        if action is Action.TRANSPORT_REPLACE and self._overruled:
            self._overruled -= 1  # not the offer that may be open by now
        elif action is Action.TRANSPORT_REPLACE and self._transport_state is _offered_by(self.role):
            self._transport_state, self._replacement = TransportState.AGREED, None

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
        after = MOVES.get((self._state, self.role.other, action))
        if after is None:
            raise out_of_order(action)
        events = self._handle(jingle)
        self._state = after
        return events

    def _handle(self, jingle: Jingle) -> list[Event]:
        """Check first, then change what goes with the state."""
        match jingle.action:
            case Action.SESSION_INITIATE:
                return self._initiated(jingle)
            case Action.SESSION_ACCEPT:
                return self._accepted(jingle)
            case Action.SESSION_TERMINATE:
                return [Terminated(jingle.reason or Reason("general-error"))]
            case Action.SESSION_INFO:
                # An empty one is a ping; its acknowledgement is all it wants.
                return [SessionInfo(jingle.payload)] if jingle.payload else []
            case Action.SECURITY_INFO:
                if not all(self._is_ours(content) for content in jingle.contents):
                    raise PeerError("security-info for another content")
                return [SecurityInfo(jingle.payload, jingle.contents)]
            case Action.DESCRIPTION_INFO:
                raise unsupported_info()
            case Action.CONTENT_ADD:
                return self._content_added(jingle)
            case Action.CONTENT_MODIFY:
                self._only(jingle)
                return [Ignored(jingle.action, "the direction of a transfer does not change")]
            case Action.CONTENT_REMOVE | Action.CONTENT_REJECT:
                return self._content_gone(jingle)
            case _:
                return self._transport(jingle)

    def _initiated(self, jingle: Jingle) -> list[Event]:
        if len(jingle.contents) != 1:
            raise PeerError("a session has one content", "feature-not-implemented")
        (content,) = jingle.contents
        if content.creator != Role.INITIATOR:
            raise PeerError("the initiator offers what somebody else created")
        self._content, self._transport_tag = content, _tag_of(content.transport)
        return [Initiated(content)]

    def _accepted(self, jingle: Jingle) -> list[Event]:
        content = self._only(jingle)
        if _tag_of(content.transport) != self._transport_tag:
            raise PeerError("the answer has a transport that was not offered")
        offered = self.content.description
        if content.description is not None and content.description.tag != _tag_of(offered):
            raise PeerError("the answer has an application that was not offered")
        return [Accepted(content)]

    def _content_added(self, jingle: Jingle) -> list[Event]:
        """Refused (xtls-wire, section 1): the protection covers what was offered at first."""
        for content in jingle.contents:
            if content.creator != self.role.other or self._is_ours(content):
                raise PeerError("an added content has a wrong creator or a name in use")
        names = tuple(Content(content.creator, content.name) for content in jingle.contents)
        reject = Jingle(Action.CONTENT_REJECT, self.sid, names, Reason("decline"))
        return [Send(reject), Ignored(jingle.action, "a session has one content")]

    def _content_gone(self, jingle: Jingle) -> list[Event]:
        """Nothing is left (XEP-0166 sections 7.2.4 and 7.2.5): say so, and end."""
        self._only(jingle)
        void = Jingle(Action.SESSION_TERMINATE, self.sid, reason=Reason("success"))
        fallback = "decline" if jingle.action is Action.CONTENT_REJECT else "cancel"
        return [Send(void), Terminated(jingle.reason or Reason(fallback))]

    def _transport(self, jingle: Jingle) -> list[Event]:
        content = self._only(jingle)
        transport = content.transport
        if jingle.action is Action.TRANSPORT_INFO:
            if transport is None or transport.tag not in self._known_transports():
                # Late news of a transport that has been replaced meanwhile.
                return [Ignored(jingle.action, "not the transport in use")]
            return [TransportInfo(transport)]
        after = TRANSPORT_MOVES.get((self._transport_state, self.role.other, jingle.action))
        if after is None:
            if (
                jingle.action is Action.TRANSPORT_REPLACE
                and self.role is Role.INITIATOR
                and self._transport_state is TransportState.INITIATOR_OFFERED
            ):
                raise tie_break()
            raise out_of_order(jingle.action)
        if jingle.action is Action.TRANSPORT_REJECT:
            self._transport_state, self._replacement = after, None
            return [TransportReplaceRejected()]
        if transport is None:
            raise PeerError("no transport")
        if jingle.action is Action.TRANSPORT_REPLACE:
            self._overruled += self._transport_state is _offered_by(self.role)
            self._transport_state, self._replacement = after, transport
            return [TransportReplaceOffered(transport)]
        if transport.tag != _tag_of(self._replacement):
            raise PeerError("the answer has a transport that was not offered")
        self._transport_state, self._replacement = after, None
        self._transport_tag = transport.tag
        return [TransportReplaced(transport)]

    # -- lookups ----------------------------------------------------------------------------

    def _may_send(self, action: Action) -> State:
        after = MOVES.get((self._state, self.role, action))
        if after is None:
            raise NotAvailable(f"{action} cannot be sent while the session is {self._state}")
        return after

    def _may_change_transport(self, action: Action) -> TransportState:
        self._may_send(action)
        after = TRANSPORT_MOVES.get((self._transport_state, self.role, action))
        if after is None:
            raise NotAvailable(f"{action} cannot be sent now")
        return after

    def _about_transport(self, action: Action, transport: Element) -> Jingle:
        self._may_send(action)
        content = Content(self.content.creator, self.content.name, transport=transport)
        return Jingle(action, self.sid, (content,))

    def _only(self, jingle: Jingle) -> Content:
        """The content of a stanza that must be about ours and nothing else."""
        if len(jingle.contents) != 1 or not self._is_ours(jingle.contents[0]):
            raise PeerError(f"{jingle.action} for another content")
        return jingle.contents[0]

    def _is_ours(self, content: Content) -> bool:
        ours = self.content
        return (content.creator, content.name) == (ours.creator, ours.name)

    def _known_transports(self) -> tuple[str, ...]:
        if self._replacement is None:
            return (self._transport_tag,)
        return (self._transport_tag, self._replacement.tag)


def _offered_by(role: Role) -> TransportState:
    if role is Role.INITIATOR:
        return TransportState.INITIATOR_OFFERED
    return TransportState.RESPONDER_OFFERED


def _tag_of(element: Element | None) -> str:
    if element is None:
        raise ValueError("no transport or description where there must be one")
    return element.tag


def _elements(payload: Element | Iterable[Element]) -> tuple[Element, ...]:
    # An Element is itself an iterable, of its children.
    return (payload,) if isinstance(payload, Element) else tuple(payload)
