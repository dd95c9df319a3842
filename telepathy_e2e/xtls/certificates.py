"""Certificates of strangers: parsed strictly, signatures checked, nothing trusted.

``parse`` is the only door; what it returns has been read whole, so that nothing a peer wrote can
raise anything later.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import SignatureAlgorithmOID

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.xtls.encoding import MAX_CERTIFICATE as MAX_CERTIFICATE

# For clocks that differ (spec/xtls.md, "Handshake").
TOLERANCE = timedelta(days=1)

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# P-256 is what we make. The other two are as strong or stronger, have one parameter set each, and
# every TLS 1.3 library speaks them. RSA is left out: keys of any size and exponent, and nobody who
# begins with this protocol needs it.
_CURVES = (ec.SECP256R1, ec.SECP384R1)

# No SHA-1: certificates with chosen content can be made to collide.
_ECDSA: dict[x509.ObjectIdentifier, hashes.HashAlgorithm] = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: hashes.SHA512(),
}

# RFC 6120 section 13.7.1.4.
ID_ON_XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")

_UTF8_STRING = 0x0C


@dataclass(frozen=True)
class Certificate:
    """What we want to know of a certificate."""

    der: bytes
    spki: bytes
    """DER SubjectPublicKeyInfo, exactly as in the certificate."""
    key: PublicKey
    subject: x509.Name
    not_before: datetime
    not_after: datetime
    constraints: x509.BasicConstraints | None
    constraints_critical: bool
    usage: x509.KeyUsage | None
    names: tuple[x509.GeneralName, ...] | None
    """Subject alternative names; None without that extension."""
    key_identifiers: bool
    """It has a subject or authority key identifier."""
    signature_algorithm: x509.ObjectIdentifier
    signature: bytes
    signed: bytes
    """What ``signature`` is over."""


@contextmanager
def strictly() -> Iterator[None]:
    """What the library has to say of a stranger's certificate is not said on standard error.

    A stranger could fill the log with that: with values that are too long for their types, say.

    Raises:
        CryptographyDeprecationWarning: the block reads what RFC 5280 forbids and the library still
            takes, and later versions of it refuse (a serial number that is not positive, ...).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", CryptographyDeprecationWarning)  # which is one of those
        yield


def read_key(der: bytes) -> bytes:
    """The public key of a certificate of any kind, as it is written there.

    Returns:
        SubjectPublicKeyInfo, DER.
    Raises:
        SecurityError: too long, or not a certificate.
    """
    if len(der) > MAX_CERTIFICATE:
        raise SecurityError("a certificate that is too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            certificate = x509.load_der_x509_certificate(der)
            return certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise SecurityError("a certificate that cannot be read") from None


def parse(der: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        SecurityError: too long, malformed, with a key of another kind than we take, or with a
            critical extension that we do not know.
    """
    if len(der) > MAX_CERTIFICATE:
        raise SecurityError("a certificate that is too long")
    try:
        with strictly():
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
            return _read(der, certificate, key)
    except (
        CryptographyDeprecationWarning,
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        raise SecurityError("a certificate that cannot be read") from None


def _read(der: bytes, certificate: x509.Certificate, key: object) -> Certificate:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise SecurityError("a certificate with a key on another curve")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise SecurityError("a certificate with another kind of key")
    signed = certificate.tbs_certificate_bytes
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # A key can be written in several ways (a compressed point), and then both sides would compute
    # different fingerprints of it. One way is allowed.
    if spki not in signed:
        raise SecurityError("a certificate whose key is written in an unusual way")
    # Nor do two certificates differ in bits of the signature that nobody looks at.
    if not der.endswith(b"\0" + certificate.signature):
        raise SecurityError("a certificate whose signature is not of whole bytes")
    constraints: x509.Extension[x509.BasicConstraints] | None = None
    usage: x509.KeyUsage | None = None
    names: tuple[x509.GeneralName, ...] | None = None
    key_identifiers = False
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints():
                constraints = extension
            case x509.KeyUsage() as usage:
                pass
            case x509.SubjectAlternativeName() as alternative:
                names = tuple(alternative)
            case x509.SubjectKeyIdentifier() | x509.AuthorityKeyIdentifier():
                key_identifiers = True
            case x509.UnrecognizedExtension() if extension.critical:
                raise SecurityError("a certificate with an unknown critical extension")
            case _:
                pass
    return Certificate(
        der=der,
        spki=spki,
        key=key,
        subject=certificate.subject,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        constraints=None if constraints is None else constraints.value,
        constraints_critical=constraints is not None and constraints.critical,
        usage=usage,
        names=names,
        key_identifiers=key_identifiers,
        signature_algorithm=certificate.signature_algorithm_oid,
        signature=certificate.signature,
        signed=signed,
    )


def check_signature(certificate: Certificate, key: PublicKey) -> None:
    """That ``key`` has signed it.

    Raises:
        SecurityError: it has not, or by an algorithm that we do not take.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            if certificate.signature_algorithm != SignatureAlgorithmOID.ED25519:
                raise SecurityError("a certificate signed by another algorithm than the key's")
            key.verify(certificate.signature, certificate.signed)
        else:
            used = _ECDSA.get(certificate.signature_algorithm)
            if used is None:
                raise SecurityError("a certificate signed by an algorithm that is not taken")
            key.verify(certificate.signature, certificate.signed, ec.ECDSA(used))
    except InvalidSignature:
        raise SecurityError("a certificate with a wrong signature") from None


def check_validity(certificate: Certificate, wall: datetime) -> None:
    """That it is valid now, give or take ``TOLERANCE``.

    Raises:
        SecurityError: it is not.
    """
    # Differences of dates: a date plus a day would overflow for a certificate valid until 9999.
    if certificate.not_before - wall > TOLERANCE:
        raise SecurityError("a certificate that is not valid yet; is a clock wrong?")
    if wall - certificate.not_after > TOLERANCE:
        raise SecurityError("a certificate that has expired; is a clock wrong?")


def xmpp_addr(name: x509.GeneralName) -> str | None:
    """The JID in an ``id-on-xmppAddr`` (RFC 6120 section 13.7.1.4), or None for another name."""
    if not isinstance(name, x509.OtherName) or name.type_id != ID_ON_XMPP_ADDR:
        return None
    content = _content(name.value)
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def make_xmpp_addr(bare_jid: str) -> x509.OtherName:
    """The ``id-on-xmppAddr`` that says ``bare_jid``."""
    content = bare_jid.encode()
    return x509.OtherName(ID_ON_XMPP_ADDR, _header(len(content)) + content)


def _header(length: int) -> bytes:
    """Tag and length of a UTF8String in DER (X.690 section 8.1.3)."""
    if length < 0x80:
        return bytes((_UTF8_STRING, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((_UTF8_STRING, 0x80 | len(octets))) + octets


def _content(value: bytes) -> bytes | None:
    """The bytes of a UTF8String in DER; None for anything else, trailing bytes included."""
    for size in range(2, 6):
        header, content = value[:size], value[size:]
        if header == _header(len(content)):
            return content
    return None
