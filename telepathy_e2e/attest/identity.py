"""``identity`` attestations: one device of a person says that another one is his too.

The identity key of a device signs a statement about that of another one of the same bare JID
(spec/attestations.md, "identity"). Whether the signer's word counts is for whoever remembers which
keys were verified; here is whether it is his word at all.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from telepathy_e2e.attest.statement import IDENTITY, signed_by_identity, vouching
from telepathy_e2e.errors import SecurityError
from telepathy_e2e.xtls.certificates import MAX_CERTIFICATE, parse
from telepathy_e2e.xtls.encoding import lv
from telepathy_e2e.xtls.identity import check_identity_alone

# Two integers of at most 33 bytes in DER: ECDSA on P-256.
MAX_SIGNATURE: Final = 72

_LENGTH: Final = 4


def build(identity: bytes, signature: bytes) -> bytes:
    """The data of an attestation.

    Args:
        identity: the signer's identity certificate, DER.
        signature: of ``signed_by_identity`` of a ``vouching``, DER.
    """
    return lv(identity) + lv(signature)


def read(data: bytes) -> tuple[bytes, bytes]:
    """The opposite: the signer's certificate and the signature; neither is checked.

    Raises:
        SecurityError: not of that form, or beyond the bounds.
    """
    identity, rest = _part(data, MAX_CERTIFICATE)
    signature, rest = _part(rest, MAX_SIGNATURE)
    if rest:
        raise SecurityError("an identity's word with something behind it")
    return identity, signature


def check(data: bytes, *, vouched: bytes, bare_jid: str, wall: datetime) -> bytes:
    """That another identity of this JID says: this key is mine too.

    It takes three signatures' time, a quarter of a millisecond.

    Args:
        data: of the attestation, as the peer wrote it.
        vouched: the peer's identity fingerprint in this session, 32 bytes.
        bare_jid: the peer's, normalised, from the stanzas.
        wall: now, aware.
    Returns:
        The signer's identity fingerprint, 32 bytes. Whether he may vouch is not known here.
    Raises:
        SecurityError: nobody says so.
    """
    identity, signature = read(data)
    # Everything that is asked of a peer's own certificate: another person's key vouches for
    # nobody, and one without this JID in it was never that of a device of his.
    signer = check_identity_alone(identity, bare_jid, wall)
    if hmac.compare_digest(signer, vouched):
        raise SecurityError("an identity that vouches for itself")
    key = parse(identity).key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SecurityError("an identity's word by another kind of key")
    signed = signed_by_identity(bare_jid, IDENTITY, vouching(vouched, signer))
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SecurityError("an identity's word about another key, or by another one") from None
    return signer


def _part(data: bytes, limit: int) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:_LENGTH], "big")
    if not 0 < size <= limit or len(data) < _LENGTH + size:
        raise SecurityError("an identity's word that is cut or too long")
    return data[_LENGTH : _LENGTH + size], data[_LENGTH + size :]
