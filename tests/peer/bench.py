"""One daemon under test with peers around it, and the questions asked after each test.

``Bench.check`` is the promise of every scenario here: whatever a peer did, the daemon lives, has
nothing left of it (channels, descriptors), wrote no traceback, and moves the next honest file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from dbus_fast import Variant

from tests.peer import stanzas, transfer
from tests.peer.client import PROTECTED, Peer
from tests.peer.transfer import Transfer, Way
from tests.support.pair import parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    CAPABILITIES,
    CHANNEL,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    REQUESTS,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
)
from tests.support.waiting import PATIENCE

WAIT = PATIENCE

# File_Transfer_State and File_Transfer_State_Change_Reason
PENDING, ACCEPTED, OPEN, COMPLETED, CANCELLED = range(1, 6)
NONE, REQUESTED, LOCAL_STOPPED, REMOTE_STOPPED, LOCAL_ERROR, REMOTE_ERROR = range(6)

ERROR = "org.freedesktop.Telepathy.Error."

# What a daemon that caught everything would never write.
BAD_WORDS = (
    "Traceback",
    " died",
    "never retrieved",
    "never awaited",
    "Internal error",
    "AssertionError",
)


@dataclass
class Case:
    """One transfer between a peer and the daemon.

    Attributes:
        transfer: the peer's side.
        path: the daemon's channel.
        client: the D-Bus client's part; what it received, if the daemon receives.
    """

    transfer: Transfer
    path: str
    client: asyncio.Task[bytes]
    got: bytearray = field(default_factory=bytearray)


class Bench:
    """A daemon with the account alice, and peers.

    Attributes:
        jid: the daemon's full JID.
        bob: a peer in its roster that can do all.
        asks: whether a client here handles verification, so that each transfer asks.
    """

    def __init__(self, server: Prosody, side: Side, *, asks: bool) -> None:
        self.asks = asks
        self.server = server
        self.side = side
        self.jid = f"{server.jid('alice')}/test"
        self.bob: Peer
        self.peers: list[Peer] = []
        self._cases: list[Case] = []
        self._descriptors = 0
        self._logged = 0
        self._names = 0

    @classmethod
    async def start(
        cls, server: Prosody, *, handles: Iterable[str] = (FILE_TRANSFER,), **more: Variant
    ) -> Bench:
        """Start the daemon and log in.

        Args:
            handles: channel types that a client on this desktop handles.
            more: connection parameters.
        """
        self = cls(server, await Side.start("alice"), asks=VERIFICATION in handles)
        try:
            await self.side.connect(
                parameters(server, server.jid("alice"), **more), handles=tuple(handles)
            )
            self.bob = await self.peer("bob")
            self.peers.clear()
            await self.knows(self.bob)
            await self.honest_transfer()
            await self.honest_transfer_to(self.bob)
            self._descriptors = await self._quiet_descriptors()
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        if hasattr(self, "bob"):
            await self.bob.stop()
        await self.side.stop()

    # -- peers ------------------------------------------------------------------------------

    async def peer(
        self, name: str, *, features: Iterable[str] = PROTECTED, resource: str = "peer"
    ) -> Peer:
        """One more peer, for this test."""
        peer = await Peer.start(self.server, name, features=features, resource=resource)
        self.peers.append(peer)
        return peer

    async def stranger(self, *, features: Iterable[str] = PROTECTED) -> Peer:
        """A peer that is in nobody's roster."""
        self._names += 1
        name = f"stranger{self._names}"
        self.server.add_account(name)
        return await self.peer(name, features=features)

    async def knows(self, peer: Peer, channel_type: str = FILE_TRANSFER) -> None:
        """Wait until the daemon knows that some program of the peer's account takes these."""
        jid = stanzas.bare(peer.jid)
        side = self.side
        handle = (await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid]))[0]
        async with asyncio.timeout(WAIT):
            while True:
                classes = await side.cm(
                    side.connection, CAPABILITIES, "GetContactCapabilities", "au", [handle]
                )
                types = [fixed[CHANNEL + ".ChannelType"] for fixed, _ in classes.get(handle, [])]
                if channel_type in types:
                    return
                await asyncio.sleep(0.02)

    # -- transfers, step by step ------------------------------------------------------------

    async def channel(self, *, skip: int = 0) -> str:
        """The path of the (skip+1)-th channel that a peer's offer made in this test."""
        path, _ = await self.side.new_channel(FILE_TRANSFER, skip=skip)
        return path

    async def offered(
        self,
        data: bytes = b"",
        *,
        peer: Peer | None = None,
        description: Element | None = None,
        transfer_: Transfer | None = None,
        xtls: bool = True,
        way: Way = Way.CONNECT,
    ) -> Case:
        """A peer has offered a file; nobody accepted yet."""
        known = len(self.incoming())
        case_transfer = transfer_ or Transfer(
            (peer or self.bob).session(self.jid), way=way, xtls=xtls
        )
        if description is None:
            description = stanzas.description(size=len(data))
        answer = await case_transfer.offer(description)
        assert answer == ("", ""), answer
        return self._case(case_transfer, await self.channel(skip=known), _nothing())

    async def receives(self, data: bytes = b"", **how: Any) -> Case:
        """A peer has offered, the user here accepted, and the road is up."""
        case = await self.offered(data, **how)
        self.accept(case)
        await case.transfer.answered()
        await case.transfer.connect()
        return case

    def accept(self, case: Case) -> None:
        """The user accepts; ``case.got`` is what the client's socket gives."""
        case.client.cancel()
        case.client = asyncio.ensure_future(self._accept(case))

    async def accept_by_hand(self, case: Case) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The user accepts; the client's socket."""
        arguments = (0, 0, Variant("u", 0), 0)
        address = await self.side.cm(case.path, FILE_TRANSFER, "AcceptFile", "uuvt", *arguments)
        return await asyncio.open_unix_connection(os.fsdecode(bytes(address)))

    async def _accept(self, case: Case) -> bytes:
        try:
            reader, writer = await self.accept_by_hand(case)
        except (FileNotFoundError, ConnectionRefusedError):
            return b""  # it was over before we got there
        try:
            while chunk := await reader.read(65536):
                case.got += chunk
        except ConnectionError:
            pass
        finally:
            writer.close()
        return bytes(case.got)

    async def offers(
        self,
        data: bytes = b"",
        *,
        peer: Peer | None = None,
        xtls: bool = True,
        way: Way = Way.CONNECT,
        **more: Variant,
    ) -> Case:
        """The user here offers a file; the peer has seen the offer and not answered."""
        peer = peer or self.bob
        path = await self.side.offer_file(stanzas.bare(peer.jid), "file.bin", len(data), **more)
        case_transfer = await transfer.incoming(peer, way=way, xtls=xtls)
        return self._case(case_transfer, path, self._provide(path, data))

    async def sends(self, data: bytes = b"", **how: Any) -> Case:
        """The same, and the peer accepted, and the road is up."""
        case = await self.offers(data, **how)
        answer = await case.transfer.accept()
        assert answer == ("", ""), answer
        await case.transfer.connect()
        return case

    async def _provide(self, path: str, data: bytes) -> bytes:
        """ProvideFile, and the bytes as soon as they are wanted; however long that takes."""
        arguments = (0, 0, Variant("u", 0))
        # The transfer may be over, and its socket gone, before it is connected to.
        with contextlib.suppress(DBusFailure, OSError):
            address = await self.side.cm(path, FILE_TRANSFER, "ProvideFile", "uuv", *arguments)
            reader, writer = await asyncio.open_unix_connection(os.fsdecode(bytes(address)))
            try:
                writer.write(data)
                await writer.drain()
                writer.write_eof()
                await reader.read()
            finally:
                writer.close()
        return b""

    def adopt(self, transfer_: Transfer, path: str) -> Case:
        """A case of what a test has begun by itself."""
        return self._case(transfer_, path, _nothing())

    def _case(self, case_transfer: Transfer, path: str, client: Coroutine[Any, Any, bytes]) -> Case:
        case = Case(case_transfer, path, asyncio.ensure_future(client))
        self._cases.append(case)
        return case

    # -- what is expected -------------------------------------------------------------------

    async def failed(
        self,
        case: Case,
        reason: int,
        condition: str | None = None,
        error: str = "",
        *,
        timeout: float = WAIT,
    ) -> None:
        """The daemon's channel was cancelled so.

        Args:
            reason: File_Transfer_State_Change_Reason.
            condition: of its session-terminate; None: it sent none, or it does not matter.
            error: end of the D-Bus error name that its channel has from now on.
        """
        state = await self.side.state(case.path, COMPLETED, CANCELLED, timeout=timeout)
        assert state == (CANCELLED, reason), self.side.log[-3000:]
        if condition is not None:
            assert await case.transfer.session.ended() == condition, self.side.log[-3000:]
        if error:
            assert await self.side.get(case.path, E2E, "Error") == ERROR + error

    async def completed(self, case: Case) -> None:
        state = await self.side.state(case.path, COMPLETED, CANCELLED)
        assert state == (COMPLETED, NONE), self.side.log[-3000:]

    async def got_nothing(self, case: Case) -> None:
        """Not a byte came out of the client's socket."""
        async with asyncio.timeout(WAIT):
            assert await case.client == b""

    async def question(self, case: Case) -> str:
        """Wait for the question about a transfer; its path."""

        def found() -> list[str]:
            return [
                path
                for each in self.side.signals
                if each.member == "NewChannels"
                for path, properties in each.body[0]
                if properties.get(VERIFICATION + ".PayloadChannel") == case.path
            ]

        await self.side.signal(lambda _: bool(found()))
        return found()[-1]

    async def tick(self) -> None:
        """Let something happen."""
        await asyncio.sleep(0.01)

    def opened(self, case: Case) -> bool:
        """Whether the transfer was ever open."""
        return any(
            each.path == case.path
            and each.member == "FileTransferStateChanged"
            and each.body[0] == OPEN
            for each in self.side.signals
        )

    async def secure(self, case: Case) -> dict[str, bool]:
        return await self.side.get_all(case.path, SECURABLE)

    def incoming(self) -> list[str]:
        """Channels that peers' offers have made in this test."""
        return [
            path
            for each in self.side.signals
            if each.member == "NewChannels"
            for path, properties in each.body[0]
            if properties[CHANNEL + ".ChannelType"] == FILE_TRANSFER
            and not properties[CHANNEL + ".Requested"]
        ]

    async def channels(self) -> list[str]:
        """All that are on the bus now."""
        found = await self.side.get(self.side.connection, REQUESTS, "Channels")
        return [path for path, _ in found]

    async def objects(self) -> list[str]:
        """Children of the connection's object."""
        text = await self.side.cm(
            self.side.connection, "org.freedesktop.DBus.Introspectable", "Introspect"
        )
        tree = fromstring(text)  # noqa: S314 - our own daemon's
        return [child.get("name", "") for child in tree.findall("node")]

    # -- the daemon's process ---------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.side.daemon is not None
        return self.side.daemon.pid

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> int:
        """Resident bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def log(self) -> str:
        """What it logged in this test."""
        return self.side.log[self._logged :]

    # -- after each test --------------------------------------------------------------------

    async def honest_transfer(self, *, xtls: bool = True) -> None:
        """Bob sends a file and it arrives."""
        data = secrets.token_bytes(50_000)
        case = await self.receives(data, xtls=xtls)
        stream = await case.transfer.protect()
        await self._go_on(case)
        await stream.write(data)
        await stream.write_eof()
        assert await case.client == data
        assert await case.transfer.session.ended() == "success"
        await self.completed(case)
        await self._finish([case])

    async def honest_transfer_to(self, peer: Peer, *, xtls: bool = True) -> None:
        """A file is sent to a peer and arrives."""
        data = secrets.token_bytes(50_000)
        case = await self.offers(data, peer=peer, xtls=xtls)
        receiving = asyncio.ensure_future(case.transfer.receive())
        await self._go_on(case)
        assert await receiving == data
        await self.completed(case)
        await self._finish([case])

    async def _go_on(self, case: Case) -> None:
        if self.asks:
            question = await self.question(case)
            await self.side.cm(question, VERIFICATION, "ProceedUnverified")

    async def _finish(self, cases: list[Case]) -> None:
        for case in cases:
            with contextlib.suppress(DBusFailure):
                await self.side.cm(case.path, CHANNEL, "Close")
            case.client.cancel()
            await asyncio.wait([case.client])
            await case.transfer.stop()
            self._cases.remove(case)

    def begin(self) -> None:
        """Before a test."""
        self.side.signals.clear()
        self._logged = len(self.side.log)

    async def check(self) -> None:
        """After a test: see the module."""
        self.bob.answers = lambda _: None
        await self._finish(list(self._cases))
        for peer in self.peers:
            await peer.stop()
        self.peers.clear()
        for path in await self.channels():
            with contextlib.suppress(DBusFailure):
                await self.side.cm(path, CHANNEL, "Close")
        self.side.signals.clear()
        await self.honest_transfer()
        await self._until(lambda: self.descriptors() <= self._descriptors)
        assert self.descriptors() <= self._descriptors, self._open_files()
        assert await self.channels() == []
        assert await self.objects() == []
        said = self.log()
        for word in BAD_WORDS:
            assert word not in said, said[max(said.index(word) - 500, 0) :][:5000]

    async def _quiet_descriptors(self) -> int:
        """The number once it no longer changes."""
        await self._until(lambda: False, timeout=0.3)
        return self.descriptors()

    async def _until(self, condition: Callable[[], bool], timeout: float = WAIT) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not condition():
                    await asyncio.sleep(0.02)

    def _open_files(self) -> str:
        directory = Path(f"/proc/{self.pid}/fd")
        links = []
        for each in directory.iterdir():
            with contextlib.suppress(OSError):
                links.append(os.readlink(each))
        return "\n".join(sorted(links))


async def _nothing() -> bytes:
    return b""
