"""What an identity key signs beside leaves: statements that a person has agreed to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from telepathy_e2e.attest.statement import IDENTITY, read_vouching, signed_by_identity
from telepathy_e2e.errors import InvalidArgument

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
        return signed_by_identity(self.account, self.type, self.statement)

    def check_signer(self, own: bytes) -> None:
        """That it makes sense for this identity to sign it, as far as that is known of its type.

        Args:
            own: fingerprint of the identity that is to sign, 32 bytes.
        Raises:
            InvalidArgument: contacts would refuse it, or a person could not be told what it says.
        """
        if self.type != IDENTITY:
            return
        try:
            vouched, signer = read_vouching(self.statement)
        except ValueError as error:
            raise InvalidArgument(f"This is {error}") from None
        if signer != own:
            raise InvalidArgument("This statement is in the name of another key")
        if vouched == own:
            raise InvalidArgument("No key vouches for itself")

    def digest(self) -> bytes:
        """SHA-256 of the statement: what a person can compare."""
        return hashlib.sha256(self.statement).digest()


# Asks the person; True only if he agreed to this very statement.
Confirm = Callable[[Attestation], Awaitable[bool]]
