"""Sound that comes unevenly goes out evenly.

Frames wait here for the moment at which they are to be heard: as short as the network allows,
longer after it was late, shorter again when it has been good for a while.
"""

from __future__ import annotations

from collections import deque

from telepathy_e2e.media import frames

# In frames of 20 ms. With one, whatever is a little late is missed; twelve are a quarter of a
# second, beyond which people interrupt one another.
MIN_TARGET, START_TARGET, MAX_TARGET = 2, 2, 12
# Frames that may wait above the target before the oldest go: what comes in a burst is heard.
SLACK = 3
# Frames for which more than needed waited, after which one is left out: two seconds.
CALM = 100
# Frames after which one goes of those above the target, which only came in a burst: half a second.
BRIEF = 25


class Playout:
    """A buffer of sound in frames of 20 ms; no clock of its own."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._target = START_TARGET
        self._filling = True
        self._least = MAX_TARGET
        self._calm = 0
        self._extra, self._brief = MAX_TARGET, 0
        self._held: deque[bytes] = deque()

    def put(self, pcm: bytes) -> None:
        """What came."""
        self._pcm += pcm
        while len(self._pcm) >= frames.FRAME_BYTES:
            self._held.append(bytes(self._pcm[: frames.FRAME_BYTES]))
            del self._pcm[: frames.FRAME_BYTES]
        while len(self._held) > self._target + SLACK:
            self._held.popleft()
        if self._filling and len(self._held) >= self._target:
            self._filling = False

    def get(self) -> bytes | None:
        """What is to be heard in the next 20 ms; None: nothing has come for it."""
        if self._filling:
            return None
        if not self._held:
            # Late: wait for a little more from now on.
            self._filling = True
            self._target = min(self._target + 1, MAX_TARGET)
            self._calm, self._least = 0, MAX_TARGET
            self._brief, self._extra = 0, MAX_TARGET
            return None
        self._least = min(self._least, len(self._held))
        self._extra = min(self._extra, len(self._held))
        self._calm += 1
        self._brief += 1
        if self._calm >= CALM:
            self._ease()
        if self._brief >= BRIEF:
            if self._extra > self._target and len(self._held) > 1:
                self._held.popleft()
            self._brief, self._extra = 0, MAX_TARGET
        return self._held.popleft()

    def _ease(self) -> None:
        """Nothing was missing for a while: there need not be so much."""
        if self._least > MIN_TARGET and len(self._held) > 1:
            self._held.popleft()
        if self._least >= self._target and self._target > MIN_TARGET:
            self._target -= 1
        self._calm, self._least = 0, MAX_TARGET

    def pause(self) -> None:
        """The peer sends something else meanwhile: what does not come is not late."""
        self._filling = True

    @property
    def waiting(self) -> float:
        """Seconds."""
        return len(self._held) * frames.FRAME
