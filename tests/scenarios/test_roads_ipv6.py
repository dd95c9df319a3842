"""Two people whose networks have IPv6 and nothing else: files and tubes work, over TCP and UDP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.networks import NEAR_ALICE_IPV6, IPv6Networks, missing
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE, Side
from tests.support.tubes import UNIX, opened, service

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(reason := missing()), reason=reason),
    pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="the kernel has no IPv6"),
]

SIZE = 300_000
# Seconds for roads that are tried in vain before one works.
LONG = 100.0
# What the router does with what goes from one to the other, and which protection there is then.
# In this order: a data channel that has worked where nothing else did is what is tried first later.
CASES = {
    "TCP": ("", "xtls"),
    "UDP alone": ("meta l4proto tcp reject with tcp reset", "dtls-sctp"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def networks(prosody: Prosody) -> AsyncIterator[IPv6Networks]:
    networks = await asyncio.to_thread(IPv6Networks.make)
    try:
        await networks.bridge(networks.router, prosody.port, NEAR_ALICE_IPV6)
        yield networks
    finally:
        networks.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(prosody: Prosody, networks: IPv6Networks) -> AsyncIterator[Pair]:
    sides = await asyncio.gather(
        Side.start("alice", within=networks.within(networks.alice)),
        Side.start("bob", within=networks.within(networks.bob)),
    )
    there = {"server": Variant("s", NEAR_ALICE_IPV6)}
    pair = await Pair.start(prosody, sides=sides, alice=there, bob=there)
    yield pair
    await pair.stop()


@pytest.mark.parametrize("name", CASES)
async def test_a_file_and_a_tube_get_through(
    pair: Pair, networks: IPv6Networks, name: str, tmp_path: Path
) -> None:
    rules, protocol = CASES[name]
    networks.rules(rules)
    data = os.urandom(SIZE)
    mine, theirs = await pair.offer(data)
    got, _ = await asyncio.gather(
        pair.bob.accept(theirs), pair.alice.provide(mine, data, timeout=LONG)
    )
    assert got == data, pair.alice.log
    assert await pair.alice.state(mine, 4, 5, timeout=LONG) == (4, 0), pair.alice.log
    assert await pair.bob.state(theirs, 4, 5, timeout=LONG) == (4, 0), pair.bob.log
    assert await pair.bob.get(theirs, SECURABLE, "Encrypted")
    assert await pair.alice.get(mine, E2E, "Protocol") == protocol
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address, timeout=LONG)
        assert await tube.echoed(data) == data
        assert await pair.bob.get(tube.theirs, SECURABLE, "Encrypted")
        assert await pair.bob.get(tube.theirs, E2E, "Protocol") == protocol
        await tube.close()
