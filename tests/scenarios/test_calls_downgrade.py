"""A server makes two clients that know each other's keys look like clients that have none."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from dbus_fast import Variant

from telepathy_e2e.handler.pins import Alarm
from telepathy_e2e.jingle import rtp
from tests.hostile.attacks import ForgeCapabilities
from tests.hostile.stage import DEMAND_ENCRYPTED, Stage
from tests.scenarios.test_trust_handler import DATA, Held, compare, questions
from tests.support.calls import ACTIVE, CALL, ENDED, call, incoming
from tests.support.prosody import available
from tests.support.side import E2E, FILE_TRANSFER, SECURABLE, VERIFICATION
from tests.support.trust import Trust
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

BOTH = (CALL, FILE_TRANSFER)
MEDIA = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}


class PlainCallers(ForgeCapabilities):
    """Both can call and be called, with nothing but DTLS, as in a browser."""

    FEATURES: ClassVar = (*ForgeCapabilities.FEATURES, *rtp.FEATURES)


async def test_a_verified_contact_who_calls_without_his_key_is_an_alarm() -> None:
    stage = await Stage.start(
        PlainCallers(),
        kinds=("iq", "presence"),
        alice=MEDIA,
        bob=MEDIA,
        alice_handles=BOTH,
        bob_handles=BOTH,
    )
    alice, bob = stage.alice, stage.bob
    trust = await Trust.start(alice)
    try:
        held = await Held.start(stage.pair, DEMAND_ENCRYPTED)
        hers, _ = await alice.new_channel(VERIFICATION)
        await bob.changed(held.theirs, SECURABLE, "Encrypted", True)
        await compare(alice, hers, bob, await bob.cm(held.theirs, E2E, "Verify"))
        assert await held.go() == DATA
        known = await trust.pinned("sas")
        asked = questions(alice)

        theirs = await call(bob, stage.server.jid("alice"))
        await theirs.accept()
        ours = await incoming(alice)
        await ours.accept()
        question, shown = await alice.new_channel(VERIFICATION, skip=asked)
        async with asyncio.timeout(PATIENCE):
            while not trust.alarms():
                await asyncio.sleep(0.02)
        (alarm,) = trust.alarms()
        assert (alarm.kind, alarm.contact) == (Alarm.CHANGED_KEY, stage.server.jid("bob"))
        assert alarm.fingerprint != known.fingerprint
        assert shown[VERIFICATION + ".PeerFingerprints"]["sha-256"] != known.fingerprint
        # In calls people may talk while they decide (unless verification is demanded): nothing
        # says that this was Bob, and the only thing there is to compare is a fingerprint.
        await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
        shown = await alice.get_all(question, VERIFICATION)
        assert (shown["State"], shown["Methods"]) == ("pending", ["fingerprint"])
        assert await ours.property(SECURABLE, "Verified") is False
        await alice.cm(question, VERIFICATION, "Reject", "s", "")
        ends = await asyncio.gather(ours.until(ENDED), theirs.until(ENDED))
        assert ends[1][2][2] == "org.freedesktop.Telepathy.Error.EncryptionError"
        assert trust.pins() == [known]
    finally:
        await trust.stop()
        await stage.stop()
