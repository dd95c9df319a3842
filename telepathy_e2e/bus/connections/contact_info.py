"""Connection.Interface.ContactInfo."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import Connection, check_connected
from telepathy_e2e.bus.members import Property, Signal, method
from telepathy_e2e.bus.types import ContactInfoFields, ContactInfoMap, FieldSpecs, Handles
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusUInt32, Variant
from telepathy_e2e.service import names


class ContactInfoInterface(ConnectionPart):
    """``Connection.Interface.ContactInfo``."""

    name = names.CONTACT_INFO

    ContactInfoFlags = Property(DBusUInt32)
    SupportedFields = Property(FieldSpecs)

    ContactInfoChanged = Signal(Contact=DBusUInt32, ContactInfo=ContactInfoFields)

    has_attributes = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._info = connection.contact_info

    @property
    def contact_info_flags(self) -> int:
        return self._info.flags

    @property
    def supported_fields(self) -> list[list[Any]]:
        return [
            [name, list(parameters), flags, most]
            for name, parameters, flags, most in self._info.supported_fields
        ]

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        fields = self._info.of(handle)
        if fields is None:
            return {}
        return {names.CONTACT_INFO + "/info": variant("a(sasas)", _shown(fields))}

    def tell(self, event: Any) -> None:
        """``service.contact_info.ContactInfoChanged`` is its only event."""
        self.ContactInfoChanged(event.contact, _shown(event.contact_info))

    @method("GetContactInfo")
    def get_contact_info(self, Contacts: Handles) -> ContactInfoMap:
        check_connected(self._connection)
        known = self._info.of_all(Contacts)
        return {handle: _shown(fields) for handle, fields in known.items()}

    @method("RefreshContactInfo")
    def refresh_contact_info(self, Contacts: Handles) -> None:
        check_connected(self._connection)
        self._info.refresh(Contacts)

    @method("RequestContactInfo")
    async def request_contact_info(self, Contact: DBusUInt32) -> ContactInfoFields:
        check_connected(self._connection)
        return _shown(await self._info.request(Contact))

    @method("SetContactInfo")
    async def set_contact_info(self, ContactInfo: ContactInfoFields) -> None:
        check_connected(self._connection)
        await self._info.set([(name, more, values) for name, more, values in ContactInfo])


def _shown(
    fields: Iterable[tuple[str, tuple[str, ...], tuple[str, ...]]],
) -> list[list[Any]]:
    return [[name, list(parameters), list(values)] for name, parameters, values in fields]
