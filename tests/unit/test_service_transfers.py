"""Whole transfers between two accounts in memory: every way in which one ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import Disconnected, InvalidArgument, NotAvailable
from telepathy_e2e.jingle import ibb
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service import enduring, file_channel, outgoing_file, payload
from telepathy_e2e.service.file_channel import FileChannel
from telepathy_e2e.service.file_details import (
    ACCEPTED,
    CANCELLED,
    COMPLETED,
    ENDED,
    LOCAL_STOPPED,
    OPEN,
    REMOTE_ERROR,
    REMOTE_STOPPED,
)
from telepathy_e2e.service.security import Security
from telepathy_e2e.trust.policy import Policy
from tests.unit.net_support import descriptors
from tests.unit.service_support import (
    GUARD,
    Side,
    connect,
    jingle_of,
    turns,
    two_sides,
    until,
    watch,
    within,
)

DATA = bytes(range(256)) * 300
LOCAL = (1, 0, 0)  # abstract socket, localhost


@asynccontextmanager
async def offered(
    data: bytes = DATA, policy: Policy = Policy.OPPORTUNISTIC, **demands: bool
) -> AsyncIterator[tuple[Side, Side, FileChannel, FileChannel]]:
    """A file that Bob was offered; when it is over, nothing of it may be left."""
    before = descriptors()
    async with two_sides() as (alice, bob):
        alice.policy = bob.policy = policy
        mine = alice.request_file(data, **demands)
        await until(lambda: bob.incoming or mine.state in ENDED)
        yield alice, bob, mine, bob.incoming[0]
        over = [each for each in (mine, *bob.incoming) if each.state in ENDED]
        await until(lambda: not any(each._tasks._tasks for each in over))
        if mine.state in ENDED:
            assert alice.hub.links() == bob.hub.links() == []
            assert not alice.inband._streams
            assert not bob.inband._streams
    await turns()
    assert descriptors() == before


async def give(mine: FileChannel, data: bytes) -> None:
    client = await connect(await mine.provide_file(*LOCAL))
    await client.write(data)
    await client.write_eof()
    client.close()


async def take(theirs: FileChannel, offset: int = 0) -> bytes:
    client = await connect(await theirs.accept_file(*LOCAL, offset))
    got = bytearray()
    try:
        async with asyncio.timeout(GUARD):
            while part := await client.read(1 << 16):
                got += part
    finally:
        client.close()
    return bytes(got)


async def carried(mine: FileChannel, theirs: FileChannel, data: bytes = DATA) -> bytes:
    taking = asyncio.create_task(take(theirs))
    await give(mine, data)
    got = await taking
    await until(lambda: mine.state in ENDED and theirs.state in ENDED)
    return got


@pytest.mark.parametrize("policy", [Policy.OPPORTUNISTIC, Policy.OFF])
async def test_a_file_arrives_and_nothing_of_the_transfer_is_left(policy: Policy) -> None:
    async with offered(policy=policy) as (alice, bob, mine, theirs):
        seen = watch(theirs)
        assert await carried(mine, theirs) == DATA
        assert (mine.state, theirs.state) == (COMPLETED, COMPLETED)
        assert mine.transferred_bytes == theirs.transferred_bytes == len(DATA)
        assert mine.encrypted is theirs.encrypted is (policy is not Policy.OFF)
        kinds = [type(event).__name__ for event in seen]
        assert kinds.index("InitialOffsetDefined") < kinds.index("TransferredBytesChanged")
        wire = b"".join(
            (data.text or "").encode() for _, s in alice.server.carried for data in s.iter(ibb.DATA)
        )
        assert (b"AAECAwQF" in wire) is (policy is Policy.OFF)
        assert alice.ended == [mine]
        assert bob.ended == [theirs]


async def test_only_what_is_missing_is_sent() -> None:
    async with offered() as (_, _, mine, theirs):
        taking = asyncio.create_task(take(theirs, 70_000))
        await until(lambda: mine.state == ACCEPTED)
        await until(lambda: mine.initial_offset == 70_000)
        await give(mine, DATA[70_000:])
        assert await taking == DATA[70_000:]
        await until(lambda: mine.state in ENDED)


async def test_an_offset_is_taken_up_to_the_end_and_not_beyond() -> None:
    async with offered() as (_, _, mine, theirs):
        with pytest.raises(InvalidArgument):
            await theirs.accept_file(*LOCAL, len(DATA) + 1)
        assert await carried(mine, theirs) == DATA


async def test_methods_in_the_wrong_state_or_twice_change_nothing() -> None:
    async with offered() as (_, _, mine, theirs):
        with pytest.raises(NotAvailable):
            await mine.accept_file(*LOCAL, 0)
        with pytest.raises(NotAvailable):
            await theirs.provide_file(*LOCAL)
        with pytest.raises(NotAvailable):
            mine.set_uri("file:///x")
        taking = asyncio.create_task(take(theirs))
        await until(lambda: theirs.state == ACCEPTED)
        with pytest.raises(NotAvailable):
            await theirs.accept_file(*LOCAL, 0)
        with pytest.raises(NotAvailable):
            theirs.set_uri("file:///x")
        await give(mine, DATA)
        with pytest.raises(NotAvailable):
            await mine.provide_file(*LOCAL)
        assert await taking == DATA


@pytest.mark.parametrize(
    ("who", "accepted", "condition"),
    [("mine", False, "cancel"), ("theirs", False, "decline"), ("theirs", True, "cancel")],
)
async def test_who_closes_stops_it_for_both(who: str, accepted: bool, condition: str) -> None:
    async with offered() as (alice, bob, mine, theirs):
        if accepted:
            await theirs.accept_file(*LOCAL, 0)
            await until(lambda: theirs.encrypted)
        closing, other = (mine, theirs) if who == "mine" else (theirs, mine)
        side = alice if who == "mine" else bob
        ours, others = watch(closing), watch(other)
        closing.close()
        await until(lambda: other.state == CANCELLED)
        assert alice.server.reason(side.client.jid) == condition
        assert ours[-2].reason == LOCAL_STOPPED  # type: ignore[attr-defined]
        assert ours[-1].__class__.__name__ == "Closed"
        assert others[-1].reason == REMOTE_STOPPED  # type: ignore[attr-defined]
        assert closing.error.endswith(".Cancelled")
        assert other.error.endswith(".Terminated")
        for method in (other.verify, closing.verify):
            with pytest.raises(Exception, match="cancelled"):
                method()


async def test_a_connection_that_goes_takes_the_transfer_with_it() -> None:
    async with offered() as (alice, _, mine, theirs):
        await theirs.accept_file(*LOCAL, 0)
        await until(lambda: theirs.encrypted)
        mine.disconnected(Disconnected("gone"), stopped=False)
        await until(lambda: theirs.state == CANCELLED)
        assert alice.server.reason(alice.client.jid) == "gone"
        assert mine.error.endswith(".Disconnected")
        assert mine.closed
        assert not theirs.closed


async def test_a_local_program_that_breaks_off_is_no_end_of_the_file() -> None:
    async with offered() as (alice, _, mine, theirs):
        taking = asyncio.create_task(take(theirs))
        await give(mine, DATA[:-1])
        await until(lambda: mine.state == CANCELLED and theirs.state == CANCELLED)
        assert alice.server.reason(alice.client.jid) == "failed-application"
        assert theirs.state == CANCELLED
        await asyncio.gather(taking, return_exceptions=True)


async def test_in_the_clear_a_changed_byte_is_found_by_the_hash() -> None:
    changed: list[Element] = []

    def attack(sender: str, stanza: Element) -> Element:
        for data in stanza.iter(ibb.DATA):
            if not changed and data.text:
                changed.append(data)
                data.text = ("B" if data.text[0] != "B" else "C") + data.text[1:]
        return stanza

    async with offered(policy=Policy.OFF) as (alice, bob, mine, theirs):
        alice.server.attack = attack
        # A UNIX socket cannot show its reader that it was broken; the state does.
        with contextlib.suppress(StreamBroken):
            assert await carried(mine, theirs) != DATA
        await until(lambda: theirs.state in ENDED and mine.state in ENDED)
        assert (theirs.state, mine.state) == (CANCELLED, CANCELLED)
        assert alice.server.reason(bob.client.jid) == "media-error"


def say_success(side: Side) -> None:
    """The other side, which knows nothing of it, ends the session."""
    session = side.hub.links()[0]
    jingle = Element("{urn:xmpp:jingle:1}jingle", action="session-terminate", sid=session.sid)
    reason = Element("{urn:xmpp:jingle:1}reason")
    reason.append(Element("{urn:xmpp:jingle:1}success"))
    jingle.append(reason)
    iq = Element("{jabber:client}iq", {"type": "set", "id": "1", "from": session.peer})
    iq.append(jingle)
    side.client.iqs.receive(iq)


async def test_success_that_is_told_before_anything_came_completes_nothing() -> None:
    async with offered() as (_, bob, mine, theirs):
        say_success(bob)
        assert theirs.state == CANCELLED
        mine.close()


@pytest.mark.parametrize("policy", [Policy.OPPORTUNISTIC, Policy.OFF])
async def test_a_sender_that_is_done_and_does_not_send_the_rest_ends_it(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "REST_SECONDS", 0.05)
    async with offered(policy=policy) as (_, bob, mine, theirs):
        getting = await connect(await theirs.accept_file(*LOCAL, 0))
        giving = await connect(await mine.provide_file(*LOCAL))
        await giving.write(DATA[:1000])
        assert await within(getting.read(1000)) == DATA[:1000]
        say_success(bob)
        assert theirs.state == OPEN
        await until(lambda: theirs.state == CANCELLED)
        assert theirs.failure is not None
        mine.close()
        for client in (getting, giving):
            client.close()


async def test_an_accept_that_comes_twice_or_late_is_refused() -> None:
    async with offered() as (alice, bob, mine, theirs):
        await theirs.accept_file(*LOCAL, 0)
        await until(lambda: theirs.encrypted and mine.encrypted)
        accept = next(
            stanza
            for who, stanza in alice.server.carried
            if who == bob.client.jid
            and (jingle := jingle_of(stanza)) is not None
            and jingle.get("action") == "session-accept"
        )
        for again in range(2):
            count = len(alice.server.carried)
            alice.client.iqs.receive(accept)
            answer = alice.server.carried[count][1]
            assert answer.get("type") == "error"
            if not again:
                assert mine.state not in ENDED
                mine.close()
                await turns()


async def test_a_peer_that_goes_offline_and_moves_nothing_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_channel, "STANDSTILL", 0.01)
    async with offered() as (_, _, mine, theirs):
        events = watch(mine)
        mine.peer_offline()
        await until(lambda: mine.state == CANCELLED)
        assert events[-1].reason == REMOTE_ERROR  # type: ignore[attr-defined]
        await until(lambda: theirs.state == CANCELLED)


async def test_a_receiver_that_confirms_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attack(sender: str, stanza: Element) -> Element | None:
        jingle = jingle_of(stanza)
        done = ("session-info", "session-terminate")
        if jingle is not None and jingle.get("action") in done and sender.startswith("bob"):
            return None
        return stanza

    monkeypatch.setattr(outgoing_file, "CONFIRMATION_TIMEOUT", 1.0)
    async with offered() as (alice, _, mine, theirs):
        alice.server.attack = attack
        assert await carried(mine, theirs) == DATA
        assert (mine.state, theirs.state) == (CANCELLED, COMPLETED)
        await until(lambda: alice.server.reason(alice.client.jid) == "timeout")


async def test_a_demand_keeps_every_byte_back_until_somebody_vouches() -> None:
    async with offered(encrypted=True, verified=True) as (alice, _, mine, theirs):
        taking = asyncio.create_task(take(theirs))
        giving = asyncio.create_task(give(mine, DATA))
        await until(lambda: alice.questions)
        await turns()
        assert mine.transferred_bytes == theirs.transferred_bytes == 0
        assert mine.state == ACCEPTED
        alice.questions[0].accept("fingerprint")
        assert await within(taking) == DATA
        await giving
        assert mine.verified
        assert not theirs.verified


@pytest.mark.parametrize("held", ["key", "question"])
async def test_stopped_while_it_waits_for_somebody_it_leaves_nothing(held: str) -> None:
    async with offered() as (_, bob, mine, theirs):
        gate = asyncio.Event()
        if held == "key":
            bob.identities.gate = gate
        else:
            bob.handler = True
        try:
            await theirs.accept_file(*LOCAL, 0)
            if held == "question":
                await until(lambda: bob.questions)
            await turns()
            theirs.close()
        finally:
            bob.identities.gate = None
        await until(lambda: mine.state == CANCELLED)
        assert all(question.closed for question in bob.questions)


# -- another road (spec/resume.md) -------------------------------------------------------------


@pytest.mark.parametrize("whose", ["mine", "theirs"])
async def test_a_road_that_is_cut_in_its_handshake_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    secure = Security.secure
    cut: list[int] = []

    async def cut_once(security: Security, road: Stream) -> Stream:
        if security._payload is chosen[0]:
            cut.append(security._epoch)
            if len(cut) == 2:
                road.abort()
        return await secure(security, road)

    monkeypatch.setattr(Security, "secure", cut_once)
    chosen: list[FileChannel] = []
    async with offered() as (_alice, _bob, mine, theirs):
        chosen.append(mine if whose == "mine" else theirs)
        getting = await connect(await theirs.accept_file(*LOCAL, 0))
        giving = await connect(await mine.provide_file(*LOCAL))
        await giving.write(DATA[:1000])
        got = await within(getting.read(1 << 16))
        chosen[0]._carried[0].abort()
        await giving.write(DATA[1000:])
        await giving.write_eof()
        while part := await within(getting.read(1 << 16)):
            got += part
        assert got == DATA
        await until(lambda: mine.state in ENDED and theirs.state in ENDED)
        assert (mine.state, theirs.state) == (COMPLETED, COMPLETED)
        assert len(cut) > 2
        getting.close()
        giving.close()


async def test_roads_that_are_all_cut_in_their_handshakes_are_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secure = Security.secure
    roads = 0

    async def cut(security: Security, road: Stream) -> Stream:
        nonlocal roads
        roads += 1
        if roads > 2:
            road.abort()
        return await secure(security, road)

    monkeypatch.setattr(Security, "secure", cut)
    async with offered() as (_alice, _bob, mine, theirs):
        getting = await connect(await theirs.accept_file(*LOCAL, 0))
        giving = await connect(await mine.provide_file(*LOCAL))
        await giving.write(DATA[:1000])
        await within(getting.read(1 << 16))
        mine._carried[0].abort()
        await until(lambda: mine.state in ENDED and theirs.state in ENDED)
        assert (mine.state, theirs.state) == (CANCELLED, CANCELLED)
        getting.close()
        giving.close()


async def test_a_question_may_stay_open_for_longer_than_a_road_may_be_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enduring, "SILENCE", 0.1)
    async with offered() as (alice, bob, mine, theirs):
        bob.handler = True
        taking = asyncio.create_task(take(theirs))
        giving = await connect(await mine.provide_file(*LOCAL))
        await giving.write(DATA[:1000])
        await until(lambda: bob.questions and mine.transferred_bytes)
        await asyncio.sleep(0.5)
        monkeypatch.setattr(enduring, "SILENCE", 30.0)
        assert mine.state == OPEN
        assert theirs.state == ACCEPTED
        bob.questions[0].accept("fingerprint")
        await giving.write(DATA[1000:])
        await giving.write_eof()
        assert await within(taking) == DATA
        giving.close()
        assert "transport-replace" not in alice.server.actions(alice.client.jid)


@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize("whose", ["mine", "theirs"])
async def test_a_road_that_is_lost_while_a_question_is_open_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch, whose: str, said: bool
) -> None:
    monkeypatch.setattr(enduring, "TELL_SECONDS", 0.05)
    async with offered() as (_alice, bob, mine, theirs):
        bob.handler = True
        taking = asyncio.create_task(take(theirs))
        giving = await connect(await mine.provide_file(*LOCAL))
        await until(lambda: bob.questions and mine.state == OPEN)
        if said:
            await giving.write(DATA[:1000])
            await until(lambda: mine.transferred_bytes)
            await turns()
        (mine if whose == "mine" else theirs)._carried[0].abort()
        (question,) = bob.questions
        await turns()
        question.accept("fingerprint")
        await giving.write(DATA[1000 * said :])
        await giving.write_eof()
        assert await within(taking) == DATA
        giving.close()
        await until(lambda: mine.state in ENDED and theirs.state in ENDED)
        assert (mine.state, theirs.state) == (COMPLETED, COMPLETED)
        assert theirs.verified
        assert len(bob.questions) == 1
