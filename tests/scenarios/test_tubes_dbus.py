"""A private bus between two people, with real D-Bus programs at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.programs import lacks, program
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, REQUESTS, DBusFailure, Side
from tests.support.tubes import (
    CREDENTIALS,
    DBUS_TUBE,
    LOCALHOST,
    NETMASK,
    NOT_OFFERED,
    OPEN,
    PORT,
    TUBE,
    closed,
    error_of,
    state,
)

NO_PROGRAMS = lacks("import dbus.service, gi; from gi.repository import Gio")

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(NO_PROGRAMS), reason=NO_PROGRAMS),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


async def request(side: Side, target: str, service: str) -> tuple[str, dict[str, object]]:
    path, properties = await side.cm(
        side.connection,
        REQUESTS,
        "CreateChannel",
        "a{sv}",
        {
            CHANNEL + ".ChannelType": Variant("s", DBUS_TUBE),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", target),
            DBUS_TUBE + ".ServiceName": Variant("s", service),
        },
    )
    return str(path), dict(properties)


async def opened(
    pair: Pair, offered: int = CREDENTIALS, accepted: int = CREDENTIALS
) -> tuple[str, str, str, str]:
    """(Alice's channel, her address, Bob's channel, his address) of a tube that is open."""
    before = len(incoming(pair.bob))
    mine, properties = await request(pair.alice, pair.server.jid("bob"), "com.example.Game")
    assert properties[DBUS_TUBE + ".SupportedAccessControls"] == [LOCALHOST, CREDENTIALS]
    assert await pair.alice.get(mine, TUBE, "State") == NOT_OFFERED
    level = {"level": Variant("u", 3), "map": Variant("ay", b"\x00\xff")}
    address = await pair.alice.cm(mine, DBUS_TUBE, "Offer", "a{sv}u", level, offered)
    theirs, told = await pair.bob.new_channel(DBUS_TUBE, skip=before)
    assert told[DBUS_TUBE + ".ServiceName"] == "com.example.Game"
    assert told[TUBE + ".Parameters"] == {"level": 3, "map": b"\x00\xff"}
    assert await pair.bob.get(theirs, DBUS_TUBE, "DBusNames") == {}
    other = await pair.bob.cm(theirs, DBUS_TUBE, "Accept", "u", accepted)
    await asyncio.gather(state(pair.alice, mine, OPEN), state(pair.bob, theirs, OPEN))
    return mine, str(address), theirs, str(other)


def incoming(side: Side) -> list[str]:
    return [
        path
        for each in side.signals
        if each.member == "NewChannels"
        for path, properties in each.body[0]
        if properties[CHANNEL + ".ChannelType"] == DBUS_TUBE
        and not properties[CHANNEL + ".Requested"]
    ]


async def test_a_program_that_comes_later_gets_what_was_sent_before(pair: Pair) -> None:
    mine, alices, theirs, bobs = await opened(pair, LOCALHOST, LOCALHOST)
    async with program("bus_of_two", "", "gdbus", "call", alices) as player:
        # It waits for an answer before there is anybody to give one.
        async with program("bus_of_two", "", "dbus", "serve", bobs) as game:
            await game.event("ready")
            assert (await player.event("answer"))["doubled"] == 42
            assert await player.ended() == 0
            await game.event("closed")
    await asyncio.gather(closed(pair.alice, mine), closed(pair.bob, theirs))
    assert error_of(pair.alice, mine).endswith(".Cancelled")


@pytest.mark.parametrize("control", [PORT, NETMASK, 4])
async def test_a_bus_has_no_other_access_controls(pair: Pair, control: int) -> None:
    mine, _ = await request(pair.alice, pair.server.jid("bob"), "com.example.Game")
    with pytest.raises(DBusFailure) as failure:
        await pair.alice.cm(mine, DBUS_TUBE, "Offer", "a{sv}u", {}, control)
    assert failure.value.name.endswith(".NotImplemented")
    await pair.alice.cm(mine, CHANNEL, "Close")


@pytest.mark.parametrize("one", ["dbus", "gdbus"])
@pytest.mark.parametrize("other", ["dbus", "gdbus"])
@pytest.mark.parametrize("serves", ["alice", "bob"])
async def test_one_program_calls_the_others_object(
    pair: Pair, one: str, other: str, serves: str
) -> None:
    mine, alices, theirs, bobs = await opened(pair)
    server, caller = (alices, bobs) if serves == "alice" else (bobs, alices)
    async with program("bus_of_two", "", one, "serve", server) as game:
        # No file descriptors: nothing could carry them.
        assert (await game.event("ready"))["capabilities"] == 0
        async with program("bus_of_two", "", other, "call", caller) as player:
            assert (await player.event("answer"))["doubled"] == 42
            assert (await player.event("echo"))["same"]
            assert (await player.event("moved"))["to"] == "e4"
            assert await player.ended() == 0
        # The player left, so this is no bus any more.
        await game.event("closed")
        await asyncio.gather(closed(pair.alice, mine), closed(pair.bob, theirs))
