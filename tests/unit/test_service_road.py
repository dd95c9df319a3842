"""Roads between two accounts: which transport, what takes its place, and another one later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import data_channel, ibb, ice, s5b
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.data_channel import SCTP_NS
from telepathy_e2e.jingle.stanzas import JINGLE_NS, Content
from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.media import data_road, inside_aioice
from telepathy_e2e.media.data_stream import DataStream, closing
from telepathy_e2e.net import socks5
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service import road as roads
from telepathy_e2e.service import road_ice
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.road import MAX_OFFERS, Road
from telepathy_e2e.service.road_attempt import NoWay
from telepathy_e2e.service.road_socks5 import Socks5Attempt
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.xmpp.client import StanzaError
from telepathy_e2e.xtls.identity import Credentials
from telepathy_e2e.xtls.offer import Fingerprint, digest
from tests.support.media import make_credentials

from .service_support import Side, jingle_of, turns, two_sides, until, within

ALL = frozenset({"direct", "proxy", "ice", "in-band"})
LISTS_ALL = frozenset({s5b.S5B_NS, ice.ICE_NS, SCTP_NS, ibb.TRANSPORT_NS})
CREDENTIALS = {"initiator": make_credentials(), "responder": make_credentials()}
DESCRIPTION = "{urn:example:bytes}description"


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inside_aioice.LOOPBACK_VARIABLE, "1")
    monkeypatch.setattr(roads, "RENEWAL_PATIENCE", 0.05)


class Agreed:
    """``road_attempt.Protection``: both have certificates."""

    def __init__(self, role: str) -> None:
        self.credentials: Credentials | None = CREDENTIALS[role]
        other = CREDENTIALS["responder" if role == "initiator" else "initiator"]
        print_ = Fingerprint("sha-256", digest("sha-256", other.leaf))
        # The initiator hears of it with the answer.
        self.peer_fingerprints_offered = () if role == "initiator" else (print_,)
        self.announced = (print_,)


class End:
    """What stands behind the session on one side."""

    def __init__(self, side: Side, link: Link, renewable: bool, protected: bool) -> None:
        self.side = side
        self.link = link
        link.application = self
        self.security = Agreed(str(link.role)) if protected else None
        self.road = Road(side.account, link, self.security, renewable=renewable, features=LISTS_ALL)
        self.over: list[object] = []
        self.accepted = asyncio.Event()
        self.streams: list[Stream] = []

    def session_event(self, event: jingle.Event) -> None:
        match event:
            case jingle.Accepted(content):
                if self.security is not None:
                    self.security.peer_fingerprints_offered = self.security.announced
                self.road.answered(content.transport)
                self.accepted.set()
            case jingle.Terminated(reason):
                self.over.append(reason)
            case _:
                self.road.session_event(event)

    def peer_offline(self) -> None:
        self.over.append("offline")

    def session_lost(self, error: object) -> None:
        self.over.append(error)

    def content(self, transport: Element) -> Content:
        return Content(
            "initiator", "it", "both", description=Element(DESCRIPTION), transport=transport
        )

    async def connect(self) -> Stream:
        stream = await self.road.connect()
        self.streams.append(stream)
        return stream

    @property
    def transports(self) -> list[str]:
        """Of all that this side has offered and accepted, in order."""
        found = []
        for who, stanza in self.side.server.carried:
            element = jingle_of(stanza)
            if who != self.link.own or element is None:
                continue
            for transport in element.findall(f"{{{JINGLE_NS}}}content/*"):
                if transport.tag.endswith("}transport") and "info" not in element.get("action", ""):
                    found.append(NAMES[transport.tag])
        return found


NAMES = {s5b.TRANSPORT: "socks5", ibb.TRANSPORT: "in-band", data_channel.TRANSPORT: "ice"}


@dataclass
class Ends:
    alice: End
    bob: End

    async def connect(self) -> tuple[Stream, Stream]:
        return tuple(await within(asyncio.gather(self.alice.connect(), self.bob.connect())))

    async def carry(self, one: Stream, other: Stream) -> None:
        """Both ways, what is written here is read there."""
        for writer, reader in ((one, other), (other, one)):
            await within(writer.write(b"hello"))
            got = b""
            while len(got) < 5:
                got += await within(reader.read(5))
            assert got == b"hello"


@asynccontextmanager
async def session(
    alice_roads: frozenset[str] = ALL,
    bob_roads: frozenset[str] = ALL,
    *,
    renewable: bool = False,
    protected: bool = True,
) -> AsyncIterator[Ends]:
    """An accepted session, before anybody connects."""
    async with two_sides() as (alice, bob):
        alice.roads, bob.roads = alice_roads, bob_roads
        there: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def offered(link: Link, content: Content) -> None:
            end = End(bob, link, renewable, protected)
            end.road.offered(content.transport)
            there.set_result(end)

        bob.files.offered = offered  # type: ignore[method-assign]
        ours = End(alice, alice.hub.open(bob.client.jid), renewable, protected)
        await ours.link.send(ours.link.session.initiate(ours.content(await ours.road.offer())))
        theirs = await within(there)
        answer = theirs.content(await theirs.road.answer())
        theirs.link.post(theirs.link.session.accept(answer))
        await within(ours.accepted.wait())
        ends = Ends(ours, theirs)
        try:
            yield ends
        finally:
            for end in (ours, theirs):
                end.road.close()
                for stream in end.streams:
                    stream.abort()
                end.link.end()
            await turns()
            await alice.tasks.wait()
            await bob.tasks.wait()
            await within(closing.wait())
            assert not alice.inband._streams
            assert not alice.listener._expected
            assert not bob.listener._expected


async def no_socks5(*_: object, **__: object) -> Any:
    raise StreamBroken("a firewall")


# -- one road ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (ALL, ["socks5"]),
        (frozenset({"direct"}), ["socks5"]),
        (frozenset({"ice"}), ["ice"]),
        (frozenset({"ice", "in-band"}), ["ice"]),
        (frozenset({"in-band"}), ["in-band"]),
    ],
    ids=lambda each: "+".join(sorted(each)),
)
async def test_the_first_that_is_allowed_is_offered_and_works(
    allowed: frozenset[str], expected: list[str]
) -> None:
    async with session(allowed, allowed) as ends:
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ends.bob.transports == expected


async def test_without_protection_there_is_no_data_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socks5, "connect", no_socks5)
    async with session(protected=False) as ends:
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ["socks5", "in-band"]


async def test_a_peer_that_agrees_on_no_protection_gets_another_transport_than_was_offered() -> (
    None
):
    """The initiator's data channel is nothing without it, and in-band needs none."""
    allowed = frozenset({"ice", "in-band"})
    async with session(allowed, allowed) as ends:
        assert ends.alice.security is not None
        ends.alice.security.peer_fingerprints_offered = ()
        ends.alice.road._attempt.close()  # type: ignore[union-attr]
        ends.alice.road._attempt = None
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ["ice", "in-band"]


# -- one after the other ----------------------------------------------------------------------


async def test_a_data_channel_takes_the_place_of_socks5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks5, "connect", no_socks5)
    async with session() as ends:
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ends.bob.transports == ["socks5", "ice"]
        # And is begun with next time, on this network.
        assert ends.alice.road._order()[0] == "ice"


async def test_in_band_takes_the_place_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    from telepathy_e2e.media.data_road import DataRoad

    monkeypatch.setattr(socks5, "connect", no_socks5)
    monkeypatch.setattr(DataRoad, "connect", no_socks5)
    async with session() as ends:
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ends.bob.transports == ["socks5", "ice", "in-band"]


async def test_what_the_peer_refuses_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socks5, "connect", no_socks5)
    async with session(ALL, frozenset({"direct", "in-band"})) as ends:
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ["socks5", "ice", "in-band"]
        actions = ends.bob.side.server.actions(ends.bob.link.own)
        assert "transport-reject" in actions


async def test_in_band_that_the_user_does_not_allow_is_not_taken_when_it_is_offered_first() -> None:
    only = frozenset({"direct", "ice"})
    async with session(only, only) as ends:
        road = Road(ends.bob.side.account, ends.bob.link)
        with pytest.raises(NoRoad):
            road.offered(ibb.build_transport(ibb.InBandOffer("x", 4096)))
        road.close()


async def test_in_band_that_the_user_does_not_allow_is_not_taken_before_the_answer() -> None:
    async with two_sides() as (alice, bob):
        alice.roads, bob.roads = ALL, frozenset({"direct"})
        there: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def offered(link: Link, content: Content) -> None:
            end = End(bob, link, False, False)
            end.road.offered(content.transport)
            there.set_result(end)

        bob.files.offered = offered  # type: ignore[method-assign]
        ours = End(alice, alice.hub.open(bob.client.jid), False, False)
        session = ours.link.session
        await ours.link.send(session.initiate(ours.content(await ours.road.offer())))
        theirs = await within(there)
        offer = ibb.InBandOffer("instead", 4096)
        await ours.link.send(session.transport_replace(ibb.build_transport(offer)))
        await until(lambda: session.transport_state == "agreed")
        assert "transport-reject" in alice.server.actions(theirs.link.own)
        # What was offered first still holds.
        answer = theirs.content(await theirs.road.answer())
        theirs.link.post(theirs.link.session.accept(answer))
        await within(ours.accepted.wait())
        ends = Ends(ours, theirs)
        await ends.carry(*await ends.connect())
        assert "transport-accept" not in alice.server.actions(theirs.link.own)
        for end in (ours, theirs):
            end.road.close()
            for stream in end.streams:
                stream.abort()
            end.link.end()
        await alice.tasks.wait()
        await bob.tasks.wait()


async def test_in_band_that_the_user_does_not_allow_takes_no_ones_place() -> None:
    async with session(ALL, frozenset({"direct", "ice"}), renewable=True) as ends:
        await ends.connect()
        ends.alice.road._lose()
        assert not await within(ends.alice.road._replace(Way.IN_BAND))
        assert "transport-reject" in ends.bob.side.server.actions(ends.bob.link.own)
        assert not ends.bob.side.account.inband._streams


async def test_when_nothing_works_both_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks5, "connect", no_socks5)
    monkeypatch.setattr(roads, "REPLACE_TIMEOUT", 0.2)
    only = frozenset({"direct"})
    async with session(only, only) as ends:
        results = await within(
            asyncio.gather(ends.alice.connect(), ends.bob.connect(), return_exceptions=True)
        )
        assert all(isinstance(each, NoRoad) for each in results)


# -- attacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["initiator", "responder"])
async def test_another_fingerprint_in_the_transport_ends_it(victim: str) -> None:
    """A server that puts its own certificate where the data channel's is announced."""
    mallory = make_credentials()

    def attack(sender: str, element: Element) -> Element:
        ours = sender.startswith("alice") == (victim == "responder")
        for print_ in element.iter(ice.FINGERPRINT) if ours else ():
            print_.text = digest("sha-256", mallory.leaf).hex(":").upper()
        return element

    only = frozenset({"ice"})
    async with two_sides() as (alice, bob):
        alice.roads = bob.roads = only
        alice.server.attack = attack
        there: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def offered(link: Link, content: Content) -> None:
            end = End(bob, link, False, True)
            end.road.offered(content.transport)
            there.set_result(end)

        bob.files.offered = offered  # type: ignore[method-assign]
        ours = End(alice, alice.hub.open(bob.client.jid), False, True)
        await ours.link.send(ours.link.session.initiate(ours.content(await ours.road.offer())))
        theirs = await within(there)
        if victim == "responder":
            with pytest.raises(SecurityFailed):
                await theirs.road.answer()
        else:
            answer = theirs.content(await theirs.road.answer())
            theirs.link.post(theirs.link.session.accept(answer))
            await within(ours.accepted.wait())
            with pytest.raises(SecurityFailed):
                await within(ours.road.connect())
        for end in (ours, theirs):
            end.road.close()
            end.link.end()
        await alice.tasks.wait()
        await bob.tasks.wait()
        await closing.wait()


@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_another_certificate_in_the_handshake_ends_it(victim: str) -> None:
    """It is that of the transport, and not that of the session."""
    only = frozenset({"ice"})
    async with session(only, only) as ends:
        end = getattr(ends, victim)
        assert end.security is not None
        end.security.peer_fingerprints_offered = (Fingerprint("sha-512", bytes(64)),)
        other = ends.bob if end is ends.alice else ends.alice
        waiting = asyncio.create_task(other.connect())
        with pytest.raises(SecurityFailed):
            await within(end.connect())
        waiting.cancel()
        await asyncio.wait([waiting])


@pytest.mark.parametrize("where", ["ice", "dtls", "sctp"])
async def test_a_peer_that_never_completes_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from telepathy_e2e.media.data_stream import DataStream
    from telepathy_e2e.media.inside_aiortc import DataTransport
    from telepathy_e2e.media.road import Road as MediaRoad
    from telepathy_e2e.service import road_ice

    monkeypatch.setattr(road_ice, "ICE_TIMEOUT", 0.5)
    monkeypatch.setattr(road_ice, "CHANNEL_TIMEOUT", 0.5)

    async def never(*_: object) -> None:
        await asyncio.get_running_loop().create_future()

    # Bob does not control ICE, and is the client of DTLS.
    if where == "ice":
        begin = MediaRoad._begin
        monkeypatch.setattr(
            MediaRoad, "_begin", lambda road: begin(road) if road._controlling else None
        )
    elif where == "dtls":
        handshake = DataTransport.handshake
        monkeypatch.setattr(
            DataTransport,
            "handshake",
            lambda dtls, role: handshake(dtls, role) if role == "server" else never(),
        )
    else:
        open_ = DataStream.open
        monkeypatch.setattr(
            DataStream, "open", lambda it: open_(it) if it._sctp._opens else never()
        )
    allowed = frozenset({"ice", "in-band"})
    async with session(allowed, allowed) as ends:
        await ends.carry(*await ends.connect())
        assert ends.alice.transports == ["ice", "in-band"]


async def test_a_road_that_is_up_is_not_replaced_where_it_cannot_be_renewed() -> None:
    async with session() as ends:
        streams = await ends.connect()
        replace = ends.alice.link.session.transport_replace(
            ibb.build_transport(ibb.InBandOffer("x", 4096))
        )
        await ends.alice.link.send(replace)
        await until(lambda: "transport-reject" in ends.bob.side.server.actions(ends.bob.link.own))
        await ends.carry(*streams)


async def test_news_of_a_former_transport_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with session(renewable=True) as ends:
        streams = await ends.connect()
        streams[0].abort()
        await within(_broken(streams[1]))
        streams = await ends.connect()
        late = Element(s5b.TRANSPORT, {"sid": "former"})
        late.append(Element(f"{{{s5b.S5B_NS}}}candidate-error"))
        for end in (ends.alice, ends.bob):
            await end.link.send(end.link.session.transport_info(late))
        await ends.carry(*streams)


@pytest.mark.parametrize("transport", [Element("{urn:x}transport"), Element(ibb.TRANSPORT)])
async def test_what_is_malformed_or_unknown_leaves_the_session_as_it_was(
    transport: Element,
) -> None:
    async with session(renewable=True) as ends:
        streams = await ends.connect()
        with contextlib.suppress(StanzaError):
            await ends.alice.link.send(ends.alice.link.session.transport_replace(transport))
        await until(lambda: ends.alice.link.session.transport_state == "agreed")
        await ends.carry(*streams)
        # Another one can still be agreed on.
        streams[1].abort()
        await ends.carry(*await ends.connect())


async def test_a_peer_that_offers_one_transport_after_the_other_is_bounded() -> None:
    async with session(renewable=True) as ends:
        await ends.connect()
        ends.alice.session_event = lambda event: None  # type: ignore[method-assign]
        hub = ends.alice.side.account.inband
        before = ends.bob.road._all_offers
        for number in range(MAX_OFFERS + 5):
            offer = ibb.InBandOffer(f"flood{number}", 4096)
            stream = hub.stream(ends.alice.link.peer, offer)
            try:
                replace = ends.alice.link.session.transport_replace(ibb.build_transport(offer))
            except NotAvailable:
                stream.let_go()
                await until(lambda: ends.alice.link.session.transport_state == "agreed")
                continue
            await ends.alice.link.send(replace)
            await until(lambda: ends.alice.link.session.transport_state == "agreed")
            stream.let_go()
        assert ends.bob.road._all_offers - before >= MAX_OFFERS
        actions = ends.bob.side.server.actions(ends.bob.link.own)
        assert actions.count("transport-accept") <= MAX_OFFERS
        assert "transport-reject" in actions


# -- another road later -----------------------------------------------------------------------


async def _broken(stream: Stream) -> None:
    """Nothing comes from it any more."""
    try:
        while await stream.read(1024):
            pass
    except StreamBroken:
        return


@pytest.mark.parametrize("allowed", [ALL, frozenset({"ice"}), frozenset({"in-band"})])
@pytest.mark.parametrize("first", ["alice", "bob", "both"])
async def test_a_road_is_renewed_as_often_as_it_breaks(allowed: frozenset[str], first: str) -> None:
    async with session(allowed, allowed, renewable=True) as ends:
        streams = await ends.connect()
        for _ in range(3):
            await ends.carry(*streams)
            match first:
                case "both":
                    for stream in streams:
                        stream.abort()
                    again = await ends.connect()
                case _:
                    # One side has lost the road, and the other hears of that.
                    early, late = (
                        (ends.alice, ends.bob) if first == "alice" else (ends.bob, ends.alice)
                    )
                    there = streams[1] if first == "alice" else streams[0]
                    connecting = asyncio.create_task(early.connect())
                    await within(_broken(there))
                    again_late = await within(late.connect())
                    again_early = await within(connecting)
                    again = (
                        (again_early, again_late) if first == "alice" else (again_late, again_early)
                    )
            for stream in streams:
                with pytest.raises(StreamBroken):
                    await stream.write(b"x" * 100_000)
            streams = again
        await ends.carry(*streams)
        assert not ends.alice.over
        assert not ends.bob.over


@pytest.mark.parametrize("renewable", [True, False])
async def test_a_data_channel_is_given_up_sooner_where_both_have_agreed_on_another_then(
    renewable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with files, whose answer says so when the first data channel has been offered."""
    only = frozenset({"ice"})
    told: list[float | None] = []
    connect = data_road.DataRoad.connect

    async def watched(self: data_road.DataRoad, *args: Any) -> DataStream:
        told.append(args[4])
        return await connect(self, *args)

    monkeypatch.setattr(data_road.DataRoad, "connect", watched)
    async with session(only, only) as ends:
        ends.alice.road.renewable = ends.bob.road.renewable = renewable
        await ends.carry(*await ends.connect())
    assert told == [roads.RENEWABLE_SILENCE if renewable else None] * 2


async def test_offers_that_cross_end_in_one_road(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roads, "RENEWAL_PATIENCE", 0.0)
    async with session(renewable=True) as ends:
        streams = await ends.connect()
        for _ in range(5):
            for stream in streams:
                stream.abort()
            streams = await ends.connect()
            await ends.carry(*streams)
        generations = {each.link.session.transport_generation for each in (ends.alice, ends.bob)}
        assert len(generations) == 1


async def test_a_session_may_live_longer_than_its_certificates() -> None:
    only = frozenset({"ice"})
    async with session(only, only, renewable=True) as ends:
        streams = await ends.connect()
        for end in (ends.alice, ends.bob):
            # As if both had begun before the certificates that they have were good.
            assert end.road._wall() == end.road._began
        ends.alice.road._began = datetime(2020, 1, 1, tzinfo=UTC)
        for stream in streams:
            stream.abort()
        waiting = asyncio.create_task(ends.bob.connect())
        with pytest.raises(SecurityFailed):  # it is this time that counts
            await within(ends.alice.connect())
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_who_knows_nothing_of_the_other_offers_what_was_offered() -> None:
    only = frozenset({"ice"})
    async with session(only, only, renewable=True) as ends:
        streams = await ends.connect()
        ends.bob.road.features = None
        ends.bob.side.client.online.clear()
        streams[1].abort()
        connecting = asyncio.create_task(ends.bob.connect())
        await within(_broken(streams[0]))
        stream = await within(ends.alice.connect())
        await ends.carry(stream, await within(connecting))


async def test_who_has_nothing_to_offer_waits_for_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only = frozenset({"ice"})
    async with session(only, only, renewable=True) as ends:
        streams = await ends.connect()
        monkeypatch.setattr(ends.bob.road, "_order", lambda: ())
        for stream in streams:
            stream.abort()
        connecting = asyncio.create_task(ends.bob.connect())
        await asyncio.sleep(0.2)
        assert not connecting.done()
        stream = await within(ends.alice.connect())
        await ends.carry(stream, await within(connecting))


async def test_a_renewed_road_falls_back_as_the_first_did(monkeypatch: pytest.MonkeyPatch) -> None:
    async with session(renewable=True) as ends:
        streams = await ends.connect()
        assert ends.alice.transports == ["socks5"]
        monkeypatch.setattr(socks5, "connect", no_socks5)
        for stream in streams:
            stream.abort()
        await ends.carry(*await ends.connect())
        assert ends.alice.transports[-1] == "ice"


async def test_a_peer_that_refuses_another_road_is_told_of_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with session(renewable=True) as ends:
        streams = await ends.connect()
        ends.bob.road.renewable = False
        streams[0].abort()
        with pytest.raises(NoRoad):
            await within(ends.alice.connect())


async def test_a_peer_that_answers_with_errors_is_told_of_none() -> None:
    async with session(renewable=True) as ends:
        await ends.connect()

        def refuse(event: jingle.Event) -> None:
            if isinstance(event, jingle.TransportReplaceOffered):
                raise PeerError("what is this", "feature-not-implemented")

        ends.bob.session_event = refuse  # type: ignore[method-assign]
        with pytest.raises(NoRoad):
            await within(ends.alice.connect())


async def test_a_transport_that_is_offered_while_the_answer_is_made_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The answer to a data channel takes as long as a server takes to say where its relays are.
    before = road_ice.IceAttempt.answer
    only = frozenset({"ice", "in-band"})

    async def answer(attempt: road_ice.IceAttempt, transport: Element) -> Element:
        offer = ibb.InBandOffer("meanwhile", 4096)
        (alice,) = (each for each in links if each.own == attempt._link.peer)
        await alice.send(alice.session.transport_replace(ibb.build_transport(offer)))
        await until(lambda: alice.session.transport_state == "agreed")
        return await before(attempt, transport)

    links: list[Link] = []
    made = End.__init__

    def remember(end: End, *args: Any) -> None:
        made(end, *args)
        links.append(end.link)

    monkeypatch.setattr(End, "__init__", remember)
    monkeypatch.setattr(road_ice.IceAttempt, "answer", answer)
    async with session(only, only) as ends:
        assert not ends.bob.side.account.inband._streams
        await ends.carry(*await ends.connect())
        assert ends.bob.link.session.transport_generation == 0


@pytest.mark.parametrize("state", ["first", "later"])
async def test_a_socks5_session_that_has_the_name_of_another_is_refused(state: str) -> None:
    only = frozenset({"direct"})
    async with session(only, only, renewable=True) as ends:
        taken = s5b.dstaddr("again", ends.bob.link.own, ends.bob.link.peer)
        with ends.bob.side.account.listener.register(taken):
            transport = Element(s5b.TRANSPORT, sid="again")
            if state == "first":
                late = Road(ends.bob.side.account, ends.bob.link)
                late.offered(transport)
                with pytest.raises((PeerError, NoRoad)):
                    await late.answer()
                late.close()
            else:
                await ends.connect()
                await ends.alice.link.send(ends.alice.link.session.transport_replace(transport))
                await until(lambda: ends.alice.link.session.transport_state == "agreed")
                assert ends.bob.road._taking is None


async def test_who_cannot_take_what_is_offered_offers_something_himself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only = frozenset({"direct", "in-band"})
    async with session(only, only, renewable=True) as ends:
        streams = await ends.connect()
        failing = asyncio.Event()

        async def slow(attempt: Socks5Attempt, transport: Element) -> Element:
            await failing.wait()
            raise NoWay("not here")

        # Bob has nothing else to offer.
        bobs = ends.bob.road
        monkeypatch.setattr(bobs, "_order", lambda: tuple({Way.SOCKS5} - bobs._failed))
        with monkeypatch.context() as patched:
            patched.setattr(Socks5Attempt, "answer", slow)
            streams[1].abort()
            bob = asyncio.create_task(ends.bob.connect())
            await until(lambda: ends.alice.road._taking is not None)
            alice = asyncio.create_task(ends.alice.connect())
            await turns()
            failing.set()
            await until(lambda: ends.alice.road._taking is None)
        await ends.carry(await within(alice), await within(bob))
