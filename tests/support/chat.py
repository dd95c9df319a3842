"""Text channels in tests: opened, written to and read over D-Bus."""

from __future__ import annotations

from typing import Any

from dbus_fast import Variant

from tests.support.pair import parameters
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, CONNECTION, REQUESTS, Side, Signal

TEXT = CHANNEL + ".Type.Text"
MESSAGES = CHANNEL + ".Interface.Messages"
CHAT_STATE = CHANNEL + ".Interface.ChatState"
DESTROYABLE = CHANNEL + ".Interface.Destroyable"
PRESENCE = CONNECTION + ".Interface.SimplePresence"

REPORT_DELIVERY = 1
DELIVERY_REPORT = 4

Parts = list[dict[str, Any]]

# Copies and storage, beside what each test server has.
MODULES = "modules_enabled = { 'carbons', 'offline' }"


async def online(server: Prosody, account: str, resource: str = "test", **more: Variant) -> Side:
    """A desktop with a daemon that is logged in."""
    side = await Side.start(account)
    try:
        given = parameters(server, server.jid(account), **more)
        await side.connect({**given, "resource": Variant("s", resource)}, handles=())
    except BaseException:
        await side.stop()
        raise
    return side


async def handle_of(side: Side, jid: str) -> int:
    found = await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid])
    return int(found[0])


async def sees(side: Side, jid: str, kind: int = 2) -> None:
    """Wait until a contact is shown as available, or with another Connection_Presence_Type."""
    handle = await handle_of(side, jid)

    def last(signals: list[Signal]) -> int:
        found = [
            s.body[0][handle][0]
            for s in signals
            if s.member == "PresencesChanged" and handle in s.body[0]
        ]
        return int(found[-1]) if found else 0

    await side.signal(lambda _: last(side.signals) == kind)


def request(target: str, **more: Variant) -> dict[str, Variant]:
    return {
        CHANNEL + ".ChannelType": Variant("s", TEXT),
        CHANNEL + ".TargetHandleType": Variant("u", 1),
        CHANNEL + ".TargetID": Variant("s", target),
        **more,
    }


async def open_text(side: Side, target: str) -> str:
    """EnsureChannel."""
    _, path, _ = await side.cm(side.connection, REQUESTS, "EnsureChannel", "a{sv}", request(target))
    return str(path)


async def send(side: Side, path: str, text: str, flags: int = 0, **headers: Variant) -> str:
    """SendMessage; the token."""
    header = {key.replace("_", "-"): value for key, value in headers.items()}
    body = {"content-type": Variant("s", "text/plain"), "content": Variant("s", text)}
    return str(await side.cm(path, MESSAGES, "SendMessage", "aa{sv}u", [header, body], flags))


def received(side: Side, path: str | None = None) -> list[Parts]:
    """All messages that MessageReceived told so far."""
    return [
        s.body[0] for s in side.signals if s.member == "MessageReceived" and path in (None, s.path)
    ]


async def next_message(side: Side, text: str) -> tuple[str, dict[str, Any]]:
    """Wait for a text: (channel, headers)."""
    found = await side.signal(
        lambda s: (
            s.member == "MessageReceived"
            and len(s.body[0]) > 1
            and s.body[0][1].get("content") == text
        )
    )
    return found.path, found.body[0][0]


async def report(side: Side, token: str) -> dict[str, Any]:
    """Wait for the delivery report of a message."""
    found = await side.signal(
        lambda s: s.member == "MessageReceived" and s.body[0][0].get("delivery-token") == token
    )
    return dict(found.body[0][0])


async def state_of(side: Side, path: str, handle: int, state: int) -> None:
    """Wait until somebody's chat state was told to be this."""
    await side.signal(
        lambda s: s.path == path and s.member == "ChatStateChanged" and s.body == (handle, state)
    )


def texts(pending: list[Parts]) -> list[str]:
    return [parts[1]["content"] for parts in pending if len(parts) > 1]
