"""Bob's verified laptop says that his phone is his: real daemons, agents, handler, server."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.attest import identity, own
from telepathy_e2e.attest.statement import IDENTITY, signed_by_identity, vouching
from telepathy_e2e.handler.pins import LEAP_OF_FAITH, Alarm, Pin
from telepathy_e2e.xtls.identity import identity_fingerprint, make_identity
from tests.support.chat import sees
from tests.support.notifications import desktop
from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    AGENT,
    AGENT_NAME,
    AGENT_PATH,
    CHANNEL,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    Side,
)
from tests.support.trust import Trust
from tests.support.waiting import PATIENCE
from tests.unit.test_attest_identity import NOW, Device

DATA = secrets.token_bytes(50_000)
OFFLINE = 1


@dataclass
class World:
    """Alice, whose handler remembers Bob's laptop; ``pair.bob`` is the phone once it is there."""

    pair: Pair
    trust: Trust
    laptop: Side
    tmp: Path

    @property
    def jid(self) -> str:
        return self.pair.server.jid("bob")

    async def certificate(self, side: Side) -> bytes:
        jid = self.jid
        return bytes(await side.call(AGENT_NAME, AGENT_PATH, AGENT, "GetIdentity", "s", jid))

    async def fingerprint(self, side: Side) -> bytes:
        return identity_fingerprint(await self.certificate(side))

    async def tpe2e(self, side: Side, *words: str, code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telepathy_e2e.cli.main", "identity", *words),
            env={**os.environ, **side._environment()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode == code, out
        return out.decode()

    async def new_phone(self) -> None:
        """The laptop leaves the network and a phone without anybody's word comes."""
        self.pair.bob = await Side.start("bob")

    async def phone_connects(self) -> None:
        server, phone = self.pair.server, self.pair.bob
        given = parameters(server, self.jid)
        given["resource"] = Variant("s", "phone")
        # One account, two devices: from here on Alice is to find the phone.
        await self.laptop.cm(self.laptop.connection, CONNECTION, "Disconnect")
        await self.laptop.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
        await sees(self.pair.alice, self.jid, OFFLINE)
        await phone.connect(given, handles=(FILE_TRANSFER,))
        await sees(self.pair.alice, self.jid)
        await self.pair.sees(self.pair.alice, self.jid)
        await self.pair.sees(phone, server.jid("alice"))

    async def shows(self, data: bytes) -> None:
        """The phone shows this with its identity."""
        where = own.directory({"XDG_DATA_HOME": str(self.pair.bob.directory / "data")}, self.jid)
        phone = await self.fingerprint(self.pair.bob)
        own.store(where, own.OwnAttestation(IDENTITY, "Somebody vouches", phone, data))

    async def is_an_alarm(self, times: int = 1) -> None:
        """Nothing moves, and the person is told, not for the first time perhaps."""
        alice, asked = self.pair.alice, self.questions()
        mine, theirs = await self.pair.offer(DATA)
        sending = asyncio.ensure_future(alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(self.pair.bob.accept(theirs))
        path, shown = await alice.new_channel(VERIFICATION, skip=asked)
        assert shown[VERIFICATION + ".Attestations"][0][0] == IDENTITY
        assert IDENTITY not in shown[VERIFICATION + ".Methods"]
        async with asyncio.timeout(PATIENCE):
            while not (alarms := self.trust.alarms()) or alarms[0].count < times:
                await asyncio.sleep(0.02)
        (alarm,) = alarms
        assert (alarm.kind, alarm.contact, alarm.count) == (Alarm.CHANGED_KEY, self.jid, times)
        assert await alice.get(path, VERIFICATION, "State") == "pending"
        assert await alice.get(mine, FILE_TRANSFER, "TransferredBytes") == 0
        assert await alice.get(mine, SECURABLE, "Verified") is False
        # Nobody answers: nothing is learned of the key.
        await alice.cm(mine, CHANNEL, "Close")
        assert await receiving == b""
        await sending

    def questions(self) -> int:
        return sum(
            properties["org.freedesktop.Telepathy.Channel.ChannelType"] == VERIFICATION
            for each in self.pair.alice.signals
            if each.member == "NewChannels"
            for _, properties in each.body[0]
        )

    def remember(self, fingerprint: bytes, *methods: str) -> None:
        """As if Alice had met this key of Bob's before."""
        shown = fingerprint.hex(":").upper()
        today = NOW.date()
        pin = Pin(self.pair.server.jid("alice"), self.jid, shown, methods, today, today)
        self.trust.store.update(lambda book: book.put(pin))


async def finished(side: Side, path: str) -> tuple[str, str]:
    told = await side.signal(lambda s: s.path == path and s.member == "Finished")
    return told.body[0], told.body[1]


@pytest_asyncio.fixture
async def world(prosody: Prosody, tmp_path: Path) -> AsyncIterator[World]:
    pair = await Pair.start(prosody)
    laptop = pair.bob
    trust = await Trust.start(pair.alice)
    world = World(pair, trust, laptop, tmp_path)
    try:
        assert await pair.send(DATA) == DATA
        await trust.pinned(LEAP_OF_FAITH)
        world.remember(await world.fingerprint(laptop), "sas")
        await world.new_phone()
        yield world
        await trust.stop()
    finally:
        if pair.bob is not laptop:
            await laptop.stop()
        await pair.stop()


async def test_a_phone_that_the_verified_laptop_vouches_for_asks_nobody(world: World) -> None:
    phone, laptop = world.pair.bob, world.laptop
    key = (await world.fingerprint(phone)).hex(":").upper()
    word = world.tmp / "word.json"
    # Nobody can be asked on the laptop, then somebody says no, then yes.
    vouch = ("vouch", world.jid, key, str(word), "--yes")
    assert "no way to ask you" in await world.tpe2e(laptop, *vouch, code=1)
    async with desktop(laptop.address, press="refuse") as shown:
        assert "did not agree" in await world.tpe2e(laptop, *vouch, code=1)
        assert not word.exists()
        shown.press = "sign"
        said = await world.tpe2e(laptop, *vouch)
        assert key[:23].replace(":", " ") in shown.shown[-1][4]
    assert f"tpe2e identity attest identity {world.jid}" in said
    assert json.loads(word.read_text())["type"] == IDENTITY
    await world.tpe2e(phone, "attest", "identity", world.jid, str(word))
    await world.phone_connects()
    pair, alice = world.pair, world.pair.alice
    for _ in range(2):
        asked = world.questions()
        mine, theirs = await pair.offer(DATA)
        got, _ = await asyncio.gather(pair.bob.accept(theirs), alice.provide(mine, DATA))
        assert got == DATA
        path, _ = await alice.new_channel(VERIFICATION, skip=asked)
        told = await finished(alice, path)
        assert told == ("verified", "cross-signature")
        await alice.changed(mine, SECURABLE, "Verified", True)
        assert await alice.get(mine, E2E, "VerifiedBy") == "cross-signature"
        pin = await world.trust.pinned("cross-signature")
        assert pin.fingerprint == key
    assert world.trust.alarms() == []
    # The laptop is found out: what was taken on its word falls with it.
    world.remember(await world.fingerprint(laptop), "sas", "rejected")
    await world.is_an_alarm()


async def test_a_word_that_is_none_is_an_alarm(world: World) -> None:
    phone = await world.fingerprint(world.pair.bob)
    # Another verified device of Bob's, and what somebody makes who has his account or hers.
    desk, thief, accepted = (Device(world.jid, *make_identity(world.jid, NOW)) for _ in range(3))
    world.remember(desk.fingerprint, "password")
    world.remember(accepted.fingerprint, "cross-signature")
    alice = world.pair.server.jid("alice")
    # The verified one's certificate is nobody's secret; the signature is another's.
    signed = signed_by_identity(world.jid, IDENTITY, vouching(phone, desk.fingerprint))
    forged = identity.build(desk.certificate, thief.sign(signed))
    words = {
        "unverified": thief.vouch(phone),
        "only vouched for itself": accepted.vouch(phone),
        "signed by somebody else": forged,
        "for another address": desk.vouch(phone, jid="bob@elsewhere.test"),
        "for another key": desk.vouch(thief.fingerprint),
        "by another contact": Device(alice, *make_identity(alice, NOW)).vouch(phone, jid=world.jid),
    }
    await world.shows(b"x")
    await world.phone_connects()
    for times, data in enumerate(words.values(), 1):
        await world.shows(data)
        await world.is_an_alarm(times)
    assert world.trust.log.count("an attestation (identity) does not hold") == len(words) - 2
    assert phone.hex(":").upper() not in {pin.fingerprint for pin in world.trust.pins()}
    # It was the words alone.
    asked = world.questions()
    await world.shows(desk.vouch(phone))
    assert await world.pair.send(DATA) == DATA
    path, _ = await world.pair.alice.new_channel(VERIFICATION, skip=asked)
    told = await finished(world.pair.alice, path)
    assert told == ("verified", "cross-signature")


async def test_what_makes_no_sense_is_said_before_anything_is_signed(world: World) -> None:
    laptop, phone = world.laptop, world.pair.bob
    await world.certificate(phone)
    key = (await world.fingerprint(laptop)).hex(":").upper()
    async with desktop(laptop.address, press="sign") as shown:
        said = await world.tpe2e(laptop, "vouch", world.jid, key, "--yes", code=2)
        assert "the key of this device" in said
        other = f"xmpp:carol@example.org?x-e2e-verify;spki-sha-256={'0' * 64}"
        said = await world.tpe2e(laptop, "vouch", world.jid, other, "--yes", code=2)
        assert "not the key of a device of" in said
        assert "64 digits" in await world.tpe2e(laptop, "vouch", world.jid, "AA", "--yes", code=2)
        # Nobody is there to be asked, and nobody said --yes.
        await world.tpe2e(laptop, "vouch", world.jid, "0" * 64, code=2)
        assert shown.shown == []
        # To standard output, and by the URI that the phone shows; for another one than this phone.
        uri = f"xmpp:{world.jid}?x-e2e-verify;spki-sha-256={'0' * 64}"
        said = await world.tpe2e(laptop, "vouch", world.jid, uri, "--yes")
        assert len(shown.shown) == 1
    word = world.tmp / "word.json"
    word.write_text(said[said.index("{") :])
    said = await world.tpe2e(phone, "attest", "identity", world.jid, str(word), code=2)
    assert "another one than this account's identity" in said
    word.write_text("{}")
    said = await world.tpe2e(phone, "attest", "identity", world.jid, str(word), code=2)
    assert "is not what" in said
