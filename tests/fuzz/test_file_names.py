"""Whatever a peer calls a file, what we make of it is one safe component of a path.

Not empty, neither ``.`` nor ``..`` nor hidden, at most 255 bytes of UTF-8, no separator, no
control character, nothing that turns the line around in which it is shown; and a name that came
out safe comes out again unchanged, whoever applies the rule twice.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

from hypothesis import example, given
from hypothesis import strategies as st

from telepathy_e2e.jingle.files import FileOffer
from telepathy_e2e.jingle.names import MAX_BYTES, safe_name
from telepathy_e2e.service.file_details import FileDetails

from .support import VALUES, budget

_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

_PARTS = st.sampled_from(
    (
        "..", ".", "/", "\\", "~", " ", "\t", "\n", "\0", "\x7f", "\x85", "\u2028", "\u2029",
        "\u202e", "\u2066", "\u200f", "\u061c", "\u200b", "\ufeff", "\u2060", "\u3000", "\u00a0",
        "\ud800", "\udcff", "C:", "CON", "a", "\u00e9", "e\u0301", "\U0001f600", ".tar.gz", ".jpg",
        "x" * 250, "\u00e9" * 127, "\U0001f600" * 63, "." + "e" * 31, "." + "e" * 32,
    )
)  # fmt: skip

NAMES = st.one_of(
    st.lists(_PARTS | st.text(max_size=3), max_size=12).map("".join),
    st.text(st.characters(), max_size=400),
    VALUES,
)


@budget(5)
@given(NAMES)
@example("..")
@example("\ud800")
@example("a" * 254 + " b")
@example("a" * 253 + "  b")
@example("." * 300)
@example(("x" * 254) + " .jpg")
def test_a_name_is_one_safe_component(peer_name: str) -> None:
    name = safe_name(peer_name)
    encoded = os.fsencode(name)
    assert name.encode() == encoded
    assert 0 < len(encoded) <= MAX_BYTES
    assert not name.startswith(".")
    assert name == name.strip()
    assert not set(name) & set("/\\\0")
    assert PurePosixPath("/d", name).parent == PurePosixPath("/d")
    assert PurePosixPath(name).name == name
    assert "\\" not in PureWindowsPath(name).name
    for char in name:
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(char) not in _BIDI
        assert char not in "\u200e\u200f\u061c\u200b\u2060\ufeff"
    assert safe_name(name) == name


@given(NAMES)
def test_what_is_shown_of_an_offer_is_such_a_name(peer_name: str) -> None:
    assert FileDetails.from_offer(FileOffer(name=peer_name)).filename == safe_name(peer_name)
