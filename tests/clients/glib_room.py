"""telepathy-glib in a room: CONNECTION ROOM PASSWORD. It leaves when somebody else has gone.

Where a password is asked for, it first gives a wrong one.
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

TEXT = CHANNEL + ".Type.Text"


def main(path: str, room: str, password: str) -> None:
    loop = GLib.MainLoop()
    kept = []  # a channel that nobody holds hears nothing

    def connected(factory: Any, connection: Any) -> None:
        request = {
            CHANNEL + ".ChannelType": GLib.Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": GLib.Variant("u", 2),
            CHANNEL + ".TargetID": GLib.Variant("s", room),
        }
        wanted = GLib.Variant("(a{sv})", (request,))
        reply = call(path, path, REQUESTS, "EnsureChannel", wanted, "(boa{sv})")
        where, properties = reply.get_child_value(1), reply.get_child_value(2)
        channel = factory.ensure_channel(connection, where.get_string(), immutable(properties))
        kept.append(channel)
        features = [
            TelepathyGLib.Channel.get_feature_quark_group(),
            TelepathyGLib.Channel.get_feature_quark_contacts(),
            TelepathyGLib.Channel.get_feature_quark_password(),
            TelepathyGLib.TextChannel.get_feature_quark_incoming_messages(),
        ]
        channel.prepare_async(features, lambda s, r: prepared(s, r, features))

    def prepared(channel: Any, result: Any, features: list[Any]) -> None:
        try:
            channel.prepare_finish(result)
        except GLib.Error as error:
            give_up(error)
        say(
            "channel",
            kind=type(channel).__name__,
            prepared=[channel.is_prepared(each) for each in features],
            locked=channel.password_needed(),
            members=members(channel),
        )
        channel.connect("group-contacts-changed", changed)
        channel.connect("message-received", received)
        if channel.password_needed():
            channel.provide_password_async("not " + password, lambda c, r: tried(c, r, again=True))
        else:
            inside(channel)

    def tried(channel: Any, result: Any, *, again: bool) -> None:
        try:
            right = channel.provide_password_finish(result)
        except GLib.Error as error:
            # "Password was not correct" is an error there.
            if not again:
                give_up(error)
            right = False
        say("tried", right=bool(right))
        if right:
            inside(channel)
        elif again:
            channel.provide_password_async(password, lambda c, r: tried(c, r, again=False))

    def inside(channel: Any) -> None:
        say(
            "inside",
            me=channel.group_get_self_contact().get_identifier(),
            members=members(channel),
            locked=channel.password_needed(),
        )

    def members(channel: Any) -> list[str]:
        return sorted(each.get_identifier() for each in channel.group_dup_members_contacts())

    def changed(
        channel: Any,
        added: Any,
        removed: Any,
        local: Any,
        remote: Any,
        actor: Any,
        details: Any,
    ) -> None:
        say(
            "changed",
            added=[each.get_identifier() for each in added],
            removed=[each.get_identifier() for each in removed],
            actor=actor.get_identifier() if actor is not None else "",
        )
        me = channel.group_get_self_contact()
        if any(each is not me for each in removed):
            channel.leave_async(
                TelepathyGLib.ChannelGroupChangeReason(0), "That is all", lambda c, r: left(c, r)
            )

    def left(channel: Any, result: Any) -> None:
        channel.leave_finish(result)
        say("left")
        loop.quit()

    def received(channel: Any, message: Any) -> None:
        sender = message.get_property("sender")
        say(
            "received",
            text=message.to_text()[0],
            sender=sender.get_identifier(),
            alias=sender.get_alias(),
            scrollback=message.is_scrollback(),
        )

    prepared_connection(path, connected)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
