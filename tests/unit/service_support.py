"""Two accounts of the service layer, a server between them that a test can bend, and streams."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from xml.etree.ElementTree import Element, fromstring, tostring

from telepathy_e2e.jingle import files as jingle_files
from telepathy_e2e.jingle.stanzas import JINGLE_NS, Content
from telepathy_e2e.net.listener import Listener
from telepathy_e2e.net.streams import SocketStream, Stream, StreamBroken
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.attestations import Attestations
from telepathy_e2e.service.capabilities import FILE_TRANSFER_FEATURE, XTLS_FEATURE
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import ChannelEvent, ConnectionEvent, Emitter
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.file_channel import FileChannel
from telepathy_e2e.service.file_details import FileDetails
from telepathy_e2e.service.file_transfers import FileTransfers
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.inband import InBandHub
from telepathy_e2e.service.outgoing_file import OutgoingFile
from telepathy_e2e.service.peers import find_peer
from telepathy_e2e.service.road_memory import RoadMemory
from telepathy_e2e.service.security import Security
from telepathy_e2e.service.sessions import Link, SessionHub
from telepathy_e2e.service.verification import CertificateRequest, PeerVerification
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Demands, Policy
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xmpp.iq import Iqs
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.roster import Resource
from telepathy_e2e.xtls import identity

ALICE, BOB = "alice@example.test", "bob@example.test"

#: Far more than any test takes, so that it never decides one that passes.
GUARD = 60.0


async def turns(count: int = 50) -> None:
    """Let everything run that is ready to run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what follows from I/O with the kernel; the guard is for one that never comes."""
    async with asyncio.timeout(GUARD):
        while not condition():
            await asyncio.sleep(0.001)


async def within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(GUARD):
        return await work


# -- streams --------------------------------------------------------------------------------


class Pipe:
    """One end of a stream in memory.

    Attributes:
        room: cleared, ``write`` waits, as when the other side does not read.
        aborted, closed: what was done to this end.
    """

    def __init__(self) -> None:
        self.other: Pipe = self
        self.room = asyncio.Event()
        self.room.set()
        self.waits = 0
        self.aborted = self.closed = False
        self.written = bytearray()
        self._arrived = bytearray()
        self._news = asyncio.Event()
        self._eof = False
        self._broken = False

    def arrive(self, data: bytes) -> None:
        self._arrived += data
        self._news.set()

    def cut(self) -> None:
        """The other side is gone without a word more."""
        self._eof = True
        self._news.set()

    def broke(self) -> None:
        """A reset."""
        self._broken = True
        self._news.set()

    async def read(self, limit: int) -> bytes:
        while not self._arrived and not self._eof:
            if self._broken or self.aborted or self.closed:
                raise StreamBroken("the pipe broke")
            self._news.clear()
            await self._news.wait()
        data = bytes(self._arrived[:limit])
        del self._arrived[:limit]
        return data

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.waits += 1
        await self.room.wait()
        self.waits -= 1
        if self._broken or self.aborted or self.closed:
            raise StreamBroken("the pipe broke")
        self.written += data
        self.other.arrive(bytes(data))

    async def write_eof(self) -> None:
        self.other.cut()

    def close(self) -> None:
        self.closed = True
        self._news.set()
        self.other.cut()

    def abort(self) -> None:
        self.aborted = True
        self._news.set()
        self.other.broke()


def pipes() -> tuple[Pipe, Pipe]:
    one, other = Pipe(), Pipe()
    one.other, other.other = other, one
    return one, other


# -- the server -----------------------------------------------------------------------------

#: Sees each stanza (from whom, the stanza); gives what goes on, or nothing.
Attack = Callable[[str, Element], Element | None]


class Server:
    """Carries iqs between two clients in order; ``attack`` does what a bad server does."""

    def __init__(self) -> None:
        self.clients: dict[str, FakeClient] = {}
        self.carried: list[tuple[str, Element]] = []
        self.attack: Attack | None = None

    def send(self, sender: str, stanza: Element) -> None:
        element: Element | None = fromstring(tostring(stanza))  # noqa: S314 - ours
        assert element is not None
        element.set("from", sender)
        if self.attack is not None:
            element = self.attack(sender, element)
            if element is None:
                return
        self.carried.append((sender, element))
        receiver = self.clients.get(element.get("to", ""))
        if receiver is not None:
            asyncio.get_running_loop().call_soon(receiver.iqs.receive, element)

    def actions(self, sender: str) -> list[str]:
        """The Jingle actions that this full JID sent so far."""
        return [
            jingle.get("action", "")
            for who, stanza in self.carried
            if who == sender and (jingle := jingle_of(stanza)) is not None
        ]

    def reason(self, sender: str) -> str:
        """The condition with which this full JID ended a session."""
        for who, stanza in self.carried:
            jingle = jingle_of(stanza)
            if who == sender and jingle is not None:
                for child in jingle.findall(f"{{{JINGLE_NS}}}reason/*"):
                    return child.tag.rpartition("}")[2]
        return ""


def jingle_of(stanza: Element) -> Element | None:
    return stanza.find(f"{{{JINGLE_NS}}}jingle")


class FakeClient:
    """The XMPP stream: real iqs over the server in memory."""

    def __init__(self, server: Server, jid: str) -> None:
        self.jid = jid
        self.iqs = Iqs(lambda iq: server.send(jid, iq))
        self.iqs.own = jid
        self.online: dict[str, list[Resource]] = {}
        self.in_roster: dict[str, object] = {}
        server.clients[jid] = self

    def on_iq(self, tag: str, handler: Any) -> None:
        self.iqs.on(tag, handler)

    async def send_iq(
        self, to: str | None, payload: Element, type: Any = "set", timeout: float = 30
    ) -> Element | None:
        return await self.iqs.ask(to, payload, type, timeout)

    def resources(self, jid: str) -> list[Resource]:
        return self.online.get(jid, [])

    def contacts(self) -> dict[str, object]:
        return self.in_roster

    async def features_of(self, full_jid: str) -> frozenset[str]:
        del full_jid
        return frozenset()

    async def server_features(self) -> frozenset[str]:
        return frozenset()

    def proxies(self) -> list[Any]:
        return []

    async def activate_proxy(self, proxy: str, sid: str, target: str) -> None:
        raise AssertionError("there is no proxy")


# -- an account -----------------------------------------------------------------------------


class MemoryIdentities:
    """An identity that lives as long as the test."""

    def __init__(self, jid: str) -> None:
        self.key, self.certificate = identity.make_identity(jid, datetime.now(UTC))
        self.certified = 0
        self.gate: asyncio.Event | None = None

    async def identity(self, account: str) -> bytes:
        return self.certificate

    async def certify(self, account: str, public_key: bytes, wall: datetime) -> tuple[bytes, bytes]:
        if self.gate is not None:
            await self.gate.wait()
        self.certified += 1
        return identity.make_leaf(public_key, self.key, self.certificate, wall), self.certificate


_IDENTITIES: dict[str, MemoryIdentities] = {}


class Side:
    """``account.Account`` with real sessions, streams and transfers, and no connection."""

    object_path = "/c"

    def __init__(self, server: Server, jid: str, peer: str) -> None:
        self.client = FakeClient(server, jid + "/here")
        self.server = server
        self.self_id = jid
        self.handles = Handles()
        self.self_handle = self.handles.ensure(jid)
        self.peer_handle = self.handles.ensure(peer)
        self.client.in_roster[peer] = object()
        features = frozenset({FILE_TRANSFER_FEATURE, XTLS_FEATURE})
        self.client.online[peer] = [Resource(peer + "/here", features=features)]
        self.events: Emitter[ConnectionEvent] = Emitter()
        self.status = 0
        self.tasks = TaskOwner("account " + jid)
        self.identities = _IDENTITIES.setdefault(jid, MemoryIdentities(jid))
        self.policy = Policy.OPPORTUNISTIC
        self.always_verify = False
        self.hide_identity = False
        self.ask_certificate = False
        self.attestations = Attestations({})
        self.handler = False
        self.tries = ContactTries()
        self.roads = frozenset({"in-band"})
        self.road_memory = RoadMemory()
        # No other servers than these are asked for.
        self.parameters: dict[str, object] = {"account": jid, "server": "127.0.0.1"}
        self.listener = Listener()
        self.channels: dict[str, Channel] = {}
        self.announced: list[Channel] = []
        self.keys: set[str] = set()
        self.judged: list[tuple[str, bytes, bool]] = []
        self.ended: list[Channel] = []
        self._paths = 0
        self.files = FileTransfers(self.account)
        client = cast(Any, self.client)
        self.hub = SessionHub(
            client, lambda: jid + "/here", self.client.in_roster.__contains__, self._offered
        )
        self.inband = InBandHub(client)

    @property
    def account(self) -> Account:
        return cast(Account, self)

    def _offered(self, link: Link, content: Content) -> None:
        self.files.offered(link, content)

    def question_handler_announced(self) -> bool:
        return self.handler

    async def find_key(self, bare_jid: str) -> bool:
        return bare_jid in self.keys

    def key_seen(self, bare_jid: str, fingerprint: bytes = b"") -> None:
        self.keys.add(bare_jid)

    def key_judged(self, bare_jid: str, fingerprint: bytes, *, accepted: bool) -> None:
        self.judged.append((bare_jid, fingerprint, accepted))

    async def find_peer(
        self, bare_jid: str, takes: Callable[[Resource], bool], what: str
    ) -> Resource:
        return await find_peer(cast(Any, self.client), bare_jid, takes, what)

    def announce(self, channel: Channel) -> None:
        self.channels[channel.object_path] = channel
        self.announced.append(channel)

    def next_path(self, kind: str) -> str:
        self._paths += 1
        return f"{self.object_path}/{kind}{self._paths}"

    def channel_closed(self, channel: Channel) -> None:
        self.channels.pop(channel.object_path, None)
        self.files.channel_closed(channel)

    def transfer_ended(self, channel: Channel) -> None:
        self.ended.append(channel)
        self.files.transfer_ended(channel)

    # -- for tests ------------------------------------------------------------------------

    @property
    def questions(self) -> list[PeerVerification]:
        """All that were ever put."""
        return [each for each in self.announced if isinstance(each, PeerVerification)]

    @property
    def requests(self) -> list[CertificateRequest]:
        return [each for each in self.announced if isinstance(each, CertificateRequest)]

    @property
    def incoming(self) -> list[FileChannel]:
        return [each for each in self.announced if isinstance(each, FileChannel)]

    def request_file(self, content: bytes, **demands: bool) -> FileChannel:
        transfer = OutgoingFile(
            self.account,
            self.next_path("FileTransfer"),
            target_handle=self.peer_handle,
            details=FileDetails("file.bin", len(content), "application/octet-stream"),
            demands=Demands(**demands),
        )
        self.channels[transfer.object_path] = transfer
        transfer.begin()
        return transfer

    def running(self) -> list[str]:
        """Tasks that are not done, but for those that wait for a last acknowledgement."""
        return [
            task.get_name()
            for task in asyncio.all_tasks()
            if task is not asyncio.current_task() and not task.done()
        ]

    async def close(self) -> None:
        await self.tasks.close()
        await self.hub.close()
        await self.listener.close()


@asynccontextmanager
async def two_sides() -> AsyncIterator[tuple[Side, Side]]:
    """Alice and Bob, each in the other's roster and online."""
    server = Server()
    alice, bob = Side(server, ALICE, BOB), Side(server, BOB, ALICE)
    try:
        yield alice, bob
    finally:
        for side in (alice, bob):
            for channel in list(side.channels.values()):
                channel.close()
        await turns()
        await alice.close()
        await bob.close()


def watch(channel: Channel) -> list[ChannelEvent]:
    """The list that each later event of the channel is appended to."""
    seen: list[ChannelEvent] = []
    channel.events.subscribe(seen.append)
    return seen


async def connect(address: object) -> SocketStream:
    """As the local client of a transfer does; abstract or path addresses."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, cast(Any, address))
    return SocketStream(sock)


# -- security alone -------------------------------------------------------------------------


class FakePayload:
    """``security.Payload`` that writes down what it is told."""

    def __init__(self, side: Side, receives: bool) -> None:
        self.object_path = side.next_path("Payload")
        self.target_handle = side.peer_handle
        self.target_id = side.handles.inspect(side.peer_handle)
        self.receives = receives
        self.changed: list[str] = []
        self.failures: list[SecurityFailed] = []

    def security_changed(self, *changed: str) -> None:
        self.changed += changed

    def security_failed(self, failure: SecurityFailed) -> None:
        self.failures.append(failure)


class End:
    """One side's ``Security`` with its session; ``session_event`` hands it what is sealed."""

    def __init__(
        self,
        side: Side,
        link: Link,
        *,
        receives: bool,
        demands: Demands,
        renewable: bool = False,
    ) -> None:
        self.side = side
        self.link = link
        self.payload = FakePayload(side, receives)
        self.security = Security(side.account, self.payload, demands, renewable=renewable)
        self.replaced = 0
        self.lost: list[Exception] = []
        link.application = self

    def session_event(self, event: Any) -> None:
        from telepathy_e2e.jingle.session import (
            Accepted,
            SecurityInfo,
            TransportReplaced,
            TransportReplaceOffered,
        )

        match event:
            case SecurityInfo(payload):
                self.security.receive(payload)
            case Accepted(content):
                self.security.answered(content)
            case TransportReplaceOffered(transport):
                self.link.post(self.link.session.transport_accept(transport))
            case TransportReplaced():
                self.replaced += 1

    def peer_offline(self) -> None:
        pass

    def session_lost(self, error: Exception) -> None:
        self.lost.append(error)


def file_content(security: Element | None) -> Content:
    return Content(
        creator="initiator",
        name="file",
        senders="initiator",
        description=jingle_files.build(FileDetails("f", 1, "text/plain").to_offer()),
        transport=Element("{urn:xmpp:jingle:transports:ibb:1}transport", {"sid": "s"}),
        security=security,
    )


class Secured:
    """Both ends of one session whose protection was offered and answered, and a road in memory.

    Args:
        demands: of Alice, who offers and sends.
        renewable: the road may be replaced by another (``renew``).
    """

    def __init__(
        self, alice: Side, bob: Side, demands: Demands | None = None, *, renewable: bool = False
    ) -> None:
        self._renewable = renewable
        self.roads = pipes()
        self._alice, self._bob = alice, bob
        self._demands = demands or Demands()
        self.before: Callable[[End], None] | None = None  # the answer comes
        self.ends: tuple[End, End]

    async def agree(self) -> Secured:
        """Offer and answer; raises what they raise."""
        alice, bob = self._alice, self._bob
        link = alice.hub.open(bob.client.jid)
        ours = End(alice, link, receives=False, demands=self._demands, renewable=self._renewable)
        offered: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def on_offer(theirs: Link, content: Content) -> None:
            end = End(bob, theirs, receives=True, demands=Demands(), renewable=self._renewable)
            end.security.received_offer(theirs, content)
            offered.set_result(end)

        bob.hub._offered = on_offer
        element = await ours.security.offer(link, alice.client.resources(bare(bob.client.jid))[0])
        content = file_content(element)
        ours.security.offered(content)
        if self.before is not None:
            self.before(ours)
        await link.send(link.session.initiate(content))
        end = await offered
        answer = file_content(await end.security.accept())
        end.security.accepted(answer)
        await end.link.send(end.link.session.accept(answer))
        self.ends = (ours, end)
        return self

    async def renew(self) -> None:
        """The road is lost, and both sides agree on another."""
        for road in self.roads:
            road.cut()
        self.roads = pipes()
        ours = self.ends[0]
        before = ours.replaced
        transport = Element("{urn:xmpp:jingle:transports:ibb:1}transport", {"sid": "again"})
        await ours.link.send(ours.link.session.transport_replace(transport))
        await until(lambda: ours.replaced > before)

    def start(self) -> tuple[asyncio.Task[Stream], asyncio.Task[Stream]]:
        """``secure`` on both sides, as tasks."""
        loop = asyncio.get_running_loop()
        one, other = (
            loop.create_task(end.security.secure(road))
            for end, road in zip(self.ends, self.roads, strict=True)
        )
        return one, other

    async def secured(self) -> tuple[Stream, Stream]:
        one, other = self.start()
        async with asyncio.timeout(GUARD):
            return await one, await other
