"""A server takes protection out of the signalling.

Only who asks for protection can see that it is missing. Where nobody asked, the channel must say
that there is none.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xtls.published import NODE
from tests.hostile.attacks import ANSWER, OFFER, ForgeCapabilities, RemoveSecurity, Step
from tests.hostile.path import Tap
from tests.hostile.server import Attack, Together
from tests.hostile.stage import (
    BOTH_HANDLE_QUESTIONS,
    CANCELLED,
    DEMAND_ENCRYPTED,
    DEMAND_VERIFIED,
    ENCRYPTION_ERROR,
    ENCRYPTION_NOT_AVAILABLE,
    LOCAL_ERROR,
    LOCAL_STOPPED,
    REMOTE_ERROR,
    Stage,
    assert_completed,
    assert_nothing_delivered,
)
from tests.peer.client import Peer
from tests.support.prosody import available
from tests.support.side import E2E, VERIFICATION
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

DATA = b"not for the server" * 10_000
REQUIRED = {"e2e_policy": Variant("s", "required")}
VERIFIED = {"e2e_policy": Variant("s", "verified")}
UNPUBLISHED = {"e2e_publish_identity": Variant("b", False)}
PRESENCE = ("iq", "presence")


async def test_where_nobody_asked_the_channels_say_that_nothing_is_protected() -> None:
    tap = Tap()
    stage = await Stage.start(Together(RemoveSecurity(OFFER), tap))
    try:
        attempt = await stage.begin(DATA)
        outcome = await attempt.ended()
        assert_completed(outcome, DATA, encrypted=False)
        for side, path in ((stage.alice, attempt.mine), (stage.bob, attempt.theirs)):
            shown = await side.get_all(path, E2E)
            assert (shown["Protocol"], shown["CipherSuite"], shown["VerifiedBy"]) == ("", "", "")
            assert (shown["PeerFingerprints"], shown["OwnFingerprints"]) == ({}, {})
        assert DATA in tap.heard
    finally:
        await stage.stop()


async def test_taken_out_of_the_answer_alone_it_is_seen_by_who_answered() -> None:
    """Bob knows what he agreed to: what comes in the clear then is an attack, asked or not."""
    stage = await Stage.start(RemoveSecurity(ANSWER))
    try:
        outcome = await stage.transfer(DATA)
        assert_nothing_delivered(outcome)
        for end in outcome.ends:
            assert (end.state, end.reason) == (CANCELLED, REMOTE_ERROR)
            assert end.error == ENCRYPTION_ERROR
            assert (end.encrypted, end.verified) == (False, False)
    finally:
        await stage.stop()


@pytest.mark.parametrize("where", [OFFER, ANSWER])
@pytest.mark.parametrize(
    ("options", "demands"),
    [
        pytest.param({}, DEMAND_ENCRYPTED, id="encryption demanded"),
        pytest.param({}, DEMAND_VERIFIED, id="verification demanded"),
        pytest.param({"alice": REQUIRED}, {}, id="policy required"),
        pytest.param({"alice": VERIFIED}, {}, id="policy verified"),
        pytest.param(
            {"alice": REQUIRED, "alice_handles": BOTH_HANDLE_QUESTIONS["alice_handles"]},
            {},
            id="policy required, and somebody could be asked",
        ),
    ],
)
async def test_a_sender_who_asks_for_protection_sends_nothing_without(
    where: Step, options: dict[str, Any], demands: dict[str, Variant]
) -> None:
    tap = Tap()
    stage = await Stage.start(Together(RemoveSecurity(where), tap), **options)
    try:
        outcome = await stage.transfer(DATA, demands)
        assert_nothing_delivered(outcome)
        alice, bob = outcome.ends
        assert (alice.state, alice.reason) == (CANCELLED, LOCAL_ERROR)
        assert alice.error == ENCRYPTION_NOT_AVAILABLE
        assert (bob.reason, bob.error) == (REMOTE_ERROR, ENCRYPTION_ERROR)
        assert not alice.encrypted
        assert DATA[:18] not in tap.heard
    finally:
        await stage.stop()


@pytest.mark.parametrize("policy", [REQUIRED, VERIFIED])
async def test_a_receiver_who_requires_protection_is_not_even_shown_the_offer(
    policy: dict[str, Variant],
) -> None:
    stage = await Stage.start(RemoveSecurity(OFFER), bob=policy)
    try:
        mine = await stage.alice.offer_file(stage.server.jid("bob"), "file.bin", len(DATA))
        await stage.alice.provide(mine, DATA)
        assert await stage.alice.state(mine, 4, 5) == (CANCELLED, REMOTE_ERROR)
        assert await stage.alice.get(mine, E2E, "Error") == ENCRYPTION_ERROR
        assert "session-accept" not in stage.server.actions()
    finally:
        await stage.stop()


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_somebody_who_handles_questions_is_asked_and_can_say_no(who: str) -> None:
    tap = Tap()
    handles = {f"{who}_handles": BOTH_HANDLE_QUESTIONS[f"{who}_handles"]}
    stage = await Stage.start(Together(RemoveSecurity(OFFER), tap), **handles)
    try:
        attempt = await stage.begin(DATA)
        side = stage.alice if who == "alice" else stage.bob
        question, shown = await attempt.question(side)
        assert shown[VERIFICATION + ".Reason"] == "no-encryption"
        assert shown[VERIFICATION + ".PeerCertificate"] == "/"
        assert shown[VERIFICATION + ".Methods"] == []
        await side.cm(question, VERIFICATION, "Reject", "s", "he always had a key")
        outcome = await attempt.ended()
        assert_nothing_delivered(outcome)
        asked, other = outcome.ends if who == "alice" else outcome.ends[::-1]
        assert (asked.state, asked.reason) == (CANCELLED, LOCAL_STOPPED)
        assert asked.error == ENCRYPTION_NOT_AVAILABLE
        assert (other.state, other.reason) == (CANCELLED, REMOTE_ERROR)
        assert other.error == ENCRYPTION_ERROR
        if who == "alice":
            assert tap.heard == b""
    finally:
        await stage.stop()


async def test_a_handler_that_goes_away_does_not_let_it_through_in_the_clear() -> None:
    stage = await Stage.start(
        RemoveSecurity(OFFER), alice_handles=BOTH_HANDLE_QUESTIONS["alice_handles"]
    )
    try:
        attempt = await stage.begin(DATA)
        question, _ = await attempt.question(stage.alice)
        await stage.alice.announce(())
        await stage.alice.cm(question, "org.freedesktop.Telepathy.Channel", "Close")
        outcome = await attempt.ended()
        assert_nothing_delivered(outcome)
        assert outcome.alice.error == ENCRYPTION_NOT_AVAILABLE
    finally:
        await stage.stop()


async def test_forged_capabilities_take_protection_away_and_the_channels_say_so() -> None:
    """Bob publishes no key; a server that withholds his node is the same to Alice."""
    stage = await Stage.start(ForgeCapabilities(), kinds=PRESENCE, bob=UNPUBLISHED)
    try:
        assert_completed(await stage.transfer(DATA), DATA, encrypted=False)
    finally:
        await stage.stop()


async def test_forged_capabilities_do_not_count_where_a_key_is_published() -> None:
    stage = await Stage.start(ForgeCapabilities(), kinds=PRESENCE)
    try:
        node = pubsub.items(NODE)
        carol = await Peer.start(stage.server.prosody, "carol")
        try:
            bob = stage.server.jid("bob")
            async with asyncio.timeout(PATIENCE):
                while (await carol.ask(bob, node, type="get")).get("type") != "result":
                    await asyncio.sleep(0.02)
        finally:
            await carol.stop()
        assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    finally:
        await stage.stop()


async def test_forged_capabilities_do_not_count_where_protection_is_demanded() -> None:
    stage = await Stage.start(ForgeCapabilities(), kinds=PRESENCE)
    try:
        outcome = await stage.transfer(DATA, DEMAND_ENCRYPTED)
        assert_completed(outcome, DATA, encrypted=True)
    finally:
        await stage.stop()


async def test_forged_capabilities_do_not_count_where_a_key_was_seen_before() -> None:
    attack = ForgeCapabilities()
    stage = await Stage.start(attack, kinds=PRESENCE)
    try:
        await stage.transfer(b"first", DEMAND_ENCRYPTED)
        outcome = await stage.transfer(secrets.token_bytes(1000))
        assert all(end.encrypted for end in outcome.ends)
    finally:
        await stage.server.use(Attack())
        await stage.stop()
