"""A program that talks to the key agent, and can pass descriptors."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from tests.support.side import AGENT, AGENT_NAME, AGENT_PATH, PROPERTIES, DBusFailure, plain
from tests.support.waiting import PATIENCE


class AgentClient:
    """Calls the agent on one bus; see ``connected``."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    async def call(self, member: str, signature: str = "", *arguments: object) -> Any:
        """A method of the agent; what is ``bytes`` where a descriptor belongs goes through a pipe.

        An ``int`` there is a descriptor. The reply's only value, or None.
        """
        body: list[object] = []
        passed: list[int] = []
        own: list[int] = []
        for token, each in zip(_tokens(signature), arguments, strict=True):
            if token == "h":
                number = pipe(each) if isinstance(each, bytes) else each
                assert isinstance(number, int)
                if number is not each:
                    own.append(number)
                body.append(len(passed))
                passed.append(number)
            else:
                body.append(each)
        try:
            reply = await self.send(AGENT_NAME, AGENT_PATH, AGENT, member, signature, body, passed)
        finally:
            for number in own:
                os.close(number)
        return plain(reply.body[0]) if reply.body else None

    async def get(self, name: str) -> Any:
        """A property."""
        reply = await self.send(AGENT_NAME, AGENT_PATH, PROPERTIES, "Get", "ss", [AGENT, name], [])
        return plain(reply.body[0])

    async def export(self, account: str, passphrase: bytes) -> bytes:
        """What Export writes."""
        reading, writing = os.pipe()
        try:
            await self.call("Export", "shh", account, passphrase, writing)
        finally:
            os.close(writing)
            with os.fdopen(reading, "rb") as file:
                data = file.read()
        return data

    async def pid(self) -> int:
        """Of the agent that runs now."""
        reply = await self.send(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "GetConnectionUnixProcessID",
            "s",
            [AGENT_NAME],
            [],
        )
        return int(reply.body[0])

    async def kill(self) -> None:
        """kill -9 of the agent that runs now; gone from the bus when this returns."""
        os.kill(await self.pid(), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while await self.runs():
                await asyncio.sleep(0.01)

    async def runs(self) -> bool:
        """Whether there is an agent at this moment."""
        reply = await self.send(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "NameHasOwner",
            "s",
            [AGENT_NAME],
            [],
        )
        return bool(reply.body[0])

    async def send(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str,
        body: list[Any],
        descriptors: list[int],
    ) -> Message:
        """The reply, if it is a good one."""
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
            unix_fds=descriptors,
        )
        reply = await asyncio.wait_for(self._bus.call(message), PATIENCE)
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise DBusFailure(str(reply.error_name), str(reply.body[0]) if reply.body else "")
        return reply


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[AgentClient]:
    """A client on a bus for as long as the block runs."""
    bus = await MessageBus(address, bus_type=BusType.SESSION, negotiate_unix_fd=True).connect()
    try:
        yield AgentClient(bus)
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


def pipe(data: bytes) -> int:
    """The end of a pipe from which these bytes can be read."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def _tokens(signature: str) -> list[str]:
    return [each for each in signature.replace("ay", "A")]
