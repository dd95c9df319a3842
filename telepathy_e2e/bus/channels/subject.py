"""Channel.Interface.Subject2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from telepathy_e2e.bus.members import Interface, Property, method
from telepathy_e2e.bus.wire import DBusBool, DBusInt64, DBusStr, DBusUInt32
from telepathy_e2e.service import names

if TYPE_CHECKING:  # not before there is a room
    from telepathy_e2e.service.room_subject import RoomSubject


class Discussed(Protocol):
    """See ``service.room_channel.RoomChannel``."""

    @property
    def topic(self) -> RoomSubject: ...


class SubjectInterface(Interface):
    """``Channel.Interface.Subject2``."""

    name = names.SUBJECT

    Subject = Property(DBusStr, signals_changes=True, attribute="text")
    Actor = Property(DBusStr, signals_changes=True)
    ActorHandle = Property(DBusUInt32, signals_changes=True)
    Timestamp = Property(DBusInt64, signals_changes=True)
    CanSet = Property(DBusBool, signals_changes=True)

    def __init__(self, channel: Discussed) -> None:
        super().__init__(channel.topic)
        self._topic = channel.topic

    @method("SetSubject")
    async def set_subject(self, Subject: DBusStr) -> None:
        await self._topic.set(Subject)
