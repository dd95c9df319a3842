"""Channel.Type.StreamTube."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from telepathy_e2e.bus.channels import tube
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import SocketTypes
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import (
    DBusDict,
    DBusStr,
    DBusUInt32,
    DBusVariant,
    Variant,
    plain,
)
from telepathy_e2e.jingle.tubes import Value
from telepathy_e2e.service import names
from telepathy_e2e.service.tube_events import NewRemoteConnection


class StreamTube(Protocol):
    """See ``service.stream_tube.StreamTube``."""

    async def offer(
        self,
        address_type: int,
        address: object,
        access_control: int,
        parameters: Mapping[str, Value],
    ) -> None: ...

    async def accept(self, address_type: int, access_control: int, parameter: object) -> object: ...


class StreamTubeInterface(Interface):
    """``Channel.Type.StreamTube``."""

    name = names.STREAM_TUBE

    Service = Property(DBusStr)
    SupportedSocketTypes = Property(SocketTypes)

    NewRemoteConnection = Signal(
        Handle=DBusUInt32, Connection_Param=DBusVariant, Connection_ID=DBusUInt32
    )
    NewLocalConnection = Signal(Connection_ID=DBusUInt32)
    ConnectionClosed = Signal(Connection_ID=DBusUInt32, Error=DBusStr, Message=DBusStr)

    def __init__(self, shown: StreamTube) -> None:
        super().__init__(shown)
        self._tube = shown

    def tell(self, event: object) -> None:
        if isinstance(event, NewRemoteConnection):
            self.NewRemoteConnection(
                event.handle, _connection(event.connection_param), event.connection_id
            )
        else:
            super().tell(event)

    @method("Offer")
    async def offer(
        self,
        address_type: DBusUInt32,
        address: DBusVariant,
        access_control: DBusUInt32,
        parameters: DBusDict,
    ) -> None:
        await self._tube.offer(
            address_type, plain(address), access_control, tube.values(parameters)
        )

    @method("Accept")
    async def accept(
        self,
        address_type: DBusUInt32,
        access_control: DBusUInt32,
        access_control_param: DBusVariant,
    ) -> DBusVariant:
        return _address(
            await self._tube.accept(address_type, access_control, plain(access_control_param))
        )


def _address(address: object) -> Variant:
    """Socket_Address: a path, or a host and port."""
    return variant("ay" if isinstance(address, bytes) else "(sq)", address)


def _connection(param: object) -> Variant:
    """The byte that went with the credentials, or the address that we connect from."""
    return variant("y" if isinstance(param, int) else "(sq)", param)
