"""The bytes over which both sides compare what was offered."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from xml.etree.ElementTree import Comment, Element, SubElement, fromstring

import pytest

from telepathy_e2e.xtls.canonical import canonical, offer_digest
from tests.unit.xtls_support import VECTORS


@dataclass
class Content:
    creator: str = "initiator"
    name: str = "file"
    senders: str | None = "initiator"
    description: Element | None = None
    security: Element | None = None


def vector_content() -> Content:
    content = fromstring(VECTORS["contents"]["xml"])  # noqa: S314 - our own vectors
    return Content(
        content.get("creator", ""),
        content.get("name", ""),
        content.get("senders"),
        content.find("{urn:xmpp:jingle:apps:file-transfer:5}description"),
        content.find("{urn:xmpp:jingle:security:xtls:0}security"),
    )


def xml(text: str) -> bytes:
    return canonical(fromstring(text))  # noqa: S314 - our own text


def test_the_vectors_come_out() -> None:
    content = vector_content()
    assert canonical(content.description).hex() == VECTORS["contents"]["canonical_description"]
    assert canonical(content.security).hex() == VECTORS["contents"]["canonical_security"]
    assert (
        base64.b64encode(offer_digest([content])).decode() == VECTORS["contents"]["digest_base64"]
    )


def test_nothing_is_empty() -> None:
    assert canonical(None) == b""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<a xmlns='urn:x'/>", "<p:a xmlns:p='urn:x'/>"),
        ("<a b='1' c='2'/>", "<a c='2'   b='1'></a>"),
        ("<a xmlns:p='urn:x' p:b='1'/>", "<a xmlns:q='urn:x' q:b='1'/>"),
        ("<a>b<!-- c -->d</a>", "<a>bd</a>"),
        ("<a>&lt;</a>", "<a><![CDATA[<]]></a>"),
        ("<a xmlns:unused='urn:x'/>", "<a/>"),
    ],
)
def test_how_it_was_written_does_not_matter(one: str, other: str) -> None:
    assert xml(one) == xml(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<a/>", "<b/>"),
        ("<a xmlns='urn:x'/>", "<a xmlns='urn:y'/>"),
        ("<a b='1'/>", "<a b='2'/>"),
        ("<a b='1'/>", "<a xmlns:p='urn:x' p:b='1'/>"),
        ("<a> </a>", "<a/>"),
        ("<a>b</a>", "<a> b</a>"),
        ("<a><b/><c/></a>", "<a><c/><b/></a>"),
        ("<a><b/><c/></a>", "<a><b><c/></b></a>"),
        ("<a>x<b/>y</a>", "<a>xy<b/></a>"),
        ("<a><b/>x<c/></a>", "<a><b/><c/>x</a>"),
        ("<a bc=''/>", "<a b='c'/>"),
    ],
)
def test_what_means_something_matters(one: str, other: str) -> None:
    assert xml(one) != xml(other)


def test_comments_in_a_tree_join_the_text_around_them() -> None:
    element = Element("a")
    element.text = "b"
    comment = Comment("c")
    comment.tail = "d"
    element.append(comment)
    element.append(Comment("without a tail"))
    SubElement(element, "e").tail = "f"
    assert canonical(element) == xml("<a>bd<e/>f</a>")


def test_any_depth_is_taken() -> None:
    element = innermost = Element("a")
    for _ in range(20_000):
        innermost = SubElement(innermost, "a")
    assert canonical(element).count(b"\x03") >= 20_001


def test_every_part_of_a_content_changes_the_digest() -> None:
    base = offer_digest([vector_content()])
    for change in (
        {"creator": "responder"},
        {"name": "other"},
        {"senders": "both"},
        {"description": None},
        {"security": None},
    ):
        content = vector_content()
        for name, value in change.items():
            setattr(content, name, value)
        assert offer_digest([content]) != base
    assert offer_digest([vector_content(), vector_content()]) != base


def test_absent_senders_are_both() -> None:
    assert offer_digest([Content(senders=None)]) == offer_digest([Content(senders="both")])
