"""How often the agent signs."""

from __future__ import annotations

from typing import Final

# A leaf lives on for half a day after whoever asked for it was thrown out: a connection manager
# that was taken over, or went mad, shall not get a hoard of them in a moment, nor keep everybody
# else here waiting. People start a few sessions a minute; a folder of small files is a burst.
BURST: Final = 200
PER_SECOND: Final = 20.0

# Seconds that a call is held back rather than refused: 200 more files on top of the burst. The
# bus would wait longer, the person who wants a file sent would not.
MAX_WAIT: Final = 10.0


class Rate:
    """A bucket that holds ``BURST`` signatures and is filled with ``PER_SECOND`` of them."""

    def __init__(self) -> None:
        self._level = float(BURST)
        self._at = float("-inf")

    def take(self, now: float) -> float | None:
        """One signature: how many seconds to wait before it; None: too many are waiting.

        Args:
            now: monotonic, seconds.
        """
        if now > self._at:
            filled = (now - self._at) * PER_SECOND if self._at > float("-inf") else 0.0
            self._level = min(float(BURST), self._level + filled)
            self._at = now
        wait = max(0.0, (1.0 - self._level) / PER_SECOND)
        if wait > MAX_WAIT:
            return None
        self._level -= 1.0
        return wait
