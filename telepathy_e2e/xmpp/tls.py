"""The server's certificate: what we demand of it, and what was wrong with it (RFC 6125)."""

from __future__ import annotations

import functools
import hashlib
import os
import ssl
from collections.abc import Iterable
from typing import cast

from telepathy_e2e.errors import (
    CertError,
    CertExpired,
    CertHostnameMismatch,
    CertNotActivated,
    CertNotProvided,
    CertSelfSigned,
    CertUntrusted,
    EncryptionNotAvailable,
    InvalidArgument,
    TelepathyError,
)
from telepathy_e2e.xmpp.jid import ascii_domain

# openssl/x509_vfy.h
_CODES: dict[int, tuple[type[CertError], str]] = {
    9: (CertNotActivated, "The server's certificate is not valid yet; is the clock right?"),
    10: (CertExpired, "The server's certificate has expired"),
    18: (CertSelfSigned, "The server's certificate is signed by nobody but itself"),
    19: (
        CertUntrusted,
        "The server's certificate comes from an authority that is not trusted here",
    ),
    20: (CertUntrusted, "The server's certificate comes from an authority that is not known here"),
    21: (CertUntrusted, "The server's certificate comes from an authority that is not known here"),
    62: (CertHostnameMismatch, "The server's certificate is for another server"),
    64: (CertHostnameMismatch, "The server's certificate is for another server"),
}

# Signature algorithms to the hash that RFC 5929 section 4.1 has for them; MD5 and SHA-1 are
# replaced. RSA-PSS says its hash elsewhere and EdDSA has none: there is no such binding then.
_SIGNATURES = {
    "2a864886f70d010104": "sha256",  # md5WithRSAEncryption
    "2a864886f70d010105": "sha256",  # sha1WithRSAEncryption
    "2a864886f70d01010e": "sha224",
    "2a864886f70d01010b": "sha256",
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a8648ce3d0401": "sha256",  # ecdsa-with-SHA1
    "2a8648ce3d040301": "sha224",
    "2a8648ce3d040302": "sha256",
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
}

# _ssl.ENCODING_DER
_DER = 2
# Certificates of a server that are shown; real chains have up to four.
MAX_CHAIN = 10

# Contexts kept: one has all authorities of the system, 1 MB, and accounts rarely differ in them.
MAX_CONTEXTS = 4


def context(ca_file: str, extra_identities: Iterable[str]) -> ssl.SSLContext:
    """What every connection to a server uses. Reads files: call it in a thread.

    Raises:
        InvalidArgument: ``ca_file`` cannot be read.
    """
    try:
        changed = os.stat(ca_file).st_mtime_ns if ca_file else 0
        # OpenSSL checks one name. Where the user gave more, check_names() takes over; it is called
        # before a byte is sent.
        return _context(ca_file, changed, not tuple(extra_identities))
    except (OSError, ssl.SSLError):
        raise InvalidArgument("The file of certificate authorities cannot be read") from None


@functools.lru_cache(MAX_CONTEXTS)
def _context(ca_file: str, changed: int, check_hostname: bool) -> ssl.SSLContext:
    result = ssl.create_default_context()
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    result.check_hostname = check_hostname
    if ca_file:
        result.load_verify_locations(cafile=ca_file)
    return result


@functools.lru_cache(1)
def unverified_context() -> ssl.SSLContext:
    """For a look at the certificate of a server that does not verify, and for a server that the
    user has judged himself. Whoever uses it compares certificates before anything is sent."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    result.check_hostname = False
    result.verify_mode = ssl.CERT_NONE
    return result


def chain_of(peer: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates that a server sent, DER, its own first, verified or not.

    Raises:
        CertNotProvided: it sent none.
    """
    # Public as SSLObject.get_unverified_chain from Python 3.13 on, where it gives bytes.
    own = peer.getpeercert(binary_form=True)
    if own is None:
        raise CertNotProvided("The server has no certificate")
    sent = peer._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    rest = [each if isinstance(each, bytes) else each.public_bytes(_DER) for each in sent[1:]]
    return (own, *rest[: MAX_CHAIN - 1])


def name_of(certificate: bytes) -> str:
    """The first host that a certificate, DER, is for; empty if it cannot be told. For people only:
    it decides nothing. Imports; call it in a thread."""
    from cryptography import x509

    try:
        alternatives = x509.load_der_x509_certificate(certificate).extensions
        names = alternatives.get_extension_for_class(x509.SubjectAlternativeName).value
        found = names.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ""
    return found[0] if found else ""


def bindings_of(peer: ssl.SSLObject) -> dict[str, bytes]:
    """What a login can be bound to on this connection (RFC 5056): type to data.

    tls-exporter (RFC 9266) needs the exporter that Python's ssl does not have.
    """
    result: dict[str, bytes] = {}
    if peer.version() == "TLSv1.2":
        # Not defined for TLS 1.3 (RFC 8446 appendix C.5).
        unique = peer.get_channel_binding("tls-unique")
        if unique:
            result["tls-unique"] = unique
    own = peer.getpeercert(binary_form=True)
    end_point = None if own is None else server_end_point(own)
    if end_point is not None:
        result["tls-server-end-point"] = end_point
    return result


def server_end_point(certificate: bytes) -> bytes | None:
    """RFC 5929 section 4.1: the hash of a certificate, by its own signature's algorithm.

    Returns:
        None where the standard defines none (more than one hash, or none).
    """
    try:
        whole, _ = _der(certificate)
        _, rest = _der(whole)  # what is signed
        algorithm, _ = _der(rest)
        identifier, _ = _der(algorithm)
    except ValueError:
        return None
    name = _SIGNATURES.get(identifier.hex())
    return None if name is None else hashlib.new(name, certificate).digest()


def _der(data: bytes) -> tuple[bytes, bytes]:
    """The value of the first element, and what follows it."""
    if len(data) < 2:
        raise ValueError("too short")
    length, start = data[1], 2
    if length > 0x80:
        start += length - 0x80
        length = int.from_bytes(data[2:start], "big")
    if length == 0x80 or len(data) < start + length:
        raise ValueError("no definite length, or less than it says")
    return data[start : start + length], data[start + length :]


def check_names(peer: ssl.SSLObject, domain: str, extra_identities: Iterable[str]) -> None:
    """RFC 6125 for a connection whose chain was found good.

    Raises:
        CertError: no certificate, or none of these names in it.
    """
    certificate = peer.getpeercert()
    if not certificate:
        raise CertNotProvided("The server has no certificate")
    extra = tuple(extra_identities)
    if not extra:
        return  # OpenSSL has checked the domain
    alternatives = cast(Iterable[tuple[str, str]], certificate.get("subjectAltName", ()))
    presented = [value for kind, value in alternatives if kind == "DNS"]
    names = [ascii_domain(name.lower()) for name in (domain, *extra)]
    if not any(matches(pattern, name) for pattern in presented for name in names):
        raise CertHostnameMismatch("The server's certificate is for another server")


def matches(pattern: str, name: str) -> bool:
    """Whether a DNS name of a certificate is this host (RFC 6125 section 6.4).

    A wildcard is the whole leftmost label, stands for exactly one, and needs two after it.
    """
    pattern, name = pattern.lower().removesuffix("."), name.lower().removesuffix(".")
    if not pattern.startswith("*."):
        return bool(pattern) and "*" not in pattern and pattern == name
    rest = pattern[2:]
    label, dot, parent = name.partition(".")
    return bool(label and dot) and "." in rest and "*" not in rest and parent == rest


def failure(error: OSError) -> TelepathyError | None:
    """What a failed handshake means, or None if it was the network."""
    if isinstance(error, ssl.SSLCertVerificationError):
        kind, text = _CODES.get(
            error.verify_code, (CertError, "The server's certificate is not valid")
        )
        return kind(text)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    if isinstance(error, ssl.SSLError):
        return EncryptionNotAvailable("No secure connection to the server could be set up")
    return None
