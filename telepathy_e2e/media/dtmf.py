"""Keys of a telephone in RTP: named telephone events (RFC 4733 section 2).

They share SSRC, sequence numbers and clock with the sound that they stand in for. aiortc numbers
its packets itself, so ``Numbering`` renumbers what it sends after an event.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# RFC 4733 section 3.2.
KEYS = "0123456789*#ABCD"
MAX_EVENT = len(KEYS) - 1

# Seconds between packets of one event: as those of sound (section 2.5.1.2 wants 50 ms or less).
INTERVAL = 0.020
# Section 2.5.1.4: the last packet of an event three times, for one may be lost.
LAST_PACKETS = 3
# Milliseconds. Shorter than 40 is not detected behind gateways; a longer one would need segments
# (section 2.5.1.3), for the duration has 16 bits of the RTP clock.
MIN_DURATION, MAX_DURATION = 40, 1300
# Section 2.5.2.3: -10 dBm0, what gateways take.
_VOLUME = 10

_PAYLOAD = struct.Struct("!BBH")
_HEADER = struct.Struct("!BBHLL")
_SEQUENCE = struct.Struct("!H")


@dataclass(frozen=True, slots=True)
class Event:
    """The payload of one packet."""

    event: int
    end: bool
    duration: int
    """In units of the RTP clock."""


def parse(payload: bytes) -> Event | None:
    """None: not a telephone event."""
    if len(payload) < _PAYLOAD.size:
        return None
    event, flags, duration = _PAYLOAD.unpack_from(payload)
    return Event(event, bool(flags & 0x80), duration)


def build(event: int, end: bool, duration: int) -> bytes:
    return _PAYLOAD.pack(event, (0x80 if end else 0) | _VOLUME, min(duration, 0xFFFF))


class Received:
    """Which packets begin a new event: one timestamp is one event (section 2.5.1.2)."""

    def __init__(self) -> None:
        self._last: int | None = None

    def packet(self, timestamp: int, payload: bytes) -> int | None:
        """The key, once for each time that it was pressed."""
        parsed = parse(payload)
        if parsed is None or parsed.event > MAX_EVENT or timestamp == self._last:
            return None
        self._last = timestamp
        return parsed.event


class Numbering:
    """Sequence numbers of one SSRC on their way out.

    While an event is sent, sound is not, and neither leaves a gap. No number is ever used for
    two packets: with one SRTP key that would be one keystream for two texts.
    """

    def __init__(self, clockrate: int) -> None:
        self._clockrate = clockrate
        self._theirs: int | None = None
        self._next: int | None = None
        self._timestamp = 0
        self._at = 0.0
        self.quiet = False
        """Sound is dropped."""

    def sound(self, packet: bytes, now: float) -> bytes | None:
        """A packet of the sender, renumbered; None: it must not go out."""
        (number,) = _SEQUENCE.unpack_from(packet, 2)
        # Repeats and steps back would be numbers used twice.
        if self._theirs is not None and not 0 < (number - self._theirs) & 0xFFFF < 0x8000:
            return None
        self._theirs = number
        (self._timestamp,) = struct.unpack_from("!L", packet, 4)
        self._at = now
        if self._next is None:
            self._next = number
        if self.quiet:
            return None
        return packet[:2] + _SEQUENCE.pack(self._take()) + packet[4:]

    def ready(self) -> bool:
        """Some sound went out, so that there are numbers to go on from."""
        return self._next is not None

    def timestamp(self, now: float) -> int:
        """Of something that begins now."""
        return (self._timestamp + int((now - self._at) * self._clockrate)) & 0xFFFFFFFF

    def event(
        self, payload_type: int, ssrc: int, timestamp: int, payload: bytes, first: bool
    ) -> bytes:
        """A whole RTP packet."""
        marker = 0x80 if first else 0
        number = self._take()
        return _HEADER.pack(0x80, marker | payload_type, number, timestamp, ssrc) + payload

    def _take(self) -> int:
        if self._next is None:
            raise ValueError("nothing was sent before")
        number, self._next = self._next, (self._next + 1) & 0xFFFF
        return number
