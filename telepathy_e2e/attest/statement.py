"""What somebody signs who vouches for an identity key (spec/attestations.md)."""

from __future__ import annotations

from typing import Final

# First in what is signed, so that a signature made for this means nothing elsewhere, and one made
# for something else means nothing here.
LABEL: Final = "x-telepathy-e2e openpgp attestation v0"

# The same for what identity keys themselves sign. Behind its length, so that the first byte is a
# zero: a certificate or a request, which is all that such a key signs else, begins with 0x30.
IDENTITY_LABEL: Final = "x-telepathy-e2e attestation v1"

# SHA-256.
DIGEST_SIZE: Final = 32

OPENPGP: Final = "openpgp"
X509: Final = "x509"
IDENTITY: Final = "identity"


def statement(bare_jid: str, fingerprint: bytes) -> bytes:
    """The bytes under the signature: this identity key is the one of this JID.

    Each part comes with its length, so that no two statements read alike.

    Args:
        bare_jid: whose key it is; normalised (RFC 7622).
        fingerprint: the identity fingerprint, 32 bytes.
    """
    return _lv(LABEL.encode(), bare_jid.encode(), _digest(fingerprint))


def signed_by_identity(bare_jid: str, kind: str, content: bytes) -> bytes:
    """The bytes under the signature of an identity key (KeyAgent1.SignAttestation).

    Args:
        bare_jid: of the account whose identity signs; normalised.
        kind: the type of the attestation.
        content: what is stated, in the form of its type.
    """
    return _lv(IDENTITY_LABEL.encode(), bare_jid.encode(), kind.encode(), content)


def vouching(vouched: bytes, signer: bytes) -> bytes:
    """What an ``identity`` attestation states: that key is of the same person as this one.

    Args:
        vouched: identity fingerprint of the other device, 32 bytes.
        signer: of the device that signs, 32 bytes.
    """
    return _lv(_digest(vouched), _digest(signer))


def read_vouching(content: bytes) -> tuple[bytes, bytes]:
    """The opposite of ``vouching``: the other device's fingerprint, and the signer's.

    Raises:
        ValueError: it is nothing that ``vouching`` makes.
    """
    half = 4 + DIGEST_SIZE
    vouched, signer = content[4:half], content[half + 4 :]
    if len(vouched) != DIGEST_SIZE or content != _lv(vouched, signer) or len(content) != 2 * half:
        raise ValueError("not a statement about an identity key")
    return vouched, signer


def _digest(fingerprint: bytes) -> bytes:
    if len(fingerprint) != DIGEST_SIZE:
        raise ValueError(f"an identity fingerprint has {DIGEST_SIZE} bytes")
    return fingerprint


def _lv(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
