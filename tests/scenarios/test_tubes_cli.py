"""tpe2e tube and forward: a service of one desktop, used on another."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio

from telepathy_e2e.xmpp import caps
from tests.peer.client import Peer
from tests.peer.stanzas import CLIENT
from tests.scenarios.test_cli import WAIT, Command, Desk
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, Side
from tests.support.tubes import STREAM_TUBE, echo

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = STREAM_TUBE + ".Service"
PAGE = b"<h1>shared</h1>" * 50_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desks(prosody: Prosody) -> AsyncIterator[tuple[Desk, Desk]]:
    """Alice's and Bob's, both logged in, and each knows that the other takes tubes."""
    sides = await asyncio.gather(Side.start("alice"), Side.start("bob"))
    alice, bob = (Desk(side, prosody) for side in sides)
    await asyncio.gather(alice.connect(), bob.connect())
    await asyncio.gather(knows(alice, bob), knows(bob, alice))
    yield alice, bob
    await asyncio.gather(alice.stop(), bob.stop())


async def knows(desk: Desk, other: Desk) -> None:
    async with asyncio.timeout(WAIT):
        while True:
            status = await desk.run("status")
            contacts = [each for each in status.events if each["event"] == "contact"]
            if any(each["contact"] == other.jid and each["tubes"] for each in contacts):
                return


@contextlib.asynccontextmanager
async def serving(answer: Any = echo) -> AsyncIterator[str]:
    """A service on loopback; its address."""
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE)
        await writer.drain()
    writer.close()


def fetch(address: str) -> bytes:
    """As curl does it."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=WAIT)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


async def interrupted(*commands: Command) -> None:
    for command in commands:
        command.process.send_signal(signal.SIGINT)
    for command in commands:
        assert await command.end() == 130, command.events


async def test_a_port_is_a_service_of_the_contact_for_as_long_as_it_is_offered(
    desks: tuple[Desk, Desk],
) -> None:
    alice, bob = desks
    async with serving(web) as address:
        # Offered before anybody waits for it.
        offer = await bob.start("tube", "offer", alice.jid, "http", address, "--param", "path=/a")
        await offer.event("offered")
        forward = await alice.start("forward", "0", bob.jid, "http")
        place = (await forward.event("waiting"))["address"]
        shown = await forward.event("tube")
        assert (shown["contact"], shown["service"]) == (bob.jid, "http")
        assert shown["parameters"] == {"path": "/a"}
        assert (await forward.event("open"))["address"] == place
        pages = await asyncio.gather(*(asyncio.to_thread(fetch, place) for _ in range(2)))
        assert pages == [PAGE, PAGE]
        numbers = [(await offer.event("connection"))["number"] for _ in range(2)]
        assert len(set(numbers)) == 2
        await interrupted(offer)
        assert (await forward.event("closed"))["bytes_received"] > 2 * len(PAGE)
        # A port without a service says so at once.
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            await asyncio.to_thread(fetch, place)
        again = await bob.start("tube", "offer", alice.jid, "http", address)
        await forward.event("open")
        assert await asyncio.to_thread(fetch, place) == PAGE
        await interrupted(forward)
        assert await again.end() == 0
        assert again.last("done")["closed_by"] == "there"
        assert again.last("done")["connections"] == 1
    for command in (offer, forward, again):
        assert command.last("protection")["protection"] == "encrypted"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(fetch, place)


async def test_what_is_kept_is_offered_whenever_somebody_forwards_it(
    desks: tuple[Desk, Desk],
) -> None:
    alice, bob = desks
    async with serving(web) as address:
        offer = await bob.start("tube", "offer", alice.jid, "http", address, "--keep")
        await offer.event("waiting")
        for _ in range(2):
            forward = await alice.start("forward", "0", bob.jid, "http")
            place = (await forward.event("open"))["address"]
            assert await asyncio.to_thread(fetch, place) == PAGE
            await interrupted(forward)
            await offer.event("closed")
        await interrupted(offer)


async def test_two_people_compare_before_anything_goes_through_and_ends_are_passed_on(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    alice, bob = desks
    place = tmp_path / "echo"
    demand = ("--require", "verified", "--sas-matches", "stdin")
    async with serving() as address:
        accept = await alice.start(
            "tube", "accept", bob.jid, "echo", "--yes", "--unix", str(place), *demand
        )
        await accept.event("waiting")
        assert place.stat().st_mode & 0o777 == 0o600
        offer = await bob.start("tube", "offer", alice.jid, "echo", address, *demand)
        hers, his = await asyncio.gather(accept.event("sas"), offer.event("sas"))
        assert hers["string"] == his["string"]
        reader, writer = await asyncio.open_unix_connection(place)
        async with asyncio.timeout(WAIT):
            assert await reader.read() == b""
        writer.close()
        await accept.answer("yes")
        await offer.answer("yes")
        assert (await accept.event("open"))["address"] == f"unix:{place}"
        idle = await asyncio.open_unix_connection(place)
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(b"x" * 500_000)
        writer.write_eof()
        async with asyncio.timeout(WAIT):
            assert await reader.read(-1) == b"x" * 500_000
        writer.close()
        idle[1].write(b"and the other?")
        async with asyncio.timeout(WAIT):
            assert await idle[0].readexactly(14) == b"and the other?"
        await interrupted(accept)
        assert await offer.end() == 0
        idle[1].close()
    done = offer.last("done")
    assert (done["protection"], done["verified_methods"]) == ("verified", ["sas"])
    assert done["connections"] == 2
    assert not place.exists()


async def test_a_contact_refuses_and_a_service_that_is_not_there(desks: tuple[Desk, Desk]) -> None:
    alice, bob = desks
    async with serving() as address:
        pass  # nobody is there any more
    connection = (await alice.run("status")).last("connection")["connection"]
    offer = await bob.start("tube", "offer", alice.jid, "ssh", address)
    came = await alice.side.signal(
        lambda s: s.member == "NewChannels" and s.body[0][0][1].get(SERVICE) == "ssh"
    )
    await alice.side.call(connection, came.body[0][0][0], CHANNEL, "Close")
    assert await offer.end() == 1
    assert offer.last("error")["error"].endswith(".Terminated")

    accept = await alice.start("tube", "accept", "--yes")
    await accept.event("waiting")
    offer = await bob.start("tube", "offer", alice.jid, "ssh", address)
    where = (await accept.event("open"))["address"]
    reader, writer = await asyncio.open_unix_connection(where.removeprefix("unix:"))
    async with asyncio.timeout(WAIT):
        assert await reader.read() == b""
    writer.close()
    for command in (accept, offer):
        closed = await command.event("connection-closed")
        assert closed["error"].endswith(".ConnectionRefused")
    await interrupted(offer)
    assert await accept.end() == 0
    assert accept.last("done")["closed_by"] == "there"


async def test_a_private_bus_has_an_address_on_both_sides(desks: tuple[Desk, Desk]) -> None:
    alice, bob = desks
    accept = await alice.start("tube", "accept", "com.example.Game", "--dbus", "--yes")
    await accept.event("waiting")
    offer = await bob.start("tube", "offer", alice.jid, "com.example.Game", "--dbus")
    for command in (accept, offer):
        assert (await command.event("open"))["address"].startswith("unix:")
    await interrupted(accept)
    assert await offer.end() == 0


async def test_a_contact_whose_program_takes_no_tubes_and_one_who_is_not_there(
    desks: tuple[Desk, Desk], prosody: Prosody
) -> None:
    _, bob = desks
    words = ("tube", "offer", prosody.jid("carol"), "http", "8080")
    missing = await bob.run(*words, code=1)
    assert missing.last("error")["error"].endswith(".Offline")
    carol = await Peer.start(prosody, "carol")
    presence = Element(f"{{{CLIENT}}}presence", {"to": bob.jid})
    presence.append(caps.build_caps("urn:test:peer", caps.ver(carol._info())))
    carol.send(presence)
    async with asyncio.timeout(WAIT):
        while True:
            refused = await bob.run(*words, code=1)
            if not refused.last("error")["error"].endswith(".Offline"):
                break
    assert refused.last("error")["error"].endswith((".NotCapable", ".NotAvailable"))
    await carol.stop()
