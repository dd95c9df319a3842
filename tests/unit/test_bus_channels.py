"""Channels of each type on the bus: what their methods call, and what their events become."""

from __future__ import annotations

from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.service import names
from telepathy_e2e.service.events import (
    CeremonyFailed,
    Changed,
    FileTransferStateChanged,
    InitialOffsetDefined,
    PeerStarted,
    TransferredBytesChanged,
)
from tests.support.bus import PROPERTIES
from tests.unit.bus_support import (
    FINGERPRINTS,
    FT,
    FakeCertificateRequest,
    FakeQuestion,
    FakeTransfer,
    Served,
    fixture,
)

served = fixture()

E2E = names.END_TO_END_SECURITY
PV = names.PEER_VERIFICATION
CR = names.CERTIFICATE_REQUEST
TLS = names.TLS_CERTIFICATE
ERROR = "org.freedesktop.Telepathy.Error."


async def value(served: Served, path: str, interface: str, member: str, *arguments: Any) -> Any:
    return await served.client.value(served.bus_name, path, interface, member, *arguments)


async def error(served: Served, path: str, interface: str, member: str, *arguments: Any) -> str:
    return await served.client.error(served.bus_name, path, interface, member, *arguments)


async def _transfer(served: Served) -> FakeTransfer:
    connection = await served.connected()
    path = (await served.create()).body[0]
    channel = connection.channels[path]
    assert isinstance(channel, FakeTransfer)
    return channel


async def _question(served: Served, *, clear: bool = False) -> FakeQuestion:
    connection = await served.connected()
    question = FakeQuestion(connection, connection.next_path(), "/payload", clear=clear)
    connection.open(question)
    return question


async def test_the_deprecated_methods_that_clients_call_answer(served: Served) -> None:
    path = (await _transfer(served)).object_path
    assert await value(served, path, names.CHANNEL, "GetChannelType") == FT
    interfaces = await value(served, path, names.CHANNEL, "GetInterfaces")
    assert interfaces == [names.SECURABLE, E2E]
    assert (await served.get_all(path, names.CHANNEL))["Interfaces"].value == interfaces
    reply = await served.client.call(served.bus_name, path, names.CHANNEL, "GetHandle")
    assert reply.body == [1, served.connection.handles.ensure("bob@example.test")]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (b"/run/socket", Variant("ay", b"/run/socket")),
        (b"\0abstract", Variant("ay", b"\0abstract")),
        (("127.0.0.1", 4711), Variant("(sq)", ("127.0.0.1", 4711))),
    ],
)
async def test_sockets_are_given_as_telepathy_types_them(
    served: Served, address: object, shown: Variant
) -> None:
    channel = await _transfer(served)
    channel.address = address
    path = channel.object_path
    port = Variant("(sq)", ["127.0.0.1", 5])
    assert await value(served, path, FT, "ProvideFile", "uuv", 0, 0, Variant("u", 0)) == shown
    assert await value(served, path, FT, "AcceptFile", "uuvt", 2, 1, port, 2**63) == shown
    assert channel.calls == [(0, 0, 0), (2, 1, ("127.0.0.1", 5), 2**63)]


async def test_a_transfers_events_are_signals(served: Served) -> None:
    channel = await _transfer(served)
    for event in (
        FileTransferStateChanged(2, 1),
        InitialOffsetDefined(2**40),
        TransferredBytesChanged(2**41),
    ):
        channel.events.emit(event)
    await served.settle()
    assert served.told()[-3:] == [
        ("FileTransferStateChanged", [2, 1]),
        ("InitialOffsetDefined", [2**40]),
        ("TransferredBytesChanged", [2**41]),
    ]


async def test_the_uri_can_be_set_where_the_service_lets_it(served: Served) -> None:
    channel = await _transfer(served)
    target = (served, channel.object_path, PROPERTIES, "Set", "ssv", FT)
    await value(*target, "URI", Variant("s", "file:///tmp/x"))
    assert channel.uri == "file:///tmp/x"
    await served.settle()
    assert served.told()[-1] == ("URIDefined", ["file:///tmp/x"])
    assert await error(*target, "URI", Variant("s", "")) == ERROR + "InvalidArgument"
    assert await error(*target, "Filename", Variant("s", "x")) == (
        "org.freedesktop.DBus.Error.PropertyReadOnly"
    )


async def test_changes_of_the_protection_are_told_with_their_values(served: Served) -> None:
    channel = await _transfer(served)
    channel.encrypted = True
    channel.protocol = "xtls"
    channel.peer_fingerprints = dict(FINGERPRINTS)
    channel.events.emit(Changed(names.SECURABLE, ("Encrypted",)))
    channel.events.emit(Changed(E2E, ("Protocol", "PeerFingerprints")))
    await served.settle()
    assert served.told()[-2:] == [
        ("PropertiesChanged", [names.SECURABLE, {"Encrypted": Variant("b", True)}, []]),
        (
            "PropertiesChanged",
            [
                E2E,
                {
                    "Protocol": Variant("s", "xtls"),
                    "PeerFingerprints": Variant("a{ss}", FINGERPRINTS),
                },
                [],
            ],
        ),
    ]
    channel.verification_channel = "/question"
    assert await value(served, channel.object_path, E2E, "Verify") == "/question"
    channel.encrypted = False
    assert await error(served, channel.object_path, E2E, "Verify") == ERROR + "NotAvailable"


async def test_a_questions_methods_reach_it(served: Served) -> None:
    question = await _question(served)
    path = question.object_path
    await value(served, path, PV, "StartSAS")
    await value(served, path, PV, "ConfirmSAS", "b", True)
    await value(served, path, PV, "StartPassword", "s", "open sesame")
    await value(served, path, PV, "ProceedUnverified")
    assert question.calls == [
        ("start_sas",),
        ("confirm_sas", True),
        ("start_password", "open sesame"),
    ]
    assert question.state == "unverified"
    assert (await served.get_all(path, PV))["State"] == Variant("s", "unverified")


async def test_a_questions_events_are_signals(served: Served) -> None:
    question = await _question(served)
    question.events.emit(PeerStarted("password"))
    question.events.emit(CeremonyFailed("password", "wrong-password", spent=True))
    await served.settle()
    assert served.told()[-2:] == [
        ("PeerStarted", ["password"]),
        ("CeremonyFailed", ["password", "wrong-password", True]),
    ]
    question.events.emit(PeerStarted("sas"))
    question.short_authentication_string = "ABC123"
    question.events.emit(Changed(PV, ("ShortAuthenticationString",)))
    await served.settle()
    assert served.told()[-2:] == [
        ("PeerStarted", ["sas"]),
        ("PropertiesChanged", [PV, {"ShortAuthenticationString": Variant("s", "ABC123")}, []]),
    ]
    question.started_method = "sas"
    question.events.emit(Changed(PV, ("StartedMethod",)))
    await served.settle()
    assert served.told()[-1] == (
        "PropertiesChanged",
        [PV, {"StartedMethod": Variant("s", "sas")}, []],
    )
    assert (await served.get_all(question.object_path, PV))["StartedMethod"].value == "sas"


async def test_accepting_tells_everybody_and_takes_the_certificate_along(served: Served) -> None:
    question = await _question(served)
    path, certificate = question.object_path, question.peer_certificate
    assert (await served.get_all(certificate, TLS))["State"] == Variant("u", 0)
    await value(served, path, PV, "Accept", "s", "pin")
    await served.settle()
    assert served.told()[-5:] == [
        ("PropertiesChanged", [PV, {"State": Variant("s", "verified")}, []]),
        ("Accepted", []),
        ("Finished", ["verified", "pin"]),
        ("Closed", []),
        ("ChannelClosed", [path]),
    ]
    for gone, interface in ((path, PV), (certificate, TLS)):
        assert await error(served, gone, PROPERTIES, "GetAll", "s", interface) == (
            "org.freedesktop.DBus.Error.UnknownObject"
        )


async def test_the_certificate_object_answers_for_the_question(served: Served) -> None:
    question = await _question(served)
    certificate = question.peer_certificate
    shown = await served.get_all(certificate, TLS)
    assert shown["CertificateType"] == Variant("s", "x509")
    assert shown["CertificateChainData"] == Variant("aay", [b"leaf", b"identity"])
    assert shown["Rejections"] == Variant("a(usa{sv})", [])
    await value(served, certificate, TLS, "Accept")
    assert question.state == "verified"


async def test_a_rejection_keeps_its_details(served: Served) -> None:
    question = await _question(served)
    details = {"expected-hostname": Variant("s", "bob"), "user-requested": Variant("b", True)}
    given = [(1, ERROR + "Cert.Untrusted", details)]
    await value(served, question.peer_certificate, TLS, "Reject", "a(usa{sv})", given)
    assert question.state == "rejected"
    await served.settle()
    assert ("Rejected", [given]) in served.told()


async def test_an_empty_rejection_is_one_too(served: Served) -> None:
    """The way real clients send it."""
    question = await _question(served)
    await value(served, question.peer_certificate, TLS, "Reject", "a(usa{sv})", [])
    assert question.state == "rejected"
    await served.settle()
    assert ("Rejected", [[(1, ERROR + "Cert.Untrusted", {})]]) in served.told()


async def test_where_there_is_no_encryption_there_is_no_certificate(served: Served) -> None:
    question = await _question(served, clear=True)
    assert (await served.get_all(question.object_path, PV))["PeerCertificate"].value == "/"
    assert await error(
        served, question.object_path + "/PeerCertificate", PROPERTIES, "GetAll", "s", TLS
    ) == ("org.freedesktop.DBus.Error.UnknownObject")


async def test_a_certificate_request_is_answered_with_certificates_or_without(
    served: Served,
) -> None:
    connection = await served.connected()
    for answer in ("own", [b"leaf", b"identity"]):
        request = FakeCertificateRequest(connection, connection.next_path(), "/payload")
        connection.open(request)
        path = request.object_path
        assert (await served.get_all(path, CR))["SigningRequest"] == Variant("ay", b"\x30\x00")
        assert await error(served, path, CR, "Provide", "aay", [b"leaf"]) == (
            ERROR + "InvalidArgument"
        )
        if answer == "own":
            await value(served, path, CR, "UseOwn")
        else:
            await value(served, path, CR, "Provide", "aay", answer)
        assert request.calls == [answer]
        await served.settle()
        assert served.told()[-1] == ("ChannelClosed", [path])
