"""Tubes with a contact who never protects anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE, TP
from tests.support.tubes import (
    UNIX,
    accept,
    closed,
    error_of,
    offer,
    opened,
    service,
)

ERROR = TP + "Error."


async def test_who_demands_protection_shares_nothing_with_who_has_none(
    prosody: Prosody, tmp_path: Path
) -> None:
    pair = await Pair.start(
        prosody, bob={"e2e_policy": Variant("s", "off"), "resource": Variant("s", "off")}
    )
    try:
        async with service(UNIX, tmp_path) as address:
            # Without a demand it goes in the clear, and says so.
            tube = await opened(pair, address)
            assert await tube.echoed(b"clear") == b"clear"
            assert await pair.alice.get(tube.mine, SECURABLE, "Encrypted") is False
            await tube.close()
            demand = {E2E + ".RequireEncrypted": Variant("b", True)}
            mine, theirs = await offer(pair, address, UNIX, demands=demand)
            await accept(pair.bob, theirs, UNIX)
            await asyncio.gather(closed(pair.alice, mine), closed(pair.bob, theirs))
            assert error_of(pair.alice, mine) == ERROR + "EncryptionNotAvailable"
    finally:
        await pair.stop()
