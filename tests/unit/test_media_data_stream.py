"""Data channels: both ends in one process, over the loopback device."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import rtcsctptransport
from aiortc.rtcsctptransport import (
    AbortChunk,
    DataChunk,
    RTCSctpTransport,
    SackChunk,
    serialize_packet,
)

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.jingle.data_channel import PORT
from telepathy_e2e.jingle.ice import Candidate, DtlsFingerprint, Transport
from telepathy_e2e.media import inside_aioice, silence
from telepathy_e2e.media.data_road import DataRoad
from telepathy_e2e.media.data_stream import DataStream, closing
from telepathy_e2e.media.inside_sctp import (
    MAX_AHEAD,
    MAX_CONTROL,
    MAX_FLIGHT,
    SLACK,
    WINDOW,
    OneStream,
)
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service.secure_stream import DtlsStream
from tests.support.media import make_credentials

from .service_support import until, within

ALICE, BOB = make_credentials(), make_credentials()


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(inside_aioice.LOOPBACK_VARIABLE, "1")


async def no_servers() -> Sequence[IceServer]:
    return ()


class Ends:
    """Two roads that hear of each other at once."""

    def __init__(self) -> None:
        self.told: list[list[tuple[tuple[Candidate, ...], bool]]] = [[], []]
        self.roads = [
            DataRoad(
                controlling=controlling,
                credentials=credentials,
                label="file",
                told=lambda found, done, told=told: told.append((found, done)),  # type: ignore[misc]
            )
            for controlling, credentials, told in zip(
                (True, False), (ALICE, BOB), self.told, strict=True
            )
        ]

    async def prepare(self) -> list[Transport]:
        for road in self.roads:
            await within(road.gather(no_servers))
        offer = self.roads[0].local_transport("actpass")
        answer = self.roads[1].local_transport("active")
        self.roads[0].remote_transport(answer)
        self.roads[1].remote_transport(offer)
        return [offer, answer]

    async def connect(
        self,
        prints: Sequence[Sequence[DtlsFingerprint]] | None = None,
        silence: float | None = None,
    ) -> list[DataStream | BaseException]:
        transports = await self.prepare()
        shown = prints or [transports[1].fingerprints, transports[0].fingerprints]
        return list(
            await within(
                asyncio.gather(
                    self.roads[0].connect("server", shown[0], PORT, silence=silence),
                    self.roads[1].connect("client", shown[1], PORT, silence=silence),
                    return_exceptions=True,
                )
            )
        )

    async def close(self) -> None:
        for road in self.roads:
            await road.close()


@asynccontextmanager
async def streams(silence: float | None = None) -> AsyncIterator[tuple[DataStream, DataStream]]:
    ends = Ends()
    alice, bob = await ends.connect(silence=silence)
    assert isinstance(alice, DataStream)
    assert isinstance(bob, DataStream)
    try:
        yield alice, bob
    finally:
        for stream in (alice, bob):
            stream.abort()
            await within(closing.wait())
        await ends.close()


async def all_of(stream: DataStream) -> bytes:
    got = bytearray()
    while part := await within(stream.read(96 * 1024)):
        got += part
    return bytes(got)


async def test_both_ends_agree_on_what_protects_them() -> None:
    async with streams() as (alice, bob):
        assert isinstance(alice, DtlsStream)
        assert alice.handshake.peer_leaf == BOB.leaf
        assert bob.handshake.peer_leaf == ALICE.leaf
        assert "GCM" in alice.handshake.cipher_suite or "CHACHA" in alice.handshake.cipher_suite
        assert alice.export(b"label", b"x", 32) == bob.export(b"label", b"x", 32)
        assert alice.export(b"label", b"x", 32) != bob.export(b"label", b"y", 32)


async def test_numbers_of_pieces_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtcsctptransport, "random32", lambda: 2**32 - 2000)
    async with streams() as (alice, bob):
        sending = asyncio.create_task(alice.write(b"x" * 5_000_000))
        count = 0
        while count < 5_000_000:
            count += len(await within(bob.read(1 << 20)))
        await sending
        assert bob._sctp._last_received_tsn is not None
        assert bob._sctp._last_received_tsn < 10_000


async def test_twenty_megabytes_arrive_as_they_were_sent() -> None:
    piece = secrets.token_bytes(1_000_003)
    async with streams() as (alice, bob):

        async def send() -> None:
            for _ in range(20):
                await alice.write(piece)
            await alice.write_eof()

        sending = asyncio.create_task(send())
        digest, count = hashlib.sha256(), 0
        while part := await within(bob.read(96 * 1024)):
            digest.update(part)
            count += len(part)
        await sending
        assert count == 20 * len(piece)
        assert digest.digest() == hashlib.sha256(piece * 20).digest()


async def test_both_directions_end_by_themselves() -> None:
    async with streams() as (alice, bob):
        await alice.write(b"a" * 100_000)
        await alice.write_eof()
        assert await all_of(bob) == b"a" * 100_000
        await bob.write(b"b" * 100_000)
        await bob.write_eof()
        assert await all_of(alice) == b"b" * 100_000
        assert await alice.read(1) == b""


async def test_what_was_written_before_the_close_arrives() -> None:
    async with streams() as (alice, bob):
        await alice.write(b"x" * 300_000)
        alice.close()
        assert await all_of(bob) == b"x" * 300_000
        await within(closing.wait())
        with pytest.raises(StreamBroken):
            await alice.write(b"more")
        with pytest.raises(StreamBroken):
            await alice.read(1)


async def test_an_abort_is_no_end() -> None:
    async with streams() as (alice, bob):
        await alice.write(b"x" * 1000)
        assert await within(bob.read(1000)) == b"x" * 1000
        reading = asyncio.create_task(bob.read(1))
        broken = asyncio.create_task(bob.wait_broken())
        alice.abort()
        with pytest.raises(StreamBroken):
            await within(reading)
        await within(broken)
        with pytest.raises(StreamBroken):
            await within(bob.write(b"y" * 10_000_000))


async def test_a_writer_waits_for_a_reader_who_holds_no_more_than_the_window() -> None:
    async with streams() as (alice, bob):
        writing = asyncio.create_task(alice.write(bytes(4 * WINDOW)))
        await until(lambda: bob._sctp._unread > WINDOW - 2000)
        await asyncio.sleep(0.2)
        assert not writing.done()
        assert bob._sctp._unread <= WINDOW + SLACK
        count = 0
        while count < 4 * WINDOW:
            count += len(await within(bob.read(1 << 20)))
        await within(writing)


async def test_a_window_whose_opening_was_not_heard_of_is_tried() -> None:
    async with streams() as (alice, bob):
        writing = asyncio.create_task(alice.write(bytes(2 * WINDOW)))
        await until(lambda: alice._sctp._peer_window < 1160 and not alice._sctp._flight_size)
        bob._sctp._told_window = WINDOW  # as if he had told
        count = 0
        while count < 2 * WINDOW:
            count += len(await within(bob.read(1 << 20)))
        await within(writing)


async def test_a_sender_that_looks_at_no_window_gets_rid_of_no_more() -> None:
    async with streams() as (alice, bob):

        async def as_aiortc_does(*, probe: bool = False) -> None:
            await RTCSctpTransport._transmit(alice._sctp)

        alice._sctp._transmit = as_aiortc_does  # type: ignore[method-assign]
        data = secrets.token_bytes(3 * WINDOW)
        writing = asyncio.create_task(alice.write(data))
        await until(lambda: bob._sctp._unread > WINDOW)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert bob._sctp._unread + bob._sctp._held <= WINDOW + SLACK
        got = bytearray()
        while len(got) < len(data):
            got += await within(bob.read(1 << 20))
        await within(writing)
        assert got == data


@pytest.mark.parametrize("usual", [True, False])
async def test_a_peer_that_is_not_heard_any_more_breaks_the_stream(
    usual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(silence.PATIENCE_VARIABLE, "3" if usual else "600")
    monkeypatch.setattr(silence, "QUIET", 0.5)
    monkeypatch.setattr(silence, "PROBE", 60.0)
    async with streams(None if usual else 0.5) as (_, bob):
        with pytest.raises(StreamBroken):
            await within(bob.read(1))
        await within(bob.wait_broken())


@pytest.mark.parametrize("side", [0, 1])
async def test_another_certificate_than_the_announced_one_is_refused(side: int) -> None:
    wrong = (DtlsFingerprint("sha-256", bytes(32), "actpass"),)
    ends = Ends()
    transports = await ends.prepare()
    shown = [transports[1].fingerprints, transports[0].fingerprints]
    # The one of the transport is right, that of the session is not.
    shown[side] = (*shown[side], *wrong)
    connecting = [
        asyncio.create_task(road.connect(role, prints, PORT))
        for road, role, prints in zip(ends.roads, ("server", "client"), shown, strict=True)
    ]
    with pytest.raises(SecurityError):
        await within(connecting[side])
    connecting[1 - side].cancel()
    await asyncio.wait(connecting)
    await ends.close()


async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    ends = Ends()
    transports = await ends.prepare()
    alone = asyncio.create_task(ends.roads[0].connect("server", transports[1].fingerprints, PORT))
    await asyncio.sleep(0.1)
    alone.cancel()
    await asyncio.wait([alone])
    await ends.close()


# -- what a peer can write ------------------------------------------------------------------------


class Writer:
    """Sends packets of its own making from one end to the other."""

    def __init__(self, sender: DataStream, receiver: DataStream) -> None:
        self.sctp = sender._sctp
        self.receiver = receiver
        self.tsn = self.sctp._local_tsn
        assert receiver._sctp._last_received_tsn is not None

    def chunk(self, data: bytes, *, ahead: int = 0, flags: int = 3, **more: int) -> DataChunk:
        made = DataChunk(flags=flags)
        made.tsn = (self.tsn + ahead) % 2**32
        made.stream_id = more.get("stream", self.sctp._stream or 0)
        made.stream_seq = 0
        made.protocol = more.get("protocol", 53)
        made.user_data = data
        return made

    async def send(self, chunk: object) -> None:
        await RTCSctpTransport._send_chunk(self.sctp, chunk)  # type: ignore[arg-type]

    async def raw(self, body: bytes) -> None:
        class Raw:
            def __bytes__(self) -> bytes:
                return body

        await self.sctp.transport._send_data(
            serialize_packet(PORT, PORT, self.sctp._remote_verification_tag, Raw())  # type: ignore[arg-type]
        )

    async def is_cut_off(self) -> None:
        await until(lambda: self.receiver._broken is not None)
        with pytest.raises(StreamBroken):
            await within(self.receiver.write(b"x"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": 7},
        {"flags": 7},
        {"protocol": 51},
        {"protocol": 99},
        {"protocol": 50},
    ],
    ids=["another stream", "out of order", "text", "unknown", "another message about channels"],
)
async def test_a_message_of_another_kind_ends_it(wrong: dict[str, int]) -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        await writer.send(writer.chunk(b"\3data", **wrong))
        await writer.is_cut_off()


async def test_a_second_channel_ends_it() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        again = struct.pack("!BBHLHH", 3, 0, 256, 0, 1, 0) + b"x"
        await writer.send(writer.chunk(again, protocol=50, stream=2))
        await writer.is_cut_off()


async def test_a_message_about_channels_without_end_ends_it() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        for number in range(MAX_CONTROL // 1000 + 1):
            await writer.send(writer.chunk(b"\3" * 1000, ahead=number, flags=0, protocol=50))
        await writer.is_cut_off()


async def test_bytes_after_the_end_end_it() -> None:
    async with streams() as (alice, bob):
        await alice.write_eof()
        assert await within(bob.read(1)) == b""
        writer = Writer(alice, bob)
        await writer.send(writer.chunk(b"more"))
        await until(lambda: bob._broken is not None)
        assert await bob.read(1) == b""  # the end was authentic


async def test_a_message_that_never_ends_is_bytes_like_others() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        for number in range(100):
            await writer.send(writer.chunk(b"x" * 1000, ahead=number, flags=0))
        count = 0
        while count < 100_000:
            count += len(await within(bob.read(1 << 20)))
        assert not bob._sctp._inbound_streams


async def test_many_small_messages_are_held_as_their_bytes() -> None:
    # An object of its own for each costs thirty times what the window counts.
    async with streams() as (_, receiver):
        count = 100_000
        receiver._sctp._unread += 2 * count
        for _ in range(count):
            receiver.arrived(b"ab")
        assert sum(sys.getsizeof(each) for each in receiver._unread) < 3 * count
        got = b""
        while len(got) < 2 * count:
            piece = await receiver.read(777)
            assert type(piece) is bytes
            got += piece
        assert got == b"ab" * count
        assert receiver._sctp._unread == 0


async def holds(sctp: OneStream, count: int) -> None:
    await until(lambda: len(sctp._ahead) >= count)


async def test_pieces_that_wait_for_a_missing_one_are_bounded_and_it_still_comes_through() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        held = bob._sctp
        for number in range(1, MAX_AHEAD + 100):
            await writer.send(writer.chunk(b"x", ahead=number))
            if number % 20 == 0:  # no faster than they are read, or the kernel drops some
                await holds(held, min(number, MAX_AHEAD - 1))
        assert len(held._ahead) == MAX_AHEAD - 1
        await writer.send(writer.chunk(b"first"))
        assert (await within(bob.read(5))) == b"first"


async def test_large_pieces_that_wait_for_a_missing_one_are_bounded_too() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        held = bob._sctp
        for number in range(1, 600):
            await writer.send(writer.chunk(bytes(1160), ahead=number))
            if number % 20 == 0 and number < 300:
                await holds(held, number)
        await asyncio.sleep(0.1)
        assert WINDOW // 2 < held._held <= WINDOW + SLACK // 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\3\0\2",
        b"\0\3\0\x10" + b"\0" * 8,
        b"\4\0\0\x08\0\1\0\0",  # a parameter without an extent, which aiortc would read for ever
        b"\1\0\0\x18" + bytes(16) + b"\0\1\0\0",
        b"\x82\0\0\x08\0\x0d\0\0",
        b"\3\0\0\x10" + bytes(8) + b"\xff\xff\xff\xff",
        b"\7\0\0\4",
        b"\0\3\0\x10" + bytes(12),
    ],
    ids=lambda body: body.hex()[:24] or "nothing",
)
async def test_a_wrong_packet_holds_nothing_up(body: bytes) -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        await writer.raw(body)
        # Ended, or as if it had not come. What is written now comes after it.
        try:
            await within(alice.write(b"well"))
            assert await within(bob.read(10)) == b"well"
        except StreamBroken:
            await until(lambda: bob._broken is not None)


async def test_gaps_that_cannot_be_are_no_work() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        sack = SackChunk()
        sack.cumulative_tsn = bob._sctp._last_sacked_tsn
        sack.advertised_rwnd = 1 << 20
        sack.gaps = [(1, 65535)] * 250
        # Of this thread, so that nothing else on the machine counts; looked at, they are seconds.
        started = time.thread_time()
        for _ in range(20):
            await bob._sctp._receive_sack_chunk(sack)
        assert time.thread_time() - started < 0.5
        del writer
        await bob.write(b"well")
        assert await within(alice.read(10)) == b"well"


async def test_a_window_without_bound_is_not_used() -> None:
    async with streams() as (alice, bob):

        async def no_word(chunk: object) -> None:
            """He acknowledges nothing."""

        bob._sctp._receive_data_chunk = no_word  # type: ignore[method-assign]
        sctp = alice._sctp
        sctp._peer_window = sctp._cwnd = sctp._ssthresh = 2**32 - 1
        await sctp.send(bytes(2 * MAX_FLIGHT))
        for _ in range(1000):  # aiortc sends four pieces each time
            await sctp._transmit()
        assert MAX_FLIGHT - 2000 < sctp._flight_size <= MAX_FLIGHT + 2000


async def test_an_association_that_is_begun_anew_stays_as_it_is() -> None:
    async with streams() as (alice, bob):
        init = rtcsctptransport.InitChunk()
        init.initiate_tag, init.initial_tsn = 17, 99
        init.advertised_rwnd = init.outbound_streams = init.inbound_streams = 1
        await alice._sctp.transport._send_data(serialize_packet(PORT, PORT, 0, init))
        await alice.write(b"well")
        assert await within(bob.read(10)) == b"well"


async def test_the_peers_abort_breaks_it() -> None:
    async with streams() as (alice, bob):
        writer = Writer(alice, bob)
        await writer.send(AbortChunk())
        await writer.is_cut_off()


def test_what_is_used_of_aiortc_is_there() -> None:
    for name in (
        "_handle_data",
        "_receive_chunk",
        "_receive_data_chunk",
        "_receive_sack_chunk",
        "_send",
        "_send_chunk",
        "_send_sack",
        "_set_state",
        "_transmit",
    ):
        assert callable(getattr(RTCSctpTransport, name))
        if name != "_send" and name != "_receive_chunk":
            assert name in OneStream.__dict__


async def test_what_is_lost_on_the_way_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)  # noqa: S311 - which datagrams are lost
    data = dice.randbytes(600_000)
    async with streams() as (alice, bob):
        for stream in (alice, bob):
            path = stream._sctp.transport.transport
            send = path._send

            async def lossy(datagram: bytes, send: Callable[[bytes], Any] = send) -> None:
                if dice.random() > 0.03:
                    await send(datagram)

            monkeypatch.setattr(path, "_send", lossy)
        sending = asyncio.create_task(alice.write(data))
        got = bytearray()
        while len(got) < len(data):
            got += await within(bob.read(1 << 20))
        await sending
        assert got == data
