"""What a hostile server tries with files it tries with tubes: nothing of a service gets out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from dbus_fast import Variant

from telepathy_e2e.jingle.tubes import TUBES_NS
from tests.hostile.attacks import (
    ANSWER,
    INITIATOR,
    OFFER,
    RESPONDER,
    AddFingerprint,
    AlterSealed,
    ChangeContent,
    ChangeFingerprint,
    Delay,
    HoldSealed,
    OldAccept,
    ReflectSealed,
    RemoveSecurity,
    RenumberSealed,
    RepeatSealed,
    Step,
)
from tests.hostile.path import FlipBit, Tap
from tests.hostile.relay import ManInTheMiddle, RelayWithoutIdentity, SwappedCertificate
from tests.hostile.server import Attack, Together
from tests.hostile.stage import (
    DEMAND_ENCRYPTED,
    DEMAND_VERIFIED,
    ENCRYPTION_ERROR,
    ENCRYPTION_NOT_AVAILABLE,
    Stage,
)
from tests.support import tubes
from tests.support.prosody import available
from tests.support.side import CHANNEL, SECURABLE, VERIFICATION
from tests.support.tubes import UNIX, OpenTube, accept, closed, error_of, offer
from tests.support.waiting import PATIENCE

pytest_plugins = ["tests.hostile.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

SECRET = secrets.token_bytes(1_000_000)
FOUND_OUT = {ENCRYPTION_ERROR}


class ChangeService(ChangeContent):
    """The tube is of another service."""

    def change(self, content: Element) -> None:
        for each in content.iter(f"{{{TUBES_NS}}}description"):
            each.set("service", "another")


class ChangeParameter(ChangeContent):
    """The service is told something else."""

    def change(self, content: Element) -> None:
        for each in content.iter(f"{{{TUBES_NS}}}parameter"):
            each.text = "mallory"


class Shared:
    """Alice's service: it sends all it has to whoever connects.

    Attributes:
        connections: how many did.
    """

    def __init__(self) -> None:
        self.connections = 0

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            writer.write(SECRET)
            await writer.drain()
            writer.write_eof()
        writer.close()


class Try:
    """One tube under attack.

    Attributes:
        got: what Bob's program read.
        errors: of Alice's and Bob's channel, once they are gone.
    """

    def __init__(self, stage: Stage, directory: Path) -> None:
        self.stage, self.directory = stage, directory
        self.serve = Shared()
        self.got = b""
        self.errors: tuple[str, str] = ("", "")

    async def run(self, demands: dict[str, Any] | None = None) -> Try:
        """Offered, accepted and connected to as soon as Bob may, until both channels are gone."""
        alice, bob, pair = self.stage.alice, self.stage.bob, self.stage.pair
        async with tubes.service(UNIX, self.directory, self.serve) as address:
            mine, theirs = await offer(
                pair,
                address,
                UNIX,
                parameters={"u": Variant("s", "alice")},
                demands=demands,
            )
            where = await accept(bob, theirs, UNIX)
            reading = asyncio.ensure_future(self._read(where))
            await closed(alice, mine)
            await closed(bob, theirs)
            await reading
        self.errors = error_of(alice, mine), error_of(bob, theirs)
        return self

    async def _read(self, where: Any) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await tubes.connect(UNIX, where)
            async with asyncio.timeout(PATIENCE):
                self.got = await reader.read(-1)
            writer.close()

    def assert_nothing_got_out(self) -> None:
        assert self.serve.connections == 0
        assert self.got == b""


async def works(stage: Stage, directory: Path) -> OpenTube:
    """An open tube that has carried the service; it stays open."""
    serve = Shared()
    async with tubes.service(UNIX, directory, serve) as address:
        tube = await tubes.opened(stage.pair, address)
        reader, writer = await tube.connect()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read(-1) == SECRET
        writer.close()
    return tube


async def test_who_listens_hears_nothing_of_the_service(stage: Stage, tmp_path: Path) -> None:
    tap = Tap()
    await stage.server.use(tap)
    tube = await works(stage, tmp_path)
    for side, path in ((stage.alice, tube.mine), (stage.bob, tube.theirs)):
        assert await side.get(path, SECURABLE, "Encrypted")
        assert not await side.get(path, SECURABLE, "Verified")
    await tube.close()
    heard = tap.heard
    assert len(heard) > len(SECRET)
    assert not [at for at in range(0, len(SECRET), 997) if SECRET[at : at + 8] in heard]


@pytest.mark.parametrize("where", [OFFER, ANSWER])
@pytest.mark.parametrize("kind", [ChangeFingerprint, AddFingerprint])
async def test_a_change_of_the_protection_is_found_out(
    stage: Stage, tmp_path: Path, kind: type[ChangeContent], where: Step
) -> None:
    attack = kind(where)
    await stage.server.use(attack)
    tried = await Try(stage, tmp_path).run()
    assert attack.done == 1
    assert set(tried.errors) == FOUND_OUT, tried.errors
    tried.assert_nothing_got_out()


@pytest.mark.parametrize("kind", [ChangeService, ChangeParameter])
async def test_a_change_of_what_is_offered_is_found_out(
    stage: Stage, tmp_path: Path, kind: type[ChangeContent]
) -> None:
    attack = kind(OFFER)
    await stage.server.use(attack)
    tried = await Try(stage, tmp_path).run()
    assert attack.done == 1
    assert set(tried.errors) == FOUND_OUT, tried.errors
    tried.assert_nothing_got_out()


async def test_an_answer_from_an_earlier_session_is_found_out(stage: Stage, tmp_path: Path) -> None:
    attack = OldAccept()
    await stage.server.use(attack)
    await (await works(stage, tmp_path)).close()
    tried = await Try(stage, tmp_path).run()
    assert len(attack.replayed) == 1
    assert set(tried.errors) == FOUND_OUT, tried.errors
    tried.assert_nothing_got_out()


@pytest.mark.parametrize("where", [OFFER, ANSWER])
@pytest.mark.parametrize("demands", [DEMAND_ENCRYPTED, DEMAND_VERIFIED], ids=["encrypted", "known"])
async def test_who_asks_for_protection_shares_nothing_without(
    stage: Stage, tmp_path: Path, demands: dict[str, Any], where: Step
) -> None:
    await stage.server.use(RemoveSecurity(where))
    tried = await Try(stage, tmp_path).run(demands)
    assert tried.errors == (ENCRYPTION_NOT_AVAILABLE, ENCRYPTION_ERROR)
    tried.assert_nothing_got_out()


async def test_taken_out_of_the_answer_alone_it_is_seen_by_who_answered(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.server.use(RemoveSecurity(ANSWER))
    tried = await Try(stage, tmp_path).run()
    assert set(tried.errors) == FOUND_OUT, tried.errors
    tried.assert_nothing_got_out()


@pytest.mark.parametrize("role", [INITIATOR, RESPONDER])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(lambda role: AlterSealed(role, 0, 0), id="first bit"),
        pytest.param(lambda role: AlterSealed(role, 0, -1), id="last bit of the tag"),
        pytest.param(lambda role: RenumberSealed(role, 0), id="another number"),
        pytest.param(
            lambda role: Together(
                HoldSealed(RESPONDER if role == INITIATOR else INITIATOR, 0), ReflectSealed(role, 0)
            ),
            id="back to its sender",
        ),
    ],
)
async def test_an_altered_hello_is_found_out(
    stage: Stage, tmp_path: Path, kind: Callable[[str], Attack], role: str
) -> None:
    await stage.server.use(kind(role))
    tried = await Try(stage, tmp_path).run()
    assert set(tried.errors) == FOUND_OUT, tried.errors
    tried.assert_nothing_got_out()


@pytest.mark.parametrize(
    "attack",
    [
        RepeatSealed(INITIATOR, 0),
        RepeatSealed(RESPONDER, 0),
        Delay(0.5, "session-accept"),
        Delay(0.5, "transport-info"),
        Delay(0.5, "security-info"),
    ],
    ids=["hers twice", "his twice", "late accept", "late transport", "late hello"],
)
async def test_what_comes_twice_or_late_changes_nothing(
    stage: Stage, tmp_path: Path, attack: Attack
) -> None:
    await stage.server.use(attack)
    await (await works(stage, tmp_path)).close()


async def test_one_altered_bit_of_the_handshake_is_found_out(stage: Stage, tmp_path: Path) -> None:
    await stage.server.use(FlipBit(100))
    tried = await Try(stage, tmp_path).run()
    assert set(tried.errors) == FOUND_OUT, tried.errors
    tried.assert_nothing_got_out()


async def test_one_altered_bit_of_the_payload_is_found_out(stage: Stage, tmp_path: Path) -> None:
    attack = FlipBit(500_000)
    await stage.server.use(attack)
    tried = await Try(stage, tmp_path).run()
    assert attack.flipped
    assert set(tried.errors) == FOUND_OUT, tried.errors
    assert SECRET.startswith(tried.got)
    assert len(tried.got) < 500_000


@pytest.mark.parametrize("kind", [SwappedCertificate, RelayWithoutIdentity])
async def test_a_relay_that_ends_tls_is_found_out_and_reads_nothing(
    stage: Stage, tmp_path: Path, kind: type[SwappedCertificate | RelayWithoutIdentity]
) -> None:
    relay = kind()
    await stage.server.use(relay)
    tried = await Try(stage, tmp_path).run()
    assert set(tried.errors) == FOUND_OUT, tried.errors
    assert relay.plaintext == {"initiator": b"", "responder": b""}
    tried.assert_nothing_got_out()


async def test_a_relay_for_which_all_fits_gets_nothing_while_people_are_asked(
    stage: Stage, tmp_path: Path
) -> None:
    relay = ManInTheMiddle()
    await stage.server.use(relay)
    serve = Shared()
    async with tubes.service(UNIX, tmp_path, serve) as address:
        mine, theirs = await offer(stage.pair, address, UNIX, demands=DEMAND_VERIFIED)
        await accept(stage.bob, theirs, UNIX)
        await stage.alice.new_channel(VERIFICATION)
        await stage.alice.cm(mine, CHANNEL, "Close")
        await closed(stage.bob, theirs)
    assert relay.plaintext["initiator"] == b""
    assert serve.connections == 0
