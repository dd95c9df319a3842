"""In-band streams: blocks in order, bounds on both sides, and the end."""

from __future__ import annotations

import asyncio
import base64
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import ibb
from telepathy_e2e.jingle.ibb import InBandOffer
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service import inband
from telepathy_e2e.service.inband import BLOCK_OVERHEAD, InBandStream
from telepathy_e2e.xmpp.client import StanzaError
from tests.unit.service_support import Side, turns, two_sides, within

OFFER = InBandOffer("stream", 4096)


async def opened(alice: Side, bob: Side) -> tuple[InBandStream, InBandStream]:
    one = alice.inband.stream(bob.client.jid, OFFER)
    other = bob.inband.stream(alice.client.jid, OFFER)
    await within(one.open())
    await within(other.wait_open())
    return one, other


class RawPeer:
    """Sends blocks as it likes."""

    def __init__(self, side: Side, to: Side) -> None:
        self.side, self.to = side, to.client.jid
        self.sequence = 0

    def block(self, data: bytes, sid: str = "stream") -> asyncio.Task[str]:
        element = Element(ibb.DATA, {"seq": str(self.sequence), "sid": sid})
        element.text = base64.b64encode(data).decode()
        self.sequence = (self.sequence + 1) % 65536
        return asyncio.create_task(self.ask(element))

    async def ask(self, element: Element) -> str:
        try:
            await self.side.client.send_iq(self.to, element)
        except StanzaError as error:
            return error.condition
        return ""


async def test_bytes_come_out_as_they_went_in_and_end_with_the_close() -> None:
    async with two_sides() as (alice, bob):
        one, other = await opened(alice, bob)
        data = bytes(range(256)) * 1000
        writing = asyncio.create_task(_write(one, data))
        got = bytearray()
        while part := await within(other.read(3000)):
            assert len(part) <= 3000
            got += part
        assert got == data
        await within(writing)
        assert await within(other.read(1)) == b""


async def _write(stream: InBandStream, data: bytes) -> None:
    await stream.write(data)
    await stream.write_eof()


async def test_a_stream_that_no_session_agreed_on_is_not_wanted() -> None:
    async with two_sides() as (alice, bob):
        peer = RawPeer(alice, bob)
        assert await peer.ask(ibb.build_open(OFFER)) == "not-acceptable"
        assert await peer.block(b"x") == "item-not-found"
        assert await peer.ask(ibb.build_close("stream")) == "item-not-found"


async def test_a_block_before_the_open_is_refused_and_a_second_open_as_well() -> None:
    async with two_sides() as (alice, bob):
        bob.inband.stream(alice.client.jid, OFFER)
        peer = RawPeer(alice, bob)
        assert await peer.block(b"early") == "item-not-found"
        assert await peer.ask(ibb.build_open(OFFER)) == ""
        assert await peer.ask(ibb.build_open(OFFER)) == "unexpected-request"


async def test_another_peers_blocks_are_not_taken() -> None:
    async with two_sides() as (alice, bob):
        other = bob.inband.stream("eve@example.test/x", OFFER)
        assert await RawPeer(alice, bob).ask(ibb.build_open(OFFER)) == "not-acceptable"
        assert not other._ready.done()


async def test_a_name_in_use_is_refused_and_the_stream_that_has_it_goes_on() -> None:
    async with two_sides() as (alice, bob):
        one, other = await opened(alice, bob)
        with pytest.raises(PeerError) as error:
            bob.inband.stream(alice.client.jid, OFFER)
        assert error.value.condition == "conflict"
        await one.write(b"still there")
        assert await within(other.read(100)) == b"still there"
        other.abort()
        again = bob.inband.stream(alice.client.jid, OFFER)
        other.close()  # again, late: it must not take the new one's name away
        peer = RawPeer(alice, bob)
        assert await peer.ask(ibb.build_open(OFFER)) == ""
        assert again._ready.done()


async def test_an_empty_block_is_no_end_and_takes_no_room() -> None:
    async with two_sides() as (alice, bob):
        _, other = await opened(alice, bob)
        peer = RawPeer(alice, bob)
        for _ in range(100):
            assert await peer.block(b"") == ""
        assert len(other._unread) == 0
        reading = asyncio.create_task(other.read(10))
        await turns()
        assert not reading.done()
        await peer.block(b"x")
        assert await within(reading) == b"x"


async def test_small_blocks_cost_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inband, "MAX_UNREAD", 10 * (BLOCK_OVERHEAD + 1))
    async with two_sides() as (alice, bob):
        _, other = await opened(alice, bob)
        peer = RawPeer(alice, bob)
        tasks = [peer.block(b"x") for _ in range(11)]
        await turns()
        assert [task.done() for task in tasks] == [True] * 10 + [False]
        got = [await within(other.read(10)) for _ in range(11)]
        assert got == [b"x"] * 11
        assert await within(tasks[10]) == ""
        assert other._unread_bytes == 0


async def test_a_block_that_is_read_in_pieces_counts_until_it_is_gone() -> None:
    async with two_sides() as (alice, bob):
        _, other = await opened(alice, bob)
        await RawPeer(alice, bob).block(b"12345")
        assert [await within(other.read(2)) for _ in range(3)] == [b"12", b"34", b"5"]
        assert other._unread_bytes == 0


async def test_a_peer_that_does_not_wait_for_answers_is_cut_off_at_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inband, "MAX_UNREAD", 0)
    monkeypatch.setattr(inband, "MAX_UNANSWERED", 4)
    async with two_sides() as (alice, bob):
        _, other = await opened(alice, bob)
        peer = RawPeer(alice, bob)
        tasks = [peer.block(b"x") for _ in range(4)]
        await turns()
        assert not any(task.done() for task in tasks)
        assert await within(peer.block(b"x")) == "resource-constraint"
        assert [await within(task) for task in tasks] == ["item-not-found"] * 4
        for _ in range(4):
            assert await within(other.read(9)) == b"x"
        with pytest.raises(StreamBroken):
            await within(other.read(9))
        assert await within(peer.block(b"x")) == "item-not-found"


async def test_bytes_that_are_held_have_a_bound_whatever_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inband, "MAX_UNREAD", 0)
    monkeypatch.setattr(inband, "MAX_HELD", 2 * (4096 + BLOCK_OVERHEAD))
    async with two_sides() as (alice, bob):
        await opened(alice, bob)
        peer = RawPeer(alice, bob)
        tasks = [peer.block(bytes(4096)) for _ in range(2)]
        await turns()
        assert not any(task.done() for task in tasks)
        assert await within(peer.block(b"x")) == "resource-constraint"
        await asyncio.gather(*tasks)


async def test_a_block_that_is_lost_breaks_the_stream_after_what_came_before() -> None:
    async with two_sides() as (alice, bob):
        _, other = await opened(alice, bob)
        peer = RawPeer(alice, bob)
        assert await peer.block(b"one") == ""
        peer.sequence += 1
        assert await peer.block(b"three") == "unexpected-request"
        assert await within(other.read(9)) == b"one"
        with pytest.raises(StreamBroken):
            await within(other.read(9))


@pytest.mark.parametrize("how", ["let_go", "close", "abort"])
async def test_who_lets_go_is_given_nothing_more(how: str) -> None:
    # A reader that was about to wake up must not find bytes behind the end of its session.
    async with two_sides() as (alice, bob):
        _, other = await opened(alice, bob)
        reading = asyncio.create_task(other.read(10))
        await turns()
        task = RawPeer(alice, bob).block(b"late")
        while not other._unread:
            await asyncio.sleep(0)
        getattr(other, how)()
        with pytest.raises(StreamBroken):
            await within(reading)
        await task
        assert other._unread_bytes == 0
        assert bob.inband._streams == {}


async def test_a_refused_open_breaks_the_stream_and_forgets_it() -> None:
    async with two_sides() as (alice, bob):
        one = alice.inband.stream(bob.client.jid, OFFER)
        with pytest.raises(StreamBroken):
            await within(one.open())
        assert alice.inband._streams == {}
        with pytest.raises(StreamBroken):
            await one.write(b"x")


async def test_a_writer_waits_for_acknowledgements_and_is_woken_by_the_end() -> None:
    async with two_sides() as (alice, bob):
        one, _ = await opened(alice, bob)
        alice.server.attack = lambda sender, stanza: None
        writing = asyncio.create_task(one.write(bytes(4096 * 500)))
        await turns()
        assert not writing.done()
        flying = [t for t in asyncio.all_tasks() if "in-band" in t.get_name()]
        assert 0 < len(flying) < 100
        one.abort()
        with pytest.raises(StreamBroken):
            await within(writing)


async def test_smaller_blocks_can_be_agreed_on_and_larger_ones_not() -> None:
    async with two_sides() as (alice, bob):
        one = alice.inband.stream(bob.client.jid, OFFER)
        with pytest.raises(PeerError):
            one.agree(InBandOffer("stream", 8192))
        with pytest.raises(PeerError):
            one.agree(InBandOffer("other", 4096))
        one.agree(InBandOffer("stream", 1024))
        assert one._sender.limit <= 1024 * 16
