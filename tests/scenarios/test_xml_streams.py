"""XML streams between two daemons: contacts' identities from themselves (spec/xml-streams.md)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.xtls.identity import identity_fingerprint
from telepathy_e2e.xtls.offer import shown
from telepathy_e2e.xtls.published import check_published
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, CONNECTION, E2E, FILE_TRANSFER, VERIFICATION, Side

IDENTITIES = CONNECTION + ".Interface.Identities1"
DATA = secrets.token_bytes(50_000)
# As with a server that does not tell: the node is empty.
SILENT = {"e2e_publish_identity": Variant("b", False)}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody, alice=SILENT, bob=SILENT)
    yield pair
    await pair.stop()


async def handle_of(side: Side, jid: str) -> int:
    return int((await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid]))[0])


async def identities(side: Side, jid: str) -> list[bytes]:
    handle = await handle_of(side, jid)
    found = await side.cm(side.connection, IDENTITIES, "GetIdentities", "u", handle)
    return [bytes(certificate) for certificate, _ in found]


async def told(side: Side, jid: str) -> None:
    """Wait until a contact has told of himself."""
    handle = await handle_of(side, jid)
    await side.signal(lambda s: s.member == "IdentitiesChanged" and s.body == (handle,))


async def test_a_key_that_no_server_tells_of_is_told_by_its_owner(pair: Pair) -> None:
    alice, bob = pair.server.jid("alice"), pair.server.jid("bob")
    assert await identities(pair.alice, bob) == []
    mine, theirs = await pair.offer(DATA)
    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, DATA))
    assert got == DATA
    fingerprints = await pair.alice.get(mine, E2E, "PeerFingerprints")
    await asyncio.gather(told(pair.alice, bob), told(pair.bob, alice))
    (bobs,), (alices,) = await identities(pair.alice, bob), await identities(pair.bob, alice)
    check_published(bobs, bob, datetime.now(UTC))
    check_published(alices, alice, datetime.now(UTC))
    assert fingerprints == {"sha-256": shown(identity_fingerprint(bobs))}


async def test_nobody_is_shown_anything_of_it(pair: Pair) -> None:
    """No channels but those of files, on either side."""
    for side in (pair.alice, pair.bob):
        types = {
            properties[CHANNEL + ".ChannelType"]
            for each in side.signals
            if each.member == "NewChannels"
            for _, properties in each.body[0]
        }
        assert types == {FILE_TRANSFER}


async def test_it_happens_once(pair: Pair) -> None:
    def opened() -> list[int]:
        return [side.log.count("an XML stream is open") for side in (pair.alice, pair.bob)]

    assert opened() == [1, 1]
    assert await pair.send(DATA) == DATA
    assert opened() == [1, 1]


async def test_who_is_asked_is_asked_about_the_file_and_nothing_else(prosody: Prosody) -> None:
    """Bob has said who Alice is, or let her through: her stream, and his, bring no question."""
    pair = await Pair.start(
        prosody, alice=SILENT, bob=SILENT, bob_handles=(FILE_TRANSFER, VERIFICATION)
    )
    alice, bob = pair.server.jid("alice"), pair.server.jid("bob")
    try:
        mine, theirs = await pair.offer(DATA)
        sending = asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, DATA))
        question, properties = await pair.bob.new_channel(VERIFICATION)
        assert properties[VERIFICATION + ".PayloadChannel"] == theirs
        await pair.bob.cm(question, VERIFICATION, "ProceedUnverified")
        assert (await sending)[0] == DATA
        await asyncio.gather(told(pair.alice, bob), told(pair.bob, alice))
        assert len(await identities(pair.alice, bob)) == 1
        assert len(await identities(pair.bob, alice)) == 1
        asked = [
            path
            for each in pair.bob.signals
            if each.member == "NewChannels"
            for path, immutable in each.body[0]
            if immutable[CHANNEL + ".ChannelType"] == VERIFICATION
        ]
        assert asked == [question]
    finally:
        await pair.stop()


@pytest.mark.parametrize("road", ["proxy", "ice", "in-band"])
async def test_it_goes_over_any_road(prosody: Prosody, road: str) -> None:
    only = {"TELEPATHY_E2E_ROADS": road, "TELEPATHY_E2E_MEDIA_LOOPBACK": "1"}
    sides = await asyncio.gather(Side.start("alice", env=only), Side.start("bob", env=only))
    pair = await Pair.start(prosody, alice=SILENT, bob=SILENT, sides=sides)
    alice, bob = pair.server.jid("alice"), pair.server.jid("bob")
    try:
        assert await pair.send(DATA) == DATA
        await asyncio.gather(told(pair.alice, bob), told(pair.bob, alice))
        assert len(await identities(pair.alice, bob)) == 1
        assert len(await identities(pair.bob, alice)) == 1
    finally:
        await pair.stop()
