"""A peer whose certificates are not what they should be: seen by the daemon, with the reason.

Each is made right but for the one thing, and announced by its own fingerprints, as whoever makes
it would. ``test_peer_protection.py`` has what is wrong with the form.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from telepathy_e2e.role import Role
from telepathy_e2e.xtls import engine, identity
from telepathy_e2e.xtls.certificates import make_xmpp_addr
from telepathy_e2e.xtls.identity import Credentials, PrivateKey
from tests.peer import credentials as certificates
from tests.peer import stanzas
from tests.peer.bench import REMOTE_ERROR, Bench, Case
from tests.peer.transfer import Transfer
from tests.support.authority import Authority, issue, key_usage
from tests.support.side import E2E

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES = pytest.mark.parametrize("role", ["the daemon receives", "the daemon sends"])
DATA = b"for nobody else's eyes" * 1000
DAY = timedelta(days=1)
SHA256 = hashes.SHA256()
NO_AUTHORITY = (x509.BasicConstraints(ca=False, path_length=None), True)
SIGNS_LEAVES = (x509.BasicConstraints(ca=True, path_length=0), True)


async def ready(bench: Bench, role: str, own: Credentials) -> Case:
    """Offer and answer are exchanged and the road is up."""
    if role == "the daemon receives":
        transfer = Transfer(bench.bob.session(bench.jid), own=own)
        return await bench.receives(DATA, transfer_=transfer)
    case = await bench.offers(DATA)
    case.transfer.own = own
    assert await case.transfer.accept() == ("", "")
    await case.transfer.connect()
    return case


async def seen(bench: Bench, case: Case, reason: str) -> None:
    """The daemon ended it, told its user why, and nothing came through."""
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")
    assert reason in await bench.side.get(case.path, E2E, "ErrorMessage")
    assert not bench.opened(case)
    await bench.got_nothing(case)
    secure = await bench.secure(case)
    assert (secure["Encrypted"], secure["Verified"]) == (False, False)


def leaf(
    signer: PrivateKey,
    shown: bytes,
    *,
    key: PrivateKey | None = None,
    start: datetime | None = None,
    algorithm: hashes.HashAlgorithm = SHA256,
    filling: int = 0,
) -> Credentials:
    """Credentials with a leaf by this key, shown with this identity."""
    key = key or identity.new_session_key()
    start = start or certificates.now() - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(identity.LEAF_SUBJECT)
        .issuer_name(x509.load_der_x509_certificate(shown).subject)
        .public_key(key.reveal().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(hours=20))
        .add_extension(*NO_AUTHORITY)
    )
    if filling:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(filling))
        builder = builder.add_extension(unknown, critical=False)
    made = builder.sign(signer.reveal(), algorithm)  # type: ignore[arg-type]
    return Credentials(key, made.public_bytes(Encoding.DER), shown)


def identity_by(signer: Any, bob: str, key: PrivateKey, *extensions: Any, **times: Any) -> bytes:
    """An identity certificate of Bob's that somebody signed."""
    names = (x509.SubjectAlternativeName([make_xmpp_addr(bob)]), False)
    public = key.reveal().public_key()
    made = issue("e2e identity", signer, "e2e identity", public, [*extensions, names], **times)
    return made.public_bytes(Encoding.DER)


def _right(bob: str) -> tuple[PrivateKey, bytes]:
    return certificates.own_identity(bob)


def _may_not_sign(bob: str, carol: str) -> Credentials:
    key, _ = _right(bob)
    other = key_usage(digital_signature=True)
    shown = identity_by(key.reveal(), bob, key, SIGNS_LEAVES, (other, True))
    return leaf(key, shown)


def _company(bob: str, carol: str) -> Credentials:
    company = Authority.make()
    return leaf(PrivateKey(company.key), company.certificate.public_bytes(Encoding.DER))  # type: ignore[arg-type]


def _identity_by_a_company(bob: str, carol: str) -> Credentials:
    """As with certificates of the web, where others say who one is."""
    key, _ = _right(bob)
    usage = (identity._CERT_SIGN, True)
    shown = identity_by(Authority.make().key, bob, key, SIGNS_LEAVES, usage)
    return leaf(key, shown)


def _signed_by_another_contact(bob: str, carol: str) -> Credentials:
    hers, _ = _right(carol)
    return leaf(hers, _right(bob)[1])


def _of_another_contact(bob: str, carol: str) -> Credentials:
    return leaf(*_right(carol))


def _leaf_at(days: float) -> Callable[[str, str], Credentials]:
    return lambda bob, carol: leaf(*_right(bob), start=certificates.now() + days * DAY)


def _identity_at(start: float, end: float) -> Callable[[str, str], Credentials]:
    def made(bob: str, carol: str) -> Credentials:
        key, _ = _right(bob)
        now = certificates.now()
        shown = identity_by(
            key.reveal(),
            bob,
            key,
            SIGNS_LEAVES,
            (identity._CERT_SIGN, True),
            not_before=now + start * DAY,
            not_after=now + end * DAY,
        )
        return leaf(key, shown)

    return made


def _curve(bob: str, carol: str) -> Credentials:
    return leaf(*_right(bob), key=PrivateKey(ec.generate_private_key(ec.SECP521R1())))


def _rsa(bob: str, carol: str) -> Credentials:
    key: Any = rsa.generate_private_key(65537, 2048)
    return leaf(*_right(bob), key=PrivateKey(key))


def _hash(bob: str, carol: str) -> Credentials:
    return leaf(*_right(bob), algorithm=hashes.SHA224())


def _filled(size: int) -> Callable[[str, str], Credentials]:
    return lambda bob, carol: leaf(*_right(bob), filling=size)


# Seen in the handshake, before anything sealed is read.
LEAVES: dict[str, tuple[Callable[[str, str], Credentials], str]] = {
    "expired": (_leaf_at(-3), "a certificate that has expired; is a clock wrong?"),
    "not yet valid": (_leaf_at(3), "a certificate that is not valid yet; is a clock wrong?"),
    "on another curve": (_curve, "a certificate with a key on another curve"),
    "of RSA": (_rsa, "a certificate with another kind of key"),
    "of 9 KB": (_filled(9_000), "a certificate that is too long"),
    # OpenSSL's own bound, before it is kept whole.
    "of 10 MB": (_filled(10_000_000), "TLS failed: excessive message size"),
}

IDENTITIES: dict[str, tuple[Callable[[str, str], Credentials], str]] = {
    "that may not sign": (
        _may_not_sign,
        "an identity certificate for other uses than signing leaves",
    ),
    "of a company's authority": (
        _company,
        "an identity certificate that is not one for leaves only",
    ),
    "signed by a company's authority": (
        _identity_by_a_company,
        "a certificate with a wrong signature",
    ),
    "whose leaf another contact signed": (
        _signed_by_another_contact,
        "a certificate with a wrong signature",
    ),
    "of another contact": (_of_another_contact, "an identity certificate of somebody else"),
    "expired": (_identity_at(-30, -3), "a certificate that has expired; is a clock wrong?"),
    "not yet valid": (
        _identity_at(3, 30),
        "a certificate that is not valid yet; is a clock wrong?",
    ),
    "that signed by another hash": (
        _hash,
        "a certificate signed by an algorithm that is not taken",
    ),
}


def made(bench: Bench, make: Callable[[str, str], Credentials]) -> Credentials:
    return make(stanzas.bare(bench.bob.jid), bench.server.jid("carol"))


@ROLES
@pytest.mark.parametrize("kind", LEAVES)
async def test_a_leaf(bench: Bench, role: str, kind: str) -> None:
    make, reason = LEAVES[kind]
    case = await ready(bench, role, made(bench, make))
    await case.transfer.secured().try_handshake()
    await seen(bench, case, reason)


@ROLES
@pytest.mark.parametrize("kind", IDENTITIES)
async def test_an_identity(bench: Bench, role: str, kind: str) -> None:
    make, reason = IDENTITIES[kind]
    case = await ready(bench, role, made(bench, make))
    secured = await case.transfer.secured().handshake()
    await secured.say_hello()
    await seen(bench, case, reason)


@ROLES
async def test_our_own_identity_under_another_name(bench: Bench, role: str) -> None:
    """Only a thief of the key can make that."""
    bob = stanzas.bare(bench.bob.jid)
    stolen = certificates.identity_of(bench.side.directory, stanzas.bare(bench.jid))
    own = certificates.certified(stolen, certificates.identity_certificate(stolen, bob))
    case = await ready(bench, role, own)
    secured = await case.transfer.secured().handshake()
    await secured.say_hello()
    await seen(bench, case, "our own identity under another address")


@ROLES
@pytest.mark.parametrize("length", [1, 60])
async def test_a_chain_behind_the_leaf(
    bench: Bench, role: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is as bad as an absurd number: who one is stands in the hello, where only the other
    side sees it."""
    own = certificates.credentials(stanzas.bare(bench.bob.jid))
    chain = [crypto.load_certificate(crypto.FILETYPE_ASN1, own.identity)]
    authority = Authority.make()
    for number in range(length - 1):
        authority = authority.below(f"Department {number}")
        chain.append(crypto.X509.from_cryptography(authority.certificate))
    context = engine._context

    def with_chain(role: Role, key: PrivateKey, leaf: bytes, check: Any) -> SSL.Context:
        made = context(role, key, leaf, check)
        for each in chain:
            made.add_extra_chain_cert(each.to_cryptography())
        return made

    monkeypatch.setattr(engine, "_context", with_chain)
    case = await ready(bench, role, own)
    await case.transfer.secured().try_handshake()
    await seen(bench, case, "more than one certificate was shown")


class OfAnotherHash(Transfer):
    """Announces its leaf by a hash that nobody knows."""

    def security(self) -> Element | None:
        return stanzas.security(("sha-4", "00:" * 31 + "00"))


async def test_an_offer_by_an_unknown_hash_alone_is_refused(bench: Bench) -> None:
    """As nothing: taken for an offer without protection it would go in the clear."""
    transfer = OfAnotherHash(bench.bob.session(bench.jid))
    assert await transfer.offer(stanzas.description("file.bin", len(DATA))) == ("", "")
    assert await transfer.session.ended() == "security-error"
    assert "no fingerprint by a hash that we know" in bench.log()


async def test_an_answer_by_an_unknown_hash_alone_is_refused(bench: Bench) -> None:
    case = await bench.offers(DATA)
    session = case.transfer.session
    case.transfer.__class__ = OfAnotherHash
    assert await case.transfer.accept() == ("", "")
    assert case.transfer.session is session
    await seen(bench, case, "no fingerprint by a hash that we know")
