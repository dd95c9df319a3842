from __future__ import annotations

import base64
from collections import deque
from random import Random
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import ibb
from telepathy_e2e.jingle.ibb import (
    BLOCK_SIZE,
    MAX_BLOCK_SIZE,
    MIN_BLOCK_SIZE,
    WINDOW,
    InBandOffer,
    InBandReceiver,
    InBandSender,
    SenderState,
)
from telepathy_e2e.jingle.stanzas import parse

from .jingle_support import IBB, elements, over_the_wire, sample

OFFER = InBandOffer("s", 100)


def data(seq: int | str, block: bytes | str = b"x", sid: str = "s") -> Element:
    element = Element(ibb.DATA, {"sid": sid, "seq": str(seq)})
    element.text = block if isinstance(block, str) else base64.b64encode(block).decode()
    return element


def refused(receiver: InBandReceiver, element: Element) -> str:
    with pytest.raises(PeerError) as caught:
        receiver.receive(element)
    return caught.value.condition


# -- agreeing ---------------------------------------------------------------------------------


def test_what_stanza_and_gajim_agree_on_is_understood() -> None:
    offered, answered = (
        parse(sample("in-band", action)).contents[0].transport
        for action in ("session-initiate", "session-accept")
    )
    assert offered is not None
    assert answered is not None
    offer = ibb.parse_transport(offered)
    assert offer == InBandOffer("8a061cc7-41c8-4c1a-b168-bfcdf979f6a2", 4096)
    assert ibb.agree(offer, ibb.parse_transport(answered)) == offer


def test_an_offer_comes_back_as_it_went() -> None:
    assert ibb.parse_transport(over_the_wire(ibb.build_transport(OFFER))) == OFFER
    ibb.check_open(over_the_wire(ibb.build_open(OFFER)), OFFER)


def test_an_answer_may_ask_for_smaller_blocks() -> None:
    smaller = InBandOffer("s", 99)
    assert ibb.agree(OFFER, smaller) == smaller


@pytest.mark.parametrize(
    ("answer", "condition"),
    [(InBandOffer("s", 101), "bad-request"), (InBandOffer("t", 100), "item-not-found")],
)
def test_an_answer_asks_for_nothing_else(answer: InBandOffer, condition: str) -> None:
    with pytest.raises(PeerError) as caught:
        ibb.agree(OFFER, answer)
    assert caught.value.condition == condition


@pytest.mark.parametrize("size", [MIN_BLOCK_SIZE, BLOCK_SIZE, MAX_BLOCK_SIZE])
def test_block_sizes_within_the_bounds_are_taken(size: int) -> None:
    offer = InBandOffer("s", size)
    assert ibb.parse_transport(over_the_wire(ibb.build_transport(offer))) == offer


@pytest.mark.parametrize(
    ("size", "condition"),
    [
        ("0", "bad-request"),
        ("-1", "bad-request"),
        ("", "bad-request"),
        ("4k", "bad-request"),
        (str(MAX_BLOCK_SIZE + 1), "bad-request"),
        (str(MIN_BLOCK_SIZE - 1), "not-acceptable"),
    ],
)
def test_other_block_sizes_are_refused(size: str, condition: str) -> None:
    with pytest.raises(PeerError) as caught:
        ibb.parse_transport(Element(ibb.TRANSPORT, {"sid": "s", "block-size": size}))
    assert caught.value.condition == condition


def test_data_in_messages_is_refused() -> None:
    attributes = {"sid": "s", "block-size": "100", "stanza": "message"}
    with pytest.raises(PeerError) as caught:
        ibb.parse_transport(Element(ibb.TRANSPORT, attributes))
    assert caught.value.condition == "feature-not-implemented"
    with pytest.raises(PeerError) as caught:
        ibb.check_open(Element(ibb.OPEN, attributes), OFFER)
    assert caught.value.condition == "not-acceptable"


@pytest.mark.parametrize(
    ("opened", "condition"),
    [
        (InBandOffer("t", 100), "item-not-found"),
        (InBandOffer("s", 101), "resource-constraint"),
        (InBandOffer("s", 99), "resource-constraint"),
    ],
)
def test_what_is_opened_is_what_was_agreed_on(opened: InBandOffer, condition: str) -> None:
    with pytest.raises(PeerError) as caught:
        ibb.check_open(ibb.build_open(opened), OFFER)
    assert caught.value.condition == condition


# -- sending ----------------------------------------------------------------------------------


def test_bytes_are_cut_into_numbered_blocks() -> None:
    blocks = InBandSender("s", 100).send(b"a" * 250)
    assert [(block.get("seq"), block.get("sid")) for block in blocks] == [
        ("0", "s"),
        ("1", "s"),
        ("2", "s"),
    ]
    assert [len(base64.b64decode(block.text or "")) for block in blocks] == [100, 100, 50]


def test_a_window_of_blocks_is_on_the_way_and_no_more() -> None:
    sender = InBandSender("s", 100)
    assert len(sender.send(b"a" * sender.limit)) == WINDOW
    assert sender.can_take
    assert sender.send(b"b" * sender.limit) == []
    assert (sender.in_flight, sender.pending) == (WINDOW, sender.limit)
    assert not sender.can_take
    (block,) = sender.acknowledged()
    assert block.get("seq") == str(WINDOW)


def test_no_more_than_a_window_waits() -> None:
    sender = InBandSender("s", 100)
    with pytest.raises(ValueError, match="window"):
        sender.send(b"a" * (sender.limit + 1))
    sender.send(b"a" * sender.limit)
    sender.send(b"b")
    with pytest.raises(NotAvailable):
        sender.send(b"c")


def test_a_few_bytes_do_not_wait_for_more() -> None:
    sender = InBandSender("s", 100)
    assert len(sender.send(b"a")) == 1
    assert len(sender.send(memoryview(b"b"))) == 1


def test_numbers_begin_again_after_the_last() -> None:
    sender, receiver = InBandSender("s", 64), InBandReceiver("s", 64)
    for number in range(65536 + 3):
        (block,) = sender.send(b"a")
        assert block.get("seq") == str(number % 65536)
        assert receiver.receive(block) == b"a"
        assert sender.acknowledged() == []


def test_close_comes_after_everything_has_been_acknowledged() -> None:
    sender = InBandSender("s", 100)
    sender.send(b"a" * 150)
    assert sender.close() == []
    assert not sender.can_take
    assert sender.acknowledged() == []
    (close,) = sender.acknowledged()
    assert close.tag == ibb.CLOSE
    assert close.get("sid") == "s"
    assert sender.state is SenderState.CLOSING
    assert sender.close() == []
    sender.closed()
    assert sender.state.value == SenderState.CLOSED.value


def test_close_of_an_idle_stream_comes_at_once() -> None:
    (close,) = InBandSender("s", 100).close()
    assert close.tag == ibb.CLOSE


def test_what_is_pending_goes_out_before_close() -> None:
    sender, seen = InBandSender("s", 100), 0
    seen += len(sender.send(b"a" * sender.limit))
    sender.send(b"b" * 100)
    sender.close()
    tags = []
    while sender.in_flight:
        tags += [element.tag for element in sender.acknowledged()]
    assert tags == [ibb.DATA, ibb.CLOSE]


@pytest.mark.parametrize("closing", [False, True])
def test_a_refused_block_closes_the_stream_once(closing: bool) -> None:
    sender = InBandSender("s", 100)
    sender.send(b"a" * 150)
    if closing:
        sender.close()
    (close,) = sender.refused()
    assert close.tag == ibb.CLOSE
    assert sender.refused() == []
    assert sender.acknowledged() == []
    assert not sender.can_take
    assert sender.idle


def test_nothing_is_sent_into_a_stream_that_the_peer_closed() -> None:
    sender = InBandSender("s", 100)
    sender.send(b"a" * sender.limit)
    sender.send(b"b")
    sender.closed()
    assert sender.acknowledged() == []
    assert sender.close() == []
    assert sender.refused() == []
    assert not sender.can_take


# -- receiving --------------------------------------------------------------------------------


def test_blocks_are_taken_in_order() -> None:
    receiver = InBandReceiver("s", 100)
    assert receiver.receive(data(0, b"a" * 100)) == b"a" * 100
    assert receiver.receive(data(1, b"")) == b""
    assert receiver.receive(data(2, b"c")) == b"c"


def test_a_block_that_comes_twice_is_refused_and_the_stream_goes_on() -> None:
    receiver = InBandReceiver("s", 100)
    receiver.receive(data(0))
    assert refused(receiver, data(0)) == "unexpected-request"
    assert not receiver.broken
    assert receiver.receive(data(1)) == b"x"


def test_after_a_lost_block_nothing_is_taken() -> None:
    receiver = InBandReceiver("s", 100)
    receiver.receive(data(0))
    assert refused(receiver, data(2)) == "unexpected-request"
    assert receiver.broken
    assert refused(receiver, data(1)) == "item-not-found"


def test_a_block_before_the_first_is_an_old_one() -> None:
    receiver = InBandReceiver("s", 100)
    assert refused(receiver, data(65535)) == "unexpected-request"
    assert not receiver.broken


@pytest.mark.parametrize(
    "block", ["A===", "AAA", "=AAA", "BBBB=CCC", "AAAA AAAA", "AAAA\n", "\u00e9AAA", "AB=="]
)
def test_what_is_not_base64_is_refused(block: str) -> None:
    receiver = InBandReceiver("s", 100)
    assert refused(receiver, data(0, block)) == "bad-request"
    assert receiver.receive(data(0)) == b"x"


@pytest.mark.parametrize("size", [101, 102, 103, 100_000])
def test_a_block_larger_than_agreed_is_refused(size: int) -> None:
    receiver = InBandReceiver("s", 100)
    assert refused(receiver, data(0, bytes(size))) == "bad-request"
    assert receiver.receive(data(0, bytes(100))) == bytes(100)


@pytest.mark.parametrize("seq", ["", "-1", "65536", "x", "1.0"])
def test_a_number_that_is_none_is_refused(seq: str) -> None:
    assert refused(InBandReceiver("s", 100), data(seq)) == "bad-request"


def test_a_block_with_elements_in_it_is_refused() -> None:
    element = data(0)
    element.append(Element("x"))
    assert refused(InBandReceiver("s", 100), element) == "bad-request"


def test_a_block_of_another_stream_is_refused() -> None:
    assert refused(InBandReceiver("s", 100), data(0, sid="t")) == "item-not-found"


def test_after_close_nothing_is_taken() -> None:
    receiver = InBandReceiver("s", 100)
    with pytest.raises(PeerError):
        receiver.receive_close(ibb.build_close("t"))
    assert not receiver.closed
    receiver.receive_close(over_the_wire(ibb.build_close("s")))
    assert receiver.closed
    assert refused(receiver, data(0)) == "item-not-found"
    with pytest.raises(PeerError) as caught:
        receiver.receive_close(ibb.build_close("s"))
    assert caught.value.condition == "item-not-found"


# -- both -------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, WINDOW * MIN_BLOCK_SIZE), max_size=6),
    st.integers(MIN_BLOCK_SIZE, 3 * MIN_BLOCK_SIZE),
    st.randoms(use_true_random=False),
)
def test_what_goes_in_comes_out(sizes: list[int], block_size: int, random: Random) -> None:
    """However acknowledgements and writes alternate; and close comes last."""
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
    sender, receiver = InBandSender("s", block_size), InBandReceiver("s", block_size)
    on_the_way: deque[Element] = deque()
    todo, came = deque(chunks), bytearray()

    def deliver() -> None:
        element = over_the_wire(on_the_way.popleft())
        if element.tag == ibb.CLOSE:
            receiver.receive_close(element)
        else:
            came.extend(receiver.receive(element))
            on_the_way.extend(sender.acknowledged())

    while todo:
        if sender.can_take and (not on_the_way or random.random() < 0.3):
            on_the_way.extend(sender.send(todo.popleft()))
        else:
            deliver()
        assert sender.in_flight <= WINDOW
        assert sender.pending <= sender.limit
    on_the_way.extend(sender.close())
    while on_the_way:
        deliver()
    assert bytes(came) == b"".join(chunks)
    assert receiver.closed


@given(
    st.lists(
        st.one_of(
            elements(tag=ibb.DATA, depth=1),
            elements(tag=ibb.CLOSE, depth=0),
            elements(tag=ibb.OPEN, depth=0),
            elements(tag=f"{{{IBB}}}transport", depth=0),
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_no_element_raises_anything_but_a_peer_error(
    stanzas: list[Element], right_sid: bool
) -> None:
    receiver = InBandReceiver("s", 100)
    for stanza in stanzas:
        if right_sid:
            stanza.set("sid", "s")
        for read in (
            receiver.receive,
            receiver.receive_close,
            ibb.parse_transport,
            lambda element: ibb.check_open(element, OFFER),
        ):
            try:
                taken = read(stanza)
            except PeerError:
                continue
            assert not isinstance(taken, bytes) or len(taken) <= 100
