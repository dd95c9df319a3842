"""Sound that is made softer; without a network or a clock."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.media import frames, levels, tracks, volume
from telepathy_e2e.media.sources import Tone
from telepathy_e2e.media.tracks import OutgoingTrack
from tests.support.waiting import PATIENCE

SAMPLES = st.lists(st.integers(-32768, 32767), max_size=200)


@given(SAMPLES, st.integers(0, volume.FULL))
def test_nothing_gets_louder_or_changes_its_sign(samples: list[int], wanted: int) -> None:
    softer = array("h")
    softer.frombytes(volume.scaled(array("h", samples).tobytes(), wanted))
    assert len(softer) == len(samples)
    for before, after in zip(samples, softer, strict=True):
        assert abs(after) <= abs(before)
        assert after * before >= 0
        assert abs(after - before * wanted / volume.FULL) <= 0.5


def test_what_is_as_loud_as_it_was_is_not_touched() -> None:
    pcm = bytes(range(200))
    assert volume.scaled(pcm, volume.FULL) is pcm


def test_no_volume_is_silence() -> None:
    assert volume.scaled(b"\1\2" * 960, 0) == bytes(1920)


@pytest.mark.parametrize(("wanted", "change"), [(255, 0.0), (128, -5.99), (26, -19.83)])
async def test_a_track_sends_as_loud_as_it_is_told_and_its_meter_shows_that(
    wanted: int, change: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may be taken for a device that gives nothing.
    monkeypatch.setattr(tracks, "STALL", PATIENCE)
    track = OutgoingTrack("audio", Tone(440), lambda text: None)
    track.volume = wanted
    for _ in range(5):
        frame = await track.recv()
    pcm = memoryview(frames.pcm_of(frame)).cast("h")  # type: ignore[arg-type]
    plain = levels.rms_dbfs(memoryview(await _tone()).cast("h"))
    assert levels.rms_dbfs(pcm) == pytest.approx(plain + change, abs=0.3)
    assert track.meter.level == pytest.approx(plain + change, abs=0.3)
    await track.close()


async def _tone() -> bytes:
    source = Tone(440)
    frame = await source.recv()
    await source.close()
    return frames.pcm_of(frame)
