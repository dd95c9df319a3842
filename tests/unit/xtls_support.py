"""Two people, their credentials, and a wire between them that a test can cut, bend and flood."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.conversation import Session
from telepathy_e2e.xtls.identity import Credentials, PrivateKey
from telepathy_e2e.xtls.offer import Fingerprint, digest
from telepathy_e2e.xtls.protection import (
    Event,
    Failed,
    Protected,
    Protection,
    SendSealed,
)

VECTORS: dict[str, Any] = json.loads(
    (pathlib.Path(__file__).parent.parent / "vectors" / "xtls.json").read_text()
)

WALL = datetime(2026, 10, 1, 12, 0, 0, tzinfo=UTC)
NOW = 1000.0
SID = "851ba2"
ALICE, BOB = "alice@example.org", "bob@example.org"
JIDS = {Role.INITIATOR: ALICE, Role.RESPONDER: BOB}
OFFERED, ACCEPTED = b"o" * 32, b"a" * 32

BOTH = (Role.INITIATOR, Role.RESPONDER)

NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
SHA256 = hashes.SHA256()


@dataclass
class Person:
    """A bare JID with an identity."""

    jid: str
    key: PrivateKey = field(init=False)
    certificate: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key, self.certificate = identity.make_identity(self.jid, WALL)

    def credentials(self) -> Credentials:
        key = identity.new_session_key()
        leaf = identity.make_leaf(key.public_key(), self.key, self.certificate, WALL)
        return Credentials(key, leaf, self.certificate)


PEOPLE = {Role.INITIATOR: Person(ALICE), Role.RESPONDER: Person(BOB)}


def announced(leaf: bytes, *names: str) -> tuple[Fingerprint, ...]:
    """What ``<security/>`` would say of this leaf."""
    return tuple(Fingerprint(name, digest(name, leaf)) for name in names or ("sha-256",))


def certificate(
    public_key: bytes,
    signer: Any,
    *,
    subject: str = "e2e session",
    issuer: str = "e2e identity",
    start: datetime = WALL - timedelta(hours=12),
    life: timedelta = timedelta(hours=24),
    constraints: x509.BasicConstraints | None = NO_AUTHORITY,
    critical: bool = True,
    names: list[x509.GeneralName] | None = None,
    extensions: list[tuple[x509.ExtensionType, bool]] | None = None,
    algorithm: Any = SHA256,
) -> bytes:
    """A certificate with whatever is wrong with it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(load_der_public_key(public_key))  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical)
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, is_critical in extensions or []:
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(signer, algorithm).public_bytes(Encoding.DER)


def bad_leaf(person: Person, **wrong: Any) -> Credentials:
    """Credentials whose leaf has something wrong with it."""
    key = identity.new_session_key()
    leaf = certificate(key.public_key(), person.key.reveal(), **wrong)
    return Credentials(key, leaf, person.certificate)


@dataclass
class Pair:
    """Two ``Protection`` and what is between them; ``end[role]`` is one of them."""

    end: dict[Role, Protection]
    seen: dict[Role, list[Event]] = field(default_factory=lambda: {r: [] for r in BOTH})
    sealed: dict[Role, list[Element]] = field(default_factory=lambda: {r: [] for r in BOTH})
    """By sender: what waits to be delivered."""
    bytes_from: dict[Role, bytearray] = field(
        default_factory=lambda: {r: bytearray() for r in BOTH}
    )

    def start(self) -> Pair:
        for role in BOTH:
            self.end[role].start(NOW, WALL)
        self.collect()
        return self

    def collect(self) -> None:
        """Take what both sides have to say; deliver nothing."""
        for role in BOTH:
            self.bytes_from[role] += self.end[role].data_to_send()
            for event in self.end[role].events():
                self.seen[role].append(event)
                if isinstance(event, SendSealed):
                    self.sealed[role].append(event.element)

    def carry_bytes(self, piece: int = 1 << 20) -> bool:
        """Deliver what is on the wire, in pieces; whether there was anything."""
        self.collect()
        moved = False
        for role in BOTH:
            data, self.bytes_from[role] = bytes(self.bytes_from[role]), bytearray()
            for start in range(0, len(data), piece):
                self.end[role.other].receive_data(data[start : start + piece], NOW)
                moved = True
        self.collect()
        return moved

    def carry_sealed(self) -> bool:
        self.collect()
        moved = False
        for role in BOTH:
            waiting, self.sealed[role] = self.sealed[role], []
            for element in waiting:
                moved = True
                try:
                    self.end[role.other].receive_sealed(element, NOW)
                except PeerError:
                    self.end[role].sealed_refused(NOW)
        self.collect()
        return moved

    def handshake(self, piece: int = 1 << 20) -> Pair:
        """TLS until both are done; no hello is delivered."""
        while self.carry_bytes(piece):
            pass
        return self

    def run(self) -> Pair:
        """Everything until nothing moves."""
        while self.carry_bytes() or self.carry_sealed():
            pass
        return self

    def failures(self, role: Role) -> list[Failed]:
        return [event for event in self.seen[role] if isinstance(event, Failed)]

    def failed(self, role: Role) -> bool:
        """Whether this side ended it with ``<security-error/>``, once."""
        self.collect()
        return [failure.reason for failure in self.failures(role)] == ["security-error"]

    def protected(self, role: Role) -> Protected | None:
        self.collect()
        found = [event for event in self.seen[role] if isinstance(event, Protected)]
        assert len(found) < 2
        return found[0] if found else None


def protection(
    role: Role, credentials: Credentials, peer_leaf: bytes, **changes: Any
) -> Protection:
    """One side; ``changes`` override its arguments."""
    arguments: dict[str, Any] = {
        "role": role,
        "sid": SID,
        "initiator": ALICE,
        "responder": BOB,
        "credentials": credentials,
        "offered": OFFERED,
        "accepted": ACCEPTED,
        "methods": ("sas", "password"),
        "tries": ContactTries().session(JIDS[role], JIDS[role.other]),
    }
    fingerprints = changes.pop("peer_fingerprints", announced(peer_leaf))
    epoch = changes.pop("epoch", 0)
    return Protection(Session(**(arguments | changes)), fingerprints, epoch=epoch)


def pair(
    credentials: dict[Role, Credentials] | None = None,
    changes: dict[Role, dict[str, Any]] | None = None,
) -> Pair:
    """Alice and Bob, with what a test wants to be different."""
    given = {role: PEOPLE[role].credentials() for role in BOTH} | (credentials or {})
    changed = changes or {}
    return Pair(
        {
            role: protection(role, given[role], given[role.other].leaf, **changed.get(role, {}))
            for role in BOTH
        }
    )


def protected_pair(changes: dict[Role, dict[str, Any]] | None = None) -> Pair:
    """Both hellos done."""
    both = pair(changes=changes).start().run()
    for role in BOTH:
        assert both.protected(role) is not None
    return both


class RawPeer:
    """A TLS peer by OpenSSL alone, with none of our rules: the other side that misbehaves."""

    def __init__(
        self,
        role: Role,
        credentials: Credentials | None,
        *,
        alpn: list[bytes] | None = None,
        extra: list[bytes] = [],  # noqa: B006 - never changed
        version: int = SSL.TLS1_3_VERSION,
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        if credentials is not None:
            context.use_certificate(x509.load_der_x509_certificate(credentials.leaf))
            context.use_privatekey(credentials.key.reveal())
        for der in extra:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(der))
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        if alpn and role is Role.INITIATOR:
            context.set_alpn_protos(alpn)
        elif alpn:
            context.set_alpn_select_callback(lambda _, __: alpn[0])
        self.role = role
        self.connection = SSL.Connection(context, None)
        self._reset()

    def _reset(self) -> None:
        if self.role is Role.INITIATOR:
            self.connection.set_connect_state()
        else:
            self.connection.set_accept_state()
        self.error: SSL.Error | None = None

    def again(self) -> RawPeer:
        """Another connection that could go on with the session of this one."""
        other = object.__new__(RawPeer)
        other.role = self.role
        other.connection = SSL.Connection(self.connection.get_context(), None)
        other._reset()
        return other

    def step(self) -> bytes:
        """Go on with the handshake; bytes for the wire."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.error = self.error or error
        return self.take()

    def take(self) -> bytes:
        try:
            return self.connection.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    def give(self, data: bytes) -> None:
        if data:
            self.connection.bio_write(data)

    def received(self) -> bytes | SSL.Error | None:
        """Plaintext, or what is wrong; None if there is nothing."""
        try:
            return self.connection.recv(1 << 16)
        except SSL.WantReadError:
            return None
        except SSL.Error as error:
            return error


def against(ours: Protection, raw: RawPeer) -> list[Event]:
    """Run the handshake of ours with a raw peer; our events."""
    ours.start(NOW, WALL)
    for _ in range(8):
        raw.give(ours.data_to_send())
        ours.receive_data(raw.step(), NOW)
    raw.give(ours.data_to_send())
    return ours.events()
