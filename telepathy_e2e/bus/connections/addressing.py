"""Connection.Interface.Addressing1: contacts by vCard field and by URI."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import method
from telepathy_e2e.bus.types import AddressesAndAttributes, Strings
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusStr, Variant
from telepathy_e2e.service import addressing, names


class AddressingInterface(ConnectionPart):
    """``Connection.Interface.Addressing1``."""

    name = names.ADDRESSING

    has_attributes = True

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        jid = self._connection.handles.inspect(handle)
        return {
            names.ADDRESSING + "/addresses": variant("a{ss}", addressing.addresses(jid)),
            names.ADDRESSING + "/uris": variant("as", addressing.uris(jid)),
        }

    @method("GetContactsByVCardField")
    async def get_contacts_by_vcard_field(
        self, Field: DBusStr, Addresses: Strings, Interfaces: Strings
    ) -> AddressesAndAttributes:
        check_connected(self._connection)
        ensure = self._connection.handles.ensure
        return await self._answer(addressing.by_vcard_field(Field, Addresses, ensure), Interfaces)

    @method("GetContactsByURI")
    async def get_contacts_by_uri(
        self, URIs: Strings, Interfaces: Strings
    ) -> AddressesAndAttributes:
        check_connected(self._connection)
        ensure = self._connection.handles.ensure
        return await self._answer(addressing.by_uri(URIs, ensure), Interfaces)

    async def _answer(
        self, handles: dict[str, int], interfaces: list[str]
    ) -> tuple[dict[str, int], dict[int, dict[str, Variant]]]:
        # "Attributes from this interface [...] are always returned"
        wanted = dict.fromkeys([*interfaces, names.ADDRESSING])
        return handles, await self.attributes.of_all(dict.fromkeys(handles.values()), wanted)
