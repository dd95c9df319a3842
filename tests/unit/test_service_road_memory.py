"""What is remembered of the transports that worked."""

from __future__ import annotations

from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.service.road_memory import LIFE, MAX_CONTACTS, RoadMemory

BOB = "bob@example.test"
HOME, AWAY = ("192.0.2.1",), ("198.51.100.1",)


def test_a_data_channel_that_worked_where_socks5_did_not_is_begun_with_there() -> None:
    memory = RoadMemory()
    assert memory.first(BOB, HOME, 0) is None
    memory.note(BOB, HOME, Way.ICE, {Way.SOCKS5}, 0)
    assert memory.first(BOB, HOME, LIFE - 1) is Way.ICE
    assert memory.first(BOB, AWAY, 1) is None
    assert memory.first("carol@example.test", HOME, 1) is None


def test_it_does_not_last_for_ever_even_if_it_goes_on_working() -> None:
    memory = RoadMemory()
    memory.note(BOB, HOME, Way.ICE, {Way.SOCKS5}, 0)
    memory.note(BOB, HOME, Way.ICE, (), LIFE - 1)
    assert memory.first(BOB, HOME, LIFE) is None


def test_socks5_that_works_again_is_first_again() -> None:
    memory = RoadMemory()
    memory.note(BOB, HOME, Way.ICE, {Way.SOCKS5}, 0)
    memory.note(BOB, HOME, Way.SOCKS5, (), 1)
    assert memory.first(BOB, HOME, 2) is None


def test_in_band_is_never_begun_with() -> None:
    memory = RoadMemory()
    memory.note(BOB, HOME, Way.IN_BAND, {Way.SOCKS5, Way.ICE}, 0)
    assert memory.first(BOB, HOME, 1) is None


def test_so_many_contacts_are_remembered_and_the_oldest_goes() -> None:
    memory = RoadMemory()
    for number in range(MAX_CONTACTS + 1):
        memory.note(f"{number}@example.test", HOME, Way.ICE, {Way.SOCKS5}, number)
    assert memory.first("0@example.test", HOME, MAX_CONTACTS) is None
    assert memory.first("1@example.test", HOME, MAX_CONTACTS) is Way.ICE
