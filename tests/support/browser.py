"""A browser that calls and answers: a headless Chromium that the tool beside this project drives.

The tool (``../shared/tools/browser-peer``) and its modules (``npm install`` beside it, or in the
directory that ``PEER_MODULES`` names) are not parts of the project; ``missing`` says what is not
there.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.prosody import PASSWORD, Prosody
from tests.support.waiting import PATIENCE

TOOL = Path(__file__).parents[3] / "shared" / "tools" / "browser-peer"
CHROMIUM = "chromium"
# Seconds. A browser on a slow machine needs some to start.
START, WAIT = 60.0, PATIENCE
# One line of the tool; an offer with pictures has 20,000 characters.
LINE = 1 << 20

Event = dict[str, Any]


def missing() -> str:
    """Why there is no browser to test with; empty: there is one."""
    if not (TOOL / "peer.js").is_file():
        return "no ../shared/tools/browser-peer here"
    for program in ("node", CHROMIUM):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    modules = Path(os.environ.get("PEER_MODULES") or TOOL) / "node_modules"
    if not (modules / "stanza").is_dir():
        return "the browser's modules are not installed (PEER_MODULES)"
    return ""


class Browser:
    """One browser that is online; ``await Browser.start(...)`` and ``await stop()``.

    Attributes:
        events: what it told so far.
        jid: full.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[Event] = []
        self.jid = ""
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, server: Prosody, name: str, *flags: str) -> Browser:
        """Log in.

        Args:
            name: account.
            flags: of the tool: ``--mode``, ``--jmi``, ``--video``, ``--no-trickle``.
        """
        chromium = shutil.which(CHROMIUM)
        assert chromium is not None
        process = await asyncio.create_subprocess_exec(
            *("node", str(TOOL / "peer.js"), "--jid", server.jid(name), "--password", PASSWORD),
            *("--ws", server.websocket, "--chromium", chromium, *flags),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LINE,
        )
        self = cls(process)
        try:
            self.jid = (await self.event("online", timeout=START))["jid"]
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """End the browser, and wait for it."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(10):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.events.append(json.loads(line))
            self._news.set()

    def do(self, command: str, **more: str) -> None:
        """A command: ``call``, ``hangup``, ``mute``, …"""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cmd": command, **more}).encode() + b"\n")

    async def event(
        self,
        kind: str,
        matches: Callable[[Event], object] = lambda _: True,
        *,
        timeout: float = WAIT,
    ) -> Event:
        """The first event of a kind, so far or to come, that matches."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for each in self.events:
                        if each["event"] == kind and matches(each):
                            return each
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = "\n".join(str(each)[:600] for each in self.events[-8:])
            raise AssertionError(f"the browser told no {kind} that fits; but:\n{seen}") from None
