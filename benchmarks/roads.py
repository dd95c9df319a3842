"""How long it takes to find a way through each kind of network, and how fast it is then.

    python -m benchmarks.run --only roads        # root, nftables and coturn

Network namespaces: two homes, their routers, and the middle with STUN and TURN servers, see
``tests/support/homes.py``. The XMPP server is reached from everywhere, through a copying process
that stands for the way to it. There is no delay on any wire: what is measured is patience.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable

from dbus_fast import Variant

from benchmarks.files import MB, drain, feed
from tests.support.homes import CASES, Case, Homes, homes_with, people_in, start_server
from tests.support.homes import why_not as missing
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, FILE_TRANSFER

Row = Callable[[str, str, str], None]

SIZE = 20 * MB
# Through the servers.
SMALL = 2 * MB
LONG = 600.0
AGAIN = 1


async def run(row: Row) -> None:
    """Each case with daemons that have never met, and once more with the same."""
    if why := missing():
        row("roads", "not measured", why)
        return
    server = await asyncio.to_thread(start_server)
    try:
        async with homes_with(server) as homes:
            row("load before", f"{os.getloadavg()[0]:.1f}", "")
            for name, (case, wanted) in CASES.items():
                await _case(row, server, homes, name, case, wanted)
            row("load after", f"{os.getloadavg()[0]:.1f}", "")
    finally:
        await asyncio.to_thread(server.stop)


async def _case(
    row: Row, server: Prosody, homes: Homes, name: str, case: Case, wanted: str
) -> None:
    size = SMALL if wanted.startswith("in-band") else SIZE
    os.environ["TELEPATHY_E2E_DEBUG"] = ""
    async with people_in(homes, server) as pair:
        waits, rates, ways = [], [], []
        for _ in range(1 + AGAIN):
            homes.be(case)
            wait, rate, protocol = await _transfer(pair, size)
            waits.append(wait)
            rates.append(rate)
            ways.append(homes.way(server, size, protocol))
        again = statistics.median(waits[1:])
        note = f"{ways[0]}; later {again:.2f} s"
        if (others := set(ways[1:])) != {ways[0]}:
            note += f" by {', '.join(sorted(others))}"
        rate = statistics.median(rates)
        row(name, f"{waits[0]:.2f} s, {rate:.1f} MB/s", note)


async def _transfer(pair: Pair, size: int) -> tuple[float, float, str]:
    """Seconds from Accept to Open at both ends, MB/s from there, and how it was protected."""
    mine, theirs = await pair.offer_sized(size)
    none = Variant("u", 0)
    source = await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, none)
    started = time.perf_counter()
    sink = await pair.bob.cm(theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, none, 0)
    draining = asyncio.ensure_future(drain(bytes(sink)))
    await asyncio.gather(
        pair.alice.state(mine, 3, 5, timeout=LONG), pair.bob.state(theirs, 3, 5, timeout=LONG)
    )
    opened = time.perf_counter()
    protocol = await pair.alice.get(mine, E2E, "Protocol")
    feeding = asyncio.ensure_future(feed(bytes(source), size))
    state, reason = await pair.bob.state(theirs, 4, 5, timeout=LONG)
    ended = time.perf_counter()
    if state != 4:
        raise RuntimeError(
            f"the transfer failed: {state} {reason}\n{pair.alice.log}\n{pair.bob.log}"
        )
    await asyncio.gather(draining, feeding)
    return opened - started, size / MB / (ended - opened), protocol
