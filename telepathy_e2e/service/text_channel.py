"""What one-to-one chats and rooms have in common (Channel.Type.Text)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from telepathy_e2e.errors import InvalidArgument, PermissionDenied
from telepathy_e2e.service import names, outgoing
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import ChannelEvent
from telepathy_e2e.service.handles import HANDLE_TYPE_CONTACT
from telepathy_e2e.service.messages import Messages, MessageSent, Parts, Text
from telepathy_e2e.trust.policy import Policy

# Channel_Chat_State
GONE, INACTIVE, ACTIVE, PAUSED, COMPOSING = range(5)
STATE_NAMES = ("gone", "inactive", "active", "paused", "composing")


@dataclass(frozen=True)
class ChatStateChanged(ChannelEvent):
    """ChatState.ChatStateChanged."""

    interface = names.CHAT_STATE

    contact: int
    state: int


class TextChannel(Channel):
    """A conversation.

    Subclasses say how a message is sent (``transmit``), and call ``self.messages.receive``.

    Attributes:
        messages: the unread ones.
        chat_states: of everybody who is not inactive, by handle (ChatState.ChatStates).
    """

    channel_type = names.TEXT
    interfaces: tuple[str, ...] = (
        names.MESSAGES,
        names.CHAT_STATE,
        names.DESTROYABLE,
        names.SECURABLE,
    )

    # Messages
    supported_content_types: ClassVar[tuple[str, ...]] = ("text/plain",)
    message_types: ClassVar[tuple[int, ...]] = outgoing.SENT_KINDS
    message_part_support_flags = 0
    delivery_reporting_support = 0

    # Securable: servers read along.
    encrypted = False
    verified = False

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        target_id: str,
        requested: bool,
        initiator_handle: int,
        initiator_id: str,
        target_handle_type: int = HANDLE_TYPE_CONTACT,
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            target_id=target_id,
            requested=requested,
            initiator_handle=initiator_handle,
            initiator_id=initiator_id,
            target_handle_type=target_handle_type,
        )
        self.account = account
        self.messages = Messages(self.events)
        self.chat_states: dict[int, int] = {}

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.MESSAGES + "."
        shown[prefix + "SupportedContentTypes"] = list(self.supported_content_types)
        shown[prefix + "MessageTypes"] = list(self.message_types)
        shown[prefix + "MessagePartSupportFlags"] = self.message_part_support_flags
        shown[prefix + "DeliveryReportingSupport"] = self.delivery_reporting_support
        return shown

    @property
    def self_handle(self) -> int:
        """The user, as others in this channel see him."""
        return self.account.self_handle

    @property
    def self_id(self) -> str:
        """The identifier of ``self_handle``."""
        return self.account.self_id

    # -- messages ---------------------------------------------------------------------------

    @property
    def pending_messages(self) -> list[Parts]:
        """Messages.PendingMessages."""
        return self.messages.parts()

    def acknowledge(self, ids: Iterable[int]) -> None:
        """Text.AcknowledgePendingMessages.

        Raises:
            InvalidArgument: one of them is not there; nothing has happened.
        """
        self.messages.acknowledge(ids)

    def send_message(self, parts: Sequence[Mapping[str, object]], flags: int) -> MessageSent:
        """Messages.SendMessage; who calls it emits what is returned after its reply.

        Args:
            parts: Message_Part[], plain values.
            flags: Message_Sending_Flags; unknown ones are ignored.
        Raises:
            InvalidArgument: not a message that can be sent.
            Disconnected, NotAvailable: it cannot be sent now.
            PermissionDenied: the account's policy is never to send in the clear.
        """
        message = outgoing.parse(parts)
        if self.account.policy in (Policy.REQUIRED, Policy.VERIFIED):
            raise PermissionDenied(
                f"Messages are in the clear, and this account's e2e-policy is {self.account.policy}"
            )
        token = outgoing.new_token()
        flags = self.transmit(message, token, flags)
        shown = Text(
            message.text,
            message.kind,
            sender=self.self_handle,
            sender_id=self.self_id,
            token=token,
            sent=int(time.time()),
            supersedes=message.supersedes,
        )
        return MessageSent(shown.parts(), flags, token)

    def transmit(self, message: outgoing.Outgoing, token: str, flags: int) -> int:
        """Send it with this id.

        Returns:
            Those of the flags that were heeded.
        Raises:
            TelepathyError: see ``send_message``.
        """
        raise NotImplementedError

    # -- chat states ------------------------------------------------------------------------

    def set_chat_state(self, state: int) -> None:
        """ChatState.SetChatState.

        Raises:
            InvalidArgument: no such state, or Gone, which "may not be explicitly sent".
            Disconnected: the connection is not there.
        """
        if not GONE < state <= COMPOSING:
            raise InvalidArgument("Not a chat state that can be set")
        if self.chat_states.get(self.self_handle, INACTIVE) != state:
            self.transmit_state(state)
            self.show_state(self.self_handle, state)

    def transmit_state(self, state: int) -> None:
        """Let the others know, if they want to; subclasses do."""

    def show_state(self, contact: int, state: int) -> None:
        """Somebody's state is this: tell of it if it is news."""
        if self.chat_states.get(contact, INACTIVE) == state:
            return
        if state == INACTIVE:
            del self.chat_states[contact]
        else:
            self.chat_states[contact] = state
        self.events.emit(ChatStateChanged(contact, state))

    # -- the end ----------------------------------------------------------------------------

    def destroy(self) -> None:
        """Destroyable.Destroy: close it, and let go what nobody has read."""
        self.messages.clear()
        self.close()
