"""Which host a certificate is for (RFC 6125)."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import CertError, EncryptionNotAvailable, InvalidArgument
from telepathy_e2e.xmpp.tls import (
    context,
    failure,
    matches,
    name_of,
    server_end_point,
    unverified_context,
)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("example.com", "example.com", True),
        ("Example.COM", "example.com", True),
        ("example.com.", "example.com", True),
        ("example.com", "a.example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("a*.example.com", "ab.example.com", False),
        ("*.*.com", "a.b.com", False),
        ("a.*.com", "a.b.com", False),
        ("*.com", "example.com", False),
        ("*", "example", False),
        ("*.", "example.", False),
        ("", "", False),
        ("*.example.com", ".example.com", False),
    ],
)
def test_names_are_matched_whole_or_by_one_label(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) == expected


def test_the_context_checks_everything() -> None:
    checked = context("", ())
    assert checked.verify_mode == ssl.CERT_REQUIRED
    assert checked.check_hostname
    assert checked.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_with_more_names_the_chain_is_still_checked() -> None:
    checked = context("", ("other.example",))
    assert checked.verify_mode == ssl.CERT_REQUIRED
    assert not checked.check_hostname


def test_contexts_are_shared_but_not_across_files_or_changes(tmp_path: Path) -> None:
    assert context("", ()) is context("", [])
    assert context("", ()) is not context("", ("x",))


def test_an_authority_file_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(InvalidArgument):
        context(str(file), ())
    file.write_text("no certificate")
    with pytest.raises(InvalidArgument):
        context(str(file), ())


def test_failures_that_no_table_names_are_still_refusals() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code = 9999
    assert type(failure(error)) is CertError
    assert isinstance(failure(ssl.SSLError(1, "x")), EncryptionNotAvailable)
    assert failure(ssl.SSLEOFError(1, "x")) is None
    assert failure(ConnectionResetError()) is None


# -- tls-server-end-point (RFC 5929 section 4) ----------------------------------------------


def certificate(key: Any, digest: Any) -> bytes:
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.test")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.test")]), critical=False)
        .sign(key, digest)
        .public_bytes(Encoding.DER)
    )


@pytest.mark.parametrize(
    ("signed", "hashed"),
    [
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
        (hashes.SHA512(), "sha512"),
        (hashes.SHA224(), "sha224"),
    ],
)
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_the_hash_is_the_one_of_the_signature(
    signed: hashes.HashAlgorithm, hashed: str, kind: str
) -> None:
    key: Any = ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    data = certificate(key, signed)
    assert server_end_point(data) == hashlib.new(hashed, data).digest()


def test_a_weak_hash_is_replaced() -> None:
    """RFC 5929 section 4.1: SHA-256 for MD5 and SHA-1."""
    data = certificate(rsa.generate_private_key(65537, 2048), hashes.SHA256())
    for oid in ("2a864886f70d010104", "2a864886f70d010105"):
        weak = data.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex(oid))
        assert server_end_point(weak) == hashlib.sha256(weak).digest()


def test_a_signature_without_one_hash_binds_to_nothing() -> None:
    assert server_end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None


@given(st.binary() | st.binary().map(lambda tail: b"\x30\x82\x00\x10\x30\x02" + tail))
def test_no_bytes_are_too_strange_for_the_binding(data: bytes) -> None:
    server_end_point(data)


def test_the_name_in_a_certificate_is_for_people() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert name_of(certificate(key, hashes.SHA256())) == "a.test"
    assert name_of(b"\x30\x00") == ""


def test_the_context_that_checks_nothing_is_another_one() -> None:
    assert unverified_context().verify_mode == ssl.CERT_NONE
    assert unverified_context().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert unverified_context() is not context("", ())
