"""Contact attributes: what each interface of a connection says of a contact."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import Connection
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import Variant
from telepathy_e2e.errors import InvalidHandle
from telepathy_e2e.service import names

# Contacts looked at before the event loop has its turn: a few milliseconds.
SLICE = 50


class Attributes:
    """Collects them (Contacts, Contact_Attributes_Map).

    Args:
        parts: those whose ``has_attributes`` is true count.
    """

    def __init__(self, connection: Connection, parts: Iterable[ConnectionPart]) -> None:
        self._connection = connection
        self._parts = {each.name: each for each in parts if each.has_attributes}
        self.interfaces = (names.CONNECTION, *self._parts)

    def of(self, handle: int, interfaces: Iterable[str]) -> dict[str, Variant]:
        """Of one contact; interfaces that have none are ignored.

        Raises:
            InvalidHandle: no such contact.
        """
        shown = {
            names.CONNECTION + "/contact-id": variant("s", self._connection.handles.inspect(handle))
        }
        for each in interfaces:
            if (part := self._parts.get(each)) is not None:
                shown.update(part.contact_attributes(handle))
        return shown

    async def of_all(
        self, handles: Iterable[int], interfaces: Iterable[str]
    ) -> dict[int, dict[str, Variant]]:
        """Of many; invalid handles "are simply omitted from this mapping"."""
        wanted, result = tuple(interfaces), {}
        for number, handle in enumerate(handles, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            try:
                result[handle] = self.of(handle, wanted)
            except InvalidHandle:
                continue
        return result
