"""Text on a desktop: Mission Control gives the channel to a program, or destroys it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from dbus_fast import Variant

from tests.peer.client import Peer
from tests.scenarios import test_bus_mission_control as mission_control
from tests.scenarios.test_bus_mission_control import Accounts
from tests.scenarios.test_server_questions_mission_control import CLIENT, Handler
from tests.support.bus import PROPERTIES, RawClient
from tests.support.chat import MESSAGES, TEXT
from tests.support.prosody import PASSWORD, Prosody
from tests.support.side import CHANNEL

pytestmark = mission_control.pytestmark
client = mission_control.client


class Talker(Handler):
    """A program for conversations."""

    def _properties(self) -> dict[str, dict[str, Variant]]:
        shown = super()._properties()
        shown[CLIENT + ".Handler"]["HandlerChannelFilter"] = Variant(
            "aa{sv}",
            [
                {
                    CHANNEL + ".ChannelType": Variant("s", TEXT),
                    CHANNEL + ".TargetHandleType": Variant("u", 1),
                }
            ],
        )
        return shown


@pytest_asyncio.fixture
async def bob(prosody: Prosody) -> AsyncIterator[Peer]:
    peer = await Peer.start(prosody, "bob")
    yield peer
    await peer.stop()


async def online(client: RawClient, server: Prosody, bob: Peer) -> Accounts:
    """Alice's account, logged in; her server knows it as well, which gives her messages then."""
    seen = len(bob.presences)
    account = await Accounts.create(client, server, PASSWORD)
    await account.request(2, "available", "")
    await account.until(lambda a: a["ConnectionStatus"] == 0)
    hers = server.jid("alice") + "/"
    await bob.until(
        lambda: any(
            each.get("from", "").startswith(hers) and each.get("type") is None
            for each in bob.presences[seen:]
        )
    )
    return account


def write(bob: Peer, to: str, text: str) -> None:
    bob.send_text(
        f"<message xmlns='jabber:client' to='{to}' type='chat'><body>{text}</body></message>"
    )


async def test_a_message_is_dispatched_to_a_handler_and_comes_back_if_it_leaves_it_unread(
    client: RawClient, prosody: Prosody, bob: Peer
) -> None:
    talker = await Talker.start(client)
    await online(client, prosody, bob)
    write(bob, prosody.jid("alice"), "Hello")
    name, path, shown = await talker.next(TEXT)
    assert shown[CHANNEL + ".InitiatorID"] == prosody.jid("bob")
    get = (PROPERTIES, "Get", "ss", MESSAGES, "PendingMessages")
    (parts,) = (await client.value(name, path, *get)).value
    assert parts[1]["content"].value == "Hello"
    await client.value(name, path, CHANNEL, "Close")
    again = await client.until(lambda m: m.member == "HandleChannels" and m.body[2][0][0] != path)
    path = again.body[2][0][0]
    (parts,) = (await client.value(name, path, *get)).value
    assert (parts[1]["content"].value, parts[0]["rescued"].value) == ("Hello", True)
    ids = [parts[0]["pending-message-id"].value]
    await client.value(name, path, TEXT, "AcknowledgePendingMessages", "au", ids)
    await client.value(name, path, CHANNEL, "Close")
    await client.signal("Closed", path)
    assert len([m for m in client.signals("NewChannels")]) == 2


async def test_what_nobody_handles_is_destroyed_and_does_not_come_back(
    client: RawClient, prosody: Prosody, bob: Peer
) -> None:
    await online(client, prosody, bob)
    write(bob, prosody.jid("alice"), "Hello")
    opened = await client.signal("NewChannels")
    await client.signal("Closed", opened.body[0][0][0])
    await client.signal("ChannelClosed")
    assert len(client.signals("NewChannels")) == 1
