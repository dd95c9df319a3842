"""One Jingle session (XEP-0166) with one content, seen from either side: files, say.

As in ``base``: a move that raises has changed nothing.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role

from .base import BaseSession, tag_of
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
from .stanzas import Action, Content, Jingle, Reason
from .states import State, TransportState
from .transports import TransportAgreement

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


class Session(BaseSession):
    """One session; see ``base`` for the arguments and what is not here."""

    def __init__(self, role: Role, own: str, peer: str, sid: str) -> None:
        super().__init__(role, own, peer, sid)
        self._content: Content | None = None
        self._transport = TransportAgreement(role, "")

    @property
    def transport_state(self) -> TransportState:
        return self._transport.state

    @property
    def transport_generation(self) -> int:
        """How often another transport was agreed on."""
        return self._transport.generation

    @property
    def _transport_tag(self) -> str:
        return self._transport.tag

    @property
    def _replacement(self) -> Element | None:
        return self._transport.replacement

    @property
    def offered(self) -> tuple[Content, ...]:
        return () if self._content is None else (self._content,)

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
        self._transport.tag = tag_of(content.transport)
        self._state, self._content = after, content
        return Jingle(Action.SESSION_INITIATE, self.sid, (content,), initiator=self.own)

    def accept(self, content: Content) -> Jingle:
        """Take the offer with an answer of the same name and transport.

        Raises: NotAvailable, ValueError.
        """
        after = self._may_send(Action.SESSION_ACCEPT)
        if not self._has(content) or tag_of(content.transport) != self._transport.tag:
            raise ValueError("the answer is not to what was offered")
        self._state = after
        return Jingle(Action.SESSION_ACCEPT, self.sid, (content,), responder=self.own)

    def transport_info(self, transport: Element) -> Jingle:
        """Candidates and the like. Raises: NotAvailable."""
        return self._about_transport(Action.TRANSPORT_INFO, transport)

    def transport_replace(self, transport: Element) -> Jingle:
        """Offer another transport. Raises: NotAvailable while another offer is unanswered."""
        jingle = self._about_transport(Action.TRANSPORT_REPLACE, transport)
        self._transport.offer(transport)
        return jingle

    def transport_accept(self, transport: Element) -> Jingle:
        """Take the peer's transport-replace. Raises: NotAvailable, ValueError."""
        jingle = self._about_transport(Action.TRANSPORT_ACCEPT, transport)
        self._transport.accept(transport)
        return jingle

    def transport_reject(self) -> Jingle:
        """Refuse the peer's transport-replace. Raises: NotAvailable."""
        self._may_send(Action.TRANSPORT_REJECT)
        return self._about_transport(Action.TRANSPORT_REJECT, self._transport.reject())

    def refused(self, action: Action) -> None:
        super().refused(action)
        if action is Action.TRANSPORT_REPLACE:
            self._transport.offer_refused()

    def declined(self, jingle: Jingle) -> None:
        if jingle.action is Action.TRANSPORT_REPLACE:
            self._transport.offer_declined()

    # -- the peer's -------------------------------------------------------------------------

    def _handle(self, jingle: Jingle) -> list[Event]:
        match jingle.action:
            case Action.SESSION_INITIATE:
                return self._initiated(jingle)
            case Action.SESSION_ACCEPT:
                return self._accepted(jingle)
            case Action.SESSION_TERMINATE | Action.SESSION_INFO | Action.SECURITY_INFO:
                return super()._handle(jingle)
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
                return self._transport_changed(jingle)

    def _initiated(self, jingle: Jingle) -> list[Event]:
        if len(jingle.contents) != 1:
            raise PeerError("a session has one content", "feature-not-implemented")
        (content,) = jingle.contents
        if content.creator != Role.INITIATOR:
            raise PeerError("the initiator offers what somebody else created")
        self._transport.tag = tag_of(content.transport)
        self._content = content
        return [Initiated(content)]

    def _accepted(self, jingle: Jingle) -> list[Event]:
        content = self._only(jingle)
        if tag_of(content.transport) != self._transport.tag:
            raise PeerError("the answer has a transport that was not offered")
        offered = self.content.description
        if content.description is not None and content.description.tag != tag_of(offered):
            raise PeerError("the answer has an application that was not offered")
        return [Accepted(content)]

    def _content_added(self, jingle: Jingle) -> list[Event]:
        """Refused (xtls-wire, section 1): the protection covers what was offered at first."""
        for content in jingle.contents:
            if content.creator != self.role.other or self._has(content):
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

    def _transport_changed(self, jingle: Jingle) -> list[Event]:
        transport = self._only(jingle).transport
        action = jingle.action
        if action is Action.TRANSPORT_INFO:
            if transport is None or not self._transport.knows(transport):
                # Late news of a transport that has been replaced meanwhile.
                return [Ignored(action, "not the transport in use")]
            return [TransportInfo(transport)]
        self._transport.check(action, transport)
        self._transport.take(action, transport)
        if transport is None or action is Action.TRANSPORT_REJECT:
            return [TransportReplaceRejected()]
        if action is Action.TRANSPORT_REPLACE:
            return [TransportReplaceOffered(transport)]
        return [TransportReplaced(transport)]

    # -- lookups ----------------------------------------------------------------------------

    def _about_transport(self, action: Action, transport: Element) -> Jingle:
        self._may_send(action)
        content = Content(self.content.creator, self.content.name, transport=transport)
        return Jingle(action, self.sid, (content,))

    def _only(self, jingle: Jingle) -> Content:
        """The content of a stanza that must be about ours and nothing else."""
        if len(jingle.contents) != 1 or not self._has(jingle.contents[0]):
            raise PeerError(f"{jingle.action} for another content")
        return jingle.contents[0]

    def _has(self, content: Content) -> bool:
        ours = self.content
        return (content.creator, content.name) == (ours.creator, ours.name)
