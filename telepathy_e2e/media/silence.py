"""When a peer is taken for gone, and for how long he is waited for. No clock of its own.

RFC 7675 lets consent expire after 30 s only; people think that a call has broken long before, so
they are told after ``QUIET``, and another way is looked for at once.
"""

from __future__ import annotations

import os
from typing import Final, Literal

# Seconds without a datagram of any kind before the call is shown as interrupted. Sound comes
# fifty times a second, and checks are sent when nothing does (``PROBE``).
QUIET: Final = 5.0
# Seconds without an answer to a check, though datagrams come: he hears nothing of us then. Two
# checks and some that were lost.
UNANSWERED: Final = 12.0
# Seconds without a datagram before we ask whether anybody is there.
PROBE: Final = 2.0
# Seconds between checks while all is well (RFC 7675 section 5.1), without an answer until we may
# not send any more (the same), and between checks that are not answered.
CONSENT, EXPIRY, AGAIN = 5.0, 30.0, 1.0
# Seconds between attempts at another way: addresses may have come since the last.
RETRY: Final = 8.0
# Seconds that people wait for a call to begin, or to come back.
PATIENCE: Final = 30.0
# A number of seconds in the place of ``PATIENCE``: for tests.
PATIENCE_VARIABLE: Final = "TELEPATHY_E2E_MEDIA_PATIENCE"

Verdict = Literal["well", "interrupted", "again", "back", "gone"]


def patience() -> float:
    """Seconds."""
    try:
        return float(os.environ[PATIENCE_VARIABLE])
    except (KeyError, ValueError):
        return PATIENCE


class Silence:
    """Of one peer.

    Args:
        patience: seconds after which one that is not heard is given up; may be changed.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._since: float | None = None
        self._told = 0.0

    @property
    def interrupted(self) -> bool:
        return self._since is not None

    def look(self, now: float, heard: float, answered: float) -> Verdict:
        """What there is to say, each thing once.

        Args:
            heard, answered: when the last datagram came, and the last answer to a check.
        """
        quiet = now - heard >= QUIET or now - answered >= UNANSWERED
        if self._since is None:
            return self.lost(now) if quiet else "well"
        if not quiet:
            self._since = None
            return "back"
        if now - self._since >= self.patience:
            return "gone"
        if now - self._told >= RETRY:
            self._told = now
            return "again"
        return "well"

    def lost(self, now: float) -> Verdict:
        """The way is known to be closed."""
        if self._since is not None:
            return "well"
        self._since = self._told = now
        return "interrupted"

    def found(self) -> None:
        """There is another way."""
        self._since = None
