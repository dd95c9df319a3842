"""The server that misbehaves by switch: a real Prosody, and an attack that sees every stanza.

``mod_hostile`` takes what one user sends another out of Prosody and hands it to a controller in
this process; what the attack makes of it is delivered. Without an attack the server is an honest
one. An attack that wants sockets of its own (a relay) gets them in ``start``.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar
from xml.etree.ElementTree import Element, fromstring, tostring

from tests.hostile.stanzas import jingle
from tests.support.prosody import Prosody
from tests.support.waiting import PATIENCE

MODULES = Path(__file__).parent / "prosody"
WAIT = PATIENCE

# One stanza; mod_hostile has the same.
MAX_LENGTH = 1024 * 1024

T = TypeVar("T")


class Attack:
    """What a server does with stanzas: nothing, unless a subclass says otherwise."""

    server: HostileServer

    async def start(self, server: HostileServer) -> None:
        """The attack begins; ``server`` is there to inject into."""
        self.server = server

    async def stop(self) -> None:
        """The attack is over: let go of sockets and tasks."""

    def stanza(self, element: Element) -> list[Element]:
        """A stanza on its way; what is delivered in its place, in order. It may be changed."""
        return [element]


class Together(Attack):
    """Several attacks; each sees what the one before it lets through."""

    def __init__(self, *attacks: Attack) -> None:
        self.attacks = attacks

    async def start(self, server: HostileServer) -> None:
        await super().start(server)
        for attack in self.attacks:
            await attack.start(server)

    async def stop(self) -> None:
        for attack in self.attacks:
            await attack.stop()

    def stanza(self, element: Element) -> list[Element]:
        stanzas = [element]
        for attack in self.attacks:
            stanzas = [out for each in stanzas for out in attack.stanza(each)]
        return stanzas


class HostileServer:
    """A Prosody under control; ``await HostileServer.start(attack)`` and ``await stop()``.

    Attributes:
        prosody: the server; ``host``, ``port``, ``ca_file``, ``jid`` are its own.
        seen: every stanza as its sender sent it.
        delivered: every stanza as it was delivered, injected ones included.
        problems: what attacks raised; ``stop`` raises the first of them.
    """

    def __init__(self) -> None:
        self.seen: list[Element] = []
        self.delivered: list[Element] = []
        self.problems: list[BaseException] = []
        self.attack = Attack()
        self.prosody: Prosody
        self._news = asyncio.Event()
        self._listener: asyncio.Server
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    @classmethod
    async def start(
        cls,
        attack: Attack | None = None,
        *,
        kinds: Collection[str] = ("iq",),
        **options: Any,
    ) -> HostileServer:
        """Start controller and Prosody.

        Args:
            attack: the first one; ``use`` switches.
            kinds: what is taken, of ``iq``, ``message``, ``presence``.
            options: for ``Prosody.start``.
        """
        self = cls()
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        names = ", ".join(f"'{kind}'" for kind in sorted(kinds))
        settings = (
            f"modules_enabled = {{ 'hostile' }}\nhostile_port = {port}\n"
            f"hostile_kinds = {{ {names} }}\n"
        )
        try:
            self.prosody = await asyncio.to_thread(
                Prosody.start,
                module_directory=MODULES,
                settings=settings + options.pop("settings", ""),
                **options,
            )
        except BaseException:
            self._listener.close()
            raise
        async with asyncio.timeout(WAIT):
            await self._connected.wait()
        if attack is not None:
            await self.use(attack)
        return self

    async def use(self, attack: Attack) -> None:
        """From now on this attack, in place of the one before."""
        await self.attack.stop()
        await attack.start(self)
        self.attack = attack

    async def stop(self) -> None:
        """End it all, and raise what went wrong inside attacks."""
        await self.attack.stop()
        self._listener.close()
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await asyncio.to_thread(self.prosody.stop)
        if self.problems:
            raise self.problems[0]

    # -- what ``Pair`` needs of a server ----------------------------------------------------

    @property
    def host(self) -> str:
        return self.prosody.host

    @property
    def port(self) -> int:
        return self.prosody.port

    @property
    def ca_file(self) -> Path:
        return self.prosody.ca_file

    def jid(self, name: str) -> str:
        return self.prosody.jid(name)

    # -- the controller ---------------------------------------------------------------------

    def inject(self, stanza: Element) -> None:
        """Deliver a stanza to whom it is addressed, from whom it says."""
        self.delivered.append(copy.deepcopy(stanza))
        if self._writer is not None:
            text = tostring(stanza)
            self._writer.write(b"%d:%b," % (len(text), text))
        self._news.set()

    async def until(self, found: Callable[[], T | None]) -> T:
        """Wait until ``found`` returns something, asked after every stanza."""
        async with asyncio.timeout(WAIT):
            while (result := found()) is None:
                self._news.clear()
                await self._news.wait()
        return result

    def actions(self, stanzas: Iterable[Element] | None = None) -> list[str]:
        """The Jingle actions that were sent (or of these stanzas), in order."""
        found = [jingle(each) for each in (self.seen if stanzas is None else stanzas)]
        return [each.get("action", "") for each in found if each is not None]

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            writer.close()
            return
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader))
        self._connected.set()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                try:
                    length = int((await reader.readuntil(b":"))[:-1])
                    if length > MAX_LENGTH:
                        raise AssertionError("a stanza that long cannot be meant")
                    text = (await reader.readexactly(length + 1))[:-1]
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                self._take(fromstring(text.decode()))  # noqa: S314 - from our own Prosody
        except Exception as problem:  # told by stop()
            self.problems.append(problem)

    def _take(self, stanza: Element) -> None:
        self.seen.append(copy.deepcopy(stanza))
        try:
            stanzas = self.attack.stanza(stanza)
        except Exception as problem:  # told by stop(); other stanzas go on
            self.problems.append(problem)
            stanzas = []
        for each in stanzas:
            self.inject(each)
        self._news.set()
