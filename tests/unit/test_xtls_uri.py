"""Addresses of keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.xtls.uri import MAX_URI, enforced, make_uri, parse_uri
from tests.unit.xtls_support import VECTORS

HEX = "0" * 62 + "ff"
GOOD = f"xmpp:bob@example.org?x-e2e-verify;spki-sha-256={HEX}"


@pytest.mark.parametrize("vector", VECTORS["uri"])
def test_the_vectors_go_both_ways(vector: dict[str, str]) -> None:
    digest = bytes.fromhex(vector["fingerprint"])
    assert make_uri(vector["jid"], digest) == vector["uri"]
    assert parse_uri(vector["uri"]) == (vector["jid"], digest)


@pytest.mark.parametrize(
    "jid", ["bob@example.org", "example.org", "ü?;#%@exämple.org", "a!$()*+,;=b@[::1]", "a b@c"]
)
def test_what_is_made_is_read_back(jid: str) -> None:
    uri = make_uri(jid, b"d" * 32)
    assert uri.isascii()
    assert parse_uri(uri) == (jid, b"d" * 32)


def test_a_short_digest_makes_no_uri() -> None:
    with pytest.raises(ValueError, match="32"):
        make_uri("bob@example.org", bytes(31))


def test_other_parameters_are_left_alone() -> None:
    assert parse_uri(GOOD + ";name=value")[0] == "bob@example.org"


def test_the_address_is_enforced() -> None:
    assert parse_uri(GOOD.replace("bob@example.org", "Bob@EXAMPLE.org."))[0] == "bob@example.org"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bob@example.org",
        GOOD.replace("xmpp:", "http:"),
        GOOD.replace("x-e2e-verify", "message"),
        GOOD.replace("spki-sha-256", "spki-sha-1"),
        GOOD + f";spki-sha-256={HEX}",
        GOOD[:-1],
        GOOD + "0",
        GOOD.replace("ff", "FF"),
        GOOD.replace("ff", "fg"),
        GOOD.replace("bob@example.org", ""),
        GOOD.replace("bob@", "@"),
        GOOD.replace("bob@", "alice@x@"),
        GOOD.replace("bob@", "alice%40x@"),
        GOOD.replace("example.org", "example.org/phone"),
        GOOD.replace("example.org", "example.org%2Fphone"),
        GOOD.replace("xmpp:", "xmpp://mallory@example.com/"),
        GOOD.replace("bob", "%ff"),
        GOOD.replace("org?", "org#x?"),
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_uri(uri)


def test_a_uri_may_be_as_long_as_the_longest_jid_needs() -> None:
    start, rest = GOOD.split("bob@")
    room = MAX_URI - len(start) - len(rest) - 1
    assert len(parse_uri(f"{start}{'b' * room}@{rest}")[0]) == room + len("@example.org")
    with pytest.raises(InvalidArgument):
        parse_uri(f"{start}{'b' * (room + 1)}@{rest}")


@given(st.text())
def test_nothing_raises_anything_but_invalid_argument(text: str) -> None:
    for uri in (text, "xmpp:" + text, GOOD.replace("bob@example.org", text), GOOD + text):
        try:
            parse_uri(uri)
        except InvalidArgument:
            pass


@pytest.mark.parametrize(
    ("jid", "same"),
    [
        ("Bob@Example.ORG", "bob@example.org"),
        ("bob@example.org.", "bob@example.org"),
        ("\uff42ob@example.org", "bob@example.org"),
        ("e\u0301@x", "\u00e9@x"),
        ("ÀÉ@x", "àé@x"),
        ("example.org", "example.org"),
    ],
)
def test_addresses_are_compared_in_one_form(jid: str, same: str) -> None:
    assert enforced(jid) == same


def test_compatibility_characters_of_other_kinds_stay_different() -> None:
    assert enforced("\u00b2@x") != enforced("2@x")
    assert enforced("\ufb01@x") != enforced("fi@x")
