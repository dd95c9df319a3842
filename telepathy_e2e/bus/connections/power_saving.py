"""Connection.Interface.PowerSaving: nobody looks at the screen (XEP-0352)."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import check_connected
from telepathy_e2e.bus.members import Property, Signal, method
from telepathy_e2e.bus.wire import DBusBool
from telepathy_e2e.service import names


class PowerSavingInterface(ConnectionPart):
    """``Connection.Interface.PowerSaving``."""

    name = names.POWER_SAVING

    PowerSavingActive = Property(DBusBool)

    PowerSavingChanged = Signal(Active=DBusBool)

    @method("SetPowerSaving")
    def set_power_saving(self, Activate: DBusBool) -> None:
        check_connected(self._connection)
        self._connection.set_power_saving(Activate)
