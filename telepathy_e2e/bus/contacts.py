"""Connection.Interface.Contacts: everything about many contacts in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from telepathy_e2e.bus.channels.table import class_list
from telepathy_e2e.bus.members import Interface, Property, method, signature_of
from telepathy_e2e.bus.served import Connection, check_connected
from telepathy_e2e.bus.types import (
    ChannelClasses,
    ContactAttributes,
    HandleAndAttributes,
    Handles,
    Presence,
    Strings,
)
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusBool, DBusStr, Variant
from telepathy_e2e.errors import InvalidHandle
from telepathy_e2e.service import names

ATTRIBUTE_INTERFACES: Final = (
    names.CONNECTION,
    names.SIMPLE_PRESENCE,
    names.CONTACT_CAPABILITIES,
)


class ContactsInterface(Interface):
    """``Connection.Interface.Contacts``."""

    name = names.CONTACTS

    ContactAttributeInterfaces = Property(Strings)

    contact_attribute_interfaces = ATTRIBUTE_INTERFACES

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    @method("GetContactAttributes")
    def get_contact_attributes(
        self, Handles: Handles, Interfaces: Strings, Hold: DBusBool
    ) -> ContactAttributes:
        check_connected(self._connection)
        result = {}
        for handle in Handles:
            try:
                result[handle] = self._attributes(handle, Interfaces)
            except InvalidHandle:
                continue  # "they are simply omitted from this mapping"
        return result

    @method("GetContactByID")
    async def get_contact_by_id(
        self, Identifier: DBusStr, Interfaces: Strings
    ) -> HandleAndAttributes:
        check_connected(self._connection)
        handle = await self._connection.contact_by_id(Identifier)
        return handle, self._attributes(handle, Interfaces)

    def _attributes(self, handle: int, interfaces: Iterable[str]) -> dict[str, Variant]:
        """Raises: InvalidHandle, no such contact."""
        shown = {
            names.CONNECTION + "/contact-id": variant("s", self._connection.handles.inspect(handle))
        }
        if names.SIMPLE_PRESENCE in interfaces:
            shown[names.SIMPLE_PRESENCE + "/presence"] = variant(
                signature_of(Presence), self._connection.presence(handle)
            )
        if names.CONTACT_CAPABILITIES in interfaces:
            shown[names.CONTACT_CAPABILITIES + "/capabilities"] = variant(
                signature_of(ChannelClasses),
                class_list(self._connection.contact_capabilities(handle)),
            )
        return shown
