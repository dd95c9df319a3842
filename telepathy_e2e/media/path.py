"""What DTLS sees of ICE: datagrams, whichever generation of ICE carries them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from telepathy_e2e.media.inside_aioice import TrickleConnection


class Path:
    """Takes the place of aiortc's ``RTCIceTransport`` below a DTLS transport.

    ICE may be restarted (RFC 8445 section 9) while DTLS goes on: what was carried by one
    connection is carried by another from then on. Between them datagrams are lost, as on any
    network.

    Args:
        lost: the present connection ended without a successor.
    """

    def __init__(self, controlling: bool, lost: Callable[[], None]) -> None:
        self._controlling = controlling
        self._lost = lost
        self._current: TrickleConnection | None = None
        self._changed = asyncio.Event()
        self._deaf = self._closed = False

    @property
    def role(self) -> str:
        """As aiortc has it, for its statistics."""
        return "controlling" if self._controlling else "controlled"

    @property
    def current(self) -> TrickleConnection | None:
        return self._current

    def use(self, connection: TrickleConnection) -> TrickleConnection | None:
        """Carry everything over ``connection``; returns the former, for the caller to close."""
        former, self._current = self._current, connection
        self._changed.set()
        return former

    def stop_receiving(self) -> None:
        """Who asks for a datagram from now on is told that there are none; who waits is not.

        A task of aiortc that is cancelled while it waits for one goes on if that has just come:
        ``asyncio.wait_for`` forgets the cancellation (Python 3.11). It gets no further than this.
        """
        self._deaf = True

    def close(self) -> None:
        self._closed = True
        self._current = None
        self._changed.set()

    async def _recv(self) -> bytes:
        while not (self._closed or self._deaf):
            connection = self._current
            if connection is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                return await connection.recv()
            except ConnectionError:
                if self._current is connection:
                    self._current = None
                    if not self._closed:
                        self._lost()
        raise ConnectionError("closed")

    async def _send(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionError("closed")
        if self._current is not None:
            try:
                await self._current.send(data)
            except ConnectionError:
                pass  # _recv has found out or will
