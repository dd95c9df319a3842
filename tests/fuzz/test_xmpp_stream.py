"""The same stanzas come out of an XMPP stream however its bytes are cut, and no bytes do harm.

What the server sends raises nothing but ``PeerError``; whoever sends without end what is no whole
stanza is stopped at the bound, so that memory is bounded by it; and that expat starts afresh every
now and then shows nowhere.
"""

from __future__ import annotations

from contextlib import suppress
from unittest import mock
from xml.etree.ElementTree import Element, tostring

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import parser as parser_module
from telepathy_e2e.xmpp.parser import Closed, Event, Opened, Stanza, StreamParser

from .support import CUTS, budget, mutated_bytes, pieces

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' "
    b"xmlns:stream='http://etherx.jabber.org/streams' from='example.test'>"
)
CONDITIONS = {"not-well-formed", "restricted-xml", "policy-violation", "invalid-xml"}

# Stanzas as servers write them: prefixes declared here and there, all quotes and references.
STANZAS = (
    b"<message from='a@b/c'><body>Hi &amp; bye &#x1F600;</body></message>",
    b"<presence/>",
    b"<presence  />",
    b'<iq id="1" type=\'set\'><query xmlns="jabber:iq:roster"><item jid="x"/></query></iq>',
    b"<stream:features><a:b xmlns:a='urn:a' a:c='d'>e</a:b></stream:features>",
    b"<x:message xmlns:x='jabber:client'><x:body/></x:message>",
    b"<message><body><![CDATA[</message> ]] > <x>]]></body>\n</message\n>",
    b"<message>" + "\u00e9\u4e2d\U0001f600".encode() * 20 + b"</message>",
    b"<iq><a>" + b"<b c='&gt;&quot;'/>" * 20 + b"</a>>&lt;</iq>",
)
BETWEEN = st.sampled_from((b"", b"", b" ", b"\n", b" \r\n\t "))
STREAMS = st.lists(st.tuples(st.sampled_from(STANZAS), BETWEEN), max_size=8).map(
    lambda parts: HEADER + b"".join(stanza + space for stanza, space in parts)
)


def shown(events: list[Event]) -> list[bytes | str]:
    told: list[bytes | str] = []
    for each in events:
        match each:
            case Opened(header):
                told.append(repr(sorted(header.attrib.items())))
            case Stanza(element):
                told.append(tostring(element))
            case Closed():
                told.append("closed")
    return told


def read(parts: list[bytes], parser: StreamParser | None = None) -> list[bytes | str]:
    parser = parser or StreamParser()
    return shown([event for part in parts for event in parser.feed(part)])


@budget(2)
@given(STREAMS, CUTS, st.integers(1, 400), st.booleans())
def test_the_same_stanzas_come_out_however_the_bytes_are_cut(
    stream: bytes, cuts: list[int], renew: int, ends: bool
) -> None:
    stream += b"</stream:stream>" if ends else b""
    whole = read([stream])
    assert len(whole) == 1 + stream.count(b"<stream:features") + ends + sum(
        stream.count(start) for start in (b"<message>", b"<message ", b"<presence", b"<iq", b"<x:m")
    )
    assert read(pieces(stream, cuts)) == whole
    with mock.patch.object(parser_module, "RENEW_AFTER", renew):
        assert read([stream]) == whole
        assert read(pieces(stream, cuts)) == whole
        assert read([stream[at : at + 1] for at in range(len(stream))]) == whole


@budget(2)
@given(
    st.lists(mutated_bytes((*STANZAS, HEADER, b"</stream:stream>")) | st.binary(max_size=40)),
    CUTS,
    st.booleans(),
    st.integers(1, 2000),
)
def test_no_bytes_raise_anything_but_peer_error(
    parts: list[bytes], cuts: list[int], begun: bool, renew: int
) -> None:
    data = (HEADER if begun else b"") + b"".join(parts)
    with mock.patch.object(parser_module, "RENEW_AFTER", renew):
        try:
            read(pieces(data, cuts))
        except PeerError as error:
            assert error.condition in CONDITIONS  # noqa: PT017


@budget(2)
@given(
    mutated_bytes(STANZAS)
    | st.sampled_from(
        [b"<a>", b"<a b='c'>", b" a='b'", b"a", b"\xc3\xa9", b"&amp;", b"<![CDATA[", b"<a/>", b"<"]
    ),
    st.sampled_from((b"", b"<message>", b"<message ", b"<message a='", b"<m><![CDATA[", b"</")),
    st.integers(1, 700),
)
def test_whoever_sends_without_end_is_stopped_at_the_bound(
    pattern: bytes, first: bytes, size: int
) -> None:
    bound = 2000
    parser = StreamParser(bound)
    parser.feed(HEADER)
    assume(pattern.strip() or first)
    data = first + pattern * (8 * bound // max(1, len(pattern)))
    silent = 0
    with suppress(PeerError):
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            events = parser.feed(piece)
            # Blanks between stanzas keep a connection alive and are kept nowhere.
            silent = 0 if events or not piece.strip() else silent + len(piece)
            assert silent <= bound + size
            for each in events:
                if isinstance(each, Stanza):
                    assert held(each.element) <= bound


def held(element: Element) -> int:
    """Characters that a stanza makes us keep."""
    return sum(
        len(each.text or "")
        + len(each.tail or "")
        + sum(len(value) for value in each.attrib.values())
        for each in element.iter()
    )


@pytest.mark.parametrize("stanza", STANZAS)
def test_each_of_these_stanzas_is_one(stanza: bytes) -> None:
    assert len(read([HEADER, stanza])) == 2
