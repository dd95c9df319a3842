"""From addresses to a data channel: ICE, DTLS with the session's certificate, SCTP (XEP-0343)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.jingle.data_channel import PORT
from telepathy_e2e.jingle.ice import Candidate, DtlsFingerprint, Transport
from telepathy_e2e.media.data_stream import DataStream
from telepathy_e2e.media.events import (
    Connected,
    DtlsFacts,
    GatheringDone,
    LocalCandidates,
    MediaEvent,
    RoadFailed,
)
from telepathy_e2e.media.inside_aiortc import DataTransport
from telepathy_e2e.media.road import Road
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xtls.association import Handshake
from telepathy_e2e.xtls.identity import Credentials

log = logging.getLogger(__name__)

#: Seconds from DTLS to a channel that both sides have: four round trips, and three seconds where
#: the first packet is lost (aiortc's first timer).
CHANNEL_DEADLINE: Final = 15.0


class DataRoad:
    """One road; ``close`` it unless ``connect`` has given the stream, which owns it from there on.

    Args:
        controlling: of ICE; the initiator of the session is.
        credentials: of the session.
        label: of the channel.
        told: is given candidates for the peer, and whether they were the last.
    """

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: Credentials,
        label: str,
        told: Callable[[tuple[Candidate, ...], bool], None],
    ) -> None:
        self._label = label
        self._told = told
        self._controlling = controlling
        self._tasks = TaskOwner(f"data road {label}")
        self._stream: DataStream | None = None
        self._hosts = asyncio.Event()
        self._connected: asyncio.Future[DtlsFacts] = asyncio.get_running_loop().create_future()
        self._road = Road(
            "data",
            controlling=controlling,
            credentials=credentials,
            servers=(),
            events=self._happened,
            association=DataTransport,
        )

    async def gather(self, more: Callable[[], Awaitable[Sequence[IceServer]]]) -> None:
        """Wait for the addresses of this machine; those from servers are told as they come."""
        self._tasks.start("gather", self._gather(more))
        await self._hosts.wait()

    async def _gather(self, more: Callable[[], Awaitable[Sequence[IceServer]]]) -> None:
        try:
            await self._road.gather(more)
        except OSError as error:
            log.info("no sockets for a data channel: %s", type(error).__name__)
        finally:
            self._hosts.set()

    def local_transport(self, setup: str) -> Transport:
        """With the candidates that are there."""
        return self._road.local_transport(setup)

    def remote_transport(self, transport: Transport) -> None:
        """The peer's, whole or what is new of it."""
        self._road.remote_transport(transport)

    async def connect(
        self, role: str, fingerprints: Sequence[DtlsFingerprint], remote_port: int
    ) -> DataStream:
        """The stream.

        Args:
            role: ``client`` or ``server``, of DTLS.
            fingerprints: all must be of the peer's leaf.
        Raises:
            StreamBroken: there is no way.
            SecurityError: the peer, or what DTLS agreed on, is not good.
        """
        self._road.start(role, fingerprints, True)
        facts = await self._connected
        dtls = self._road.dtls
        if dtls is None:  # pragma: no cover - connected without it
            raise AssertionError("connected without DTLS")
        stream = self._stream = DataStream(
            dtls,
            Handshake(facts.peer_leaf, facts.cipher, facts.key_exchange),
            self._road.export,
            self.close,
            ours=PORT,
            theirs=remote_port,
            opens=self._controlling,
            label=self._label,
        )
        try:
            async with asyncio.timeout(CHANNEL_DEADLINE):
                await stream.open()
        except TimeoutError as error:
            stream.abort()
            raise StreamBroken("the peer opens no channel") from error
        except StreamBroken:
            stream.abort()
            raise
        return stream

    async def close(self) -> None:
        """May be called again."""
        self._connected.cancel()
        self._tasks.cancel()
        await self._road.close()

    def _happened(self, event: MediaEvent) -> None:
        match event:
            case LocalCandidates(_, candidates):
                if self._hosts.is_set():
                    self._told(candidates, False)
                self._hosts.set()  # the first are those of this machine
            case GatheringDone():
                self._told((), True)
            case Connected(_, facts):
                if not self._connected.done():
                    self._connected.set_result(facts)
            case RoadFailed(_, why, text):
                error = SecurityError(text) if why == "security" else StreamBroken(text)
                if not self._connected.done():
                    self._connected.set_exception(error)
                elif self._stream is not None:
                    self._stream.break_(text)
            case _:
                pass  # a road that is silent for a while; ICE anew, which we do not do
