"""A private message bus, and a client that sees every message on it in the order of arrival."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from telepathy_e2e.bus.wire import _be_patient
from tests.support.waiting import PATIENCE

# The limits are those of the session bus: its own ones are for no desktop.
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<servicedir>{services}</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy>
<limit name="max_replies_per_connection">50000</limit>
<limit name="service_start_timeout">120000</limit>
<limit name="auth_timeout">240000</limit>
</busconfig>"""

PROPERTIES = "org.freedesktop.DBus.Properties"
WAIT = PATIENCE


def available() -> bool:
    """Whether dbus-daemon is installed here."""
    return shutil.which("dbus-daemon") is not None


class PrivateBus:
    """A dbus-daemon of the test's own; services can be activated from ``services``."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], address: str) -> None:
        self.directory = directory
        self.services = directory / "services"
        self.process = process
        self.address = address

    @classmethod
    def start(cls, environment: dict[str, str] | None = None) -> PrivateBus:
        """Start one, and return when it accepts connections.

        Args:
            environment: of the bus, and of what it activates.
        """
        directory = Path(tempfile.mkdtemp(prefix="tpe2e-bus-"))
        (directory / "services").mkdir()
        config = directory / "bus.conf"
        config.write_text(CONFIG.format(path=directory / "bus", services=directory / "services"))
        process = subprocess.Popen(
            [
                "dbus-daemon",
                f"--config-file={config}",
                "--nofork",
                "--nopidfile",
                "--print-address",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        return cls(directory, process, address)

    def stop(self) -> None:
        """End it, if it is not dead yet, and remove its files."""
        self.process.terminate()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class RawClient:
    """A client at the level of messages. ``log`` has everything that came, replies included."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.log: list[Message] = []
        self._news = asyncio.Event()

    @classmethod
    async def connect(cls, address: str, *, listen: bool = True) -> RawClient:
        client = cls(await MessageBus(address).connect())
        _be_patient(client.bus)
        client.bus.add_message_handler(client._received)
        if listen:
            await client.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "AddMatch",
                "s",
                "type='signal'",
            )
        return client

    async def close(self) -> None:
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
    ) -> Message:
        """The reply as it came, good or bad."""
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        reply = await asyncio.wait_for(self.bus.call(message), WAIT)
        assert reply is not None
        return reply

    async def error(self, *call: Any) -> str:
        """The name of the error that a call must end in."""
        reply = await self.call(*call)
        assert reply.message_type is MessageType.ERROR, reply.body
        return str(reply.error_name)

    async def value(self, *call: Any) -> Any:
        """The first value of the reply that a call must end in."""
        reply = await self.call(*call)
        assert reply.message_type is MessageType.METHOD_RETURN, reply.body
        return reply.body[0] if reply.body else None

    async def until(self, matches: Callable[[Message], bool]) -> Message:
        """The first message so far, or to come, that matches."""
        async with asyncio.timeout(WAIT):
            while True:
                for each in self.log:
                    if matches(each):
                        return each
                self._news.clear()
                await self._news.wait()

    async def signal(self, member: str, path: str | None = None) -> Message:
        return await self.until(
            lambda m: (
                m.message_type is MessageType.SIGNAL
                and m.member == member
                and path in (None, m.path)
            )
        )

    def signals(self, member: str) -> list[Message]:
        return [m for m in self.log if m.message_type is MessageType.SIGNAL and m.member == member]

    def _received(self, message: Message) -> None:
        self.log.append(message)
        self._news.set()


@asynccontextmanager
async def client_of(bus: PrivateBus) -> AsyncIterator[RawClient]:
    """A client for as long as the block runs."""
    client = await RawClient.connect(bus.address)
    try:
        yield client
    finally:
        if client.bus.connected:
            await client.close()
