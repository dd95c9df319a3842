"""Connection itself, and what its other interfaces have in common."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from telepathy_e2e.bus import protocol
from telepathy_e2e.bus.connections.served import Connection, check_connected
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import Handles, Strings
from telepathy_e2e.bus.wire import (
    DBusBool,
    DBusDict,
    DBusObjectPath,
    DBusStr,
    DBusUInt32,
    Variant,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.handles import HANDLE_TYPE_ROOM
from telepathy_e2e.tasks import TaskOwner

if TYPE_CHECKING:
    from telepathy_e2e.bus.connections.attributes import Attributes


class ConnectionPart(Interface):
    """One of a connection's interfaces; ``connections.table`` lists them.

    Args:
        connection: whose.
    """

    # Whether ``contact_attributes`` gives anything (Contacts.ContactAttributeInterfaces).
    has_attributes = False

    # Those of all parts; there as soon as the connection is shown.
    attributes: Attributes

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        """What GetContactAttributes says of a contact for this interface, by qualified name.

        Args:
            handle: known to be one; called for thousands in a row.
        """
        return {}

    def tell(self, event: ConnectionEvent) -> None:
        """Make the signal of an event that is this interface's."""
        signal = getattr(self, type(event).__name__)
        signal(*(getattr(event, each.name) for each in fields(event)))


class ConnectionInterface(Interface):
    """``Connection``. Of its deprecated members those are here that clients still need."""

    name = names.CONNECTION

    Interfaces = Property(Strings)
    SelfHandle = Property(DBusUInt32)
    SelfID = Property(DBusStr)
    Status = Property(DBusUInt32)
    HasImmortalHandles = Property(DBusBool)

    SelfHandleChanged = Signal(Self_Handle=DBusUInt32)
    SelfContactChanged = Signal(Self_Handle=DBusUInt32, Self_ID=DBusStr)
    NewChannel = Signal(
        Object_Path=DBusObjectPath,
        Channel_Type=DBusStr,
        Handle_Type=DBusUInt32,
        Handle=DBusUInt32,
        Suppress_Handler=DBusBool,
    )
    ConnectionError = Signal(Error=DBusStr, Details=DBusDict)
    StatusChanged = Signal(Status=DBusUInt32, Reason=DBusUInt32)

    interfaces = protocol.CONNECTION_INTERFACES
    has_immortal_handles = True

    def __init__(self, connection: Connection, tasks: TaskOwner) -> None:
        super().__init__(connection)
        self._connection = connection
        self._tasks = tasks

    @method("Connect")
    def connect(self) -> None:
        self._connection.connect()

    @method("Disconnect")
    def disconnect(self) -> None:
        # The reply does not wait for the server to say goodbye.
        self._tasks.start("disconnect", self._connection.disconnect())

    @method("GetInterfaces")
    def get_interfaces(self) -> Strings:
        return list(self.interfaces)

    @method("GetProtocol")
    def get_protocol(self) -> DBusStr:
        return protocol.NAME

    @method("GetStatus")
    def get_status(self) -> DBusUInt32:
        return self._connection.status

    @method("GetSelfHandle")
    def get_self_handle(self) -> DBusUInt32:
        check_connected(self._connection)
        return self._connection.self_handle

    @method("RequestHandles")
    async def request_handles(self, Handle_Type: DBusUInt32, Identifiers: Strings) -> Handles:
        self._check_handles(Handle_Type)
        if Handle_Type == HANDLE_TYPE_ROOM:
            Identifiers = await self._connection.rooms.complete(Identifiers)
        return [self._connection.handles.ensure(each, Handle_Type) for each in Identifiers]

    @method("InspectHandles")
    def inspect_handles(self, Handle_Type: DBusUInt32, Handles: Handles) -> Strings:
        self._check_handles(Handle_Type)
        return [self._connection.handles.inspect(each, Handle_Type) for each in Handles]

    @method("HoldHandles")
    def hold_handles(self, Handle_Type: DBusUInt32, Handles: Handles) -> None:
        self.inspect_handles(Handle_Type, Handles)

    @method("ReleaseHandles")
    def release_handles(self, Handle_Type: DBusUInt32, Handles: Handles) -> None:
        self.inspect_handles(Handle_Type, Handles)

    @method("AddClientInterest")
    def add_client_interest(self, Tokens: Strings) -> None:
        """Nothing here waits for interest: everybody is told everything."""

    @method("RemoveClientInterest")
    def remove_client_interest(self, Tokens: Strings) -> None:
        """See ``add_client_interest``."""

    def _check_handles(self, handle_type: int) -> None:
        check_connected(self._connection)
        self._connection.handles.check_type(handle_type)
