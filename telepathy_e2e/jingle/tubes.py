"""Tubes as a Jingle application (spec/tubes.md, ``urn:x-telepathy-e2e:tube:0``)."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import InvalidArgument, PeerError

from .reading import base64_bytes, identifier, single, xml_text

TUBES_NS: Final = "urn:x-telepathy-e2e:tube:0"

# Characters. D-Bus allows 255 for the name of a bus; those of IANA have at most 15.
MAX_SERVICE: Final = 255

# What bootstraps a legacy protocol (Channel.Interface.Tube.Parameters) is a handful.
MAX_PARAMETERS: Final = 64

# Characters.
MAX_NAME: Final = 255

# Characters of all names and values as they are written. With everything else in it the stanza
# stays far below the 64 kB that the narrowest servers let through.
MAX_WRITTEN: Final = 16 * 1024

# Services of one contact that are looked at: each is a feature in what his program says of itself.
MAX_SERVICES: Final = 128

_DESCRIPTION: Final = f"{{{TUBES_NS}}}description"
_PARAMETERS: Final = f"{{{TUBES_NS}}}parameters"
_PARAMETER: Final = f"{{{TUBES_NS}}}parameter"

# Types of D-Bus that are integers: (least, most).
_INTEGERS: Final = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}
# One spelling for each number; int() would also take "+1", "1_0" and digits of other scripts.
_INTEGER: Final = re.compile(r"(?:0|-?[1-9][0-9]{0,19})\Z")

# What may stand in a feature. Others work as well, but are not announced: "<" and "/" would make
# two sets of features with one hash (XEP-0115 section 5.1).
_ANNOUNCED: Final = re.compile(r"[A-Za-z0-9._+-]{1,255}\Z")


class Kind(StrEnum):
    """What a tube carries; the value is the word on the wire."""

    STREAM = "stream"
    """Connections to a local service."""
    DBUS = "dbus"
    """A private bus of two."""


@dataclass(frozen=True)
class Value:
    """A parameter, with its type: the same number as ``i`` and as ``u`` is not the same to D-Bus.

    Args:
        signature: ``s``, ``ay``, ``b``, or an integer's: ``y n q i u x t``.
        value: str, bytes, bool or int.
    """

    signature: str
    value: str | bytes | bool | int = field(repr=False)  # often a password


@dataclass(frozen=True)
class Tube:
    """What is offered."""

    kind: Kind
    service: str
    parameters: Mapping[str, Value] = field(default_factory=dict)


def is_tube(description: Element | None) -> bool:
    """Whether a content is a tube."""
    return description is not None and description.tag == _DESCRIPTION


def parse(description: Element | None) -> Tube:
    """Read a ``<description/>``. Raises: PeerError."""
    if description is None or description.tag != _DESCRIPTION:
        raise PeerError("not the description of a tube")
    kind, service = _kind(description), _service(description)
    parameters: dict[str, Value] = {}
    written = 0
    container = single(description, _PARAMETERS, "parameters")
    for element in () if container is None else container.findall(_PARAMETER):
        name = identifier(element.get("name"), "name of a parameter", MAX_NAME)
        if name in parameters:
            raise PeerError("a parameter is doubled")
        written += len(name) + len(element.text or "")
        if len(parameters) >= MAX_PARAMETERS or written > MAX_WRITTEN:
            raise PeerError("too many parameters, or too long ones")
        parameters[name] = _read(element)
    return Tube(kind, service, parameters)


def build(tube: Tube) -> Element:
    """The ``<description/>`` of an offer.

    Raises: InvalidArgument: a service, name or value that cannot be sent, or too much of them.
    """
    description = _empty(tube)
    try:
        identifier(tube.service, "service", MAX_SERVICE)
        for name in tube.parameters:
            identifier(name, "name of a parameter", MAX_NAME)
    except PeerError:
        raise InvalidArgument(
            "Names of services and parameters are printable and have 1 to 255 characters"
        ) from None
    if not tube.parameters:
        return description
    container = SubElement(description, _PARAMETERS)
    for name, value in tube.parameters.items():
        element = SubElement(container, _PARAMETER, {"name": name, "type": value.signature})
        _write(element, value)
    written = sum(len(child.get("name", "")) + len(child.text or "") for child in container)
    if len(container) > MAX_PARAMETERS or written > MAX_WRITTEN:
        raise InvalidArgument(f"A tube has {MAX_PARAMETERS} parameters and {MAX_WRITTEN} bytes")
    return description


def build_answer(offer: Tube) -> Element:
    """The ``<description/>`` that accepts: the same tube, its parameters not repeated."""
    return _empty(offer)


def check_answer(description: Element | None, offer: Tube) -> None:
    """Whether an accept is of what was offered. Raises: PeerError."""
    if description is None or description.tag != _DESCRIPTION:
        raise PeerError("not the description of a tube")
    if (_kind(description), _service(description)) != (offer.kind, offer.service):
        raise PeerError("another tube is accepted than was offered")


def feature(kind: Kind, service: str) -> str | None:
    """What service discovery says of a program that handles tubes of this service.

    Returns: None for a name that cannot be announced; it can be offered all the same.
    """
    return f"{TUBES_NS}/{kind}#{service}" if _ANNOUNCED.match(service) else None


def services(features: Collection[str]) -> frozenset[tuple[Kind, str]]:
    """The services that somebody's features name, at most MAX_SERVICES, the first by name."""
    found: set[tuple[Kind, str]] = set()
    for kind in Kind:
        prefix = f"{TUBES_NS}/{kind}#"
        named = (each[len(prefix) :] for each in features if each.startswith(prefix))
        found.update((kind, name) for name in named if _ANNOUNCED.match(name))
    return frozenset(sorted(found)[:MAX_SERVICES])


def _empty(tube: Tube) -> Element:
    return Element(_DESCRIPTION, {"type": str(tube.kind), "service": tube.service})


def _kind(description: Element) -> Kind:
    try:
        return Kind(description.get("type", ""))
    except ValueError:
        raise PeerError("a tube of an unknown type", "feature-not-implemented") from None


def _service(description: Element) -> str:
    return identifier(description.get("service"), "service", MAX_SERVICE)


def _read(element: Element) -> Value:
    signature, text = element.get("type", ""), element.text or ""
    encoding = element.get("encoding")
    if len(element) or (encoding is not None and (encoding, signature) != ("base64", "s")):
        raise PeerError("a parameter that is not text, or of an unknown encoding")
    if signature in _INTEGERS:
        return Value(signature, _integer(text, *_INTEGERS[signature]))
    match signature:
        case "b":
            if text not in ("true", "false"):
                raise PeerError("a boolean is neither true nor false")
            return Value("b", text == "true")
        case "ay":
            return Value("ay", base64_bytes(text, "value of a parameter"))
        case "s":
            return Value("s", text if encoding is None else _string(text))
    raise PeerError("a parameter of an unknown type", "feature-not-implemented")


def _integer(text: str, least: int, most: int) -> int:
    if not _INTEGER.match(text) or not least <= int(text) <= most:
        raise PeerError("an integer that is none of its type")
    return int(text)


def _string(text: str) -> str:
    try:
        decoded = base64_bytes(text, "value of a parameter").decode()
    except UnicodeDecodeError:
        raise PeerError("a string that is not UTF-8") from None
    if "\0" in decoded:
        raise PeerError("a string with a null character")  # no string of D-Bus has one
    return decoded


def _write(element: Element, given: Value) -> None:
    """Raises: InvalidArgument."""
    signature, value = given.signature, given.value
    if signature in _INTEGERS and isinstance(value, int) and not isinstance(value, bool):
        least, most = _INTEGERS[signature]
        if least <= value <= most:
            element.text = str(value)
            return
    elif signature == "b" and isinstance(value, bool):
        element.text = "true" if value else "false"
        return
    elif signature == "ay" and isinstance(value, bytes):
        element.text = base64.b64encode(value).decode("ascii")
        return
    elif signature == "s" and isinstance(value, str) and _is_string(value):
        # XML has no place for some characters, and its readers turn "\r" into "\n".
        if "\r" in value or xml_text(value) != value:
            element.set("encoding", "base64")
            value = base64.b64encode(value.encode()).decode("ascii")
        element.text = value
        return
    raise InvalidArgument("Parameters of tubes are strings, bytes, booleans and integers")


def _is_string(value: str) -> bool:
    """Whether D-Bus could carry it."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
