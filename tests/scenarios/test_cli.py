"""tpe2e on two desktops: what a person or a script sees of real transfers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.children import interruptible
from tests.support.prosody import PASSWORD, Certificate, Prosody
from tests.support.side import Side
from tests.support.waiting import PATIENCE

WAIT = PATIENCE

# tpe2e that stops itself (SIGSTOP) as soon as it has told of progress for the first time: whoever
# is told may come too late to stop a transfer.
STOPS = """
import os, signal, sys
from telepathy_e2e.cli import output
from telepathy_e2e.cli.main import main

moved = output._JsonMeter.moved

def told_and_stopped(self, count):
    output._JsonMeter.moved = moved
    self.moved(count)
    os.kill(os.getpid(), signal.SIGSTOP)

output._JsonMeter.moved = told_and_stopped
sys.exit(main())
"""


class Command:
    """A running ``tpe2e … --json``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    async def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The next event of that name (with these fields), from now on."""
        async with asyncio.timeout(WAIT):
            while True:
                event = await self._next()
                if event is None:
                    raise AssertionError(f"ended without {name}: {self.events}")
                if event["event"] == name and fields.items() <= event.items():
                    return event

    async def end(self) -> int:
        """The exit code; as long as it says something, it is waited for."""
        event: dict[str, Any] | None = {}
        while event is not None:
            async with asyncio.timeout(WAIT):
                event = await self._next()
        async with asyncio.timeout(WAIT):
            return await self.process.wait()

    def last(self, name: str) -> dict[str, Any]:
        return [event for event in self.events if event["event"] == name][-1]

    async def answer(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        await self.process.stdin.drain()

    async def _next(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            return None
        event: dict[str, Any] = json.loads(line)
        self.events.append(event)
        return event


class Desk:
    """A desktop with tpe2e on it."""

    def __init__(self, side: Side, server: Prosody) -> None:
        self.side = side
        self.server = server
        self.jid = server.jid(side.name)
        self._commands: list[Command] = []

    async def start(self, *words: str, **environment: str) -> Command:
        return await self.start_as(("-m", "telepathy_e2e.cli.main"), *words, **environment)

    async def start_as(self, program: tuple[str, ...], *words: str, **environment: str) -> Command:
        """Run tpe2e.

        Args:
            program: what Python is told to run as that.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            *words,
            "--json",
            env={
                **os.environ,
                "DBUS_SESSION_BUS_ADDRESS": self.side.address,
                "TPE2E_PASSWORD": PASSWORD,
                **environment,
            },
            cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=interruptible,
        )
        self._commands.append(Command(process))
        return self._commands[-1]

    async def run(self, *words: str, code: int = 0, **environment: str) -> Command:
        command = await self.start(*words, **environment)
        ended = await command.end()
        assert ended == code, (command.events, self.side.log[-4000:])
        return command

    async def connect(self, *words: str, code: int = 0, **environment: str) -> Command:
        server = self.server
        where = ("--server", server.host, "--port", str(server.port))
        trust = ("--ca-file", str(server.ca_file))
        return await self.run("connect", self.jid, *where, *trust, *words, code=code, **environment)

    async def stop(self) -> None:
        for command in self._commands:
            if command.process.returncode is None:
                command.process.kill()
                await command.process.wait()
            if command.process.stdin is not None:
                command.process.stdin.close()
        await self.side.stop()


@pytest.fixture
async def desks(prosody: Prosody) -> AsyncIterator[tuple[Desk, Desk]]:
    """Alice's and Bob's, nobody logged in."""
    sides = await asyncio.gather(Side.start("alice"), Side.start("bob"))
    alice, bob = (Desk(side, prosody) for side in sides)
    yield alice, bob
    await asyncio.gather(alice.stop(), bob.stop())


@pytest.fixture
async def alice_and_bob(desks: tuple[Desk, Desk]) -> tuple[Desk, Desk]:
    """Both logged in, and Alice has heard of it."""
    for desk in desks:
        await desk.connect()
    side = desks[0].side

    def available() -> set[int]:
        """Herself and others, by handle."""
        told = [each.body[0] for each in side.signals if each.member == "PresencesChanged"]
        return {who for each in told for who, presence in each.items() if presence[0] == 2}

    await side.signal(lambda _: len(available()) == 2)
    return desks


def make_file(directory: Path, size: int, name: str = "notes.bin") -> Path:
    path = directory / name
    path.write_bytes(os.urandom(size))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    path = tmp_path / "downloads"
    path.mkdir()
    return path


async def receiving(bob: Desk, downloads: Path, *words: str, stops: bool = False) -> Command:
    """Bob waits for a file.

    Args:
        stops: the command stands still as soon as it gets something.
    """
    command = ("receive", "--once", "--accept-all", "--dir", str(downloads), *words)
    receive = await (bob.start_as(("-c", STOPS), *command) if stops else bob.start(*command))
    await receive.event("waiting")
    return receive


async def test_log_in_look_around_log_out(alice_and_bob: tuple[Desk, Desk]) -> None:
    alice, bob = alice_and_bob
    async with asyncio.timeout(WAIT):
        while True:
            status = await alice.run("status")
            contacts = [e for e in status.events if e["event"] == "contact"]
            if any(e["contact"] == bob.jid and e["file_transfer"] for e in contacts):
                break
    assert status.last("connection")["account"] == alice.jid
    assert status.last("connection")["status"] == "connected"
    await alice.run("disconnect")
    assert (await alice.run("status")).last("nothing")
    await alice.run("disconnect", code=5)


async def test_a_file_arrives_encrypted_and_says_that_nobody_verified(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 3_000_000)
    receive = await receiving(bob, downloads)
    send = await alice.run("send", str(file), bob.jid)
    assert await receive.end() == 0
    assert sha256(downloads / file.name) == sha256(file)
    for command in (send, receive):
        assert command.last("done")["protection"] == "encrypted"
        assert command.last("done")["verified_by"] == ""
    ours, theirs = send.last("done"), receive.last("done")
    assert ours["own_fingerprints"] == theirs["peer_fingerprints"]
    assert ours["peer_fingerprints"] == theirs["own_fingerprints"]


async def test_two_people_compare_and_both_sides_are_verified(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 100_000)
    options = ("--require", "verified", "--sas-matches", "stdin")
    receive = await receiving(bob, downloads, *options)
    send = await alice.start("send", str(file), bob.jid, *options)
    hers, his = await send.event("sas"), await receive.event("sas")
    assert hers["string"] == his["string"]
    assert not list(downloads.glob("notes*"))
    await send.answer("yes")
    await receive.answer("yes")
    assert await send.end() == 0
    assert await receive.end() == 0
    assert sha256(downloads / file.name) == sha256(file)
    for command in (send, receive):
        assert command.last("done")["protection"] == "verified"
        assert command.last("done")["verified_by"] == "sas"


async def test_two_people_who_know_a_word_are_verified_by_it(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 100_000)
    (tmp_path / "word").write_text("Möwe 42 im Regen\n")
    options = ("--require", "verified", "--secret-file")
    receive = await receiving(bob, downloads, *options, "-")
    send = await alice.start("send", str(file), bob.jid, *options, str(tmp_path / "word"))
    await receive.answer("  Möwe 42 im Regen")
    assert await send.end() == 0, send.events[-3:]
    assert await receive.end() == 0, receive.events[-3:]
    assert sha256(downloads / file.name) == sha256(file)
    for command in (send, receive):
        assert command.last("done")["verified_by"] == "password"
        assert command.last("done")["verified_methods"] == ["password"]
        assert "Möwe" not in json.dumps(command.events, ensure_ascii=False)


async def test_a_wrong_word_ends_it_on_both_sides_and_nothing_arrives(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 100_000)
    options = ("--require", "verified", "--secret-file", "-")
    receive = await receiving(bob, downloads, *options)
    send = await alice.start("send", str(file), bob.jid, *options)
    await send.answer("this word")
    await receive.answer("another word")
    assert await send.end() == 4, send.events[-3:]
    assert await receive.end() == 4, receive.events[-3:]
    assert not list(downloads.iterdir())
    failed = [e for each in (send, receive) for e in each.events if e["event"] == "password-failed"]
    assert failed
    assert {each["reason"] for each in failed} == {"wrong-password"}


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_one_no_ends_it_on_both_sides_and_nothing_arrives(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path, who: str
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 100_000)
    options = ("--require", "verified", "--sas-matches", "stdin")
    receive = await receiving(bob, downloads, *options)
    send = await alice.start("send", str(file), bob.jid, *options)
    await asyncio.gather(send.event("sas"), receive.event("sas"))
    await (send if who == "alice" else receive).answer("no")
    assert await send.end() == 4, send.events[-3:]
    assert await receive.end() == 4, receive.events[-3:]
    assert not list(downloads.iterdir())


async def test_a_fingerprint_known_from_before_verifies_and_another_one_rejects(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 1000)
    receive = await receiving(bob, downloads)
    send = await alice.run("send", str(file), bob.jid)
    assert await receive.end() == 0
    fingerprint = send.last("done")["peer_fingerprints"]["sha-256"]
    receive = await receiving(bob, downloads)
    verify = ("--verify", "--fingerprint")
    send = await alice.run("send", str(file), bob.jid, *verify, fingerprint)
    assert await receive.end() == 0
    assert send.last("done")["verified_by"] == "fingerprint"
    receive = await receiving(bob, downloads)
    send = await alice.run("send", str(file), bob.jid, *verify, "00" * 32, code=4)
    assert await receive.end() in (1, 4)
    assert len(list(downloads.iterdir())) == 2


async def test_a_peer_without_protection_is_exit_code_3_and_gets_nothing(
    desks: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = desks
    await alice.connect()
    await bob.connect("--param", "e2e-policy=off")
    file = make_file(tmp_path, 1000)
    receive = await receiving(bob, downloads)
    await alice.run("send", str(file), bob.jid, "--require", "encrypted", code=3)
    assert await receive.end() in (1, 3, 4)
    assert not list(downloads.iterdir())


async def test_without_any_demand_the_same_peer_gets_it_and_both_are_told(
    desks: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = desks
    await alice.connect()
    await bob.connect("--param", "e2e-policy=off")
    file = make_file(tmp_path, 1000)
    receive = await receiving(bob, downloads)
    send = await alice.run("send", str(file), bob.jid)
    assert await receive.end() == 0
    for command in (send, receive):
        assert command.last("done")["protection"] == "none"
        assert "NOT PROTECTED" in command.last("protection")["message"]


async def test_an_interrupted_transfer_is_resumed(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 60_000_000)
    # The receiver stands still, so that the transfer is surely under way.
    receive = await receiving(bob, downloads, stops=True)
    send = await alice.start("send", str(file), bob.jid)
    await receive.event("progress")
    await send.event("progress")
    send.process.send_signal(signal.SIGINT)
    assert await send.end() == 130
    receive.process.send_signal(signal.SIGCONT)
    assert await receive.end() == 1
    assert not (downloads / file.name).exists()
    receive = await receiving(bob, downloads)
    send = await alice.run("send", str(file), bob.jid)
    assert await receive.end() == 0
    assert receive.last("resumed")["offset"] > 0
    assert send.last("resumed")["offset"] == receive.last("resumed")["offset"]
    assert sha256(downloads / file.name) == sha256(file)
    assert [path.name for path in downloads.iterdir()] == [file.name]


async def test_a_running_transfer_is_verified_from_another_terminal(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 60_000_000)
    receive = await receiving(bob, downloads, stops=True)
    send = await alice.start("send", str(file), bob.jid)
    await receive.event("progress")
    send.process.send_signal(signal.SIGSTOP)
    hers = await alice.start("verify", bob.jid, "--sas-matches", "stdin")
    his = await bob.start("verify", "--sas-matches", "stdin")
    strings = [(await each.event("sas"))["string"] for each in (hers, his)]
    assert strings[0] == strings[1]
    await hers.answer("yes")
    await his.answer("yes")
    assert await hers.end() == 0
    assert await his.end() == 0
    for command in (send, receive):
        command.process.send_signal(signal.SIGCONT)
    assert await send.end() == 0
    assert await receive.end() == 0
    for command in (send, receive):
        assert command.last("done")["protection"] == "verified"


async def test_a_declined_offer_and_a_missing_contact_are_failed_transfers(
    alice_and_bob: tuple[Desk, Desk], tmp_path: Path, downloads: Path
) -> None:
    alice, bob = alice_and_bob
    file = make_file(tmp_path, 1000)
    send = await alice.start("send", str(file), bob.jid)
    await send.event("offered")
    async with asyncio.timeout(WAIT):
        while True:
            status = await bob.run("status")
            offers = [event for event in status.events if event["event"] == "transfer"]
            if offers:
                break
    connection = status.last("connection")["connection"]
    close = ("org.freedesktop.Telepathy.Channel", "Close")
    await bob.side.call(connection, offers[0]["channel"], *close)
    assert await send.end() == 1
    await alice.run("send", str(file), "nobody@" + bob.server.domain, code=1)


async def test_a_wrong_password_says_so(desks: tuple[Desk, Desk]) -> None:
    alice, _ = desks
    command = await alice.connect(TPE2E_PASSWORD="wrong", code=5)
    assert command.last("error")["error"].endswith(".AuthenticationFailed")
    assert (await alice.run("status")).last("nothing")


async def test_an_unknown_server_certificate_is_not_taken(tmp_path: Path) -> None:
    server = await asyncio.to_thread(Prosody.start, certificate=Certificate.UNKNOWN_AUTHORITY)
    alice = Desk(await Side.start("alice"), server)
    try:
        command = await alice.connect(code=5)
        assert ".Cert." in command.last("error")["error"]
    finally:
        await alice.stop()
        await asyncio.to_thread(server.stop)
