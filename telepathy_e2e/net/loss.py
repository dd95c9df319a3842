"""When a TCP connection is lost: what was sent is not acknowledged any more.

``TCP_USER_TIMEOUT`` (RFC 5482) would be the kernel's own way. It also ends a connection whose other
side lives and has closed its window, because a person is asked or a program pauses, and so does not
tell the two apart that matter here.
"""

from __future__ import annotations

import struct
from typing import Final

#: Seconds for which what was sent may stay unacknowledged.
TIMEOUT: Final = 20.0

#: Seconds between two looks.
INTERVAL: Final = 5.0

#: Bytes of Linux's ``struct tcp_info`` (linux/tcp.h) up to ``tcpi_last_ack_recv``.
INFO_SIZE: Final = 60

_PROBES: Final = struct.Struct("3xB")
_UNACKED: Final = struct.Struct("24xI")
_LAST_ACK: Final = struct.Struct("56xI")


class LossDetector:
    """Looks at a connection again and again.

    An acknowledgement of a probe counts, so that a closed window is no loss; one probe may always
    be on its way.
    """

    def __init__(self) -> None:
        self._looked = self._since = float("-inf")
        self._waiting = False

    def look(self, info: bytes, now: float) -> bool:
        """Whether the connection is lost.

        Args:
            info: the first ``INFO_SIZE`` bytes of ``struct tcp_info``.
            now: seconds on a clock that never goes back.
        """
        (probes,) = _PROBES.unpack_from(info)
        (unacked,) = _UNACKED.unpack_from(info)
        (last_ack,) = _LAST_ACK.unpack_from(info)  # milliseconds ago
        waiting = unacked > 0 or probes > 1
        heard = now - last_ack / 1000 > self._looked
        if not self._waiting or heard:
            self._since = now
        self._waiting, self._looked = waiting, now
        return waiting and now - self._since >= TIMEOUT
