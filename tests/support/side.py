"""One person's desktop in a test: a private bus, a daemon on it, and a bus client that sees all.

``Side`` speaks D-Bus at the level of messages: what it shows of the daemon is what is on the wire.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.support.waiting import PATIENCE

TP = "org.freedesktop.Telepathy."
CM_NAME = TP + "ConnectionManager.e2e"
CM_PATH = "/org/freedesktop/Telepathy/ConnectionManager/e2e"
AGENT_NAME = TP + "E2E.KeyAgent"
AGENT_PATH = "/org/freedesktop/Telepathy/E2E/KeyAgent"
AGENT = AGENT_NAME + "1"
CHANNEL = TP + "Channel"
FILE_TRANSFER = CHANNEL + ".Type.FileTransfer"
VERIFICATION = CHANNEL + ".Type.PeerVerification1"
CERTIFICATE_REQUEST = CHANNEL + ".Type.CertificateRequest1"
SECURABLE = CHANNEL + ".Interface.Securable"
E2E = CHANNEL + ".Interface.EndToEndSecurity1"
CONNECTION = TP + "Connection"
REQUESTS = CONNECTION + ".Interface.Requests"
CAPABILITIES = CONNECTION + ".Interface.ContactCapabilities"
PROPERTIES = "org.freedesktop.DBus.Properties"

WAIT = PATIENCE

# The limits are those of the session bus: its own ones are for no desktop.
BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<servicedir>{services}</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy>
<limit name="max_replies_per_connection">50000</limit>
<limit name="service_start_timeout">120000</limit>
<limit name="auth_timeout">240000</limit>
</busconfig>"""


class DBusFailure(Exception):
    """An error reply."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


@dataclass(frozen=True)
class Signal:
    """A signal as it came."""

    path: str
    interface: str
    member: str
    body: tuple[Any, ...]


def plain(value: Any) -> Any:
    """Without variants."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(v) for v in value)
    return value


class Side:
    """One person's desktop; use ``await Side.start(name)`` and ``await stop()``."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.signals: list[Signal] = []
        self.connection = ""
        self.bus_name = ""
        self.within: tuple[str, ...] = ()
        self.daemon: subprocess.Popen[bytes] | None = None
        self._dbus: subprocess.Popen[bytes] | None = None
        self._bus: MessageBus | None = None
        self._news = asyncio.Event()

    @classmethod
    async def start(
        cls,
        name: str,
        *,
        env: dict[str, str] | None = None,
        daemon: bool = True,
        within: tuple[str, ...] = (),
    ) -> Side:
        """A bus, and a daemon on it, or (``daemon=False``) one that can be activated.

        Args:
            within: a command that runs the daemon somewhere else, in front of the daemon's.
        """
        side = cls(name, Path(tempfile.mkdtemp(prefix=f"tpe2e-{name}-")))
        side.within = within
        await side._start_bus()
        if daemon:
            await side.start_daemon(env or {})
        return side

    @property
    def address(self) -> str:
        return f"unix:path={self.directory / 'bus'}"

    @property
    def log(self) -> str:
        return (self.directory / "daemon.log").read_text(errors="replace")

    async def _start_bus(self) -> None:
        services = self.directory / "services"
        services.mkdir()
        for name, module in ((CM_NAME, "telepathy_e2e"), (AGENT_NAME, "telepathy_e2e.agent")):
            (services / f"{name}.service").write_text(
                f"[D-BUS Service]\nName={name}\nExec={sys.executable} -m {module}\n"
            )
        config = self.directory / "bus.conf"
        config.write_text(BUS_CONFIG.format(path=self.directory / "bus", services=services))
        self._dbus = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment(),
            cwd=Path(__file__).parents[2],
        )
        await self._until(lambda: _accepts(self.directory / "bus"))
        self._bus = await MessageBus(self.address, bus_type=BusType.SESSION).connect()
        self._bus.add_message_handler(self._received)
        await self.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
            "s",
            "type='signal'",
        )

    async def start_daemon(self, env: dict[str, str]) -> None:
        environment = {**self._environment(), **env}
        with (self.directory / "daemon.log").open("ab") as output:
            self.daemon = subprocess.Popen(
                [*self.within, sys.executable, "-m", "telepathy_e2e", "--persist"],
                env=environment,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
            )
        deadline = time.monotonic() + WAIT
        while not await self.has_owner(CM_NAME):
            if self.daemon.poll() is not None:
                raise AssertionError(f"the daemon died:\n{self.log}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the daemon did not come up:\n{self.log}")
            await asyncio.sleep(0.02)

    def _environment(self) -> dict[str, str]:
        return {
            "TELEPATHY_E2E_DEBUG": "all",
            "MALLOC_ARENA_MAX": "1",  # as in the activation file
            **os.environ,
            "DBUS_SESSION_BUS_ADDRESS": self.address,
            "XDG_DATA_HOME": str(self.directory / "data"),
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "XDG_RUNTIME_DIR": str(self.directory),
        }

    async def activate(self) -> None:
        """The first call, which makes the bus start the daemon."""
        await self.call(CM_NAME, CM_PATH, PROPERTIES, "GetAll", "s", TP + "ConnectionManager")

    async def has_owner(self, name: str) -> bool:
        return bool(
            await self.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "NameHasOwner",
                "s",
                name,
            )
        )

    def kill_daemon(self) -> None:
        """kill -9, and gone when this returns."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def kill_bus(self) -> None:
        """kill -9 of the bus, and gone when this returns."""
        if self._dbus is not None:
            self._dbus.kill()
            self._dbus.wait()

    async def stop(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
        for process in (self.daemon, self._dbus):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.to_thread(process.wait, WAIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- calls ------------------------------------------------------------------------------

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *args: Any,
    ) -> Any:
        """The reply's only value, or the list of them, without variants."""
        if self._bus is None:
            raise AssertionError("not started")
        reply = await self._bus.call(
            Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(args),
            )
        )
        if reply is None or reply.message_type is MessageType.ERROR:
            assert reply is not None
            raise DBusFailure(str(reply.error_name), str(reply.body[0]) if reply.body else "")
        body = [plain(value) for value in reply.body]
        return body[0] if len(body) == 1 else body

    async def cm(
        self, path: str, interface: str, member: str, signature: str = "", *args: Any
    ) -> Any:
        """Call an object of the connection."""
        return await self.call(self.bus_name, path, interface, member, signature, *args)

    async def get(self, path: str, interface: str, name: str) -> Any:
        return await self.cm(path, PROPERTIES, "Get", "ss", interface, name)

    async def get_all(self, path: str, interface: str) -> dict[str, Any]:
        return dict(await self.cm(path, PROPERTIES, "GetAll", "s", interface))

    # -- an account -------------------------------------------------------------------------

    async def request_connection(self, parameters: dict[str, Variant]) -> None:
        self.bus_name, self.connection = await self.call(
            CM_NAME,
            CM_PATH,
            TP + "ConnectionManager",
            "RequestConnection",
            "sa{sv}",
            "jabber",
            parameters,
        )

    async def connect(self, parameters: dict[str, Variant], *, handles: tuple[str, ...]) -> None:
        """Request, announce what a client here handles, connect, and wait until connected."""
        await self.request_connection(parameters)
        await self.announce(handles)
        await self.cm(self.connection, CONNECTION, "Connect")
        told = await self.signal(
            lambda s: (
                s.member == "StatusChanged" and s.path == self.connection and s.body[0] in (0, 2)
            )
        )
        # Not by asking it: one that could not connect is gone, and the error of the bus would hide
        # why.
        if told.body[0] != 0:
            raise AssertionError(f"{self.name} is not connected:\n{self.log}")

    async def announce(self, channel_types: tuple[str, ...], client: str = "test") -> None:
        filters = [
            {
                CHANNEL + ".ChannelType": Variant("s", each),
                CHANNEL + ".TargetHandleType": Variant("u", 1),
            }
            for each in channel_types
        ]
        await self.cm(
            self.connection,
            CAPABILITIES,
            "UpdateCapabilities",
            "a(saa{sv}as)",
            [[TP + "Client." + client, filters, []]],
        )

    async def offer_file(self, target: str, name: str, size: int, **more: Variant) -> str:
        """CreateChannel for a file; ``more`` are properties of FileTransfer, or qualified names."""
        request = {
            CHANNEL + ".ChannelType": Variant("s", FILE_TRANSFER),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", target),
            FILE_TRANSFER + ".Filename": Variant("s", name),
            FILE_TRANSFER + ".Size": Variant("t", size),
            FILE_TRANSFER + ".ContentType": Variant("s", "application/octet-stream"),
        }
        for key, value in more.items():
            request[key if "." in key else f"{FILE_TRANSFER}.{key}"] = value
        path, _ = await self.cm(self.connection, REQUESTS, "CreateChannel", "a{sv}", request)
        return str(path)

    # -- signals ----------------------------------------------------------------------------

    def _received(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path:
            self.signals.append(
                Signal(
                    message.path,
                    str(message.interface),
                    str(message.member),
                    tuple(plain(value) for value in message.body),
                )
            )
            self._news.set()

    async def signal(self, matches: Callable[[Signal], bool], *, timeout: float = WAIT) -> Signal:
        """The first signal so far, or to come, that matches."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for each in self.signals:
                        if matches(each):
                            return each
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = "\n".join(f"{s.path} {s.member} {s.body}" for s in self.signals[-40:])
            raise AssertionError(f"{self.name} waited in vain; seen:\n{seen}\n{self.log}") from None

    async def new_channel(self, channel_type: str, *, skip: int = 0) -> tuple[str, dict[str, Any]]:
        """The (skip+1)-th channel of this type that was announced and not requested."""

        def found() -> list[tuple[str, dict[str, Any]]]:
            return [
                (path, properties)
                for each in self.signals
                if each.member == "NewChannels"
                for path, properties in each.body[0]
                if properties[CHANNEL + ".ChannelType"] == channel_type
                and not properties[CHANNEL + ".Requested"]
            ]

        await self.signal(lambda _: len(found()) > skip)
        return found()[skip]

    async def state(self, path: str, *states: int, timeout: float = WAIT) -> tuple[int, int]:
        """Wait until a transfer is in one of these states; (state, reason) of that change."""
        found = await self.signal(
            lambda s: (
                s.path == path and s.member == "FileTransferStateChanged" and s.body[0] in states
            ),
            timeout=timeout,
        )
        return found.body[0], found.body[1]

    async def changed(self, path: str, interface: str, name: str, value: Any) -> None:
        """Wait until PropertiesChanged told that the property has this value."""
        await self.signal(
            lambda s: (
                s.path == path
                and s.member == "PropertiesChanged"
                and s.body[0] == interface
                and s.body[1].get(name) == value
            )
        )

    # -- files ------------------------------------------------------------------------------

    async def provide(self, path: str, data: bytes, *, timeout: float = WAIT) -> None:
        """ProvideFile over a unix socket, then the bytes once the transfer is open.

        Args:
            timeout: seconds until it is.
        """
        call = (path, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
        ends = await self._connected(path, self.cm(*call))
        if ends is None:
            return
        reader, writer = ends
        await self.state(path, 3, 5, timeout=timeout)
        try:
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(self, path: str, *, offset: int = 0) -> bytes:
        """AcceptFile over a unix socket; what came until the end."""
        call = (path, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), offset)
        ends = await self._connected(path, self.cm(*call))
        if ends is None:
            return b""
        reader, writer = ends
        got = bytearray()
        try:
            while block := await reader.read(1 << 18):
                got += block
        except ConnectionError:
            pass  # a transfer that failed; its state says so
        finally:
            writer.close()
        return bytes(got)

    async def _connected(
        self, path: str, asked: Awaitable[Any]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The socket of a transfer; None: it was over before we got there, as its state says.

        Args:
            asked: the call that answers where the socket is.
        """
        try:
            return await asyncio.open_unix_connection(os.fsdecode(await asked))
        except DBusFailure as error:
            if error.name != TP + "Error.NotAvailable":
                raise
            if not any(self._ended(path, each) for each in self.signals):
                raise  # it is not to be had for another reason
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        await self.state(path, 5)
        return None

    @staticmethod
    def _ended(path: str, told: Signal) -> bool:
        return (told.path, told.member, told.body[:1]) == (path, "FileTransferStateChanged", (5,))

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                await asyncio.sleep(0.01)


def descriptors(side: Side) -> int:
    """How many its daemon has open."""
    assert side.daemon is not None
    return len(os.listdir(f"/proc/{side.daemon.pid}/fd"))


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True
