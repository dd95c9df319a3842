"""Which transport is offered first, and which one when that fails."""

from __future__ import annotations

import pytest

from telepathy_e2e.jingle import ibb
from telepathy_e2e.jingle.candidates import S5B_NS
from telepathy_e2e.jingle.data_channel import SCTP_NS
from telepathy_e2e.jingle.ice import ICE_NS
from telepathy_e2e.jingle.ways import Way, allowed, order

ALL = frozenset({"direct", "proxy", "ice", "in-band"})
LISTS_ALL = frozenset({S5B_NS, ICE_NS, SCTP_NS, ibb.TRANSPORT_NS, "urn:xmpp:jingle:1"})
S, I, B = Way.SOCKS5, Way.ICE, Way.IN_BAND  # noqa: E741


def test_what_is_fast_comes_first_and_what_always_works_last() -> None:
    assert order(ALL, LISTS_ALL, protected=True) == (S, I, B)


@pytest.mark.parametrize(
    ("roads", "expected"),
    [
        ({"direct"}, (S,)),
        ({"proxy", "in-band"}, (S, B)),
        ({"ice"}, (I,)),
        ({"in-band"}, (B,)),
        ({"ice", "in-band"}, (I, B)),
        (set(), ()),
    ],
)
def test_the_user_may_restrict_it(roads: set[str], expected: tuple[Way, ...]) -> None:
    assert order(roads, LISTS_ALL, protected=True) == expected


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ({S5B_NS}, (I, B)),
        ({ICE_NS}, (S, B)),
        ({SCTP_NS}, (S, B)),
        ({ibb.TRANSPORT_NS}, (S, I)),
    ],
)
def test_nothing_is_offered_that_the_peer_does_not_list(
    missing: set[str], expected: tuple[Way, ...]
) -> None:
    assert order(ALL, LISTS_ALL - missing, protected=True) == expected


def test_a_peer_of_whom_nothing_is_known_is_offered_what_everybody_has() -> None:
    assert order(ALL, None, protected=True) == (S, B)


def test_what_a_peer_has_offered_it_takes() -> None:
    assert order(ALL, None, protected=True, offered={I}) == (S, I, B)
    assert order(ALL, {S5B_NS}, protected=True, offered={I}) == (S, I)
    assert order(ALL, None, protected=False, offered={I}) == (S, B)


def test_a_peer_that_lists_none_is_asked_all_the_same() -> None:
    assert order(ALL, {"urn:xmpp:jingle:1"}, protected=True) == (S, B)


def test_a_transport_that_is_its_own_protection_needs_one_to_be_agreed_on() -> None:
    assert order(ALL, LISTS_ALL, protected=False) == (S, B)
    assert not allowed(I, ALL, protected=False)
    assert allowed(I, ALL, protected=True)
    assert not allowed(I, {"direct"}, protected=True)


def test_what_failed_is_not_offered_again() -> None:
    assert order(ALL, LISTS_ALL, protected=True, failed={S}) == (I, B)
    assert order(ALL, LISTS_ALL, protected=True, failed={S, I, B}) == ()


def test_what_worked_lately_comes_first_if_it_may_be_had() -> None:
    assert order(ALL, LISTS_ALL, protected=True, first=I) == (I, S, B)
    assert order({"direct", "in-band"}, LISTS_ALL, protected=True, first=I) == (S, B)
    assert order(ALL, LISTS_ALL, protected=True, first=I, failed={I}) == (S, B)
