"""Channel.Type.Text, of which only this is not deprecated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from telepathy_e2e.bus.members import Interface, method
from telepathy_e2e.bus.types import Numbers
from telepathy_e2e.service import names


class Acknowledged(Protocol):
    """See ``service.text_channel.TextChannel``."""

    def acknowledge(self, ids: Iterable[int]) -> None: ...


class TextInterface(Interface):
    """``Channel.Type.Text``; what it lacks is in ``Channel.Interface.Messages``."""

    name = names.TEXT

    def __init__(self, channel: Acknowledged) -> None:
        super().__init__(channel)
        self._channel = channel

    @method("AcknowledgePendingMessages")
    def acknowledge_pending_messages(self, IDs: Numbers) -> None:
        self._channel.acknowledge(IDs)
