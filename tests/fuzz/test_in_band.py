"""Of an in-band stream nothing but a beginning of what was sent is ever delivered.

Blocks and acknowledgements are lost, repeated and reordered between ``InBandSender`` and
``InBandReceiver``, over the place where the numbers of blocks begin again as well. The windows
stay within their bounds, a stream with a hole is never called whole, and what takes the right
order arrives, with the close after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle.ibb import (
    CLOSE,
    MIN_BLOCK_SIZE,
    WINDOW,
    InBandReceiver,
    InBandSender,
    SenderState,
)
from tests.unit.jingle_support import over_the_wire

from .support import budget


@dataclass
class Road:
    """One direction, and what is on the way in both."""

    block_size: int
    first: int
    blocks: list[Element] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)
    sent: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def __post_init__(self) -> None:
        self.sender = InBandSender("stream", self.block_size)
        self.receiver = InBandReceiver("stream", self.block_size)
        self.sender._sequence = self.receiver._expected = self.first

    def send(self, size: int) -> None:
        data = bytes((len(self.sent) + each) % 251 for each in range(size))
        try:
            self.blocks += self.sender.send(data)
        except NotAvailable:
            assert not self.sender.can_take
        except ValueError:
            assert size > self.sender.limit
        else:
            self.sent += data

    def deliver(self, place: int = 0) -> None:
        if not self.blocks:
            return
        element = over_the_wire(self.blocks.pop(place % len(self.blocks)))
        before = self.receiver.broken
        try:
            if element.tag == CLOSE:
                self.receiver.receive_close(element)
                # A receiver that misses a block does not know that it was the last.
                self.whole = not self.receiver.broken
            else:
                block = self.receiver.receive(element)
                assert not before, "something was taken after a hole"
                assert 0 < len(block) <= self.block_size
                self.got += block
                self.answers.append(True)
        except PeerError:
            self.answers.append(False)

    def answer(self, place: int = 0) -> None:
        if self.answers:
            good = self.answers.pop(place % len(self.answers))
            self.blocks += self.sender.acknowledged() if good else self.sender.refused()

    def check(self) -> None:
        assert self.sent.startswith(self.got)
        assert 0 <= self.sender.in_flight <= WINDOW
        assert 0 <= self.sender.pending <= self.sender.limit
        if self.sender.state in (SenderState.CLOSING, SenderState.CLOSED):
            assert self.sender.idle
            assert not self.sender.can_take


ROADS = st.builds(
    Road,
    block_size=st.sampled_from((MIN_BLOCK_SIZE, MIN_BLOCK_SIZE + 1, 100)),
    first=st.sampled_from((0, 32_767, 65_530, 65_535)),
)
HARM = ("lose", "repeat", "swap", "lose answer", "repeat answer", "out of turn")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("send", "send", "deliver", "deliver", "answer", "close", *HARM)),
        st.integers(0, 2000),
    ),
    max_size=80,
)


def _step(road: Road, step: str, number: int) -> None:
    blocks, answers = road.blocks, road.answers
    match step:
        case "send":
            road.send(number)
        case "deliver":
            road.deliver()
        case "answer":
            road.answer()
        case "close":
            blocks += road.sender.close()
        case "lose" if blocks:
            del blocks[number % len(blocks)]
        case "repeat" if blocks:
            blocks.insert(number % (len(blocks) + 1), blocks[number % len(blocks)])
        case "swap" if len(blocks) > 1:
            blocks.append(blocks.pop(number % len(blocks)))
        case "out of turn":
            road.deliver(number)
        case "lose answer" if answers:
            del answers[number % len(answers)]
        case "repeat answer" if answers:
            answers.append(answers[-1])


@budget(2)
@given(ROADS, STEPS)
def test_nothing_but_a_beginning_arrives(road: Road, steps: list[tuple[str, int]]) -> None:
    for step, number in steps:
        _step(road, step, number)
        road.check()
        # Memory is bounded by what the window lets out; repeats and lost ones are the road's own.
        assert len(road.blocks) <= 80 * (WINDOW + 2)


@budget(0.5)
@given(ROADS, STEPS)
def test_on_a_road_that_harms_nothing_all_arrives(road: Road, steps: list[tuple[str, int]]) -> None:
    for step, number in steps:
        if step not in HARM:
            _step(road, step, number)
            road.check()
    road.blocks += road.sender.close()
    while road.blocks or road.answers:
        road.deliver()
        road.answer()
        road.check()
    assert road.got == road.sent
    assert road.whole
    assert road.sender.state is SenderState.CLOSING
