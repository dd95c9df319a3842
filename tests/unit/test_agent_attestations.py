"""What is signed beside leaves cannot be taken for anything else."""

from __future__ import annotations

import pytest

from telepathy_e2e.agent.attestations import MAX_STATEMENT, Attestation
from telepathy_e2e.errors import InvalidArgument

ALICE = "alice@example.org"


def test_no_two_statements_have_the_same_bytes_to_sign() -> None:
    all_of_them = [
        Attestation(ALICE, "device", b"x"),
        Attestation(ALICE, "devic", b"ex"),
        Attestation(ALICE + "d", "evice", b"x"),
        Attestation(ALICE, "device", b"xx"),
    ]
    assert len({each.to_be_signed() for each in all_of_them}) == 4


def test_it_is_not_the_beginning_of_a_certificate() -> None:
    assert Attestation(ALICE, "device", b"x").to_be_signed()[0] != 0x30


@pytest.mark.parametrize("kind", ["", "Device", "1", "a b", "a\n", "a" * 33, "ä"])
def test_other_types_than_short_words_are_refused(kind: str) -> None:
    with pytest.raises(InvalidArgument):
        Attestation(ALICE, kind, b"x")


def test_a_statement_is_bounded() -> None:
    Attestation(ALICE, "a" * 32, bytes(MAX_STATEMENT))
    for statement in (b"", bytes(MAX_STATEMENT + 1)):
        with pytest.raises(InvalidArgument):
            Attestation(ALICE, "device", statement)
