"""Fingerprints that people type, paste or scan."""

from __future__ import annotations

import pytest

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.verify import fingerprint
from telepathy_e2e.verify.events import Outcome

DIGEST = bytes(range(32))
SHOWN = ":".join(f"{byte:02X}" for byte in DIGEST)


@pytest.mark.parametrize(
    "text",
    [SHOWN, SHOWN.lower(), SHOWN.replace(":", ""), SHOWN.replace(":", " "), f"\n {SHOWN}\r\n"],
)
def test_a_fingerprint_is_read_however_it_was_typed(text: str) -> None:
    assert fingerprint.parse(text) == DIGEST


@pytest.mark.parametrize(
    "text",
    ["", SHOWN[:-3], SHOWN + ":00", SHOWN[:-1] + "G", SHOWN[:-1] + "\u0661", "0" * 63 + "é"],
)
def test_less_or_more_than_a_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        fingerprint.parse(text)


def test_the_length_of_what_is_typed_is_bounded() -> None:
    digits = DIGEST.hex()
    room = fingerprint.MAX_TEXT - len(digits)
    assert fingerprint.parse(digits + " " * room) == DIGEST
    with pytest.raises(InvalidArgument):
        fingerprint.parse(digits + " " * (room + 1))


def test_the_same_fingerprint_verifies() -> None:
    assert fingerprint.compare(DIGEST, bytes(range(32))) is Outcome.VERIFIED


@pytest.mark.parametrize("entered", [b"", DIGEST[:31], DIGEST[:31] + b"\0", DIGEST + b"\0"])
def test_another_fingerprint_rejects(entered: bytes) -> None:
    assert fingerprint.compare(entered, DIGEST) is Outcome.REJECTED


def test_empty_fingerprints_are_not_the_same() -> None:
    assert fingerprint.compare(b"", b"") is Outcome.REJECTED


def test_a_scanned_code_counts_for_its_own_contact_only() -> None:
    bob = "bob@example.org"
    assert fingerprint.compare_scanned(bob, DIGEST, bob, DIGEST) is Outcome.VERIFIED
    assert fingerprint.compare_scanned(bob, bytes(32), bob, DIGEST) is Outcome.REJECTED
    with pytest.raises(InvalidArgument):
        fingerprint.compare_scanned("eve@example.org", DIGEST, bob, DIGEST)
