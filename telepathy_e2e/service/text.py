"""One-to-one text: conversations that were requested, and those that contacts begin."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    InvalidHandle,
    NotAvailable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.service import delivery, names, outgoing
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.handles import HANDLE_TYPE_CONTACT
from telepathy_e2e.service.messages import MAX_BYTES, MAX_MESSAGES, Budget, Refused, Text
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.xmpp import messages
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.messages import Failure, Message

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.conversation import Conversation

log = logging.getLogger(__name__)

# What all unread messages of one connection may take.
MAX_UNREAD_BYTES: Final = 32 * 1024 * 1024
# Whoever likes can write to us. Past these bounds a stranger gets an error, and so knows: what
# the user has not read yet is not thrown away for what a stranger sends next.
MAX_STRANGERS: Final = 100
MAX_STRANGER_MESSAGES: Final = 50
MAX_STRANGER_BYTES: Final = 64 * 1024
MAX_STRANGERS_BYTES: Final = 2 * 1024 * 1024
# Messages to oneself that may come twice: as themselves, and as a copy.
MAX_TWINS: Final = 32

NO_ROOM: Final = Failure("resource-constraint", "Too many messages are unread", "wait")


class TextChannels(Feature):
    """See ``feature.ChannelManager``, whose docstrings hold.

    Attributes:
        sent: what we sent lately.
        is_occupant: whether a full JID is somebody in a room, who is then talked to as such.
    """

    needs_contact: ClassVar[bool] = False
    disco = (
        messages.CHAT_STATES,
        messages.RECEIPTS,
        messages.CORRECTION,
        messages.CARBONS,
    )

    def __init__(self, account: Account) -> None:
        self._account = account
        self.sent = delivery.SentMessages()
        self.is_occupant: Callable[[str], bool] = lambda full_jid: False
        self._channels: dict[str, Conversation] = {}
        self._budget = Budget(MAX_UNREAD_BYTES)
        self._strangers_budget = Budget(MAX_STRANGERS_BYTES)
        self._twins: deque[str] = deque(maxlen=MAX_TWINS)

    def connected(self) -> None:
        self._account.tasks.start("carbons", self._enable_carbons())

    async def _enable_carbons(self) -> None:
        try:
            if messages.CARBONS in await self._account.client.server_features():
                await self._account.client.send_iq(None, Element(f"{{{messages.CARBONS}}}enable"))
        except (StanzaError, IqTimeout, Disconnected) as error:
            log.info("no copies of what other programs of ours send and get: %s", error)

    # -- requested --------------------------------------------------------------------------

    def manages(self, request: ChannelRequest) -> bool:
        return request.channel_type == names.TEXT and request.target_type == HANDLE_TYPE_CONTACT

    async def create(self, request: ChannelRequest) -> Channel:
        if self._account.handles.inspect(request.handle) in self._channels:
            raise NotAvailable("There is a text channel with this contact already")
        return self._open(request.handle, requested=True, by_us=True)

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        """Both are always in the clear, so the one that is there is as strong as asked for."""
        existing = self._channels.get(self._account.handles.inspect(request.handle))
        if existing is not None:
            return False, existing
        return True, await self.create(request)

    def _open(
        self, handle: int, *, requested: bool, by_us: bool, stranger: bool = False
    ) -> Conversation:
        from telepathy_e2e.service.conversation import Conversation

        channel = Conversation(
            self._account,
            self,
            self._account.next_path("Text"),
            target_handle=handle,
            requested=requested,
            by_us=by_us,
            stranger=stranger,
            bounds=(self._strangers_budget, MAX_STRANGER_MESSAGES, MAX_STRANGER_BYTES)
            if stranger
            else (self._budget, MAX_MESSAGES, MAX_BYTES),
        )
        self._channels[channel.target_id] = channel
        return channel

    # -- ``conversation.Manager`` -----------------------------------------------------------

    def gone(self, channel: Conversation) -> None:
        """It leaves the bus."""
        self._channels.pop(channel.target_id, None)

    def rescue(self, channel: Conversation, unread: tuple[Text, ...]) -> None:
        """It was closed with messages that nobody has read: here they are again."""
        again = self._open(
            channel.target_handle, requested=False, by_us=False, stranger=channel.stranger
        )
        again.messages.rescue(unread)
        self._account.announce(again)

    # -- received ---------------------------------------------------------------------------

    def receive_message(self, stanza: Element) -> bool:
        copy = messages.carbon(stanza, self._account.self_id)
        if copy is not None:
            return self._copied(copy)
        message = messages.parse(stanza)
        if not message.from_ or message.type in ("groupchat", "headline"):
            return False
        if message.type == "error":
            return self._returned(message)
        if message.receipt:
            self._receipt(message)
        return self._received(message) or bool(message.receipt)

    def _copied(self, copy: messages.Carbon) -> bool:
        message = copy.message
        if message.type not in ("chat", "normal"):
            return True
        if copy.direction == "received":
            if message.receipt:
                self._receipt(message)
            self._received(message, copied=True)
        elif (
            bare(message.to) != self._account.self_id and message.from_ != self._account.client.jid
        ):
            self._sent_elsewhere(message)
        return True

    def _received(self, message: Message, *, copied: bool = False) -> bool:
        """A message from somebody to us; whether there was anything in it for people."""
        peer = self._peer(message.from_)
        content = _content(message)
        if content is None:
            channel = self._channels.get(peer)
            # "Receiving it must not cause a new channel to be opened"
            if channel is not None and message.state:
                channel.heard(message, content=False)
            return bool(message.state)
        if peer == self._account.self_id and self._is_twin(message):
            return True
        try:
            channel = self._deliver(peer, content, message, mine=False)
        except Refused:
            log.warning("no room for another message of %s", peer)
            if not copied:
                self._answer(messages.refusal(message, NO_ROOM))
            return True
        channel.heard(message, content=True)
        if message.wants_receipt and not copied:
            self._acknowledge(message)
        return True

    def _sent_elsewhere(self, message: Message) -> None:
        """What the user wrote with another program."""
        content = _content(message)
        if content is None or not message.to:
            return
        peer = self._peer(message.to)
        try:
            self._deliver(peer, content, message, mine=True).unlock()
        except Refused:
            log.warning("no room for a copy of what was sent to %s", peer)

    def _deliver(self, peer: str, content: str, message: Message, *, mine: bool) -> Conversation:
        """Put a message into the channel with somebody, opened for it if need be.

        Raises:
            Refused: there is no room.
        """
        now = int(time.time())
        kind, text = outgoing.received(content, notice=message.type == "normal")
        delay = message.delayed_by()
        size = Text(text, token=message.token, supersedes=message.replaces).size
        channel = self._channels.get(peer)
        new = channel is None
        if channel is None:
            channel = self._opened_by(peer, size, mine=mine)
        elif not channel.messages.fits(size):
            raise Refused("Too much is unread")
        if new:
            self._account.announce(channel)
        channel.messages.receive(
            Text(
                text,
                kind,
                sender=self._account.self_handle if mine else channel.target_handle,
                sender_id=self._account.self_id if mine else channel.target_id,
                token=message.token,
                # Nobody sends from the future: it would stay the last message for years.
                sent=min(int(delay.timestamp()), now) if delay is not None else None,
                received=now,
                # Only who wrote a message may correct it (XEP-0308 section 4).
                supersedes=""
                if not mine and self.sent.is_ours(message.replaces, peer)
                else message.replaces,
                nickname=message.nick,
                silent=mine,
            )
        )
        return channel

    def _opened_by(self, peer: str, size: int, *, mine: bool) -> Conversation:
        stranger = not mine and not self._is_known(peer)
        budget = self._strangers_budget if stranger else self._budget
        if not budget.fits(size) or (stranger and size > MAX_STRANGER_BYTES):
            raise Refused("Too much is unread")
        if stranger and self._strangers() >= MAX_STRANGERS:
            raise Refused("Too many strangers have written")
        try:
            # Not before all bounds: handles are for ever.
            handle = self._account.handles.of_jid(peer)
        except InvalidHandle as error:
            raise Refused(str(error)) from None
        return self._open(handle, requested=False, by_us=mine, stranger=stranger)

    def _strangers(self) -> int:
        return sum(
            each.stranger and not self._is_known(each.target_id) for each in self._channels.values()
        )

    def _is_known(self, peer: str) -> bool:
        return peer == self._account.self_id or peer in self._account.client.contacts()

    def _peer(self, jid: str) -> str:
        return jid if self.is_occupant(jid) else bare(jid)

    def _is_twin(self, message: Message) -> bool:
        if not message.id:
            return False
        if message.id in self._twins:
            return True
        self._twins.append(message.id)
        return False

    def receive_presence(self, stanza: Element) -> bool:
        if not self._channels:
            return False
        try:
            sender = normalise(stanza.get("from", ""))
        except ValueError:
            raise PeerError("an address that is none", "jid-malformed") from None
        channel = self._channels.get(bare(sender))
        if channel is not None and stanza.get("type") in (None, "unavailable", "error"):
            if stanza.get("type") is None:
                channel.unlock()
            else:
                channel.left(sender)
        return False

    # -- what became of ours ----------------------------------------------------------------

    def _acknowledge(self, message: Message) -> None:
        """A receipt (XEP-0184 section 5.3), but to nobody who may not know that we are here."""
        sender = bare(message.from_)
        item = self._account.client.contacts().get(sender)
        may_know = sender == self._account.self_id or (item is not None and item.sees_us)
        if not message.id or not may_know or message.from_ == self._account.client.jid:
            return
        self._answer(
            Message(
                to=message.from_,
                type=message.type,
                id=outgoing.new_token(),
                receipt=message.id,
                hints=frozenset({"store"}),
            )
        )

    def _answer(self, message: Message) -> None:
        try:
            self._account.client.send(messages.build(message))
        except TelepathyError as error:
            log.info("an answer to a message was not sent: %s", error)

    def _receipt(self, message: Message) -> None:
        peer = self._peer(message.from_)
        if self.sent.answered(message.receipt, peer) is None:
            return
        if (channel := self._channels.get(peer)) is not None:
            channel.messages.report(
                delivery.delivered(
                    message.receipt, channel.target_handle, channel.target_id, int(time.time())
                )
            )

    def _returned(self, message: Message) -> bool:
        """An error; it opens no channel."""
        peer = self._peer(message.from_)
        channel = self._channels.get(peer)
        if channel is not None:
            channel.refused()
        if not self.sent.is_ours(message.id, peer):
            return False
        self._failed(message.id, peer, message.failure or Failure("undefined-condition"))
        return True

    def _failed(self, token: str, peer: str, failure: Failure) -> None:
        sent = self.sent.answered(token, peer)
        channel = self._channels.get(peer)
        if sent is not None and channel is not None:
            channel.messages.report(
                delivery.failed(
                    token,
                    sent,
                    failure,
                    channel.target_handle,
                    channel.target_id,
                    int(time.time()),
                )
            )

    def undelivered(self, stanzas: list[Element]) -> None:
        for stanza in stanzas:
            if stanza.tag == messages.MESSAGE:
                target = self._peer(stanza.get("to", ""))
                failure = Failure("remote-server-timeout", "The connection was lost", "wait")
                self._failed(stanza.get("id", ""), target, failure)

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._channels.clear()


def _content(message: Message) -> str | None:
    """What people are to read; None if there is nothing."""
    text = message.body or ""
    if message.subject:
        text = f"{message.subject}\n{text}" if text else message.subject
    for url in message.links:
        if url not in text:
            text = f"{text}\n{url}" if text else url
    return text or None
