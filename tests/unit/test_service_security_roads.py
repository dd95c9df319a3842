"""Protection that outlives its road, and roads that bring an encryption of their own."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest

from telepathy_e2e.errors import EncryptionError, PeerError
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.secure_stream import DtlsStream
from telepathy_e2e.xtls import association, protection
from telepathy_e2e.xtls.association import MAX_EARLY, Handshake
from telepathy_e2e.xtls.sealed import SEALED
from tests.unit.service_support import (
    Attack,
    Secured,
    Side,
    jingle_of,
    two_sides,
    until,
    within,
)


async def exchange(one: Stream, other: Stream) -> None:
    for sender, receiver in ((one, other), (other, one)):
        await sender.write(b"payload")
        assert await within(receiver.read(100)) == b"payload"


def sealed_in(stanza: Element) -> Element | None:
    jingle = jingle_of(stanza)
    return None if jingle is None else jingle.find(SEALED)


class Recorder:
    """A server that keeps every sealed message, who sent it, and can hold some back."""

    def __init__(self, hold_epoch: str = "") -> None:
        self.seen: list[tuple[str, Element]] = []
        self._hold = hold_epoch

    def __call__(self, sender: str, stanza: Element) -> Element | None:
        sealed = sealed_in(stanza)
        if sealed is not None:
            self.seen.append((sender, fromstring(tostring(sealed))))  # noqa: S314
            if self._hold and sealed.get("epoch") == self._hold:
                return None
        return stanza

    def epochs(self) -> set[str | None]:
        return {sealed.get("epoch") for _, sealed in self.seen}


def attacked(alice: Side, attack: Attack) -> None:
    alice.server.attack = attack


# -- another road ---------------------------------------------------------------------------


async def test_payload_goes_on_over_another_road_with_keys_of_its_own() -> None:
    async with two_sides() as (alice, bob):
        recorder = Recorder()
        attacked(alice, recorder)
        pair = await Secured(alice, bob, renewable=True).agree()
        await exchange(*await pair.secured())
        await pair.renew()
        await exchange(*await pair.secured())
        assert recorder.epochs() == {"0", "1"}
        assert all(end.security.encrypted and not end.payload.failures for end in pair.ends)


async def test_whoever_was_verified_stays_so_and_nobody_is_asked_again() -> None:
    async with two_sides() as (alice, bob):
        alice.always_verify = True
        pair = await Secured(alice, bob, renewable=True).agree()
        tasks = pair.start()
        await until(lambda: alice.questions)
        alice.questions[0].accept("fingerprint")
        await within(asyncio.gather(*tasks))
        await pair.renew()
        await exchange(*await pair.secured())
        assert pair.ends[0].security.verified
        assert len(alice.questions) == 1


async def test_a_question_stays_open_while_the_road_is_replaced() -> None:
    async with two_sides() as (alice, bob):
        alice.always_verify = True
        pair = await Secured(alice, bob, renewable=True).agree()
        task, other = pair.start()
        await until(lambda: alice.questions)
        await within(other)
        pair.roads[0].cut()
        with pytest.raises(StreamBroken):
            await within(task)
        await pair.renew()
        task, other = pair.start()
        await within(other)
        assert not task.done()
        alice.questions[0].proceed_unverified()
        await within(task)
        assert len(alice.questions) == 1


@pytest.mark.parametrize("end", [0, 1])
async def test_a_road_that_is_cut_is_broken_and_no_failure(end: int) -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        streams = await pair.secured()
        pair.roads[end].cut()
        with pytest.raises(StreamBroken):
            await within(streams[end].read(10))
        assert pair.ends[end].payload.failures == []


async def test_a_later_road_that_is_cut_in_the_handshake_is_broken_and_the_first_a_failure() -> (
    None
):
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        await pair.renew()
        task = asyncio.get_running_loop().create_task(pair.ends[0].security.secure(pair.roads[0]))
        await until(lambda: pair.roads[0].written)
        pair.roads[0].cut()
        with pytest.raises(StreamBroken):
            await within(task)
        await pair.renew()
        await exchange(*await pair.secured())
        pair = await Secured(alice, bob, renewable=True).agree()
        task = asyncio.get_running_loop().create_task(pair.ends[0].security.secure(pair.roads[0]))
        await until(lambda: pair.roads[0].written)
        pair.roads[0].cut()
        with pytest.raises(SecurityFailed):
            await within(task)


async def test_a_later_road_that_stalls_in_the_handshake_is_broken_and_the_first_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        await pair.renew()
        with monkeypatch.context() as hasty:
            hasty.setattr(protection, "HANDSHAKE_TIMEOUT", 0.01)
            with pytest.raises(StreamBroken):
                await within(pair.ends[0].security.secure(pair.roads[0]))
        assert pair.ends[0].payload.failures == []
        await pair.renew()
        await exchange(*await pair.secured())
        pair = await Secured(alice, bob, renewable=True).agree()
        monkeypatch.setattr(protection, "HANDSHAKE_TIMEOUT", 0.01)
        with pytest.raises(SecurityFailed):
            await within(pair.ends[0].security.secure(pair.roads[0]))


async def test_a_hello_that_does_not_come_ends_it_on_a_later_road_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The servers keep it back, and would on another road."""
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        attacked(alice, Recorder(hold_epoch="1"))
        await pair.renew()
        monkeypatch.setattr(association, "HELLO_TIMEOUT", 0.01)
        with pytest.raises(SecurityFailed):
            await pair.secured()
        await until(lambda: all(end.payload.failures for end in pair.ends))


async def test_who_still_has_the_former_road_finds_it_broken() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        former, _ = await pair.secured()
        await pair.renew()
        await exchange(*await pair.secured())
        for use in (former.read(10), former.write(b"of the former")):
            with pytest.raises(StreamBroken):
                await within(use)


async def test_a_comparison_of_strings_ends_with_its_road_and_can_begin_again() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        for end in pair.ends:
            end.security.verify()
        alice.questions[0].start_sas()
        await until(lambda: bob.questions[0].state == "comparing")
        bob.questions[0].start_sas()
        await until(lambda: alice.questions[0].short_authentication_string)
        former = alice.questions[0].short_authentication_string
        await pair.renew()
        await pair.secured()
        assert alice.questions[0].short_authentication_string == ""
        assert not any(end.security.verified for end in pair.ends)
        alice.questions[0].start_sas()
        await until(lambda: bob.questions[0].state == "comparing")
        bob.questions[0].start_sas()
        await until(
            lambda: all(side.questions[0].short_authentication_string for side in (alice, bob))
        )
        assert alice.questions[0].short_authentication_string != former
        for side in (alice, bob):
            side.questions[0].confirm_sas(True)
        await until(lambda: all(end.security.verified for end in pair.ends))


async def test_messages_of_a_former_road_are_refused_and_change_nothing() -> None:
    async with two_sides() as (alice, bob):
        recorder = Recorder()
        attacked(alice, recorder)
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        await pair.renew()
        one, other = pair.start()
        await within(asyncio.gather(one, other))
        for _, sealed in [each for each in recorder.seen if each[1].get("epoch") == "0"]:
            for end in pair.ends:
                with pytest.raises(PeerError):
                    end.security.receive((sealed,))
        await exchange(one.result(), other.result())


async def test_another_certificate_on_the_next_road_ends_it() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        theirs = pair.ends[1].security
        assert theirs._session is not None
        # Certified by the same identity even: what counts is what was announced.
        theirs._session = replace(theirs._session, credentials=await theirs.certify())
        await pair.renew()
        task, _ = pair.start()
        with pytest.raises(SecurityFailed) as failure:
            await within(task)
        assert failure.value.condition == "security-error"


async def test_another_identity_than_people_have_judged_ends_it() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        ours = pair.ends[0]
        assert ours.security._protected is not None
        ours.security._on_protected(replace(ours.security._protected, peer_fingerprint=bytes(32)))
        assert [failure.condition for failure in ours.payload.failures] == ["security-error"]


async def test_messages_for_a_road_that_never_comes_are_bounded() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        ours = pair.ends[0].security
        for n in range(MAX_EARLY):
            ours.receive((_sealed(1, n),))
        with pytest.raises(PeerError):
            ours.receive((_sealed(1, MAX_EARLY),))
        assert pair.ends[0].payload.failures[0].condition == "security-error"


def _sealed(epoch: int, n: int) -> Element:
    element = Element(SEALED, {"epoch": str(epoch), "n": str(n)})
    element.text = "AAAA"
    return element


# -- roads with an encryption of their own ----------------------------------------------------


class FakeDtls(DtlsStream):
    """A data channel whose DTLS went as it was told; the secret is what both ends share."""

    def __init__(self, road: Stream, peer_leaf: bytes, secret: bytes = b"shared") -> None:
        self._road = road
        self._handshake = Handshake(peer_leaf, "TLS_AES_256_GCM_SHA384", "X25519")
        self._secret = secret
        self.broken = asyncio.Event()

    @property
    def handshake(self) -> Handshake:
        return self._handshake

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        return hashlib.shake_256(self._secret + label + context).digest(length)

    async def wait_broken(self) -> None:
        await self.broken.wait()

    async def read(self, limit: int) -> bytes:
        return await self._road.read(limit)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await self._road.write(data)

    async def write_eof(self) -> None:
        await self._road.write_eof()

    def close(self) -> None:
        self._road.close()

    def abort(self) -> None:
        self._road.abort()


def data_channels(pair: Secured, secrets: tuple[bytes, bytes] = (b"one", b"one")) -> list[FakeDtls]:
    leaves = []
    for end in pair.ends:
        assert end.security.credentials is not None
        leaves.append(end.security.credentials.leaf)
    return [
        FakeDtls(road, leaf, secret)
        for road, leaf, secret in zip(pair.roads, reversed(leaves), secrets, strict=True)
    ]


def start(pair: Secured, roads: list[FakeDtls]) -> list[asyncio.Task[Stream]]:
    loop = asyncio.get_running_loop()
    return [
        loop.create_task(end.security.secure(road))
        for end, road in zip(pair.ends, roads, strict=True)
    ]


async def test_the_encryption_of_a_road_counts_and_there_is_none_inside_it() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        roads = data_channels(pair)
        streams = await within(asyncio.gather(*start(pair, roads)))
        assert streams == roads
        for end in pair.ends:
            assert end.security.encrypted
            assert end.security.protocol == "dtls-sctp"
            assert end.security.peer_closed
        await exchange(*streams)


async def test_over_a_data_channel_payload_waits_for_whoever_must_be_asked() -> None:
    async with two_sides() as (alice, bob):
        alice.always_verify = True
        pair = await Secured(alice, bob).agree()
        task, other = start(pair, data_channels(pair))
        await until(lambda: alice.questions)
        await within(other)
        assert not task.done()
        alice.questions[0].reject("not he")
        with pytest.raises(SecurityFailed):
            await within(task)


async def test_a_hello_that_comes_before_our_own_handshake_is_known_waits() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        roads = data_channels(pair)
        theirs = asyncio.get_running_loop().create_task(pair.ends[1].security.secure(roads[1]))
        await until(lambda: pair.ends[0].security._early)
        ours = await within(pair.ends[0].security.secure(roads[0]))
        await exchange(ours, await within(theirs))


async def test_from_tls_to_a_data_channel_and_back_people_stay_verified() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, renewable=True).agree()
        await pair.secured()
        pair.ends[0].security.verify()
        alice.questions[0].accept("fingerprint")
        ours = pair.ends[0].security
        await pair.renew()
        await within(asyncio.gather(*start(pair, data_channels(pair))))
        assert (ours.protocol, ours.verified_by) == ("dtls-sctp", "fingerprint")
        await pair.renew()
        await exchange(*await pair.secured())
        assert (ours.protocol, ours.verified_by) == ("xtls", "fingerprint")


async def test_somebody_between_two_data_channels_is_found_out() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        tasks = start(pair, data_channels(pair, (b"one", b"another")))
        with pytest.raises(SecurityFailed) as failure:
            await within(tasks[0])
        assert isinstance(failure.value.error, EncryptionError)
        assert failure.value.condition == "security-error"
        await within(asyncio.gather(*tasks, return_exceptions=True))


async def test_a_data_channel_with_another_certificate_is_refused() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        roads = data_channels(pair)
        stranger = await pair.ends[1].security.certify()
        roads[0]._handshake = replace(roads[0].handshake, peer_leaf=stranger.leaf)
        tasks = start(pair, roads)
        with pytest.raises(SecurityFailed) as failure:
            await within(tasks[0])
        assert failure.value.condition == "security-error"
        await within(asyncio.gather(*tasks, return_exceptions=True))


async def test_a_data_channel_that_breaks_while_hellos_are_awaited_is_noticed() -> None:
    async with two_sides() as (alice, bob):
        attacked(alice, Recorder(hold_epoch="0"))
        pair = await Secured(alice, bob, renewable=True).agree()
        roads = data_channels(pair)
        tasks = start(pair, roads)
        roads[0].broken.set()
        with pytest.raises(StreamBroken):
            await within(tasks[0])
        tasks[1].cancel()
