"""The sealed messages of one epoch: both hellos, then ceremonies.

It works with any TLS or DTLS association whose keys were exported; ``Protection`` has one for
streams.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.ceremony import Ceremonies, Tries, build_verdict
from telepathy_e2e.verify.events import Event as CeremonyEvent
from telepathy_e2e.verify.events import Reported, Send
from telepathy_e2e.xtls import exporter
from telepathy_e2e.xtls.encoding import to_xml
from telepathy_e2e.xtls.events import Event, SendSealed
from telepathy_e2e.xtls.hello import (
    VERSION,
    Attestation,
    Hello,
    build_hello,
    check_attestations,
    parse_hello,
)
from telepathy_e2e.xtls.identity import Credentials, check_identity, identity_fingerprint
from telepathy_e2e.xtls.sealed import (
    MAX_PLAINTEXT,
    Opener,
    SealedMessage,
    Sealer,
    parse_sealed,
)


@dataclass(frozen=True)
class Session:
    """What both hellos are about; all of it is known before the handshake.

    Raises:
        ValueError: credentials that cannot be read, or a hello that does not fit the bounds.
    """

    role: Role
    """Ours in the Jingle session."""
    sid: str
    initiator: str
    """Bare JID, normalised, from ``from`` and ``to`` of the stanzas; so is the next."""
    responder: str
    credentials: Credentials
    offered: bytes
    """``offer_digest`` of the offer as this side sent or received it; 32 bytes."""
    accepted: bytes
    """The same of the answer."""
    methods: tuple[str, ...]
    """Ceremonies that this side can do."""
    tries: Tries
    attestations: tuple[Attestation, ...] = ()
    hello_last: bool = False
    """Show our identity only to a peer whose own was accepted."""
    own_fingerprint: bytes = field(init=False, repr=False)
    """Of our identity."""

    def __post_init__(self) -> None:
        if self.hello_last and self.role is Role.INITIATOR:
            # Two sides that both wait would wait for ever, so only one may.
            raise ValueError("only the responder may say its hello last")
        try:
            check_attestations(self.attestations)
            fingerprint = identity_fingerprint(self.credentials.identity)
        except PeerError as error:
            raise ValueError(str(error)) from None
        object.__setattr__(self, "own_fingerprint", fingerprint)
        if len(to_xml(build_hello(self.hello()))) > MAX_PLAINTEXT:
            raise ValueError("a hello that is too long for a sealed message")

    @property
    def own(self) -> str:
        """Our bare JID."""
        return self.initiator if self.role is Role.INITIATOR else self.responder

    @property
    def peer(self) -> str:
        """The peer's bare JID."""
        return self.responder if self.role is Role.INITIATOR else self.initiator

    def hello(self) -> Hello:
        """What we say first."""
        return Hello(
            identity=self.credentials.identity,
            offered=self.offered,
            accepted=self.accepted,
            methods=self.methods,
            attestations=self.attestations,
        )

    def exporter_context(self, peer_leaf: bytes) -> bytes:
        """See ``exporter.context``; ``peer_leaf`` is DER, as shown in the handshake."""
        leaves = (self.credentials.leaf, peer_leaf)
        if self.role is Role.RESPONDER:
            leaves = (peer_leaf, self.credentials.leaf)
        return exporter.context(self.sid, self.initiator, self.responder, *leaves)


class Conversation:
    """Both directions of sealed messages in one epoch.

    Args:
        session: what it is about.
        keys: of this epoch.
        peer_leaf: DER, as shown in the handshake.
        wall: the time of day, aware.
        emit: takes the events.
        epoch: number of the association.
    """

    def __init__(
        self,
        session: Session,
        keys: exporter.Keys,
        peer_leaf: bytes,
        wall: datetime,
        emit: Callable[[Event], None],
        epoch: int = 0,
    ) -> None:
        own, other = session.role, session.role.other
        self._session = session
        self._binding = keys.binding
        self._peer_leaf = peer_leaf
        self._wall = wall
        self._emit = emit
        self._sealer = Sealer(keys.sealing(own), session.sid, own, epoch)
        self._opener = Opener(keys.sealing(other), session.sid, other, epoch)
        self._ceremonies: Ceremonies | None = None
        self.hello: Hello | None = None
        """The peer's, once it was accepted."""
        self.peer_fingerprint = b""
        """Of the peer's identity, once its hello was accepted."""

    def begin(self) -> None:
        """The handshake is done: say hello, unless we say ours last."""
        if not self._session.hello_last:
            self._send(build_hello(self._session.hello()))

    def receive_hello(self, message: SealedMessage) -> None:
        """The first message of the peer.

        Raises:
            PeerError: not a hello that can be accepted, or not openable: ``<security-error/>``.
        """
        hello = parse_hello(self._opener.open(message))
        session = self._session
        self.peer_fingerprint = self._check(hello)
        if session.hello_last:
            self._send(build_hello(session.hello()))
        self.hello = hello
        own, other = session.own_fingerprint, self.peer_fingerprint
        initiator, responder = (own, other) if session.role is Role.INITIATOR else (other, own)
        self._ceremonies = Ceremonies(
            role=session.role,
            binding=self._binding,
            initiator_fingerprint=initiator,
            responder_fingerprint=responder,
            methods=[method for method in session.methods if method in hello.methods],
            tries=session.tries,
        )

    def receive(self, element: Element, now: float) -> None:
        """A ``<sealed/>`` after both hellos.

        Raises:
            PeerError: a gap, a repeat, a bad tag, or nothing that can be understood. It was
                reported, and has ended a ceremony that had spent its try.
        """
        try:
            message = parse_sealed(element)
        except PeerError as error:
            self.disturbed(str(error), now)
            raise
        self.receive_parsed(message, now)

    def receive_parsed(self, message: SealedMessage, now: float) -> None:
        """The same for one that was kept. Raises: as ``receive``."""
        try:
            element = self._opener.open(message)
            self._tell(self.people().receive(element, now))
        except PeerError as error:
            self.disturbed(str(error), now)
            raise

    def people(self) -> Ceremonies:
        """The ceremonies.

        Raises:
            NotAvailable: before both hellos are right.
        """
        if self._ceremonies is None:
            raise NotAvailable("This channel is not protected")
        return self._ceremonies

    def start_sas(self, now: float) -> None:
        """See ``Protection``. Raises: NotAvailable."""
        self._tell(self.people().start_sas(now))

    def start_password(self, secret: str, now: float) -> None:
        """See ``Protection``. Raises: InvalidArgument, NotAvailable."""
        self._tell(self.people().start_password(secret, now))

    def confirm_sas(self, match: bool, now: float) -> None:
        """See ``Protection``. Raises: NotAvailable."""
        self._tell(self.people().confirm_sas(match, now))

    def tell_verdict(self, value: str, method: str) -> None:
        """See ``Protection``."""
        self._send(build_verdict(value, method))

    def disturbed(self, why: str, now: float) -> None:
        """Report it, and end a ceremony that has spent its try; no verdict gets better by it."""
        self._emit(Reported(why))
        if self._ceremonies is not None:
            self._tell(self._ceremonies.disturbed(why, now))

    def abandon(self, why: str, now: float) -> None:
        """The epoch is over: what runs has failed, and the user is told."""
        if self._ceremonies is not None:
            self._tell(self._ceremonies.abandon(why, now))

    def deadline(self) -> float | None:
        """When to call ``tick``, or None."""
        return None if self._ceremonies is None else self._ceremonies.deadline()

    def tick(self, now: float) -> None:
        """Ends a ceremony that took too long."""
        if self._ceremonies is not None:
            self._tell(self._ceremonies.tick(now))

    # -- inside -------------------------------------------------------------------------------

    def _check(self, hello: Hello) -> bytes:
        """That the peer is who the signalling says, and saw the same offer and answer.

        Returns:
            Its identity fingerprint.
        """
        session = self._session
        if VERSION not in hello.versions:
            raise SecurityError("no common version of the verification messages")
        # If what one side sent is not what the other received, somebody between them has changed
        # it: a server that swaps a file's name or takes a fingerprint out.
        if not hmac.compare_digest(hello.offered, session.offered):
            raise SecurityError("the offer was changed on its way")
        if not hmac.compare_digest(hello.accepted, session.accepted):
            raise SecurityError("the answer was changed on its way")
        fingerprint = check_identity(hello.identity, self._peer_leaf, session.peer, self._wall)
        # Somebody who has our own key under another address has stolen it.
        if fingerprint == session.own_fingerprint and session.own != session.peer:
            raise SecurityError("our own identity under another address")
        return fingerprint

    def _tell(self, events: Iterable[CeremonyEvent]) -> None:
        for event in events:
            if isinstance(event, Send):
                self._send(event.element)
            else:
                self._emit(event)

    def _send(self, element: Element) -> None:
        self._emit(SendSealed(self._sealer.seal(element)))
