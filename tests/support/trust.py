"""The trust handler as a process on a side's bus, and what it remembers there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from telepathy_e2e.handler.book import AlarmEntry
from telepathy_e2e.handler.pins import Pin
from telepathy_e2e.handler.store import Store
from tests.support.side import TP, Side
from tests.support.waiting import PATIENCE, until

NAME = TP + "Client.E2ETrust"


class Trust:
    """``await Trust.start(side)``; ``stop`` is SIGTERM, ``kill`` is kill -9."""

    def __init__(self, side: Side, process: subprocess.Popen[bytes]) -> None:
        self.side = side
        self.process = process

    @classmethod
    async def start(cls, side: Side, *, settings: str = "") -> Trust:
        """A handler, and return when it can be asked.

        Args:
            settings: the user's file of settings.
        """
        _settings(side).parent.mkdir(parents=True, exist_ok=True)
        _settings(side).write_text(settings)
        with (side.directory / "trust.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "telepathy_e2e.handler"],
                env={**side._environment(), "XDG_CONFIG_HOME": str(side.directory / "config")},
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
            )
        trust = cls(side, process)
        await trust.ready()
        return trust

    async def ready(self) -> None:
        """It has the name, and has announced itself to the connections that there are."""
        deadline = time.monotonic() + PATIENCE
        while "ready, with" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            await asyncio.sleep(0.02)

    @property
    def log(self) -> str:
        return (self.side.directory / "trust.log").read_text(errors="replace")

    def settings(self, text: str) -> None:
        """The user changes his mind."""
        _settings(self.side).write_text(text)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, PATIENCE)
        assert "Traceback" not in self.log, self.log

    # -- what it remembers --------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return Store(self.side.directory / "data" / "telepathy-e2e")

    def pins(self) -> list[Pin]:
        return list(self.store.read())

    def alarms(self) -> list[AlarmEntry]:
        return self.store.read().alarms

    async def alarmed(self) -> list[AlarmEntry]:
        """Wait until there are alarms."""
        await until(self.alarms)
        return self.alarms()

    async def pinned(self, *methods: str) -> Pin:
        """Wait until there is a pin of these methods."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for pin in self.pins():
                if pin.methods == methods:
                    return pin
            assert time.monotonic() < deadline, f"{self.pins()}\n{self.log}"
            await asyncio.sleep(0.02)


def _settings(side: Side) -> Path:
    return side.directory / "config" / "telepathy-e2e" / "trust.toml"
