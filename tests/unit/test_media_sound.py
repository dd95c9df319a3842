"""Levels, the order of packets, what is kept against jitter, keys; without a network or a clock."""

from __future__ import annotations

import math
import struct
from array import array

import pytest
from av import AudioFrame
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.media import dtmf, frames, levels, playout
from telepathy_e2e.media.dtmf import Numbering, Received
from telepathy_e2e.media.levels import FLOOR, Meter
from telepathy_e2e.media.playout import Playout
from telepathy_e2e.media.reorder import MAX_HELD, MAX_STEP, Reorder


def sine(amplitude: float, count: int = 960) -> bytes:
    samples = array("h")
    for n in range(count):
        samples.extend([int(amplitude * 32767 * math.sin(2 * math.pi * n / 48))] * 2)
    return samples.tobytes()


def test_silence_has_the_lowest_level_and_full_scale_none() -> None:
    assert levels.rms_dbfs(memoryview(frames.SILENCE).cast("h")) == FLOOR
    assert levels.rms_dbfs(memoryview(array("h", [-32768] * 960))) == pytest.approx(0)
    assert levels.rms_dbfs(memoryview(array("h"))) == FLOOR


@pytest.mark.parametrize(("amplitude", "level"), [(1.0, -3.01), (0.1, -23.01), (0.01, -43.0)])
def test_a_sine_has_its_level(amplitude: float, level: float) -> None:
    told: list[float] = []
    meter = Meter(told=told.append)
    for _ in range(5):
        meter.add(sine(amplitude))
    assert told == [pytest.approx(level, abs=0.2)]
    assert meter.level == told[0]


def test_the_level_is_that_of_the_last_whole_window() -> None:
    meter = Meter()
    for _ in range(4):
        meter.add(sine(1.0))
    assert meter.level == FLOOR
    meter.add(sine(1.0))
    assert meter.level > -4
    for _ in range(5):
        meter.add(frames.SILENCE)
    assert meter.level == FLOOR


# -- order ----------------------------------------------------------------------------------------


def order(*numbers: int, ssrc: int = 1) -> list[int]:
    reorder: Reorder[int] = Reorder()
    return [ready for number in numbers for ready in reorder.add(ssrc, number & 0xFFFF, number)]


def test_packets_in_order_go_through_at_once() -> None:
    reorder: Reorder[str] = Reorder()
    assert reorder.add(1, 65535, "a") == ["a"]
    assert reorder.add(1, 0, "b") == ["b"]


def test_a_late_packet_is_waited_for() -> None:
    assert order(1, 3, 2, 4) == [1, 2, 3, 4]
    assert order(65534, 65536, 65535, 65537) == [65534, 65535, 65536, 65537]


def test_a_lost_packet_is_waited_for_only_so_long() -> None:
    assert order(1, *range(3, 3 + MAX_HELD - 1)) == [1]
    assert order(1, *range(3, 3 + MAX_HELD)) == [1, *range(3, 3 + MAX_HELD)]
    # After it nothing waits: the loss costs no delay for the rest of the call.
    reorder: Reorder[int] = Reorder()
    for number in (1, 3, 4, 5):
        reorder.add(1, number, number)
    assert reorder.add(1, 6, 6) == [6]


def test_repeats_and_what_came_too_late_are_dropped() -> None:
    assert order(1, 1, 2, 2) == [1, 2]
    assert order(1, 3, 4, 5, 2, 6) == [1, 3, 4, 5, 6]


def test_a_leap_or_another_source_is_a_new_beginning() -> None:
    assert order(1, 2 + MAX_STEP + 1, 2 + MAX_STEP + 2) == [1, 103, 104]
    assert order(1000, 500, 501) == [1000, 500, 501]
    reorder: Reorder[str] = Reorder()
    reorder.add(1, 10, "a")
    assert reorder.add(2, 5, "b") == ["b"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 65535)), max_size=60))
def test_whatever_comes_little_is_held_and_nothing_twice(packets: list[tuple[int, int]]) -> None:
    reorder: Reorder[int] = Reorder()
    out: list[int] = []
    for index, (ssrc, number) in enumerate(packets):
        out += reorder.add(ssrc, number, index)
        assert len(reorder._held) < MAX_HELD
    assert len(out) == len(set(out))


# -- playout --------------------------------------------------------------------------------------

FRAME = b"\1" * frames.FRAME_BYTES


def test_it_begins_when_enough_is_there() -> None:
    buffer = Playout()
    assert buffer.get() is None
    buffer.put(FRAME)
    assert buffer.get() is None
    buffer.put(FRAME)
    assert buffer.get() == FRAME


def test_frames_of_other_lengths_are_cut_and_joined() -> None:
    buffer = Playout()
    buffer.put(FRAME[: len(FRAME) // 2])
    buffer.put(FRAME + FRAME[len(FRAME) // 2 :])
    assert buffer.waiting == pytest.approx(0.04)


def test_a_burst_is_cut_to_what_is_wanted() -> None:
    buffer = Playout()
    buffer.put(FRAME * 100)
    assert buffer.waiting == pytest.approx((playout.START_TARGET + playout.SLACK) * frames.FRAME)


def test_who_was_late_is_given_more_time_up_to_a_limit() -> None:
    buffer = Playout()
    for _ in range(30):
        buffer.put(FRAME * 20)
        while buffer.get() is not None:
            pass
    buffer.put(FRAME * 100)
    assert buffer.waiting == pytest.approx((playout.MAX_TARGET + playout.SLACK) * frames.FRAME)


def test_after_calm_the_delay_shrinks_again() -> None:
    buffer = Playout()
    for _ in range(6):
        buffer.put(FRAME * 20)
        while buffer.get() is not None:
            pass
    buffer.put(FRAME * 20)
    before = buffer.waiting
    for _ in range(playout.CALM * 12):
        buffer.get()
        buffer.put(FRAME)
    assert buffer.waiting <= frames.FRAME * (playout.MIN_TARGET + 1) < before


def test_what_came_in_a_burst_is_not_waited_behind_for_long() -> None:
    buffer = Playout()
    buffer.put(FRAME * 100)  # the first packets, once the decoder is there
    for _ in range(playout.BRIEF * playout.SLACK):
        buffer.get()
        buffer.put(FRAME)
    assert buffer.waiting <= frames.FRAME * (playout.START_TARGET + 1)


def test_a_pause_of_the_peer_is_not_lateness() -> None:
    buffer = Playout()
    buffer.put(FRAME * 2)
    buffer.get()
    buffer.pause()
    for _ in range(10):
        assert buffer.get() is None
    assert buffer._target == playout.START_TARGET


# -- the one form ---------------------------------------------------------------------------------


def test_mono_is_as_loud_in_stereo() -> None:
    frame = AudioFrame(format="s16", layout="mono", samples=480)
    frame.planes[0].update(struct.pack("<480h", *([1000, -1000] * 240)))
    frame.sample_rate = 48000
    pcm = memoryview(frames.Uniform().samples(frame)).cast("h")
    assert pcm.tolist()[:4] == [1000, 1000, -1000, -1000]


def test_another_rate_in_the_middle_is_no_error() -> None:
    uniform = frames.Uniform()
    for rate in (8000, 48000, 16000):
        frame = AudioFrame(format="s16", layout="stereo", samples=rate // 10)
        frame.sample_rate = rate
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        assert abs(len(uniform.samples(frame)) - 19200) < 1000


# -- keys -----------------------------------------------------------------------------------------


def test_a_payload_is_read_as_it_was_built() -> None:
    assert dtmf.parse(dtmf.build(11, True, 800)) == dtmf.Event(11, True, 800)
    assert dtmf.parse(dtmf.build(0, False, 1 << 20)) == dtmf.Event(0, False, 0xFFFF)
    assert dtmf.build(1, True, 800) == bytes.fromhex("018a0320")  # RFC 4733 section 2.3


def test_a_key_is_told_once_however_many_packets_it_has() -> None:
    received = Received()
    assert received.packet(100, dtmf.build(5, False, 160)) == 5
    assert received.packet(100, dtmf.build(5, True, 800)) is None
    assert received.packet(900, dtmf.build(5, False, 160)) == 5


@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=8))
def test_other_payloads_are_no_keys(timestamp: int, payload: bytes) -> None:
    event = Received().packet(timestamp, payload)
    assert event is None or (len(payload) >= 4 and event == payload[0] <= dtmf.MAX_EVENT)


def packet(number: int, timestamp: int = 0) -> bytes:
    return struct.pack("!BBHLL", 0x80, 0, number & 0xFFFF, timestamp, 7) + b"sound"


def number_of(data: bytes | None) -> int | None:
    return None if data is None else struct.unpack_from("!H", data, 2)[0]


def test_keys_take_numbers_and_sound_goes_on_after_them() -> None:
    numbering = Numbering(8000)
    assert not numbering.ready()
    with pytest.raises(ValueError, match="nothing"):
        numbering.event(101, 7, 0, b"", True)
    assert number_of(numbering.sound(packet(65534, 160), 1.0)) == 65534
    assert numbering.ready()
    assert numbering.timestamp(1.01) == 160 + 80
    numbering.quiet = True
    first = numbering.event(101, 7, 240, b"abcd", True)
    assert first[:4] == struct.pack("!BBH", 0x80, 0x80 | 101, 65535)
    assert numbering.sound(packet(65535), 1.02) is None
    assert number_of(numbering.event(101, 7, 240, b"abcd", False)) == 0
    numbering.quiet = False
    assert number_of(numbering.sound(packet(0), 1.04)) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), max_size=80))
def test_no_number_goes_out_twice(steps: list[tuple[bool, int]]) -> None:
    # With one SRTP key the same number is the same keystream.
    numbering, theirs = Numbering(8000), 65000
    out: list[int | None] = []
    numbering.sound(packet(theirs), 0.0)
    out.append(theirs)
    for is_key, step in steps:
        if is_key:
            out.append(number_of(numbering.event(101, 7, 0, b"", False)))
        else:
            theirs += step
            sent = number_of(numbering.sound(packet(theirs), 0.0))
            out += [] if sent is None else [sent]
    assert len(out) == len(set(out))
