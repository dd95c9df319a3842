"""Connection.Interface.Requests: channels made on request, and all channels announced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from telepathy_e2e.bus import caller
from telepathy_e2e.bus.channels.object import ChannelObject
from telepathy_e2e.bus.channels.table import class_list, requested
from telepathy_e2e.bus.connections.served import Connection, check_connected
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.types import (
    ChannelClasses,
    ChannelDetails,
    PathAndProperties,
    YoursPathAndProperties,
)
from telepathy_e2e.bus.wire import DBusDict, DBusObjectPath
from telepathy_e2e.service import names
from telepathy_e2e.service.channel import Channel


class RequestsInterface(Interface):
    """``Connection.Interface.Requests``; it holds the channels that are on the bus.

    Args:
        announced: called after NewChannels for each channel.
    """

    name = names.REQUESTS

    Channels = Property(ChannelDetails)
    RequestableChannelClasses = Property(ChannelClasses)

    NewChannels = Signal(Channels=ChannelDetails)
    ChannelClosed = Signal(Removed=DBusObjectPath)

    def __init__(
        self, objects: Objects, connection: Connection, announced: Callable[[Channel], None]
    ) -> None:
        super().__init__()
        self._objects = objects
        self._connection = connection
        self._announced = announced
        self._shown: dict[str, ChannelObject] = {}

    @property
    def channels(self) -> list[list[Any]]:
        return [[path, shown.immutable_properties] for path, shown in self._shown.items()]

    @property
    def requestable_channel_classes(self) -> list[list[Any]]:
        return class_list(self._connection.requestable_channel_classes())

    @method("CreateChannel")
    async def create_channel(self, Request: DBusDict) -> PathAndProperties:
        check_connected(self._connection)
        channel = await self._connection.create_channel(requested(Request))
        return channel.object_path, self._new(channel)

    @method("EnsureChannel")
    async def ensure_channel(self, Request: DBusDict) -> YoursPathAndProperties:
        check_connected(self._connection)
        yours, channel = await self._connection.ensure_channel(requested(Request))
        shown = self._shown.get(channel.object_path)
        properties = shown.immutable_properties if shown is not None else self._new(channel)
        return yours, channel.object_path, properties

    def _new(self, channel: Channel) -> dict[str, Any]:
        """Clients only take a channel as theirs if the reply comes before NewChannels."""
        properties = self.add(channel).immutable_properties

        def told() -> None:
            self.announce(channel)
            channel.begin()

        caller.after_reply(told)
        return properties

    def add(self, channel: Channel) -> ChannelObject:
        """Put a channel on the bus."""
        shown = ChannelObject(self._objects, channel, self._closed)
        self._shown[channel.object_path] = shown
        return shown

    def announce(self, channel: Channel) -> None:
        """NewChannels: one for each, as dispatchers split them up anyway."""
        shown = self._shown.get(channel.object_path)
        if shown is not None:
            self.NewChannels([[channel.object_path, shown.immutable_properties]])
            self._announced(channel)

    def withdraw_all(self) -> None:
        """The connection is gone."""
        for shown in self._shown.values():
            shown.withdraw()
        self._shown.clear()

    def _closed(self, path: str) -> None:
        self._shown.pop(path, None)
        self.ChannelClosed(path)
