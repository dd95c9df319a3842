"""The trust handler as it is installed: Mission Control starts it for a question, by its filter."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telepathy_e2e.handler.book import Book
from telepathy_e2e.handler.pins import LEAP_OF_FAITH, Alarm, Pin
from telepathy_e2e.handler.store import Store
from tests.support.mission_control import Desktop, available, mission_control
from tests.support.pair import Pair, parameters
from tests.support.programs import Program, lacks, program
from tests.support.prosody import Prosody
from tests.support.side import E2E, FILE_TRANSFER, SECURABLE, VERIFICATION, Side
from tests.support.trust import NAME
from tests.support.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

pytestmark = [
    pytest.mark.skipif(
        bool(NO_GLIB) or not available(), reason=NO_GLIB or "Mission Control is missing"
    ),
]

BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class Scene:
    """Alice as everywhere; Bob has Mission Control, a program for files, and what is installed."""

    def __init__(self, server: Prosody, alice: Side, bob: Desktop, files: Program) -> None:
        self.server, self.alice, self.bob, self.files = server, alice, bob, files
        self.store = Store(bob.home / "telepathy-e2e")
        self._questions = 0

    async def runs(self) -> bool:
        return bool(await self.bob.client.value(*BUS, "NameHasOwner", "s", NAME))

    async def kill_handler(self) -> None:
        number = await self.bob.client.value(*BUS, "GetConnectionUnixProcessID", "s", NAME)
        os.kill(number, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while await self.runs():
                await asyncio.sleep(0.02)

    async def offer(self, data: bytes) -> str:
        """Alice offers Bob a file."""
        await Pair(self.server, self.alice, self.alice).sees(self.alice, self.server.jid("bob"))
        return await self.alice.offer_file(self.server.jid("bob"), "file.bin", len(data))

    async def asked(self) -> str:
        """The path of the next question that Bob's connection puts."""

        def questions() -> list[str]:
            return [
                path
                for message in self.bob.client.signals("NewChannels")
                for path, properties in message.body[0]
                if VERIFICATION in str(properties)
            ]

        await self.bob.client.until(lambda _: len(questions()) > self._questions)
        self._questions += 1
        return questions()[self._questions - 1]

    async def finished(self, path: str) -> list[Any]:
        return list((await self.bob.client.signal("Finished", path)).body[:2])

    async def pinned(self, *methods: str) -> Pin:
        async with asyncio.timeout(PATIENCE):
            while True:
                for pin in self.store.read():
                    if pin.methods == methods:
                        return pin
                await asyncio.sleep(0.02)


@asynccontextmanager
async def scene(server: Prosody, file: Path) -> AsyncIterator[Scene]:
    alice = await Side.start("alice")
    try:
        await alice.connect(parameters(server, server.jid("alice")), handles=(FILE_TRANSFER,))
        async with mission_control() as desktop, AsyncExitStack() as stack:
            clients = desktop.home / "telepathy" / "clients"
            clients.mkdir(parents=True)
            shutil.copy(ROOT / "data" / "telepathy-clients" / "E2ETrust.client", clients)
            (desktop.bus.services / f"{NAME}.service").write_text(
                f"[D-BUS Service]\nName={NAME}\nExec={sys.executable} -m telepathy_e2e.handler\n"
            )
            await desktop.client.value(*BUS, "ReloadConfig")
            account = parameters(server, server.jid("bob"))
            await desktop.log_in(account)
            files = await stack.enter_async_context(
                program("glib_handler", desktop.address, "TestFiles", "files", str(file))
            )
            await files.event("registered")
            yield Scene(server, alice, desktop, files)
    finally:
        await alice.stop()


async def test_it_is_started_for_a_question_and_answers_from_memory(
    prosody: Prosody, tmp_path: Path
) -> None:
    data = secrets.token_bytes(100_000)
    async with scene(prosody, tmp_path / "got") as s:
        assert not await s.runs()
        # A stranger: started, let through, remembered.
        mine = await s.offer(data)
        await s.alice.provide(mine, data)
        assert await s.alice.state(mine, 4, 5) == (4, 0)
        assert await s.finished(await s.asked()) == ["unverified", ""]
        pin = await s.pinned(LEAP_OF_FAITH)
        assert (pin.account, pin.contact) == (prosody.jid("bob"), prosody.jid("alice"))

        # Verified meanwhile (by tpe2e trust import, say), and the handler was killed: it is started
        # again for the next question, and the pin answers.
        def verify(book: Book) -> None:
            book.put(replace(pin, methods=("sas",)))

        s.store.update(verify)
        await s.kill_handler()
        mine = await s.offer(data)
        await s.alice.provide(mine, data)
        assert await s.alice.state(mine, 4, 5) == (4, 0)
        path = await s.asked()
        assert await s.finished(path) == ["verified", "pin"]
        assert await s.runs()
        await until(lambda: len(s.files.events("written")) == 2)
        handled = s.files.events("handling")[1]["path"]
        assert await s.bob.get_all(handled, SECURABLE) == {"Encrypted": True, "Verified": True}
        assert (await s.bob.get_all(handled, E2E))["VerifiedBy"] == "pin"
        assert s.store.read().alarms == []


async def test_started_for_a_changed_key_it_leaves_the_question_open(
    prosody: Prosody, tmp_path: Path
) -> None:
    data = secrets.token_bytes(100_000)
    async with scene(prosody, tmp_path / "got") as s:
        mine = await s.offer(data)
        await s.alice.provide(mine, data)
        await s.asked()
        pin = await s.pinned(LEAP_OF_FAITH)

        def another(book: Book) -> None:
            book.forget(pin)
            book.put(replace(pin, fingerprint=":".join(["AB"] * 32), methods=("sas",)))

        s.store.update(another)
        await s.kill_handler()
        mine = await s.offer(data)
        sending = asyncio.ensure_future(s.alice.provide(mine, data))
        path = await s.asked()
        async with asyncio.timeout(PATIENCE):
            while not s.store.read().alarms:
                await asyncio.sleep(0.02)
        (alarm,) = s.store.read().alarms
        assert (alarm.kind, alarm.fingerprint) == (Alarm.CHANGED_KEY, pin.fingerprint)
        state = (await s.bob.get_all(path, VERIFICATION))["State"]
        assert state == "pending"
        # Alice, who trusts, may send; Bob's program gets nothing of it before the answer.
        await until(lambda: len(s.files.events("handling")) == 2)
        handled = s.files.events("handling")[1]["path"]
        assert (await s.bob.get_all(handled, FILE_TRANSFER))["TransferredBytes"] == 0
        await s.bob.cm(path, VERIFICATION, "Reject", "s", "no")
        assert (await s.alice.state(mine, 4, 5))[0] == 5
        await sending
