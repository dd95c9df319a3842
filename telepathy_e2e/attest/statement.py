"""What somebody signs who vouches for an identity key (spec/attestations.md, "The statement")."""

from __future__ import annotations

from typing import Final

# First in what is signed, so that a signature made for this means nothing elsewhere, and one made
# for something else means nothing here.
LABEL: Final = "x-telepathy-e2e openpgp attestation v0"

# SHA-256.
DIGEST_SIZE: Final = 32

OPENPGP: Final = "openpgp"
X509: Final = "x509"


def statement(bare_jid: str, fingerprint: bytes) -> bytes:
    """The bytes under the signature: this identity key is the one of this JID.

    Each part comes with its length, so that no two statements read alike.

    Args:
        bare_jid: whose key it is; normalised (RFC 7622).
        fingerprint: the identity fingerprint, 32 bytes.
    """
    if len(fingerprint) != DIGEST_SIZE:
        raise ValueError(f"an identity fingerprint has {DIGEST_SIZE} bytes")
    return b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (LABEL.encode(), bare_jid.encode(), fingerprint)
    )
