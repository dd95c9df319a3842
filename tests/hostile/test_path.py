"""Relays and taps do to the path what they say; with plain sockets in place of our daemon."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.role import Role
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xtls import protection
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.conversation import Session
from telepathy_e2e.xtls.identity import Credentials, make_identity, make_leaf, new_session_key
from telepathy_e2e.xtls.offer import build_security
from telepathy_e2e.xtls.protection import Protection
from tests.hostile import relay, stanzas
from tests.hostile.path import (
    CutStream,
    FlipBit,
    HalfCutStream,
    OnThePath,
    Tap,
    WithoutCloseNotify,
)
from tests.hostile.peers import Peer
from tests.hostile.relay import (
    ManInTheMiddle,
    RelayWithoutIdentity,
    SwappedCertificate,
    parsed_content,
)
from tests.hostile.server import HostileServer
from tests.hostile.stanzas import FILES, S5B, VERIFICATION
from tests.support.prosody import available
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

WAIT = PATIENCE
FILE = bytes(range(256)) * 2000


@dataclass
class End:
    """One client: its account, its side of the session, its TLS."""

    peer: Peer
    role: Role
    bare: str
    credentials: Credentials
    own: Element
    theirs: Element | None = None
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    machine: Protection | None = None
    events: list[protection.Event] = field(default_factory=list)
    got: bytearray = field(default_factory=bytearray)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0

    def happened(self, kind: type[protection.Event]) -> protection.Event | None:
        return next((each for each in self.events if isinstance(each, kind)), None)


class Clients:
    """Alice offers Bob a file; both take the road that the stanzas show them."""

    def __init__(self, server: HostileServer, alice: Peer, bob: Peer) -> None:
        self.server = server
        self.alice = self._end(alice, Role.INITIATOR, "s5b-sid")
        self.bob = self._end(bob, Role.RESPONDER, "s5b-sid")
        self.tasks: list[asyncio.Task[None]] = []

    @staticmethod
    def _end(peer: Peer, role: Role, sid: str) -> End:
        bare = stanzas.bare(peer.jid)
        wall = datetime.now(UTC)
        identity_key, identity = make_identity(bare, wall)
        key = new_session_key()
        leaf = make_leaf(key.public_key(), identity_key, identity, wall)
        content = Element(
            f"{{{stanzas.JINGLE}}}content",
            {"creator": "initiator", "name": "file", "senders": "initiator"},
        )
        description = SubElement(content, f"{{{FILES}}}description")
        file = SubElement(description, f"{{{FILES}}}file")
        SubElement(file, f"{{{FILES}}}name").text = "a.txt"
        SubElement(file, f"{{{FILES}}}size").text = str(len(FILE))
        transport = SubElement(content, f"{{{S5B}}}transport", {"sid": sid})
        SubElement(
            transport,
            f"{{{S5B}}}candidate",
            {"cid": "own", "host": "192.0.2.1", "port": "1", "jid": peer.jid, "priority": "1"},
        )
        content.append(build_security(leaf))
        return End(peer, role, bare, Credentials(key, leaf, identity), content)

    async def signal(self) -> None:
        """Offer, answer and who used which candidate."""
        await self._send(self.alice, self.bob, "session-initiate", self.alice.own)
        await self._send(self.bob, self.alice, "session-accept", self.bob.own)

    async def _send(self, sender: End, receiver: End, action: str, child: Element) -> Element:
        iq = stanzas.jingle_set(sender.peer.jid, receiver.peer.jid, "sid", action, child)
        iq.set("id", f"{action}-{sender.role}")
        sender.peer.send(iq)
        got = await receiver.peer.receive(iq.get("id", ""))
        content = next(got.iter(child.tag))
        if action != "transport-info":
            receiver.theirs = content
        return content

    async def connect(self) -> None:
        for end, other in ((self.alice, self.bob), (self.bob, self.alice)):
            assert end.theirs is not None
            candidates = list(end.theirs.iter(f"{{{S5B}}}candidate"))
            assert len(candidates) == 1
            names = (other.peer.jid, end.peer.jid)  # the candidate is the other's
            address = hashlib.sha1("".join(("s5b-sid", *names)).encode()).hexdigest()  # noqa: S324
            host, port = candidates[0].get("host", ""), int(candidates[0].get("port", "0"))
            end.reader, end.writer = await asyncio.open_connection(host, port)
            end.writer.write(b"\x05\x01\x00")
            assert await end.reader.readexactly(2) == b"\x05\x00"
            end.writer.write(b"\x05\x01\x00\x03\x28" + address.encode() + b"\x00\x00")
            assert (await end.reader.readexactly(5 + 40 + 2))[1] == 0

    async def protect(self) -> None:
        """TLS from here on, and sealed messages over the server."""
        tries = ContactTries()
        for end in (self.alice, self.bob):
            assert end.theirs is not None
            offer = self.alice.own if end is self.alice else end.theirs
            answer = self.bob.own if end is self.bob else end.theirs
            session = Session(
                role=end.role,
                sid="sid",
                initiator=self.alice.bare,
                responder=self.bob.bare,
                credentials=end.credentials,
                offered=offer_digest([parsed_content(offer)]),
                accepted=offer_digest([parsed_content(answer)]),
                methods=("sas",),
                tries=tries.session(end.bare, "other"),
            )
            end.machine = Protection(session, relay.fingerprints(end.theirs))
            end.machine.start(time.monotonic(), datetime.now(UTC))
        for end, other in ((self.alice, self.bob), (self.bob, self.alice)):
            self.tasks.append(asyncio.create_task(self._read(end, other)))
            self.tasks.append(asyncio.create_task(self._sealed(end, other)))

    async def _read(self, end: End, other: End) -> None:
        assert end.reader is not None
        assert end.machine is not None
        self.flush(end, other)
        while data := await end.reader.read(65536):
            end.machine.receive_data(data, time.monotonic())
            self.flush(end, other)
        end.machine.receive_eof(time.monotonic())
        self.flush(end, other)

    async def _sealed(self, end: End, other: End) -> None:
        """Sealed messages, from whoever says to be the other."""
        done = 0
        while True:
            for each in end.peer.got[done:]:
                done += 1
                for sealed in each.iter(f"{{{VERIFICATION}}}sealed"):
                    assert end.machine is not None
                    end.machine.receive_sealed(sealed, time.monotonic())
                    self.flush(end, other)
            await end.peer.more(done)

    def flush(self, end: End, other: End) -> None:
        assert end.machine is not None
        assert end.writer is not None
        while data := end.machine.read():
            end.got += data
        for event in end.machine.events():
            end.events.append(event)
            if isinstance(event, protection.SendSealed):
                end.number += 1
                iq = stanzas.jingle_set(
                    end.peer.jid, other.peer.jid, "sid", "security-info", event.element
                )
                iq.set("id", f"sealed-{end.role}-{end.number}")
                end.peer.send(iq)
        if not end.writer.is_closing():
            end.writer.write(end.machine.data_to_send())
        end.news.set()

    async def wait(self, end: End, kind: type[protection.Event]) -> protection.Event:
        async with asyncio.timeout(WAIT):
            while (found := end.happened(kind)) is None:
                end.news.clear()
                await end.news.wait()
        return found

    async def got(self, end: End, count: int) -> bytes:
        async with asyncio.timeout(WAIT):
            while len(end.got) < count:
                end.news.clear()
                await end.news.wait()
        return bytes(end.got)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        for end in (self.alice, self.bob):
            if end.writer is not None:
                end.writer.close()
            await end.peer.stop()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    server = await HostileServer.start()
    alice, bob = Peer(server, "alice"), Peer(server, "bob")
    await alice.start()
    await bob.start()
    clients = Clients(server, alice, bob)
    yield clients
    await clients.stop()
    await server.stop()


async def connected(clients: Clients, attack: OnThePath) -> None:
    await clients.server.use(attack)
    await clients.signal()
    await clients.connect()


async def test_a_tap_hears_both_directions_and_changes_nothing(clients: Clients) -> None:
    tap = Tap()
    await connected(clients, tap)
    alice, bob = clients.alice, clients.bob
    assert alice.writer is not None
    assert bob.writer is not None
    assert alice.reader is not None
    assert bob.reader is not None
    alice.writer.write(b"from alice")
    alice.writer.write_eof()
    assert await bob.reader.read() == b"from alice"
    bob.writer.write(b"from bob")
    bob.writer.write_eof()
    assert await alice.reader.read() == b"from bob"
    assert set(tap.heard) == set(b"from alicefrom bob")


async def test_each_side_is_told_that_its_own_connection_counts(clients: Clients) -> None:
    await clients.server.use(Tap())
    await clients.signal()
    used = Element(f"{{{stanzas.JINGLE}}}content", {"creator": "initiator", "name": "file"})
    transport = SubElement(used, f"{{{S5B}}}transport", {"sid": "s5b-sid"})
    SubElement(transport, f"{{{S5B}}}candidate-used", {"cid": "for-initiator"})
    got = await clients._send(clients.alice, clients.bob, "transport-info", used)
    assert [each.tag for each in got[0]] == [f"{{{S5B}}}candidate-error"]


async def test_cutting_ends_both_connections(clients: Clients) -> None:
    await connected(clients, CutStream(1000))
    alice, bob = clients.alice, clients.bob
    assert alice.writer is not None
    assert alice.reader is not None
    assert bob.reader is not None
    alice.writer.write(FILE)
    assert await bob.reader.read() == FILE[:1000]
    try:
        assert await alice.reader.read() == b""
    except ConnectionError:
        pass  # reset, because not all that was sent was read


async def test_cutting_one_direction_leaves_the_other(clients: Clients) -> None:
    await connected(clients, HalfCutStream(1000))
    alice, bob = clients.alice, clients.bob
    assert alice.writer is not None
    assert bob.writer is not None
    assert alice.reader is not None
    assert bob.reader is not None
    alice.writer.write(FILE)
    assert await bob.reader.read() == FILE[:1000]
    bob.writer.write(b"still here")
    bob.writer.write_eof()
    assert await alice.reader.read() == b"still here"


async def test_one_bit_of_the_path_is_another(clients: Clients) -> None:
    await connected(clients, FlipBit(100_001))
    alice, bob = clients.alice, clients.bob
    assert alice.writer is not None
    assert bob.reader is not None
    alice.writer.write(FILE)
    alice.writer.write_eof()
    got = await bob.reader.read()
    assert [at for at in range(len(FILE)) if got[at] != FILE[at]] == [100_001]


async def test_what_says_that_it_was_all_can_be_kept_back(clients: Clients) -> None:
    attack = WithoutCloseNotify()
    await connected(clients, attack)
    await clients.protect()
    alice, bob = clients.alice, clients.bob
    for end in (alice, bob):
        await clients.wait(end, protection.Protected)
    assert alice.machine is not None
    assert alice.writer is not None
    alice.machine.write(FILE)
    alice.machine.close()
    clients.flush(alice, bob)
    alice.writer.write_eof()
    failed = await clients.wait(bob, protection.Failed)
    assert isinstance(failed, protection.Failed)
    assert failed.reason == "failed-transport"
    assert (bytes(bob.got), attack.dropped) == (FILE, 1)


async def test_a_tap_leaves_protection_whole(clients: Clients) -> None:
    tap = Tap()
    await connected(clients, tap)
    await clients.protect()
    await clients.wait(clients.alice, protection.Protected)
    await clients.wait(clients.bob, protection.Protected)
    assert clients.alice.machine is not None
    clients.alice.machine.write(FILE)
    clients.flush(clients.alice, clients.bob)
    assert await clients.got(clients.bob, len(FILE)) == FILE
    assert len(tap.heard) > len(FILE)
    assert FILE[:16] not in tap.heard


@pytest.mark.parametrize("attack", [SwappedCertificate, RelayWithoutIdentity])
async def test_half_a_relay_is_seen_by_both_and_hears_nothing(
    clients: Clients, attack: type[SwappedCertificate]
) -> None:
    spy = attack()
    await connected(clients, spy)
    await clients.protect()
    for end in (clients.alice, clients.bob):
        failed = await clients.wait(end, protection.Failed)
        assert isinstance(failed, protection.Failed)
        assert failed.reason == "security-error"
        assert end.happened(protection.Protected) is None
    assert spy.plaintext == {"initiator": b"", "responder": b""}


async def test_a_relay_that_makes_everything_fit_reads_all_and_nothing_is_noticed(
    clients: Clients,
) -> None:
    middle = ManInTheMiddle()
    await connected(clients, middle)
    await clients.protect()
    for end in (clients.alice, clients.bob):
        await clients.wait(end, protection.Protected)
    assert clients.alice.machine is not None
    clients.alice.machine.write(FILE)
    clients.alice.machine.close()
    clients.flush(clients.alice, clients.bob)
    assert await clients.got(clients.bob, len(FILE)) == FILE
    assert middle.plaintext["initiator"] == FILE
    for end in (clients.alice, clients.bob):
        assert end.happened(protection.Failed) is None


async def test_the_strings_of_two_sides_differ_with_a_relay_between_them(
    clients: Clients,
) -> None:
    middle = ManInTheMiddle()
    await connected(clients, middle)
    await clients.protect()
    alice, bob = clients.alice, clients.bob
    for end in (alice, bob):
        await clients.wait(end, protection.Protected)
    assert alice.machine is not None
    assert bob.machine is not None
    alice.machine.start_sas(time.monotonic())
    clients.flush(alice, bob)
    await clients.wait(bob, protection.PeerStarted)
    bob.machine.start_sas(time.monotonic())
    clients.flush(bob, alice)
    seen = [await clients.wait(end, protection.StringReady) for end in (alice, bob)]
    assert seen[0] != seen[1]
    async with asyncio.timeout(WAIT):
        known = await middle.compared()
    assert set(known.values()) == {
        each.text for each in seen if isinstance(each, protection.StringReady)
    }


async def test_a_relay_that_lies_in_its_commitment_gets_no_string_from_who_checks(
    clients: Clients,
) -> None:
    await connected(clients, ManInTheMiddle(lie=True))
    await clients.protect()
    alice, bob = clients.alice, clients.bob
    for end in (alice, bob):
        await clients.wait(end, protection.Protected)
    assert alice.machine is not None
    assert bob.machine is not None
    alice.machine.start_sas(time.monotonic())
    clients.flush(alice, bob)
    await clients.wait(bob, protection.PeerStarted)
    bob.machine.start_sas(time.monotonic())
    clients.flush(bob, alice)
    ended = await clients.wait(bob, protection.CeremonyEnded)
    assert isinstance(ended, protection.CeremonyEnded)
    assert (ended.outcome, ended.reason) == (protection.Outcome.FAILED, "wrong-reveal")
    assert bob.happened(protection.StringReady) is None
