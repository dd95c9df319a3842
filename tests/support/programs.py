"""Clients that are programs of their own (``tests/clients``): start them, hear what they say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
WAIT = PATIENCE

#: The modules that bring Telepathy's clients come with Debian's Python only.
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or ""


def lacks(*imports: str) -> str:
    """Why programs with these statements cannot run here; empty if they can."""
    if not PYTHON:
        return "the system has no python3"
    for each in imports:
        tried = subprocess.run([PYTHON, "-c", each], capture_output=True, text=True, check=False)
        if tried.returncode:
            return f"the system's python3 cannot {each}: {tried.stderr.strip()[-200:]}"
    return ""


class Program:
    """A running client. ``said`` has all lines so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        self._reading = asyncio.ensure_future(self._read())
        self._news = asyncio.Event()

    async def event(self, event: str, **what: Any) -> dict[str, Any]:
        """The first line so far, or to come, with this event and these values."""
        wanted = {"event": event, **what}
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    for each in self.said:
                        if wanted.items() <= each.items():
                            return each
                    if self._reading.done():
                        raise AssertionError(f"it ended without {wanted}: {self.said}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {wanted}: {self.said}") from None

    def events(self, event: str) -> list[dict[str, Any]]:
        """All lines so far with this event."""
        return [each for each in self.said if each["event"] == event]

    def tell(self, line: str) -> None:
        """A line for its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        async with asyncio.timeout(WAIT):
            await self._reading
            return await self.process.wait()

    async def stop(self) -> None:
        """End it if it has not ended, and wait for that."""
        if self.process.returncode is None:
            self.process.terminate()
        await self._reading
        await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            try:
                self.said.append(json.loads(line))
            except ValueError:
                # A traceback or a library's warning: for whoever reads the failure.
                self.said.append({"event": "noise", "text": line.decode(errors="replace")})
            self._news.set()
        self._news.set()


@asynccontextmanager
async def program(name: str, address: str, *arguments: str) -> AsyncIterator[Program]:
    """``tests.clients.NAME`` on the bus at ``address``, for as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        *("-m", f"tests.clients.{name}", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": address, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    running = Program(process)
    try:
        yield running
    finally:
        await running.stop()
