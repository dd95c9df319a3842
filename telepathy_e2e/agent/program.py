"""The life of the agent: on the bus when it is called, gone when nobody needs it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from telepathy_e2e.agent.asking import Asking
from telepathy_e2e.agent.interface import KeyAgent
from telepathy_e2e.agent.keyring import Keyring
from telepathy_e2e.agent.keys import Keys
from telepathy_e2e.agent.store import Store
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.wire import Bus, BusGone
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.agent_names import BUS_NAME, INTERFACE, PATH

log = logging.getLogger(__name__)

# Seconds without a call after which it leaves, if nothing is unlocked. Long enough for somebody
# who sends one file after the other: each start takes a third of a second.
IDLE_SECONDS: Final = 10.0

OK, FAILED = 0, 1


def directory(environment: Mapping[str, str]) -> Path:
    """Where identities are (XDG Base Directory Specification)."""
    home = environment.get("XDG_DATA_HOME", "")
    # "all paths must be absolute": a relative one would put the keys wherever we were started.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share"
    return base / "telepathy-e2e" / "identities"


class Program:
    """Runs until the bus goes, somebody sends SIGTERM or SIGINT, or nobody needs it.

    Args:
        keys: that it keeps.
        persist: stay when nobody needs it.
        idle_seconds: see ``IDLE_SECONDS``.
    """

    def __init__(
        self, bus: Bus, keys: Keys, *, persist: bool = False, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._bus = bus
        self._persist = persist
        self._idle_seconds = idle_seconds
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._tasks = TaskOwner("agent")
        objects = Objects(bus)
        self._agent = KeyAgent(
            keys,
            confirm=Asking(bus).confirm,
            keyring=Keyring(bus),
            changed=lambda names: objects.changed(PATH, INTERFACE, names),
            idle_changed=self._set_timer,
        )
        objects.export(PATH, self._agent)
        bus.serve(objects)

    def stop(self) -> None:
        """End ``run``."""
        self._stop.set()

    async def run(self) -> int:
        """Own the name, and serve; returns the exit code."""
        try:
            if not await self._bus.request_name(BUS_NAME):
                log.error("another program is the key agent already")
                return FAILED
            self._set_timer()
            await self._wait()
        except BusGone:
            log.info("the bus went away")
        finally:
            self._persist = True  # no timer any more
            self._set_timer()
            await self._bus.close()
            await self._tasks.close()
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
        """Give the name back; True unless somebody called at this very moment."""
        await self._bus.give_up_name(BUS_NAME)
        if not self._agent.busy:
            return True
        await self._bus.request_name(BUS_NAME)
        self._set_timer()
        return False

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        if not self._persist and not self._agent.busy:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._idle_seconds, self._idle.set)


async def run(*, persist: bool) -> int:
    """The whole program on the session bus; returns the exit code."""
    try:
        bus = await Bus.connect(descriptors=True)
    except BusGone as error:
        log.error("%s", error)
        return FAILED
    program = Program(bus, Keys(Store(directory(os.environ))), persist=persist)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, program.stop)
    return await program.run()
