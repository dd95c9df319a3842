"""telepathy-glib's TpCallChannel on the real daemon."""

from __future__ import annotations

import pytest
from dbus_fast import Variant

from tests.support.calls import ACTIVE, CALL, ENDED, incoming
from tests.support.pair import Pair
from tests.support.programs import lacks, program
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

pytestmark = pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB)


async def test_telepathy_glib_calls_presses_keys_and_hangs_up(prosody: Prosody) -> None:
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    both = (CALL, FILE_TRANSFER)
    pair = await Pair.start(prosody, alice=media, bob=media, alice_handles=both, bob_handles=both)
    bob = prosody.jid("bob")
    try:
        arguments = (pair.alice.connection, bob)
        async with program("glib_call", pair.alice.address, *arguments) as glib:
            assert await glib.event("channel") == {
                "event": "channel",
                "kind": "CallChannel",
                "state": 1,
                "hardware": True,
                "audio": True,
                "video": False,
                "mutable": True,
                "hold": True,
                "content": "audio",
                "media": 0,
                "dtmf": True,
                "members": [bob],
            }
            await glib.event("accepted")
            theirs = await incoming(pair.bob)
            await pair.bob.cm(theirs.path, CALL, "SetRinging")
            await glib.event("state", state=3)
            await theirs.accept()
            await theirs.until(ACTIVE)
            await glib.event("state", state=ACTIVE)
            await glib.event("pressed")
            assert await glib.event("stream") == {
                "event": "stream",
                "sending": 2,
                "members": [bob],
            }
            glib.tell("hang up")
            await theirs.until(ENDED)
            await glib.event("state", state=ENDED, reason=2)
            assert await glib.ended() == 0
            noise = [each["text"] for each in glib.events("noise")]
            assert not [each for each in noise if "arning" in each or "rror" in each]
    finally:
        await pair.stop()
