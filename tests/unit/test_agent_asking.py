"""The agent asks the person by itself before an identity key signs a statement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from telepathy_e2e.agent import asking, seal
from telepathy_e2e.agent.asking import Asking, words
from telepathy_e2e.agent.attestations import Attestation
from telepathy_e2e.agent.keys import Keys
from telepathy_e2e.agent.program import Program
from telepathy_e2e.agent.store import Store
from telepathy_e2e.attest.statement import signed_by_identity, vouching
from telepathy_e2e.bus.wire import Bus
from telepathy_e2e.errors import NotAvailable, PermissionDenied
from telepathy_e2e.xtls.certificates import parse
from telepathy_e2e.xtls.identity import identity_fingerprint
from tests.support.agent import AgentClient, connected
from tests.support.bus import PrivateBus, available
from tests.support.notifications import desktop
from tests.support.side import DBusFailure

pytestmark = pytest.mark.skipif(not available(), reason="dbus-daemon is not installed")

ALICE = "alice@example.org"
PHONE = bytes(range(32))
OURS = "org.freedesktop.Telepathy.Error."


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "COST", 2)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    bus = PrivateBus.start(dict(os.environ))
    yield bus
    bus.stop()


@pytest_asyncio.fixture
async def connection(bus: PrivateBus) -> AsyncIterator[Bus]:
    connection = await Bus.connect(bus.address)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def agent(bus: PrivateBus, tmp_path: Path) -> AsyncIterator[AgentClient]:
    connection = await Bus.connect(bus.address, descriptors=True)
    program = Program(connection, Keys(Store(tmp_path / "identities")))
    ended = asyncio.ensure_future(program.run())
    async with connected(bus.address) as client:
        async with asyncio.timeout(60):
            while not await client.runs():
                await asyncio.sleep(0.01)
        yield client
    program.stop()
    await ended


STATEMENT = Attestation(ALICE, "identity", vouching(PHONE, bytes(32)))


async def test_the_person_presses_a_button(bus: PrivateBus, connection: Bus) -> None:
    for action, agreed in (("sign", True), ("refuse", False), ("default", False)):
        async with desktop(bus.address) as shown:
            asked = asyncio.ensure_future(Asking(connection).confirm(STATEMENT))
            title, text, buttons = (await shown.question())[3:6]
            assert ALICE in title
            assert PHONE.hex(" ").upper()[:23] in text
            assert buttons[::2] == ["sign", "refuse"]
            # Of another one: nobody means this.
            await shown.pressed("sign", 7)
            await shown.pressed(action)
            assert await asked is agreed
            assert shown.closed == [1]


async def test_an_answer_as_fast_as_the_reply_is_heard(bus: PrivateBus, connection: Bus) -> None:
    async with desktop(bus.address, press="sign"):
        assert await Asking(connection).confirm(STATEMENT) is True


async def test_one_that_is_closed_or_stands_too_long_is_a_no(
    bus: PrivateBus, connection: Bus
) -> None:
    async with desktop(bus.address) as shown:
        asked = asyncio.ensure_future(Asking(connection).confirm(STATEMENT))
        await shown.question()
        await shown.say("NotificationClosed", "uu", 1, 2)
        assert await asked is False
        assert await Asking(connection, patience=0.05).confirm(STATEMENT) is False
        assert shown.closed == [1, 2]


async def test_a_button_that_somebody_else_presses_is_none(
    bus: PrivateBus, connection: Bus
) -> None:
    async with desktop(bus.address) as shown, desktop(bus.address) as other:
        # The second one does not get the name.
        asked = asyncio.ensure_future(Asking(connection).confirm(STATEMENT))
        await shown.question()
        await other.pressed("sign")
        await other.bus.introspect("org.freedesktop.DBus", "/org/freedesktop/DBus")
        await shown.pressed("refuse")
        assert await asked is False


async def test_nobody_is_asked_two_things_at_once(bus: PrivateBus, connection: Bus) -> None:
    ask = Asking(connection)
    async with desktop(bus.address) as shown:
        first = asyncio.ensure_future(ask.confirm(STATEMENT))
        await shown.question()
        with pytest.raises(NotAvailable, match="another statement"):
            await ask.confirm(STATEMENT)
        await shown.pressed("sign")
        assert await first is True
        shown.press = "refuse"
        assert await ask.confirm(STATEMENT) is False


async def test_without_buttons_or_anything_that_shows_them_nobody_agrees(
    bus: PrivateBus, connection: Bus
) -> None:
    with pytest.raises(PermissionDenied, match="passphrase"):
        await Asking(connection).confirm(STATEMENT)
    async with desktop(bus.address, capabilities=["body"]) as shown:
        with pytest.raises(PermissionDenied, match="passphrase"):
            await Asking(connection).confirm(STATEMENT)
        assert shown.shown == []


def test_what_is_asked_says_what_will_be_signed_and_no_more() -> None:
    title, text = words(STATEMENT)
    assert title == f"Is this the key of another device of {ALICE}?"
    digits = "".join(c for c in text.split("\n")[0] if c in "0123456789ABCDEF")
    assert digits == PHONE.hex().upper()
    other = Attestation("a\u202eb" + "c" * 200, "device", b"x")
    title, text = words(other)
    assert "\u202e" not in title
    assert len(title) < 200
    assert "device" in text


# -- through the agent -----------------------------------------------------------------------------


async def own(agent: AgentClient) -> tuple[bytes, bytes]:
    certificate = bytes(await agent.call("GetIdentity", "s", ALICE))
    return certificate, identity_fingerprint(certificate)


def holds(certificate: bytes, signature: bytes, content: bytes) -> None:
    key = parse(certificate).key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = signed_by_identity(ALICE, "identity", content)
    key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))


async def refused(call: object, error: str, text: str | None = None) -> None:
    with pytest.raises(DBusFailure, match=text) as failure:
        await call  # type: ignore[misc]
    assert failure.value.name == OURS + error


async def test_the_agent_signs_what_the_person_agreed_to(
    bus: PrivateBus, agent: AgentClient
) -> None:
    certificate, fingerprint = await own(agent)
    content = vouching(PHONE, fingerprint)
    async with desktop(bus.address, press="sign") as shown:
        signature = await agent.call("SignAttestation", "ssay", ALICE, "identity", content)
        holds(certificate, signature, content)
        shown.press = "refuse"
        call = agent.call("SignAttestation", "ssay", ALICE, "identity", content)
        await refused(call, "PermissionDenied", "did not agree")


async def test_nobody_is_asked_about_what_contacts_would_refuse(
    bus: PrivateBus, agent: AgentClient
) -> None:
    _, fingerprint = await own(agent)
    async with desktop(bus.address, press="sign") as shown:
        for content, why in (
            (vouching(PHONE, PHONE), "another key"),
            (vouching(fingerprint, fingerprint), "itself"),
            (b"x", "not a statement"),
        ):
            call = agent.call("SignAttestation", "ssay", ALICE, "identity", content)
            await refused(call, "InvalidArgument", why)
        stranger = "carol@example.org"
        call = agent.call("SignAttestation", "ssay", stranger, "identity", vouching(PHONE, PHONE))
        await refused(call, "DoesNotExist")
        assert shown.shown == []


async def test_who_types_the_passphrase_has_agreed(agent: AgentClient) -> None:
    certificate, fingerprint = await own(agent)
    content = vouching(PHONE, fingerprint)
    member, arguments = "SignAttestationWithPassphrase", (ALICE, "identity", content)
    call = agent.call(member, "ssayh", *arguments, b"one")
    await refused(call, "PermissionDenied", "has no passphrase")
    await agent.call("SetPassphrase", "shh", ALICE, b"", b"one")
    for locked in (False, True):
        if locked:
            await agent.call("Lock")
        holds(certificate, await agent.call(member, "ssayh", *arguments, b"one"), content)
        await refused(agent.call(member, "ssayh", *arguments, b"two"), "PermissionDenied")
        # Unlocked, it needs the passphrase all the same; locked, it stays so.
        await refused(agent.call(member, "ssayh", *arguments, b""), "InvalidArgument")
        assert await agent.get("Locked") == ([ALICE] if locked else [])


async def test_a_no_comes_in_time_for_who_called() -> None:
    from telepathy_e2e.cli.identity import SIGNING_SECONDS

    assert SIGNING_SECONDS > asking.PATIENCE + 10
