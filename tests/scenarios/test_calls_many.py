"""As many calls at once as there may be, and all of them talk."""

from __future__ import annotations

import asyncio

import pytest
from dbus_fast import Variant

from telepathy_e2e.service.calls import MAX_CALLS
from tests.support.calls import ACTIVE, CALL, ENDED, OneCall, call, incoming
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER, DBusFailure

BOTH = (CALL, FILE_TRANSFER)
MEDIA = {"call_audio_source": Variant("s", "silence"), "call_audio_sink": Variant("s", "null")}


async def taken(pair: Pair, number: int) -> tuple[OneCall, OneCall]:
    """Alice's call of this number, which Bob takes as soon as it rings."""
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.accept()
    theirs = await incoming(pair.bob, skip=number)
    await theirs.accept()
    return ours, theirs


async def hears(one: OneCall) -> None:
    """The contact, now: half a second of sound."""
    heard = (await one.figures(packets_received=1))["packets-received"]
    await one.figures(packets_received=heard + 25)


async def test_twenty_calls_talk_at_once_and_there_is_no_room_for_another(prosody: Prosody) -> None:
    pair = await Pair.start(prosody, alice=MEDIA, bob=MEDIA, alice_handles=BOTH, bob_handles=BOTH)
    try:
        calls = [await taken(pair, number) for number in range(MAX_CALLS)]
        for both in calls:
            for each in both:
                await each.until(ACTIVE)
        for side, other in ((pair.alice, "bob"), (pair.bob, "alice")):
            with pytest.raises(DBusFailure) as failure:
                await call(side, pair.server.jid(other))
            assert failure.value.name.endswith(".NotAvailable")
        some = [*calls[0], *calls[MAX_CALLS // 2], *calls[-1]]
        await asyncio.gather(*(hears(each) for each in some))
        ours, theirs = calls.pop()
        await ours.hangup()
        await theirs.until(ENDED)
        # Its place is free, and nothing of the others has changed.
        calls.append(await taken(pair, MAX_CALLS))
        for both in calls:
            for each in both:
                await each.until(ACTIVE)
        for ours, theirs in calls:
            await ours.hangup()
            await theirs.until(ENDED)
        ours, theirs = await taken(pair, MAX_CALLS + 1)
        await theirs.until(ACTIVE)
        await ours.figures(packets_received=20)
        for side in (pair.alice, pair.bob):
            assert "Traceback" not in side.log
    finally:
        await pair.stop()
