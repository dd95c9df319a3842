"""A handler as telepathy-glib makes them, for a dispatcher: NAME KIND [FILE].

KIND ``files`` takes a file to FILE; ``verification`` compares short strings, and reads from
standard input that they are the ``same``; ``certificate`` says that the account's own will do;
``viewer`` accepts a tube and says hello through it; ``sharing`` offers one that was requested.
"""

from __future__ import annotations

import sys
from typing import Any

from gi.repository import Gio, GLib

from tests.clients.glib import (
    CHANNEL,
    FILE_TRANSFER,
    PROPERTIES,
    TelepathyGLib,
    call,
    subscribe,
    tell_states,
    when_written,
)
from tests.clients.glib_tube import SERVICES, TYPES, accept_stream, offer_stream
from tests.clients.words import give_up, say

VERIFICATION = CHANNEL + ".Type.PeerVerification1"
CERTIFICATE_REQUEST = CHANNEL + ".Type.CertificateRequest1"

TUBE = {
    CHANNEL + ".ChannelType": GLib.Variant("s", TYPES["stream"]),
    CHANNEL + ".TargetHandleType": GLib.Variant("u", 1),
    f"{TYPES['stream']}.{SERVICES['stream'][0]}": GLib.Variant("s", SERVICES["stream"][1]),
}
FILTERS = {
    "files": {
        CHANNEL + ".ChannelType": GLib.Variant("s", FILE_TRANSFER),
        CHANNEL + ".TargetHandleType": GLib.Variant("u", 1),
        CHANNEL + ".Requested": GLib.Variant("b", False),
    },
    "verification": {CHANNEL + ".ChannelType": GLib.Variant("s", VERIFICATION)},
    "certificate": {CHANNEL + ".ChannelType": GLib.Variant("s", CERTIFICATE_REQUEST)},
    "viewer": {**TUBE, CHANNEL + ".Requested": GLib.Variant("b", False)},
    "sharing": {**TUBE, CHANNEL + ".Requested": GLib.Variant("b", True)},
}


def take(channel: Any, file: str) -> None:
    """A file that somebody offers."""
    tell_states(channel, lambda: when_written(file, channel.get_size(), lambda: say("written")))
    channel.accept_file_async(Gio.File.new_for_path(file), 0, taken)


def taken(channel: Any, result: Any) -> None:
    try:
        channel.accept_file_finish(result)
    except GLib.Error as error:
        give_up(error)


def compare(channel: Any) -> None:
    """The question whether it is really them: both look at a short string."""
    connection, path = channel.get_connection().get_object_path(), channel.get_object_path()

    def ask(member: str, arguments: Any = None) -> None:
        call(connection, path, VERIFICATION, member, arguments, "()")

    def changed(told: Any) -> None:
        if text := told[1].get("ShortAuthenticationString"):
            say("string", text=text)

    def heard(*_: Any) -> bool:
        same = sys.stdin.readline().strip() == "same"
        ask("ConfirmSAS", GLib.Variant("(b)", (same,)))
        return False

    def agree(*_: Any) -> None:
        if not agreed:
            agreed.append(True)
            ask("StartSAS")

    agreed: list[bool] = []
    subscribe(connection, path, "PropertiesChanged", changed)
    subscribe(connection, path, "PeerStarted", agree)
    subscribe(connection, path, "Finished", lambda told: say("finished", how=told))
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, heard)
    # They may have begun while the dispatcher was looking for us.
    wanted = GLib.Variant("(ss)", (VERIFICATION, "State"))
    if call(connection, path, PROPERTIES, "Get", wanted, "(v)").unpack()[0] == "comparing":
        agree()


def use_own(channel: Any) -> None:
    """The question for a certificate."""
    connection, path = channel.get_connection().get_object_path(), channel.get_object_path()
    call(connection, path, CERTIFICATE_REQUEST, "UseOwn", None, "()")
    say("answered")


def main(name: str, kind: str, file: str = "") -> None:
    def handle(
        _: Any, account: Any, connection: Any, channels: Any, requests: Any, when: int, context: Any
    ) -> None:
        for channel in channels:
            shown = channel.dup_immutable_properties().unpack()
            say(
                "handling",
                path=channel.get_object_path(),
                target=channel.get_identifier(),
                kind=type(channel).__name__,
                properties={k: v for k, v in shown.items() if isinstance(v, str | int | bool)},
            )
            if kind == "files":
                take(channel, file)
            elif kind == "verification":
                compare(channel)
            elif kind == "viewer":
                accept_stream(channel)
            elif kind == "sharing":
                offer_stream(channel)
            else:
                use_own(channel)
            channel.connect("invalidated", lambda c, *_: say("gone", path=c.get_object_path()))
        context.accept()

    manager = TelepathyGLib.AccountManager.dup()
    handler = TelepathyGLib.SimpleHandler.new_with_am(manager, False, False, name, False, handle)
    handler.add_handler_filter_vardict(GLib.Variant("a{sv}", FILTERS[kind]))
    handler.register()
    say("registered")
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
