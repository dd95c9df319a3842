"""The stream parser: same events however the bytes are cut, and bounds."""

from __future__ import annotations

import tracemalloc
from xml.etree.ElementTree import tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import parser as parser_module
from telepathy_e2e.xmpp.parser import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_SKIPPED,
    MAX_STANZA,
    MAX_TAG,
    RENEW_AFTER,
    Closed,
    Event,
    Opened,
    Oversized,
    Stanza,
    StreamParser,
)

HEADER = (
    b"<?xml version='1.0'?><stream:stream id='1' xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x'>"
)
STREAM = (
    HEADER + b"<stream:features/> <iq type='get' id='a'><q xmlns='urn:q'>t\xc3\xa9xt &amp; "
    b"<![CDATA[<more>]]><x:y/></q></iq>\n<presence/></stream:stream>"
)


def shown(events: list[Event]) -> list[bytes | str]:
    result: list[bytes | str] = []
    for event in events:
        match event:
            case Opened(header):
                result.append(tostring(header))
            case Stanza(element):
                result.append(tostring(element))
            case Oversized(element):
                result.append(b"too large: " + tostring(element))
            case Closed():
                result.append("closed")
    return result


def test_a_stream_is_its_header_its_stanzas_and_its_end() -> None:
    events = StreamParser().feed(STREAM)
    assert [type(each) for each in events] == [Opened, Stanza, Stanza, Stanza, Closed]
    opened, features, iq = events[:3]
    assert isinstance(opened, Opened)
    assert opened.header.tag == "{http://etherx.jabber.org/streams}stream"
    assert opened.header.get("id") == "1"
    assert isinstance(features, Stanza)
    assert features.element.tag == "{http://etherx.jabber.org/streams}features"
    assert isinstance(iq, Stanza)
    assert iq.element.tag == "{jabber:client}iq"
    assert iq.element[0].text == "t\u00e9xt & <more>"
    assert iq.element[0][0].tag == "{urn:x}y"


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    parser = StreamParser()
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True):
        events += parser.feed(STREAM[start:end])
    assert shown(events) == shown(StreamParser().feed(STREAM))


@given(st.binary() | st.text("<>/='\"&;![]? ab:xmlns-").map(str.encode), st.booleans())
def test_no_bytes_raise_anything_but_peer_error(data: bytes, in_stanza: bool) -> None:
    parser = StreamParser()
    parser.feed(HEADER + (b"<a>" if in_stanza else b""))
    try:
        parser.feed(data)
    except PeerError:
        return


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "restricted-xml"),
        (b"<!DOCTYPE a><a/>", "restricted-xml"),
        (HEADER + b"<!-- c -->", "restricted-xml"),
        (HEADER + b"<a><?php ?></a>", "restricted-xml"),
        (HEADER + b"<a></b>", "not-well-formed"),
        (HEADER + b"<a b='1' b='2'/>", "not-well-formed"),
        (HEADER + b"<a>&undefined;</a>", "not-well-formed"),
        (HEADER + b"<a>\xff</a>", "not-well-formed"),
        (HEADER + b"<unbound:a/>", "not-well-formed"),
        (HEADER + b"<a>\x00</a>", "not-well-formed"),
        (HEADER + b"text", "invalid-xml"),
    ],
)
def test_what_xmpp_does_not_allow_ends_the_stream(data: bytes, condition: str) -> None:
    with pytest.raises(PeerError) as raised:
        StreamParser().feed(data)
    assert raised.value.condition == condition


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_stream_in_utf_16_is_refused_however_it_is_cut(encoding: str, size: int) -> None:
    data = HEADER.partition(b"?>")[2].decode().encode(encoding)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    parser = StreamParser()
    with pytest.raises(PeerError) as raised:
        list(map(parser.feed, pieces))
    assert raised.value.condition == "not-well-formed"


def test_the_encoding_is_utf_8_whatever_the_declaration_says() -> None:
    parser = StreamParser()
    parser.feed(HEADER.replace(b"'1.0'?", b"'1.0' encoding='iso-8859-1'?"))
    with pytest.raises(PeerError):
        parser.feed(b"<a>\xe9</a>")


def sized(size: int) -> bytes:
    """A stanza whose bytes up to its closing tag are ``size``."""
    return b"<a>" + b"x" * (size - 3) + b"</a>"


def pieces(parser: StreamParser, data: bytes, step: int) -> list[Event]:
    """Feed data in pieces of ``step`` bytes."""
    return [
        event
        for start in range(0, len(data), step)
        for event in parser.feed(data[start : start + step])
    ]


@pytest.mark.parametrize("step", [7, 1000, 100_000])
def test_a_stanza_may_be_as_large_as_the_bound_and_no_larger(step: int) -> None:
    limit = 5000
    assert len(pieces(StreamParser(limit), HEADER + sized(10) + sized(limit - 8), step)) == 3
    with pytest.raises(PeerError) as raised:
        pieces(StreamParser(limit), HEADER + sized(10) + sized(limit + 1), step)
    assert raised.value.condition == "policy-violation"


def test_many_stanzas_may_be_larger_than_the_bound_together() -> None:
    parser = StreamParser(1000)
    parser.feed(HEADER)
    for _ in range(50):
        assert len(parser.feed(sized(900) + b" ")) == 1


def test_white_space_between_stanzas_counts_for_nothing() -> None:
    parser = StreamParser(1000)
    parser.feed(HEADER)
    for _ in range(5000):
        parser.feed(b" ")
    assert len(parser.feed(sized(900))) == 1


def test_a_tag_that_never_ends_is_too_large() -> None:
    parser = StreamParser(1000)
    parser.feed(HEADER + b"<a b='")
    with pytest.raises(PeerError):
        pieces(parser, b"x" * 10_000, 100)


def test_a_header_that_never_ends_is_too_large() -> None:
    parser = StreamParser(1000)
    with pytest.raises(PeerError):
        pieces(parser, b" " * 10_000, 100)


def test_depth_has_a_bound() -> None:
    inside = MAX_DEPTH - 1
    StreamParser().feed(HEADER + b"<a>" * inside + b"</a>" * inside)
    with pytest.raises(PeerError):
        StreamParser().feed(HEADER + b"<a>" * (inside + 1))


def test_the_number_of_elements_has_a_bound() -> None:
    StreamParser().feed(HEADER + b"<a>" + b"<b/>" * (MAX_ELEMENTS - 1) + b"</a>")
    with pytest.raises(PeerError):
        StreamParser().feed(HEADER + b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>")


@pytest.mark.parametrize("cut", [0, 7, 500])
def test_names_are_forgotten_and_the_stream_goes_on(cut: int) -> None:
    """expat keeps every name it saw; a peer may send as many as it likes, over days."""
    parser = StreamParser()
    parser.feed(HEADER)
    first = parser._parser
    count = 0
    for number in range(3 * RENEW_AFTER // 1000):
        data = b"<iq a='>'><x:n%d>%s</x:n%d></iq>" % (number, b"x" * 1000, number)
        half = len(data) - cut
        for part in (data[:half], data[half:]):
            for event in parser.feed(part):
                assert isinstance(event, Stanza)
                assert event.element[0].tag == f"{{urn:x}}n{number}"
                count += 1
    assert count == 3 * RENEW_AFTER // 1000
    assert parser._parser is not first
    assert len(parser._parser.intern) < 2 * RENEW_AFTER // 1000
    assert [type(each) for each in parser.feed(b"</stream:stream>")] == [Closed]


def test_names_are_not_forgotten_in_the_middle_of_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parser_module, "RENEW_AFTER", 1)
    for middle in (b"<a/><b c='>", b"<a/><b>", b"<a/> <", b"<a b='>'/><c"):
        whole = (
            middle
            + {
                b"<a/><b c='>": b"'/>",
                b"<a/><b>": b"</b>",
                b"<a/> <": b"b/>",
                b"<a b='>'/><c": b"/>",
            }[middle]
        )
        parser = StreamParser()
        events = parser.feed(HEADER) + parser.feed(middle) + parser.feed(whole[len(middle) :])
        assert len(events) == 3


# -- what is too large, of somebody for whom the server can do nothing --------------------------

LARGE = b"<iq from='a@b/c' id='1'><v><p>" + b"x" * 3000 + b"</p><q/>\xc3\xa9&amp;</v></iq>"


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_a_stanza_that_is_too_large_is_skipped_and_the_stream_goes_on(step: int) -> None:
    stream = HEADER + sized(10) + LARGE + b" " + sized(20) + LARGE + LARGE + b"<e/></stream:stream>"
    told = shown(pieces(StreamParser(1000, 5000), stream, step))
    dropped = b"too large: " + b'<ns0:iq xmlns:ns0="jabber:client" from="a@b/c" id="1" />'
    assert [each == dropped for each in told] == [0, 0, 1, 0, 1, 1, 0, 0]
    assert told[-1] == "closed"


@pytest.mark.parametrize("step", [7, 100_000])
def test_what_is_skipped_has_a_bound_as_well(step: int) -> None:
    limit = 5000
    within = pieces(StreamParser(1000, limit), HEADER + sized(limit - 8), step)
    assert isinstance(within[-1], Oversized)
    with pytest.raises(PeerError) as raised:
        pieces(StreamParser(1000, limit), HEADER + sized(limit + 1), step)
    assert raised.value.condition == "policy-violation"


def test_the_number_of_elements_that_are_skipped_has_a_bound() -> None:
    """expat remembers every name, those of what is skipped too."""
    within = StreamParser(1000, 10**9).feed(
        HEADER + b"<a>" + b"<b/>" * (MAX_ELEMENTS - 1) + b"</a>"
    )
    assert isinstance(within[-1], Oversized)
    with pytest.raises(PeerError):
        StreamParser(1000, 10**9).feed(HEADER + b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>")


@pytest.mark.parametrize("inside", [b"", b"<b>" + b"x" * 2000])
def test_a_tag_has_a_bound_of_its_own(inside: bytes) -> None:
    """expat begins it again with every piece that comes, as long as it is not whole."""
    value = b"x" * (MAX_TAG - 10)
    parser = StreamParser(10**7, 10**9)
    pieces(parser, HEADER + b"<a>" + inside + b"<c d='" + value + b"'/>", 16_384)
    parser = StreamParser(10**7, 10**9)
    with pytest.raises(PeerError) as raised:
        pieces(parser, HEADER + b"<a>" + inside + b"<c d='" + value + b"x" * 20_000, 16_384)
    assert raised.value.condition == "policy-violation"


def test_a_tag_that_servers_forward_for_a_peer_does_not_end_the_connection() -> None:
    """Prosody takes stanzas of 512 KiB from other servers; all of one may be an attribute."""
    parser = StreamParser(MAX_STANZA, MAX_SKIPPED)
    events = pieces(parser, HEADER + b"<iq id='" + b"x" * 512 * 1024 + b"'/>", 16_384)
    assert isinstance(events[-1], Stanza)


def test_what_is_skipped_is_not_kept() -> None:
    parser = StreamParser(100_000, 10**9)
    parser.feed(HEADER + b"<message><body>")
    text = b"x" * 4096
    tracemalloc.start()
    try:
        for _ in range(2000):
            assert parser.feed(text) == []
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    (dropped,) = parser.feed(b"</body></message>")
    assert isinstance(dropped, Oversized)


def test_names_are_forgotten_though_no_piece_ends_with_a_stanza() -> None:
    parser = StreamParser()
    parser.feed(HEADER)
    rest, count = b"", 0
    for number in range(3 * RENEW_AFTER // 1000):
        data = rest + b"<iq><x:n%d>%s</x:n%d></iq>" % (number, b"x" * 1000, number)
        rest = data[-(number % 8 + 1) * 100 :]
        for event in parser.feed(data[: len(data) - len(rest)]):
            assert isinstance(event, Stanza)
            assert event.element[0].tag == f"{{urn:x}}n{count}"
            count += 1
    assert count >= 3 * RENEW_AFTER // 1000 - 1
    assert len(parser._parser.intern) < 2 * RENEW_AFTER // 1000
