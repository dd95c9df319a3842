"""The local service that a stream tube shares: connections to it (StreamTube.Offer)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import itertools
import os
import socket
import struct
from typing import Final

from telepathy_e2e.errors import ConnectionRefused, InvalidArgument, NotImplementedByUs

from .local import NO_SUCH_SOCKET, SUPPORTED_BY_TUBES, AccessControl, AddressType
from .streams import Readiness, StreamBroken

# Seconds until a local service has taken a connection. It is on this machine, mostly; one that is
# overloaded for longer is as good as gone.
CONNECT_SECONDS: Final = 10.0

# Seconds until a Unix socket whose queue is full is tried again: it has no way to say when.
_RETRY: Final = 0.02

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid

# A byte, or the host and port that we connect from: NewRemoteConnection.Connection_Param.
Param = int | tuple[str, int]


class LocalService:
    """Where connections of a tube go.

    Args:
        address_type: Socket_Address_Type.
        address: Socket_Address without its variant: bytes, or a pair of host and port.
        access_control: Socket_Access_Control that the service applies to us. Localhost, Port and
            Netmask ask nothing of who connects.
    Raises:
        NotImplementedByUs: no such type, or not this access control with it.
        InvalidArgument: an address that makes no sense.
    """

    def __init__(self, address_type: int, address: object, access_control: int) -> None:
        if access_control not in SUPPORTED_BY_TUBES.get(address_type, ()):
            raise NotImplementedByUs(NO_SUCH_SOCKET)
        self._credentials = access_control == AccessControl.CREDENTIALS
        self._family, self._address = _checked(AddressType(address_type), address)
        # telepathy-glib tells connections apart by it, so no two that wait have the same.
        self._bytes = itertools.cycle(range(1, 256))

    async def connect(self) -> tuple[socket.socket, Param]:
        """A connection, and what NewRemoteConnection says of it.

        Raises: ConnectionRefused.
        """
        try:
            sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # out of descriptors
            raise ConnectionRefused(f"no socket: {os.strerror(error.errno or 0)}") from error
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connect(sock)
            return sock, self._introduce(sock)
        except (OSError, TimeoutError, StreamBroken) as error:
            sock.close()
            raise ConnectionRefused("The local service takes no connection") from error
        except BaseException:
            sock.close()
            raise

    async def _connect(self, sock: socket.socket) -> None:
        while True:
            code = sock.connect_ex(self._address)
            if code == 0:
                return
            if code == errno.EAGAIN and self._family == socket.AF_UNIX:
                await asyncio.sleep(_RETRY)
                continue
            if code != errno.EINPROGRESS:
                raise OSError(code, os.strerror(code))
            await Readiness(sock.fileno()).writable()
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            return

    def _introduce(self, sock: socket.socket) -> Param:
        if self._family != socket.AF_UNIX:
            own, peer = sock.getsockname()[:2], sock.getpeername()[:2]
            if own == peer:
                # TCP's simultaneous opening, with ourselves: nobody listens at this port.
                raise OSError(errno.ECONNREFUSED, "nobody listens")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return own[0], own[1]
        if not self._credentials:
            return 0
        # "Only the same user is allowed to interact with the tube": a name that the service left
        # may have been taken by somebody else.
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(raw)[1] != os.geteuid():
            raise OSError(errno.EACCES, "somebody else listens")
        byte = next(self._bytes)
        own_credentials = _UCRED.pack(os.getpid(), os.geteuid(), os.getegid())
        ancillary = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own_credentials)]
        sock.sendmsg([bytes([byte])], ancillary)
        return byte


def _checked(
    kind: AddressType, address: object
) -> tuple[socket.AddressFamily, bytes | tuple[str, int]]:
    if kind in (AddressType.UNIX, AddressType.ABSTRACT_UNIX):
        if not isinstance(address, bytes) or not 1 < len(address) <= 108:
            raise InvalidArgument("The address of a Unix socket is its path in bytes")
        if (address[0] == 0) is not (kind is AddressType.ABSTRACT_UNIX):
            raise InvalidArgument("Abstract Unix sockets begin with a null byte, others do not")
        # Paths are written with and without the null that ends them in C.
        return socket.AF_UNIX, address if address[0] == 0 else address.rstrip(b"\0")
    family = socket.AF_INET if kind is AddressType.IPV4 else socket.AF_INET6
    if not isinstance(address, list | tuple) or len(address) != 2:
        raise InvalidArgument("The address of an IP socket is a host and a port")
    host, port = address
    if not isinstance(host, str) or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidArgument("The address of an IP socket is a host and a port")
    wanted = ipaddress.IPv4Address if family == socket.AF_INET else ipaddress.IPv6Address
    try:
        ip = wanted(host)
    except ValueError as error:
        raise InvalidArgument("The host is not a numeric address of this family") from error
    if ip.is_multicast or "%" in host:
        raise InvalidArgument("No service is at such an address")
    return family, (str(ip), port)
