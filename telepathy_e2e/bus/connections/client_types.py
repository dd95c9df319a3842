"""Connection.Interface.ClientTypes."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import Signal, method
from telepathy_e2e.bus.types import ClientTypesMap, Handles, Strings
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusUInt32, Variant
from telepathy_e2e.service import names


class ClientTypesInterface(ConnectionPart):
    """``Connection.Interface.ClientTypes``."""

    name = names.CLIENT_TYPES

    ClientTypesUpdated = Signal(Contact=DBusUInt32, Client_Types=Strings)

    has_attributes = True

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        types = self._connection.client_types.of(handle)
        if types is None:
            return {}
        return {names.CLIENT_TYPES + "/client-types": variant("as", types)}

    @method("GetClientTypes")
    def get_client_types(self, Contacts: Handles) -> ClientTypesMap:
        check_connected(self._connection)
        types = self._connection.client_types.of_all(Contacts)
        return {handle: list(each) for handle, each in types.items()}

    @method("RequestClientTypes")
    async def request_client_types(self, Contact: DBusUInt32) -> Strings:
        check_connected(self._connection)
        return list(await self._connection.client_types.request(Contact))
