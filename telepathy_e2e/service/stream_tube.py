"""A local service shared with a contact (Telepathy, Channel.Type.StreamTube)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from telepathy_e2e.errors import ConnectionRefused, NotAvailable
from telepathy_e2e.jingle.tubes import Kind, Value
from telepathy_e2e.net import local
from telepathy_e2e.net.local_service import LocalService
from telepathy_e2e.net.streams import SocketStream, StreamBroken
from telepathy_e2e.service import names
from telepathy_e2e.service.tube_channel import TubeChannel
from telepathy_e2e.service.tube_events import (
    ConnectionClosed,
    NewLocalConnection,
    NewRemoteConnection,
)
from telepathy_e2e.service.tube_session import error_of
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.limits import Limits

log = logging.getLogger(__name__)

# Connections to the local service that are made at once; those that the peer opens beyond that
# wait. A service is not asked for more at a time than a browser would.
MAX_DIALS: Final = 32

# Local programs whose credentials are waited for at once; others wait before they are accepted.
MAX_EXAMINED: Final = 32

# Seconds until a local program that found a full tube is tried again: nothing tells when a
# connection is over on both sides.
ROOM_SECONDS: Final = 0.02


class StreamTube(TubeChannel):
    """See ``tube_channel.TubeChannel``."""

    channel_type = names.STREAM_TUBE
    kind = Kind.STREAM
    # Who offers opens nothing, and lets nobody else in than the contact; who accepts is not
    # connected to at all.
    limits = (Limits(own_connections=0), Limits(connections=0))

    supported_socket_types: Final = {
        kind: list(controls) for kind, controls in local.SUPPORTED_BY_TUBES.items()
    }

    # Set by ``offer``.
    _service: LocalService | None = None

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        shown[names.STREAM_TUBE + ".Service"] = self.service
        shown[names.STREAM_TUBE + ".SupportedSocketTypes"] = self.supported_socket_types
        return shown

    # -- what clients call ------------------------------------------------------------------

    async def offer(
        self,
        address_type: int,
        address: object,
        access_control: int,
        parameters: Mapping[str, Value],
    ) -> None:
        """StreamTube.Offer.

        Args:
            address_type, address, access_control: see ``LocalService``.
        Raises:
            NotAvailable: not now; or the contact's programs take no tubes.
            NotImplementedByUs, InvalidArgument: see ``LocalService`` and ``jingle.tubes.build``.
            Offline: the contact is not there.
        """
        self._check_offer(parameters)
        self._service = LocalService(address_type, address, access_control)
        # Those that wait; who is given up meanwhile does not, of whom there may be any number.
        self._dials: dict[int, None] = {}
        self._dialing: dict[int, asyncio.Task[None]] = {}
        await self._offer(parameters)

    async def accept(self, address_type: int, access_control: int, parameter: object) -> object:
        """StreamTube.Accept: where programs shall connect to, once the tube is open.

        Args: see ``local.listen``.
        Raises:
            NotAvailable: not an offer that waits, or no socket to be had.
            NotImplementedByUs, InvalidArgument: see ``local.listen``.
        """
        self._check_accept()
        listener = await local.listen(
            address_type,
            access_control,
            parameter,
            supported=local.SUPPORTED_BY_TUBES,
            backlog=local.TUBE_BACKLOG,
        )
        self._accept(listener)
        return listener.address

    # -- local programs that connect (the side that accepted) ---------------------------------

    def tube_ready(self) -> None:
        if self._listener is not None:
            self._tasks.start("accept", self._listen(self._listener))

    async def _listen(self, listener: local.LocalListener) -> None:
        examined = asyncio.Semaphore(MAX_EXAMINED)
        try:
            while True:
                await examined.acquire()
                stream = await listener.next()
                if listener.judges_at_once:
                    await self._let_in(listener, stream)
                    examined.release()
                else:
                    task = self._tasks.start("examine", self._let_in(listener, stream))
                    task.add_done_callback(lambda _: examined.release())
        except StreamBroken:
            return  # the tube closes, or has no more descriptors to hope for

    async def _let_in(self, listener: local.LocalListener, stream: SocketStream) -> None:
        try:
            if await listener.admits(stream):
                await self._connect(stream)
        finally:
            stream.abort()

    async def _connect(self, stream: SocketStream) -> None:
        """A connection through the tube, as soon as there is room for one."""
        pump = self._pump
        while pump is not None and not pump.closing:
            try:
                number = pump.open()
            except NotAvailable:
                await asyncio.sleep(ROOM_SECONDS)
                continue
            self.events.emit(NewLocalConnection(number))
            pump.attach(number, stream.detach())
            return

    # -- connections to the service (the side that offered) -----------------------------------

    def connection_opened(self, number: int) -> None:
        self._dials[number] = None
        self._dial_next()

    def _dial_next(self) -> None:
        while self._dials and len(self._dialing) < MAX_DIALS:
            number = next(iter(self._dials))
            del self._dials[number]
            if self._pump is not None and self._pump.has(number):
                dial = self._dialing[number] = self._tasks.start("dial", self._dial(number))
                # Not by the task itself: one that is cancelled before it begins does nothing.
                dial.add_done_callback(partial(self._dialed, number))

    async def _dial(self, number: int) -> None:
        pump, service = self._pump, self._service
        if pump is None or service is None:
            return
        try:
            sock, param = await service.connect()
        except ConnectionRefused as error:
            log.info("a connection of a tube was refused: %s", error)
            pump.refuse(number)
            return
        if pump.has(number) and not self.closed:
            self.events.emit(NewRemoteConnection(self.target_handle, param, number))
        pump.attach(number, sock)

    def _dialed(self, number: int, dial: asyncio.Task[None]) -> None:
        del dial
        del self._dialing[number]
        self._dial_next()

    def connection_ended(self, number: int, reason: Reason | None) -> None:
        if self.requested:
            self._dials.pop(number, None)
            dial = self._dialing.get(number)
            if dial is not None and dial is not asyncio.current_task():
                dial.cancel()
        if not self.closed:
            error = error_of(reason)
            self.events.emit(ConnectionClosed(number, error.dbus_name, str(error)))
