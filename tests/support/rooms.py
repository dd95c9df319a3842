"""Rooms in tests: entered, written to and watched over D-Bus."""

from __future__ import annotations

from typing import Any

from dbus_fast import Variant

from tests.support.chat import TEXT
from tests.support.side import CHANNEL, CONNECTION, REQUESTS, DBusFailure, Side, Signal

GROUP = CHANNEL + ".Interface.Group"
PASSWORD = CHANNEL + ".Interface.Password"
ROOM = CHANNEL + ".Interface.Room2"
ROOM_CONFIG = CHANNEL + ".Interface.RoomConfig1"
SUBJECT = CHANNEL + ".Interface.Subject2"
ROOM_LIST = CHANNEL + ".Type.RoomList"

NONE, KICKED, INVITED, BANNED, ERROR, RENAMED, DENIED = 0, 2, 4, 5, 6, 9, 10


def room_request(target: str, **more: Variant) -> dict[str, Variant]:
    return {
        CHANNEL + ".ChannelType": Variant("s", TEXT),
        CHANNEL + ".TargetHandleType": Variant("u", 2),
        CHANNEL + ".TargetID": Variant("s", target),
        **more,
    }


async def create(side: Side, request: dict[str, Variant]) -> tuple[str, dict[str, Any]]:
    path, shown = await side.cm(side.connection, REQUESTS, "CreateChannel", "a{sv}", request)
    return str(path), shown


async def enter(side: Side, room: str) -> str:
    """CreateChannel; the path."""
    return (await create(side, room_request(room)))[0]


async def refused(side: Side, room: str) -> str:
    """CreateChannel fails; the name of the error without its beginning."""
    try:
        await enter(side, room)
    except DBusFailure as error:
        return error.name.partition(".Error.")[2]
    raise AssertionError("the room let us in")


async def name_of(side: Side, handle: int) -> str:
    """The identifier of a contact handle."""
    found = await side.cm(side.connection, CONNECTION, "InspectHandles", "uau", 1, [handle])
    return str(found[0])


async def members(side: Side, path: str) -> set[str]:
    """The nicks of those who are in."""
    shown = await side.get_all(path, GROUP)
    return {shown["MemberIdentifiers"][each].partition("/")[2] for each in shown["Members"]}


async def nick_handle(side: Side, path: str, nick: str) -> int:
    """The handle of a member."""
    shown = await side.get_all(path, GROUP)
    return next(
        int(handle)
        for handle, name in shown["MemberIdentifiers"].items()
        if name.endswith("/" + nick)
    )


async def changed(side: Side, path: str, *, added: str = "", removed: int = 0) -> dict[str, Any]:
    """Wait until somebody was added (by nick) or removed (by handle); the details."""

    def fits(s: Signal) -> bool:
        if s.path != path or s.member != "MembersChangedDetailed":
            return False
        if removed:
            return removed in s.body[1]
        names = s.body[4].get("contact-ids", {})
        return any(names.get(each, "").endswith("/" + added) for each in s.body[0])

    return dict((await side.signal(fits)).body[4])


async def closed(side: Side, path: str) -> None:
    await side.signal(lambda s: s.path == path and s.member == "Closed")


async def configured(side: Side, path: str) -> dict[str, Any]:
    """Wait until it is known what the room is like; RoomConfig1's properties."""
    if not await side.get(path, ROOM_CONFIG, "ConfigurationRetrieved"):
        await side.changed(path, ROOM_CONFIG, "ConfigurationRetrieved", True)
    return await side.get_all(path, ROOM_CONFIG)


async def configure(side: Side, path: str, **settings: Variant) -> None:
    await configured(side, path)
    await side.cm(path, ROOM_CONFIG, "UpdateConfiguration", "a{sv}", settings)


async def invited(side: Side, *, skip: int = 0) -> tuple[str, dict[str, Any]]:
    """Wait for an invitation: the channel."""
    return await side.new_channel(TEXT, skip=skip)
