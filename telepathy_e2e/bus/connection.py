"""A connection on the bus: Connection itself, and what holds its interfaces together."""

from __future__ import annotations

from collections.abc import Callable

from telepathy_e2e.bus import protocol
from telepathy_e2e.bus.capabilities import CapabilitiesInterface
from telepathy_e2e.bus.contacts import ContactsInterface
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.presence import PresenceInterface
from telepathy_e2e.bus.requests import RequestsInterface
from telepathy_e2e.bus.served import DISCONNECTED, Connection, check_connected
from telepathy_e2e.bus.types import Handles, Strings
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import (
    DBusBool,
    DBusDict,
    DBusObjectPath,
    DBusStr,
    DBusUInt32,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import (
    ChannelOpened,
    ConnectionEvent,
    ContactCapabilitiesChanged,
    PresencesChanged,
    SelfContactChanged,
    StatusChanged,
)
from telepathy_e2e.tasks import TaskOwner


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
    def request_handles(self, Handle_Type: DBusUInt32, Identifiers: Strings) -> Handles:
        self._check_handles(Handle_Type)
        return [self._connection.handles.ensure(each) for each in Identifiers]

    @method("InspectHandles")
    def inspect_handles(self, Handle_Type: DBusUInt32, Handles: Handles) -> Strings:
        self._check_handles(Handle_Type)
        return [self._connection.handles.inspect(each) for each in Handles]

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


class ConnectionObject:
    """Shows a connection and its channels until it is disconnected.

    Args:
        on_gone: called when it has left the bus.
    """

    def __init__(
        self, objects: Objects, connection: Connection, on_gone: Callable[[], None]
    ) -> None:
        self.connection = connection
        self._objects = objects
        self._on_gone = on_gone
        self._tasks = TaskOwner(connection.object_path)
        self._base = ConnectionInterface(connection, self._tasks)
        self._requests = RequestsInterface(objects, connection, self._channel_announced)
        self._presence = PresenceInterface(connection)
        self._capabilities = CapabilitiesInterface(connection)
        objects.export(
            connection.object_path,
            self._base,
            self._requests,
            ContactsInterface(connection),
            self._presence,
            self._capabilities,
        )
        self._unsubscribe = connection.events.subscribe(self._event)

    async def disconnect(self) -> None:
        """End it; it has left the bus when this returns."""
        await self.connection.disconnect()

    def _event(self, event: ConnectionEvent) -> None:
        match event:
            case StatusChanged():
                self._status_changed(event)
            case ChannelOpened(channel):
                self._requests.add(channel)
                self._requests.announce(channel)
            case SelfContactChanged(handle, identifier):
                self._base.SelfHandleChanged(handle)
                self._base.SelfContactChanged(handle, identifier)
            case PresencesChanged(presences):
                self._presence.PresencesChanged(dict(presences))
            case ContactCapabilitiesChanged(handles):
                self._capabilities.changed(handles)

    def _channel_announced(self, channel: Channel) -> None:
        self._base.NewChannel(
            channel.object_path,
            channel.channel_type,
            channel.target_handle_type,
            channel.target_handle,
            channel.requested,
        )

    def _status_changed(self, event: StatusChanged) -> None:
        if event.error is not None:
            details = {"debug-message": variant("s", str(event.error))}
            self._base.ConnectionError(event.error.dbus_name, details)
        self._base.StatusChanged(event.status, event.reason)
        if event.status == DISCONNECTED:
            self._unsubscribe()
            self._requests.withdraw_all()
            self._objects.withdraw_below(self.connection.object_path)
            self._on_gone()
