"""Connection.Interface.SimplePresence."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import Property, Signal, method, signature_of
from telepathy_e2e.bus.types import Handles, Presence, Presences, Statuses
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusStr, DBusUInt32, Variant
from telepathy_e2e.service import names


class PresenceInterface(ConnectionPart):
    """``Connection.Interface.SimplePresence``; SetPresence may come before Connect."""

    name = names.SIMPLE_PRESENCE

    Statuses = Property(Statuses)
    MaximumStatusMessageLength = Property(DBusUInt32)

    PresencesChanged = Signal(Presence=Presences)

    # 0 is no limit.
    maximum_status_message_length = 0

    has_attributes = True

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        presence = variant(signature_of(Presence), self._connection.presence(handle))
        return {names.SIMPLE_PRESENCE + "/presence": presence}

    @method("SetPresence")
    def set_presence(self, Status: DBusStr, Status_Message: DBusStr) -> None:
        self._connection.set_presence(Status, Status_Message)

    @method("GetPresences")
    def get_presences(self, Contacts: Handles) -> Presences:
        check_connected(self._connection)
        return {handle: self._connection.presence(handle) for handle in Contacts}
