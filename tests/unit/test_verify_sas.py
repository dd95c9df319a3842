"""Short strings against vectors of an independent implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telepathy_e2e.role import Role
from telepathy_e2e.verify import sas

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "sas.json").read_text())["sas"]


@pytest.fixture(params=VECTORS, ids=lambda v: str(v["id"]))
def vector(request: pytest.FixtureRequest) -> dict[str, str]:
    found: dict[str, str] = request.param
    return found


def octets(vector: dict[str, str], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


def test_the_string_is_that_of_the_vector(vector: dict[str, str]) -> None:
    (binding, *rest) = octets(vector, "B", "FI", "FR", "NI", "NR")
    assert sas.short_string(binding, vector["id"], *rest) == vector["string"]


@pytest.mark.parametrize(("role", "nonce"), [(Role.INITIATOR, "NI"), (Role.RESPONDER, "NR")])
def test_the_commitment_is_that_of_the_vector(
    vector: dict[str, str], role: Role, nonce: str
) -> None:
    binding, secret, expected = octets(vector, "B", nonce, f"commit_of_{role}")
    assert sas.commitment(binding, vector["id"], role, secret) == expected
    assert sas.opens(expected, binding, vector["id"], role, secret)


@pytest.mark.parametrize("what", ["binding", "id", "role", "nonce"])
def test_a_commitment_opens_only_for_what_it_was_made_for(what: str) -> None:
    made = sas.commitment(b"b" * 32, "c1", Role.INITIATOR, b"n" * 32)
    assert not sas.opens(
        made,
        b"x" * 32 if what == "binding" else b"b" * 32,
        "c2" if what == "id" else "c1",
        Role.RESPONDER if what == "role" else Role.INITIATOR,
        b"x" * 32 if what == "nonce" else b"n" * 32,
    )


@pytest.mark.parametrize("position", range(6))
def test_each_ingredient_changes_the_string(position: int) -> None:
    honest = [b"b" * 32, b"i", b"1" * 32, b"2" * 32, b"3" * 32, b"4" * 32]
    other = list(honest)
    other[position] = b"x" if position == 1 else b"x" * 32

    def string(parts: list[bytes]) -> str:
        return sas.short_string(parts[0], parts[1].decode(), *parts[2:])

    assert string(honest) != string(other)


def test_strings_have_six_characters_without_look_alikes() -> None:
    seen = set()
    for i in range(500):
        text = sas.short_string(b"b" * 32, str(i), *[b"x" * 32] * 4)
        assert len(text) == 6
        seen |= set(text)
    assert seen == set(sas.ALPHABET)
    assert not seen & set("01IO")
