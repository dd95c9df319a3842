"""``x509`` attestations: an authority that the user chose certified the same key for the same JID.

The path is built by ``cryptography.x509.verification``: signatures, names, validity, CA flags, key
usage, path length, name constraints, and a bound on the work that all this may take. It lets us
say what a leaf's extensions must be, so that nothing here decides about a path; and unlike
OpenSSL's store it never knew any other authorities than those that it is given, and no network.
What is ours is what the certificate has to say: this key, this JID, and that it is for persons.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from telepathy_e2e.attest.chain import MAX_CHAIN, split
from telepathy_e2e.errors import InvalidArgument, SecurityError
from telepathy_e2e.xtls.certificates import TOLERANCE, parse, strictly, xmpp_addr
from telepathy_e2e.xtls.uri import enforced

# Authorities in a user's file, and its bytes. It is his own file; the bounds say that he named the
# wrong one, before a certificate store of a whole system makes each judgement slow.
MAX_AUTHORITIES: Final = 64
MAX_AUTHORITIES_FILE: Final = 512 * 1024

# How many names one certificate may have: what a company gives one person, amply.
MAX_NAMES: Final = 32

Authorities = tuple[x509.Certificate, ...]

# What the extended key usage has to allow, where there is one: a certificate for signing programs
# or for a web server names nobody who talks.
_PERSONAL: Final = frozenset(
    {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
)


def read_authorities(pem: bytes) -> Authorities:
    """The user's own file of authorities.

    Raises:
        InvalidArgument: no certificates in PEM, or too many.
    """
    if len(pem) > MAX_AUTHORITIES_FILE:
        raise InvalidArgument("This file has too many authorities; name the one of your company")
    try:
        with strictly():
            found = tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, TypeError, x509.InvalidVersion, CryptographyDeprecationWarning):
        raise InvalidArgument("This file does not hold certificates in PEM") from None
    if len(found) > MAX_AUTHORITIES:
        raise InvalidArgument("This file has too many authorities; name the one of your company")
    return found


def check_x509(
    data: bytes,
    *,
    identity: bytes,
    bare_jid: str,
    authorities: Authorities,
    wall: datetime,
) -> None:
    """That one of the user's authorities says: this is the key of this JID.

    It takes some milliseconds at the bounds, so it belongs in a thread.

    Args:
        data: of the attestation, as the peer wrote it.
        identity: the peer's identity certificate, DER, checked already.
        bare_jid: the peer's, normalised, from the stanzas.
        authorities: the user's, see ``read_authorities``.
        wall: now, aware.
    Raises:
        SecurityError: nobody says so whom the user chose.
    """
    if not authorities:
        raise SecurityError("a certificate, and no authorities to judge it by")
    chain = split(data)
    leaf = parse(chain[0])
    # The key in use is the one that is vouched for: a certificate of the same person for another
    # key is anybody's to copy, it is no secret.
    if not hmac.compare_digest(leaf.spki, parse(identity).spki):
        raise SecurityError("a certificate of another key")
    # This key certifies session keys: as an authority of the company it could certify people.
    if leaf.constraints is not None and leaf.constraints.ca:
        raise SecurityError("a certificate that makes an authority, not a person")
    if leaf.usage is not None and not leaf.usage.digital_signature:
        raise SecurityError("a certificate for a key that may not sign")
    names = leaf.names or ()
    if len(names) > MAX_NAMES:
        raise SecurityError("a certificate with too many names")
    found = [address for name in names if (address := xmpp_addr(name)) is not None]
    if bare_jid not in map(enforced, found):
        raise SecurityError("a certificate of somebody else")
    _check_path(chain, authorities, wall)


def _check_path(chain: Sequence[bytes], authorities: Authorities, wall: datetime) -> None:
    try:
        with strictly():
            certificates = [x509.load_der_x509_certificate(each) for each in chain]
            _check_usage(certificates[0])
            _check_at_some_time(certificates, authorities, wall)
    except (
        CryptographyDeprecationWarning,
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        raise SecurityError("a chain of certificates that cannot be read") from None


def _check_usage(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if _PERSONAL.isdisjoint(usage):
        raise SecurityError("a certificate that is not for persons")


def _check_at_some_time(
    certificates: Sequence[x509.Certificate], authorities: Authorities, wall: datetime
) -> None:
    """That there is a path now, or would be if our clock were a day off."""
    for shift in (timedelta(), -TOLERANCE, TOLERANCE):
        try:
            _verifier(authorities, wall + shift).verify(certificates[0], list(certificates[1:]))
        except verification.VerificationError:
            continue
        return
    raise SecurityError("a certificate that none of the chosen authorities stands behind now")


def _verifier(authorities: Authorities, at: datetime) -> verification.ClientVerifier:
    # The leaf's own content was judged above: unlike a web client's certificate it is for a key
    # that is in use elsewhere, and its name is one that this library does not know.
    return (
        verification.PolicyBuilder()
        .store(verification.Store(list(authorities)))
        .time(at)
        .max_chain_depth(MAX_CHAIN - 1)
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=_LEAF_POLICY,
        )
        .build_client_verifier()
    )


_LEAF_POLICY: Final = verification.ExtensionPolicy.permit_all().require_present(
    x509.SubjectAlternativeName, verification.Criticality.AGNOSTIC, None
)
