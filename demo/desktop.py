"""One person's desktop: a private session bus that starts the connection manager when needed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parents[1] / "data" / "dbus-services"
# Which program the bus starts for a name.
PROGRAMS = {
    "org.freedesktop.Telepathy.ConnectionManager.e2e": "telepathy-e2e",
    "org.freedesktop.Telepathy.E2E.KeyAgent": "telepathy-e2e-agent",
}

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<servicedir>{services}</servicedir>
<policy context="default"><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/><allow own="*"/></policy>
<limit name="service_start_timeout">120000</limit></busconfig>"""

# Seconds that anything may take before the demo says what hangs.
PATIENCE = 120.0


class Failed(Exception):
    """Something is off; the sentence says what."""


class Desktop:
    """A bus, and the programs that run on it. ``start`` it, ``stop`` it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir(mode=0o700)
        self._bus: subprocess.Popen[str] | None = None
        self._running: list[Command] = []
        self.environment = {
            **os.environ,
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.directory / 'bus'}",
            "XDG_DATA_HOME": str(self.directory / "data"),
            "XDG_RUNTIME_DIR": str(self.directory),
            "TELEPATHY_E2E_DEBUG": "all",
        }

    @property
    def log(self) -> Path:
        """What the bus, and so the daemon that it started, said."""
        return self.directory / "log"

    async def start(self) -> None:
        """Start the bus; the daemon comes by itself with the first call."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        services = self.directory / "services"
        services.mkdir()
        for name, program in PROGRAMS.items():
            text = (TEMPLATES / f"{name}.service.in").read_text()
            path = str(Path(sys.executable).parent / program)
            (services / f"{name}.service").write_text(text.replace("@EXEC@", path))
        config = self.directory / "bus.conf"
        config.write_text(CONFIG.format(socket=self.directory / "bus", services=services))
        with self.log.open("w") as log:
            self._bus = subprocess.Popen(
                ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._bus.stdout is not None  # noqa: S101 - it was asked for
        if not self._bus.stdout.readline():
            raise Failed(f"The bus of {self.name} did not start: {self.log.read_text()}")

    async def stop(self) -> None:
        """End what still runs here; the daemon leaves with its bus."""
        for command in self._running:
            await command.end()
        if self._bus is not None:
            self._bus.terminate()
            await asyncio.to_thread(self._bus.wait)
            if self._bus.stdout is not None:
                self._bus.stdout.close()

    async def tpe2e(self, *words: str, **environment: str) -> Command:
        """Start ``tpe2e WORDS --json`` on this desktop."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "telepathy_e2e.cli.main",
            *words,
            "--json",
            env={**self.environment, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        command = Command(self, words, process)
        self._running.append(command)
        return command

    async def run(self, *words: str, **environment: str) -> list[dict[str, Any]]:
        """The same, to its end; what it said."""
        command = await self.tpe2e(*words, **environment)
        said = [event async for event in command.events()]
        await command.check()
        return said


class Command:
    """A running ``tpe2e``."""

    def __init__(
        self, desktop: Desktop, words: tuple[str, ...], process: asyncio.subprocess.Process
    ) -> None:
        self._desktop = desktop
        self._words = words
        self._process = process
        self.last: dict[str, Any] = {}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, as it says it."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    line = await self._process.stdout.readline()
            except TimeoutError:
                raise Failed(f"{self} says nothing any more; its last word: {self.last}") from None
            if not line:
                return
            self.last = json.loads(line)
            yield self.last

    async def answer(self, text: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()

    async def check(self) -> None:
        """Raises: Failed if it did not end well."""
        code = await self._process.wait()
        if code:
            raise Failed(f"{self} ended with {code}: {self.last.get('message', '')}")

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def __str__(self) -> str:
        return f"{self._desktop.name}'s 'tpe2e {' '.join(self._words)}'"
