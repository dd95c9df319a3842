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

    has_attributes = True

    @property
    def statuses(self) -> dict[str, tuple[int, bool, bool]]:
        return self._connection.presences.statuses

    @property
    def maximum_status_message_length(self) -> int:
        return self._connection.presences.maximum_status_message_length

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        presence = variant(signature_of(Presence), self._connection.presences.of(handle))
        return {names.SIMPLE_PRESENCE + "/presence": presence}

    @method("SetPresence")
    def set_presence(self, Status: DBusStr, Status_Message: DBusStr) -> None:
        self._connection.presences.set(Status, Status_Message)

    @method("GetPresences")
    async def get_presences(self, Contacts: Handles) -> Presences:
        check_connected(self._connection)
        return dict(await self._connection.presences.of_all(Contacts))
