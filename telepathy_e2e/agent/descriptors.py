"""What callers pass through descriptors: passphrases and key files, bounded in size and time.

A secret in a D-Bus message would be in the memory of the bus and of whoever monitors it; in a
pipe only its two ends have it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from telepathy_e2e.errors import InvalidArgument, NotAvailable

# Seconds in which a caller has written, or read, everything. He has it before he calls.
PATIENCE: Final = 10.0

_BLOCK: Final = 16 * 1024


async def read_all(descriptor: int, limit: int) -> bytes:
    """All that comes until the end. The descriptor stays open.

    Args:
        limit: bytes.
    Raises:
        InvalidArgument: more than that, or it cannot be read.
        NotAvailable: the end did not come in time.
    """
    data = bytearray()
    _prepare(descriptor, os.O_RDONLY)
    try:
        async with asyncio.timeout(PATIENCE):
            while len(data) <= limit:
                await _ready(descriptor, writing=False)
                try:
                    block = os.read(descriptor, min(_BLOCK, limit + 1 - len(data)))
                except BlockingIOError:
                    continue
                if not block:
                    return bytes(data)
                data += block
    except TimeoutError:
        raise NotAvailable(f"Nothing ended the input within {PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise InvalidArgument(f"This cannot be read: {error.strerror}") from None
    raise InvalidArgument(f"More than {limit} bytes")


async def write_all(descriptor: int, data: bytes) -> None:
    """Write everything. The descriptor stays open.

    Raises:
        InvalidArgument: it cannot be written.
        NotAvailable: nobody reads.
    """
    left = memoryview(data)
    _prepare(descriptor, os.O_WRONLY)
    try:
        async with asyncio.timeout(PATIENCE):
            while left:
                await _ready(descriptor, writing=True)
                try:
                    left = left[os.write(descriptor, left) :]
                except BlockingIOError:
                    continue
    except TimeoutError:
        raise NotAvailable(f"Nobody read the output within {PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise InvalidArgument(f"This cannot be written: {error.strerror}") from None


def _prepare(descriptor: int, mode: int) -> None:
    # The wrong end of a pipe would never be ready.
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE not in (mode, os.O_RDWR):
        raise InvalidArgument("This descriptor is for the other direction")
    os.set_blocking(descriptor, False)


async def _ready(descriptor: int, *, writing: bool) -> None:
    """Wait for a pipe or a socket; a file is always ready."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def done() -> None:
        if not ready.done():
            ready.set_result(None)

    watch: Callable[..., None] = loop.add_writer if writing else loop.add_reader
    try:
        watch(descriptor, done)
    except PermissionError as error:
        if error.errno != errno.EPERM:  # pragma: no cover - the only one that epoll_ctl(2) has
            raise
        return
    try:
        await ready
    finally:
        (loop.remove_writer if writing else loop.remove_reader)(descriptor)
