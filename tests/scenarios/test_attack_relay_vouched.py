"""A relay for which everything fits, where nobody has to compare: by what others say of a key, or
by what is remembered of it, a real daemon sees it, and says why.

Each begins with a transfer that the same server leaves alone, so that what is seen is the relay.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.handler.pins import Alarm
from telepathy_e2e.verify.events import Outcome as VerifyOutcome
from telepathy_e2e.xtls import protection
from tests.hostile.relay import ManInTheMiddle
from tests.hostile.server import Attack
from tests.hostile.stage import CANCELLED, ERROR, Attempt, Stage, assert_nothing_delivered
from tests.scenarios.test_attestations import OpenPGP, World
from tests.scenarios.test_trust_handler import questions, verify
from tests.support.authority import Authority
from tests.support.gnupg import Keyring, keyring, needs_gpg
from tests.support.prosody import available
from tests.support.side import SECURABLE, VERIFICATION
from tests.support.trust import Trust
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

DATA = secrets.token_bytes(200_000)
UNTRUSTED = ERROR + "Cert.Untrusted"


@dataclass
class Vouched:
    """Alice demands verification; her server has been honest, and somebody vouches for Bob."""

    stage: Stage
    world: World

    async def spied(self) -> ManInTheMiddle:
        """A relay that knows what Bob shows: as his peer it once was shown it."""
        spy = ManInTheMiddle()
        await self.stage.server.use(spy)
        attempt = await self.stage.begin(DATA)
        # Alice may be asked before Bob has said who vouches for him; her no would end it.
        await until(lambda: bool(spy.vouchers.get("responder")))
        await self.refuses(attempt)
        await self.stage.server.use(Attack())
        assert spy.vouchers["responder"]
        return ManInTheMiddle(vouched=spy.vouchers)

    async def refuses(self, attempt: Attempt) -> None:
        """Alice is asked, since nobody vouches for the key that she sees, and says no."""
        alice = self.stage.alice
        question, shown = await attempt.question(alice)
        assert "x509" not in shown[VERIFICATION + ".Methods"]
        assert "openpgp" not in shown[VERIFICATION + ".Methods"]
        assert await alice.get(attempt.mine, SECURABLE, "Verified") is False
        await alice.cm(question, VERIFICATION, "Reject", "s", "not he")
        outcome = await attempt.ended()
        assert_nothing_delivered(outcome)
        assert (outcome.alice.state, outcome.alice.error) == (CANCELLED, UNTRUSTED)
        assert not any(end.verified for end in outcome.ends)


@pytest.fixture
def company() -> Authority:
    return Authority.make()


@pytest_asyncio.fixture
async def x509(company: Authority, tmp_path: Path) -> AsyncIterator[Vouched]:
    authorities = tmp_path / "company.pem"
    authorities.write_bytes(company.pem)
    stage = await Stage.start(
        alice={
            "e2e_policy": Variant("s", "verified"),
            "e2e_ca_file": Variant("s", str(authorities)),
        }
    )
    yield Vouched(stage, World(stage.pair, company, authorities))
    await stage.stop()


async def test_a_certificate_that_a_relay_copied_is_of_another_key(x509: Vouched) -> None:
    await x509.world.shows(await x509.world.certified())
    await x509.world.is_verified("x509")
    relay = await x509.spied()
    await x509.stage.server.use(relay)
    before = len(x509.stage.alice.log)
    await x509.refuses(await x509.stage.begin(DATA))
    assert "a certificate of another key" in x509.stage.alice.log[before:]
    assert relay.plaintext == {"initiator": b"", "responder": b""}


@pytest.fixture
def rings() -> Iterator[tuple[Keyring, Keyring]]:
    """Alice's and Bob's."""
    with keyring() as alice, keyring() as bob:
        yield alice, bob


@needs_gpg
async def test_a_signature_that_a_relay_copied_is_not_about_its_key(
    rings: tuple[Keyring, Keyring],
    company: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(rings[0].home))
    stage = await Stage.start(
        alice={"e2e_policy": Variant("s", "verified"), "e2e_openpgp": Variant("b", True)}
    )
    try:
        vouched = Vouched(stage, World(stage.pair, company, tmp_path))
        await vouched.world.identity()
        people = OpenPGP(vouched.world, *rings)
        key = people.bob.make("xmpp:" + vouched.world.jid)
        people.meet(key)
        await people.attest(key)
        await vouched.world.is_verified("openpgp")
        relay = await vouched.spied()
        await stage.server.use(relay)
        before = len(stage.alice.log)
        await vouched.refuses(await stage.begin(DATA))
        assert "an OpenPGP signature that is not good" in stage.alice.log[before:]
        assert relay.plaintext == {"initiator": b"", "responder": b""}
    finally:
        await stage.stop()


async def test_a_remembered_key_makes_a_relay_an_alarm() -> None:
    """Also where the relay would win a comparison: nobody is asked to make one again."""
    stage = await Stage.start()
    try:
        trust = await Trust.start(stage.alice)
        await verify(stage.pair, trust)
        relay = ManInTheMiddle()
        await stage.server.use(relay)
        asked = questions(stage.alice)
        attempt = await stage.begin(DATA)
        question, shown = await stage.alice.new_channel(VERIFICATION, skip=asked)
        async with asyncio.timeout(PATIENCE):
            while not trust.alarms():
                await asyncio.sleep(0.02)
        (alarm,) = trust.alarms()
        assert (alarm.kind, alarm.contact) == (Alarm.CHANGED_KEY, stage.pair.server.jid("bob"))
        assert alarm.fingerprint == shown[VERIFICATION + ".PeerFingerprints"]["sha-256"]
        assert await stage.alice.get(question, VERIFICATION, "State") == "pending"
        assert relay.plaintext == {"initiator": b"", "responder": b""}
        await stage.alice.cm(question, VERIFICATION, "Reject", "s", "a changed key")
        outcome = await attempt.ended()
        assert_nothing_delivered(outcome)
        assert (outcome.alice.state, outcome.alice.error) == (CANCELLED, UNTRUSTED)
        # Her no is remembered as well, and verifies nobody.
        await trust.pinned("rejected")
        assert [each.methods for each in trust.pins()] == [("sas",), ("rejected",)]
        assert not any(
            isinstance(each, protection.CeremonyEnded) and each.outcome is VerifyOutcome.VERIFIED
            for each in relay.events["initiator"]
        )
        await trust.stop()
    finally:
        await stage.stop()
