"""Introspection data (D-Bus specification, "Introspection Data Format")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree as ET

from telepathy_e2e.bus.members import Interface

DOCTYPE: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    '"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

# What every object has; Properties where there is something to show.
STANDARD: Final = """
<interface name="org.freedesktop.DBus.Introspectable">
  <method name="Introspect"><arg name="data" type="s" direction="out"/></method>
</interface>
<interface name="org.freedesktop.DBus.Peer">
  <method name="Ping"/>
  <method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
</interface>
"""
PROPERTIES: Final = """
<interface name="org.freedesktop.DBus.Properties">
  <method name="Get">
    <arg name="interface_name" type="s" direction="in"/>
    <arg name="property_name" type="s" direction="in"/>
    <arg name="value" type="v" direction="out"/>
  </method>
  <method name="Set">
    <arg name="interface_name" type="s" direction="in"/>
    <arg name="property_name" type="s" direction="in"/>
    <arg name="value" type="v" direction="in"/>
  </method>
  <method name="GetAll">
    <arg name="interface_name" type="s" direction="in"/>
    <arg name="properties" type="a{sv}" direction="out"/>
  </method>
  <signal name="PropertiesChanged">
    <arg name="interface_name" type="s"/>
    <arg name="changed_properties" type="a{sv}"/>
    <arg name="invalidated_properties" type="as"/>
  </signal>
</interface>
"""


def describe(interfaces: Iterable[type[Interface]], children: Iterable[str]) -> str:
    """The XML of one object.

    Args:
        interfaces: that it has; none for a path that only leads to others.
        children: last parts of the paths right below.
    """
    own = [_interface(each) for each in interfaces]
    parts = ["<node>", STANDARD.strip("\n")]
    if own:
        parts.append(PROPERTIES.strip("\n"))
    parts += own
    parts += [f'<node name="{child}"/>' for child in children]
    parts.append("</node>\n")
    return DOCTYPE + "\n".join(parts)


def _interface(interface: type[Interface]) -> str:
    members = interface.members()
    root = ET.Element("interface", name=interface.name)
    for method in members.methods.values():
        node = ET.SubElement(root, "method", name=method.name)
        for name, signature in method.arguments:
            ET.SubElement(node, "arg", name=name, type=signature, direction="in")
        for signature in method.results:
            ET.SubElement(node, "arg", type=signature, direction="out")
    for signal in members.signals.values():
        node = ET.SubElement(root, "signal", name=signal.name)
        for name, signature in signal.arguments:
            ET.SubElement(node, "arg", name=name, type=signature)
    for each in members.properties.values():
        node = ET.SubElement(
            root, "property", name=each.name, type=each.signature, access=each.access
        )
        if each.signals_changes:
            continue
        ET.SubElement(
            node,
            "annotation",
            name="org.freedesktop.DBus.Property.EmitsChangedSignal",
            value="false",
        )
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")
