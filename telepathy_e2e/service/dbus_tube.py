"""A private bus of two (Telepathy, Channel.Type.DBusTube).

Each side's program connects to a socket of its own connection manager as it would to any D-Bus
server, and logs in there. From then on every byte goes to the other's program: a tube of two
"behaves like a peer-to-peer D-Bus connection".
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping
from typing import Final

from telepathy_e2e.errors import (
    Cancelled,
    NotAvailable,
    NotImplementedByUs,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.jingle.tubes import Kind, Value
from telepathy_e2e.net import local
from telepathy_e2e.net.dbus_server import DBusLogin
from telepathy_e2e.net.local import AccessControl, AddressType, LocalListener
from telepathy_e2e.net.streams import SocketStream, StreamBroken
from telepathy_e2e.service import names
from telepathy_e2e.service.tube_channel import TubeChannel
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.limits import Limits

log = logging.getLogger(__name__)

# Seconds for a program to log in. It has nothing to wait for; one that does not must not keep the
# right one out.
LOGIN_SECONDS: Final = 10.0

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid


class DBusTube(TubeChannel):
    """See ``tube_channel.TubeChannel``."""

    channel_type = names.DBUS_TUBE
    kind = Kind.DBUS
    # One connection, which the side that accepts opens.
    limits = (
        Limits(connections=1, own_connections=0),
        Limits(connections=0, own_connections=1),
    )

    supported_access_controls: Final = [
        AccessControl.LOCALHOST.value,
        AccessControl.CREDENTIALS.value,
    ]
    # Of tubes in rooms alone.
    dbus_names: Final[dict[int, str]] = {}

    _anonymous = False
    # The connection has been opened.
    _expected = False

    @property
    def service_name(self) -> str:
        return self.service

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        shown[names.DBUS_TUBE + ".ServiceName"] = self.service
        shown[names.DBUS_TUBE + ".SupportedAccessControls"] = self.supported_access_controls
        return shown

    # -- what clients call ------------------------------------------------------------------

    async def offer(self, parameters: Mapping[str, Value], access_control: int) -> str:
        """DBusTube.Offer: the address of the private bus, once the tube is open.

        Raises:
            NotAvailable: not now; or the contact's programs take no tubes.
            NotImplementedByUs: an access control that D-Bus tubes do not have.
            InvalidArgument: see ``jingle.tubes.build``.
            Offline: the contact is not there.
        """
        self._check_offer(parameters)
        listener = await self._listen_for(access_control)
        try:
            self._check_offer(parameters)
            await self._offer(parameters)
        except TelepathyError:
            listener.close()
            raise
        self._listener = listener
        self._anonymous = access_control == AccessControl.LOCALHOST.value
        return _address(listener)

    async def accept(self, access_control: int) -> str:
        """DBusTube.Accept: likewise.

        Raises:
            NotAvailable: not an offer that waits, or no socket to be had.
            NotImplementedByUs: see ``offer``.
        """
        self._check_accept()
        listener = await self._listen_for(access_control)
        self._accept(listener)
        self._anonymous = access_control == AccessControl.LOCALHOST.value
        return _address(listener)

    async def _listen_for(self, access_control: int) -> LocalListener:
        if access_control not in self.supported_access_controls:
            raise NotImplementedByUs("D-Bus tubes have Localhost and Credentials")
        # D-Bus has its own way to send credentials: no byte of ours comes before.
        return await local.listen(AddressType.UNIX.value, AccessControl.LOCALHOST.value, None)

    # -- the two programs ---------------------------------------------------------------------

    def tube_ready(self) -> None:
        if not self.requested and self._pump is not None:
            try:
                number = self._pump.open()
            except NotAvailable as error:
                raise PeerError("a private bus to which nobody can connect") from error
            self._expect(number)

    def connection_opened(self, number: int) -> None:
        self._expect(number)

    def _expect(self, number: int) -> None:
        if self._expected:
            # Each would have a task wait for a program.
            raise PeerError("a private bus has one connection")
        self._expected = True
        if self._listener is not None:
            self._tasks.start("program", self._await_program(self._listener, number))

    async def _await_program(self, listener: LocalListener, number: int) -> None:
        """The one program of this side. What the other sends until then waits in its window."""
        try:
            while True:
                stream = await listener.next()
                try:
                    async with asyncio.timeout(LOGIN_SECONDS):
                        rest = await self._login(stream)
                    break
                except (PeerError, StreamBroken, TimeoutError) as error:
                    log.warning("a program was not let into a D-Bus tube: %s", error)
                    stream.abort()
                except BaseException:
                    stream.abort()
                    raise
        except StreamBroken:
            return  # the tube closes
        listener.close()
        if self._pump is not None:
            self._pump.attach(number, stream.detach(), rest)

    async def _login(self, stream: SocketStream) -> bytes:
        """What came after it. Raises: PeerError, StreamBroken."""
        if not await self._admits(stream):
            raise PeerError("another user")
        raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        login = DBusLogin(_UCRED.unpack(raw)[1], anonymous=self._anonymous)
        while not login.done:
            data = await stream.read(4096)
            if not data:
                raise StreamBroken("the program left")
            if answer := login.receive(data):
                await stream.write(answer)
        return login.rest

    async def _admits(self, stream: SocketStream) -> bool:
        return self._listener is not None and await self._listener.admits(stream)

    def connection_ended(self, number: int, reason: Reason | None) -> None:
        """A bus that one of the two has left is no bus."""
        del number
        if reason is None or reason is Reason.CANCELLED:
            self._tasks.start("leave", self._left())

    async def _left(self) -> None:
        self._leave(Cancelled("A program left the private bus"))


def _address(listener: LocalListener) -> str:
    """A D-Bus server address ("Server Addresses")."""
    path = listener.address if isinstance(listener.address, bytes) else b""
    plain = b"-_/.\\*"
    escaped = "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in plain else f"%{byte:02x}"
        for byte in path
    )
    return f"unix:path={escaped}"
