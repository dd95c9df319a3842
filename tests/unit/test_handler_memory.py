"""What the handler knows and does about it: what cannot be read or written is never 'go on'."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest

from telepathy_e2e.handler import book as bounds
from telepathy_e2e.handler.book import Book
from telepathy_e2e.handler.memory import Memory
from telepathy_e2e.handler.pins import (
    LEAP_OF_FAITH,
    REJECTED,
    Action,
    Alarm,
    Answer,
    Pin,
    Question,
)
from telepathy_e2e.handler.store import Store

ALICE, BOB = "alice@example.org", "bob@example.org"
KEY, OLD = (":".join([byte] * 32) for byte in ("AA", "BB"))
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FIRST, TODAY = date(2026, 1, 1), NOW.date()

ASKED = Question(ALICE, BOB, "continuity", KEY)
CLEAR = Question(ALICE, BOB, "no-encryption", None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return tmp_path / "trust.toml"


@pytest.fixture
def memory(store: Store, settings: Path) -> Memory:
    return Memory(store, settings, lambda: NOW)


def remember(store: Store, fingerprint: str, *methods: str, seen: date = FIRST) -> None:
    new = Pin(ALICE, BOB, fingerprint, methods, FIRST, seen)
    store.update(lambda book: book.put(new))


async def answered(memory: Memory, question: Question) -> Answer:
    return await memory.prepare(question, memory.decide(question))


async def test_a_key_is_on_record_before_it_is_let_through(memory: Memory, store: Store) -> None:
    assert (await answered(memory, ASKED)).action is Action.PROCEED
    assert list(store.read()) == [Pin(ALICE, BOB, KEY, (LEAP_OF_FAITH,), TODAY, TODAY)]
    again = await answered(memory, ASKED)
    assert (again.action, again.remember) == (Action.PROCEED, False)


async def test_only_pins_of_the_same_account_and_contact_count(
    memory: Memory, store: Store
) -> None:
    for account, contact in ((ALICE, "carol@example.org"), ("alice@work.example", BOB)):
        other = Book([Pin(account, contact, OLD, ("sas",), FIRST, FIRST)])
        store.update(partial(Book.merge, other=other))
    assert memory.decide(ASKED) == Answer(Action.PROCEED, remember=True)


async def test_an_alarm_is_on_record_before_anybody_answers(memory: Memory, store: Store) -> None:
    remember(store, OLD, "sas")
    for count in (1, 2):
        answer = await answered(memory, ASKED)
        assert (answer.action, answer.alarm) == (Action.ASK, Alarm.CHANGED_KEY)
        (alarm,) = store.read().alarms
        assert (alarm.contact, alarm.fingerprint, alarm.count) == (BOB, KEY, count)
        assert alarm.last == NOW.replace(microsecond=0)
    assert (await answered(memory, CLEAR)).action is Action.REJECT
    assert {each.kind for each in store.read().alarms} == {Alarm.CHANGED_KEY, Alarm.DOWNGRADE}


async def test_settings_count_at_once(memory: Memory, settings: Path) -> None:
    assert memory.decide(ASKED).action is Action.PROCEED
    assert memory.decide(CLEAR).action is Action.PROCEED
    settings.write_text('unknown-key = "ask"\nin-the-clear = "reject"')
    assert memory.decide(ASKED).action is Action.ASK
    assert memory.decide(CLEAR).action is Action.REJECT


@pytest.mark.parametrize("text", ['unknown-key = "trsut"', "\0", 'unknown = "trust"'])
async def test_settings_that_make_no_sense_are_the_strictest(
    memory: Memory, store: Store, settings: Path, text: str
) -> None:
    settings.write_text(text)
    assert memory.decide(ASKED).action is Action.ASK
    assert memory.decide(CLEAR).action is Action.ASK
    remember(store, KEY, "sas")
    assert memory.decide(ASKED).action is Action.ACCEPT


async def test_a_memory_that_cannot_be_read_asks_about_everybody(
    memory: Memory, store: Store
) -> None:
    remember(store, KEY, "sas")
    damaged = store.path.read_bytes()[:-1]
    store.path.write_bytes(damaged)
    for question in (ASKED, CLEAR):
        assert await answered(memory, question) == Answer(Action.ASK, alarm=Alarm.DAMAGED)
        await memory.finished(question, "verified", "sas")
    assert store.path.read_bytes() == damaged


async def test_who_cannot_be_put_on_record_is_not_let_through(
    memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(store, OLD, REJECTED)
    monkeypatch.setattr(bounds, "MAX_KEYS", 1)
    assert memory.decide(ASKED).action is Action.PROCEED
    assert await answered(memory, ASKED) == Answer(Action.ASK)


async def test_an_alarm_that_cannot_be_put_on_record_is_still_one(
    memory: Memory, store: Store, tmp_path: Path
) -> None:
    remember(store, OLD, "sas")
    answers = [memory.decide(each) for each in (ASKED, CLEAR)]
    store.path.write_bytes(b"")
    for question, answer in zip((ASKED, CLEAR), answers, strict=True):
        assert await memory.prepare(question, answer) == answer
        assert answer.alarm is not None


async def test_what_people_said_goes_on_record(memory: Memory, store: Store) -> None:
    await memory.finished(ASKED, "unverified", "")
    await memory.finished(ASKED, "verified", "sas")
    assert [each.methods for each in store.read()] == [("sas",)]
    assert memory.decide(ASKED) == Answer(Action.ACCEPT, "pin")
    await memory.finished(ASKED, "rejected", "sas")
    assert [each.methods for each in store.read()] == [(REJECTED,)]
    assert memory.decide(ASKED).alarm is Alarm.REJECTED_KEY


async def test_a_pinned_contact_costs_no_writing_but_once_a_day(
    memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(store, KEY, "sas")
    await memory.finished(ASKED, "verified", "pin")
    assert [each.seen for each in store.read()] == [TODAY]

    def never(*_: object) -> None:
        pytest.fail("written")

    monkeypatch.setattr(store, "update", never)
    assert (await answered(memory, ASKED)).action is Action.ACCEPT
    await memory.finished(ASKED, "verified", "pin")
