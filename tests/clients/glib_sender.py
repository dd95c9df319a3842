"""telepathy-glib sends a file: CONNECTION CONTACT FILE."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gi.repository import Gio, GLib

from tests.clients.glib import (
    CHANNEL,
    FILE_TRANSFER,
    REQUESTS,
    call,
    prepared_connection,
    prepared_transfer,
    tell_states,
)
from tests.clients.words import give_up, say


def main(path: str, contact: str, file: Path) -> None:
    loop = GLib.MainLoop()

    def connected(factory: Any, connection: Any) -> None:
        connection.dup_contact_by_id_async(contact, [], lambda s, r: found(factory, s, r))

    def found(factory: Any, connection: Any, result: Any) -> None:
        try:
            peer = connection.dup_contact_by_id_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("contact", handle=peer.get_handle(), identifier=peer.get_identifier())
        request = {
            CHANNEL + ".ChannelType": GLib.Variant("s", FILE_TRANSFER),
            CHANNEL + ".TargetHandleType": GLib.Variant("u", 1),
            CHANNEL + ".TargetHandle": GLib.Variant("u", peer.get_handle()),
            FILE_TRANSFER + ".Filename": GLib.Variant("s", file.name),
            FILE_TRANSFER + ".Size": GLib.Variant("t", file.stat().st_size),
            FILE_TRANSFER + ".ContentType": GLib.Variant("s", "application/octet-stream"),
        }
        wanted = GLib.Variant("(a{sv})", (request,))
        reply = call(path, path, REQUESTS, "CreateChannel", wanted, "(oa{sv})")
        where, properties = reply.get_child_value(0), reply.get_child_value(1)
        prepared_transfer(factory, connection, where.get_string(), properties, provide)

    def provide(channel: Any) -> None:
        tell_states(channel, loop.quit)
        channel.provide_file_async(Gio.File.new_for_path(str(file)), provided)

    def provided(channel: Any, result: Any) -> None:
        try:
            channel.provide_file_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("provided")

    prepared_connection(path, connected)
    loop.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
