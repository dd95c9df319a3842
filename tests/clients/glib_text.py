"""telepathy-glib talks: CONNECTION CONTACT TEXT. It acknowledges the first answer, and leaves."""

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


def main(path: str, contact: str, text: str) -> None:
    loop = GLib.MainLoop()
    kept = []  # a channel that nobody holds hears nothing

    def connected(factory: Any, connection: Any) -> None:
        request = {
            CHANNEL + ".ChannelType": GLib.Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": GLib.Variant("u", 1),
            CHANNEL + ".TargetID": GLib.Variant("s", contact),
        }
        wanted = GLib.Variant("(a{sv})", (request,))
        reply = call(path, path, REQUESTS, "EnsureChannel", wanted, "(boa{sv})")
        where, properties = reply.get_child_value(1), reply.get_child_value(2)
        channel = factory.ensure_channel(connection, where.get_string(), immutable(properties))
        kept.append(channel)
        features = [
            TelepathyGLib.TextChannel.get_feature_quark_incoming_messages(),
            TelepathyGLib.TextChannel.get_feature_quark_chat_states(),
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
            content=channel.get_supported_content_types(),
            types=[int(each) for each in channel.get_message_types()],
            reports=int(channel.get_delivery_reporting_support()),
            sms=channel.is_sms_channel(),
        )
        channel.connect("message-received", received)
        channel.connect("message-sent", sent)
        channel.connect("contact-chat-state-changed", state_changed)
        message = TelepathyGLib.ClientMessage.new_text(0, text)
        channel.send_message_async(message, TelepathyGLib.MessageSendingFlags(1), submitted)

    def submitted(channel: Any, result: Any) -> None:
        try:
            _, token = channel.send_message_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("submitted", token=token)

    def sent(channel: Any, message: Any, flags: Any, token: str) -> None:
        say("sent", text=message.to_text()[0], flags=int(flags), token=token)

    def state_changed(channel: Any, contact: Any, state: Any) -> None:
        say("state", contact=contact.get_identifier(), state=int(state))

    def received(channel: Any, message: Any) -> None:
        report = message.is_delivery_report()
        say(
            "received",
            text=message.to_text()[0],
            sender=message.get_property("sender").get_identifier(),
            report=report,
            token=message.get_token(),
        )
        if not report:
            channel.ack_message_async(message, acknowledged)

    def acknowledged(channel: Any, result: Any) -> None:
        try:
            channel.ack_message_finish(result)
        except GLib.Error as error:
            give_up(error)
        say("acknowledged", left=len(channel.dup_pending_messages()))
        loop.quit()

    prepared_connection(path, connected)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
