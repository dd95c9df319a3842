"""A connection on the bus: all its interfaces, and its channels."""

from __future__ import annotations

from collections.abc import Callable

from telepathy_e2e.bus.connections.attributes import Attributes
from telepathy_e2e.bus.connections.base import ConnectionInterface
from telepathy_e2e.bus.connections.contacts import ContactsInterface
from telepathy_e2e.bus.connections.requests import RequestsInterface
from telepathy_e2e.bus.connections.served import DISCONNECTED, Connection
from telepathy_e2e.bus.connections.table import PARTS
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.values import details
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import (
    ChannelOpened,
    ConnectionEvent,
    SelfContactChanged,
    StatusChanged,
)
from telepathy_e2e.tasks import TaskOwner


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
        self._parts = {each.name: each(connection) for each in PARTS}
        attributes = Attributes(connection, self._parts.values())
        for each in self._parts.values():
            each.attributes = attributes
        self._parts[ContactsInterface.name] = ContactsInterface(connection, attributes)
        objects.export(connection.object_path, self._base, self._requests, *self._parts.values())
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
            case _:
                self._parts[event.interface].tell(event)

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
            told = details({"debug-message": str(event.error), **event.error.details})
            self._base.ConnectionError(event.error.dbus_name, told)
        self._base.StatusChanged(event.status, event.reason)
        if event.status == DISCONNECTED:
            self._unsubscribe()
            self._requests.withdraw_all()
            self._objects.withdraw_below(self.connection.object_path)
            self._on_gone()
