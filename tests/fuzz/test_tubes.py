"""No bytes of a peer make a tube raise anything but PeerError, or hold more than its bounds.

Real streams are broken, cut and joined, and given to one side whole and in pieces: both ways it is
told the same. Descriptions likewise raise nothing but PeerError.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle.tubes import Kind as TubeKind
from telepathy_e2e.jingle.tubes import Tube as Description
from telepathy_e2e.jingle.tubes import Value, build, check_answer, parse, services
from telepathy_e2e.role import Role
from telepathy_e2e.tubes.events import Data, Event, Opened, Reason
from telepathy_e2e.tubes.frames import Preface, build_preface
from telepathy_e2e.tubes.limits import MAX_CONTROL, Limits
from telepathy_e2e.tubes.mux import Multiplexer
from tests.unit.tubes_support import Kind, frame

from .support import CUTS, VALUES, budget, mutated_bytes, mutated_element, pieces

LIMITS = Limits(connections=4, window=64, largest_window=256, pool=512, in_flight=4096)

_PREFACE = build_preface(Preface(8, 1024, 0))
_FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 9) | st.integers(0, 2**32 - 1),
    st.integers(0, 70) | st.integers(0, 2**32 - 1) | st.binary(max_size=70),
)
_STREAMS = (
    _PREFACE
    + frame(Kind.OPEN, 1, b"meta")
    + frame(Kind.DATA, 1, bytes(64))
    + frame(Kind.OPEN, 3)
    + frame(Kind.EOF, 1)
    + frame(Kind.DATA, 3, b"data")
    + frame(Kind.WINDOW, 2, 100)
    + frame(Kind.RESET, 2, 2),
    _PREFACE + frame(Kind.PING, 1, 2) + frame(Kind.ACK, 0, 0) + frame(Kind.CLOSE, 0),
)
STREAMS = mutated_bytes(_STREAMS) | st.lists(_FRAMES, max_size=30).map(
    lambda frames: _PREFACE + b"".join(frames)
)


def _told(parts: list[bytes]) -> tuple[list[Event], bool]:
    """What a side with one connection of its own is told, and whether the tube ended."""
    mux = Multiplexer(Role.RESPONDER, LIMITS)
    mux.road_up()
    told: list[Event] = []
    unconsumed: dict[int, int] = {}
    opened = False
    for part in parts:
        try:
            events = mux.receive_data(part)
        except PeerError:
            return told, True
        told += events
        for event in events:
            if isinstance(event, Data):
                unconsumed[event.id] = unconsumed.get(event.id, 0) + len(event.data)
            elif isinstance(event, Opened):
                assert event.id in mux.connections or events[-1] is not event
        if not opened and events:
            opened = True
            try:
                mux.write(mux.open(), b"ours")
            except NotAvailable:
                pass
        assert sum(unconsumed.values()) <= 64 * len(unconsumed) + LIMITS.pool
        assert len(mux.connections) <= 6
        assert len(mux._state.control) <= MAX_CONTROL
        assert len(mux._receiver._buffer) < 16_400
    return told, False


@budget(2)
@given(STREAMS, CUTS)
def test_any_bytes_are_a_stream_or_a_peer_error_however_they_are_cut(
    data: bytes, cuts: list[int]
) -> None:
    # The preface comes whole, so that the connection of our own is opened at the same place.
    head, rest = data[: len(_PREFACE)], data[len(_PREFACE) :]
    whole, whole_failed = _told([head, rest])
    cut, cut_failed = _told([head, *pieces(rest, cuts)])
    assert whole_failed == cut_failed
    if not whole_failed:
        assert whole == cut


@budget(1)
@given(STREAMS, st.integers(0, 5), st.data())
def test_programs_that_go_on_meanwhile_raise_nothing_else(
    data: bytes, turns: int, choose: st.DataObject
) -> None:
    mux = Multiplexer(Role.RESPONDER, LIMITS)
    mux.road_up()
    try:
        for part in pieces(data, [choose.draw(st.integers(0, 400)) for _ in range(turns)]):
            for event in mux.receive_data(part):
                if isinstance(event, Data):
                    mux.consumed(event.id, len(event.data))
                elif isinstance(event, Opened) and event.id in mux.connections:
                    mux.write(event.id, bytes(100))
                    if choose.draw(st.booleans()):
                        mux.eof(event.id)
                    else:
                        mux.reset(event.id, Reason.REFUSED)
            while mux.data_to_send(64):
                pass
    except PeerError:
        return
    assert 0 <= mux._state.spare <= LIMITS.pool


_TUBE = Description(
    TubeKind.STREAM,
    "rfb",
    {
        "u": Value("s", "alice\r"),
        "n": Value("u", 1),
        "b": Value("b", True),
        "y": Value("ay", b"x"),
    },
)


@budget(1)
@given(mutated_element([build(_TUBE)]))
def test_a_description_is_read_exactly_or_refused(element: Element) -> None:
    try:
        tube = parse(element)
    except PeerError:
        return
    assert parse(build(tube)) == tube
    check_answer(element, tube)


@given(st.lists(VALUES | VALUES.map(lambda each: f"urn:x-telepathy-e2e:tube:0/stream#{each}")))
def test_any_features_have_services_or_none(features: list[str]) -> None:
    assert len(services(features)) <= 128
