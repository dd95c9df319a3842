"""The life of the daemon: when it stays, when it goes, and what it does then."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Message, Variant

from telepathy_e2e.__main__ import main
from telepathy_e2e.bus.identifiers import MANAGER_NAME, MANAGER_PATH
from telepathy_e2e.bus.wire import Bus
from telepathy_e2e.daemon import DESCRIPTORS, FAILED, OK, Daemon, allow_descriptors
from telepathy_e2e.debug_log import Ring
from tests.support.bus import PrivateBus, RawClient, available, client_of
from tests.support.waiting import PATIENCE, until

MANAGER = "org.freedesktop.Telepathy.ConnectionManager"
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
PARAMETERS = {"account": Variant("s", "alice@example.test")}


@pytest.fixture
def private_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PrivateBus]:
    if not available():
        pytest.skip("dbus-daemon is not installed")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    bus = PrivateBus.start()
    yield bus
    bus.stop()


@pytest_asyncio.fixture
async def client(private_bus: PrivateBus) -> AsyncIterator[RawClient]:
    async with client_of(private_bus) as found:
        yield found


async def _owned(client: RawClient) -> bool:
    return bool(await client.value(*BUS, "NameHasOwner", "s", MANAGER_NAME))


async def _running(client: RawClient, daemon: Daemon) -> asyncio.Task[int]:
    running = asyncio.create_task(daemon.run())
    await client.until(lambda m: m.member == "NameOwnerChanged" and m.body[0] == MANAGER_NAME)
    return running


async def _request(client: RawClient) -> list[str]:
    reply = await client.call(
        MANAGER_NAME, MANAGER_PATH, MANAGER, "RequestConnection", "sa{sv}", "jabber", PARAMETERS
    )
    return list(reply.body)


async def test_it_leaves_when_nobody_has_needed_it_for_a_while(
    private_bus: PrivateBus, client: RawClient
) -> None:
    daemon = Daemon(
        await Bus.connect(private_bus.address), persist=False, ring=Ring(), idle_seconds=0.01
    )
    assert await asyncio.wait_for(daemon.run(), PATIENCE) == OK
    assert not await _owned(client)


async def test_a_connection_keeps_it_and_the_last_one_lets_it_go(
    private_bus: PrivateBus, client: RawClient
) -> None:
    daemon = Daemon(
        await Bus.connect(private_bus.address), persist=False, ring=Ring(), idle_seconds=3600.0
    )
    running = await _running(client, daemon)
    await until(lambda: daemon._timer is not None)
    name, path = await _request(client)
    assert daemon._timer is None
    daemon._idle_seconds = 0.01
    await client.value(name, path, "org.freedesktop.Telepathy.Connection", "Disconnect")
    assert await asyncio.wait_for(running, PATIENCE) == OK
    assert not await _owned(client)


async def test_with_persist_nothing_ever_waits_to_go(
    private_bus: PrivateBus, client: RawClient
) -> None:
    daemon = Daemon(
        await Bus.connect(private_bus.address), persist=True, ring=Ring(), idle_seconds=0
    )
    running = await _running(client, daemon)
    name, path = await _request(client)
    await client.value(name, path, "org.freedesktop.Telepathy.Connection", "Disconnect")
    await client.signal("StatusChanged")
    assert daemon._timer is None
    assert not running.done()
    daemon.stop()
    assert await asyncio.wait_for(running, PATIENCE) == OK


async def test_a_request_at_the_moment_of_leaving_is_served(
    private_bus: PrivateBus, client: RawClient
) -> None:
    daemon = Daemon(await Bus.connect(private_bus.address), persist=True, ring=Ring())
    running = await _running(client, daemon)
    request = Message(
        destination=MANAGER_NAME,
        path=MANAGER_PATH,
        interface=MANAGER,
        member="RequestConnection",
        signature="sa{sv}",
        body=["jabber", PARAMETERS],
    )
    reply = asyncio.create_task(client.bus.call(request))
    # The bus has passed the request on when it has answered this.
    await client.value(*BUS, "GetId")
    assert not await daemon._nobody_came()
    found = await reply
    assert found is not None
    assert len(found.body) == 2
    assert await _owned(client)
    daemon.stop()
    assert await asyncio.wait_for(running, PATIENCE) == OK


async def test_stopping_ends_every_connection_first(
    private_bus: PrivateBus, client: RawClient
) -> None:
    daemon = Daemon(await Bus.connect(private_bus.address), persist=True, ring=Ring())
    running = await _running(client, daemon)
    _, path = await _request(client)
    daemon.stop()
    assert await asyncio.wait_for(running, PATIENCE) == OK
    assert (await client.signal("StatusChanged", path)).body == [2, 1]


async def test_a_bus_that_goes_takes_it_along(private_bus: PrivateBus, client: RawClient) -> None:
    daemon = Daemon(await Bus.connect(private_bus.address), persist=True, ring=Ring())
    running = await _running(client, daemon)
    await _request(client)
    private_bus.process.kill()
    assert await asyncio.wait_for(running, PATIENCE) == OK


async def test_a_name_that_is_taken_is_a_failure(
    private_bus: PrivateBus, client: RawClient
) -> None:
    first = Daemon(await Bus.connect(private_bus.address), persist=True, ring=Ring())
    running = await _running(client, first)
    second = Daemon(await Bus.connect(private_bus.address), persist=True, ring=Ring())
    assert await asyncio.wait_for(second.run(), PATIENCE) == FAILED
    first.stop()
    await running


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("telepathy-e2e ")


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (1024, 524288, DESCRIPTORS),
        (1024, 4096, 4096),
        (1024, resource.RLIM_INFINITY, DESCRIPTORS),
        (20000, 20000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_tubes_get_as_many_descriptors_as_the_host_allows(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, then: int | None
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, asked: limits.append(asked))
    allow_descriptors()
    assert limits[1:] == ([] if then is None else [(then, hard)])
