"""``<security/>`` in offer and answer."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.xtls.offer import (
    MAX_FINGERPRINTS,
    MAX_METHODS,
    XTLS,
    Fingerprint,
    build_security,
    digest,
    parse_security,
    shown,
)
from tests.unit.xtls_support import VECTORS

GOOD = ":".join(["72"] * 32)


def security(*fingerprints: tuple[str | None, str], methods: int = 1) -> Element:
    element = Element(f"{{{XTLS}}}security")
    for name, text in fingerprints:
        child = SubElement(element, f"{{{XTLS}}}fingerprint")
        child.text = text
        if name is not None:
            child.set("hash", name)
    for _ in range(methods):
        SubElement(element, f"{{{XTLS}}}method", {"name": "x509"})
    return element


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_the_announcements_of_the_vectors_come_out(role: str) -> None:
    peer = VECTORS["peers"][role]
    leaf = base64.b64decode(peer["session_certificate_base64"])
    announced = peer["announced"]
    element = build_security(leaf, tuple(announced))
    texts = {child.get("hash"): child.text for child in element.findall(f"{{{XTLS}}}fingerprint")}
    assert texts == announced
    parsed = parse_security(element)
    assert parsed is not None
    assert [(f.hash, shown(f.digest)) for f in parsed.fingerprints] == list(announced.items())
    assert parsed.methods == ("x509",)


@pytest.mark.parametrize("vector", VECTORS["fingerprint_format"])
def test_fingerprints_are_shown_as_in_the_vectors(vector: dict[str, str]) -> None:
    assert shown(bytes.fromhex(vector["digest"])) == vector["text"]


def test_what_is_built_looks_like_the_specification() -> None:
    text = tostring(build_security(b"leaf"), encoding="unicode")
    assert 'hash="sha-256"' in text
    assert 'name="x509"' in text


def test_where_there_is_no_security_there_is_none() -> None:
    assert parse_security(None) is None
    assert parse_security(Element("{urn:xmpp:jingle:security:other:0}security")) is None


def test_a_fingerprint_without_hash_is_the_dialect_of_others() -> None:
    assert parse_security(security((None, "whatever"))) is None
    assert parse_security(security(("sha-256", GOOD), (None, "whatever"))) is None


@pytest.mark.parametrize("name", ["sha-1", "md5", "sha-224", "SHA-256", "", "unknown"])
def test_hashes_that_are_not_known_do_not_count(name: str) -> None:
    with pytest.raises(SecurityError):
        parse_security(security((name, GOOD)))
    offer = parse_security(security((name, "not even hex"), ("sha-256", GOOD)))
    assert offer is not None
    assert [f.known for f in offer.fingerprints] == [False, True]


def test_no_fingerprint_at_all_is_a_failure() -> None:
    with pytest.raises(SecurityError):
        parse_security(security())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "72",
        GOOD[:-1],
        GOOD + ":72",
        GOOD.replace(":", ""),
        GOOD.replace(":", "-"),
        "xx" + GOOD[2:],
        GOOD[:-2] + ":7",
        "\u0667" * 95,
    ],
)
def test_a_fingerprint_that_is_none_is_a_bad_request(text: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_security(security(("sha-256", text)))
    assert not isinstance(caught.value, SecurityError)
    assert caught.value.condition == "bad-request"


def test_the_case_of_hex_does_not_matter() -> None:
    offer = parse_security(security(("sha-256", "aB" + ":Ab" * 31)))
    assert offer is not None
    assert offer.fingerprints == (Fingerprint("sha-256", b"\xab" * 32),)


def test_as_many_fingerprints_and_methods_as_allowed_and_no_more() -> None:
    many = [("sha-256", GOOD)] * MAX_FINGERPRINTS
    assert MAX_FINGERPRINTS == 8
    assert MAX_METHODS == 16
    assert parse_security(security(*many, methods=MAX_METHODS)) is not None
    for refused in (security(*many, many[0]), security(many[0], methods=MAX_METHODS + 1)):
        with pytest.raises(PeerError) as caught:
            parse_security(refused)
        assert not isinstance(caught.value, SecurityError)


def test_a_digest_by_an_unknown_hash_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="not a hash"):
        digest("sha-1", b"")


@given(st.lists(st.tuples(st.sampled_from(["sha-256", "sha3-512", "x"]), st.text(max_size=100))))
def test_nothing_a_peer_writes_raises_anything_but_a_peer_error(
    fingerprints: list[tuple[str, str]],
) -> None:
    try:
        parse_security(security(*fingerprints))
    except PeerError:
        pass
