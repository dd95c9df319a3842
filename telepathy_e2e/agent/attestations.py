"""What an identity key signs beside leaves: statements that a person has agreed to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.xtls.encoding import lv, lv_text

# First in all that is signed here, so that no signature can be taken for one of a certificate,
# which begins with 0x30, nor for one of another protocol.
LABEL: Final = "x-telepathy-e2e attestation v1"

# As much as all attestations of a hello together have (spec/xtls.md).
MAX_STATEMENT: Final = 32 * 1024

_TYPE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Attestation:
    """A statement to be signed.

    Args:
        type: what kind; small letters, digits and hyphens.

    Raises:
        InvalidArgument: not of this form.
    """

    account: str
    type: str
    statement: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _TYPE.fullmatch(self.type):
            raise InvalidArgument("An attestation's type is a short word of small letters")
        if not 0 < len(self.statement) <= MAX_STATEMENT:
            raise InvalidArgument(f"A statement has 1 to {MAX_STATEMENT} bytes")

    def to_be_signed(self) -> bytes:
        """The bytes under the signature; each part with its length, so that no two read alike."""
        return lv_text(LABEL) + lv_text(self.account) + lv_text(self.type) + lv(self.statement)

    def digest(self) -> bytes:
        """SHA-256 of the statement: what a person can compare."""
        return hashlib.sha256(self.statement).digest()


# Asks the person; True only if he agreed to this very statement.
Confirm = Callable[[Attestation], Awaitable[bool]]
