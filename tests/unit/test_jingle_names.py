from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.jingle.names import FALLBACK, MAX_BYTES, MAX_EXTENSION, safe_name
from telepathy_e2e.jingle.reading import BIDI_CONTROLS

# Everything that can be in a str, lone surrogates too, and often what is dangerous.
_ANY = st.text(
    alphabet=st.one_of(
        st.characters(codec=None, exclude_categories=()),
        st.sampled_from("/\\. \t\n\0\x7f\x85\u202e\u2067\u2028\ufeff\ud800\u00e9\U0001f600"),
    ),
    max_size=400,
)


@given(_ANY)
def test_no_name_leads_out_of_its_directory(peer_name: str) -> None:
    name = safe_name(peer_name)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0")
    assert not name.startswith(".")


@given(_ANY)
def test_a_safe_name_comes_back_unchanged(peer_name: str) -> None:
    name = safe_name(peer_name)
    assert safe_name(name) == name


@given(_ANY)
def test_a_safe_name_can_be_a_name_in_a_file_system_and_a_line_on_a_screen(peer_name: str) -> None:
    name = safe_name(peer_name)
    assert len(name.encode()) <= MAX_BYTES
    assert name == name.strip()
    assert not set(name) & BIDI_CONTROLS
    assert len(name.splitlines()) == 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in name)


@pytest.mark.parametrize(
    "name",
    [
        "cat.jpg",
        "Straße nach Köln.pdf",
        "a b  c.tar.gz",
        "no extension",
        "日本語.txt",
        "-rf",
        "x..y",
    ],
)
def test_honest_names_stay_as_they_are(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("peer_name", "expected"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\Windows\\evil.exe", "C:_Windows_evil.exe"),
        ("..\\..\\evil", "_.._evil"),
        (".bashrc", "bashrc"),
        (". . .ssh", "ssh"),
        ("..", FALLBACK),
        (".", FALLBACK),
        ("", FALLBACK),
        (" \t\n ", "__"),
        ("   ", FALLBACK),
        ("\u200d", FALLBACK),
        ("\u0301", FALLBACK),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
        ("a\nb\x00c", "a_b_c"),
        ("trailing   ", "trailing"),
        (" leading", "leading"),
        ("\ufeff.hidden", "_.hidden"),
    ],
)
def test_names_with_a_second_meaning_lose_it(peer_name: str, expected: str) -> None:
    assert safe_name(peer_name) == expected


def test_a_name_of_exactly_the_bound_is_kept_and_one_byte_more_is_cut() -> None:
    name = "a" * (MAX_BYTES - 4) + ".txt"
    assert safe_name(name) == name
    assert safe_name("a" + name) == name


def test_a_long_name_is_cut_between_characters_and_keeps_its_extension() -> None:
    name = safe_name("é" * 200 + ".jpeg")
    assert name == "é" * ((MAX_BYTES - 5) // 2) + ".jpeg"


def test_a_long_name_without_a_real_extension_is_cut_at_its_end() -> None:
    name = safe_name("a" * 200 + "." + "b" * 200)
    assert name == ("a" * 200 + "." + "b" * 200)[:MAX_BYTES]


def test_an_extension_of_exactly_the_bound_is_kept() -> None:
    extension = "." + "e" * (MAX_EXTENSION - 1)
    assert safe_name("a" * 300 + extension).endswith("a" + extension)
    assert safe_name("a" * 300 + extension + "e") == "a" * MAX_BYTES
