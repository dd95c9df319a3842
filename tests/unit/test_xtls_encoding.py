"""Bytes, base64 and XML as on the wire."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xtls.encoding import decode, encode, from_xml, lv, lv_text, to_xml


def test_lv_is_four_bytes_of_length_and_the_bytes() -> None:
    assert lv(b"abc") == b"\0\0\0\3abc"
    assert lv(b"") == b"\0\0\0\0"
    assert lv_text("ü") == b"\0\0\0\2\xc3\xbc"


@given(st.binary(max_size=100))
def test_base64_comes_back(data: bytes) -> None:
    assert decode(encode(data), 100) == data


@pytest.mark.parametrize("text", ["AAA", "AA=A", "AAAA\n", " AAAA", "AAA-", "A" * 5, "ÄÄÄÄ"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        decode(text, 100)


def test_base64_may_be_as_long_as_the_limit_and_not_longer() -> None:
    assert decode(base64.b64encode(bytes(100)).decode(), 100) == bytes(100)
    with pytest.raises(PeerError):
        decode(base64.b64encode(bytes(101)).decode(), 100)
    # Much longer text is not even decoded.
    with pytest.raises(PeerError, match="too long"):
        decode("?" * 137, 100)
    with pytest.raises(PeerError, match="not base64"):
        decode("?" * 136, 100)


def test_an_element_comes_back_with_attributes_and_text() -> None:
    element = Element("{urn:v}a", {"id": "ü<&'\""})
    element.text = "x < y & z"
    parsed = from_xml(to_xml(element))
    assert (parsed.tag, parsed.attrib, parsed.text) == (element.tag, element.attrib, element.text)


def test_spaces_after_the_element_are_padding() -> None:
    assert from_xml(b"<a/>" + b" " * 1000).tag == "a"


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"<!DOCTYPE a><a/>",
        b"<?xml version='1.0'?><a/>",
        b"<a><?b c?></a>",
        b"<a><!-- b --></a>",
        b"<a>&b;</a>",
        b"<a>",
        b"<a/><b/>",
        b"",
        b"   ",
        b"<a>\xff</a>",
        "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a><a/>".encode("utf-16"),
        # Without a mark or a declaration expat takes it for UTF-16 although it is told otherwise.
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode("utf-16-le"),
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode("utf-16-be"),
        "<a/>".encode("utf-16-le"),
        b"<a>\0</a>",
    ],
)
def test_xml_that_xmpp_forbids_or_nobody_can_read_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        from_xml(data)


def test_a_cdata_section_is_text() -> None:
    assert from_xml(b"<a><![CDATA[b]]></a>").text == "b"


@given(st.binary(max_size=300) | st.text(alphabet="<>/!?[]&;'\" =abDOCTYPE-", max_size=80))
def test_no_bytes_raise_anything_but_a_peer_error(data: bytes | str) -> None:
    try:
        from_xml(data.encode() if isinstance(data, str) else data)
    except PeerError:
        pass


def test_deep_nesting_does_not_break_the_parser() -> None:
    depth = 9000
    assert from_xml(b"<a>" * depth + b"</a>" * depth).tag == "a"
