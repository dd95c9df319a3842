from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.net.accepting import Acceptor
from telepathy_e2e.net.socks5 import (
    GRANTED,
    NOT_ALLOWED,
    ClientHandshake,
    Refused,
    ServerHandshake,
    connect,
    read_request,
)
from telepathy_e2e.net.streams import SocketStream, StreamBroken

from .net_support import DSTADDR, LOOPBACKS, nothing_left_open, stream_pair

Machine = ServerHandshake | ClientHandshake

GREETING = b"\x05\x01\x00"
REQUEST = b"\x05\x01\x00\x03\x28" + DSTADDR.encode() + b"\0\0"
METHOD = b"\x05\x00"
REPLY = b"\x05\x00\x00\x03\x28" + DSTADDR.encode() + b"\0\0"

# the longest thing that fits: 255 methods, then a request; a reply with a name of 255 bytes
MOST_OF_A_CLIENT = 2 + 255 + 5 + 40 + 2
MOST_OF_A_SERVER = 2 + 5 + 255 + 2


def feed(machine: Machine, pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """What it answers, and how many bytes it took before it was done."""
    answers, taken = b"", 0
    for piece in pieces:
        rest = piece
        while rest and machine.needed:
            part, rest = rest[: machine.needed], rest[machine.needed :]
            answers += machine.receive(part)
            taken += len(part)
    return answers, taken


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


cuts = st.lists(st.integers(min_value=0, max_value=400), max_size=8)


@given(cuts)
def test_server_understands_a_client_that_is_split_anywhere(where: list[int]) -> None:
    machine = ServerHandshake()
    answers, taken = feed(machine, pieces_of(GREETING + REQUEST, where))
    assert (answers, taken, machine.needed) == (METHOD, len(GREETING + REQUEST), 0)
    assert machine.dstaddr == DSTADDR
    assert machine.answer(GRANTED) == REPLY


@given(cuts)
def test_client_understands_a_server_that_is_split_anywhere(where: list[int]) -> None:
    machine = ClientHandshake(DSTADDR)
    answers, taken = feed(machine, pieces_of(METHOD + REPLY, where))
    assert machine.greeting == GREETING
    assert (answers, taken, machine.needed) == (REQUEST, len(METHOD + REPLY), 0)


def test_both_understand_each_other_byte_by_byte() -> None:
    client, server = ClientHandshake(DSTADDR), ServerHandshake()
    to_server, to_client = client.greeting, b""
    answered = False
    while client.needed:
        answer, taken = feed(server, [to_server[:1]])
        to_server = to_server[taken:]
        to_client += answer
        if not server.needed and not answered:
            answered = True
            to_client += server.answer(GRANTED)
        answer, taken = feed(client, [to_client[:1]])
        to_client = to_client[taken:]
        to_server += answer
    assert (to_client, to_server, server.dstaddr) == (b"", b"", DSTADDR)


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_no_bytes_from_a_client_raise_anything_but_peer_error(pieces: list[bytes]) -> None:
    machine = ServerHandshake()
    try:
        _, taken = feed(machine, pieces)
    except PeerError:
        return
    assert taken <= MOST_OF_A_CLIENT
    assert machine.needed or machine.dstaddr


@given(st.lists(st.binary(max_size=400), max_size=6))
def test_no_bytes_from_a_server_raise_anything_but_peer_error(pieces: list[bytes]) -> None:
    machine = ClientHandshake(DSTADDR)
    try:
        _, taken = feed(machine, pieces)
    except PeerError:
        return
    assert taken <= MOST_OF_A_SERVER


@given(st.integers(min_value=0, max_value=44), st.integers(min_value=0, max_value=255))
def test_one_wrong_byte_in_a_request_names_no_transfer_or_another(place: int, value: int) -> None:
    changed = bytearray(REQUEST)
    changed[place] = value
    machine = ServerHandshake()
    try:
        feed(machine, [GREETING, bytes(changed)])
    except PeerError:
        assert machine.dstaddr == ""
    else:
        assert machine.dstaddr == changed[5:45].decode().lower()


@given(st.integers(min_value=1, max_value=255))
def test_server_picks_no_authentication_from_any_number_of_methods(count: int) -> None:
    machine = ServerHandshake()
    methods = bytes([2] * (count - 1) + [0])
    assert feed(machine, [bytes([5, count]) + methods])[0] == METHOD


@pytest.mark.parametrize(
    ("messages", "reply"),
    [
        pytest.param([b"\x05\x00"], b"\x05\xff", id="no methods"),
        pytest.param([b"\x05\x01\x02"], b"\x05\xff", id="password only"),
        pytest.param([GREETING, b"\x05\x02\x00\x03\x28"], b"\x05\x07", id="BIND"),
        pytest.param([GREETING, b"\x05\x01\x00\x01\x7f"], b"\x05\x08", id="an IPv4 address"),
        pytest.param([GREETING, b"\x05\x01\x00\x04\x00"], b"\x05\x08", id="an IPv6 address"),
        pytest.param([GREETING, b"\x05\x01\x00\x03\x27"], b"\x05\x02", id="39 characters"),
        pytest.param([GREETING, b"\x05\x01\x00\x03\x29"], b"\x05\x02", id="41 characters"),
        pytest.param(
            [GREETING, REQUEST[:5] + b"g" * 40 + b"\0\0"], b"\x05\x02", id="not hexadecimal"
        ),
        pytest.param([GREETING, REQUEST[:-1] + b"\x01"], b"\x05\x02", id="UDP"),
    ],
)
def test_server_says_why_it_refuses(messages: list[bytes], reply: bytes) -> None:
    with pytest.raises(Refused) as caught:
        feed(ServerHandshake(), messages)
    assert caught.value.reply[:2] == reply


@pytest.mark.parametrize("messages", [[b"GE"], [b"\x04\x01"], [GREETING, b"\x04" + REQUEST[1:]]])
def test_server_has_no_words_for_what_is_not_socks5(messages: list[bytes]) -> None:
    with pytest.raises(PeerError) as caught:
        feed(ServerHandshake(), messages)
    assert not isinstance(caught.value, Refused)


def test_server_takes_upper_case_digits_for_the_same_digest() -> None:
    machine = ServerHandshake()
    feed(machine, [GREETING, REQUEST.upper()])
    assert machine.dstaddr == DSTADDR


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param(b"\x01\x7f\0\0\x01\x1d\x94", id="IPv4"),
        pytest.param(b"\x04" + bytes(16) + b"\x1d\x94", id="IPv6"),
        pytest.param(b"\x03\x00\x00\x00", id="an empty name"),
        pytest.param(b"\x03\xff" + b"x" * 255 + b"\0\0", id="the longest name"),
    ],
)
def test_client_takes_any_address_in_the_reply_and_not_a_byte_more(bound: bytes) -> None:
    machine = ClientHandshake(DSTADDR)
    reply = METHOD + b"\x05\x00\x00" + bound
    assert feed(machine, [reply + b"payload"])[1] == len(reply)
    assert machine.needed == 0


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([b"\x05\xff"], "authentication"),
        ([b"\x04\x00"], "authentication"),
        ([METHOD, b"\x05\x05\x00\x03\x00"], "connection refused"),
        ([METHOD, b"\x05\x63\x00\x03\x00"], "unknown"),
        ([METHOD, b"\x04\x00\x00\x03\x00"], "not SOCKS5"),
        ([METHOD, b"\x05\x00\x00\x02\x00"], "unknown type"),
    ],
)
def test_client_gives_up_on_anything_but_success(messages: list[bytes], why: str) -> None:
    with pytest.raises(PeerError, match=why):
        feed(ClientHandshake(DSTADDR), messages)


def test_more_than_was_asked_for_is_a_mistake_that_shows() -> None:
    with pytest.raises(ValueError, match="more"):
        ServerHandshake().receive(b"\x05\x01\x00")


class Fake:
    """A server on loopback that plays a script: what to send after each number of bytes."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, 0), family=family)
        self.port: int = sock.getsockname()[1]
        self._acceptor = Acceptor(sock)

    async def play(self, *script: tuple[int, bytes]) -> SocketStream:
        stream = SocketStream(await self._acceptor.accept())
        try:
            for count, answer in script:
                seen = 0
                while seen < count:
                    seen += len(await stream.read(count - seen))
                for byte in answer:
                    await stream.write(bytes([byte]))
        except StreamBroken:
            stream.close()
            raise
        return stream

    def close(self) -> None:
        self._acceptor.close()


@pytest.fixture(autouse=True)
async def _no_leak() -> AsyncIterator[None]:
    async with nothing_left_open():
        yield


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_connecting_leaves_the_first_byte_of_the_payload_for_its_owner(host: str) -> None:
    fake = Fake(host)
    served, stream = await asyncio.gather(
        fake.play((len(GREETING), METHOD), (len(REQUEST), REPLY + b"payload")),
        connect(host, fake.port, DSTADDR),
    )
    assert (await stream.read(1), await stream.read(1)) == (b"p", b"a")
    for each in (served, stream, fake):
        each.close()


async def test_connecting_to_a_name_finds_its_address() -> None:
    fake = Fake()
    served, stream = await asyncio.gather(
        fake.play((len(GREETING), METHOD), (len(REQUEST), REPLY)),
        connect("localhost", fake.port, DSTADDR),
    )
    for each in (served, stream, fake):
        each.close()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([], id="closes at once"),
        pytest.param([(3, b"\x05\xff")], id="wants a password"),
        pytest.param([(3, b"\x05")], id="closes within an answer"),
        pytest.param([(3, METHOD), (47, b"\x05\x02\x00\x03\x00")], id="refuses"),
        pytest.param([(3, b"HTTP/1.1 400 Bad Request")], id="is no proxy"),
    ],
)
async def test_connecting_to_one_that_fails_breaks(script: list[tuple[int, bytes]]) -> None:
    fake = Fake()

    async def serve() -> None:
        (await fake.play(*script)).close()

    serving = asyncio.get_running_loop().create_task(serve())
    with pytest.raises(StreamBroken):
        await connect("127.0.0.1", fake.port, DSTADDR)
    await asyncio.gather(serving, return_exceptions=True)
    fake.close()


async def test_connecting_to_one_that_is_silent_breaks_after_the_time_limit() -> None:
    fake = Fake()
    with pytest.raises(StreamBroken, match="time"):
        await connect("127.0.0.1", fake.port, DSTADDR, timeout=0.02)
    fake.close()


async def test_connecting_where_nobody_listens_breaks() -> None:
    fake = Fake()
    fake.close()
    with pytest.raises(StreamBroken):
        await connect("127.0.0.1", fake.port, DSTADDR)


async def test_connecting_without_a_digest_is_a_mistake_that_shows() -> None:
    with pytest.raises(ValueError, match="digest"):
        await connect("127.0.0.1", 1, "example.org")


async def test_a_request_is_read_and_what_follows_is_left() -> None:
    client, server = stream_pair("unix")
    await client.write(GREETING + REQUEST + b"payload")
    machine = await read_request(server)
    assert machine.dstaddr == DSTADDR
    await server.write(machine.answer(NOT_ALLOWED))
    assert await client.read(100) == METHOD + REPLY[:1] + bytes([NOT_ALLOWED]) + REPLY[2:]
    assert await server.read(100) == b"payload"
    client.close()
    server.close()


async def test_a_client_is_told_why_its_request_is_refused() -> None:
    client, server = stream_pair("unix")
    await client.write(b"\x05\x01\x02")
    with pytest.raises(Refused):
        await read_request(server)
    assert await client.read(100) == b"\x05\xff"
    client.close()
    server.close()


async def test_a_client_that_leaves_within_the_handshake_breaks_it() -> None:
    client, server = stream_pair("unix")
    await client.write(GREETING)
    client.close()
    with pytest.raises(StreamBroken):
        await read_request(server)
    server.close()
