"""Where sound and pictures that we receive go to.

A sink is named by a string: ``null``, ``file:PATH`` (``.wav``, ``.ogg``, ``.mkv``…),
``pulse[:DEVICE]``, ``alsa[:DEVICE]``, ``unix:PATH`` (``unix_frames`` has the form).
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import av
from av import AudioFrame, VideoFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from telepathy_e2e.media import frames, programs, unix_frames
from telepathy_e2e.media.frames import Kind
from telepathy_e2e.media.sources import MediaUnavailable

# Bytes of pictures that wait for a slow reader: about one at 1080p.
_MAX_UNWRITTEN_PICTURES = 4 * 1024 * 1024

# What a container holds, by its ending: sound, pictures.
_CODECS = {"wav": ("pcm_s16le", ""), "ogg": ("libopus", ""), "opus": ("libopus", "")}
_OTHERS = ("libopus", "libvpx")


class Sink:
    """Takes frames as ``frames`` describes them; this one drops them (``null``)."""

    @property
    def drops(self) -> bool:
        """Nothing is done with what is written, so that it need not be made."""
        return type(self) is Sink

    async def write(self, frame: AudioFrame | VideoFrame) -> None:
        """One frame; does not wait for a slow device longer than a frame lasts.

        Raises:
            MediaUnavailable: it cannot take any more.
        """

    async def close(self) -> None:
        """Finish and give back; may be called twice."""


class File(Sink):
    """Coding and writing run in threads."""

    def __init__(self, kind: Kind, path: str) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._start: float | None = None
        self._last = -1
        self._closed = False
        ending = path.rpartition(".")[2].lower()
        sound, picture = _CODECS.get(ending, _OTHERS)
        codec = sound if kind == "audio" else picture
        if not codec:
            raise MediaUnavailable("Pictures do not go into a file of this kind")
        try:
            if not programs.is_file(path):
                raise MediaUnavailable("It is not a file")
            # FFmpeg would look for the place with the first frame only.
            with open(path, "ab"):
                pass
            self._container: OutputContainer = av.open(f"file:{path}", "w")
            self._stream: AudioStream | VideoStream
            if kind == "audio":
                options: dict[str, Any] = {"rate": frames.RATE, "layout": "stereo"}
                self._stream = cast(AudioStream, self._container.add_stream(codec, **options))
            else:
                stream = cast(VideoStream, self._container.add_stream(codec, frames.VIDEO_RATE))
                stream.pix_fmt = "yuv420p"
                stream.options = {"deadline": "realtime", "cpu-used": "8"}
                self._stream = stream
        except (av.FFmpegError, OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or type(error).__name__
            raise MediaUnavailable(f"It cannot be written: {text}") from None

    async def write(self, frame: AudioFrame | VideoFrame) -> None:
        time = asyncio.get_running_loop().time()
        await asyncio.shield(asyncio.to_thread(self._write, frame, time))

    def _write(self, frame: AudioFrame | VideoFrame, time: float) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                if isinstance(self._stream, AudioStream) and isinstance(frame, AudioFrame):
                    frame.pts, frame.time_base = self._count, frames.TIME_BASE
                    self._count += frame.samples
                    self._container.mux(self._stream.encode(frame))
                elif isinstance(self._stream, VideoStream) and isinstance(frame, VideoFrame):
                    self._write_picture(self._stream, frame, time)
            except (av.FFmpegError, OSError, ValueError):
                raise MediaUnavailable("The file cannot be written any more") from None

    def _write_picture(self, stream: VideoStream, frame: VideoFrame, time: float) -> None:
        if self._start is None:
            self._start = time
            stream.width, stream.height = frame.width & ~1, frame.height & ~1
        if (frame.width, frame.height) != (stream.width, stream.height):
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
        position = int((time - self._start) * frames.VIDEO_RATE)
        if position > self._last:  # two pictures cannot have one time
            self._last = position
            frame.pts, frame.time_base = position, frames.PICTURE
            self._container.mux(stream.encode(frame))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._count or self._start is not None:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            except (av.FFmpegError, OSError, ValueError):
                pass  # the disk is full; what was written stays


class Pipe(Sink):
    """Samples or pictures for another program."""

    def __init__(self, stream: programs.Writing) -> None:
        self._stream = stream

    async def write(self, frame: AudioFrame | VideoFrame) -> None:
        writer = self._stream.writer
        process = self._stream.process
        if writer.is_closing() or (process is not None and process.returncode is not None):
            raise MediaUnavailable("The sound device or program has gone")
        sound = isinstance(frame, AudioFrame)
        waiting = writer.transport.get_write_buffer_size()
        # Who reads slowly misses something rather than hearing everything late.
        if waiting <= (programs.MAX_UNWRITTEN if sound else _MAX_UNWRITTEN_PICTURES):
            writer.write(
                frames.pcm_of(frame) if isinstance(frame, AudioFrame) else unix_frames.build(frame)
            )

    async def close(self) -> None:
        await self._stream.close()


async def open_sink(spec: str, kind: Kind) -> Sink:
    """Open what ``spec`` names.

    Raises:
        MediaUnavailable: there is no such thing, or it cannot be used.
    """
    name, _, rest = spec.partition(":")
    if name == "null":
        return Sink()
    try:
        if name == "file":
            return await asyncio.to_thread(File, kind, rest)
        if name == "unix":
            return Pipe(await programs.connect_to_write(rest))
        if kind == "audio" and name in ("pulse", "alsa"):
            return Pipe(await programs.write_to(programs.playing(name, rest)))
    except OSError as error:
        raise MediaUnavailable(f"It cannot be used: {error.strerror}") from None
    raise MediaUnavailable(f"There is no {kind} sink of this kind")
