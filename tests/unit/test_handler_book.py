"""What is remembered, its bounds, and as bytes."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.handler import book as module
from telepathy_e2e.handler.book import (
    MAX_JID,
    MAX_KEYS,
    MAX_PINS,
    AlarmEntry,
    Book,
    BookDamaged,
    BookFull,
)
from telepathy_e2e.handler.pins import (
    LEAP_OF_FAITH,
    METHODS,
    NO_IDENTITY,
    REJECTED,
    Alarm,
    Pin,
)

ALICE, BOB = "alice@example.org", "bob@example.org"
DAY = date(2026, 1, 1)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def key(number: int) -> str:
    return ":".join(f"{byte:02X}" for byte in number.to_bytes(32, "big"))


def pin(number: int, *methods: str, contact: str = BOB, days: int = 0) -> Pin:
    return Pin(ALICE, contact, key(number), methods or (LEAP_OF_FAITH,), DAY, DAY + timedelta(days))


def numbers(book: Book, contact: str = BOB) -> set[int]:
    return {int(p.fingerprint.replace(":", ""), 16) for p in book.pins(ALICE, contact)}


# -- bounds ---------------------------------------------------------------------------------------


def test_a_flood_of_keys_pushes_out_none_that_somebody_spoke_about() -> None:
    book = Book([pin(0, "sas", days=-9), pin(1, REJECTED, days=-9)])
    for number in range(2, 5 * MAX_KEYS):
        book.put(pin(number, days=number))
        assert {0, 1} <= numbers(book)
        assert len(book) == min(number + 1, MAX_KEYS)
    # The latest of the others are there.
    assert numbers(book) == {0, 1, *range(4 * MAX_KEYS + 2, 5 * MAX_KEYS)}


def test_where_nothing_can_be_forgotten_there_is_no_room() -> None:
    book = Book([pin(number, "sas") for number in range(MAX_KEYS)])
    before = book.to_bytes()
    for new in (pin(99), pin(99, "sas"), pin(99, REJECTED)):
        with pytest.raises(BookFull):
            book.put(new)
    assert book.to_bytes() == before
    book.put(pin(0, "sas", "password"))  # one that is there takes no room
    book.put(pin(99, contact="carol@example.org"))
    assert len(book) == MAX_KEYS + 1


def test_a_key_that_was_compared_and_was_a_leap_before_is_not_lost_to_a_flood() -> None:
    book = Book([pin(0, LEAP_OF_FAITH, "sas", days=-9)])
    for number in range(1, 2 * MAX_KEYS):
        book.put(pin(number))
    assert 0 in numbers(book)


def test_all_contacts_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PINS", 6)
    book = Book([pin(0, "sas"), pin(1, days=5), pin(2, days=6)])
    for number in range(3, 6):
        book.put(pin(number, contact=f"c{number}@x", days=number - 5))
    # The second key of one who has others goes before the only one of somebody else, which is
    # what tells a downgrade; and the oldest of the only ones before the others.
    for number, gone in ((10, 1), (11, 2), (12, 3)):
        book.put(pin(number, contact=f"c{number}@x", days=number))
        assert gone not in {int(p.fingerprint[-2:], 16) for p in book}
        assert len(book) == 6
    assert numbers(book) == {0}


def test_the_bound_itself_fits() -> None:
    book = Book([pin(n, contact=f"{n // 4}@example.org") for n in range(MAX_PINS)])
    book.put(pin(MAX_PINS, contact="new@example.org"))
    assert len(book) == MAX_PINS
    data = book.to_bytes()
    assert len(data) < module.MAX_BYTES
    assert len(Book.from_bytes(data)) == MAX_PINS


def test_a_flood_of_alarms_pushes_out_none_that_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ALARMS", 4)
    book = Book()
    for number in range(20):
        at = NOW + timedelta(seconds=number)
        book.alarm(ALICE, f"{number}@x", Alarm.DOWNGRADE, key(1), at)
        assert len(book.alarms) <= 4
    assert [each.contact for each in book.alarms] == ["0@x", "1@x", "2@x", "19@x"]


def test_the_same_alarm_again_is_counted() -> None:
    book = Book()
    for number in range(3):
        book.alarm(ALICE, BOB, Alarm.CHANGED_KEY, key(number), NOW + timedelta(seconds=number))
    book.alarm(ALICE, BOB, Alarm.DOWNGRADE, "", NOW + timedelta(seconds=9))
    first, second = book.alarms
    assert (first.count, first.first, first.last) == (3, NOW, NOW + timedelta(seconds=2))
    assert first.fingerprint == key(2)
    assert (second.kind, second.count) == (Alarm.DOWNGRADE, 1)


def test_an_alarm_is_settled_only_as_it_was_shown() -> None:
    book = Book()
    book.alarm(ALICE, BOB, Alarm.CHANGED_KEY, key(1), NOW)
    (shown,) = book.alarms
    book.alarm(ALICE, BOB, Alarm.CHANGED_KEY, key(1), NOW)
    assert not book.acknowledge(shown)
    (shown,) = book.alarms
    assert book.acknowledge(shown)
    assert not book.acknowledge(shown)
    assert book.alarms == []


# -- two books ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "merged"),
    [
        (None, ("sas",), ("sas",)),
        ((LEAP_OF_FAITH,), ("sas",), ("sas",)),
        (("sas",), (LEAP_OF_FAITH,), ("sas",)),
        (("sas",), ("password",), ("sas", "password")),
        ((REJECTED,), ("sas",), (REJECTED,)),
        (("sas",), (REJECTED,), (REJECTED,)),
        ((LEAP_OF_FAITH,), (LEAP_OF_FAITH,), (LEAP_OF_FAITH,)),
    ],
)
def test_merging_adds_what_verifies_and_keeps_every_no(
    mine: tuple[str, ...] | None, theirs: tuple[str, ...], merged: tuple[str, ...]
) -> None:
    book = Book([pin(1, *mine)] if mine is not None else [])
    assert book.merge(Book([pin(1, *theirs)])) == (mine != merged)
    assert book.pins(ALICE, BOB)[0].methods == merged
    assert book.merge(Book([pin(1, *theirs)])) == 0


def test_merging_takes_the_first_day_and_the_last() -> None:
    early = Pin(ALICE, BOB, key(1), ("sas",), DAY - timedelta(9), DAY - timedelta(5))
    late = pin(1, "sas", days=7)
    for one, other in ((early, late), (late, early)):
        book = Book([one])
        book.merge(Book([other]))
        (found,) = book.pins(ALICE, BOB)
        assert (found.since, found.seen) == (early.since, late.seen)


def test_an_imported_flood_pushes_out_none_that_somebody_spoke_about() -> None:
    book = Book([pin(0, "sas", days=-9), pin(1, REJECTED, days=-9)])
    book.merge(Book([pin(number, days=number) for number in range(2, 3 * MAX_KEYS)]))
    assert {0, 1} <= numbers(book)
    assert len(book) == MAX_KEYS


def test_merged_books_forget_the_oldest_leaps_of_faith_of_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_PINS", 6)
    book = Book([pin(0, "sas", days=-9), pin(1, days=5), pin(2, days=1)])
    others = [pin(n, contact=f"c{n}@x", days=n) for n in (3, 4, 5)]
    assert book.merge(Book([*others, pin(6, days=3), pin(1, days=5)])) == 4
    assert numbers(book) == {0, 1, 6}
    # The only keys of others go after the second ones of Bob, and again the oldest first.
    assert book.merge(Book([pin(n, contact=f"c{n}@x", days=n) for n in (7, 8, 9)])) == 3
    assert {int(p.fingerprint[-2:], 16) for p in book} == {0, 4, 5, 7, 8, 9}
    assert len(book) == len(list(book)) == 6


def test_a_merge_for_which_there_is_no_room_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = Book([pin(number, "sas") for number in range(MAX_KEYS)])
    before = book.to_bytes()
    with pytest.raises(BookFull):
        book.merge(Book([pin(1, contact="carol@example.org"), pin(99, "sas")]))
    assert book.to_bytes() == before
    book = Book([pin(1, "sas")])
    monkeypatch.setattr(module, "MAX_PINS", 1)
    with pytest.raises(BookFull):
        book.merge(Book([pin(1, "sas", contact="carol@example.org")]))
    assert numbers(book) == {1}
    assert len(book) == 1


def test_two_full_books_merge_in_passes_that_do_not_multiply() -> None:
    mine = Book([pin(n, contact=f"{n // 2}@mine", days=n % 999) for n in range(MAX_PINS)])
    theirs = Book([pin(n, contact=f"{n // 2}@theirs", days=n % 999) for n in range(MAX_PINS)])
    started = time.process_time()
    assert mine.merge(theirs) == MAX_PINS // 2
    # A fifth of a second; a pass over all for each key takes minutes.
    assert time.process_time() - started < 10
    assert len(mine) == MAX_PINS


def test_forgetting_what_is_not_there_changes_nothing() -> None:
    book = Book([pin(1)])
    book.forget(pin(2))
    book.forget(pin(1))
    book.forget(pin(1))
    assert len(book) == len(list(book)) == 0
    assert book.pins(ALICE, BOB) == []


# -- bytes ----------------------------------------------------------------------------------------

JIDS = st.text(min_size=1, max_size=40)
DATES = st.dates()
KEYS = st.integers(0, 2**256 - 1).map(key)
PINS = st.builds(
    Pin,
    JIDS,
    JIDS,
    KEYS | st.just(NO_IDENTITY),
    st.lists(st.sampled_from(sorted(METHODS)), min_size=1, unique=True).map(tuple),
    DATES,
    DATES,
)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))
ALARMS = st.builds(
    AlarmEntry,
    JIDS,
    JIDS,
    st.sampled_from(Alarm),
    KEYS | st.just(""),
    MOMENTS,
    MOMENTS,
    st.integers(1, 10**9),
)


@given(st.lists(PINS, max_size=8), st.lists(ALARMS, max_size=4))
def test_what_is_written_is_what_is_read(pins: list[Pin], alarms: list[AlarmEntry]) -> None:
    book = Book(pins, alarms)
    again = Book.from_bytes(book.to_bytes())
    assert again == book
    assert list(again) == list(book)
    assert again.alarms == book.alarms
    assert len(again) == len(list(book))


def small() -> bytes:
    entry = AlarmEntry(ALICE, BOB, Alarm.DOWNGRADE, key(1), NOW, NOW, 2)
    return Book([pin(1, "sas")], [entry]).to_bytes()


def test_every_change_of_a_byte_is_damage() -> None:
    data = small()
    assert len(Book.from_bytes(data)) == 1
    for at in range(len(data)):
        changed = bytearray(data)
        for value in range(256):
            if value != data[at]:
                changed[at] = value
                with pytest.raises(BookDamaged):
                    Book.from_bytes(bytes(changed))


def test_every_truncation_and_every_byte_more_is_damage() -> None:
    data = small()
    for end in range(len(data)):
        with pytest.raises(BookDamaged):
            Book.from_bytes(data[:end])
        with pytest.raises(BookDamaged):
            Book.from_bytes(data[end + 1 :])
    for more in (b"\n", b"\0", b" ", data):
        with pytest.raises(BookDamaged):
            Book.from_bytes(data + more)
    assert len(Book.from_bytes(Book().to_bytes())) == 0


def sealed(body: bytes) -> bytes:
    """A file with a digest that is right, of whatever."""
    digest = hashlib.sha256(body).hexdigest().encode()
    return b"telepathy-e2e pins 1 sha256 " + digest + b"\n" + body


FIELDS = {**asdict(pin(1, "sas")), "since": "2026-01-01", "seen": "2026-01-01"}
FIELDS["methods"] = ["sas"]
NOTED = {
    **asdict(AlarmEntry(ALICE, BOB, Alarm.DOWNGRADE, "", NOW, NOW)),
    "first": NOW.isoformat(),
    "last": NOW.isoformat(),
}


def test_a_line_is_one_of_ours() -> None:
    assert len(Book.from_bytes(sealed(json.dumps(FIELDS).encode() + b"\n"))) == 1
    assert len(Book.from_bytes(sealed(json.dumps(NOTED).encode() + b"\n")).alarms) == 1
    Book.from_bytes(sealed(json.dumps({**FIELDS, "contact": "x" * MAX_JID}).encode()))


@pytest.mark.parametrize(
    "line",
    [
        *[{**FIELDS, name: None} for name in FIELDS],
        *[{k: v for k, v in FIELDS.items() if k != name} for name in FIELDS],
        *[{**NOTED, name: None} for name in NOTED],
        *[{k: v for k, v in NOTED.items() if k != name} for name in NOTED],
        {**FIELDS, "more": 1},
        {**NOTED, "more": 1},
        {**FIELDS, "contact": ""},
        {**FIELDS, "contact": "x" * (MAX_JID + 1)},
        {**FIELDS, "fingerprint": "AA"},
        {**FIELDS, "methods": []},
        {**FIELDS, "methods": "sas"},
        {**FIELDS, "methods": ["pin"]},
        {**FIELDS, "methods": [["sas"]]},
        {**FIELDS, "since": "yesterday"},
        {**NOTED, "first": "2026-01-01T00:00:00"},
        {**NOTED, "kind": "fire"},
        {**NOTED, "count": 0},
        {**NOTED, "count": True},
        [],
        "x",
        1,
        None,
    ],
)
def test_a_line_that_is_not_one_of_ours_makes_all_of_it_damaged(line: object) -> None:
    good = json.dumps(FIELDS) + "\n"
    with pytest.raises(BookDamaged):
        Book.from_bytes(sealed((good + json.dumps(line) + "\n").encode()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, *NOTED]), JSON | st.sampled_from(["sas", BOB])))
def test_no_line_raises_anything_else(fields: dict[str, object]) -> None:
    for base in (FIELDS, NOTED):
        try:
            Book.from_bytes(sealed(json.dumps({**base, **fields}).encode()))
        except BookDamaged:
            pass


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for each in (data, sealed(data), sealed(b"[" * 100_000 + data)):
        try:
            Book.from_bytes(each)
        except BookDamaged:
            pass


def test_a_file_that_is_too_large_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small()
    monkeypatch.setattr(module, "MAX_BYTES", len(data))
    Book.from_bytes(data)
    monkeypatch.setattr(module, "MAX_BYTES", len(data) - 1)
    with pytest.raises(BookDamaged):
        Book.from_bytes(data)
