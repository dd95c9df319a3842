"""The agent on a bus: descriptors, refusals, what it tells, and when it leaves."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from telepathy_e2e.agent import descriptors, interface, rate, seal
from telepathy_e2e.agent.attestations import Attestation
from telepathy_e2e.agent.interface import KeyAgent
from telepathy_e2e.agent.keys import Keys
from telepathy_e2e.agent.program import FAILED, OK, Program, directory
from telepathy_e2e.agent.store import Store
from telepathy_e2e.bus.wire import Bus
from telepathy_e2e.errors import PermissionDenied
from telepathy_e2e.xtls.certificates import parse
from telepathy_e2e.xtls.identity import Credentials, check_credentials, new_session_key
from tests.support.agent import AgentClient, connected
from tests.support.bus import PrivateBus, available, client_of
from tests.support.side import AGENT, AGENT_NAME, AGENT_PATH, DBusFailure
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="dbus-daemon is not installed")

ALICE = "alice@example.org"
OURS = "org.freedesktop.Telepathy.Error."


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "COST", 2)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    bus = PrivateBus.start(dict(os.environ))
    yield bus
    bus.stop()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(Store(tmp_path / "identities"))


@asynccontextmanager
async def running(
    bus: PrivateBus, keys: Keys, **settings: float
) -> AsyncIterator[tuple[Program, asyncio.Future[int]]]:
    connection = await Bus.connect(bus.address, descriptors=True)
    program = Program(connection, keys, **settings)  # type: ignore[arg-type]
    ended = asyncio.ensure_future(program.run())
    async with connected(bus.address) as client, asyncio.timeout(PATIENCE):
        while not ended.done() and not await client.runs():
            await asyncio.sleep(0.01)
    yield program, ended
    program.stop()
    await ended


@pytest_asyncio.fixture
async def agent(bus: PrivateBus, keys: Keys) -> AsyncIterator[AgentClient]:
    async with running(bus, keys), connected(bus.address) as client:
        yield client


async def refused(call: object, error: str) -> str:
    with pytest.raises(DBusFailure) as failure:
        await call  # type: ignore[misc]
    assert failure.value.name == OURS + error
    return failure.value.text


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_it_certifies(agent: AgentClient) -> None:
    key = new_session_key()
    leaf, identity = await agent.call("Certify", "say", ALICE, key.public_key())
    check_credentials(Credentials(key, leaf, identity), ALICE, datetime.now(UTC))
    assert await agent.call("GetIdentity", "s", ALICE) == identity
    assert await agent.get("Accounts") == [ALICE]
    assert await agent.get("Locked") == []
    await refused(agent.call("Certify", "say", ALICE, parse(identity).spki), "InvalidArgument")


async def test_passphrases_come_through_pipes(agent: AgentClient) -> None:
    await agent.call("GetIdentity", "s", ALICE)
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"open sesame")
    await agent.call("Lock")
    assert await agent.get("Locked") == [ALICE]
    key = new_session_key().public_key()
    assert "unlock" in await refused(agent.call("Certify", "say", ALICE, key), "NotAvailable")
    await refused(agent.call("Unlock", "h", b"sesame"), "PermissionDenied")
    await refused(agent.call("Unlock", "h", b""), "InvalidArgument")
    await refused(agent.call("Unlock", "h", b"x" * 1025), "InvalidArgument")
    await agent.call("Unlock", "h", b"open sesame")
    assert await agent.get("Locked") == []
    await agent.call("Certify", "say", ALICE, key)


async def test_an_identity_moves_through_descriptors(agent: AgentClient) -> None:
    identity = await agent.call("GetIdentity", "s", ALICE)
    exported = await agent.export(ALICE, b"for the road")
    await agent.call("Forget", "s", ALICE)
    assert await agent.get("Accounts") == []
    await refused(agent.call("Import", "shh", ALICE, b"wrong", exported), "PermissionDenied")
    await agent.call("Import", "shh", ALICE, b"for the road", exported)
    assert await agent.call("GetIdentity", "s", ALICE) == identity


async def test_an_import_is_bounded(agent: AgentClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(65 * 1024))
    with (tmp_path / "file").open("rb") as file:
        call = agent.call("Import", "shh", ALICE, b"x", file.fileno())
        assert "65536" in await refused(call, "InvalidArgument")


async def test_no_descriptor_stays_open(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agent.call("GetIdentity", "s", ALICE)
    before = open_descriptors()
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"one")
    await refused(agent.call("Unlock", "h", b"one"), "NotAvailable")
    await refused(agent.call("Export", "shh", ALICE, b"two", b"the wrong end"), "PermissionDenied")
    await refused(agent.call("Export", "shh", ALICE, b"one", b"the wrong end"), "InvalidArgument")
    reading, writing = os.pipe()
    with monkeypatch.context() as patch:
        patch.setattr(descriptors, "PATIENCE", 0.05)
        await refused(agent.call("Unlock", "h", reading), "NotAvailable")
    os.close(reading)
    os.close(writing)
    for member, signature, arguments in (
        ("NoSuchMethod", "h", (b"x",)),
        ("Lock", "h", (b"x",)),
        ("Unlock", "hh", (b"x", b"y")),
    ):
        with pytest.raises(DBusFailure):
            await agent.call(member, signature, *arguments)
    assert open_descriptors() == before


async def test_descriptors_that_nobody_asked_for_are_closed(agent: AgentClient) -> None:
    before = open_descriptors()
    reading, writing = os.pipe()
    body = [ALICE]
    await agent.send(AGENT_NAME, AGENT_PATH, AGENT, "GetIdentity", "s", body, [reading, writing])
    os.close(reading)
    os.close(writing)
    assert open_descriptors() == before


async def test_a_call_without_its_descriptor_is_refused(bus: PrivateBus, keys: Keys) -> None:
    async with running(bus, keys), connected(bus.address) as agent:
        for index in (0, 5):
            with pytest.raises(DBusFailure, match="descriptors"):
                await agent.send(AGENT_NAME, AGENT_PATH, AGENT, "Unlock", "h", [index], [])


async def test_nothing_is_signed_where_nobody_can_be_asked(agent: AgentClient) -> None:
    await agent.call("GetIdentity", "s", ALICE)
    call = agent.call("SignAttestation", "ssay", ALICE, "device", b"x")
    assert "ask" in await refused(call, "PermissionDenied")


async def test_an_attestation_is_signed_only_if_the_person_agrees(keys: Keys) -> None:
    keys.identity(ALICE)
    asked: list[Attestation] = []
    answer = False

    async def confirm(attestation: Attestation) -> bool:
        asked.append(attestation)
        return answer

    agent = KeyAgent(keys, confirm=confirm)
    with pytest.raises(PermissionDenied):
        await agent.sign_attestation(ALICE, "device", b"x")
    answer = True
    assert await agent.sign_attestation(ALICE, "device", b"x")
    assert asked == [Attestation(ALICE, "device", b"x")] * 2


async def test_changes_are_told(bus: PrivateBus, keys: Keys) -> None:
    async with running(bus, keys), client_of(bus) as listener, connected(bus.address) as agent:
        await agent.call("Certify", "say", ALICE, new_session_key().public_key())
        first = await listener.signal("PropertiesChanged", AGENT_PATH)
        assert first.body[0] == AGENT
        assert {name: each.value for name, each in first.body[1].items()} == {"Accounts": [ALICE]}
        await agent.call("SetPassphrase", "shh", ALICE, b"", b"one")
        await agent.call("Lock")
        await listener.until(lambda m: m.member == "PropertiesChanged" and "Locked" in m.body[1])
        told = len(listener.signals("PropertiesChanged"))
        await refused(agent.call("Unlock", "h", b"two"), "PermissionDenied")
        assert len(listener.signals("PropertiesChanged")) == told


async def test_too_many_certificates_are_refused(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "BURST", 1)
    monkeypatch.setattr(rate, "MAX_WAIT", 0.0)
    monkeypatch.setattr(rate, "PER_SECOND", 0.001)  # none comes back meanwhile
    await agent.call("GetIdentity", "s", ALICE)
    keys = [new_session_key().public_key() for _ in range(3)]
    calls = [agent.call("Certify", "say", ALICE, key) for key in keys]
    refusals = [
        each.name
        for each in await asyncio.gather(*calls, return_exceptions=True)
        if isinstance(each, DBusFailure)
    ]
    assert refusals
    assert set(refusals) == {OURS + "NotAvailable"}


async def test_too_many_calls_at_once_are_refused(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "MAX_CALLS", 1)
    monkeypatch.setattr(descriptors, "PATIENCE", PATIENCE)
    reading, writing = os.pipe()
    waiting = asyncio.ensure_future(agent.call("Unlock", "h", reading))
    os.write(writing, b"x")
    async with asyncio.timeout(PATIENCE):
        while select.select([reading], [], [], 0)[0]:  # until the agent has taken it
            await asyncio.sleep(0)
    call = agent.call("GetIdentity", "s", ALICE)
    assert "Too many" in await refused(call, "NotAvailable")
    os.close(writing)
    assert "locked" in await refused(waiting, "NotAvailable")
    os.close(reading)
    await agent.call("GetIdentity", "s", ALICE)


# -- its life -------------------------------------------------------------------------------------


async def test_it_leaves_when_nobody_asks(bus: PrivateBus, keys: Keys) -> None:
    async with running(bus, keys, idle_seconds=0.05) as (_, ended):
        assert await asyncio.wait_for(ended, PATIENCE) == OK


async def test_it_stays_while_a_key_is_unlocked(bus: PrivateBus, keys: Keys) -> None:
    keys.identity(ALICE)
    keys.set_passphrase(ALICE, b"", b"one")
    async with running(bus, keys, idle_seconds=0.02) as (_, ended):
        async with connected(bus.address) as agent:
            for _ in range(10):
                await agent.get("Accounts")
                await asyncio.wait({ended}, timeout=0.02)
            assert not ended.done()
            await agent.call("Lock")
        assert await asyncio.wait_for(ended, PATIENCE) == OK


async def test_only_one_runs_on_a_bus(bus: PrivateBus, keys: Keys) -> None:
    async with running(bus, keys):
        connection = await Bus.connect(bus.address, descriptors=True)
        assert await Program(connection, keys).run() == FAILED


async def test_it_leaves_with_its_bus(bus: PrivateBus, keys: Keys) -> None:
    async with running(bus, keys) as (_, ended):
        bus.process.kill()
        assert await asyncio.wait_for(ended, PATIENCE) == OK


@pytest.mark.parametrize("home", ["", "relative/path"])
def test_keys_are_never_put_below_the_working_directory(home: str) -> None:
    usual = Path.home() / ".local/share/telepathy-e2e/identities"
    assert directory({"XDG_DATA_HOME": home}) == directory({}) == usual


def test_keys_are_kept_where_the_user_keeps_data() -> None:
    assert directory({"XDG_DATA_HOME": "/data"}) == Path("/data/telepathy-e2e/identities")
