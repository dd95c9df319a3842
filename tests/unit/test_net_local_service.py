"""Connections to the service that a tube shares, and who may share it or connect."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from telepathy_e2e.errors import ConnectionRefused, InvalidArgument, NotAvailable
from telepathy_e2e.net import local, local_service
from telepathy_e2e.net.local import SUPPORTED_BY_TUBES, listen
from telepathy_e2e.net.local_service import LocalService
from telepathy_e2e.net.streams import SocketStream, StreamBroken

from .net_support import call, nothing_left_open

UNIX, ABSTRACT, IPV4, IPV6 = range(4)
LOCALHOST, PORT, NETMASK, CREDENTIALS = range(4)
IPS = pytest.mark.parametrize(("kind", "host"), [(IPV4, "127.0.0.1"), (IPV6, "::1")])


@pytest.fixture(autouse=True)
async def _no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with nothing_left_open():
        yield


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A Unix socket that a service listens on."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(directory + "/service")
        sock.listen(1)
        yield sock


def path_of(sock: socket.socket) -> bytes:
    return os.fsencode(sock.getsockname())


async def test_the_byte_of_the_credentials_comes_first_and_says_who_we_are(
    listening: socket.socket,
) -> None:
    service = LocalService(UNIX, path_of(listening), CREDENTIALS)
    seen = []
    for _ in range(2):
        ours, param = await service.connect()
        theirs, _address = listening.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        byte, ancillary, _, _ = theirs.recvmsg(10, socket.CMSG_SPACE(12))
        ((level, kind, raw),) = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        assert struct.unpack("3i", raw) == (os.getpid(), os.geteuid(), os.getegid())
        assert byte == bytes([param])  # type: ignore[list-item]
        seen.append(param)
        ours.close()
        theirs.close()
    # Two that wait to be told apart have two bytes.
    assert seen[0] != seen[1]


async def test_a_name_that_somebody_else_has_taken_gets_no_connection(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(ConnectionRefused):
        await LocalService(UNIX, path_of(listening), CREDENTIALS).connect()
    # Localhost lets everybody share everything.
    sock, param = await LocalService(UNIX, path_of(listening), LOCALHOST).connect()
    assert param == 0
    sock.close()


@IPS
@pytest.mark.parametrize("control", [LOCALHOST, PORT, NETMASK])
async def test_the_service_can_tell_connections_by_their_ports(
    kind: int, host: str, control: int
) -> None:
    family = socket.AF_INET if kind == IPV4 else socket.AF_INET6
    with socket.create_server((host, 0), family=family) as server:
        service = LocalService(kind, (host, server.getsockname()[1]), control)
        sock, param = await service.connect()
        theirs, address = server.accept()
        assert address[:2] == param
        sock.close()
        theirs.close()


@pytest.mark.parametrize("kind", [UNIX, ABSTRACT, IPV4, IPV6])
async def test_a_service_that_is_not_there_refuses(kind: int) -> None:
    host = "127.0.0.1" if kind == IPV4 else "::1"
    family = socket.AF_INET if kind == IPV4 else socket.AF_INET6
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
    address: object = (b"/nowhere/at/all", b"\0nowhere", (host, port), (host, port))[kind]
    with pytest.raises(ConnectionRefused):
        await LocalService(kind, address, LOCALHOST).connect()


async def test_a_service_whose_queue_is_full_is_waited_for_and_not_for_ever(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = LocalService(UNIX, path_of(listening), LOCALHOST)
    queued = [await service.connect() for _ in range(2)]
    waiting = asyncio.ensure_future(service.connect())
    await asyncio.sleep(0)
    assert not waiting.done()
    accepted = [listening.accept()[0]]
    sock, _ = await waiting
    monkeypatch.setattr(local_service, "CONNECT_SECONDS", 0.05)
    with pytest.raises(ConnectionRefused):
        await service.connect()
    for each in (sock, *accepted, *(first for first, _ in queued)):
        each.close()


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        (UNIX, "text"),
        (UNIX, b""),
        (UNIX, b"/"),
        (UNIX, b"/" + b"x" * 108),
        (UNIX, b"\0abstract"),
        (ABSTRACT, b"/path"),
        (IPV4, b"127.0.0.1"),
        (IPV4, ("127.0.0.1",)),
        (IPV4, ("127.0.0.1", 0)),
        (IPV4, ("127.0.0.1", 65536)),
        (IPV4, ("example.org", 80)),
        (IPV4, ("::1", 80)),
        (IPV4, ("224.0.0.1", 80)),
        (IPV6, ("127.0.0.1", 80)),
        (IPV6, ("fe80::1%lo", 80)),
        (IPV6, (1, 80)),
    ],
)
async def test_addresses_that_make_no_sense(kind: int, address: object) -> None:
    with pytest.raises(InvalidArgument):
        LocalService(kind, address, LOCALHOST)


def test_a_path_may_come_with_its_final_null() -> None:
    assert LocalService(UNIX, b"/run/service\0", LOCALHOST)._address == b"/run/service"
    assert LocalService(ABSTRACT, b"\0a\0", LOCALHOST)._address == b"\0a\0"


# -- the listener that lets in any number -----------------------------------------------------


@pytest.mark.parametrize("kind", [UNIX, ABSTRACT, IPV4, IPV6])
async def test_a_listener_of_a_tube_takes_one_connection_after_the_other(kind: int) -> None:
    listener = await listen(kind, LOCALHOST, None, supported=SUPPORTED_BY_TUBES, backlog=100)
    assert listener.judges_at_once
    for _ in range(3):
        client = await call(listener.address)
        stream = await listener.next()
        assert await listener.admits(stream)
        await client.write(b"hello")
        assert await stream.read(10) == b"hello"
        client.close()
        stream.detach().close()
        stream.close()
    listener.close()
    with pytest.raises(StreamBroken):
        await listener.next()


async def test_a_stream_that_was_detached_is_closed_to_all_others() -> None:
    one, other = socket.socketpair()
    stream = SocketStream(one)
    assert stream.detach() is one
    with pytest.raises(StreamBroken):
        await stream.read(1)
    stream.abort()
    one.sendall(b"alive")
    assert other.recv(10) == b"alive"
    one.close()
    other.close()


async def within(network: tuple[str, int], kind: int = IPV4) -> object:
    listener = await listen(kind, NETMASK, network, supported=SUPPORTED_BY_TUBES)
    listener.close()
    return listener.address[0]


async def test_a_network_is_served_at_one_address_in_it_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "usable_addresses", lambda: ["fd00::5", "192.0.2.7", "127.0.0.1"])
    bound: list[str] = []

    def bind(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
        bound.append(address[0])
        return socket.create_server(("127.0.0.1", 0))

    monkeypatch.setattr(local, "_bind", bind)
    assert await within(("192.0.2.200", 24)) == "192.0.2.7"
    assert await within(("0.0.0.0", 0)) == "192.0.2.7"  # noqa: S104, a network
    assert await within(("127.0.0.0", 8)) == "127.0.0.1"
    assert await within(("fd00::", 64), IPV6) == "fd00::5"
    assert bound == ["192.0.2.7", "192.0.2.7", "127.0.0.1", "fd00::5"]
    with pytest.raises(NotAvailable):
        await within(("198.51.100.0", 24))


async def test_who_connects_from_elsewhere_than_the_network_is_refused() -> None:
    listener = await listen(IPV4, NETMASK, ("127.0.0.0", 30), supported=SUPPORTED_BY_TUBES)
    verdicts = []
    for own in ("127.0.0.3", "127.0.0.4"):
        client = socket.create_connection(listener.address, source_address=(own, 0))  # type: ignore[arg-type]
        stream = await listener.next()
        verdicts.append(await listener.admits(stream))
        stream.abort()
        client.close()
    listener.close()
    assert verdicts == [True, False]


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        (IPV4, 0),
        (IPV4, ("127.0.0.1",)),
        (IPV4, ("127.0.0.1", 33)),
        (IPV4, ("127.0.0.1", -1)),
        (IPV4, ("localhost", 8)),
        (IPV4, ("::1", 128)),
        (IPV6, ("127.0.0.1", 8)),
        (IPV6, ("::1", 129)),
        (IPV4, (1, 8)),
    ],
)
async def test_networks_that_make_no_sense(kind: int, network: object) -> None:
    with pytest.raises(InvalidArgument):
        await listen(kind, NETMASK, network, supported=SUPPORTED_BY_TUBES)


def test_files_know_no_networks() -> None:
    controls = {kind: set(each) for kind, each in SUPPORTED_BY_TUBES.items()}
    assert controls[UNIX] == controls[ABSTRACT] == {LOCALHOST, CREDENTIALS}
    assert controls[IPV4] == controls[IPV6] == {LOCALHOST, PORT, NETMASK}
    assert all(NETMASK not in each for each in local.SUPPORTED.values())
