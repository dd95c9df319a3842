"""Short authentication strings: the computations (xtls-wire, section 5, "SAS")."""

from __future__ import annotations

import hashlib
import hmac

from telepathy_e2e.role import Role

NONCE_SIZE = 32
COMMITMENT_SIZE = 32

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
STRING_LENGTH = 6
_BITS = 5 * STRING_LENGTH

_COMMIT_LABEL = b"x-telepathy-e2e sas commit v0"
_STRING_LABEL = b"x-telepathy-e2e sas v0"


def lv(data: bytes) -> bytes:
    """``LV(x)``: the length as 4 bytes big-endian, then the bytes."""
    return len(data).to_bytes(4, "big") + data


def commitment(binding: bytes, ceremony: str, role: Role, nonce: bytes) -> bytes:
    """What the starter promises before he sees the other's nonce.

    Args:
        binding: B, 32 bytes from the TLS exporter.
        ceremony: the ``id``.
        role: the starter's; without it his own commitment could be sent back to him.
        nonce: the starter's, 32 bytes.
    Returns:
        32 bytes.
    """
    parts = (_COMMIT_LABEL, binding, ceremony.encode(), role.value.encode(), nonce)
    return hashlib.sha256(b"".join(map(lv, parts))).digest()


def opens(committed: bytes, binding: bytes, ceremony: str, role: Role, nonce: bytes) -> bool:
    """Whether ``nonce`` is the one that ``committed`` promised."""
    return hmac.compare_digest(committed, commitment(binding, ceremony, role, nonce))


def short_string(
    binding: bytes,
    ceremony: str,
    initiator_fingerprint: bytes,
    responder_fingerprint: bytes,
    initiator_nonce: bytes,
    responder_nonce: bytes,
) -> str:
    """The six characters that both users compare: the first 30 bits of T.

    Binding and fingerprints are in it, so a relay between two TLS sessions changes it.
    """
    parts = (
        _STRING_LABEL,
        binding,
        ceremony.encode(),
        initiator_fingerprint,
        responder_fingerprint,
        initiator_nonce,
        responder_nonce,
    )
    digest = hashlib.sha256(b"".join(map(lv, parts))).digest()
    bits = int.from_bytes(digest[:4], "big") >> (32 - _BITS)
    return "".join(ALPHABET[bits >> shift & 31] for shift in range(_BITS - 5, -1, -5))
