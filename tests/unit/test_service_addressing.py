"""The other ways to write an address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotImplementedByUs
from telepathy_e2e.service import addressing


@pytest.mark.parametrize(
    ("uri", "jid"),
    [
        ("xmpp:romeo@Example.Com/Empathy?message;body=Hello", "romeo@example.com"),
        ("XMPP:romeo@example.com#part", "romeo@example.com"),
        ("xmpp://guest@example.com/support@example.com?message", "support@example.com"),
        ("xmpp:nasty!%23$%25()*+,-.;=%3F%5B%5C%5D%5E_%60%7B%7C%7D~node@example.com",
         "nasty!#$%()*+,-.;=?[\\]^_`{|}~node@example.com"),
        ("xmpp:ji%C5%99i@%C4%8Dechy.example/v%20Praze", "jiři@čechy.example"),
    ],
)  # fmt: skip
def test_uris_of_the_standard_mean_these_contacts(uri: str, jid: str) -> None:
    assert addressing.from_uri(uri) == jid


@pytest.mark.parametrize(
    "uri",
    [
        "xmpp:",
        "xmpp:@example.com",
        "xmpp:example.com",
        "xmpp:a%40b@",
        "xmpp:a%zz@example.com",
        "xmpp:a%ff@example.com",
        "xmpp:a@b%2Fc",
        "xmpp://a@example.com",
        "xmpp:" + "a" * addressing.MAX_ADDRESS + "@b",
        "xmpp:\ud800@b",
    ],
)
def test_uris_that_mean_no_contact_are_refused(uri: str) -> None:
    with pytest.raises(InvalidArgument):
        addressing.from_uri(uri)


@pytest.mark.parametrize("uri", ["tel:+12065551234", "mailto:a@b", "a@b", "", ":"])
def test_other_schemes_are_not_ours(uri: str) -> None:
    with pytest.raises(NotImplementedByUs):
        addressing.from_uri(uri)


def test_a_contact_s_uri_means_the_contact() -> None:
    for jid in ("a@example.com", "jiři@čechy.example", "nasty!#$%()*+,?[\\]^_`{|}~node@[::1]"):
        assert addressing.from_uri(addressing.to_uri(jid)) == jid
    assert addressing.uris("a@b.c") == ["xmpp:a@b.c"]
    assert addressing.addresses("a@b.c") == {"x-jabber": "a@b.c"}


def test_a_vcard_address_is_normalised() -> None:
    assert addressing.from_vcard("X-Jabber", "A@Example.Com/there") == "a@example.com"
    with pytest.raises(NotImplementedByUs):
        addressing.from_vcard("tel", "1")
    for wrong in ("", "@", "example.com", "a" * (addressing.MAX_ADDRESS + 1)):
        with pytest.raises(InvalidArgument):
            addressing.from_vcard("x-jabber", wrong)


def test_what_is_no_address_is_left_out() -> None:
    def ensure(jid: str) -> int:
        if jid.startswith("full"):
            raise InvalidHandle("Too many")
        return len(jid)

    asked = ["xmpp:a@b", "tel:1", "xmpp:", "xmpp:full@b"]
    assert addressing.by_uri(asked, ensure) == {"xmpp:a@b": 3}
    assert addressing.by_vcard_field("x-jabber", ["a@b", "@", "full@b"], ensure) == {"a@b": 3}


@given(st.text(max_size=40))
def test_any_text_is_a_contact_or_refused(text: str) -> None:
    for parse in (addressing.from_uri, lambda text: addressing.from_vcard("x-jabber", text)):
        try:
            assert "@" in parse(text)
        except (InvalidArgument, NotImplementedByUs):
            pass
    try:
        addressing.from_uri("xmpp:" + text)
    except InvalidArgument:
        pass
