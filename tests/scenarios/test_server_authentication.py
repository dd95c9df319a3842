"""The password is asked for: of whoever answers on the bus (Channel.Type.ServerAuthentication)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import parameters
from tests.support.prosody import PASSWORD, Prosody
from tests.support.side import CHANNEL, CONNECTION, TP, DBusFailure, Side
from tests.support.wire import wire_to

ALIASING = CONNECTION + ".Interface.Aliasing"
AUTHENTICATION = CHANNEL + ".Type.ServerAuthentication"
SASL = CHANNEL + ".Interface.SASLAuthentication"
BY_PASSWORD = "X-TELEPATHY-PASSWORD"
NOT_STARTED, IN_PROGRESS, SERVER_SUCCEEDED, CLIENT_ACCEPTED, SUCCEEDED, SERVER_FAILED = range(6)
CLIENT_FAILED = 6
ERROR = TP + "Error."


@pytest_asyncio.fixture
async def alice() -> AsyncIterator[Side]:
    side = await Side.start("alice")
    yield side
    await side.stop()


async def asked(
    side: Side, server: Prosody, password: str | None = None, **more: Variant
) -> tuple[str, dict[str, Any]]:
    """Connect until the question is there; the channel and what was announced of it."""
    given = parameters(server, server.jid("alice"), **more)
    del given["password"]
    if password is not None:
        given["password"] = Variant("s", password)
        await side.request_connection(given)
        await side.announce((AUTHENTICATION,))
    else:
        await side.request_connection(given)
    await side.cm(side.connection, CONNECTION, "Connect")
    return await side.new_channel(AUTHENTICATION)


async def start(side: Side, path: str, mechanism: str, data: bytes) -> None:
    await side.cm(path, SASL, "StartMechanismWithData", "say", mechanism, data)


def told(side: Side, member: str) -> list[tuple[Any, ...]]:
    return [each.body for each in side.signals if each.member == member]


async def status(side: Side, path: str, wanted: int, times: int = 1) -> tuple[Any, ...]:
    """Wait for the status; the last one's arguments."""

    def found() -> list[tuple[Any, ...]]:
        return [body for body in told(side, "SASLStatusChanged") if body[0] == wanted]

    await side.signal(lambda _: len(found()) >= times)
    return found()[-1]


async def connected(side: Side) -> None:
    await side.signal(lambda s: s.member == "StatusChanged" and s.body[0] in (0, 2))
    assert told(side, "StatusChanged")[-1] == (0, 1), side.log


async def ended(side: Side) -> tuple[int, str, dict[str, Any]]:
    """Reason, error and its details."""
    await side.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
    members = [s.member for s in side.signals if s.member in ("StatusChanged", "ConnectionError")]
    assert members[-2:] == ["ConnectionError", "StatusChanged"]
    name, details = told(side, "ConnectionError")[-1]
    return told(side, "StatusChanged")[-1][1], name, details


async def test_a_password_that_the_account_lacks_is_asked_for(
    alice: Side, prosody: Prosody
) -> None:
    path, shown = await asked(alice, prosody)
    assert told(alice, "StatusChanged") == [(1, 1)]
    assert shown[CHANNEL + ".TargetHandleType"] == shown[CHANNEL + ".TargetHandle"] == 0
    assert shown[CHANNEL + ".TargetID"] == ""
    assert shown[AUTHENTICATION + ".AuthenticationMethod"] == SASL
    assert SASL in shown[CHANNEL + ".Interfaces"]
    assert shown[SASL + ".AvailableMechanisms"][0] == BY_PASSWORD
    assert {"SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"} <= set(shown[SASL + ".AvailableMechanisms"])
    assert shown[SASL + ".AuthorizationIdentity"] == "alice@example.test"
    assert shown[SASL + ".DefaultUsername"] == "alice"
    assert shown[SASL + ".DefaultRealm"] == "example.test"
    assert shown[SASL + ".HasInitialData"]
    assert shown[SASL + ".CanTryAgain"]
    all_of_it = await alice.get_all(path, SASL)
    assert (all_of_it["SASLStatus"], all_of_it["SASLError"]) == (NOT_STARTED, "")
    await start(alice, path, BY_PASSWORD, PASSWORD.encode())
    await status(alice, path, SERVER_SUCCEEDED)
    assert (0, 1) not in told(alice, "StatusChanged")
    await alice.cm(path, SASL, "AcceptSASL")
    await connected(alice)
    assert told(alice, "SASLStatusChanged") == [
        (IN_PROGRESS, "", {}),
        (SERVER_SUCCEEDED, "", {}),
        (SUCCEEDED, "", {}),
    ]
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await alice.cm(path, SASL, "AbortSASL", "us", 1, "too late")
    await alice.cm(path, CHANNEL, "Close")
    assert await alice.get(alice.connection, CONNECTION, "Status") == 0
    assert PASSWORD not in alice.log


async def test_close_right_behind_the_acceptance_is_no_refusal(
    alice: Side, prosody: Prosody
) -> None:
    path, _ = await asked(alice, prosody)
    await start(alice, path, BY_PASSWORD, PASSWORD.encode())
    await status(alice, path, SERVER_SUCCEEDED)
    await alice.cm(path, SASL, "AcceptSASL")
    await alice.cm(path, CHANNEL, "Close")
    await connected(alice)


async def test_a_wrong_password_can_be_followed_by_the_right_one(
    alice: Side, prosody: Prosody
) -> None:
    path, _ = await asked(alice, prosody)
    for times in (1, 2):
        await start(alice, path, BY_PASSWORD, b"wrong")
        _, error, details = await status(alice, path, SERVER_FAILED, times)
        assert error == ERROR + "AuthenticationFailed"
        assert "password is wrong" in details["debug-message"]
    assert await alice.get(path, SASL, "SASLError") == ERROR + "AuthenticationFailed"
    assert told(alice, "StatusChanged") == [(1, 1)]
    await start(alice, path, BY_PASSWORD, PASSWORD.encode())
    await status(alice, path, SERVER_SUCCEEDED)
    assert await alice.get(path, SASL, "SASLErrorDetails") == {}
    await alice.cm(path, SASL, "AcceptSASL")
    await connected(alice)


async def test_a_server_that_hangs_up_meanwhile_is_called_again(alice: Side) -> None:
    server = Prosody.start()
    try:
        path, _ = await asked(alice, server)
        await start(alice, path, BY_PASSWORD, b"wrong")
        await status(alice, path, SERVER_FAILED)
        server.kill()
        server.restart()
        await start(alice, path, BY_PASSWORD, PASSWORD.encode())
        await status(alice, path, SERVER_SUCCEEDED)
        await alice.cm(path, SASL, "AcceptSASL")
        await connected(alice)
    finally:
        server.stop()


@pytest.fixture
def patient() -> Iterator[Prosody]:
    """A server that keeps a session for as long as another login may take."""
    server = Prosody.start(hibernation=300)
    yield server
    server.stop()


async def test_a_session_is_taken_up_again_with_the_password_that_was_given(
    alice: Side, patient: Prosody
) -> None:
    async with wire_to(patient.port) as wire:
        path, _ = await asked(alice, patient, port=Variant("q", wire.port))
        await start(alice, path, BY_PASSWORD, PASSWORD.encode())
        await status(alice, path, SERVER_SUCCEEDED)
        await alice.cm(path, SASL, "AcceptSASL")
        await connected(alice)
        await alice.cm(path, CHANNEL, "Close")
        handle = await alice.get(alice.connection, CONNECTION, "SelfHandle")
        # Answered by the server: so stream management is on by then.
        await alice.cm(alice.connection, ALIASING, "SetAliases", "a{us}", {handle: "Alice"})
        wire.cut()
        await alice.cm(alice.connection, ALIASING, "SetAliases", "a{us}", {handle: "Alice"})
        assert wire.connections == 2
        assert len(told(alice, "NewChannels")) == 1
        assert told(alice, "StatusChanged")[-1] == (0, 1)


@pytest.mark.parametrize("before", ["nothing", "a wrong password"])
async def test_closed_without_a_login_it_ends_the_connection(
    alice: Side, prosody: Prosody, before: str
) -> None:
    path, _ = await asked(alice, prosody)
    if before != "nothing":
        await start(alice, path, BY_PASSWORD, b"wrong")
        await status(alice, path, SERVER_FAILED)
    await alice.cm(path, CHANNEL, "Close")
    reason, error, _ = await ended(alice)
    assert (reason, error) == (3, ERROR + "AuthenticationFailed")
    assert [s.path for s in alice.signals if s.member == "Closed"] == [path]


@pytest.mark.parametrize(("why", "error"), [(1, "Cancelled"), (0, "ServiceConfused")])
@pytest.mark.parametrize("mechanism", [None, "SCRAM-SHA-1"])
async def test_an_aborted_login_ends_the_connection(
    alice: Side, prosody: Prosody, why: int, error: str, mechanism: str | None
) -> None:
    path, _ = await asked(alice, prosody)
    if mechanism is not None:
        await start(alice, path, mechanism, b"n,,n=alice,r=abcdefghijkl")
        await alice.signal(lambda s: s.member == "NewChallenge")
    await alice.cm(path, SASL, "AbortSASL", "us", why, "no")
    assert (await status(alice, path, CLIENT_FAILED))[1] == ERROR + error
    reason, name, _ = await ended(alice)
    assert (reason, name) == (3, ERROR + error)


async def test_a_client_may_drive_plain_on_a_safe_connection(alice: Side, prosody: Prosody) -> None:
    path, _ = await asked(alice, prosody)
    await start(alice, path, "PLAIN", b"\0alice\0" + PASSWORD.encode())
    await status(alice, path, SERVER_SUCCEEDED)
    await alice.cm(path, SASL, "AcceptSASL")
    await connected(alice)
    sent = base64.b64encode(b"\0alice\0" + PASSWORD.encode()).decode()
    assert sent not in alice.log
    assert PASSWORD not in alice.log


async def test_a_client_may_drive_scram_and_check_the_server(alice: Side, prosody: Prosody) -> None:
    path, _ = await asked(alice, prosody)
    first = b"n=alice,r=abcdefghijkl"
    await start(alice, path, "SCRAM-SHA-1", b"n,," + first)
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await start(alice, path, BY_PASSWORD, b"x")
    challenge = bytes((await alice.signal(lambda s: s.member == "NewChallenge")).body[0])
    nonce, salt, rounds = (part[2:] for part in challenge.split(b",")[:3])
    salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), base64.b64decode(salt), int(rounds))
    key = hmac.digest(salted, b"Client Key", "sha1")
    final = b"c=biws,r=" + nonce
    signed = b",".join((first, challenge, final))
    signature = hmac.digest(hashlib.sha1(key).digest(), signed, "sha1")  # noqa: S324
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
    await alice.cm(path, SASL, "Respond", "ay", final + b",p=" + proof)
    await alice.signal(lambda _: len(told(alice, "NewChallenge")) == 2)
    server_key = hmac.digest(salted, b"Server Key", "sha1")
    expected = b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha1"))
    assert bytes(told(alice, "NewChallenge")[1][0]) == expected
    await alice.cm(path, SASL, "AcceptSASL")
    await connected(alice)
    assert [body[0] for body in told(alice, "SASLStatusChanged")] == [
        IN_PROGRESS,
        CLIENT_ACCEPTED,
        SUCCEEDED,
    ]


async def test_a_driven_mechanism_may_fail_and_another_succeed(
    alice: Side, prosody: Prosody
) -> None:
    path, _ = await asked(alice, prosody)
    await start(alice, path, "PLAIN", b"\0alice\0wrong")
    await status(alice, path, SERVER_FAILED)
    await start(alice, path, BY_PASSWORD, PASSWORD.encode())
    await status(alice, path, SERVER_SUCCEEDED)
    await alice.cm(path, SASL, "AcceptSASL")
    await connected(alice)


async def test_calls_that_make_no_sense_get_the_errors_of_the_specification(
    alice: Side, prosody: Prosody
) -> None:
    path, _ = await asked(alice, prosody)
    for error, call in (
        ("NotImplemented", ("StartMechanism", "s", BY_PASSWORD)),
        ("NotImplemented", ("StartMechanism", "s", "SCRAM-SHA-256-PLUS")),
        ("NotImplemented", ("StartMechanismWithData", "say", "X-NONE", b"")),
        ("InvalidArgument", ("StartMechanismWithData", "say", BY_PASSWORD, b"\xff")),
        ("NotAvailable", ("Respond", "ay", b"")),
        ("NotAvailable", ("AcceptSASL",)),
    ):
        with pytest.raises(DBusFailure, match=error):
            await alice.cm(path, SASL, *call)
    assert told(alice, "SASLStatusChanged") == []


async def test_plain_is_never_offered_in_the_clear(alice: Side) -> None:
    server = Prosody.start(encryption=False)
    try:
        path, shown = await asked(alice, server, require_encryption=Variant("b", False))
        assert "PLAIN" not in shown[SASL + ".AvailableMechanisms"]
        assert {BY_PASSWORD, "SCRAM-SHA-1"} <= set(shown[SASL + ".AvailableMechanisms"])
        with pytest.raises(DBusFailure, match="NotImplemented"):
            await start(alice, path, "PLAIN", b"\0alice\0" + PASSWORD.encode())
        await start(alice, path, BY_PASSWORD, PASSWORD.encode())
        await status(alice, path, SERVER_SUCCEEDED)
        await alice.cm(path, SASL, "AcceptSASL")
        await connected(alice)
        assert "mechanism='PLAIN'" not in server.log
    finally:
        server.stop()


async def test_a_wrong_password_of_the_account_leads_to_the_question_if_somebody_answers(
    alice: Side, prosody: Prosody
) -> None:
    path, _ = await asked(alice, prosody, "wrong")
    await start(alice, path, BY_PASSWORD, PASSWORD.encode())
    await status(alice, path, SERVER_SUCCEEDED)
    await alice.cm(path, SASL, "AcceptSASL")
    await connected(alice)


async def test_a_wrong_password_of_the_account_is_the_end_where_nobody_answers(
    alice: Side, prosody: Prosody
) -> None:
    given = parameters(prosody, prosody.jid("alice"))
    given["password"] = Variant("s", "wrong")
    await alice.request_connection(given)
    await alice.cm(alice.connection, CONNECTION, "Connect")
    reason, error, _ = await ended(alice)
    assert (reason, error) == (3, ERROR + "AuthenticationFailed")
    assert told(alice, "NewChannels") == []


async def test_disconnecting_takes_the_question_along(alice: Side, prosody: Prosody) -> None:
    await asked(alice, prosody)
    await alice.cm(alice.connection, CONNECTION, "Disconnect")
    await alice.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
    assert told(alice, "StatusChanged")[-1] == (2, 1)
    assert told(alice, "ConnectionError") == []
    assert [s.member for s in alice.signals].count("Closed") == 1


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_the_login_is_bound_to_the_connection_where_the_server_can(
    alice: Side, version: str
) -> None:
    """Prosody 0.12 has tls-unique, and that is for TLS 1.2 only."""
    server = Prosody.start(
        settings="c2s_ssl = { protocol = 'tlsv1_2' }" if version == "1.2" else ""
    )
    try:
        await alice.connect(parameters(server, server.jid("alice")), handles=())
        bound = "-PLUS" if version == "1.2" else ""
        assert f"mechanism='SCRAM-SHA-256{bound}'" in server.log
    finally:
        server.stop()
