"""Identities on their nodes: seen by contacts and by strangers, taken back, forged, replaced."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.identity import identity_fingerprint
from telepathy_e2e.xtls.offer import shown
from telepathy_e2e.xtls.published import NODE, Published, build_published, check_published, item_id
from tests.peer import credentials, stanzas
from tests.peer.client import BASE, PROTECTED, Peer
from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    TP,
    DBusFailure,
    Side,
    Signal,
)
from tests.support.waiting import PATIENCE

IDENTITIES = CONNECTION + ".Interface.Identities1"
DATA = secrets.token_bytes(50_000)
OFF = {"e2e_publish_identity": Variant("b", False)}

pytestmark = pytest.mark.asyncio(loop_scope="module")

Found = list[tuple[bytes, list[tuple[str, str, bytes]]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    prosody.add_account("dave")
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


async def handle_of(side: Side, jid: str) -> int:
    return int((await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid]))[0])


async def identities(side: Side, jid: str) -> Found:
    handle = await handle_of(side, jid)
    found = await side.cm(side.connection, IDENTITIES, "GetIdentities", "u", handle)
    return [(bytes(der), [(a, b, bytes(c)) for a, b, c in more]) for der, more in found]


async def changed(side: Side, jid: str, *, after: int = 0) -> None:
    """Wait for IdentitiesChanged, past the first so many signals."""
    handle = await handle_of(side, jid)

    def told(_: Signal) -> bool:
        later = side.signals[after:]
        return any(s.member == "IdentitiesChanged" and s.body == (handle,) for s in later)

    await side.signal(told)


async def write(peer: Peer, name: str, payload: Element | None) -> None:
    """Publish into the peer's own node, or retract."""
    options = {"pubsub#access_model": "open", "pubsub#max_items": "16"}
    query = (
        pubsub.retract(NODE, name)
        if payload is None
        else pubsub.publish(NODE, name, payload, options)
    )
    answer = await peer.ask(peer.jid.partition("/")[0], query)
    assert answer.get("type") == "result"


def for_jid(jid: str) -> bytes:
    return credentials.fresh_identity(jid)[1]


async def test_a_contact_s_identity_is_known_before_any_session(pair: Pair) -> None:
    bob = pair.server.jid("bob")
    await changed(pair.alice, bob)
    ((certificate, attestations),) = await identities(pair.alice, bob)
    assert attestations == []
    check_published(certificate, bob, datetime.now(UTC))
    assert await identities(pair.bob, bob) == [(certificate, [])]
    # And it is the one that a session shows.
    mine, theirs = await pair.offer(DATA)
    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, DATA))
    assert got == DATA
    fingerprints = await pair.alice.get(mine, E2E, "PeerFingerprints")
    assert fingerprints == {"sha-256": shown(identity_fingerprint(certificate))}
    assert "none of those that he publishes" not in pair.alice.log


async def test_a_stranger_can_ask_and_learns_the_key_alone(pair: Pair, prosody: Prosody) -> None:
    bob = pair.server.jid("bob")
    dave = await Peer.start(prosody, "dave", features=PROTECTED)
    try:
        answer = await dave.ask(bob, pubsub.items(NODE), type="get")
        (item,) = pubsub.parse_items(answer[0], NODE)
        ((certificate, _),) = await identities(pair.alice, bob)
        assert item.id == item_id(certificate)
        assert item.payload is not None
        assert [each.text is not None for each in item.payload] == [True]
        # The other way: somebody here asks about him.
        hers = for_jid(pair.server.jid("dave"))
        said = Attestation("openpgp", "Signed by Dave", b"statement")
        await write(dave, "1", build_published(Published(hers, (said,))))
        found = await identities(pair.alice, pair.server.jid("dave"))
        assert found == [(hers, [("openpgp", "Signed by Dave", b"statement")])]
    finally:
        await dave.stop()
    # This server does not tell strangers what is not there.
    with pytest.raises(DBusFailure) as caught:
        await identities(pair.alice, "nobody@" + pair.server.domain)
    assert caught.value.name == TP + "Error.PermissionDenied"


async def test_who_is_nobody_s_contact_is_an_error(pair: Pair) -> None:
    alice = pair.alice
    with pytest.raises(DBusFailure) as caught:
        await alice.cm(alice.connection, IDENTITIES, "GetIdentities", "u", 9999)
    assert caught.value.name == TP + "Error.InvalidHandle"


async def offered_security(side: Side, peer: Peer) -> bool:
    """Whether a file is offered to the peer with protection."""
    mine = await side.offer_file(peer.jid.partition("/")[0], "file.bin", len(DATA))
    offer = await (await peer.offered()).wait("session-initiate")
    await side.cm(mine, TP + "Channel", "Close")
    return offer.find(f".//{{{stanzas.XTLS}}}security") is not None


async def test_whoever_publishes_a_key_is_offered_protection_whatever_his_features(
    pair: Pair, prosody: Prosody
) -> None:
    """A server that takes XTLS out of the capabilities has to withhold the node as well."""
    alice, carol = pair.alice, pair.server.jid("carol")
    peer = await Peer.start(prosody, "carol", features=BASE)
    try:
        await pair.sees(alice, carol)
        assert not await offered_security(alice, peer)
        seen = len(alice.signals)
        await write(peer, "1", build_published(Published(for_jid(carol))))
        await changed(alice, carol, after=seen)
        assert await offered_security(alice, peer)
        # Taken back, it is no less expected of him.
        seen = len(alice.signals)
        await write(peer, "1", None)
        await changed(alice, carol, after=seen)
        assert await identities(alice, carol) == []
        assert await offered_security(alice, peer)
    finally:
        await peer.stop()


async def test_what_is_forged_is_dropped(pair: Pair, prosody: Prosody) -> None:
    alice = pair.alice
    carol, bob = pair.server.jid("carol"), pair.server.jid("bob")
    before = await identities(alice, bob)
    peer = await Peer.start(prosody, "carol", features=PROTECTED)
    try:
        seen = len(alice.signals)
        forged = for_jid(bob)
        broken = bytearray(for_jid(carol))
        broken[-1] ^= 1
        long = Element(f"{{{NODE}}}pubkey")
        SubElement(long, f"{{{NODE}}}identity").text = "A" * 20_000
        await write(peer, "1", build_published(Published(forged)))
        await write(peer, "2", build_published(Published(bytes(broken))))
        await write(peer, "3", long)
        await write(peer, "4", Element("{urn:x}something"))
        await changed(alice, carol, after=seen)
        assert await identities(alice, carol) == []
        assert await identities(alice, bob) == before
        assert "an identity certificate of somebody else" in alice.log
        # A good one beside them counts.
        good = for_jid(carol)
        await write(peer, "5", build_published(Published(good)))
        assert await identities(alice, carol) == [(good, [])]
        for number in "12345":
            await write(peer, number, None)
    finally:
        await peer.stop()


async def test_a_server_that_replaces_it_makes_nobody_verified(
    pair: Pair, prosody: Prosody
) -> None:
    """Whoever can write to the node can do this; the server needs no password for it."""
    alice, bob = pair.alice, pair.server.jid("bob")
    ((own, _),) = await identities(alice, bob)
    writer = await Peer.start(prosody, "bob", resource="server", features=BASE)
    try:
        false = for_jid(bob)
        seen = len(alice.signals)
        await write(writer, item_id(own), None)
        await write(writer, "1", build_published(Published(false)))
        await changed(alice, bob, after=seen)
        # It is what the node says, and no more.
        assert await identities(alice, bob) == [(false, [])]
    finally:
        await writer.stop()
    # Alice, who was not there before, meets him.
    side = await Side.start("alice2")
    try:
        await side.connect(
            parameters(prosody, pair.server.jid("alice"), resource=Variant("s", "second")),
            handles=(FILE_TRANSFER,),
        )
        other = Pair(pair.server, side, pair.bob)
        await other.sees(side, bob)
        await changed(side, bob)
        mine, theirs = await other.offer(DATA)
        got, _ = await asyncio.gather(pair.bob.accept(theirs), side.provide(mine, DATA))
        assert got == DATA
        assert await side.get_all(mine, SECURABLE) == {"Encrypted": True, "Verified": False}
        assert await side.get(mine, E2E, "PeerFingerprints") == {
            "sha-256": shown(identity_fingerprint(own))
        }
        async with asyncio.timeout(PATIENCE):
            while "none of those that he publishes" not in side.log:
                await side.get(side.connection, CONNECTION, "Status")
    finally:
        await side.stop()


async def test_switched_off_it_is_gone(pair: Pair, prosody: Prosody) -> None:
    alice, bob = pair.alice, pair.server.jid("bob")
    side = await Side.start("later")
    settings = {"resource": Variant("s", "later")}
    try:
        for more, there in (({}, True), (OFF, False), ({}, True)):
            seen = len(alice.signals)
            side.signals.clear()
            await side.connect(parameters(prosody, bob, **settings, **more), handles=())
            await changed(alice, bob, after=seen)
            own = await identity_of(side)
            listed = [certificate for certificate, _ in await identities(alice, bob)]
            assert (own in listed) is there
            await side.cm(side.connection, CONNECTION, "Disconnect")
            await side.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
    finally:
        await side.stop()


async def identity_of(side: Side) -> bytes:
    """What this desktop's key agent has."""
    agent = TP + "E2E.KeyAgent"
    path = "/" + agent.replace(".", "/")
    me = await side.get(side.connection, CONNECTION, "SelfID")
    return bytes(await side.call(agent, path, agent + "1", "GetIdentity", "s", me))
