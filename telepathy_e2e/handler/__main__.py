"""``telepathy-e2e-trust``: the trust handler as a program."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence

from telepathy_e2e import debug_log
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.handler.client import Handler
from telepathy_e2e.handler.memory import Memory
from telepathy_e2e.handler.store import Store, directory, settings_file
from telepathy_e2e.handler.wire import CLIENT_NAME, HandlerBus
from telepathy_e2e.tasks import TaskOwner

log = logging.getLogger(__name__)

OK, FAILED = 0, 1


async def run() -> int:
    """Until the bus goes, or somebody sends SIGTERM or SIGINT; returns the exit code."""
    bus = await HandlerBus.connect()
    if not isinstance(bus, HandlerBus):
        raise AssertionError("connect makes what it is called on")
    memory = Memory(Store(directory(os.environ)), settings_file(os.environ))
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    handler = Handler(bus, memory)
    tasks = TaskOwner("main")
    try:
        if not await handler.start():
            log.error("another program is %s already", CLIENT_NAME)
            return FAILED
        ends = {tasks.start("bus", bus.gone()), tasks.start("stop", stop.wait())}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await handler.close()
        await tasks.close()
        await bus.close()
    return OK


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="telepathy-e2e-trust",
        description="Remembers the keys of contacts, and answers 'is this really he?' with it.",
        epilog="TELEPATHY_E2E_DEBUG=all in the environment writes down everything that happens.",
    )
    parser.parse_args(arguments)
    debug_log.configure(os.environ.get("TELEPATHY_E2E_DEBUG", ""))
    try:
        return asyncio.run(run())
    except Exit as error:
        log.error("%s", error)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
