"""The handler on the bus: finds every question of our connection manager, dispatched or not.

With Mission Control it is started for a question, by its filter. Without, it says to each
connection that there is somebody to ask. Either way it hears of questions from the connections
themselves, so that none is missed that was put before it came, or while it was away.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import DBUS, PROPERTIES, Signal
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.handler.asked import PV, Asked
from telepathy_e2e.handler.memory import Memory
from telepathy_e2e.handler.people import NOTIFICATIONS, People
from telepathy_e2e.handler.pins import Question
from telepathy_e2e.handler.wire import CLIENT_NAME, FILTER, HandlerBus
from telepathy_e2e.tasks import TaskOwner

log = logging.getLogger(__name__)

DISPATCHER: Final = names.TP + "ChannelDispatcher"
_CONNECTIONS: Final = names.CONNECTION_PREFIX.rstrip(".")
_BELOW: Final = "/" + _CONNECTIONS.replace(".", "/")

RULES: Final = (
    f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0namespace='{_CONNECTIONS}'",
    f"type='signal',interface='{names.REQUESTS}',path_namespace='{_BELOW}'",
    f"type='signal',interface='{PV}',path_namespace='{_BELOW}'",
    f"type='signal',interface='{PROPERTIES}',arg0='{PV}',path_namespace='{_BELOW}'",
    f"type='signal',interface='{PROPERTIES}',arg0='{names.SECURABLE}',path_namespace='{_BELOW}'",
    f"type='signal',interface='{NOTIFICATIONS}'",
)


class Handler:
    """See the module. ``start`` it; it works until ``close``."""

    def __init__(self, bus: HandlerBus, memory: Memory) -> None:
        self._bus = bus
        self._memory = memory
        self._people = People(bus)
        self._tasks = TaskOwner("trust")
        self._owners: dict[str, str] = {}
        self._asked: dict[str, Asked] = {}
        self._dispatched: set[str] = set()
        # By payload channel: what was verified there, until it closes.
        self._verified: dict[str, tuple[Question, str]] = {}
        bus.handle_channels = self._handle_channels
        bus.handled = lambda: sorted(self._dispatched)
        bus.on_signal = self._signal

    async def start(self) -> bool:
        """Be there; False if another program has the name already."""
        for rule in RULES:
            await self._bus.match(rule)
        if not await self._bus.own(CLIENT_NAME):
            return False
        for name in await self._bus.names():
            if name.startswith(names.CONNECTION_PREFIX):
                await self._look(name)
        log.info("ready, with %d connections", len(self._owners))
        return True

    async def close(self) -> None:
        """Go. Questions that are open stay open: nobody has answered them."""
        try:
            # A dispatcher starts us again when somebody is to be asked; nobody else does.
            if DISPATCHER not in await self._bus.names():
                for connection in list(self._owners):
                    await self._announce(connection, there=False)
        except Exit as error:
            log.info("leaving: %s", error)
        await self._tasks.close()

    # -- connections --------------------------------------------------------------------------

    async def _look(self, connection: str) -> None:
        """Say that we are there, and take the questions that are open."""
        try:
            self._owners[connection] = await self._bus.owner(connection)
            await self._announce(connection, there=True)
            path = "/" + connection.replace(".", "/")
            shown = await self._bus.get_all(connection, path, names.REQUESTS)
        except Exit as error:
            log.info("%s: %s", connection, error)
            return
        for channel, properties in shown.get("Channels", ()):
            if (asked := self._add(connection, channel, properties)) is not None:
                self._tasks.start("found", self._found(connection, asked))

    async def _found(self, connection: str, asked: Asked) -> None:
        try:
            shown = await self._bus.get_all(connection, asked.path, PV)
        except Exit as error:
            log.info("%s: %s", asked.path, error)
            return
        now = ("State", "StartedMethod", "ShortAuthenticationString")
        await asked.follow(*(str(shown.get(name, "")) for name in now))

    async def _announce(self, connection: str, *, there: bool) -> None:
        path = "/" + connection.replace(".", "/")
        filters = [FILTER] if there else []
        try:
            await self._bus.call(
                *(connection, path, names.CONTACT_CAPABILITIES, "UpdateCapabilities"),
                *("a(saa{sv}as)", [[CLIENT_NAME, filters, []]]),
            )
        except Exit as error:
            log.warning("%s does not know that somebody can be asked: %s", connection, error)

    def _handle_channels(self, connection_path: str, paths: list[str]) -> None:
        """A dispatcher hands channels over. What they are the connection tells, not the caller."""
        connection = connection_path.lstrip("/").replace("/", ".")
        if not connection.startswith(names.CONNECTION_PREFIX):
            return
        self._dispatched.update(p for p in paths if p.startswith(connection_path + "/"))
        if any(path not in self._asked for path in paths):
            self._tasks.start("look", self._look_again(connection))

    async def _look_again(self, connection: str) -> None:
        await self._look(connection)
        # Those that were answered before they were handed over.
        self._dispatched &= self._asked.keys()

    def _lost(self, connection: str) -> None:
        self._owners.pop(connection, None)
        below = "/" + connection.replace(".", "/") + "/"
        for path in [each for each in self._asked if each.startswith(below)]:
            self._closed(path)
        for path in [each for each in self._verified if each.startswith(below)]:
            del self._verified[path]

    # -- questions ----------------------------------------------------------------------------

    def _add(self, connection: str, path: str, properties: Mapping[str, Any]) -> Asked | None:
        """The question, if it is one and new."""
        if properties.get(names.CHANNEL + ".ChannelType") != PV or path in self._asked:
            return None
        asked = self._asked[path] = Asked(
            self._bus,
            self._memory,
            self._people,
            self._tasks.start,
            connection=connection,
            path=path,
            properties=properties,
        )
        return asked

    def _closed(self, path: str) -> None:
        self._dispatched.discard(path)
        self._verified.pop(path, None)
        if (asked := self._asked.pop(path, None)) is not None:
            self._tasks.start("closed", asked.closed())

    def _sender(self, sender: str, path: str) -> str | None:
        """The connection that this signal is from: anybody can send anything from any path."""
        for connection, owner in self._owners.items():
            own = "/" + connection.replace(".", "/")
            if owner == sender and (path == own or path.startswith(own + "/")):
                return connection
        return None

    def _signal(self, sender: str, signal: Signal) -> None:
        if signal.member == "NameOwnerChanged":
            if sender == DBUS:
                name, _, new = signal.args
                self._lost(name)
                if new:
                    self._tasks.start("look", self._look(name))
            return
        if signal.interface == NOTIFICATIONS:
            self._people.signal(sender, signal)
            return
        if (connection := self._sender(sender, signal.path)) is None:
            return
        match signal.interface, signal.member:
            case names.REQUESTS, "NewChannels":
                for path, properties in signal.args[0]:
                    if (asked := self._add(connection, path, properties)) is not None:
                        self._tasks.start("answer", asked.answer())
            case names.REQUESTS, "ChannelClosed":
                self._closed(signal.args[0])
            case (interface, "PropertiesChanged") if interface == PROPERTIES:
                self._changed(signal.path, *signal.args[:2])
            case _ if signal.interface == PV and (about := self._asked.get(signal.path)):
                self._told(about, signal)

    def _told(self, asked: Asked, signal: Signal) -> None:
        match signal.member:
            case "PeerStarted":
                asked.peer_started(str(signal.args[0]))
            case "CeremonyFailed":
                asked.ceremony_failed()
            case "Finished":
                state, method = signal.args
                if state == "verified":
                    self._verified[asked.payload] = asked.question, method
                self._tasks.start("finished", asked.finished(state, method))

    def _changed(self, path: str, interface: str, changed: Mapping[str, Any]) -> None:
        if interface == PV and path in self._asked:
            if "ShortAuthenticationString" in changed:
                self._asked[path].string_ready(str(changed["ShortAuthenticationString"]))
        elif changed.get("Verified") is False and path in self._verified:
            # The other user said no after ours had said yes: that no counts for both.
            question, method = self._verified.pop(path)
            self._tasks.start("no", self._memory.finished(question, "rejected", method))
