"""Whole tubes between two accounts in memory: every way in which one begins and ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import (
    Disconnected,
    InvalidArgument,
    NotAvailable,
    NotCapable,
    NotImplementedByUs,
    Offline,
    Terminated,
)
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.jingle.tubes import MAX_WRITTEN, TUBES_NS, Value
from telepathy_e2e.net.streams import SocketStream
from telepathy_e2e.service import names, stream_session, stream_tube, tube_channel
from telepathy_e2e.service.capabilities import HandlerCapabilities, contact_classes, own_classes
from telepathy_e2e.service.dbus_tube import DBusTube
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.stream_tube import StreamTube
from telepathy_e2e.service.tube_channel import TubeChannel
from telepathy_e2e.service.tube_events import ConnectionClosed, TubeChannelStateChanged
from telepathy_e2e.service.tube_session import LOCAL_PENDING, NOT_OFFERED, OPEN, REMOTE_PENDING
from telepathy_e2e.service.tubes import Tubes
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.xmpp.roster import Resource
from tests.unit.net_support import descriptors
from tests.unit.service_support import (
    ALICE,
    BOB,
    Attack,
    Server,
    Side,
    connect,
    jingle_of,
    turns,
    until,
    watch,
    within,
)

UNIX, ABSTRACT = 0, 1
LOCALHOST, PORT, CREDENTIALS = 0, 1, 3
DATA = bytes(range(256)) * 400
ERROR = "org.freedesktop.Telepathy.Error."


class TubeSide(Side):
    """``service_support.Side`` with tubes."""

    def __init__(self, server: Server, jid: str, peer: str) -> None:
        super().__init__(server, jid, peer)
        self.tubes = Tubes(self.account)
        (known,) = self.client.online[peer]
        assert known.features is not None
        self.client.online[peer] = [replace(known, features=known.features | {TUBES_NS})]

    def _offered(self, link: Link, content: Content) -> None:
        assert content.description is not None
        assert self.tubes.understands(content.description)
        self.tubes.offered(link, content)

    @property
    def taken(self) -> list[TubeChannel]:
        return [each for each in self.announced if isinstance(each, TubeChannel)]

    async def request(self, channel_type: str = names.STREAM_TUBE, **more: object) -> TubeChannel:
        asked = self.asked(channel_type, **more)
        assert self.tubes.manages(asked)
        return self.made(await self.tubes.create(asked))

    def asked(self, channel_type: str, **more: object) -> ChannelRequest:
        """``more``: Service, and qualified names with underscores for dots."""
        service = "ServiceName" if channel_type == names.DBUS_TUBE else "Service"
        properties = {f"{channel_type}.{service}": more.pop("service", "rfb")}
        properties |= {names.TP + key.replace("_", "."): value for key, value in more.items()}
        return ChannelRequest(channel_type, 1, self.peer_handle, properties)

    def made(self, channel: object) -> TubeChannel:
        assert isinstance(channel, TubeChannel)
        self.channels[channel.object_path] = channel
        channel.begin()
        return channel


class Service:
    """An echo service on an abstract socket."""

    def __init__(self) -> None:
        self.name = b"\0test-" + os.urandom(8).hex().encode()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.name)
        self.sock.listen(100)
        self.tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(self._serve())]
        self.streams: list[SocketStream] = []

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self.sock.setblocking(False)
        while True:
            stream = SocketStream((await loop.sock_accept(self.sock))[0])
            self.streams.append(stream)
            self.tasks.append(asyncio.ensure_future(self._echo(stream)))

    async def _echo(self, stream: SocketStream) -> None:
        while data := await stream.read(1 << 16):
            await stream.write(data)
        await stream.write_eof()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        for stream in self.streams:
            stream.close()
        self.sock.close()


@asynccontextmanager
async def accounts(
    policy: Policy = Policy.OPPORTUNISTIC,
) -> AsyncIterator[tuple[TubeSide, TubeSide]]:
    """Alice and Bob; nothing of their tubes may be left."""
    before = descriptors()
    server = Server()
    alice, bob = TubeSide(server, ALICE, BOB), TubeSide(server, BOB, ALICE)
    alice.policy = bob.policy = policy
    try:
        yield alice, bob
        made = [each for each in (*alice.channels.values(), *bob.channels.values())]
        for channel in made:
            channel.close()
        await until(lambda: not alice.hub.links() and not bob.hub.links())
        await until(lambda: not alice.tubes._leaving and not bob.tubes._leaving)
        assert not alice.inband._streams
        assert not bob.inband._streams
    finally:
        await turns()
        await alice.close()
        await bob.close()
    assert descriptors() == before


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    running = Service()
    try:
        yield running
    finally:
        await running.close()


async def offered(
    alice: TubeSide, bob: TubeSide, running: Service, **more: object
) -> tuple[StreamTube, StreamTube]:
    mine = await alice.request(names.STREAM_TUBE, **more)
    assert isinstance(mine, StreamTube)
    await mine.offer(ABSTRACT, running.name, LOCALHOST, {"u": Value("s", "alice")})
    known = len(bob.taken)
    await until(lambda: len(bob.taken) > known or mine.closed)
    theirs = bob.taken[-1]
    assert isinstance(theirs, StreamTube)
    return mine, theirs


async def opened(
    alice: TubeSide, bob: TubeSide, running: Service, **more: object
) -> tuple[StreamTube, StreamTube, object]:
    mine, theirs = await offered(alice, bob, running, **more)
    address = await theirs.accept(ABSTRACT, LOCALHOST, None)
    await until(lambda: mine.state == OPEN and theirs.state == OPEN)
    return mine, theirs, address


async def echoed(address: object, data: bytes = DATA) -> bytes:
    client = await connect(address)
    got = bytearray()

    async def write() -> None:
        await client.write(data)
        await client.write_eof()

    writing = asyncio.ensure_future(write())
    while part := await within(client.read(1 << 16)):
        got += part
    await writing
    client.close()
    return bytes(got)


# -- the usual life ---------------------------------------------------------------------------


async def test_a_tube_is_offered_accepted_used_and_closed() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine = await alice.request(service="rfb")
        assert isinstance(mine, StreamTube)
        assert (mine.state, mine.parameters, mine.service) == (NOT_OFFERED, {}, "rfb")
        assert names.TUBE + ".Parameters" not in mine.immutable_properties()
        told = watch(mine)
        given = {"u": Value("s", "alice"), "n": Value("u", 1)}
        await mine.offer(ABSTRACT, running.name, LOCALHOST, given)
        assert (mine.state, mine.parameters) == (REMOTE_PENDING, given)
        await until(lambda: bob.taken)
        theirs = bob.taken[0]
        assert isinstance(theirs, StreamTube)
        assert (theirs.state, theirs.service) == (LOCAL_PENDING, "rfb")
        assert theirs.immutable_properties()[names.TUBE + ".Parameters"] == given
        address = await theirs.accept(ABSTRACT, LOCALHOST, None)
        assert theirs.state == LOCAL_PENDING
        await until(lambda: mine.state == theirs.state == OPEN)
        assert mine.encrypted
        assert theirs.encrypted
        assert await echoed(address) == DATA
        await until(lambda: [each for each in told if isinstance(each, ConnectionClosed)])
        mine.close()
        assert mine.closed
        assert mine.error == ERROR + "Cancelled"
        await until(lambda: theirs.closed)
        assert theirs.error == ERROR + "Terminated"
        states = [each.state for each in told if isinstance(each, TubeChannelStateChanged)]
        assert states == [REMOTE_PENDING, OPEN]
        ends = [each + "/here" for each in (ALICE, BOB)]
        await until(lambda: "success" in map(alice.server.reason, ends))


async def test_the_one_who_accepted_closes_it_with_connections_open() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, address = await opened(alice, bob, running)
        client = await connect(address)
        await client.write(b"hello")
        assert await within(client.read(5)) == b"hello"
        hers, his = watch(mine), watch(theirs)
        theirs.close()
        assert await within(client.read(5)) == b""
        client.close()
        await until(lambda: mine.closed)
        for told in (hers, his):
            (over,) = [each for each in told if isinstance(each, ConnectionClosed)]
            assert over.error == ERROR + "Cancelled"


async def test_a_tube_in_the_clear_where_policy_allows_it() -> None:
    async with accounts(Policy.OFF) as (alice, bob), service() as running:
        mine, _theirs, address = await opened(alice, bob, running)
        assert await echoed(address) == DATA
        assert not mine.encrypted


# -- offers that come to nothing --------------------------------------------------------------


async def test_an_offer_is_declined() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs = await offered(alice, bob, running)
        theirs.close()
        await until(lambda: mine.closed)
        assert mine.error == ERROR + "Terminated"
        assert alice.server.reason(BOB + "/here") == "decline"


async def test_an_offer_is_taken_back() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs = await offered(alice, bob, running)
        mine.close()
        await until(lambda: theirs.closed)
        assert theirs.error == ERROR + "Terminated"
        with pytest.raises(Terminated):
            await theirs.accept(UNIX, LOCALHOST, None)


async def test_the_contact_goes_offline_before_an_answer() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs = await offered(alice, bob, running)
        mine.peer_offline()
        assert mine.closed
        assert mine.error == ERROR + "Terminated"
        theirs.close()


async def test_presence_says_nothing_about_an_open_tube() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, _theirs, address = await opened(alice, bob, running)
        mine.peer_offline()
        assert await echoed(address) == DATA


async def test_calls_at_the_wrong_time_change_nothing() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs = await offered(alice, bob, running)
        with pytest.raises(NotAvailable):
            await mine.offer(ABSTRACT, running.name, LOCALHOST, {})
        with pytest.raises(NotAvailable):
            await mine.accept(UNIX, LOCALHOST, None)
        with pytest.raises(NotAvailable):
            await theirs.offer(ABSTRACT, running.name, LOCALHOST, {})
        with pytest.raises(NotImplementedByUs):
            await theirs.accept(UNIX, PORT, None)
        address = await theirs.accept(ABSTRACT, LOCALHOST, None)
        with pytest.raises(NotAvailable):
            await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: theirs.state == OPEN)
        assert await echoed(address) == DATA


async def test_an_offer_that_could_not_be_made_can_be_made_later() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine = await alice.request()
        assert isinstance(mine, StreamTube)
        able = alice.client.online[BOB]
        alice.client.online[BOB] = [Resource(BOB + "/here", features=frozenset())]
        with pytest.raises(NotAvailable):
            await mine.offer(ABSTRACT, running.name, LOCALHOST, {})
        alice.client.online[BOB] = []
        with pytest.raises(Offline):
            await mine.offer(ABSTRACT, running.name, LOCALHOST, {})
        alice.client.online[BOB] = able
        too_much = {"x": Value("s", "x" * (MAX_WRITTEN + 1))}
        with pytest.raises(InvalidArgument):
            await mine.offer(ABSTRACT, running.name, LOCALHOST, too_much)
        with pytest.raises(NotImplementedByUs):
            await mine.offer(ABSTRACT, running.name, PORT, {})
        assert mine.state == NOT_OFFERED
        await mine.offer(ABSTRACT, running.name, LOCALHOST, {})
        await until(lambda: bob.taken)


async def test_the_connection_goes() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, _address = await opened(alice, bob, running)
        mine.disconnected(Disconnected("gone"), stopped=False)
        assert mine.closed
        assert mine.error == ERROR + "Disconnected"
        await until(lambda: theirs.closed)


async def test_the_connection_goes_while_a_closed_tube_brings_its_last_bytes() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, _address = await opened(alice, bob, running)
        assert mine._carried
        mine.close()
        assert list(alice.tubes._leaving) == [mine]
        alice.tubes.disconnected(Disconnected("gone"), stopped=True)
        assert not alice.tubes._leaving
        await until(lambda: theirs.closed)


async def test_a_closed_tube_is_cut_off_when_its_end_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tube_channel, "LEAVE_SECONDS", 0.05)
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, _address = await opened(alice, bob, running)
        assert theirs._pump is not None
        for task in theirs._tasks._tasks:
            if task.get_name().endswith("/read"):
                task.cancel()  # Bob hears nothing any more
        mine.close()
        await until(lambda: not alice.tubes._leaving)
        await until(lambda: theirs.closed)


async def test_a_demand_that_cannot_be_met_ends_the_offer() -> None:
    async with accounts() as (alice, bob), service() as running:
        bob.policy = Policy.OFF
        more = {"Channel_Interface_EndToEndSecurity1_RequireEncrypted": True}
        mine, theirs = await offered(alice, bob, running, **more)
        assert mine.require_encrypted
        await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: mine.closed and theirs.closed)
        assert mine.error == ERROR + "EncryptionNotAvailable"


# -- the road ---------------------------------------------------------------------------------


async def test_a_tube_goes_on_over_another_road() -> None:
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, address = await opened(alice, bob, running)
        client = await connect(address)
        await client.write(b"before")
        assert await within(client.read(6)) == b"before"
        mine._carried[0].abort()
        await client.write(b"after")
        assert await within(client.read(5)) == b"after"
        client.close()
        assert mine.state == theirs.state == OPEN
        assert alice.server.actions(ALICE + "/here").count("transport-replace") == 1


@pytest.mark.parametrize("whose", ["mine", "theirs"])
async def test_a_road_that_is_lost_while_questions_are_open_is_followed_by_another(
    whose: str,
) -> None:
    async with accounts() as (alice, bob), service() as running:
        alice.handler = bob.handler = True
        mine, theirs = await offered(alice, bob, running)
        address = await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: alice.questions and bob.questions)
        first = mine._carried[0], theirs._carried[0]
        first[0 if whose == "mine" else 1].abort()
        await until(lambda: mine.closed or mine._carried[0] is not first[0])
        await until(lambda: theirs.closed or theirs._carried[0] is not first[1])
        assert OPEN not in (mine.state, theirs.state)
        for side in (alice, bob):
            (question,) = side.questions
            question.accept("fingerprint")
        await until(lambda: mine.state == theirs.state == OPEN)
        assert await echoed(address, b"hello") == b"hello"
        assert mine.verified
        assert theirs.verified


async def test_who_asks_his_people_hears_that_the_other_has_lost_the_road() -> None:
    async with accounts() as (alice, bob), service() as running:
        bob.handler = True
        mine, theirs = await offered(alice, bob, running)
        address = await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: bob.questions and mine.state == OPEN)
        await turns()  # what Alice has sent first waits, and Bob reads no more
        first = theirs._carried[0]
        mine._carried[0].abort()
        await until(lambda: theirs._carried[0] is not first or theirs.closed)
        assert theirs.state != OPEN
        (question,) = bob.questions
        question.accept("fingerprint")
        assert await echoed(address, b"hello") == b"hello"
        assert theirs.verified


async def test_roads_that_break_at_once_are_not_taken_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_session, "REASON_GRACE", 0.05)
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, _address = await opened(alice, bob, running)
        broken = []
        while not mine.closed:
            stream = mine._carried[0]
            if stream not in broken:
                broken.append(stream)
                stream.abort()
            await asyncio.sleep(0.005)
        assert len(broken) <= tube_channel.MAX_SHORT + 2
        assert mine.error == ERROR + "NetworkError"
        await until(lambda: theirs.closed)


# -- what a server may try (the rest is what files show: the protection is the same) ----------


def changing(action: str, change: Callable[[Element], None]) -> Attack:
    """Change the content of one kind of stanza on its way."""

    def attack(sender: str, stanza: Element) -> Element:
        del sender
        jingle = jingle_of(stanza)
        if jingle is not None and jingle.get("action") == action:
            change(jingle[0])
        return stanza

    return attack


def another_service(content: Element) -> None:
    content[0].set("service", "ssh")


def another_parameter(content: Element) -> None:
    for element in content[0].iter(f"{{{TUBES_NS}}}parameter"):
        element.text = "mallory"


def more_parameters(content: Element) -> None:
    container = content[0][0]
    container.append(Element(f"{{{TUBES_NS}}}parameter", {"name": "x", "type": "s"}))


def no_protection(content: Element) -> None:
    for element in content.findall("{urn:xmpp:jingle:security:xtls:0}security"):
        content.remove(element)


@pytest.mark.parametrize("change", [another_parameter, more_parameters])
async def test_an_offer_that_was_changed_on_its_way_is_found_out(
    change: Callable[[Element], None],
) -> None:
    async with accounts() as (alice, bob), service() as running:
        alice.server.attack = changing("session-initiate", change)
        mine, theirs = await offered(alice, bob, running)
        await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: mine.closed and theirs.closed)
        assert {mine.error, theirs.error} == {ERROR + "EncryptionError"}
        assert "security-error" in [alice.server.reason(f"{each}/here") for each in (ALICE, BOB)]
        assert OPEN not in (mine.state, theirs.state)


async def test_an_offer_of_another_service_is_not_accepted() -> None:
    async with accounts() as (alice, bob), service() as running:
        alice.server.attack = changing("session-initiate", another_service)
        mine, theirs = await offered(alice, bob, running)
        assert theirs.service == "ssh"
        await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: mine.closed and theirs.closed)
        assert mine.error == ERROR + "EncryptionError"
        # Acknowledged, so that the reason is the first that is heard of it.
        assert theirs.error == ERROR + "EncryptionError"
        stanzas = [stanza for _, stanza in alice.server.carried]
        (accept,) = (
            each
            for each in stanzas
            if (jingle := jingle_of(each)) is not None and jingle.get("action") == "session-accept"
        )
        answers = [each.get("type") for each in stanzas if each.get("id") == accept.get("id")]
        assert answers == ["set", "result"]
        assert not running.streams


@pytest.mark.parametrize("action", ["session-initiate", "session-accept"])
async def test_where_protection_is_demanded_taking_it_out_opens_nothing(action: str) -> None:
    async with accounts(Policy.REQUIRED) as (alice, bob), service() as running:
        alice.server.attack = changing(action, no_protection)
        mine = await alice.request()
        assert isinstance(mine, StreamTube)
        await mine.offer(ABSTRACT, running.name, LOCALHOST, {})
        await until(lambda: bob.taken or mine.closed)
        for theirs in bob.taken:  # it was changed after he had seen it
            assert isinstance(theirs, StreamTube)
            await theirs.accept(ABSTRACT, LOCALHOST, None)
        await until(lambda: mine.closed and all(each.closed for each in bob.taken))
        assert mine.state != OPEN
        assert not running.streams


# -- requests ---------------------------------------------------------------------------------


async def test_ensuring_takes_what_was_requested_with_the_same_guarantees() -> None:
    async with accounts() as (alice, _bob):
        mine = await alice.request()
        same = alice.asked(names.STREAM_TUBE)
        assert await alice.tubes.ensure(same) == (False, mine)
        for other in (
            alice.asked(names.STREAM_TUBE, service="daap"),
            alice.asked(names.DBUS_TUBE),
            alice.asked(
                names.STREAM_TUBE, Channel_Interface_EndToEndSecurity1_RequireVerified=True
            ),
        ):
            new, channel = await alice.tubes.ensure(other)
            assert new
            assert channel is not mine
            alice.made(channel)


async def test_requests_that_make_no_sense() -> None:
    async with accounts() as (alice, _bob):
        for wrong in ("", "x" * 256, "tab\there"):
            with pytest.raises(InvalidArgument):
                await alice.request(service=wrong)
        with pytest.raises(InvalidArgument):
            await alice.tubes.create(ChannelRequest(names.STREAM_TUBE, 1, alice.peer_handle, {}))
        with pytest.raises(InvalidArgument):
            await alice.request(Channel_Interface_EndToEndSecurity1_Replaces="/c/Tube99")
        alice.client.online[BOB] = [Resource(BOB + "/here", features=frozenset())]
        with pytest.raises(NotCapable):
            await alice.request()
        alice.client.online[BOB] = []
        with pytest.raises(Offline):
            await alice.request()


async def test_a_tube_takes_over_from_another_when_it_is_offered() -> None:
    async with accounts() as (alice, bob), service() as running:
        first, _theirs, _address = await opened(alice, bob, running)
        more = {"Channel_Interface_EndToEndSecurity1_Replaces": first.object_path}
        second = await alice.request(**more)
        assert isinstance(second, StreamTube)
        assert second.replaces == first.object_path
        assert not first.closed
        await second.offer(ABSTRACT, running.name, LOCALHOST, {})
        assert first.closed
        await until(lambda: len(bob.taken) == 2)


# -- capabilities -----------------------------------------------------------------------------


def filters(channel_type: str, **more: object) -> dict[str, object]:
    return {
        names.CHANNEL + ".ChannelType": channel_type,
        names.CHANNEL + ".TargetHandleType": 1,
        **{f"{channel_type}.{key}": value for key, value in more.items()},
    }


def test_services_that_programs_wait_for_are_announced() -> None:
    capabilities = HandlerCapabilities()
    # Even without anybody (Channel.Interface.Tube, "as an exception").
    assert TUBES_NS in capabilities.features()
    assert not capabilities.services()
    game = filters(names.DBUS_TUBE, ServiceName="com.example.Game")
    capabilities.update(
        [
            ("vnc", [filters(names.STREAM_TUBE, Service="rfb")], []),
            ("game", [game, {**game, names.CHANNEL + ".TargetHandleType": 2}], []),
            ("odd", [filters(names.STREAM_TUBE, Service="a<b/c"), filters(names.STREAM_TUBE)], []),
            ("number", [filters(names.STREAM_TUBE, Service=5)], []),
            (
                "offers",
                [
                    {
                        **filters(names.STREAM_TUBE, Service="mine"),
                        names.CHANNEL + ".Requested": True,
                    }
                ],
                [],
            ),
        ]
    )
    announced = {each for each in capabilities.features() if each.startswith(TUBES_NS + "/")}
    assert announced == {TUBES_NS + "/stream#rfb", TUBES_NS + "/dbus#com.example.Game"}
    capabilities.update([("vnc", [], [])])
    assert TUBES_NS + "/stream#rfb" not in capabilities.features()


def test_no_more_services_are_announced_than_readers_look_at() -> None:
    capabilities = HandlerCapabilities()
    many = [filters(names.STREAM_TUBE, Service=f"s{number}") for number in range(200)]
    capabilities.update([("many", many, [])])
    assert len(capabilities.services()) == 128


def test_classes_of_a_contact_follow_his_features() -> None:
    def classes(*features: str) -> list[dict[str, object]]:
        return [
            fixed for fixed, _ in contact_classes([Resource(BOB, features=frozenset(features))])
        ]

    plain = filters(names.STREAM_TUBE), filters(names.DBUS_TUBE)
    assert not [each for each in classes() if each in plain]
    assert [each for each in classes(TUBES_NS) if each in plain] == [*plain]
    named = classes(TUBES_NS, TUBES_NS + "/stream#rfb", TUBES_NS + "/dbus#com.example.Game")
    assert filters(names.STREAM_TUBE, Service="rfb") in named
    assert filters(names.DBUS_TUBE, ServiceName="com.example.Game") in named
    # The service is fixed in its class, and asked for in the general one.
    for fixed, allowed in contact_classes(
        [Resource(BOB, features=frozenset({TUBES_NS, TUBES_NS + "/stream#rfb"}))]
    ):
        if fixed[names.CHANNEL + ".ChannelType"] == names.STREAM_TUBE:
            has = names.STREAM_TUBE + ".Service"
            assert (has in fixed) is not (has in allowed)
    assert own_classes(files=False) == contact_classes([])


# -- private buses ----------------------------------------------------------------------------


def login(uid: int | None = None) -> bytes:
    own = str(os.geteuid() if uid is None else uid).encode().hex().encode()
    return b"\0AUTH EXTERNAL " + own + b"\r\n"


async def line(stream: SocketStream) -> bytes:
    got = bytearray()
    while not got.endswith(b"\r\n"):
        part = await within(stream.read(1))
        if not part:
            break
        got += part
    return bytes(got)


async def program(address: str) -> SocketStream:
    """One that has logged in."""
    stream = await connect(os.fsencode(address.removeprefix("unix:path=")))
    await stream.write(login() + b"BEGIN\r\n")
    assert (await line(stream)).startswith(b"OK ")
    return stream


@asynccontextmanager
async def bus(alice: TubeSide, bob: TubeSide) -> AsyncIterator[tuple[DBusTube, str, DBusTube, str]]:
    mine = await alice.request(names.DBUS_TUBE, service="com.example.Game")
    assert isinstance(mine, DBusTube)
    hers = await mine.offer({}, CREDENTIALS)
    await until(lambda: bob.taken)
    theirs = bob.taken[0]
    assert isinstance(theirs, DBusTube)
    assert theirs.service_name == "com.example.Game"
    his = await theirs.accept(CREDENTIALS)
    await until(lambda: mine.state == theirs.state == OPEN)
    yield mine, hers, theirs, his


async def test_two_programs_log_in_each_at_its_own_side_and_talk() -> None:
    async with accounts() as (alice, bob), bus(alice, bob) as (mine, hers, theirs, his):
        one = await program(hers)
        await one.write(b"early")  # the other is not there yet
        other = await program(his)
        assert await within(other.read(5)) == b"early"
        await other.write(b"answer")
        assert await within(one.read(6)) == b"answer"
        one.close()
        assert await within(other.read(1)) == b""
        other.close()
        await until(lambda: mine.closed and theirs.closed)
        assert mine.error == theirs.error == ERROR + "Cancelled"


async def test_who_cannot_log_in_does_not_keep_the_right_program_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("telepathy_e2e.service.dbus_tube.LOGIN_SECONDS", 1.0)
    async with accounts() as (alice, bob), bus(alice, bob) as (_mine, hers, _theirs, his):
        path = hers.removeprefix("unix:path=")
        silent, liar, right = [await connect(path) for _ in range(3)]
        await liar.write(login(os.geteuid() + 1))
        await right.write(login() + b"BEGIN\r\nhello")
        assert await within(silent.read(1)) == b""
        assert await line(liar) == b"REJECTED EXTERNAL\r\n"
        await liar.write(b"BEGIN\r\n")
        assert await within(liar.read(1)) == b""
        assert (await line(right)).startswith(b"OK ")
        other = await program(his)
        assert await within(other.read(5)) == b"hello"
        # There is one program on each side.
        assert not Path(path).exists()
        for each in (silent, liar, right, other):
            each.close()


async def test_a_peer_that_connects_to_a_bus_again_and_again_is_ended() -> None:
    """Else each of its connections would have something wait for a program."""
    async with accounts() as (alice, bob), bus(alice, bob) as (mine, _hers, theirs, _his):
        pump = theirs._pump
        assert pump is not None
        await until(lambda: bool(pump.connections))
        pump.mux.reset(pump.connections[0], Reason.LOST)
        pump.mux.open()
        pump._send()
        await until(lambda: mine.closed and theirs.closed)
        assert mine.error == ERROR + "NetworkError"


async def test_a_bus_to_which_nobody_can_connect_is_ended() -> None:
    async with accounts() as (alice, bob):
        nobody = replace(DBusTube.limits[0], connections=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DBusTube, "limits", (nobody, DBusTube.limits[1]))
            async with bus(alice, bob) as (mine, _hers, theirs, _his):
                await until(lambda: mine.closed and theirs.closed)
                assert theirs.error == ERROR + "NetworkError"


async def test_access_controls_that_a_bus_does_not_have() -> None:
    async with accounts() as (alice, bob):
        mine = await alice.request(names.DBUS_TUBE, service="com.example.Game")
        assert isinstance(mine, DBusTube)
        for control in (PORT, 2, 7):
            with pytest.raises(NotImplementedByUs):
                await mine.offer({}, control)
        assert mine.supported_access_controls == [LOCALHOST, CREDENTIALS]
        alice.client.online[BOB] = []
        with pytest.raises(Offline):
            await mine.offer({}, LOCALHOST)  # and its socket goes
        assert mine._listener is None
        del bob


def test_addresses_of_a_bus_are_written_as_dbus_wants() -> None:
    from telepathy_e2e.service.dbus_tube import _address

    class Listener:
        address = b"/run/user/1000/a b=\xc3\xa9/socket"

    assert _address(cast(Any, Listener())) == "unix:path=/run/user/1000/a%20b%3d%c3%a9/socket"


async def test_dials_are_made_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_tube, "MAX_DIALS", 2)
    async with accounts() as (alice, bob), service() as running:
        mine, _theirs, address = await opened(alice, bob, running)
        gate = asyncio.Event()
        assert mine._service is not None
        dial, most = mine._service.connect, 0

        async def slow() -> Any:
            nonlocal most
            most = max(most, len(mine._dialing))
            await gate.wait()
            return await dial()

        monkeypatch.setattr(mine._service, "connect", slow)
        echoes = [asyncio.ensure_future(echoed(address, b"x")) for _ in range(5)]
        await until(lambda: len(mine._dialing) == 2 and len(mine._dials) == 3)
        gate.set()
        assert await asyncio.gather(*echoes) == [b"x"] * 5
        assert most == 2


async def test_who_is_given_up_while_it_waits_for_its_dial_waits_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a peer could make us remember any number of them while a service takes its time."""
    monkeypatch.setattr(stream_tube, "MAX_DIALS", 1)
    async with accounts() as (alice, bob), service() as running:
        mine, theirs, address = await opened(alice, bob, running)
        gate = asyncio.Event()
        assert mine._service is not None
        dial = mine._service.connect

        async def slow() -> Any:
            await gate.wait()
            return await dial()

        monkeypatch.setattr(mine._service, "connect", slow)
        pump = theirs._pump
        assert pump is not None
        await until(lambda: pump.mux._state.peer is not None)
        first, *others = [pump.open() for _ in range(20)]
        await until(lambda: list(mine._dialing) == [first] and list(mine._dials) == others)
        for number in others:
            pump.give_up(number, Reason.CANCELLED)
        await until(lambda: not mine._dials)
        assert list(mine._dialing) == [first]
        gate.set()
        assert await echoed(address, b"x") == b"x"
