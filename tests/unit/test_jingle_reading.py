from __future__ import annotations

import base64
import string
from typing import cast
from xml.etree.ElementTree import Comment, Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.reading import (
    BIDI_CONTROLS,
    MAX_IDENTIFIER,
    base64_bytes,
    decimal,
    identifier,
    local_name,
    namespace,
    readable,
    session_id,
    single,
    xml_text,
)

from .jingle_support import over_the_wire, xml


def test_a_tag_comes_apart_into_namespace_and_name() -> None:
    element = Element("{urn:x}a")
    assert (namespace(element), local_name(element)) == ("urn:x", "a")
    assert (namespace(Element("a")), local_name(Element("a"))) == ("", "a")


def test_a_comment_has_no_name() -> None:
    parent = Element("a")
    parent.append(cast(Element, Comment("x")))
    assert (namespace(parent[0]), local_name(parent[0])) == ("", "")


def test_a_doubled_child_is_refused() -> None:
    parent = xml("<p><a/><b/><b/></p>")
    assert single(parent, "a", "a") is parent[0]
    assert single(parent, "c", "c") is None
    with pytest.raises(PeerError):
        single(parent, "b", "b")


@pytest.mark.parametrize(
    "value", [None, "", "a" * (MAX_IDENTIFIER + 1), "a\nb", "\u202eab", "\ud800"]
)
def test_identifiers_are_short_and_visible(value: str | None) -> None:
    with pytest.raises(PeerError):
        identifier(value, "x")


def test_an_identifier_of_exactly_the_bound_is_taken() -> None:
    assert identifier("a" * MAX_IDENTIFIER, "x") == "a" * MAX_IDENTIFIER
    assert identifier("two words", "x") == "two words"


def test_a_session_id_has_no_spaces() -> None:
    assert session_id("a73sjjvkla37jfea") == "a73sjjvkla37jfea"
    with pytest.raises(PeerError):
        session_id("a b")


@pytest.mark.parametrize(
    "value", [None, "", "-1", "+1", "1.0", " 1", "0x1", "\u0661", "1" * 21, "11"]
)
def test_numbers_are_plain_decimal_and_in_range(value: str | None) -> None:
    with pytest.raises(PeerError):
        decimal(value, "x", maximum=10)


def test_numbers_at_both_ends_of_the_range_are_taken() -> None:
    assert decimal("10", "x", maximum=10) == 10
    assert decimal("007", "x", minimum=7, maximum=10) == 7
    with pytest.raises(PeerError):
        decimal("6", "x", minimum=7, maximum=10)


@given(st.binary(max_size=100))
def test_base64_comes_back_as_it_went(data: bytes) -> None:
    assert base64_bytes(base64.b64encode(data).decode(), "x") == data


@pytest.mark.parametrize(
    "value",
    ["=AAA", "BBBB=CCC", "AA==AA==", "AAA", "AA=", "AB==", "AAA\n", " AAAA", "AA\u00e9A", "A-_A"],
)
def test_base64_with_another_spelling_is_refused(value: str) -> None:
    with pytest.raises(PeerError):
        base64_bytes(value, "x")


@given(st.text(alphabet=string.ascii_letters + string.digits + "+/= \n", max_size=12))
def test_whatever_base64_is_taken_has_one_spelling(value: str) -> None:
    try:
        decoded = base64_bytes(value, "x")
    except PeerError:
        return
    assert base64.b64encode(decoded).decode() == value


@given(st.text())
def test_readable_text_has_one_line_and_one_direction(value: str) -> None:
    shown = readable(value, 20)
    assert len(shown) <= 20
    assert not BIDI_CONTROLS & set(shown)
    assert len(shown.splitlines()) <= 1


def test_readable_text_stays_as_it_is_otherwise() -> None:
    assert readable("Zu groß \N{SLIGHTLY SMILING FACE}", 100) == "Zu groß \N{SLIGHTLY SMILING FACE}"
    assert readable(None, 100) == ""


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())))
def test_our_own_text_is_always_well_formed_xml(value: str) -> None:
    element = Element("a")
    element.text = xml_text(value)
    over_the_wire(element)
