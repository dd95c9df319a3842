"""Channel.Type.RoomList."""

from __future__ import annotations

from typing import Any, Final, Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import RoomInfos
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusBool, DBusStr
from telepathy_e2e.service import names

# What is told of a room; what is not here is a string.
_INFO: Final = {"members": "u", "password": "b", "invite-only": "b"}


class Listing(Protocol):
    """See ``service.room_list.RoomListChannel``, whose docstrings hold."""

    @property
    def listing(self) -> bool: ...

    def list_rooms(self) -> None: ...

    def stop_listing(self) -> None: ...


class RoomListInterface(Interface):
    """``Channel.Type.RoomList``."""

    name = names.ROOM_LIST

    Server = Property(DBusStr)

    GotRooms = Signal(Rooms=RoomInfos)
    ListingRooms = Signal(Listing=DBusBool)

    def __init__(self, channel: Listing) -> None:
        super().__init__(channel)
        self._channel = channel

    def tell(self, event: Any) -> None:
        if type(event).__name__ == "GotRooms":
            self.GotRooms(
                [
                    [
                        each.handle,
                        names.TEXT,
                        {
                            key: variant(_INFO.get(key, "s"), value)
                            for key, value in each.info.items()
                        },
                    ]
                    for each in event.rooms
                ]
            )
        else:
            super().tell(event)

    @method("GetListingRooms")
    def get_listing_rooms(self) -> DBusBool:
        return self._channel.listing

    @method("ListRooms")
    def list_rooms(self) -> None:
        self._channel.list_rooms()

    @method("StopListing")
    def stop_listing(self) -> None:
        self._channel.stop_listing()
