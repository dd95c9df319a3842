"""Two daemons and a file from one to the other, as several benchmarks want them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER

MB = 1_000_000


def percentile(values: list[float], which: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * which))]


_FEED = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
left, block = int(sys.argv[2]), bytes(1 << 18)
while left > 0:
    left -= sock.send(block[:min(left, len(block))])
sock.shutdown(socket.SHUT_WR)
sock.recv(1)
"""

_DRAIN = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
block = bytearray(1 << 18)
while sock.recv_into(block):
    pass
"""


async def feed(path: bytes, size: int) -> None:
    """Write ``size`` zero bytes to a unix socket, from a process of its own."""
    await _process(_FEED, os.fsdecode(path), str(size))


async def drain(path: bytes) -> None:
    """Read a unix socket to its end, in a process of its own."""
    await _process(_DRAIN, os.fsdecode(path))


async def _process(code: str, *args: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *args)
    try:
        if await process.wait() != 0:
            raise RuntimeError("a payload process failed")
    finally:
        if process.returncode is None:
            process.kill()


async def transfer(pair: Pair, size: int) -> float:
    """Seconds from Open to Completed at the receiver."""
    mine, theirs = await pair.offer_sized(size)
    source = await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
    sink = await pair.bob.cm(theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), 0)
    draining = asyncio.ensure_future(drain(bytes(sink)))
    await pair.alice.state(mine, 3, timeout=120)
    feeding = asyncio.ensure_future(feed(bytes(source), size))
    await pair.alice.state(mine, 3)
    started = time.perf_counter()
    state, reason = await pair.bob.state(theirs, 4, 5, timeout=1200)
    taken = time.perf_counter() - started
    if state != 4:
        raise RuntimeError(f"the transfer failed: {state} {reason}\n{pair.bob.log}")
    await asyncio.gather(draining, feeding)
    return taken


@asynccontextmanager
async def pair_with(server: Prosody, roads: str, policy: str) -> AsyncIterator[Pair]:
    os.environ["TELEPATHY_E2E_ROADS"] = roads
    os.environ["TELEPATHY_E2E_DEBUG"] = ""
    more = {"e2e_policy": Variant("s", policy)}
    pair = await Pair.start(server, alice=more, bob=more)
    try:
        yield pair
    finally:
        await pair.stop()
        del os.environ["TELEPATHY_E2E_ROADS"]
