"""Session keys, leaves, identities: making and checking them (spec/xtls.md, "Identity").

A *leaf* is the certificate of a session key; it says nothing about who. An *identity certificate*
is that of a long-lived key and names the bare JID. What people compare is the digest of the
identity's public key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from telepathy_e2e.errors import InvalidArgument, SecurityError
from telepathy_e2e.xtls.certificates import (
    Certificate,
    check_signature,
    check_validity,
    make_xmpp_addr,
    parse,
    read_key,
    xmpp_addr,
)
from telepathy_e2e.xtls.offer import Fingerprint, digest, shown
from telepathy_e2e.xtls.uri import enforced, make_uri, parse_uri

__all__ = [
    "Credentials",
    "PrivateKey",
    "check_credentials",
    "check_identity",
    "check_identity_alone",
    "check_leaf",
    "identity_fingerprint",
    "make_identity",
    "make_leaf",
    "make_uri",
    "new_session_key",
    "parse_uri",
    "shown",
    "signing_request",
]

# From the wire format. Half of it lies in the past, for peers whose clocks are behind.
LEAF_LIFE = timedelta(hours=24)

# Identities are replaced by people, not by calendars; the day in the past is for clocks again.
IDENTITY_LIFE = timedelta(days=3650)
IDENTITY_BACKDATED = timedelta(days=1)

# The same for everybody: a leaf shown in a handshake tells nothing that its key does not tell.
LEAF_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e session")])
IDENTITY_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e identity")])

_CERT_SIGN = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class PrivateKey:
    """A P-256 private key that does not show itself."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "PrivateKey()"

    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def reveal(self) -> ec.EllipticCurvePrivateKey:
        """The key itself, for the library that is to use it."""
        return self._key

    def dump(self) -> bytes:
        """PKCS#8, DER, not encrypted: for a file that only its owner can read."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def load(cls, data: bytes) -> PrivateKey:
        """The opposite of ``dump``.

        Raises:
            ValueError: not a P-256 key.
        """
        try:
            key = load_der_private_key(data, None)
        except (TypeError, UnsupportedAlgorithm):
            raise ValueError("not a private key") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise ValueError("not a P-256 key")
        return cls(key)


@dataclass(frozen=True)
class Credentials:
    """What one side brings to a session."""

    key: PrivateKey
    """Of this session."""
    leaf: bytes = field(repr=False)
    """DER; for exactly that key."""
    identity: bytes = field(repr=False)
    """DER; its key has signed the leaf."""


def new_session_key() -> PrivateKey:
    """A fresh key, for one Jingle session."""
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def signing_request(key: PrivateKey) -> bytes:
    """PKCS#10, DER, for ``key``; says nothing about who."""
    request = x509.CertificateSigningRequestBuilder().subject_name(LEAF_SUBJECT)
    return request.sign(key.reveal(), hashes.SHA256()).public_bytes(Encoding.DER)


def make_leaf(
    public_key: bytes, identity_key: PrivateKey, identity: bytes, wall: datetime
) -> bytes:
    """The certificate of a session key, DER.

    Args:
        public_key: of the session, DER SubjectPublicKeyInfo; P-256.
        identity_key: signs.
        identity: its certificate, DER.
        wall: now, aware.
    Raises:
        InvalidArgument: ``public_key`` is not a P-256 key.
        ValueError: ``identity`` is not the certificate of ``identity_key``.
    """
    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidArgument("This is not a public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidArgument("This is not a P-256 public key")
    issuer = parse(identity)
    if issuer.spki != identity_key.public_key():
        raise ValueError("the identity certificate is of another key")
    start = wall.replace(microsecond=0) - LEAF_LIFE / 2
    leaf = (
        x509.CertificateBuilder()
        .subject_name(LEAF_SUBJECT)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(identity_key.reveal(), hashes.SHA256())
    )
    return leaf.public_bytes(Encoding.DER)


def make_identity(bare_jid: str, wall: datetime) -> tuple[PrivateKey, bytes]:
    """A new identity key and its certificate, DER.

    Args:
        bare_jid: whose; normalised.
        wall: now, aware.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    start = wall.replace(microsecond=0) - IDENTITY_BACKDATED
    certificate = (
        x509.CertificateBuilder()
        .subject_name(IDENTITY_SUBJECT)
        .issuer_name(IDENTITY_SUBJECT)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + IDENTITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CERT_SIGN, critical=True)
        .add_extension(x509.SubjectAlternativeName([make_xmpp_addr(bare_jid)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return PrivateKey(key), certificate.public_bytes(Encoding.DER)


def check_credentials(credentials: Credentials, bare_jid: str, wall: datetime) -> None:
    """That a peer would take them, and that the leaf says nothing about who.

    Raises:
        InvalidArgument: with the reason, for whoever provided the certificates.
    """
    try:
        leaf = parse(credentials.leaf)
        _check_leaf(leaf, wall)
        check_identity(credentials.identity, credentials.leaf, bare_jid, wall)
    except SecurityError as error:
        raise InvalidArgument(f"The certificates cannot be used: {error}") from error
    if leaf.spki != credentials.key.public_key():
        raise InvalidArgument("The first certificate is not for the key of this session")
    if leaf.key_identifiers:
        raise InvalidArgument("The first certificate has a key identifier, which tells who it is")


def check_leaf(leaf: bytes, fingerprints: Sequence[Fingerprint], wall: datetime) -> None:
    """That a leaf shown in a handshake is the announced one, and of the right form.

    Args:
        leaf: DER.
        fingerprints: as the peer announced them; all whose hash we know must match, and there
            must be one.
    Raises:
        SecurityError: it is not.
    """
    check_announced(leaf, fingerprints)
    _check_leaf(parse(leaf), wall)


def check_announced(leaf: bytes, fingerprints: Sequence[Fingerprint]) -> None:
    """That a certificate shown in a handshake is the announced one, whatever it says.

    Args, Raises: as ``check_leaf``. Browsers and telephones show certificates of many kinds.
    """
    known = [fingerprint for fingerprint in fingerprints if fingerprint.known]
    if not known:
        raise SecurityError("no fingerprint by a hash that we know")
    for fingerprint in known:
        if not hmac.compare_digest(digest(fingerprint.hash, leaf), fingerprint.digest):
            raise SecurityError("the certificate is not the one that was announced")


def check_identity(identity: bytes, leaf: bytes, bare_jid: str, wall: datetime) -> bytes:
    """That an identity certificate is the peer's, and signed the leaf.

    Args:
        identity, leaf: DER.
        bare_jid: the peer's, normalised, from ``from`` or ``to`` of the stanzas.
    Returns:
        The identity fingerprint, 32 bytes.
    Raises:
        SecurityError: anything but the form in the wire format.
    """
    certificate = _checked_identity(identity, bare_jid, wall)
    check_signature(parse(leaf), certificate.key)
    return hashlib.sha256(certificate.spki).digest()


def check_identity_alone(identity: bytes, bare_jid: str, wall: datetime) -> bytes:
    """The same without a leaf: somebody who held this key once wrote that it is of this JID.

    It proves no more than that, least of all that the JID's owner is who did.

    Returns:
        The identity fingerprint, 32 bytes.
    Raises:
        SecurityError: anything but the form in the wire format.
    """
    return hashlib.sha256(_checked_identity(identity, bare_jid, wall).spki).digest()


def _checked_identity(identity: bytes, bare_jid: str, wall: datetime) -> Certificate:
    certificate = parse(identity)
    constraints, usage = certificate.constraints, certificate.usage
    if constraints is None or not certificate.constraints_critical:
        raise SecurityError("an identity certificate without critical basic constraints")
    # Path length 0: it certifies session keys and makes no further authorities.
    if not constraints.ca or constraints.path_length != 0:
        raise SecurityError("an identity certificate that is not one for leaves only")
    if usage != _CERT_SIGN:
        raise SecurityError("an identity certificate for other uses than signing leaves")
    # Exactly one name: of two, one could be shown and the other compared.
    if certificate.names is None or len(certificate.names) != 1:
        raise SecurityError("an identity certificate that has not exactly one name")
    name = xmpp_addr(certificate.names[0])
    if name is None or enforced(name) != bare_jid:
        raise SecurityError("an identity certificate of somebody else")
    check_validity(certificate, wall)
    # Its own signature proves that whoever made it for this JID held the key, so that nobody can
    # claim another's key as his.
    check_signature(certificate, certificate.key)
    return certificate


def identity_fingerprint(identity: bytes) -> bytes:
    """SHA-256 of the certificate's SubjectPublicKeyInfo, 32 bytes: what is shown and pinned.

    Args:
        identity: DER; a leaf where there is no identity.
    Raises:
        SecurityError: not a certificate that we take.
    """
    return hashlib.sha256(parse(identity).spki).digest()


def key_fingerprint(leaf: bytes) -> bytes:
    """The same of a certificate of any kind, with any key: where a peer has no identity.

    Raises:
        SecurityError: not a certificate.
    """
    return hashlib.sha256(read_key(leaf)).digest()


def _check_leaf(leaf: Certificate, wall: datetime) -> None:
    if leaf.names is not None:
        raise SecurityError("a session certificate that names somebody")
    # It has to say so: with CA:TRUE whoever holds a session key could issue for the identity.
    if leaf.constraints is None or leaf.constraints.ca:
        raise SecurityError("a session certificate that is not marked as no authority")
    if leaf.not_after - leaf.not_before > LEAF_LIFE:
        raise SecurityError("a session certificate that is valid for more than a day")
    check_validity(leaf, wall)
