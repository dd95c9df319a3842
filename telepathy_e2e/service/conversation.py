"""One-to-one chat: a text channel with a contact."""

from __future__ import annotations

import time
from typing import Protocol

from telepathy_e2e.service.account import Account
from telepathy_e2e.service.delivery import MAX_ECHO, Sent, SentMessages
from telepathy_e2e.service.messages import (
    DELIVERED,
    NOTICE,
    RECEIVE_FAILURES,
    RECEIVE_SUCCESSES,
    REPORT_DELIVERY,
    Budget,
    Messages,
    Text,
)
from telepathy_e2e.service.outgoing import Outgoing, new_token
from telepathy_e2e.service.text_channel import (
    ACTIVE,
    COMPOSING,
    GONE,
    INACTIVE,
    PAUSED,
    STATE_NAMES,
    TextChannel,
)
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.messages import CHAT_STATES, Message, build


class Manager(Protocol):
    """See ``text.TextChannels``."""

    sent: SentMessages

    def gone(self, channel: Conversation) -> None: ...

    def rescue(self, channel: Conversation, unread: tuple[Text, ...]) -> None: ...


class Conversation(TextChannel):
    """A channel with one contact.

    Args:
        manager: is told of its end.
        stranger: nobody here asked for it, and the contact is not on the list.
        messages: bounds of what is kept unread: (budget, messages, bytes).
    """

    delivery_reporting_support = RECEIVE_FAILURES | RECEIVE_SUCCESSES

    def __init__(
        self,
        account: Account,
        manager: Manager,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        by_us: bool,
        stranger: bool,
        bounds: tuple[Budget, int, int],
    ) -> None:
        target_id = account.handles.inspect(target_handle)
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            target_id=target_id,
            requested=requested,
            initiator_handle=account.self_handle if by_us else target_handle,
            initiator_id=account.self_id if by_us else target_id,
        )
        self.stranger = stranger
        budget, most, most_bytes = bounds
        self.messages = Messages(self.events, budget=budget, most=most, most_bytes=most_bytes)
        self._manager = manager
        self._resource = ""
        # Whether the contact's program knows chat states; None until it has said something.
        self._states: bool | None = None
        self._state_from = ""
        self._used = False

    # -- sending ----------------------------------------------------------------------------

    @property
    def _to(self) -> str:
        """The program that spoke last, as long as it is there (RFC 6121 section 5.1)."""
        return self._resource or self.target_id

    def transmit(self, message: Outgoing, token: str, flags: int) -> int:
        report = flags & REPORT_DELIVERY
        stanza = Message(
            to=self._to,
            # XEP-0308 and XEP-0184 go by the id; others see the origin-id unchanged by servers.
            type="normal" if message.kind == NOTICE else "chat",
            id=token,
            origin_id=token,
            body=message.body,
            # "the message(s) that it sends before receiving a reply MUST contain a chat state
            # notification extension" (XEP-0085 section 5.1)
            state="" if self._states is False else STATE_NAMES[ACTIVE],
            wants_receipt=bool(report),
            replaces=message.supersedes,
        )
        self.account.client.send(build(stanza))
        self._used = True
        shown = Text(
            message.text[:MAX_ECHO],
            message.kind,
            sender=self.self_handle,
            sender_id=self.self_id,
            token=token,
            sent=int(time.time()),
        )
        self._manager.sent.add(token, Sent(self.target_id, shown))
        self.show_state(self.self_handle, ACTIVE)
        return report

    def transmit_state(self, state: int) -> None:
        if self._wants_states():
            self._send_state(state)

    def _send_state(self, state: int) -> None:
        stanza = Message(
            to=self._to,
            type="chat",
            id=new_token(),
            state=STATE_NAMES[state],
            # Nobody who comes online tomorrow wants to know.
            hints=frozenset({"no-store"}),
        )
        self.account.client.send(build(stanza))

    def _wants_states(self) -> bool:
        """Whether a notification alone may be sent (XEP-0085 section 5.1)."""
        if self._states is not None:
            return self._states
        return any(
            CHAT_STATES in (each.features or ())
            for each in self.account.client.resources(bare(self.target_id))
            if self._resource in ("", each.jid)
        )

    # -- receiving --------------------------------------------------------------------------

    def heard(self, message: Message, *, content: bool) -> None:
        """The contact said something: answers go there, and its state is news.

        Args:
            content: there is a text in it.
        """
        if message.state:
            self._states = True
            self._state_from = message.from_
            self.show_state(self.target_handle, STATE_NAMES.index(message.state))
        elif content:
            self._states = False
            if self.chat_states.get(self.target_handle) in (COMPOSING, PAUSED):
                self.show_state(self.target_handle, ACTIVE)
        if content:
            self._used = True
        # What we send to ourselves is for all our programs.
        if message.state == STATE_NAMES[GONE] or self.target_id == self.account.self_id:
            self._resource = ""
        else:
            self._resource = message.from_

    def unlock(self) -> None:
        """Something changed at the contact's; the server knows better who should have the next."""
        self._resource = ""
        self._states = None

    def left(self, jid: str) -> None:
        """A program of the contact, or all (bare), went offline: nobody types there."""
        self.unlock()
        if self._state_from and jid in (self._state_from, bare(self._state_from)):
            self._state_from = ""
            self.show_state(self.target_handle, INACTIVE)

    def refused(self) -> None:
        """Something that we sent came back."""
        self._resource = ""
        self._states = False

    # -- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Channel.Close: what nobody has read comes back in a channel of its own."""
        if self.closed:
            return
        unread = self.messages.clear()
        lost = any(_matters(each) for each in unread)
        # "It must not be sent to the peer if a channel is closed without being used"
        if self._used and not lost and self._wants_states():
            self._send_state(GONE)
        self._gone()
        if lost:
            self._manager.rescue(self, unread)

    def _gone(self) -> None:
        if not self.closed:
            self.messages.clear()
            self._manager.gone(self)
        super()._gone()


def _matters(text: Text) -> bool:
    """Whether the user would miss it: not his own words, nor that something went well."""
    return not text.silent and (text.headers or {}).get("delivery-status") != DELIVERED
