"""Channel.Interface.Messages: message parts with their D-Bus types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from telepathy_e2e.bus import caller
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import Messages, Numbers, Parts, Strings
from telepathy_e2e.bus.values import plain_dict, variant
from telepathy_e2e.bus.wire import DBusStr, DBusUInt32, Variant
from telepathy_e2e.service import names
from telepathy_e2e.service.events import ChannelEvent, Emitter
from telepathy_e2e.service.messages import MessageReceived, MessageSent, PendingMessagesRemoved

# Message_Header_Key, Message_Body_Key, Delivery_Report_Header_Key; what is not here is a string.
SIGNATURES: Final[Mapping[str, str]] = {
    "message-sent": "x",
    "message-received": "x",
    "original-message-sent": "x",
    "original-message-received": "x",
    "message-sender": "u",
    "message-type": "u",
    "pending-message-id": "u",
    "scrollback": "b",
    "silent": "b",
    "rescued": "b",
    "truncated": "b",
    "delivery-status": "u",
    "delivery-error": "u",
}


class Conversation(Protocol):
    """See ``service.text_channel.TextChannel``."""

    @property
    def events(self) -> Emitter[ChannelEvent]: ...

    @property
    def pending_messages(self) -> list[list[dict[str, object]]]: ...

    def send_message(self, parts: Sequence[Mapping[str, object]], flags: int) -> MessageSent: ...


class MessagesInterface(Interface):
    """``Channel.Interface.Messages``."""

    name = names.MESSAGES

    SupportedContentTypes = Property(Strings)
    MessageTypes = Property(Numbers)
    MessagePartSupportFlags = Property(DBusUInt32)
    PendingMessages = Property(Messages)
    DeliveryReportingSupport = Property(DBusUInt32)

    MessageSent = Signal(Content=Parts, Flags=DBusUInt32, Message_Token=DBusStr)
    MessageReceived = Signal(Message=Parts)
    PendingMessagesRemoved = Signal(Message_IDs=Numbers)

    def __init__(self, channel: Conversation) -> None:
        super().__init__(channel)
        self._channel = channel

    @property
    def pending_messages(self) -> list[list[dict[str, Variant]]]:
        return [typed(parts) for parts in self._channel.pending_messages]

    @method("SendMessage")
    def send_message(self, Message: Parts, Flags: DBusUInt32) -> DBusStr:
        sent = self._channel.send_message([plain_dict(part) for part in Message], Flags)
        # "This method MUST return before the MessageSent signal is emitted."
        caller.after_reply(lambda: self._channel.events.emit(sent))
        return sent.token

    def tell(self, event: object) -> None:
        match event:
            case MessageReceived(parts):
                self.MessageReceived(typed(parts))
            case MessageSent(parts, flags, token):
                self.MessageSent(typed(parts), flags, token)
            case PendingMessagesRemoved(ids):
                self.PendingMessagesRemoved(list(ids))
            case _:
                super().tell(event)


def typed(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Variant]]:
    """Message_Part[] with the types of its values."""
    return [
        {
            key: variant("aa{sv}", typed(value))
            if key == "delivery-echo"
            else variant(SIGNATURES.get(key, "s"), value)
            for key, value in part.items()
        }
        for part in parts
    ]
