"""The XML stream between two clients: who may say what in it, and where it ends."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.errors import Disconnected, InvalidArgument, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.xmpp.parser import MAX_DEPTH
from telepathy_e2e.xmpp.peer_stream import (
    MAX_STANZA,
    MAX_TAG,
    Event,
    PeerClosed,
    PeerFailed,
    PeerOpened,
    PeerStream,
    Received,
)

ROMEO, JULIET, CAROL = "romeo@montague.lit/orchard", "juliet@capulet.lit/balcony", "carol@x.lit/c"
CLIENT = "{jabber:client}"
ROLES = pytest.mark.parametrize("role", list(Role))

HEADER = (
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    b" version='1.0'>"
)


def message(text: str = "hi", **attributes: str) -> Element:
    element = Element(CLIENT + "message", attributes)
    SubElement(element, CLIENT + "body").text = text
    return element


def two() -> tuple[PeerStream, PeerStream]:
    return PeerStream(Role.INITIATOR, ROMEO, JULIET), PeerStream(Role.RESPONDER, JULIET, ROMEO)


def opened() -> tuple[PeerStream, PeerStream]:
    romeo, juliet = two()
    romeo.start()
    juliet.start()
    assert juliet.receive_data(romeo.data_to_send()) == [PeerOpened()]
    assert romeo.receive_data(juliet.data_to_send()) == [PeerOpened()]
    return romeo, juliet


def side(role: Role) -> PeerStream:
    """One whose peer has opened the stream by hand; in both roles the peer is Juliet."""
    stream = PeerStream(role, ROMEO, JULIET)
    stream.start()
    assert stream.receive_data(HEADER) == [PeerOpened()]
    stream.data_to_send()
    return stream


def feed(stream: PeerStream, data: bytes) -> None:
    """In pieces, as a network brings it."""
    for start in range(0, len(data), 1024):
        assert not stanzas(stream.receive_data(data[start : start + 1024]))


def stanzas(events: list[Event]) -> list[Element]:
    return [each.stanza for each in events if isinstance(each, Received)]


# -- opening --------------------------------------------------------------------------------


def test_the_responder_says_nothing_before_the_initiator_has_opened() -> None:
    romeo, juliet = two()
    romeo.start()
    juliet.start()
    assert juliet.data_to_send() == b""
    header = romeo.data_to_send()
    assert header.startswith(b"<stream:stream xmlns='jabber:client'")
    for word in (b'from="romeo@montague.lit/orchard"', b'to="juliet@capulet.lit/balcony"'):
        assert word in header
    juliet.receive_data(header)
    answer = juliet.data_to_send()
    assert b" id=" in answer
    assert b" id=" not in header


def test_names_that_xml_cannot_carry_unquoted_are_quoted() -> None:
    odd = "romeo@montague.lit/a'<\"&"
    romeo = PeerStream(Role.INITIATOR, odd, JULIET)
    juliet = PeerStream(Role.RESPONDER, JULIET, odd)
    romeo.start()
    assert juliet.receive_data(romeo.data_to_send()) == [PeerOpened()]
    romeo.receive_data(juliet.data_to_send())
    romeo.send(message())
    (got,) = stanzas(juliet.receive_data(romeo.data_to_send()))
    assert got.get("from") == odd


@ROLES
@pytest.mark.parametrize(
    ("header", "condition"),
    [
        (b"<stream xmlns='jabber:client'>", "bad-format"),
        (HEADER.replace(b" version", b" from='carol@x.lit/c' version"), "invalid-from"),
        (HEADER.replace(b" version", b" from='juliet@capulet.lit' version"), "invalid-from"),
        (HEADER.replace(b" version", b" to='carol@x.lit' version"), "improper-addressing"),
        (HEADER.replace(b" version", b" to='@' version"), "improper-addressing"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + HEADER, "restricted-xml"),
        (b"<!DOCTYPE a SYSTEM 'http://x/'>" + HEADER, "restricted-xml"),
        (b"<?php?>" + HEADER, "restricted-xml"),
        (b"GET / HTTP/1.1\r\n\r\n", "not-well-formed"),
        (b"<" + b"a" * (MAX_TAG + 2048), "policy-violation"),
    ],
)
def test_what_is_no_opening_tag_of_the_peers_ends_it(
    role: Role, header: bytes, condition: str
) -> None:
    stream = PeerStream(role, ROMEO, JULIET)
    stream.start()
    with pytest.raises(PeerError) as caught:
        feed(stream, header)
    assert caught.value.condition == condition
    said = stream.data_to_send()
    assert said.startswith(b"<stream:stream")
    assert condition.encode() in said
    assert said.endswith(b"</stream:stream>")
    assert not stream.opened


# -- stanzas --------------------------------------------------------------------------------


def test_stanzas_of_all_kinds_arrive_in_order_and_in_both_directions() -> None:
    romeo, juliet = opened()
    sent = [
        message("1"),
        Element(CLIENT + "presence"),
        Element(CLIENT + "iq", {"type": "get", "id": "1"}),
        message("2", to=JULIET, **{"from": ROMEO}),
    ]
    for each in sent:
        romeo.send(each)
    juliet.send(message("back"))
    got = stanzas(juliet.receive_data(romeo.data_to_send()))
    assert [each.tag for each in got] == [each.tag for each in sent]
    assert [each.findtext(CLIENT + "body") for each in got] == ["1", None, None, "2"]
    for each in got:
        assert (each.get("from"), each.get("to")) == (ROMEO, JULIET)
    (back,) = stanzas(romeo.receive_data(juliet.data_to_send()))
    assert (back.get("from"), back.get("to")) == (JULIET, ROMEO)


def test_what_was_given_to_send_is_left_as_it_was() -> None:
    romeo, _ = opened()
    stanza = message()
    romeo.send(stanza)
    assert stanza.attrib == {}


@ROLES
@pytest.mark.parametrize(
    ("attributes", "condition"),
    [
        (f"from='{CAROL}'", "invalid-from"),
        ("from='juliet@capulet.lit'", "invalid-from"),  # that is how her server speaks
        ("from='capulet.lit'", "invalid-from"),
        ("from='juliet@capulet.lit/other'", "invalid-from"),
        (f"from='{ROMEO}'", "invalid-from"),
        ("from=''", "improper-addressing"),
        (f"to='{CAROL}'", "improper-addressing"),
        ("to='romeo@montague.lit/other'", "improper-addressing"),
    ],
)
@pytest.mark.parametrize("name", ["message", "presence", "iq"])
def test_nobody_speaks_as_somebody_else(
    role: Role, name: str, attributes: str, condition: str
) -> None:
    stream = side(role)
    with pytest.raises(PeerError) as caught:
        stream.receive_data(f"<{name} {attributes}/>".encode())
    assert caught.value.condition == condition
    assert stream.receive_data(b"<message/>") == []


@ROLES
@pytest.mark.parametrize(
    "attributes",
    ["", f"from='{JULIET}'", "from='JULIET@capulet.LIT/balcony'", "to='romeo@montague.lit'"],
)
def test_addresses_may_be_missing_and_are_filled_in(role: Role, attributes: str) -> None:
    (got,) = stanzas(side(role).receive_data(f"<message {attributes}/>".encode()))
    assert (got.get("from"), got.get("to")) == (JULIET, ROMEO)


@ROLES
@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"<message xmlns='jabber:server'/>", "unsupported-stanza-type"),
        (b"<query xmlns='jabber:iq:roster'/>", "unsupported-stanza-type"),
        (b"<a/>", "unsupported-stanza-type"),
        (b"words", "invalid-xml"),
        (b"<message>&b;</message>", "not-well-formed"),
        (b"<message></iq>", "not-well-formed"),
        (b"<!-- c -->", "restricted-xml"),
        (b"<message><?a b?></message>", "restricted-xml"),
        (b"<message>\0</message>", "not-well-formed"),
        (b"<message>" + b"<a>" * MAX_DEPTH, "policy-violation"),
        (b"<message " + b"a" * (MAX_TAG + 2048), "policy-violation"),
    ],
)
def test_what_is_no_stanza_ends_it(role: Role, data: bytes, condition: str) -> None:
    stream = side(role)
    with pytest.raises(PeerError) as caught:
        feed(stream, data)
    assert caught.value.condition == condition
    assert condition.encode() in stream.data_to_send()
    assert stream.over
    assert stream.closing


def test_the_initiator_alone_is_told_features() -> None:
    assert side(Role.INITIATOR).receive_data(b"<stream:features><x/></stream:features>") == []
    with pytest.raises(PeerError):
        side(Role.RESPONDER).receive_data(b"<stream:features/>")


@ROLES
def test_a_stanza_has_so_many_bytes_and_no_more(role: Role) -> None:
    frame = b"<message><body></body></message>"
    room = MAX_STANZA - len(frame)

    def with_body(size: int) -> bytes:
        return frame.replace(b"<body>", b"<body>" + b"x" * size)

    stream = side(role)
    for _ in range(3):
        assert len(stanzas(stream.receive_data(with_body(room)))) == 1
    with pytest.raises(PeerError) as caught:
        stream.receive_data(with_body(room + 100))
    assert caught.value.condition == "policy-violation"


@ROLES
def test_text_that_never_ends_is_stopped_at_the_bound(role: Role) -> None:
    stream = side(role)
    stream.receive_data(b"<message><body>")
    for _ in range(MAX_STANZA // 4096 - 1):
        assert stream.receive_data(b"x" * 4096) == []
    with pytest.raises(PeerError):
        feed(stream, b"x" * 8192)


def test_blanks_between_stanzas_are_nothing() -> None:
    stream = side(Role.INITIATOR)
    for _ in range(100):
        assert stream.receive_data(b" \n" * 2048) == []
    assert len(stanzas(stream.receive_data(b"<message/>"))) == 1


# -- what we send ---------------------------------------------------------------------------


def test_a_blank_pushes_what_was_sent_and_is_nothing() -> None:
    romeo, juliet = two()
    romeo.push()
    assert not romeo.unsent
    romeo, juliet = opened()
    romeo.send(message("first"))
    romeo.push()
    romeo.send(message("second"))
    got = stanzas(juliet.receive_data(romeo.data_to_send()))
    assert [each.findtext(CLIENT + "body") for each in got] == ["first", "second"]
    romeo.close()
    romeo.push()
    assert romeo.data_to_send() == b"</stream:stream>"


def test_nothing_is_sent_before_the_peer_has_opened() -> None:
    romeo, _ = two()
    romeo.start()
    with pytest.raises(Disconnected):
        romeo.send(message())


@pytest.mark.parametrize(
    "stanza",
    [
        Element("{jabber:server}message"),
        Element("{urn:x}message"),
        message(to=CAROL),
        message(**{"from": CAROL}),
        message("\x01"),
        message("x" * MAX_STANZA),
    ],
    ids=["of servers", "of nobody", "for Carol", "of Carol", "a control", "too large"],
)
def test_what_the_peer_would_not_take_is_not_sent(stanza: Element) -> None:
    romeo, juliet = opened()
    with pytest.raises(InvalidArgument):
        romeo.send(stanza)
    romeo.send(message())
    assert len(stanzas(juliet.receive_data(romeo.data_to_send()))) == 1


# -- the end --------------------------------------------------------------------------------


def test_who_closes_still_hears_what_was_on_its_way() -> None:
    romeo, juliet = opened()
    romeo.close()
    romeo.close()
    with pytest.raises(Disconnected):
        romeo.send(message())
    juliet.send(message("late"))
    late = juliet.data_to_send()
    assert juliet.receive_data(romeo.data_to_send()) == [PeerClosed()]
    assert len(stanzas(romeo.receive_data(late))) == 1
    assert juliet.data_to_send() == b"</stream:stream>"
    assert romeo.receive_data(b"</stream:stream>") == [PeerClosed()]
    romeo.receive_eof()
    juliet.receive_eof()


@ROLES
def test_an_end_without_a_closing_tag_is_none(role: Role) -> None:
    stream = side(role)
    with pytest.raises(PeerError):
        stream.receive_eof()
    assert stream.over


@ROLES
def test_what_follows_the_closing_tag_is_not_read(role: Role) -> None:
    stream = side(role)
    assert stream.receive_data(b"</stream:stream>") == [PeerClosed()]
    assert stream.receive_data(b"<message/><<<") == []


@ROLES
def test_the_peer_may_give_a_reason(role: Role) -> None:
    stream = side(role)
    error = (
        b"<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        b"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>I go</text></stream:error>"
    )
    assert stream.receive_data(error + b"<message/>") == [PeerFailed("host-gone")]
    assert stream.data_to_send() == b"</stream:stream>"
    stream = side(role)
    assert stream.receive_data(b"<stream:error/>") == [PeerFailed("undefined-condition")]


def test_our_reason_is_one_that_the_peer_understands() -> None:
    romeo, juliet = opened()
    with pytest.raises(PeerError):
        juliet.receive_data(b"<a/>")
    assert romeo.receive_data(juliet.data_to_send()) == [PeerFailed("unsupported-stanza-type")]
