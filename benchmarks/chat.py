"""Contact lists and text, beside telepathy-haze (Debian) in the same run.

Both connection managers do the same on buses of their own against the same Prosody, which speaks
without TLS here: haze knows no authority but the system's. Ours is measured with TLS as well.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbus_fast import Variant

from tests.support import crowd
from tests.support.crowd import Reads
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, CONNECTION, PROPERTIES, REQUESTS, TP, Side

HAZE = Path("/usr/lib/telepathy/telepathy-haze")
TEXT = CHANNEL + ".Type.Text"
MESSAGES = CHANNEL + ".Interface.Messages"
CONTACT_LIST = CONNECTION + ".Interface.ContactList"
AVATARS = CONNECTION + ".Interface.Avatars"
# What a contact list shows of each contact.
ATTRIBUTES = [
    CONTACT_LIST,
    *(f"{CONNECTION}.Interface.{name}" for name in (
        "Aliasing", "SimplePresence", "ContactGroups", "Avatars", "ContactCapabilities",
    )),
]  # fmt: skip

CONTACTS = 2000
ROUND_TRIPS = 500
# Fewer than a channel keeps unread.
BURST, AT_ONCE = 900, 100
ACCOUNTS = 20

Row = Callable[[str, str, str], None]


def contact_list(count: int) -> str:
    """A shared group for Prosody: the first account has all the others on its list."""
    return "\n".join(f"friend{number}@example.test=Friend {number}" for number in range(count))


@dataclass(frozen=True)
class Manager:
    """A connection manager to be measured."""

    label: str
    name: str
    server: Prosody
    more: dict[str, Variant]

    @asynccontextmanager
    async def desktop(self) -> AsyncIterator[Desktop]:
        side = await Side.start("bench", daemon=False)
        if self.name == "haze":
            name = TP + "ConnectionManager.haze"
            (side.directory / "services" / f"{name}.service").write_text(
                f"[D-BUS Service]\nName={name}\nExec={HAZE}\n"
            )
            await side.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "ReloadConfig",
            )
        try:
            yield Desktop(self, side)
        finally:
            await side.stop()


class Desktop:
    """A bus with one connection manager."""

    def __init__(self, manager: Manager, side: Side) -> None:
        self._manager = manager
        self._side = side

    async def connect(self, account: str) -> Account:
        """A new connection, and how long it took from Connect to Connected."""
        connection = await self.request(account)
        await connection.connect()
        return connection

    def reading(self, account: Account) -> AbstractAsyncContextManager[Reads]:
        """See ``crowd.reading``."""
        return crowd.reading(self._side.address, account.bus_name, account.path)

    async def request(self, account: str) -> Account:
        """A new connection that is still offline."""
        server, side = self._manager.server, self._side
        parameters = {
            "account": Variant("s", server.jid(account)),
            "password": Variant("s", server.password),
            "server": Variant("s", server.host),
            "port": Variant("q", server.port),
            **self._manager.more,
        }
        name = TP + "ConnectionManager." + self._manager.name
        bus_name, path = await side.call(
            name,
            "/" + name.replace(".", "/"),
            TP + "ConnectionManager",
            "RequestConnection",
            "sa{sv}",
            "jabber",
            parameters,
        )
        return Account(side, bus_name, path)

    async def memory(self) -> float:
        """Resident MB of the connection manager."""
        pid = await self._side.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "GetConnectionUnixProcessID",
            "s",
            TP + "ConnectionManager." + self._manager.name,
        )
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
        raise ValueError("no VmRSS")


class Account:
    """One connection."""

    def __init__(self, side: Side, bus_name: str, path: str) -> None:
        self._side = side
        self.bus_name = bus_name
        self.path = path
        self.seconds = 0.0

    async def connect(self) -> None:
        """Go online."""
        started = time.perf_counter()
        await self.call(self.path, CONNECTION, "Connect")
        await self.signal("StatusChanged", lambda body: body[0] == 0)
        self.seconds = time.perf_counter() - started

    async def all_there(self, count: int) -> list[int]:
        """Wait until so many contacts are shown as being there; their handles."""
        found: dict[int, None] = {}

        def more(body: tuple[Any, ...]) -> bool:
            found.update((each, None) for each, shown in body[0].items() if shown[0] == 3)
            return len(found) >= count

        await self.signal("PresencesChanged", more)
        self._side.signals.clear()
        return list(found)

    async def retrieved(self, count: int) -> None:
        """Wait for so many pictures."""
        found: set[int] = set()

        while len(found) < count:
            await self.signal("AvatarRetrieved", lambda body: body[0] not in found)
            for each in self._side.signals:
                if each.member == "AvatarRetrieved":
                    found.add(each.body[0])
            self._side.signals.clear()

    async def enter(self, room: str) -> None:
        """Join a room."""
        request = {
            CHANNEL + ".ChannelType": Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": Variant("u", 2),
            CHANNEL + ".TargetID": Variant("s", room),
        }
        await self.call(self.path, REQUESTS, "CreateChannel", "a{sv}", request)

    async def call(self, path: str, interface: str, member: str, *more: Any) -> Any:
        return await self._side.call(self.bus_name, path, interface, member, *more)

    async def signal(
        self, member: str, matches: Callable[[tuple[Any, ...]], bool], timeout: float = 60
    ) -> Any:
        return await self._side.signal(
            lambda s: s.path.startswith(self.path) and s.member == member and matches(s.body),
            timeout=timeout,
        )

    async def talk_to(self, target: str) -> str:
        """A text channel."""
        request = {
            CHANNEL + ".ChannelType": Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", target),
        }
        _, channel, _ = await self.call(self.path, REQUESTS, "EnsureChannel", "a{sv}", request)
        return str(channel)

    async def say(self, channel: str, text: str) -> None:
        parts = [
            {"message-type": Variant("u", 0)},
            {"content-type": Variant("s", "text/plain"), "content": Variant("s", text)},
        ]
        await self.call(channel, MESSAGES, "SendMessage", "aa{sv}u", parts, 0)

    async def heard(self, text: str) -> None:
        """Wait for a message, and say that all up to it were read.

        Earlier signals are forgotten, so that looking stays cheap.
        """
        await self.signal("MessageReceived", lambda body: _text(body[0]) == text)
        read = [
            (each.path, each.body[0][0]["pending-message-id"])
            for each in self._side.signals
            if each.member == "MessageReceived" and each.path.startswith(self.path)
        ]
        self._side.signals.clear()
        await self.call(
            read[0][0], TEXT, "AcknowledgePendingMessages", "au", [id for _, id in read]
        )


def _text(parts: list[dict[str, Any]]) -> str:
    return "".join(str(part.get("content", "")) for part in parts[1:])


async def connecting(manager: Manager, row: Row) -> None:
    times = []
    for _ in range(10):
        async with manager.desktop() as desktop:
            warm = await desktop.connect("carol")  # what is imported or loaded once
            times.append((await desktop.connect("alice")).seconds)
            del warm
    row(
        f"Connect to Connected, {manager.label}",
        f"{statistics.median(times) * 1000:.0f} ms",
        "median of 10, with another account online already",
    )


async def talking(manager: Manager, row: Row) -> None:
    async with manager.desktop() as desktop:
        alice, bob = await desktop.connect("alice"), await desktop.connect("bob")
        there = await alice.talk_to(manager.server.jid("bob"))
        back = await bob.talk_to(manager.server.jid("alice"))
        await alice.say(there, "hello")
        await bob.heard("hello")
        times = []
        for number in range(ROUND_TRIPS):
            started = time.perf_counter()
            await alice.say(there, f"ping {number}")
            await bob.heard(f"ping {number}")
            await bob.say(back, f"pong {number}")
            await alice.heard(f"pong {number}")
            times.append((time.perf_counter() - started) / 2)
        row(
            f"text from SendMessage to MessageReceived, p50 / p99, {manager.label}",
            f"{_percentile(times, 0.5):.1f} / {_percentile(times, 0.99):.1f} ms",
            f"half of {ROUND_TRIPS} round trips",
        )
        started = time.perf_counter()
        for first in range(0, BURST, AT_ONCE):
            await asyncio.gather(
                *(alice.say(there, f"burst {first + number}") for number in range(AT_ONCE))
            )
        await bob.heard(f"burst {BURST - 1}")
        rate = BURST / (time.perf_counter() - started)
        row(f"messages a second, {manager.label}", f"{rate:.0f}", f"{BURST}, {AT_ONCE} at a time")


def _percentile(times: list[float], which: float) -> float:
    return sorted(times)[int(len(times) * which)] * 1000


async def listing(manager: Manager, row: Row) -> None:
    async with manager.desktop() as desktop:
        warm = await desktop.connect("carol")
        started = time.perf_counter()
        popular = await desktop.connect("popular")
        del warm
        loaded = await _loaded(popular)
        row(
            f"Connect to {CONTACTS} contacts known, {manager.label}",
            f"{(loaded - started) * 1000:.0f} ms",
            "with another account online already",
        )
        times, sizes = [], set()
        for _ in range(10):
            started = time.perf_counter()
            shown = await popular.call(
                popular.path, CONTACT_LIST, "GetContactListAttributes", "asb", ATTRIBUTES, False
            )
            times.append(time.perf_counter() - started)
            sizes.add(len(shown))
        row(
            f"GetContactListAttributes, {manager.label}",
            f"{statistics.median(times) * 1000:.0f} ms",
            f"{min(sizes)} contacts, {len(ATTRIBUTES)} interfaces, median of 10",
        )


async def _loaded(account: Account) -> float:
    for _ in range(600):
        state = await account.call(
            account.path, PROPERTIES, "Get", "ss", CONTACT_LIST, "ContactListState"
        )
        if state == 3:
            return time.perf_counter()
        await asyncio.sleep(0.01)
    raise RuntimeError("the contact list never came")


async def crowded(row: Row) -> None:
    """Ours alone, with TLS: everything at once, and how long another program waits for a read."""
    server = await asyncio.to_thread(crowd.start)
    more = {"ca-file": Variant("s", str(server.ca_file))}
    try:
        async with Manager("with TLS", "e2e", server, more).desktop() as desktop:
            popular = await desktop.request("popular")
            async with desktop.reading(popular) as reads:
                started = time.perf_counter()
                await popular.connect()
                await _loaded(popular)
                handles = await popular.all_there(CONTACTS)
                seconds = time.perf_counter() - started
            row(
                f"Connect to {CONTACTS} contacts and their presence",
                f"{seconds:.1f} s",
                f"a read meanwhile, p50 / p99: {reads.shown()}",
            )
            async with desktop.reading(popular) as reads:
                started = time.perf_counter()
                await popular.call(popular.path, AVATARS, "RequestAvatars", "au", handles)
                await popular.retrieved(len(handles))
                seconds = time.perf_counter() - started
            row(
                f"{CONTACTS} pictures of {len(crowd.picture()) / 1000:.0f} kB",
                f"{seconds:.1f} s",
                f"a read meanwhile, p50 / p99: {reads.shown()}",
            )
            async with desktop.reading(popular) as reads:
                started = time.perf_counter()
                await asyncio.gather(
                    *(popular.enter(crowd.room(number)) for number in range(crowd.ROOMS))
                )
                seconds = time.perf_counter() - started
            row(
                f"{crowd.ROOMS} rooms of {crowd.MEMBERS} entered",
                f"{seconds:.1f} s",
                f"a read meanwhile, p50 / p99: {reads.shown()}",
            )
            row("resident with all of them", f"{await desktop.memory():.1f} MB", "")
    finally:
        await asyncio.to_thread(server.stop)


async def growing(manager: Manager, row: Row) -> None:
    async with manager.desktop() as desktop:
        kept = [await desktop.connect("many0")]
        await asyncio.sleep(1)
        one = await desktop.memory()
        for number in range(1, ACCOUNTS):
            kept.append(await desktop.connect(f"many{number}"))
        await asyncio.sleep(1)
        each = (await desktop.memory() - one) / (ACCOUNTS - 1)
        row(
            f"memory for each further connection, {manager.label}",
            f"{each:.2f} MB",
            f"{one:.1f} MB with one",
        )


async def run(row: Row) -> None:
    """All of it, for each connection manager that is here."""
    os.environ["TELEPATHY_E2E_DEBUG"] = ""
    many = [f"many{number}" for number in range(ACCOUNTS)]
    servers = [await asyncio.to_thread(_server, encryption, many) for encryption in (True, False)]
    try:
        secure, clear = servers
        managers = [
            Manager("with TLS", "e2e", secure, {"ca-file": Variant("s", str(secure.ca_file))}),
            Manager("without", "e2e", clear, {"require-encryption": Variant("b", False)}),
        ]
        if HAZE.exists():
            plain = {"require-encryption": Variant("b", False)}
            managers.append(Manager("haze, without", "haze", clear, plain))
        for part in (connecting, talking, listing, growing):
            for manager in managers:
                await part(manager, row)
        await crowded(row)
    finally:
        for server in servers:
            await asyncio.to_thread(server.stop)


def _server(encryption: bool, many: list[str]) -> Prosody:
    server = Prosody.start(accounts=("alice", "bob", "carol"), encryption=encryption)
    for name in ("popular", *many):
        server.add_account(name, server.password)
    server.set_roster(
        "popular",
        {f"friend{number}@example.test": f"Friend {number}" for number in range(CONTACTS)},
    )
    return server


def available() -> str:
    """Which haze is compared with."""
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "telepathy-haze"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout or "none"
