"""telepathy-glib at one end of a tube: stream|dbus offer CONNECTION CONTACT, or accept CONNECTION
CHANNEL.

Whoever offers a stream echoes what comes in upper case; whoever offers a bus exports an object,
which the other calls.
"""

from __future__ import annotations

import sys
from typing import Any

from gi.repository import Gio, GLib

from tests.clients.glib import (
    CHANNEL,
    PROPERTIES,
    REQUESTS,
    TelepathyGLib,
    call,
    immutable,
    prepared_connection,
)
from tests.clients.words import give_up, say

TYPES = {"stream": CHANNEL + ".Type.StreamTube", "dbus": CHANNEL + ".Type.DBusTube"}
SERVICES = {"stream": ("Service", "rfb"), "dbus": ("ServiceName", "com.example.Game")}
PATH, INTERFACE = "/com/example/Game", "com.example.Game"
XML = f"""<node><interface name="{INTERFACE}"><method name="Double">
<arg type="i" direction="in"/><arg type="i" direction="out"/></method></interface></node>"""
KEPT: list[Any] = []
LOOP = GLib.MainLoop()


def finished(finish: Any) -> Any:
    """What an asynchronous call comes to."""
    try:
        return finish()
    except GLib.Error as error:
        give_up(error)


# -- streams ----------------------------------------------------------------------------------


def offer_stream(channel: Any) -> None:
    channel.connect("incoming", incoming)
    # No parameters: PyGObject cannot make a table of those that telepathy-glib takes.
    channel.offer_async(None, lambda c, r: offered(finished(lambda: c.offer_finish(r))))


def offered(done: bool) -> None:
    say("offered", done=bool(done))


def incoming(channel: Any, tube: Any) -> None:
    del channel
    contact = tube.get_contact()
    say("incoming", contact=contact.get_identifier() if contact is not None else None)
    socket = tube.get_socket_connection()
    KEPT.append((tube, socket))
    stream = socket.get_input_stream()

    def read(_: Any, result: Any) -> None:
        data = finished(lambda: stream.read_bytes_finish(result)).get_data()
        if data:
            socket.get_output_stream().write_all(data.upper(), None)
            stream.read_bytes_async(4096, 0, None, read)
        else:
            socket.close(None)

    stream.read_bytes_async(4096, 0, None, read)


def accept_stream(channel: Any) -> None:
    channel.accept_async(lambda c, r: accepted(finished(lambda: c.accept_finish(r))))


def accepted(tube: Any) -> None:
    socket = tube.get_socket_connection()
    KEPT.append((tube, socket))
    say("accepted", family=int(socket.get_socket().get_family()))
    socket.get_output_stream().write_all(b"hello", None)
    data = socket.get_input_stream().read_bytes(100, None).get_data()
    say("answer", text=data.decode())
    socket.close(None)


# -- buses ------------------------------------------------------------------------------------


def offer_dbus(channel: Any) -> None:
    channel.offer_async(None, lambda c, r: serve(finished(lambda: c.offer_finish(r))))


def serve(bus: Any) -> None:
    def called(_c: Any, _s: Any, _p: Any, _i: Any, _n: str, given: Any, invocation: Any) -> None:
        invocation.return_value(GLib.Variant("(i)", (given.unpack()[0] * 2,)))

    node = Gio.DBusNodeInfo.new_for_xml(XML)
    bus.register_object(PATH, node.interfaces[0], called, None, None)
    KEPT.append(bus)
    say("offered", done=True)


def accept_dbus(channel: Any) -> None:
    channel.accept_async(lambda c, r: ask(finished(lambda: c.accept_finish(r))))


def ask(bus: Any) -> None:
    KEPT.append(bus)
    say("accepted", family=0)
    double(bus)


def double(bus: Any) -> None:
    given = GLib.Variant("(i)", (21,))
    flags = Gio.DBusCallFlags.NONE

    def answered(_: Any, result: Any) -> None:
        try:
            answer = bus.call_finish(result)
        except GLib.Error as error:
            if not error.matches(Gio.dbus_error_quark(), Gio.DBusError.UNKNOWN_METHOD):
                give_up(error)
            # A connection of GDBus answers before its program has put anything on it.
            GLib.timeout_add(50, double, bus)
            return
        say("answer", text=str(answer.unpack()[0]))

    kind = GLib.VariantType("(i)")
    bus.call(None, PATH, INTERFACE, "Double", given, kind, flags, 20_000, None, answered)


# -- both -------------------------------------------------------------------------------------


def main(kind: str, role: str, path: str, target: str) -> None:
    channel_type = TYPES[kind]

    def connected(factory: Any, connection: Any) -> None:
        if role == "offer":
            name, service = SERVICES[kind]
            request = {
                CHANNEL + ".ChannelType": GLib.Variant("s", channel_type),
                CHANNEL + ".TargetHandleType": GLib.Variant("u", 1),
                CHANNEL + ".TargetID": GLib.Variant("s", target),
                f"{channel_type}.{name}": GLib.Variant("s", service),
            }
            wanted = GLib.Variant("(a{sv})", (request,))
            reply = call(path, path, REQUESTS, "CreateChannel", wanted, "(oa{sv})")
            where, properties = reply.get_child_value(0).get_string(), reply.get_child_value(1)
        else:
            where = target
            wanted = GLib.Variant("(ss)", (REQUESTS, "Channels"))
            reply = call(path, path, PROPERTIES, "Get", wanted, "(v)")
            channels = reply.get_child_value(0).get_variant()
            properties = next(
                each.get_child_value(1)
                for each in map(channels.get_child_value, range(channels.n_children()))
                if each.get_child_value(0).get_string() == where
            )
        channel = factory.ensure_channel(connection, where, immutable(properties))
        KEPT.append(channel)
        channel.connect("invalidated", invalidated)
        channel.prepare_async([TelepathyGLib.Channel.get_feature_quark_core()], prepared)

    def prepared(channel: Any, result: Any) -> None:
        finished(lambda: channel.prepare_finish(result))
        service = channel.get_service() if kind == "stream" else channel.get_service_name()
        say("channel", kind=type(channel).__name__, service=service)
        globals()[f"{role}_{kind}"](channel)

    def invalidated(channel: Any, *_: Any) -> None:
        del channel
        say("invalidated")
        LOOP.quit()

    prepared_connection(path, connected)
    LOOP.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
