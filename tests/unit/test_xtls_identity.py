"""Session keys, leaves and identities: what is made is taken, anything else is not."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from telepathy_e2e.errors import InvalidArgument, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.certificates import make_xmpp_addr, parse
from telepathy_e2e.xtls.identity import Credentials, PrivateKey, check_identity, check_leaf
from telepathy_e2e.xtls.offer import Fingerprint
from tests.unit.xtls_support import (
    ALICE,
    PEOPLE,
    VECTORS,
    WALL,
    Person,
    announced,
    bad_leaf,
    certificate,
)

ME = PEOPLE[Role.INITIATOR]
CERT_SIGN = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": True,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}
SECOND = timedelta(seconds=1)


def vector(role: str, what: str) -> bytes:
    return base64.b64decode(VECTORS["peers"][role][what])


def bad_identity(signer: Any = None, **wrong: Any) -> tuple[bytes, bytes]:
    """An identity certificate with something wrong, and a leaf that its key has signed."""
    key = identity.new_session_key()
    usage = x509.KeyUsage(**(CERT_SIGN | wrong.pop("usage", {})))
    extensions = [] if wrong.pop("no_usage", False) else [(usage, True)]
    arguments: dict[str, Any] = {
        "subject": "e2e identity",
        "life": timedelta(days=10),
        "constraints": x509.BasicConstraints(ca=True, path_length=0),
        "names": [make_xmpp_addr(ALICE)],
        "extensions": extensions,
    }
    arguments |= wrong
    der = certificate(key.public_key(), signer or key.reveal(), **arguments)
    session = identity.new_session_key()
    return der, certificate(session.public_key(), key.reveal())


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_the_identities_of_the_vectors_are_taken(role: str) -> None:
    peer = VECTORS["peers"][role]
    wall = datetime(2026, 1, 2, tzinfo=UTC)
    found = check_identity(
        vector(role, "identity_certificate_base64"),
        vector(role, "session_certificate_base64"),
        peer["jid"],
        wall,
    )
    assert found.hex() == peer["identity_fingerprint"]
    assert identity.shown(found) == peer["identity_fingerprint_shown"]
    assert identity.make_uri(peer["jid"], found) == peer["uri"]
    assert identity.parse_uri(peer["uri"]) == (peer["jid"], found)
    assert identity.identity_fingerprint(vector(role, "identity_certificate_base64")) == found


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_the_leaves_of_the_vectors_are_longer_than_the_wire_format_allows(role: str) -> None:
    leaf = vector(role, "session_certificate_base64")
    names = tuple(VECTORS["peers"][role]["announced"])
    with pytest.raises(SecurityError, match="more than a day"):
        check_leaf(leaf, announced(leaf, *names), datetime(2026, 1, 2, tzinfo=UTC))


def test_what_is_made_is_taken() -> None:
    credentials = ME.credentials()
    check_leaf(credentials.leaf, announced(credentials.leaf, "sha-256", "sha-512"), WALL)
    found = check_identity(ME.certificate, credentials.leaf, ALICE, WALL)
    assert found == identity.identity_fingerprint(ME.certificate)
    identity.check_credentials(credentials, ALICE, WALL)


def test_a_leaf_says_nothing_about_who() -> None:
    one, other = ME.credentials().leaf, Person("somebody@example.net").credentials().leaf
    for leaf in (one, other):
        loaded = x509.load_der_x509_certificate(leaf)
        assert loaded.subject.rfc4514_string() == "CN=e2e session"
        assert loaded.issuer.rfc4514_string() == "CN=e2e identity"
        assert [extension.oid.dotted_string for extension in loaded.extensions] == ["2.5.29.19"]
        assert b"example" not in leaf


def test_a_leaf_lives_for_a_day_around_now() -> None:
    leaf = parse(ME.credentials().leaf)
    assert leaf.not_after - leaf.not_before == timedelta(hours=24)
    assert leaf.not_before == WALL - timedelta(hours=12)


def test_each_leaf_has_its_own_serial_number() -> None:
    serials = {x509.load_der_x509_certificate(ME.credentials().leaf).serial_number for _ in "ab"}
    assert len(serials) == 2


def test_an_identity_certificate_has_the_form_of_the_vectors() -> None:
    def form(der: bytes) -> list[tuple[str, bool]]:
        loaded = x509.load_der_x509_certificate(der)
        return [
            (extension.oid.dotted_string, extension.critical) for extension in loaded.extensions
        ]

    assert form(ME.certificate) == form(vector("initiator", "identity_certificate_base64"))


def test_a_signing_request_is_for_the_key_and_names_nobody() -> None:
    key = identity.new_session_key()
    request = x509.load_der_x509_csr(identity.signing_request(key))
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=e2e session"
    assert not list(request.extensions)
    public = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public == key.public_key()


def test_each_session_has_its_own_key() -> None:
    assert identity.new_session_key().public_key() != identity.new_session_key().public_key()


def test_keys_and_credentials_do_not_show_themselves() -> None:
    credentials = ME.credentials()
    assert repr(credentials.key) == "PrivateKey()"
    assert repr(credentials) == "Credentials(key=PrivateKey())"


def test_a_key_comes_back_from_its_dump() -> None:
    key = identity.new_session_key()
    assert PrivateKey.load(key.dump()).public_key() == key.public_key()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        ),
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        ),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        ),
    ],
    ids=["nothing", "nonsense", "P-384", "Ed25519", "sealed"],
)
def test_other_dumps_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        PrivateKey.load(data)


@pytest.mark.parametrize(
    "key",
    [
        b"nonsense",
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["nonsense", "P-384", "Ed25519"],
)
def test_only_p_256_keys_get_a_leaf(key: bytes) -> None:
    with pytest.raises(InvalidArgument):
        identity.make_leaf(key, ME.key, ME.certificate, WALL)


def test_a_leaf_is_not_made_with_the_certificate_of_another_key() -> None:
    key = identity.new_session_key().public_key()
    with pytest.raises(ValueError, match="another key"):
        identity.make_leaf(key, identity.new_session_key(), ME.certificate, WALL)


# -- leaves of peers --------------------------------------------------------------------------


def test_the_leaf_must_be_the_announced_one() -> None:
    leaf, other = ME.credentials().leaf, ME.credentials().leaf
    with pytest.raises(SecurityError, match="announced"):
        check_leaf(leaf, announced(other), WALL)


def test_all_announced_fingerprints_must_match() -> None:
    leaf, other = ME.credentials().leaf, ME.credentials().leaf
    with pytest.raises(SecurityError, match="announced"):
        check_leaf(leaf, (*announced(leaf), *announced(other, "sha-512")), WALL)
    with pytest.raises(SecurityError, match="announced"):
        check_leaf(leaf, (*announced(other, "sha-512"), *announced(leaf)), WALL)


def test_a_fingerprint_that_we_know_must_be_there() -> None:
    leaf = ME.credentials().leaf
    unknown = Fingerprint("sha-1", b"")
    check_leaf(leaf, (unknown, *announced(leaf)), WALL)
    for fingerprints in ((), (unknown,)):
        with pytest.raises(SecurityError, match="no fingerprint"):
            check_leaf(leaf, fingerprints, WALL)


BAD_LEAVES = {
    "a name": ({"names": [make_xmpp_addr(ALICE)]}, "names somebody"),
    "a host name": ({"names": [x509.DNSName("example.org")]}, "names somebody"),
    "no constraints": ({"constraints": None}, "no authority"),
    "an authority": ({"constraints": x509.BasicConstraints(True, None)}, "no authority"),
    "25 hours": ({"life": timedelta(hours=25)}, "more than a day"),
    "a second too long": ({"life": timedelta(hours=24) + SECOND}, "more than a day"),
    "expired": ({"start": WALL - timedelta(hours=48) - SECOND}, "expired"),
    "not yet": ({"start": WALL + timedelta(hours=24) + SECOND}, "not valid yet"),
}


@pytest.mark.parametrize(("wrong", "why"), BAD_LEAVES.values(), ids=BAD_LEAVES)
def test_a_leaf_of_another_form_is_refused(wrong: dict[str, Any], why: str) -> None:
    credentials = bad_leaf(ME, **wrong)
    with pytest.raises(SecurityError, match=why):
        check_leaf(credentials.leaf, announced(credentials.leaf), WALL)
    with pytest.raises(InvalidArgument, match=why):
        identity.check_credentials(credentials, ALICE, WALL)


@pytest.mark.parametrize(
    "start", [WALL - timedelta(hours=48), WALL + timedelta(hours=24), WALL - timedelta(hours=24)]
)
def test_clocks_may_differ_by_a_day(start: datetime) -> None:
    credentials = bad_leaf(ME, start=start)
    check_leaf(credentials.leaf, announced(credentials.leaf), WALL)


# -- identities of peers ----------------------------------------------------------------------


def test_the_helper_makes_a_good_identity_when_nothing_is_wrong() -> None:
    der, leaf = bad_identity()
    assert check_identity(der, leaf, ALICE, WALL)


BAD_IDENTITIES = {
    "no constraints": ({"constraints": None}, "without critical"),
    "constraints that are not critical": ({"critical": False}, "without critical"),
    "no authority": ({"constraints": x509.BasicConstraints(False, None)}, "leaves only"),
    "any path length": ({"constraints": x509.BasicConstraints(True, None)}, "leaves only"),
    "path length 1": ({"constraints": x509.BasicConstraints(True, 1)}, "leaves only"),
    "no key usage": ({"no_usage": True}, "other uses"),
    "more key usage": ({"usage": {"digital_signature": True}}, "other uses"),
    "other key usage": ({"usage": {"key_cert_sign": False, "crl_sign": True}}, "other uses"),
    "no name": ({"names": None}, "exactly one name"),
    "two names": ({"names": [make_xmpp_addr(ALICE), make_xmpp_addr("bob@x")]}, "exactly one"),
    "the same name twice": ({"names": [make_xmpp_addr(ALICE)] * 2}, "exactly one"),
    "a host too": ({"names": [make_xmpp_addr(ALICE), x509.DNSName("x")]}, "exactly one"),
    "another name": ({"names": [make_xmpp_addr("mallory@example.org")]}, "somebody else"),
    "a full JID": ({"names": [make_xmpp_addr(ALICE + "/phone")]}, "somebody else"),
    "a host": ({"names": [x509.DNSName("example.org")]}, "somebody else"),
    "an address": ({"names": [x509.RFC822Name(ALICE)]}, "somebody else"),
    "expired": ({"start": WALL - timedelta(days=11) - SECOND}, "expired"),
    "not yet": ({"start": WALL + timedelta(days=1) + SECOND}, "not valid yet"),
    "another's signature": ({"signer": ME.key.reveal()}, "wrong signature"),
}


@pytest.mark.parametrize(("wrong", "why"), BAD_IDENTITIES.values(), ids=BAD_IDENTITIES)
def test_an_identity_of_another_form_is_refused(wrong: dict[str, Any], why: str) -> None:
    der, leaf = bad_identity(**wrong)
    with pytest.raises(SecurityError, match=why):
        check_identity(der, leaf, ALICE, WALL)


def test_the_identity_must_have_signed_the_leaf() -> None:
    der, _ = bad_identity()
    with pytest.raises(SecurityError, match="wrong signature"):
        check_identity(der, ME.credentials().leaf, ALICE, WALL)


def test_names_are_compared_as_rfc_7622_compares_them() -> None:
    der, leaf = bad_identity(names=[make_xmpp_addr("Alice@EXAMPLE.org")])
    check_identity(der, leaf, ALICE, WALL)


def test_an_identity_with_a_key_identifier_is_taken() -> None:
    key = identity.new_session_key().reveal().public_key()
    usage = (x509.KeyUsage(**CERT_SIGN), True)
    identifier = (x509.SubjectKeyIdentifier.from_public_key(key), False)
    der, leaf = bad_identity(extensions=[usage, identifier])
    check_identity(der, leaf, ALICE, WALL)


# -- our own, from somebody else --------------------------------------------------------------


def test_provided_credentials_must_be_for_exactly_the_key() -> None:
    credentials = ME.credentials()
    other = Credentials(identity.new_session_key(), credentials.leaf, credentials.identity)
    with pytest.raises(InvalidArgument, match="key of this session"):
        identity.check_credentials(other, ALICE, WALL)


def test_provided_credentials_must_be_of_the_account() -> None:
    with pytest.raises(InvalidArgument, match="somebody else"):
        identity.check_credentials(ME.credentials(), "bob@example.org", WALL)


def test_a_provided_leaf_must_not_tell_who_by_a_key_identifier() -> None:
    key = ME.key.reveal().public_key()
    for extension in (
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key),
        x509.SubjectKeyIdentifier.from_public_key(key),
    ):
        with pytest.raises(InvalidArgument, match="key identifier"):
            identity.check_credentials(bad_leaf(ME, extensions=[(extension, False)]), ALICE, WALL)


def test_provided_nonsense_is_refused() -> None:
    good = ME.credentials()
    for credentials in (
        Credentials(good.key, b"", good.identity),
        Credentials(good.key, good.leaf, b"nonsense"),
        Credentials(good.key, good.identity, good.leaf),
    ):
        with pytest.raises(InvalidArgument):
            identity.check_credentials(credentials, ALICE, WALL)
