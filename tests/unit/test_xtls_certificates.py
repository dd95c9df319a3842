"""Certificates of strangers."""

from __future__ import annotations

import base64
import warnings
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.xtls.certificates import (
    MAX_CERTIFICATE,
    TOLERANCE,
    check_signature,
    check_validity,
    make_xmpp_addr,
    parse,
    xmpp_addr,
)
from telepathy_e2e.xtls.identity import new_session_key
from tests.unit.xtls_support import NO_AUTHORITY, VECTORS, WALL, certificate

DER = base64.b64decode(VECTORS["peers"]["initiator"]["identity_certificate_base64"])


def spki(key: Any) -> bytes:
    return key.public_key().public_bytes(  # type: ignore[no-any-return]
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def self_signed(key: Any, **wrong: Any) -> bytes:
    return certificate(spki(key), key, **wrong)


def test_the_vectors_are_read() -> None:
    found = parse(DER)
    assert found.spki.hex() == VECTORS["peers"]["initiator"]["identity_spki"]
    assert found.constraints == x509.BasicConstraints(ca=True, path_length=0)
    assert found.names is not None
    assert xmpp_addr(found.names[0]) == "alice@example.org"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA512()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["p256", "p256-sha512", "p384", "ed25519"],
)
def test_the_keys_that_we_take_are_taken_and_their_signatures_checked(
    key: Any, algorithm: Any
) -> None:
    found = parse(self_signed(key, algorithm=algorithm))
    check_signature(found, found.key)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
    ],
    ids=["rsa", "p521", "p256k", "dsa"],
)
def test_other_keys_are_not_taken(key: Any) -> None:
    with pytest.raises(SecurityError, match=r"kind of key|another curve"):
        parse(self_signed(key))


def test_ed448_is_not_taken() -> None:
    with pytest.raises(SecurityError, match="kind of key"):
        parse(self_signed(ed448.Ed448PrivateKey.generate(), algorithm=None))


def test_a_signature_of_another_key_is_refused() -> None:
    key, other = new_session_key(), new_session_key()
    found = parse(certificate(key.public_key(), other.reveal()))
    with pytest.raises(SecurityError, match="wrong signature"):
        check_signature(found, found.key)
    check_signature(found, parse(self_signed(other.reveal())).key)


def test_a_signature_over_something_else_is_refused() -> None:
    der = self_signed(new_session_key().reveal())
    changed = bytearray(der)
    changed[der.index(b"e2e session")] ^= 1
    found = parse(bytes(changed))
    with pytest.raises(SecurityError, match="wrong signature"):
        check_signature(found, found.key)


def test_a_wrong_ed25519_signature_is_refused() -> None:
    key, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    found = parse(certificate(spki(key), other, algorithm=None))
    with pytest.raises(SecurityError, match="wrong signature"):
        check_signature(found, found.key)


def test_an_ed25519_key_signs_by_its_own_algorithm_only() -> None:
    edwards, curve = ed25519.Ed25519PrivateKey.generate(), new_session_key()
    by_curve = parse(certificate(spki(edwards), curve.reveal()))
    with pytest.raises(SecurityError, match="another algorithm"):
        check_signature(by_curve, by_curve.key)
    by_edwards = parse(certificate(curve.public_key(), edwards, algorithm=None))
    with pytest.raises(SecurityError, match="not taken"):
        check_signature(by_edwards, by_edwards.key)


def test_other_hashes_than_those_three_are_not_taken() -> None:
    found = parse(self_signed(new_session_key().reveal(), algorithm=hashes.SHA224()))
    with pytest.raises(SecurityError, match="not taken"):
        check_signature(found, found.key)
    sha_1 = replace(found, signature_algorithm=SignatureAlgorithmOID.ECDSA_WITH_SHA1)
    with pytest.raises(SecurityError, match="not taken"):
        check_signature(sha_1, sha_1.key)


def test_an_unknown_critical_extension_is_refused_and_another_one_is_not() -> None:
    key = new_session_key().reveal()
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    parse(self_signed(key, extensions=[(extension, False)]))
    with pytest.raises(SecurityError, match="critical"):
        parse(self_signed(key, extensions=[(extension, True)]))


def test_a_key_written_in_an_unusual_way_is_refused() -> None:
    key = new_session_key()
    der = self_signed(key.reveal())
    point = key.reveal().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    compressed = key.reveal().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    old_spki, algorithm = key.public_key(), key.public_key()[2:23]
    inner = algorithm + b"\x03" + bytes((len(compressed) + 1,)) + b"\0" + compressed
    new_spki = b"\x30" + bytes((len(inner),)) + inner
    assert old_spki.endswith(point)
    short = resized(der, old_spki, new_spki)
    loaded = x509.load_der_x509_certificate(short)
    assert spki_of(loaded) == old_spki
    with pytest.raises(SecurityError, match="unusual"):
        parse(short)


def spki_of(loaded: x509.Certificate) -> bytes:
    return loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def resized(der: bytes, old: bytes, new: bytes) -> bytes:
    """Replace something in the TBS part, and put both lengths around it right."""
    changed = der.replace(old, new)
    difference = len(new) - len(old)

    def fix(data: bytes, at: int) -> bytes:
        if data[at + 1] == 0x82:
            length = int.from_bytes(data[at + 2 : at + 4], "big") + difference
            if length < 256:
                return data[: at + 1] + b"\x81" + bytes((length,)) + data[at + 4 :]
            return data[: at + 2] + length.to_bytes(2, "big") + data[at + 4 :]
        assert data[at + 1] == 0x81
        return data[: at + 2] + bytes((data[at + 2] + difference,)) + data[at + 3 :]

    inner = fix(changed, 4)
    difference += len(inner) - len(changed)
    return fix(inner, 0)


def test_the_longest_certificate_is_parsed_and_a_longer_one_is_not_looked_at() -> None:
    key = new_session_key().reveal()

    def padded(size: int) -> bytes:
        filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(size))
        return self_signed(key, extensions=[(filler, False)])

    size = MAX_CERTIFICATE - 400
    while len(padded(size + 1)) <= MAX_CERTIFICATE - 2:
        size += MAX_CERTIFICATE - 2 - len(padded(size)) or 1
    parse(padded(size))
    with pytest.raises(SecurityError, match="too long"):
        parse(padded(size + 400))
    with pytest.raises(SecurityError, match="too long"):
        parse(bytes(MAX_CERTIFICATE + 1))
    with pytest.raises(SecurityError, match="cannot be read"):
        parse(bytes(MAX_CERTIFICATE))


@pytest.mark.parametrize("der", [b"", b"0", DER[:-1], DER + b"\0", DER[1:], b"\x30\x80" + DER[4:]])
def test_what_is_no_certificate_cannot_be_read(der: bytes) -> None:
    with pytest.raises(SecurityError, match="cannot be read"):
        parse(der)


def test_one_extension_twice_cannot_be_read() -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.5"), b"\x05\x00")
    der = self_signed(new_session_key().reveal(), extensions=[(extension, False), (other, False)])
    parse(der)
    # 06 03 2A 03 05 becomes 06 03 2A 03 04
    twice = der.replace(bytes.fromhex("06032a0305"), bytes.fromhex("06032a0304"))
    assert twice != der
    with pytest.raises(SecurityError, match="cannot be read"):
        parse(twice)


def test_a_serial_number_that_is_not_positive_is_refused_without_a_word_on_standard_error() -> None:
    serial = x509.load_der_x509_certificate(DER).serial_number
    encoded = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    negative = bytes([encoded[0] | 0x80]) + encoded[1:]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(SecurityError, match="cannot be read"):
            parse(DER.replace(encoded, negative))
    assert not told


def test_an_odd_name_is_read_without_a_word_on_standard_error() -> None:
    common, country = bytes.fromhex("0603550403"), bytes.fromhex("0603550406")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = parse(DER.replace(common, country))
    assert not told
    assert found.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)


def test_a_signature_with_bits_that_nobody_looks_at_is_refused() -> None:
    key = new_session_key().reveal()
    der = b"\1"
    while der[-1] & 1:  # else they would have to be none
        der = self_signed(key)
    found = parse(der)
    check_signature(found, found.key)
    before = len(der) - len(found.signature)
    with pytest.raises(SecurityError, match="whole bytes"):
        parse(der[: before - 1] + b"\1" + der[before:])


@given(st.integers(0, len(DER) - 1), st.integers(1, 255), st.integers(0, 3))
def test_no_changed_byte_raises_anything_but_a_peer_error(at: int, by: int, cut: int) -> None:
    changed = bytearray(DER)
    changed[at] ^= by
    try:
        found = parse(bytes(changed[: len(DER) - cut]))
        check_signature(found, found.key)
        check_validity(found, WALL)
        for name in found.names or ():
            xmpp_addr(name)
    except PeerError:
        pass


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_peer_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        parse(data)


def test_validity_is_judged_with_a_day_of_tolerance() -> None:
    found = parse(self_signed(new_session_key().reveal()))
    second = timedelta(seconds=1)
    assert timedelta(days=1) == TOLERANCE
    check_validity(found, found.not_before - TOLERANCE)
    check_validity(found, found.not_after + TOLERANCE)
    with pytest.raises(SecurityError, match="not valid yet"):
        check_validity(found, found.not_before - TOLERANCE - second)
    with pytest.raises(SecurityError, match="expired"):
        check_validity(found, found.not_after + TOLERANCE + second)


@pytest.mark.parametrize("size", [1, 0x7F, 0x80, 0xFF, 0x100, 3071])
def test_a_jid_of_any_length_comes_back(size: int) -> None:
    assert xmpp_addr(make_xmpp_addr("a" * size)) == "a" * size


def test_names_are_written_in_der() -> None:
    assert make_xmpp_addr("a" * 0x7F).value[:2] == b"\x0c\x7f"
    assert make_xmpp_addr("a" * 0x80).value[:3] == b"\x0c\x81\x80"
    assert make_xmpp_addr("a" * 0x100).value[:4] == b"\x0c\x82\x01\x00"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x0c",
        b"\x0c\x02a",
        b"\x0c\x01ab",
        b"\x16\x01a",
        b"\x0c\x81\x01a",
        b"\x0c\x80a\0\0",
        b"\x0c\x01\xff",
    ],
)
def test_another_form_of_the_name_is_none(value: bytes) -> None:
    assert xmpp_addr(x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5"), value)) is None


def test_another_kind_of_name_is_none() -> None:
    assert xmpp_addr(x509.DNSName("example.org")) is None
    assert xmpp_addr(x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01a")) is None


def test_key_identifiers_are_seen() -> None:
    key = new_session_key().reveal()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert not parse(self_signed(key)).key_identifiers
    assert parse(self_signed(key, extensions=[(identifier, False)])).key_identifiers
    assert parse(self_signed(key)).constraints == NO_AUTHORITY
