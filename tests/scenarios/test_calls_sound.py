"""Calls with the sound systems themselves, PulseAudio and ALSA, though without sound cards."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Variant

from tests.support import sound
from tests.support.calls import CALL, CALL_MEDIA, OneCall, both_go_on, talking, told
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER, Side
from tests.support.waiting import PATIENCE

BOTH = (CALL, FILE_TRANSFER)


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [each for each in programs if shutil.which(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where no sound system of this machine is."""
    for name in ("PULSE_SERVER", "PULSE_SINK", "PULSE_SOURCE", "ALSA_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = Path(tempfile.mkdtemp(prefix="tpe2e-sound-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def people(
    prosody: Prosody, alice: Side, bob: Side, source: str, sink: str
) -> AsyncIterator[Pair]:
    """Alice with this source and Bob with this sink; he says nothing, and she does not listen."""
    pair = await Pair.start(
        prosody,
        sides=(alice, bob),
        alice={"call_audio_source": Variant("s", source), "call_audio_sink": Variant("s", "null")},
        bob={"call_audio_source": Variant("s", "silence"), "call_audio_sink": Variant("s", sink)},
        alice_handles=BOTH,
        bob_handles=BOTH,
    )
    try:
        yield pair
    finally:
        await pair.stop()


async def lost(one: OneCall, direction: str) -> None:
    signal = await told(one)
    assert signal.interface == CALL_MEDIA
    assert signal.body[1] == direction
    assert signal.body[2]


@needs("pulseaudio", "pactl", "parec", "pacat")
async def test_pulseaudio_carries_a_call_and_is_missed_when_it_dies(
    prosody: Prosody, home: Path
) -> None:
    async with sound.pulse(home, "voice", "ears") as server:
        # She finds it where a session has it, he is told where it is.
        alice = await Side.start("alice", daemon=False)
        (alice.directory / "pulse").mkdir(mode=0o700)
        (alice.directory / "pulse" / "native").symlink_to(server.socket)
        bob, _ = await asyncio.gather(
            Side.start("bob", env=server.environment),
            alice.start_daemon(sound.environment(home)),
        )
        async with (
            people(prosody, alice, bob, "pulse:voice.monitor", "pulse:ears") as pair,
            server.plays("voice", sound.tone(440)),
        ):
            ours, theirs = await talking(pair)
            await server.hears("ears", 440)
            await theirs.figures(level_received=-30)
            server.kill()
            await asyncio.gather(lost(ours, "source"), lost(theirs, "sink"))
            await both_go_on(ours, theirs)
            # What is not there any more cannot be chosen, and something else can.
            await ours.choose("AudioSource", "tone")
            await theirs.choose("AudioSink", "null")
            await theirs.figures(level_received=-30)


@needs("arecord", "aplay")
async def test_alsa_carries_a_call(prosody: Prosody, home: Path) -> None:
    # No device of these has a clock: it gives and takes as fast as it is asked.
    (home / "voice.raw").write_bytes(sound.tone(440) * 60)
    (home / ".asoundrc").write_text(
        f'pcm.voice {{ type file slave.pcm null file /dev/null infile "{home}/voice.raw" '
        "format raw }\n"
        f'pcm.ears {{ type file slave.pcm null file "{home}/ears.raw" format raw }}\n'
    )
    alice, bob = await asyncio.gather(
        *(Side.start(each, env=sound.environment(home)) for each in ("alice", "bob"))
    )
    async with people(prosody, alice, bob, "alsa:voice", "alsa:ears") as pair:
        ours, theirs = await talking(pair)
        await heard(home / "ears.raw", 440)
        await theirs.figures(level_received=-30)
        # A device that nobody has.
        await ours.choose("AudioSource", "alsa:nobody")
        await lost(ours, "source")
        await both_go_on(ours, theirs)


async def heard(path: Path, hertz: int) -> None:
    """Wait until the last second in this file of samples is this tone."""
    found = 0.0
    try:
        async with asyncio.timeout(PATIENCE):
            while found <= 0.5:
                await asyncio.sleep(0.1)
                if path.exists() and (size := path.stat().st_size // 4 * 4) >= sound.SECOND:
                    pcm = path.read_bytes()[size - sound.SECOND : size]
                    found = sound.share(pcm, hertz, path.parent)
    except TimeoutError:
        raise AssertionError(f"{found} of what was heard last was the tone") from None
