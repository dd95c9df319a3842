"""What the telepathy-glib clients have in common: its connection, and plain calls beside it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gi

gi.require_version("TelepathyGLib", "0.12")
# The other programs take it from here: only now has its version been said.
from gi.repository import Gio, GLib, GObject  # noqa: E402
from gi.repository import TelepathyGLib as TelepathyGLib  # noqa: E402

from tests.clients.words import give_up, say  # noqa: E402

TP = "org.freedesktop.Telepathy."
CHANNEL = TP + "Channel"
FILE_TRANSFER = CHANNEL + ".Type.FileTransfer"
REQUESTS = TP + "Connection.Interface.Requests"
PROPERTIES = "org.freedesktop.DBus.Properties"

# Milliseconds for an answer; D-Bus's own 25 s are little on a busy machine.
PATIENCE = 60_000

# Kept: GIO closes its connection, and forgets who listens, when nobody refers to it.
BUS = Gio.bus_get_sync(Gio.BusType.SESSION, None)


def name_of(path: str) -> str:
    """A connection's bus name."""
    return path[1:].replace("/", ".")


def call(path: str, target: str, interface: str, member: str, arguments: Any, reply: str) -> Any:
    """Call an object of the connection at ``path``; the reply, as a GLib.Variant."""
    kind = GLib.VariantType(reply)
    flags = Gio.DBusCallFlags.NONE
    asked = (name_of(path), target, interface, member, arguments)
    return BUS.call_sync(*asked, kind, flags, PATIENCE, None)


def subscribe(path: str, target: str, member: str, heard: Callable[[Any], None]) -> None:
    """Hear a signal of an object of the connection at ``path``, from now on."""
    asked = GLib.Variant("(s)", (name_of(path),))
    kind = GLib.VariantType("(s)")
    daemon = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    flags = Gio.DBusCallFlags.NONE
    # GIO drops what a well-known name says before it has asked whose that is.
    owner = BUS.call_sync(*daemon, "GetNameOwner", asked, kind, flags, PATIENCE, None).unpack()[0]
    BUS.signal_subscribe(
        owner,
        None,
        member,
        target,
        None,
        Gio.DBusSignalFlags.NONE,
        lambda *told: heard(told[5].unpack()),
    )


def immutable(properties: Any) -> dict[str, Any]:
    """Properties in D-Bus's types (a{sv} as a GLib.Variant) as telepathy-glib takes them.

    A dispatcher's clients get them from telepathy-glib itself. Its own types for them, such as the
    map of socket types, cannot be made from Python but with dbus-glib's converter.
    """
    convert = ctypes.CDLL("libdbus-glib-1.so.2").dbus_g_value_parse_g_variant
    convert.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    convert.restype = None
    found = {}
    for index in range(properties.n_children()):
        entry = properties.get_child_value(index)
        value = entry.get_child_value(1).get_variant()
        converted = GObject.Value()
        # The hash of what PyGObject wraps is its address; GLib.Variant alone overrides that.
        convert(super(type(value), value).__hash__(), hash(converted))
        found[entry.get_child_value(0).get_string()] = converted
    return found


def prepared_connection(path: str, ready: Callable[[Any, Any], None]) -> None:
    """``ready`` is called with a factory and a TpConnection that is connected."""
    factory = TelepathyGLib.AutomaticClientFactory.new(TelepathyGLib.DBusDaemon.dup())
    connection = factory.ensure_connection(path, {})
    features = [TelepathyGLib.Connection.get_feature_quark_connected()]

    def done(source: Any, result: Any) -> None:
        try:
            source.prepare_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("connection", prepared=source.is_prepared(features[0]), self_id=self_id(source))
        ready(factory, connection)

    connection.prepare_async(features, done)


def self_id(connection: Any) -> str:
    """Whose connection it is."""
    return str(connection.get_self_contact().get_identifier())


def tell_states(channel: Any, on_end: Callable[[], None]) -> None:
    """Say each state of a TpFileTransferChannel as telepathy-glib learns of it."""

    def changed(*_: Any) -> None:
        state, reason = channel.get_state()
        moved = channel.get_transferred_bytes()
        say("state", state=int(state), reason=int(reason), transferred=moved)
        if int(state) in (4, 5):
            on_end()

    channel.connect("notify::state", changed)


def when_written(file: str, size: int, then: Callable[[], None]) -> None:
    """Call as soon as a file has its size.

    A transfer is completed once all has been written to the client's socket. telepathy-glib still
    reads from that, and does not say when it is through.
    """

    def look() -> bool:
        if Path(file).stat().st_size < size:
            return True
        then()
        return False

    GLib.timeout_add(5, look)


def prepared_transfer(
    factory: Any, connection: Any, path: str, properties: Any, ready: Callable[[Any], None]
) -> None:
    """``ready`` is called with the prepared TpFileTransferChannel."""
    channel = factory.ensure_channel(connection, path, immutable(properties))

    def done(source: Any, result: Any) -> None:
        try:
            source.prepare_finish(result)
        except GLib.Error as error:
            give_up(error)
        say(
            "channel",
            kind=type(source).__name__,
            file=source.get_filename(),
            size=source.get_size(),
            mime=source.get_mime_type(),
            state=int(source.get_state()[0]),
            target=source.get_identifier(),
        )
        ready(source)

    channel.prepare_async([TelepathyGLib.FileTransferChannel.get_feature_quark_core()], done)
