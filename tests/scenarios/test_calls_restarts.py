"""ICE that begins anew with other clients (XEP-0176 section 5.12), as Conversations has it.

Who wants it sends new credentials and no candidate; who answers sends credentials of his own with
candidates. A transport-replace is acknowledged there, and nothing follows.
"""

from __future__ import annotations

import pytest
from dbus_fast import Variant

from telepathy_e2e.jingle import ice
from telepathy_e2e.media.events import GatheringDone, Restarted, RestartWanted
from tests.peer import stanzas
from tests.peer.bench import Bench
from tests.peer.calls import ICE, Talker
from tests.scenarios.test_calls_attacks_peer import phone, reaches, talks
from tests.support.calls import ACTIVE, CALL, OneCall
from tests.support.prosody import available
from tests.support.side import FILE_TRANSFER

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DAEMON = {
    "handles": (FILE_TRANSFER, CALL),
    "call_audio_source": Variant("s", "tone"),
    "call_audio_sink": Variant("s", "null"),
}


async def goes_on(one: OneCall) -> None:
    """It is active, and half a second of it is sent."""
    await one.until(ACTIVE)
    sent = (await one.figures(packets_sent=1))["packets-sent"]
    await one.figures(packets_sent=sent + 25)


async def test_a_caller_begins_anew_by_new_credentials_alone(bench: Bench) -> None:
    talker, theirs = await talks(bench)
    try:
        keys = talker.engine.export("m", b"label", b"", 32)
        talker.engine.restart("m")
        assert await talker.tell() == ("", "")
        assert (await talker.news()).candidates
        await talker.engine.gather("m")
        await talker.until(GatheringDone, 2)
        assert await talker.tell(*talker.engine.local_transport("m").candidates) == ("", "")
        await talker.until(Restarted)
        assert talker.engine.export("m", b"label", b"", 32) == keys
        await goes_on(theirs)
    finally:
        await talker.engine.close()


async def test_a_caller_offers_another_way_by_transport_replace(bench: Bench) -> None:
    talker, theirs = await talks(bench)
    try:
        talker.engine.restart("m")
        await talker.engine.gather("m")
        await talker.until(GatheringDone, 2)
        own = ice.build(talker.engine.local_transport("m"))
        offer = stanzas.content(own, name="voice", creator="initiator", senders="")
        assert await talker.session.send("transport-replace", offer) == ("", "")
        accept = await talker.session.wait("transport-accept")
        found = accept.find(f"{{{stanzas.JINGLE}}}content/{{{ICE}}}transport")
        talker.engine.remote_transport("m", ice.parse(found))
        while not (await talker.told()).candidates:
            pass
        await talker.until(Restarted)
        await goes_on(theirs)
    finally:
        await talker.engine.close()


async def test_who_is_not_heard_any_more_is_told_new_credentials_alone(bench: Bench) -> None:
    peer = await phone(bench)
    ours = await reaches(bench, peer)
    talker = Talker(await peer.offered())
    try:
        await talker.takes(await talker.session.wait("session-initiate"))
        await ours.until(ACTIVE)
        await talker.engine._roads["m"]._generation.connection.close()
        assert (await talker.news()).candidates == ()
        await talker.until(RestartWanted)
        talker.engine.restart("m")
        await talker.engine.gather("m")
        await talker.until(GatheringDone, 2)
        assert await talker.tell(*talker.engine.local_transport("m").candidates) == ("", "")
        while not (await talker.told()).candidates:
            pass
        await talker.until(Restarted)
        assert "transport-replace" not in talker.session.actions
        await goes_on(ours)
    finally:
        await talker.engine.close()
