import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from telepathy_e2e.cli import names
from tests.unit.cli_support import (
    ALICE,
    BOB,
    FT,
    PEER_FINGERPRINT,
    PV,
    FakeCM,
    FakeError,
    Person,
    Robot,
    bus_address,
    cm,
    tpe2e,
)

__all__ = ["bus_address", "cm"]

DATA = b"hello"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "notes.txt"
    path.write_bytes(DATA)
    return str(path)


Story = Callable[[str], Coroutine[Any, Any, None]]


class Peer:
    """What the daemon does with one outgoing transfer; ``story`` is what happens after
    ProvideFile.
    """

    def __init__(self, cm: FakeCM, directory: Path, story: Story | None = None) -> None:
        self.cm = cm
        self.directory = directory
        self.story = story or self.plain
        self.request: dict[str, Any] = {}
        self.socket = cm.socket(directory)
        self.received: bytes | None = None
        self.path = ""
        cm.handlers["CreateChannel"] = self._create
        cm.handlers["ProvideFile"] = self._provide

    async def _create(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.request = {name: variant.value for name, variant in call[1].items()}
        self.path = self.cm.add_transfer(requested=True, announce=False)
        asyncio.get_running_loop().call_soon(self.cm.announce, self.path)
        return "oa{sv}", [self.path, self.cm.channels[self.path]]

    async def _provide(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.cm.start(self.story(path))
        return self.socket.reply

    async def plain(self, path: str) -> None:
        self.cm.state(path, names.ACCEPTED)
        self.cm.state(path, names.OPEN)
        self.received = await self.socket.take()
        self.cm.state(path, names.COMPLETED)

    async def encrypted(self, path: str) -> None:
        self.cm.state(path, names.ACCEPTED)
        self.cm.encrypt(path)
        self.cm.state(path, names.OPEN)
        self.received = await self.socket.take()
        self.cm.state(path, names.COMPLETED)

    async def refuse_bytes(self, path: str) -> None:
        """Opens without the protection that was demanded: a daemon with a fault."""
        self.cm.state(path, names.ACCEPTED)
        self.cm.state(path, names.OPEN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                self.received = await self.socket.take()


async def test_a_file_is_announced_with_its_hash_and_handed_over(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)
    output = Robot()
    assert await tpe2e(output, "send", file, BOB, "--json", "--description", "read this") == 0
    assert peer.received == DATA
    assert peer.request[names.CHANNEL + ".TargetID"] == BOB
    assert peer.request[FT + ".Filename"] == "notes.txt"
    assert peer.request[FT + ".Size"] == len(DATA)
    assert peer.request[FT + ".ContentType"] == "text/plain"
    assert peer.request[FT + ".ContentHashType"] == names.HASH_SHA256
    assert peer.request[FT + ".ContentHash"] == hashlib.sha256(DATA).hexdigest()
    assert peer.request[FT + ".Description"] == "read this"
    assert names.SECURITY + ".RequireEncrypted" not in peer.request
    assert output.event("done")["bytes"] == len(DATA)


async def test_an_unprotected_transfer_is_called_that_before_and_after(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    Peer(cm, tmp_path)
    output = Robot()
    assert await tpe2e(output, "send", file, BOB) == 0
    assert "NOT PROTECTED" in output.event("protection")["message"]
    assert output.event("done")["protection"] == "none"


async def test_an_encrypted_transfer_says_that_nobody_verified(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)
    peer.story = peer.encrypted
    output = Robot()
    assert await tpe2e(output, "send", file, BOB, "--require", "encrypted") == 0
    assert peer.request[names.SECURITY + ".RequireEncrypted"] is True
    assert output.event("done")["protection"] == "encrypted"
    assert output.event("done")["cipher_suite"] == "TLS_AES_256_GCM_SHA384"
    assert "NOT PROTECTED" not in output.stream.getvalue()


@pytest.mark.parametrize(
    ("require", "also"), [("encrypted", ()), ("verified", ("--sas-matches", "yes"))]
)
async def test_no_byte_leaves_this_side_without_the_protection_demanded(
    cm: FakeCM, tmp_path: Path, file: str, require: str, also: tuple[str, ...]
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)
    peer.story = peer.refuse_bytes
    assert await tpe2e(Robot(), "send", file, BOB, "--require", require, *also) == 3
    assert not peer.received
    assert "Close" in cm.members()


async def test_a_demand_that_cannot_be_met_has_its_exit_code(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    async def story(path: str) -> None:
        cm.state(path, names.CANCELLED, 4)

    async def verify(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.EncryptionNotAvailable", "Bob's client cannot")

    await cm.add_connection()
    Peer(cm, tmp_path, story)
    cm.handlers["Verify"] = verify
    output = Robot()
    assert await tpe2e(output, "send", file, BOB, "--require", "encrypted") == 3
    assert output.event("error")["message"] == "Bob's client cannot"


async def test_a_declined_file_is_a_failed_transfer(cm: FakeCM, tmp_path: Path, file: str) -> None:
    async def story(path: str) -> None:
        cm.state(path, names.CANCELLED, names.REMOTE_STOPPED)

    await cm.add_connection()
    Peer(cm, tmp_path, story)
    output = Robot()
    assert await tpe2e(output, "send", file, BOB) == 1


async def test_a_resumed_transfer_starts_at_the_offset(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)

    async def story(path: str) -> None:
        cm.emit(path, FT, "InitialOffsetDefined", "t", 2)
        await peer.plain(path)

    peer.story = story
    output = Robot()
    assert await tpe2e(output, "send", file, BOB) == 0
    assert peer.received == DATA[2:]
    assert output.event("resumed")["offset"] == 2
    assert output.event("done")["bytes"] == 3


async def test_an_empty_file_is_a_file(cm: FakeCM, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    await cm.add_connection()
    peer = Peer(cm, tmp_path)
    assert await tpe2e(Robot(), "send", str(tmp_path / "empty"), BOB) == 0
    assert peer.received == b""
    assert peer.request[FT + ".Size"] == 0


async def test_a_daemon_that_stops_reading_is_a_failure_with_its_reason(
    cm: FakeCM, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(8_000_000))

    async def story(path: str) -> None:
        cm.state(path, names.ACCEPTED)
        cm.state(path, names.OPEN)
        reader, writer = await peer.socket.accept()
        await reader.readexactly(1000)
        writer.transport.abort()
        cm.state(path, names.CANCELLED, 5)

    async def verify(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.NetworkError", "The road broke")

    await cm.add_connection()
    peer = Peer(cm, tmp_path, story)
    cm.handlers["Verify"] = verify
    output = Robot()
    assert await tpe2e(output, "send", str(big), BOB) == 1
    assert output.event("error")["message"] == "The road broke"


async def test_a_daemon_that_dies_ends_the_command(cm: FakeCM, tmp_path: Path, file: str) -> None:
    async def story(path: str) -> None:
        await cm.bus.release_name(cm.connection[1:].replace("/", "."))

    await cm.add_connection()
    Peer(cm, tmp_path, story)
    assert await tpe2e(Robot(), "send", file, BOB) == 5


async def test_an_interrupt_closes_the_channel(cm: FakeCM, tmp_path: Path, file: str) -> None:
    waiting = asyncio.Event()

    async def story(path: str) -> None:
        waiting.set()

    await cm.add_connection()
    Peer(cm, tmp_path, story)
    command = asyncio.get_running_loop().create_task(
        tpe2e(Robot(), "send", file, BOB, "--verify", "--sas-matches", "yes")
    )
    await waiting.wait()
    assert cm.announced[names.CLIENT + ".send"] == [PV]
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert "Close" in cm.members()
    assert cm.announced[names.CLIENT + ".send"] == []


async def test_verify_demands_it_before_the_file_moves(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)

    async def story(path: str) -> None:
        assert "Verify" in cm.members()
        cm.state(path, names.ACCEPTED)
        cm.encrypt(path)
        question = cm.add_question(path)
        (_, fingerprint) = "", await cm.called("Accept")
        assert fingerprint == ["fingerprint"]
        cm.verified(path, "fingerprint")
        cm.finish_question(question, "verified", "fingerprint")
        await peer.encrypted(path)

    peer.story = story
    output = Robot()
    code = await tpe2e(output, "send", file, BOB, "--verify", "--fingerprint", PEER_FINGERPRINT)
    assert code == 0
    assert peer.received == DATA
    assert output.event("done")["verified_by"] == "fingerprint"
    assert cm.announced == {names.CLIENT + ".send": []}


async def test_a_wrong_fingerprint_rejects_and_nothing_is_sent(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)

    async def story(path: str) -> None:
        cm.state(path, names.ACCEPTED)
        cm.encrypt(path)
        question = cm.add_question(path)
        await cm.called("Reject")
        cm.finish_question(question, "rejected", "")
        cm.state(path, names.CANCELLED, names.LOCAL_STOPPED)

    peer.story = story
    output = Robot()
    assert await tpe2e(output, "send", file, BOB, "--verify", "--fingerprint", "00" * 32) == 4
    assert peer.received is None
    assert output.event("fingerprint-differs")["expected"] == "00" * 32


async def test_a_question_that_nobody_announced_is_answered_all_the_same(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    """The account's policy can ask too."""
    await cm.add_connection()
    peer = Peer(cm, tmp_path)

    async def story(path: str) -> None:
        question = cm.add_question(path, reason="policy")
        await cm.called("ProceedUnverified")
        cm.finish_question(question, "unverified")
        await peer.encrypted(path)

    peer.story = story
    output = Person(What_shall_be_done="p")
    assert await tpe2e(output, "send", file, BOB) == 0
    assert output.event("done")["protection"] == "encrypted"


@pytest.mark.parametrize("words", [("--verify",), ("--require", "verified")])
async def test_without_anybody_to_ask_verification_needs_an_answer_beforehand(
    cm: FakeCM, file: str, words: tuple[str, ...]
) -> None:
    await cm.add_connection()
    output = Robot()
    assert await tpe2e(output, "send", file, BOB, *words) == 2
    assert "CreateChannel" not in cm.members()


async def test_the_account_must_be_named_where_there_are_two(cm: FakeCM, file: str) -> None:
    await cm.add_connection(ALICE)
    await cm.add_connection("carol@example.org")
    output = Robot()
    assert await tpe2e(output, "send", file, BOB) == 2
    assert "--account" in output.event("error")["message"]
    assert await tpe2e(output, "send", file, BOB, "--account", "dave@example.org") == 5


@pytest.mark.parametrize("status", [names.CONNECTING, names.DISCONNECTED])
async def test_a_connection_that_is_not_connected_does_not_count(
    cm: FakeCM, file: str, status: int
) -> None:
    await cm.add_connection(ALICE, status)
    output = Robot()
    assert await tpe2e(output, "send", file, BOB) == 5
    assert "tpe2e connect" in output.event("error")["message"]


async def test_a_missing_file_or_a_strange_jid_is_bad_input(cm: FakeCM, file: str) -> None:
    assert await tpe2e(Robot(), "send", "/nonexistent", BOB) == 2
    assert await tpe2e(Robot(), "send", file, "bob") == 2


async def test_signals_of_others_on_the_bus_are_not_believed(
    cm: FakeCM, bus_address: str, tmp_path: Path, file: str
) -> None:
    """Anybody on the bus can send us 'this channel is encrypted'."""
    await cm.add_connection()
    peer = Peer(cm, tmp_path)
    mallory = await MessageBus(bus_address=bus_address).connect()

    async def story(path: str) -> None:
        # To the client alone: match rules keep out what is for everybody, not this.
        mallory.send(
            Message(
                message_type=MessageType.SIGNAL,
                destination=cm.client,
                path=path,
                interface="org.freedesktop.DBus.Properties",
                member="PropertiesChanged",
                signature="sa{sv}as",
                body=[names.SECURABLE, {"Encrypted": Variant("b", True)}, []],
            )
        )
        await mallory.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="GetId",
            )
        )
        await peer.refuse_bytes(path)

    peer.story = story
    try:
        assert await tpe2e(Robot(), "send", file, BOB, "--require", "encrypted") == 3
    finally:
        mallory.disconnect()
        await mallory.wait_for_disconnect()  # type: ignore[no-untyped-call]
    assert not peer.received


async def test_a_question_that_was_put_off_comes_back_when_the_peer_wants_to_compare(
    cm: FakeCM, tmp_path: Path, file: str
) -> None:
    await cm.add_connection()
    peer = Peer(cm, tmp_path)

    async def story(path: str) -> None:
        cm.encrypt(path)
        question = cm.add_question(path, reason="policy")
        await cm.called("ProceedUnverified")
        cm.set(question, PV, State=Variant("s", "unverified"))
        cm.finish_question(question, "unverified")
        cm.set(question, PV, State=Variant("s", "comparing"))
        cm.emit(question, PV, "PeerStarted", "s", "sas")
        await cm.called("StartSAS")
        cm.set(question, PV, ShortAuthenticationString=Variant("s", "AB2C3D"))
        assert await cm.called("ConfirmSAS") == [True]
        cm.verified(path)
        cm.finish_question(question, "verified", "sas")
        await peer.encrypted(path)

    peer.story = story
    output = Person(are_both_strings_the_same="y")
    said = iter(("p", "s"))

    async def decide(question: str, choices: dict[str, str]) -> str:
        return next(said) if "What shall" in question else "y"

    output.decide = decide
    assert await tpe2e(output, "send", file, BOB) == 0
    assert output.event("done")["protection"] == "verified"
    assert output.event("peer-started")["method"] == "sas"
