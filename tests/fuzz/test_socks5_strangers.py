"""No bytes of a stranger's do anything to SOCKS5 but end that one connection.

A server takes a connection for a transfer only if its exact name was asked for, from any client
that speaks at all; the machines take not a byte more than the handshake has; a candidate that
answers whatever it likes makes our connection break, and nothing else. However many strangers
were there, the next honest peer is served.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.net.accepting import Acceptor
from telepathy_e2e.net.listener import Listener
from telepathy_e2e.net.socks5 import ClientHandshake, ServerHandshake, connect
from telepathy_e2e.net.streams import SocketStream, StreamBroken
from tests.support.waiting import PATIENCE
from tests.unit.net_support import DSTADDR, OTHER_DSTADDR, call, nothing_left_open, read_all

from .support import CUTS, budget, mutated_bytes, pieces

GREETING = b"\x05\x01\x00"
REQUEST = b"\x05\x01\x00\x03\x28" + DSTADDR.encode() + b"\0\0"
METHOD = b"\x05\x00"
REPLY = b"\x05\x00\x00\x03\x28" + DSTADDR.encode() + b"\0\0"
# Three sizes of the bound address that a proxy may name.
REPLIES = (
    METHOD + REPLY,
    METHOD + b"\x05\x00\x00\x01" + bytes(6),
    METHOD + b"\x05\x00\x00\x04" + bytes(18),
)

CLIENTS = mutated_bytes((GREETING + REQUEST, b"\x05\x02\x02\x00" + REQUEST)) | st.binary(
    max_size=60
)
SERVERS = mutated_bytes(REPLIES) | st.binary(max_size=60)


async def guarded(step: Awaitable[None]) -> None:
    await asyncio.wait_for(step, PATIENCE)


def _drive(machine: ServerHandshake | ClientHandshake, parts: list[bytes]) -> int:
    """How many bytes it took."""
    taken = 0
    for part in parts:
        rest = part
        while rest and machine.needed:
            now, rest = rest[: machine.needed], rest[machine.needed :]
            machine.receive(now)
            taken += len(now)
            assert 0 <= machine.needed <= 262
    return taken


@budget(2)
@given(CLIENTS, CUTS)
def test_a_server_grants_a_name_that_was_asked_for_and_nothing_else(
    data: bytes, cuts: list[int]
) -> None:
    machine = ServerHandshake()
    with suppress(PeerError):
        taken = _drive(machine, pieces(data, cuts))
        assert bool(machine.dstaddr) is not bool(machine.needed)
        if machine.dstaddr:
            assert machine.dstaddr.encode() == data[taken - 42 : taken - 2].lower()
            assert data[taken - 47 : taken - 45] == b"\x05\x01"
        return
    assert machine.dstaddr == ""


@budget(2)
@given(SERVERS, CUTS)
def test_a_client_is_let_in_by_a_grant_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    machine = ClientHandshake(DSTADDR)
    with suppress(PeerError):
        taken = _drive(machine, pieces(data, cuts))
        if not machine.needed:
            assert data[:2] == METHOD
            assert data[2:4] == b"\x05\x00"
            assert 9 <= taken <= 264


async def _strangers(strangers: list[tuple[bytes, list[int]]]) -> None:
    async with nothing_left_open(), Listener() as listener:
        # Addresses of the machine are none of this test's business; this one is always there.
        with listener.register(DSTADDR) as expectation:
            port = listener._ports[4]
            for data, cuts in strangers:
                stream = await call(("127.0.0.1", port))
                with suppress(StreamBroken):
                    for piece in pieces(data, cuts):
                        await stream.write(piece)
                    await stream.write_eof()
                    # One that is let in is held for whoever takes it, all others are hung up on.
                    answer, granted = b"", METHOD + b"\x05\x00\x00\x03\x28"
                    while not answer.startswith(granted) and (more := await stream.read(1 << 16)):
                        answer += more
                    if answer.startswith(granted):
                        assert DSTADDR.encode() in data.lower()
                stream.close()
            honest = await connect("127.0.0.1", port, DSTADDR)
            await honest.write(b"x")
            while True:
                taken = await expectation.stream()
                first = await taken.read(1)
                taken.close()
                if first == b"x":
                    break
            honest.close()
            with pytest.raises(StreamBroken):
                await connect("127.0.0.1", port, OTHER_DSTADDR)


@settings(budget(0.3), suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(CLIENTS, CUTS), max_size=4))
async def test_after_any_strangers_an_honest_peer_is_served(
    caplog: pytest.LogCaptureFixture, strangers: list[tuple[bytes, list[int]]]
) -> None:
    caplog.set_level(logging.ERROR)
    await guarded(_strangers(strangers))
    assert not caplog.records, "a task died"


async def _candidate(data: bytes, cuts: list[int]) -> None:
    async with nothing_left_open():
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        acceptor = Acceptor(sock)

        async def play() -> None:
            stream = SocketStream(await acceptor.accept())
            with suppress(StreamBroken):
                for piece in pieces(data, cuts):
                    await stream.write(piece)
                await stream.write_eof()
                await read_all(stream)
            stream.close()

        async def use() -> None:
            with suppress(StreamBroken):
                stream = await connect("127.0.0.1", port, DSTADDR)
                assert data.startswith(METHOD + b"\x05\x00")
                stream.close()

        await asyncio.gather(play(), use())
        acceptor.close()


@settings(budget(0.5), suppress_health_check=list(HealthCheck))
@given(SERVERS, CUTS)
async def test_a_candidate_that_answers_anything_breaks_its_own_connection_only(
    data: bytes, cuts: list[int]
) -> None:
    await guarded(_candidate(data, cuts))
