"""Opening TCP connections to addresses and names that a peer gave us."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from concurrent.futures import ThreadPoolExecutor

from telepathy_e2e.tasks import TaskOwner

from .streams import StreamBroken

#: Seconds before the next address of a name is tried beside the one that has not answered (RFC 8305
#: section 8).
STAGGER = 0.25

#: Addresses tried of one name: whoever owns a name could otherwise list hundreds.
MAX_ADDRESSES_PER_NAME = 8

#: Names looked up at once. A look-up cannot be cancelled and may take half a minute: names from
#: peers must not take the threads that files and the server's own name need.
RESOLVER_THREADS = 4

_SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Address = tuple[socket.AddressFamily, _SocketAddress]


@functools.cache
def _resolvers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")


async def dial(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket, which the caller then owns. The caller sets a time limit.

    Raises: StreamBroken.
    """
    if not 0 < port < 65536:
        raise StreamBroken("not a port")
    addresses = await _resolve(host, port)
    owner = TaskOwner("dial")
    pending: set[asyncio.Task[socket.socket | OSError]] = set()
    tasks: list[asyncio.Task[socket.socket | OSError]] = []
    winner: socket.socket | None = None
    failure: OSError | None = None
    try:
        try:
            while winner is None and (addresses or pending):
                if addresses:
                    task = owner.start("connect", _attempt(*addresses.pop(0)))
                    tasks.append(task)
                    pending.add(task)
                done, pending = await asyncio.wait(
                    pending,
                    timeout=STAGGER if addresses else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    outcome = task.result()
                    if isinstance(outcome, OSError):
                        failure = outcome
                    elif winner is None:
                        winner = outcome
        finally:
            await owner.close()
    except asyncio.CancelledError:
        winner = None  # nobody is left to take it
        raise
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                late = task.result()
                if isinstance(late, socket.socket) and late is not winner:
                    late.close()
    if winner is None:
        # not strerror: asyncio puts the address there, and that came from the peer
        text = os.strerror(failure.errno or 0) if failure is not None else "no address"
        raise StreamBroken(f"no connection: {text}")
    return winner


async def _attempt(
    family: socket.AddressFamily, address: _SocketAddress
) -> socket.socket | OSError:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return error
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError as error:
        sock.close()
        return error
    except asyncio.CancelledError:
        sock.close()
        raise
    return sock


async def _resolve(host: str, port: int) -> list[_Address]:
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        try:
            found = look_up(flags=socket.AI_NUMERICHOST)  # reads no file, asks nobody
        except socket.gaierror:
            found = await asyncio.get_running_loop().run_in_executor(_resolvers(), look_up)
    except (OSError, ValueError) as error:  # ValueError: not even a name (RFC 1035 lengths, NUL)
        raise StreamBroken("there is no such host") from error
    return _interleaved([(family, address) for family, _, _, _, address in found])


def _interleaved(addresses: list[_Address]) -> list[_Address]:
    """Families take turns, the resolver's first choice first (RFC 8305 section 4)."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    second = [each for each in addresses if each[0] != addresses[0][0]]
    mixed: list[_Address] = []
    while first or second:
        mixed += first[:1] + second[:1]
        del first[:1], second[:1]
    return mixed[:MAX_ADDRESSES_PER_NAME]
