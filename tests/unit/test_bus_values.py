"""Between plain values and D-Bus's typed ones."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import pytest
from dbus_fast import Variant

from telepathy_e2e.bus.values import INTEGERS, fit, plain_dict, variant
from telepathy_e2e.errors import InvalidArgument


class Word(StrEnum):
    YES = "yes"


class Number(IntEnum):
    ONE = 1


def test_enumerations_and_tuples_count_as_what_they_hold() -> None:
    assert variant("s", Word.YES) == Variant("s", "yes")
    assert type(variant("s", Word.YES).value) is str
    assert type(variant("u", Number.ONE).value) is int
    assert variant("as", ("a", "b")) == Variant("as", ["a", "b"])
    assert variant("(sq)", ("h", 1)) == Variant("(sq)", ("h", 1))


@pytest.mark.parametrize("signature", sorted(INTEGERS))
def test_integers_of_any_type_fit_where_their_value_does(signature: str) -> None:
    low, high = INTEGERS[signature]
    for value in (low, high):
        given = Variant("t" if value > 2**62 else "x", value)
        assert fit("It", given, signature) == value
    for value in (low - 1, high + 1):
        if -(2**63) <= value < 2**64:
            with pytest.raises(InvalidArgument, match="It must be a number from"):
                fit("It", Variant("t" if value > 2**62 else "x", value), signature)


@pytest.mark.parametrize(
    ("given", "signature", "words"),
    [
        (Variant("b", True), "u", "a number"),
        (Variant("d", 1.0), "u", "a number"),
        (Variant("u", 1), "b", "true or false"),
        (Variant("o", "/"), "s", "a string"),
        (Variant("s", "/"), "o", "an object path"),
        (Variant("a{ss}", {}), "a{uau}", "another type"),
    ],
)
def test_other_types_are_refused_in_words(given: Variant, signature: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        fit("It", given, signature)


def test_variants_are_taken_off_at_every_depth() -> None:
    nested = Variant("a{sv}", {"a": Variant("av", [Variant("u", 1)])})
    assert fit("It", nested, "a{sv}") == {"a": [1]}
    assert plain_dict({"x": nested}) == {"x": {"a": [1]}}
