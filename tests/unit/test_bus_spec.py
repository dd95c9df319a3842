"""Every exported interface is what its XML says, ours in ``spec/`` or Telepathy's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from telepathy_e2e.agent.interface import KeyAgent
from telepathy_e2e.bus import caller, introspection, members
from telepathy_e2e.bus.channels.base import ChannelInterface
from telepathy_e2e.bus.channels.table import BELOW, INTERFACES
from telepathy_e2e.bus.channels.verification import TLSCertificateInterface
from telepathy_e2e.bus.connections.base import ConnectionInterface
from telepathy_e2e.bus.connections.contacts import ContactsInterface
from telepathy_e2e.bus.connections.requests import RequestsInterface
from telepathy_e2e.bus.connections.table import PARTS
from telepathy_e2e.bus.debug import DebugInterface
from telepathy_e2e.bus.manager import Manager
from telepathy_e2e.bus.protocol import (
    ProtocolAddressing,
    ProtocolAvatars,
    ProtocolInterface,
    ProtocolPresence,
)
from telepathy_e2e.errors import TelepathyError

ROOT = Path(__file__).parents[2]
OURS = ROOT / "spec"
TELEPATHY = ROOT.parent / "shared" / "reference" / "telepathy-spec"
TP = "{http://telepathy.freedesktop.org/wiki/DbusSpec#extensions-v0}"


def _exported(*interfaces: type[members.Interface]) -> tuple[type[members.Interface], ...]:
    return interfaces


EXPORTED: dict[str, type[members.Interface]] = {
    **INTERFACES,
    **BELOW,
    **{
        each.name: each
        for each in _exported(
            TLSCertificateInterface,
            Manager,
            DebugInterface,
            ProtocolInterface,
            ProtocolPresence,
            ProtocolAvatars,
            ProtocolAddressing,
            ConnectionInterface,
            RequestsInterface,
            ContactsInterface,
            KeyAgent,
            *PARTS,
        )
    },
}

# Deprecated by the specification and used by clients all the same (the clients were tried).
STILL_NEEDED = {
    "GetAvatarRequirements",
    "GetChannelType",
    "GetHandle",
    "GetInterfaces",
    "GetSelfHandle",
    "HandleOwnersChanged",
    "NewChannel",
    "RequestAvatar",
    "SelfHandleChanged",
    # "Connection managers MUST still emit this signal."
    "ContactsChanged",
}


def _parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314, files of our own


def _described(interfaces: Iterable[type[members.Interface]], *children: str) -> ET.Element:
    return _parsed(introspection.describe(interfaces, children))


def _specified(directory: Path) -> dict[str, ET.Element]:
    found = {}
    for path in sorted(directory.glob("*.xml")):
        for interface in _parsed(path.read_text()).iter("interface"):
            found[interface.attrib["name"]] = interface
    return found


def _interface(name: str) -> ET.Element:
    found = _specified(OURS)
    if name not in found:
        if not TELEPATHY.is_dir():
            pytest.skip("the Telepathy specification is not here")
        found = _specified(TELEPATHY)
    return found[name]


def _arguments(member: ET.Element, direction: str) -> list[tuple[str | None, str]]:
    return [
        (each.get("name"), each.attrib["type"])
        for each in member.findall("arg")
        if each.get("direction", "in") == direction
    ]


def _members(node: ET.Element, *, deprecated: bool) -> Iterator[tuple[tuple[str, str], Any]]:
    """(kind, name) of each member, and what must agree."""
    for kind in ("method", "signal", "property"):
        for each in node.findall(kind):
            name = each.attrib["name"]
            if not deprecated and name not in STILL_NEEDED:
                if each.find(TP + "deprecated") is not None:
                    continue
            if kind == "property":
                yield (kind, name), (each.attrib["type"], each.attrib["access"])
            else:
                out = "".join(signature for _, signature in _arguments(each, "out"))
                yield (kind, name), (_arguments(each, "in"), out)


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_an_exported_interface_is_the_specified_one(name: str) -> None:
    specified = dict(_members(_interface(name), deprecated=False))
    shown = _described([EXPORTED[name]])
    (node,) = [each for each in shown.findall("interface") if each.get("name") == name]
    assert dict(_members(node, deprecated=True)) == specified


@pytest.mark.parametrize("path", sorted(OURS.glob("*.xml")), ids=lambda path: path.stem)
def test_our_interfaces_are_all_exported_and_explained(path: Path) -> None:
    root = _parsed(path.read_text())
    (interface,) = root.findall("interface")
    assert interface.attrib["name"] in EXPORTED
    assert root.find(TP + "license") is not None
    for node in [interface, *interface.iter("arg")]:
        assert node.find(TP + "docstring") is not None, node.attrib
    for kind in ("method", "signal", "property"):
        for node in interface.findall(kind):
            text = node.find(TP + "docstring")
            assert text is not None, node.attrib
            assert "".join(text.itertext()).strip()
            assert node.get(TP + "name-for-bindings", "").replace("_", "") == node.attrib["name"]


def test_every_error_that_our_interfaces_promise_exists() -> None:
    def below(error: type[TelepathyError]) -> Iterator[str]:
        yield error.dbus_name
        for each in error.__subclasses__():
            yield from below(each)

    known = set(below(TelepathyError))
    for interface in _specified(OURS).values():
        for error in interface.iter(TP + "error"):
            assert error.attrib["name"] in known


def test_what_is_announced_as_immutable_is_so_in_our_interfaces() -> None:
    """Clients match filters against these, and cache them."""
    for name, interface in _specified(OURS).items():
        for node in interface.findall("property"):
            declared = EXPORTED[name].members().properties[node.attrib["name"]]
            immutable = node.get(TP + "immutable") == "yes"
            assert declared.signals_changes is not immutable, node.attrib


@pytest.mark.parametrize("name", sorted(EXPORTED))
def test_no_member_is_listed_twice(name: str) -> None:
    interfaces: dict[type[members.Interface], None] = {ChannelInterface: None, EXPORTED[name]: None}
    for node in _described(interfaces).findall("interface"):
        shown = [(each.tag, each.get("name")) for each in node]
        assert len(shown) == len(set(shown))


def test_rights_are_given_to_methods_that_exist() -> None:
    for interface, member in caller.RIGHTS:
        assert member in EXPORTED[interface].members().methods


def test_a_path_that_only_leads_to_others_shows_them() -> None:
    node = _described([], "a", "b")
    assert [each.get("name") for each in node.findall("node")] == ["a", "b"]
    assert [each.get("name") for each in node.findall("interface")] == [
        "org.freedesktop.DBus.Introspectable",
        "org.freedesktop.DBus.Peer",
    ]
