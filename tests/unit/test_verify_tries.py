"""Three tries a session, ten a day and contact, and only success gives one back."""

from __future__ import annotations

import pytest

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.verify.tries import (
    DAY,
    MAX_TRIES_PER_CONTACT,
    MAX_TRIES_PER_SESSION,
    ContactTries,
    Tries,
)

ME, BOB, EVE = "me@example.org", "bob@example.org", "eve@example.org"


def fail(contacts: ContactTries, count: int, now: float = 0, contact: str = BOB) -> None:
    for _ in range(count):
        contacts.session(ME, contact).spend(now)


def closed(tries: Tries, now: float = 0) -> bool:
    try:
        tries.check(now)
    except NotAvailable:
        return True
    return False


def test_three_failed_tries_close_the_session() -> None:
    tries = ContactTries().session(ME, BOB)
    for _ in range(MAX_TRIES_PER_SESSION):
        assert not closed(tries)
        tries.spend(0)
    assert closed(tries)
    with pytest.raises(NotAvailable):
        tries.spend(0)
    assert tries.failed == MAX_TRIES_PER_SESSION == 3


def test_the_next_session_has_its_own_three() -> None:
    contacts = ContactTries()
    first = contacts.session(ME, BOB)
    for _ in range(MAX_TRIES_PER_SESSION):
        first.spend(0)
    assert not closed(contacts.session(ME, BOB))


def test_success_gives_the_try_back() -> None:
    contacts = ContactTries()
    tries = contacts.session(ME, BOB)
    for _ in range(5 * MAX_TRIES_PER_CONTACT):
        tries.spend(0)
        tries.succeeded()
    assert tries.failed == 0
    assert not contacts.closed(ME, BOB, 0)


def test_success_without_a_try_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="no try"):
        ContactTries().session(ME, BOB).succeeded()


def test_ten_failed_tries_close_the_contact_for_all_sessions() -> None:
    contacts = ContactTries()
    fail(contacts, MAX_TRIES_PER_CONTACT - 1)
    fresh = contacts.session(ME, BOB)
    assert not closed(fresh)
    fail(contacts, 1)
    assert closed(fresh)
    assert contacts.closed(ME, BOB, 0)
    with pytest.raises(NotAvailable):
        fresh.spend(0)
    assert fresh.failed == 0


def test_another_contact_and_another_account_are_not_touched() -> None:
    contacts = ContactTries()
    fail(contacts, MAX_TRIES_PER_CONTACT)
    assert not contacts.closed(ME, EVE, 0)
    assert not contacts.closed(EVE, BOB, 0)


def test_tries_that_are_under_way_count_so_that_parallel_sessions_buy_nothing() -> None:
    contacts = ContactTries()
    sessions = [contacts.session(ME, BOB) for _ in range(MAX_TRIES_PER_CONTACT + 1)]
    for session in sessions[:-1]:
        session.spend(0)
    with pytest.raises(NotAvailable):
        sessions[-1].spend(0)
    sessions[0].succeeded()
    sessions[-1].spend(0)


def test_tries_are_forgotten_after_a_day_as_long_as_there_were_fewer_than_ten() -> None:
    contacts = ContactTries()
    fail(contacts, MAX_TRIES_PER_CONTACT - 1, now=0)
    fail(contacts, 1, now=DAY)
    assert not contacts.closed(ME, BOB, DAY)


def test_a_day_is_any_24_hours() -> None:
    contacts = ContactTries()
    fail(contacts, MAX_TRIES_PER_CONTACT - 1, now=1)
    fail(contacts, 1, now=DAY)
    assert contacts.closed(ME, BOB, DAY)


def test_closed_stays_closed_after_the_day_until_a_person_reopens() -> None:
    contacts = ContactTries()
    fail(contacts, MAX_TRIES_PER_CONTACT)
    assert contacts.closed(ME, BOB, 100 * DAY)
    contacts.reopen(ME, BOB)
    assert not contacts.closed(ME, BOB, 100 * DAY)


def test_a_success_after_reopening_takes_nothing_from_later_tries() -> None:
    contacts = ContactTries()
    session = contacts.session(ME, BOB)
    session.spend(0)
    contacts.reopen(ME, BOB)
    fail(contacts, MAX_TRIES_PER_CONTACT)
    session.succeeded()
    assert contacts.closed(ME, BOB, 0)
