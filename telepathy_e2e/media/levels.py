"""How loud it is."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

# Seconds that one value stands for: what a meter on a screen shows.
WINDOW = 0.1
# dBFS; what is silent has none.
FLOOR = -127.0
# Every fifteenth sample is enough for a meter, and costs as much less; odd, for both channels.
_STRIDE = 15


def rms_dbfs(samples: memoryview) -> float:
    """Root mean square against a full-scale square wave, dBFS, ``FLOOR`` to 0.

    Args:
        samples: signed 16 bits (format ``h``).
    """
    some = samples[::_STRIDE].tolist()
    if not some:
        return FLOOR
    power = sum(map(operator.mul, some, some)) / len(some)
    return max(FLOOR, 10 * math.log10(power / (32768 * 32768))) if power else FLOOR


class Meter:
    """The loudness of the last whole window.

    Args:
        rate: samples a second of one channel.
        channels: that are interleaved.
        told: is given each new value, dBFS.
    """

    def __init__(
        self, rate: int = 48000, channels: int = 2, told: Callable[[float], None] | None = None
    ) -> None:
        self._window = int(rate * WINDOW)
        self._channels = channels
        self._told = told
        self._samples = 0
        self._power = 0.0
        self.level = FLOOR
        """dBFS."""

    def add(self, pcm: bytes | memoryview) -> None:
        """Sound, s16 in the machine's order, interleaved."""
        samples = memoryview(pcm).cast("B").cast("h")
        count = len(samples) // self._channels
        level = rms_dbfs(samples)
        if level > FLOOR:
            self._power += count * 10 ** (level / 10)
        self._samples += count
        if self._samples >= self._window:
            mean = self._power / self._samples
            self.level = max(FLOOR, 10 * math.log10(mean)) if mean else FLOOR
            self._samples, self._power = 0, 0.0
            if self._told is not None:
                self._told(self.level)
