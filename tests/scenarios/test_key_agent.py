"""Identity keys are in the agent: with it files go protected, without it they do not go."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.xtls.identity import identity_fingerprint
from telepathy_e2e.xtls.offer import shown
from tests.support.agent import AgentClient, connected
from tests.support.bus import RawClient
from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    AGENT_NAME,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    DBusFailure,
    Side,
)

DATA = secrets.token_bytes(100_000)
PASSPHRASE = b"open sesame"
CANCELLED, LOCAL_ERROR, REMOTE_STOPPED = 5, 4, 3


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@pytest_asyncio.fixture
async def alices(pair: Pair) -> AsyncIterator[AgentClient]:
    async with connected(pair.alice.address) as agent:
        yield agent


@pytest_asyncio.fixture
async def bobs(pair: Pair) -> AsyncIterator[AgentClient]:
    async with connected(pair.bob.address) as agent:
        yield agent


async def moves(pair: Pair) -> str:
    """A file goes from Alice to Bob, protected; her channel."""
    mine, theirs = await pair.offer(DATA)
    await finish(pair, mine, theirs)
    return mine


async def finish(pair: Pair, mine: str, theirs: str) -> None:
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    assert await pair.bob.accept(theirs) == DATA
    await sending
    assert await pair.alice.state(mine, 4, 5) == (4, 0)
    assert await pair.alice.get(mine, SECURABLE, "Encrypted") is True


async def fails_to_offer(pair: Pair) -> str:
    """Alice's offer ends before Bob hears of it; what she is told."""
    mine = await pair.alice.offer_file(pair.server.jid("bob"), "not this", len(DATA))
    assert await pair.alice.state(mine, 4, 5) == (CANCELLED, LOCAL_ERROR)
    with pytest.raises(DBusFailure) as failure:
        await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
    assert failure.value.name == "org.freedesktop.Telepathy.Error.NotAvailable"
    return failure.value.text


def nothing_came(pair: Pair) -> bool:
    return not [s for s in pair.bob.signals if s.member == "NewChannels"]


async def seal(agent: AgentClient, account: str) -> bytes:
    """A new identity that is locked; its certificate."""
    certificate = await agent.call("GetIdentity", "s", account)
    await agent.call("SetPassphrase", "shh", account, b"", PASSPHRASE)
    await agent.call("Lock")
    return bytes(certificate)


async def test_the_connection_manager_has_no_key(prosody: Prosody, tmp_path: Path) -> None:
    """It would look for one, or make one, in a directory that is another than the agent's."""
    elsewhere = {"XDG_DATA_HOME": str(tmp_path)}
    both = await asyncio.gather(
        Side.start("alice", env=elsewhere), Side.start("bob", env=elsewhere)
    )
    pair = Pair(prosody, *both)
    try:
        for side in both:
            jid = prosody.jid(side.name)
            await side.connect(parameters(prosody, jid), handles=(FILE_TRANSFER,))
        await pair.sees(pair.alice, prosody.jid("bob"))
        mine = await moves(pair)
        own = await pair.alice.get(mine, E2E, "OwnFingerprints")
        async with connected(pair.alice.address) as agent:
            identity = await agent.call("GetIdentity", "s", prosody.jid("alice"))
        assert own == {"sha-256": shown(identity_fingerprint(identity))}
        for side in both:
            directory = side.directory / "data" / "telepathy-e2e" / "identities"
            assert [path.suffix for path in directory.iterdir() if path.name[0] != "."] == [".pem"]
        assert not [path for path in tmp_path.rglob("*") if path.suffix == ".pem"]
    finally:
        await pair.stop()


async def test_the_agent_leaves_no_core_file(pair: Pair, alices: AgentClient) -> None:
    await alices.call("GetIdentity", "s", pair.server.jid("alice"))
    limits = Path(f"/proc/{await alices.pid()}/limits").read_text().splitlines()
    (core,) = [line for line in limits if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


async def test_an_agent_that_was_killed_is_started_again(pair: Pair, alices: AgentClient) -> None:
    first = await moves(pair)
    # It leaves by itself when nobody has wanted anything for some seconds.
    await alices.call("GetIdentity", "s", pair.server.jid("alice"))
    await alices.kill()
    second = await moves(pair)
    fingerprints = [await pair.alice.get(each, E2E, "OwnFingerprints") for each in (first, second)]
    assert fingerprints[0] == fingerprints[1]


async def test_an_agent_that_dies_while_it_is_asked_ends_the_transfer(
    pair: Pair, alices: AgentClient
) -> None:
    await alices.call("GetIdentity", "s", pair.server.jid("alice"))
    async with AsyncExitStack() as stack:
        listener = await RawClient.connect(pair.alice.address, listen=False)
        stack.push_async_callback(listener.close)
        await listener.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "AddMatch",
            "s",
            "eavesdrop=true,type='method_call',member='Certify'",
        )
        os.kill(await alices.pid(), signal.SIGSTOP)
        failing = asyncio.ensure_future(fails_to_offer(pair))
        await listener.until(lambda m: m.member == "Certify")
        await alices.kill()
        assert "try again" in await failing
    assert nothing_came(pair)
    await moves(pair)


async def test_without_an_agent_nothing_goes_not_even_in_the_clear(pair: Pair) -> None:
    for side in (pair.alice, pair.bob):
        async with connected(side.address) as agent:
            # Somebody may want to know the identity, and one that the bus is just starting would
            # still come.
            await agent.call("GetIdentity", "s", pair.server.jid(side.name))
            (side.directory / "services" / f"{AGENT_NAME}.service").unlink()
            await side.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "ReloadConfig",
            )
            if await agent.runs():
                await agent.kill()
    assert "not installed" in await fails_to_offer(pair)
    assert nothing_came(pair)


async def test_a_locked_identity_offers_nothing_until_it_is_unlocked(
    pair: Pair, alices: AgentClient
) -> None:
    certificate = await seal(alices, pair.server.jid("alice"))
    assert "tpe2e identity unlock" in await fails_to_offer(pair)
    assert nothing_came(pair)
    with pytest.raises(DBusFailure, match="wrong"):
        await alices.call("Unlock", "h", b"open")
    assert "tpe2e identity unlock" in await fails_to_offer(pair)
    await alices.call("Unlock", "h", PASSPHRASE)
    mine = await moves(pair)
    own = await pair.alice.get(mine, E2E, "OwnFingerprints")
    assert own == {"sha-256": shown(identity_fingerprint(certificate))}


async def test_a_locked_identity_accepts_nothing(pair: Pair, bobs: AgentClient) -> None:
    await seal(bobs, pair.server.jid("bob"))
    mine, theirs = await pair.offer(DATA)
    assert await pair.bob.accept(theirs) == b""
    assert (await pair.bob.state(theirs, 4, 5)) == (CANCELLED, LOCAL_ERROR)
    assert (await pair.alice.state(mine, 4, 5)) == (CANCELLED, REMOTE_STOPPED)
    assert await pair.alice.get(mine, FILE_TRANSFER, "TransferredBytes") == 0
    await bobs.call("Unlock", "h", PASSPHRASE)
    mine, theirs = await pair.offer(DATA, "again")
    await finish(pair, mine, theirs)


async def test_a_damaged_identity_is_not_replaced(pair: Pair, alices: AgentClient) -> None:
    await alices.call("GetIdentity", "s", pair.server.jid("alice"))
    directory = pair.alice.directory / "data" / "telepathy-e2e" / "identities"
    (file,) = directory.glob("*.pem")
    file.write_bytes(file.read_bytes()[:100])
    assert "damaged" in await fails_to_offer(pair)
    assert nothing_came(pair)
    assert len(file.read_bytes()) == 100


async def test_an_identity_moves_to_another_device(
    pair: Pair, alices: AgentClient, bobs: AgentClient
) -> None:
    account = pair.server.jid("alice")
    mine = await moves(pair)
    exported = await alices.export(account, PASSPHRASE)
    with pytest.raises(DBusFailure, match="wrong"):
        await bobs.call("Import", "shh", account, b"open", exported)
    # Bob's desktop is hers as well, for once.
    await bobs.call("Import", "shh", account, PASSPHRASE, exported)
    identity = await bobs.call("GetIdentity", "s", account)
    own = await pair.alice.get(mine, E2E, "OwnFingerprints")
    assert own == {"sha-256": shown(identity_fingerprint(identity))}
