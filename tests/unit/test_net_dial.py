from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from telepathy_e2e.net import dial as dialling
from telepathy_e2e.net.dial import MAX_ADDRESSES_PER_NAME, dial
from telepathy_e2e.net.streams import StreamBroken

from .net_support import LOOPBACKS, nothing_left_open


@pytest.fixture(autouse=True)
async def _no_leak() -> AsyncIterator[None]:
    async with nothing_left_open():
        yield


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def resolves_to(*addresses: Any) -> Callable[..., list[Any]]:
    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return [
            (socket.AF_INET6 if ":" in each[0] else socket.AF_INET, 0, 0, "", each)
            for each in addresses
        ]

    return getaddrinfo


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_a_numeric_address_is_reached(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        address = listening.getsockname()
        with await dial(host, address[1]) as sock:
            assert sock.getpeername() == address
            assert sock.gettimeout() == 0


async def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = resolves_to(("127.0.0.1", refused_port()), listening.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", found)
        (await dial("name.example", 1)).close()


async def test_the_next_address_is_tried_beside_one_that_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialling, "STAGGER", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent, live = ("127.0.0.1", 9), listening.getsockname()
        monkeypatch.setattr(socket, "getaddrinfo", resolves_to(silent, live))
        attempt = dialling._attempt
        cancelled = []

        async def attempts(family: socket.AddressFamily, address: Any) -> Any:
            if address == silent:
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    cancelled.append(address)
            return await attempt(family, address)

        monkeypatch.setattr(dialling, "_attempt", attempts)
        (await dial("name.example", 1)).close()
        assert cancelled == [silent]


async def test_all_addresses_refusing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    port = refused_port()
    monkeypatch.setattr(
        socket, "getaddrinfo", resolves_to(("127.0.0.1", port), ("::1", port, 0, 0))
    )
    with pytest.raises(StreamBroken, match="refused"):
        await dial("name.example", 1)


async def test_cancelling_drops_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def attempt(family: socket.AddressFamily, address: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(dialling, "_attempt", attempt)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await dial("127.0.0.1", 1)


async def test_a_connection_made_while_being_cancelled_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt = dialling._attempt
    with socket.create_server(("127.0.0.1", 0)) as listening:

        async def attempts(family: socket.AddressFamily, address: Any) -> Any:
            outcome = await attempt(family, address)
            dialing.cancel()
            return outcome

        monkeypatch.setattr(dialling, "_attempt", attempts)
        address = listening.getsockname()
        dialing = asyncio.get_running_loop().create_task(dial(*address))
        with pytest.raises(asyncio.CancelledError):
            await dialing


async def test_a_connection_made_before_being_cancelled_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialling, "STAGGER", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent, live = ("127.0.0.1", 9), listening.getsockname()
        monkeypatch.setattr(socket, "getaddrinfo", resolves_to(silent, live))
        attempt = dialling._attempt

        async def attempts(family: socket.AddressFamily, address: Any) -> Any:
            if address == silent:
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    dialing.cancel()  # there is a winner, and the losers are being let go
            return await attempt(family, address)

        monkeypatch.setattr(dialling, "_attempt", attempts)
        dialing = asyncio.get_running_loop().create_task(dial("name.example", 1))
        with pytest.raises(asyncio.CancelledError):
            await dialing


async def test_a_connection_that_is_still_being_made_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        with await dial(*address), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                # the queue is full, the kernel says nothing to the second
                await dial(*address)


@pytest.mark.parametrize("host", ["a" * 300, "x\0y", "..", ".", "a..b", "\ud800", "[::1]"])
async def test_what_is_no_host_is_a_failure_like_any_other(host: str) -> None:
    with pytest.raises(StreamBroken):
        await dial(host, 1)


@pytest.mark.parametrize("port", [-1, 0, 65536])
async def test_what_is_no_port_is_a_failure_like_any_other(port: int) -> None:
    with pytest.raises(StreamBroken):
        await dial("127.0.0.1", port)


def test_families_take_turns_and_a_name_has_so_many_addresses_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    four: Any = [(socket.AF_INET, (f"10.0.0.{n}", 1)) for n in range(100)]
    six: Any = [(socket.AF_INET6, (f"fd00::{n}", 1, 0, 0)) for n in range(100)]
    mixed = dialling._interleaved([*six, *four])
    assert mixed[:3] == [six[0], four[0], six[1]]
    assert len(mixed) == MAX_ADDRESSES_PER_NAME
    assert dialling._interleaved(four[:MAX_ADDRESSES_PER_NAME]) == four[:MAX_ADDRESSES_PER_NAME]
    assert dialling._interleaved([]) == []
