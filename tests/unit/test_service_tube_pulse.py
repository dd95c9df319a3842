"""When a tube asks whether its peer is there: by hand, without a road."""

from __future__ import annotations

from telepathy_e2e.service.tube_pulse import BURST, Pulse


class Asked:
    """Who would send, and be told of the end."""

    def __init__(self) -> None:
        self.pings: list[int] = []
        self.pulse = Pulse(self.pings.append, self._dead)

    def _dead(self) -> None:
        raise AssertionError("nobody was silent")


async def test_the_answer_to_an_earlier_question_pushed_nothing() -> None:
    asked = Asked()
    asked.pulse.begin()
    asked.pulse._ask()
    asked.pulse.sent(BURST)
    asked.pulse._push(BURST)
    assert asked.pings == [1, 2]
    asked.pulse.answered(1)
    assert asked.pulse._repeating is not None
    asked.pulse.answered(2)
    assert asked.pulse._repeating is None
    asked.pulse.end()


async def test_what_the_last_road_carried_is_not_pushed_on_the_next() -> None:
    asked = Asked()
    asked.pulse.begin()
    asked.pulse.sent(BURST - 1)
    asked.pulse.end()
    asked.pulse.begin()
    asked.pulse.sent(BURST - 1)
    assert asked.pulse._pushing is None
    asked.pulse.sent(1)
    assert asked.pulse._pushing is not None
    asked.pulse.end()
    assert asked.pulse._pushing is None
