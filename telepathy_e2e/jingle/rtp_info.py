"""What happens to a call beside its media: ringing, hold and mute (XEP-0167 section 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role

from .events import unsupported_info
from .reading import identifier, local_name, namespace

INFO_NS: Final = "urn:xmpp:jingle:apps:rtp:info:1"


@dataclass(frozen=True, slots=True)
class Active:
    """Neither on hold nor muted any more."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The peer does not listen for a while: stop sending, go on receiving."""


@dataclass(frozen=True, slots=True)
class Unhold:
    pass


@dataclass(frozen=True, slots=True)
class Mute:
    """The peer does not send for a while; without a name, in no content."""

    creator: str = ""
    """``initiator`` or ``responder``; empty where it is missing."""
    name: str = ""
    """Of a content; empty: of all."""


@dataclass(frozen=True, slots=True)
class Unmute:
    creator: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ringing:
    """The peer's device tells its user of the call."""


Info: TypeAlias = Active | Hold | Unhold | Mute | Unmute | Ringing

_PLAIN: Final[dict[str, type[Active | Hold | Unhold | Ringing]]] = {
    "active": Active,
    "hold": Hold,
    "ringing": Ringing,
    "unhold": Unhold,
}
_NAMED: Final[dict[str, type[Mute | Unmute]]] = {"mute": Mute, "unmute": Unmute}


def parse(payload: Iterable[Element]) -> list[Info]:
    """The payload of a session-info, in its order.

    Raises:
        PeerError: malformed, or ``unsupported-info``: something of it is not known, so none of
            it has been taken.
    """
    return [_one(element) for element in payload]


def build(info: Info) -> Element:
    """The payload of a session-info."""
    element = Element(f"{{{INFO_NS}}}{type(info).__name__.lower()}")
    if isinstance(info, Mute | Unmute):
        if info.creator:
            element.set("creator", info.creator)
        if info.name:
            element.set("name", info.name)
    return element


def _one(element: Element) -> Info:
    name = local_name(element)
    if namespace(element) != INFO_NS:
        raise unsupported_info()
    if name in _PLAIN:
        return _PLAIN[name]()
    if name not in _NAMED:
        raise unsupported_info()
    creator = element.get("creator", "")
    if creator not in ("", Role.INITIATOR, Role.RESPONDER):
        raise PeerError("creator is neither initiator nor responder")
    content = element.get("name")
    return _NAMED[name](str(creator), identifier(content, "name of a content") if content else "")
