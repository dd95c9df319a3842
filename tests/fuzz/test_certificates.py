"""No bytes that a peer shows as certificates raise anything but ``SecurityError``.

They are right ones, of both kinds and of several shapes, with bytes changed, put in and taken out:
each by itself in every place where it is read, and the changed one announced by its own
fingerprint, as who makes it would. What is accepted although it was changed is one whose signed
part is unchanged; time is bounded by what is read, since nothing longer than ``MAX_CERTIFICATE``
is.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.xtls.certificates import MAX_CERTIFICATE, check_signature, parse, xmpp_addr
from telepathy_e2e.xtls.identity import (
    Credentials,
    check_credentials,
    check_identity,
    check_leaf,
    identity_fingerprint,
)
from tests.unit.xtls_support import ALICE, PEOPLE, WALL, announced, certificate

from .support import budget, mutated_bytes

PERSON = PEOPLE[Role.INITIATOR]
CREDENTIALS = PERSON.credentials()
LEAF, IDENTITY = CREDENTIALS.leaf, CREDENTIALS.identity


def _strange(**wrong: object) -> bytes:
    return certificate(CREDENTIALS.key.public_key(), PERSON.key.reveal(), **wrong)  # type: ignore[arg-type]


# With more that can be read wrongly: names of all kinds, long-lived, other hashes.
P256 = bytes.fromhex("06082a8648ce3d030107")
OTHERS = (
    # Curves that nobody takes, the second of the same length: secp521r1, and one that is none.
    LEAF.replace(P256, P256[:-1] + b"\x09"),
    LEAF.replace(P256, bytes.fromhex("06052b81040023")),
    _strange(names=[x509.DNSName("example.org"), x509.RFC822Name("a@example.org")]),
    _strange(names=[x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01a")]),
    _strange(
        names=[
            x509.DirectoryName(x509.Name([])),
            x509.UniformResourceIdentifier("xmpp:a@b"),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        ]
    ),
    _strange(constraints=None),
    _strange(constraints=x509.BasicConstraints(ca=True, path_length=3), critical=False),
    _strange(life=timedelta(days=36500), subject="\u00e9" * 32),
    _strange(algorithm=hashes.SHA512()),
    _strange(
        extensions=[
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), False),
            (x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")]), True),
            (x509.InhibitAnyPolicy(1), True),
            (x509.OCSPNoCheck(), False),
        ]
    ),
)

DER = mutated_bytes((LEAF, IDENTITY, *OTHERS)) | st.binary(max_size=80)


def test_unchanged_they_are_accepted() -> None:
    check_leaf(LEAF, announced(LEAF), WALL)
    check_identity(IDENTITY, LEAF, ALICE, WALL)


def judge(der: bytes, leaf: bytes, identity: bytes, jid: str, wall: datetime) -> None:
    """Read it in every place, announced by its own fingerprint, beside right ones of ``jid``."""
    with suppress(SecurityError):
        check_leaf(der, announced(der, "sha-256", "sha3-512"), wall)
    with suppress(SecurityError):
        check_identity(der, leaf, jid, wall)
    with suppress(SecurityError):
        check_identity(identity, der, jid, wall)
    with suppress(SecurityError):
        check_identity(der, der, jid, wall)
    with suppress(SecurityError):
        assert len(identity_fingerprint(der)) == 32
        read = parse(der)
        for name in read.names or ():
            xmpp_addr(name)
        with suppress(SecurityError):
            check_signature(read, parse(identity).key)


@budget(3)
@given(DER)
def test_no_bytes_raise_anything_but_security_error(der: bytes) -> None:
    judge(der, LEAF, IDENTITY, ALICE, WALL)
    with suppress(InvalidArgument):
        check_credentials(Credentials(CREDENTIALS.key, der, IDENTITY), ALICE, WALL)


@budget(2)
@given(mutated_bytes((LEAF,)), mutated_bytes((IDENTITY,)))
def test_what_is_accepted_says_what_was_signed(leaf: bytes, identity: bytes) -> None:
    right = parse(IDENTITY)
    with suppress(SecurityError):
        check_leaf(leaf, announced(LEAF), WALL)
        assert leaf == LEAF
    with suppress(SecurityError):
        check_identity(IDENTITY, leaf, ALICE, WALL)
        assert parse(leaf).signed == parse(LEAF).signed
    with suppress(SecurityError):
        check_identity(identity, LEAF, ALICE, WALL)
        assert parse(identity).signed == right.signed
    with suppress(SecurityError):
        check_identity(identity, leaf, ALICE, WALL)
        assert parse(identity).signed == right.signed


@budget(0.1)
@given(st.integers(1, 64), st.binary(min_size=1, max_size=64))
def test_what_is_too_long_is_not_read(more: int, filling: bytes) -> None:
    long = (IDENTITY + filling * MAX_CERTIFICATE)[: MAX_CERTIFICATE + more]
    for read in (parse, identity_fingerprint):
        try:
            read(long)
        except SecurityError as error:
            assert "too long" in str(error)  # noqa: PT017 - the fuzzer's own words
        else:
            raise AssertionError("it was read")
