import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names
from telepathy_e2e.cli import receive as module
from tests.unit.cli_support import (
    BOB,
    FT,
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
SHA256 = hashlib.sha256(DATA).hexdigest()
HASHED: dict[str, Any] = {
    "ContentHashType": Variant("u", names.HASH_SHA256),
    "ContentHash": Variant("s", SHA256.upper()),
}


class Sender:
    """What the daemon does with one incoming transfer after AcceptFile: opens at ``offset`` (None:
    the one asked for), gives ``data``, and then says that it is complete.
    """

    def __init__(
        self,
        cm: FakeCM,
        directory: Path,
        data: bytes = DATA,
        *,
        offset: int | None = None,
        encrypted: bool = True,
        end: int = names.COMPLETED,
    ) -> None:
        self.cm = cm
        self.data = data
        self.offset = offset
        self.encrypted = encrypted
        self.end = end
        self.asked_offset = -1
        self.before: Callable[[str], Coroutine[Any, Any, None]] | None = None
        self.socket = cm.socket(directory)
        cm.handlers["AcceptFile"] = self._accept

    async def _accept(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.asked_offset = call[4]
        self.cm.state(path, names.ACCEPTED, 1)
        self.cm.start(self._story(path))
        return self.socket.reply

    async def _story(self, path: str) -> None:
        if self.encrypted:
            self.cm.encrypt(path)
        if self.before is not None:
            await self.before(path)
        offset = self.asked_offset if self.offset is None else self.offset
        self.cm.properties[path, FT]["InitialOffset"] = Variant("t", offset)
        self.cm.emit(path, FT, "InitialOffsetDefined", "t", offset)
        self.cm.state(path, names.OPEN)
        await self.socket.give(self.data[offset:])
        self.cm.state(path, self.end, 5 if self.end == names.CANCELLED else 0)


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def receive(output: Person, downloads: Path, *words: str) -> Coroutine[Any, Any, int]:
    return tpe2e(output, "receive", "--once", "--dir", str(downloads), *words)


async def test_a_file_that_was_offered_before_is_taken_and_named(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path)
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 0
    assert [path.name for path in downloads.iterdir()] == ["notes.txt"]
    assert (downloads / "notes.txt").read_bytes() == DATA
    assert output.event("done")["sha256"] == SHA256
    assert output.event("done")["protection"] == "encrypted"


async def test_a_file_that_is_offered_later_is_taken_too(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    Sender(cm, tmp_path)

    async def update(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        if call[1][0][1]:
            cm.add_transfer(requested=False)
        return "", []

    cm.handlers["UpdateCapabilities"] = update
    assert await receive(Robot(), downloads, "--accept-all") == 0
    assert (downloads / "notes.txt").read_bytes() == DATA


async def test_a_person_is_asked_and_may_decline(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    path = cm.add_transfer(requested=False)
    output = Person(Accept_it="n")
    command = asyncio.get_running_loop().create_task(receive(output, downloads))
    await cm.called("Close")
    assert path not in cm.channels
    assert "AcceptFile" not in cm.members()
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert "declined" in output.names()


async def test_an_offer_that_is_taken_back_ends_the_question(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    first = cm.add_transfer(requested=False)
    output = Person(Accept_it="y")

    async def never(question: str, choices: dict[str, str]) -> str:
        cm.state(first, names.CANCELLED, names.REMOTE_STOPPED)
        await asyncio.Event().wait()
        return ""

    output.decide = never
    command = asyncio.get_running_loop().create_task(receive(output, downloads))
    await cm.called("Close")
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert "withdrawn" in output.names()


async def test_nobody_to_ask_means_accept_all_or_nothing(cm: FakeCM, downloads: Path) -> None:
    await cm.add_connection()
    output = Robot()
    assert await receive(output, downloads) == 2
    assert "--accept-all" in output.event("error")["message"]


async def test_a_name_from_the_peer_cannot_leave_the_directory(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, Filename=Variant("s", "../../.ssh/authorized_keys"))
    Sender(cm, tmp_path)
    assert await receive(Robot(), downloads, "--accept-all") == 0
    assert [path.name for path in downloads.iterdir()] == ["authorized_keys"]


async def test_an_existing_file_stays(cm: FakeCM, tmp_path: Path, downloads: Path) -> None:
    (downloads / "notes.txt").write_text("mine")
    await cm.add_connection()
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path)
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 0
    assert (downloads / "notes.txt").read_text() == "mine"
    assert output.event("done")["path"] == str(downloads / "notes (1).txt")


async def test_only_the_named_sender_is_heard(cm: FakeCM, tmp_path: Path, downloads: Path) -> None:
    await cm.add_connection()
    stranger = cm.add_transfer(requested=False, Filename=Variant("s", "bad"))
    cm.channels[stranger][names.CHANNEL + ".TargetID"] = Variant("s", "mallory@example.org")
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path)
    assert await receive(Robot(), downloads, "--accept-all", "--from", BOB) == 0
    assert [path.name for path in downloads.iterdir()] == ["notes.txt"]
    assert stranger in cm.channels


async def test_a_cut_transfer_is_kept_and_resumed(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, DATA[:2], end=names.CANCELLED)
    assert await receive(Robot(), downloads, "--accept-all") == 1
    assert not (downloads / "notes.txt").exists()
    cm.add_transfer(requested=False, **HASHED)
    sender = Sender(cm, tmp_path)
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 0
    assert sender.asked_offset == 2
    assert output.event("resumed")["offset"] == 2
    assert (downloads / "notes.txt").read_bytes() == DATA
    assert len(list(downloads.iterdir())) == 1


async def test_a_sender_that_cannot_resume_is_read_from_the_start(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, DATA[:2], end=names.CANCELLED)
    await receive(Robot(), downloads, "--accept-all")
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, offset=0)
    assert await receive(Robot(), downloads, "--accept-all") == 0
    assert (downloads / "notes.txt").read_bytes() == DATA


async def test_a_part_that_was_tampered_with_is_found_by_the_whole_hash(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    """The daemon sees the rest only: joined pieces are checked here."""
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, DATA[:2], end=names.CANCELLED)
    await receive(Robot(), downloads, "--accept-all")
    (part,) = downloads.iterdir()
    part.write_bytes(b"XX")
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path)
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 1
    assert "hash" in output.event("error")["message"]
    assert not list(downloads.iterdir())


async def test_a_wrong_hash_keeps_nothing(cm: FakeCM, tmp_path: Path, downloads: Path) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, b"HELLO")
    assert await receive(Robot(), downloads, "--accept-all") == 1
    assert not list(downloads.iterdir())


async def test_more_than_announced_is_refused(cm: FakeCM, tmp_path: Path, downloads: Path) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, DATA + b"!")
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 1
    assert "More came" in output.event("error")["message"]
    assert not list(downloads.iterdir())


async def test_less_than_announced_is_no_file(cm: FakeCM, tmp_path: Path, downloads: Path) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path, DATA[:4])
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 1
    assert not list(downloads.iterdir())


async def test_bytes_alone_do_not_complete_a_transfer(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    """All bytes are here, and then the daemon says that it failed (a hash, a cut-off TLS)."""
    await cm.add_connection()
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path, end=names.CANCELLED)
    assert await receive(Robot(), downloads, "--accept-all") == 1
    assert not list(downloads.iterdir())


async def test_an_unprotected_file_is_refused_where_protection_is_demanded(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path, encrypted=False)
    assert await receive(Robot(), downloads, "--accept-all", "--require", "encrypted") == 3
    assert not list(downloads.iterdir())


async def test_an_unprotected_file_is_called_that(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path, encrypted=False)
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 0
    assert "NOT PROTECTED" in output.event("done")["message"]


async def test_a_rejected_sender_ends_the_transfer_with_its_own_code(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False)
    sender = Sender(cm, tmp_path)

    async def before(path: str) -> None:
        question = cm.add_question(path)
        await cm.called("Reject")
        cm.finish_question(question, "rejected")
        cm.state(path, names.CANCELLED, names.LOCAL_STOPPED)
        await asyncio.Event().wait()

    sender.before = before
    code = await receive(Robot(), downloads, "--accept-all", "--on-unverified", "reject")
    assert code == 4
    assert not list(downloads.iterdir())


async def test_who_can_answer_announces_it_and_takes_it_back(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False)
    Sender(cm, tmp_path)
    announced = []

    async def update(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        ((client, classes, _),) = call[1]
        types = [each[names.CHANNEL + ".ChannelType"].value for each in classes]
        announced.append((client, types))
        return "", []

    cm.handlers["UpdateCapabilities"] = update
    await receive(Robot(), downloads, "--accept-all", "--on-unverified", "proceed")
    client = names.CLIENT + ".receive"
    assert announced == [(client, [FT, PV]), (client, [])]


async def test_who_cannot_answer_does_not_promise_to(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    path = cm.add_transfer(requested=False)

    async def accept(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        assert cm.announced == {names.CLIENT + ".receive": [FT]}
        raise FakeError(names.TP + "Error.NotAvailable", "Too late")

    cm.handlers["AcceptFile"] = accept
    output = Robot()
    assert await receive(output, downloads, "--accept-all") == 1
    assert output.event("error")["message"] == "Too late"
    assert path not in cm.channels


async def test_without_once_it_goes_on_after_a_failure(
    cm: FakeCM, tmp_path: Path, downloads: Path
) -> None:
    await cm.add_connection()
    cm.add_transfer(requested=False, **HASHED)
    Sender(cm, tmp_path, b"HELLO")
    output = Robot()
    command = asyncio.get_running_loop().create_task(
        tpe2e(output, "receive", "--dir", str(downloads), "--accept-all")
    )
    await cm.called("Close")
    Sender(cm, tmp_path)
    cm.add_transfer(requested=False, **HASHED)
    async with asyncio.timeout(60):
        while "done" not in output.names():
            await asyncio.sleep(0)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert (downloads / "notes.txt").read_bytes() == DATA


async def test_logging_out_ends_it(cm: FakeCM, downloads: Path) -> None:
    path = await cm.add_connection()

    async def update(_: str, __: list[Any]) -> tuple[str, list[Any]]:
        asyncio.get_running_loop().call_soon(
            cm.emit, path, names.CONNECTION, "StatusChanged", "uu", 2, 1
        )
        return "", []

    cm.handlers["UpdateCapabilities"] = update
    assert await receive(Robot(), downloads, "--accept-all") == 5


async def test_the_directory_must_be_there(cm: FakeCM, tmp_path: Path) -> None:
    await cm.add_connection()
    output = Robot()
    assert await receive(output, tmp_path / "missing", "--accept-all") == 2
    assert "--dir" in output.event("error")["message"]


async def test_nobody_logged_in_is_said(cm: FakeCM, downloads: Path) -> None:
    assert await receive(Robot(), downloads, "--accept-all") == 5


async def test_only_so_many_files_come_at_the_same_time(
    cm: FakeCM, tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PARALLEL", 2)
    await cm.add_connection()
    paths = [cm.add_transfer(requested=False, Filename=Variant("s", f"f{n}")) for n in range(3)]

    async def accept(path: str, _: list[Any]) -> tuple[str, list[Any]]:
        return cm.socket(tmp_path).reply  # and never opens

    cm.handlers["AcceptFile"] = accept
    output = Robot()
    command = asyncio.get_running_loop().create_task(
        tpe2e(output, "receive", "--dir", str(downloads), "--accept-all")
    )
    async with asyncio.timeout(60):
        while cm.members().count("AcceptFile") < 2:
            await asyncio.sleep(0)
    await cm.bus.introspect(names.CM_NAME, "/")  # whatever else would come has come
    assert cm.members().count("AcceptFile") == 2
    cm.state(paths[0], names.CANCELLED, names.REMOTE_STOPPED)
    async with asyncio.timeout(60):
        while cm.members().count("AcceptFile") < 3:
            await asyncio.sleep(0)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
