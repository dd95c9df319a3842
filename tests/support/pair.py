"""Alice and Bob: two desktops, two daemons, one real Prosody that both have accounts on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbus_fast import Variant

from tests.support.prosody import Prosody
from tests.support.side import CAPABILITIES, CHANNEL, CONNECTION, FILE_TRANSFER, Side
from tests.support.waiting import PATIENCE

PASSWORD = "open sesame"


def parameters(server: Prosody, account: str, /, **more: Variant) -> dict[str, Variant]:
    """Connection parameters for an account on the test's server."""
    given = {
        "account": Variant("s", account),
        "password": Variant("s", PASSWORD),
        "server": Variant("s", server.host),
        "port": Variant("q", server.port),
        "ca-file": Variant("s", str(server.ca_file)),
        "resource": Variant("s", "test"),
    }
    given.update({key.replace("_", "-"): value for key, value in more.items()})
    return given


@dataclass
class Pair:
    """Both sides, connected and aware of each other's capabilities."""

    server: Prosody
    alice: Side
    bob: Side

    @classmethod
    async def start(
        cls,
        server: Prosody,
        *,
        alice: dict[str, Variant] | None = None,
        bob: dict[str, Variant] | None = None,
        alice_handles: tuple[str, ...] = (FILE_TRANSFER,),
        bob_handles: tuple[str, ...] = (FILE_TRANSFER,),
        sides: tuple[Side, Side] | None = None,
    ) -> Pair:
        """Start both.

        Args:
            alice, bob: further connection parameters.
            alice_handles, bob_handles: channel types that a client on that side handles.
            sides: daemons that run already.
        """
        both = sides or await asyncio.gather(Side.start("alice"), Side.start("bob"))
        pair = cls(server, *both)
        try:
            await pair.alice.connect(
                parameters(server, server.jid("alice"), **(alice or {})), handles=alice_handles
            )
            await pair.bob.connect(
                parameters(server, server.jid("bob"), **(bob or {})), handles=bob_handles
            )
            await pair.sees(pair.alice, server.jid("bob"))
            await pair.sees(pair.bob, server.jid("alice"))
        except BaseException:
            await pair.stop()
            raise
        return pair

    async def sees(self, side: Side, jid: str) -> None:
        """Wait until a side knows that a contact takes files."""
        handle = (await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid]))[0]
        async with asyncio.timeout(PATIENCE):
            while True:
                classes: Any = await side.cm(
                    side.connection, CAPABILITIES, "GetContactCapabilities", "au", [handle]
                )
                types = [fixed[CHANNEL + ".ChannelType"] for fixed, _ in classes.get(handle, [])]
                if FILE_TRANSFER in types:
                    return
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        await asyncio.gather(self.alice.stop(), self.bob.stop())

    # -- the usual ways to move a file ------------------------------------------------------

    async def offer(
        self,
        data: bytes,
        name: str = "file.bin",
        demands: Mapping[str, Variant] | None = None,
        **more: Variant,
    ) -> tuple[str, str]:
        """Alice offers; (her channel, his channel).

        Args:
            demands: further properties of the request, by qualified name.
            more: the same, of FileTransfer.
        """
        return await self.offer_sized(len(data), name, demands, **more)

    async def offer_sized(
        self,
        size: int,
        name: str = "file.bin",
        demands: Mapping[str, Variant] | None = None,
        **more: Variant,
    ) -> tuple[str, str]:
        """The same where only the size is known (2^64-1: not even that)."""
        known = incoming(self.bob)
        mine = await self.alice.offer_file(
            self.server.jid("bob"), name, size, **dict(demands or {}), **more
        )
        await self.bob.signal(lambda _: len(incoming(self.bob)) > len(known))
        theirs = next(path for path in incoming(self.bob) if path not in known)
        return mine, theirs

    async def send(
        self,
        data: bytes,
        name: str = "file.bin",
        demands: Mapping[str, Variant] | None = None,
        **more: Variant,
    ) -> bytes:
        """A whole transfer from Alice to Bob; what Bob got."""
        mine, theirs = await self.offer(data, name, demands, **more)
        got, _ = await asyncio.gather(self.bob.accept(theirs), self.alice.provide(mine, data))
        assert await self.alice.state(mine, 4, 5) == (4, 0), self.alice.log
        assert await self.bob.state(theirs, 4, 5) == (4, 0), self.bob.log
        return got


def incoming(side: Side) -> list[str]:
    """The channels of files that were offered, oldest first."""
    return [
        path
        for each in side.signals
        if each.member == "NewChannels"
        for path, properties in each.body[0]
        if properties["org.freedesktop.Telepathy.Channel.ChannelType"] == FILE_TRANSFER
        and not properties["org.freedesktop.Telepathy.Channel.Requested"]
    ]
