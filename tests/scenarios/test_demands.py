"""What a channel may be asked to guarantee, what the policy adds, and what replaces what."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import (
    CHANNEL,
    E2E,
    FILE_TRANSFER,
    REQUESTS,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
)

TRUE = Variant("b", True)
DATA = secrets.token_bytes(100_000)


def policy(name: str) -> dict[str, Variant]:
    return {"e2e_policy": Variant("s", name)}


@pytest_asyncio.fixture
async def half(prosody: Prosody) -> AsyncIterator[Pair]:
    """Bob never protects anything."""
    pair = await Pair.start(prosody, bob=policy("off"))
    yield pair
    await pair.stop()


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


async def _try(pair: Pair, demands: dict[str, Variant] | None = None) -> tuple[str, str, bytes]:
    mine, theirs = await pair.offer(DATA, demands=demands)
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    got = await pair.bob.accept(theirs)
    await sending
    return mine, theirs, got


async def test_a_peer_that_cannot_gets_it_in_the_clear_and_both_say_so(half: Pair) -> None:
    mine, theirs, got = await _try(half)
    assert got == DATA
    for side, path in ((half.alice, mine), (half.bob, theirs)):
        assert await side.state(path, 4, 5) == (4, 0)
        assert await side.get_all(path, SECURABLE) == {"Encrypted": False, "Verified": False}
        assert await side.get(path, E2E, "Protocol") == ""


@pytest.mark.parametrize("demand", [E2E + ".RequireEncrypted", SECURABLE + ".Encrypted"])
async def test_a_demand_that_the_peer_cannot_meet_ends_the_channel(half: Pair, demand: str) -> None:
    mine, theirs, got = await _try(half, {demand: TRUE})
    assert got == b""
    assert await half.alice.get(mine, E2E, "RequireEncrypted") is True
    assert (await half.alice.state(mine, 4, 5))[0] == 5
    assert (await half.bob.state(theirs, 4, 5))[0] == 5
    error = await half.alice.get(mine, E2E, "Error")
    assert error == "org.freedesktop.Telepathy.Error.EncryptionNotAvailable"
    with pytest.raises(DBusFailure, match="EncryptionNotAvailable"):
        await half.alice.cm(mine, E2E, "Verify")


@pytest.mark.parametrize("strict", ["required", "verified"])
async def test_policy_never_sends_in_the_clear(prosody: Prosody, strict: str) -> None:
    pair = await Pair.start(prosody, alice=policy(strict), bob=policy("off"))
    try:
        mine, theirs, got = await _try(pair)
        assert got == b""
        assert (await pair.alice.state(mine, 4, 5))[0] == 5
        assert (await pair.bob.state(theirs, 4, 5))[0] == 5
    finally:
        await pair.stop()


async def test_policy_refuses_an_offer_in_the_clear_before_anybody_is_bothered(
    prosody: Prosody,
) -> None:
    pair = await Pair.start(prosody, alice=policy("off"), bob=policy("required"))
    try:
        mine = await pair.alice.offer_file(prosody.jid("bob"), "file", 10)
        assert await pair.alice.state(mine, 4, 5) == (5, 5)
        assert not [s for s in pair.bob.signals if s.member == "NewChannels"]
    finally:
        await pair.stop()


async def test_policy_verified_cannot_be_talked_round(prosody: Prosody) -> None:
    pair = await Pair.start(prosody, bob=policy("verified"))
    try:
        mine, theirs = await pair.offer(DATA)
        sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(pair.bob.accept(theirs))
        his, asked = await pair.bob.new_channel(VERIFICATION)
        assert asked[VERIFICATION + ".Reason"] == "policy"
        with pytest.raises(DBusFailure, match="PermissionDenied"):
            await pair.bob.cm(his, VERIFICATION, "ProceedUnverified")
        assert await pair.bob.get(his, VERIFICATION, "State") == "pending"
        await pair.bob.cm(his, VERIFICATION, "Accept", "s", "fingerprint")
        assert await receiving == DATA
        await sending
        assert await pair.bob.get(theirs, SECURABLE, "Verified") is True
        assert await pair.alice.get(mine, SECURABLE, "Verified") is False
    finally:
        await pair.stop()


async def test_proceeding_lifts_a_demand_of_the_request(pair: Pair) -> None:
    mine, theirs = await pair.offer(DATA, demands={SECURABLE + ".Verified": TRUE})
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    receiving = asyncio.ensure_future(pair.bob.accept(theirs))
    hers, _ = await pair.alice.new_channel(VERIFICATION)
    await pair.alice.cm(hers, VERIFICATION, "ProceedUnverified")
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await pair.alice.cm(hers, VERIFICATION, "ProceedUnverified")
    assert await receiving == DATA
    await sending
    assert await pair.alice.state(mine, 4, 5) == (4, 0)
    assert await pair.alice.get(mine, SECURABLE, "Verified") is False


async def test_asked_for_before_the_handshake_the_question_holds_the_file(pair: Pair) -> None:
    mine, theirs = await pair.offer(DATA)
    assert await pair.alice.cm(mine, E2E, "Verify") == "/"
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    receiving = asyncio.ensure_future(pair.bob.accept(theirs))
    hers, asked = await pair.alice.new_channel(VERIFICATION)
    assert asked[VERIFICATION + ".Reason"] == "requested"
    assert await pair.alice.cm(mine, E2E, "Verify") == hers
    await pair.alice.cm(hers, VERIFICATION, "Reject", "s", "That is not Bob")
    assert await receiving == b""
    await sending
    assert await pair.alice.state(mine, 4, 5) == (5, 2)
    assert await pair.alice.get(mine, E2E, "ErrorMessage") == "That is not Bob"
    assert await pair.bob.state(theirs, 4, 5) == (5, 5)


async def test_only_one_answer_counts(pair: Pair) -> None:
    mine, theirs = await pair.offer(DATA, demands={E2E + ".RequireVerified": TRUE})
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    receiving = asyncio.ensure_future(pair.bob.accept(theirs))
    hers, asked = await pair.alice.new_channel(VERIFICATION)
    certificate = asked[VERIFICATION + ".PeerCertificate"]
    tls = "org.freedesktop.Telepathy.Authentication.TLSCertificate"
    shown = await pair.alice.get_all(certificate, tls)
    assert len(shown["CertificateChainData"]) == 2
    answers = await asyncio.gather(
        pair.alice.cm(certificate, tls, "Accept"),
        pair.alice.cm(hers, VERIFICATION, "Reject", "s", "no"),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, DBusFailure)]
    assert len(refused) == 1
    finished = await pair.alice.signal(lambda s: s.path == hers and s.member == "Finished")
    assert finished.body == ("verified", "fingerprint")
    assert await receiving == DATA
    await sending
    assert await pair.alice.get(mine, SECURABLE, "Verified") is True


async def test_a_question_without_encryption_is_put_where_somebody_handles_it(
    prosody: Prosody,
) -> None:
    pair = await Pair.start(prosody, bob=policy("off"), alice_handles=(FILE_TRANSFER, VERIFICATION))
    try:
        mine, theirs = await pair.offer(DATA)
        sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(pair.bob.accept(theirs))
        hers, asked = await pair.alice.new_channel(VERIFICATION)
        assert asked[VERIFICATION + ".Reason"] == "no-encryption"
        assert asked[VERIFICATION + ".PeerCertificate"] == "/"
        with pytest.raises(DBusFailure, match="NotAvailable"):
            await pair.alice.cm(hers, VERIFICATION, "Accept", "s", "fingerprint")
        assert not receiving.done()
        await pair.alice.cm(hers, VERIFICATION, "ProceedUnverified")
        assert await receiving == DATA
        await sending
        assert await pair.alice.get(mine, SECURABLE, "Encrypted") is False
    finally:
        await pair.stop()


async def test_a_protected_channel_takes_over_from_another(pair: Pair) -> None:
    old, theirs = await pair.offer(DATA)
    new, _ = await pair.offer(
        DATA,
        demands={E2E + ".Replaces": Variant("o", old), E2E + ".RequireEncrypted": TRUE},
    )
    assert await pair.alice.get(new, E2E, "Replaces") == old
    await pair.alice.signal(lambda s: s.path == old and s.member == "Closed")
    assert await pair.bob.state(theirs, 5) == (5, 3)
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await pair.offer(DATA, demands={E2E + ".Replaces": Variant("o", old)})


async def test_ensure_channel_makes_a_channel_as_strong_as_asked_for(pair: Pair) -> None:
    request = {
        CHANNEL + ".ChannelType": Variant("s", FILE_TRANSFER),
        CHANNEL + ".TargetHandleType": Variant("u", 1),
        CHANNEL + ".TargetID": Variant("s", pair.server.jid("bob")),
        FILE_TRANSFER + ".Filename": Variant("s", "x"),
        FILE_TRANSFER + ".Size": Variant("t", 1),
        FILE_TRANSFER + ".ContentType": Variant("s", "text/plain"),
    }
    ensure = ("EnsureChannel", "a{sv}")
    yours, weak, _ = await pair.alice.cm(pair.alice.connection, REQUESTS, *ensure, request)
    strong_request = {**request, E2E + ".RequireEncrypted": TRUE}
    also, strong, shown = await pair.alice.cm(
        pair.alice.connection, REQUESTS, *ensure, strong_request
    )
    assert yours is True
    assert also is True
    assert strong != weak
    assert shown[E2E + ".RequireEncrypted"] is True


async def test_always_verify_asks_where_nothing_else_does(prosody: Prosody) -> None:
    pair = await Pair.start(prosody, alice={"e2e_always_verify": TRUE})
    try:
        mine, theirs = await pair.offer(DATA)
        sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
        receiving = asyncio.ensure_future(pair.bob.accept(theirs))
        hers, _ = await pair.alice.new_channel(VERIFICATION)
        with pytest.raises(DBusFailure, match="PermissionDenied"):
            await pair.alice.cm(hers, VERIFICATION, "Accept", "s", "pin")
        await pair.alice.cm(hers, VERIFICATION, "Accept", "s", "fingerprint")
        assert await receiving == DATA
        await sending
    finally:
        await pair.stop()


async def test_names_and_words_that_servers_would_change_arrive(pair: Pair) -> None:
    """A carriage return becomes another character on the way; both sides digest what they saw."""
    mine, theirs = await pair.offer(
        DATA, name="a\tb\r\nc.txt", Description=Variant("s", "one\r\ntwo\tthree\x07")
    )
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    assert await pair.bob.accept(theirs) == DATA
    await sending
    shown = await pair.bob.get_all(theirs, FILE_TRANSFER)
    assert shown["Filename"].isprintable()
