"""Two thousand contacts with pictures and fifty rooms of two hundred: it all comes, and meanwhile
others are answered. How fast is measured by the benchmarks, not here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support import crowd
from tests.support.crowd import CONTACTS, MEMBERS, ROOMS, reading
from tests.support.pair import parameters
from tests.support.prosody import Prosody
from tests.support.rooms import GROUP, enter
from tests.support.side import CONNECTION, Side

LIST = CONNECTION + ".Interface.ContactList"
PRESENCE = CONNECTION + ".Interface.SimplePresence"
AVATARS = CONNECTION + ".Interface.Avatars"
ALIASING = CONNECTION + ".Interface.Aliasing"

# Seconds; only what never comes takes so long.
LONG = 400

pytestmark = pytest.mark.timeout(1500)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Prosody]:
    started = await asyncio.to_thread(crowd.start)
    yield started
    await asyncio.to_thread(started.stop)


@pytest_asyncio.fixture
async def side(server: Prosody) -> AsyncIterator[Side]:
    """Not connected yet. A log of everything would be most of the work."""
    side = await Side.start("popular", env={"TELEPATHY_E2E_DEBUG": ""})
    await side.request_connection(
        parameters(server, server.jid("popular"), resource=Variant("s", "here"))
    )
    yield side
    assert side.daemon is not None
    assert side.daemon.poll() is None
    assert "Traceback" not in side.log
    await side.stop()


async def test_two_thousand_contacts_come_with_presence_and_pictures(side: Side) -> None:
    pictures: dict[int, bytes] = {}
    async with reading(side.address, side.bus_name, side.connection) as reads:
        await side.cm(side.connection, CONNECTION, "Connect")
        await side.signal(
            lambda s: s.member == "ContactListStateChanged" and s.body == (3,), timeout=LONG
        )
        interfaces = [ALIASING, PRESENCE, AVATARS]
        async with asyncio.timeout(LONG):
            while True:
                shown = await side.cm(
                    side.connection, LIST, "GetContactListAttributes", "asb", interfaces, False
                )
                friends = {
                    handle: each
                    for handle, each in shown.items()
                    if each[CONNECTION + "/contact-id"].startswith("friend")
                }
                assert len(friends) == CONTACTS
                if all(AVATARS + "/token" in each for each in friends.values()):
                    break
                await asyncio.sleep(0.05)
        for each in friends.values():
            name = each[CONNECTION + "/contact-id"].partition("@")[0]
            assert each[PRESENCE + "/presence"] == (3, "away", f"I am {name}")
            assert each[ALIASING + "/alias"] == f"Friend {name.removeprefix('friend')}"
        side.signals.clear()
        await side.cm(side.connection, AVATARS, "RequestAvatars", "au", list(friends))
        async with asyncio.timeout(LONG):
            while len(pictures) < CONTACTS:
                await side.signal(lambda s: s.member == "AvatarRetrieved", timeout=LONG)
                for each in side.signals:
                    if each.member == "AvatarRetrieved":
                        handle, token, data, _ = each.body
                        pictures[handle] = bytes(data)
                        assert token == friends[handle][AVATARS + "/token"]
                        assert hashlib.sha1(data, usedforsecurity=False).hexdigest() == token
                side.signals.clear()
    assert len(set(pictures.values())) == CONTACTS, "each has its own"
    assert len(reads.seconds) > 100, "others were answered in between"


async def test_fifty_rooms_of_two_hundred_are_entered(side: Side) -> None:
    await side.cm(side.connection, CONNECTION, "Connect")
    await side.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 0, timeout=LONG)
    async with reading(side.address, side.bus_name, side.connection) as reads:
        async with asyncio.timeout(LONG):
            paths = await asyncio.gather(
                *(enter(side, crowd.room(number)) for number in range(ROOMS))
            )
        assert len(set(paths)) == ROOMS
        for number, path in enumerate(paths):
            shown = await side.get_all(path, GROUP)
            assert len(shown["Members"]) == MEMBERS
            names = {shown["MemberIdentifiers"][each] for each in shown["Members"]}
            assert f"{crowd.room(number)}/nick{MEMBERS}" in names
    assert len(reads.seconds) > 20, "others were answered in between"
