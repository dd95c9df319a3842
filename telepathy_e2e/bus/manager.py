"""The connection manager itself: what protocols there are, and connections on request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from telepathy_e2e.bus import caller, parameters, protocol
from telepathy_e2e.bus.channels.table import ChannelClass
from telepathy_e2e.bus.connections.object import ConnectionObject
from telepathy_e2e.bus.connections.served import Connection
from telepathy_e2e.bus.identifiers import MANAGER_PATH, connection_names
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.types import NameAndPath, ParamSpecs, ProtocolMap, Strings
from telepathy_e2e.bus.wire import Bus, BusGone, DBusDict, DBusObjectPath, DBusStr
from telepathy_e2e.errors import NotAvailable, NotImplementedByUs
from telepathy_e2e.service import names

log = logging.getLogger(__name__)

MANAGER: Final = names.TP + "ConnectionManager"

# Makes the connection of one account: parameters by name, object path.
MakeConnection = Callable[[Mapping[str, Any], str], Connection]


class Manager(Interface):
    """``ConnectionManager``, with its connections.

    A connection's bus name is owned from RequestConnection until it is disconnected.

    Args:
        make_connection: called with checked parameters; raises TelepathyError.
        channel_classes: see ``protocol.ProtocolInterface``.
        on_change: called whenever a connection came or went.
    """

    name = MANAGER

    Interfaces = Property(Strings)
    Protocols = Property(ProtocolMap)
    NewConnection = Signal(Bus_Name=DBusStr, Object_Path=DBusObjectPath, Protocol=DBusStr)

    interfaces = ()

    def __init__(
        self,
        bus: Bus,
        objects: Objects,
        *,
        make_connection: MakeConnection,
        channel_classes: Callable[[], list[ChannelClass]],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._bus = bus
        self._objects = objects
        self._make_connection = make_connection
        self._on_change = on_change
        self._protocol = (
            protocol.ProtocolInterface(channel_classes),
            protocol.ProtocolPresence(),
            protocol.ProtocolAvatars(),
            protocol.ProtocolAddressing(),
        )
        # By bus name; None while the name is being asked for.
        self._connections: dict[str, ConnectionObject | None] = {}

    def export(self) -> None:
        """Show the manager and its protocol; owning the name is the caller's business."""
        self._objects.export(MANAGER_PATH, self)
        self._objects.export(protocol.PATH, *self._protocol)

    @property
    def busy(self) -> bool:
        """Whether there are connections, or some on their way."""
        return bool(self._connections)

    @property
    def connections(self) -> list[ConnectionObject]:
        return [each for each in self._connections.values() if each is not None]

    @property
    def protocols(self) -> dict[str, Any]:
        return {protocol.NAME: protocol.immutable_properties(*self._protocol)}

    @method("ListProtocols")
    def list_protocols(self) -> Strings:
        return [protocol.NAME]

    @method("GetParameters")
    def get_parameters(self, Protocol: DBusStr) -> ParamSpecs:
        _check_protocol(Protocol)
        return [each.spec() for each in parameters.PARAMETERS]

    @method("RequestConnection")
    async def request_connection(self, Protocol: DBusStr, Parameters: DBusDict) -> NameAndPath:
        _check_protocol(Protocol)
        checked = parameters.parse(Parameters)
        account, resource = checked["account"], checked.get("resource", "")
        bus_name, path = connection_names(Protocol, account, resource)
        if bus_name in self._connections:
            raise NotAvailable(
                f"{account} is connected already{' as ' + resource if resource else ''}; disconnect"
                " it first, or give another resource"
            )
        self._connections[bus_name] = None
        self._on_change()
        try:
            if not await self._bus.request_name(bus_name):
                raise NotAvailable(f"Another program has the connection of {account} already")
            self._connections[bus_name] = ConnectionObject(
                self._objects, self._make_connection(checked, path), lambda: self._gone(bus_name)
            )
        except BusGone as error:
            raise NotAvailable(str(error)) from error
        finally:
            if self._connections[bus_name] is None:
                self._gone(bus_name)
        caller.after_reply(lambda: self.NewConnection(bus_name, path, Protocol))
        return bus_name, path

    def _gone(self, bus_name: str) -> None:
        self._bus.release_name(bus_name)
        del self._connections[bus_name]
        self._on_change()


def _check_protocol(name: str) -> None:
    if name != protocol.NAME:
        raise NotImplementedByUs(f"There is no protocol {name[:80]!r} here, only {protocol.NAME}")
