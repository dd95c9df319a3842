"""Channel.Interface.Group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import HandleIdentifiers, Handles, LocalPending, NumberMap
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusDict, DBusStr, DBusUInt32
from telepathy_e2e.service import names

if TYPE_CHECKING:  # not before there is a room
    from telepathy_e2e.service.group import Group

# What MembersChangedDetailed says; what is not here is a string.
_DETAILS: Final = {"actor": "u", "change-reason": "u", "contact-ids": "a{us}"}


class Grouped(Protocol):
    """See ``service.room_channel.RoomChannel``, whose docstrings hold."""

    @property
    def group(self) -> Group: ...

    async def add_members(self, contacts: Sequence[int], message: str) -> None: ...

    async def remove_members(self, contacts: Sequence[int], message: str, reason: int) -> None: ...


class GroupInterface(Interface):
    """``Channel.Interface.Group``."""

    name = names.GROUP

    GroupFlags = Property(DBusUInt32)
    HandleOwners = Property(NumberMap)
    LocalPendingMembers = Property(LocalPending)
    Members = Property(Handles, attribute="member_list")
    RemotePendingMembers = Property(Handles)
    SelfHandle = Property(DBusUInt32)
    MemberIdentifiers = Property(HandleIdentifiers)

    HandleOwnersChanged = Signal(Added=NumberMap, Removed=Handles)
    HandleOwnersChangedDetailed = Signal(
        Added=NumberMap, Removed=Handles, Identifiers=HandleIdentifiers
    )
    SelfHandleChanged = Signal(Self_Handle=DBusUInt32)
    SelfContactChanged = Signal(Self_Handle=DBusUInt32, Self_ID=DBusStr)
    GroupFlagsChanged = Signal(Added=DBusUInt32, Removed=DBusUInt32)
    MembersChanged = Signal(
        Message=DBusStr,
        Added=Handles,
        Removed=Handles,
        Local_Pending=Handles,
        Remote_Pending=Handles,
        Actor=DBusUInt32,
        Reason=DBusUInt32,
    )
    MembersChangedDetailed = Signal(
        Added=Handles,
        Removed=Handles,
        Local_Pending=Handles,
        Remote_Pending=Handles,
        Details=DBusDict,
    )

    def __init__(self, channel: Grouped) -> None:
        super().__init__(channel.group)
        self._channel = channel

    def tell(self, event: Any) -> None:
        match type(event).__name__:
            case "MembersChangedDetailed":
                details = {
                    key: variant(_DETAILS.get(key, "s"), value)
                    for key, value in event.details.items()
                }
                self.MembersChangedDetailed(
                    event.added, event.removed, event.local_pending, event.remote_pending, details
                )
            case _:
                super().tell(event)

    @method("GetSelfHandle")
    def get_self_handle(self) -> DBusUInt32:
        return self._channel.group.self_handle

    @method("AddMembers")
    async def add_members(self, Contacts: Handles, Message: DBusStr) -> None:
        await self._channel.add_members(Contacts, Message)

    @method("RemoveMembers")
    async def remove_members(self, Contacts: Handles, Message: DBusStr) -> None:
        await self._channel.remove_members(Contacts, Message, 0)

    @method("RemoveMembersWithReason")
    async def remove_members_with_reason(
        self, Contacts: Handles, Message: DBusStr, Reason: DBusUInt32
    ) -> None:
        await self._channel.remove_members(Contacts, Message, Reason)
