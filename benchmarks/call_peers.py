"""aiortc's own two peers, without our daemon: what calls are measured against.

One process is one side of ``COUNT`` calls::

    python -m benchmarks.call_peers offer|answer COUNT tone|bursts

It speaks lines of JSON: session descriptions in and out, then ``{"answered": seconds, "first":
seconds}`` (when it began to answer, when the first frame came; of CLOCK_MONOTONIC), and a
``{"heard": seconds}`` for each burst, as ``calls.Ear`` hears it. Its input's end is its end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from benchmarks import sounds
from telepathy_e2e.media import frames


class Track(MediaStreamTrack):
    """Sound at the pace of a clock."""

    kind = "audio"

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._sound = sounds.Mouth() if kind == "bursts" else sounds.Tone()
        self._pace = frames.Pace(frames.FRAME)
        self._position = 0

    async def recv(self) -> AudioFrame:
        await self._pace.wait()
        frame = frames.audio_frame(self._sound.frame(), self._position)
        self._position += frames.SAMPLES
        if isinstance(self._sound, sounds.Mouth) and self._sound.began:
            say(said=time.monotonic())
        return frame


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def listen(track: MediaStreamTrack, began: float, bursts: bool) -> None:
    """Until the other side is gone."""
    ear, first = sounds.Ear(), True
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        now = time.monotonic()
        if first:
            say(answered=began, first=now)
            first = False
        if bursts and isinstance(frame, AudioFrame):
            offset = ear.burst(frames.pcm_of(frame))
            if offset is not None:
                say(heard=now + offset)


async def main(role: str, count: int, kind: str) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    connections, listening = [], []

    async def read() -> RTCSessionDescription:
        return RTCSessionDescription(**json.loads(await lines.readline()))

    for _ in range(count):
        connection = RTCPeerConnection()
        connections.append(connection)
        # To hear bursts that went one way, nothing else comes back but silence.
        connection.addTrack(Track(kind if role == "offer" or kind == "tone" else "tone"))
        began = [0.0]

        def heard(track: MediaStreamTrack, began: list[float] = began) -> None:
            listening.append(asyncio.ensure_future(listen(track, began[0], kind == "bursts")))

        if role == "offer":
            connection.on("track", heard)
            await connection.setLocalDescription(await connection.createOffer())
            say(**vars(connection.localDescription))
            await connection.setRemoteDescription(await read())
        else:
            offer = await read()
            began[0] = time.monotonic()
            connection.on("track", heard)
            await connection.setRemoteDescription(offer)
            await connection.setLocalDescription(await connection.createAnswer())
            say(**vars(connection.localDescription))
    await lines.read()
    await asyncio.gather(*(each.close() for each in connections))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
