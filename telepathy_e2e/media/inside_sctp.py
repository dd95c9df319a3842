"""What we need of aiortc's SCTP, and all of its private names that we use.

``tests/unit/test_media_data_stream.py`` fails if one of them goes. aiortc has many streams, of
messages that it holds until somebody reads; this has one ordered stream of bytes, of which no more
is held than ``WINDOW`` says. What a peer sends in any other form ends the association.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Final, Protocol

from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import Chunk as _Chunk
from aiortc.rtcsctptransport import DataChunk as _DataChunk
from aiortc.rtcsctptransport import (
    RTCSctpTransport,
    SackChunk,
    parse_packet,
)

log = logging.getLogger(__name__)

#: Bytes that may wait to be read, told to the peer with each acknowledgement. On a way of 100 ms
#: that is 5 MB/s, which Python does not reach.
WINDOW: Final = 512 * 1024
#: What a sender that does not look at the window (aiortc as it is) gets rid of beyond it.
SLACK: Final = 64 * 1024
#: What a piece costs beside its bytes.
OVERHEAD: Final = 256
#: TSNs ahead of the one that is missing: the window in pieces of the usual size, twice.
MAX_AHEAD: Final = 1024
#: Chunks of one packet that are looked at.
MAX_CHUNKS: Final = 64
#: Gaps that one acknowledgement tells: a packet has room for some 250.
MAX_GAPS: Final = 64
#: Bytes of a DATA_CHANNEL_OPEN with its label; a Jingle content's name has 256 characters.
MAX_CONTROL: Final = 2048
#: Bytes of payload in a packet (1189 with all headers of SCTP, as aiortc has it).
PIECE: Final = 1160
#: Pieces that wait to be sent before the writer waits.
MAX_QUEUED: Final = 128
#: Bytes on the way without an acknowledgement, whatever window the peer says that it has: each is
#: kept until then, and looked at with each acknowledgement.
MAX_FLIGHT: Final = 1024 * 1024
#: Seconds; RFC 9260 section 6.2 has 200 ms at most.
DELAY: Final = 0.05
#: Packets that are each acknowledged at once, at first: so the sender finds out sooner how fast it
#: may go, which it does by counting acknowledgements.
QUICK: Final = 500
#: Seconds after which a window that is shut is tried (RFC 9260 section 6.1, rule A): the news that
#: it is open again may have been lost.
PROBE: Final = 1.0

_DCEP: Final = 50
_BINARY: Final = 53
_BINARY_EMPTY: Final = 57
_OPEN: Final = 3
_ACK: Final = 2

_DATA, _INIT, _INIT_ACK, _SACK, _COOKIE_ECHO = 0, 1, 2, 3, 10
# With parameters, and where they begin.
_PARAMETERS: Final = {_INIT: 20, _INIT_ACK: 20, 4: 4, 5: 4, 6: 4, 9: 4}
# What a peer may send us; others are skipped (RFC 9260 section 3.2), and so are those that reset
# streams or skip data, since we never agreed to either.
_KNOWN: Final = frozenset({_DATA, _INIT, _INIT_ACK, _SACK, 4, 5, 6, 7, 8, 9, _COOKIE_ECHO, 11, 14})
_RECONFIG: Final = 130

_WRONG_BYTES: Final = (ValueError, struct.error, IndexError, AssertionError, UnicodeDecodeError)


class Taker(Protocol):
    """What the stream tells; none of these may wait."""

    def opened(self) -> None:
        """Both sides have the channel."""

    def arrived(self, data: bytes) -> None:
        """The next bytes. ``OneStream.consumed`` when they are gone."""

    def ended(self) -> None:
        """The peer sends nothing more."""

    def closed(self, why: str) -> None:
        """The association is over."""

    def room(self) -> None:
        """``has_room`` may have become true, or ``idle``."""


class OneStream(RTCSctpTransport):
    """One association, one data channel that is reliable and ordered (RFC 8831, RFC 8832).

    Args:
        opens: whether we open the channel; the other side waits for that.
        label: of the channel.
    """

    def __init__(
        self, transport: RTCDtlsTransport, port: int, taker: Taker, *, opens: bool, label: str
    ) -> None:
        super().__init__(transport, port)
        self._taker = taker
        self._opens = opens
        self._label = label
        self._stream: int | None = None
        self._local_partial_reliability = False
        self._outbound_streams_count = self._inbound_streams_max = 2
        self._ahead: dict[int, _DataChunk] = {}
        self._held = 0
        self._unread = 0
        self._told_window = WINDOW
        self._peer_window = PIECE
        self._control = bytearray()
        self._is_open = False
        self._has_ended = False
        self._over = False
        self._unacknowledged = self._packets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None

    # -- for whoever has the stream ---------------------------------------------------------------

    async def begin(self, remote_port: int) -> None:
        """Call when DTLS is up."""
        await self.start(None, remote_port)

    @property
    def is_up(self) -> bool:
        return not self._over and self._association_state is self.State.ESTABLISHED

    @property
    def has_room(self) -> bool:
        """Whether more may be sent."""
        return len(self._outbound_queue) < MAX_QUEUED

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged everything."""
        return not self._outbound_queue and not self._sent_queue

    async def send(self, data: bytes) -> None:
        """Queue bytes; ask ``has_room`` before."""
        if self._stream is not None:
            await self._send(self._stream, _BINARY, data)

    async def send_end(self) -> None:
        """The end of our direction: an empty message, which is written as one byte (RFC 8831
        section 6.6)."""
        if self._stream is not None:
            await self._send(self._stream, _BINARY_EMPTY, b"\0")

    def consumed(self, count: int) -> None:
        """So many of the bytes that arrived are gone."""
        self._unread -= count
        # The peer waits for news of a window that was nearly shut (RFC 9260 section 6.2).
        if self._told_window < WINDOW // 4 and self._window() >= WINDOW // 2 and self.is_up:
            self._spawn(self._send_sack())

    async def end(self) -> None:
        """Abort the association."""
        if not self._over:
            self._over = True
            self._cancel_timers()
            await self.stop()

    # -- packets ----------------------------------------------------------------------------------

    async def _handle_data(self, data: bytes) -> None:
        """A packet, out of DTLS: the peer wrote it, nobody else."""
        if self._over:
            return
        try:
            kinds = _kinds(data)
            if _RECONFIG in kinds:
                self._fail("the peer closed the channel")
                return
            _, _, tag, chunks = parse_packet(data)
            if _INIT in kinds:
                # Alone, and not to begin anew what is up.
                if len(kinds) == 1 and tag == 0 and not self.is_up:
                    self._note_window(chunks[0])
                    await self._receive_chunk(chunks[0])
                return
            if tag != self._local_verification_tag:
                return
            for chunk in chunks:
                if self._over:
                    return
                if chunk.type == _INIT_ACK:
                    self._note_window(chunk)
                if chunk.type in _KNOWN:
                    await self._receive_chunk(chunk)
        except _WRONG_BYTES as error:
            self._fail(f"a wrong packet: {type(error).__name__}")
            return
        if self._sack_needed and not self._over:
            self._acknowledge(at_once=bool(self._ahead or self._sack_duplicates))

    def _note_window(self, chunk: _Chunk) -> None:
        self._peer_window = int(chunk.advertised_rwnd)  # type: ignore[attr-defined]

    async def _receive_data_chunk(self, chunk: _DataChunk) -> None:
        if self._last_received_tsn is None:
            return
        self._sack_needed = True
        ahead = (chunk.tsn - self._last_received_tsn) % 2**32
        if ahead == 0 or ahead >= 2**31 or chunk.tsn in self._ahead:
            self._sack_duplicates.append(chunk.tsn)
            return
        size = len(chunk.user_data)
        if size == 0:
            self._fail("a piece without data")
            return
        limit = WINDOW + SLACK
        if ahead > 1:
            # The one that is missing has room kept for it, or nothing would ever move again.
            limit -= SLACK // 2
        if ahead > MAX_AHEAD or self._unread + self._held + size + OVERHEAD > limit:
            return  # not acknowledged: it comes again
        if ahead > 1:
            self._ahead[chunk.tsn] = chunk
            self._sack_misordered.add(chunk.tsn)
            self._held += size + OVERHEAD
            return
        gap = bool(self._ahead)
        next_: _DataChunk | None = chunk
        while next_ is not None and not self._over:
            self._last_received_tsn = next_.tsn
            self._take(next_)
            tsn = (next_.tsn + 1) % 2**32
            next_ = self._ahead.pop(tsn, None)
            if next_ is not None:
                self._sack_misordered.discard(tsn)
                self._held -= len(next_.user_data) + OVERHEAD
        if gap:
            self._unacknowledged = 2  # what fills a gap is told at once

    def _take(self, chunk: _DataChunk) -> None:
        """The next piece: on one stream in the order of its TSNs is the order of its bytes."""
        if chunk.flags & 0x04:
            self._fail("a message out of order")
        elif chunk.protocol == _DCEP:
            self._take_control(chunk)
        elif chunk.stream_id != self._stream:
            self._fail("a stream that nobody opened")
        elif self._has_ended:
            self._fail("bytes after the end")
        elif chunk.protocol == _BINARY:
            self._unread += len(chunk.user_data)
            self._taker.arrived(chunk.user_data)
        elif chunk.protocol == _BINARY_EMPTY:
            self._has_ended = True
            self._taker.ended()
        else:
            self._fail("a message of another kind")

    # -- the channel (RFC 8832) -------------------------------------------------------------------

    def _take_control(self, chunk: _DataChunk) -> None:
        self._control += chunk.user_data
        if len(self._control) > MAX_CONTROL:
            self._fail("a long message about channels")
            return
        if not chunk.flags & 0x01:
            return
        message, self._control = bytes(self._control), bytearray()
        if message[0] == _ACK and self._opens and chunk.stream_id == self._stream:
            self._open_now()
        elif message[0] == _OPEN and not self._opens and self._stream is None:
            kind, label = struct.unpack_from("!xB6xHxx", message)
            # Reliable and in order; what it is called says nothing, since there is one.
            if kind != 0 or len(message) < 12 + label:
                self._fail("a channel of another kind")
                return
            self._stream = chunk.stream_id
            self._spawn(self._send(self._stream, _DCEP, bytes([_ACK])))
            self._open_now()
        else:
            self._fail("another channel")

    def _open_now(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._taker.opened()

    async def _open_channel(self) -> None:
        # RFC 8832 section 6: even numbers are the DTLS client's.
        self._stream = 1 if self.is_server else 0
        label = self._label.encode()[:256]
        message = struct.pack("!BBHLHH", _OPEN, 0, 256, 0, len(label), 0) + label
        await self._send(self._stream, _DCEP, message)

    # -- acknowledgements -------------------------------------------------------------------------

    def _window(self) -> int:
        return max(0, WINDOW - self._unread - self._held)

    def _acknowledge(self, *, at_once: bool) -> None:
        """Every second packet, and those that tell of a loss, at once (RFC 9260 section 6.2)."""
        self._unacknowledged += 1
        self._packets += 1
        if at_once or self._unacknowledged >= 2 or self._packets < QUICK:
            self._spawn(self._send_sack())
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._sack_needed and self.is_up:
            self._spawn(self._send_sack())

    async def _send_sack(self) -> None:
        self._cancel_timer()
        self._unacknowledged = 0
        self._sack_needed = False
        if self._last_received_tsn is None:
            return
        gaps: list[tuple[int, int]] = []
        for position in sorted((tsn - self._last_received_tsn) % 2**32 for tsn in self._ahead):
            if gaps and gaps[-1][1] == position - 1:
                gaps[-1] = (gaps[-1][0], position)
            elif len(gaps) < MAX_GAPS:
                gaps.append((position, position))
            else:
                break
        sack = SackChunk()
        sack.cumulative_tsn = self._last_received_tsn
        sack.advertised_rwnd = self._told_window = self._window()
        sack.duplicates = self._sack_duplicates[:MAX_GAPS]
        sack.gaps = gaps
        self._sack_duplicates.clear()
        await self._send_chunk(sack)

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        outstanding = len(self._sent_queue)
        # Else 250 gaps of 65,535 each, in one packet, are seconds of work.
        end = 0
        for first, last in chunk.gaps:
            if not end < first <= last <= outstanding + 1:
                return
            end = last
        # Of what was never sent.
        if (self._local_tsn - 1 - chunk.cumulative_tsn) % 2**32 >= 2**31:
            return
        if (chunk.cumulative_tsn - self._last_sacked_tsn) % 2**32 < 2**31:
            self._peer_window = chunk.advertised_rwnd
        await super()._receive_sack_chunk(chunk)
        self._taker.room()

    # -- sending ----------------------------------------------------------------------------------

    async def _transmit(self, *, probe: bool = False) -> None:
        if not self.is_up:
            return
        # aiortc does not look at the peer's window. Nothing in here waits, so nobody else sees
        # what the congestion window is meanwhile.
        congestion = self._cwnd
        window = self._peer_window if self._peer_window >= PIECE else int(probe)
        self._cwnd = limited = min(congestion, window, MAX_FLIGHT)
        try:
            await super()._transmit()
        finally:
            if self._cwnd == limited:
                self._cwnd = congestion
        if not self.idle and not self._flight_size and self._probe is None:
            self._probe = asyncio.get_running_loop().call_later(PROBE, self._try_window)

    def _try_window(self) -> None:
        self._probe = None
        if self.is_up:
            self._spawn(self._transmit(probe=True))

    async def _send_chunk(self, chunk: _Chunk) -> None:
        try:
            await super()._send_chunk(chunk)
        except ConnectionError:
            # Timers of aiortc come after the end; whoever has DTLS has told it.
            log.debug("a packet could not be sent any more")

    # -- the association --------------------------------------------------------------------------

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        before = self._association_state
        super()._set_state(state)
        if state is before:
            return
        if state is self.State.ESTABLISHED and self._opens and self._stream is None:
            self._spawn(self._open_channel())
        elif state is self.State.SHUTDOWN_RECEIVED:
            self._fail("the peer shut the association down")
        elif state is self.State.CLOSED and not self._over:
            self._over = True
            self._cancel_timers()
            self._taker.closed("the peer ended the association")

    def _fail(self, why: str) -> None:
        """The peer did what nobody does: that was the last of it."""
        if self._over:
            return
        log.info("a data channel is ended: %s", why)
        self._over = True
        self._cancel_timers()
        self._ahead.clear()
        self._spawn(self.stop())
        self._taker.closed(why)

    def _spawn(self, work: object) -> None:
        """Run what does not wait for anything, now.

        Sending never does: a datagram that the kernel does not take is lost, as on any network.
        """
        try:
            work.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            return
        raise AssertionError("sending a datagram waited")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_timers(self) -> None:
        self._cancel_timer()
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None


def _kinds(data: bytes) -> list[int]:
    """The types of the chunks of a packet, looked at before aiortc does.

    A parameter without a length would have it read for ever.

    Raises:
        ValueError: not a packet.
    """
    kinds: list[int] = []
    at, length = 12, len(data)
    while at <= length - 4:
        kind, size = data[at], int.from_bytes(data[at + 2 : at + 4])
        if size < 4 or at + size > length or len(kinds) >= MAX_CHUNKS:
            raise ValueError("not a packet")
        if kind in _PARAMETERS:
            each, end = at + _PARAMETERS[kind], at + size
            while each <= end - 4:
                extent = int.from_bytes(data[each + 2 : each + 4])
                if extent < 4:
                    raise ValueError("a parameter without an extent")
                each += extent + -extent % 4
        kinds.append(kind)
        at += size + -size % 4
    return kinds
