"""Addresses: one spelling each, and no two people in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.xmpp.jid import (
    MAX_PART,
    ascii_domain,
    bare,
    domain_of,
    local_of,
    normalise,
    resource_of,
)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("juliet@example.com", "juliet@example.com"),
        ("Juliet@Example.COM/Balcony", "juliet@example.com/Balcony"),
        (" juliet@example.com ", "juliet@example.com"),
        ("example.com", "example.com"),
        ("example.com.", "example.com"),
        ("a@b/c@d/e", "a@b/c@d/e"),
        ("juliet@example.com/foo@bar", "juliet@example.com/foo@bar"),
        ("user@[::1]/x", "user@[::1]/x"),
        ("user@192.0.2.1", "user@192.0.2.1"),
        ("fu\u00dfball@example.com", "fu\u00dfball@example.com"),
        ("\u03c0@example.com", "\u03c0@example.com"),
        ("\u03a0@example.com", "\u03c0@example.com"),
        ("A\u030a@example.com", "\u00e5@example.com"),
        ("\uff41@example.com", "a@example.com"),
        ("a@B\u00dccher.example", "a@b\u00fccher.example"),
        ("a@xn--bcher-kva.example", "a@b\u00fccher.example"),
        ("a@example.com/\u265a", "a@example.com/\u265a"),
        ("a@example.com/x\u00a0y", "a@example.com/x y"),
        ("a@sub_domain.example", "a@sub_domain.example"),
    ],
)
def test_an_address_has_one_spelling(given_: str, expected: str) -> None:
    assert normalise(given_) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@example.com",
        "juliet@",
        "juliet@example.com/",
        '"juliet"@example.com',
        "foo bar@example.com",
        "a@b@example.com",
        "a:b@example.com",
        "<a>@example.com",
        "henri\u2163@example.com",
        "\u265a@example.com",
        "\ufb01sh@example.com",
        "a\u200bb@example.com",
        "a\x00@example.com",
        "a@example..com",
        "a@-example.com",
        "a@exa mple.com",
        "a@[::g]",
        "a@[::1",
        "a@xn--.example",
        "a@xn--a.example",
        "a@xn--B\u00fccher-kva.example",
        "a@\u265a.example",
        "a@example.com/\x07",
        "a@example.com/\u0085",
        "a@example.com/\ud800",
        "\ud800@example.com",
        "a@" + "b" * 64 + ".example",
        "a" * (MAX_PART + 1) + "@example.com",
        "\u03c0" * (MAX_PART // 2 + 1) + "@example.com",
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|resource|name"):
        normalise(text)


def test_names_that_only_look_alike_stay_two_people() -> None:
    assert normalise("stra\u00dfe@x") != normalise("strasse@x")
    assert normalise("a@stra\u00dfe.example") != normalise("a@strasse.example")


def test_the_longest_parts_are_addresses() -> None:
    assert normalise("a" * MAX_PART + "@example.com/" + "r" * MAX_PART)


def test_parts_are_cut_where_the_standard_says() -> None:
    jid = "a@example.com/b@c/d"
    assert (bare(jid), resource_of(jid)) == ("a@example.com", "b@c/d")
    assert (local_of(jid), domain_of(jid)) == ("a", "example.com")
    assert (local_of("example.com/r@x"), domain_of("example.com/r@x")) == ("", "example.com")
    assert resource_of("a@example.com") == ""


def test_dns_gets_a_labels() -> None:
    assert ascii_domain("b\u00fccher.example") == "xn--bcher-kva.example"


@given(st.text())
def test_any_text_is_an_address_of_one_spelling_or_a_value_error(text: str) -> None:
    try:
        once = normalise(text)
    except ValueError:
        return
    assert normalise(once) == once
