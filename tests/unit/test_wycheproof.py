"""Wycheproof's vectors through what of ours takes a stranger's signature, key, share or message.

The primitives are OpenSSL's, by way of ``cryptography``; what is shown here is that ours, with them
below, takes what is right and refuses everything else. ``tests/vectors/wycheproof/README`` says
where the vectors are from. Not here are HKDF and the key exchange of TLS (inside OpenSSL, from
which only the exporter comes out) and AES-CBC with scrypt of sealed keys (``test_agent_seal.py``
has RFC 7914's way and the command line of OpenSSL to compare with).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import SignatureAlgorithmOID

from telepathy_e2e.errors import InvalidArgument, PeerError, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.verify import pake
from telepathy_e2e.verify.events import V
from telepathy_e2e.xtls import sealed
from telepathy_e2e.xtls.certificates import check_signature, parse
from telepathy_e2e.xtls.identity import make_leaf
from tests.unit.verify_support import BINDING, FI, FR, scalars
from tests.unit.xtls_support import PEOPLE, WALL

FILES = Path(__file__).parent.parent / "vectors" / "wycheproof"
PERSON = PEOPLE[Role.INITIATOR]
LEAF = PERSON.credentials().leaf


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FILES / f"{name}.json").read_text())["groups"]
    return found


def each(name: str) -> Iterator[dict[str, Any]]:
    for group in groups(name):
        yield from group["tests"]


def octets(vector: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


# -- signatures on certificates --------------------------------------------------------------------

SIGNATURES = {
    "ecdsa_secp256r1_sha256": SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    "ecdsa_secp384r1_sha384": SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    "ed25519": SignatureAlgorithmOID.ED25519,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_on_a_certificate_is_taken_if_and_only_if_it_is_right(name: str) -> None:
    """Leaves, identities and what a node publishes all go through ``check_signature``.

    BER instead of DER, bytes behind it, numbers out of range: none is taken. Of an ECDSA signature
    (r, s) its twin (r, n - s) is right as well: anybody can make the one from the other. That is of
    no use to him, since nothing here depends on what the signature of a certificate is: what is
    announced, pinned and shown are digests of the whole leaf and of the key.
    """
    certificate = parse(LEAF)
    taken = 0
    for group in groups(name):
        key: Any = load_der_public_key(bytes.fromhex(group["key"]))
        for vector in group["tests"]:
            message, signature = octets(vector, "msg", "sig")
            shown = replace(
                certificate,
                signature_algorithm=SIGNATURES[name],
                signature=signature,
                signed=message,
            )
            try:
                check_signature(shown, key)
            except SecurityError:
                assert vector["result"] == "invalid", vector
            else:
                assert vector["result"] == "valid", vector
                taken += 1
    assert taken > 10


# -- public keys -----------------------------------------------------------------------------------


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, size) if size < 0x80 else (tag, 0x80 | len(octets), *octets)) + value


def _children(der: bytes) -> list[bytes]:
    """The elements in one, each with its header; lengths of up to two bytes."""

    def header(data: bytes) -> tuple[int, int]:
        if data[1] < 0x80:
            return 2, data[1]
        octets = data[1] & 0x7F
        return 2 + octets, int.from_bytes(data[2 : 2 + octets], "big")

    start, size = header(der)
    rest, found = der[start : start + size], []
    while rest:
        length = sum(header(rest))
        found.append(rest[:length])
        rest = rest[length:]
    return found


def with_key(certificate: bytes, spki: bytes) -> bytes:
    """The same certificate of another key; its signature is none any more."""
    signed, *rest = _children(certificate)
    # Version, serial number, signature, issuer, validity, subject, the key.
    fields = _children(signed)
    fields[6] = spki
    return _tlv(0x30, b"".join((_tlv(0x30, b"".join(fields)), *rest)))


P384 = "wrong curve: secp384r1"


def test_a_key_is_taken_only_if_it_is_a_point_of_the_curve_written_in_the_usual_way() -> None:
    """Points that are not on the curve, other curves, curves described instead of named: none.

    The library takes a compressed point, which Wycheproof calls acceptable. We do not: the same key
    would have two fingerprints.
    """
    right = with_key(LEAF, parse(LEAF).spki)
    assert right == LEAF
    taken = 0
    for vector in each("ecdh_secp256r1"):
        (spki,) = octets(vector, "public")
        try:
            read = parse(with_key(LEAF, spki))
        except SecurityError:
            assert vector["result"] != "valid", vector
        else:
            # P-384 is the wrong one for Wycheproof here, and one of those that we take.
            assert vector["result"] == "valid" or P384 in vector["comment"], vector
            assert read.spki == spki
            taken += 1
    assert taken > 10


def test_the_key_agent_certifies_no_key_that_is_none() -> None:
    for vector in each("ecdh_secp256r1"):
        (spki,) = octets(vector, "public")
        try:
            leaf = make_leaf(spki, PERSON.key, PERSON.certificate, WALL)
        except InvalidArgument:
            assert vector["result"] != "valid", vector
        else:
            assert vector["result"] != "invalid", vector
            # In the certificate it is written in the usual way, however it came.
            assert len(parse(leaf).spki) == 91


# -- shares of a shared password -------------------------------------------------------------------


def _lv_cat(*parts: bytes) -> bytes:
    """The draft's."""
    return b"".join(_prepended(part) for part in parts)


def _prepended(part: bytes) -> bytes:
    assert len(part) < 0x80
    return bytes((len(part),)) + part


def _party(scalar: bytes) -> pake.Party:
    with scalars(scalar):
        return pake.Party(
            starts=True,
            role=Role.INITIATOR,
            binding=BINDING,
            ceremony="p1",
            initiator_fingerprint=FI,
            responder_fingerprint=FR,
            secret=b"open sesame",
        )


def test_a_share_is_refused_if_and_only_if_all_passwords_would_fit_it() -> None:
    """Points of low order make the result zero whatever the password is. What is on the twist or
    not written canonically is worked with as RFC 7748 says: it tells nobody more."""
    refused = set()
    for vector in each("x25519"):
        public, private, shared = octets(vector, "public", "private", "shared")
        party = _party(private)
        try:
            party.meet(public)
        except pake.RefusedShare:
            assert shared == bytes(32), vector
            refused.add(public)
            continue
        assert shared != bytes(32), vector
        sid = pake.session_id(BINDING, "p1")
        data = [pake.associated_data(role, "p1") for role in Role]
        transcript = _lv_cat(party.share, data[0]) + _lv_cat(public, data[1])
        key = hashlib.sha512(_lv_cat(b"CPace255_ISK", sid, shared) + transcript).digest()
        assert party._cpace.isk == key, vector
    # The seven of low order below 2^255, and some of them written otherwise.
    assert len(refused) >= 7


# -- sealed messages -------------------------------------------------------------------------------


def test_a_sealed_message_opens_if_and_only_if_it_is_authentic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealed, "PADDING", 1)
    plain: list[bytes] = []

    def read(data: bytes) -> Element:
        plain.append(data)
        return Element(f"{{{V}}}x")

    monkeypatch.setattr(sealed, "from_xml", read)
    opened = 0
    for vector in each("aes_gcm"):
        key, nonce, additional, message, text, tag = octets(
            vector, "key", "iv", "aad", "msg", "ct", "tag"
        )
        opener = sealed.Opener(key, "sid1", Role.INITIATOR)
        monkeypatch.setattr(opener, "_additional", additional)
        n = int.from_bytes(nonce, "big")
        monkeypatch.setattr(opener, "_expected", n)
        try:
            opener.open(sealed.SealedMessage(0, n, text + tag))
        except PeerError:
            # Nobody has a reason to seal nothing.
            assert vector["result"] == "invalid" or message == b"", vector
        else:
            assert vector["result"] == "valid", vector
            assert plain.pop() == message
            opened += 1
        assert not plain
    assert opened > 10
