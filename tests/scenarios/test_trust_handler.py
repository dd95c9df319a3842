"""The trust handler without a dispatcher: what it remembers answers, what it does not asks."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.handler.pins import LEAP_OF_FAITH, Alarm
from tests.support.notifications import desktop
from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    CM_NAME,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    Side,
)
from tests.support.trust import NAME, Trust
from tests.support.waiting import PATIENCE

DATA = secrets.token_bytes(100_000)
DEMAND = {E2E + ".RequireVerified": Variant("b", True)}


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@pytest_asyncio.fixture
async def trust(pair: Pair) -> AsyncIterator[Trust]:
    trust = await Trust.start(pair.alice)
    yield trust
    await trust.stop()


def questions(side: Side) -> int:
    return sum(
        properties["org.freedesktop.Telepathy.Channel.ChannelType"] == VERIFICATION
        for each in side.signals
        if each.member == "NewChannels"
        for _, properties in each.body[0]
    )


class Held:
    """A transfer from Alice to Bob whose payload waits until ``go``."""

    def __init__(self, pair: Pair, mine: str, theirs: str, source: bytes) -> None:
        self.pair, self.mine, self.theirs, self._source = pair, mine, theirs, source
        self.got = asyncio.ensure_future(pair.bob.accept(theirs))

    @classmethod
    async def start(cls, pair: Pair, demands: dict[str, Variant] | None = None) -> Held:
        mine, theirs = await pair.offer(DATA, demands=demands)
        source = await pair.alice.cm(
            mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0)
        )
        return cls(pair, mine, theirs, bytes(source))

    async def go(self) -> bytes:
        """Let it flow; what Bob got."""
        reader, writer = await asyncio.open_unix_connection(os.fsdecode(self._source))
        try:
            writer.write(DATA)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
        return await self.got


async def compare(alice: Side, hers: str, bob: Side, his: str) -> None:
    """Both see the same string and say so."""

    async def string(side: Side, path: str) -> str:
        found = await side.signal(
            lambda s: (
                s.path == path
                and s.member == "PropertiesChanged"
                and bool(s.body[1].get("ShortAuthenticationString"))
            )
        )
        return str(found.body[1]["ShortAuthenticationString"])

    await bob.cm(his, VERIFICATION, "StartSAS")
    await alice.signal(lambda s: s.path == hers and s.member == "PeerStarted")
    await alice.cm(hers, VERIFICATION, "StartSAS")
    assert await string(alice, hers) == await string(bob, his)
    for side, path in ((alice, hers), (bob, his)):
        await side.cm(path, VERIFICATION, "ConfirmSAS", "b", True)
    await alice.signal(lambda s: s.path == hers and s.body[:2] == ("verified", "sas"))


async def verify(pair: Pair, trust: Trust) -> None:
    """Alice and Bob compare a string; her handler sees it."""
    held = await Held.start(pair)
    hers, _ = await pair.alice.new_channel(VERIFICATION, skip=questions(pair.alice))
    await pair.bob.changed(held.theirs, SECURABLE, "Encrypted", True)
    his = await pair.bob.cm(held.theirs, E2E, "Verify")
    await compare(pair.alice, hers, pair.bob, his)
    assert await held.go() == DATA
    await trust.pinned("sas")


async def new_bob(pair: Pair) -> None:
    """Bob's identity is gone, and he makes another one."""
    await pair.bob.stop()
    shutil.rmtree(pair.bob.directory, ignore_errors=True)
    pair.bob = await Side.start("bob")
    server = pair.server
    await pair.bob.connect(parameters(server, server.jid("bob")), handles=(FILE_TRANSFER,))
    await pair.sees(pair.alice, server.jid("bob"))
    await pair.sees(pair.bob, server.jid("alice"))


async def finished(side: Side, path: str) -> tuple[str, str]:
    told = await side.signal(lambda s: s.path == path and s.member == "Finished")
    return told.body[0], told.body[1]


async def test_a_first_transfer_is_a_leap_of_faith_and_a_second_asks_nobody(
    pair: Pair, trust: Trust
) -> None:
    assert await pair.send(DATA) == DATA
    pin = await trust.pinned(LEAP_OF_FAITH)
    assert (pin.account, pin.contact) == (pair.server.jid("alice"), pair.server.jid("bob"))
    assert await pair.send(DATA) == DATA
    assert trust.pins() == [pin]
    assert trust.alarms() == []
    for skip in (0, 1):
        path, _ = await pair.alice.new_channel(VERIFICATION, skip=skip)
        assert await finished(pair.alice, path) == ("unverified", "")


async def test_once_verified_the_pin_answers_at_once(pair: Pair, trust: Trust) -> None:
    await verify(pair, trust)
    asked = questions(pair.alice)
    mine, theirs = await pair.offer(DATA, demands=DEMAND)
    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, DATA))
    assert got == DATA
    path, _ = await pair.alice.new_channel(VERIFICATION, skip=asked)
    assert await finished(pair.alice, path) == ("verified", "pin")
    await pair.alice.changed(mine, SECURABLE, "Verified", True)
    assert (await trust.pinned("sas")).methods == ("sas",)


async def test_a_changed_key_is_an_alarm_and_nothing_flows(pair: Pair, trust: Trust) -> None:
    await verify(pair, trust)
    await new_bob(pair)
    asked = questions(pair.alice)
    held = await Held.start(pair)
    path, shown = await pair.alice.new_channel(VERIFICATION, skip=asked)
    (alarm,) = await trust.alarmed()
    assert (alarm.kind, alarm.contact) == (Alarm.CHANGED_KEY, pair.server.jid("bob"))
    assert alarm.fingerprint == shown[VERIFICATION + ".PeerFingerprints"]["sha-256"]
    sending = asyncio.ensure_future(held.go())
    # The handler has spoken and the daemon answers calls; nothing has moved, and it asks still.
    assert await pair.alice.get(path, VERIFICATION, "State") == "pending"
    assert await pair.alice.get(held.mine, FILE_TRANSFER, "TransferredBytes") == 0
    assert await pair.bob.get(held.theirs, FILE_TRANSFER, "TransferredBytes") == 0
    # Somebody else answers, and the handler learns from it.
    await pair.alice.cm(path, VERIFICATION, "Accept", "s", "fingerprint")
    assert await sending == DATA
    await trust.pinned("fingerprint")
    assert len(trust.pins()) == 2


async def test_a_contact_who_had_a_key_and_offers_none_is_rejected(
    pair: Pair, trust: Trust
) -> None:
    assert await pair.send(DATA) == DATA
    await trust.pinned(LEAP_OF_FAITH)
    server = pair.server
    name = pair.bob.bus_name
    await pair.bob.cm(pair.bob.connection, CONNECTION, "Disconnect")
    await pair.bob.signal(
        lambda s: s.member == "NameOwnerChanged" and s.body[0] == name and not s.body[2]
    )
    pair.bob.signals.clear()
    await pair.bob.connect(
        parameters(server, server.jid("bob"), e2e_policy=Variant("s", "off")),
        handles=(FILE_TRANSFER,),
    )
    await pair.sees(pair.alice, server.jid("bob"))
    mine, theirs = await pair.offer(DATA)
    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, DATA))
    assert got == b""
    assert (await pair.alice.state(mine, 4, 5))[0] == 5
    (alarm,) = await trust.alarmed()
    assert (alarm.kind, alarm.count) == (Alarm.DOWNGRADE, 1)


async def test_a_contact_never_seen_with_a_key_gets_it_in_the_clear(prosody: Prosody) -> None:
    pair = await Pair.start(prosody, bob={"e2e_policy": Variant("s", "off")})
    try:
        trust = await Trust.start(pair.alice)
        assert await pair.send(DATA) == DATA
        assert (trust.pins(), trust.alarms()) == ([], [])
        await trust.stop()
    finally:
        await pair.stop()


async def test_a_handler_that_dies_opens_no_gate_and_its_successor_finds_the_question(
    pair: Pair,
) -> None:
    trust = await Trust.start(pair.alice, settings='unknown-key = "ask"')
    held = await Held.start(pair)
    path, _ = await pair.alice.new_channel(VERIFICATION)
    trust.kill()
    sending = asyncio.ensure_future(held.go())
    await pair.alice.signal(
        lambda s: s.member == "NameOwnerChanged" and s.body[0] == NAME and not s.body[2]
    )
    assert await pair.alice.get(path, VERIFICATION, "State") == "pending"
    assert await pair.alice.get(held.mine, FILE_TRANSFER, "TransferredBytes") == 0
    again = await Trust.start(pair.alice)
    assert await finished(pair.alice, path) == ("unverified", "")
    assert await sending == DATA
    await again.stop()


async def test_a_daemon_that_dies_with_a_question_open_is_answered_when_it_is_back(
    pair: Pair,
) -> None:
    trust = await Trust.start(pair.alice, settings='unknown-key = "ask"')
    held = await Held.start(pair)
    await pair.alice.new_channel(VERIFICATION)
    pair.alice.kill_daemon()
    await pair.alice.signal(
        lambda s: s.member == "NameOwnerChanged" and s.body[0] == CM_NAME and not s.body[2]
    )
    assert await held.got == b""
    # Nobody answered, and nothing is on record.
    assert trust.pins() == []
    trust.settings('unknown-key = "trust"')
    pair.alice.signals.clear()
    pair.bob.signals.clear()
    await pair.alice.start_daemon({})
    account = parameters(pair.server, pair.server.jid("alice"))
    await pair.alice.connect(account, handles=(FILE_TRANSFER,))
    await pair.sees(pair.alice, pair.server.jid("bob"))
    assert await pair.send(DATA) == DATA
    path, _ = await pair.alice.new_channel(VERIFICATION)
    assert await finished(pair.alice, path) == ("unverified", "")
    await trust.pinned(LEAP_OF_FAITH)
    await trust.stop()


async def test_a_handler_that_comes_late_sees_that_the_other_side_waits(pair: Pair) -> None:
    first = await Trust.start(pair.alice, settings='unknown-key = "ask"')
    held = await Held.start(pair)
    path, _ = await pair.alice.new_channel(VERIFICATION)
    first.kill()
    await pair.bob.changed(held.theirs, SECURABLE, "Encrypted", True)
    his = await pair.bob.cm(held.theirs, E2E, "Verify")
    await pair.bob.cm(his, VERIFICATION, "StartSAS")
    await pair.alice.changed(path, VERIFICATION, "StartedMethod", "sas")
    async with desktop(pair.alice.address) as shown:
        trust = await Trust.start(pair.alice, settings='unknown-key = "ask"')
        assert "wants to compare short strings" in (await shown.question())[4]
        await shown.pressed("compare")
        # Both have begun: there is a string.
        await pair.bob.signal(
            lambda s: (
                s.path == his
                and s.member == "PropertiesChanged"
                and bool(s.body[1].get("ShortAuthenticationString"))
            )
        )
        await pair.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", False)
        await pair.alice.changed(path, VERIFICATION, "StartedMethod", "")
        assert await held.got == b""
        await trust.stop()


async def test_of_two_that_answer_at_once_one_counts(pair: Pair, trust: Trust) -> None:
    await verify(pair, trust)
    await pair.alice.announce((FILE_TRANSFER, VERIFICATION), "other")
    for _ in range(3):
        asked = questions(pair.alice)
        held = await Held.start(pair)
        path, _ = await pair.alice.new_channel(VERIFICATION, skip=asked)
        calls = [pair.alice.cm(path, VERIFICATION, "Accept", "s", "pin") for _ in range(2)]
        await asyncio.gather(*calls, return_exceptions=True)
        assert await finished(pair.alice, path) == ("verified", "pin")
        assert await held.go() == DATA
    told = [s for s in pair.alice.signals if s.member == "Finished" and s.body[1] == "pin"]
    assert len(told) == 3


async def test_a_second_handler_of_the_same_name_does_not_start(pair: Pair, trust: Trust) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telepathy_e2e.handler"),
        env=pair.alice._environment(),
        cwd=Path(__file__).parents[2],
    )
    assert await process.wait() == 1
    assert await pair.send(DATA) == DATA
    await trust.pinned(LEAP_OF_FAITH)


async def test_a_damaged_memory_asks_about_everybody(pair: Pair, trust: Trust) -> None:
    await verify(pair, trust)
    data = bytearray(trust.store.path.read_bytes())
    data[-10] ^= 1
    trust.store.path.write_bytes(data)
    asked = questions(pair.alice)
    held = await Held.start(pair)
    path, _ = await pair.alice.new_channel(VERIFICATION, skip=asked)
    async with asyncio.timeout(PATIENCE):
        while "is damaged" not in trust.log:
            await asyncio.sleep(0.02)
    assert await pair.alice.get(path, VERIFICATION, "State") == "pending"
    await pair.alice.cm(path, VERIFICATION, "Reject", "s", "")
    assert await held.got == b""
    assert trust.store.path.read_bytes() == bytes(data)
