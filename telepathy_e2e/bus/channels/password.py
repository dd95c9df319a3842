"""Channel.Interface.Password."""

from __future__ import annotations

from typing import Protocol

from telepathy_e2e.bus.members import Interface, Signal, method
from telepathy_e2e.bus.wire import DBusBool, DBusStr, DBusUInt32
from telepathy_e2e.service import names


class Locked(Protocol):
    """See ``service.room_channel.RoomChannel``, whose docstrings hold."""

    @property
    def password_flags(self) -> int: ...

    async def provide_password(self, password: str) -> bool: ...


class PasswordInterface(Interface):
    """``Channel.Interface.Password``."""

    name = names.PASSWORD

    PasswordFlagsChanged = Signal(Added=DBusUInt32, Removed=DBusUInt32)

    def __init__(self, channel: Locked) -> None:
        super().__init__(channel)
        self._channel = channel

    @method("GetPasswordFlags")
    def get_password_flags(self) -> DBusUInt32:
        return self._channel.password_flags

    @method("ProvidePassword")
    async def provide_password(self, Password: DBusStr) -> DBusBool:
        return await self._channel.provide_password(Password)
