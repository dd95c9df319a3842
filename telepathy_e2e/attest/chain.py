"""A chain of certificates as bytes: where each ends, and the public key in it.

Without any cryptography, so that the command line can say at once that a certificate is for another
key. What a certificate means is for ``attest.certificate``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from telepathy_e2e.errors import SecurityError

# A person's certificate and two or three authorities below the one that the user chose; companies
# have no more. Each is a signature to be checked for somebody whom we do not know yet.
MAX_CHAIN: Final = 5
# Half of what all attestations of a hello may have: five certificates of the usual 1 to 2 KiB.
MAX_DATA: Final = 16 * 1024
# As of every certificate of a peer (``xtls.encoding``).
MAX_CERTIFICATE: Final = 8 * 1024

_SEQUENCE: Final = 0x30
_EXPLICIT_VERSION: Final = 0xA0

# RFC 5280 section 4.1: after the version come serial number, signature, issuer, validity, subject.
_BEFORE_KEY: Final = 5

_PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----"
)


def split(data: bytes) -> list[bytes]:
    """The certificates of a chain, DER, one behind the other.

    Raises:
        SecurityError: not that, or beyond the bounds.
    """
    if len(data) > MAX_DATA:
        raise SecurityError("a chain of certificates that is too long")
    chain: list[bytes] = []
    rest = data
    while rest:
        if rest[0] != _SEQUENCE:
            raise SecurityError("something in a chain that is no certificate")
        size = sum(_header(rest))
        if size > MAX_CERTIFICATE or size > len(rest) or len(chain) == MAX_CHAIN:
            raise SecurityError("a chain of certificates that is too long or cut")
        chain.append(rest[:size])
        rest = rest[size:]
    if not chain:
        raise SecurityError("a chain without certificates")
    return chain


def from_file(data: bytes) -> bytes:
    """A chain from a file of the user's: PEM, or DER as it is."""
    found = _PEM.findall(data)
    return b"".join(base64.b64decode(each) for each in found) if found else data


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a certificate in DER, 32 bytes.

    Raises:
        SecurityError: there is none where it belongs.
    """
    header, size = _header(certificate)
    body = certificate[header : header + size]
    header, size = _header(body)
    fields = body[header : header + size]
    if fields[:1] == bytes((_EXPLICIT_VERSION,)):
        fields = fields[sum(_header(fields)) :]
    for _ in range(_BEFORE_KEY):
        fields = fields[sum(_header(fields)) :]
    key = fields[: sum(_header(fields))]
    if key[:1] != bytes((_SEQUENCE,)):
        raise SecurityError("a certificate that cannot be read")
    return hashlib.sha256(key).digest()


def _header(data: bytes) -> tuple[int, int]:
    """Of the DER element at the beginning: bytes of tag and length, and of the content."""
    if len(data) < 2:
        raise SecurityError("something in a chain that is no certificate")
    if data[1] < 0x80:
        return 2, data[1]
    octets = data[1] & 0x7F
    # Two say up to 65,535, which is more than a certificate may have.
    if not 1 <= octets <= 2 or len(data) < 2 + octets:
        raise SecurityError("something in a chain that is no certificate")
    return 2 + octets, int.from_bytes(data[2 : 2 + octets], "big")
