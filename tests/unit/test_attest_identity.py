"""One device says that another one is of the same person: the form, and what it is no good for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.attest.identity import MAX_SIGNATURE, build, check, read
from telepathy_e2e.attest.statement import (
    IDENTITY,
    IDENTITY_LABEL,
    read_vouching,
    signed_by_identity,
    statement,
    vouching,
)
from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.xtls.certificates import MAX_CERTIFICATE, check_signature, parse
from telepathy_e2e.xtls.encoding import lv
from telepathy_e2e.xtls.identity import (
    PrivateKey,
    identity_fingerprint,
    make_identity,
    make_leaf,
    new_session_key,
    signing_request,
)
from tests.fuzz.support import budget, mutated_bytes

BOB, CAROL = "bob@example.org", "carol@example.org"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "attestations.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Device:
    jid: str
    key: PrivateKey
    certificate: bytes

    @property
    def fingerprint(self) -> bytes:
        return identity_fingerprint(self.certificate)

    def sign(self, signed: bytes) -> bytes:
        return self.key.reveal().sign(signed, ec.ECDSA(hashes.SHA256()))

    def vouch(self, for_whom: bytes, *, jid: str = "", kind: str = IDENTITY) -> bytes:
        content = vouching(for_whom, self.fingerprint)
        signature = self.sign(signed_by_identity(jid or self.jid, kind, content))
        return build(self.certificate, signature)


@cache
def device(jid: str, number: int) -> Device:
    return Device(jid, *make_identity(jid, NOW))


LAPTOP, PHONE, OTHER = (device(BOB, number) for number in range(3))
MALLORY = device(CAROL, 0)


def judge(data: bytes, *, vouched: bytes = PHONE.fingerprint, wall: datetime = NOW) -> bytes:
    return check(data, vouched=vouched, bare_jid=BOB, wall=wall)


def refused(data: bytes, why: str, **more: object) -> None:
    with pytest.raises(SecurityError, match=why):
        judge(data, **more)  # type: ignore[arg-type]


def test_the_word_of_another_device_of_his_is_that_devices() -> None:
    assert judge(LAPTOP.vouch(PHONE.fingerprint)) == LAPTOP.fingerprint


@pytest.mark.parametrize("vector", VECTORS["identity"], ids=lambda each: each["jid"])
def test_the_vectors_are_what_the_specification_says(vector: dict[str, str]) -> None:
    signer, vouched = bytes.fromhex(vector["signer"]), bytes.fromhex(vector["vouched"])
    content = vouching(vouched, signer)
    assert content.hex() == vector["statement"]
    assert read_vouching(content) == (vouched, signer)
    assert signed_by_identity(vector["jid"], IDENTITY, content).hex() == vector["signed"]
    data = bytes.fromhex(vector["data"])
    certificate, signature = read(data)
    assert certificate.hex() == vector["certificate"]
    assert build(certificate, signature) == data
    wall = datetime.fromisoformat(vector["wall"])
    assert check(data, vouched=vouched, bare_jid=vector["jid"], wall=wall) == signer


def test_it_is_about_one_key_one_address_and_one_signer() -> None:
    wrong = "about another key, or by another one"
    refused(LAPTOP.vouch(OTHER.fingerprint), wrong)
    refused(LAPTOP.vouch(PHONE.fingerprint, jid=CAROL), wrong)
    refused(LAPTOP.vouch(PHONE.fingerprint, kind="device"), wrong)
    # The signature of one under the certificate of the other, whoever is named in it.
    _, signature = read(OTHER.vouch(PHONE.fingerprint))
    refused(build(LAPTOP.certificate, signature), wrong)
    content = vouching(PHONE.fingerprint, LAPTOP.fingerprint)
    forged = OTHER.sign(signed_by_identity(BOB, IDENTITY, content))
    refused(build(LAPTOP.certificate, forged), wrong)
    # What the phone says of the laptop is not what the laptop says of the phone.
    _, signature = read(PHONE.vouch(LAPTOP.fingerprint))
    refused(build(LAPTOP.certificate, signature), wrong)


def test_another_person_s_device_vouches_for_nobody() -> None:
    refused(MALLORY.vouch(PHONE.fingerprint, jid=BOB), "somebody else")
    refused(MALLORY.vouch(PHONE.fingerprint), "somebody else")


def test_no_key_vouches_for_itself() -> None:
    refused(PHONE.vouch(PHONE.fingerprint), "vouches for itself")


def test_the_signer_s_certificate_has_to_be_a_right_one() -> None:
    word = LAPTOP.vouch(PHONE.fingerprint)
    refused(word, "expired", wall=NOW + timedelta(days=3660))
    refused(word, "not valid yet", wall=NOW - timedelta(days=3))
    leaf = make_leaf(new_session_key().public_key(), LAPTOP.key, LAPTOP.certificate, NOW)
    _, signature = read(word)
    refused(build(leaf, signature), "identity certificate")
    refused(build(b"\x30\x00", signature), "cannot be read")


def test_a_key_on_another_curve_has_no_word() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    model = x509.load_der_x509_certificate(LAPTOP.certificate)
    builder = (
        x509.CertificateBuilder()
        .subject_name(model.subject)
        .issuer_name(model.issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(model.not_valid_before_utc)
        .not_valid_after(model.not_valid_after_utc)
    )
    for each in model.extensions:
        builder = builder.add_extension(each.value, each.critical)
    made = builder.sign(key, hashes.SHA256())
    from cryptography.hazmat.primitives.serialization import Encoding

    certificate = made.public_bytes(Encoding.DER)
    content = vouching(PHONE.fingerprint, identity_fingerprint(certificate))
    signed = signed_by_identity(BOB, IDENTITY, content)
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    refused(lv(certificate) + lv(signature), "cut or too long|another kind of key")
    refused(lv(certificate) + lv(signature[:MAX_SIGNATURE]), "another kind of key")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        lv(b"x"),
        lv(b"x") + lv(b""),
        lv(b"") + lv(b"x"),
        lv(b"x") + lv(b"y") + b"z",
        lv(b"x" * (MAX_CERTIFICATE + 1)) + lv(b"y"),
        lv(b"x") + lv(b"y" * (MAX_SIGNATURE + 1)),
        b"\xff\xff\xff\xff" + b"x",
    ],
)
def test_what_has_another_form_or_is_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(SecurityError):
        read(data)


def test_the_bounds_are_let_through() -> None:
    data = build(b"x" * MAX_CERTIFICATE, b"y" * MAX_SIGNATURE)
    assert read(data) == (b"x" * MAX_CERTIFICATE, b"y" * MAX_SIGNATURE)


# -- a signature for one thing is none for another -----------------------------------------------


def test_what_it_signs_is_no_certificate_no_request_and_no_other_statement() -> None:
    content = vouching(PHONE.fingerprint, LAPTOP.fingerprint)
    signed = signed_by_identity(BOB, IDENTITY, content)
    leaf = make_leaf(new_session_key().public_key(), LAPTOP.key, LAPTOP.certificate, NOW)
    request = x509.load_der_x509_csr(signing_request(LAPTOP.key))
    tls = bytes(b" " * 64) + b"TLS 1.3, client CertificateVerify\0"
    others = [
        parse(LAPTOP.certificate).signed,
        parse(leaf).signed,
        request.tbs_certrequest_bytes,
        statement(BOB, PHONE.fingerprint),
        tls,
    ]
    # Different from the first bytes on, whatever follows: no other label has this length.
    assert signed.startswith(lv(IDENTITY_LABEL.encode()))
    assert all(each[:4] != signed[:4] for each in others)


def test_a_certificate_s_signature_is_no_word_and_the_other_way_round() -> None:
    leaf = parse(make_leaf(PHONE.key.public_key(), LAPTOP.key, LAPTOP.certificate, NOW))
    for signature in (leaf.signature, parse(LAPTOP.certificate).signature):
        refused(build(LAPTOP.certificate, signature), "about another key")
    _, word = read(LAPTOP.vouch(PHONE.fingerprint))
    signed = signed_by_identity(BOB, IDENTITY, vouching(PHONE.fingerprint, LAPTOP.fingerprint))
    # Nor is what was signed a certificate: it is no DER at all, and never the part that is signed.
    assert signed[:1] == b"\0" != leaf.signed[:1]
    with pytest.raises(SecurityError):
        check_signature(replace(leaf, signature=word), parse(LAPTOP.certificate).key)
    request = x509.load_der_x509_csr(signing_request(LAPTOP.key))
    refused(build(LAPTOP.certificate, request.signature), "about another key")


@given(st.binary(max_size=200))
def test_statements_that_are_none_are_told(content: bytes) -> None:
    try:
        vouched, signer = read_vouching(content)
    except ValueError:
        return
    assert vouching(vouched, signer) == content


# -- what a peer may write -------------------------------------------------------------------------

RIGHT = LAPTOP.vouch(PHONE.fingerprint)


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_but_a_peers_error(data: bytes) -> None:
    try:
        judge(data)
    except PeerError:
        return
    raise AssertionError("nobody signed that")


@budget(0.5)
@given(mutated_bytes((RIGHT, MALLORY.vouch(PHONE.fingerprint), RIGHT + RIGHT)))
def test_no_change_to_a_right_one_says_anything_else(data: bytes) -> None:
    try:
        signer = judge(data)
    except PeerError:
        return
    # ECDSA has more than one signature of the same; the statement and its signer stand.
    assert signer == LAPTOP.fingerprint
    assert parse(read(data)[0]).spki == LAPTOP.key.public_key()
