"""A server that stands on the SOCKS5 path: every candidate that passes becomes its own.

Both clients connect to it and believe that they reached one another. What the subclasses do with
the two connections is their business; ``Tap`` only listens.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import hashlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from tests.hostile import stanzas
from tests.hostile.server import Attack, HostileServer
from tests.hostile.stanzas import S5B

# XEP-0260 section 2.2: 2^16 times the type's preference, 126 for direct.
PRIORITY = 126 * 65536
CHUNK = 64 * 1024


@dataclass
class Connection:
    """One client's TCP connection, past the SOCKS5 handshake."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False

    async def read(self) -> bytes:
        try:
            data = await self.reader.read(CHUNK)
        except ConnectionError:
            return b""
        self.received += data
        return data

    async def write(self, data: bytes) -> None:
        """Nothing happens after ``write_eof``, or when the client is gone."""
        if not data or self.ended:
            return
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def write_eof(self) -> None:
        if self.ended or self.writer.is_closing():
            return
        self.ended = True
        try:
            self.writer.write_eof()
        except OSError:
            pass  # the client is gone

    def close(self) -> None:
        self.writer.close()


@dataclass
class Session:
    """One Jingle session as the server sees it; contents as sent and as delivered."""

    sid: str
    initiator: str
    responder: str
    offer_sent: Element
    offer_delivered: Element | None = None
    answer_sent: Element | None = None
    answer_delivered: Element | None = None
    connections: dict[str, Connection] = field(default_factory=dict)
    """By role: the connection that this side made."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """``between`` has returned."""


class OnThePath(Attack):
    """Leads both sides' connections here; see ``between``."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self._by_address: dict[str, Session] = {}
        self._listeners: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for subclasses ---------------------------------------------------------------------

    def offer(self, session: Session, content: Element) -> None:
        """Change the offer; its transport is changed already."""

    def answer(self, session: Session, content: Element) -> None:
        """Change the answer."""

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        """Both are connected."""
        raise NotImplementedError

    # -- life -------------------------------------------------------------------------------

    async def start(self, server: HostileServer) -> None:
        await super().start(server)
        # Who connects to "initiator" is the initiator.
        for role in ("initiator", "responder"):
            self._listeners[role] = await asyncio.start_server(
                functools.partial(self._accepted, role),
                "127.0.0.1",
                0,
            )

    async def stop(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        for session in self.sessions.values():
            for connection in session.connections.values():
                connection.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it as a task; what it raises is told by the server's ``stop``."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.server.problems.append(problem)

    # -- signalling -------------------------------------------------------------------------

    def stanza(self, element: Element) -> list[Element]:
        found = stanzas.jingle(element)
        if found is None:
            return [element]
        content = stanzas.content(element)
        sid = found.get("sid", "")
        action = found.get("action")
        if action == "session-initiate" and content is not None:
            if stanzas.is_xml_stream(content):
                return []
            session = Session(
                sid, element.get("from", ""), element.get("to", ""), copy.deepcopy(content)
            )
            self.sessions[sid] = session
            self._know(session, content)
            self._divert(content, "responder", session.initiator)
            self.offer(session, content)
            session.offer_delivered = copy.deepcopy(content)
        elif action == "session-accept" and content is not None and sid in self.sessions:
            session = self.sessions[sid]
            session.answer_sent = copy.deepcopy(content)
            self._know(session, content)
            self._divert(content, "initiator", session.responder)
            self.answer(session, content)
            session.answer_delivered = copy.deepcopy(content)
        elif action == "transport-info":
            self._each_its_own(found)
        return [element]

    def _know(self, session: Session, content: Element) -> None:
        """Which addresses (XEP-0065 section 5.3.2) belong to the session, in either order."""
        transport = content.find(f"{{{S5B}}}transport")
        if transport is None:
            return
        sid = transport.get("sid", "")
        for names in (
            (session.initiator, session.responder),
            (session.responder, session.initiator),
        ):
            text = sid + "".join(names)
            address = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - the standard's
            self._by_address[address] = session

    def _divert(self, content: Element, role: str, owner: str) -> None:
        """The only candidate is ours; ``role`` is who will connect to it."""
        transport = content.find(f"{{{S5B}}}transport")
        if transport is None:
            return
        for candidate in transport.findall(f"{{{S5B}}}candidate"):
            transport.remove(candidate)
        host, port = self._listeners[role].sockets[0].getsockname()[:2]
        SubElement(
            transport,
            f"{{{S5B}}}candidate",
            {
                "cid": f"for-{role}",
                "host": host,
                "port": str(port),
                "jid": owner,
                "priority": str(PRIORITY),
                "type": "direct",
            },
        )

    @staticmethod
    def _each_its_own(found: Element) -> None:
        """ "I use yours" is told as "I can reach none of yours": so each side keeps its own
        connection, the one that leads here."""
        for transport in found.iter(f"{{{S5B}}}transport"):
            for used in transport.findall(f"{{{S5B}}}candidate-used"):
                transport.remove(used)
                SubElement(transport, f"{{{S5B}}}candidate-error")

    # -- SOCKS5 -----------------------------------------------------------------------------

    def _accepted(
        self, role: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.run(self._socks5(role, reader, writer))

    async def _socks5(
        self, role: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            version, count = await reader.readexactly(2)
            assert version == 5
            await reader.readexactly(count)
            writer.write(b"\x05\x00")
            *_, length = await reader.readexactly(5)
            rest = await reader.readexactly(length + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the session ended meanwhile, for what was found out
            return
        session = self._by_address[rest[:-2].decode()]
        writer.write(b"\x05\x00\x00\x03" + bytes([length]) + rest)
        session.connections[role] = Connection(reader, writer)
        if len(session.connections) < 2:
            return
        initiator, responder = session.connections["initiator"], session.connections["responder"]
        try:
            await self.between(session, initiator, responder)
        finally:
            initiator.close()
            responder.close()
            session.ended.set()


class Tap(OnThePath):
    """Listens: ``heard`` is all that either side sent, in the first session."""

    @property
    def session(self) -> Session:
        return next(iter(self.sessions.values()))

    @property
    def heard(self) -> bytes:
        return b"".join(bytes(each.received) for each in self.session.connections.values())

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        await asyncio.gather(self.pump(initiator, responder), self.pump(responder, initiator))

    async def pump(self, source: Connection, sink: Connection) -> None:
        while data := await source.read():
            await sink.write(data)
        await sink.write_eof()


class CutStream(Tap):
    """Ends both connections after so many bytes of the initiator's have passed."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.cut = False

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        back = asyncio.create_task(self.pump(responder, initiator))
        left = self.after
        while left and (data := await initiator.read()):
            await responder.write(data[:left])
            left -= len(data[:left])
        self.cut = True
        back.cancel()
        await asyncio.wait([back])


class HalfCutStream(Tap):
    """The initiator's direction ends after so many bytes as if it had said all; back it goes on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        await asyncio.gather(self._some(initiator, responder), self.pump(responder, initiator))

    async def _some(self, source: Connection, sink: Connection) -> None:
        left = self.after
        while left and (data := await source.read()):
            await sink.write(data[:left])
            left -= len(data[:left])
        await sink.write_eof()
        while await source.read():
            pass


class FlipBit(Tap):
    """One bit of the initiator's bytes is another, after so many."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.flipped = False

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        await asyncio.gather(self._flip(initiator, responder), self.pump(responder, initiator))

    async def _flip(self, source: Connection, sink: Connection) -> None:
        passed = 0
        while data := await source.read():
            if not self.flipped and passed + len(data) > self.after:
                changed = bytearray(data)
                changed[self.after - passed] ^= 1
                data = bytes(changed)
                self.flipped = True
            passed += len(data)
            await sink.write(data)
        await sink.write_eof()


class WithoutCloseNotify(Tap):
    """All that the initiator sends arrives, but for the record that says that it was all.

    By its length: header (5), alert (2), type (1), tag (16); RFC 8446 section 5.2. No payload of
    two bytes may be sent meanwhile.
    """

    CLOSE_NOTIFY = 19

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        await asyncio.gather(self._records(initiator, responder), self.pump(responder, initiator))

    async def _records(self, source: Connection, sink: Connection) -> None:
        try:
            while True:
                header = await source.reader.readexactly(5)
                body = await source.reader.readexactly(int.from_bytes(header[3:], "big"))
                if len(body) == self.CLOSE_NOTIFY and header[0] == 23:
                    self.dropped += 1
                else:
                    await sink.write(header + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            await sink.write_eof()
