"""What a multiplexer tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from .frames import Reason

__all__ = [
    "Closing",
    "Data",
    "Eof",
    "Event",
    "Finished",
    "Opened",
    "Pong",
    "Ready",
    "Reason",
    "Reset",
    "Writable",
]


@dataclass(frozen=True)
class Ready:
    """The peer's preface came: connections can be opened; after a road was lost, all goes on."""


@dataclass(frozen=True)
class Opened:
    """The peer opened a connection. To refuse it: ``reset`` with ``Reason.REFUSED``."""

    id: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a connection; say ``consumed`` when they have gone on. Many small ones may come:
    keep what has to wait in one buffer for each connection. They are still where they came in, so
    that whoever keeps them keeps all that came with them."""

    id: int
    data: memoryview = field(repr=False)


@dataclass(frozen=True)
class Eof:
    """The peer writes no more in this connection. It still reads."""

    id: int


@dataclass(frozen=True)
class Reset:
    """The peer gave the connection up, both directions: forget it and what is unconsumed."""

    id: int
    reason: Reason


@dataclass(frozen=True)
class Writable:
    """A connection whose ``write`` did not take all takes some again."""

    id: int


@dataclass(frozen=True)
class Pong:
    """The answer to ``ping`` with this number."""

    number: int


@dataclass(frozen=True)
class Closing:
    """The peer opens no more connections and takes none; those that are open go on."""


@dataclass(frozen=True)
class Finished:
    """Both sides are closing and no connection is left: end the road when all is sent."""


Event: TypeAlias = Ready | Opened | Data | Eof | Reset | Writable | Pong | Closing | Finished
