"""Calls with a web browser: Chromium's WebRTC and our daemon, both ways, through a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.service.capabilities import MESSAGES_FEATURE
from tests.hostile.server import Attack, HostileServer
from tests.hostile.stanzas import CAPS, DISCO_INFO
from tests.support.browser import Browser, Event, missing
from tests.support.calls import (
    ACTIVE,
    CALL,
    ENDED,
    HOLD,
    OneCall,
    call,
    incoming,
)
from tests.support.pair import parameters
from tests.support.prosody import available
from tests.support.side import E2E, SECURABLE, VERIFICATION, DBusFailure, Side
from tests.support.waiting import PATIENCE

pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.skipif(missing() != "", reason=missing() or "there is a browser"),
]

TONE = 440
# What Chromium's fake camera and our pattern give in about a second.
FRAMES, PACKETS = 10, 50


class WithoutMessages(Attack):
    """Makes clients look as if they did not know announcements of calls (XEP-0353)."""

    def stanza(self, element: Element) -> list[Element]:
        for caps in element.findall(f"{{{CAPS}}}c"):
            element.remove(caps)
        for query in element.findall(f"{{{DISCO_INFO}}}query"):
            for feature in list(query):
                if feature.get("var") == MESSAGES_FEATURE:
                    query.remove(feature)
        return [element]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[HostileServer]:
    server = await HostileServer.start(
        kinds=("iq", "presence"), websocket=True, modules=("carbons",)
    )
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def alice(server: HostileServer) -> AsyncIterator[Side]:
    await server.use(Attack())
    side = await Side.start("alice")
    media = {
        "call_audio_source": Variant("s", f"tone:{TONE}"),
        "call_audio_sink": Variant("s", "null"),
        "call_video_source": Variant("s", "test-pattern"),
    }
    try:
        given = parameters(server.prosody, server.jid("alice"), **media)
        await side.connect(given, handles=(CALL,))
        yield side
    finally:
        await side.stop()


async def reach(side: Side, jid: str, *, video: bool = False) -> OneCall:
    """Call somebody who has just come online.

    The browser does not say with its presence what it can; it is asked when it is called.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await call(side, jid, video=video)
            except DBusFailure as failure:
                if not failure.name.endswith(".Offline"):
                    raise
            await asyncio.sleep(0.05)


async def flows(ours: OneCall, browser: Browser, *, video: bool) -> Event:
    """Both ends get and can decode what the other sends; the browser's figures."""

    def hears(figures: Event) -> bool:
        sound, pictures = figures["audio"], figures["video"]
        return (
            sound.get("packetsReceived", 0) > PACKETS
            and abs(sound.get("peakHz", 0) - TONE) < 15
            and sound["rms"] > 0.01
            and (not video or pictures.get("framesDecoded", 0) > FRAMES)
        )

    shown: list[tuple[str, int]] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while len(shown) != 1 + video or any(count <= PACKETS for _, count in shown):
                await asyncio.sleep(0.1)
                found = (await ours.statistics()).values()
                shown = [
                    (str(each.get("codec-received")), int(each["packets-received"]))
                    for each in found
                ]
    except TimeoutError:
        raise AssertionError(f"too little came: {shown}") from None
    return await browser.event("stats", hears)


async def says_what_is_true(ours: OneCall, figures: Event) -> None:
    """What the channel shows of its security is what the browser has."""
    assert await ours.property(SECURABLE, "Encrypted") is True
    assert await ours.property(SECURABLE, "Verified") is False
    assert await ours.property(E2E, "VerifiedBy") == ""
    assert await ours.property(E2E, "Protocol") == "dtls-srtp"
    # A browser says nothing sealed: there is only the certificate to compare.
    question = await ours.side.cm(ours.path, E2E, "Verify")
    assert await ours.side.get(question, VERIFICATION, "Methods") == ["fingerprint"]
    peer = (await ours.property(E2E, "PeerFingerprints"))["sha-256"].lower()
    own = (await ours.property(E2E, "OwnFingerprints"))["sha-256"].lower()
    assert figures["localFingerprint"].lower() == f"sha-256 {peer}"
    assert [each.lower() for each in figures["signaledLocal"]] == [f"sha-256 {peer}"]
    assert [each.lower() for each in figures["signaledRemote"]] == [f"sha-256 {own}"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("announced", "trickle", "video"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, True)],
    ids=["announced", "announced-at-once", "trickle", "at-once"],
)
async def test_we_call_a_browser(
    server: HostileServer, alice: Side, announced: bool, trickle: bool, video: bool
) -> None:
    if not announced:
        await server.use(WithoutMessages())
    flags = ["--no-trickle"] * (not trickle) + ["--video"] * video + ["--jmi"] * announced
    browser = await Browser.start(server.prosody, "bob", "--mode", "answer", *flags)
    try:
        ours = await reach(alice, server.jid("bob"), video=video)
        await ours.accept()
        await ours.until(ACTIVE)
        figures = await flows(ours, browser, video=video)
        await says_what_is_true(ours, figures)
        told = [each["action"] for each in browser.events if each["event"] == "jmi"]
        assert ("propose" in told) is announced
        await ours.hangup()
        ended = await browser.event("terminated")
        assert ended["reason"]["condition"] == "success"
    finally:
        await browser.stop()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("announced", "trickle", "video"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, True)],
    ids=["announced", "announced-at-once", "trickle", "at-once"],
)
async def test_a_browser_calls_us(
    server: HostileServer, alice: Side, announced: bool, trickle: bool, video: bool
) -> None:
    flags = ["--no-trickle"] * (not trickle) + ["--video"] * video + ["--jmi"] * announced
    browser = await Browser.start(server.prosody, "bob", "--mode", "idle", *flags)
    try:
        own = server.jid("alice")
        browser.do("call", to=own if announced else f"{own}/test")
        ours = await incoming(alice)
        assert ours.properties[CALL + ".InitialAudio"] is True
        assert ours.properties[CALL + ".InitialVideo"] is video
        await alice.cm(ours.path, CALL, "SetRinging")
        await ours.accept()
        await ours.until(ACTIVE)
        figures = await flows(ours, browser, video=video)
        await says_what_is_true(ours, figures)
        browser.do("hangup")
        _, _, reason = await ours.until(ENDED)
        assert reason[1:3] == (2, "")
    finally:
        await browser.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_browser_declines(server: HostileServer, alice: Side) -> None:
    browser = await Browser.start(server.prosody, "bob", "--mode", "reject")
    try:
        ours = await reach(alice, server.jid("bob"))
        await ours.accept()
        _, _, reason = await ours.until(ENDED)
        assert reason[1:3] == (4, "org.freedesktop.Telepathy.Error.Rejected")
    finally:
        await browser.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_we_decline_a_browser(server: HostileServer, alice: Side) -> None:
    browser = await Browser.start(server.prosody, "bob", "--mode", "idle")
    try:
        browser.do("call", to=f"{server.jid('alice')}/test")
        ours = await incoming(alice)
        await ours.hangup(4)
        ended = await browser.event("terminated")
        assert ended["reason"]["condition"] == "decline"
    finally:
        await browser.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_holding_and_adding_pictures_with_a_browser(
    server: HostileServer, alice: Side
) -> None:
    browser = await Browser.start(server.prosody, "bob", "--mode", "answer", "--jmi")
    try:
        ours = await reach(alice, server.jid("bob"))
        await ours.accept()
        await ours.until(ACTIVE)
        before = await flows(ours, browser, video=False)
        await alice.cm(ours.path, HOLD, "RequestHold", "b", True)
        silent = await browser.event(
            "stats",
            lambda each: (
                each["audio"]["packetsReceived"] >= before["audio"]["packetsReceived"]
                and each["audio"]["rms"] < 0.001
            ),
        )
        await alice.cm(ours.path, HOLD, "RequestHold", "b", False)
        await browser.event(
            "stats",
            lambda each: (
                each["audio"]["packetsReceived"] > silent["audio"]["packetsReceived"] + PACKETS
                and each["audio"]["rms"] > 0.01
            ),
        )
        # It takes no more contents in the middle of a call; the call goes on without.
        content = await alice.cm(ours.path, CALL, "AddContent", "suu", "face", 1, 3)
        await alice.signal(lambda each: each.member == "ContentRemoved" and each.body[0] == content)
        await ours.until(ACTIVE)
        assert len(await ours.contents()) == 1
        await ours.hangup()
        await browser.event("terminated")
    finally:
        await browser.stop()
