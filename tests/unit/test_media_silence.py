"""A peer who is not heard: told of early, looked for again and again, given up in time."""

from __future__ import annotations

import pytest

from telepathy_e2e.media import silence
from telepathy_e2e.media.silence import Silence


def test_who_is_heard_is_well() -> None:
    watched = Silence(30)
    assert watched.look(100, 96, 95) == "well"
    assert not watched.interrupted


@pytest.mark.parametrize(
    ("heard", "answered", "verdict"),
    [
        (100 - silence.QUIET, 100, "interrupted"),
        (100 - silence.QUIET + 0.1, 100, "well"),
        (100, 100 - silence.UNANSWERED, "interrupted"),
        (100, 100 - silence.UNANSWERED + 0.1, "well"),
    ],
)
def test_silence_is_told_long_before_consent_expires(
    heard: float, answered: float, verdict: str
) -> None:
    assert Silence(30).look(100, heard, answered) == verdict
    assert silence.QUIET < silence.UNANSWERED < silence.EXPIRY


def test_it_is_told_again_for_every_attempt_and_then_he_is_given_up() -> None:
    watched = Silence(20)
    told = [(now, watched.look(now, 100, 100)) for now in range(105, 130)]
    assert [each for each in told if each[1] != "well"] == [
        (105, "interrupted"),
        (113, "again"),
        (121, "again"),
        (125, "gone"),
        *((now, "gone") for now in range(126, 130)),
    ]


def test_he_comes_back_and_may_go_again() -> None:
    watched = Silence(30)
    assert watched.look(105, 100, 100) == "interrupted"
    assert watched.look(106, 105.5, 105.5) == "back"
    assert watched.look(107, 106.5, 106.5) == "well"
    assert watched.look(112, 106.5, 106.5) == "interrupted"


def test_a_way_that_was_closed_is_told_once() -> None:
    watched = Silence(30)
    assert watched.lost(100) == "interrupted"
    assert watched.lost(101) == "well"
    watched.found()
    assert not watched.interrupted
    assert watched.lost(102) == "interrupted"


@pytest.mark.parametrize(("said", "seconds"), [("2.5", 2.5), ("soon", 30.0), (None, 30.0)])
def test_tests_need_not_be_patient(
    monkeypatch: pytest.MonkeyPatch, said: str | None, seconds: float
) -> None:
    monkeypatch.delenv(silence.PATIENCE_VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(silence.PATIENCE_VARIABLE, said)
    assert silence.patience() == seconds
