"""The pump: a stream in memory, or TLS over sockets, on one side, and sockets of local programs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.net.streams import SocketStream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service import tube_pulse, tube_pump
from telepathy_e2e.service.secure_stream import SecureStream
from telepathy_e2e.service.tube_pulse import BURST
from telepathy_e2e.service.tube_pump import Pump
from telepathy_e2e.service.tube_road import SocketRoad
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.frames import HEADER_SIZE, Kind, header
from telepathy_e2e.tubes.limits import Limits
from telepathy_e2e.tubes.mux import Multiplexer
from telepathy_e2e.xtls.engine import MANY_RECORDS, Engine
from tests.unit.net_support import descriptors
from tests.unit.service_support import Pipe, pipes, turns, until, within
from tests.unit.xtls_support import PEOPLE

DATA = bytes(range(256)) * 4096  # 1 MiB

BOTH_ROADS = pytest.mark.parametrize("road", ["memory", "socket"])


class Machine:
    """TLS 1.3 and nothing that stands above it (``secure_stream.Machine``)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def feed(self, data: bytes) -> None:
        if data:
            self._engine.receive(data)
            return
        self._engine.receive_eof()
        self._engine.waiting()
        if self._engine.cut:
            raise StreamBroken("the connection was cut")

    def take(self) -> bytes:
        return self._engine.data_to_send()

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        self._engine.write(data)

    def decrypt(self, limit: int) -> bytes:
        return self._engine.read(limit)

    def close_notify(self) -> None:
        self._engine.close()

    @property
    def more(self) -> bool:
        return self._engine.held > 0

    @property
    def peer_closed(self) -> bool:
        return self._engine.peer_closed


def secured() -> tuple[SecureStream, SecureStream]:
    """Both ends of TLS over a pair of sockets, after the handshake."""
    people = {role: PEOPLE[role].credentials() for role in Role}
    engines = {
        role: Engine(role, people[role].key, people[role].leaf, lambda _: None) for role in Role
    }
    for engine in engines.values():
        engine.start()
    for _ in range(3):
        for role in Role:
            engines[role.other].receive(engines[role].data_to_send())
    one, other = (SocketStream(each) for each in socket.socketpair())
    return (
        SecureStream(one, Machine(engines[Role.INITIATOR])),
        SecureStream(other, Machine(engines[Role.RESPONDER])),
    )


class End:
    """One side: ``Ends`` that writes down what it is told, and makes a program for what is opened.

    Attributes:
        programs: the other ends of the local sockets, by connection.
        refuses: whether there is nobody to connect to.
    """

    def __init__(self, role: Role, **timers: float) -> None:
        self.tasks = TaskOwner(str(role))
        offers = role is Role.INITIATOR
        limits = Limits(own_connections=0) if offers else Limits(connections=0)
        self.pump = Pump(Multiplexer(role, limits), self, self.tasks, **timers)
        self.ready = 0
        self.closing = 0
        self.ended: list[tuple[int, Reason | None]] = []
        self.opened: list[int] = []
        self.programs: dict[int, SocketStream] = {}
        self.refuses = False
        self.attaches = True
        self.road: asyncio.Task[None] | None = None

    def start(self, stream: Pipe | SecureStream) -> asyncio.Task[None]:
        if isinstance(stream, Pipe):
            self.stream = stream
        self.carried = stream
        self.road = asyncio.ensure_future(self.pump.run(stream))
        return self.road

    def program(self) -> socket.socket:
        """A local socket; the other end is the last of ``programs``."""
        ours, theirs = socket.socketpair()
        self._last = SocketStream(theirs)
        return ours

    def open(self) -> tuple[int, SocketStream]:
        number = self.pump.open(self.program())
        self.programs[number] = self._last
        return number, self._last

    def attach(self, number: int) -> bool:
        attached = self.pump.attach(number, self.program())
        self.programs[number] = self._last
        return attached

    # -- Ends

    def tube_ready(self) -> None:
        self.ready += 1

    def connection_opened(self, number: int) -> None:
        self.opened.append(number)
        if self.refuses:
            self.pump.refuse(number)
        elif self.attaches:
            self.attach(number)

    def connection_ended(self, number: int, reason: Reason | None) -> None:
        self.ended.append((number, reason))

    def tube_closing(self) -> None:
        self.closing += 1

    async def stop(self) -> None:
        self.pump.drop()
        for each in self.programs.values():
            each.close()
        if self.road is not None:
            self.road.cancel()
            await asyncio.wait([self.road])
        self.carried.close()
        await self.tasks.close()


@asynccontextmanager
async def tube(road: str = "memory", **timers: float) -> AsyncIterator[tuple[End, End]]:
    """Alice, who shares something, and Bob, who connects to it."""
    before = descriptors()
    alice, bob = End(Role.INITIATOR, **timers), End(Role.RESPONDER, **timers)
    one, other = secured() if road == "socket" else pipes()
    alice.start(one)
    bob.start(other)
    await until(lambda: alice.ready and bob.ready)
    try:
        yield alice, bob
    finally:
        await alice.stop()
        await bob.stop()
    assert descriptors() == before


async def read_all(stream: SocketStream) -> bytes:
    got = bytearray()
    while part := await within(stream.read(1 << 16)):
        got += part
    return bytes(got)


async def exactly(stream: SocketStream, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        part = await within(stream.read(size - len(got)))
        assert part
        got += part
    return bytes(got)


async def send(stream: SocketStream, data: bytes) -> None:
    await stream.write(data)
    await stream.write_eof()


@BOTH_ROADS
async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(road: str) -> None:
    async with tube(road) as (alice, bob):
        number, client = bob.open()
        sending = asyncio.ensure_future(send(client, DATA))
        await until(lambda: number in alice.programs)
        service = alice.programs[number]
        assert await read_all(service) == DATA
        await sending
        assert not bob.ended  # half of it is open
        sending = asyncio.ensure_future(send(service, DATA[::-1]))
        assert await read_all(client) == DATA[::-1]
        await sending
        await until(lambda: alice.ended and bob.ended)
        assert alice.ended == bob.ended == [(number, None)]
        assert alice.pump.connections == bob.pump.connections == []
        assert not alice.pump.mux.connections


@BOTH_ROADS
async def test_both_directions_at_once_and_more_than_any_buffer(road: str) -> None:
    async with tube(road) as (alice, bob):
        number, client = bob.open()
        await until(lambda: number in alice.programs)
        service = alice.programs[number]
        all_sent = asyncio.gather(send(client, DATA * 8), send(service, DATA * 8))
        assert [*await asyncio.gather(read_all(client), read_all(service))] == [DATA * 8] * 2
        await all_sent


@BOTH_ROADS
async def test_a_program_that_reads_nothing_holds_nobody_up_and_loses_nothing(road: str) -> None:
    async with tube(road) as (alice, bob):
        stuck, lazy = bob.open()
        pushing = asyncio.ensure_future(send(lazy, DATA * 8))
        await until(lambda: stuck in alice.programs)
        for _ in range(20):
            number, client = bob.open()
            await send(client, b"hello")
            await until(lambda n=number: n in alice.programs)  # type: ignore[misc]
            assert await read_all(alice.programs[number]) == b"hello"
        assert not pushing.done()
        # What waits is bounded by the window, not by what is sent.
        waiting = alice.pump._connections[stuck]._out
        assert len(waiting) <= Limits().largest_window
        assert await read_all(alice.programs[stuck]) == DATA * 8
        await pushing


@BOTH_ROADS
async def test_who_is_refused_is_told_so(road: str) -> None:
    async with tube(road) as (alice, bob):
        alice.refuses = True
        number, client = bob.open()
        assert await within(client.read(1)) == b""
        assert bob.ended == [(number, Reason.REFUSED)]
        assert alice.ended == [(number, Reason.REFUSED)]


async def test_data_waits_for_a_service_that_takes_its_time() -> None:
    async with tube() as (alice, bob):
        alice.attaches = False
        number, client = bob.open()
        await send(client, b"early")
        await until(lambda: alice.opened)
        await turns()
        assert alice.attach(number)
        assert await read_all(alice.programs[number]) == b"early"


async def test_what_was_read_before_goes_first() -> None:
    async with tube() as (alice, bob):
        number = bob.pump.open()
        await until(lambda: number in alice.programs)
        ours, theirs = socket.socketpair()
        client = SocketStream(theirs)
        assert bob.pump.attach(number, ours, b"first ")
        await client.write(b"second")
        assert await exactly(alice.programs[number], 12) == b"first second"
        client.close()


async def test_a_connection_that_is_over_before_its_service_is_there() -> None:
    async with tube() as (alice, bob):
        alice.attaches = False
        number, _client = bob.open()
        await until(lambda: alice.opened)
        bob.pump.give_up(number, Reason.CANCELLED)
        await until(lambda: alice.ended)
        assert alice.ended == [(number, Reason.CANCELLED)]
        assert not alice.attach(number)
        assert await within(alice.programs[number].read(1)) == b""


@BOTH_ROADS
@pytest.mark.parametrize("with_data", [False, True])
async def test_a_program_that_dies_ends_its_connection_alone(with_data: bool, road: str) -> None:
    async with tube(road) as (alice, bob):
        number, client = bob.open()
        other, lasting = bob.open()
        await until(lambda: other in alice.programs)
        client.close()
        service = alice.programs[number]
        assert await within(service.read(1)) == b""
        if with_data:  # what is written to the dead cannot be delivered
            with contextlib.suppress(StreamBroken):
                for _ in range(100):
                    await service.write(b"x" * 65536)
            await until(lambda: bob.ended and alice.ended)
            assert bob.ended == alice.ended == [(number, Reason.CANCELLED)]
        else:
            await service.write_eof()
            await until(lambda: bob.ended)
        await lasting.write(b"still")
        assert await exactly(alice.programs[other], 5) == b"still"


@BOTH_ROADS
async def test_many_connections_at_once(road: str) -> None:
    async with tube(road) as (alice, bob):

        async def one(index: int) -> None:
            number, client = bob.open()
            message = str(index).encode()
            await send(client, message)
            await until(lambda: number in alice.programs)
            service = alice.programs[number]
            assert await read_all(service) == message
            await send(service, message * 2)
            assert await read_all(client) == message * 2
            client.close()
            service.close()

        await asyncio.gather(*(one(index) for index in range(200)))
        await until(lambda: len(alice.ended) == len(bob.ended) == 200)


async def test_ten_thousand_connections_leave_nothing_behind() -> None:
    async with tube() as (alice, bob):
        alice.attaches = False
        for _ in range(100):
            numbers = []
            for _ in range(100):
                # The program has written, ended and gone before anybody looks.
                ours, theirs = socket.socketpair()
                theirs.sendall(b"x")
                theirs.close()
                numbers.append(bob.pump.open(ours))
            await until(lambda n=numbers: n[-1] in alice.opened)  # type: ignore[misc]
            for number in numbers:
                ours, theirs = socket.socketpair()
                theirs.close()
                alice.pump.attach(number, ours)
            await until(lambda: not alice.pump.connections and not bob.pump.connections)
        assert len(alice.ended) == len(bob.ended) == 10_000
        await until(lambda: not alice.pump.mux.connections and not bob.pump.mux.connections)


async def test_a_connection_that_is_given_more_room_and_then_up_takes_no_other_with_it() -> None:
    """The service reads a little and dies: both arrive together at a side that has more to say."""
    async with tube() as (alice, bob):
        lasting, client = bob.open()
        await until(lambda: lasting in alice.programs)
        alice.attaches = False
        number, talker = bob.open()
        sending = asyncio.ensure_future(send(talker, DATA))
        await until(lambda: bob.pump._connections[number]._rest)
        await turns()
        mux = alice.pump.mux
        mux.consumed(number, Limits().window)
        alice.pump.give_up(number, Reason.CANCELLED)
        await until(lambda: bob.ended)
        assert bob.ended == [(number, Reason.CANCELLED)]
        await client.write(b"still")
        assert await exactly(alice.programs[lasting], 5) == b"still"
        with contextlib.suppress(StreamBroken):
            await sending


# -- the road ---------------------------------------------------------------------------------


async def test_what_takes_the_loop_many_turns_stays_in_order() -> None:
    async with tube() as (alice, bob):
        pairs = [bob.open() for _ in range(4)]
        await until(lambda: len(alice.programs) == 4)
        frames, sent = bytearray(), {number: bytearray() for number, _ in pairs}
        for index in range(5_000):
            for number, _ in pairs:
                byte = bytes([index % 251])
                frames += header(Kind.DATA, number, 1) + byte
                sent[number] += byte
        alice.stream.arrive(bytes(frames))  # two reads of the road
        for number, _ in pairs:
            assert await exactly(alice.programs[number], 5_000) == sent[number]


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.PING])
async def test_a_flood_of_frames_leaves_the_loop_its_turns(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tube_pump, "TURN", -1.0)
    async with tube() as (alice, _bob):
        alice.attaches = False
        receiver = alice.pump.mux._receiver
        before = receiver._received
        most = 3 * tube_pump.MANY
        alice.pump.received(b"".join(header(kind, 2 + 2 * each, 0) for each in range(most)))
        counted = [(receiver._received - before) // HEADER_SIZE]
        while counted[-1] < most:
            await asyncio.sleep(0)
            counted.append((receiver._received - before) // HEADER_SIZE)
        steps = [after - earlier for earlier, after in itertools.pairwise([0, *counted])]
        assert max(steps) == tube_pump.MANY
        assert alice.opened == ([2 + 2 * each for each in range(most)] if kind == Kind.OPEN else [])


async def test_a_read_of_very_many_records_is_all_heard_in_several_turns() -> None:
    async with tube("socket") as (alice, bob):
        number, client = bob.open()
        await until(lambda: number in alice.programs)
        assert isinstance(bob.carried, SecureStream)
        road = bob.carried.socket
        assert road is not None
        machine = bob.carried._machine
        wire, records = bytearray(), 3 * MANY_RECORDS + 1
        for index in range(records):
            machine.encrypt(header(Kind.DATA, number, 1) + bytes([index % 251]))
            wire += machine.take()
        await within(road.write(wire))
        expected = bytes(index % 251 for index in range(records))
        assert await exactly(alice.programs[number], records) == expected
        assert client is not None


async def test_a_road_that_is_closed_while_there_is_more_to_hear_is_lost() -> None:
    async with tube("socket") as (alice, bob):
        assert isinstance(bob.carried, SecureStream)
        road = bob.carried.socket
        assert road is not None
        machine = bob.carried._machine
        wire = bytearray()
        for _ in range(MANY_RECORDS + 1):
            machine.encrypt(header(Kind.ACK, 0, 0))
            wire += machine.take()
        await within(road.write(wire))
        assert isinstance(alice.pump._road, SocketRoad)
        for _ in range(1000):  # in each of its turns there is something to read
            if alice.pump._road._soon:
                break
            await asyncio.sleep(0)
        alice.carried.abort()
        assert alice.road is not None
        with pytest.raises(StreamBroken):
            await within(alice.road)


async def test_a_lost_road_keeps_connections_and_the_next_goes_on_where_it_was() -> None:
    async with tube() as (alice, bob):
        number, client = bob.open()
        sending = asyncio.ensure_future(send(client, DATA * 4))
        await until(lambda: number in alice.programs)
        service = alice.programs[number]
        got = await exactly(service, 100_000)
        for end in (alice, bob):
            end.stream.broke()
        for end in (alice, bob):
            assert end.road is not None
            with pytest.raises(StreamBroken):
                await within(end.road)
        one, other = pipes()
        alice.start(one)
        bob.start(other)
        got += await read_all(service)
        assert got == DATA * 4
        await sending
        assert alice.ready == bob.ready == 1
        assert not alice.ended


async def test_a_socket_that_breaks_is_a_lost_road_and_the_next_goes_on_where_it_was() -> None:
    async with tube("socket") as (alice, bob):
        number, client = bob.open()
        sending = asyncio.ensure_future(send(client, DATA * 4))
        await until(lambda: number in alice.programs)
        service = alice.programs[number]
        got = await exactly(service, 100_000)
        for end in (alice, bob):
            # As when the security, or whoever watches the road, lets go of it.
            end.carried.abort()
            assert end.road is not None
            with pytest.raises(StreamBroken):
                await within(end.road)
        one, other = secured()
        alice.start(one)
        bob.start(other)
        got += await read_all(service)
        assert got == DATA * 4
        await sending
        assert not alice.ended


async def test_connections_that_all_wait_for_one_road_all_go_on() -> None:
    """Each has more than fits, and hears of room while it is still saying what it has."""
    async with tube("socket") as (alice, bob):
        pairs = [bob.open() for _ in range(20)]
        sending = [asyncio.ensure_future(send(client, DATA)) for _, client in pairs]
        for number, _ in pairs:
            await until(lambda n=number: n in alice.programs)  # type: ignore[misc]
        arrived = await asyncio.gather(*(read_all(alice.programs[number]) for number, _ in pairs))
        assert all(each == DATA for each in arrived)
        await asyncio.gather(*sending)


async def test_a_stream_that_ends_before_the_tube_is_a_lost_road() -> None:
    async with tube() as (_alice, bob):
        bob.stream.cut()
        assert bob.road is not None
        with pytest.raises(StreamBroken):
            await within(bob.road)


async def test_what_comes_after_a_loss_is_not_read() -> None:
    """Some of it is missing, and the rest would end the tube."""
    async with tube() as (alice, _bob):
        alice.pump.lost(StreamBroken("gone"))
        heard = alice.pump._pulse.last_heard
        alice.pump.received(header(Kind.DATA, 4, 1) + b"x")
        assert alice.pump._pulse.last_heard == heard  # nor is anybody waited for
        assert alice.road is not None
        with pytest.raises(StreamBroken):
            await within(alice.road)
        alice.pump.mux.road_up()  # another can carry on


async def test_silence_is_asked_about_and_a_contact_who_lives_answers() -> None:
    async with tube(ask_after=0.05, dead_after=3600.0) as (alice, _bob):
        heard = alice.pump._pulse.last_heard
        await until(lambda: alice.pump._pulse.asked and alice.pump._pulse.last_heard > heard)
        alice.pump._pulse.look()
        assert alice.road is not None
        assert not alice.road.done()


async def test_who_has_said_nothing_yet_may_still_be_asking_his_people() -> None:
    alice = End(Role.INITIATOR, ask_after=0.01, dead_after=0.02)
    bob = End(Role.RESPONDER)
    one, other = pipes()
    road = alice.start(one)
    try:
        await asyncio.sleep(0.2)
        assert not road.done()
        alice.pump._pulse._dead_after = 3600.0
        bob.start(other)
        await until(lambda: alice.ready and bob.ready)
        await until(lambda: alice.pump._pulse.asked)
    finally:
        await alice.stop()
        await bob.stop()


async def test_silence_that_goes_on_is_the_end_of_the_road() -> None:
    async with tube(ask_after=3000.0, dead_after=3600.0) as (alice, bob):
        bob.stream.other = Pipe()  # nothing of what Bob sends arrives
        assert alice.road is not None
        for silence, asked in ((2900.0, 0), (3100.0, 1)):
            alice.pump._pulse.last_heard = asyncio.get_running_loop().time() - silence
            alice.pump._pulse.look()
            await turns()
            assert alice.pump._pulse.asked == asked
            assert not alice.road.done()
        alice.pump._pulse._dead_after = 3100.0
        alice.pump._pulse.look()
        with pytest.raises(StreamBroken):
            await within(alice.road)


async def test_something_follows_a_burst_once_it_is_over() -> None:
    # Else a proxy that keeps the last of it until more comes would have it for ever.
    async with tube() as (alice, bob):
        number, client = bob.open()
        await until(lambda: number in alice.programs)
        await client.write(b"a key")
        assert await exactly(alice.programs[number], 5) == b"a key"
        assert not bob.pump._pulse.asked
        await client.write(bytes(BURST))
        await exactly(alice.programs[number], BURST)
        await until(lambda: bob.pump._pulse.asked == 1)
        assert bob.pump._pulse._pushing is None  # nor is what was asked
        assert not alice.pump._pulse.asked  # her answer is none


async def test_more_follows_a_burst_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is busy may find the first of it beside the burst, and keep both."""
    monkeypatch.setattr(tube_pulse, "PUSH_AGAIN", 0.01)
    async with tube() as (alice, bob):
        number, client = bob.open()
        await until(lambda: number in alice.programs)
        answers, alice.stream.other = alice.stream.other, Pipe()
        await client.write(bytes(BURST))
        await until(lambda: bob.pump._pulse.asked >= 3)
        alice.stream.other = answers
        await until(lambda: bob.pump._pulse._repeating is None)


async def test_nonsense_ends_the_tube() -> None:
    async with tube() as (alice, bob):
        number, _client = bob.open()
        await until(lambda: number in alice.programs)
        alice.stream.arrive(header(Kind.DATA, 4, 1) + b"x")
        assert alice.road is not None
        with pytest.raises(PeerError):
            await within(alice.road)
        # Programs that come or go in this very moment meet a tube that is over, and nothing else.
        with pytest.raises(NotAvailable):
            alice.pump.open()
        alice.pump.give_up(2, Reason.LOST)
        alice.pump.leave()


# -- the end ----------------------------------------------------------------------------------


@BOTH_ROADS
@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_a_tube_that_is_closed_ends_on_both_sides(who: str, road: str) -> None:
    async with tube(road) as (alice, bob):
        number, client = bob.open()
        await until(lambda: number in alice.programs)
        leaver, other = (alice, bob) if who == "alice" else (bob, alice)
        leaver.pump.leave()
        for end in (alice, bob):
            assert end.road is not None
            await within(end.road)
            assert end.ended == [(number, Reason.CANCELLED)]
        assert (leaver.closing, other.closing) == (1, 1)
        assert await within(client.read(1)) == b""
        assert alice.pump.closing
        assert bob.pump.closing


@BOTH_ROADS
async def test_what_a_program_had_ended_still_arrives_after_the_close(road: str) -> None:
    async with tube(road) as (alice, bob):
        number, client = bob.open()
        sending = asyncio.ensure_future(send(client, DATA * 2))
        await until(lambda: number in alice.programs)
        service = alice.programs[number]
        reading = asyncio.ensure_future(read_all(service))
        await sending
        await until(lambda: bob.pump._connections[number].read_all)
        bob.pump.leave()
        assert await within(reading) == DATA * 2
        await service.write_eof()
        for end in (alice, bob):
            assert end.road is not None
            await within(end.road)
            assert end.ended == [(number, None)]


async def test_who_has_said_the_last_word_answers_nothing_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tube("socket") as (alice, bob):
        number, client = bob.open()
        await client.write_eof()
        await until(lambda: number in alice.programs)
        assert await read_all(alice.programs[number]) == b""
        bob.pump.leave()
        await until(lambda: alice.closing)
        assert bob.pump._road is not None
        bob.pump._road.pause()
        await alice.programs[number].write_eof()
        await until(lambda: alice.pump._said_all)
        bob.pump._pulse._ask()  # something was asked before the last word was heard,
        heard = alice.pump._pulse.last_heard
        await until(lambda: alice.pump._pulse.last_heard > heard)
        alice.pump._pulse._ask()  # or is asked after it was said
        bob.pump._road.resume()
        for end in (alice, bob):
            assert end.road is not None
            await within(end.road)
            assert end.ended == [(number, None)]
    assert not caplog.records


async def test_an_end_that_comes_with_the_last_data_is_heard_without_another_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that says close_notify and does not end its direction of the connection."""
    monkeypatch.setattr(tube_pump, "END_SECONDS", 3600.0)
    async with tube("socket") as (alice, bob):
        assert isinstance(bob.carried, SecureStream)
        assert bob.carried.socket is not None
        monkeypatch.setattr(bob.carried.socket, "end_now", lambda: None)
        alice.pump.leave()
        for end in (alice, bob):
            assert end.road is not None
            await within(end.road)


async def test_who_has_let_go_of_a_tube_hears_nothing_more_of_it() -> None:
    async with tube() as (alice, _bob):
        alice.pump.drop()
        alice.pump.received(header(Kind.OPEN, 2, 0))
        assert not alice.opened
        assert not alice.pump.connections


async def test_a_peer_that_closes_and_never_ends_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tube_pump, "END_SECONDS", 0.05)
    async with tube() as (alice, bob):
        # Bob's half-close never arrives.
        async def nothing() -> None:
            return

        monkeypatch.setattr(bob.stream, "write_eof", nothing)
        alice.pump.leave()
        assert alice.road is not None
        await within(alice.road)


@BOTH_ROADS
async def test_what_the_contact_does_not_take_stays_with_the_program(road: str) -> None:
    """Else a thousand connections without room would hold a hundred megabytes."""
    async with tube(road) as (alice, bob):
        number, client = bob.open()
        pushing = asyncio.ensure_future(send(client, DATA * 8))
        await until(lambda: number in alice.programs)
        waiting = bob.pump._connections[number]
        await until(lambda: len(waiting._rest) > 0)
        for _ in range(3):
            assert len(waiting._rest) <= 4096
            await turns()
        assert await read_all(alice.programs[number]) == DATA * 8
        await pushing
