"""Avatars, ContactInfo, ClientTypes and Addressing1 on the bus, and what the protocol promises."""

from __future__ import annotations

from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.bus import protocol
from telepathy_e2e.service import names
from telepathy_e2e.service.avatars import AvatarRetrieved, AvatarUpdated
from telepathy_e2e.service.client_types import ClientTypesUpdated
from telepathy_e2e.service.contact_info import ContactInfoChanged
from telepathy_e2e.service.published_identity import IdentitiesChanged
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.published import Published
from tests.unit.bus_support import CONN, Served, fixture

served = fixture()

ERROR = "org.freedesktop.Telepathy.Error."
FIELDS = (("tel", ("type=home",), ("1",)), ("n", (), ("a", "b", "", "", "")))
SHOWN = [("tel", ["type=home"], ["1"]), ("n", [], ["a", "b", "", "", ""])]


async def value(served: Served, interface: str, member: str, *arguments: Any) -> Any:
    return await served.client.value(served.bus_name, served.path, interface, member, *arguments)


async def error(served: Served, interface: str, member: str, *arguments: Any) -> str:
    return await served.client.error(served.bus_name, served.path, interface, member, *arguments)


def same(shown: Any) -> Any:
    """Structures as tuples, whatever the library made of them."""
    return [tuple(each) for each in shown]


async def attributes(served: Served, handle: int, interface: str) -> dict[str, Any]:
    found = await value(
        served, names.CONTACTS, "GetContactAttributes", "auasb", [handle], [interface], False
    )
    shown = {key: each.value for key, each in found[handle].items()}
    del shown[CONN + "/contact-id"]
    return shown


async def test_pictures_are_told_asked_for_and_set(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    shown = await served.get_all(served.path, names.AVATARS)
    assert {key: each.value for key, each in shown.items()} == {
        "SupportedAvatarMIMETypes": ["image/png"],
        "MinimumAvatarWidth": 1,
        "MinimumAvatarHeight": 2,
        "RecommendedAvatarWidth": 3,
        "RecommendedAvatarHeight": 4,
        "MaximumAvatarWidth": 5,
        "MaximumAvatarHeight": 6,
        "MaximumAvatarBytes": 7,
    }
    reply = await served.client.call(
        served.bus_name, served.path, names.AVATARS, "GetAvatarRequirements"
    )
    assert reply.body == [["image/png"], 1, 2, 5, 6, 7]
    assert await attributes(served, own, names.AVATARS) == {}
    call = (served, names.AVATARS)
    assert await value(*call, "SetAvatar", "ays", b"\x01\x02", "image/png") == "0102"
    assert await error(*call, "SetAvatar", "ays", b"", "text/html") == ERROR + "InvalidArgument"
    assert await value(*call, "GetKnownAvatarTokens", "au", [own, 99]) == {own: "0102"}
    assert await attributes(served, own, names.AVATARS) == {names.AVATARS + "/token": "0102"}
    await value(*call, "RequestAvatars", "au", [own])
    assert connection.avatars.requested == [own]
    reply = await served.client.call(
        served.bus_name, served.path, names.AVATARS, "RequestAvatar", "u", own
    )
    assert reply.body == [b"picture", "image/png"]
    await value(*call, "ClearAvatar")
    assert await attributes(served, own, names.AVATARS) == {names.AVATARS + "/token": ""}
    connection.events.emit(AvatarUpdated(own, "ab"))
    connection.events.emit(AvatarRetrieved(own, "ab", b"\x00\xff", "image/gif"))
    await served.settle()
    assert served.told()[-2:] == [
        ("AvatarUpdated", [own, "ab"]),
        ("AvatarRetrieved", [own, "ab", b"\x00\xff", "image/gif"]),
    ]


async def test_vcards_are_told_asked_for_and_set(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    shown = await served.get_all(served.path, names.CONTACT_INFO)
    assert shown["ContactInfoFlags"] == Variant("u", 1)
    assert same(shown["SupportedFields"].value) == [("tel", ["type=home"], 1, 4)]
    call = (served, names.CONTACT_INFO)
    assert await value(*call, "GetContactInfo", "au", [own]) == {}
    assert await attributes(served, own, names.CONTACT_INFO) == {}
    await value(*call, "SetContactInfo", "a(sasas)", [list(each) for each in SHOWN])
    assert connection.contact_info.fields == {own: FIELDS}
    assert same((await value(*call, "GetContactInfo", "au", [own]))[own]) == SHOWN
    assert same(await value(*call, "RequestContactInfo", "u", own)) == SHOWN
    (told,) = (await attributes(served, own, names.CONTACT_INFO)).values()
    assert same(told) == SHOWN
    await value(*call, "RefreshContactInfo", "au", [own])
    assert connection.contact_info.refreshed == [own]
    connection.events.emit(ContactInfoChanged(own, FIELDS))
    await served.settle()
    name, body = served.told()[-1]
    assert (name, body[0], same(body[1])) == ("ContactInfoChanged", own, SHOWN)


async def test_client_types_are_told_and_asked_for(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    call = (served, names.CLIENT_TYPES)
    assert await value(*call, "GetClientTypes", "au", [own]) == {}
    assert await attributes(served, own, names.CLIENT_TYPES) == {}
    connection.client_types.types[own] = ("phone", "bot")
    assert await value(*call, "GetClientTypes", "au", [own]) == {own: ["phone", "bot"]}
    assert await value(*call, "RequestClientTypes", "u", own) == ["phone", "bot"]
    assert await attributes(served, own, names.CLIENT_TYPES) == {
        names.CLIENT_TYPES + "/client-types": ["phone", "bot"]
    }
    connection.events.emit(ClientTypesUpdated(own, ("web",)))
    await served.settle()
    assert served.told()[-1] == ("ClientTypesUpdated", [own, ["web"]])


async def test_contacts_are_found_by_what_they_are_called_elsewhere(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    reply = await served.client.call(
        served.bus_name,
        served.path,
        names.ADDRESSING,
        "GetContactsByURI",
        "asas",
        ["xmpp:Alice@example.test", "xmpp:alice@example.test/x", "http://example.test"],
        [names.ALIASING],
    )
    found, shown = reply.body
    assert found == {"xmpp:Alice@example.test": own, "xmpp:alice@example.test/x": own}
    assert {key.removeprefix(CONN): each.value for key, each in shown[own].items()} == {
        "/contact-id": "alice@example.test",
        ".Interface.Aliasing/alias": "alice@example.test",
        ".Interface.Addressing1/addresses": {"x-jabber": "alice@example.test"},
        ".Interface.Addressing1/uris": ["xmpp:alice@example.test"],
    }
    call = (served, names.ADDRESSING, "GetContactsByVCardField", "sasas")
    assert await error(*call, "tel", ["1"], []) == ERROR + "NotImplemented"


@pytest.mark.parametrize(
    ("interface", "member", "signature", "arguments"),
    [
        (names.AVATARS, "GetKnownAvatarTokens", "au", ([1],)),
        (names.AVATARS, "RequestAvatars", "au", ([1],)),
        (names.AVATARS, "RequestAvatar", "u", (1,)),
        (names.AVATARS, "SetAvatar", "ays", (b"", "image/png")),
        (names.AVATARS, "ClearAvatar", "", ()),
        (names.CONTACT_INFO, "GetContactInfo", "au", ([1],)),
        (names.CONTACT_INFO, "RefreshContactInfo", "au", ([1],)),
        (names.CONTACT_INFO, "RequestContactInfo", "u", (1,)),
        (names.CONTACT_INFO, "SetContactInfo", "a(sasas)", ([],)),
        (names.CLIENT_TYPES, "GetClientTypes", "au", ([1],)),
        (names.CLIENT_TYPES, "RequestClientTypes", "u", (1,)),
        (names.IDENTITIES, "GetIdentities", "u", (1,)),
        (names.ADDRESSING, "GetContactsByURI", "asas", ([], [])),
        (names.ADDRESSING, "GetContactsByVCardField", "sasas", ("x-jabber", [], [])),
    ],
)
async def test_before_the_server_is_there_all_of_it_says_so(
    served: Served, interface: str, member: str, signature: str, arguments: tuple[Any, ...]
) -> None:
    await served.request()
    call = (served, interface, member, *([signature] if signature else []), *arguments)
    assert await error(*call) == ERROR + "Disconnected"


async def test_the_protocol_says_what_pictures_and_addresses_are(served: Served) -> None:
    from telepathy_e2e.service.avatars import Avatars

    shown = await served.get_properties(protocol.AVATARS)
    for name, declared in protocol.ProtocolAvatars.members().properties.items():
        promised = declared.read(protocol.ProtocolAvatars())
        assert shown[name].value == (list(promised) if "MIME" in name else promised)
        # What a connection will say (Protocol.Interface.Avatars: "the expected value").
        assert getattr(Avatars, declared._attribute) == promised
    assert {k: v.value for k, v in (await served.get_properties(protocol.ADDRESSING)).items()} == {
        "AddressableVCardFields": ["x-jabber"],
        "AddressableURISchemes": ["xmpp"],
    }


async def test_the_protocol_normalises_addresses(served: Served) -> None:
    target = ("org.freedesktop.Telepathy.ConnectionManager.e2e", protocol.PATH, protocol.ADDRESSING)
    client = served.client
    uri = "xmpp:romeo@Example.Com/Empathy?message;body=Hello"
    assert await client.value(*target, "NormalizeContactURI", "s", uri) == "xmpp:romeo@example.com"
    field = ("NormalizeVCardAddress", "ss")
    assert await client.value(*target, *field, "x-jabber", "A@Example.Com/x") == "a@example.com"
    for call, name in (
        (("NormalizeContactURI", "s", "tel:1"), "NotImplemented"),
        (("NormalizeContactURI", "s", "xmpp:@"), "InvalidArgument"),
        ((*field, "tel", "1"), "NotImplemented"),
        ((*field, "x-jabber", ""), "InvalidArgument"),
    ):
        assert await client.error(*target, *call) == ERROR + name


async def test_identities_are_had_with_their_attestations_and_changes_told(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    assert await value(served, names.IDENTITIES, "GetIdentities", "u", own) == []
    connection.published.published = [
        Published(b"one", (Attestation("openpgp", "Signed by Carol", b"\x01"),)),
        Published(b"two"),
    ]
    shown = await value(served, names.IDENTITIES, "GetIdentities", "u", own)
    assert [(bytes(c), [[t, s, bytes(d)] for t, s, d in a]) for c, a in shown] == [
        (b"one", [["openpgp", "Signed by Carol", b"\x01"]]),
        (b"two", []),
    ]
    assert await error(served, names.IDENTITIES, "GetIdentities", "u", 999) == (
        ERROR + "InvalidHandle"
    )
    connection.events.emit(IdentitiesChanged(own))
    await served.settle()
    assert ("IdentitiesChanged", [own]) in served.told()
