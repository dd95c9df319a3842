"""Connection.Interface.SimplePresence."""

from __future__ import annotations

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.served import Connection, check_connected
from telepathy_e2e.bus.types import Handles, Presences, Statuses
from telepathy_e2e.bus.wire import DBusStr, DBusUInt32
from telepathy_e2e.service import names


class PresenceInterface(Interface):
    """``Connection.Interface.SimplePresence``; SetPresence may come before Connect."""

    name = names.SIMPLE_PRESENCE

    Statuses = Property(Statuses)
    MaximumStatusMessageLength = Property(DBusUInt32)

    PresencesChanged = Signal(Presence=Presences)

    # 0 is no limit.
    maximum_status_message_length = 0

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    @method("SetPresence")
    def set_presence(self, Status: DBusStr, Status_Message: DBusStr) -> None:
        self._connection.set_presence(Status, Status_Message)

    @method("GetPresences")
    def get_presences(self, Contacts: Handles) -> Presences:
        check_connected(self._connection)
        return {handle: self._connection.presence(handle) for handle in Contacts}
