"""In-band bytestreams (XEP-0047) and their Jingle transport (XEP-0261); no timers, no stream.

``InBandSender`` cuts bytes into blocks and keeps several on the way; ``InBandReceiver`` checks
them. A stream has one of each on either side, under one sid.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import Enum
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError

from .reading import base64_bytes, decimal, session_id

IBB_NS: Final = "http://jabber.org/protocol/ibb"
TRANSPORT_NS: Final = "urn:xmpp:jingle:transports:ibb:1"
OPEN: Final = f"{{{IBB_NS}}}open"
DATA: Final = f"{{{IBB_NS}}}data"
CLOSE: Final = f"{{{IBB_NS}}}close"
TRANSPORT: Final = f"{{{TRANSPORT_NS}}}transport"

# Bytes; recommended by XEP-0047 section 5. Servers rate-limit large stanzas.
BLOCK_SIZE: Final = 4096

# XEP-0047 section 2.1.
MAX_BLOCK_SIZE: Final = 65535

# A peer that asks for a stanza for every byte gets none.
MIN_BLOCK_SIZE: Final = 64

# Blocks on the way without an acknowledgement. With 4 kB blocks this moves 650 kB/s over a round
# trip of 100 ms, where waiting for each makes 40; more would fill the queues of servers that
# other stanzas, ours too, have to pass.
WINDOW: Final = 16

_SEQUENCE: Final = 65536


@dataclass(frozen=True)
class InBandOffer:
    """What the two sides agree on."""

    sid: str
    block_size: int
    """Bytes in a block before base64, at most."""


def parse_transport(element: Element) -> InBandOffer:
    """Read the ``<transport/>`` of XEP-0261.

    Raises:
        PeerError: malformed; ``feature-not-implemented`` for data in messages, which nobody
            acknowledges.
    """
    if element.tag != TRANSPORT:
        raise PeerError("not an in-band transport")
    if element.get("stanza", "iq") != "iq":
        raise PeerError("data in messages is not supported", "feature-not-implemented")
    return InBandOffer(session_id(element.get("sid"), "sid of the stream"), _block_size(element))


def build_transport(offer: InBandOffer) -> Element:
    """The ``<transport/>`` to send."""
    attributes = {"sid": offer.sid, "block-size": str(offer.block_size)}
    return Element(TRANSPORT, attributes)


def agree(offer: InBandOffer, answer: InBandOffer) -> InBandOffer:
    """What follows from an answer to ``offer``: its block size, if it is not larger.

    Raises: PeerError: another stream, or larger blocks (XEP-0261 section 2.2).
    """
    if answer.sid != offer.sid:
        raise PeerError("another in-band stream than offered", "item-not-found")
    if answer.block_size > offer.block_size:
        raise PeerError("larger blocks than offered")
    return answer


def build_open(offer: InBandOffer) -> Element:
    """The ``<open/>`` that the Jingle initiator sends (XEP-0261 section 2.2)."""
    attributes = {"sid": offer.sid, "block-size": str(offer.block_size), "stanza": "iq"}
    return Element(OPEN, attributes)


def check_open(element: Element, agreed: InBandOffer) -> None:
    """Whether an ``<open/>`` is what was agreed on.

    Raises:
        PeerError: as XEP-0047 section 2.1 says: ``resource-constraint`` for other blocks,
            ``not-acceptable`` for data in messages, ``item-not-found`` for another stream.
    """
    _check_sid(element, OPEN, agreed.sid)
    if element.get("stanza", "iq") != "iq":
        raise PeerError("data in messages is not supported", "not-acceptable")
    if _block_size(element) != agreed.block_size:
        raise PeerError("another block size than agreed", "resource-constraint")


def build_close(sid: str) -> Element:
    """The ``<close/>`` of a stream."""
    return Element(CLOSE, {"sid": sid})


class SenderState(Enum):
    """What may still be sent."""

    OPEN = "data"
    FLUSHING = "what is pending, then close"
    CLOSING = "nothing; the acknowledgement of close is awaited"
    CLOSED = "nothing"


class InBandSender:
    """One direction, sending. Each element returned goes into an iq of type set, in order.

    Args:
        sid: of the stream.
        block_size: bytes, as agreed.
    """

    def __init__(self, sid: str, block_size: int) -> None:
        self._sid = sid
        self._block_size = block_size
        self._pending = bytearray()
        self._sequence = 0
        self._in_flight = 0
        self.state = SenderState.OPEN

    @property
    def can_take(self) -> bool:
        """Whether ``send`` may be called: nothing waits for the window to open."""
        return self.state is SenderState.OPEN and not self._pending

    @property
    def limit(self) -> int:
        """How many bytes ``send`` takes at once: a whole window."""
        return WINDOW * self._block_size

    @property
    def pending(self) -> int:
        """Bytes that wait for the window to open; at most ``limit``."""
        return len(self._pending)

    @property
    def in_flight(self) -> int:
        """Blocks that are not acknowledged; at most ``WINDOW``."""
        return self._in_flight

    @property
    def idle(self) -> bool:
        """Whether everything that was sent has been acknowledged."""
        return not self._pending and not self._in_flight

    def send(self, data: bytes | bytearray | memoryview) -> list[Element]:
        """Take up to ``limit`` bytes; returns the blocks to send now.

        Raises:
            NotAvailable: not while ``can_take`` is false.
            ValueError: more than ``limit``.
        """
        if not self.can_take:
            raise NotAvailable("This stream takes no data now")
        if len(data) > self.limit:
            raise ValueError("more than a window at once")
        self._pending += data
        return self._blocks()

    def acknowledged(self) -> list[Element]:
        """One block was acknowledged; returns what may be sent now, ``<close/>`` at the end."""
        if self._in_flight:
            self._in_flight -= 1
        return self._blocks()

    def refused(self) -> list[Element]:
        """One block was answered with an error: the stream is over (XEP-0047 section 2.2)."""
        return self._abandon(SenderState.CLOSING)

    def close(self) -> list[Element]:
        """No more data. ``<close/>`` goes out when all is acknowledged: now, or from later calls.

        So a close never overtakes data: the peer has taken it all when it comes.
        """
        if self.state is SenderState.OPEN:
            self.state = SenderState.FLUSHING
        return self._blocks()

    def closed(self) -> None:
        """The peer answered our ``<close/>``, or closed by its own and waits no longer for data."""
        self._abandon(SenderState.CLOSED)

    def _abandon(self, state: SenderState) -> list[Element]:
        closes = self.state in (SenderState.OPEN, SenderState.FLUSHING)
        if self.state is not SenderState.CLOSED:
            self.state = state
        self._pending.clear()
        self._in_flight = 0
        return [build_close(self._sid)] if closes and state is SenderState.CLOSING else []

    def _blocks(self) -> list[Element]:
        blocks = []
        while self._pending and self._in_flight < WINDOW:
            block = bytes(self._pending[: self._block_size])
            del self._pending[: self._block_size]
            element = Element(DATA, {"sid": self._sid, "seq": str(self._sequence)})
            element.text = base64.b64encode(block).decode("ascii")
            blocks.append(element)
            self._sequence = (self._sequence + 1) % _SEQUENCE
            self._in_flight += 1
        if self.state is SenderState.FLUSHING and self.idle:
            self.state = SenderState.CLOSING
            blocks.append(build_close(self._sid))
        return blocks


class InBandReceiver:
    """One direction, receiving. The caller bounds what it keeps, by answering blocks later.

    Args:
        sid: of the stream.
        block_size: bytes, as agreed.
    """

    def __init__(self, sid: str, block_size: int) -> None:
        self._sid = sid
        self._block_size = block_size
        self._expected = 0
        self.closed = False
        """The peer sent ``<close/>``."""
        self.broken = False
        """A block was lost: answer with ``<close/>``; nothing is taken any more (section 2.2)."""

    def receive(self, element: Element) -> bytes:
        """The bytes of a ``<data/>``, to be acknowledged.

        Raises:
            PeerError: ``item-not-found`` for another stream or one that is over,
                ``unexpected-request`` for a number that is not the next,
                ``bad-request`` for what is not base64 or larger than agreed.
        """
        _check_sid(element, DATA, self._sid)
        if self.closed or self.broken:
            raise PeerError("the in-band stream is over", "item-not-found")
        sequence = decimal(element.get("seq"), "seq", maximum=_SEQUENCE - 1)
        ahead = (sequence - self._expected) % _SEQUENCE
        if ahead >= _SEQUENCE // 2:
            raise PeerError("a block came twice", "unexpected-request")
        if ahead:
            self.broken = True
            raise PeerError("a block was lost", "unexpected-request")
        text = element.text or ""
        # Before decoding: base64 makes four characters of three bytes.
        if len(element) or len(text) > (self._block_size + 2) // 3 * 4:
            raise PeerError("a block larger than agreed")
        block = base64_bytes(text, "data")
        if len(block) > self._block_size:
            raise PeerError("a block larger than agreed")
        self._expected = (sequence + 1) % _SEQUENCE
        return block

    def receive_close(self, element: Element) -> None:
        """The peer's ``<close/>``: acknowledge it when our own direction has been flushed.

        Raises: PeerError: ``item-not-found`` for another stream or one that is over.
        """
        _check_sid(element, CLOSE, self._sid)
        if self.closed:
            raise PeerError("the in-band stream is over", "item-not-found")
        self.closed = True


def _check_sid(element: Element, tag: str, sid: str) -> None:
    if element.tag != tag:
        raise PeerError("not what was expected of an in-band stream")
    if element.get("sid") != sid:
        raise PeerError("no such in-band stream", "item-not-found")


def _block_size(element: Element) -> int:
    size = decimal(element.get("block-size"), "block-size", minimum=1, maximum=MAX_BLOCK_SIZE)
    if size < MIN_BLOCK_SIZE:
        raise PeerError("the blocks are too small", "not-acceptable")
    return size
