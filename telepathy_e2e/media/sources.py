"""Where sound and pictures that we send come from.

A source is named by a string: ``tone[:HZ]``, ``silence``, ``file:PATH`` (``file:PATH?loop``
repeats), ``pulse[:DEVICE]``, ``alsa[:DEVICE]``, ``v4l2[:DEVICE]``, ``unix:PATH`` (``unix_frames``
has the form), ``test-pattern``, ``null`` (silence, or a black picture).

Each is a track of aiortc whose ``recv`` gives frames as ``frames`` describes them at the pace at
which they are to be sent, and can be cancelled; ``close`` must be called. When a source ends,
``recv`` raises ``MediaUnavailable``.
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from array import array
from collections import deque
from typing import Any

import av
from aiortc import MediaStreamTrack
from av import AudioFrame, VideoFrame
from av.container import InputContainer

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.media import frames, programs, unix_frames
from telepathy_e2e.media.frames import Kind, Pace

DEFAULT_TONE = 440
TONE_LEVEL = 0.25  # of full scale, -15 dBFS

# Of a frame's time, what passes at least between two frames of a device or program: its clock may
# be faster than ours, and what was held up is made good. ALSA's null device has none, and would
# send as fast as the network takes it.
_HASTE = 0.95
# Frames decoded ahead of a file: 200 ms of sound.
_AHEAD = 10


class MediaUnavailable(NotAvailable):
    """A device or file cannot be used, or ended; the text is for people."""


class Source(MediaStreamTrack):
    """A track that can be closed."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    async def close(self) -> None:
        """Give back the device; may be called twice."""
        self.stop()


class Silence(Source):
    """No sound."""

    def __init__(self) -> None:
        super().__init__("audio")
        self._pace = Pace(frames.FRAME)
        self._position = 0

    async def recv(self) -> AudioFrame:
        await self._pace.wait()
        frame = frames.audio_frame(self._samples(self._position), self._position)
        self._position += frames.SAMPLES
        return frame

    def _samples(self, position: int) -> bytes:
        return frames.SILENCE


class Tone(Silence):
    """A sine; for tests and for hearing whether anything works."""

    def __init__(self, hertz: int) -> None:
        super().__init__()
        self._table = _sine(hertz)

    def _samples(self, position: int) -> bytes:
        start = position % frames.RATE * 2 * frames.CHANNELS
        return self._table[start : start + frames.FRAME_BYTES]


@functools.lru_cache(maxsize=4)
def _sine(hertz: int) -> bytes:
    """A second of it, into which a whole number of periods fits for whole hertz."""
    second = array("h")
    for index in range(frames.RATE):
        value = math.sin(2 * math.pi * hertz * index / frames.RATE)
        second.extend([int(value * TONE_LEVEL * 32767)] * frames.CHANNELS)
    return second.tobytes()


class Picture(Source):
    """One picture again and again."""

    def __init__(self) -> None:
        super().__init__("video")
        self._pace = Pace(1 / frames.VIDEO_RATE)
        self._count = 0

    async def recv(self) -> VideoFrame:
        await self._pace.wait()
        frame = self._draw(self._count)
        frame.pts = self._count * frames.VIDEO_CLOCK // frames.VIDEO_RATE
        frame.time_base = frames.VIDEO_TIME_BASE
        self._count += 1
        return frame

    def _draw(self, count: int) -> VideoFrame:
        return frames.black()


class TestPattern(Picture):
    """Bars that move, so that one sees a picture that stands still."""

    WIDTH, HEIGHT, STEP = 640, 480, 4
    __test__ = False  # for pytest: not a class of tests

    def __init__(self) -> None:
        super().__init__()
        self._row = bytes(16 + x * 219 // self.WIDTH for x in range(self.WIDTH))

    def _draw(self, count: int) -> VideoFrame:
        frame = frames.black(self.WIDTH, self.HEIGHT)
        shift = count * self.STEP % self.WIDTH
        row = self._row[shift:] + self._row[:shift]
        luma = frame.planes[0]
        luma.update(row.ljust(luma.line_size, b"\0") * self.HEIGHT)
        return frame


class Container(Source):
    """What FFmpeg reads: a file, or a camera. Reading runs in threads."""

    def __init__(self, kind: Kind, container: InputContainer, live: bool, repeat: bool) -> None:
        super().__init__(kind)
        self._container = container
        self._live = live
        self._repeat = repeat
        self._lock = threading.Lock()
        self._closed = False
        self._ready: deque[AudioFrame | VideoFrame] = deque()
        self._pace = Pace(frames.FRAME)
        self._position = 0
        self._start: tuple[float, float] | None = None
        self._uniform = frames.Uniform()
        self._part = b""

    async def recv(self) -> AudioFrame | VideoFrame:
        if not self._ready:
            await asyncio.shield(asyncio.to_thread(self._read))
        if not self._ready:
            raise MediaUnavailable("The file or device has ended")
        frame = self._ready.popleft()
        if isinstance(frame, AudioFrame):
            if not self._live:
                await self._pace.wait()
            frame.pts, frame.time_base = self._position, frames.TIME_BASE
            self._position += frame.samples
        elif not self._live:
            await self._wait_for(frame)
        return frame

    async def _wait_for(self, frame: VideoFrame) -> None:
        now, time = asyncio.get_running_loop().time(), frame.time or 0.0
        if self._start is None or time < self._start[1]:
            self._start = now, time
        await asyncio.sleep(self._start[0] + time - self._start[1] - now)

    def _read(self) -> None:
        """A few frames; none at the end."""
        with self._lock:
            if self._closed:
                return
            rewound = False
            while len(self._ready) < (1 if self._live else _AHEAD):
                try:
                    self._decode_one()
                    rewound = False
                except (av.FFmpegError, StopIteration):
                    if not self._repeat or rewound:
                        return
                    rewound = True
                    self._container.seek(0)

    def _decode_one(self) -> None:
        if self.kind == "audio":
            sound = next(self._container.decode(audio=0))
            self._part += self._uniform.samples(sound)
            while len(self._part) >= frames.FRAME_BYTES:
                self._ready.append(frames.audio_frame(self._part[: frames.FRAME_BYTES], 0))
                self._part = self._part[frames.FRAME_BYTES :]
            return
        picture = next(self._container.decode(video=0))
        if picture.width * picture.height <= frames.MAX_PIXELS:
            self._ready.append(picture)

    async def close(self) -> None:
        self.stop()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._container.close()


class Pipe(Source):
    """Raw samples from another program or a socket."""

    def __init__(self, stream: programs.Reading) -> None:
        super().__init__("audio")
        self._stream = stream
        self._pace = Pace(frames.FRAME * _HASTE)
        self._position = 0
        self._part = b""

    async def recv(self) -> AudioFrame:
        while len(self._part) < frames.FRAME_BYTES:
            try:
                more = await self._stream.reader.read(frames.FRAME_BYTES - len(self._part))
            except OSError:
                more = b""
            if not more:
                raise MediaUnavailable("The sound device or program has gone")
            self._part += more
        await self._pace.wait()
        pcm, self._part = self._part, b""
        frame = frames.audio_frame(pcm, self._position)
        self._position += frames.SAMPLES
        return frame

    async def close(self) -> None:
        self.stop()
        await self._stream.close()


class PicturePipe(Source):
    """I420 pictures with headers from a socket."""

    def __init__(self, stream: programs.Reading) -> None:
        super().__init__("video")
        self._pictures = unix_frames.PictureReader(stream.reader)
        self._stream = stream

    async def recv(self) -> VideoFrame:
        try:
            return await self._pictures.read()
        except (OSError, EOFError, ValueError):
            raise MediaUnavailable("The program that gave pictures has gone") from None

    async def close(self) -> None:
        self.stop()
        await self._stream.close()


async def open_source(spec: str, kind: Kind) -> Source:
    """Open what ``spec`` names.

    Raises:
        MediaUnavailable: there is no such thing, or it cannot be used.
    """
    name, _, rest = spec.partition(":")
    if kind == "audio":
        match name:
            case "tone":
                return Tone(_hertz(rest))
            case "silence" | "null":
                return Silence()
            case "pulse" | "alsa":
                return Pipe(await _program(programs.recording(name, rest)))
            case "unix":
                return Pipe(await _socket(rest))
    else:
        match name:
            case "test-pattern":
                return TestPattern()
            case "null":
                return Picture()
            case "v4l2":
                return await _container(kind, rest or "/dev/video0", "video4linux2,v4l2", False)
            case "unix":
                return PicturePipe(await _socket(rest))
    if name == "file":
        path, _, option = rest.partition("?")
        return await _container(kind, path, None, option == "loop")
    raise MediaUnavailable(f"There is no {kind} source of this kind")


def _hertz(text: str) -> int:
    if not text:
        return DEFAULT_TONE
    if not (text.isascii() and text.isdigit() and 20 <= int(text[:6]) <= 20000):
        raise MediaUnavailable("A tone has between 20 and 20000 Hz")
    return int(text)


async def _program(command: tuple[str, ...]) -> programs.Reading:
    try:
        return await programs.read_from(command)
    except OSError as error:
        raise MediaUnavailable(f"{command[0]} cannot be started: {error.strerror}") from None


async def _socket(path: str) -> programs.Reading:
    try:
        return await programs.connect_to_read(path)
    except OSError as error:
        raise MediaUnavailable(f"The socket cannot be used: {error.strerror}") from None


async def _container(kind: Kind, path: str, form: str | None, repeat: bool) -> Container:
    def opened() -> InputContainer:
        options: dict[str, Any] = {"format": form} if form else {}
        if form is None and "://" in path:
            raise MediaUnavailable("Only files of this machine are played")
        try:
            if form is None and not programs.is_file(path):
                raise MediaUnavailable("It is not a file")
            container: InputContainer = av.open(path if form else f"file:{path}", "r", **options)
        except (av.FFmpegError, OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or type(error).__name__
            raise MediaUnavailable(f"It cannot be opened: {text}") from None
        streams = container.streams.audio if kind == "audio" else container.streams.video
        if not streams:
            container.close()
            raise MediaUnavailable(f"There is no {kind} in it")
        return container

    return Container(kind, await asyncio.to_thread(opened), form is not None, repeat)
