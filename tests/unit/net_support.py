"""What the tests of ``telepathy_e2e.net`` share: pairs of sockets, and an eye on descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telepathy_e2e.net.streams import SocketStream
from tests.support.waiting import PATIENCE

LOOPBACKS = [
    pytest.param("127.0.0.1", id="ipv4"),
    pytest.param(
        "::1",
        id="ipv6",
        marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine"),
    ),
]
DSTADDR = "972b7bf47291ca609517f67f86b5081086052dad"
OTHER_DSTADDR = "1a12fb7bc625e55f3ed5b29a53dbe0e4aa7d80ba"


def descriptors() -> dict[str, str]:
    """Descriptor number to what it is, for all that are open now."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the one that lists the directory
    return found


@asynccontextmanager
async def nothing_left_open() -> AsyncIterator[None]:
    """Fails when the block leaves a descriptor behind, and cancels it when it hangs."""
    before = descriptors()
    guard = asyncio.get_running_loop().call_later(PATIENCE, _cancel_all)
    yield
    guard.cancel()
    await turns()
    assert descriptors() == before


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel("the test hangs")


async def turns(count: int = 10) -> None:
    """Let everything run that is ready to run."""
    for _ in range(count):
        await asyncio.sleep(0)


def socket_pair(kind: str) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets; ``kind`` is "unix" or a loopback address."""
    if kind == "unix":
        return socket.socketpair()
    family = socket.AF_INET6 if ":" in kind else socket.AF_INET
    with socket.create_server((kind, 0), family=family) as listening:
        one = socket.create_connection(listening.getsockname()[:2])
        other, _ = listening.accept()
    return one, other


def stream_pair(kind: str) -> tuple[SocketStream, SocketStream]:
    one, other = socket_pair(kind)
    return SocketStream(one), SocketStream(other)


async def call(address: str | bytes | tuple[str, int], source: int | None = None) -> SocketStream:
    """Connect as a client does; ``source`` is the local port to connect from."""
    family = socket.AF_UNIX
    if isinstance(address, tuple):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        if source is not None and isinstance(address, tuple):
            sock.bind((address[0], source))
        await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError:
        sock.close()
        raise
    return SocketStream(sock)


async def read_all(stream: SocketStream) -> bytes:
    """Everything up to the end, or up to a reset."""
    parts = bytearray()
    while data := await stream.read(1 << 20):
        parts += data
    return bytes(parts)
