"""A certificate authority for tests: makes whatever it is asked to, wrong certificates included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from telepathy_e2e.xtls.certificates import make_xmpp_addr

DAY = timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Extensions = Sequence[tuple[x509.ExtensionType, bool]]


def key_usage(**allowed: bool) -> x509.KeyUsage:
    """Nothing but what is said."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass
class Authority:
    """One authority, by itself or below another; see ``make`` and ``below``."""

    name: str
    key: Key
    certificate: x509.Certificate
    parents: list[bytes] = field(default_factory=list)
    """DER of those between it and the root, itself included."""

    @classmethod
    def make(cls, name: str = "Example Company", *, key: Key | None = None) -> Authority:
        key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
        certificate = issue(
            name, key, name, key.public_key(), ca_extensions(key.public_key(), None)
        )
        return cls(name, key, certificate)

    def below(
        self,
        name: str,
        *,
        path_length: int | None = None,
        extensions: Extensions | None = None,
        more: Extensions = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Authority:
        """An authority that this one certifies."""
        key = ec.generate_private_key(ec.SECP256R1())
        given = ca_extensions(key.public_key(), path_length) if extensions is None else extensions
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = issue(
            self.name,
            self.key,
            name,
            key.public_key(),
            [*given, (aki, False), *more],
            not_before=not_before,
            not_after=not_after,
        )
        parents = [certificate.public_bytes(Encoding.DER), *self.parents]
        return Authority(name, key, certificate, parents)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def attest(
        self,
        jid: str,
        public_key: bytes,
        *,
        names: Sequence[x509.GeneralName] | None = None,
        more: Extensions = (),
        hash: hashes.HashAlgorithm | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> bytes:
        """A chain: this key is that of this JID.

        Args:
            public_key: DER SubjectPublicKeyInfo.
            names: instead of the JID's.
        """
        given = [make_xmpp_addr(jid)] if names is None else list(names)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                False,
            )
        ]
        if given:
            extensions.append((x509.SubjectAlternativeName(given), False))
        key = load_der_public_key(public_key)
        leaf = issue(
            self.name,
            self.key,
            "A person",
            key,
            [*extensions, *more],
            hash=hash,
            not_before=not_before,
            not_after=not_after,
        )
        return b"".join([leaf.public_bytes(Encoding.DER), *self.parents])


def ca_extensions(
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, path_length: int | None
) -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage(key_cert_sign=True, crl_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
    ]


def issue(
    issuer: str,
    issuer_key: Key,
    name: str,
    public_key: object,
    extensions: Extensions,
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    hash: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """Any certificate."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(name))
        .issuer_name(subject(issuer))
        .public_key(public_key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - 10 * DAY)
        .not_valid_after(not_after or now + 300 * DAY)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hash or hashes.SHA256())  # type: ignore[arg-type]
