import json
from pathlib import Path

import pytest

from telepathy_e2e.attest.statement import statement

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "attestations.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("vector", VECTORS["statements"], ids=lambda each: each["jid"])
def test_a_statement_is_what_the_specification_says(vector: dict[str, str]) -> None:
    made = statement(vector["jid"], bytes.fromhex(vector["fingerprint"]))
    assert made.hex() == vector["statement"]


def test_another_person_another_key_is_another_statement() -> None:
    mine = statement("bob@example.org", bytes(32))
    assert mine != statement("bob@example.or", bytes(32))
    assert mine != statement("bob@example.org", bytes(31) + b"\1")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_fingerprint_of_another_length_is_a_mistake_of_ours(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        statement("bob@example.org", bytes(size))
