"""A file goes from Alice to Bob through two real daemons and a real server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    CHANNEL,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@pytest_asyncio.fixture
async def asking(prosody: Prosody) -> AsyncIterator[Pair]:
    """A client on either side handles verification."""
    handles = (FILE_TRANSFER, VERIFICATION)
    pair = await Pair.start(prosody, alice_handles=handles, bob_handles=handles)
    yield pair
    await pair.stop()


async def asks_before_he_comes(alice: Side, bob: Side, server: Prosody) -> str:
    """Alice logs in and asks for Bob, who comes after that; the channel."""
    await alice.request_connection(parameters(server, server.jid("alice")))
    await alice.cm(alice.connection, CONNECTION, "Connect")
    path = alice.connection
    await alice.signal(lambda s: (s.member, s.path, s.body[:1]) == ("StatusChanged", path, (0,)))
    asking = asyncio.ensure_future(alice.offer_file(server.jid("bob"), "file.bin", 3))
    await bob.connect(parameters(server, server.jid("bob")), handles=(FILE_TRANSFER,))
    try:
        return await asking
    except DBusFailure as failure:
        if not failure.name.endswith(".Offline"):
            raise
        for side in (alice, bob):
            await side.cm(side.connection, CONNECTION, "Disconnect")
        return ""


async def test_a_request_right_after_the_login_waits_for_the_contact(prosody: Prosody) -> None:
    """As a script makes it, or a dispatcher that has come back."""
    alice, bob = await asyncio.gather(Side.start("alice"), Side.start("bob"))
    try:
        # On a machine where he takes five seconds once more.
        for _ in range(5):
            if mine := await asks_before_he_comes(alice, bob, prosody):
                break
        theirs, _ = await bob.new_channel(FILE_TRANSFER)
        got, _ = await asyncio.gather(bob.accept(theirs), alice.provide(mine, b"abc"))
        assert got == b"abc"
    finally:
        await asyncio.gather(alice.stop(), bob.stop())


async def test_a_file_arrives_encrypted_and_nobody_is_asked(pair: Pair) -> None:
    data = secrets.token_bytes(3_000_001)
    mine, theirs = await pair.offer(data)
    shown = await pair.bob.get_all(theirs, FILE_TRANSFER)
    assert (shown["Filename"], shown["Size"]) == ("file.bin", len(data))

    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, data))

    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    assert await pair.alice.state(mine, 4, 5) == (4, 0)
    assert await pair.bob.state(theirs, 4, 5) == (4, 0)
    for side, path in ((pair.alice, mine), (pair.bob, theirs)):
        assert await side.get_all(path, SECURABLE) == {"Encrypted": True, "Verified": False}
        assert (await side.get_all(path, FILE_TRANSFER))["TransferredBytes"] == len(data)
        security = await side.get_all(path, E2E)
        assert security["Protocol"] == "xtls"
        assert security["CipherSuite"].startswith("TLS_")
        assert not [s for s in side.signals if VERIFICATION in str(s.body)]
    a, b = await pair.alice.get_all(mine, E2E), await pair.bob.get_all(theirs, E2E)
    assert a["OwnFingerprints"] == b["PeerFingerprints"]
    assert a["PeerFingerprints"] == b["OwnFingerprints"]


async def test_an_empty_file_is_a_file(pair: Pair) -> None:
    assert await pair.send(b"") == b""


async def test_a_file_of_unknown_size_ends_where_its_sender_ends(pair: Pair) -> None:
    data = secrets.token_bytes(700_000)
    mine, theirs = await pair.offer_sized(2**64 - 1, "stream")
    _, properties = await pair.bob.new_channel(FILE_TRANSFER)
    assert properties[FILE_TRANSFER + ".Size"] == 2**64 - 1
    got, _ = await asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, data))
    assert got == data
    assert await pair.bob.state(theirs, 4, 5) == (4, 0)


async def test_resuming_starts_at_the_offset_asked_for(pair: Pair) -> None:
    data = secrets.token_bytes(500_000)
    digest = hashlib.sha256(data).hexdigest()
    mine, theirs = await pair.offer(
        data, ContentHashType=Variant("u", 3), ContentHash=Variant("s", digest)
    )
    assert (await pair.bob.get_all(theirs, FILE_TRANSFER))["ContentHash"] == digest
    receiving = asyncio.ensure_future(pair.bob.accept(theirs, offset=123_456))
    defined = await pair.alice.signal(
        lambda s: s.path == mine and s.member == "InitialOffsetDefined"
    )
    assert defined.body == (123_456,)
    await pair.alice.provide(mine, data[123_456:])
    assert data[:123_456] + await receiving == data
    assert await pair.bob.state(theirs, 4, 5) == (4, 0)
    assert await pair.alice.state(mine, 4, 5) == (4, 0)


async def test_the_sender_can_cancel_an_offer(pair: Pair) -> None:
    mine, theirs = await pair.offer(b"x" * 1000)
    await pair.alice.cm(mine, CHANNEL, "Close")
    assert await pair.bob.state(theirs, 5) == (5, 3)


async def test_the_receiver_can_decline_an_offer(pair: Pair) -> None:
    mine, theirs = await pair.offer(b"x" * 1000)
    await pair.bob.cm(theirs, CHANNEL, "Close")
    assert await pair.alice.state(mine, 5) == (5, 3)


async def _strings(pair: Pair, his: str, hers: str) -> tuple[str, str]:
    async def string(side: Side, path: str) -> str:
        found = await side.signal(
            lambda s: (
                s.path == path
                and s.member == "PropertiesChanged"
                and bool(s.body[1].get("ShortAuthenticationString"))
            )
        )
        return str(found.body[1]["ShortAuthenticationString"])

    return await string(pair.bob, his), await string(pair.alice, hers)


async def test_people_compare_a_string_before_a_byte_flows(asking: Pair) -> None:
    data = secrets.token_bytes(400_000)
    mine, theirs = await asking.offer(data)
    sending = asyncio.ensure_future(asking.alice.provide(mine, data))
    receiving = asyncio.ensure_future(asking.bob.accept(theirs))
    hers, asked = await asking.alice.new_channel(VERIFICATION)
    his, _ = await asking.bob.new_channel(VERIFICATION)
    assert asked[VERIFICATION + ".PayloadChannel"] == mine
    assert asked[VERIFICATION + ".Reason"] == "continuity"
    assert await asking.alice.get(mine, E2E, "VerificationChannel") == hers

    await asking.alice.cm(hers, VERIFICATION, "StartSAS")
    started = await asking.bob.signal(lambda s: s.path == his and s.member == "PeerStarted")
    assert started.body == ("sas",)
    await asking.bob.cm(his, VERIFICATION, "StartSAS")
    at_bob, at_alice = await _strings(asking, his, hers)
    assert at_bob == at_alice
    assert len(at_bob) == 6
    opened = [s for s in asking.alice.signals if s.member == "FileTransferStateChanged"]
    assert 3 not in [s.body[0] for s in opened]

    await asking.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
    await asking.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", True)

    assert await receiving == data
    await sending
    for side, path in ((asking.alice, mine), (asking.bob, theirs)):
        assert await side.state(path, 4, 5) == (4, 0)
        assert await side.get_all(path, SECURABLE) == {"Encrypted": True, "Verified": True}
        assert await side.get(path, E2E, "VerifiedBy") == "sas"


async def test_strings_that_differ_end_the_transfer_on_both_sides(asking: Pair) -> None:
    data = b"secret" * 1000
    mine, theirs = await asking.offer(data)
    sending = asyncio.ensure_future(asking.alice.provide(mine, data))
    receiving = asyncio.ensure_future(asking.bob.accept(theirs))
    hers, _ = await asking.alice.new_channel(VERIFICATION)
    his, _ = await asking.bob.new_channel(VERIFICATION)
    await asking.bob.cm(his, VERIFICATION, "StartSAS")
    await asking.alice.signal(lambda s: s.path == hers and s.member == "PeerStarted")
    await asking.alice.cm(hers, VERIFICATION, "StartSAS")
    await _strings(asking, his, hers)
    await asking.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", False)
    assert (await asking.alice.state(mine, 4, 5))[0] == 5
    assert (await asking.bob.state(theirs, 4, 5))[0] == 5
    assert await receiving == b""
    await sending
    assert await asking.alice.get(mine, SECURABLE, "Verified") is False
    assert "Error" in await asking.bob.get(theirs, E2E, "Error")


async def test_not_verified_but_go_on_and_verify_later(asking: Pair) -> None:
    data = secrets.token_bytes(200_000)
    mine, theirs = await asking.offer(data)
    address = await asking.alice.cm(
        mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0)
    )
    receiving = asyncio.ensure_future(asking.bob.accept(theirs))
    hers, _ = await asking.alice.new_channel(VERIFICATION)
    his, _ = await asking.bob.new_channel(VERIFICATION)
    await asking.alice.cm(hers, VERIFICATION, "ProceedUnverified")
    await asking.bob.cm(his, VERIFICATION, "ProceedUnverified")
    await asking.alice.state(mine, 3)
    _, writer = await asyncio.open_unix_connection(os.fsdecode(address))
    writer.write(data[:100_000])
    await writer.drain()
    assert await asking.alice.get(hers, VERIFICATION, "State") == "unverified"
    assert await asking.alice.cm(mine, E2E, "Verify") == hers
    await asking.alice.cm(hers, VERIFICATION, "Accept", "s", "fingerprint")
    await asking.alice.changed(mine, SECURABLE, "Verified", True)
    writer.write(data[100_000:])
    await writer.drain()
    writer.close()
    assert await receiving == data
    assert await asking.alice.state(mine, 4, 5) == (4, 0)
    assert await asking.alice.get(mine, E2E, "VerifiedBy") == "fingerprint"
    assert await asking.bob.get(theirs, SECURABLE, "Verified") is False


async def test_a_demand_for_verification_is_asked_even_where_nobody_handles_it(pair: Pair) -> None:
    data = b"only for Bob" * 100
    mine, theirs = await pair.offer(data, demands={E2E + ".RequireVerified": Variant("b", True)})
    assert await pair.alice.get(mine, E2E, "RequireVerified") is True
    sending = asyncio.ensure_future(pair.alice.provide(mine, data))
    receiving = asyncio.ensure_future(pair.bob.accept(theirs))
    hers, asked = await pair.alice.new_channel(VERIFICATION)
    assert asked[VERIFICATION + ".Reason"] == "requested"
    await pair.alice.cm(hers, CHANNEL, "Close")
    assert (await pair.alice.state(mine, 4, 5))[0] == 5
    assert (await pair.bob.state(theirs, 4, 5))[0] == 5
    assert await receiving == b""
    await sending
    assert ".Cert." in await pair.alice.get(mine, E2E, "Error")


async def test_in_the_clear_there_is_nothing_to_verify(prosody: Prosody) -> None:
    off = {"e2e_policy": Variant("s", "off")}
    pair = await Pair.start(prosody, alice=off, bob=off)
    try:
        data = secrets.token_bytes(300_000)
        mine, theirs = await pair.offer(data)
        receiving = asyncio.ensure_future(pair.bob.accept(theirs))
        await pair.alice.state(mine, 2)
        with pytest.raises(DBusFailure, match="NotAvailable"):
            await pair.alice.cm(mine, E2E, "Verify")
        await pair.alice.provide(mine, data)
        assert await receiving == data
        for side, path in ((pair.alice, mine), (pair.bob, theirs)):
            assert await side.state(path, 4, 5) == (4, 0)
            assert await side.get_all(path, SECURABLE) == {"Encrypted": False, "Verified": False}
    finally:
        await pair.stop()
