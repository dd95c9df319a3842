"""A program at one end of a private bus of two: LIBRARY ROLE ADDRESS.

LIBRARY is ``dbus`` (dbus-python, on libdbus) or ``gdbus`` (GLib's own). ROLE ``serve`` exports an
object until it is told to end; ``call`` calls it, and says what came back.
"""

from __future__ import annotations

import sys
from typing import Any

from gi.repository import Gio, GLib

from tests.clients.words import say

PATH, INTERFACE = "/com/example/Game", "com.example.Game"
XML = f"""<node><interface name="{INTERFACE}">
<method name="Double"><arg type="i" direction="in"/><arg type="i" direction="out"/></method>
<method name="Echo"><arg type="ay" direction="in"/><arg type="ay" direction="out"/></method>
<signal name="Moved"><arg type="s"/></signal>
</interface></node>"""
BIG = bytes(range(256)) * 4096  # 1 MiB


def serve_gdbus(address: str, loop: Any) -> None:
    connection = _gdbus(address)

    def called(_c: Any, _s: Any, _p: Any, _i: Any, name: str, given: Any, invocation: Any) -> None:
        if name == "Double":
            moved = GLib.Variant("(s)", ("e4",))
            connection.emit_signal(None, PATH, INTERFACE, "Moved", moved)
            invocation.return_value(GLib.Variant("(i)", (given.unpack()[0] * 2,)))
        else:
            invocation.return_value(given)

    node = Gio.DBusNodeInfo.new_for_xml(XML)
    connection.register_object(PATH, node.interfaces[0], called, None, None)
    connection.connect("closed", lambda *_: left(loop))
    say("ready", capabilities=int(connection.get_capabilities()))
    KEPT.append(connection)


def call_gdbus(address: str, loop: Any) -> None:
    connection = _gdbus(address)
    flags = Gio.DBusCallFlags.NONE

    def moved(to: str) -> None:
        say("moved", to=to)
        loop.quit()

    def ask(name: str, given: Any, reply: str) -> Any:
        kind = GLib.VariantType(reply)
        return connection.call_sync(None, PATH, INTERFACE, name, given, kind, flags, 10_000, None)

    connection.signal_subscribe(
        None,
        INTERFACE,
        "Moved",
        PATH,
        None,
        Gio.DBusSignalFlags.NONE,
        lambda *told: moved(told[5].unpack()[0]),
    )
    say("answer", doubled=ask("Double", GLib.Variant("(i)", (21,)), "(i)").unpack()[0])
    # GLib.Variant("ay", ...) and unpack() take a second for each million.
    kind = GLib.VariantType("ay")
    big = GLib.Variant.new_from_bytes(kind, GLib.Bytes.new(BIG), True)
    echoed = ask("Echo", GLib.Variant.new_tuple(big), "(ay)").get_child_value(0)
    say("echo", same=echoed.get_data_as_bytes().get_data() == BIG)
    KEPT.append(connection)


def _gdbus(address: str) -> Any:
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
    return Gio.DBusConnection.new_for_address_sync(address, flags, None, None)


def serve_dbus(address: str, loop: Any) -> None:
    import dbus.service

    class Game(dbus.service.Object):  # type: ignore[misc]
        @dbus.service.method(INTERFACE, "i", "i")  # type: ignore[untyped-decorator]
        def Double(self, number: int) -> int:
            self.Moved("e4")
            return number * 2

        @dbus.service.method(INTERFACE, "ay", "ay", byte_arrays=True)  # type: ignore[untyped-decorator]
        def Echo(self, given: bytes) -> bytes:
            return given

        @dbus.service.signal(INTERFACE, signature="s")  # type: ignore[untyped-decorator]
        def Moved(self, to: str) -> None:
            pass

    connection = _dbus(address)
    KEPT.append((connection, Game(connection, PATH)))
    connection.call_on_disconnection(lambda _: left(loop))
    say("ready", capabilities=0)


def call_dbus(address: str, loop: Any) -> None:
    import dbus

    connection = _dbus(address)

    def moved(to: str) -> None:
        say("moved", to=str(to))
        loop.quit()

    connection.add_signal_receiver(moved, "Moved", INTERFACE, None, PATH)
    KEPT.append(connection)
    doubled = connection.call_blocking(None, PATH, INTERFACE, "Double", "i", (21,))
    say("answer", doubled=int(doubled))
    echoed = connection.call_blocking(
        None, PATH, INTERFACE, "Echo", "ay", (dbus.ByteArray(BIG),), byte_arrays=True
    )
    say("echo", same=bytes(echoed) == BIG)


def _dbus(address: str) -> Any:
    import dbus.connection
    import dbus.mainloop.glib

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    return dbus.connection.Connection(address)


def left(loop: Any) -> None:
    say("closed")
    loop.quit()


KEPT: list[Any] = []


def main(library: str, role: str, address: str) -> None:
    loop = GLib.MainLoop()
    globals()[f"{role}_{library}"](address, loop)
    loop.run()
    say("end")


if __name__ == "__main__":
    main(*sys.argv[1:])
