"""Packets of one sound in the order of their numbers, with as little waiting as can be.

aiortc's own jitter buffer waits for four packets always, and after the first loss for fifteen
(320 ms) for the rest of the call, for it gives back one frame for each that comes. Here what is in
order goes through at once; how much is kept ready for playing is ``playout``'s business.
"""

from __future__ import annotations

from typing import Generic, TypeVar

# Packets that may wait for one that is missing: 60 ms. What is later than that is lost.
MAX_HELD = 3
# A step larger than this is a new beginning, as RFC 3550 appendix A.1 has it (MAX_MISORDER).
MAX_STEP = 100

P = TypeVar("P")


class Reorder(Generic[P]):
    """One source's packets."""

    def __init__(self) -> None:
        self._ssrc: int | None = None
        self._next = 0
        self._held: dict[int, P] = {}

    def add(self, ssrc: int, number: int, packet: P) -> list[P]:
        """The packets that can be used now, in order.

        Args:
            number: the sequence number, 16 bits.
        """
        if ssrc != self._ssrc:
            self._ssrc, self._next = ssrc, number
            self._held.clear()
        ahead = (number - self._next) & 0xFFFF
        if ahead >= 0x8000:
            if 0x10000 - ahead <= MAX_STEP:
                return []  # too late, or a repeat
            ahead = MAX_STEP + 1
        if ahead > MAX_STEP:
            self._next = number
            self._held.clear()
        self._held[number] = packet
        ready = self._run()
        while len(self._held) >= MAX_HELD:
            self._next = min(self._held, key=lambda each: (each - self._next) & 0xFFFF)
            ready += self._run()
        return ready

    def _run(self) -> list[P]:
        ready = []
        while self._next in self._held:
            ready.append(self._held.pop(self._next))
            self._next = (self._next + 1) & 0xFFFF
        return ready
