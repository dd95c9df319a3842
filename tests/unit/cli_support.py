"""A small connection manager on a private bus, for tests of tpe2e: every answer is scripted.

It knows no XMPP and protects nothing; what it has is the D-Bus side of the contract, so that a test
can play any story of it, above all those that the real daemon never tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from telepathy_e2e.cli import names
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.cli.main import build_parser, execute
from telepathy_e2e.cli.output import JsonOutput

FT = names.FILE_TRANSFER
PV = names.PEER_VERIFICATION
ALICE = "alice@example.org"
BOB = "bob@example.org"
PEER_FINGERPRINT = ":".join(["AB"] * 32)
OWN_FINGERPRINT = ":".join(["12"] * 32)

# Long enough for two processes on a busy machine; a test that waits for it has failed.
PATIENCE = 60.0

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir={directory}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
</policy></busconfig>"""


@contextlib.contextmanager
def private_bus() -> Iterator[str]:
    """A dbus-daemon of our own that knows no services; its address."""
    with tempfile.TemporaryDirectory(prefix="tpe2e-bus-") as directory:
        config = Path(directory) / "bus.conf"
        config.write_text(BUS_CONFIG.format(directory=directory))
        with subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"],
            stdout=subprocess.PIPE,
        ) as daemon:
            try:
                assert daemon.stdout is not None
                yield daemon.stdout.readline().decode().strip()
            finally:
                daemon.terminate()


class FakeError(Exception):
    """Answer the call with this error."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(name)
        self.name = name
        self.text = text


Handler = Callable[[str, list[Any]], Awaitable[tuple[str, list[Any]]]]


class FakeCM:
    """The daemon's place on the bus. Set ``handlers["Member"]`` to change an answer."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.calls: list[tuple[str, str, list[Any]]] = []
        self.properties: dict[tuple[str, str], dict[str, Variant]] = {}
        self.channels: dict[str, dict[str, Variant]] = {}
        self.connection = ""
        self.handlers: dict[str, Handler] = {}
        self.announced: dict[str, list[str]] = {}
        self.client = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        self._called = asyncio.Event()
        self._sockets: list[FakeSocket] = []
        bus.add_message_handler(self._message)

    def start(self, story: Coroutine[Any, Any, None]) -> None:
        """Play a story beside the calls; it ends with the test."""
        task = asyncio.get_running_loop().create_task(story)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def socket(self, directory: Path) -> FakeSocket:
        """A socket for ProvideFile or AcceptFile; it ends with the test."""
        self._sockets.append(FakeSocket(directory))
        return self._sockets[-1]

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._sockets:
            each.close()

    # -- objects ------------------------------------------------------------------------------

    async def add_connection(self, account: str = ALICE, status: int = names.CONNECTED) -> str:
        name = names.CONNECTION_PREFIX + "jabber." + account.replace("@", "_").replace(".", "_")
        path = "/" + name.replace(".", "/")
        self.properties[path, names.CONNECTION] = {
            "Status": Variant("u", status),
            "SelfID": Variant("s", account),
            "SelfHandle": Variant("u", 1),
            "Interfaces": Variant("as", [names.REQUESTS]),
        }
        self.properties[path, names.REQUESTS] = {"Channels": Variant("a(oa{sv})", [])}
        await self.bus.request_name(name)
        self.connection = path
        return path

    def add_transfer(self, *, requested: bool, announce: bool = True, **values: Variant) -> str:
        self._number += 1
        path = f"{self.connection}/FileTransfer{self._number}"
        immutable = {
            names.CHANNEL + ".ChannelType": Variant("s", FT),
            names.CHANNEL + ".TargetHandleType": Variant("u", 1),
            names.CHANNEL + ".TargetHandle": Variant("u", 2),
            names.CHANNEL + ".TargetID": Variant("s", BOB),
            names.CHANNEL + ".Requested": Variant("b", requested),
        }
        self.properties[path, FT] = {
            "State": Variant("u", names.PENDING),
            "Filename": Variant("s", "notes.txt"),
            "Size": Variant("t", 5),
            "ContentHashType": Variant("u", 0),
            "ContentHash": Variant("s", ""),
            "Description": Variant("s", ""),
            "Date": Variant("x", 0),
            "AvailableSocketTypes": Variant("a{uau}", {0: [0], 2: [0]}),
            "TransferredBytes": Variant("t", 0),
            "InitialOffset": Variant("t", 0),
            **values,
        }
        self.properties[path, names.SECURABLE] = {
            "Encrypted": Variant("b", False),
            "Verified": Variant("b", False),
        }
        self.properties[path, names.SECURITY] = {
            "VerifiedBy": Variant("s", ""),
            "VerificationChannel": Variant("o", "/"),
            "CipherSuite": Variant("s", ""),
            "PeerFingerprints": Variant("a{ss}", {}),
            "OwnFingerprints": Variant("a{ss}", {}),
        }
        self.add_channel(path, immutable, announce=announce)
        return path

    def add_call(
        self,
        *,
        requested: bool,
        announce: bool = True,
        state: names.CallState | None = None,
        contact: str = BOB,
        video: bool = False,
    ) -> str:
        """A call; incoming ones ring already, ours were not accepted yet."""
        self._number += 1
        path = f"{self.connection}/Call{self._number}"
        first = names.CallState.PENDING_INITIATOR if requested else names.CallState.INITIALISED
        immutable = {
            names.CHANNEL + ".ChannelType": Variant("s", names.CALL),
            names.CHANNEL + ".TargetHandleType": Variant("u", 1),
            names.CHANNEL + ".TargetHandle": Variant("u", 2),
            names.CHANNEL + ".TargetID": Variant("s", contact),
            names.CHANNEL + ".Requested": Variant("b", requested),
            names.CALL + ".InitialVideo": Variant("b", video),
        }
        self.properties[path, names.CALL] = {
            "CallState": Variant("u", first if state is None else state),
            "CallFlags": Variant("u", 0),
            "CallStateReason": Variant("(uuss)", [0, 0, "", ""]),
            "CallStateDetails": Variant("a{sv}", {}),
            "CallMembers": Variant("a{uu}", {2: 0}),
            "InitialVideo": Variant("b", video),
        }
        self.properties[path, names.CALL_MEDIA] = {
            name: Variant("s", "pulse")
            for name in ("AudioSource", "AudioSink", "VideoSource", "VideoSink")
        }
        self.properties[path + "/Content1", names.CALL_CONTENT] = {
            "Type": Variant("u", names.AUDIO),
            "Name": Variant("s", "audio"),
        }
        self.properties[path, names.SECURABLE] = {
            "Encrypted": Variant("b", False),
            "Verified": Variant("b", False),
        }
        self.properties[path, names.SECURITY] = {
            "VerifiedBy": Variant("s", ""),
            "CipherSuite": Variant("s", ""),
            "Protocol": Variant("s", "dtls-srtp"),
            "PeerFingerprints": Variant("a{ss}", {}),
            "OwnFingerprints": Variant("a{ss}", {}),
        }
        self.add_channel(path, immutable, announce=announce)
        return path

    def add_tube(
        self,
        *,
        requested: bool,
        announce: bool = True,
        service: str = "http",
        contact: str = BOB,
        dbus: bool = False,
        parameters: dict[str, Variant] | None = None,
    ) -> str:
        """A tube; incoming ones wait for an answer, ours were not offered yet."""
        self._number += 1
        path = f"{self.connection}/Tube{self._number}"
        kind = names.DBUS_TUBE if dbus else names.STREAM_TUBE
        named = {
            f"{kind}.{'ServiceName' if dbus else 'Service'}": Variant("s", service),
        }
        immutable = {
            names.CHANNEL + ".ChannelType": Variant("s", kind),
            names.CHANNEL + ".TargetHandleType": Variant("u", 1),
            names.CHANNEL + ".TargetHandle": Variant("u", 2),
            names.CHANNEL + ".TargetID": Variant("s", contact),
            names.CHANNEL + ".Requested": Variant("b", requested),
            **named,
        }
        sockets = Variant("a{uau}", {0: [0, 3], 1: [0, 3], 2: [0, 1], 3: [0, 1]})
        self.properties[path, kind] = (
            {"SupportedAccessControls": Variant("au", [0, 3])}
            if dbus
            else {"SupportedSocketTypes": sockets}
        )
        first = names.TubeState.NOT_OFFERED if requested else names.TubeState.LOCAL_PENDING
        self.properties[path, names.TUBE] = {
            "State": Variant("u", first),
            "Parameters": Variant("a{sv}", parameters or {}),
        }
        self.properties[path, names.SECURABLE] = {
            "Encrypted": Variant("b", False),
            "Verified": Variant("b", False),
        }
        self.properties[path, names.SECURITY] = {
            "VerifiedBy": Variant("s", ""),
            "CipherSuite": Variant("s", ""),
            "Protocol": Variant("s", "xtls"),
            "PeerFingerprints": Variant("a{ss}", {}),
            "OwnFingerprints": Variant("a{ss}", {}),
            "Error": Variant("s", ""),
            "ErrorMessage": Variant("s", ""),
        }
        self.add_channel(path, immutable, announce=announce)
        return path

    def tube_state(self, path: str, state: int) -> None:
        self.properties[path, names.TUBE]["State"] = Variant("u", state)
        self.emit(path, names.TUBE, "TubeChannelStateChanged", "u", int(state))

    def tube_ends(self, path: str, error: str, message: str = "") -> None:
        """Why, and that it is gone."""
        self.set(
            path,
            names.SECURITY,
            Error=Variant("s", names.TP + "Error." + error),
            ErrorMessage=Variant("s", message),
        )
        self.close(path)

    def call_state(
        self,
        path: str,
        state: names.CallState,
        reason: tuple[int, int, str, str] = (0, 1, "", ""),
        *,
        flags: int = 0,
        **details: str,
    ) -> None:
        """CallStateChanged; ``reason`` is of (actor, reason, error, message), 1 is Alice."""
        shown = {name.replace("_", "-"): Variant("s", text) for name, text in details.items()}
        self.properties[path, names.CALL].update(
            CallState=Variant("u", state),
            CallFlags=Variant("u", flags),
            CallStateReason=Variant("(uuss)", list(reason)),
            CallStateDetails=Variant("a{sv}", shown),
        )
        signature = "uu(uuss)a{sv}"
        body = (int(state), flags, list(reason), shown)
        self.emit(path, names.CALL, "CallStateChanged", signature, *body)

    def call_member(self, path: str, flags: int) -> None:
        """CallMembersChanged: Call_Member_Flags of the contact."""
        self.emit(
            path,
            names.CALL,
            "CallMembersChanged",
            "a{uu}a{us}au(uuss)",
            {2: flags},
            {2: BOB},
            [],
            [2, 1, "", ""],
        )

    def add_question(
        self,
        payload: str,
        *,
        methods: tuple[str, ...] = ("fingerprint", "sas"),
        encrypted: bool = True,
        reason: str = "requested",
    ) -> str:
        self._number += 1
        path = f"{self.connection}/PeerVerification{self._number}"
        self.properties[path, PV] = {
            "PayloadChannel": Variant("o", payload),
            "PeerCertificate": Variant("o", path + "/cert" if encrypted else "/"),
            "PeerFingerprints": Variant(
                "a{ss}", {"sha-256": PEER_FINGERPRINT} if encrypted else {}
            ),
            "OwnFingerprints": Variant("a{ss}", {"sha-256": OWN_FINGERPRINT} if encrypted else {}),
            "Methods": Variant("as", list(methods)),
            "Attestations": Variant("a(ssay)", []),
            "Reason": Variant("s", reason),
            "State": Variant("s", "pending"),
            "ShortAuthenticationString": Variant("s", ""),
        }
        immutable = {
            names.CHANNEL + ".ChannelType": Variant("s", PV),
            names.CHANNEL + ".TargetHandleType": Variant("u", 1),
            names.CHANNEL + ".TargetID": Variant("s", BOB),
            names.CHANNEL + ".Requested": Variant("b", False),
            PV + ".PayloadChannel": Variant("o", payload),
        }
        self.add_channel(path, immutable)
        return path

    def add_channel(
        self, path: str, immutable: dict[str, Variant], *, announce: bool = True
    ) -> None:
        self.channels[path] = immutable
        self.properties[self.connection, names.REQUESTS]["Channels"] = Variant(
            "a(oa{sv})", [[path, values] for path, values in self.channels.items()]
        )
        if announce:
            self.announce(path)

    def announce(self, path: str) -> None:
        self.emit(
            self.connection,
            names.REQUESTS,
            "NewChannels",
            "a(oa{sv})",
            [[path, self.channels[path]]],
        )

    def set(self, path: str, interface: str, **values: Variant) -> None:
        self.properties[path, interface].update(values)
        self.emit(
            path,
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            "sa{sv}as",
            interface,
            values,
            [],
        )

    def state(self, path: str, state: int, reason: int = 0) -> None:
        self.properties[path, FT]["State"] = Variant("u", state)
        self.emit(path, FT, "FileTransferStateChanged", "uu", state, reason)

    def encrypt(self, path: str) -> None:
        self.set(
            path,
            names.SECURITY,
            CipherSuite=Variant("s", "TLS_AES_256_GCM_SHA384"),
            PeerFingerprints=Variant("a{ss}", {"sha-256": PEER_FINGERPRINT}),
            OwnFingerprints=Variant("a{ss}", {"sha-256": OWN_FINGERPRINT}),
        )
        self.set(path, names.SECURABLE, Encrypted=Variant("b", True))

    def verified(self, path: str, by: str = "sas") -> None:
        self.set(path, names.SECURITY, VerifiedBy=Variant("s", by))
        self.set(path, names.SECURABLE, Verified=Variant("b", True))

    def finish_question(self, path: str, state: str, method: str = "") -> None:
        self.emit(path, PV, "Finished", "ss", state, method)
        if state != "unverified":
            self.close(path)

    def close(self, path: str) -> None:
        self.channels.pop(path, None)
        self.emit(path, names.CHANNEL, "Closed", "")
        self.emit(self.connection, names.REQUESTS, "ChannelClosed", "o", path)

    def emit(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        self.bus.send(Message.new_signal(path, interface, member, signature, list(body)))

    # -- calls --------------------------------------------------------------------------------

    async def called(self, member: str) -> list[Any]:
        """Wait until a client called ``member``; the arguments of the last call."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for _, name, body in reversed(self.calls):
                    if name == member:
                        return list(body)
                self._called.clear()
                await self._called.wait()

    def members(self) -> list[str]:
        return [member for _, member, _ in self.calls]

    def _message(self, message: Message) -> bool:
        ours = message.path is not None and message.path.startswith("/org/freedesktop/Telepathy")
        if message.message_type is not MessageType.METHOD_CALL or not ours:
            return False
        self.start(self._answer(message))
        return True

    async def _answer(self, message: Message) -> None:
        path, member, body = message.path or "", message.member or "", message.body
        try:
            if member == "GetAll":
                reply = Message.new_method_return(
                    message, "a{sv}", [self._get_all(path, str(body[0]))]
                )
            else:
                self.calls.append((path, member, body))
                self.client = message.sender or ""
                handler = self.handlers.get(member, self._default)
                signature, out = await handler(path, [member, *body])
                reply = Message.new_method_return(message, signature, out)
        except FakeError as error:
            reply = Message.new_error(message, error.name, error.text)
        self.bus.send(reply)
        self._called.set()

    def _get_all(self, path: str, interface: str) -> dict[str, Variant]:
        try:
            return self.properties[path, interface]
        except KeyError:
            raise FakeError("org.freedesktop.DBus.Error.UnknownInterface") from None

    async def _default(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        match call:
            case ["GetParameters", _]:
                return "a(susv)", [
                    [
                        ["account", 1, "s", Variant("s", "")],
                        ["password", 8, "s", Variant("s", "")],
                        ["server", 0, "s", Variant("s", "")],
                        ["port", 4, "q", Variant("q", 5222)],
                        ["ca-file", 0, "s", Variant("s", "")],
                        ["resource", 0, "s", Variant("s", "")],
                        ["e2e-policy", 4, "s", Variant("s", "opportunistic")],
                        ["e2e-always-verify", 4, "b", Variant("b", False)],
                    ]
                ]
            case ["RequestConnection", _, parameters]:
                path = await self.add_connection(parameters["account"].value, names.DISCONNECTED)
                return "so", [path[1:].replace("/", "."), path]
            case ["Connect"]:
                self.properties[path, names.CONNECTION]["Status"] = Variant("u", 0)
                self.emit(path, names.CONNECTION, "StatusChanged", "uu", 0, 1)
            case ["Disconnect"]:
                self.emit(path, names.CONNECTION, "StatusChanged", "uu", 2, 1)
                await self.bus.release_name(path[1:].replace("/", "."))
            case ["UpdateCapabilities", clients]:
                for client, classes, _ in clients:
                    self.announced[client] = [
                        each[names.CHANNEL + ".ChannelType"].value for each in classes
                    ]
            case ["Verify"]:
                if path not in self.channels:
                    raise FakeError(names.TP + "Error.Cancelled", "It is over")
                return "o", ["/"]
            case ["Close"]:
                self.close(path)
            case ["GetContactListAttributes", *_]:
                raise FakeError("org.freedesktop.DBus.Error.UnknownMethod")
            case ["GetContactAttributes", handles, *_]:
                return "a{ua{sv}}", [{handle: self.contact() for handle in handles if handle == 2}]
        return "", []

    @staticmethod
    def contact() -> dict[str, Variant]:
        return {
            names.CONNECTION + "/contact-id": Variant("s", BOB),
            names.SIMPLE_PRESENCE + "/presence": Variant(
                "(uss)", [2, "available", "\x1b[2Jat work"]
            ),
            names.CONTACT_CAPABILITIES + "/capabilities": Variant(
                "a(a{sv}as)", [[{names.CHANNEL + ".ChannelType": Variant("s", FT)}, []]]
            ),
        }


class FakeSocket:
    """The unix socket that ProvideFile or AcceptFile returns."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / f"socket{os.urandom(4).hex()}")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.setblocking(False)

    @property
    def reply(self) -> tuple[str, list[Any]]:
        return "v", [Variant("ay", self.path.encode())]

    def close(self) -> None:
        self._listener.close()

    async def take(self) -> bytes:
        """What the client sends, until it has no more."""
        reader, writer = await self.accept()
        data = await reader.read()
        writer.close()
        return data

    async def give(self, data: bytes) -> None:
        """Send to the client, then end."""
        _, writer = await self.accept()
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(PATIENCE):
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        self._listener.close()
        return await asyncio.open_unix_connection(sock=sock)


class Person(JsonOutput):
    """Somebody at a terminal: answers questions by the words they contain, keeps the events."""

    can_ask = True

    def __init__(self, **answers: str) -> None:
        self.stream = io.StringIO()
        super().__init__(self.stream)
        self.answers = answers
        self.asked: list[str] = []
        self.decide: Callable[[str, dict[str, str]], Awaitable[str]] | None = None
        self.shown: list[str] = []
        self.secrets: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)

    async def ask(self, question: str, choices: dict[str, str], default: str = "") -> str:
        self.asked.append(question)
        if self.decide is not None:
            return await self.decide(question, choices)
        for words, answer in self.answers.items():
            if words.replace("_", " ") in question:
                assert answer in choices, (answer, choices)
                return answer
        await asyncio.Event().wait()  # never answers
        raise AssertionError

    async def ask_secret(self, question: str) -> str:
        self.asked.append(question)
        return self.secrets.pop(0)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def event(self, name: str) -> dict[str, Any]:
        found = [event for event in self.events if event["event"] == name]
        assert found, f"no {name} among {[event['event'] for event in self.events]}"
        return found[-1]

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


class Robot(Person):
    """A script: --json, nobody to ask."""

    can_ask = False

    async def ask(self, question: str, choices: dict[str, str], default: str = "") -> str:
        raise AssertionError(f"asked: {question}")

    async def ask_secret(self, question: str) -> str:
        raise AssertionError(f"asked: {question}")


async def tpe2e(output: Person, *words: str) -> int:
    """Run a command as ``main`` does; the exit code."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await execute(build_parser().parse_args(list(words)), output)
    except Exit as error:
        output.fail(error)
        return error.code


@pytest.fixture(scope="module")
def bus_address() -> Iterator[str]:
    """One bus for all tests of a file; what they own on it goes with them."""
    with private_bus() as address:
        yield address


@pytest.fixture
async def cm(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeCM]:
    """The connection manager, without a connection."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_address)
    async with fake_cm(bus_address) as manager:
        yield manager


@contextlib.asynccontextmanager
async def fake_cm(address: str) -> AsyncIterator[FakeCM]:
    bus = await MessageBus(bus_address=address).connect()
    try:
        await bus.request_name(names.CM_NAME)
        manager = FakeCM(bus)
        yield manager
        await manager.end()
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
