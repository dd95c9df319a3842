"""A server full of people: thousands of contacts with pictures, and rooms with hundreds in them."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from tests.support.prosody import Prosody

MODULES = Path(__file__).parents[1] / "hostile" / "prosody"
CONTACTS = 2_000
ROOMS = 50
MEMBERS = 200
# Seconds between reads: a client that does nothing but read is no client.
GAP = 0.001


def start(contacts: int = CONTACTS, members: int = MEMBERS, *, encryption: bool = True) -> Prosody:
    """A server whose account "popular" has so many contacts; all of them are online.

    Args:
        members: of each room of ``rooms``, whoever enters included.
    """
    server = Prosody.start(
        accounts=("popular",),
        encryption=encryption,
        module_directory=MODULES,
        settings=(
            "modules_enabled = { 'crowd' }\n"
            f"crowd_picture = '{base64.b64encode(picture()).decode()}'\n"
            f"Component 'rooms.example.test' 'crowd'\ncrowd_size = {members}\n"
        ),
    )
    server.set_roster(
        "popular",
        {f"friend{number}@example.test": f"Friend {number}" for number in range(contacts)},
    )
    return server


def room(number: int) -> str:
    """The address of a room; each that is entered is there."""
    return f"room{number}@rooms.example.test"


def picture() -> bytes:
    """A PNG of some kilobytes, as avatars are."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(
        b"\0" + bytes((x * x * y + 7 * x) % 251 for x in range(3 * 48)) for y in range(48)
    )
    header = struct.pack(">IIBBBBB", 48, 48, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# -- how long a read takes, seen by another process ---------------------------------------------


class Reads:
    """What the reader saw, once the block is over: seconds of each read, in order."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def percentile(self, which: float) -> float:
        """In milliseconds."""
        return sorted(self.seconds)[int(len(self.seconds) * which)] * 1000

    def shown(self) -> str:
        """The middle, and what one in a hundred waited."""
        return f"{self.percentile(0.5):.1f} / {self.percentile(0.99):.1f} ms"


@asynccontextmanager
async def reading(address: str, name: str, path: str) -> AsyncIterator[Reads]:
    """Read a connection's property again and again beside what happens in the block.

    Args:
        address: of the bus.
        name, path: of the connection.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.crowd", address, name, path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reads = Reads()
    try:
        assert await process.stdout.readline() == b"reading\n"
        yield reads
        process.stdin.write_eof()
        reads.seconds = json.loads(await process.stdout.read())
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _read(address: str, name: str, path: str) -> None:
    bus = await MessageBus(address).connect()
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    times: list[float] = []
    while not over.done():
        started = time.perf_counter()
        reply = await bus.call(
            Message(
                destination=name,
                path=path,
                interface="org.freedesktop.DBus.Properties",
                member="Get",
                signature="ss",
                body=["org.freedesktop.Telepathy.Connection", "Status"],
            )
        )
        assert reply is not None
        assert reply.message_type is MessageType.METHOD_RETURN, reply.body
        if not times:
            print("reading", flush=True)
        times.append(time.perf_counter() - started)
        await asyncio.sleep(GAP)
    print(json.dumps(times))


if __name__ == "__main__":
    asyncio.run(_read(*sys.argv[1:]))
