"""Channel.Interface.Room2."""

from __future__ import annotations

from telepathy_e2e.bus.members import Interface, Property
from telepathy_e2e.bus.wire import DBusInt64, DBusStr, DBusUInt32
from telepathy_e2e.service import names


class RoomInterface(Interface):
    """``Channel.Interface.Room2``: where a room is, which never changes."""

    name = names.ROOM

    RoomName = Property(DBusStr)
    Server = Property(DBusStr)
    Creator = Property(DBusStr)
    CreatorHandle = Property(DBusUInt32)
    CreationTimestamp = Property(DBusInt64)
