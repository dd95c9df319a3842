"""Calls that are wrong: in the wrong state, of wrong types, about nobody, to others' objects.

What is called comes from the introspection of the objects themselves, so that a method that is new
is called wrongly as well. Where the specification wants another answer than the rule, it stands
here with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest_asyncio
from dbus_fast import SignatureTree, SignatureType, Variant

from tests.support.chat import CHAT_STATE, MESSAGES, TEXT, handle_of, online, open_text
from tests.support.pair import parameters
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, CONNECTION, PROPERTIES, REQUESTS, TP, DBusFailure, Side

DBUS = "org.freedesktop.DBus."
UNKNOWN_OBJECT = DBUS + "Error.UnknownObject"
UNKNOWN_INTERFACE = DBUS + "Error.UnknownInterface"
INVALID_ARGS = DBUS + "Error.InvalidArgs"
DISCONNECTED = TP + "Error.Disconnected"
INVALID_HANDLE = TP + "Error.InvalidHandle"
INVALID_ARGUMENT = TP + "Error.InvalidArgument"
OK = ""

NOBODY = 2**32 - 1
# How the specification calls arguments that are handles of contacts, alone, listed or as keys.
HANDLES = ("Contact", "Contacts", "Members", "Handle", "Handles", "Aliases")

# What needs no server, and so works before there is one.
BEFORE_CONNECTED = {
    (CONNECTION, name)
    for name in (
        *("Connect", "Disconnect", "GetInterfaces", "GetProtocol", "GetStatus"),
        *("AddClientInterest", "RemoveClientInterest"),
    )
} | {
    # "This method may be called on a newly-created connection while it is still in the
    # DISCONNECTED state, to request that when the connection connects, it will do so with the
    # selected status."; likewise UpdateCapabilities
    (CONNECTION + ".Interface.SimplePresence", "SetPresence"),
    (CONNECTION + ".Interface.ContactCapabilities", "UpdateCapabilities"),
    # Constants.
    (CONNECTION + ".Interface.Avatars", "GetAvatarRequirements"),
}
# "In particular, this error is raised if the Status is not yet Connection_Status_Connected."
NOT_YET = {(CONNECTION + ".Interface.ContactList", "GetContactListAttributes")}
# "If any of the requested handles are in fact invalid, they are simply omitted from this mapping."
OMITS_INVALID = {(CONNECTION + ".Interface.Contacts", "GetContactAttributes")}


@dataclass(frozen=True)
class Method:
    interface: str
    name: str
    arguments: tuple[tuple[str, str], ...]

    @property
    def signature(self) -> str:
        return "".join(signature for _, signature in self.arguments)

    @property
    def key(self) -> tuple[str, str]:
        return self.interface, self.name

    @property
    def handles(self) -> bool:
        return any(name in HANDLES for name, _ in self.arguments)

    def body(self) -> list[Any]:
        """Arguments of the right types that say little; handles are nobody's."""
        return [
            1 if name == "Handle_Type" else sample(tree, NOBODY if name in HANDLES else 1)
            for (name, _), tree in zip(
                self.arguments, SignatureTree(self.signature).types, strict=True
            )
        ]


def sample(of: SignatureType, number: int) -> Any:
    """A value of this type; ``number`` is what is in it where it can be."""
    match of.token:
        case "a" if of.children[0].token == "{":
            key, value = of.children[0].children
            return {sample(key, number): sample(value, number)}
        case "a" if of.children[0].token == "y":
            return b"x"
        case "a":
            return [sample(of.children[0], number)]
        case "(":
            return [sample(each, number) for each in of.children]
        case "s":
            return "x"
        case "o":
            return "/"
        case "b":
            return False
        case "v":
            return Variant("s", "x")
        case _:
            return number


async def described(side: Side, path: str) -> tuple[list[Method], dict[tuple[str, str], str]]:
    """All methods of an object's own interfaces, and its properties: name to signature, access."""
    text = await side.cm(path, DBUS + "Introspectable", "Introspect")
    methods: list[Method] = []
    properties: dict[tuple[str, str], str] = {}
    for interface in fromstring(text).iterfind("interface"):  # noqa: S314 - from our own daemon
        name = interface.get("name", "")
        if name.startswith(DBUS):
            continue
        methods += [
            Method(
                name,
                each.get("name", ""),
                tuple(
                    (argument.get("name", ""), argument.get("type", ""))
                    for argument in each.iterfind("arg")
                    if argument.get("direction", "in") == "in"
                ),
            )
            for each in interface.iterfind("method")
        ]
        for each in interface.iterfind("property"):
            properties[name, each.get("name", "")] = each.get("access", "") + each.get("type", "")
    return methods, properties


async def answer(side: Side, path: str, method: Method, body: list[Any] | None = None) -> str:
    """The name of the error, or OK."""
    arguments = method.body() if body is None else body
    return await called(side, path, method.interface, method.name, method.signature, *arguments)


async def called(side: Side, *call: Any) -> str:
    try:
        await side.cm(*call)
    except DBusFailure as failure:
        return failure.name
    return OK


@pytest_asyncio.fixture
async def alice(prosody: Prosody) -> AsyncIterator[Side]:
    side = await online(prosody, "alice")
    yield side
    await side.stop()


def silent(side: Side) -> None:
    """The daemon lives, and nothing of it was surprising."""
    assert side.daemon is not None
    assert side.daemon.poll() is None
    assert "Traceback" not in side.log


async def test_before_connected_what_needs_the_server_is_disconnected(prosody: Prosody) -> None:
    side = await Side.start("early")
    try:
        await side.request_connection(parameters(prosody, prosody.jid("alice")))
        methods, _ = await described(side, side.connection)
        assert BEFORE_CONNECTED <= {each.key for each in methods}
        wrong = {
            each.key: got
            for each in methods
            if each.key not in BEFORE_CONNECTED
            and (got := await answer(side, side.connection, each))
            != (TP + "Error.NotYet" if each.key in NOT_YET else DISCONNECTED)
        }
        assert wrong == {}
        wrong = {
            each.key: got
            for each in methods
            if each.key in BEFORE_CONNECTED
            and each.name not in ("Connect", "Disconnect")
            and (got := await answer(side, side.connection, each)) == DISCONNECTED
        }
        assert wrong == {}
        silent(side)
    finally:
        await side.stop()


async def test_after_disconnected_nothing_is_there(prosody: Prosody) -> None:
    side = await online(prosody, "alice")
    try:
        chat = await open_text(side, prosody.jid("bob"))
        paths = {path: (await described(side, path))[0] for path in (side.connection, chat)}
        # By its own name the daemon can still be called.
        side.bus_name = await side.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "GetNameOwner",
            "s",
            side.bus_name,
        )
        await side.cm(side.connection, CONNECTION, "Disconnect")
        await side.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
        wrong = {
            (path, *each.key): got
            for path, methods in paths.items()
            for each in methods
            if (got := await answer(side, path, each)) != UNKNOWN_OBJECT
        }
        assert wrong == {}
        silent(side)
    finally:
        await side.stop()


async def test_arguments_of_other_types_are_invalid(alice: Side, prosody: Prosody) -> None:
    chat = await open_text(alice, prosody.jid("bob"))
    count = 0
    for path in (alice.connection, chat):
        methods, properties = await described(alice, path)
        for each in methods:
            for signature, body in (
                ("", []),
                ("ayv", [b"x", Variant("s", "x")]),
                (each.signature + "s", [*each.body(), "too much"]),
            ):
                if signature == each.signature:
                    continue
                got = await called(alice, path, each.interface, each.name, signature, *body)
                assert got == INVALID_ARGS, (each, signature)
                count += 1
        for (interface, name), kind in properties.items():
            wrong = Variant("(ss)", ["of", "another type"])
            got = await called(alice, path, PROPERTIES, "Set", "ssv", interface, name, wrong)
            writable = kind.startswith("readwrite")
            assert got == (INVALID_ARGS if writable else DBUS + "Error.PropertyReadOnly"), name
            count += 1
    assert count > 150
    assert await alice.get(alice.connection, CONNECTION, "Status") == 0
    silent(alice)


async def test_handles_of_nobody_are_invalid(alice: Side) -> None:
    methods, _ = await described(alice, alice.connection)
    asked = [each for each in methods if each.handles]
    assert len(asked) > 25
    wrong = {each.key: got for each in asked if (got := await answer(alice, alice.connection, each))
             != (OK if each.key in OMITS_INVALID else INVALID_HANDLE)}  # fmt: skip
    assert wrong == {}
    # Zero is never a handle, and of several one is enough.
    me = await alice.get(alice.connection, CONNECTION, "SelfHandle")
    for each in asked:
        if each.key in OMITS_INVALID:
            continue
        for name, signature in each.arguments:
            if name not in HANDLES or signature != "au":
                continue
            at = [key for key, _ in each.arguments].index(name)
            for handles in ([0], [me, NOBODY]):
                body = each.body()
                body[at] = handles
                got = await answer(alice, alice.connection, each, body)
                assert got == INVALID_HANDLE, (each, handles)
    # Nobody but contacts and rooms has handles: groups and lists of old have none here.
    for kind in (0, 3, 4, 5, NOBODY):
        got = await called(alice, alice.connection, CONNECTION, "InspectHandles", "uau", kind, [1])
        assert got in (INVALID_ARGUMENT, TP + "Error.NotImplemented"), kind
    silent(alice)


async def test_a_request_about_nobody_is_refused(alice: Side) -> None:
    for handle, kind, expected in (
        (NOBODY, 1, INVALID_HANDLE),
        (0, 1, INVALID_HANDLE),
        (1, 4, TP + "Error.NotImplemented"),
    ):
        request = {
            CHANNEL + ".ChannelType": Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": Variant("u", kind),
            CHANNEL + ".TargetHandle": Variant("u", handle),
        }
        for member in ("CreateChannel", "EnsureChannel"):
            got = await called(alice, alice.connection, REQUESTS, member, "a{sv}", request)
            assert got == expected, (handle, kind)


async def test_channels_of_others_and_of_the_past_are_unknown(
    alice: Side, prosody: Prosody
) -> None:
    """The bus does not let one connection manager's client reach the objects of another."""
    carol = await online(prosody, "carol")
    try:
        bob = prosody.jid("bob")
        mine, theirs = await open_text(alice, bob), await open_text(carol, bob)
        methods, _ = await described(alice, mine)
        assert {TEXT, MESSAGES, CHAT_STATE, CHANNEL} <= {each.interface for each in methods}
        gone = await open_text(alice, prosody.jid("carol"))
        await alice.cm(gone, CHANNEL, "Close")
        await alice.signal(lambda s: s.path == gone and s.member == "Closed")
        never = mine + "0"
        for path in (theirs, gone, never):
            for each in methods:
                assert await answer(alice, path, each) == UNKNOWN_OBJECT, (path, each)
        # Nor is a connection a channel, nor a channel a connection.
        of_connection, _ = await described(alice, alice.connection)
        for each in methods:
            assert await answer(alice, alice.connection, each) == UNKNOWN_INTERFACE, each
        for each in of_connection:
            assert await answer(alice, mine, each) == UNKNOWN_INTERFACE, each
        # Both chats are as they were.
        for side, path in ((alice, mine), (carol, theirs)):
            assert await side.get(path, CHANNEL, "TargetHandle") == await handle_of(side, bob)
            silent(side)
    finally:
        await carol.stop()


async def test_what_a_chat_cannot_do_is_said_by_name(alice: Side, prosody: Prosody) -> None:
    chat = await open_text(alice, prosody.jid("bob"))
    body = {"content-type": Variant("s", "text/plain"), "content": Variant("s", "x")}
    for interface, member, signature, arguments in (
        (TEXT, "AcknowledgePendingMessages", "au", [[NOBODY]]),
        (CHAT_STATE, "SetChatState", "u", [NOBODY]),
        # Gone is what the connection manager says when the channel is closed.
        (CHAT_STATE, "SetChatState", "u", [0]),
        (MESSAGES, "SendMessage", "aa{sv}u", [[], 0]),
        (MESSAGES, "SendMessage", "aa{sv}u", [[{}, {"content": Variant("u", 1)}], 0]),
        (MESSAGES, "SendMessage", "aa{sv}u", [[{"message-type": Variant("s", "x")}, body], 0]),
        # A delivery report is not for clients to send.
        (MESSAGES, "SendMessage", "aa{sv}u", [[{"message-type": Variant("u", 4)}, body], 0]),
    ):
        got = await called(alice, chat, interface, member, signature, *arguments)
        assert got == INVALID_ARGUMENT, (member, arguments)
    silent(alice)
