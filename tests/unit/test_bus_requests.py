"""Channels made on request, and channels announced: what is told, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant

from telepathy_e2e.errors import Offline
from telepathy_e2e.service import names
from telepathy_e2e.service.events import FileTransferStateChanged
from tests.unit.bus_support import FT, FakeQuestion, FakeTransfer, Served, fixture

served = fixture()

ERROR = "org.freedesktop.Telepathy.Error."
TYPE = names.CHANNEL + ".ChannelType"


def _from_us(served: Served) -> list[Message]:
    return [m for m in served.client.log if m.sender == served.bus.unique_name]


async def test_the_reply_goes_out_before_new_channels_and_that_before_anything_else(
    served: Served,
) -> None:
    connection = await served.connected()
    real = connection.create_channel

    async def create(request: Any) -> Any:
        channel = await real(request)
        # As soon as it may, the service goes on.
        channel.begin = lambda: channel.events.emit(FileTransferStateChanged(2, 1))  # type: ignore[method-assign]
        return channel

    connection.create_channel = create  # type: ignore[method-assign]
    reply = await served.create()
    await served.client.signal("FileTransferStateChanged")
    order = [m.member or m.message_type.name for m in _from_us(served)]
    assert order[order.index("NewChannels") - 1 :] == [
        "METHOD_RETURN",
        "NewChannels",
        "NewChannel",
        "FileTransferStateChanged",
    ]
    new = served.client.signals("NewChannels")[0]
    assert tuple(reply.body) == new.body[0][0]
    assert _from_us(served)[order.index("NewChannels") - 1] is reply


async def test_new_channel_tells_the_same_in_the_old_way(served: Served) -> None:
    connection = await served.connected()
    reply = await served.create()
    told = await served.client.signal("NewChannel")
    handle = connection.handles.ensure("bob@example.test")
    assert told.body == [reply.body[0], FT, 1, handle, True]


async def test_a_channel_nobody_asked_for_is_announced_alone(served: Served) -> None:
    connection = await served.connected()
    for _ in range(2):
        connection.open(FakeQuestion(connection, connection.next_path(), "/payload"))
    await served.settle()
    new = [body for member, body in served.told() if member == "NewChannels"]
    assert [len(body[0]) for body in new] == [1, 1]
    properties = new[0][0][0][1]
    assert properties[TYPE] == Variant("s", names.PEER_VERIFICATION)
    assert properties[names.PEER_VERIFICATION + ".Attestations"] == Variant(
        "a(ssay)", [("openpgp", "signed by Carol", b"\x01\x02")]
    )


async def test_what_is_announced_is_what_the_object_says(served: Served) -> None:
    await served.connected()
    path, properties = (await served.create()).body
    shown: dict[str, Variant] = {}
    for interface in (names.CHANNEL, FT, names.SECURABLE, names.END_TO_END_SECURITY):
        for name, found in (await served.get_all(path, interface)).items():
            shown[f"{interface}.{name}"] = found
    assert {name: shown[name] for name in properties} == properties
    listed = (await served.get_all(served.path, names.REQUESTS))["Channels"].value
    assert listed == [(path, properties)]


async def test_a_closed_channel_says_so_twice_and_is_gone(served: Served) -> None:
    await served.connected()
    path = (await served.create()).body[0]
    await served.client.value(served.bus_name, path, names.CHANNEL, "Close")
    await served.settle()
    assert served.told()[-2:] == [("Closed", []), ("ChannelClosed", [path])]
    assert (await served.get_all(served.path, names.REQUESTS))["Channels"].value == []
    assert await served.client.error(served.bus_name, path, names.CHANNEL, "Close") == (
        "org.freedesktop.DBus.Error.UnknownObject"
    )


async def test_channels_close_before_their_connection_says_disconnected(served: Served) -> None:
    connection = await served.connected()
    await served.create()
    await connection.disconnect()
    await served.settle()
    assert [member for member, _ in served.told()][-3:] == [
        "Closed",
        "ChannelClosed",
        "StatusChanged",
    ]


async def test_ensuring_returns_what_is_there_and_announces_nothing(served: Served) -> None:
    await served.connected()
    ensure: tuple[Any, ...] = (
        served.bus_name,
        served.path,
        names.REQUESTS,
        "EnsureChannel",
        "a{sv}",
        {},
    )
    first = await served.client.call(*ensure)
    second = await served.client.call(*ensure)
    assert [first.body[0], second.body[0]] == [True, False]
    assert first.body[1:] == second.body[1:]
    await served.settle()
    assert len(served.client.signals("NewChannels")) == 1
    assert served.client.log.index(first) < served.client.log.index(
        served.client.signals("NewChannels")[0]
    )


async def test_requests_reach_the_service_as_plain_values(served: Served) -> None:
    connection = await served.connected()
    await served.create(
        **{
            FT + ".Size": Variant("i", 17),
            FT + ".Date": Variant("u", 1),
            names.SECURABLE + ".Encrypted": Variant("b", True),
            names.END_TO_END_SECURITY + ".Replaces": Variant("o", "/old"),
            "org.example.Unknown": Variant("v", Variant("as", ["x"])),
        }
    )
    request = connection.requests[0]
    assert request[FT + ".Size"] == 17
    assert request[FT + ".Date"] == 1
    assert request[FT + ".Filename"] == "notes.txt"
    assert request[names.SECURABLE + ".Encrypted"] is True
    assert request[names.END_TO_END_SECURITY + ".Replaces"] == "/old"
    assert request["org.example.Unknown"] == ["x"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (FT + ".Size", Variant("i", -1)),
        (FT + ".Size", Variant("s", "17")),
        (FT + ".Filename", Variant("ay", b"notes.txt")),
        (names.CHANNEL + ".TargetHandle", Variant("t", 2**32)),
        (names.CHANNEL + ".TargetHandleType", Variant("b", True)),
        (names.SECURABLE + ".Encrypted", Variant("u", 1)),
        (names.END_TO_END_SECURITY + ".Replaces", Variant("s", "/old")),
    ],
)
async def test_properties_of_another_type_are_refused_by_name(
    served: Served, name: str, value: Variant
) -> None:
    connection = await served.connected()
    reply = await served.create(**{name: value})
    assert reply.error_name == ERROR + "InvalidArgument"
    assert name in reply.body[0]
    assert not connection.requests


async def test_a_request_that_fails_announces_nothing(served: Served) -> None:
    connection = await served.connected()
    connection.failure = Offline("Bob is not there")
    reply = await served.create()
    assert reply.message_type is MessageType.ERROR
    assert (reply.error_name, reply.body) == (ERROR + "Offline", ["Bob is not there"])
    await served.settle()
    assert not served.client.signals("NewChannels")


async def test_a_channel_that_is_gone_before_its_announcement_is_not_announced(
    served: Served,
) -> None:
    connection = await served.connected()
    channel = FakeTransfer(connection, connection.next_path(), {})
    requests = served.manager.connections[0]._requests
    requests.add(channel)
    channel.close()
    requests.announce(channel)
    await served.settle()
    assert not served.client.signals("NewChannels")
