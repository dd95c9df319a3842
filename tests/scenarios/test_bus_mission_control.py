"""Mission Control, the account manager that desktops have, logs an account in and out."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Message, Variant

from tests.support.bus import PROPERTIES, WAIT, PrivateBus, RawClient, available, client_of
from tests.support.prosody import PASSWORD, Prosody

ROOT = Path(__file__).parents[2]
SERVICES = Path("/usr/share/dbus-1/services")
MISSION_CONTROL = (
    "org.freedesktop.Telepathy.MissionControl5.service",
    "org.freedesktop.Telepathy.AccountManager.service",
)

TP = "org.freedesktop.Telepathy."
CM_NAME = TP + "ConnectionManager.e2e"
ACCOUNTS = TP + "AccountManager"
ACCOUNTS_PATH = "/org/freedesktop/Telepathy/AccountManager"
ACCOUNT = TP + "Account"

pytestmark = pytest.mark.skipif(
    not available() or not all((SERVICES / each).is_file() for each in MISSION_CONTROL),
    reason="Mission Control is not installed",
)


class Accounts:
    """Mission Control's one account, as a desktop sees it."""

    def __init__(self, client: RawClient, path: str) -> None:
        self.client = client
        self.path = path

    @classmethod
    async def create(cls, client: RawClient, server: Prosody, password: str) -> Accounts:
        parameters = {
            "account": Variant("s", server.jid("alice")),
            "password": Variant("s", password),
            "server": Variant("s", server.host),
            "port": Variant("q", server.port),
            "ca-file": Variant("s", str(server.ca_file)),
        }
        path = await client.value(
            ACCOUNTS,
            ACCOUNTS_PATH,
            ACCOUNTS,
            "CreateAccount",
            "sssa{sv}a{sv}",
            "e2e",
            "jabber",
            "Alice",
            parameters,
            {ACCOUNT + ".Enabled": Variant("b", True)},
        )
        return cls(client, path)

    async def request(self, kind: int, status: str, message: str) -> None:
        wanted = Variant("(uss)", (kind, status, message))
        target = (ACCOUNTS, self.path, PROPERTIES)
        await self.client.value(*target, "Set", "ssv", ACCOUNT, "RequestedPresence", wanted)

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The account's properties as soon as they are as wanted."""
        async with asyncio.timeout(WAIT):
            while True:
                seen = self._changes
                target = (ACCOUNTS, self.path, PROPERTIES)
                found = await self.client.value(*target, "GetAll", "s", ACCOUNT)
                shown = {name: value.value for name, value in found.items()}
                if holds(shown):
                    return shown
                await self.client.until(partial(self._changed_since, seen))

    @property
    def _changes(self) -> int:
        return len(self.client.signals("AccountPropertyChanged"))

    def _changed_since(self, seen: int, _: Message) -> bool:
        return self._changes > seen


@pytest_asyncio.fixture(params=["with a .manager file", "asking the daemon"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RawClient]:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    if request.param == "with a .manager file":
        (tmp_path / "telepathy" / "managers").mkdir(parents=True)
        shutil.copy(
            ROOT / "data" / "dbus-services" / "e2e.manager", tmp_path / "telepathy" / "managers"
        )
    homes = ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    bus = PrivateBus.start(
        {
            **os.environ,
            **dict.fromkeys(homes, str(tmp_path)),
            # Its settings schema is there.
            "XDG_DATA_DIRS": "/usr/share",
            "XDG_RUNTIME_DIR": str(runtime),
            "PYTHONPATH": str(ROOT),
        }
    )
    for each in MISSION_CONTROL:
        shutil.copy(SERVICES / each, bus.services)
    (bus.services / f"{CM_NAME}.service").write_text(
        f"[D-BUS Service]\nName={CM_NAME}\nExec={sys.executable} -m telepathy_e2e\n"
    )
    try:
        async with client_of(bus) as found:
            yield found
    finally:
        bus.stop()


async def test_an_account_comes_online_with_its_presence_and_goes(
    client: RawClient, prosody: Prosody
) -> None:
    account = await Accounts.create(client, prosody, PASSWORD)
    await account.request(2, "available", "hello")
    shown = await account.until(
        lambda a: a["CurrentPresence"] == (2, "available", "hello") and a["ConnectionStatus"] == 0
    )
    name = shown["Connection"][1:].replace("/", ".")
    await account.request(1, "offline", "")
    await client.until(
        lambda m: m.member == "NameOwnerChanged" and m.body[0] == name and not m.body[2]
    )
    shown = await account.until(lambda a: a["ConnectionStatus"] == 2)
    assert (shown["ConnectionStatusReason"], shown["ConnectionError"]) == (1, "")


async def test_a_wrong_password_is_shown_as_one(client: RawClient, prosody: Prosody) -> None:
    account = await Accounts.create(client, prosody, "wrong")
    await account.request(2, "available", "")
    shown = await account.until(lambda a: bool(a["ConnectionError"]))
    assert shown["ConnectionStatus"] == 2
    assert shown["ConnectionStatusReason"] == 3
    assert shown["ConnectionError"] == TP + "Error.AuthenticationFailed"
