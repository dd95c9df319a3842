"""Which road a file takes between two real daemons, as the user and the network allow."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.pair import Pair, incoming
from tests.support.prosody import Prosody
from tests.support.side import E2E, FILE_TRANSFER, SECURABLE, Side

pytest_plugins = ["tests.support.fixtures"]

DATA = secrets.token_bytes(700_000)
REMOTE_ERROR = 5  # File_Transfer_State_Change_Reason
# Seconds; how long a machine that does many things at once may take.
PATIENCE = 60.0


@asynccontextmanager
async def pair_with(
    server: Prosody, alice: str, bob: str, handles: tuple[str, ...] = (FILE_TRANSFER,)
) -> AsyncIterator[Pair]:
    """Two desktops whose users allow these roads."""
    sides = await asyncio.gather(
        Side.start("alice", env=_allowing(alice)), Side.start("bob", env=_allowing(bob))
    )
    pair = await Pair.start(server, sides=sides, alice_handles=handles, bob_handles=handles)
    try:
        yield pair
    finally:
        await pair.stop()


def _allowing(roads: str) -> dict[str, str]:
    return {"TELEPATHY_E2E_ROADS": roads, "TELEPATHY_E2E_MEDIA_LOOPBACK": "1"}


async def carried(server: Prosody, sender: Side, receiver: Side) -> str:
    """A file, which arrives; by which protection."""
    before = incoming(receiver)
    mine = await sender.offer_file(server.jid(receiver.name), "file.bin", len(DATA))
    await receiver.signal(lambda _: len(incoming(receiver)) > len(before))
    theirs = next(p for p in incoming(receiver) if p not in before)
    got, _ = await asyncio.gather(receiver.accept(theirs), sender.provide(mine, DATA))
    assert got == DATA
    assert await sender.state(mine, 4, 5, timeout=PATIENCE) == (4, 0)
    assert await receiver.state(theirs, 4, 5, timeout=PATIENCE) == (4, 0)
    shown = [await side.get_all(path, E2E) for side, path in ((sender, mine), (receiver, theirs))]
    for side, path in ((sender, mine), (receiver, theirs)):
        assert await side.get_all(path, SECURABLE) == {"Encrypted": True, "Verified": False}
    assert shown[0]["Protocol"] == shown[1]["Protocol"]
    assert shown[0]["OwnFingerprints"] == shown[1]["PeerFingerprints"]
    return str(shown[0]["Protocol"])


async def test_a_file_goes_through_a_data_channel_either_way(prosody: Prosody) -> None:
    async with pair_with(prosody, "ice", "ice") as pair:
        assert await carried(prosody, pair.alice, pair.bob) == "dtls-sctp"
        assert await carried(prosody, pair.bob, pair.alice) == "dtls-sctp"


async def test_a_data_channel_takes_the_place_of_what_does_not_work(prosody: Prosody) -> None:
    """Alice has no direct candidates that Bob may try, nor he any; both can do the rest."""
    async with pair_with(prosody, "direct,ice,in-band", "ice,in-band") as pair:
        assert await carried(prosody, pair.alice, pair.bob) == "dtls-sctp"
        assert await carried(prosody, pair.bob, pair.alice) == "dtls-sctp"


async def test_in_band_takes_the_place_of_a_data_channel_that_one_side_may_not_have(
    prosody: Prosody,
) -> None:
    async with pair_with(prosody, "ice,in-band", "in-band") as pair:
        assert await carried(prosody, pair.alice, pair.bob) == "xtls"
        assert await carried(prosody, pair.bob, pair.alice) == "xtls"


async def test_in_band_that_one_side_may_not_have_is_refused(prosody: Prosody) -> None:
    async with pair_with(prosody, "in-band", "direct,ice") as pair:
        mine = await pair.alice.offer_file(prosody.jid("bob"), "file.bin", len(DATA))
        assert await pair.alice.state(mine, 4, 5, timeout=PATIENCE) == (5, REMOTE_ERROR)
        assert not incoming(pair.bob)
