"""In-band as an attempt (XEP-0261)."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import ibb
from telepathy_e2e.jingle.ibb import InBandOffer
from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.net.streams import Stream
from telepathy_e2e.role import Role
from telepathy_e2e.service.inband import InBandHub, InBandStream
from telepathy_e2e.service.road_attempt import NoWay
from telepathy_e2e.service.sessions import Link

#: Seconds that the initiator may take to open what was agreed on.
OPEN_TIMEOUT: Final = 60.0


class InBandAttempt:
    """See ``road_attempt.Attempt``."""

    way = Way.IN_BAND

    def __init__(self, hub: InBandHub, link: Link) -> None:
        self._hub = hub
        self._link = link
        self._stream: InBandStream | None = None

    async def offer(self) -> Element:
        offer = InBandOffer(secrets.token_hex(16), ibb.BLOCK_SIZE)
        self._stream = self._hub.stream(self._link.peer, offer)
        return ibb.build_transport(offer)

    async def answer(self, transport: Element) -> Element:
        return self.take(transport)

    def take(self, transport: Element) -> Element:
        """The peer's offer. Raises: PeerError."""
        self._stream = self._hub.stream(self._link.peer, ibb.parse_transport(transport))
        return transport

    def answered(self, transport: Element) -> None:
        if self._stream is None:
            raise PeerError("no in-band stream was offered")
        self._stream.agree(ibb.parse_transport(transport))

    def begin(self) -> None:
        """There is nothing to begin: the initiator opens."""

    def is_about(self, transport: Element) -> bool:
        return False

    def info(self, transport: Element) -> None:
        """There is none."""

    async def connect(self) -> Stream:
        stream = self._stream
        if stream is None:
            raise AssertionError("connected before it was agreed on")
        if self._link.role is Role.INITIATOR:
            await stream.open()
            return stream
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                await stream.wait_open()
        except TimeoutError:
            raise NoWay("the in-band stream was not opened") from None
        return stream

    def close(self) -> None:
        if self._stream is not None:
            self._stream.let_go()
