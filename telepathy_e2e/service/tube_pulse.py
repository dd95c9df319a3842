"""When a tube asks its peer for a sign of life: after silence, and after much that was sent.

An answer shows that the road lives; and the question itself is something more on a road that keeps
what it has read until more comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# Seconds without a byte from the peer: then it is asked for one, and then the road is dead.
ASK_AFTER: Final = 20.0
DEAD_AFTER: Final = 40.0

# After so many bytes something more is sent when nothing else has followed for so many seconds:
# some proxies keep what they have read until more comes. Prosody's of 0.12 takes 8 KiB at a time
# and passes on half of it; single bytes are four times as many on the road, being protected.
BURST: Final = 1024
PUSH_AFTER: Final = 0.05
# Seconds from one such push to the next, until one has been answered: a proxy that is busy may have
# found it beside what it was to push, and kept both.
PUSH_AGAIN: Final = 1.0


class Pulse:
    """See the module. It lasts as long as the tube, ``begin`` to ``end`` as long as a road.

    Args:
        ask: send a ping of this number.
        dead: nothing came from the peer for long.
        ask_after, dead_after: seconds, see above.
    """

    def __init__(
        self,
        ask: Callable[[int], None],
        dead: Callable[[], None],
        *,
        ask_after: float = ASK_AFTER,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        self._ask_peer = ask
        self._dead = dead
        self._ask_after, self._dead_after = ask_after, dead_after
        self._loop = asyncio.get_running_loop()
        self.last_heard = 0.0
        """By the loop's clock."""
        # The peer has said something. Before that its people may be asked, and are not hurried.
        self._spoken = False
        self.asked = 0
        """Pings so far, and the number of the last one."""
        self._burst = 0
        # The ping after the last burst; what it pushes has arrived with the answer to it, or to a
        # later one.
        self._pushed = 0
        self._watching: asyncio.TimerHandle | None = None
        self._pushing: asyncio.TimerHandle | None = None
        self._repeating: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """There is a road."""
        self._burst = 0
        self.last_heard = self._loop.time()
        if self._spoken:
            self.look()

    def end(self) -> None:
        """There is none."""
        for timer in (self._watching, self._pushing, self._repeating):
            if timer is not None:
                timer.cancel()
        self._watching = self._pushing = self._repeating = None

    def heard(self) -> None:
        """Something came from the peer."""
        self.last_heard = self._loop.time()
        if not self._spoken:
            self._spoken = True
            self.look()

    def sent(self, size: int) -> None:
        """So many bytes are on the road."""
        self._burst += size
        if self._burst >= BURST and self._pushing is None:
            self._pushing = self._loop.call_later(PUSH_AFTER, self._push, self._burst)

    def answered(self, ping: int) -> None:
        """The peer's answer to the ping of this number came."""
        if ping >= self._pushed and self._repeating is not None:
            self._repeating.cancel()
            self._repeating = None

    def look(self) -> None:
        """Whether the road lives: looked at when it might not, and not for every byte."""
        silent = self._loop.time() - self.last_heard
        if silent >= self._dead_after:
            self._dead()
            return
        following = self._ask_after
        if silent >= self._ask_after:
            self._ask()
            following = self._dead_after
        self._watching = self._loop.call_later(max(0.001, following - silent), self.look)

    def _push(self, before: int) -> None:
        """Something more, once nothing has followed a burst; looked at now and then."""
        self._pushing = None
        if self._burst == before:
            self._burst = 0
            self._ask()
            self._pushed = self.asked
            if self._repeating is None:
                self._repeating = self._loop.call_later(PUSH_AGAIN, self._push_again)
        else:
            self._pushing = self._loop.call_later(PUSH_AFTER, self._push, self._burst)

    def _push_again(self) -> None:
        self._ask()
        self._repeating = self._loop.call_later(PUSH_AGAIN, self._push_again)

    def _ask(self) -> None:
        self.asked += 1
        self._ask_peer(self.asked)
