"""Connection.Interface.Identities1 (spec/Connection_Interface_Identities1.xml)."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import Signal, method
from telepathy_e2e.bus.types import Identities
from telepathy_e2e.bus.wire import DBusUInt32
from telepathy_e2e.service import names


class IdentitiesInterface(ConnectionPart):
    """``Connection.Interface.Identities1``."""

    name = names.IDENTITIES

    IdentitiesChanged = Signal(Contact=DBusUInt32)

    @method("GetIdentities")
    async def get_identities(self, Contact: DBusUInt32) -> Identities:
        check_connected(self._connection)
        return [
            [each.identity, [[a.type, a.summary, a.data] for a in each.attestations]]
            for each in await self._connection.published.fetch(Contact)
        ]
