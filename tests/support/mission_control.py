"""A desktop with Mission Control, which starts the daemon and hands channels to handlers."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbus_fast import Message, Variant

from tests.support.bus import PROPERTIES, PrivateBus, RawClient, client_of
from tests.support.side import AGENT_NAME, CM_NAME, CONNECTION, TP, plain

ROOT = Path(__file__).parents[2]
SERVICES = Path("/usr/share/dbus-1/services")
NAMES = (
    "org.freedesktop.Telepathy.MissionControl5.service",
    "org.freedesktop.Telepathy.AccountManager.service",
)
MANAGER = TP + "AccountManager"
MANAGER_PATH = "/org/freedesktop/Telepathy/AccountManager"
ACCOUNT = TP + "Account"


def available() -> bool:
    """Whether Mission Control is installed here."""
    return all((SERVICES / each).is_file() for each in NAMES)


class Desktop:
    """A bus with Mission Control, one account in it, and a client that sees all."""

    def __init__(self, bus: PrivateBus, client: RawClient, home: Path) -> None:
        self.bus = bus
        self.client = client
        self.home = home
        self.account = ""
        self.connection = ""

    @property
    def address(self) -> str:
        return self.bus.address

    async def log_in(self, parameters: dict[str, Variant]) -> None:
        """Make an account with these parameters, and return when it is connected."""
        self.account = await self.client.value(
            *(MANAGER, MANAGER_PATH, MANAGER, "CreateAccount", "sssa{sv}a{sv}"),
            *("e2e", "jabber", "Bob", parameters, {ACCOUNT + ".Enabled": Variant("b", True)}),
        )
        presence = Variant("(uss)", (2, "available", ""))
        target = (MANAGER, self.account, PROPERTIES, "Set", "ssv", ACCOUNT)
        await self.client.value(*target, "RequestedPresence", presence)
        told = await self.client.until(
            lambda m: (
                m.member == "StatusChanged"
                and m.interface == CONNECTION
                and m.body[0] in (0, 2)
                and bool(m.path)
            )
        )
        assert told.body == [0, 1], told.body
        self.connection = str(told.path)

    async def cm(self, path: str, interface: str, member: str, *more: Any) -> Any:
        """Call an object of the connection."""
        name = self.connection[1:].replace("/", ".")
        return plain(await self.client.value(name, path, interface, member, *more))

    async def get_all(self, path: str, interface: str) -> dict[str, Any]:
        return dict(await self.cm(path, PROPERTIES, "GetAll", "s", interface))

    async def state(self, path: str, *states: int) -> tuple[int, int]:
        """Wait until a transfer is in one of these states; (state, reason) of that change."""

        def matches(message: Message) -> bool:
            return (
                message.member == "FileTransferStateChanged"
                and message.path == path
                and message.body[0] in states
            )

        found = await self.client.until(matches)
        return found.body[0], found.body[1]


@asynccontextmanager
async def mission_control() -> AsyncIterator[Desktop]:
    """A desktop for as long as the block runs."""
    home = Path(tempfile.mkdtemp(prefix="tpe2e-mc-"))
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    homes = ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    bus = PrivateBus.start(
        {
            **os.environ,
            **dict.fromkeys(homes, str(home)),
            # Its settings schema is there.
            "XDG_DATA_DIRS": "/usr/share",
            "XDG_RUNTIME_DIR": str(runtime),
            "PYTHONPATH": str(ROOT),
        }
    )
    for each in NAMES:
        shutil.copy(SERVICES / each, bus.services)
    for name, module in ((CM_NAME, "telepathy_e2e"), (AGENT_NAME, "telepathy_e2e.agent")):
        (bus.services / f"{name}.service").write_text(
            f"[D-BUS Service]\nName={name}\nExec={sys.executable} -m {module}\n"
        )
    try:
        async with client_of(bus) as client:
            yield Desktop(bus, client, home)
    finally:
        bus.stop()
        shutil.rmtree(home, ignore_errors=True)
