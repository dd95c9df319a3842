"""telepathy-glib takes a file that was offered: CONNECTION CHANNEL FILE."""

from __future__ import annotations

import sys
from typing import Any

from gi.repository import Gio, GLib

from tests.clients.glib import (
    PROPERTIES,
    REQUESTS,
    call,
    prepared_connection,
    prepared_transfer,
    tell_states,
    when_written,
)
from tests.clients.words import give_up, say


def announced(path: str, channel: str) -> Any:
    """The channel's immutable properties, from those that the connection lists."""
    wanted = GLib.Variant("(ss)", (REQUESTS, "Channels"))
    listed = call(path, path, PROPERTIES, "Get", wanted, "(v)").get_child_value(0).get_variant()
    for index in range(listed.n_children()):
        each = listed.get_child_value(index)
        if each.get_child_value(0).get_string() == channel:
            return each.get_child_value(1)
    return give_up("no such channel")


def main(path: str, where: str, file: str) -> None:
    loop = GLib.MainLoop()

    def connected(factory: Any, connection: Any) -> None:
        prepared_transfer(factory, connection, where, announced(path, where), accept)

    def accept(channel: Any) -> None:
        tell_states(channel, lambda: when_written(file, channel.get_size(), loop.quit))
        channel.accept_file_async(Gio.File.new_for_path(file), 0, accepted)

    def accepted(channel: Any, result: Any) -> None:
        try:
            channel.accept_file_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("accepted")

    prepared_connection(path, connected)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
