"""Calls, beside aiortc's own two peers without our daemon, in turns in one run.

Two daemons on buses of their own call each other through Prosody; the peers are two processes
that this one hands session descriptions to. Same machine, same addresses, Opus both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import Variant

from benchmarks import sounds
from telepathy_e2e.service.names import CALL
from tests.support.calls import ACTIVE, ENDED, OneCall, call, incoming
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER

Row = Callable[[str, str, str], None]

ROUNDS = 3
# Seconds of one measurement, and before it: encoders and buffers settle.
LONG, SETTLE = 6.0, 2.0
MANY = 10
CALLS = 8
_TICKS = os.sysconf("SC_CLK_TCK")
_FRAME = sounds.SAMPLES * sounds.CHANNELS * 2


@dataclass
class Figures:
    """Of one way to call, over all rounds."""

    cpu: dict[int, list[float]] = field(default_factory=dict)
    """By number of calls: percent of one core, both sides."""
    delays: list[float] = field(default_factory=list)
    """Seconds from mouth to ear."""


def cpu(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident(pid: int) -> float:
    """MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise ValueError("no VmRSS")


async def share(pids: list[int]) -> float:
    """Percent of one core that these take together."""
    await asyncio.sleep(SETTLE)
    before, started = sum(map(cpu, pids)), time.monotonic()
    await asyncio.sleep(LONG)
    return 100 * (sum(map(cpu, pids)) - before) / (time.monotonic() - started)


def delays(said: list[float], heard: list[float]) -> list[float]:
    """Seconds from each burst to its first sound; half a second is between two."""
    found = []
    for at in heard:
        before = [each for each in said if each <= at]
        if before:
            found.append(at - before[-1])
    return found


# -- our daemons ----------------------------------------------------------------------------------


@asynccontextmanager
async def daemons(server: Prosody, **more: Variant) -> AsyncIterator[Pair]:
    os.environ["TELEPATHY_E2E_DEBUG"] = ""
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    handles = (CALL, FILE_TRANSFER)
    pair = await Pair.start(
        server, alice={**media, **more}, bob=media, alice_handles=handles, bob_handles=handles
    )
    try:
        yield pair
    finally:
        await pair.stop()


def pids(pair: Pair) -> list[int]:
    return [side.daemon.pid for side in (pair.alice, pair.bob) if side.daemon is not None]


async def talk(pair: Pair, number: int = 0) -> tuple[OneCall, OneCall, float]:
    """A call that is active on both sides, and the seconds from Accept to that."""
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob, skip=number)
    started = time.monotonic()
    await theirs.accept()
    await pair.bob.signal(lambda each: _became(each, theirs.path, ACTIVE), timeout=20)
    taken = time.monotonic() - started
    await ours.until(ACTIVE)
    return ours, theirs, taken


def _became(each: Any, path: str, state: int) -> bool:
    return bool(each.path == path and each.member == "CallStateChanged" and each.body[0] == state)


async def end(pair: Pair, ours: OneCall, theirs: OneCall) -> None:
    await ours.hangup()
    await theirs.until(ENDED)
    for side, one in ((pair.alice, ours), (pair.bob, theirs)):
        with contextlib.suppress(Exception):
            await side.cm(one.path, "org.freedesktop.Telepathy.Channel", "Close")


async def ours_cpu(server: Prosody, count: int) -> float:
    async with daemons(server) as pair:
        for number in range(count):
            await talk(pair, number)
        return await share(pids(pair))


class Mouthpiece:
    """The programs at the unix sockets: one speaks, one hears."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.said: list[float] = []
        self.heard: list[float] = []

    async def start(self) -> tuple[str, str]:
        mouth, ear = self._directory / "mouth", self._directory / "ear"
        await asyncio.start_unix_server(self._speak, mouth)
        await asyncio.start_unix_server(self._hear, ear)
        return f"unix:{mouth}", f"unix:{ear}"

    async def _speak(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sound, at = sounds.Mouth(), time.monotonic()
        while not writer.is_closing():
            frame = sound.frame()
            if sound.began:
                self.said.append(time.monotonic())
            writer.write(frame)
            at += 0.02
            await asyncio.sleep(at - time.monotonic())

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ear = sounds.Ear()
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                pcm = await reader.readexactly(_FRAME)
                now = time.monotonic()
                offset = ear.burst(pcm)
                if offset is not None:
                    self.heard.append(now + offset)
        writer.close()


async def ours_delay(server: Prosody, directory: Path) -> list[float]:
    programs = Mouthpiece(directory)
    source, sink = await programs.start()
    async with daemons(server) as pair:
        ours, theirs, _ = await talk(pair)
        await ours.choose("AudioSource", source)
        await theirs.choose("AudioSink", sink)
        await asyncio.sleep(LONG)
        return delays(programs.said, programs.heard)


# -- aiortc's own peers ---------------------------------------------------------------------------


class Peer:
    """One process of ``call_peers``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._descriptions: asyncio.Queue[bytes] = asyncio.Queue()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, role: str, count: int, kind: str) -> Peer:
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.call_peers", role, str(count), kind,
                stdin=pipe, stdout=pipe, limit=1 << 20,
            )
        )  # fmt: skip

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            words = json.loads(line)
            if "sdp" in words:
                self._descriptions.put_nowait(line)
            else:
                self.told.append(words)

    async def description(self) -> bytes:
        return await asyncio.wait_for(self._descriptions.get(), 30)

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def all(self, word: str) -> list[float]:
        return [each[word] for each in self.told if word in each]

    async def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 10)
        except TimeoutError:
            self.process.kill()
        await self._reading


@asynccontextmanager
async def peers(count: int, kind: str = "tone") -> AsyncIterator[tuple[Peer, Peer]]:
    both = await asyncio.gather(Peer.start("offer", count, kind), Peer.start("answer", count, kind))
    caller, callee = both
    try:
        for _ in range(count):
            callee.write(await caller.description())
            caller.write(await callee.description())
        async with asyncio.timeout(30):
            while len(callee.all("first")) < count:
                await asyncio.sleep(0.02)
        yield caller, callee
    finally:
        await asyncio.gather(caller.stop(), callee.stop())


async def theirs_cpu(count: int) -> float:
    async with peers(count) as both:
        return await share([each.process.pid for each in both])


async def theirs_delay() -> list[float]:
    async with peers(1, "bursts") as (caller, callee):
        await asyncio.sleep(LONG)
        return delays(caller.all("said"), callee.all("heard"))


# -- the table ------------------------------------------------------------------------------------


async def run(server: Prosody, row: Row) -> None:
    """All of it, three minutes."""
    await memory(server, row)
    await first_sound(server, row)
    ours, theirs = Figures(), Figures()
    for _ in range(ROUNDS):
        for count in (1, MANY):
            ours.cpu.setdefault(count, []).append(await ours_cpu(server, count))
            theirs.cpu.setdefault(count, []).append(await theirs_cpu(count))
        with tempfile.TemporaryDirectory() as directory:
            ours.delays += await ours_delay(server, Path(directory))
        theirs.delays += await theirs_delay()
    for count in (1, MANY):
        mine, other = (statistics.median(each.cpu[count]) for each in (ours, theirs))
        what = f"CPU of {count} audio call{'s' if count > 1 else ''}, both sides"
        note = f"{mine / other:.2f} of aiortc's peers; median of {ROUNDS} times {LONG:.0f} s"
        row(f"{what}, two daemons", f"{mine:.1f} %", note)
        row(f"{what}, aiortc's peers", f"{other:.1f} %", _rounds(ours, theirs, count))
    for label, each in (("two daemons", ours), ("aiortc's peers", theirs)):
        row(
            f"mouth to ear, {label}",
            f"{_ms(statistics.median(each.delays))} ms",
            f"median of {len(each.delays)} bursts; the last tenth {_ms(_tenth(each.delays))} ms",
        )


def _rounds(ours: Figures, theirs: Figures, count: int) -> str:
    pairs = zip(ours.cpu[count], theirs.cpu[count], strict=True)
    return "rounds: " + ", ".join(f"{mine:.1f} / {other:.1f}" for mine, other in pairs)


def _tenth(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * 9 // 10)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


async def memory(server: Prosody, row: Row) -> None:
    """What who makes no calls pays, and what one call leaves."""
    async with daemons(server) as pair:
        pid = pids(pair)[0]
        before = resident(pid)
        loaded = "libav" in Path(f"/proc/{pid}/maps").read_text()
        ours, theirs, taken = await talk(pair)
        await asyncio.sleep(SETTLE)
        during = resident(pid)
        await end(pair, ours, theirs)
        await asyncio.sleep(1)
        note = "aiortc is loaded" if loaded else "aiortc is not loaded"
        row("resident before the first call", f"{before:.1f} MB", note)
        row("resident in a call, and after it", f"{during:.1f} / {resident(pid):.1f} MB", "")
        row("Accept to Active, first call of both daemons", f"{_ms(taken)} ms", "with imports")


async def first_sound(server: Prosody, row: Row) -> None:
    """From Accept to the first sound, once all is loaded."""
    async with daemons(server) as pair:
        taken = []
        for number in range(CALLS):
            ours, theirs, seconds = await talk(pair, number)
            await end(pair, ours, theirs)
            taken.append(seconds)
    theirs_taken = []
    for _ in range(CALLS):
        async with peers(1) as (_, callee):
            (told,) = (each for each in callee.told if "first" in each)
            theirs_taken.append(told["first"] - told["answered"])
    row(
        "Accept to Active, two daemons",
        f"{_ms(statistics.median(taken[1:]))} ms",
        f"median of {CALLS - 1}; over D-Bus and the XMPP server",
    )
    row(
        "answer to the first frame, aiortc's peers",
        f"{_ms(statistics.median(theirs_taken))} ms",
        f"median of {CALLS}; session descriptions through pipes",
    )
