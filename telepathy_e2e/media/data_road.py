"""From addresses to a data channel: ICE, DTLS with the session's certificate, SCTP (XEP-0343)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.jingle.data_channel import PORT
from telepathy_e2e.jingle.ice import Candidate, DtlsFingerprint, Transport
from telepathy_e2e.media.data_stream import DataStream, closing
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


class DataRoad:
    """One road; ``close`` it unless ``connect`` has given the stream, which owns it from there on.

    Args:
        controlling: of ICE; the initiator of the session is.
        credentials: of the session.
        label: of the channel.
        told: is given candidates for the peer, and whether they were the last.
        wall: the time of day by which the peer's certificate is judged, aware.
    """

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: Credentials,
        label: str,
        told: Callable[[tuple[Candidate, ...], bool], None],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._label = label
        self._told = told
        self._controlling = controlling
        self._tasks = TaskOwner(f"data road {label}")
        self._stream: DataStream | None = None
        self._found: Callable[[], None] | None = None
        self._hosts = asyncio.Event()
        self._connected: asyncio.Future[DtlsFacts] = asyncio.get_running_loop().create_future()
        self._road = Road(
            "data",
            controlling=controlling,
            credentials=credentials,
            servers=(),
            events=self._happened,
            association=DataTransport,
            found=self._way_found,
            wall=wall,
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
        self,
        role: str,
        fingerprints: Sequence[DtlsFingerprint],
        remote_port: int,
        found: Callable[[], None] = lambda: None,
        silence: float | None = None,
    ) -> DataStream:
        """The stream; waits as long as the caller lets it.

        Args:
            role: ``client`` or ``server``, of DTLS.
            fingerprints: all must be of the peer's leaf.
            found: called when datagrams get through.
            silence: seconds after which a peer who is not heard is given up; None: as in calls.
        Raises:
            StreamBroken: there is no way.
            SecurityError: the peer, or what DTLS agreed on, is not good.
        """
        self._found = found
        if silence is not None:
            self._road.give_up_after(silence)
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
        opened = False
        try:
            await stream.open()
            opened = True
        finally:
            if not opened:
                stream.abort()
        return stream

    def _way_found(self) -> None:
        if self._found is not None:
            self._found()

    def let_go(self) -> None:
        """``close``, without waiting."""
        closing.start("close", self.close())

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
