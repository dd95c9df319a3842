"""Clients that other people wrote, or that Telepathy's libraries make, at the real daemon."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.mission_control import Desktop, mission_control
from tests.support.mission_control import available as dispatcher_available
from tests.support.pair import Pair, parameters
from tests.support.programs import Program, lacks, program
from tests.support.prosody import Prosody
from tests.support.side import (
    CERTIFICATE_REQUEST,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    Side,
)

# A transfer that never ends is found out before the watchdog of the whole run does.
pytestmark = pytest.mark.timeout(60)

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

needs_glib = pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB)
NO_DBUS_PYTHON = lacks("import dbus.mainloop.glib, gi")
needs_dbus_python = pytest.mark.skipif(bool(NO_DBUS_PYTHON), reason=NO_DBUS_PYTHON)
needs_dispatcher = pytest.mark.skipif(
    bool(NO_GLIB) or not dispatcher_available(), reason=NO_GLIB or "Mission Control is missing"
)


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
        theirs, _ = await pair.bob.new_channel(FILE_TRANSFER)
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


# -- Mission Control and handlers ---------------------------------------------------------------


class Dispatched:
    """Alice as everywhere; Bob has Mission Control and what handlers a test starts."""

    def __init__(self, server: Prosody, alice: Side, bob: Desktop) -> None:
        self.server = server
        self.alice = alice
        self.bob = bob

    async def offer(self, data: bytes) -> str:
        """Alice offers Bob a file, once she has seen that he takes files."""
        pair = Pair(self.server, self.alice, self.alice)
        await pair.sees(self.alice, self.server.jid("bob"))
        return await self.alice.offer_file(self.server.jid("bob"), "file.bin", len(data))


@asynccontextmanager
async def _dispatched(
    server: Prosody, *handles: str, **bob: Variant
) -> AsyncIterator[tuple[Dispatched, AsyncExitStack]]:
    """Both sides, and a stack to start programs on; ``handles`` is what a client of Alice does."""
    alice = await Side.start("alice")
    try:
        await alice.connect(parameters(server, server.jid("alice")), handles=handles)
        async with mission_control() as desktop, AsyncExitStack() as stack:
            await desktop.log_in(parameters(server, server.jid("bob"), **bob))
            yield Dispatched(server, alice, desktop), stack
    finally:
        await alice.stop()


async def _handler(stack: AsyncExitStack, bob: Desktop, kind: str, *more: str) -> Program:
    """Start one; Mission Control tells the connection of it by UpdateCapabilities."""
    name = f"Test{kind.capitalize()}"
    started = await stack.enter_async_context(
        program("glib_handler", bob.address, name, kind, *more)
    )
    await started.event("registered")
    return started


@needs_dispatcher
async def test_mission_control_hands_files_and_questions_to_their_handlers(
    prosody: Prosody, tmp_path: Path
) -> None:
    data = secrets.token_bytes(600_000)
    file = tmp_path / "got"
    async with _dispatched(prosody, FILE_TRANSFER, VERIFICATION) as (both, stack):
        alice, bob = both.alice, both.bob
        people = await _handler(stack, bob, "verification")
        files = await _handler(stack, bob, "files", str(file))
        mine = await both.offer(data)
        handled = await files.event("handling")
        assert handled["kind"] == "FileTransferChannel"
        assert handled["target"] == prosody.jid("alice")
        sending = asyncio.ensure_future(alice.provide(mine, data))
        hers, _ = await alice.new_channel(VERIFICATION)
        asked = await people.event("handling")
        assert asked["properties"][VERIFICATION + ".PayloadChannel"] == handled["path"]
        await alice.cm(hers, VERIFICATION, "StartSAS")
        theirs = await people.event("string")
        await alice.changed(hers, VERIFICATION, "ShortAuthenticationString", theirs["text"])
        people.tell("same")
        await alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
        assert await alice.state(mine, 4, 5) == (4, 0)
        await sending
        assert (await people.event("finished"))["how"] == ["verified", "sas"]
        await people.event("gone", path=asked["path"])
        await files.event("written")
        assert file.read_bytes() == data
        assert [each["state"] for each in files.events("state")] == [2, 3, 4]
        verified = {"Encrypted": True, "Verified": True}
        assert await alice.get_all(mine, SECURABLE) == verified
        assert await bob.get_all(handled["path"], SECURABLE) == verified
        assert not _complaints(files)
        assert not _complaints(people)


@needs_dispatcher
async def test_mission_control_closes_a_question_that_nobody_handles(
    prosody: Prosody, tmp_path: Path
) -> None:
    """Close, unanswered, with no announced handler: the policy decides."""
    data = secrets.token_bytes(300_000)
    file = tmp_path / "got"
    verify = Variant("s", "verified")
    async with _dispatched(prosody, FILE_TRANSFER, e2e_policy=verify) as (both, stack):
        files = await _handler(stack, both.bob, "files", str(file))
        mine = await both.offer(data)
        handled = await files.event("handling")
        sending = asyncio.ensure_future(both.alice.provide(mine, data))
        question = await both.bob.client.until(
            lambda m: m.member == "NewChannels" and VERIFICATION in str(m.body)
        )
        await both.bob.client.signal("Closed", question.body[0][0][0])
        # Verification was demanded, and so it is a no.
        assert (await both.bob.state(handled["path"], 4, 5))[0] == 5
        assert (await both.alice.state(mine, 4, 5))[0] == 5
        await sending
        security = await both.bob.get_all(handled["path"], E2E)
        assert ".Cert." in security["Error"]
        assert file.read_bytes() == b""


@needs_dispatcher
async def test_mission_control_hands_the_question_for_a_certificate_to_its_handler(
    prosody: Prosody, tmp_path: Path
) -> None:
    data = secrets.token_bytes(300_000)
    file = tmp_path / "got"
    ask = Variant("b", True)
    async with _dispatched(prosody, FILE_TRANSFER, e2e_ask_certificate=ask) as (both, stack):
        certificates = await _handler(stack, both.bob, "certificate")
        files = await _handler(stack, both.bob, "files", str(file))
        mine = await both.offer(data)
        handled = await files.event("handling")
        sending = asyncio.ensure_future(both.alice.provide(mine, data))
        asked = await certificates.event("handling")
        assert asked["properties"][CERTIFICATE_REQUEST + ".PayloadChannel"] == handled["path"]
        await certificates.event("answered")
        await certificates.event("gone", path=asked["path"])
        assert await both.alice.state(mine, 4, 5) == (4, 0)
        await sending
        await files.event("written")
        assert file.read_bytes() == data
        assert await both.alice.get(mine, SECURABLE, "Encrypted") is True


# -- dbus-python --------------------------------------------------------------------------------


@needs_dbus_python
@pytest.mark.parametrize("way", ["ipv4", "unix"])
async def test_scripts_with_dbus_python_move_a_file(pair: Pair, tmp_path: Path, way: str) -> None:
    data = secrets.token_bytes(2_000_003)
    file, got = tmp_path / "notes.bin", tmp_path / "got"
    file.write_bytes(data)
    alice, bob = pair.alice, pair.bob
    async with AsyncExitStack() as stack:
        sending = (way, "send", alice.connection, pair.server.jid("bob"), str(file))
        sender = await stack.enter_async_context(program("dbus_transfer", alice.address, *sending))
        theirs, _ = await bob.new_channel(FILE_TRANSFER)
        taking = (way, "receive", bob.connection, theirs, str(got))
        receiver = await stack.enter_async_context(program("dbus_transfer", bob.address, *taking))
        assert (await sender.ended(), await receiver.ended()) == (0, 0), receiver.said
    assert got.read_bytes() == data
    for each in (sender, receiver):
        assert [told["state"] for told in each.events("state")] == [2, 3, 4]
        assert not each.events("noise"), each.said
