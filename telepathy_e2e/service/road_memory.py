"""Which transport has worked lately with a contact, where others have not. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Final

from telepathy_e2e.jingle.ways import Way

#: Contacts; of more, the oldest are forgotten.
MAX_CONTACTS: Final = 256

#: Seconds. Networks change without our addresses changing, those of contacts above all.
LIFE: Final = 1800.0


class RoadMemory:
    """Of one account."""

    def __init__(self) -> None:
        # Oldest first.
        self._worked: dict[tuple[str, Hashable], float] = {}

    def note(
        self, contact: str, network: Hashable, way: Way, failed: Collection[Way], now: float
    ) -> None:
        """A stream is there.

        Args:
            contact: bare JID.
            network: what says where this machine is.
            failed: what was tried before.
        """
        key = (contact, network)
        # In-band is never begun with: it is slow, and the servers are other people's.
        if way is not Way.ICE:
            self._worked.pop(key, None)
        elif Way.SOCKS5 in failed:
            self._worked.pop(key, None)
            self._worked[key] = now
            if len(self._worked) > MAX_CONTACTS:
                del self._worked[next(iter(self._worked))]

    def first(self, contact: str, network: Hashable, now: float) -> Way | None:
        """What to begin with, other than usual."""
        worked = self._worked.get((contact, network))
        return Way.ICE if worked is not None and now - worked < LIFE else None
