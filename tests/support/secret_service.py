"""A desktop's keyring in a test: the Secret Service API, 0.2 draft, to the letter, with faults."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from telepathy_e2e.agent.secret_session import ALGORITHM, Exchange, SecretCipher
from tests.support.waiting import PATIENCE

NAME = "org.freedesktop.secrets"
PATH = "/org/freedesktop/secrets"
SECRET = "org.freedesktop.Secret."
DEFAULT = PATH + "/collection/login"
UNKNOWN = "org.freedesktop.DBus.Error.UnknownMethod"


class Refused(Exception):
    """An error reply of this name."""


@dataclass
class Item:
    attributes: dict[str, str]
    label: str
    secret: bytes


@dataclass
class FakeService:
    """See ``secret_service``.

    Args:
        locked: the default collection is.
        prompts: whether it asks the person, or (False) leaves what is locked locked.
        answer: what the person does with a prompt: "unlock", "dismiss", or "": nothing.
        default: whether there is a default collection.
        silent: methods that are never answered.
        dies: at which method it leaves the bus.
        corrupt: gives another secret back than it was given.
    """

    bus: MessageBus
    locked: bool = False
    prompts: bool = True
    answer: str = "unlock"
    default: bool = True
    silent: frozenset[str] = frozenset()
    dies: str = ""
    corrupt: bool = False
    nonsense: bool = False
    items: dict[str, Item] = field(default_factory=dict)
    sessions: dict[str, tuple[str, SecretCipher]] = field(default_factory=dict)
    """By path: whose it is, and its cipher."""
    prompted: list[str] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    _waiting: dict[str, list[str]] = field(default_factory=dict)
    _count: int = 0

    def received(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL or not str(
            message.interface
        ).startswith(SECRET):
            return False
        member = str(message.member)
        if member == self.dies:
            self.bus.disconnect()
            return True
        if member in self.silent:
            return True
        call = getattr(self, f"_{message.interface.removeprefix(SECRET)}_{member}".lower(), None)  # type: ignore[union-attr]
        try:
            if call is None:
                raise Refused(UNKNOWN)
            signature, body = call(message)
        except Refused as error:
            return Message.new_error(message, str(error), "no")
        return Message.new_method_return(message, signature, body)

    # -- org.freedesktop.Secret.Service ---------------------------------------------------------

    def _service_opensession(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, PATH, "sv")
        algorithm, given = message.body
        if algorithm != ALGORITHM or given.signature != "ay":
            raise Refused("org.freedesktop.DBus.Error.NotSupported")
        exchange, path = Exchange(), self._new("session")
        self.sessions[path] = (message.sender or "", exchange.finish(given.value))
        share = b"\x01" if self.nonsense else exchange.share
        return "vo", [Variant("ay", share), path]

    def _service_searchitems(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, PATH, "a{ss}")
        (wanted,) = message.body
        found = [
            path for path, item in self.items.items() if wanted.items() <= item.attributes.items()
        ]
        return "aoao", [[], found] if self.locked else [found, []]

    def _service_readalias(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, PATH, "s")
        return "o", [DEFAULT if message.body == ["default"] and self.default else "/"]

    def _service_unlock(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, PATH, "ao")
        (objects,) = message.body
        assert all(each == DEFAULT or each in self.items for each in objects)
        if not self.locked:
            return "aoo", [objects, "/"]
        if not self.prompts:
            return "aoo", [[], "/"]
        prompt = self._new("prompt")
        self._waiting[prompt] = objects
        return "aoo", [[], prompt]

    # -- collections and items ------------------------------------------------------------------

    def _collection_createitem(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, DEFAULT, "a{sv}(oayays)b")
        properties, (session, vector, data, _), replace = message.body
        if self.locked:
            raise Refused(SECRET + "Error.IsLocked")
        attributes = properties[SECRET + "Item.Attributes"]
        label = properties[SECRET + "Item.Label"]
        assert (attributes.signature, label.signature) == ("a{ss}", "s")
        same = [path for path, i in self.items.items() if i.attributes == attributes.value]
        path = same[0] if same and replace else self._new("collection/login")
        secret = self._cipher(message, session).decrypt(vector, data)
        self.items[path] = Item(attributes.value, label.value, secret)
        return "oo", [path, "/"]

    def _item_getsecret(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, message.path, "o")
        item = self._item(message)
        if self.locked:
            raise Refused(SECRET + "Error.IsLocked")
        (session,) = message.body
        secret = secrets.token_bytes(9) if self.corrupt else item.secret
        return "(oayays)", [
            [session, *self._cipher(message, session).encrypt(secret), "text/plain"]
        ]

    def _item_delete(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, message.path, "")
        self._item(message)
        del self.items[str(message.path)]
        return "o", ["/"]

    # -- prompts and sessions -------------------------------------------------------------------

    def _prompt_prompt(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, message.path, "s")
        path = str(message.path)
        if path not in self._waiting:
            raise Refused(SECRET + "Error.NoSuchObject")
        self.prompted.append(path)
        if self.answer:
            asyncio.get_running_loop().call_soon(self.complete, path, self.answer == "dismiss")
        return "", []

    def complete(self, path: str, dismissed: bool) -> None:
        """The person has answered."""
        objects = self._waiting.pop(path)
        self.locked = self.locked and dismissed
        told = Variant("ao", [] if dismissed else objects)
        self.bus.send(
            Message.new_signal(path, SECRET + "Prompt", "Completed", "bv", [dismissed, told])
        )

    def _prompt_dismiss(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, message.path, "")
        self.dismissed.append(str(message.path))
        self.complete(str(message.path), True)
        return "", []

    def _session_close(self, message: Message) -> tuple[str, list[Any]]:
        self._check(message, message.path, "")
        self._cipher(message, str(message.path))
        del self.sessions[str(message.path)]
        return "", []

    # -- rules ----------------------------------------------------------------------------------

    def _check(self, message: Message, path: str | None, signature: str) -> None:
        if message.path != path:
            raise Refused(SECRET + "Error.NoSuchObject")
        if message.signature != signature:
            raise Refused("org.freedesktop.DBus.Error.InvalidArgs")

    def _item(self, message: Message) -> Item:
        if message.path not in self.items:
            raise Refused(SECRET + "Error.NoSuchObject")
        return self.items[message.path]

    def _cipher(self, message: Message, session: str) -> SecretCipher:
        owner, cipher = self.sessions.get(session, ("", None))
        if cipher is None or owner != message.sender:
            raise Refused(SECRET + "Error.NoSession")
        return cipher

    def _new(self, kind: str) -> str:
        self._count += 1
        return f"{PATH}/{kind}/{self._count}"


@asynccontextmanager
async def secret_service(address: str, **more: Any) -> AsyncIterator[FakeService]:
    """Keeps secrets on that bus for as long as the block runs.

    Args:
        more: of ``FakeService``.
    """
    bus = await MessageBus(address, bus_type=BusType.SESSION).connect()
    service = FakeService(bus, **more)
    bus.add_message_handler(service.received)
    await bus.request_name(NAME)
    try:
        yield service
    finally:
        bus.disconnect()
        with suppress(EOFError, OSError):  # it may be dead already
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


# -- a real one -----------------------------------------------------------------------------------


def gnome_keyring() -> bool:
    """Whether gnome-keyring is installed."""
    return shutil.which("gnome-keyring-daemon") is not None


@asynccontextmanager
async def real_service(address: str, home: Path) -> AsyncIterator[None]:
    """gnome-keyring with an unlocked default keyring on that bus; its files are under ``home``."""
    home.mkdir(mode=0o700, exist_ok=True)
    process = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            "PATH": "/usr/bin:/bin",
            "DBUS_SESSION_BUS_ADDRESS": address,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
        },
    )
    assert process.stdin is not None
    process.stdin.write(b"the desktop's password")
    process.stdin.close()
    bus = await MessageBus(address, bus_type=BusType.SESSION).connect()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                reply = await bus.call(
                    Message(
                        destination="org.freedesktop.DBus",
                        path="/org/freedesktop/DBus",
                        interface="org.freedesktop.DBus",
                        member="NameHasOwner",
                        signature="s",
                        body=[NAME],
                    )
                )
                if reply is not None and reply.body == [True]:
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
