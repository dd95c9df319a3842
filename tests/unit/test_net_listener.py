from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.net import listener as listening
from telepathy_e2e.net.listener import MAX_ARRIVED, MAX_HALF_OPEN, Expectation, Listener
from telepathy_e2e.net.socks5 import connect
from telepathy_e2e.net.streams import SocketStream, StreamBroken

from .net_support import (
    DSTADDR,
    LOOPBACKS,
    OTHER_DSTADDR,
    call,
    descriptors,
    nothing_left_open,
    read_all,
    turns,
)


@pytest.fixture(autouse=True)
async def _no_leak() -> AsyncIterator[None]:
    async with nothing_left_open():
        yield


def port(waiting: Expectation | Listener, host: str = "127.0.0.1") -> int:
    return dict(waiting.addresses)[host]


async def half_open(waiting: Listener, count: int) -> None:
    """Wait until the listener has so many connections that have named no transfer."""
    while len(waiting._half_open) != count:
        await asyncio.sleep(0)


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_a_connection_reaches_the_transfer_that_it_names(host: str) -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as one, listener.register(OTHER_DSTADDR) as other:
            assert one.addresses == other.addresses
            peer = await connect(host, port(one, host), OTHER_DSTADDR)
            stream = await other.stream()
            assert one.arrived == []
            await peer.write(b"to us")
            assert await stream.read(10) == b"to us"
            await stream.write(b"to them")
            assert await peer.read(10) == b"to them"
            peer.close()
            stream.close()


async def test_ipv4_and_ipv6_have_the_same_port() -> None:
    async with Listener() as listener:
        expectation = listener.register(DSTADDR)
        assert len({port for _, port in expectation.addresses}) == 1
        assert "127.0.0.1" in dict(expectation.addresses)


async def test_families_get_different_ports_when_they_cannot_share_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind = listening._bind

    def unlucky(family: socket.AddressFamily, port: int) -> socket.socket:
        if port:
            raise OSError("taken")
        return bind(family, port)

    monkeypatch.setattr(listening, "_bind", unlucky)
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            for host in ("127.0.0.1", "::1"):
                (await connect(host, port(expectation, host), DSTADDR)).close()


@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
async def test_one_family_is_enough(
    monkeypatch: pytest.MonkeyPatch, missing: socket.AddressFamily
) -> None:
    bind = listening._bind

    def lacking(family: socket.AddressFamily, port: int) -> socket.socket:
        if family == missing:
            raise OSError("no such family")
        return bind(family, port)

    monkeypatch.setattr(listening, "_bind", lacking)
    host = "::1" if missing == socket.AF_INET else "127.0.0.1"
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            assert {":" in address for address, _ in expectation.addresses} == {":" in host}
            (await connect(host, port(expectation, host), DSTADDR)).close()


async def test_no_port_at_all_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    def hopeless(family: socket.AddressFamily, port: int) -> socket.socket:
        raise OSError("none")

    monkeypatch.setattr(listening, "_bind", hopeless)
    async with Listener() as listener:
        with pytest.raises(NotAvailable):
            listener.register(DSTADDR)


async def test_the_port_is_open_only_while_something_is_expected() -> None:
    async with Listener() as listener:
        assert listener.addresses == []
        first, second = listener.register(DSTADDR), listener.register(OTHER_DSTADDR)
        number = port(listener)
        first.close()
        first.close()
        assert port(listener) == number
        second.close()
        assert listener.addresses == []
        with pytest.raises(StreamBroken, match="refused"):
            await connect("127.0.0.1", number, DSTADDR)
        with listener.register(DSTADDR) as again:
            (await connect("127.0.0.1", port(again), DSTADDR)).close()


async def test_an_unknown_name_is_refused() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            with pytest.raises(StreamBroken, match="not allowed"):
                await connect("127.0.0.1", port(expectation), OTHER_DSTADDR)
            assert expectation.arrived == []


async def test_a_name_is_refused_once_its_transfer_is_closed() -> None:
    async with Listener() as listener:
        with listener.register(OTHER_DSTADDR) as other:
            listener.register(DSTADDR).close()
            with pytest.raises(StreamBroken, match="not allowed"):
                await connect("127.0.0.1", port(other), DSTADDR)


async def test_one_transfer_may_have_several_names() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR, OTHER_DSTADDR) as expectation:
            for name in (DSTADDR, OTHER_DSTADDR):
                peer = await connect("127.0.0.1", port(expectation), name)
                (await expectation.stream()).close()
                peer.close()


async def test_mistakes_in_registering_show() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR):
            for names in ([], ["example.org"], [DSTADDR.upper()], [OTHER_DSTADDR, DSTADDR]):
                with pytest.raises(ValueError, match=r"digest|already"):
                    listener.register(*names)
        listener.register(OTHER_DSTADDR).close()
    with pytest.raises(NotAvailable):
        listener.register(DSTADDR)


async def test_the_nominated_candidate_decides_which_connection_is_taken() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            four = await connect("127.0.0.1", port(expectation), DSTADDR)
            six = await connect("::1", port(expectation, "::1"), DSTADDR)
            assert expectation.arrived == ["127.0.0.1", "::1"]
            stream = await expectation.stream("0:0:0::1")
            assert stream.socket.getpeername() == six.socket.getsockname()
            assert expectation.arrived == ["127.0.0.1"]
        assert await read_all_or_reset(four) == b""
        await six.write(b"still here")
        assert await stream.read(10) == b"still here"
        for each in (four, six, stream):
            each.close()


async def read_all_or_reset(stream: SocketStream) -> bytes:
    try:
        return await read_all(stream)
    except StreamBroken:
        return b""


async def test_one_can_wait_for_a_connection_that_has_not_come_yet() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            any_one = asyncio.get_running_loop().create_task(expectation.stream())
            of_six = asyncio.get_running_loop().create_task(expectation.stream("::1"))
            await turns()
            peers = [await connect("127.0.0.1", port(expectation), DSTADDR)]
            stream = await any_one
            assert not of_six.done()
            peers.append(await connect("::1", port(expectation, "::1"), DSTADDR))
            (await of_six).close()
            stream.close()
            for peer in peers:
                peer.close()


async def test_waiting_ends_when_the_transfer_is_closed() -> None:
    async with Listener() as listener:
        expectation = listener.register(DSTADDR)
        waiting = asyncio.get_running_loop().create_task(expectation.stream())
        await turns()
        expectation.close()
        for attempt in (waiting, expectation.stream()):
            with pytest.raises(StreamBroken):
                await attempt


async def test_a_connection_that_the_peer_dropped_meanwhile_is_passed_over() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            dropped = await connect("127.0.0.1", port(expectation), DSTADDR)
            dropped.close()
            kept = await connect("127.0.0.1", port(expectation), DSTADDR)
            stream = await expectation.stream()
            assert stream.socket.getpeername() == kept.socket.getsockname()
            kept.close()
            stream.close()


async def test_not_a_byte_is_read_before_the_stream_is_taken() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            peer = await call(("127.0.0.1", port(expectation)))
            await peer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x03\x28" + DSTADDR.encode() + b"\0\0")
            await peer.write(b"payload")
            stream = await expectation.stream()
            assert await stream.read(100) == b"payload"
            peer.close()
            stream.close()


async def test_a_connection_that_says_nothing_is_closed_after_the_time_limit() -> None:
    async with Listener(handshake_seconds=0.02) as listener:
        with listener.register(DSTADDR) as expectation:
            silent = await call(("127.0.0.1", port(expectation)))
            dripping = await call(("127.0.0.1", port(expectation)))
            await dripping.write(b"\x05")
            assert await read_all_or_reset(silent) == b""
            assert await read_all_or_reset(dripping) == b""
            await half_open(listener, 0)
            silent.close()
            dripping.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", bytes(1000)])
async def test_garbage_is_answered_with_the_end(garbage: bytes) -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            peer = await call(("127.0.0.1", port(expectation)))
            await peer.write(garbage)
            assert await read_all_or_reset(peer) == b""
            peer.close()
            assert expectation.arrived == []


async def test_of_too_many_unidentified_connections_the_oldest_goes() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            address = ("127.0.0.1", port(expectation))
            strangers = [await call(address) for _ in range(MAX_HALF_OPEN)]
            await half_open(listener, MAX_HALF_OPEN)
            assert not any(stranger.ended() for stranger in strangers)
            peer = await connect(*address, DSTADDR)
            assert await read_all_or_reset(strangers[0]) == b""
            assert not any(stranger.ended() for stranger in strangers[1:])
            (await expectation.stream()).close()
            for stranger in strangers:
                stranger.close()
            peer.close()


async def test_a_transfer_holds_so_many_connections_and_no_more() -> None:
    async with Listener() as listener:
        with listener.register(DSTADDR) as expectation:
            address = ("127.0.0.1", port(expectation))
            peers = [await connect(*address, DSTADDR) for _ in range(MAX_ARRIVED)]
            with pytest.raises(StreamBroken, match="not allowed"):
                await connect(*address, DSTADDR)
            (await expectation.stream()).close()
            peers.append(await connect(*address, DSTADDR))
            for peer in peers:
                peer.close()


async def test_closing_the_listener_closes_everything_but_what_was_taken() -> None:
    before = descriptors()
    listener = Listener()
    expectation = listener.register(DSTADDR)
    address = ("127.0.0.1", port(expectation))
    peers = [await connect(*address, DSTADDR) for _ in range(3)]
    peers.append(await call(address))
    await half_open(listener, 1)
    peers.append(await call(address))  # perhaps not even accepted
    stream = await expectation.stream()
    await listener.close()
    await listener.close()
    await peers[0].write(b"still here")
    assert await stream.read(10) == b"still here"
    for each in (*peers, stream):
        each.close()
    with pytest.raises(StreamBroken):
        await expectation.stream()
    assert descriptors() == before


async def test_a_connection_is_dropped_even_before_its_handshake_has_begun() -> None:
    async with Listener() as listener:
        expectation = listener.register(DSTADDR)
        peer = await call(("127.0.0.1", port(expectation)))
        await half_open(listener, 1)  # seen in the turn before the handshake's first
        expectation.close()
        assert await read_all_or_reset(peer) == b""
        peer.close()


async def test_a_transfer_that_closes_within_the_handshake_gets_no_connection() -> None:
    async with Listener() as listener:
        with listener.register(OTHER_DSTADDR) as other:
            expectation = listener.register(DSTADDR)
            peer = await call(("127.0.0.1", port(other)))
            await peer.write(b"\x05\x01\x00")
            assert await peer.read(2) == b"\x05\x00"
            await peer.write(b"\x05\x01\x00\x03\x28" + DSTADDR.encode() + b"\0")
            await turns()
            expectation.close()
            await peer.write(b"\0")
            answer = await read_all_or_reset(peer)
            assert answer[:2] == b"\x05\x02"
            peer.close()
