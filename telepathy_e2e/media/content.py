"""One content of a call: what is sent from a source, what is received into a sink."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from aiortc.stats import (
    RTCInboundRtpStreamStats,
    RTCOutboundRtpStreamStats,
    RTCRemoteInboundRtpStreamStats,
)
from av import AudioFrame, VideoFrame

from telepathy_e2e.errors import InvalidArgument, NotAvailable
from telepathy_e2e.jingle.rtp import Description
from telepathy_e2e.media import dtmf, frames, inside_aiortc, mapping, volume
from telepathy_e2e.media.events import DtmfReceived, Heard, MediaEvent, MediaLost
from telepathy_e2e.media.frames import Kind
from telepathy_e2e.media.inside_aiortc import SecureTransport
from telepathy_e2e.media.levels import FLOOR, Meter
from telepathy_e2e.media.playout import Playout
from telepathy_e2e.media.reorder import Reorder
from telepathy_e2e.media.sinks import Sink
from telepathy_e2e.media.sources import MediaUnavailable, Source
from telepathy_e2e.media.tracks import OutgoingTrack
from telepathy_e2e.tasks import TaskOwner

# Seconds between requests for a whole picture, each of which is large.
PICTURE_PAUSE = 0.5
# Keys that wait for those before them: a long card number with its pauses.
MAX_KEYS = 32
# Seconds between two keys (RFC 4733 leaves it open; gateways want 50 ms at least).
KEY_PAUSE = 0.07


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one content, since it was opened."""

    packets_sent: int = 0
    bytes_sent: int = 0
    """Payload."""
    packets_received: int = 0
    bytes_received: int = 0
    """Packets before decryption took its share off, RTP headers included."""
    packets_lost: int = 0
    """Of those that we should have received."""
    packets_lost_there: int = 0
    """Of ours, as the peer reports."""
    jitter: float = 0.0
    """Of what arrives, seconds (RFC 3550 section 6.4.1)."""
    round_trip: float | None = None
    """Seconds; None: no report yet."""
    codec_sent: str = ""
    codec_received: str = ""
    level_sent: float = FLOOR
    """dBFS, at the volume at which it is sent."""
    level_received: float = FLOOR
    """dBFS, as it came."""
    waiting: float = 0.0
    """Seconds of sound that are kept against jitter."""


class Content:
    """Made by the engine when a content is opened; ``close`` ends it."""

    def __init__(
        self, name: str, kind: Kind, mid: str, ssrcs: tuple[int, int], cname: str,
        dtls: SecureTransport, events: Callable[[MediaEvent], None],
    ) -> None:  # fmt: skip
        self.name, self.kind, self.mid = name, kind, mid
        self._ssrcs, self._cname, self._dtls, self._events = ssrcs, cname, dtls, events
        self._tasks = TaskOwner(f"content {name}")
        self._track: OutgoingTrack | None = None
        self._sender: RTCRtpSender | None = None
        self._receiver: RTCRtpReceiver | None = None
        self._sink = Sink()
        self._send: Description | None = None
        self._receive: Description | None = None
        self._sending = self._receiving = False
        self._heard = False
        self._held = False
        self._muted = False
        self._volumes = volume.FULL, volume.FULL
        self._numbering: dtmf.Numbering | None = None
        self._event_types: frozenset[int] = frozenset()
        self._received_events = dtmf.Received()
        self._keys: asyncio.Queue[tuple[int, int]] = asyncio.Queue(MAX_KEYS)
        self._order: Reorder[RtpPacket] = Reorder()
        self._bytes_received = 0
        self._codec_received = ""
        self._clockrates: dict[int, tuple[str, int]] = {}
        self._blind = True
        self._asked = -PICTURE_PAUSE
        self._playout = Playout()
        self.meter = Meter()

    # -- opening and closing --------------------------------------------------------------------

    @property
    def sends(self) -> bool:
        """There is a source, though it may pause."""
        return self._track is not None

    @property
    def receives(self) -> bool:
        """There is a sink, though it may pause."""
        return self._receiver is not None

    async def send(self, description: Description, source: Source | None) -> None:
        """Begin to send, or go on; None: from the source that there is."""
        if self._track is None:
            if source is None:
                raise NotAvailable("There is no source")
            self._track = OutgoingTrack(self.kind, source, lambda text: self._lost("source", text))
            self._track.mute(self._muted)
            self._track.volume = self._volumes[0]
        elif source is not None:
            await self._track.replace(source)
        self._sending = True
        if self._sender is None:
            parameters = mapping.send_parameters(description, self.mid, self._cname)
            sender = RTCRtpSender(self._track, self._dtls)
            inside_aiortc.set_ssrcs(sender, *self._ssrcs)
            if self.kind == "audio":
                self._numbering = dtmf.Numbering(parameters.codecs[0].clockRate)
                self._dtls.number(self._ssrcs[0], self._numbering)
            self._sender, self._send = sender, description
            await sender.send(parameters)
        self._apply()

    async def receive(self, description: Description, sink: Sink | None) -> None:
        """Begin to receive, or go on; None: into the sink that there is."""
        if sink is not None:
            former, self._sink = self._sink, sink
            await former.close()
        self._receiving = True
        if self._receiver is None:
            parameters = mapping.receive_parameters(description, self.mid)
            self._clockrates = {
                codec.payloadType: (codec.name, codec.clockRate)
                for codec in parameters.codecs
                if codec.payloadType is not None
            }
            self._event_types = frozenset(pt.id for pt in mapping.event_types(description))
            self._receive = description
            self._receiver = inside_aiortc.make_receiver(self.kind, self._dtls, self._ssrcs[0])
            self._dtls.listen(self._receiver, self)
            await self._receiver.receive(parameters)
            if self.kind == "audio":
                self._tasks.start("decoded", self._take_sound(self._receiver))
                self._tasks.start("play", self._play())
            else:
                self._tasks.start("show", self._show(self._receiver))
        self._apply()

    def pause_sending(self) -> None:
        self._sending = False
        self._apply()

    def pause_receiving(self) -> None:
        self._receiving = self._heard = False
        self._apply()

    async def close(self) -> None:
        await self._tasks.close()
        if self._sender is not None:
            await self._sender.stop()
            self._dtls.number(self._ssrcs[0], None)
        if self._receiver is not None:
            self._dtls.listen(self._receiver, None)
            await self._receiver.stop()
        if self._track is not None:
            await self._track.close()
        await self._sink.close()

    # -- while it runs --------------------------------------------------------------------------

    def mute(self, on: bool) -> None:
        self._muted = on
        if self._track is not None:
            self._track.mute(on)

    def set_volumes(self, sent: int, played: int) -> None:
        self._volumes = sent, played
        if self._track is not None:
            self._track.volume = sent

    def hold(self, on: bool) -> None:
        self._held = on
        self._apply()

    async def replace_source(self, source: Source) -> None:
        if self._track is None:
            raise NotAvailable("Nothing is sent")
        await self._track.replace(source)

    async def replace_sink(self, sink: Sink) -> None:
        former, self._sink = self._sink, sink
        await former.close()

    def dtmf(self, event: int, duration_ms: int) -> None:
        if not 0 <= event <= dtmf.MAX_EVENT:
            raise InvalidArgument("There is no such key")
        if self._send is None or not self._sending or self._event_type() is None:
            raise NotAvailable("The other side takes no keys")
        duration = min(max(duration_ms, dtmf.MIN_DURATION), dtmf.MAX_DURATION)
        try:
            self._keys.put_nowait((event, duration))
        except asyncio.QueueFull:
            raise NotAvailable("Too many keys at once") from None
        if self._keys.qsize() == 1 and not self._pressing:
            self._pressing = True
            self._tasks.start("keys", self._press())

    _pressing = False

    async def stats(self) -> Stats:
        figures: dict[str, float | int | str | None] = {}
        if self._sender is not None and self._send is not None:
            figures["codec_sent"] = mapping.codecs(self._send)[0].name
            for report in (await self._sender.getStats()).values():
                if isinstance(report, RTCOutboundRtpStreamStats):
                    figures["packets_sent"] = report.packetsSent
                    figures["bytes_sent"] = report.bytesSent
                elif isinstance(report, RTCRemoteInboundRtpStreamStats):
                    figures["round_trip"] = report.roundTripTime
                    figures["packets_lost_there"] = report.packetsLost
        if self._receiver is not None:
            name, rate = self._clockrates.get(self._payload_type, ("", 0))
            figures["codec_received"] = name
            figures["bytes_received"] = self._bytes_received
            packets = lost = 0
            for report in (await self._receiver.getStats()).values():
                if isinstance(report, RTCInboundRtpStreamStats):
                    packets += report.packetsReceived
                    lost += max(report.packetsLost, 0)
                    figures["jitter"] = report.jitter / rate if rate else 0.0
            figures["packets_received"], figures["packets_lost"] = packets, lost
        return Stats(
            **figures,  # type: ignore[arg-type]
            level_sent=self._track.meter.level if self._track is not None else FLOOR,
            level_received=self.meter.level,
            waiting=self._playout.waiting,
        )

    # -- inside ---------------------------------------------------------------------------------

    def _apply(self) -> None:
        if self._sender is not None:
            inside_aiortc.enable(self._sender, self._sending and not self._held)
        if self._receiver is not None:
            on = self._receiving and not self._held
            if on and self.kind == "video" and not inside_aiortc.enabled(self._receiver):
                self._blind = True
                inside_aiortc.forget_pictures(self._receiver)
            inside_aiortc.enable(self._receiver, on)

    _payload_type = -1

    def take(self, packet: RtpPacket, size: int) -> list[RtpPacket]:
        """For the transport: see ``Incoming``."""
        if self._receiver is None:
            return []
        if not self._receiving or self._held:
            inside_aiortc.not_lost(self._receiver, packet)
            return []
        self._bytes_received += size
        if not self._heard:
            self._heard = True
            self._events(Heard(self.name))
        ready = [packet]
        if self.kind == "video":
            self._look(self._receiver, packet.ssrc)
        if self.kind == "audio":
            ready = self._order.add(packet.ssrc, packet.sequence_number, packet)
        return [each for each in ready if self._wanted(self._receiver, each)]

    def _look(self, receiver: RTCRtpReceiver, ssrc: int) -> None:
        """Ask for a whole picture until one is seen: we may have come in the middle."""
        now = time.monotonic()
        if self._blind and now - self._asked >= PICTURE_PAUSE:
            self._asked = now
            self._tasks.start("look", inside_aiortc.ask_for_picture(receiver, ssrc))

    def _wanted(self, receiver: RTCRtpReceiver, packet: RtpPacket) -> bool:
        if packet.payload_type in self._event_types:
            self._playout.pause()
            event = self._received_events.packet(packet.timestamp, packet.payload)
            if event is not None:
                self._events(DtmfReceived(self.name, event))
            inside_aiortc.not_lost(receiver, packet)
            return False
        self._payload_type = packet.payload_type
        codec = self._clockrates.get(packet.payload_type, ("", 0))[0]
        if codec == "VP8" and inside_aiortc.picture_too_large(packet.payload):
            return False
        return inside_aiortc.undecoded(receiver) < inside_aiortc.MAX_UNDECODED

    async def _take_sound(self, receiver: RTCRtpReceiver) -> None:
        uniform = frames.Uniform()
        while True:
            try:
                frame = await receiver.track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, AudioFrame):
                self._playout.put(uniform.samples(frame))

    async def _play(self) -> None:
        pace, position = frames.Pace(frames.FRAME), 0
        while True:
            await pace.wait()
            pcm = self._playout.get() or frames.SILENCE
            self.meter.add(pcm)
            if not self._sink.drops:
                heard = volume.scaled(pcm, self._volumes[1])
                await self._write(frames.audio_frame(heard, position))
            position += frames.SAMPLES

    async def _show(self, receiver: RTCRtpReceiver) -> None:
        while True:
            try:
                frame = await receiver.track.recv()
            except MediaStreamError:
                return
            self._blind = False
            if isinstance(frame, VideoFrame) and frame.width * frame.height <= frames.MAX_PIXELS:
                await self._write(frame)

    async def _write(self, frame: AudioFrame | VideoFrame) -> None:
        sink = self._sink
        try:
            await sink.write(frame)
        except MediaUnavailable as error:
            if sink is self._sink:
                self._sink = Sink()
                self._lost("sink", str(error))
            await sink.close()

    def _lost(self, direction: str, text: str) -> None:
        self._events(MediaLost(self.name, "source" if direction == "source" else "sink", text))

    def _event_type(self) -> int | None:
        if self._send is None:
            return None
        return mapping.event_type(self._send, mapping.codecs(self._send)[0].clockRate)

    async def _press(self) -> None:
        try:
            while not self._keys.empty():
                event, duration = self._keys.get_nowait()
                await self._press_one(event, duration)
                await asyncio.sleep(KEY_PAUSE)
        finally:
            self._pressing = False

    async def _press_one(self, event: int, duration_ms: int) -> None:
        payload_type, numbering, send = self._event_type(), self._numbering, self._send
        if payload_type is None or numbering is None or send is None:
            return
        # Nothing to go on from yet: the first packets of sound are on their way.
        for _ in range(50):
            if numbering.ready():
                break
            await asyncio.sleep(dtmf.INTERVAL)
        else:
            return
        rate = mapping.codecs(send)[0].clockRate
        start = time.monotonic()
        timestamp = numbering.timestamp(start)
        ssrc, total = self._ssrcs[0], duration_ms * rate // 1000
        numbering.quiet = True
        try:
            first, repeats = True, 0
            while repeats < dtmf.LAST_PACKETS:
                await asyncio.sleep(0 if repeats else dtmf.INTERVAL)
                length = int((time.monotonic() - start) * rate)
                end = length >= total
                payload = dtmf.build(event, end, total if end else length)
                if not self._held:
                    await self._dtls.send_event(
                        numbering.event(payload_type, ssrc, timestamp, payload, first)
                    )
                first = False
                repeats += end
        except ConnectionError:
            pass  # the road is told of elsewhere
        finally:
            numbering.quiet = False


def new_ssrc() -> int:
    """RFC 3550 section 8.1; 0 is what some take for none."""
    return secrets.randbelow(0xFFFFFFFF) + 1
