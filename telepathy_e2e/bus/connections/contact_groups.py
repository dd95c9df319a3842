"""Connection.Interface.ContactGroups."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.members import Property, Signal, method
from telepathy_e2e.bus.types import Handles, Strings
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusBool, DBusStr, DBusUInt32, Variant
from telepathy_e2e.service import names


class ContactGroupsInterface(ConnectionPart):
    """``Connection.Interface.ContactGroups``."""

    name = names.CONTACT_GROUPS

    DisjointGroups = Property(DBusBool)
    GroupStorage = Property(DBusUInt32)
    Groups = Property(Strings)

    GroupsCreated = Signal(Names=Strings)
    GroupRenamed = Signal(Old_Name=DBusStr, New_Name=DBusStr)
    GroupsRemoved = Signal(Names=Strings)
    GroupsChanged = Signal(Contact=Handles, Added=Strings, Removed=Strings)

    has_attributes = True

    @property
    def disjoint_groups(self) -> bool:
        return self._connection.groups.disjoint_groups

    @property
    def group_storage(self) -> int:
        return self._connection.groups.group_storage

    @property
    def groups(self) -> list[str]:
        return self._connection.groups.groups

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        groups = variant("as", self._connection.groups.of(handle))
        return {names.CONTACT_GROUPS + "/groups": groups}

    @method("SetContactGroups")
    async def set_contact_groups(self, Contact: DBusUInt32, Groups: Strings) -> None:
        await self._connection.groups.set_contact_groups(Contact, Groups)

    @method("SetGroupMembers")
    async def set_group_members(self, Group: DBusStr, Members: Handles) -> None:
        await self._connection.groups.set_group_members(Group, Members)

    @method("AddToGroup")
    async def add_to_group(self, Group: DBusStr, Members: Handles) -> None:
        await self._connection.groups.add_to_group(Group, Members)

    @method("RemoveFromGroup")
    async def remove_from_group(self, Group: DBusStr, Members: Handles) -> None:
        await self._connection.groups.remove_from_group(Group, Members)

    @method("RemoveGroup")
    async def remove_group(self, Group: DBusStr) -> None:
        await self._connection.groups.remove_group(Group)

    @method("RenameGroup")
    async def rename_group(self, Old_Name: DBusStr, New_Name: DBusStr) -> None:
        await self._connection.groups.rename_group(Old_Name, New_Name)
