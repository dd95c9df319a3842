"""Accounts on two servers in one daemon: what becomes of one server is not the other's business."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.chat import MESSAGES, TEXT
from tests.support.pair import parameters
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, CONNECTION, PROPERTIES, REQUESTS, TP, DBusFailure, Side
from tests.support.waiting import PATIENCE

CONNECTED, _, DISCONNECTED = range(3)


@dataclass(frozen=True)
class Account:
    """One connection of the daemon."""

    side: Side
    name: str
    path: str

    @classmethod
    async def online(cls, side: Side, server: Prosody, name: str) -> Account:
        """Logged in, with a resource of its own on that server."""
        given = parameters(server, server.jid(name), resource=Variant("s", f"of-{name}"))
        await side.connect(given, handles=())
        return cls(side, side.bus_name, side.connection)

    async def status(self) -> int:
        return int(
            await self.side.call(
                self.name, self.path, PROPERTIES, "Get", "ss", CONNECTION, "Status"
            )
        )

    async def talk_to(self, jid: str) -> str:
        request = {
            CHANNEL + ".ChannelType": Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", jid),
        }
        _, path, _ = await self.side.call(
            self.name, self.path, REQUESTS, "EnsureChannel", "a{sv}", request
        )
        return str(path)

    async def say(self, chat: str, text: str) -> None:
        parts = [{}, {"content-type": Variant("s", "text/plain"), "content": Variant("s", text)}]
        await self.side.call(self.name, chat, MESSAGES, "SendMessage", "aa{sv}u", parts, 0)

    async def heard(self, text: str) -> None:
        await self.side.signal(
            lambda s: (
                s.path.startswith(self.path)
                and s.member == "MessageReceived"
                and len(s.body[0]) > 1
                and s.body[0][1].get("content") == text
            )
        )

    async def released(self) -> None:
        """Wait until nobody has its name on the bus."""
        async with asyncio.timeout(PATIENCE):
            while await self.side.has_owner(self.name):
                await asyncio.sleep(0.02)

    async def ended(self) -> tuple[int, str]:
        """Wait for Disconnected: (reason, error)."""
        found = await self.side.signal(
            lambda s: (
                s.path == self.path and s.member == "StatusChanged" and s.body[0] == DISCONNECTED
            )
        )
        errors = [
            s.body[0]
            for s in self.side.signals
            if s.path == self.path and s.member == "ConnectionError"
        ]
        return int(found.body[1]), errors[0] if errors else ""


@dataclass
class World:
    """Alice on the server that gets lost; Alice and Bob, talking, on the one that stays."""

    lost: Prosody
    stays: Prosody
    side: Side
    gone: Account
    alice: Account
    bob: Account

    async def talk_while(self, what: Callable[[], Awaitable[object]]) -> int:
        """Messages there and back, and properties read, until something is over; how many."""
        going_on = asyncio.ensure_future(what())
        there = await self.alice.talk_to(self.stays.jid("bob"))
        back = await self.bob.talk_to(self.stays.jid("alice"))
        count = 0
        while not going_on.done() or count < 3:
            await self.alice.say(there, f"ping {count} {time.monotonic_ns()}")
            await self.bob.say(back, f"pong {count}")
            await self.alice.heard(f"pong {count}")
            assert await self.alice.status() == await self.bob.status() == CONNECTED
            self.side.signals[:] = [s for s in self.side.signals if s.member != "MessageReceived"]
            count += 1
        await going_on
        return count

    def untouched(self) -> None:
        """Nobody was told anything of the connections that stay."""
        for account in (self.alice, self.bob):
            told = [
                s.body
                for s in self.side.signals
                if s.path == account.path and s.member in ("StatusChanged", "ConnectionError")
            ]
            assert [body[0] for body in told] == [1, 0]
        assert self.side.daemon is not None
        assert self.side.daemon.poll() is None
        assert "Traceback" not in self.side.log


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    lost, stays = await asyncio.gather(
        asyncio.to_thread(Prosody.start, domain="lost.test", accounts=("alice", "carol")),
        asyncio.to_thread(Prosody.start, domain="stays.test", accounts=("alice", "bob")),
    )
    side = await Side.start("both")
    try:
        accounts = [
            await Account.online(side, server, name)
            for server, name in ((lost, "alice"), (stays, "alice"), (stays, "bob"))
        ]
        yield World(lost, stays, side, *accounts)
    finally:
        await side.stop()
        await asyncio.to_thread(lost.stop)
        await asyncio.to_thread(stays.stop)


async def test_a_server_that_is_killed_takes_its_own_connection_with_it_only(world: World) -> None:
    chat = await world.gone.talk_to(world.lost.jid("carol"))

    async def kill() -> None:
        await asyncio.to_thread(world.lost.kill)
        reason, error = await world.gone.ended()
        assert (reason, error) == (2, TP + "Error.ConnectionLost")

    assert await world.talk_while(kill) >= 3
    for path in (chat, world.gone.path):
        with pytest.raises(DBusFailure):
            await world.side.call(world.gone.name, path, PROPERTIES, "GetAll", "s", CHANNEL)
    await world.gone.released()
    world.untouched()
    # And it comes back when its server does.
    await asyncio.to_thread(world.lost.restart)
    world.side.signals[:] = [s for s in world.side.signals if s.path != world.gone.path]
    again = await Account.online(world.side, world.lost, "alice")
    assert await again.status() == CONNECTED
    world.untouched()


async def test_a_server_that_freezes_holds_nobody_but_its_own_users(world: World) -> None:
    world.lost.pause()
    try:
        # What waits for the frozen server waits alone: a chat, and a login under way.
        chat = await world.gone.talk_to(world.lost.jid("carol"))
        await world.gone.say(chat, "is anybody there?")
        side = world.side
        bus_name, path = side.bus_name, side.connection
        given = parameters(world.lost, world.lost.jid("carol"))
        await side.request_connection(given)
        waiting = Account(side, side.bus_name, side.connection)
        side.bus_name, side.connection = bus_name, path
        await side.call(waiting.name, waiting.path, CONNECTION, "Connect")
        assert await world.talk_while(lambda: asyncio.sleep(1)) >= 3
        assert await waiting.status() == 1
        assert await world.gone.status() == CONNECTED, "nobody can know yet"

        async def leave() -> None:
            for each in (waiting, world.gone):
                await side.call(each.name, each.path, CONNECTION, "Disconnect")
            for each in (waiting, world.gone):
                assert await each.ended() == (1, ""), "as the user wished"

        assert await world.talk_while(leave) >= 3
        for each in (waiting, world.gone):
            await each.released()
        world.untouched()
    finally:
        world.lost.resume()


async def test_a_frozen_server_does_not_keep_the_daemon_from_ending(world: World) -> None:
    world.lost.pause()
    try:
        assert world.side.daemon is not None
        world.side.daemon.terminate()
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.to_thread(world.side.daemon.wait) == 0
        for each in (world.gone, world.alice, world.bob):
            assert (await each.ended())[0] in (0, 1)
    finally:
        world.lost.resume()
