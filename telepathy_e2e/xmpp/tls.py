"""The server's certificate: what we demand of it, and what was wrong with it (RFC 6125)."""

from __future__ import annotations

import functools
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
