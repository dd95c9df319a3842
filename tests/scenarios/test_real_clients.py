"""Clients that other people wrote, or that Telepathy's libraries make, at the real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.bus import RawClient
from tests.support.mission_control import Desktop, mission_control
from tests.support.mission_control import available as dispatcher_available
from tests.support.pair import Pair, parameters
from tests.support.programs import Program, lacks, program
from tests.support.prosody import Prosody
from tests.support.side import (
    CERTIFICATE_REQUEST,
    CHANNEL,
    CM_PATH,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    PROPERTIES,
    REQUESTS,
    SECURABLE,
    TP,
    VERIFICATION,
    Side,
)
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
CHECKER = SHARED / "tools" / "spec_check.py"

# A transfer that never ends is found out before the watchdog of the whole run does.

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


# -- tools that look at everything --------------------------------------------------------------


@pytest_asyncio.fixture
async def everything(prosody: Prosody) -> AsyncIterator[tuple[Pair, set[str]]]:
    """Alice's bus has a channel of every kind at once; the paths of all that are there."""
    handles = (FILE_TRANSFER, VERIFICATION)
    ask = {"e2e_ask_certificate": Variant("b", True)}
    pair = await Pair.start(prosody, alice=ask, alice_handles=handles, bob_handles=handles)
    alice, bob = pair.alice, pair.bob
    try:
        data = b"for Bob" * 1000
        first = await alice.offer_file(prosody.jid("bob"), "notes.txt", len(data))
        asked, _ = await alice.new_channel(CERTIFICATE_REQUEST)
        await alice.cm(asked, CERTIFICATE_REQUEST, "UseOwn")
        theirs, _ = await bob.new_channel(FILE_TRANSFER)
        moving = asyncio.gather(bob.accept(theirs), alice.provide(first, data))
        hers, shown = await alice.new_channel(VERIFICATION)
        second = await alice.offer_file(prosody.jid("bob"), "more.txt", len(data))
        open_request, _ = await alice.new_channel(CERTIFICATE_REQUEST, skip=1)
        certificate = shown[VERIFICATION + ".PeerCertificate"]
        yield pair, {CM_PATH, alice.connection, first, hers, certificate, second, open_request}
        # A question that is closed because its handler left is a no.
        await alice.cm(hers, CHANNEL, "Close")
        await moving
    finally:
        await pair.stop()


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.skipif(shutil.which("busctl") is None, reason="busctl is not installed")
async def test_busctl_finds_and_understands_every_object(
    everything: tuple[Pair, set[str]],
) -> None:
    """It refuses objects that list a member twice, or leave properties out that they have."""
    pair, paths = everything
    alice = pair.alice
    busctl = ("busctl", f"--address={alice.address}")
    listed = set((await _output(*busctl, "--list", "tree", alice.bus_name)).split())
    assert paths <= listed
    nodes = {path for path in listed if "telepathy" in path.lower()}
    described = {path: await _output(*busctl, "introspect", alice.bus_name, path) for path in nodes}
    for path in paths:
        assert " property " in described[path], path


@pytest.mark.skipif(not CHECKER.is_file(), reason="no checker here")
async def test_the_specifications_checker_likes_all_channels_at_once(
    everything: tuple[Pair, set[str]],
) -> None:
    pair, _ = everything
    output = await _output(
        *("/usr/bin/python3", str(CHECKER), str(SHARED / "reference" / "telepathy-spec")),
        *("--cm", "e2e", "--extra-spec", str(ROOT / "spec"), "--bus", pair.alice.address),
        *("--manager-file", str(ROOT / "data" / "dbus-services" / "e2e.manager")),
        *("--strict", "--verbose"),
    )
    assert " 0 failed" in output
    kinds = ("FileTransfer", "PeerVerification1", "CertificateRequest1")
    for what in (*(f"Channel/{kind}" for kind in kinds), "TLSCertificate"):
        assert f"PASS {what}" in output


# -- a client that does everything wrong --------------------------------------------------------

CALLS = 5_000
AT_ONCE = 100
BIG = 30_000_000

OK = ""
UNKNOWN = "org.freedesktop.DBus.Error.Unknown"
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"


def _calls(pair: Pair, mine: str, theirs: str) -> list[tuple[str, tuple[Any, ...]]]:
    """What each call ends in, and the call: path, interface, member, signature, arguments."""
    connection = pair.alice.connection
    bob = Variant("s", pair.server.jid("bob"))
    to_contacts = {CHANNEL + ".TargetHandleType": Variant("u", 1)}
    file = {CHANNEL + ".ChannelType": Variant("s", FILE_TRANSFER), **to_contacts}
    stranger = {**file, CHANNEL + ".TargetHandle": Variant("u", 999_999)}
    tea = {CHANNEL + ".ChannelType": Variant("s", "org.example.Tea"), **to_contacts}
    sized_by_words = {
        **file,
        CHANNEL + ".TargetID": bob,
        FILE_TRANSFER + ".Filename": Variant("s", "x"),
        FILE_TRANSFER + ".ContentType": Variant("s", "text/plain"),
        FILE_TRANSFER + ".Size": Variant("s", "big"),
    }
    error = TP + "Error."
    unix = (0, 0, Variant("u", 0))
    attributes = (CONNECTION + ".Interface.Contacts", "GetContactAttributes", "auasb")
    return [
        (OK, (mine, PROPERTIES, "Get", "ss", FILE_TRANSFER, "TransferredBytes")),
        (OK, (mine, PROPERTIES, "Get", "ss", E2E, "Protocol")),
        (OK, (mine, PROPERTIES, "GetAll", "s", CHANNEL)),
        (OK, (mine, PROPERTIES, "GetAll", "s", FILE_TRANSFER)),
        (OK, (connection, PROPERTIES, "GetAll", "s", CONNECTION)),
        (OK, (connection, PROPERTIES, "GetAll", "s", REQUESTS)),
        (OK, (mine, CHANNEL, "GetInterfaces", "")),
        (OK, (connection, *attributes, [999_999], [], False)),
        # In the wrong state, or the wrong way round.
        (error + "NotAvailable", (mine, FILE_TRANSFER, "ProvideFile", "uuv", *unix)),
        (error + "NotAvailable", (mine, FILE_TRANSFER, "AcceptFile", "uuvt", *unix, 0)),
        # Wrong types.
        (INVALID_ARGS, (mine, FILE_TRANSFER, "ProvideFile", "s", "please")),
        (INVALID_ARGS, (mine, PROPERTIES, "Get", "s", FILE_TRANSFER)),
        (INVALID_ARGS, (connection, REQUESTS, "CreateChannel", "as", ["x"])),
        (
            error + "InvalidArgument",
            (connection, REQUESTS, "CreateChannel", "a{sv}", sized_by_words),
        ),
        # What does not exist.
        (
            error + "InvalidHandle",
            (connection, CONNECTION, "InspectHandles", "uau", 1, [999_999]),
        ),
        (error + "InvalidHandle", (connection, REQUESTS, "CreateChannel", "a{sv}", stranger)),
        (error + "NotImplemented", (connection, REQUESTS, "CreateChannel", "a{sv}", tea)),
        (UNKNOWN + "Property", (mine, PROPERTIES, "Get", "ss", FILE_TRANSFER, "Smell")),
        (UNKNOWN + "Interface", (mine, PROPERTIES, "GetAll", "s", VERIFICATION)),
        (UNKNOWN + "Interface", (mine, VERIFICATION, "StartSAS", "")),
        (UNKNOWN + "Method", (mine, CHANNEL, "Explode", "")),
        (UNKNOWN + "Object", (theirs, CHANNEL, "Close", "")),
        (UNKNOWN + "Object", (theirs, PROPERTIES, "GetAll", "s", CHANNEL)),
    ]


def _files(side: Side) -> list[str]:
    """What the daemon has open."""
    assert side.daemon is not None
    found = []
    for each in Path(f"/proc/{side.daemon.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(each.readlink()).split(":")[0])
    return sorted(found)


async def _quiet_files(side: Side) -> list[str]:
    """The same once it does not change any more."""
    found, since = _files(side), time.monotonic()
    while time.monotonic() < since + 1:
        await asyncio.sleep(0.05)
        if (now := _files(side)) != found:
            found, since = now, time.monotonic()
    return found


async def _close(side: Side, path: str) -> None:
    await side.cm(path, CHANNEL, "Close")
    await side.signal(lambda s: s.path == path and s.member == "Closed")


async def test_thousands_of_calls_during_a_transfer_are_answered_rightly(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob

    # What the first transfer opens for good is no leak.
    mine, theirs = await pair.offer(b"first")
    await asyncio.gather(bob.accept(theirs), alice.provide(mine, b"first"))
    await asyncio.gather(alice.state(mine, 4), bob.state(theirs, 4))
    await asyncio.gather(_close(alice, mine), _close(bob, theirs))
    before = [await _quiet_files(side) for side in (alice, bob)]

    data = secrets.token_bytes(BIG)
    mine, theirs = await pair.offer(data)
    address = await alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
    receiving = asyncio.ensure_future(bob.accept(theirs))
    await alice.state(mine, 3)
    reader, writer = await asyncio.open_unix_connection(os.fsdecode(address))
    calls = itertools.cycle(_calls(pair, mine, theirs))
    other = await RawClient.connect(alice.address, listen=False)
    part = BIG * AT_ONCE // CALLS
    for start in range(0, BIG, part):
        batch = list(itertools.islice(calls, AT_ONCE))
        answers = asyncio.gather(*(other.call(alice.bus_name, *call) for _, call in batch))
        writer.write(data[start : start + part])
        await writer.drain()
        for (expected, call), reply in zip(batch, await answers, strict=True):
            assert (reply.error_name or OK) == expected, (call, reply.body)
    assert len(other.log) >= CALLS
    await other.close()
    assert [s for s in alice.signals if s.path == mine and s.member == "Closed"] == []
    writer.write_eof()
    await reader.read()
    writer.close()
    assert hashlib.sha256(await receiving).digest() == hashlib.sha256(data).digest()
    assert await alice.state(mine, 4, 5) == (4, 0)
    assert await bob.state(theirs, 4, 5) == (4, 0)
    await asyncio.gather(_close(alice, mine), _close(bob, theirs))
    for side in (alice, bob):
        assert side.daemon is not None
        assert side.daemon.poll() is None
        assert "Traceback" not in side.log
    for side, held in zip((alice, bob), before, strict=True):
        await until(lambda: _files(side) == held)  # noqa: B023
