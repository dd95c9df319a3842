"""Microphones and loudspeakers of a call that go away, or stand still: the call goes on."""

from __future__ import annotations

import asyncio
import contextlib
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.calls import (
    ACTIVE,
    CALL,
    CALL_MEDIA,
    both_go_on,
    call,
    incoming,
    talking,
    told,
)
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER

BOTH = (CALL, FILE_TRANSFER)
FRAME = bytes(3840)  # 20 ms


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    media = {"call_audio_source": Variant("s", "tone"), "call_audio_sink": Variant("s", "null")}
    pair = await Pair.start(prosody, alice=media, bob=media, alice_handles=BOTH, bob_handles=BOTH)
    yield pair
    await pair.stop()


class Program:
    """Another program at a unix socket, which gives or takes sound until it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connected = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, *, gives: bool) -> str:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            self.connected.set()
            if gives:
                with contextlib.suppress(OSError):
                    while not writer.is_closing():
                        writer.write(FRAME)
                        await asyncio.sleep(0.02)

        self._server = await asyncio.start_unix_server(accepted, self.path, limit=1 << 10)
        return f"unix:{self.path}"

    def die(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()


@pytest.mark.parametrize("direction", ["source", "sink"])
async def test_a_program_that_dies_is_told_of_and_the_call_goes_on(
    pair: Pair, tmp_path: Path, direction: str
) -> None:
    ours, theirs = await talking(pair)
    program = Program(tmp_path / "program")
    name = "AudioSource" if direction == "source" else "AudioSink"
    await ours.choose(name, await program.start(gives=direction == "source"))
    await program.connected.wait()
    await both_go_on(ours, theirs)
    program.die()
    lost = await told(ours)
    (content,) = await ours.contents()
    assert lost.interface == CALL_MEDIA
    assert lost.body[:2] == (content, direction)
    assert lost.body[2]
    await both_go_on(ours, theirs)
    # Another one may be chosen.
    await ours.choose(name, "tone" if direction == "source" else "null")
    await both_go_on(ours, theirs)


async def test_a_file_that_ends_is_told_of_once(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = await talking(pair)
    path = tmp_path / "short.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(bytes(48000))
    await ours.choose("AudioSource", f"file:{path}")
    assert (await told(ours)).body[1] == "source"
    await both_go_on(ours, theirs)
    assert len([each for each in pair.alice.signals if each.member == "MediaLost"]) == 1


async def test_who_does_not_read_holds_nobody_up(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = await talking(pair)
    program = Program(tmp_path / "program")
    await ours.choose("AudioSink", await program.start(gives=False))
    await program.connected.wait()
    # Two seconds of sound: more than all buffers on the way hold.
    await both_go_on(ours, theirs)
    await both_go_on(ours, theirs)
    await ours.figures(level_received=-30)
    program.die()
    await told(ours)


async def test_what_cannot_be_opened_is_told_of_and_the_call_begins_without_it(
    pair: Pair, tmp_path: Path
) -> None:
    ours = await call(pair.alice, pair.server.jid("bob"))
    await ours.choose("AudioSource", f"unix:{tmp_path / 'nobody'}")
    await ours.accept()
    theirs = await incoming(pair.bob)
    await theirs.accept()
    await asyncio.gather(ours.until(ACTIVE), theirs.until(ACTIVE))
    assert (await told(ours)).body[1] == "source"
    await both_go_on(ours, theirs)
