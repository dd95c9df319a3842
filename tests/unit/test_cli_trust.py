"""``tpe2e trust``: without a bus, on a memory of the test's own."""

from __future__ import annotations

import io
import os
import stat
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from telepathy_e2e.cli import trust as module
from telepathy_e2e.cli.exits import Exit, UsageError
from telepathy_e2e.cli.main import build_parser, execute, main
from telepathy_e2e.cli.output import HumanOutput, make_output
from telepathy_e2e.handler.book import Book
from telepathy_e2e.handler.pins import LEAP_OF_FAITH, NO_IDENTITY, REJECTED, Alarm, Pin
from telepathy_e2e.handler.store import Store, directory
from tests.unit.cli_support import ALICE, BOB, FakeCM, Person, Robot, bus_address, cm, tpe2e

__all__ = ["bus_address", "cm"]

CAROL = "carol@example.org"
OTHER = "alice@work.example"
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MET, SEEN = date(2026, 1, 2), date(2026, 2, 3)


def key(byte: str) -> str:
    return ":".join([byte] * 32)


def pin(byte: str, *methods: str, contact: str = BOB, account: str = ALICE) -> Pin:
    return Pin(account, contact, key(byte), methods, MET, SEEN)


VERIFIED, MET_ONLY, REFUSED = pin("AA", "sas"), pin("BB", LEAP_OF_FAITH), pin("CC", REJECTED)
FRIEND = pin("DD", LEAP_OF_FAITH, contact=CAROL)
ELSEWHERE = pin("AA", "fingerprint", "sas", account=OTHER)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    return Store(directory(os.environ))


def remember(store: Store, *pins: Pin) -> None:
    def change(book: Book) -> None:
        for each in pins:
            book.put(each)

    store.update(change)


def alarm(store: Store, kind: Alarm = Alarm.CHANGED_KEY, contact: str = BOB) -> None:
    store.update(lambda book: book.alarm(ALICE, contact, kind, key("EE"), NOW))


async def trust(output: Person, *words: object) -> int:
    return await execute(build_parser().parse_args(["trust", *map(str, words)]), output)


def human(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["trust", *words]) == 0
    return capsys.readouterr().out


async def test_an_empty_memory_is_not_an_error_and_is_not_made(store: Store) -> None:
    output = Robot()
    assert await trust(output, "list") == 0
    assert output.names() == ["nothing"]
    assert not store.path.parent.exists()


async def test_a_list_shows_each_key_with_all_that_is_known(store: Store) -> None:
    remember(store, VERIFIED, MET_ONLY, FRIEND)
    output = Robot()
    assert await trust(output, "list") == 0
    assert output.names() == ["contact-keys", "contact-keys"]
    shown = output.events[0]
    assert (shown["account"], shown["contact"], shown["verified"]) == (ALICE, BOB, True)
    assert shown["keys"][0] == {
        "fingerprint": key("AA"),
        "verified": True,
        "methods": ["sas"],
        "since": "2026-01-02",
        "seen": "2026-02-03",
    }
    assert [each["verified"] for each in shown["keys"]] == [True, False]


def test_people_see_a_table_without_colours_on_a_pipe(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Pin(ALICE, CAROL, NO_IDENTITY, (LEAP_OF_FAITH,), MET, SEEN)
    remember(store, VERIFIED, MET_ONLY, REFUSED, session)
    text = human(["list"], capsys)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == f"{BOB} (with {ALICE}), verified: another key is an alarm"
    assert lines[1] == "  AA AA AA AA AA AA AA AA   verified by comparing short strings"
    assert lines[2] == "  AA AA AA AA AA AA AA AA   since 2026-01-02"
    assert lines[3] == "  AA AA AA AA AA AA AA AA   last seen 2026-02-03"
    assert lines[5].endswith("BB   not verified")
    assert lines[9].endswith("CC   REJECTED")
    assert lines[13:15] == [
        f"{CAROL} (with {ALICE}), never verified",
        "  keys for single sessions only; since 2026-01-02, last seen 2026-02-03",
    ]


async def test_alarms_come_first_and_say_what_to_do(store: Store) -> None:
    remember(store, VERIFIED, FRIEND)
    alarm(store)
    alarm(store)
    alarm(store, Alarm.DOWNGRADE, CAROL)
    output = Robot()
    assert await trust(output, "list") == 0
    assert output.names() == ["alarm", "alarm", "contact-keys", "contact-keys"]
    first = output.events[0]
    assert (first["kind"], first["contact"], first["count"]) == ("changed-key", BOB, 2)
    assert first["fingerprint"] == key("EE")
    assert first["message"].startswith("ALARM (2 times")
    assert f"tpe2e verify {BOB}" in first["message"]
    # Looking at the list settles nothing.
    assert len(store.read().alarms) == 2


@pytest.mark.parametrize("kind", [each for each in Alarm if each is not Alarm.DAMAGED])
def test_every_alarm_that_goes_on_record_has_words(kind: Alarm) -> None:
    assert BOB in module.ALARMS[kind].format(contact=BOB)


async def test_showing_a_contact_settles_his_alarms_and_no_others(store: Store) -> None:
    remember(store, VERIFIED, FRIEND)
    alarm(store)
    alarm(store, Alarm.DOWNGRADE, CAROL)
    output = Robot()
    assert await trust(output, "show", BOB.upper()) == 0
    assert output.names() == ["alarm", "contact-keys", "acknowledged"]
    assert [each.contact for each in store.read().alarms] == [CAROL]
    assert await trust(output := Robot(), "show", BOB) == 0
    assert output.names() == ["contact-keys"]


async def test_an_alarm_that_comes_while_it_is_shown_is_not_settled(store: Store) -> None:
    remember(store, VERIFIED)
    alarm(store)

    class Slow(Robot):
        def say(self, event: str, sentence: str, style: str = "", **fields: object) -> None:
            if event == "alarm":
                alarm(store)
            super().say(event, sentence, style, **fields)

    assert await trust(output := Slow(), "show", BOB) == 0
    assert output.event("acknowledged")["count"] == 0
    assert [each.count for each in store.read().alarms] == [2]


async def test_an_account_narrows_it_down(store: Store) -> None:
    remember(store, VERIFIED, ELSEWHERE)
    alarm(store)
    output = Robot()
    assert await trust(output, "list", "--account", OTHER) == 0
    assert output.names() == ["contact-keys"]
    assert output.event("contact-keys")["account"] == OTHER
    assert await trust(Robot(), "forget", BOB, "--account", OTHER, "--yes") == 0
    assert list(store.read()) == [VERIFIED]


@pytest.mark.parametrize("action", ["show", "forget"])
async def test_a_contact_of_whom_nothing_is_known_is_a_clear_error(
    store: Store, action: str
) -> None:
    remember(store, VERIFIED)
    for words in ((action, CAROL), (action, BOB, "--account", OTHER)):
        with pytest.raises(UsageError, match="'tpe2e trust list' shows"):
            await trust(Robot(), *words)


async def test_names_from_outside_cannot_move_the_cursor(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(store, pin("AA", "sas", contact="\x1b[2Jbob@example.org"))
    store.update(lambda b: b.alarm(ALICE, "\x1b[2Jbob@x", Alarm.DOWNGRADE, key("AA"), NOW))
    output = HumanOutput(sys.stdout, sys.stderr, sys.stdin)
    assert await module.run(build_parser().parse_args(["trust", "list"]), output) == 0
    shown = capsys.readouterr().out
    assert "ALARM" in shown
    assert "\x1b" not in shown


# -- forgetting ----------------------------------------------------------------------------------


async def test_forgetting_needs_a_yes(store: Store) -> None:
    remember(store, VERIFIED, MET_ONLY)
    with pytest.raises(UsageError, match="asks no questions"):
        await module.run(
            build_parser().parse_args(["trust", "forget", BOB, "--json"]), make_output(True)
        )
    person = Person(Forget="n")
    with pytest.raises(UsageError, match="Nothing was forgotten"):
        await trust(person, "forget", BOB)
    assert "2 keys" in person.asked[0]
    assert len(store.read()) == 2
    assert await trust(Person(Forget="y"), "forget", BOB) == 0
    assert len(store.read()) == 0


async def test_one_key_can_be_forgotten_as_it_is_shown_or_pasted(store: Store) -> None:
    remember(store, VERIFIED, MET_ONLY, REFUSED)
    assert await trust(Robot(), "forget", BOB, " ".join(["bb"] * 32), "--yes") == 0
    assert await trust(Robot(), "forget", BOB, key("CC"), "--yes") == 0
    assert list(store.read()) == [VERIFIED]
    with pytest.raises(UsageError, match="has no such key"):
        await trust(Robot(), "forget", BOB, key("CC"), "--yes")
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        await trust(Robot(), "forget", BOB, "AA:BB", "--yes")


async def test_what_was_learnt_while_somebody_was_asked_is_kept(store: Store) -> None:
    remember(store, MET_ONLY)
    person = Person()

    async def late(question: str, choices: dict[str, str]) -> str:
        remember(store, VERIFIED)
        return "y"

    person.decide = late
    assert await trust(person, "forget", BOB) == 0
    assert list(store.read()) == [VERIFIED]


# -- moving --------------------------------------------------------------------------------------


async def test_keys_are_moved_by_a_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(store, VERIFIED, MET_ONLY, FRIEND)
    alarm(store)
    file = tmp_path / "keys"
    assert await trust(output := Robot(), "export", file) == 0
    assert output.event("exported")["count"] == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    other = Store(directory(os.environ))
    remember(other, pin("BB", REJECTED), pin("AA", LEAP_OF_FAITH))
    assert await trust(output := Robot(), "import", file) == 0
    # What was rejected on one side is rejected, and so nothing that changed.
    assert (output.event("imported")["count"], output.event("imported")["changed"]) == (3, 2)
    assert {each.fingerprint: each.methods for each in other.read()} == {
        key("AA"): ("sas",),
        key("BB"): (REJECTED,),
        key("DD"): (LEAP_OF_FAITH,),
    }
    assert other.read().alarms == []
    assert await trust(output := Robot(), "import", file) == 0
    assert output.event("imported")["changed"] == 0


async def test_an_export_never_overwrites(store: Store, tmp_path: Path) -> None:
    remember(store, VERIFIED)
    file = tmp_path / "keys"
    file.write_text("the only backup")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for each in (file, tmp_path / "link", tmp_path, tmp_path / "no" / "where"):
        with pytest.raises(UsageError, match="cannot be written"):
            await trust(Robot(), "export", each)
    assert file.read_text() == "the only backup"


def test_an_export_to_standard_output_is_nothing_but_the_file(
    store: Store, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    remember(store, VERIFIED)
    assert main(["trust", "export", "-"]) == 0
    assert capfdbinary.readouterr().out == store.path.read_bytes()
    assert main(["trust", "export", "-", "--json"]) == 2


def test_an_import_from_standard_input(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Book([VERIFIED]).to_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["trust", "import", "-"]) == 0
    assert list(store.read()) == [VERIFIED]


async def test_a_damaged_import_is_refused_whole(store: Store, tmp_path: Path) -> None:
    remember(store, MET_ONLY)
    data = Book([VERIFIED, FRIEND]).to_bytes()
    file = tmp_path / "keys"
    for bad in (b"", data[:-1], data.replace(b"AA", b"AB"), b"x" + data, data + b"\n"):
        file.write_bytes(bad)
        with pytest.raises(UsageError, match="nothing was imported"):
            await trust(Robot(), "import", file)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            await trust(Robot(), "import", missing)
    assert list(store.read()) == [MET_ONLY]


async def test_an_import_that_does_not_fit_changes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telepathy_e2e.handler.book.MAX_KEYS", 1)
    remember(store, VERIFIED)
    (tmp_path / "keys").write_bytes(Book([FRIEND, pin("BB", "sas")]).to_bytes())
    with pytest.raises(Exit, match=r"no room.*Nothing was changed") as failed:
        await trust(Robot(), "import", tmp_path / "keys")
    assert failed.value.code == 1
    assert list(store.read()) == [VERIFIED]


# -- what is damaged here ------------------------------------------------------------------------


async def test_a_damaged_memory_is_said_and_never_written_over(
    store: Store, tmp_path: Path
) -> None:
    remember(store, VERIFIED)
    (tmp_path / "keys").write_bytes(Book([FRIEND]).to_bytes())
    store.path.write_bytes(damaged := store.path.read_bytes()[:-1])
    for words in (
        ("list",),
        ("show", BOB),
        ("forget", BOB, "--yes"),
        ("export", tmp_path / "new"),
        ("import", tmp_path / "keys"),
    ):
        with pytest.raises(Exit, match="is damaged") as failed:
            await trust(Robot(), *words)
        assert failed.value.code == 1
    assert store.path.read_bytes() == damaged
    assert not (tmp_path / "new").exists()


# -- status --------------------------------------------------------------------------------------


async def test_status_says_in_one_line_that_there_are_alarms(cm: FakeCM, store: Store) -> None:
    assert await tpe2e(output := Robot(), "status") == 0
    assert output.names() == ["nothing"]
    remember(store, VERIFIED)
    alarm(store)
    assert await tpe2e(output := Robot(), "status") == 0
    assert output.names() == ["alarms", "nothing"]
    assert output.event("alarms")["count"] == 1
    assert "'tpe2e trust list'" in output.event("alarms")["message"]
    store.path.write_bytes(b"")
    assert await tpe2e(output := Robot(), "status") == 0
    assert (output.names(), output.event("alarms")["count"]) == (["alarms", "nothing"], None)
