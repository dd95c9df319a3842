"""Certificates for this peer, right ones and wrong ones."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from telepathy_e2e.trust import identity_files
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.certificates import make_xmpp_addr
from telepathy_e2e.xtls.identity import Credentials, PrivateKey


def now() -> datetime:
    return datetime.now(UTC)


@functools.cache
def own_identity(bare_jid: str) -> tuple[PrivateKey, bytes]:
    """The identity of a JID, the same one each time."""
    return identity.make_identity(bare_jid, now())


def fresh_identity(bare_jid: str) -> tuple[PrivateKey, bytes]:
    """Another identity of a JID."""
    return identity.make_identity(bare_jid, now())


def credentials(bare_jid: str) -> Credentials:
    """Right ones, with a fresh session key."""
    key, certificate = own_identity(bare_jid)
    return certified(key, certificate)


def certified(identity_key: PrivateKey, certificate: bytes) -> Credentials:
    """A fresh leaf by this identity."""
    session_key = identity.new_session_key()
    leaf = identity.make_leaf(session_key.public_key(), identity_key, certificate, now())
    return Credentials(session_key, leaf, certificate)


def with_leaf(
    bare_jid: str,
    *extensions: x509.ExtensionType,
    life: timedelta = timedelta(hours=20),
    authority: bool = False,
) -> Credentials:
    """Credentials whose leaf has more in it, lives longer, or claims to be an authority."""
    identity_key, certificate = own_identity(bare_jid)
    session_key = identity.new_session_key()
    public_key = load_der_public_key(session_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(identity.LEAF_SUBJECT)
        .issuer_name(x509.load_der_x509_certificate(certificate).subject)
        .public_key(public_key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(hours=1))
        .not_valid_after(now() - timedelta(hours=1) + life)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    leaf = builder.sign(identity_key.reveal(), hashes.SHA256())
    return Credentials(session_key, leaf.public_bytes(Encoding.DER), certificate)


def naming(bare_jid: str) -> x509.SubjectAlternativeName:
    """A SAN, as no leaf may have."""
    return x509.SubjectAlternativeName([make_xmpp_addr(bare_jid)])


def identity_of(directory: Path, bare_jid: str) -> PrivateKey:
    """The identity key that a daemon keeps below this directory: for a thief."""
    for file in directory.rglob("*.pem"):
        if bare_jid in file.name:
            return identity_files.parse(file, file.read_bytes())[0]
    raise AssertionError(f"no identity of {bare_jid} below {directory}")


def identity_certificate(
    key: PrivateKey, *jids: str, path_length: int | None = 0, authority: bool = True
) -> bytes:
    """An identity certificate with these names."""
    start = now() - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(identity.IDENTITY_SUBJECT)
        .issuer_name(identity.IDENTITY_SUBJECT)
        .public_key(key.reveal().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .add_extension(
            x509.BasicConstraints(ca=authority, path_length=path_length if authority else None),
            critical=True,
        )
        .add_extension(identity._CERT_SIGN, critical=True)
    )
    if jids:
        names = x509.SubjectAlternativeName([make_xmpp_addr(jid) for jid in jids])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(key.reveal(), hashes.SHA256())
    return certificate.public_bytes(Encoding.DER)
