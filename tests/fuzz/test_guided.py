"""What guided fuzzing begins with, and all that it ever found, breaks nothing.

``make fuzz`` looks for more, with atheris; this needs none.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.xtls.encoding import from_xml
from telepathy_e2e.xtls.identity import check_identity, check_leaf
from tests.fuzz import test_stanzas
from tests.fuzz.guided import harnesses
from tests.fuzz.guided.harnesses import ALICE, CRASHES, HARNESSES, WALL, crashes, seeds
from tests.unit.xtls_support import announced


@pytest.mark.parametrize("name", HARNESSES)
def test_no_seed_breaks_its_harness(name: str) -> None:
    given = seeds(name)
    assert given
    for seed in given:
        assert len(seed) <= harnesses.LONGEST
        HARNESSES[name](seed)
        # Nor do they where they do not belong, or not whole.
        for cut in (seed[1:], seed[:-1], seed[: len(seed) // 2], b""):
            HARNESSES[name](cut)


@pytest.mark.parametrize("name", HARNESSES)
def test_what_was_found_once_is_found_no_more(name: str) -> None:
    for file in crashes(name):
        HARNESSES[name](file.read_bytes())


def test_what_was_found_belongs_to_a_harness() -> None:
    assert {each.name for each in CRASHES.glob("*") if each.is_dir()} <= set(HARNESSES)


def test_the_certificates_among_the_seeds_are_right_ones() -> None:
    """Else nothing behind the first check would be looked at."""
    check_leaf(ALICE.leaf, announced(ALICE.leaf), WALL)
    check_identity(ALICE.identity, ALICE.leaf, ALICE.jid, WALL)


@pytest.mark.parametrize("name", ["stanzas", "presence", "node"])
def test_the_documents_among_the_seeds_are_well_formed(name: str) -> None:
    for seed in seeds(name):
        from_xml(seed)


def _mistaken(element: Element) -> None:
    raise KeyError(element.tag)


def test_a_harness_hides_no_mistake_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = seeds("stanzas")[0]
    monkeypatch.setitem(test_stanzas.PARSERS, "hello", _mistaken)
    with pytest.raises(KeyError):
        HARNESSES["stanzas"](seed)
