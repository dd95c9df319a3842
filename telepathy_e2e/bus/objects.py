"""The objects on the bus by path, and what the standard interfaces say of them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from telepathy_e2e.bus import introspection
from telepathy_e2e.bus.caller import Call
from telepathy_e2e.bus.members import Interface, Method, Property, Sink
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBUS, DBusFailure, Result, Variant

PROPERTIES: Final = DBUS + ".Properties"
INTROSPECTABLE: Final = DBUS + ".Introspectable"
PEER: Final = DBUS + ".Peer"

MACHINE_ID: Final = (Path("/var/lib/dbus/machine-id"), Path("/etc/machine-id"))

_STANDARD: Final[Mapping[tuple[str, str], str]] = {
    (PROPERTIES, "Get"): "ss",
    (PROPERTIES, "Set"): "ssv",
    (PROPERTIES, "GetAll"): "s",
    (INTROSPECTABLE, "Introspect"): "",
    (PEER, "Ping"): "",
    (PEER, "GetMachineId"): "",
}


class Objects:
    """All that is exported; answers the calls that come in.

    Args:
        sink: where signals go.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._objects: dict[str, dict[str, Interface]] = {}

    def export(self, path: str, *interfaces: Interface) -> None:
        """Show an object. Nothing is said about it on the bus."""
        if path in self._objects:
            raise ValueError(f"{path} is exported already")
        self._objects[path] = {each.name: each for each in interfaces}
        for each in interfaces:
            each.exported(path, self._sink)

    def withdraw(self, path: str) -> None:
        """Take an object away; one that is not there is ignored."""
        for each in self._objects.pop(path, {}).values():
            each.exported(path, None)

    def withdraw_below(self, path: str) -> None:
        """Take away an object and all below it."""
        for each in [p for p in self._objects if p == path or p.startswith(path + "/")]:
            self.withdraw(each)

    def changed(self, path: str, interface: str, names: tuple[str, ...]) -> None:
        """Emit PropertiesChanged with the values of now."""
        shown = self._objects.get(path, {}).get(interface)
        if shown is not None:
            properties = shown.members().properties
            values = {name: _value(shown, properties[name]) for name in names}
            shown.emit(PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, values, []])

    # -- ``wire.Answerer`` ------------------------------------------------------------------

    def call(self, call: Call) -> Result | Awaitable[Result]:
        """Answer a call.

        Raises:
            DBusFailure: no such object, interface, method, property.
            TelepathyError: what the method raised.
        """
        if call.interface in (PROPERTIES, INTROSPECTABLE, PEER):
            return self._standard(call)
        interface, method = self._find(call)
        if method.signature != call.signature:
            raise DBusFailure(
                "InvalidArgs",
                f'{call.member} takes arguments of type "{method.signature}", '
                f'not "{call.signature}"',
            )
        result = method.function(interface, *call.body)
        if inspect.isawaitable(result):
            return _later(method, result)
        return method.result_signature, method.body(result)

    def _interfaces(self, path: str) -> dict[str, Interface]:
        try:
            return self._objects[path]
        except KeyError:
            raise DBusFailure("UnknownObject", f"There is no object at {path}") from None

    def _find(self, call: Call) -> tuple[Interface, Method]:
        interfaces = self._interfaces(call.path)
        if call.interface and call.interface not in interfaces:
            raise DBusFailure("UnknownInterface", f"{call.path} has no {call.interface}")
        # A call may leave the interface out (D-Bus specification, "Method Calls").
        for interface in [interfaces[call.interface]] if call.interface else interfaces.values():
            method = interface.members().methods.get(call.member)
            if method is not None:
                return interface, method
        where = call.interface or call.path
        raise DBusFailure("UnknownMethod", f"{where} has no method {call.member}")

    def _standard(self, call: Call) -> Result:
        signature = _STANDARD.get((call.interface, call.member))
        if signature is None:
            raise DBusFailure("UnknownMethod", f"{call.interface} has no method {call.member}")
        if signature != call.signature:
            raise DBusFailure("InvalidArgs", f'{call.member} takes arguments of type "{signature}"')
        handlers: dict[str, Callable[..., Result]] = {
            "Get": self._get,
            "Set": self._set,
            "GetAll": self._get_all,
            "Introspect": self._introspect,
            "Ping": lambda path: ("", []),
            "GetMachineId": lambda path: ("s", [_machine_id()]),
        }
        return handlers[call.member](call.path, *call.body)

    def _get(self, path: str, interface: str, name: str) -> Result:
        shown, found = self._property(path, interface, name)
        return "v", [_value(shown, found)]

    def _get_all(self, path: str, interface: str) -> Result:
        if interface in (PROPERTIES, INTROSPECTABLE, PEER):
            self._interfaces(path)
            return "a{sv}", [{}]
        shown = self._shown(path, interface)
        properties = shown.members().properties
        return "a{sv}", [{name: _value(shown, each) for name, each in properties.items()}]

    def _set(self, path: str, interface: str, name: str, given: Variant) -> Result:
        shown, found = self._property(path, interface, name)
        if found.setter is None:
            raise DBusFailure("PropertyReadOnly", f"{interface}.{name} cannot be set")
        if given.signature != found.signature:
            raise DBusFailure(
                "InvalidArgs", f'{interface}.{name} takes a value of type "{found.signature}"'
            )
        getattr(shown, found.setter)(given.value)
        return "", []

    def _shown(self, path: str, interface: str) -> Interface:
        try:
            return self._interfaces(path)[interface]
        except KeyError:
            raise DBusFailure("UnknownInterface", f"{path} has no {interface}") from None

    def _property(self, path: str, interface: str, name: str) -> tuple[Interface, Property]:
        shown = self._shown(path, interface)
        try:
            return shown, shown.members().properties[name]
        except KeyError:
            raise DBusFailure("UnknownProperty", f"{interface} has no property {name}") from None

    def _introspect(self, path: str) -> Result:
        start = path if path.endswith("/") else path + "/"
        children = {p[len(start) :].partition("/")[0] for p in self._objects if p.startswith(start)}
        children.discard("")
        if path not in self._objects and not children and path != "/":
            self._interfaces(path)
        interfaces = [type(each) for each in self._objects.get(path, {}).values()]
        return "s", [introspection.describe(interfaces, sorted(children))]


async def _later(method: Method, result: Awaitable[Any]) -> Result:
    return method.result_signature, method.body(await result)


def _value(interface: Interface, declared: Property) -> Variant:
    return variant(declared.signature, declared.read(interface))


def _machine_id() -> str:
    for path in MACHINE_ID:
        try:
            return path.read_text().strip()
        except OSError:
            continue
    raise DBusFailure("Failed", "This machine has no id")
