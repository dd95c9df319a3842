"""Two media engines in one process, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from av import AudioFrame, VideoFrame

from telepathy_e2e.jingle.ice import DtlsFingerprint
from telepathy_e2e.jingle.rtp import Description, Feedback, PayloadType
from telepathy_e2e.media import frames
from telepathy_e2e.media.engine import MediaEngine
from telepathy_e2e.media.events import Connected, MediaEvent
from telepathy_e2e.media.sinks import Sink
from telepathy_e2e.media.sources import Silence
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.identity import Credentials
from tests.support.waiting import PATIENCE

E = TypeVar("E")

# Bytes that ``Ears`` keep of a second, and of how many samples one is looked at for a tone: what is
# looked at while it comes must not hold it up.
SECOND = frames.RATE * 2 * frames.CHANNELS
_STRIDE = 8


def payload(id: int, name: str, rate: int, channels: int = 1, **more: Any) -> PayloadType:
    """One without the fields that nothing here looks at."""
    return PayloadType(
        id=id,
        name=name,
        clockrate=rate,
        channels=channels,
        ptime=None,
        maxptime=None,
        parameters=more.get("parameters", ()),
        feedback=more.get("feedback", ()),
    )


OPUS = Description("audio", (payload(96, "opus", 48000, 2), payload(101, "telephone-event", 48000)))
PCMU = Description("audio", (payload(0, "PCMU", 8000), payload(101, "telephone-event", 8000)))
PCMA = Description("audio", (payload(8, "PCMA", 8000),))
G722 = Description("audio", (payload(9, "G722", 8000),))
VP8 = Description(
    "video",
    (
        payload(97, "VP8", 90000, feedback=(Feedback("nack"), Feedback("nack", "pli"))),
        payload(98, "rtx", 90000, parameters=(("apt", "97"),)),
    ),
)
H264 = Description(
    "video",
    (
        payload(
            99,
            "H264",
            90000,
            parameters=(("packetization-mode", "1"), ("profile-level-id", "42e01f")),
        ),
    ),
)


def make_credentials(jid: str = "alice@example.org") -> Credentials:
    wall = datetime.now(UTC)
    key, certificate = identity.make_identity(jid, wall)
    session = identity.new_session_key()
    return Credentials(
        session, identity.make_leaf(session.public_key(), key, certificate, wall), certificate
    )


class Person:
    """One side of a call."""

    def __init__(self, controlling: bool, road: str = "m") -> None:
        self.events: list[MediaEvent] = []
        self._heard = asyncio.Condition()
        self._changed = asyncio.Event()
        self.road = road
        self.engine = MediaEngine(
            controlling=controlling,
            credentials=make_credentials(),
            servers=[],
            events=self._event,
        )
        self.engine.add_road(road)

    def _event(self, event: MediaEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, kind: type[E], count: int = 1) -> E:
        """The ``count``-th event of a kind."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [each for each in self.events if isinstance(each, kind)]
                if len(found) >= count:
                    return found[count - 1]
                self._changed.clear()
                await self._changed.wait()


class Call:
    """Alice is the initiator; her road is up when ``connect`` returns."""

    def __init__(self) -> None:
        self.alice, self.bob = Person(True), Person(False)

    async def start(
        self,
        *,
        fingerprints: Sequence[DtlsFingerprint] | None = None,
        strict: bool = True,
    ) -> None:
        alice, bob = self.alice.engine, self.bob.engine
        await asyncio.gather(alice.gather("m"), bob.gather("m"))
        hers, his = alice.local_transport("m"), bob.local_transport("m", "active")
        alice.remote_transport("m", his)
        bob.remote_transport("m", hers)
        told = fingerprints if fingerprints is not None else his.fingerprints
        alice.start("m", "server", told, strict_leaf=strict)
        bob.start("m", "client", hers.fingerprints, strict_leaf=strict)

    async def connect(self) -> None:
        await self.start()
        await self.alice.until(Connected)
        await self.bob.until(Connected)

    async def open(self, description: Description, source: Any, sink: Any, name: str = "c") -> None:
        """From Alice to Bob."""
        await self.bob.engine.open_content(
            name, "m", send=None, receive=description, sink=sink, mid=name
        )
        await self.alice.engine.open_content(
            name, "m", send=description, receive=None, source=source, mid=name
        )

    async def close(self) -> None:
        await self.alice.engine.close()
        await self.bob.engine.close()


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Call]:
    """A call whose road is up."""
    call = Call()
    try:
        await call.connect()
        yield call
    finally:
        await call.close()


class Ears(Sink):
    """Keeps what is heard, and when."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.pictures: list[VideoFrame] = []
        self.clicks: list[float] = []
        self._clicked = -SECOND
        self.closed = False

    async def write(self, frame: AudioFrame | VideoFrame) -> None:
        if isinstance(frame, VideoFrame):
            self.pictures.append(frame)
            return
        pcm = frames.pcm_of(frame)
        self.pcm += pcm
        # By the sound's own time: a loop that was held up plays one click's two halves apart.
        if max(memoryview(pcm).cast("h")) > 3000:
            if len(self.pcm) - self._clicked > SECOND // 5:
                self.clicks.append(asyncio.get_running_loop().time())
            self._clicked = len(self.pcm)

    async def close(self) -> None:
        self.closed = True

    def purity(self, hertz: int) -> float:
        """Share of the power of the last second that is a sine of ``hertz``; 0 to 1.

        The median of tenths of it: a busy machine may have left something out between them.
        """
        rate = frames.RATE // _STRIDE
        last = memoryview(bytes(self.pcm[-SECOND:])).cast("h")
        samples = last[:: frames.CHANNELS * _STRIDE].tolist()
        tenth = rate // 10
        return statistics.median(
            _purity(samples[n : n + tenth], hertz, rate) for n in range(0, rate, tenth)
        )

    def loudest(self, seconds: float = 0.1) -> int:
        """Of the last seconds."""
        samples = memoryview(bytes(self.pcm[-int(seconds * SECOND / 2) * 2 :])).cast("h")
        return max(map(abs, samples), default=0)


def _purity(samples: list[int], hertz: int, rate: int) -> float:
    power = sum(each * each for each in samples)
    if not power:
        return 0.0
    step = 2 * math.pi * hertz / rate
    real = sum(each * math.cos(step * n) for n, each in enumerate(samples))
    imaginary = sum(each * math.sin(step * n) for n, each in enumerate(samples))
    return 2 * (real * real + imaginary * imaginary) / (len(samples) * power)


class Clicks(Silence):
    """A burst of 1 kHz in one frame of 25, and when it was made.

    It lasts half the frame, so that a codec's delay does not carry it into the next: what is heard
    between the two may be a long silence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def _samples(self, position: int) -> bytes:
        if position // frames.SAMPLES % 25 != 10:
            return frames.SILENCE
        self.times.append(asyncio.get_running_loop().time())
        half = (16000).to_bytes(2, "little", signed=True) * 48
        other = (-16000).to_bytes(2, "little", signed=True) * 48
        return ((half + other) * 10).ljust(frames.FRAME_BYTES, b"\0")
