"""A connection on the bus: its status, handles, contacts, presence and capabilities."""

from __future__ import annotations

from typing import Any

import pytest
from dbus_fast import MessageType, Variant

from telepathy_e2e.errors import AuthenticationFailed, CertExpired, NetworkError, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.events import (
    ContactCapabilitiesChanged,
    PresencesChanged,
    SelfContactChanged,
)
from tests.support.bus import PROPERTIES
from tests.unit.bus_support import CLASSES, CONN, Served, fixture

served = fixture()

ERROR = "org.freedesktop.Telepathy.Error."
TYPE = names.CHANNEL + ".ChannelType"


async def value(served: Served, interface: str, member: str, *arguments: Any) -> Any:
    return await served.client.value(served.bus_name, served.path, interface, member, *arguments)


async def error(served: Served, interface: str, member: str, *arguments: Any) -> str:
    return await served.client.error(served.bus_name, served.path, interface, member, *arguments)


async def test_before_connect_everything_that_account_managers_ask_works(served: Served) -> None:
    await served.request()
    shown = await served.get_all(served.path, CONN)
    assert shown["Status"] == Variant("u", 2)
    assert shown["SelfHandle"] == Variant("u", served.connection.self_handle)
    assert shown["SelfID"] == Variant("s", "alice@example.test")
    assert shown["HasImmortalHandles"] == Variant("b", True)
    assert names.REQUESTS in shown["Interfaces"].value
    assert await value(served, CONN, "GetInterfaces") == shown["Interfaces"].value
    assert await value(served, CONN, "GetStatus") == 2
    assert await value(served, CONN, "GetProtocol") == "jabber"
    interfaces = await value(
        served, PROPERTIES, "Get", "ss", names.CONTACTS, "ContactAttributeInterfaces"
    )
    assert names.SIMPLE_PRESENCE in interfaces.value
    statuses = await value(served, PROPERTIES, "Get", "ss", names.SIMPLE_PRESENCE, "Statuses")
    assert statuses.value["available"] == (2, True, True)
    filters = [{TYPE: Variant("s", names.FILE_TRANSFER)}]
    clients = [["org.freedesktop.Telepathy.Client.X", filters, ["token"]]]
    await value(served, names.CONTACT_CAPABILITIES, "UpdateCapabilities", "a(saa{sv}as)", clients)
    assert served.connection.capabilities == [
        ("org.freedesktop.Telepathy.Client.X", [{TYPE: names.FILE_TRANSFER}], ["token"])
    ]
    await value(served, names.SIMPLE_PRESENCE, "SetPresence", "ss", "available", "hi")
    assert served.connection.presences.told == [("available", "hi")]
    requests = await served.get_all(served.path, names.REQUESTS)
    assert requests["Channels"].value == []
    assert len(requests["RequestableChannelClasses"].value) == len(CLASSES)
    await value(served, CONN, "Connect")
    assert served.connection.status == 1


@pytest.mark.parametrize(
    ("interface", "member", "signature", "arguments"),
    [
        (CONN, "GetSelfHandle", "", ()),
        (CONN, "RequestHandles", "uas", (1, ["bob@example.test"])),
        (CONN, "InspectHandles", "uau", (1, [1])),
        (CONN, "HoldHandles", "uau", (1, [1])),
        (CONN, "ReleaseHandles", "uau", (1, [1])),
        (names.CONTACTS, "GetContactAttributes", "auasb", ([1], [], True)),
        (names.CONTACTS, "GetContactByID", "sas", ("bob@example.test", [])),
        (names.SIMPLE_PRESENCE, "GetPresences", "au", ([1],)),
        (names.CONTACT_CAPABILITIES, "GetContactCapabilities", "au", ([1],)),
        (names.REQUESTS, "CreateChannel", "a{sv}", ({},)),
        (names.REQUESTS, "EnsureChannel", "a{sv}", ({},)),
    ],
)
async def test_what_needs_the_server_says_so_until_connected(
    served: Served, interface: str, member: str, signature: str, arguments: tuple[Any, ...]
) -> None:
    await served.request()
    call = (served, interface, member, signature, *arguments)
    assert await error(*call) == ERROR + "Disconnected"
    served.connection.set_status(1, 1)
    assert await error(*call) == ERROR + "Disconnected"
    served.connection.set_status(0, 1)
    reply = await served.client.call(served.bus_name, served.path, *call[1:])
    assert reply.error_name != ERROR + "Disconnected"


async def test_the_contact_list_is_shown_with_what_other_interfaces_know(served: Served) -> None:
    connection = await served.connected()
    told = await value(
        served,
        names.CONTACT_LIST,
        "GetContactListAttributes",
        "asb",
        [names.CONTACT_GROUPS, names.ALIASING, names.CONTACT_BLOCKING],
        False,
    )
    assert {key.removeprefix(CONN): shown.value for key, shown in told[1].items()} == {
        "/contact-id": "alice@example.test",
        ".Interface.ContactList/subscribe": 4,
        ".Interface.ContactList/publish": 3,
        ".Interface.ContactList/publish-request": "please",
        ".Interface.ContactGroups/groups": ["Friends"],
        ".Interface.Aliasing/alias": "alice@example.test",
        ".Interface.ContactBlocking/blocked": False,
    }
    connection.contact_list.states = None
    told = await value(served, names.CONTACT_LIST, "GetContactListAttributes", "asb", [], False)
    assert list(told[1]) == [CONN + "/contact-id"]


async def test_what_changes_the_contact_list_reaches_it(served: Served) -> None:
    connection = await served.connected()
    await value(served, names.CONTACT_LIST, "RequestSubscription", "aus", [1], "hi")
    for member in ("AuthorizePublication", "RemoveContacts", "Unsubscribe", "Unpublish"):
        await value(served, names.CONTACT_LIST, member, "au", [1])
    await value(served, names.CONTACT_LIST, "Download")
    assert connection.contact_list.calls == [
        ("request_subscription", [1], "hi"),
        ("authorize_publication", [1]),
        ("remove_contacts", [1]),
        ("unsubscribe", [1]),
        ("unpublish", [1]),
        ("download",),
    ]
    await value(served, names.CONTACT_GROUPS, "SetContactGroups", "uas", 1, ["A"])
    for member in ("SetGroupMembers", "AddToGroup", "RemoveFromGroup"):
        await value(served, names.CONTACT_GROUPS, member, "sau", "A", [1])
    await value(served, names.CONTACT_GROUPS, "RemoveGroup", "s", "A")
    await value(served, names.CONTACT_GROUPS, "RenameGroup", "ss", "A", "B")
    assert connection.groups.calls == [
        ("set_contact_groups", 1, ["A"]),
        ("set_group_members", "A", [1]),
        ("add_to_group", "A", [1]),
        ("remove_from_group", "A", [1]),
        ("remove_group", "A"),
        ("rename_group", "A", "B"),
    ]


async def test_connecting_is_told_step_by_step(served: Served) -> None:
    await served.connected()
    await served.settle()
    changes = [body for member, body in served.told() if member == "StatusChanged"]
    assert changes == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (NetworkError("The server is gone"), 2),
        (AuthenticationFailed("Wrong password"), 3),
        (CertExpired("Too old"), 8),
    ],
)
async def test_an_error_is_named_before_the_status_says_disconnected(
    served: Served, failure: TelepathyError, reason: int
) -> None:
    connection = await served.connected()
    connection.set_status(2, reason, failure)
    await served.settle()
    assert served.told()[-2:] == [
        ("ConnectionError", [failure.dbus_name, {"debug-message": Variant("s", str(failure))}]),
        ("StatusChanged", [2, reason]),
    ]


async def test_disconnecting_by_request_names_no_error_and_drops_the_name(served: Served) -> None:
    await served.connected()
    name, path = served.bus_name, served.path
    await value(served, CONN, "Disconnect")
    await served.client.until(
        lambda m: m.member == "NameOwnerChanged" and m.body[0] == name and not m.body[2]
    )
    told = served.told()
    assert told[-1] == ("StatusChanged", [2, 1])
    assert "ConnectionError" not in [member for member, _ in told]
    assert await served.client.error(served.bus.unique_name, path, CONN, "GetStatus") == (
        "org.freedesktop.DBus.Error.UnknownObject"
    )


async def test_disconnecting_without_ever_connecting_works_too(served: Served) -> None:
    await served.request()
    await value(served, CONN, "Disconnect")
    told = await served.client.signal("StatusChanged")
    assert told.body == [2, 1]
    assert not served.manager.busy


async def test_a_connection_that_is_gone_says_nothing_more(served: Served) -> None:
    connection = await served.connected()
    await connection.disconnect()
    connection.events.emit(PresencesChanged({1: (2, "available", "")}))
    connection.set_status(2, 1)
    await served.settle()
    assert served.told()[-1] == ("StatusChanged", [2, 1])
    assert [member for member, _ in served.told()].count("StatusChanged") == 3


async def test_handles_and_identifiers_are_translated(served: Served) -> None:
    await served.connected()
    handles = await value(
        served, CONN, "RequestHandles", "uas", 1, ["Bob@example.test/x", "carol@example.test"]
    )
    assert await value(served, CONN, "InspectHandles", "uau", 1, handles) == [
        "bob@example.test",
        "carol@example.test",
    ]
    await value(served, CONN, "HoldHandles", "uau", 1, handles)
    await value(served, CONN, "ReleaseHandles", "uau", 1, handles)
    for member in ("InspectHandles", "HoldHandles", "ReleaseHandles"):
        assert await error(served, CONN, member, "uau", 1, [999]) == ERROR + "InvalidHandle"
        assert await error(served, CONN, member, "uau", 3, handles) == ERROR + "NotImplemented"
    assert await error(served, CONN, "RequestHandles", "uas", 1, ["a b@c"]) == (
        ERROR + "InvalidHandle"
    )
    assert await error(served, CONN, "RequestHandles", "uas", 3, ["list"]) == (
        ERROR + "NotImplemented"
    )
    assert await value(served, CONN, "GetSelfHandle") == served.connection.self_handle


async def test_the_handle_of_a_room_is_found_by_its_short_name_too(served: Served) -> None:
    await served.connected()
    rooms = await value(served, CONN, "RequestHandles", "uas", 2, ["tea", "tea@rooms.example.test"])
    assert rooms[0] == rooms[1]
    assert await value(served, CONN, "InspectHandles", "uau", 2, rooms[:1]) == [
        "tea@rooms.example.test"
    ]


async def test_client_interest_is_taken_and_changes_nothing(served: Served) -> None:
    await served.request()
    await value(served, CONN, "AddClientInterest", "as", ["x"])
    await value(served, CONN, "RemoveClientInterest", "as", ["x"])


async def test_a_new_own_address_is_told_in_both_ways(served: Served) -> None:
    connection = await served.connected()
    connection.events.emit(SelfContactChanged(5, "other@example.test"))
    await served.settle()
    assert served.told()[-2:] == [
        ("SelfHandleChanged", [5]),
        ("SelfContactChanged", [5, "other@example.test"]),
    ]


async def test_attributes_of_many_contacts_come_in_one_call(served: Served) -> None:
    connection = await served.connected()
    wanted = [names.SIMPLE_PRESENCE, names.CONTACT_CAPABILITIES, "org.example.Unknown"]
    own = connection.self_handle
    found = await value(
        served, names.CONTACTS, "GetContactAttributes", "auasb", [own, 999], wanted, True
    )
    assert set(found) == {own}
    attributes = found[own]
    assert attributes[CONN + "/contact-id"] == Variant("s", "alice@example.test")
    assert attributes[names.SIMPLE_PRESENCE + "/presence"] == Variant(
        "(uss)", (2, "available", "here")
    )
    assert attributes[names.CONTACT_CAPABILITIES + "/capabilities"].signature == "a(a{sv}as)"
    found = await value(served, names.CONTACTS, "GetContactAttributes", "auasb", [own], [], False)
    assert set(found[own]) == {CONN + "/contact-id"}


async def test_a_contact_is_found_by_its_address(served: Served) -> None:
    connection = await served.connected()
    reply = await served.client.call(
        served.bus_name,
        served.path,
        names.CONTACTS,
        "GetContactByID",
        "sas",
        "Bob@example.test",
        [names.SIMPLE_PRESENCE],
    )
    assert reply.message_type is MessageType.METHOD_RETURN
    handle, attributes = reply.body
    assert handle == connection.handles.ensure("bob@example.test")
    assert attributes[CONN + "/contact-id"].value == "bob@example.test"
    assert names.SIMPLE_PRESENCE + "/presence" in attributes
    assert await error(served, names.CONTACTS, "GetContactByID", "sas", "a b@c", []) == (
        ERROR + "InvalidHandle"
    )


async def test_presences_are_read_and_told(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    assert await value(served, names.SIMPLE_PRESENCE, "GetPresences", "au", [own]) == {
        own: (2, "available", "here")
    }
    assert await error(served, names.SIMPLE_PRESENCE, "GetPresences", "au", [999]) == (
        ERROR + "InvalidHandle"
    )
    assert await error(served, names.SIMPLE_PRESENCE, "SetPresence", "ss", "asleep", "") == (
        ERROR + "InvalidArgument"
    )
    connection.events.emit(PresencesChanged({own: (3, "away", "lunch")}))
    await served.settle()
    assert served.told()[-1] == ("PresencesChanged", [{own: (3, "away", "lunch")}])


async def test_capabilities_are_read_and_told(served: Served) -> None:
    connection = await served.connected()
    own = connection.self_handle
    found = await value(served, names.CONTACT_CAPABILITIES, "GetContactCapabilities", "au", [own])
    fixed, allowed = found[own][0]
    assert fixed[TYPE] == Variant("s", names.FILE_TRANSFER)
    assert fixed[names.CHANNEL + ".TargetHandleType"] == Variant("u", 1)
    assert allowed == CLASSES[0][1]
    call = (served, names.CONTACT_CAPABILITIES, "GetContactCapabilities", "au", [999])
    assert await error(*call) == ERROR + "InvalidHandle"
    connection.events.emit(ContactCapabilitiesChanged((own,)))
    await served.settle()
    assert served.told()[-1] == ("ContactCapabilitiesChanged", [found])
