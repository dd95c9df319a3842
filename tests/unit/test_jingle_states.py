from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from telepathy_e2e.jingle.stanzas import Action
from telepathy_e2e.jingle.states import (
    CALL_MOVES,
    CONTENT_MOVES,
    MOVES,
    REFUSALS,
    TRANSPORT_MOVES,
    ContentState,
    Side,
    State,
    TransportState,
)
from telepathy_e2e.role import Role

DOCS = Path(__file__).parents[2] / "docs"


def test_nothing_leads_out_of_the_end() -> None:
    assert not [move for move in MOVES if move[0] is State.ENDED]
    assert not [move for move in REFUSALS if move[0] is State.ENDED]


def test_whoever_sends_it_a_terminate_ends_a_session_that_has_begun() -> None:
    for state in (State.PENDING, State.ACTIVE):
        for sender in Role:
            assert MOVES[(state, sender, Action.SESSION_TERMINATE)] is State.ENDED


def test_only_the_initiator_offers_and_only_the_responder_accepts() -> None:
    offers = [move for move in MOVES if move[2] is Action.SESSION_INITIATE]
    accepts = [move for move in MOVES if move[2] is Action.SESSION_ACCEPT]
    assert offers == [(State.NEW, Role.INITIATOR, Action.SESSION_INITIATE)]
    assert accepts == [(State.PENDING, Role.RESPONDER, Action.SESSION_ACCEPT)]


def test_every_state_can_be_reached() -> None:
    assert {State.NEW, *MOVES.values()} == set(State)
    assert set(TRANSPORT_MOVES.values()) == set(TransportState)


def test_nobody_answers_his_own_transport_replace() -> None:
    answers = (Action.TRANSPORT_ACCEPT, Action.TRANSPORT_REJECT)
    for state, sender, action in TRANSPORT_MOVES:
        if action in answers:
            assert state is not TransportState.AGREED
            assert (state is TransportState.INITIATOR_OFFERED) == (sender is Role.RESPONDER)


def test_a_call_ends_for_whoever_says_so_and_moves_no_more() -> None:
    assert not [move for move in CALL_MOVES if move[0] is State.ENDED]
    for state in (State.PENDING, State.ACTIVE):
        for sender in Role:
            assert CALL_MOVES[(state, sender, Action.SESSION_TERMINATE)] is State.ENDED
    assert {State.NEW, *CALL_MOVES.values()} == set(State)


def test_nobody_takes_or_refuses_a_content_of_his_own() -> None:
    answers = (Action.SESSION_ACCEPT, Action.CONTENT_ACCEPT, Action.CONTENT_REJECT)
    for state, side, action in CONTENT_MOVES:
        assert state is not ContentState.GONE
        if action in answers:
            assert (state, side) == (ContentState.PENDING, Side.OTHER)
    assert set(CONTENT_MOVES.values()) == set(ContentState)


@pytest.mark.parametrize(
    "name",
    [
        "jingle-call.dot",
        "jingle-content.dot",
        "jingle-session.dot",
        "jingle-transport.dot",
    ],
)
def test_the_pictures_show_the_tables(name: str) -> None:
    diagrams: dict[str, Callable[[], str]] = runpy.run_path(str(DOCS / "make_state_diagrams.py"))[
        "DIAGRAMS"
    ]
    assert (DOCS / "states" / name).read_text(encoding="utf-8") == diagrams[name]()
