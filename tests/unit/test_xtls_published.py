"""Identities that somebody publishes: read within bounds, judged by the certificate alone."""

from __future__ import annotations

import base64
import json
import pathlib
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import XML, Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.encoding import MAX_CERTIFICATE, encode
from telepathy_e2e.xtls.hello import MAX_ATTESTATION_BYTES, MAX_ATTESTATIONS, Attestation
from telepathy_e2e.xtls.published import (
    NODE,
    PUBKEY,
    Published,
    build_published,
    check_published,
    item_id,
    parse_published,
)

VECTORS: dict[str, Any] = json.loads(
    (pathlib.Path(__file__).parents[1] / "vectors" / "identity-node.json").read_text()
)
WALL = datetime(2026, 6, 1, tzinfo=UTC)
BOB = "bob@example.org"
_, IDENTITY = identity.make_identity(BOB, WALL)


def tag(name: str) -> str:
    return f"{{{NODE}}}{name}"


@pytest.mark.parametrize("vector", VECTORS["items"], ids=lambda each: each["jid"])
def test_the_vectors_are_read_and_built(vector: dict[str, Any]) -> None:
    element = XML(vector["xml"])
    published = parse_published(element)
    wall = datetime.fromisoformat(VECTORS["wall"])
    fingerprint = check_published(published.identity, vector["jid"], wall)
    assert fingerprint.hex() == vector["identity_fingerprint"]
    assert item_id(published.identity) == vector["item_id"]
    shown = [
        [each.type, each.summary, base64.b64encode(each.data).decode()]
        for each in published.attestations
    ]
    assert shown == vector["attestations"]
    built = build_published(published)
    assert built.tag == element.tag
    assert [(each.tag, each.attrib, each.text) for each in built] == [
        (each.tag, each.attrib, each.text) for each in element
    ]
    assert VECTORS["node"] == NODE


def test_what_is_built_is_read_again() -> None:
    published = Published(IDENTITY, (Attestation("x509", "A company", b"\0\1"),))
    assert parse_published(build_published(published)) == published


def test_what_is_not_known_is_left_alone() -> None:
    element = build_published(Published(IDENTITY))
    SubElement(element, tag("later")).text = "?"
    element.set("later", "?")
    assert parse_published(element) == Published(IDENTITY)


def test_something_else_is_no_identity() -> None:
    with pytest.raises(PeerError, match="something else"):
        parse_published(Element("{urn:xmpp:pubkey:2}pubkey"))


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_exactly_one_certificate(count: int) -> None:
    element = Element(PUBKEY)
    for _ in range(count):
        SubElement(element, tag("identity")).text = encode(IDENTITY)
    with pytest.raises(PeerError, match="exactly one"):
        parse_published(element)


def test_a_certificate_is_read_up_to_its_bound() -> None:
    longest = bytes(MAX_CERTIFICATE)
    assert parse_published(build_published(Published(longest))).identity == longest
    element = Element(PUBKEY)
    SubElement(element, tag("identity")).text = encode(longest + b"\0")
    with pytest.raises(PeerError, match="too long"):
        parse_published(element)
    with pytest.raises(PeerError, match="too long"):
        build_published(Published(longest + b"\0"))


def test_attestations_are_read_up_to_their_bounds() -> None:
    most = (Attestation("a", "", b""),) * MAX_ATTESTATIONS
    assert parse_published(build_published(Published(IDENTITY, most))).attestations == most
    large = (Attestation("a", "", bytes(MAX_ATTESTATION_BYTES)),)
    assert parse_published(build_published(Published(IDENTITY, large))).attestations == large
    for wrong in (
        (*most, Attestation("b", "", b"")),
        (*large, Attestation("b", "", b"\0")),
        (Attestation("a" * 65, "", b""),),
        (Attestation("a", "s" * 1025, b""),),
    ):
        with pytest.raises(PeerError):
            build_published(Published(IDENTITY, wrong))
        element = build_published(Published(IDENTITY))
        for each in wrong:
            child = SubElement(
                element, tag("attestation"), {"type": each.type, "summary": each.summary}
            )
            child.text = encode(each.data)
        with pytest.raises(PeerError):
            parse_published(element)


TEXTS = st.text(max_size=40) | st.binary(max_size=60).map(encode)
CHILDREN = st.tuples(
    st.sampled_from([tag("identity"), tag("attestation"), tag("other"), "identity"]),
    st.dictionaries(st.sampled_from(["type", "summary", "x"]), st.text(max_size=80)),
    st.none() | TEXTS,
)


@given(st.sampled_from([PUBKEY, tag("x"), "pubkey"]), st.lists(CHILDREN, max_size=20))
def test_nothing_that_is_published_raises_anything_but_a_peer_error(
    name: str, children: list[tuple[str, dict[str, str], str | None]]
) -> None:
    element = Element(name)
    for child, attributes, text in children:
        SubElement(element, child, attributes).text = text
    try:
        published = parse_published(element)
    except PeerError:
        return
    assert parse_published(build_published(published)) == published
    with pytest.raises(SecurityError):
        check_published(published.identity, BOB, WALL)


def test_its_own_key_s_signature_for_this_jid_is_all_that_it_needs() -> None:
    fingerprint = check_published(IDENTITY, BOB, WALL)
    assert fingerprint == identity.identity_fingerprint(IDENTITY)


@given(st.integers(0, len(IDENTITY) * 8 - 1))
def test_a_certificate_with_any_bit_changed_is_refused(bit: int) -> None:
    changed = bytearray(IDENTITY)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SecurityError):
        check_published(bytes(changed), BOB, WALL)


def test_another_s_certificate_is_refused() -> None:
    with pytest.raises(SecurityError, match="somebody else"):
        check_published(IDENTITY, "eve@example.org", WALL)


def test_a_session_s_certificate_is_refused() -> None:
    key, own = identity.make_identity(BOB, WALL)
    leaf = identity.make_leaf(identity.new_session_key().public_key(), key, own, WALL)
    with pytest.raises(SecurityError):
        check_published(leaf, BOB, WALL)


def test_a_certificate_that_is_not_valid_now_is_refused() -> None:
    check_published(IDENTITY, BOB, WALL - timedelta(days=2))
    for wall in (WALL - timedelta(days=3), WALL + timedelta(days=3700)):
        with pytest.raises(SecurityError, match="clock"):
            check_published(IDENTITY, BOB, wall)
