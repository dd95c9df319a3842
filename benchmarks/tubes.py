"""Connections in a tube beside a file transfer and ``ssh -L``, and how late a byte is in each.

    python -m benchmarks.run --only tubes

Two daemons on buses of their own, Prosody, the road direct and protected; programs at both ends
are processes that talk TCP on loopback (``tube_ends``), the same ones whatever carries them.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dbus_fast import Variant

from benchmarks import ssh
from benchmarks.files import MB, pair_with, percentile, transfer
from tests.support import tubes
from tests.support.pair import Pair
from tests.support.prosody import Prosody

Row = Callable[[str, str, str], None]
Rate = Callable[[], Awaitable[float]]

ROUNDS = 3
SIZE = 300 * MB
MANY = 50
PINGS = 2000
# With the processor's own instructions, as ours: what OpenSSH would choose is slower.
GCM = "aes256-gcm@openssh.com"


async def run(server: Prosody, row: Row) -> None:
    """Both tables."""
    row("load before", f"{os.getloadavg()[0]:.1f}", "")
    async with pair_with(server, "direct", "opportunistic") as pair:
        await throughput(pair, row)
        await latency(pair, row)
    row("load after", f"{os.getloadavg()[0]:.1f}", "")


async def throughput(pair: Pair, row: Row) -> None:
    """In turns, so that what else the machine does meets all of them."""
    async with AsyncExitStack() as stack:
        ways: dict[str, Rate] = {"file transfer": lambda: _file(pair)}
        for number in (1, MANY):
            each = SIZE // number
            port = await stack.enter_async_context(_serving("serve", each))
            shown = f"{number} connection{'s' * (number > 1)}"
            way = await _tube(stack, pair, port)
            ways[f"tube, {shown}"] = _fetching(way, number, each)
            if not ssh.missing():
                for name, cipher in (("its own choice", ""), ("AES-256-GCM", GCM)):
                    way = stack.enter_context(ssh.forwarded(port, cipher))
                    ways[f"ssh -L, {name}, {shown}"] = _fetching(way, number, each)
            ways[f"nothing between, {shown}"] = _fetching(port, number, each)
        rates: dict[str, list[float]] = defaultdict(list)
        for measure in ways.values():
            await measure()  # imports, windows, first handshakes
        for _ in range(ROUNDS):
            for name, measure in ways.items():
                rates[name].append(await measure())
        for name, found in rates.items():
            note = f"{min(found):.0f} to {max(found):.0f} in {ROUNDS} rounds of {SIZE // MB} MB"
            row(name, f"{statistics.median(found):.0f} MB/s", note)


async def latency(pair: Pair, row: Row) -> None:
    """A byte there and back."""
    directory = str(pair.server.directory)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(_serving("echo"))
        secured = await stack.enter_async_context(_serving("echo", directory))
        ways: dict[str, tuple[object, ...]] = {
            "TCP": (port,),
            "TLS 1.3": (secured,),
            "tube": (await _tube(stack, pair, port),),
        }
        if not ssh.missing():
            ways["ssh -L"] = (stack.enter_context(ssh.forwarded(port)),)
        times: dict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for name, (way, *more) in ways.items():
                more = [directory] if name == "TLS 1.3" else more
                times[name] += (await _asked("ping", way, PINGS // ROUNDS, *more))[10:]
        for name, taken in times.items():
            low, high = (percentile(taken, which) * 1000 for which in (0.5, 0.95))
            over = (percentile(taken, 0.5) - percentile(times["TLS 1.3"], 0.5)) * 1000
            note = f"p50 {over:+.3f} ms to TLS 1.3; {len(taken)} of them"
            row(f"one byte there and back, {name}, p50 / p95", f"{low:.3f} / {high:.3f} ms", note)


async def _file(pair: Pair) -> float:
    return SIZE / MB / await transfer(pair, SIZE)


def _fetching(port: int, number: int, each: int) -> Rate:
    async def fetch() -> float:
        said = await _asked("fetch", port, number, each)
        if not said["whole"]:
            raise RuntimeError("bytes are missing")
        return number * each / MB / float(said["seconds"])

    return fetch


async def _tube(stack: AsyncExitStack, pair: Pair, port: int) -> int:
    """Where Bob's programs connect to in a tube to Alice's service."""
    ip4 = (tubes.IPV4, tubes.LOCALHOST)
    address = Variant("(sq)", ["127.0.0.1", port])
    tube = await tubes.opened(pair, address, offered=ip4, accepted=ip4)
    stack.push_async_callback(tube.close)
    return int(tube.address[1])


@asynccontextmanager
async def _serving(*arguments: object) -> AsyncIterator[int]:
    process = await _started(*arguments)
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def _asked(*arguments: object) -> Any:
    process = await _started(*arguments)
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{arguments[0]} failed")
    return json.loads(said)


async def _started(*arguments: object) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "benchmarks.tube_ends", *map(str, arguments))
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )
