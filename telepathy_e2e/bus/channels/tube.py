"""Channel.Interface.Tube: what both types of tubes have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal
from telepathy_e2e.bus.wire import DBusDict, DBusUInt32, Variant
from telepathy_e2e.jingle.tubes import Value
from telepathy_e2e.service import names


class Tube(Protocol):
    """See ``service.tube_session.TubeSession``."""

    parameters: dict[str, Value]


class TubeInterface(Interface):
    """``Channel.Interface.Tube``."""

    name = names.TUBE

    Parameters = Property(DBusDict)
    State = Property(DBusUInt32)

    TubeChannelStateChanged = Signal(State=DBusUInt32)

    def __init__(self, tube: Tube) -> None:
        super().__init__(tube)
        self._tube = tube

    @property
    def parameters(self) -> dict[str, Variant]:
        return shown(self._tube.parameters)


def shown(parameters: Mapping[str, Value]) -> dict[str, Variant]:
    """Parameters of a tube as D-Bus has them."""
    return {name: Variant(each.signature, each.value) for name, each in parameters.items()}


def values(given: Mapping[str, Variant]) -> dict[str, Value]:
    """The parameters of an offer, each with its type; the service layer checks them."""
    return {name: Value(each.signature, each.value) for name, each in given.items()}
