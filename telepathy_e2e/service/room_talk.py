"""What was said in a room: which of it is ours, which may correct what, what did not arrive."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from telepathy_e2e.service import delivery, outgoing
from telepathy_e2e.service.messages import Messages, Text
from telepathy_e2e.xmpp.messages import Failure, Message

# Messages that the room has not shown yet, or may still send back.
MAX_SENT: Final = 200
# Messages of others that may still be corrected.
MAX_CORRECTABLE: Final = 500


@dataclass(slots=True)
class _Sent:
    """A message of ours; ``seen``: the room has shown it."""

    text: Text
    report: bool
    seen: bool = False


class RoomTalk:
    """Keeps what is needed to tell; the messages themselves are in ``messages``.

    Args:
        room: bare JID.
    """

    def __init__(self, messages: Messages, room: str) -> None:
        self._messages = messages
        self._room = room
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._theirs: OrderedDict[tuple[str, str], None] = OrderedDict()

    def sent(self, text: Text, *, report: bool) -> None:
        """We sent this; its token is the id.

        Args:
            report: the user wants to know when it has arrived.
        """
        self._sent[text.token] = _Sent(text, report)
        if len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)

    def is_echo(self, message: Message) -> bool:
        """Whether a message from our own nick is one that was told by MessageSent.

        Rooms show each message to its author as well: then it has arrived.
        """
        sent = self._sent.get(message.id) or self._sent.get(message.origin_id)
        if sent is None and message.body is not None:
            # Some old services give each message an id of their own.
            text = outgoing.received(message.body)[1][: delivery.MAX_ECHO]
            waiting = (each for each in self._sent.values() if not each.seen)
            sent = next((each for each in waiting if each.text.text == text), None)
        if sent is None:
            return not message.body
        if not sent.seen and sent.report:
            report = delivery.delivered(sent.text.token, 0, "", int(time.time()))
            self._messages.report(report)
        sent.seen = True
        return True

    def returned(self, message: Message) -> None:
        """A message came back as an error."""
        failure = message.failure or Failure("undefined-condition")
        sent = self._sent.pop(message.id, None)
        if sent is not None and not sent.seen:
            # "zero or omitted if the intended recipient ... is not a contact, e.g. a chatroom"
            report = delivery.failed(
                message.id,
                delivery.Sent(self._room, sent.text),
                failure,
                0,
                "",
                int(time.time()),
            )
            self._messages.report(report)

    def corrected(self, nick: str, message: Message) -> str:
        """The token of the message that this one corrects: one of the same author (XEP-0308)."""
        supersedes = message.replaces if (nick, message.replaces) in self._theirs else ""
        if message.token:
            self._theirs[(nick, message.token)] = None
            if len(self._theirs) > MAX_CORRECTABLE:
                self._theirs.popitem(last=False)
        return supersedes

    def forget(self, nick: str) -> None:
        """Whoever has this nick next is perhaps somebody else."""
        for each in [each for each in self._theirs if each[0] == nick]:
            del self._theirs[each]
