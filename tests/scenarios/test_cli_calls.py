"""tpe2e calls: two desktops, real daemons and codecs, and what a script sees of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.test_cli import WAIT, Command, Desk
from tests.support.calls import loudness, tone_share, written
from tests.support.prosody import Prosody
from tests.support.side import Side

TONE = ("--audio-source", "tone:600", "--audio-sink", "null")


@pytest.fixture
async def desks(prosody: Prosody) -> AsyncIterator[tuple[Desk, Desk]]:
    """Alice's and Bob's, both logged in."""
    sides = await asyncio.gather(Side.start("alice"), Side.start("bob"))
    alice, bob = (Desk(side, prosody) for side in sides)
    await asyncio.gather(alice.connect(), bob.connect())
    yield alice, bob
    await asyncio.gather(alice.stop(), bob.stop())


async def answering(alice: Desk, bob: Desk, *words: str) -> Command:
    """Bob waits for calls, and Alice's side knows it."""
    answer = await bob.start("answer", *words)
    await answer.event("waiting")
    await knows(alice, bob, "calls")
    return answer


async def knows(desk: Desk, other: Desk, what: str) -> None:
    """Wait until one side knows that the other can do something."""
    async with asyncio.timeout(WAIT):
        while True:
            status = await desk.run("status")
            contacts = [e for e in status.events if e["event"] == "contact"]
            if any(e["contact"] == other.jid and e[what] for e in contacts):
                return


async def figures(command: Command, **more: float) -> dict[str, Any]:
    """The first statistics in which a second's worth has gone both ways, and more than these."""
    least = {"packets_sent": 20, "packets_received": 20, **more}
    while True:
        shown = await command.event("statistics")
        (audio,) = shown["contents"]
        if all(audio[name] > value for name, value in least.items()):
            return shown


async def test_they_talk_read_figures_and_the_callee_hangs_up(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    alice, bob = desks
    heard = tmp_path / "heard.wav"
    answer = await answering(
        *(alice, bob, alice.jid, "--once", "--audio-source", "silence"),
        *("--audio-sink", f"file:{heard}"),
    )
    call = await alice.start("call", bob.jid, *TONE)
    await call.event("calling")
    assert (await answer.event("call"))["contact"] == alice.jid
    await asyncio.gather(call.event("talking"), answer.event("talking"))
    ours, theirs = await asyncio.gather(figures(call), figures(answer, level_received=-30))
    for shown in (ours, theirs):
        (audio,) = shown["contents"]
        assert audio["media"] == "audio"
        assert audio["codec_sent"].lower().startswith("opus")
        assert audio["loss"] == pytest.approx(0, abs=0.2)
        assert shown["protocol"] == "dtls-srtp"
        assert shown["cipher_suite"]
    await bob.run("hangup", alice.jid)
    assert await answer.end() == 0
    assert await call.end() == 0
    assert answer.last("done")["hung_up_by"] == "here"
    assert call.last("done")["hung_up_by"] == "there"
    for command in (call, answer):
        assert command.last("done")["protection"] == "encrypted"
        assert command.last("done")["seconds"] > 1
    fingerprints = call.last("done")["own_fingerprints"]
    assert fingerprints
    assert fingerprints == answer.last("done")["peer_fingerprints"]
    await written(heard)
    assert tone_share(heard, 600) > 0.5


async def test_they_compare_strings_while_they_talk_and_the_caller_hangs_up(
    desks: tuple[Desk, Desk],
) -> None:
    alice, bob = desks
    answer = await answering(alice, bob, "--any", "--once", *TONE, "--sas-matches", "stdin")
    call = await alice.start("call", bob.jid, *TONE, "--verify", "--sas-matches", "stdin")
    hers, his = await asyncio.gather(call.event("sas"), answer.event("sas"))
    assert hers["string"] == his["string"]
    assert "talking" in [each["event"] for each in call.events]
    await call.answer("yes")
    await answer.answer("yes")
    for command in (call, answer):
        shown = await command.event("protection", protection="verified")
        assert shown["verified_by"] == "sas"
    call.process.send_signal(signal.SIGINT)
    assert await call.end() == 130
    assert await answer.end() == 0
    assert answer.last("done")["hung_up_by"] == "there"
    assert answer.last("done")["verified"] is True


async def test_nothing_is_heard_before_somebody_is_verified_where_that_is_demanded(
    desks: tuple[Desk, Desk], tmp_path: Path
) -> None:
    alice, bob = desks
    heard = tmp_path / "heard.wav"
    demand = ("--require-verified", "--sas-matches", "stdin")
    answer = await answering(
        *(alice, bob, "--any", "--once", *demand),
        *("--audio-source", "tone", "--audio-sink", f"file:{heard}"),
    )
    call = await alice.start("call", bob.jid, *TONE, *demand)
    await asyncio.gather(call.event("sas"), answer.event("sas"))
    assert not heard.exists()
    for command in (call, answer):
        assert "talking" not in [each["event"] for each in command.events]
    await call.answer("yes")
    await answer.answer("yes")
    await figures(answer, level_received=-30)
    await alice.run("hangup")
    assert await call.end() == 0
    assert await answer.end() == 0
    await written(heard)
    assert call.last("done")["verified_methods"] == ["sas"]
    assert loudness(heard) > 0.01


async def test_another_program_verifies_a_call_that_goes_on(desks: tuple[Desk, Desk]) -> None:
    alice, bob = desks
    answer = await answering(alice, bob, "--any", "--once", *TONE)
    call = await alice.start("call", bob.jid, *TONE)
    await asyncio.gather(call.event("talking"), answer.event("talking"))
    ours, theirs = await asyncio.gather(
        alice.run("verify", bob.jid, "--sas-matches", "yes"),
        bob.run("verify", alice.jid, "--sas-matches", "yes"),
    )
    assert ours.last("sas")["string"] == theirs.last("sas")["string"]
    for command in (call, answer):
        await command.event("protection", protection="verified")
    status = await alice.run("status")
    assert status.last("channel")["state"] == "talking"
    assert status.last("channel")["verified_by"] == "sas"
    await alice.run("hangup")
    assert await call.end() == 0
    assert await answer.end() == 0


async def test_who_says_no_ends_it_on_both_sides(desks: tuple[Desk, Desk]) -> None:
    alice, bob = desks
    answer = await answering(alice, bob, "--any", "--once", *TONE, "--sas-matches", "no")
    call = await alice.start("call", bob.jid, *TONE, "--verify", "--sas-matches", "stdin")
    assert await answer.end() == 4, answer.events[-4:]
    assert await call.end() == 4


async def test_declined_nobody_there_and_no_program_that_takes_calls(
    desks: tuple[Desk, Desk],
) -> None:
    alice, bob = desks
    await knows(alice, bob, "file_transfer")  # and nothing of calls
    call = await alice.run("call", bob.jid, *TONE, code=1)
    assert call.last("error")["error"].endswith(".NotCapable")
    answer = await answering(alice, bob, "--reject", "--once")
    call = await alice.run("call", bob.jid, *TONE, code=1)
    assert call.last("error")["error"].endswith(".Rejected")
    assert "declined" in call.last("error")["message"]
    assert await answer.end() == 0
    await alice.run("hangup", code=5)
    await bob.run("disconnect")
    call = await alice.run("call", bob.jid, *TONE, code=1)
    assert call.last("error")["error"].endswith((".Offline", ".NotCapable"))


async def test_a_second_caller_hears_that_it_is_busy(desks: tuple[Desk, Desk]) -> None:
    alice, bob = desks
    answer = await answering(alice, bob, "--any", "--once", *TONE)
    call = await alice.start("call", bob.jid, *TONE)
    await call.event("talking")
    second = await alice.run("call", bob.jid, *TONE, code=1)
    assert second.last("error")["error"].endswith(".Busy")
    await alice.run("hangup", bob.jid)
    assert await answer.end() == 0
    assert await call.end() == 0
