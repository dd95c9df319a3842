"""The sockets on which Telepathy clients reach us: for one file, or as often as they like (tubes).

Address types and access control: ``Channel.Interface.Tube`` of the Telepathy specification,
Socket_Address_Type and Socket_Access_Control.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import shutil
import socket
import stat
import struct
import tempfile
from enum import IntEnum

from telepathy_e2e.errors import InvalidArgument, NotAvailable, NotImplementedByUs

from .accepting import Acceptor
from .addresses import usable_addresses
from .streams import SocketStream, StreamBroken

log = logging.getLogger(__name__)


class AddressType(IntEnum):
    """Socket_Address_Type."""

    UNIX = 0
    ABSTRACT_UNIX = 1
    IPV4 = 2
    IPV6 = 3


class AccessControl(IntEnum):
    """Socket_Access_Control."""

    LOCALHOST = 0
    PORT = 1
    NETMASK = 2
    CREDENTIALS = 3


#: Of files the property is AvailableSocketTypes, of tubes SupportedSocketTypes.
NO_SUCH_SOCKET = (
    "This kind of socket, or this access control with it, is not supported: see the channel's "
    "property of supported socket types"
)

#: For AvailableSocketTypes of files (a{uau}). Netmask is deprecated and would open a file to a
#: whole network.
SUPPORTED: dict[int, list[int]] = {
    AddressType.UNIX.value: [AccessControl.LOCALHOST.value, AccessControl.CREDENTIALS.value],
    AddressType.ABSTRACT_UNIX.value: [
        AccessControl.LOCALHOST.value,
        AccessControl.CREDENTIALS.value,
    ],
    AddressType.IPV4.value: [AccessControl.LOCALHOST.value, AccessControl.PORT.value],
    AddressType.IPV6.value: [AccessControl.LOCALHOST.value, AccessControl.PORT.value],
}

#: The same of tubes. Netmask is deprecated there too ("if you want to share a service to your whole
#: LAN, Telepathy is not the way to do it") and part of what a program may ask for all the same.
SUPPORTED_BY_TUBES: dict[int, list[int]] = {
    kind: [*controls, AccessControl.NETMASK.value]
    if kind in (AddressType.IPV4, AddressType.IPV6)
    else controls
    for kind, controls in SUPPORTED.items()
}

#: Seconds for the byte that goes with the credentials. Clients send it at once; one that does not
#: must not keep the right one from its file.
CREDENTIALS_SECONDS = 5.0

# Connections that may wait for us to look at them; those of other users are in the way until then.
_BACKLOG = 16

# A tube's program may open all of its connections at once, and of TCP's each that finds no room
# waits for a second.
TUBE_BACKLOG = 1024

# sun_path, unix(7)
_MAX_PATH = 107

_UCRED = struct.Struct("3i")  # pid, uid, gid
_NO_PEER = (None, None)

_Address = bytes | tuple[str, int]
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class LocalListener:
    """Waits for the one connection of a client, or (``next``, ``admits``) for any number; made by
    ``listen``, to be closed by the caller."""

    def __init__(
        self,
        sock: socket.socket,
        address: _Address,
        *,
        peer: tuple[str | None, int | None] = _NO_PEER,
        network: _Network | None = None,
        credentials_seconds: float | None = None,
        directory: str | None = None,
    ) -> None:
        #: What ProvideFile and AcceptFile return inside the variant of type ``signature``.
        self.address: _Address = address
        self._family = sock.family
        self._acceptor = Acceptor(sock)
        self._peer = peer
        self._network = network
        self._credentials_seconds = credentials_seconds
        self._directory = directory
        self._examined: SocketStream | None = None
        self._closed = False

    @property
    def signature(self) -> str:
        """D-Bus signature of ``address``."""
        return "ay" if isinstance(self.address, bytes) else "(sq)"

    async def accept(self) -> SocketStream:
        """Wait, without a limit, for a client that passes the access control; it is the last one.

        Raises: StreamBroken when the listener is closed, also by an earlier ``accept`` that
        succeeded.
        """
        while True:
            stream = SocketStream(await self._acceptor.accept())
            self._examined = stream
            admitted = False
            try:
                admitted = await self.admits(stream)
            finally:
                self._examined = None
                if not admitted:
                    stream.abort()
            if admitted:
                self.close()
                return stream

    async def next(self) -> SocketStream:
        """The next connection, which ``admits`` has still to judge; more may follow.

        Raises: StreamBroken when the listener is closed.
        """
        return SocketStream(await self._acceptor.accept())

    @property
    def judges_at_once(self) -> bool:
        """``admits`` waits for nothing that the client has to send."""
        return self._credentials_seconds is None

    def close(self) -> None:
        """Stop listening and remove all traces from the file system. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._acceptor.close()
        if self._examined is not None:
            self._examined.abort()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def admits(self, stream: SocketStream) -> bool:
        """Whether a connection passes the access control; what goes with that is read from it."""
        if self._family == socket.AF_UNIX:
            if not _same_user(stream.socket):
                log.warning("refused a connection of another user")
                return False
            if self._credentials_seconds is None:
                return True
            try:
                async with asyncio.timeout(self._credentials_seconds):
                    return await _receive_credentials(stream)
            except (TimeoutError, StreamBroken):
                log.warning("refused a connection that did not send its credentials")
                return False
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:
            return False  # gone already
        if self._network is not None and not _within(self._network, host):
            log.warning("refused a connection from outside the network that was named")
            return False
        wanted_host, wanted_port = self._peer
        if wanted_host not in (None, host) or wanted_port not in (None, port):
            log.warning("refused a connection from a port that was not announced")
            return False
        return True


async def listen(
    address_type: int,
    access_control: int,
    parameter: object,
    *,
    supported: dict[int, list[int]] = SUPPORTED,
    backlog: int = _BACKLOG,
) -> LocalListener:
    """Open a socket for clients.

    Args:
        address_type: Socket_Address_Type.
        access_control: Socket_Access_Control.
        parameter: Socket_Access_Control_Param without its variant: for Port a pair of host and port
            (a wildcard host stands for any, as telepathy-glib sends it); for Netmask a pair of
            host and prefix length; otherwise ignored, as the specification says.
        supported: of these.
        backlog: connections that may wait to be accepted.

    Raises: NotImplementedByUs, InvalidArgument, NotAvailable (no such socket to be had).
    """
    if access_control not in supported.get(address_type, ()):
        raise NotImplementedByUs(NO_SUCH_SOCKET)
    credentials = CREDENTIALS_SECONDS if access_control == AccessControl.CREDENTIALS.value else None
    try:
        if address_type == AddressType.UNIX.value:
            return _listen_path(credentials, backlog)
        if address_type == AddressType.ABSTRACT_UNIX.value:
            name = b"\0telepathy-e2e-" + secrets.token_hex(16).encode()
            sock = _bind(socket.AF_UNIX, name, backlog)
            return LocalListener(sock, name, credentials_seconds=credentials)
        family, host = (
            (socket.AF_INET, "127.0.0.1")
            if address_type == AddressType.IPV4.value
            else (socket.AF_INET6, "::1")
        )
        peer = (
            _announced(parameter, family)
            if access_control == AccessControl.PORT.value
            else _NO_PEER
        )
        network = None
        if access_control == AccessControl.NETMASK.value:
            network = _named(parameter, family)
            host = _own_address(network, host)
        sock = _bind(family, (host, 0), backlog)
        return LocalListener(sock, (host, sock.getsockname()[1]), peer=peer, network=network)
    except OSError as error:
        raise NotAvailable(f"cannot open a local socket: {error.strerror}") from error


def _listen_path(credentials: float | None, backlog: int) -> LocalListener:
    # The directory keeps others away before a single byte of a check of ours runs. No thread for
    # this: it is normally a tmpfs, and a thread that is cancelled half way would leave the
    # directory behind.
    directory = tempfile.mkdtemp(prefix="tpe2e-", dir=_runtime_directory())
    path = os.path.join(directory, "socket")
    try:
        sock = _bind(socket.AF_UNIX, path, backlog)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return LocalListener(
        sock, os.fsencode(path), credentials_seconds=credentials, directory=directory
    )


def _runtime_directory() -> str | None:
    """XDG_RUNTIME_DIR if it is one, ours alone, and short enough; else None: the usual /tmp."""
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(directory) or len(os.fsencode(directory)) + 30 > _MAX_PATH:
        return None
    try:
        status = os.stat(directory)
    except OSError:
        return None
    ours = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return directory if ours and stat.S_ISDIR(status.st_mode) else None


def _bind(
    family: socket.AddressFamily, address: str | bytes | tuple[str, int], backlog: int
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _announced(parameter: object, family: socket.AddressFamily) -> tuple[str | None, int]:
    """Check the Socket_Address_IPv4 or -IPv6 from which the client says it will connect."""
    if not isinstance(parameter, list | tuple) or len(parameter) != 2:
        raise InvalidArgument(
            "Access control by port needs the address and the port that will connect, (sq)"
        )
    host, port = parameter
    if not isinstance(host, str) or not isinstance(port, int) or not 0 < port < 65536:
        raise InvalidArgument(
            "Access control by port needs the address and the port that will connect, (sq)"
        )
    try:
        ip = ipaddress.ip_address(host)
    except ValueError as error:
        raise InvalidArgument("the address is not a numeric one") from error
    if (ip.version == 4) != (family == socket.AF_INET):
        raise InvalidArgument("the address is of the other family")
    # telepathy-glib binds to any address and announces that; the socket is reached over loopback
    # anyway
    return (None if ip.is_unspecified else str(ip)), port


def _named(parameter: object, family: socket.AddressFamily) -> _Network:
    """Check a Socket_Netmask_IPv4 or -IPv6: an address and how many of its bits count."""
    if not isinstance(parameter, list | tuple) or len(parameter) != 2:
        raise InvalidArgument("netmask access control needs an address and a length")
    host, length = parameter
    wanted = ipaddress.IPv4Network if family == socket.AF_INET else ipaddress.IPv6Network
    if not isinstance(host, str) or not isinstance(length, int) or length < 0:
        raise InvalidArgument("netmask access control needs an address and a length")
    try:
        return wanted((host, length), strict=False)
    except ValueError as error:
        raise InvalidArgument("this is no network of the address family") from error


def _own_address(network: _Network, loopback: str) -> str:
    """Where to listen for a network: one address of ours inside it, never all that we have."""
    for host in (*usable_addresses(), loopback):
        if _within(network, host):
            return host
    raise NotAvailable("This computer has no address in that network")


def _within(network: _Network, host: str) -> bool:
    ip = ipaddress.ip_address(host.partition("%")[0])
    return ip.version == network.version and ip in network


def _same_user(sock: socket.socket) -> bool:
    """Whether the process that connected belongs to our user, by the kernel's word."""
    with contextlib.suppress(OSError):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return bool(_UCRED.unpack(raw)[1] == os.geteuid())
    return False


async def _receive_credentials(stream: SocketStream) -> bool:
    """Take the byte that Credentials puts before the data, and check who has sent it.

    The byte may come without credentials, where the client's system has none to send; who connected
    is known.
    """
    sock = stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    while True:
        try:
            # room for the credentials alone: descriptors sent along are dropped by the kernel
            byte, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(_UCRED.size))
            break
        except (BlockingIOError, InterruptedError):
            await stream.readable()
        except OSError:
            return False
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, _ = _UCRED.unpack(data)
            # pid 0: sent before we asked for credentials, so the kernel attached none
            if pid and uid != os.geteuid():
                log.warning("refused the credentials of another user")
                return False
    return len(byte) == 1
