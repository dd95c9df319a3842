"""Connection.Interface.Contacts: everything about many contacts in one call."""

from __future__ import annotations

from telepathy_e2e.bus.connections.attributes import Attributes
from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import Connection, check_connected
from telepathy_e2e.bus.members import Property, method
from telepathy_e2e.bus.types import ContactAttributes, HandleAndAttributes, Handles, Strings
from telepathy_e2e.bus.wire import DBusBool, DBusStr
from telepathy_e2e.service import names


class ContactsInterface(ConnectionPart):
    """``Connection.Interface.Contacts``."""

    name = names.CONTACTS

    ContactAttributeInterfaces = Property(Strings)

    def __init__(self, connection: Connection, attributes: Attributes) -> None:
        super().__init__(connection)
        self._attributes = attributes

    @property
    def contact_attribute_interfaces(self) -> list[str]:
        return list(self._attributes.interfaces)

    @method("GetContactAttributes")
    async def get_contact_attributes(
        self, Handles: Handles, Interfaces: Strings, Hold: DBusBool
    ) -> ContactAttributes:
        check_connected(self._connection)
        return await self._attributes.of_all(Handles, Interfaces)

    @method("GetContactByID")
    async def get_contact_by_id(
        self, Identifier: DBusStr, Interfaces: Strings
    ) -> HandleAndAttributes:
        check_connected(self._connection)
        handle = await self._connection.contact_by_id(Identifier)
        return handle, self._attributes.of(handle, Interfaces)
