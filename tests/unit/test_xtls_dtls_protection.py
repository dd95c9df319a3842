"""The protection of a call: who may be at the other end of the media, now and after restarts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xtls.association import HELLO_TIMEOUT
from telepathy_e2e.xtls.dtls_protection import DtlsProtection, Handshake, Session
from telepathy_e2e.xtls.events import (
    CeremonyEnded,
    Event,
    Failed,
    PeerStarted,
    Protected,
    Reported,
    SendSealed,
    StringReady,
)
from telepathy_e2e.xtls.identity import (
    Credentials,
    make_identity,
    make_leaf,
    new_session_key,
)
from telepathy_e2e.xtls.offer import Fingerprint, digest

WALL = datetime(2026, 11, 21, tzinfo=UTC)
NOW = 100.0
JIDS = {Role.INITIATOR: "alice@example.test", Role.RESPONDER: "bob@example.test"}
BOTH = pytest.mark.parametrize("role", list(Role))


def credentials(jid: str) -> Credentials:
    key, own = new_session_key(), make_identity(jid, WALL)
    return Credentials(key, make_leaf(key.public_key(), own[0], own[1], WALL), own[1])


def print_of(leaf: bytes, name: str = "sha-256") -> Fingerprint:
    return Fingerprint(name, digest(name, leaf))


class Two:
    """Both ends of a call."""

    def __init__(self, *, messages: dict[Role, bool] | None = None, offered: bytes = b"") -> None:
        self.credentials = {role: credentials(JIDS[role]) for role in Role}
        known = messages or {}
        self.secret = secrets.token_bytes(32)
        self.seen: dict[Role, list[Event]] = {role: [] for role in Role}
        self.end = {
            role: DtlsProtection(
                Session(
                    role=role,
                    sid="sid",
                    initiator=JIDS[Role.INITIATOR],
                    responder=JIDS[Role.RESPONDER],
                    credentials=self.credentials[role],
                    offered=(offered if role is Role.INITIATOR and offered else bytes(32)),
                    accepted=bytes(32),
                    methods=("sas", "password"),
                    tries=ContactTries().session("alice@example.test", "bob@example.test"),
                ),
                [print_of(self.credentials[role.other].leaf)],
                messages=known.get(role, True),
            )
            for role in Role
        }

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """One association: the same secret on both sides, for the same label and context."""
        stretch = hashes.Hash(hashes.SHAKE256(length))
        stretch.update(self.secret + label + context)
        return stretch.finalize()

    def connect(self, *roles: Role, leaf: Callable[[Role], bytes] | None = None) -> None:
        for role in roles or tuple(Role):
            shown = leaf(role) if leaf else self.credentials[role.other].leaf
            handshake = Handshake(shown, "ECDHE-ECDSA-AES128-GCM-SHA256", "X25519")
            self.end[role].connected(handshake, self.export, NOW, WALL)

    def run(self) -> None:
        """Carry sealed messages until nobody has any."""
        moving = True
        while moving:
            moving = False
            for role in Role:
                for event in self.end[role].events():
                    self.seen[role].append(event)
                    if isinstance(event, SendSealed):
                        moving = True
                        try:
                            self.end[role.other].receive_sealed(event.element, NOW)
                        except PeerError:
                            continue

    def kinds(self, role: Role) -> list[type[Event]]:
        return [type(event) for event in self.seen[role] if not isinstance(event, SendSealed)]

    def only(self, role: Role, kind: type[Event]) -> Event:
        (found,) = [event for event in self.seen[role] if isinstance(event, kind)]
        return found


def test_both_learn_who_the_other_is() -> None:
    two = Two()
    two.connect()
    two.run()
    for role in Role:
        protected = two.only(role, Protected)
        assert isinstance(protected, Protected)
        assert protected.identity_certificate == two.credentials[role.other].identity
        assert protected.peer_methods == ("sas", "password")
        assert not protected.leaf_only
        assert two.end[role].open


@BOTH
def test_a_hello_may_come_before_the_own_handshake_is_done(role: Role) -> None:
    two = Two()
    two.connect(role)
    two.run()
    assert not two.end[role].open
    two.connect(role.other)
    two.run()
    assert two.end[role].open
    assert two.end[role.other].open


@BOTH
def test_another_certificate_than_announced_is_refused(role: Role) -> None:
    two = Two()
    other = credentials(JIDS[role.other]).leaf
    two.connect(role, leaf=lambda _: other)
    two.run()
    assert two.kinds(role) == [Failed]
    assert not two.end[role].open


@BOTH
def test_a_restart_with_the_same_certificate_is_a_new_epoch(role: Role) -> None:
    two = Two()
    two.connect()
    two.run()
    two.secret = secrets.token_bytes(32)
    two.connect()
    two.run()
    assert two.kinds(role) == [Protected, Protected]
    assert two.end[role].open


@BOTH
def test_a_restart_with_another_certificate_ends_the_call(role: Role) -> None:
    two = Two()
    two.connect()
    two.run()
    other = credentials(JIDS[role.other]).leaf
    two.connect(role, leaf=lambda _: other)
    two.run()
    assert two.kinds(role)[-1] is Failed
    assert not two.end[role].open


@BOTH
def test_media_wait_again_after_a_restart(role: Role) -> None:
    two = Two()
    two.connect()
    two.run()
    two.connect(role)
    assert not two.end[role].open


def test_a_restart_ends_what_people_were_comparing() -> None:
    two = Two()
    two.connect()
    two.run()
    two.end[Role.INITIATOR].start_sas(NOW)
    two.run()
    two.end[Role.RESPONDER].start_sas(NOW)
    two.run()
    assert [StringReady, PeerStarted][0] in two.kinds(Role.INITIATOR)
    two.connect()
    two.run()
    for role in Role:
        assert CeremonyEnded in two.kinds(role)


def test_two_associations_give_two_strings() -> None:
    """A relay in the middle has one with either side."""
    two, between = Two(), secrets.token_bytes(32)
    two.connect(Role.INITIATOR)
    two.secret = between
    two.connect(Role.RESPONDER)
    two.run()
    for role in Role:
        assert not two.end[role].open
        assert Failed in two.kinds(role)


@BOTH
def test_an_offer_that_was_changed_on_its_way_is_found_out(role: Role) -> None:
    two = Two(offered=b"\1" * 32)
    two.connect()
    two.run()
    assert two.kinds(role)[-1] is Failed


@BOTH
def test_a_hello_that_never_comes_ends_the_call(role: Role) -> None:
    two = Two()
    two.connect(role)
    deadline = two.end[role].deadline()
    assert deadline == NOW + HELLO_TIMEOUT
    two.end[role].tick(deadline)
    assert any(isinstance(event, Failed) for event in two.end[role].events())


@BOTH
def test_a_client_without_messages_is_known_by_its_certificate(role: Role) -> None:
    two = Two(messages=dict.fromkeys(Role, False))
    two.connect()
    two.run()
    protected = two.only(role, Protected)
    assert isinstance(protected, Protected)
    assert protected.leaf_only
    assert protected.identity_certificate is None
    assert protected.peer_fingerprint == sha256(two.credentials[role.other].leaf).digest()
    assert protected.own_fingerprint == sha256(two.credentials[role].leaf).digest()


def test_messages_of_a_client_that_announced_none_are_dropped_and_reported() -> None:
    two = Two(messages={Role.INITIATOR: True, Role.RESPONDER: False})
    two.connect(Role.INITIATOR)
    two.run()
    two.connect(Role.RESPONDER)
    two.run()
    assert two.kinds(Role.RESPONDER)[:2] == [Reported, Protected]


def browser_leaf() -> bytes:
    """As some telephones make them: RSA, its own signer, for years."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WebRTC")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(WALL - timedelta(days=400))
        .not_valid_after(WALL + timedelta(days=4000))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("messages", [True, False])
def test_any_certificate_will_do_but_for_clients_of_our_kind(messages: bool) -> None:
    leaf = browser_leaf()
    protection = DtlsProtection(
        Session(
            role=Role.INITIATOR,
            sid="sid",
            initiator=JIDS[Role.INITIATOR],
            responder=JIDS[Role.RESPONDER],
            credentials=credentials(JIDS[Role.INITIATOR]),
            offered=bytes(32),
            accepted=bytes(32),
            methods=(),
            tries=ContactTries().session("alice@example.test", "bob@example.test"),
        ),
        [print_of(leaf)],
        messages=messages,
    )
    protection.connected(Handshake(leaf, "", ""), lambda *_: bytes(96), NOW, WALL)
    assert protection.open is not messages
    assert any(isinstance(event, Failed) for event in protection.events()) is messages


@pytest.mark.parametrize("leaf", [b"", b"\x30\x03\x02\x01\x00", b"x" * 100_000])
def test_what_is_no_certificate_is_refused(leaf: bytes) -> None:
    two = Two(messages=dict.fromkeys(Role, False))
    end = two.end[Role.INITIATOR]
    end._peer_fingerprints = (print_of(leaf),)
    two.connect(Role.INITIATOR, leaf=lambda _: leaf)
    assert any(isinstance(event, Failed) for event in end.events())
