"""How the D-Bus interfaces of this package are declared.

An interface is a class with ``Property`` and ``Signal`` attributes and ``@method`` functions.
D-Bus types are annotations (``wire.DBusStr``, or ``Annotated[..., DBusSignature(...)]`` for those
that have no alias), so that they stand once and mypy checks the Python side of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

from telepathy_e2e.bus.wire import DBusSignature, complete_types

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

F = TypeVar("F", bound=Callable[..., Any])


class Sink(Protocol):
    """Where an exported interface sends its signals."""

    def emit(
        self, path: str, interface: str, member: str, signature: str, body: list[Any]
    ) -> None: ...


def snake(name: str) -> str:
    """``TargetID`` to ``target_id``: how the service layer names the attribute of a property."""
    return _WORDS.sub("_", name).lower()


def signature_of(annotation: object) -> str:
    """The D-Bus signature in an annotation; empty for None."""
    if annotation is None or annotation is type(None):
        return ""
    for each in get_args(annotation):
        if isinstance(each, DBusSignature):
            return each.signature
    raise TypeError(f"{annotation!r} says no D-Bus type")


class Property:
    """A D-Bus property.

    Its value is the interface's attribute of the same name in snake case, or where it has none,
    that of the object that the interface shows (``Interface.subject``).

    Args:
        annotation: its D-Bus type.
        setter: name of the interface's function that takes a new value; None: read-only.
        signals_changes: PropertiesChanged tells of new values. Telepathy's own interfaces have
            signals of their own for that, or the value never changes.
        attribute: that has the value, if it has another name.
    """

    def __init__(
        self,
        annotation: object,
        *,
        setter: str | None = None,
        signals_changes: bool = False,
        attribute: str = "",
    ) -> None:
        self.signature = signature_of(annotation)
        self.setter = setter
        self.signals_changes = signals_changes
        self.name = ""
        self._attribute = attribute

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self._attribute = self._attribute or snake(name)

    @property
    def access(self) -> str:
        return "read" if self.setter is None else "readwrite"

    def read(self, interface: Interface) -> Any:
        own = hasattr(type(interface), self._attribute) or self._attribute in vars(interface)
        return getattr(interface if own else interface.subject, self._attribute)


class Signal:
    """A D-Bus signal: its arguments' names and types. Called on an interface, it is emitted."""

    def __init__(self, **arguments: object) -> None:
        self.arguments = tuple((name, signature_of(each)) for name, each in arguments.items())
        self.signature = "".join(signature for _, signature in self.arguments)
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, interface: Interface | None, owner: type) -> Callable[..., None]:
        def emit(*arguments: Any) -> None:
            if interface is None:
                raise TypeError("a signal is emitted by an object")
            interface.emit(interface.name, self.name, self.signature, list(arguments))

        return emit


def method(name: str) -> Callable[[F], F]:
    """A D-Bus method; its arguments' types and its result's are the function's annotations.

    The function may be a coroutine; then calls that come later may be answered earlier. Several
    results are a tuple annotated with their signatures one after the other.
    """

    def mark(function: F) -> F:
        function.__dict__["dbus_name"] = name
        return function

    return mark


@dataclass(frozen=True)
class Method:
    """A method as it is called."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[tuple[str, str], ...]
    signature: str
    results: tuple[str, ...]
    result_signature: str

    @classmethod
    def of(cls, name: str, function: Callable[..., Any]) -> Method:
        hints = get_type_hints(function, include_extras=True)
        result = signature_of(hints.pop("return", None))
        arguments = tuple((key, signature_of(each)) for key, each in hints.items())
        return cls(
            name,
            function,
            arguments,
            "".join(signature for _, signature in arguments),
            tuple(complete_types(result)),
            result,
        )

    def body(self, result: Any) -> list[Any]:
        """The body of the reply."""
        if not self.results:
            return []
        return [result] if len(self.results) == 1 else list(result)


@dataclass(frozen=True)
class Members:
    """What an interface consists of, by D-Bus name."""

    methods: Mapping[str, Method]
    signals: Mapping[str, Signal]
    properties: Mapping[str, Property]


class Interface:
    """An interface of one exported object. Subclasses say ``name`` and declare members.

    Args:
        subject: the object of the service layer that is shown.
    """

    name: ClassVar[str]

    def __init__(self, subject: object = None) -> None:
        self.subject = subject
        self._path = ""
        self._sink: Sink | None = None

    @classmethod
    @cache
    def members(cls) -> Members:
        """Looked up at the first use: annotations are evaluated then."""
        methods: dict[str, Method] = {}
        signals: dict[str, Signal] = {}
        properties: dict[str, Property] = {}
        for base in reversed(cls.__mro__):
            for each in vars(base).values():
                if isinstance(each, Property):
                    properties[each.name] = each
                elif isinstance(each, Signal):
                    signals[each.name] = each
                elif (name := getattr(each, "__dict__", {}).get("dbus_name")) is not None:
                    methods[name] = Method.of(name, each)
        return Members(methods, signals, properties)

    def exported(self, path: str, sink: Sink | None) -> None:
        """From now on at that path; None: nowhere any more."""
        self._path = path
        self._sink = sink

    def tell(self, event: Any) -> None:
        """Make the signal of an event of the service layer: a dataclass with the signal's name and
        arguments."""
        signal = getattr(self, type(event).__name__)
        signal(*(getattr(event, each.name) for each in fields(event)))

    def emit(self, interface: str, member: str, signature: str, body: list[Any]) -> None:
        """Send a signal from this object; one that has left the bus says nothing."""
        if self._sink is not None:
            self._sink.emit(self._path, interface, member, signature, body)
