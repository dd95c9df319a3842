"""Connections on request, one for each account and resource."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dbus_fast import MessageType, Variant

from telepathy_e2e.bus.identifiers import MANAGER_NAME, MANAGER_PATH
from telepathy_e2e.bus.parameters import PARAMETERS
from telepathy_e2e.bus.protocol import PATH as PROTOCOL_PATH
from telepathy_e2e.bus.protocol import PROTOCOL, STATUSES
from telepathy_e2e.bus.wire import Bus
from telepathy_e2e.errors import NetworkError
from telepathy_e2e.service.presence import STATUSES as SERVICE_STATUSES
from tests.unit.bus_support import CLASSES, Served, fixture

served = fixture()

MANAGER = "org.freedesktop.Telepathy.ConnectionManager"
ERROR = "org.freedesktop.Telepathy.Error."
TARGET = (MANAGER_NAME, MANAGER_PATH, MANAGER)
PROTOCOL_TARGET = (MANAGER_NAME, PROTOCOL_PATH, PROTOCOL)


async def _owned(served: Served, name: str) -> bool:
    bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    return bool(await served.client.value(*bus, "NameHasOwner", "s", name))


async def test_a_connection_is_made_of_checked_parameters(served: Served) -> None:
    reply = await served.request(password=Variant("s", "open sesame"), port=Variant("i", 1234))
    assert reply.body == [
        "org.freedesktop.Telepathy.Connection.e2e.jabber.alice_40example_2etest",
        "/org/freedesktop/Telepathy/Connection/e2e/jabber/alice_40example_2etest",
    ]
    made = served.connection
    assert made.object_path == reply.body[1]
    assert made.parameters["password"] == "open sesame"
    assert made.parameters["port"] == 1234
    assert made.parameters["e2e-policy"] == "opportunistic"
    assert await _owned(served, reply.body[0])
    assert await served.get_all(served.path, "org.freedesktop.Telepathy.Connection")


async def test_new_connection_is_told_after_the_reply(served: Served) -> None:
    reply = await served.request()
    told = await served.client.signal("NewConnection", MANAGER_PATH)
    assert told.body == [*reply.body, "jabber"]
    assert served.client.log.index(reply) < served.client.log.index(told)


async def test_the_same_account_is_connected_once(served: Served) -> None:
    await served.request()
    second = await served.request(account=Variant("s", "ALICE@example.test"))
    assert second.error_name == ERROR + "NotAvailable"
    assert len(served.made) == 1
    third = await served.request(resource=Variant("s", "other"))
    assert third.message_type is MessageType.METHOD_RETURN
    assert len(served.made) == 2


async def test_of_two_requests_at_once_one_wins(served: Served) -> None:
    both = await asyncio.gather(served.request(), served.request())
    assert sorted(str(reply.error_name) for reply in both) == ["None", ERROR + "NotAvailable"]
    assert len(served.made) == 1


async def test_a_disconnected_account_can_be_requested_again(served: Served) -> None:
    await served.request()
    assert served.manager.busy
    name = served.bus_name
    await served.connection.disconnect()
    assert not served.manager.busy
    await served.settle()
    assert not await _owned(served, name)
    again = await served.request()
    assert again.body[0] == name
    assert await _owned(served, name)


async def test_a_name_that_another_program_has_is_not_available(served: Served) -> None:
    other = await Bus.connect(served.address)
    name = "org.freedesktop.Telepathy.Connection.e2e.jabber.alice_40example_2etest"
    assert await other.request_name(name)
    reply = await served.request()
    assert reply.error_name == ERROR + "NotAvailable"
    assert not served.made
    assert not served.manager.busy
    await other.close()


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        (NetworkError("No"), ERROR + "NetworkError"),
        (RuntimeError("No"), "org.freedesktop.DBus.Error.Failed"),
    ],
)
async def test_a_connection_that_cannot_be_made_leaves_nothing_behind(
    served: Served, failure: Exception, name: str
) -> None:
    served.failure = failure
    assert (await served.request()).error_name == name
    assert not served.manager.busy
    assert not served.client.signals("NewConnection")
    await served.settle()
    assert not await _owned(
        served, "org.freedesktop.Telepathy.Connection.e2e.jabber.alice_40example_2etest"
    )
    served.failure = None
    assert (await served.request()).message_type is MessageType.METHOD_RETURN


async def test_wrong_parameters_make_nothing(served: Served) -> None:
    reply = await served.request(colour=Variant("s", "blue"))
    assert reply.error_name == ERROR + "InvalidArgument"
    assert "colour" in reply.body[0]
    assert not served.made
    assert not served.manager.busy


async def test_another_protocol_is_not_implemented(served: Served) -> None:
    assert await served.client.error(*TARGET, "GetParameters", "s", "irc") == (
        ERROR + "NotImplemented"
    )
    request: tuple[Any, ...] = (*TARGET, "RequestConnection", "sa{sv}", "irc", {})
    assert await served.client.error(*request) == ERROR + "NotImplemented"


async def test_those_who_wait_for_idleness_hear_of_each_change(served: Served) -> None:
    await served.request()
    assert served.changes == 1
    await served.connection.disconnect()
    assert served.changes == 2


async def test_the_old_and_the_new_way_to_ask_for_parameters_agree(served: Served) -> None:
    assert await served.client.value(*TARGET, "ListProtocols") == ["jabber"]
    old = await served.client.value(*TARGET, "GetParameters", "s", "jabber")
    protocol = await served.get_properties(PROTOCOL)
    assert old == protocol["Parameters"].value
    assert [each[0] for each in old] == [each.name for each in PARAMETERS]


async def test_protocols_shows_all_that_the_protocol_object_shows(served: Served) -> None:
    shown = await served.client.value(
        MANAGER_NAME, MANAGER_PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", MANAGER
    )
    assert shown["Interfaces"].value == []
    qualified: dict[str, Any] = {}
    for interface in (PROTOCOL, *(await served.get_properties(PROTOCOL))["Interfaces"].value):
        for name, value in (await served.get_properties(interface)).items():
            qualified[f"{interface}.{name}"] = value
    assert shown["Protocols"].value == {"jabber": qualified}
    classes = qualified[PROTOCOL + ".RequestableChannelClasses"].value
    assert [set(fixed) for fixed, _ in classes] == [set(fixed) for fixed, _ in CLASSES]


async def test_accounts_and_contacts_are_normalised_by_the_protocol(served: Served) -> None:
    value, error = served.client.value, served.client.error
    account = {"account": Variant("s", "Alice@example.test/home")}
    assert await value(*PROTOCOL_TARGET, "IdentifyAccount", "a{sv}", account) == (
        "alice@example.test"
    )
    assert await error(*PROTOCOL_TARGET, "IdentifyAccount", "a{sv}", {}) == (
        ERROR + "InvalidArgument"
    )
    assert await value(*PROTOCOL_TARGET, "NormalizeContact", "s", "Bob@example.test/x") == (
        "bob@example.test"
    )
    assert await error(*PROTOCOL_TARGET, "NormalizeContact", "s", "a b@c") == (
        ERROR + "InvalidHandle"
    )


def test_the_protocol_promises_the_statuses_that_connections_have() -> None:
    assert STATUSES == SERVICE_STATUSES
