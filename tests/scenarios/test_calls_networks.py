"""Calls over networks as they are: routers, relays, loss, and cables that are pulled."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.media.silence import PATIENCE_VARIABLE, QUIET
from tests.support import networks
from tests.support.calls import (
    ACCEPTED,
    ACTIVE,
    CALL,
    ENDED,
    OneCall,
    call,
    incoming,
    tone_share,
    written,
)
from tests.support.networks import NEAR_ALICE, TURN_PORT, TURNS_PORT, Networks
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, FILE_TRANSFER, Side

BOTH = (CALL, FILE_TRANSFER)
SECRET = "between the two servers"
CONNECTIVITY_ERROR = 13
# Seconds in the place of half a minute, where it is waited for.
SHORT = 5

if reason := networks.missing():
    pytestmark = pytest.mark.skip(reason=reason)


def service(kind: str, transport: str, host: str = NEAR_ALICE, port: int = TURN_PORT) -> str:
    return (
        f"{{ type = '{kind}', transport = '{transport}', host = '{host}', port = {port},"
        f" secret = '{SECRET}', algorithm = 'turn', ttl = 600 }};"
    )


# All three ways to one relay; which one is open, the router decides.
SERVICES = service("turn", "udp") + service("turn", "tcp")
SERVICES += service("turns", "tcp", "example.test", TURNS_PORT)


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    server = Prosody.start(
        modules=["external_services"], settings=f"external_services = {{ {SERVICES} }}"
    )
    yield server
    server.stop()


@pytest.fixture
def between() -> Iterator[Networks]:
    made = Networks.make()
    yield made
    made.close()


@pytest_asyncio.fixture
async def pair(server: Prosody, between: Networks) -> AsyncIterator[Pair]:
    async with people(server, between) as pair:
        yield pair


@pytest_asyncio.fixture
async def impatient(server: Prosody, between: Networks) -> AsyncIterator[Pair]:
    """Who give up soon."""
    async with people(server, between, {PATIENCE_VARIABLE: str(SHORT)}) as pair:
        yield pair


@asynccontextmanager
async def people(
    server: Prosody, between: Networks, more: Mapping[str, str] | None = None
) -> AsyncIterator[Pair]:
    """Alice and Bob, each in a namespace.

    Args:
        more: of the environment of their daemons.
    """
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    env = {"SSL_CERT_FILE": str(server.ca_file), **(more or {})}
    for name in (between.alice, between.bob):
        hosts = Path(f"/etc/netns/{name}/hosts")
        hosts.parent.mkdir(parents=True, exist_ok=True)
        hosts.write_text(f"127.0.0.1 localhost\n{NEAR_ALICE} example.test\n")
        await between.bridge(name, server.port)
    sides = await asyncio.gather(
        Side.start("alice", env=env, within=between.within(between.alice)),
        Side.start("bob", env=env, within=between.within(between.bob)),
    )
    pair = await Pair.start(
        server, alice=media, bob=media, alice_handles=BOTH, bob_handles=BOTH, sides=sides
    )
    try:
        yield pair
    finally:
        await pair.stop()
        for name in (between.alice, between.bob):
            shutil.rmtree(f"/etc/netns/{name}")


async def talking(pair: Pair) -> tuple[OneCall, OneCall]:
    """Alice has called Bob, and packets come both ways."""
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob)
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    await still_talking(ours, theirs)
    return ours, theirs


async def still_talking(*both: OneCall) -> None:
    """More packets come both ways than had come."""
    had = [(await one.figures())["packets-received"] for one in both]
    await asyncio.gather(
        *(one.figures(packets_received=n + 30) for one, n in zip(both, had, strict=True))
    )


async def interrupted(one: OneCall) -> None:
    """It was active, and was accepted after that: too short to be seen by asking."""

    def states() -> list[int]:
        told = [each for each in one.side.signals if each.path == one.path]
        return [each.body[0] for each in told if each.member == "CallStateChanged"]

    def happened() -> bool:
        return ACTIVE in (so_far := states()) and ACCEPTED in so_far[so_far.index(ACTIVE) :]

    await one.side.signal(lambda _: happened())


# Of what is heard, on a machine that cannot keep up: noise or silence would be next to none.
TONE = 0.5


async def heard(one: OneCall, path: Path, packets: int = 125) -> float:
    """How much of what one side hears is the other's tone."""
    await one.choose("AudioSink", f"file:{path}")
    came = (await one.figures(packets_received=1))["packets-received"]
    await one.figures(packets_received=came + packets)
    await one.choose("AudioSink", "null")
    await written(path)
    return tone_share(path, 440)


async def test_a_call_between_two_subnets(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = await talking(pair)
    assert await heard(theirs, tmp_path / "heard.wav") > TONE
    await ours.hangup()
    await theirs.until(ENDED)


@pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn is not installed")
@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
async def test_a_call_through_a_relay_where_there_is_no_other_way(
    pair: Pair, between: Networks, tmp_path: Path, way: str
) -> None:
    open_ = {
        "udp": f"udp dport {TURN_PORT} accept",
        "tcp": f"tcp dport {TURN_PORT} accept",
        "tls": f"tcp dport {TURNS_PORT} accept",
    }
    between.turn(pair.server.directory, SECRET)
    # To the relay's server that one way; from relay to relay inside the router.
    between.rules("drop", f'{open_[way]}\niifname "lo" accept\ndrop')
    ours, theirs = await talking(pair)
    assert await heard(theirs, tmp_path / "heard.wav") > TONE
    assert await ours.property(E2E, "Protocol") == "dtls-srtp"


async def test_where_there_is_no_way_at_all_the_call_ends(
    impatient: Pair, between: Networks
) -> None:
    between.rules("drop", "drop")
    ours = await call(impatient.alice, impatient.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(impatient.bob)
    await theirs.accept()
    ends = await asyncio.gather(ours.until(ENDED), theirs.until(ENDED))
    assert {end[2][1] for end in ends} == {CONNECTIVITY_ERROR}


async def test_one_packet_of_ten_is_lost(pair: Pair, between: Networks, tmp_path: Path) -> None:
    between.lose(10)
    ours, theirs = await talking(pair)
    assert await heard(theirs, tmp_path / "heard.wav", 180) > 0.6
    shown = await theirs.figures(packets_received=250)
    share = shown["packets-lost"] / (shown["packets-received"] + shown["packets-lost"])
    assert 0.03 < share < 0.2
    # What Bob lost, his reports told Alice.
    await ours.figures(packets_lost_there=1)
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))


async def test_a_cable_pulled_for_a_while_interrupts_the_call_and_no_more(
    pair: Pair, between: Networks
) -> None:
    ours, theirs = await talking(pair)
    between.link(between.bob, up=False)
    await asyncio.gather(interrupted(ours), interrupted(theirs))
    between.link(between.bob, up=True)
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    await still_talking(ours, theirs)
    assert await ours.property(E2E, "Protocol") == "dtls-srtp"


async def test_who_moves_to_another_address_is_found_again(pair: Pair, between: Networks) -> None:
    ours, theirs = await talking(pair)
    before = await ours.property(E2E, "PeerFingerprints")
    between.address(between.bob, "10.213.2.77", networks.NEAR_BOB)
    # Hers it is to look for another way; he may be found before he has missed her.
    await interrupted(ours)
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    await still_talking(ours, theirs)
    assert await ours.property(E2E, "PeerFingerprints") == before


async def test_a_network_that_is_gone_for_good_ends_the_call(
    impatient: Pair, between: Networks
) -> None:
    ours, theirs = await talking(impatient)
    before = time.monotonic()
    await still_talking(ours, theirs)
    between.link(between.alice, up=False)
    ends = await asyncio.gather(ours.until(ENDED), theirs.until(ENDED))
    # Not before everything was tried; what a busy machine adds says nothing.
    assert time.monotonic() - before > QUIET + SHORT
    for _, _, (_, why, error, _) in ends:
        assert (why, error.rpartition(".")[2]) == (CONNECTIVITY_ERROR, "ConnectionLost")
