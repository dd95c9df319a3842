"""Connection.Interface.ContactCapabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telepathy_e2e.bus.channels.table import class_list
from telepathy_e2e.bus.members import Interface, Signal, method
from telepathy_e2e.bus.served import Connection, check_connected
from telepathy_e2e.bus.types import ContactCapabilities, HandlerCapabilities, Handles
from telepathy_e2e.bus.values import plain_dict
from telepathy_e2e.service import names


class CapabilitiesInterface(Interface):
    """``Connection.Interface.ContactCapabilities``; UpdateCapabilities may come before Connect."""

    name = names.CONTACT_CAPABILITIES

    ContactCapabilitiesChanged = Signal(caps=ContactCapabilities)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    @method("UpdateCapabilities")
    def update_capabilities(self, Handler_Capabilities: HandlerCapabilities) -> None:
        self._connection.update_capabilities(
            [
                (client, [plain_dict(each) for each in filters], tokens)
                for client, filters, tokens in Handler_Capabilities
            ]
        )

    @method("GetContactCapabilities")
    def get_contact_capabilities(self, Handles: Handles) -> ContactCapabilities:
        check_connected(self._connection)
        return self._capabilities(Handles)

    def changed(self, handles: Iterable[int]) -> None:
        """Tell what these contacts can do now."""
        self.ContactCapabilitiesChanged(self._capabilities(handles))

    def _capabilities(self, handles: Iterable[int]) -> dict[int, list[list[Any]]]:
        return {
            handle: class_list(self._connection.contact_capabilities(handle)) for handle in handles
        }
