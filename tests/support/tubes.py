"""Tubes between Alice and Bob, and the programs at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.side import CAPABILITIES, CHANNEL, REQUESTS, TP, Side, Signal
from tests.support.waiting import PATIENCE, until

STREAM_TUBE = CHANNEL + ".Type.StreamTube"
DBUS_TUBE = CHANNEL + ".Type.DBusTube"
TUBE = CHANNEL + ".Interface.Tube"

UNIX, ABSTRACT, IPV4, IPV6 = range(4)
LOCALHOST, PORT, NETMASK, CREDENTIALS = range(4)
LOCAL_PENDING, REMOTE_PENDING, OPEN, NOT_OFFERED = range(4)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give back what comes, until its end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    writer.close()


@asynccontextmanager
async def service(
    kind: int, directory: Path, serve: Serve = echo, backlog: int = 1024
) -> AsyncIterator[Variant]:
    """A local service; its address as Offer takes it."""
    name = b"\0test-" + os.urandom(8).hex().encode()
    if kind == UNIX:
        path = directory / f"service-{os.urandom(4).hex()}"
        server = await asyncio.start_unix_server(serve, path, backlog=backlog)
        address = Variant("ay", os.fsencode(path))
    elif kind == ABSTRACT:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(name)
        server = await asyncio.start_unix_server(serve, sock=sock, backlog=backlog)
        address = Variant("ay", name)
    else:
        host = "127.0.0.1" if kind == IPV4 else "::1"
        server = await asyncio.start_server(serve, host, 0, backlog=backlog)
        address = Variant("(sq)", [host, server.sockets[0].getsockname()[1]])
    try:
        yield address
    finally:
        server.close()


async def connect(
    kind: int, address: Any, own: tuple[str, int] | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To what Accept returned."""
    if kind in (UNIX, ABSTRACT):
        return await asyncio.open_unix_connection(os.fsdecode(address))
    return await asyncio.open_connection(address[0], address[1], local_addr=own)


async def request(
    side: Side, target: str, service: str = "test", demands: Mapping[str, Variant] | None = None
) -> str:
    """CreateChannel for a stream tube; its path."""
    path, _ = await side.cm(
        side.connection,
        REQUESTS,
        "CreateChannel",
        "a{sv}",
        {
            CHANNEL + ".ChannelType": Variant("s", STREAM_TUBE),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", target),
            STREAM_TUBE + ".Service": Variant("s", service),
            **(demands or {}),
        },
    )
    return str(path)


async def state(side: Side, path: str, wanted: int, *, timeout: float = PATIENCE) -> None:
    """Wait until TubeChannelStateChanged told of it."""
    await side.signal(
        lambda s: (s.path, s.member, s.body) == (path, "TubeChannelStateChanged", (wanted,)),
        timeout=timeout,
    )


async def closed(side: Side, path: str) -> None:
    await side.signal(lambda s: (s.path, s.member) == (path, "Closed"))


def error_of(side: Side, path: str) -> str:
    """The Error that the channel told before it went."""
    told = [
        s.body[1]["Error"]
        for s in side.signals
        if s.path == path and s.member == "PropertiesChanged" and "Error" in s.body[1]
    ]
    return str(told[-1]) if told else ""


def told(side: Side, path: str, member: str) -> list[Signal]:
    return [s for s in side.signals if (s.path, s.member) == (path, member)]


async def connection_closed(side: Side, path: str, count: int = 1) -> list[str]:
    """Wait for so many ConnectionClosed; their errors."""
    await until(lambda: len(told(side, path, "ConnectionClosed")) >= count)
    return [str(each.body[1]) for each in told(side, path, "ConnectionClosed")]


class OpenTube:
    """A stream tube from Alice to Bob.

    Attributes:
        mine, theirs: object paths of the channels.
        address: where Bob's programs connect to.
    """

    def __init__(self, pair: Pair, kind: int) -> None:
        self.pair, self.kind = pair, kind
        self.mine = self.theirs = ""
        self.address: Any = None

    async def connect(
        self, own: tuple[str, int] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await connect(self.kind, self.address, own)

    async def echoed(self, data: bytes) -> bytes:
        """One connection: all that comes back."""
        reader, writer = await self.connect()
        try:
            return await talk(reader, writer, data)
        finally:
            writer.close()

    async def close(self) -> None:
        """Alice closes it; both channels are gone."""
        await self.pair.alice.cm(self.mine, CHANNEL, "Close")
        await closed(self.pair.alice, self.mine)
        await closed(self.pair.bob, self.theirs)


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Write all and the end; read all."""

    async def write() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.timeout(PATIENCE):
        got, _ = await asyncio.gather(reader.read(-1), write())
    return bytes(got)


async def offer(
    pair: Pair,
    address: Variant,
    kind: int,
    control: int = LOCALHOST,
    *,
    service: str = "test",
    parameters: dict[str, Variant] | None = None,
    demands: Mapping[str, Variant] | None = None,
) -> tuple[str, str]:
    """Alice offers; (her channel, his).

    Args:
        demands: further properties of the request.
    """
    alice, bob = pair.alice, pair.bob
    before = len([s for s in bob.signals if s.member == "NewChannels" and _of_tube(s)])
    mine = await request(alice, pair.server.jid("bob"), service, demands)
    await alice.cm(mine, STREAM_TUBE, "Offer", "uvua{sv}", kind, address, control, parameters or {})
    theirs, _ = await bob.new_channel(STREAM_TUBE, skip=before)
    return mine, theirs


async def accept(
    side: Side, path: str, kind: int, control: int = LOCALHOST, param: Variant | None = None
) -> Any:
    """Accept; the address."""
    return await side.cm(
        path, STREAM_TUBE, "Accept", "uuv", kind, control, param or Variant("u", 0)
    )


async def opened(
    pair: Pair,
    address: Variant,
    *,
    offered: tuple[int, int] = (UNIX, LOCALHOST),
    accepted: tuple[int, int] = (UNIX, LOCALHOST),
    param: Variant | None = None,
    timeout: float = PATIENCE,
    **more: Any,
) -> OpenTube:
    """A tube that is open on both sides.

    Args:
        timeout: seconds for its road.
    """
    tube = OpenTube(pair, accepted[0])
    tube.mine, tube.theirs = await offer(pair, address, *offered, **more)
    tube.address = await accept(pair.bob, tube.theirs, *accepted, param)
    await asyncio.gather(
        state(pair.alice, tube.mine, OPEN, timeout=timeout),
        state(pair.bob, tube.theirs, OPEN, timeout=timeout),
    )
    return tube


async def announce_service(side: Side, channel_type: str, name: str, client: str) -> None:
    """UpdateCapabilities of a program that waits for tubes of one service."""
    named = ".ServiceName" if channel_type == DBUS_TUBE else ".Service"
    filters = [
        {
            CHANNEL + ".ChannelType": Variant("s", channel_type),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            channel_type + named: Variant("s", name),
        }
    ]
    await side.cm(
        side.connection,
        CAPABILITIES,
        "UpdateCapabilities",
        "a(saa{sv}as)",
        [[TP + "Client." + client, filters, []]],
    )


def _of_tube(told: Signal) -> bool:
    return any(
        properties[CHANNEL + ".ChannelType"] == STREAM_TUBE
        and not properties[CHANNEL + ".Requested"]
        for _, properties in told.body[0]
    )
