"""Debug: the log of this program for clients that show it (empathy-debugger, d-feet, busctl)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import DebugMessages
from telepathy_e2e.bus.wire import DBusBool, DBusDouble, DBusStr, DBusUInt32
from telepathy_e2e.debug_log import DebugMessage, Ring, show_stanzas
from telepathy_e2e.service import names

PATH: Final = "/org/freedesktop/Telepathy/debug"


class DebugInterface(Interface):
    """``Debug``.

    Args:
        ring: what was logged.
    """

    name = names.TP + "Debug"

    Enabled = Property(DBusBool, setter="set_enabled")

    NewDebugMessage = Signal(time=DBusDouble, domain=DBusStr, level=DBusUInt32, message=DBusStr)

    def __init__(self, ring: Ring) -> None:
        super().__init__()
        self._ring = ring
        self._loop = asyncio.get_running_loop()

    @property
    def enabled(self) -> bool:
        return self._ring.listener is not None

    def set_enabled(self, enabled: bool) -> None:
        self._ring.listener = self._logged if enabled else None
        if enabled:
            show_stanzas(True)

    @method("GetMessages")
    def get_messages(self) -> DebugMessages:
        return [list(each) for each in self._ring.messages]

    def _logged(self, message: DebugMessage) -> None:
        # Some things are logged in other threads, and some while a message is being sent.
        self._loop.call_soon_threadsafe(self._tell, message)

    def _tell(self, message: DebugMessage) -> None:
        arguments: list[Any] = list(message)
        self.NewDebugMessage(*arguments)
