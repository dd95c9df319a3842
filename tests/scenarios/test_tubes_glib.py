"""telepathy-glib's TpStreamTubeChannel and TpDBusTubeChannel at both ends of real tubes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.pair import Pair
from tests.support.programs import lacks, program
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL
from tests.support.tubes import DBUS_TUBE, STREAM_TUBE, closed

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

pytestmark = pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


async def test_telepathy_glib_shares_a_service_with_itself(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob
    offer = ("stream", "offer", alice.connection, pair.server.jid("bob"))
    async with program("glib_tube", alice.address, *offer) as one:
        channel = await one.event("channel")
        assert (channel["kind"], channel["service"]) == ("StreamTubeChannel", "rfb")
        theirs, _ = await bob.new_channel(STREAM_TUBE)
        accept = ("stream", "accept", bob.connection, theirs)
        async with program("glib_tube", bob.address, *accept) as other:
            assert (await other.event("channel"))["service"] == "rfb"
            await other.event("accepted", family=1)  # a Unix socket, with credentials
            assert (await other.event("answer"))["text"] == "HELLO"
            assert (await one.event("incoming"))["contact"] == pair.server.jid("bob")
            await bob.cm(theirs, CHANNEL, "Close")
            await other.event("invalidated")
            await one.event("invalidated")
            for each in (one, other):
                noise = [said["text"] for said in each.events("noise")]
                assert not [said for said in noise if "arning" in said or "rror" in said]


async def test_telepathy_glib_has_a_private_bus_with_itself(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob
    offer = ("dbus", "offer", alice.connection, pair.server.jid("bob"))
    async with program("glib_tube", alice.address, *offer) as one:
        channel = await one.event("channel")
        assert (channel["kind"], channel["service"]) == ("DBusTubeChannel", "com.example.Game")
        theirs, _ = await bob.new_channel(DBUS_TUBE)
        accept = ("dbus", "accept", bob.connection, theirs)
        async with program("glib_tube", bob.address, *accept) as other:
            await asyncio.gather(one.event("offered"), other.event("accepted"))
            assert (await other.event("answer"))["text"] == "42"
            await alice.cm(alice_channel(pair), CHANNEL, "Close")
            await closed(bob, theirs)
            await one.event("invalidated")
            await other.event("invalidated")


def alice_channel(pair: Pair) -> str:
    (path,) = [
        path
        for each in pair.alice.signals
        if each.member == "NewChannels"
        for path, properties in each.body[0]
        if properties[CHANNEL + ".ChannelType"] == DBUS_TUBE
    ]
    return str(path)
