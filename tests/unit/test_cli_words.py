import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.cli import names
from telepathy_e2e.cli.words import (
    Protection,
    fingerprint_lines,
    parse_fingerprint,
    printable,
    size_text,
    verification_uri,
)
from telepathy_e2e.xtls.uri import parse_uri

FINGERPRINT = ":".join(f"{byte:02X}" for byte in range(32))


class Channel:
    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, interface: str, name: str, default: object = None) -> object:
        return self.values.get(name, default)


@given(st.text())
def test_nothing_from_outside_moves_the_cursor_or_reorders_the_line(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 200
    for character in shown:
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def test_what_was_taken_out_leaves_a_mark() -> None:
    assert printable("a\x1b[31mb\u202ec") == "a\ufffd[31mb\ufffdc"


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert printable("x" * 201) == "x" * 199 + "…"
    assert printable("x" * 200) == "x" * 200


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (150_000_000, "150 MB"),
        (999_999, "1.0 MB"),
        (5 * 10**15, "5000 TB"),
        (names.UNKNOWN_SIZE, "unknown size"),
    ],
)
def test_sizes_as_people_write_them(count: int, text: str) -> None:
    assert size_text(count) == text


def test_a_channel_without_properties_is_not_protected() -> None:
    protection = Protection(Channel())
    assert protection.level == "none"
    assert "NOT PROTECTED" in protection.sentence


def test_encrypted_alone_says_that_nobody_verified() -> None:
    protection = Protection(Channel(Encrypted=True, VerifiedBy="sas"))
    assert protection.level == "encrypted"
    assert "nobody has verified" in protection.sentence
    assert protection.by == ""


def test_verified_names_the_method() -> None:
    protection = Protection(Channel(Encrypted=True, Verified=True, VerifiedBy="sas"))
    assert protection.level == "verified"
    assert "comparing short strings" in protection.sentence


def test_all_methods_that_verified_are_named() -> None:
    channel = Channel(
        Encrypted=True,
        Verified=True,
        VerifiedBy="fingerprint",
        VerifiedMethods=["password", "fingerprint"],
    )
    protection = Protection(channel)
    assert "by a shared password and comparing fingerprints" in protection.sentence
    assert protection.fields()["verified_methods"] == ["password", "fingerprint"]
    channel = Channel(Encrypted=True, VerifiedMethods=["password"])
    assert Protection(channel).fields()["verified_methods"] == []


def test_verified_without_encryption_counts_for_nothing() -> None:
    assert Protection(Channel(Encrypted=False, Verified=True)).level == "none"


def test_only_a_boolean_true_protects() -> None:
    assert Protection(Channel(Encrypted="yes")).level == "none"


def test_a_fingerprint_survives_its_uri() -> None:
    uri = verification_uri("bob@example.org", FINGERPRINT)
    assert uri == "xmpp:bob@example.org?x-e2e-verify;spki-sha-256=" + bytes(range(32)).hex()
    assert parse_fingerprint(uri) == bytes(range(32)).hex()


def test_an_address_in_a_uri_is_written_as_a_scanner_reads_it() -> None:
    for jid in ("d'artagnan?x#y%20@example.org", "björn;&@bücher.example", "a@[::1]"):
        uri = verification_uri(jid, FINGERPRINT)
        assert uri.isascii()
        assert parse_uri(uri) == (jid, bytes(range(32)))
        assert parse_fingerprint(uri) == bytes(range(32)).hex()


def test_a_fingerprint_is_read_as_it_is_shown() -> None:
    shown = "\n".join(fingerprint_lines(FINGERPRINT))
    assert len(fingerprint_lines(FINGERPRINT)) == 4
    assert parse_fingerprint(shown.replace("\n", " ")) == bytes(range(32)).hex()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AB:CD",
        FINGERPRINT + ":00",
        FINGERPRINT[:-1] + "G",
        "xmpp:bob@example.org",
        "xmpp:bob@example.org?message;body=" + "00" * 32,
    ],
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_fingerprint(text)


@given(st.text())
def test_no_text_makes_a_fingerprint_of_another_length(text: str) -> None:
    try:
        parsed = parse_fingerprint(text)
    except ValueError:
        return
    assert len(bytes.fromhex(parsed)) == 32
