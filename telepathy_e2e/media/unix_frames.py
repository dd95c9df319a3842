"""What goes over ``unix:PATH``: a socket on which the other program listens, and we connect.

Sound is bare samples: signed 16 bits in the machine's order, 48,000 a second, stereo,
interleaved. The pace is the writer's: as time goes by, for nothing is buffered long.

Pictures follow one another, each a header and its planes Y, U, V without padding (I420)::

    4 bytes   "I420"
    4 bytes   width, unsigned, network order; even
    4 bytes   height, unsigned, network order; even
    8 bytes   microseconds since some beginning, unsigned, network order
    width * height * 3 / 2 bytes
"""

from __future__ import annotations

import asyncio
import fractions
import struct

from av import VideoFrame

from telepathy_e2e.media import frames

HEADER = struct.Struct("!4sIIQ")
MAGIC = b"I420"
_MICROSECONDS = fractions.Fraction(1, 1_000_000)


class PictureReader:
    """Pictures from a stream."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._part = bytearray()

    async def read(self) -> VideoFrame:
        """The next one; may be cancelled and called again.

        Raises:
            EOFError: no more.
            ValueError: not a picture.
        """
        await self._fill(HEADER.size)
        magic, width, height, time = HEADER.unpack_from(self._part)
        if magic != MAGIC or not 0 < width * height <= frames.MAX_PIXELS or (width | height) & 1:
            raise ValueError("not a picture")
        size = HEADER.size + width * height * 3 // 2
        await self._fill(size)
        frame = _picture(bytes(self._part[HEADER.size : size]), width, height)
        frame.pts, frame.time_base = time, _MICROSECONDS
        self._part.clear()
        return frame

    async def _fill(self, size: int) -> None:
        while len(self._part) < size:
            more = await self._reader.read(size - len(self._part))
            if not more:
                raise EOFError
            self._part += more


def _picture(data: bytes, width: int, height: int) -> VideoFrame:
    frame = VideoFrame(width, height, "yuv420p")
    position = 0
    for plane in frame.planes:
        rows = []
        for _ in range(plane.height):
            row = data[position : position + plane.width]
            position += plane.width
            rows.append(row.ljust(plane.line_size, b"\0"))
        plane.update(b"".join(rows).ljust(plane.buffer_size, b"\0"))
    return frame


def build(frame: VideoFrame) -> bytes:
    """A picture with its header."""
    if frame.format.name != "yuv420p" or (frame.width | frame.height) & 1:
        frame = frame.reformat(frame.width & ~1, frame.height & ~1, "yuv420p")
    time = int(frame.time * 1_000_000) if frame.time is not None else 0
    parts = [HEADER.pack(MAGIC, frame.width, frame.height, max(time, 0))]
    for plane in frame.planes:
        data, line = bytes(plane), plane.line_size
        parts += [data[y * line : y * line + plane.width] for y in range(plane.height)]
    return b"".join(parts)
