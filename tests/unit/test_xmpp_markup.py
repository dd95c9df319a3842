"""What is sent is what is parsed."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp.markup import CLIENT, serialise
from telepathy_e2e.xmpp.parser import Stanza, StreamParser

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9._-]{0,5}", fullmatch=True)
spaces = st.sampled_from(["", CLIENT, "urn:x", "urn:y&'\"<>"])
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r"))
tags = st.builds(lambda space, name: f"{{{space}}}{name}" if space else name, spaces, names)


def build(tag: str, attrib: dict[str, str], text: str, children: list[Element]) -> Element:
    element = Element(tag, attrib)
    element.text = text
    element.extend(children)
    return element


elements = st.recursive(
    st.builds(build, tags, st.dictionaries(tags, texts, max_size=3), texts, st.just([])),
    lambda inner: st.builds(
        build, tags, st.dictionaries(tags, texts, max_size=3), texts, st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)


def same(a: Element, b: Element) -> bool:
    return (
        (a.tag, a.attrib, a.text or "", a.tail or "", len(a))
        == (b.tag, b.attrib, b.text or "", b.tail or "", len(b))
    ) and all(same(*pair) for pair in zip(a, b, strict=True))


def parsed(data: bytes) -> Element:
    events = StreamParser().feed(HEADER + data)
    assert isinstance(events[1], Stanza)
    return events[1].element


@given(elements)
def test_an_element_survives_the_stream(element: Element) -> None:
    if any(c in "\ufffe\uffff" for each in element.iter() for c in (each.text or "")):
        return
    try:
        data = serialise(element)
    except ValueError:
        return
    assert same(parsed(data), element)


def test_the_namespace_of_the_stream_is_not_repeated() -> None:
    iq = Element(f"{{{CLIENT}}}iq", type="set")
    SubElement(iq, "{urn:x}y", a="1")
    assert serialise(iq) == b'<iq type="set"><y xmlns="urn:x" a="1"/></iq>'


def test_white_space_in_attributes_survives() -> None:
    element = Element("{urn:x}y", name="a\tb\nc\rd")
    assert parsed(serialise(element)).get("name") == "a\tb\nc\rd"


def test_an_element_of_no_namespace_says_so() -> None:
    iq = Element(f"{{{CLIENT}}}iq")
    SubElement(iq, "bare")
    assert parsed(serialise(iq))[0].tag == "bare"


def test_the_text_between_children_is_kept() -> None:
    element = XML("<y xmlns='urn:x'>a<b/>c<d/>e</y>")
    assert same(parsed(serialise(element)), element)


@pytest.mark.parametrize("text", ["\x00", "\x1b", "\x0b", "\ufffe", "\uffff", "\ud800"])
def test_characters_that_end_a_stream_are_refused(text: str) -> None:
    element = Element("{urn:x}y")
    element.text = text
    with pytest.raises(ValueError, match="character"):
        serialise(element)
    with pytest.raises(ValueError, match="character"):
        serialise(Element("{urn:x}y", a=text))


@pytest.mark.parametrize("tag", ["", "a b", "x><y", "{urn:x}", "1a", "a:b", "urn:x}y"])
def test_names_that_are_none_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="name"):
        serialise(Element(tag))


@given(st.binary())
def test_whatever_was_parsed_can_be_sent_if_its_names_are_plain(data: bytes) -> None:
    try:
        events = StreamParser().feed(HEADER + b"<a xmlns='urn:x'>" + data + b"</a>")
    except PeerError:
        return
    for event in events:
        if isinstance(event, Stanza):
            assert same(parsed(serialise(event.element)), event.element)
