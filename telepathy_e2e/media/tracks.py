"""What an encoder of aiortc is fed with: a source that can be muted, replaced, and lost."""

from __future__ import annotations

import asyncio
import fractions
from collections.abc import Callable
from typing import cast

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from telepathy_e2e.media import frames, volume
from telepathy_e2e.media.frames import Kind
from telepathy_e2e.media.levels import Meter
from telepathy_e2e.media.sources import MediaUnavailable, Picture, Silence, Source

# Seconds after which silence stands in for a device that gives nothing (it is suspended, or the
# program behind a socket thinks).
STALL = 0.2


class OutgoingTrack(MediaStreamTrack):
    """Frames with times that go on evenly, whatever their source does.

    Args:
        lost: is told, once a source, that it ended; silence or black goes on.
    """

    def __init__(self, kind: Kind, source: Source, lost: Callable[[str], None]) -> None:
        super().__init__()
        self.kind = kind
        self._kind: Kind = kind
        self._source = source
        self._lost = lost
        self._samples = 0
        self._muted = False
        self.volume = volume.FULL
        self._black: VideoFrame | None = None
        self._origin: float | None = None
        self._last_pts = -1
        self.meter = Meter()

    @property
    def muted(self) -> bool:
        return self._muted

    def mute(self, on: bool) -> None:
        """Silence or black goes out; the source runs on, unheard."""
        self._muted = on

    async def replace(self, source: Source) -> None:
        """Take frames from another source; the former is closed."""
        former, self._source = self._source, source
        await former.close()

    async def close(self) -> None:
        self.stop()
        await self._source.close()

    async def recv(self) -> AudioFrame | VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        frame = await self._next()
        if isinstance(frame, AudioFrame):
            return self._sound(frame)
        return self._picture(frame)

    async def _next(self) -> AudioFrame | VideoFrame:
        source = self._source
        try:
            async with asyncio.timeout(STALL if self._kind == "audio" else None):
                frame = await source.recv()
        except TimeoutError:
            return frames.audio_frame(frames.SILENCE, 0)
        except (MediaUnavailable, MediaStreamError) as error:
            if source is self._source:
                self._source = Silence() if self._kind == "audio" else Picture()
                await source.close()
                self._lost(str(error) or "The source has ended")
            return await self._next()
        return cast(AudioFrame | VideoFrame, frame)

    def _sound(self, frame: AudioFrame) -> AudioFrame:
        if self._muted:
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        pcm = frames.pcm_of(frame)
        if self.volume < volume.FULL:
            pcm = volume.scaled(pcm, self.volume)
            frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
        self.meter.add(pcm)
        frame.pts, frame.time_base = self._samples, frames.TIME_BASE
        self._samples += frame.samples
        return frame

    def _picture(self, frame: VideoFrame) -> VideoFrame:
        if self._muted:
            if self._black is None or self._black.width != frame.width:
                self._black = frames.black(frame.width & ~1, frame.height & ~1)
            frame = self._black
        # By the clock: sources that follow one another have times of their own.
        now = asyncio.get_running_loop().time()
        if self._origin is None:
            self._origin = now
        pts = max(int((now - self._origin) * frames.VIDEO_CLOCK), self._last_pts + 1)
        frame.pts, frame.time_base = pts, fractions.Fraction(frames.VIDEO_TIME_BASE)
        self._last_pts = pts
        return frame
