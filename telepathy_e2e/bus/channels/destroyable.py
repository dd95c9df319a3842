"""Channel.Interface.Destroyable."""

from __future__ import annotations

from typing import Protocol

from telepathy_e2e.bus.members import Interface, method
from telepathy_e2e.service import names


class Destructible(Protocol):
    """A channel for which this is more than closing it."""

    def destroy(self) -> None: ...


class DestroyableInterface(Interface):
    """``Channel.Interface.Destroyable``."""

    name = names.DESTROYABLE

    def __init__(self, channel: Destructible) -> None:
        super().__init__(channel)
        self._channel = channel

    @method("Destroy")
    def destroy(self) -> None:
        self._channel.destroy()
