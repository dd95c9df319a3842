"""What calls say and hear while they are measured."""

from __future__ import annotations

import math
from array import array

RATE, CHANNELS, SAMPLES = 48000, 2, 960
# Frames of 20 ms: a burst of two in each half second.
EVERY, LONG = 25, 2
_LOUD = 3000


def _sine(hertz: int, samples: int, start: int = 0) -> bytes:
    sound = array("h")
    for at in range(start, start + samples):
        value = int(8000 * math.sin(2 * math.pi * hertz * at / RATE))
        sound.extend([value] * CHANNELS)
    return sound.tobytes()


class Tone:
    """440 Hz."""

    def __init__(self) -> None:
        self._second = [_sine(440, SAMPLES, start) for start in range(0, RATE, SAMPLES)]
        self._at = 0

    def frame(self) -> bytes:
        self._at = (self._at + 1) % len(self._second)
        return self._second[self._at]


class Mouth:
    """Silence with bursts."""

    def __init__(self) -> None:
        self._burst = [_sine(1000, SAMPLES, n * SAMPLES) for n in range(LONG)]
        self._at = -1
        self.began = False
        """The last frame was the first of a burst."""

    def frame(self) -> bytes:
        self._at = (self._at + 1) % EVERY
        self.began = self._at == 0
        return self._burst[self._at] if self._at < LONG else bytes(SAMPLES * CHANNELS * 2)


class Ear:
    """Hears when bursts begin."""

    def __init__(self) -> None:
        self._quiet = EVERY

    def burst(self, pcm: bytes) -> float | None:
        """Seconds from the beginning of a frame to that of a burst, if one begins in it."""
        samples = array("h", pcm)
        at = next((n for n, value in enumerate(samples) if abs(value) > _LOUD), None)
        if at is None:
            self._quiet += 1
            return None
        waited, self._quiet = self._quiet, 0
        return at / CHANNELS / RATE if waited > LONG else None
