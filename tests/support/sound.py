"""PulseAudio without a sound card, and what is to be heard there."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import subprocess
import wave
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.calls import tone_share
from tests.support.waiting import PATIENCE

RATE, CHANNELS = 48000, 2
SECOND = RATE * CHANNELS * 2
"""Bytes."""
RAW = ("--raw", "--format=s16ne", f"--rate={RATE}", f"--channels={CHANNELS}", "--latency-msec=40")


def tone(hertz: int) -> bytes:
    """A second."""
    samples = array("h")
    for index in range(RATE):
        value = int(8000 * math.sin(2 * math.pi * hertz * index / RATE))
        samples.extend([value] * CHANNELS)
    return samples.tobytes()


def share(pcm: bytes, hertz: int, directory: Path) -> float:
    """How much of what was recorded is this tone: 0 to 1; the first half second does not count."""
    path = directory / "recorded.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(CHANNELS)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return tone_share(path, hertz)


@dataclass
class Pulse:
    """A PulseAudio with two sinks to nowhere: what is played to one is heard at its monitor."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.directory / "pulse.socket"

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.directory) | {"PULSE_SERVER": f"unix:{self.socket}"}

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        self.process.kill()
        self.process.wait()

    @asynccontextmanager
    async def plays(self, sink: str, pcm: bytes) -> AsyncIterator[None]:
        """This, again and again."""
        player = await asyncio.create_subprocess_exec(
            "pacat",
            *RAW,
            f"--device={sink}",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | self.environment,
        )
        stdin = player.stdin
        assert stdin is not None

        async def feed() -> None:
            with contextlib.suppress(OSError):
                while True:
                    stdin.write(pcm)
                    await stdin.drain()

        task = asyncio.create_task(feed())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await ended(player)

    async def hears(self, sink: str, hertz: int) -> None:
        """Wait until somebody plays this tone to the sink."""
        recorder = await asyncio.create_subprocess_exec(
            "parec",
            *RAW,
            f"--device={sink}.monitor",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | self.environment,
        )
        assert recorder.stdout is not None
        found = 0.0
        try:
            async with asyncio.timeout(PATIENCE):
                while found <= 0.5:
                    pcm = await recorder.stdout.readexactly(SECOND)
                    found = share(pcm, hertz, self.directory)
        except TimeoutError:
            raise AssertionError(f"{found} of what was heard last was the tone") from None
        finally:
            await ended(recorder)


async def ended(process: asyncio.subprocess.Process) -> None:
    """Killed, with what it wrote still."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


def environment(home: Path) -> dict[str, str]:
    """Of programs that know of no sound system but that in this home."""
    settings = home / ".config" / "pulse"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "client.conf").write_text("autospawn = no\n")
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}


@asynccontextmanager
async def pulse(directory: Path, *sinks: str) -> AsyncIterator[Pulse]:
    """Start one.

    Args:
        directory: an empty one; its path is short, as that of a socket has to be.
        sinks: their names.
    """
    modules = [f"module-native-protocol-unix socket={directory / 'pulse.socket'} auth-anonymous=1"]
    modules += [f"module-null-sink sink_name={each} rate={RATE}" for each in sinks]
    log = directory / "pulse.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
                *("--use-pid-file=no", "--disable-shm=yes", "--realtime=no", "--high-priority=no"),
                *(f"--load={each}" for each in modules),
            ],
            env=os.environ
            | environment(directory)
            | {
                "XDG_RUNTIME_DIR": str(directory),
                "DBUS_SESSION_BUS_ADDRESS": f"unix:path={directory / 'nobody'}",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    one = Pulse(directory, process)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await one_knows(one, sinks[-1]):
                if process.poll() is not None:
                    raise AssertionError(f"PulseAudio did not start:\n{log.read_text()}")
                await asyncio.sleep(0.05)
        yield one
    finally:
        one.kill()


async def one_knows(one: Pulse, sink: str) -> bool:
    """Whether it is up, with this sink."""
    asked = await asyncio.create_subprocess_exec(
        *("pactl", "list", "short", "sinks"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | one.environment,
    )
    shown, _ = await asked.communicate()
    return f"\t{sink}\t".encode() in shown
