"""Channel.Type.DBusTube."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from telepathy_e2e.bus.channels import tube
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import HandleIdentifiers, Handles, Numbers
from telepathy_e2e.bus.wire import DBusDict, DBusStr, DBusUInt32
from telepathy_e2e.jingle.tubes import Value
from telepathy_e2e.service import names


class DBusTube(Protocol):
    """See ``service.dbus_tube.DBusTube``."""

    async def offer(self, parameters: Mapping[str, Value], access_control: int) -> str: ...

    async def accept(self, access_control: int) -> str: ...


class DBusTubeInterface(Interface):
    """``Channel.Type.DBusTube``."""

    name = names.DBUS_TUBE

    ServiceName = Property(DBusStr)
    DBusNames = Property(HandleIdentifiers, attribute="dbus_names")
    SupportedAccessControls = Property(Numbers)

    # Of tubes in rooms, which there are none of.
    DBusNamesChanged = Signal(Added=HandleIdentifiers, Removed=Handles)

    def __init__(self, shown: DBusTube) -> None:
        super().__init__(shown)
        self._tube = shown

    @method("Offer")
    async def offer(self, parameters: DBusDict, access_control: DBusUInt32) -> DBusStr:
        return await self._tube.offer(tube.values(parameters), access_control)

    @method("Accept")
    async def accept(self, access_control: DBusUInt32) -> DBusStr:
        return await self._tube.accept(access_control)
