"""Servers that do not verify: somebody judges them (Channel.Type.ServerTLSConnection)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from dbus_fast import Variant

from tests.scenarios.test_server_authentication import (
    ALIASING,
    AUTHENTICATION,
    BY_PASSWORD,
    ERROR,
    SASL,
    SERVER_SUCCEEDED,
    connected,
    ended,
    start,
    status,
    told,
)
from tests.support.pair import parameters
from tests.support.prosody import PASSWORD, Certificate, Prosody
from tests.support.side import CHANNEL, CONNECTION, TP, DBusFailure, Side
from tests.support.wire import wire_to

TLS = CHANNEL + ".Type.ServerTLSConnection"
CERTIFICATE = TP + "Authentication.TLSCertificate"
KINDS = [
    (Certificate.UNKNOWN_AUTHORITY, "Cert.Untrusted", 7),
    (Certificate.EXPIRED, "Cert.Expired", 8),
    (Certificate.NOT_YET, "Cert.NotActivated", 9),
    (Certificate.WRONG_NAME, "Cert.HostnameMismatch", 10),
    (Certificate.SELF_SIGNED, "Cert.SelfSigned", 12),
]


@pytest_asyncio.fixture
async def alice() -> AsyncIterator[Side]:
    side = await Side.start("alice")
    yield side
    await side.stop()


@contextmanager
def server_with(kind: Certificate, hibernation: int = 3) -> Iterator[Prosody]:
    server = Prosody.start(certificate=kind, hibernation=hibernation)
    try:
        yield server
    finally:
        server.stop()


async def asked(side: Side, server: Prosody, **more: Variant) -> tuple[str, dict[str, Any]]:
    await side.request_connection(parameters(server, server.jid("alice"), **more))
    await side.announce((TLS,))
    await side.cm(side.connection, CONNECTION, "Connect")
    return await side.new_channel(TLS)


def unheard(server: Prosody) -> bool:
    """Whether the server has heard nothing of the login."""
    return "<auth" not in server.log and "alice" not in server.log.split("Client connected", 1)[1]


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(("kind", "error", "reason"), KINDS)
async def test_a_server_that_the_user_accepts_is_logged_in_at(
    alice: Side, kind: Certificate, error: str, reason: int, direct: bool
) -> None:
    with server_with(kind) as server:
        more = {"old_ssl": Variant("b", True), "port": Variant("q", server.tls_port)}
        path, shown = await asked(alice, server, **(more if direct else {}))
        assert shown[TLS + ".Hostname"] == "example.test"
        assert shown[TLS + ".ReferenceIdentities"] == ["example.test"]
        assert shown[CHANNEL + ".TargetHandleType"] == 0
        certificate = shown[TLS + ".ServerCertificate"]
        about = await alice.get_all(certificate, CERTIFICATE)
        assert (about["State"], about["Rejections"]) == (0, [])
        assert about["CertificateType"] == "x509"
        own = x509.load_pem_x509_certificate((server.directory / "cert.pem").read_bytes())
        assert bytes(about["CertificateChainData"][0]) == own.public_bytes(Encoding.DER)
        assert unheard(server)
        await alice.cm(certificate, CERTIFICATE, "Accept")
        await connected(alice)
        assert await alice.get(certificate, CERTIFICATE, "State") == 1
        with pytest.raises(DBusFailure, match="InvalidArgument"):
            await alice.cm(certificate, CERTIFICATE, "Accept")
        await alice.cm(path, CHANNEL, "Close")
        assert await alice.get(alice.connection, CONNECTION, "Status") == 0


@pytest.mark.parametrize(("kind", "error", "reason"), KINDS)
async def test_closed_unanswered_it_ends_with_what_is_wrong(
    alice: Side, kind: Certificate, error: str, reason: int
) -> None:
    with server_with(kind) as server:
        path, _ = await asked(alice, server)
        await alice.cm(path, CHANNEL, "Close")
        got, name, details = await ended(alice)
        assert (got, name) == (reason, ERROR + error)
        assert unheard(server)
        if kind is Certificate.WRONG_NAME:
            assert details["expected-hostname"] == "example.test"
            assert details["certificate-hostname"] == "elsewhere.test"


@pytest.mark.parametrize(
    ("rejections", "error", "reason"),
    [
        ([], "Cert.Untrusted", 7),
        ([[4, ERROR + "Cert.FingerprintMismatch", {}]], "Cert.FingerprintMismatch", 11),
        (
            [[6, ERROR + "Cert.SelfSigned", {"user-requested": Variant("b", True)}]],
            "Cert.SelfSigned",
            12,
        ),
        ([[7, ERROR + "Cert.Revoked", {}]], "Cert.Revoked", 13),
        ([[99, "com.example.Error", {}]], "Cert.Invalid", 13),
    ],
)
async def test_a_rejection_says_why(
    alice: Side, rejections: list[Any], error: str, reason: int
) -> None:
    with server_with(Certificate.SELF_SIGNED) as server:
        path, shown = await asked(alice, server)
        certificate = shown[TLS + ".ServerCertificate"]
        await alice.cm(certificate, CERTIFICATE, "Reject", "a(usa{sv})", rejections)
        got, name, details = await ended(alice)
        assert (got, name) == (reason, ERROR + error)
        assert details["user-requested"] is True
        assert len(told(alice, "Rejected")) == 1
        assert unheard(server)
        assert path in [s.path for s in alice.signals if s.member == "Closed"]


async def test_where_nobody_could_answer_nobody_is_asked(alice: Side) -> None:
    with server_with(Certificate.SELF_SIGNED) as server:
        await alice.request_connection(parameters(server, server.jid("alice")))
        await alice.cm(alice.connection, CONNECTION, "Connect")
        reason, error, _ = await ended(alice)
        assert (reason, error) == (12, ERROR + "Cert.SelfSigned")
        assert told(alice, "NewChannels") == []
        assert unheard(server)


async def test_a_server_that_shows_another_certificate_after_the_answer_hears_nothing(
    alice: Side,
) -> None:
    with server_with(Certificate.SELF_SIGNED) as server:
        _, shown = await asked(alice, server)
        server.kill()
        server._write()  # a new key and certificate
        server.restart()
        await alice.cm(shown[TLS + ".ServerCertificate"], CERTIFICATE, "Accept")
        reason, error, _ = await ended(alice)
        assert (reason, error) == (11, ERROR + "Cert.FingerprintMismatch")
        assert "<auth" not in server.log


async def test_a_server_that_hangs_up_meanwhile_is_called_again(alice: Side) -> None:
    with server_with(Certificate.SELF_SIGNED) as server:
        _, shown = await asked(alice, server)
        server.kill()
        server.restart()
        await alice.cm(shown[TLS + ".ServerCertificate"], CERTIFICATE, "Accept")
        await connected(alice)


async def test_a_session_is_taken_up_again_without_another_question(alice: Side) -> None:
    # It keeps a session for as long as another login may take.
    with server_with(Certificate.SELF_SIGNED, hibernation=300) as server:
        async with wire_to(server.port) as wire:
            _, shown = await asked(alice, server, port=Variant("q", wire.port))
            await alice.cm(shown[TLS + ".ServerCertificate"], CERTIFICATE, "Accept")
            await connected(alice)
            handle = await alice.get(alice.connection, CONNECTION, "SelfHandle")
            name = (alice.connection, ALIASING, "SetAliases", "a{us}", {handle: "Alice"})
            await alice.cm(*name)
            wire.cut()
            await alice.cm(*name)
            assert len(told(alice, "NewChannels")) == 1
            assert told(alice, "StatusChanged")[-1] == (0, 1)


async def test_an_answer_holds_for_one_connection_only(alice: Side) -> None:
    with server_with(Certificate.SELF_SIGNED) as server:
        _, shown = await asked(alice, server)
        await alice.cm(shown[TLS + ".ServerCertificate"], CERTIFICATE, "Accept")
        await connected(alice)
        await alice.cm(alice.connection, CONNECTION, "Disconnect")
        await alice.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
        await alice.signal(
            lambda s: s.member == "NameOwnerChanged" and s.body[::2] == (alice.bus_name, "")
        )
        alice.signals.clear()
        await asked(alice, server)


async def test_the_password_is_asked_for_after_the_certificate(alice: Side) -> None:
    with server_with(Certificate.SELF_SIGNED) as server:
        given = parameters(server, server.jid("alice"))
        del given["password"]
        await alice.request_connection(given)
        await alice.announce((TLS, AUTHENTICATION))
        await alice.cm(alice.connection, CONNECTION, "Connect")
        _, shown = await alice.new_channel(TLS)
        await alice.cm(shown[TLS + ".ServerCertificate"], CERTIFICATE, "Accept")
        path, shown = await alice.new_channel(AUTHENTICATION)
        # This very server is the user's: it may have the password.
        assert "PLAIN" in shown[SASL + ".AvailableMechanisms"]
        await start(alice, path, BY_PASSWORD, PASSWORD.encode())
        await status(alice, path, SERVER_SUCCEEDED)
        await alice.cm(path, SASL, "AcceptSASL")
        await connected(alice)
