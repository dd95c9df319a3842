"""What the agent certifies, and that no key comes out of it but under its passphrase."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from telepathy_e2e.agent import seal
from telepathy_e2e.agent.attestations import Attestation
from telepathy_e2e.agent.keys import MAX_PUBLIC_KEY, Keys
from telepathy_e2e.agent.seal import MAX_PASSPHRASE, WrongPassphrase
from telepathy_e2e.agent.store import Store, Stored
from telepathy_e2e.errors import DoesNotExist, InvalidArgument, NotAvailable, TelepathyError
from telepathy_e2e.xtls.certificates import parse
from telepathy_e2e.xtls.identity import (
    Credentials,
    check_credentials,
    make_identity,
    new_session_key,
)

WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE, BOB = "alice@example.org", "bob@example.org"
SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "COST", 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "identities")


@pytest.fixture
def keys(store: Store) -> Keys:
    return Keys(store, lambda: WALL)


def certified(keys: Keys, account: str = ALICE) -> bytes:
    """The identity certificate that came with a leaf that contacts would take."""
    key = new_session_key()
    leaf, identity = keys.certify(account, key.public_key())
    check_credentials(Credentials(key, leaf, identity), account, WALL)
    return identity


def test_what_it_certifies_is_what_contacts_take(keys: Keys) -> None:
    identity = certified(keys)
    assert keys.identity(ALICE) == identity == certified(keys)
    assert keys.accounts() == [ALICE]


def test_all_in_a_leaf_but_the_key_is_the_agents(keys: Keys) -> None:
    leaf = x509.load_der_x509_certificate(keys.certify(ALICE, new_session_key().public_key())[0])
    assert leaf.subject.rfc4514_string() == "CN=e2e session"
    assert leaf.issuer.rfc4514_string() == "CN=e2e identity"
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=1)
    (only,) = leaf.extensions
    assert only.value == x509.BasicConstraints(ca=False, path_length=None)


OTHERS = {
    "nothing": b"",
    "noise": b"\x30\x59" + bytes(89),
    "P-384": ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*SPKI),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(*SPKI),
    "RSA": rsa.generate_private_key(65537, 2048).public_key().public_bytes(*SPKI),
    "a private key": new_session_key().dump(),
    "more behind it": new_session_key().public_key() + b"\0",
    "far too long": new_session_key().public_key() + bytes(MAX_PUBLIC_KEY),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_keys_than_p256_are_not_certified(keys: Keys, what: str) -> None:
    with pytest.raises(InvalidArgument):
        keys.certify(ALICE, OTHERS[what])


def test_a_compressed_point_is_not_certified(keys: Keys) -> None:
    point = (
        new_session_key()
        .reveal()
        .public_key()
        .public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    )
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    with pytest.raises(InvalidArgument):
        keys.certify(ALICE, head + point)


def test_the_identitys_own_key_is_not_certified(keys: Keys) -> None:
    with pytest.raises(InvalidArgument, match="own key"):
        keys.certify(ALICE, parse(keys.identity(ALICE)).spki)


@pytest.mark.parametrize("account", ["", "Alice@example.org", "alice@example.org/home", "a b@c"])
def test_nobody_but_a_normalised_bare_jid_has_an_identity(keys: Keys, account: str) -> None:
    with pytest.raises(InvalidArgument):
        keys.identity(account)
    assert keys.accounts() == []


def test_the_file_of_another_account_is_refused(keys: Keys, store: Store) -> None:
    keys.identity(ALICE)
    store.path(ALICE).rename(store.path(BOB))
    for use in (keys.identity, lambda account: certified(keys, account)):
        with pytest.raises(NotAvailable, match="damaged"):
            use(BOB)


# -- passphrases --------------------------------------------------------------------------------


def test_a_locked_key_certifies_nothing(keys: Keys) -> None:
    identity = keys.identity(ALICE)
    keys.set_passphrase(ALICE, b"", b"one")
    assert certified(keys) == identity  # still unlocked
    keys.lock()
    assert keys.locked() == [ALICE]
    with pytest.raises(NotAvailable, match="unlock"):
        certified(keys)
    with pytest.raises(NotAvailable, match="unlock"):
        keys.attest(Attestation(ALICE, "device", b"x"))
    assert keys.identity(ALICE) == identity
    keys.unlock(b"one")
    assert certified(keys) == identity
    assert keys.locked() == []


def test_a_new_process_starts_locked(keys: Keys, store: Store) -> None:
    keys.identity(ALICE)
    keys.set_passphrase(ALICE, b"", b"one")
    assert keys.any_unlocked
    again = Keys(store, lambda: WALL)
    assert again.locked() == [ALICE]
    assert not again.any_unlocked


def test_a_wrong_passphrase_unlocks_nothing(keys: Keys) -> None:
    keys.identity(ALICE)
    with pytest.raises(NotAvailable):
        keys.unlock(b"one")
    keys.set_passphrase(ALICE, b"", b"one")
    keys.lock()
    for wrong in (b"two", b"one ", b"ONE"):
        with pytest.raises(WrongPassphrase):
            keys.unlock(wrong)
    assert keys.locked() == [ALICE]


def test_unlocking_opens_those_with_this_passphrase(keys: Keys) -> None:
    for account, passphrase in ((ALICE, b"one"), (BOB, b"two")):
        keys.identity(account)
        keys.set_passphrase(account, b"", passphrase)
    keys.lock()
    keys.unlock(b"two")
    assert keys.locked() == [ALICE]
    certified(keys, BOB)


def test_a_passphrase_changes_only_for_who_knows_it(keys: Keys) -> None:
    keys.identity(ALICE)
    keys.set_passphrase(ALICE, b"", b"one")
    # Unlocked as it is: a program that was taken over may talk to us, and does not know it.
    for wrong in (b"", b"two"):
        with pytest.raises(WrongPassphrase):
            keys.set_passphrase(ALICE, wrong, b"mine")
    keys.set_passphrase(ALICE, b"one", b"two")
    keys.lock()
    with pytest.raises(WrongPassphrase):
        keys.unlock(b"one")
    keys.unlock(b"two")


def test_a_seal_can_be_taken_off(keys: Keys, store: Store) -> None:
    identity = keys.identity(ALICE)
    keys.set_passphrase(ALICE, b"", b"one")
    keys.set_passphrase(ALICE, b"one", b"")
    keys.lock()
    assert not keys.any_unlocked
    assert certified(keys) == identity
    assert store.get(ALICE).sealed is None


@pytest.mark.parametrize(
    ("length", "good"), [(1, True), (MAX_PASSPHRASE, True), (MAX_PASSPHRASE + 1, False)]
)
def test_a_passphrase_is_bounded(keys: Keys, length: int, good: bool) -> None:
    keys.identity(ALICE)
    if good:
        keys.set_passphrase(ALICE, b"", b"x" * length)
    else:
        with pytest.raises(InvalidArgument):
            keys.set_passphrase(ALICE, b"", b"x" * length)
        assert keys.locked() == []


def test_who_has_no_identity_gets_none_by_a_passphrase(keys: Keys) -> None:
    for ask in (
        lambda: keys.set_passphrase(ALICE, b"", b"one"),
        lambda: keys.export(ALICE, b"one"),
        lambda: keys.forget(ALICE),
        lambda: keys.attest(Attestation(ALICE, "device", b"x")),
    ):
        with pytest.raises(DoesNotExist):
            ask()
    assert keys.accounts() == []


# -- moving -------------------------------------------------------------------------------------


def test_an_identity_moves(keys: Keys, tmp_path: Path) -> None:
    identity = keys.identity(ALICE)
    exported = keys.export(ALICE, b"for the road")
    there = Keys(Store(tmp_path / "there"), lambda: WALL)
    there.import_(ALICE, b"for the road", exported)
    assert certified(there) == identity
    there.import_(ALICE, b"for the road", exported)
    assert there.accounts() == [ALICE]


def test_a_sealed_identity_leaves_under_its_own_passphrase_only(keys: Keys) -> None:
    keys.identity(ALICE)
    keys.set_passphrase(ALICE, b"", b"one")
    with pytest.raises(WrongPassphrase):
        keys.export(ALICE, b"mine")
    assert keys.export(ALICE, b"one").startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")


def test_an_empty_passphrase_exports_nothing(keys: Keys) -> None:
    keys.identity(ALICE)
    with pytest.raises(InvalidArgument):
        keys.export(ALICE, b"")


def test_an_import_is_for_the_account_of_the_certificate_and_its_key(keys: Keys) -> None:
    key, certificate = make_identity(ALICE, WALL)
    other, _ = make_identity(ALICE, WALL)
    good = Stored(certificate, sealed=seal.seal(key, b"x")).dump()
    mixed = Stored(certificate, sealed=seal.seal(other, b"x")).dump()
    plain = Stored(certificate, key).dump()
    for account, data in (
        (BOB, good),
        (ALICE, mixed),
        (ALICE, plain),
        (ALICE, b""),
        (ALICE, good[:-30]),
        (ALICE, good + b"more"),
        (ALICE, good + good),
    ):
        with pytest.raises(InvalidArgument):
            keys.import_(account, b"x", data)
    with pytest.raises(WrongPassphrase):
        keys.import_(ALICE, b"y", good)
    assert keys.accounts() == []


def test_an_import_never_takes_the_place_of_another_identity(keys: Keys) -> None:
    identity = keys.identity(ALICE)
    key, certificate = make_identity(ALICE, WALL)
    other = Stored(certificate, sealed=seal.seal(key, b"x")).dump()
    with pytest.raises(NotAvailable, match="forget"):
        keys.import_(ALICE, b"x", other)
    assert keys.identity(ALICE) == identity
    keys.forget(ALICE)
    keys.import_(ALICE, b"x", other)
    assert keys.identity(ALICE) == certificate


# -- attestations, secrets ----------------------------------------------------------------------


def test_an_attestation_is_signed_by_the_identity(keys: Keys) -> None:
    keys.identity(ALICE)
    statement = Attestation(ALICE, "device", b"x")
    public = parse(keys.identity(ALICE)).key
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = keys.attest(statement)
    public.verify(signature, statement.to_be_signed(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signature, b"x", ec.ECDSA(hashes.SHA256()))


def test_no_secret_is_shown_or_logged(
    keys: Keys, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys.identity(ALICE)
    key = store.get(ALICE).key
    assert key is not None
    secret = key.reveal().private_numbers().private_value
    keys.set_passphrase(ALICE, b"", b"open sesame")
    shown = [repr(store.get(ALICE)), repr(Stored(b"", key)), repr(vars(keys)), caplog.text]
    for ask in (lambda: keys.unlock(b"open"), lambda: keys.export(ALICE, b"open")):
        with pytest.raises(TelepathyError) as error:
            ask()
        shown += [str(error.value), repr(error.value)]
    for each in shown:
        for form in (str(secret), f"{secret:x}", "sesame", "-----BEGIN"):
            assert form not in each
