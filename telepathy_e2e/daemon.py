"""The one place where the parts are introduced to each other, and the life of the whole.

Whatever costs time or memory is imported with the first account, not at the start: the bus waits
for the answer to its first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from telepathy_e2e.bus import debug
from telepathy_e2e.bus.identifiers import MANAGER_NAME
from telepathy_e2e.bus.manager import Manager
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.wire import Bus, BusGone
from telepathy_e2e.debug_log import Ring
from telepathy_e2e.service import names
from telepathy_e2e.tasks import TaskOwner

if TYPE_CHECKING:
    from telepathy_e2e.bus.channels.table import ChannelClass
    from telepathy_e2e.service.connection import Connection
    from telepathy_e2e.verify.tries import ContactTries

log = logging.getLogger(__name__)

# Seconds without any connection after which nobody seems to need us; telepathy-glib's value.
IDLE_SECONDS: Final = 5.0

# Seconds in which servers and contacts are told that we leave. A session manager that sent
# SIGTERM waits about twice as long.
GOODBYE_SECONDS: Final = 5.0

# Descriptors for several tubes whose connections are all in use (tubes/limits.py).
DESCRIPTORS: Final = 8192

OK, FAILED = 0, 1


def roads(environment: Mapping[str, str]) -> frozenset[str]:
    """Which transports may be used, whoever offers them: to see, or measure, one of them.

    ``TELEPATHY_E2E_ROADS`` is a comma-separated list of ``direct``, ``proxy``, ``ice`` and
    ``in-band``; what it says beside these is ignored, and empty means all.
    """
    from telepathy_e2e.service.connection import ALL_ROADS

    return ALL_ROADS & set(environment.get("TELEPATHY_E2E_ROADS", "").split(",")) or ALL_ROADS


class Daemon:
    """Runs until the bus goes, somebody sends SIGTERM or SIGINT, or nobody needs it.

    Args:
        persist: stay without connections too.
        ring: the log, for the bus to show.
        idle_seconds: see ``IDLE_SECONDS``.
    """

    def __init__(
        self, bus: Bus, *, persist: bool, ring: Ring, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._bus = bus
        self._persist = persist
        self._idle_seconds = idle_seconds
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._tasks = TaskOwner("daemon")
        # One for all connections, so that logging in again does not give more tries.
        self._tries: ContactTries | None = None
        objects = Objects(bus)
        self.manager = Manager(
            bus,
            objects,
            make_connection=self._make_connection,
            channel_classes=_channel_classes,
            on_change=self._connections_changed,
        )
        self.manager.export()
        objects.export(debug.PATH, debug.DebugInterface(ring))
        bus.serve(objects)

    def stop(self) -> None:
        """End ``run``."""
        self._stop.set()

    async def run(self) -> int:
        """Own the name, and serve; returns the exit code."""
        try:
            if not await self._bus.request_name(MANAGER_NAME):
                log.error("another program is the connection manager %s already", MANAGER_NAME)
                return FAILED
            self._connections_changed()
            await self._wait()
        except BusGone:
            log.info("the bus went away")
        finally:
            await self._leave()
        return OK

    async def _wait(self) -> None:
        gone = self._tasks.start("bus", self._bus.wait_gone())
        stopped = self._tasks.start("stop", self._stop.wait())
        while True:
            idle = self._tasks.start("idle", self._idle.wait())
            await asyncio.wait({gone, stopped, idle}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or stopped.done() or await self._nobody_came():
                return

    async def _nobody_came(self) -> bool:
        """Give the name back; True unless somebody asked for a connection at this very moment."""
        await self._bus.give_up_name(MANAGER_NAME)
        if not self.manager.busy:
            return True
        await self._bus.request_name(MANAGER_NAME)
        return False

    def _connections_changed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        if not self._persist and not self.manager.busy:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._idle_seconds, self._idle.set)

    async def _leave(self) -> None:
        """End every session, so that nobody waits for us; but not for ever."""
        self._persist = True  # no timer any more
        self._connections_changed()
        goodbyes = [
            self._tasks.start("goodbye", each.disconnect()) for each in self.manager.connections
        ]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=GOODBYE_SECONDS)
        await self._bus.close()
        await self._tasks.close()

    def _make_connection(self, parameters: Mapping[str, Any], path: str) -> Connection:
        from telepathy_e2e.service.connection import Connection
        from telepathy_e2e.trust.agent_identities import AgentIdentities
        from telepathy_e2e.verify.tries import ContactTries

        if self._tries is None:
            self._tries = ContactTries()
        return Connection(
            parameters,
            object_path=path,
            identities=AgentIdentities(self._bus),
            roads=roads(os.environ),
            tries=self._tries,
            dispatcher=lambda: self._bus.has_owner(names.TP + "ChannelDispatcher"),
        )


def _channel_classes() -> list[ChannelClass]:
    from telepathy_e2e.service.capabilities import channel_classes

    return channel_classes()


def allow_descriptors() -> None:
    """As many as tubes need, if the host lets us: commonly 1,024 are allowed and more may be asked
    for, and a single tube may have as many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run(*, persist: bool, ring: Ring) -> int:
    """The whole program on the session bus; returns the exit code."""
    allow_descriptors()
    try:
        bus = await Bus.connect()
    except BusGone as error:
        log.error("%s", error)
        return FAILED
    daemon = Daemon(bus, persist=persist, ring=ring)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, daemon.stop)
    return await daemon.run()
