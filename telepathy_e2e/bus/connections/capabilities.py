"""Connection.Interface.ContactCapabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telepathy_e2e.bus.channels.table import class_list
from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import Signal, method, signature_of
from telepathy_e2e.bus.types import (
    ChannelClasses,
    ContactCapabilities,
    HandlerCapabilities,
    Handles,
)
from telepathy_e2e.bus.values import plain_dict, variant
from telepathy_e2e.bus.wire import Variant
from telepathy_e2e.service import names
from telepathy_e2e.service.events import ConnectionEvent, ContactCapabilitiesChanged


class CapabilitiesInterface(ConnectionPart):
    """``Connection.Interface.ContactCapabilities``; UpdateCapabilities may come before Connect."""

    name = names.CONTACT_CAPABILITIES

    ContactCapabilitiesChanged = Signal(caps=ContactCapabilities)

    has_attributes = True

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        classes = class_list(self._connection.contact_capabilities(handle))
        return {
            names.CONTACT_CAPABILITIES + "/capabilities": variant(
                signature_of(ChannelClasses), classes
            )
        }

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

    def tell(self, event: ConnectionEvent) -> None:
        if isinstance(event, ContactCapabilitiesChanged):
            self.ContactCapabilitiesChanged(self._capabilities(event.handles))

    def _capabilities(self, handles: Iterable[int]) -> dict[int, list[list[Any]]]:
        return {
            handle: class_list(self._connection.contact_capabilities(handle)) for handle in handles
        }
