"""The messages that nobody has read yet, of any text channel (Channel.Interface.Messages).

What is kept is bounded, and what was taken is not thrown away again: a message that does not fit is
refused, so that its sender hears of it (``Refused``). Rooms cannot be told; there the oldest make
room, and clients are told which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from telepathy_e2e.errors import E2EError, InvalidArgument
from telepathy_e2e.service import names
from telepathy_e2e.service.events import ChannelEvent, Emitter

# Channel_Text_Message_Type
NORMAL, ACTION, NOTICE, AUTO_REPLY, DELIVERY_REPORT = range(5)
# Delivery_Status
DELIVERED, TEMPORARILY_FAILED, PERMANENTLY_FAILED = 1, 2, 3
# Message_Sending_Flags
REPORT_DELIVERY = 1
# Delivery_Reporting_Support_Flags
RECEIVE_FAILURES, RECEIVE_SUCCESSES = 1, 2

# Unread messages of one channel. All are in one property, and more than this take so long to put
# together that everything else would have to wait.
MAX_MESSAGES: Final = 1_000
# What their texts may take: a single one may have the size of a whole stanza (two megabytes).
MAX_BYTES: Final = 4 * 1024 * 1024
# What one unread message costs beside its text.
OVERHEAD: Final = 400

Part = Mapping[str, object]
Parts = list[dict[str, object]]


class Refused(E2EError):
    """There is no room for another message."""


@dataclass(frozen=True)
class MessageReceived(ChannelEvent):
    """Messages.MessageReceived; the value is plain, the bus layer knows the types of its keys."""

    interface = names.MESSAGES

    message: Parts


@dataclass(frozen=True)
class MessageSent(ChannelEvent):
    """Messages.MessageSent."""

    interface = names.MESSAGES

    content: Parts
    flags: int
    token: str


@dataclass(frozen=True)
class PendingMessagesRemoved(ChannelEvent):
    """Messages.PendingMessagesRemoved."""

    interface = names.MESSAGES

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A text as Telepathy shows it, received or sent.

    Attributes:
        text: may be empty (a report has none).
        kind: Channel_Text_Message_Type.
        sender: contact handle, 0 if unknown; ``sender_id`` is its identifier.
        token: message-token, by which receipts and corrections name it.
        sent, received: seconds since 1970; None where it is not known, or was not received.
        supersedes: token of the message that this one corrects.
        nickname: what the sender calls itself.
        scrollback: history.
        silent: nobody needs to be told.
        rescued: it was in a channel that was closed.
        headers: more for the first part, such as those of a delivery report.
    """

    text: str
    kind: int = NORMAL
    sender: int = 0
    sender_id: str = ""
    token: str = ""
    sent: int | None = None
    received: int | None = None
    supersedes: str = ""
    nickname: str = ""
    scrollback: bool = False
    silent: bool = False
    rescued: bool = False
    headers: Mapping[str, object] | None = None

    def parts(self, id: int | None = None) -> Parts:
        """Message_Part[]: headers, and the text if there is one.

        Args:
            id: pending-message-id.
        """
        header: dict[str, object] = {"message-type": self.kind}
        for key, value in (
            ("message-token", self.token),
            ("message-sent", self.sent),
            ("message-received", self.received),
            ("message-sender", self.sender),
            ("message-sender-id", self.sender_id),
            ("sender-nickname", self.nickname),
            ("supersedes", self.supersedes),
            ("scrollback", self.scrollback),
            ("silent", self.silent),
            ("rescued", self.rescued),
            ("pending-message-id", id),
        ):
            if value is not None and value != "" and value is not False:
                header[key] = value
        if not self.sender:
            header.pop("message-sender")
        header.update(self.headers or {})
        parts: Parts = [header]
        if self.text:
            parts.append({"content-type": "text/plain", "content": self.text})
        return parts

    @property
    def size(self) -> int:
        """What it costs to keep, in bytes, nearly: a character takes up to four."""
        return OVERHEAD + _bytes(self.text) + _bytes(self.token) + _bytes(self.supersedes)


def _bytes(text: str) -> int:
    return len(text) * (1 if text.isascii() else 4)


class Budget:
    """What all channels of some kind may keep together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def fits(self, size: int) -> bool:
        return self.used + size <= self.limit


class Messages:
    """Unread messages of one channel, in their order.

    Args:
        events: of the channel.
        budget: shared with other channels; None: only the bounds of one channel count.
        most: messages kept.
        most_bytes: bytes kept.
    """

    def __init__(
        self,
        events: Emitter[ChannelEvent],
        *,
        budget: Budget | None = None,
        most: int = MAX_MESSAGES,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        self._events = events
        self._budget = budget
        self._most = most
        self._most_bytes = most_bytes
        self._pending: dict[int, Text] = {}
        self._bytes = 0
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def pending(self) -> tuple[Text, ...]:
        """The oldest first."""
        return tuple(self._pending.values())

    def parts(self) -> list[Parts]:
        """PendingMessages."""
        return [text.parts(id) for id, text in self._pending.items()]

    def receive(self, text: Text, *, make_room: bool = False) -> None:
        """Keep a message and tell of it.

        Args:
            make_room: drop the oldest where there is no room, and say so: for rooms.
        Raises:
            Refused: there is no room; nothing has happened.
        """
        if make_room:
            self._make_room(text.size)
        if not self.fits(text.size):
            raise Refused("Too much is unread")
        self._keep(text)
        self._events.emit(MessageReceived(text.parts(self._last_id)))

    def report(self, text: Text) -> None:
        """A delivery report; without room it is dropped: it says less than any message."""
        if self.fits(text.size):
            self.receive(text)

    def fits(self, size: int) -> bool:
        """Whether so many bytes more can be kept."""
        if len(self._pending) >= self._most or self._bytes + size > self._most_bytes:
            return False
        return self._budget is None or self._budget.fits(size)

    def acknowledge(self, ids: Iterable[int]) -> None:
        """Text.AcknowledgePendingMessages.

        Raises:
            InvalidArgument: one of them is not there; nothing has happened.
        """
        wanted = tuple(dict.fromkeys(ids))
        if any(each not in self._pending for each in wanted):
            raise InvalidArgument("There is no such unread message")
        self._remove(wanted)

    def clear(self) -> tuple[Text, ...]:
        """Take all out, without a word: the channel is over."""
        gone = self.pending
        for each in tuple(self._pending):
            self._drop(each)
        return gone

    def rescue(self, texts: Iterable[Text]) -> None:
        """Take over what was unread when another channel was closed; tells nothing."""
        for each in texts:
            if self.fits(each.size):
                self._keep(replace(each, rescued=True))

    def _keep(self, text: Text) -> None:
        # "message IDs SHOULD NOT be re-used until all of the 32-bit integer space has been used"
        self._last_id = self._last_id % (2**32 - 1) + 1
        self._pending[self._last_id] = text
        self._bytes += text.size
        if self._budget is not None:
            self._budget.used += text.size

    def _make_room(self, size: int) -> None:
        gone = []
        for each in tuple(self._pending):
            if self.fits(size):
                break
            gone.append(each)
            self._drop(each)
        if gone:
            self._events.emit(PendingMessagesRemoved(tuple(gone)))

    def _remove(self, ids: tuple[int, ...]) -> None:
        for each in ids:
            self._drop(each)
        if ids:
            self._events.emit(PendingMessagesRemoved(ids))

    def _drop(self, id: int) -> None:
        size = self._pending.pop(id).size
        self._bytes -= size
        if self._budget is not None:
            self._budget.used -= size
