"""Sound devices through the programs that come with them, and sockets of other programs.

PyAV has no PulseAudio, and its ALSA finds no configuration; ``parec`` and ``arecord`` are there
wherever the devices are, and speak PipeWire as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from typing import cast

from telepathy_e2e.media import frames

# Milliseconds that a device may hold.
LATENCY = 40
# Seconds for a program to end when asked to, or to let us in.
_PATIENCE = 2.0
# Bytes of sound that wait in a pipe before the writer is slow: 100 ms.
MAX_UNWRITTEN = 5 * frames.FRAME_BYTES
# The same on the kernel's side of it, which doubles this: a frame or two, and not the third of a
# second that it would hold by itself, and hold for as long as the call lasts once it was full.
_UNSENT = frames.FRAME_BYTES
# A socket's stream reads ahead up to twice this: two frames of sound; pictures are read whole.
_LIMIT = 2 * frames.FRAME_BYTES


@dataclass(slots=True)
class Reading:
    """Bytes from somebody."""

    reader: asyncio.StreamReader
    process: asyncio.subprocess.Process | None = None
    writer: asyncio.StreamWriter | None = None

    async def close(self) -> None:
        await _end(self.process, self.writer)


@dataclass(slots=True)
class Writing:
    """Bytes to somebody."""

    writer: asyncio.StreamWriter
    process: asyncio.subprocess.Process | None = None

    async def close(self) -> None:
        await _end(self.process, self.writer)


def recording(system: str, device: str) -> tuple[str, ...]:
    """The command that writes samples to its standard output."""
    return _command(system, device, "parec", "arecord")


def playing(system: str, device: str) -> tuple[str, ...]:
    """The command that plays samples from its standard input."""
    return _command(system, device, "pacat", "aplay")


def _command(system: str, device: str, pulse: str, alsa: str) -> tuple[str, ...]:
    if system == "pulse":
        command: tuple[str, ...] = (
            pulse,
            "--raw",
            "--format=s16ne",
            f"--rate={frames.RATE}",
            f"--channels={frames.CHANNELS}",
            f"--latency-msec={LATENCY}",
            "--property=media.role=phone",
        )
        return (*command, f"--device={device}") if device else command
    command = (alsa, "-q", "-t", "raw", "-f", "S16", "-r", str(frames.RATE))
    command += ("-c", str(frames.CHANNELS), f"--buffer-time={LATENCY * 1000}")
    return (*command, f"--device={device}") if device else command


async def read_from(command: tuple[str, ...]) -> Reading:
    """Raises OSError: it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LIMIT,
    )
    return Reading(cast(asyncio.StreamReader, process.stdout), process)


async def write_to(command: tuple[str, ...]) -> Writing:
    """Raises OSError: it cannot be started."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT)
        _, writer = await asyncio.open_unix_connection(sock=ours, limit=_LIMIT)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except BaseException:
            writer.close()
            raise
    return Writing(writer, process)


def is_file(path: str) -> bool:
    """Whether it is one, or may become one: opening a named pipe may take for ever, and a thread
    with it, of which there are few."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


async def connect_to_read(path: str) -> Reading:
    """Raises OSError: nobody listens there, or takes what comes (TimeoutError is one)."""
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_unix_connection(path, limit=_LIMIT)
    return Reading(reader, None, writer)


async def connect_to_write(path: str) -> Writing:
    """Raises OSError: nobody listens there, or takes what comes (TimeoutError is one)."""
    async with asyncio.timeout(_PATIENCE):
        _, writer = await asyncio.open_unix_connection(path, limit=_LIMIT)
    return Writing(writer)


async def _end(
    process: asyncio.subprocess.Process | None, writer: asyncio.StreamWriter | None
) -> None:
    if writer is not None:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await writer.wait_closed()
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_PATIENCE):
            await _gone(process)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _gone(process)


async def _gone(process: asyncio.subprocess.Process) -> None:
    """asyncio waits for the end of the output too, which is in the pipe still."""
    while process.stdout is not None and await process.stdout.read(_LIMIT):
        pass
    await process.wait()
