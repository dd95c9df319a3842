"""Everything that ``make bench`` measures, in one run on one machine, as a table of Markdown.

Real daemons on private buses, a real Prosody, payload over unix sockets; nothing is asserted here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from dbus_fast import Variant

from benchmarks import calls, chat, relay, roads, trust, tubes
from benchmarks.files import MB, pair_with, percentile, transfer
from telepathy_e2e.agent.rate import BURST
from telepathy_e2e.xtls.identity import new_session_key
from tests.support.agent import connected
from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER, Side


class Table:
    """Rows of (what, figure, note), printed as they come."""

    def __init__(self) -> None:
        print("| what | figure | note |\n|---|---|---|", flush=True)

    def row(self, what: str, figure: str, note: str = "") -> None:
        print(f"| {what} | {figure} | {note} |", flush=True)


def memory(pid: int, field: str) -> float:
    """A field of /proc/PID/status in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1000
    raise ValueError(field)


async def throughput(server: Prosody, table: Table, size: int) -> None:
    openssl = await asyncio.to_thread(relay.openssl, size)
    table.row("openssl s_client to s_server, TLS 1.3", f"{openssl:.0f} MB/s", f"{size // MB} MB")
    plain = await asyncio.to_thread(relay.plain_relay, size)
    table.row("plain socket relay, one asyncio process", f"{plain:.0f} MB/s", f"{size // MB} MB")
    for road, amount in (("direct", size), ("proxy", size), ("in-band", size // 50)):
        for policy, words in (("opportunistic", "XTLS"), ("off", "in the clear")):
            async with pair_with(server, road, policy) as pair:
                await transfer(pair, MB)  # imports, first handshake
                rates = [amount / MB / await transfer(pair, amount) for _ in range(3)]
                best = statistics.median(rates)
                note = f"{amount // MB} MB, median of 3"
                if road == "direct":
                    note += f"; {best / openssl:.2f} of openssl"
                table.row(f"file transfer, {road}, {words}", f"{best:.1f} MB/s", note)


async def during(server: Prosody, table: Table, size: int) -> None:
    """Memory and property reads while a large file moves."""
    async with pair_with(server, "direct", "opportunistic") as pair:
        await transfer(pair, MB)
        idle = await reads(pair.alice, 2000)
        table.row(
            "Properties.Get idle, p50 / p99",
            f"{percentile(idle, 0.5) * 1000:.2f} / {percentile(idle, 0.99) * 1000:.2f} ms",
        )
        moving = asyncio.ensure_future(transfer(pair, size))
        await asyncio.sleep(0.3)
        busy: list[float] = []
        while not moving.done():
            busy += await reads(pair.alice, 50)
        await moving
        table.row(
            "Properties.Get during a transfer, p50 / p99",
            f"{percentile(busy, 0.5) * 1000:.2f} / {percentile(busy, 0.99) * 1000:.2f} ms",
            f"{len(busy)} reads beside {size // MB} MB at full speed",
        )
        for side in (pair.alice, pair.bob):
            if side.daemon is not None:
                table.row(
                    f"peak memory over {size // MB} MB, {side.name}",
                    f"{memory(side.daemon.pid, 'VmHWM'):.1f} MB",
                    f"now {memory(side.daemon.pid, 'VmRSS'):.1f} MB",
                )


async def reads(side: Side, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await side.get(side.connection, "org.freedesktop.Telepathy.Connection", "Status")
        taken.append(time.perf_counter() - started)
    return taken


async def first_byte(server: Prosody, table: Table) -> None:
    """CreateChannel to the first byte at Bob's client, who accepts at once."""
    async with pair_with(server, "direct", "opportunistic") as pair:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            mine, theirs = await pair.offer_sized(1000)
            _, first = await asyncio.gather(
                pair.alice.provide(mine, bytes(1000)), _first(pair, theirs)
            )
            times.append(first - started)
            await pair.bob.state(theirs, 4)
            await pair.alice.state(mine, 4)
        table.row(
            "CreateChannel to first byte, XTLS, direct",
            f"{statistics.median(times) * 1000:.0f} ms",
            f"median of {len(times)}; the receiver accepts at once",
        )


async def _first(pair: Pair, theirs: str) -> float:
    sink = await pair.bob.cm(theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), 0)
    reader, writer = await asyncio.open_unix_connection(os.fsdecode(sink))
    await reader.read(1)
    now = time.perf_counter()
    await reader.read()
    writer.close()
    return now


async def activation(table: Table) -> None:
    times = []
    for _ in range(10):
        side = await Side.start("bench", daemon=False)
        try:
            started = time.perf_counter()
            await side.activate()
            times.append(time.perf_counter() - started)
        finally:
            await side.stop()
    table.row(
        "activation to first reply", f"{statistics.median(times) * 1000:.0f} ms", "median of 10"
    )


async def agent(table: Table) -> None:
    """How fast the key agent certifies, one program asking one after the other."""
    side = await Side.start("bench", daemon=False)
    try:
        async with connected(side.address) as keys:
            started = time.perf_counter()
            await keys.call("GetIdentity", "s", "bench@example.test")
            table.row("key agent, start and first identity", _ms(time.perf_counter() - started))
            spki = new_session_key().public_key()
            # No more than the burst that it answers without holding back.
            times = []
            for _ in range(BURST):
                started = time.perf_counter()
                await keys.call("Certify", "say", "bench@example.test", spki)
                times.append(time.perf_counter() - started)
            table.row(
                "key agent, certifications over D-Bus",
                f"{len(times) / sum(times):.0f}/s",
                f"p50 / p99 {_ms(percentile(times, 0.5))} / {_ms(percentile(times, 0.99))}",
            )
            table.row("key agent, resident", f"{memory(await keys.pid(), 'VmRSS'):.1f} MB")
    finally:
        await side.stop()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


async def accounts(server: Prosody, table: Table) -> None:
    """Resident memory with one and with twenty accounts online."""
    os.environ["TELEPATHY_E2E_DEBUG"] = ""
    side = await Side.start("bench")
    try:
        for number in range(20):
            name = f"many{number}"
            await asyncio.to_thread(server.add_account, name, "open sesame")
            await side.connect(parameters(server, server.jid(name)), handles=(FILE_TRANSFER,))
            if number in (0, 19) and side.daemon is not None:
                await asyncio.sleep(1)
                resident = memory(side.daemon.pid, "VmRSS")
                if number == 0:
                    one = resident
                    table.row("resident with 1 account", f"{resident:.1f} MB")
                else:
                    each = (resident - one) / 19
                    table.row(
                        "resident with 20 accounts",
                        f"{resident:.1f} MB",
                        f"{each:.2f} MB for each further",
                    )
    finally:
        await side.stop()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="MB of the large file")
    parser.add_argument("--only", default="", help="comma list of parts to run")
    options = parser.parse_args()
    size = options.size * MB
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"\n{machine}, {commit}\n")
    table = Table()
    server = await asyncio.to_thread(Prosody.start)
    parts: dict[str, Callable[[], Awaitable[None]]] = {
        "throughput": lambda: throughput(server, table, size),
        "during": lambda: during(server, table, size),
        "first-byte": lambda: first_byte(server, table),
        "activation": lambda: activation(table),
        "agent": lambda: agent(table),
        "accounts": lambda: accounts(server, table),
        "chat": lambda: chat.run(table.row),
        "trust": lambda: trust.run(server, table.row),
        "calls": lambda: calls.run(server, table.row),
        "tubes": lambda: tubes.run(server, table.row),
        "roads": lambda: roads.run(table.row),
    }
    try:
        for name, part in parts.items():
            if not options.only or name in options.only.split(","):
                await part()
    finally:
        await asyncio.to_thread(server.stop)


if __name__ == "__main__":
    asyncio.run(main())
