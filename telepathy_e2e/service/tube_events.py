"""What tubes tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from telepathy_e2e.service import names
from telepathy_e2e.service.events import ChannelEvent


@dataclass(frozen=True)
class TubeChannelStateChanged(ChannelEvent):
    interface = names.TUBE

    state: int


@dataclass(frozen=True)
class NewRemoteConnection(ChannelEvent):
    """Args: connection_param: a byte, or the host and port that we connect from."""

    handle: int
    connection_param: int | tuple[str, int] = field(repr=False)
    connection_id: int


@dataclass(frozen=True)
class NewLocalConnection(ChannelEvent):
    connection_id: int


@dataclass(frozen=True)
class ConnectionClosed(ChannelEvent):
    """Args: error: the D-Bus name of one."""

    connection_id: int
    error: str
    message: str
