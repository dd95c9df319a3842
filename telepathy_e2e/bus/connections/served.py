"""What the bus layer asks of the service layer, which keeps it without knowing this file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import ConnectionEvent, Emitter

if TYPE_CHECKING:
    from telepathy_e2e.service.aliases import Aliases
    from telepathy_e2e.service.avatars import Avatars
    from telepathy_e2e.service.client_types import ClientTypes
    from telepathy_e2e.service.contact_blocking import ContactBlocking
    from telepathy_e2e.service.contact_groups import ContactGroups
    from telepathy_e2e.service.contact_info import ContactInfo
    from telepathy_e2e.service.contact_list import ContactList
    from telepathy_e2e.service.presence import PresenceFeature
    from telepathy_e2e.service.published_identity import PublishedIdentities
    from telepathy_e2e.service.rooms import Rooms

CONNECTED, CONNECTING, DISCONNECTED = range(3)


class Handles(Protocol):
    """See ``service.handles.Handles``."""

    def ensure(self, identifier: str, kind: int = 1) -> int: ...

    def inspect(self, handle: int, kind: int = 1) -> str: ...

    def check_type(self, kind: int) -> None: ...


class Connection(Protocol):
    """See ``service.connection.Connection``, whose docstrings hold."""

    object_path: str
    events: Emitter[ConnectionEvent]
    self_handle: int
    self_id: str
    status: int
    power_saving_active: bool

    @property
    def presences(self) -> PresenceFeature: ...

    @property
    def contact_list(self) -> ContactList: ...

    @property
    def groups(self) -> ContactGroups: ...

    @property
    def blocking(self) -> ContactBlocking: ...

    @property
    def aliases(self) -> Aliases: ...

    @property
    def avatars(self) -> Avatars: ...

    @property
    def contact_info(self) -> ContactInfo: ...

    @property
    def client_types(self) -> ClientTypes: ...

    @property
    def rooms(self) -> Rooms: ...

    @property
    def published(self) -> PublishedIdentities: ...

    @property
    def handles(self) -> Handles: ...

    def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    def requestable_channel_classes(self) -> list[tuple[dict[str, object], list[str]]]: ...

    async def create_channel(self, request: Mapping[str, Any]) -> Channel: ...

    async def ensure_channel(self, request: Mapping[str, Any]) -> tuple[bool, Channel]: ...

    def update_capabilities(
        self, clients: Iterable[tuple[str, Sequence[Mapping[str, object]], Sequence[str]]]
    ) -> None: ...

    def contact_capabilities(self, handle: int) -> list[tuple[dict[str, object], list[str]]]: ...

    def set_power_saving(self, active: bool) -> None: ...

    async def contact_by_id(self, identifier: str) -> int: ...


def check_connected(connection: Connection) -> None:
    """For methods that need the server.

    Raises:
        Disconnected: the connection is not up.
    """
    if connection.status != CONNECTED:
        raise Disconnected("The connection is not up")
