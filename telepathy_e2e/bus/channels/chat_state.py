"""Channel.Interface.ChatState."""

from __future__ import annotations

from typing import Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import NumberMap
from telepathy_e2e.bus.wire import DBusUInt32
from telepathy_e2e.service import names


class Chatting(Protocol):
    """See ``service.text_channel.TextChannel``."""

    def set_chat_state(self, state: int) -> None: ...


class ChatStateInterface(Interface):
    """``Channel.Interface.ChatState``."""

    name = names.CHAT_STATE

    ChatStates = Property(NumberMap)

    ChatStateChanged = Signal(Contact=DBusUInt32, State=DBusUInt32)

    def __init__(self, channel: Chatting) -> None:
        super().__init__(channel)
        self._channel = channel

    @method("SetChatState")
    def set_chat_state(self, State: DBusUInt32) -> None:
        self._channel.set_chat_state(State)
