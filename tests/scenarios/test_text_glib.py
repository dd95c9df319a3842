"""telepathy-glib's TpTextChannel on the real daemon."""

from __future__ import annotations

import pytest

from tests.support.chat import (
    CHAT_STATE,
    next_message,
    online,
    sees,
    send,
)
from tests.support.programs import lacks, program
from tests.support.prosody import Prosody

NO_GLIB = lacks("import gi; gi.require_version('TelepathyGLib', '0.12')")

pytestmark = pytest.mark.skipif(bool(NO_GLIB), reason=NO_GLIB)


async def test_telepathy_glib_sends_hears_and_acknowledges(prosody: Prosody) -> None:
    alice, bob = await online(prosody, "alice"), await online(prosody, "bob")
    try:
        await sees(alice, prosody.jid("bob"))
        await sees(bob, prosody.jid("alice"))
        arguments = (alice.connection, prosody.jid("bob"), "Hello from GLib")
        async with program("glib_text", alice.address, *arguments) as glib:
            channel = await glib.event("channel")
            assert channel == {
                "event": "channel",
                "kind": "TextChannel",
                "prepared": [True, True],
                "content": ["text/plain"],
                "types": [0, 1, 2],
                "reports": 3,
                "sms": False,
            }
            theirs, header = await next_message(bob, "Hello from GLib")
            token = header["message-token"]
            assert (await glib.event("submitted"))["token"] == token
            sent = await glib.event("sent")
            assert (sent["text"], sent["flags"], sent["token"]) == ("Hello from GLib", 1, token)
            assert (await glib.event("received", report=True))["sender"] == prosody.jid("bob")
            await bob.cm(theirs, CHAT_STATE, "SetChatState", "u", 4)
            assert (await glib.event("state", state=4))["contact"] == prosody.jid("bob")
            answer = await send(bob, theirs, "Hello yourself")
            got = await glib.event("received", report=False)
            assert (got["text"], got["token"]) == ("Hello yourself", answer)
            assert (await glib.event("acknowledged"))["left"] == 1  # the report
            assert await glib.ended() == 0
            noise = [each["text"] for each in glib.events("noise")]
            assert not [each for each in noise if "arning" in each or "rror" in each]
    finally:
        await alice.stop()
        await bob.stop()
