"""Which host a certificate is for (RFC 6125)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from telepathy_e2e.errors import CertError, EncryptionNotAvailable, InvalidArgument
from telepathy_e2e.xmpp.tls import context, failure, matches


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
