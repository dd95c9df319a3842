"""telepathy-glib calls: CONNECTION CONTACT. It says what it sees, presses a key, and hangs up when
it is told a line.
"""

from __future__ import annotations

import sys
from typing import Any

from gi.repository import GLib

from tests.clients.glib import (
    CHANNEL,
    REQUESTS,
    TelepathyGLib,
    call,
    immutable,
    prepared_connection,
)
from tests.clients.words import give_up, say

CALL = CHANNEL + ".Type.Call1"
ACTIVE, ENDED = 5, 6


def main(path: str, contact: str) -> None:
    loop = GLib.MainLoop()
    kept = []  # a channel that nobody holds hears nothing

    def connected(factory: Any, connection: Any) -> None:
        request = {
            CHANNEL + ".ChannelType": GLib.Variant("s", CALL),
            CHANNEL + ".TargetHandleType": GLib.Variant("u", 1),
            CHANNEL + ".TargetID": GLib.Variant("s", contact),
            CALL + ".InitialAudio": GLib.Variant("b", True),
        }
        wanted = GLib.Variant("(a{sv})", (request,))
        reply = call(path, path, REQUESTS, "CreateChannel", wanted, "(oa{sv})")
        where, properties = reply.get_child_value(0), reply.get_child_value(1)
        channel = factory.ensure_channel(connection, where.get_string(), immutable(properties))
        kept.append(channel)
        channel.prepare_async([TelepathyGLib.CallChannel.get_feature_quark_core()], prepared)

    def prepared(channel: Any, result: Any) -> None:
        try:
            channel.prepare_finish(result)
        except GLib.Error as error:
            give_up(error)
        (content,) = channel.get_contents()
        features = [TelepathyGLib.CallContent.get_feature_quark_core()]
        content.prepare_async(features, lambda s, r: looked_into(channel, s, r))

    def looked_into(channel: Any, content: Any, result: Any) -> None:
        try:
            content.prepare_finish(result)
        except GLib.Error as error:
            give_up(error)
        say(
            "channel",
            kind=type(channel).__name__,
            state=int(channel.get_state()[0]),
            hardware=channel.has_hardware_streaming(),
            audio=channel.has_initial_audio()[0],
            video=channel.has_initial_video()[0],
            mutable=channel.has_mutable_contents(),
            hold=channel.has_hold(),
            content=content.get_name(),
            media=int(content.get_media_type()),
            dtmf=channel.has_dtmf(),
            members=[each.get_identifier() for each in channel.get_members()],
        )
        channel.connect("state-changed", state_changed)
        channel.accept_async(accepted)

    def accepted(channel: Any, result: Any) -> None:
        try:
            channel.accept_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("accepted")

    def state_changed(channel: Any, state: Any, flags: Any, reason: Any, details: Any) -> None:
        say("state", state=int(state), flags=int(flags), reason=int(reason.reason))
        if int(state) == ACTIVE:
            channel.send_tones_async("12", None, pressed)
        elif int(state) == ENDED:
            loop.quit()

    def pressed(channel: Any, result: Any) -> None:
        try:
            channel.send_tones_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("pressed")
        (content,) = channel.get_contents()
        (stream,) = content.get_streams()
        say(
            "stream",
            sending=int(stream.get_local_sending_state()),
            members=[each.get_identifier() for each in stream.get_remote_members()],
        )
        GLib.io_add_watch(
            sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, heard, channel
        )

    def heard(_: int, __: Any, channel: Any) -> bool:
        channel.hangup_async(2, "", "", hung_up)
        return False

    def hung_up(channel: Any, result: Any) -> None:
        try:
            channel.hangup_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("hung up")

    prepared_connection(path, connected)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
