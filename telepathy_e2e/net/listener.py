"""Where peers connect to our own SOCKS5 candidates (XEP-0260): one port, many transfers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from types import TracebackType

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.tasks import TaskOwner

from . import addresses, socks5
from .accepting import Acceptor
from .streams import SocketStream, StreamBroken

log = logging.getLogger(__name__)

#: Seconds for a whole SOCKS5 handshake: four messages, so plenty for a slow satellite link, and the
#: time that a stranger who says nothing costs us a descriptor.
HANDSHAKE_SECONDS = 10.0

#: Connections that have not named a transfer. One more pushes the oldest out: an honest peer needs
#: two round trips, whereas one that holds places to keep others out is the oldest soon.
MAX_HALF_OPEN = 64

#: Connections of one transfer that nobody has taken. A peer makes one for each of our candidates,
#: at most ``addresses.MAX_ADDRESSES``, and perhaps some twice.
MAX_ARRIVED = 16

#: How often the kernel is asked for another port when IPv4 and IPv6 cannot have the same one.
PORT_TRIES = 8

_BACKLOG = 64


class Expectation:
    """One transfer's place at the listener: close it, or use ``with``, once the way is decided.

    Closing drops the connections that were not taken; streams that were taken are the taker's.
    """

    def __init__(self, listener: Listener, dstaddrs: tuple[str, ...]) -> None:
        self._listener = listener
        self._dstaddrs = dstaddrs
        self._arrived: list[tuple[str, SocketStream]] = []
        self._news = asyncio.Event()
        self._closed = False

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(numeric host, port) pairs to offer as candidates, best first."""
        return self._listener.addresses

    @property
    def arrived(self) -> list[str]:
        """The local addresses of the connections that wait to be taken, oldest first."""
        return [host for host, _ in self._arrived]

    async def stream(self, host: str | None = None) -> SocketStream:
        """Take a connection that asked for this transfer; waits as long as the caller lets it.

        Args:
            host: the local address it must have come in on: that of the nominated candidate; None
            takes any.

        May be called again for a further connection. Not a byte after the SOCKS5 handshake has been
        read.
        Raises: StreamBroken when the expectation is closed.
        """
        wanted = None if host is None else addresses.normal(host)
        while True:
            if self._closed:
                raise StreamBroken("the transfer no longer waits for connections")
            for entry in list(self._arrived):
                local, stream = entry
                if wanted is None or local == wanted:
                    self._arrived.remove(entry)
                    if not stream.ended():  # the peer may have tried twice, and dropped the first
                        return stream
                    stream.abort()
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """May be called again."""
        if self._closed:
            return
        self._closed = True
        self._listener._forget(self._dstaddrs)
        for _, stream in self._arrived:
            stream.abort()
        self._arrived.clear()
        self._news.set()

    def __enter__(self) -> Expectation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _has_room(self) -> bool:
        return not self._closed and len(self._arrived) < MAX_ARRIVED

    def _deliver(self, stream: SocketStream) -> bool:
        if not self._has_room:
            return False
        self._arrived.append((addresses.normal(stream.socket.getsockname()[0]), stream))
        self._news.set()
        return True


class Listener:
    """Listens on all interfaces, IPv4 and IPv6, while there is something to expect, and only then.

    Use ``async with``, or ``await close()`` at the end. The port changes when it was idle in
    between.
    """

    def __init__(self, handshake_seconds: float = HANDSHAKE_SECONDS) -> None:
        self._handshake_seconds = handshake_seconds
        self._expected: dict[str, Expectation] = {}
        self._acceptors: list[Acceptor] = []
        self._ports: dict[int, int] = {}  # IP version to port
        self._half_open: dict[asyncio.Task[None], SocketStream] = {}  # oldest first
        self._tasks = TaskOwner("socks5-listener")
        self._closed = False

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(numeric host, port) pairs at which it can be reached, best first; empty when idle."""
        hosts = addresses.usable_addresses() if self._ports else []
        versions = [(host, 6 if ":" in host else 4) for host in hosts]
        return [
            (host, self._ports[version]) for host, version in versions if version in self._ports
        ]

    def register(self, *dstaddrs: str) -> Expectation:
        """Expect connections that ask for one of these names.

        Args:
            dstaddrs: 40 hexadecimal digits in lower case each; usually one. More where clients
            disagree
                on whose JID goes into the digest first.

        Raises: NotAvailable: no port can be had. ValueError: the name is expected already.
        """
        if self._closed:
            raise NotAvailable("the listener is closed")
        if not dstaddrs or not all(socks5.DSTADDR.fullmatch(each) for each in dstaddrs):
            raise ValueError("not a digest")
        if any(each in self._expected for each in dstaddrs):
            raise ValueError("expected already")
        if not self._acceptors:
            self._listen()
        expectation = Expectation(self, dstaddrs)
        self._expected.update(dict.fromkeys(dstaddrs, expectation))
        return expectation

    async def close(self) -> None:
        """Close everything that was not taken. May be called again."""
        self._closed = True
        for expectation in list(self._expected.values()):
            expectation.close()
        self._stop_listening()
        await self._tasks.close()

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _forget(self, dstaddrs: tuple[str, ...]) -> None:
        for dstaddr in dstaddrs:
            self._expected.pop(dstaddr, None)
        if not self._expected:
            self._stop_listening()

    def _listen(self) -> None:
        try:
            sockets = _bind_both()
        except OSError as error:
            raise NotAvailable(f"cannot listen for connections: {error.strerror}") from error
        for sock in sockets:
            self._ports[4 if sock.family == socket.AF_INET else 6] = sock.getsockname()[1]
            acceptor = Acceptor(sock)
            self._acceptors.append(acceptor)
            self._tasks.start("accept", self._accept(acceptor))

    def _stop_listening(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        self._ports.clear()
        for task in list(self._half_open):
            self._drop(task)

    def _drop(self, task: asyncio.Task[None]) -> None:
        # A task that has not begun yet never runs its own clean-up.
        self._half_open.pop(task).abort()
        task.cancel()

    async def _accept(self, acceptor: Acceptor) -> None:
        with contextlib.suppress(StreamBroken):
            while True:
                stream = SocketStream(await acceptor.accept())
                if len(self._half_open) >= MAX_HALF_OPEN:
                    log.info("too many unidentified connections, closing the oldest")
                    self._drop(next(iter(self._half_open)))
                task = self._tasks.start("handshake", self._greet(stream))
                self._half_open[task] = stream

    async def _greet(self, stream: SocketStream) -> None:
        taken = False
        try:
            async with asyncio.timeout(self._handshake_seconds):
                request = await socks5.read_request(stream)
                expectation = self._expected.get(request.dstaddr)
                if expectation is None or not expectation._has_room:
                    await stream.write(request.answer(socks5.NOT_ALLOWED))
                    stream.close()
                    return
                await stream.write(request.answer(socks5.GRANTED))
                taken = expectation._deliver(stream)
        except (PeerError, StreamBroken, TimeoutError) as error:
            log.debug("a connection failed before it named a transfer: %s", error)
        finally:
            current = asyncio.current_task()
            if current is not None:
                self._half_open.pop(current, None)
            if not taken:
                stream.close()


def _bind_both() -> list[socket.socket]:
    """Listening sockets for IPv6 and IPv4, on one port if possible; only one if need be."""
    tries = range(PORT_TRIES)
    for attempt in tries:
        try:
            six = _bind(socket.AF_INET6, 0)
        except OSError:
            return [_bind(socket.AF_INET, 0)]
        port = six.getsockname()[1]
        try:
            return [six, _bind(socket.AF_INET, port if attempt != tries[-1] else 0)]
        except OSError:
            if attempt == tries[-1]:
                return [six]
            six.close()
    raise AssertionError("the last attempt returns")


def _bind(family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # IPv4 has its own socket; mapped addresses would hide which address somebody came in on
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
