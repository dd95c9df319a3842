"""Taking connections from a listening socket."""

from __future__ import annotations

import asyncio
import errno
import socket

from .streams import Readiness, StreamBroken

#: Seconds to wait when the process or the host is out of descriptors or memory: asking again at
#: once would spin.
EXHAUSTED_PAUSE = 1.0

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """A listening socket, owned from here on; ``close`` wakes whoever waits in ``accept``."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._readiness = Readiness(sock.fileno())
        self._closed = False

    async def accept(self) -> socket.socket:
        """The next connection, which the caller then owns.

        Raises: StreamBroken when the acceptor is closed.
        """
        await asyncio.sleep(0)  # a flood of connections must not hold the loop
        while True:
            if self._closed:
                raise StreamBroken("the listener is closed")
            try:
                return self._sock.accept()[0]
            except (BlockingIOError, InterruptedError):
                await self._readiness.readable()
            except ConnectionError:
                continue  # it was gone before we took it
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise StreamBroken("the listener broke") from error
                await asyncio.sleep(EXHAUSTED_PAUSE)

    def close(self) -> None:
        """May be called again."""
        if not self._closed:
            self._closed = True
            self._readiness.close()
            self._sock.close()
