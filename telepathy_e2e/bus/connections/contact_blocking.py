"""Connection.Interface.ContactBlocking."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.members import Property, Signal, method
from telepathy_e2e.bus.types import HandleIdentifiers, Handles
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusBool, DBusUInt32, Variant
from telepathy_e2e.service import names


class ContactBlockingInterface(ConnectionPart):
    """``Connection.Interface.ContactBlocking``; a server that cannot block says NotImplemented."""

    name = names.CONTACT_BLOCKING

    ContactBlockingCapabilities = Property(DBusUInt32)

    BlockedContactsChanged = Signal(
        Blocked_Contacts=HandleIdentifiers, Unblocked_Contacts=HandleIdentifiers
    )

    has_attributes = True

    @property
    def contact_blocking_capabilities(self) -> int:
        return self._connection.blocking.contact_blocking_capabilities

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        blocked = variant("b", self._connection.blocking.is_blocked(handle))
        return {names.CONTACT_BLOCKING + "/blocked": blocked}

    @method("BlockContacts")
    async def block_contacts(self, Contacts: Handles, Report_Abusive: DBusBool) -> None:
        await self._connection.blocking.block(Contacts)

    @method("UnblockContacts")
    async def unblock_contacts(self, Contacts: Handles) -> None:
        await self._connection.blocking.unblock(Contacts)

    @method("RequestBlockedContacts")
    async def request_blocked_contacts(self) -> HandleIdentifiers:
        return await self._connection.blocking.request_blocked_contacts()
