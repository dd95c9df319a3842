"""Between plain Python values and D-Bus's typed ones."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from telepathy_e2e.bus.wire import Variant, plain
from telepathy_e2e.errors import InvalidArgument

# Integer types and the values they hold.
INTEGERS: Final[Mapping[str, tuple[int, int]]] = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}

# A type in words, for error messages.
WORDS: Final[Mapping[str, str]] = {
    "s": "a string",
    "b": "true or false",
    "o": "an object path",
    "as": "a list of strings",
    "ay": "bytes",
}


def variant(signature: str, value: Any) -> Variant:
    """A value with its type. Enumerations count as what they hold, and tuples as lists."""
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, tuple) and signature.startswith("a"):
        value = list(value)
    return Variant(signature, value)


def fit(name: str, given: Variant, signature: str) -> Any:
    """The plain value of an argument that should have a certain type.

    Any integer type does for another if the number fits: scripting languages pick one for
    themselves.

    Args:
        name: of the argument, for the error.
    Raises:
        InvalidArgument: another type, or too large a number.
    """
    if signature in INTEGERS and given.signature in INTEGERS:
        low, high = INTEGERS[signature]
        if not low <= given.value <= high:
            raise InvalidArgument(f"{name} must be a number from {low} to {high}")
        return given.value
    if given.signature != signature:
        wanted = "a number" if signature in INTEGERS else WORDS.get(signature, "another type")
        raise InvalidArgument(
            f'{name} must be {wanted} (D-Bus type "{signature}"), not of type "{given.signature}"'
        )
    return plain(given)


def details(given: Mapping[str, str | bool]) -> dict[str, Variant]:
    """What is told of an error (String_Variant_Map)."""
    return {
        key: Variant("b" if isinstance(value, bool) else "s", value) for key, value in given.items()
    }


def plain_dict(given: Mapping[str, Variant]) -> dict[str, Any]:
    """A dictionary without variants."""
    return {key: plain(value) for key, value in given.items()}
