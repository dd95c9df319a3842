"""Channel.Type.FileTransfer."""

from __future__ import annotations

from typing import Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import SocketTypes
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import (
    DBusInt64,
    DBusStr,
    DBusUInt32,
    DBusUInt64,
    DBusVariant,
    Variant,
    plain,
)
from telepathy_e2e.service import names


class Transfer(Protocol):
    """See ``service.file_channel.FileChannel``."""

    async def accept_file(
        self, address_type: int, access_control: int, parameter: object, offset: int
    ) -> object: ...

    async def provide_file(
        self, address_type: int, access_control: int, parameter: object
    ) -> object: ...

    def set_uri(self, uri: str) -> None: ...


class FileTransferInterface(Interface):
    """``Channel.Type.FileTransfer``."""

    name = names.FILE_TRANSFER

    State = Property(DBusUInt32)
    ContentType = Property(DBusStr)
    Filename = Property(DBusStr)
    Size = Property(DBusUInt64)
    ContentHashType = Property(DBusUInt32)
    ContentHash = Property(DBusStr)
    Description = Property(DBusStr)
    Date = Property(DBusInt64)
    AvailableSocketTypes = Property(SocketTypes)
    TransferredBytes = Property(DBusUInt64)
    InitialOffset = Property(DBusUInt64)
    URI = Property(DBusStr, setter="set_uri")
    FileCollection = Property(DBusStr)

    FileTransferStateChanged = Signal(State=DBusUInt32, Reason=DBusUInt32)
    TransferredBytesChanged = Signal(Count=DBusUInt64)
    InitialOffsetDefined = Signal(InitialOffset=DBusUInt64)
    URIDefined = Signal(URI=DBusStr)

    def __init__(self, transfer: Transfer) -> None:
        super().__init__(transfer)
        self._transfer = transfer

    def set_uri(self, uri: str) -> None:
        self._transfer.set_uri(uri)

    @method("AcceptFile")
    async def accept_file(
        self,
        Address_Type: DBusUInt32,
        Access_Control: DBusUInt32,
        Access_Control_Param: DBusVariant,
        Offset: DBusUInt64,
    ) -> DBusVariant:
        return _address(
            await self._transfer.accept_file(
                Address_Type, Access_Control, plain(Access_Control_Param), Offset
            )
        )

    @method("ProvideFile")
    async def provide_file(
        self,
        Address_Type: DBusUInt32,
        Access_Control: DBusUInt32,
        Access_Control_Param: DBusVariant,
    ) -> DBusVariant:
        return _address(
            await self._transfer.provide_file(
                Address_Type, Access_Control, plain(Access_Control_Param)
            )
        )


def _address(address: object) -> Variant:
    """Socket_Address: a path, or a host and port."""
    return variant("ay" if isinstance(address, bytes) else "(sq)", address)
