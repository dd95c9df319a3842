"""Connection.Interface.Aliasing."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import Signal, method
from telepathy_e2e.bus.types import AliasPairs, HandleIdentifiers, Handles, Strings
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusUInt32, Variant
from telepathy_e2e.service import names


class AliasingInterface(ConnectionPart):
    """``Connection.Interface.Aliasing``."""

    name = names.ALIASING

    AliasesChanged = Signal(Aliases=AliasPairs)

    has_attributes = True

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        return {names.ALIASING + "/alias": variant("s", self._connection.aliases.of(handle))}

    @method("GetAliasFlags")
    def get_alias_flags(self) -> DBusUInt32:
        check_connected(self._connection)
        return self._connection.aliases.flags

    @method("RequestAliases")
    def request_aliases(self, Contacts: Handles) -> Strings:
        aliases = self._connection.aliases.of_all(Contacts)
        return [aliases[each] for each in Contacts]

    @method("GetAliases")
    def get_aliases(self, Contacts: Handles) -> HandleIdentifiers:
        return self._connection.aliases.of_all(Contacts)

    @method("SetAliases")
    async def set_aliases(self, Aliases: HandleIdentifiers) -> None:
        await self._connection.aliases.set(Aliases)
