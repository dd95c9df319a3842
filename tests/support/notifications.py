"""A desktop's notifications in a test: what is shown, and somebody who presses buttons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from tests.support.waiting import PATIENCE

NAME = "org.freedesktop.Notifications"
PATH = "/org/freedesktop/Notifications"


@dataclass
class Desktop:
    """See ``desktop``.

    Args:
        press: the button that is pressed as soon as it is shown; "": none is.
    """

    bus: MessageBus
    capabilities: Sequence[str] = ("body", "actions")
    press: str = ""
    shown: list[list[Any]] = field(default_factory=list)
    """The arguments of each Notify."""
    closed: list[int] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def question(self) -> list[Any]:
        """The last one shown, or the first to come."""
        async with asyncio.timeout(PATIENCE):
            while not self.shown:
                self._news.clear()
                await self._news.wait()
        return self.shown[-1]

    async def say(self, member: str, signature: str, *body: object) -> None:
        """A signal of it."""
        await self.bus.send(Message.new_signal(PATH, NAME, member, signature, list(body)))

    async def pressed(self, action: str, number: int = 1) -> None:
        await self.say("ActionInvoked", "us", number, action)

    def received(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL or message.interface != NAME:
            return False
        match message.member:
            case "GetCapabilities":
                return Message.new_method_return(message, "as", [list(self.capabilities)])
            case "Notify":
                self.shown.append(list(message.body))
                self._news.set()
                reply = Message.new_method_return(message, "u", [len(self.shown)])
                if not self.press:
                    return reply
                # Before anybody can have seen the reply: as fast as it can come.
                self.bus.send(reply)
                number = len(self.shown)
                self.bus.send(
                    Message.new_signal(PATH, NAME, "ActionInvoked", "us", [number, self.press])
                )
                return True
            case "CloseNotification":
                self.closed.append(message.body[0])
                return Message.new_method_return(message)
        return False


@asynccontextmanager
async def desktop(address: str, **more: Any) -> AsyncIterator[Desktop]:
    """Shows notifications on that bus for as long as the block runs.

    Args:
        more: of ``Desktop``.
    """
    bus = await MessageBus(address, bus_type=BusType.SESSION).connect()
    shows = Desktop(bus, **more)
    bus.add_message_handler(shows.received)
    await bus.request_name(NAME)
    try:
        yield shows
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
