"""Tubes on a desktop: Mission Control hands them to the programs that share or show something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Variant

from tests.support import mission_control
from tests.support.mission_control import Desktop
from tests.support.pair import parameters
from tests.support.programs import Program, lacks, program
from tests.support.prosody import Prosody
from tests.support.side import CAPABILITIES, CHANNEL, CONNECTION, SECURABLE, TP, Side
from tests.support.tubes import (
    LOCALHOST,
    OPEN,
    STREAM_TUBE,
    UNIX,
    accept,
    closed,
    connect,
    request,
    service,
    state,
    talk,
)
from tests.support.waiting import PATIENCE

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

pytestmark = [
    pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB),
    pytest.mark.skipif(not mission_control.available(), reason="Mission Control is missing"),
]

DISPATCHER = TP + "ChannelDispatcher"
DISPATCHER_PATH = "/org/freedesktop/Telepathy/ChannelDispatcher"
CHANNEL_REQUEST = TP + "ChannelRequest"
# As ``tests/clients/glib_tube.py`` has it.
SERVICE = "rfb"


@asynccontextmanager
async def handled_by(server: Prosody, kind: str) -> AsyncIterator[tuple[Side, Desktop, Program]]:
    """Alice as everywhere; Bob's desktop has Mission Control and a handler of telepathy-glib."""
    alice = await Side.start("alice")
    try:
        await alice.connect(parameters(server, server.jid("alice")), handles=(STREAM_TUBE,))
        async with mission_control.mission_control() as bob, AsyncExitStack() as stack:
            await bob.log_in(parameters(server, server.jid("bob")))
            handler = await stack.enter_async_context(
                program("glib_handler", bob.address, "Test", kind)
            )
            await handler.event("registered")
            yield alice, bob, handler
    finally:
        await alice.stop()


async def sees(side: Side | Desktop, jid: str, **more: str) -> None:
    """Wait until a side knows that a contact's programs take such tubes."""
    wanted = {CHANNEL + ".ChannelType": STREAM_TUBE, CHANNEL + ".TargetHandleType": 1}
    wanted |= {f"{STREAM_TUBE}.{name}": value for name, value in more.items()}
    (handle,) = await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid])
    ask = (side.connection, CAPABILITIES, "GetContactCapabilities", "au", [handle])
    async with asyncio.timeout(PATIENCE):
        while wanted not in [fixed for fixed, _ in (await side.cm(*ask)).get(handle, [])]:
            await asyncio.sleep(0.02)


def complaints(client: Program) -> list[str]:
    noise = [said["text"] for said in client.events("noise")]
    return [text for text in noise if "arning" in text or "rror" in text]


async def test_an_incoming_tube_is_handed_to_the_program_that_waits_for_its_service(
    prosody: Prosody, tmp_path: Path
) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5)).upper())
        await reader.read()
        writer.close()

    async with handled_by(prosody, "viewer") as (alice, bob, viewer):
        # The dispatcher has told the connection of it, and that has told Alice.
        await sees(alice, prosody.jid("bob"), Service=SERVICE)
        async with service(UNIX, tmp_path, shout) as address:
            mine = await request(alice, prosody.jid("bob"), SERVICE)
            await alice.cm(mine, STREAM_TUBE, "Offer", "uvua{sv}", UNIX, address, LOCALHOST, {})
            handled = await viewer.event("handling")
            assert handled["kind"] == "StreamTubeChannel"
            assert handled["target"] == prosody.jid("alice")
            assert handled["properties"][STREAM_TUBE + ".Service"] == SERVICE
            assert (await viewer.event("answer"))["text"] == "HELLO"
            await state(alice, mine, OPEN)
            assert (await bob.get_all(handled["path"], SECURABLE))["Encrypted"] is True
            await alice.cm(mine, CHANNEL, "Close")
            await viewer.event("gone", path=handled["path"])
            assert not complaints(viewer)


async def test_a_tube_that_is_requested_of_the_dispatcher_is_offered_by_its_handler(
    prosody: Prosody,
) -> None:
    async with handled_by(prosody, "sharing") as (alice, bob, sharing):
        await sees(bob, prosody.jid("alice"))
        # An applet asks the dispatcher; the program that shares is another one.
        wanted = {
            CHANNEL + ".ChannelType": Variant("s", STREAM_TUBE),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", prosody.jid("alice")),
            STREAM_TUBE + ".Service": Variant("s", SERVICE),
        }
        asked = await bob.client.value(
            *(DISPATCHER, DISPATCHER_PATH, DISPATCHER, "CreateChannel", "oa{sv}xs"),
            *(bob.account, wanted, 0, TP + "Client.Test"),
        )
        await bob.client.value(DISPATCHER, asked, CHANNEL_REQUEST, "Proceed")
        handled = await sharing.event("handling")
        assert handled["kind"] == "StreamTubeChannel"
        assert handled["target"] == prosody.jid("alice")
        assert handled["properties"][CHANNEL + ".Requested"] is True
        await bob.client.signal("Succeeded", asked)
        theirs, shown = await alice.new_channel(STREAM_TUBE)
        assert shown[STREAM_TUBE + ".Service"] == SERVICE
        address = await accept(alice, theirs, UNIX)
        await state(alice, theirs, OPEN)
        assert (await sharing.event("offered"))["done"] is True
        reader, writer = await connect(UNIX, address)
        assert await talk(reader, writer, b"hello") == b"HELLO"
        writer.close()
        assert (await sharing.event("incoming"))["contact"] == prosody.jid("alice")
        assert (await bob.get_all(handled["path"], SECURABLE))["Encrypted"] is True
        await bob.cm(handled["path"], CHANNEL, "Close")
        await closed(alice, theirs)
        await sharing.event("gone", path=handled["path"])
        assert not complaints(sharing)
