"""The stream of a tube as bytes (spec/tubes.md, "The stream"): preface and frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from telepathy_e2e.errors import PeerError

# The last character is the version, that of the namespace.
MAGIC: Final = b"e2etube0"

# Bytes of a connection in one frame. What is urgent waits for at most one frame that has begun;
# larger ones measured no faster (benchmarks/README.md).
MAX_DATA: Final = 16 * 1024

# Bytes that go with an opening. Nothing uses them yet; a kilobyte names any address.
MAX_METADATA: Final = 1024

# Windows are added up in signed 32-bit numbers by others.
MAX_WINDOW: Final = 2**31 - 1

# Identifiers stay within 31 bits; a tube ends long before it has had a thousand million openings.
MAX_ID: Final = 2**31 - 1

_HEADER: Final = struct.Struct(">BII")
_LONG: Final = struct.Struct(">BQ")
_PREFACE: Final = struct.Struct(">8sIIQ")

HEADER_SIZE: Final = _HEADER.size
PREFACE_SIZE: Final = _PREFACE.size

header = _HEADER.pack
read_header = _HEADER.unpack_from


class Kind(IntEnum):
    """The first byte of a frame."""

    OPEN = 0
    DATA = 1
    WINDOW = 2
    EOF = 3
    RESET = 4
    CLOSE = 5
    ACK = 6
    PING = 7
    PONG = 8


class Reason(IntEnum):
    """Why a connection was reset."""

    CANCELLED = 1
    """The program or the person closed it."""
    REFUSED = 2
    """There is no service, or it takes no more."""
    LOST = 3
    """It broke on the way to the program; also every reason that a reader does not know."""

    @classmethod
    def of(cls, number: int) -> Reason:
        return cls(number) if number in (1, 2, 3) else cls.LOST


@dataclass(frozen=True)
class Preface:
    """What each side says first on every road."""

    connections: int
    """The peer may have so many open that it opened."""
    window: int
    """Bytes that the peer may send in a connection before it is given more."""
    received: int
    """Bytes of frames that have arrived, on all roads before this one."""


def build_preface(preface: Preface) -> bytes:
    return _PREFACE.pack(MAGIC, preface.connections, preface.window, preface.received)


def parse_preface(data: bytes | bytearray) -> Preface:
    """Read ``PREFACE_SIZE`` bytes. Raises: PeerError."""
    magic, connections, window, received = _PREFACE.unpack(data)
    if magic != MAGIC:
        raise PeerError("not the stream of a tube, or another version of it")
    if not 1 <= window <= MAX_WINDOW:
        raise PeerError("a window that no stream could use")
    return Preface(connections, window, received)


def long(kind: Kind, number: int) -> bytes:
    """A frame whose two fields are one number of 64 bits: ACK, PING, PONG."""
    return _LONG.pack(kind, number)
