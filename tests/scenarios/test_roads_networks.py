"""Files over networks as they are: routers that translate addresses, and middles that drop."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support import networks
from tests.support.homes import MIDDLE, STUN_PORT, Case, Homes, Middle, Router
from tests.support.networks import TURN_PORT
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE, Side

if reason := networks.missing():
    pytestmark = pytest.mark.skip(reason=reason)
elif shutil.which("turnserver") is None:
    pytestmark = pytest.mark.skip(reason="coturn is not installed")
else:
    pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "between the two servers"
SIZE = 300_000
# Seconds for a transfer whose first roads say nothing at all.
PATIENCE = 120.0


def service(kind: str, transport: str, port: int = TURN_PORT) -> str:
    secret = f"secret = '{SECRET}', algorithm = 'turn', ttl = 600" if kind == "turn" else ""
    return (
        f"{{ type = '{kind}', transport = '{transport}', host = '{MIDDLE}', port = {port},"
        f" {secret} }};"
    )


SERVICES = service("stun", "udp", STUN_PORT) + service("turn", "udp") + service("turn", "tcp")


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    server = Prosody.start(
        modules=["external_services"], settings=f"external_services = {{ {SERVICES} }}"
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def homes(server: Prosody) -> Iterator[Homes]:
    made = Homes.make()
    made.proxy_port = server.proxy_port
    try:
        made.servers(server.directory, SECRET)
        yield made
    finally:
        made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(server: Prosody, homes: Homes) -> AsyncIterator[Pair]:
    homes.be(Case())
    for name in (homes.alice, homes.bob):
        for port in (server.port, server.proxy_port):
            await homes.bridge(name, port)
    env = {"SSL_CERT_FILE": str(server.ca_file)}
    sides = await asyncio.gather(
        Side.start("alice", env=env, within=homes.within(homes.alice)),
        Side.start("bob", env=env, within=homes.within(homes.bob)),
    )
    pair = await Pair.start(server, sides=sides)
    yield pair
    await pair.stop()


async def way(pair: Pair, homes: Homes, channel: str, before: int, size: int = SIZE) -> str:
    """How the payload went: by where its bytes were seen.

    Args:
        before: bytes that the XMPP server's bridge had carried.
    """
    protocol = await pair.alice.get(channel, E2E, "Protocol")
    if homes.carried[pair.server.port] - before > size:
        carrier = "in-band"
    elif homes.carried[homes.proxy_port] > size:
        carrier = "proxy"
    else:
        carrier = "direct" if homes.forwarded() > size else "relay"
    return f"{carrier} {protocol}"


CASES = {
    "no routers that translate": (Case(), "direct xtls"),
    "Alice behind one": (Case(alice=Router.CONE), "direct xtls"),
    "Bob behind one": (Case(bob=Router.CONE), "direct xtls"),
    "UDP blocked": (Case(alice=Router.CONE, middle=Middle.NO_UDP), "direct xtls"),
    "nothing but XMPP, silent": (Case(middle=Middle.SILENT), "in-band xtls"),
    "nothing but XMPP, refusing": (Case(middle=Middle.REFUSING), "in-band xtls"),
    "nothing but XMPP and its proxy": (Case(middle=Middle.SILENT, proxy=True), "proxy xtls"),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_file_gets_through(pair: Pair, homes: Homes, name: str) -> None:
    case, wanted = CASES[name]
    homes.be(case)
    homes.carried.clear()
    data = os.urandom(SIZE)
    mine, theirs = await pair.offer(data)
    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, data))
    assert got == data, pair.alice.log
    assert await pair.alice.state(mine, 4, 5, timeout=PATIENCE) == (4, 0), pair.alice.log
    assert await pair.bob.state(theirs, 4, 5, timeout=PATIENCE) == (4, 0), pair.bob.log
    assert await pair.bob.get(theirs, SECURABLE, "Encrypted")
    assert await way(pair, homes, mine, 0) == wanted
