"""Passphrases in the desktop's keyring: given, fetched, and every way in which that fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.agent import keyring as module
from telepathy_e2e.agent import seal
from telepathy_e2e.agent.interface import KeyAgent
from telepathy_e2e.agent.keyring import Keyring
from telepathy_e2e.agent.keys import Keys
from telepathy_e2e.agent.secret_session import PRIME, BadSecret, Exchange, SecretCipher
from telepathy_e2e.agent.store import KEYRING, Store
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.wire import Bus
from telepathy_e2e.trust import agent_names
from telepathy_e2e.xtls.identity import identity_fingerprint, new_session_key
from tests.support.agent import AgentClient, connected
from tests.support.bus import PrivateBus, available
from tests.support.secret_service import (
    FakeService,
    Item,
    gnome_keyring,
    real_service,
    secret_service,
)
from tests.support.side import DBusFailure
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="dbus-daemon is not installed")

ALICE = "alice@example.org"
OURS = "org.freedesktop.Telepathy.Error."
KEY = new_session_key().public_key()


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "COST", 2)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    bus = PrivateBus.start(dict(os.environ))
    yield bus
    bus.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "identities" / f"{ALICE}.pem"


def patient(bus: Bus, *, prompt_patience: float = PATIENCE) -> Keyring:
    """Waits for all that comes, however busy the machine is."""
    return Keyring(bus, patience=PATIENCE, prompt_patience=prompt_patience)


class Impatient(Keyring):
    """Waits for what the service never answers for a moment, and for all else at length."""

    def __init__(self, bus: Bus, service: FakeService) -> None:
        super().__init__(bus, patience=PATIENCE, prompt_patience=PATIENCE)
        self._service = service

    async def _call(
        self, session: Any, path: str, interface: str, member: str, *more: Any
    ) -> list[Any]:
        self._patience = 0.05 if member in self._service.silent else PATIENCE
        return await super()._call(session, path, interface, member, *more)


@asynccontextmanager
async def running(
    bus: PrivateBus, tmp_path: Path, keyring: Callable[[Bus], Keyring] = patient
) -> AsyncIterator[AgentClient]:
    """An agent with an identity of Alice's."""
    connection = await Bus.connect(bus.address, descriptors=True)
    objects = Objects(connection)
    keys = Keys(Store(tmp_path / "identities"))
    objects.export(agent_names.PATH, KeyAgent(keys, keyring=keyring(connection)))
    connection.serve(objects)
    await connection.request_name(agent_names.BUS_NAME)
    async with connected(bus.address) as client:
        await client.call("GetIdentity", "s", ALICE)
        yield client
    await connection.close()


@pytest_asyncio.fixture
async def agent(bus: PrivateBus, tmp_path: Path) -> AsyncIterator[AgentClient]:
    async with running(bus, tmp_path) as client:
        yield client


@pytest_asyncio.fixture
async def left_alone(bus: PrivateBus, tmp_path: Path) -> AsyncIterator[AgentClient]:
    """An agent that waits half a second only for a person to answer a prompt."""
    async with running(bus, tmp_path, lambda bus: patient(bus, prompt_patience=0.5)) as client:
        yield client


@pytest_asyncio.fixture
async def service(bus: PrivateBus) -> AsyncIterator[FakeService]:
    async with secret_service(bus.address) as service:
        yield service


@pytest_asyncio.fixture
async def impatient(
    bus: PrivateBus, tmp_path: Path, service: FakeService
) -> AsyncIterator[AgentClient]:
    async with running(bus, tmp_path, lambda bus: Impatient(bus, service)) as client:
        yield client


async def refused(call: object, error: str = "NotAvailable") -> str:
    with pytest.raises(DBusFailure) as failure:
        await call  # type: ignore[misc]
    assert failure.value.name == OURS + error
    return failure.value.text


async def kept(agent: AgentClient) -> None:
    """Alice's key has its passphrase in the keyring, and the agent has forgotten it."""
    await agent.call("UseSecretService", "sh", ALICE, b"")
    await agent.call("Lock")


# -- as it should be ------------------------------------------------------------------------------


async def test_a_key_is_sealed_and_its_passphrase_is_fetched_when_it_is_needed(
    agent: AgentClient, service: FakeService, file: Path
) -> None:
    identity = await agent.call("GetIdentity", "s", ALICE)
    await kept(agent)
    assert file.read_bytes().startswith(KEYRING + b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert file.stat().st_mode & 0o777 == 0o600
    (item,) = service.items.values()
    assert item.attributes == {
        "application": "telepathy-e2e",
        "account": ALICE,
        "identity-sha-256": identity_fingerprint(identity).hex(),
    }
    assert len(bytes.fromhex(item.secret.decode())) == 32
    # Nobody has to type anything, so no client asks for it.
    assert await agent.get("Locked") == []
    await refused(agent.call("Unlock", "h", b"anything"))
    _, same = await agent.call("Certify", "say", ALICE, KEY)
    assert same == identity
    assert service.sessions == {}
    # Again: nothing is asked, and nothing changes.
    before = file.read_bytes()
    await agent.call("UseSecretService", "sh", ALICE, b"")
    assert (file.read_bytes(), len(service.items)) == (before, 1)


async def test_a_typed_passphrase_gives_way_and_comes_back(
    agent: AgentClient, service: FakeService, file: Path
) -> None:
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"open sesame")
    await refused(agent.call("UseSecretService", "sh", ALICE, b"wrong"), "PermissionDenied")
    assert service.items == {}
    await agent.call("UseSecretService", "sh", ALICE, b"open sesame")
    await agent.call("Lock")
    await refused(
        agent.call("SetPassphrase", "shh", ALICE, b"open sesame", b""), "PermissionDenied"
    )
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"open barley")
    assert service.items == {}
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED")
    await agent.call("Lock")
    assert await agent.get("Locked") == [ALICE]
    await agent.call("Unlock", "h", b"open barley")


async def test_without_a_passphrase_again_the_keyring_has_nothing(
    agent: AgentClient, service: FakeService, file: Path
) -> None:
    await kept(agent)
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"")
    assert service.items == {}
    assert file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    await kept(agent)
    await agent.call("Forget", "s", ALICE)
    assert service.items == {}


async def test_it_is_exported_only_under_a_passphrase_of_its_own(
    agent: AgentClient, service: FakeService
) -> None:
    await kept(agent)
    with pytest.raises(DBusFailure, match="give it one of your own"):
        await agent.export(ALICE, b"for the road")
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"for the road")
    assert KEYRING not in await agent.export(ALICE, b"for the road")


async def test_of_several_passphrases_the_right_one_counts(
    agent: AgentClient, service: FakeService
) -> None:
    await kept(agent)
    path, item = next(iter(service.items.items()))
    # Of an attempt that was cut off between the keyring and the file.
    service.items = {path + "0": Item(item.attributes, "", b"of before"), path: item}
    await agent.call("Certify", "say", ALICE, KEY)


async def test_there_is_a_bound_to_what_attempts_leave_behind(
    agent: AgentClient, service: FakeService
) -> None:
    await kept(agent)
    ((path, item),) = service.items.items()
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"")
    service.items = {f"{path}{n}": item for n in range(module.MAX_ITEMS - 1)}
    await agent.call("UseSecretService", "sh", ALICE, b"")
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"")
    service.items = {f"{path}{n}": item for n in range(module.MAX_ITEMS)}
    assert "already" in await refused(agent.call("UseSecretService", "sh", ALICE, b""))


# -- locked ---------------------------------------------------------------------------------------


async def test_a_locked_keyring_asks_the_person(agent: AgentClient, service: FakeService) -> None:
    service.locked = True
    await kept(agent)
    assert len(service.prompted) == 1
    service.locked = True
    await agent.call("Certify", "say", ALICE, KEY)
    assert len(service.prompted) == 2


async def test_who_closes_the_prompt_is_asked_once(
    agent: AgentClient, service: FakeService
) -> None:
    await kept(agent)
    service.locked, service.answer = True, ""
    calls = [
        asyncio.ensure_future(refused(agent.call("Certify", "say", ALICE, KEY), "PermissionDenied"))
        for _ in range(5)
    ]
    async with asyncio.timeout(PATIENCE):
        while not service.prompted:
            await asyncio.sleep(0.005)
    # All five have come when the reply to this, which is behind them, is here.
    await agent.get("Accounts")
    service.complete(service.prompted[0], True)
    assert all("dismissed" in each for each in await asyncio.gather(*calls))
    assert len(service.prompted) == 1


async def test_a_locked_keyring_that_does_not_ask_is_an_error(
    agent: AgentClient, service: FakeService, file: Path
) -> None:
    service.locked, service.prompts = True, False
    before = file.read_bytes()
    assert "locked" in await refused(agent.call("UseSecretService", "sh", ALICE, b""))
    assert (file.read_bytes(), service.items) == (before, {})
    service.locked = False
    await kept(agent)
    service.locked = True
    assert "locked" in await refused(agent.call("Certify", "say", ALICE, KEY))


async def test_a_prompt_that_nobody_answers_is_taken_back(
    left_alone: AgentClient, service: FakeService
) -> None:
    await kept(left_alone)
    service.locked, service.answer = True, ""
    assert "in time" in await refused(left_alone.call("Certify", "say", ALICE, KEY))
    assert service.dismissed == service.prompted != []


async def test_that_a_prompt_is_completed_is_believed_of_the_keyring_alone(
    bus: PrivateBus, left_alone: AgentClient, service: FakeService
) -> None:
    await kept(left_alone)
    service.locked, service.answer = True, ""
    call = asyncio.ensure_future(refused(left_alone.call("Certify", "say", ALICE, KEY)))
    async with asyncio.timeout(PATIENCE):
        while not service.prompted:
            await asyncio.sleep(0.005)
    async with secret_service(bus.address) as other:  # does not get the name
        other._waiting = dict(service._waiting)
        other.complete(service.prompted[0], False)
        assert "in time" in await call


# -- gone, wrong, dead, silent --------------------------------------------------------------------


async def test_without_a_keyring_nothing_changes(agent: AgentClient, file: Path) -> None:
    before = file.read_bytes()
    assert "no keyring" in await refused(agent.call("UseSecretService", "sh", ALICE, b""))
    assert file.read_bytes() == before


async def test_without_the_keyring_a_key_is_of_no_use(
    bus: PrivateBus, agent: AgentClient, file: Path
) -> None:
    async with secret_service(bus.address):
        await kept(agent)
    before = file.read_bytes()
    for _ in range(2):
        assert "no keyring" in await refused(agent.call("Certify", "say", ALICE, KEY))
    await refused(agent.call("SetPassphrase", "shh", ALICE, b"", b""))
    assert file.read_bytes() == before


async def test_without_a_default_keyring_there_is_nothing_to_keep_it_in(
    agent: AgentClient, service: FakeService
) -> None:
    service.default = False
    assert "default" in await refused(agent.call("UseSecretService", "sh", ALICE, b""))


async def test_an_item_that_is_gone_is_an_error_and_no_new_key(
    agent: AgentClient, service: FakeService, file: Path
) -> None:
    await kept(agent)
    before = file.read_bytes()
    service.items.clear()
    assert "backup" in await refused(agent.call("Certify", "say", ALICE, KEY))
    assert file.read_bytes() == before


@pytest.mark.parametrize("secret", [b"", b"wrong", b"x" * 100_000])
async def test_a_wrong_secret_opens_nothing(
    agent: AgentClient, service: FakeService, secret: bytes
) -> None:
    await kept(agent)
    for item in service.items.values():
        item.secret = secret
    assert "does not open" in await refused(agent.call("Certify", "say", ALICE, KEY))


async def test_a_keyring_that_forgets_what_it_was_given_gets_no_key(
    agent: AgentClient, service: FakeService, file: Path
) -> None:
    service.corrupt = True
    before = file.read_bytes()
    assert "give back" in await refused(agent.call("UseSecretService", "sh", ALICE, b""))
    assert file.read_bytes() == before


async def test_a_share_that_everybody_knows_is_refused(
    agent: AgentClient, service: FakeService
) -> None:
    service.nonsense = True
    assert "no sense" in await refused(agent.call("UseSecretService", "sh", ALICE, b""))


STEPS = ["OpenSession", "SearchItems", "ReadAlias", "Unlock", "CreateItem", "GetSecret"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("how", ["dies", "silent"])
async def test_a_keyring_that_dies_or_never_answers_leaves_the_key_as_it_was(
    impatient: AgentClient, service: FakeService, file: Path, step: str, how: str
) -> None:
    before = file.read_bytes()
    setattr(service, how, step if how == "dies" else frozenset({step}))
    async with asyncio.timeout(PATIENCE):
        said = await refused(impatient.call("UseSecretService", "sh", ALICE, b""))
    assert "keyring" in said
    assert file.read_bytes() == before
    await impatient.call("Certify", "say", ALICE, KEY)


@pytest.mark.parametrize("step", ["OpenSession", "SearchItems", "Unlock", "GetSecret", "Prompt"])
@pytest.mark.parametrize("how", ["dies", "silent"])
async def test_a_keyring_that_dies_or_never_answers_is_an_error_of_whoever_needs_the_key(
    impatient: AgentClient, service: FakeService, step: str, how: str
) -> None:
    await kept(impatient)
    service.locked = step == "Prompt"
    setattr(service, how, step if how == "dies" else frozenset({step}))
    async with asyncio.timeout(PATIENCE):
        assert "keyring" in await refused(impatient.call("Certify", "say", ALICE, KEY))


async def test_a_keyring_that_dies_while_the_person_types_is_seen(
    agent: AgentClient, service: FakeService
) -> None:
    await kept(agent)
    service.locked, service.answer = True, ""
    call = asyncio.ensure_future(refused(agent.call("Certify", "say", ALICE, KEY)))
    async with asyncio.timeout(PATIENCE):
        while not service.prompted:
            await asyncio.sleep(0.005)
        service.bus.disconnect()
        assert "went away" in await call


# -- how it crosses the bus -----------------------------------------------------------------------


def test_both_ends_have_the_same_key_and_no_other_opens_it() -> None:
    one, other = Exchange(), Exchange()
    ours, theirs = one.finish(other.share), other.finish(one.share)
    vector, data = ours.encrypt(b"open sesame")
    assert theirs.decrypt(vector, data) == b"open sesame"
    assert b"sesame" not in data
    assert len(one.share) == 128


@pytest.mark.parametrize("number", [0, 1, PRIME - 1, PRIME, PRIME + 1, 1 << 1024])
def test_a_share_that_makes_a_known_key_is_none(number: int) -> None:
    with pytest.raises(BadSecret):
        Exchange().finish(number.to_bytes(129, "big").lstrip(b"\0"))


@given(st.binary(max_size=40), st.binary(max_size=80))
def test_nothing_that_is_sent_raises_anything_else(vector: bytes, data: bytes) -> None:
    try:
        SecretCipher(bytes(16)).decrypt(vector, data)
    except BadSecret:
        pass


# -- a real one -----------------------------------------------------------------------------------


@pytest.mark.skipif(not gnome_keyring(), reason="gnome-keyring is not installed")
async def test_gnome_keyring_keeps_it(bus: PrivateBus, tmp_path: Path, file: Path) -> None:
    async with real_service(bus.address, tmp_path / "home"):
        async with running(bus, tmp_path) as agent:
            identity = await agent.call("GetIdentity", "s", ALICE)
            await kept(agent)
            assert file.read_bytes().startswith(KEYRING)
            assert (await agent.call("Certify", "say", ALICE, KEY))[1] == identity
        # Another agent, as after a login.
        async with running(bus, tmp_path) as agent:
            assert (await agent.call("Certify", "say", ALICE, KEY))[1] == identity
    async with (
        real_service(bus.address, tmp_path / "home"),  # from its file
        running(bus, tmp_path) as agent,
    ):
        assert (await agent.call("Certify", "say", ALICE, KEY))[1] == identity
        await agent.call("SetPassphrase", "shh", ALICE, b"", b"")
        assert file.read_bytes().startswith(b"-----BEGIN PRIVATE")
        await kept(agent)
        await agent.call("Forget", "s", ALICE)
