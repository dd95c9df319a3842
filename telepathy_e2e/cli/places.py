"""Where a service is, and where to listen: the addresses that people type."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import typed
from telepathy_e2e.cli.exits import UsageError

# sun_path without the null that ends it, unix(7).
MAX_PATH: Final = 107

_PORT: Final = re.compile(r"[0-9]{1,5}\Z")
_FAMILIES: Final = {
    names.UNIX: socket.AF_UNIX,
    names.ABSTRACT_UNIX: socket.AF_UNIX,
    names.IPV4: socket.AF_INET,
    names.IPV6: socket.AF_INET6,
}


@dataclass(frozen=True)
class Place:
    """The address of a socket.

    Args:
        kind: Socket_Address_Type.
        name: of a Unix socket its path in bytes (an abstract one's begins with a null), else the
            numeric host.
        port: 0 for Unix sockets; to listen at: any that is free.
    """

    kind: int
    name: bytes | str
    port: int = 0

    @property
    def is_unix(self) -> bool:
        return self.kind in (names.UNIX, names.ABSTRACT_UNIX)

    @property
    def family(self) -> socket.AddressFamily:
        return _FAMILIES[self.kind]

    @property
    def address(self) -> Any:
        """As the ``socket`` module wants it."""
        return self.name if self.is_unix else (self.name, self.port)

    @property
    def variant(self) -> object:
        """Socket_Address, typed."""
        return typed("ay", self.name) if self.is_unix else typed("(sq)", [self.name, self.port])

    @classmethod
    def told(cls, kind: int, address: Any) -> Place:
        """What StreamTube.Accept returned."""
        if kind in (names.UNIX, names.ABSTRACT_UNIX):
            name = bytes(address)
            return cls(kind, name if kind == names.ABSTRACT_UNIX else name.rstrip(b"\0"))
        host, port = address
        return cls(kind, str(host), int(port))

    def __str__(self) -> str:
        if isinstance(self.name, bytes):
            shown = os.fsdecode(self.name)
            return "unix:" + ("@" + shown[1:] if shown.startswith("\0") else shown)
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


async def service_at(text: str, *, other_machines: bool) -> Place:
    """The ADDRESS of ``tpe2e tube offer``.

    Args:
        text: ``127.0.0.1:5900``, ``[::1]:22``, ``localhost:8080``, ``8080``, ``unix:/path``.
        other_machines: a service of another machine is meant to be shared.
    Raises:
        UsageError: nothing of that is there, or it is somewhere else than the user said.
    """
    if (path := _path(text)) is not None:
        place = _unix(path)
        if place.kind == names.UNIX:
            _check_socket(place)
        return place
    host, port = _host_and_port(text)
    if port == 0:
        raise UsageError("A service is not at port 0: name its port.")
    if host.lower() == "localhost":
        return _localhost(port)
    place = await _resolve(host, port)
    ip = ipaddress.ip_address(place.name if isinstance(place.name, str) else "")
    if ip.is_unspecified or ip.is_multicast:
        raise UsageError(f"{host} is where to listen, not where a service is: say 127.0.0.1:{port}")
    if not (other_machines or ip.is_loopback or _is_ours(place)):
        raise UsageError(
            f"{host} is another machine. To let your contact reach its service through yours, "
            "add --other-machines."
        )
    return place


async def listening_at(text: str, *, other_machines: bool) -> Place:
    """LOCALPORT of ``tpe2e forward``, or the argument of ``--listen``: as for :func:`service_at`.

    Args:
        other_machines: they may connect, too.
    Raises:
        UsageError: it makes no sense, or others could reach it although the user did not say so.
    """
    if (path := _path(text)) is not None:
        return _unix(path)
    host, port = _host_and_port(text)
    place = await _resolve("127.0.0.1" if host.lower() == "localhost" else host, port)
    ip = ipaddress.ip_address(place.name if isinstance(place.name, str) else "")
    if not (other_machines or ip.is_loopback):
        raise UsageError(
            f"Other machines could connect to {host} and use the tube: add --other-machines if "
            "that is meant."
        )
    return place


def _path(text: str) -> str | None:
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    return text if text.startswith("/") else None


def _unix(path: str) -> Place:
    if path.startswith("@"):
        kind, name = names.ABSTRACT_UNIX, b"\0" + os.fsencode(path[1:])
    else:
        # The daemon is in another directory than whoever types a path.
        kind, name = names.UNIX, os.fsencode(Path.cwd() / path) if path else b""
    if not 1 < len(name) <= MAX_PATH or b"\0" in name[1:]:
        raise UsageError(f"The path of a Unix socket has between 1 and {MAX_PATH} bytes.")
    return Place(kind, name)


def _check_socket(place: Place) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.stat(place.address).st_mode)
    except OSError as error:
        raise UsageError(f"There is no service at {place}: {error.strerror}.") from error
    if not is_socket:
        raise UsageError(f"{place} is not a socket.")


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"Brackets belong around an IPv6 address: [{host}]:{port}.")
    if not host or not _PORT.match(port) or int(port) > 65535:
        raise UsageError(
            f"{text} is not an address: it looks like 127.0.0.1:5900, [::1]:22, localhost:8080, "
            "5900 or unix:/path."
        )
    return host, int(port)


async def _resolve(host: str, port: int) -> Place:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if "%" in host:
            raise UsageError(f"{host} names an interface of this machine; that cannot be used.")
        return Place(names.IPV4 if ip.version == 4 else names.IPV6, str(ip), port)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"Nobody knows where {host} is: check the name.") from error
    for family, _, _, _, address in found:
        if family == socket.AF_INET:
            return Place(names.IPV4, str(address[0]), port)
        if family == socket.AF_INET6 and "%" not in str(address[0]):
            return Place(names.IPV6, str(address[0]), port)
    raise UsageError(f"{host} has no address that can be used.")


def _localhost(port: int) -> Place:
    """127.0.0.1, unless somebody listens at ::1 alone; told without disturbing the service."""
    four, six = Place(names.IPV4, "127.0.0.1", port), Place(names.IPV6, "::1", port)
    return six if _in_use(six) and not _in_use(four) else four


def _in_use(place: Place) -> bool:
    try:
        with socket.socket(place.family, socket.SOCK_STREAM) as sock:
            sock.bind(place.address)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _is_ours(place: Place) -> bool:
    """Whether it is an address of this machine: only of those can somebody bind a socket."""
    try:
        with socket.socket(place.family, socket.SOCK_STREAM) as sock:
            sock.bind((place.name, 0))
    except OSError:
        return False
    return True
