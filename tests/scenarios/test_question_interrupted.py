"""Who answers dies, the daemon dies, both begin at once: it verifies nobody, and it goes on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    CM_NAME,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
)
from tests.support.waiting import PATIENCE

DATA = secrets.token_bytes(100_000)
HANDLES = (FILE_TRANSFER, VERIFICATION)
PENDING = "pending"


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    """On either side somebody handles questions."""
    pair = await Pair.start(prosody, alice_handles=HANDLES, bob_handles=HANDLES)
    yield pair
    await pair.stop()


class Asked:
    """A transfer from Alice to Bob whose two questions are open."""

    def __init__(self, pair: Pair, mine: str, theirs: str, hers: str, his: str) -> None:
        self.pair = pair
        self.payloads = {"alice": mine, "bob": theirs}
        self.questions = {"alice": hers, "bob": his}
        self.sides = {"alice": pair.alice, "bob": pair.bob}
        self.sending = asyncio.ensure_future(self._send(mine))
        self.receiving = asyncio.ensure_future(self._receive(theirs))

    async def _send(self, path: str) -> None:
        with suppress(DBusFailure, OSError):
            await self.pair.alice.provide(path, DATA)

    async def _receive(self, path: str) -> bytes:
        with suppress(DBusFailure, OSError):
            return await self.pair.bob.accept(path)
        return b""

    @classmethod
    async def start(cls, pair: Pair) -> Asked:
        before = [_asked(side) for side in (pair.alice, pair.bob)]
        mine, theirs = await pair.offer(DATA)
        asked = cls(pair, mine, theirs, "", "")
        for side, skip in zip((pair.alice, pair.bob), before, strict=True):
            asked.questions[side.name], _ = await side.new_channel(VERIFICATION, skip=skip)
        return asked

    async def press(self, who: str, method: str, *arguments: object) -> None:
        types = "".join({bool: "b", str: "s"}[type(each)] for each in arguments)
        await self.sides[who].cm(self.questions[who], VERIFICATION, method, types, *arguments)

    async def state(self, who: str) -> str:
        return str(await self.sides[who].get(self.questions[who], VERIFICATION, "State"))

    async def becomes(self, who: str, state: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.state(who) != state:
                await asyncio.sleep(0.02)

    async def string(self, who: str) -> str:
        side, path = self.sides[who], self.questions[who]
        async with asyncio.timeout(PATIENCE):
            while not (text := await side.get(path, VERIFICATION, "ShortAuthenticationString")):
                await asyncio.sleep(0.02)
        return str(text)

    async def verified(self, who: str) -> bool:
        return bool(await self.sides[who].get(self.payloads[who], SECURABLE, "Verified"))

    async def compare(self) -> None:
        """All the way, by strings."""
        await self.press("bob", "StartSAS")
        side, path = self.sides["alice"], self.questions["alice"]
        await side.signal(lambda s: s.path == path and s.member == "PeerStarted")
        await self.press("alice", "StartSAS")
        await self.agree()

    async def agree(self) -> None:
        assert await self.string("alice") == await self.string("bob")
        for who in self.sides:
            await self.press(who, "ConfirmSAS", True)
        await self.both_verified("sas")

    async def both_verified(self, method: str) -> None:
        assert await self.receiving == DATA
        for who, side in self.sides.items():
            await side.changed(self.payloads[who], SECURABLE, "Verified", True)
            assert await side.get(self.payloads[who], E2E, "VerifiedMethods") == [method]


def _asked(side: Side) -> int:
    return sum(
        properties["org.freedesktop.Telepathy.Channel.ChannelType"] == VERIFICATION
        for each in side.signals
        if each.member == "NewChannels"
        for _, properties in each.body[0]
    )


@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_a_daemon_that_is_restarted_has_forgotten_the_question_and_verifies_nobody(
    pair: Pair, victim: str
) -> None:
    asked = await Asked.start(pair)
    # His yes is there already; it verifies nobody on the other side, and not him later on.
    await asked.press("alice", "StartSAS")
    bob, his = pair.bob, asked.questions["bob"]
    await bob.signal(lambda s: s.path == his and s.member == "PeerStarted")
    await asked.press("bob", "StartSAS")
    await asked.string(victim)
    await asked.press(victim, "ConfirmSAS", True)
    dies, lives = (pair.alice, pair.bob) if victim == "alice" else (pair.bob, pair.alice)
    dies.kill_daemon()
    path = asked.questions[lives.name]
    await lives.signal(lambda s: s.path == path and s.member == "Closed")
    assert not await asked.verified(lives.name)
    (asked.sending if victim == "alice" else asked.receiving).cancel()
    if victim == "alice":
        assert await asked.receiving == b""
    else:
        await asked.sending
    await _restarted(pair, dies)
    again = await Asked.start(pair)
    for who in again.sides:
        assert await again.state(who) == PENDING
        assert not await again.verified(who)
    await again.compare()


async def _restarted(pair: Pair, side: Side) -> None:
    """The daemon is there again, and its user logs in."""
    async with asyncio.timeout(PATIENCE):
        while await side.has_owner(CM_NAME):
            await asyncio.sleep(0.02)
    side.signals.clear()
    await side.start_daemon({})
    server = pair.server
    await side.connect(parameters(server, server.jid(side.name)), handles=HANDLES)
    other = pair.bob if side is pair.alice else pair.alice
    await pair.sees(side, server.jid(other.name))
    await pair.sees(other, server.jid(side.name))


@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_a_client_that_dies_while_people_compare_leaves_the_question_to_the_next(
    pair: Pair, victim: str
) -> None:
    """Whoever pressed the button is another program than the one that says yes."""
    asked = await Asked.start(pair)
    side, path = asked.sides[victim], asked.questions[victim]
    client = await Client.start(side)
    assert await client.press(path, "StartSAS")
    other = "bob" if victim == "alice" else "alice"
    theirs = asked.questions[other]
    await asked.sides[other].signal(lambda s: s.path == theirs and s.member == "PeerStarted")
    await client.dies()
    await asked.press(other, "StartSAS")
    assert await asked.string(victim) == await asked.string(other)
    assert not await asked.verified(victim)
    assert not await asked.verified(other)
    await asked.agree()


class Client:
    """A program on a side's bus with a connection of its own."""

    def __init__(self, side: Side, bus: MessageBus) -> None:
        self._side, self._bus = side, bus

    @classmethod
    async def start(cls, side: Side) -> Client:
        return cls(side, await MessageBus(bus_address=side.address).connect())

    async def press(self, path: str, method: str, *texts: str) -> bool:
        """Whether it was taken."""
        reply = await self._bus.call(
            Message(
                destination=self._side.bus_name,
                path=path,
                interface=VERIFICATION,
                member=method,
                signature="s" * len(texts),
                body=list(texts),
            )
        )
        assert reply is not None
        return reply.message_type is MessageType.METHOD_RETURN

    async def dies(self) -> None:
        name = self._bus.unique_name
        self._bus.disconnect()
        await self._side.signal(
            lambda s: s.member == "NameOwnerChanged" and ((s.body[0], s.body[2]) == (name, ""))
        )


async def test_two_kinds_of_ceremonies_at_once_are_one_or_none(pair: Pair) -> None:
    """Alice compares and Bob types in the same instant: the initiator's counts."""
    asked = await Asked.start(pair)

    async def pressed(who: str, method: str, *arguments: object) -> bool:
        try:
            await asked.press(who, method, *arguments)
        except DBusFailure as error:  # the other one's was there before
            if not error.name.endswith(".NotAvailable"):
                raise
            return False
        return True

    hers, his = await asyncio.gather(
        pressed("alice", "StartSAS"), pressed("bob", "StartPassword", "sesame")
    )
    assert hers or his
    if not hers:  # it was no instant for them, and his is the one
        await asked.press("alice", "StartPassword", "sesame")
        await asked.both_verified("password")
        return
    # His own runs until he hears of hers.
    bob, path = pair.bob, asked.questions["bob"]
    await bob.signal(lambda s: s.path == path and s.member == "PeerStarted")
    await asked.press("bob", "StartSAS")
    await asked.agree()


async def test_yes_and_no_of_two_clients_in_one_instant_are_one_answer(pair: Pair) -> None:
    for first in ("Accept", "Reject"):
        asked = await Asked.start(pair)
        path = asked.questions["alice"]
        one, two = await Client.start(pair.alice), await Client.start(pair.alice)
        calls = [one.press(path, "Accept", "fingerprint"), two.press(path, "Reject", "not he")]
        order = (0, 1) if first == "Accept" else (1, 0)
        taken = dict(
            zip(order, await asyncio.gather(*(calls[each] for each in order)), strict=True)
        )
        assert sorted(taken.values()) == [False, True]
        # Which of them the bus brought first is its affair, mostly the one that called first.
        state = "verified" if taken[0] else "rejected"
        await pair.alice.signal(lambda s, path=path: s.path == path and s.member == "Finished")  # type: ignore[misc]
        assert await asked.verified("alice") is (state == "verified")
        told = [s for s in pair.alice.signals if s.path == path and s.member == "Finished"]
        assert [s.body[0] for s in told] == [state]
        await one.dies()
        await two.dies()
        if state == "verified":
            # On his side nobody has answered.
            await asked.press("bob", "ProceedUnverified")
            assert await asked.receiving == DATA
        else:
            assert await asked.receiving == b""
        await asked.sending
