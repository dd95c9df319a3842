"""Many connections in one stream: each by itself, all of them bounded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telepathy_e2e.errors import NotAvailable, NotYet, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.tubes import limits as bounds
from telepathy_e2e.tubes.events import (
    Closing,
    Data,
    Finished,
    Opened,
    Pong,
    Ready,
    Reason,
    Writable,
)
from telepathy_e2e.tubes.events import Reset as ResetEvent
from telepathy_e2e.tubes.frames import (
    MAX_DATA,
    MAX_METADATA,
    MAX_WINDOW,
    PREFACE_SIZE,
    Preface,
    build_preface,
)
from telepathy_e2e.tubes.limits import Limits
from telepathy_e2e.tubes.mux import CHUNK, Multiplexer

from .tubes_support import BOTH, Kind, Tube, alone, frame

both = pytest.mark.parametrize("role", BOTH)


def _bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311 - no secret


def send_all(tube: Tube, role: Role, number: int, data: bytes) -> None:
    """As a program would: again after each Writable."""
    while data:
        taken = tube.end[role].write(number, data)
        data = data[taken:]
        tube.run()


@both
def test_what_goes_in_comes_out_in_order(role: Role) -> None:
    tube = Tube().run()
    number = tube.end[role].open(b"who")
    data = _bytes(3_000_000)
    send_all(tube, role, number, data)
    assert tube.told(role.other, Opened) == [Opened(number, b"who")]
    assert tube.got[role.other][number] == data
    send_all(tube, role.other, number, data[:200_000])
    assert tube.got[role][number] == data[:200_000]


@both
def test_nothing_is_opened_before_the_other_side_is_there(role: Role) -> None:
    mux = Multiplexer(role)
    with pytest.raises(NotYet):
        mux.open()
    mux.road_up()
    with pytest.raises(NotYet):
        mux.open()
    assert mux.receive_data(build_preface(Preface(1, 1, 0))) == [Ready()]
    mux.open()
    with pytest.raises(NotAvailable):
        mux.open()


@both
def test_a_half_closed_connection_stays_half_open(role: Role) -> None:
    tube = Tube().run()
    number = tube.end[role].open()
    tube.end[role].write(number, b"question")
    tube.end[role].eof(number)
    tube.run()
    assert tube.ended(role.other) == [number]
    assert tube.got[role.other][number] == b"question"
    with pytest.raises(NotAvailable):
        tube.end[role].write(number, b"more")
    send_all(tube, role.other, number, _bytes(100_000))
    assert tube.got[role][number] == _bytes(100_000)
    assert tube.end[role].connections == [number]
    tube.end[role.other].eof(number)
    tube.run()
    assert tube.ended(role) == [number]
    assert [tube.end[each].connections for each in BOTH] == [[], []]


@both
@pytest.mark.parametrize("reason", list(Reason))
def test_a_reset_reaches_its_connection_and_no_other(role: Role, reason: Reason) -> None:
    tube = Tube().run()
    first, second = tube.end[role].open(), tube.end[role].open()
    tube.run()
    tube.end[role.other].reset(first, reason)
    tube.end[role].write(first, b"crosses the reset")
    tube.end[role].write(second, b"still here")
    tube.run()
    assert tube.resets(role) == [ResetEvent(first, reason)]
    assert tube.resets(role.other) == []
    assert tube.got[role.other] == {second: bytearray(b"still here")}
    with pytest.raises(NotAvailable):
        tube.end[role].write(first, b"")
    tube.end[role].reset(first, reason)
    assert not tube.end[role].pending
    tube.end[role].consumed(first, 10_000)


def test_an_unknown_reason_is_a_lost_connection() -> None:
    mux = alone()
    mux.receive_data(frame(Kind.OPEN, 1))
    assert mux.receive_data(frame(Kind.RESET, 1, 99)) == [ResetEvent(1, Reason.LOST)]


def test_a_stuck_connection_holds_none_of_a_thousand_up() -> None:
    tube = Tube().run()
    here = tube.end[Role.RESPONDER]
    numbers = [here.open() for _ in range(1000)]
    tube.stuck = {numbers[500]}
    left = dict.fromkeys(numbers, _bytes(60_000))
    here_stuck = numbers[500]
    for _ in range(100):
        for number, data in left.items():
            left[number] = data[here.write(number, data) :] if data else b""
        tube.run()
        if not any(data for number, data in left.items() if number != here_stuck):
            break
    arrived = tube.got[Role.INITIATOR]
    assert {n for n in numbers if arrived[n] == _bytes(60_000)} == set(numbers) - tube.stuck
    assert len(arrived[here_stuck]) == Limits().window
    tube.end[Role.INITIATOR].consumed(here_stuck, Limits().window)
    tube.run()
    assert here.write(here_stuck, left[here_stuck]) > 0


def test_connections_take_turns_on_a_slow_road() -> None:
    tube = Tube().run()
    here = tube.end[Role.INITIATOR]
    heavy, light = here.open(), here.open()
    tube.run()
    here.write(heavy, bytes(CHUNK))
    here.write(light, b"key")
    tube.take(Role.INITIATOR, 40_000)
    tube.give(Role.INITIATOR)
    assert tube.got[Role.RESPONDER][light] == b"key"


def test_who_had_nothing_to_send_comes_first() -> None:
    tube = Tube().run()
    here, got = tube.end[Role.INITIATOR], tube.got[Role.RESPONDER]
    heavy = [here.open() for _ in range(5)]
    light = here.open()
    tube.run()
    for number in heavy:
        here.write(number, bytes(CHUNK))
        tube.take(Role.INITIATOR, 1000)
        tube.give(Role.INITIATOR)
    here.write(light, b"key")
    tube.take(Role.INITIATOR, 100)
    tube.give(Role.INITIATOR)
    assert got[light] == b"key"


def test_who_always_has_a_little_more_keeps_nobody_from_sending() -> None:
    """He comes first when he had nothing for a whole round, and else in his turn."""
    tube = Tube().run()
    here, got = tube.end[Role.INITIATOR], tube.got[Role.RESPONDER]
    busy, patient = here.open(), here.open()
    tube.run()
    here.write(patient, bytes(1000))
    for _ in range(50):
        here.write(busy, bytes(100))
        tube.take(Role.INITIATOR, 64)
        tube.give(Role.INITIATOR)
    assert len(got[patient]) > 1000 // 2
    assert len(got[busy]) > 500


@both
def test_ten_thousand_connections_leave_nothing(role: Role) -> None:
    tube = Tube().run()
    for turn in range(10_000):
        number = tube.end[role].open()
        tube.end[role].write(number, b"x")
        if turn % 3 == 0:
            tube.end[role].reset(number, Reason.CANCELLED)
        else:
            tube.end[role].eof(number)
        tube.run()
        if turn % 3 == 1:
            tube.end[role.other].eof(number)
        elif turn % 3 == 2:
            tube.end[role.other].reset(number, Reason.REFUSED)
        tube.run()
        for each in BOTH:
            tube.seen[each].clear()
        tube.got[role.other].clear()
    for each in BOTH:
        state = tube.end[each]._state
        assert tube.end[each].connections == []
        assert (state.own, state.queued, state.spare) == (0, 0, state.limits.pool)
        assert not tube.end[each]._ready
        assert state.retained.size < 2 * bounds.ACK_EVERY
        kept = sum(map(len, state.retained._chunks))
        assert kept < 2 * bounds.ACK_EVERY


def test_a_flood_of_openings_is_refused_above_the_limit() -> None:
    mux = alone(limits=Limits(connections=16))
    opens = b"".join(frame(Kind.OPEN, 1 + 2 * each) for each in range(100))
    events = mux.receive_data(opens)
    assert len(events) == 16 + 16 // bounds.SPARE == len(mux.connections)
    refusals = b"".join(frame(Kind.RESET, 1 + 2 * each, Reason.REFUSED) for each in range(18, 100))
    assert mux.data_to_send() == refusals


@pytest.mark.parametrize("asked", [frame(Kind.PING, 0, 1), None], ids=["ping", "open"])
def test_a_peer_that_asks_and_never_reads_is_ended(asked: bytes | None) -> None:
    mux = alone(limits=Limits(connections=0))
    most = bounds.MAX_CONTROL // 9
    flood = [asked or frame(Kind.OPEN, 1 + 2 * each) for each in range(most + 2)]
    mux.receive_data(b"".join(flood[:most]))
    with pytest.raises(PeerError):
        mux.receive_data(b"".join(flood[most:]))


def test_a_peer_that_reads_and_never_acknowledges_is_ended() -> None:
    mux = alone(limits=Limits(in_flight=100_000))
    number = mux.open()
    mux.receive_data(frame(Kind.WINDOW, number, 1 << 20))
    sent = 0
    while True:
        mux.write(number, bytes(CHUNK))
        data = mux.data_to_send()
        if not data:
            break
        sent += len(data)
    assert 90_000 < sent <= 100_000
    pings = frame(Kind.PING, 0, 1) * 10_000
    with pytest.raises(PeerError):  # noqa: PT012 - some of them are answered
        for _ in range(20):
            mux.receive_data(pings)
            while mux.data_to_send():
                pass


WRONG = {
    "data for nobody": frame(Kind.DATA, 1, b"x"),
    "data for a connection of ours that is not": frame(Kind.DATA, 2, b"x"),
    "end of nobody": frame(Kind.EOF, 3),
    "window of nobody": frame(Kind.WINDOW, 3, 1),
    "reset of nobody": frame(Kind.RESET, 3, 1),
    "number 0": frame(Kind.OPEN, 0),
    "a number of ours": frame(Kind.OPEN, 2),
    "a number left out": frame(Kind.OPEN, 3),
    "a number again": frame(Kind.OPEN, 1) * 2,
    "empty data": frame(Kind.OPEN, 1) + frame(Kind.DATA, 1, b""),
    "long data": frame(Kind.OPEN, 1) + frame(Kind.DATA, 1, MAX_DATA + 1),
    "long metadata": frame(Kind.OPEN, 1, MAX_METADATA + 1),
    "data after the end": frame(Kind.OPEN, 1) + frame(Kind.EOF, 1) + frame(Kind.DATA, 1, b"x"),
    "two ends": frame(Kind.OPEN, 1) + frame(Kind.EOF, 1) * 2,
    "empty window": frame(Kind.OPEN, 1) + frame(Kind.WINDOW, 1, 0),
    "window overflow": frame(Kind.OPEN, 1) + frame(Kind.WINDOW, 1, MAX_WINDOW),
    "unknown kind": frame(9, 0),
    "acknowledged too much": frame(Kind.ACK, 0, 1),
    "more than the window": frame(Kind.OPEN, 1) + frame(Kind.DATA, 1, bytes(MAX_DATA)) * 3,
}


FRAMES = st.lists(
    st.one_of(
        st.sampled_from([frame(Kind.PING, 7), frame(Kind.ACK, 0, 0), frame(Kind.WINDOW, 1, 5)]),
        st.binary(min_size=1, max_size=40).map(lambda data: frame(Kind.DATA, 1, data)),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(frames=FRAMES, cuts=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 5))))
def test_frames_by_the_number_are_what_they_are_together(
    frames: list[bytes], cuts: list[tuple[int, int]]
) -> None:
    """However they are cut, and however many are taken at a time."""
    stream = build_preface(Preface(9, 9, 0)) + frame(Kind.OPEN, 1) + b"".join(frames)
    one, other = Multiplexer(Role.RESPONDER), Multiplexer(Role.RESPONDER)
    one.road_up()
    other.road_up()
    expected = one.receive_data(stream)
    seen = []
    position = 0
    for size, most in [*cuts, (len(stream), 1)]:
        piece = stream[position : position + size]
        position += len(piece)
        while piece:
            taken = other.receive_frames(piece, most)
            assert taken
            piece = piece[taken:]
            events = other.events()
            assert sum(not isinstance(each, Ready) for each in events) <= most
            seen += events
    assert seen == expected
    assert one.data_to_send() == other.data_to_send()
    assert one.data_to_send() == other.data_to_send()
    assert one._receiver._received == other._receiver._received == len(stream) - PREFACE_SIZE


@pytest.mark.parametrize("cut", [1, 7, 1 << 20])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_breaks_the_stream_ends_the_tube(wrong: bytes, cut: int) -> None:
    mux = alone()
    with pytest.raises(PeerError):  # noqa: PT012 - the bytes come in pieces
        for start in range(0, len(wrong), cut):
            mux.receive_data(wrong[start : start + cut])
    for call in (mux.data_to_send, mux.open, mux.close, lambda: mux.receive_data(b"")):
        with pytest.raises(PeerError):
            call()


def test_exactly_the_window_is_taken() -> None:
    mux = alone()
    window = Limits().window
    frames = frame(Kind.OPEN, 1) + frame(Kind.DATA, 1, bytes(MAX_DATA)) * (window // MAX_DATA)
    assert len(mux.receive_data(frames)) == 1 + window // MAX_DATA
    with pytest.raises(PeerError):
        mux.receive_data(frame(Kind.DATA, 1, b"x"))


@pytest.mark.parametrize("preface", [bytes(24), b"e2etube1" + bytes(16), b"e2etube0" + bytes(16)])
def test_another_stream_than_a_tube_is_refused(preface: bytes) -> None:
    mux = Multiplexer(Role.INITIATOR)
    mux.road_up()
    with pytest.raises(PeerError):
        mux.receive_data(preface)


def test_what_the_peer_can_make_us_hold_is_bounded() -> None:
    limits = Limits(connections=64, largest_window=1 << 20, pool=4 << 20)
    tube = Tube(limits).run()
    there = tube.end[Role.INITIATOR]
    numbers = []
    # Each grows as far as it may, and then its program hangs.
    for _ in range(64):
        numbers.append(tube.end[Role.RESPONDER].open())
        for _ in range(20):
            tube.end[Role.RESPONDER].write(numbers[-1], bytes(CHUNK))
            tube.run()
        tube.stuck.add(numbers[-1])
        for _ in range(20):
            tube.end[Role.RESPONDER].write(numbers[-1], bytes(CHUNK))
            tube.run()
    held = sum(tube.held[Role.INITIATOR].values())
    assert held <= 64 * limits.window + limits.pool
    assert held > limits.pool  # the bound is what bounds it
    assert max(tube.held[Role.INITIATOR].values()) > limits.window
    for number in numbers:
        there.reset(number, Reason.CANCELLED)
    assert there._state.spare == limits.pool


def test_what_waits_for_the_road_is_bounded_and_nobody_starves() -> None:
    tube = Tube().run()
    here = tube.end[Role.INITIATOR]
    numbers = [here.open() for _ in range(1000)]
    tube.run()
    taken = [sum(here.write(number, bytes(10_000)) for _ in range(9)) for number in numbers]
    assert min(taken) > 0
    assert here._state.queued <= bounds.QUEUED + CHUNK + 1000 * 2 * bounds.QUEUE_SMALL
    tube.run()
    writable = {each.id for each in tube.seen[Role.INITIATOR] if isinstance(each, Writable)}
    assert writable == set(numbers)


@both
def test_a_closed_tube_ends_when_its_connections_have(role: Role) -> None:
    tube = Tube().run()
    number = tube.end[role].open()
    tube.run()
    tube.end[role].close()
    crossing = tube.end[role.other].open()
    tube.run()
    assert tube.resets(role.other) == [ResetEvent(crossing, Reason.REFUSED)]
    assert tube.told(role.other, Closing) == [Closing()]
    for each in BOTH:
        assert not tube.end[each].finished
        with pytest.raises(NotAvailable):
            tube.end[each].open()
    tube.end[role.other].write(number, b"last words")
    for each in BOTH:
        tube.end[each].eof(number)
    tube.run()
    assert tube.got[role][number] == b"last words"
    for each in BOTH:
        assert tube.seen[each][-1] == Finished()
        assert tube.end[each].finished


@both
def test_a_ping_comes_back(role: Role) -> None:
    tube = Tube().run()
    tube.end[role].ping(2**64 - 1)
    tube.run()
    assert tube.told(role, Pong) == [Pong(2**64 - 1)]


@both
@pytest.mark.parametrize("lost", [0, 1, 9, 5_000, 99_000])
def test_a_tube_goes_on_where_it_was_on_another_road(role: Role, lost: int) -> None:
    tube = Tube().run()
    number = tube.end[role].open()
    data = _bytes(100_000)
    left = data[tube.end[role].write(number, data) :]
    while tube.take(role):
        pass
    tube.give(role, len(tube.wire[role]) - lost)
    tube.lose_road()
    assert tube.end[role].data_to_send() == b""
    with pytest.raises(ValueError, match="road"):
        tube.end[role].receive_data(b"x")
    more = tube.end[role].open()
    tube.up()
    tube.run()
    send_all(tube, role, number, left)
    assert tube.got[role.other][number] == data
    assert tube.opened(role.other) == [number, more]


def test_a_peer_that_asks_for_what_it_had_or_for_what_never_was_is_refused() -> None:
    for received in (0, 10**6):
        mux = alone()
        number = mux.open()
        mux.write(number, bytes(1000))
        sent = len(mux.data_to_send())
        mux.receive_data(frame(Kind.ACK, 0, sent))
        mux.road_lost()
        mux.road_up()
        with pytest.raises(PeerError):
            mux.receive_data(build_preface(Preface(1024, 1 << 20, received)))


def test_limits_do_not_change_with_the_road() -> None:
    mux = alone()
    mux.road_lost()
    mux.road_up()
    with pytest.raises(PeerError):
        mux.receive_data(build_preface(Preface(1024, 1 << 21, 0)))


def test_who_had_a_large_window_gives_back_only_what_is_not_used() -> None:
    limits = Limits(connections=64, window=100, largest_window=10_000, pool=10_000)
    tube = Tube(limits).run()
    here, there = tube.end[Role.RESPONDER], tube.end[Role.INITIATOR]
    first = here.open()
    send_all(tube, Role.RESPONDER, first, bytes(60_000))
    tube.stuck = {first}
    here.write(first, bytes(10_000))
    tube.run()
    assert tube.held[Role.INITIATOR][first] > 9_000
    others = [here.open() for _ in range(20)]
    tube.run()
    there.consumed(first, 6_000)
    state = there._state.connections[first]
    assert limits.window < state.unconsumed + state.credit <= state.allowance < 6_000
    for number in others:
        here.write(number, b"x")
    tube.run()
    total = sum(each.allowance for each in there._state.connections.values())
    assert total + there._state.spare == 21 * limits.window + limits.pool


def test_what_arrives_is_acknowledged_now_and_then() -> None:
    tube = Tube().run()
    number = tube.end[Role.INITIATOR].open()
    send_all(tube, Role.INITIATOR, number, bytes(4 * bounds.ACK_EVERY))
    retained = tube.end[Role.INITIATOR]._state.retained
    assert 0 < retained.size < 2 * bounds.ACK_EVERY
    mux = alone()
    mux.receive_data(frame(Kind.OPEN, 1))
    acks = 0
    for _ in range(2 * bounds.ACK_EVERY // (9 + MAX_DATA) + 1):
        mux.receive_data(frame(Kind.DATA, 1, bytes(MAX_DATA)))
        mux.consumed(1, MAX_DATA)
        sent = mux.data_to_send()
        acks += sum(sent[start] == Kind.ACK for start in range(0, len(sent), 9))
    assert acks == 2


def test_data_is_not_in_the_repr_of_an_event() -> None:
    assert "secret" not in repr(Data(1, memoryview(b"secret")))


class TwoEnds(RuleBasedStateMachine):
    """Two sides, arbitrary programs, arbitrary cuts, and roads that are lost."""

    @initialize(window=st.sampled_from([1, 100, 5_000]), pool=st.sampled_from([0, 20_000]))
    def begin(self, window: int, pool: int) -> None:
        self.limits = Limits(
            connections=8, window=window, largest_window=10_000, pool=pool, in_flight=50_000
        )
        self.tube = Tube(self.limits, consume=False)
        self.sent: dict[tuple[Role, int], bytearray] = {}
        self.reset: set[int] = set()
        self.ended: set[tuple[Role, int]] = set()

    def live(self, role: Role) -> list[int]:
        return self.tube.end[role].connections

    @rule(role=st.sampled_from(BOTH))
    def open(self, role: Role) -> None:
        try:
            self.tube.end[role].open()
        except (NotYet, NotAvailable):
            pass

    @rule(role=st.sampled_from(BOTH), which=st.integers(0, 15), size=st.integers(0, 20_000))
    def write(self, role: Role, which: int, size: int) -> None:
        live = self.live(role)
        if not live:
            return
        number = live[which % len(live)]
        if (role, number) in self.ended:
            return
        already = self.sent.setdefault((role, number), bytearray())
        data = bytes((len(already) + each) % 251 for each in range(size))
        already += data[: self.tube.end[role].write(number, data)]

    @rule(role=st.sampled_from(BOTH), which=st.integers(0, 15))
    def eof(self, role: Role, which: int) -> None:
        live = self.live(role)
        if live:
            number = live[which % len(live)]
            self.tube.end[role].eof(number)
            self.ended.add((role, number))

    @rule(role=st.sampled_from(BOTH), which=st.integers(0, 30))
    def give_up(self, role: Role, which: int) -> None:
        live = self.live(role)
        if which < len(live):
            self.reset.add(live[which])
            self.tube.end[role].reset(live[which], Reason.CANCELLED)
            self.tube.held[role].pop(live[which], None)

    @rule(role=st.sampled_from(BOTH), which=st.integers(0, 15), size=st.integers(1, 20_000))
    def consume(self, role: Role, which: int, size: int) -> None:
        held = self.tube.held[role]
        numbers = [number for number, much in held.items() if much]
        if numbers:
            number = numbers[which % len(numbers)]
            size = min(size, held[number])
            held[number] -= size
            self.tube.end[role].consumed(number, size)

    @rule(role=st.sampled_from(BOTH), limit=st.integers(64, CHUNK), size=st.integers(1, 30_000))
    def carry(self, role: Role, limit: int, size: int) -> None:
        self.tube.take(role, limit)
        self.tube.give(role, size)
        self.drop_reset()

    @rule()
    def another_road(self) -> None:
        self.tube.lose_road()
        self.tube.up()

    @rule()
    @precondition(lambda self: hasattr(self, "tube"))
    def all_arrives(self) -> None:
        """Whatever came before: when programs read, everything comes, and to the right one."""
        for _ in range(100_000):
            moved = False
            for role in BOTH:
                moved |= self.tube.take(role) | self.tube.give(role)
                self.drop_reset()
                for number, size in list(self.tube.held[role].items()):
                    if size:
                        self.tube.held[role][number] = 0
                        self.tube.end[role].consumed(number, size)
                        moved = True
            if not moved:
                break
        for (role, number), data in self.sent.items():
            if number not in self.reset:
                assert self.tube.got[role.other].get(number, b"") == data
        for role, number in self.ended - {(r, n) for r in BOTH for n in self.reset}:
            assert number in self.tube.ended(role.other)

    def drop_reset(self) -> None:
        for role in BOTH:
            for event in self.tube.resets(role):
                self.reset.add(event.id)
                self.tube.held[role].pop(event.id, None)

    @invariant()
    def nothing_else_arrives_and_memory_is_bounded(self) -> None:
        if not hasattr(self, "tube"):
            return
        for role in BOTH:
            for number, data in self.tube.got[role].items():
                sent = self.sent.get((role.other, number), b"")
                assert sent[: len(data)] == data
            state = self.tube.end[role]._state
            held = sum(self.tube.held[role].values())
            assert held <= 17 * self.limits.window + self.limits.pool
            assert 0 <= state.spare <= self.limits.pool
            assert state.retained.size <= self.limits.in_flight + bounds.MAX_CONTROL
            assert state.queued == sum(len(each.queue) for each in state.connections.values())
            for connection in state.connections.values():
                assert 0 <= connection.credit
                assert connection.credit + connection.unconsumed <= connection.allowance


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
