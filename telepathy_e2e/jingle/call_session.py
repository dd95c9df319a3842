"""One call as a Jingle session (XEP-0166): contents that come, change and go from both sides.

As in ``base``: a move that raises has changed nothing. Whoever sends the stanzas tells the session
what became of them (``acknowledged``, ``not_taken``): which of two changes that crossed counts
depends on it (section 7.2.16). Stanzas and answers must arrive in the order in which they were
sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role

from .base import BaseSession, elements, reason_of, tag_of
from .call_contents import CallContent, ContentTable, Entry, key_of
from .call_steps import check_answer, described, transport_changed, transport_info
from .events import (
    CallAccepted,
    CallInitiated,
    ContentAccepted,
    ContentAdded,
    ContentKey,
    ContentModified,
    ContentRejected,
    ContentRemoved,
    Event,
    Ignored,
    Send,
    Terminated,
    out_of_order,
    tie_break,
)
from .stanzas import Action, Content, Jingle, Reason
from .states import CALL_MOVES, ContentState, State

_SENDERS = frozenset(("both", "initiator", "none", "responder"))


class CallSession(BaseSession):
    """One call; see ``base`` for the arguments and what is not here."""

    moves = CALL_MOVES

    def __init__(self, role: Role, own: str, peer: str, sid: str) -> None:
        super().__init__(role, own, peer, sid)
        self._offered: tuple[Content, ...] = ()
        self._table = ContentTable(role)

    @property
    def offered(self) -> tuple[Content, ...]:
        return self._offered

    @property
    def contents(self) -> tuple[CallContent, ...]:
        """All that are offered or agreed on, oldest first."""
        return tuple(entry.view() for entry in self._table)

    # -- our moves --------------------------------------------------------------------------

    def initiate(self, contents: Sequence[Content], payload: Iterable[Element] = ()) -> Jingle:
        """Call.

        Args:
            contents: created by ``initiator``, with description and transport.
            payload: what goes beside them, such as ``<group/>``.
        Raises: NotAvailable, ValueError.
        """
        after = self._may_send(Action.SESSION_INITIATE)
        table = ContentTable(self.role)
        for content in contents:
            table.add_own(content, initial=True)
        if not contents:
            raise ValueError("a call without a content")
        self._state, self._table, self._offered = after, table, tuple(contents)
        return Jingle(
            Action.SESSION_INITIATE,
            self.sid,
            self._offered,
            payload=elements(payload),
            initiator=self.own,
        )

    def accept(self, contents: Sequence[Content], payload: Iterable[Element] = ()) -> Jingle:
        """Take the call.

        Args:
            contents: one for each of the offer that is still there: what is not wanted has been
                taken away with ``content_reject`` or ``content_remove`` before. A ``senders``
                may be narrower than the offer's.
        Raises: NotAvailable, ValueError.
        """
        after = self._may_send(Action.SESSION_ACCEPT)
        answered = [self._answered(content, Action.SESSION_ACCEPT) for content in contents]
        keys = [entry.key for entry in answered]
        if sorted(keys) != sorted(entry.key for entry in self._table if entry.initial):
            raise ValueError("an answer that leaves out, or repeats, some of the offer")
        for entry, content in zip(answered, contents, strict=True):
            entry.agree(content.senders)
        self._state = after
        return Jingle(
            Action.SESSION_ACCEPT,
            self.sid,
            tuple(contents),
            payload=elements(payload),
            responder=self.own,
        )

    def content_add(self, contents: Sequence[Content], payload: Iterable[Element] = ()) -> Jingle:
        """Offer more.

        Args:
            contents: created by us, under names that we have not used in this call.
        Raises:
            NotAvailable: no call, or as many contents as one may have.
            ValueError: no new contents of ours with description and transport.
        """
        self._may_send(Action.CONTENT_ADD)
        table = self._table.copy()
        for content in contents:
            table.add_own(content, initial=False)
        self._table = table
        return self._about(Action.CONTENT_ADD, contents, payload)

    def content_accept(
        self, contents: Sequence[Content], payload: Iterable[Element] = ()
    ) -> Jingle:
        """Take what the peer added. Raises: NotAvailable, ValueError."""
        self._may_send(Action.CONTENT_ACCEPT)
        answered = [self._answered(content, Action.CONTENT_ACCEPT) for content in contents]
        for entry, content in zip(answered, contents, strict=True):
            entry.agree(content.senders)
        return self._about(Action.CONTENT_ACCEPT, contents, payload)

    def content_reject(
        self, keys: Sequence[ContentKey], condition: str = "decline", text: str = ""
    ) -> Jingle:
        """Refuse what the peer offered; if nothing else is left, this is a session-terminate.

        Raises: NotAvailable: not there, or not to be answered; ValueError: not a condition.
        """
        return self._drop(Action.CONTENT_REJECT, keys, condition, text)

    def content_remove(
        self, keys: Sequence[ContentKey], condition: str = "success", text: str = ""
    ) -> Jingle:
        """Take contents away; if none is left, this is a session-terminate.

        Raises: NotAvailable: not there; ValueError: not a condition.
        """
        return self._drop(Action.CONTENT_REMOVE, keys, condition, text)

    def content_modify(self, key: ContentKey, senders: str) -> Jingle:
        """Change who sends. Raises: NotAvailable, ValueError."""
        self._may_send(Action.CONTENT_MODIFY)
        entry = self._own_view(key, Action.CONTENT_MODIFY)
        if senders not in _SENDERS:
            raise ValueError("not a value of senders")
        entry.modify(senders)
        return self._about(Action.CONTENT_MODIFY, (Content(*key, senders=senders),))

    def description_info(self, key: ContentKey, description: Element) -> Jingle:
        """Raises: NotAvailable."""
        self._may_send(Action.DESCRIPTION_INFO)
        self._own_view(key, Action.DESCRIPTION_INFO)
        return self._about(Action.DESCRIPTION_INFO, (Content(*key, description=description),))

    def transport_info(self, key: ContentKey, transport: Element) -> Jingle:
        """Candidates and the like. Raises: NotAvailable."""
        self._may_send(Action.TRANSPORT_INFO)
        self._own_view(key, Action.TRANSPORT_INFO)
        return self._about(Action.TRANSPORT_INFO, (Content(*key, transport=transport),))

    def transport_replace(self, key: ContentKey, transport: Element) -> Jingle:
        """Offer another transport, or a restart of ICE.

        Raises: NotAvailable, also while another offer for this content is unanswered.
        """
        self._may_send(Action.TRANSPORT_REPLACE)
        self._own_view(key, Action.TRANSPORT_REPLACE).transport.offer(transport)
        return self._about(Action.TRANSPORT_REPLACE, (Content(*key, transport=transport),))

    def transport_accept(self, key: ContentKey, transport: Element) -> Jingle:
        """Take the peer's transport-replace. Raises: NotAvailable, ValueError."""
        self._may_send(Action.TRANSPORT_ACCEPT)
        self._own_view(key, Action.TRANSPORT_ACCEPT).transport.accept(transport)
        return self._about(Action.TRANSPORT_ACCEPT, (Content(*key, transport=transport),))

    def transport_reject(self, key: ContentKey) -> Jingle:
        """Refuse the peer's transport-replace. Raises: NotAvailable."""
        self._may_send(Action.TRANSPORT_REJECT)
        refused = self._own_view(key, Action.TRANSPORT_REJECT).transport.reject()
        return self._about(Action.TRANSPORT_REJECT, (Content(*key, transport=refused),))

    def acknowledged(self, jingle: Jingle) -> None:
        for content in jingle.contents:
            entry = self._table.get(key_of(content))
            if entry is None:
                continue
            if jingle.action is Action.CONTENT_MODIFY:
                entry.modify_answered(taken=True)
            elif jingle.action is Action.CONTENT_ADD:
                entry.unanswered_add = False

    def not_taken(self, jingle: Jingle) -> None:
        """See ``base``. A content that could not be added is no more (``contents``)."""
        super().not_taken(jingle)
        for content in jingle.contents:
            entry = self._table.get(key_of(content))
            if entry is None:
                continue
            if jingle.action is Action.CONTENT_MODIFY:
                entry.modify_answered(taken=False)
            elif jingle.action is Action.CONTENT_ADD:
                self._table.remove(entry.key)
            elif jingle.action is Action.TRANSPORT_REPLACE:
                entry.transport.offer_refused()

    # -- the peer's -------------------------------------------------------------------------

    def declined(self, jingle: Jingle) -> None:
        for content in jingle.contents:
            entry = self._table.get(key_of(content))
            if entry is None:
                continue
            if jingle.action is Action.CONTENT_ADD:
                self._table.remove(entry.key)
            elif jingle.action is Action.CONTENT_MODIFY:
                entry.modified_declined()
            elif jingle.action is Action.TRANSPORT_REPLACE:
                entry.transport.offer_declined()

    def _handle(self, jingle: Jingle) -> list[Event]:
        if len({key_of(content) for content in jingle.contents}) != len(jingle.contents):
            raise PeerError("a content is doubled")
        match jingle.action:
            case Action.SESSION_INITIATE:
                return self._initiated(jingle)
            case Action.SESSION_ACCEPT:
                return self._accepted(jingle)
            case Action.SESSION_TERMINATE | Action.SESSION_INFO | Action.SECURITY_INFO:
                return super()._handle(jingle)
            case Action.CONTENT_ADD:
                return self._contents_added(jingle)
        if jingle.action is Action.CONTENT_REJECT and not jingle.contents:
            jingle = replace(jingle, contents=self._added())
        known, events = self._known(jingle)
        match jingle.action:
            case Action.CONTENT_ACCEPT:
                return events + self._contents_accepted(jingle, known)
            case Action.CONTENT_REJECT | Action.CONTENT_REMOVE:
                return events + self._contents_gone(jingle, known)
            case Action.CONTENT_MODIFY:
                return events + self._modified(known)
            case Action.DESCRIPTION_INFO:
                return events + described(known)
            case Action.TRANSPORT_INFO:
                return events + transport_info(known)
        return events + transport_changed(jingle.action, known)

    def _added(self) -> tuple[Content, ...]:
        """What a content-reject that names nothing refuses: all that we added.

        Raises:
            PeerError: there is nothing.
        """
        added = [
            Content(*entry.key)
            for entry in self._table
            if entry.key[0] == self.role
            and not entry.initial
            and entry.state is ContentState.PENDING
        ]
        if not added:
            raise PeerError("content-reject without a content")
        return tuple(added)

    def _initiated(self, jingle: Jingle) -> list[Event]:
        table = ContentTable(self.role)
        for content in jingle.contents:
            table.add_theirs(content, initial=True)
        self._table, self._offered = table, jingle.contents
        return [CallInitiated(jingle.contents, jingle.payload)]

    def _accepted(self, jingle: Jingle) -> list[Event]:
        """What we have taken away meanwhile may still be in the answer."""
        taken: list[tuple[Entry, Content]] = []
        for content in jingle.contents:
            entry = self._table.get(key_of(content))
            if entry is None:
                continue
            if not entry.initial:
                raise PeerError("the answer to the offer has what was added to it")
            check_answer(entry, content)
            taken.append((entry, content))
        if not taken:
            raise PeerError("the answer has nothing that was offered")
        keys = {entry.key for entry, _ in taken}
        missing = [entry for entry in self._table if entry.initial and entry.key not in keys]
        for entry, content in taken:
            entry.agree(content.senders)
        events: list[Event] = [CallAccepted(tuple(content for _, content in taken), jingle.payload)]
        for entry in missing:
            # It should have refused them before. So that both know what there is, they go.
            self._table.remove(entry.key)
            events.append(ContentRejected(entry.key, Reason("decline")))
        if missing:
            gone = tuple(Content(*entry.key) for entry in missing)
            remove = Jingle(Action.CONTENT_REMOVE, self.sid, gone, Reason("cancel"))
            events.append(Send(remove))
        return events

    def _contents_added(self, jingle: Jingle) -> list[Event]:
        table = self._table.copy()
        try:
            for content in jingle.contents:
                if self.role is Role.INITIATOR and self._table.adds_alike(content):
                    raise tie_break()
                table.add_theirs(content, initial=False)
        except PeerError:
            # Its candidates are on their way, and are no offence.
            for content in jingle.contents:
                self._table.forget(key_of(content))
            raise
        self._table = table
        return [ContentAdded(content, jingle.payload) for content in jingle.contents]

    def _contents_accepted(self, jingle: Jingle, known: list[tuple[Entry, Content]]) -> list[Event]:
        for entry, content in known:
            if entry.initial:
                raise out_of_order(jingle.action)
            check_answer(entry, content)
        for entry, content in known:
            entry.agree(content.senders)
        return [ContentAccepted(content, jingle.payload) for _, content in known]

    def _contents_gone(self, jingle: Jingle, known: list[tuple[Entry, Content]]) -> list[Event]:
        rejected = jingle.action is Action.CONTENT_REJECT
        reason = jingle.reason or Reason("decline" if rejected else "cancel")
        events: list[Event] = []
        for entry, _ in known:
            self._table.remove(entry.key)
            gone = ContentRejected if rejected else ContentRemoved
            events.append(gone(entry.key, reason))
        if known and self._is_void():
            # XEP-0166 sections 7.2.4 and 7.2.5: say so, and end.
            void = Jingle(Action.SESSION_TERMINATE, self.sid, reason=Reason("success"))
            events += [Send(void), Terminated(reason)]
        return events

    def _modified(self, known: list[tuple[Entry, Content]]) -> list[Event]:
        if self.role is Role.INITIATOR and any(entry.is_modifying for entry, _ in known):
            raise tie_break()
        events: list[Event] = []
        for entry, content in known:
            senders = content.senders or "both"
            entry.modified(senders)
            events.append(ContentModified(entry.key, senders))
        return events

    # -- lookups ----------------------------------------------------------------------------

    def _known(self, jingle: Jingle) -> tuple[list[tuple[Entry, Content]], list[Event]]:
        """The contents of a stanza that are there, and an event if some were there.

        Raises: PeerError: one that never was, or to which this cannot happen.
        """
        known: list[tuple[Entry, Content]] = []
        events: list[Event] = []
        for content in jingle.contents:
            key = key_of(content)
            entry = self._table.get(key)
            if entry is not None:
                if entry.after(self.role.other, jingle.action) is None:
                    raise out_of_order(jingle.action)
                known.append((entry, content))
            elif self._table.was(key):
                # It crossed the stanza that took the content away, and is nobody's fault.
                events = [Ignored(jingle.action, "of a content that is no more")]
            else:
                raise PeerError(f"{jingle.action} for an unknown content", "item-not-found")
        return known, events

    def _is_void(self, without: Sequence[ContentKey] = ()) -> bool:
        """Whether nothing is left; of a call that is not taken yet, nothing to take."""
        left = [entry for entry in self._table if entry.key not in without]
        return not any(entry.initial or self._state is State.ACTIVE for entry in left)

    def _has(self, content: Content) -> bool:
        key = key_of(content)
        return self._table.get(key) is not None or self._table.was(key)

    def _own_view(self, key: ContentKey, action: Action) -> Entry:
        """Raises: NotAvailable: not there, or it cannot happen to it now."""
        entry = self._table.get(key)
        if entry is None:
            raise NotAvailable("There is no such content in this call")
        if entry.after(self.role, action) is None:
            raise NotAvailable(f"{action} cannot be sent for this content now")
        return entry

    def _answered(self, content: Content, action: Action) -> Entry:
        """The content that we answer to. Raises: NotAvailable, ValueError."""
        entry = self._own_view(key_of(content), action)
        if entry.initial is not (action is Action.SESSION_ACCEPT):
            raise NotAvailable(f"{action} is not the answer to this content")
        if tag_of(content.transport) != entry.transport.tag or content.description is None:
            raise ValueError("the answer is not to what was offered")
        return entry

    def _drop(
        self, action: Action, keys: Sequence[ContentKey], condition: str, text: str
    ) -> Jingle:
        self._may_send(action)
        reason = reason_of(condition, text)
        if not keys:
            raise ValueError("no content")
        for key in keys:
            self._own_view(key, action)
        if self._is_void(without=keys):
            # Said outright: the other side may be adding one in the same moment.
            return self.terminate(condition, text)
        for key in keys:
            self._table.remove(key)
        return Jingle(action, self.sid, tuple(Content(*key) for key in keys), reason)

    def _about(
        self, action: Action, contents: Sequence[Content], payload: Iterable[Element] = ()
    ) -> Jingle:
        if not contents:
            raise ValueError("no content")
        return Jingle(action, self.sid, tuple(contents), payload=elements(payload))
