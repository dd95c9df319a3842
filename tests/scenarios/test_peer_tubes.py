"""A contact whose program sends what no honest one does into a tube: bounded, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio

from tests.peer import stanzas, tube
from tests.peer.bench import Bench
from tests.peer.client import Peer
from tests.peer.tube import (
    CLOSE,
    DATA,
    EOF,
    FEATURES,
    OPEN,
    PING,
    PONG,
    RESET,
    WINDOW,
    PeerTube,
    description,
    frame,
    parameter,
    preface,
)
from tests.support.side import CHANNEL, CONNECTION, TP
from tests.support.tubes import (
    STREAM_TUBE,
    UNIX,
    Serve,
    closed,
    echo,
    error_of,
    service,
    told,
)
from tests.support.waiting import PATIENCE, until

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

ERROR = TP + "Error."
REFUSED = 2
# What the daemon lets a peer have open at once, with those that wait to be read out.
MOST = 1024 + 1024 // 8


class Service:
    """An echo service that counts."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.all += 1
        self.count(writer)
        try:
            await echo(reader, writer)
        finally:
            self.now -= 1

    def count(self, _: asyncio.StreamWriter) -> None:
        """One has come."""
        self.most = max(self.most, self.now)


class Exact(Service):
    """One that counts those alone that its other side holds still.

    Of many that come and go, several may wait to be looked at by this process, closed already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: list[asyncio.StreamWriter] = []

    def count(self, writer: asyncio.StreamWriter) -> None:
        self._held = [each for each in (*self._held, writer) if _is_held(each)]
        self.most = max(self.most, len(self._held))


def _is_held(writer: asyncio.StreamWriter) -> bool:
    if writer.is_closing():
        return False
    poll = select.poll()
    poll.register(writer.get_extra_info("socket"), select.POLLRDHUP)
    return not poll.poll(0)


@pytest_asyncio.fixture(loop_scope="module")
async def peer(bench: Bench) -> Peer:
    return await bench.peer("bob", features=FEATURES, resource="tubes")


@contextlib.asynccontextmanager
async def taken(
    bench: Bench, peer: Peer, directory: Path, serve: Serve | None = None
) -> AsyncIterator[PeerTube]:
    """A service of the daemon's user, taken by the peer."""
    # Another program of the account is there all the time, and takes files alone.
    await bench.knows(peer, STREAM_TUBE)
    async with service(UNIX, directory, serve or Service()) as address:
        taken = await tube.taken(bench, peer, address)
        try:
            yield taken
        finally:
            await taken.stop()


async def ended(bench: Bench, taken: PeerTube) -> None:
    """The daemon ended it for what came, and says so to both."""
    assert await taken.session.ended() == "failed-application"
    await closed(bench.side, taken.path)
    assert error_of(bench.side, taken.path) == ERROR + "NetworkError"


def opens(count: int, first: int = 2) -> bytes:
    return b"".join(frame(OPEN, first + 2 * index) for index in range(count))


async def test_an_honest_peer_uses_the_service(bench: Bench, peer: Peer, tmp_path: Path) -> None:
    async with taken(bench, peer, tmp_path) as used:
        await used.write(preface(connections=0) + opens(1) + tube.data(2, b"hi") + frame(EOF, 2))
        assert (await used.until(DATA))[0][3] == b"hi"
        await used.until(EOF)
        await used.write(frame(PING, 1, 2) + frame(CLOSE))
        assert (await used.until(PONG))[0][:3] == (PONG, 1, 2)
        await used.until(CLOSE)
        await used.secured.write_eof()
        assert await used.session.ended() == "success"
        await closed(bench.side, used.path)
        assert error_of(bench.side, used.path) == ERROR + "Terminated"


async def test_a_flood_of_connections_is_refused_beyond_the_bound(
    bench: Bench, peer: Peer, tmp_path: Path
) -> None:
    serve = Service()
    async with taken(bench, peer, tmp_path, serve) as used:
        before = bench.memory()
        flood = 10_000
        await used.write(preface(connections=0) + opens(flood))
        refused = await used.until(RESET, count=flood - MOST)
        assert {each[2] for each in refused} == {REFUSED}
        await until(lambda: serve.now == MOST)
        # It still answers, to people and to this peer.
        assert await bench.side.get(bench.side.connection, CONNECTION, "Status") == 0
        await used.write(tube.data(2, b"hi"))
        assert (await used.until(DATA))[0][3] == b"hi"
        assert serve.most == MOST
        assert bench.memory() - before < 40 << 20
        await bench.side.cm(used.path, CHANNEL, "Close")
        await until(lambda: serve.now == 0)


async def test_connections_that_are_given_up_at_once_are_not_made(
    bench: Bench, peer: Peer, tmp_path: Path
) -> None:
    serve = Exact()
    async with taken(bench, peer, tmp_path, serve) as used:
        count = 20_000
        await used.write(preface(connections=0))
        for first in range(2, 2 + 2 * count, 200):
            both = (
                frame(OPEN, each) + frame(RESET, each, 1) for each in range(first, first + 200, 2)
            )
            await used.write(b"".join(both))
        last = 2 + 2 * count
        await used.write(frame(OPEN, last) + tube.data(last, b"still here"))
        assert (await used.until(DATA))[0][3] == b"still here"
        assert serve.most <= 33
        # Far fewer than were asked for: those that are over when their turn comes are left out.
        assert serve.all < count / 2
        told_of = told(bench.side, used.path, "NewRemoteConnection")
        assert len(told_of) <= serve.all
        await bench.side.cm(used.path, CHANNEL, "Close")


@pytest.mark.parametrize(
    "wrong",
    [
        b"GET / HTTP/1.1\r\n\r\n" + bytes(24),
        preface() + frame(9),
        preface() + frame(OPEN, 4),
        preface() + frame(OPEN, 1),
        preface() + tube.data(2, b"x"),
        preface() + opens(1) + frame(DATA, 2, 0),
        preface() + opens(1) + frame(DATA, 2, 16385),
        preface() + opens(1) + frame(EOF, 2) + tube.data(2, b"x"),
        preface() + opens(1) + frame(WINDOW, 2, 2**31 - 1),
        preface() + frame(6, 0, 2**31),
        preface(received=1),
    ],
    ids=[
        "another protocol",
        "an unknown frame",
        "a number left out",
        "one of our numbers",
        "data of no connection",
        "an empty frame",
        "a frame that is too long",
        "data after the end",
        "a window beyond all",
        "an acknowledgement of what was not sent",
        "a preface that has what was not sent",
    ],
)
async def test_what_makes_no_sense_ends_the_tube(
    bench: Bench, peer: Peer, tmp_path: Path, wrong: bytes
) -> None:
    async with taken(bench, peer, tmp_path) as used:
        await used.flood(wrong)
        await ended(bench, used)


async def test_more_than_the_window_ends_the_tube(bench: Bench, peer: Peer, tmp_path: Path) -> None:
    over = asyncio.Event()

    async def reads_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    try:
        async with taken(bench, peer, tmp_path, reads_nothing) as used:
            # More than the largest window and all that kernels keep for such a service: whatever
            # the daemon has allowed meanwhile, this is beyond it.
            await used.flood(preface() + opens(1) + 512 * tube.data(2, bytes(16384)))
            await ended(bench, used)
    finally:
        over.set()


async def test_answers_that_nobody_reads_are_bounded(
    bench: Bench, peer: Peer, tmp_path: Path
) -> None:
    async with taken(bench, peer, tmp_path) as used:
        used._reading.cancel()
        before = bench.memory()
        pings = b"".join(frame(PING, 0, each) for each in range(20_000))
        await used.flood(preface())
        async with asyncio.timeout(PATIENCE):
            while not error_of(bench.side, used.path):
                await used.flood(pings)
                await bench.tick()
        await ended(bench, used)
        assert bench.memory() - before < 40 << 20


async def test_a_peer_that_shares_a_service_opens_nothing_here(bench: Bench, peer: Peer) -> None:
    used, address = await tube.given(bench, peer)
    try:
        await used.write(preface() + frame(OPEN, 1) + frame(OPEN, 3))
        assert [each[1:3] for each in await used.until(RESET, count=2)] == [
            (1, REFUSED),
            (3, REFUSED),
        ]
        reader, writer = await asyncio.open_unix_connection(os.fsdecode(address))
        writer.write(b"hello")
        assert (await used.until(OPEN))[0][1] == 2
        assert (await used.until(DATA))[0][3] == b"hello"
        await used.write(tube.data(2, b"world") + frame(EOF, 2))
        assert await reader.read() == b"world"
        writer.close()
        await bench.side.cm(used.path, CHANNEL, "Close")
    finally:
        await used.stop()


async def test_a_peer_that_allows_no_connection_makes_programs_wait(
    bench: Bench, peer: Peer
) -> None:
    used, address = await tube.given(bench, peer)
    try:
        await used.write(preface(connections=0))
        reader, writer = await asyncio.open_unix_connection(os.fsdecode(address))
        await used.write(frame(PING, 0, 7))
        await used.until(PONG)
        assert not told(bench.side, used.path, "NewLocalConnection")
        # ... until he closes it.
        await used.write(frame(CLOSE))
        await used.until(CLOSE)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    finally:
        await used.stop()


def doubled() -> Element:
    return parameter(parameter(description(), "u", "s", "a"), "u", "s", "b")


def many() -> Element:
    found = description()
    for number in range(65):
        parameter(found, str(number), "u", "1")
    return found


@pytest.mark.parametrize(
    ("wrong", "condition"),
    [
        (description(kind="datagram"), "feature-not-implemented"),
        (description(service=""), "bad-request"),
        (description(service="x" * 256), "bad-request"),
        (doubled(), "bad-request"),
        (many(), "bad-request"),
        (parameter(description(), "u", "u", "-1"), "bad-request"),
        (parameter(description(), "u", "d", "0.5"), "feature-not-implemented"),
        (parameter(description(), "u", "s", "x" * 16385), "bad-request"),
    ],
)
async def test_an_offer_that_makes_no_sense_is_shown_to_nobody(
    bench: Bench, peer: Peer, wrong: Element, condition: str
) -> None:
    session = tube.TubeSession(peer.session(bench.jid))
    answer = await session.offer(wrong)
    assert answer[0] == condition
    assert await bench.channels() == []
    await session.stop()


async def test_offers_that_nobody_answers_are_bounded(bench: Bench, peer: Peer) -> None:
    refused = 0
    for _ in range(80):
        session = tube.TubeSession(peer.session(bench.jid))
        refused += await session.offer(description()) != ("", "")
    assert refused
    assert 0 < len(await bench.channels()) <= 64


async def test_an_answer_of_another_tube_ends_it(bench: Bench, peer: Peer, tmp_path: Path) -> None:
    # Another program of the account is there all the time, and takes files alone.
    await bench.knows(peer, STREAM_TUBE)
    async with service(UNIX, tmp_path) as address:
        await tube.offered(bench, peer, address)
        session = await peer.offered()
        element = await session.wait("session-initiate")
        offered = stanzas.only_content(element)
        answer = stanzas.content(
            description(service="other"),
            stanzas.part(offered, "transport"),
            stanzas.part(offered, "security"),
            name="tube",
            senders="both",
        )
        # A refusal could be there before its reason, and would be all that he hears.
        assert (await session.send("session-accept", answer)) == ("", "")
        assert await session.ended() == "security-error"
