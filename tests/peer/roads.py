"""Bytes between this peer and the program under test: SOCKS5 and in-band, simple on purpose."""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Protocol
from xml.etree.ElementTree import Element

from tests.peer import stanzas
from tests.peer.client import WAIT, Peer
from tests.peer.stanzas import IBB

CHUNK = 64 * 1024
CLOSE_SECONDS = 1.0


class Pipe(Protocol):
    """A stream of bytes."""

    async def read(self, limit: int = CHUNK) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def write_eof(self) -> None: ...

    async def abort(self) -> None: ...


class TcpPipe:
    """A TCP connection after its SOCKS5 handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self, limit: int = CHUNK) -> bytes:
        """``b""`` at the end, and when it was reset."""
        try:
            async with asyncio.timeout(WAIT):
                return await self.reader.read(limit)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def write_eof(self) -> None:
        with suppress(OSError):
            self.writer.write_eof()

    async def abort(self) -> None:
        """A reset, so that nobody takes it for an end."""
        sock = self.writer.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()

    async def close(self) -> None:
        await _close(self.writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # Python 3.11 never tells when a connection is closed on which start_tls has failed.
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()


def request(name: str) -> bytes:
    """SOCKS5: CONNECT to a name, port 0."""
    return b"\5\1\0\3" + bytes([len(name)]) + name.encode() + b"\0\0"


async def socks5_reply(reader: asyncio.StreamReader) -> int:
    """Read the reply to a request; its code."""
    head = await reader.readexactly(5)
    await reader.readexactly(head[4] + 2)
    return head[1]


async def connect(host: str, port: int, name: str) -> TcpPipe:
    """Connect to a candidate.

    Raises:
        ConnectionError: it refused.
    """
    async with asyncio.timeout(WAIT):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"\5\1\0")
            if await reader.readexactly(2) != b"\5\0":
                raise ConnectionError("it wants authentication")
            writer.write(request(name))
            code = await socks5_reply(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            raise
        if code != 0:
            writer.close()
            raise ConnectionError(f"refused with {code}")
        return TcpPipe(reader, writer)


class Streamhost:
    """A candidate of ours: takes any name, and keeps which were asked for.

    Args:
        code: the reply to every request; 0 grants.

    Attributes:
        go: while this is not set, requests are read and not answered.
    """

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.names: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self._pipes: asyncio.Queue[TcpPipe] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        """Listen on 127.0.0.1; the port."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def pipe(self) -> TcpPipe:
        async with asyncio.timeout(WAIT):
            return await self._pipes.get()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            await _close(writer)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            methods = (await reader.readexactly(2))[1]
            await reader.readexactly(methods)
            writer.write(b"\5\0")
            length = (await reader.readexactly(5))[4]
            name = (await reader.readexactly(length + 2))[:-2]
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()
            return
        self.names.append(name.decode("ascii", "replace"))
        await self.go.wait()
        writer.write(bytes([5, self.code, 0, 3, length]) + name + b"\0\0")
        if self.code == 0:
            self._pipes.put_nowait(TcpPipe(reader, writer))
        else:
            writer.close()


class InBand:
    """An in-band bytestream (XEP-0047).

    Args:
        block_size: of what we send.
        window: blocks on the way before the first is acknowledged.
    """

    def __init__(
        self, peer: Peer, other: str, sid: str, *, block_size: int = 4096, window: int = 8
    ) -> None:
        self.peer = peer
        self.other = other
        self.sid = sid
        self.block_size = block_size
        self.opened = asyncio.Event()
        self.blocks = 0
        self.held = 0
        self._window = window
        self._sent: deque[asyncio.Future[Element]] = deque()
        self._seq = 0
        self._data = bytearray()
        self._closed = False
        peer.in_band[(other, sid)] = self._take

    def _take(self, element: Element) -> tuple[str, str] | None:
        match stanzas.local(element):
            case "open":
                self.opened.set()
            case "close":
                self._closed = True
            case "data":
                if int(element.get("seq", "-1")) != self.blocks % 65536:
                    return ("unexpected-request", "")
                self.blocks += 1
                self._data += base64.b64decode(element.text or "", validate=True)
        return None

    async def open(self) -> None:
        """Send ``<open/>``; the initiator does."""
        attributes = {"sid": self.sid, "block-size": str(self.block_size), "stanza": "iq"}
        answer = await self.peer.ask(self.other, Element(f"{{{IBB}}}open", attributes))
        assert answer.get("type") == "result", stanzas.error_of(answer)

    def block(self, data: bytes, seq: int | None = None, sid: str = "") -> asyncio.Future[Element]:
        """One block; the future is its answer. A ``seq`` or ``sid`` of its own does not count."""
        number = self._seq if seq is None else seq
        if seq is None and not sid:
            self._seq = (self._seq + 1) % 65536
        element = Element(f"{{{IBB}}}data", {"sid": sid or self.sid, "seq": str(number)})
        element.text = base64.b64encode(data).decode()
        return self.peer.post(self.other, element)

    async def read(self, limit: int = CHUNK) -> bytes:
        await self.peer.until(lambda: self._data or self._closed)
        data = bytes(self._data[:limit])
        del self._data[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), self.block_size):
            while len(self._sent) >= self._window:
                await self._sent.popleft()
            self._sent.append(self.block(data[start : start + self.block_size]))
        while self._sent:
            answer = await self._sent.popleft()
            if answer.get("type") != "result":
                raise ConnectionError(f"a block was refused: {stanzas.error_of(answer)}")

    async def write_eof(self) -> None:
        await self.close()

    async def close(self) -> None:
        await self.peer.ask(self.other, Element(f"{{{IBB}}}close", {"sid": self.sid}))

    async def abort(self) -> None:
        await self.close()
