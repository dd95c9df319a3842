"""The one form in which sound and pictures go through here.

Sound: signed 16 bits in the machine's order, 48,000 a second, stereo, interleaved, 20 ms a frame.
Pictures: I420 (``yuv420p``).
"""

from __future__ import annotations

import asyncio
import fractions
from typing import Literal

from av import AudioFrame, AudioResampler, VideoFrame

Kind = Literal["audio", "video"]

RATE = 48000
CHANNELS = 2
SAMPLES = 960
"""Of one frame, a channel."""
FRAME = SAMPLES / RATE
"""Seconds."""
FRAME_BYTES = SAMPLES * CHANNELS * 2
TIME_BASE = fractions.Fraction(1, RATE)
SILENCE = bytes(FRAME_BYTES)

VIDEO_RATE = 30
VIDEO_CLOCK = 90000
PICTURE = fractions.Fraction(1, VIDEO_RATE)
VIDEO_TIME_BASE = fractions.Fraction(1, VIDEO_CLOCK)
# Pixels: 4K. What is larger is more than anybody shows, and a frame of it more than should be held.
MAX_PIXELS = 4096 * 2304


def audio_frame(pcm: bytes, pts: int) -> AudioFrame:
    """A frame of sound.

    Args:
        pcm: ``FRAME_BYTES`` or less.
        pts: in samples.
    """
    frame = AudioFrame(format="s16", layout="stereo", samples=len(pcm) // (2 * CHANNELS))
    frame.planes[0].update(pcm)
    frame.sample_rate = RATE
    frame.pts = pts
    frame.time_base = TIME_BASE
    return frame


def pcm_of(frame: AudioFrame) -> bytes:
    """The samples without what PyAV pads them with."""
    return bytes(frame.planes[0])[: frame.samples * CHANNELS * 2]


def black(width: int = 640, height: int = 480) -> VideoFrame:
    frame = VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


_FORM = ("s16", "stereo", RATE)


class Uniform:
    """Makes the one form of any sound."""

    def __init__(self) -> None:
        self._form: tuple[str, str, int] = _FORM
        self._resampler = AudioResampler("s16", "stereo", RATE)
        self._mono = False

    def samples(self, frame: AudioFrame) -> bytes:
        """As many as there are now; the resampler keeps some back."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:
            self._form = form
            self._mono = frame.layout.nb_channels == 1
            self._resampler = AudioResampler("s16", "mono" if self._mono else "stereo", RATE)
        if form == _FORM:
            return pcm_of(frame)
        frame.pts = None
        channels = 1 if self._mono else CHANNELS
        pcm = b"".join(
            bytes(each.planes[0])[: each.samples * 2 * channels]
            for each in self._resampler.resample(frame)
        )
        return doubled(pcm) if self._mono else pcm


def doubled(pcm: bytes) -> bytes:
    """Mono as stereo, as loud as it was: FFmpeg would take 3 dB off."""
    both = bytearray(2 * len(pcm))
    both[0::4] = both[2::4] = pcm[0::2]
    both[1::4] = both[3::4] = pcm[1::2]
    return bytes(both)


class Pace:
    """Lets one frame go each ``interval`` seconds, on the average."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next: float | None = None

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._next is None or now - self._next > 1.0:  # the machine slept
            self._next = now
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next += self._interval
