"""telepathy-glib's TpTextChannel in rooms of a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.chat import online, send
from tests.support.programs import lacks, program
from tests.support.prosody import Prosody, available
from tests.support.rooms import changed, configure, enter, members
from tests.support.side import CHANNEL, Side

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

pytestmark = pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB)


@pytest.fixture
def server() -> Iterator[Prosody]:
    if not available():
        pytest.skip("prosody is not installed")
    found = Prosody.start(rooms=True)
    yield found
    found.stop()


@pytest_asyncio.fixture
async def sides(server: Prosody) -> AsyncIterator[tuple[Side, Side]]:
    both = await online(server, "alice"), await online(server, "bob")
    yield both
    for each in both:
        await each.stop()


async def test_telepathy_glib_comes_in_with_the_password_hears_and_leaves(
    server: Prosody, sides: tuple[Side, Side]
) -> None:
    alice, bob = sides
    room = f"tea@{server.conference}"
    his = await enter(bob, room)
    await configure(bob, his, Password=Variant("s", "sesame"))
    async with program("glib_room", alice.address, alice.connection, room, "sesame") as glib:
        channel = await glib.event("channel")
        assert channel["kind"] == "TextChannel"
        assert channel["prepared"] == [True, True, True, True]
        assert channel["locked"] is True
        assert channel["members"] == []
        await glib.event("tried", right=False)
        await glib.event("tried", right=True)
        inside = await glib.event("inside")
        assert inside["me"] == f"{room}/alice"
        await changed(bob, his, added="alice")
        assert await members(bob, his) == {"alice", "bob"}
        await glib.event("changed", added=[f"{room}/alice", f"{room}/bob"])
        await send(bob, his, "Welcome")
        got = await glib.event("received")
        assert got["text"] == "Welcome"
        assert (got["sender"], got["scrollback"]) == (f"{room}/bob", False)
        await bob.cm(his, CHANNEL, "Close")
        left = await glib.event("changed", removed=[f"{room}/bob"])
        assert left["actor"] == f"{room}/bob"
        await glib.event("left")
        assert await glib.ended() == 0
        noise = [each["text"] for each in glib.events("noise")]
        assert not [each for each in noise if "arning" in each or "CRITICAL" in each], noise
