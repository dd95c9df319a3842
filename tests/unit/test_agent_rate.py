"""How often the agent signs."""

from __future__ import annotations

from telepathy_e2e.agent.rate import BURST, MAX_WAIT, PER_SECOND, Rate


def test_a_burst_is_not_held_back() -> None:
    rate = Rate()
    assert [rate.take(5.0) for _ in range(BURST)] == [0.0] * BURST


def test_what_comes_after_a_burst_takes_its_turn() -> None:
    rate = Rate()
    for _ in range(BURST):
        rate.take(5.0)
    assert rate.take(5.0) == 1 / PER_SECOND
    assert rate.take(5.0) == 2 / PER_SECOND


def test_too_many_are_refused_and_do_not_push_others_back() -> None:
    rate = Rate()
    waits = [rate.take(0.0) for _ in range(BURST + 2 * int(MAX_WAIT * PER_SECOND))]
    assert waits.count(None) == int(MAX_WAIT * PER_SECOND)
    assert max(each for each in waits if each is not None) == MAX_WAIT
    assert rate.take(1 / PER_SECOND) == MAX_WAIT


def test_it_recovers_and_holds_no_more_than_a_burst() -> None:
    rate = Rate()
    for _ in range(BURST):
        rate.take(0.0)
    later = 1000 * BURST / PER_SECOND
    assert [rate.take(later) for _ in range(BURST)] == [0.0] * BURST
    assert rate.take(later)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    rate = Rate()
    for _ in range(BURST):
        rate.take(10.0)
    assert rate.take(3.0) == 1 / PER_SECOND
    assert rate.take(10.0) == 2 / PER_SECOND
