"""Clients that other people wrote, or that Telepathy's libraries make, at the real daemon."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.pair import Pair
from tests.support.programs import Program, lacks, program
from tests.support.prosody import Prosody
from tests.support.side import SECURABLE

# A transfer that never ends is found out before the watchdog of the whole run does.
pytestmark = pytest.mark.timeout(60)

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

needs_glib = pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


def _complaints(client: Program) -> list[str]:
    """What telepathy-glib did not like of what it got from us."""
    lines = [each["text"] for each in client.events("noise")]
    # It reads a byte to go with credentials from a variant that it made as another type itself.
    return [each for each in lines if "Warning" in each and "g_value_get_uchar" not in each]


# -- telepathy-glib, without Mission Control ----------------------------------------------------


@needs_glib
async def test_telepathy_glib_sends_a_file(pair: Pair, tmp_path: Path) -> None:
    data = secrets.token_bytes(2_000_003)
    file = tmp_path / "notes.bin"
    file.write_bytes(data)
    arguments = (pair.alice.connection, pair.server.jid("bob"), str(file))
    async with program("glib_sender", pair.alice.address, *arguments) as sender:
        assert (await sender.event("connection"))["self_id"] == pair.server.jid("alice")
        assert (await sender.event("contact"))["identifier"] == pair.server.jid("bob")
        channel = await sender.event("channel")
        assert channel["kind"] == "FileTransferChannel"
        assert (channel["file"], channel["size"]) == ("notes.bin", len(data))
        assert (channel["state"], channel["target"]) == (1, pair.server.jid("bob"))
        theirs, _ = await pair.bob.new_channel(
            "org.freedesktop.Telepathy.Channel.Type.FileTransfer"
        )
        assert await pair.bob.accept(theirs) == data
        assert await pair.bob.state(theirs, 4, 5) == (4, 0)
        assert await sender.ended() == 0
    assert [each["state"] for each in sender.events("state")] == [2, 3, 4]
    assert sender.events("state")[-1]["transferred"] == len(data)
    assert sender.events("provided")
    assert not _complaints(sender)
    assert await pair.bob.get(theirs, SECURABLE, "Encrypted") is True


@needs_glib
async def test_telepathy_glib_receives_a_file(pair: Pair, tmp_path: Path) -> None:
    data = secrets.token_bytes(2_000_003)
    mine, theirs = await pair.offer(data, "notes.bin")
    file = tmp_path / "got"
    sending = asyncio.ensure_future(pair.alice.provide(mine, data))
    arguments = (pair.bob.connection, theirs, str(file))
    async with program("glib_receiver", pair.bob.address, *arguments) as receiver:
        assert (await receiver.event("channel"))["kind"] == "FileTransferChannel"
        assert await receiver.ended() == 0
    await sending
    assert file.read_bytes() == data
    assert [each["state"] for each in receiver.events("state")] == [2, 3, 4]
    assert receiver.events("accepted")
    assert not _complaints(receiver)
    assert await pair.alice.state(mine, 4, 5) == (4, 0)
    assert await pair.bob.get(theirs, SECURABLE, "Encrypted") is True
