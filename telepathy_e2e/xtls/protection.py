"""The protection of one session: handshake, hellos, ceremonies, payload.

``Protection`` puts the parts of this package together. It takes bytes from the transport and
sealed messages from the signalling, and gives bytes for the transport and events; it does no I/O
and reads no clock. Ask ``events()`` after every call, and call ``tick`` at ``deadline()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum, auto
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.ceremony import Tries
from telepathy_e2e.xtls import exporter
from telepathy_e2e.xtls.conversation import Conversation, Session
from telepathy_e2e.xtls.engine import ALPN, Buffer, Engine
from telepathy_e2e.xtls.events import (
    CeremonyEnded,
    Event,
    Failed,
    Outcome,
    PeerStarted,
    PeerVerdict,
    Protected,
    Reported,
    SendSealed,
    StringReady,
)
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.identity import Credentials, check_leaf, identity_fingerprint
from telepathy_e2e.xtls.offer import Fingerprint
from telepathy_e2e.xtls.sealed import SealedMessage, parse_sealed

__all__ = [
    "HANDSHAKE_TIMEOUT",
    "HELLO_TIMEOUT",
    "MAX_EARLY",
    "MAX_HELD",
    "READ_SIZE",
    "Attestation",
    "CeremonyEnded",
    "Event",
    "Failed",
    "Outcome",
    "PeerStarted",
    "PeerVerdict",
    "Protected",
    "Protection",
    "Reported",
    "SendSealed",
    "StringReady",
]

# Seconds. The hello's is from the wire format; a handshake is four kilobytes and asks nobody, so
# that it needs no more even over the slowest transport.
HELLO_TIMEOUT = 30.0
HANDSHAKE_TIMEOUT = 30.0

# Sealed messages that came before our handshake was done; from the wire format. Only one, the
# hello, has a reason to.
MAX_EARLY = 16

# Bytes from the transport that wait while nobody reads. Who looks at ``payload_waits`` never comes
# near it; it stops a peer that sends payload before it may be read, and a caller that forgot.
MAX_HELD = 4 * 1024 * 1024

# What ``read`` gives at most unless told otherwise.
READ_SIZE = 256 * 1024


class _State(Enum):
    IDLE = auto()
    """The transport is not up yet."""
    HANDSHAKE = auto()
    AWAITING_HELLO = auto()
    PROTECTED = auto()
    FAILED = auto()


class Protection:
    """The protection of one Jingle session over one stream.

    Args:
        role: ours in the Jingle session.
        sid: of the session.
        initiator, responder: bare JIDs, normalised, from ``from`` and ``to`` of the stanzas.
        credentials: key, leaf and identity certificate of this session.
        peer_fingerprints: from the peer's ``<security/>``.
        offered, accepted: ``offer_digest`` of both, as this side sent or received them; 32 bytes.
        methods: ceremonies that this side can do, of ``sas``, ``password``.
        tries: of the session.
        attestations: what goes out with our identity.
        hello_last: show our identity only to a peer whose own was accepted. At most one side may,
            and that is the responder.
    Raises:
        ValueError: what makes no sense together.
    """

    def __init__(
        self,
        *,
        role: Role,
        sid: str,
        initiator: str,
        responder: str,
        credentials: Credentials,
        peer_fingerprints: Sequence[Fingerprint],
        offered: bytes,
        accepted: bytes,
        methods: Iterable[str],
        tries: Tries,
        attestations: Sequence[Attestation] = (),
        hello_last: bool = False,
    ) -> None:
        self._session = Session(
            role=role,
            sid=sid,
            initiator=initiator,
            responder=responder,
            credentials=credentials,
            offered=offered,
            accepted=accepted,
            methods=tuple(methods),
            tries=tries,
            attestations=tuple(attestations),
            hello_last=hello_last,
        )
        self._peer_fingerprints = tuple(peer_fingerprints)
        self._state = _State.IDLE
        self._engine: Engine | None = None
        self._wall: datetime | None = None
        self._now = 0.0  # when bytes came last
        self._deadline: float | None = None
        self._early: list[SealedMessage] = []
        self._conversation: Conversation | None = None
        self._cut = False
        self._events: list[Event] = []

    # -- the transport ------------------------------------------------------------------------

    def start(self, now: float, wall: datetime) -> None:
        """The transport is up; then ask ``data_to_send``.

        Args:
            now: monotonic, seconds.
            wall: the time of day, aware; certificates are judged by it.
        """
        if self._state is _State.FAILED:
            return
        if self._state is not _State.IDLE:
            raise ValueError("started already")
        fingerprints = self._peer_fingerprints

        def check_peer(leaf: bytes) -> None:
            check_leaf(leaf, fingerprints, wall)

        credentials = self._session.credentials
        self._engine = Engine(self._session.role, credentials.key, credentials.leaf, check_peer)
        self._now, self._wall = now, wall
        self._state = _State.HANDSHAKE
        self._deadline = now + HANDSHAKE_TIMEOUT
        self._try(self._engine.start)

    def receive_data(self, data: Buffer, now: float) -> None:
        """Bytes from the transport. Then ask ``data_to_send``, and ``read``, once protected."""
        self._now = now
        if self._state is _State.FAILED:
            return
        engine = self._started()
        if engine.held >= MAX_HELD:
            self._fail("more was sent than could be read by now")
        elif self._try(lambda: engine.receive(data)):
            if self._state is _State.HANDSHAKE and engine.established:
                self._established(engine)
            if self._state is _State.AWAITING_HELLO:
                # A client is done before the server has judged its certificate; then the alert
                # is what comes next.
                self._look(engine)

    def receive_eof(self, now: float) -> None:
        """The transport ended; may be called again."""
        if self._state is _State.FAILED:
            return
        engine = self._started()
        if self._try(engine.receive_eof):
            self._look(engine)

    def data_to_send(self) -> bytes:
        """Bytes for the transport, all that is pending; after a failure the alert."""
        return b"" if self._engine is None else self._engine.data_to_send()

    # -- the signalling -----------------------------------------------------------------------

    def receive_sealed(self, element: Element, now: float) -> None:
        """A ``<sealed/>`` from security-info.

        Raises:
            PeerError: answer the stanza with it. Before both hellos are right that is a failure
                instead, told by ``Failed``.
        """
        if self._state is _State.FAILED:
            raise PeerError("a sealed message after the protection failed")
        if self._state is _State.PROTECTED:
            if self._conversation is None:
                raise PeerError("a sealed message in a session without them")
            self._conversation.receive(element, now)
            return
        try:
            message = parse_sealed(element)
        except PeerError as error:
            self._fail(str(error))
            return
        if self._conversation is not None:
            self._receive_hello(self._conversation, message)
        elif len(self._early) < MAX_EARLY:
            self._early.append(message)
        else:
            self._fail("too many sealed messages before the handshake was done")

    def sealed_refused(self, now: float) -> None:
        """The peer answered one of ours with an error: it has not acted on it."""
        if self._state is not _State.PROTECTED:
            self._fail("the hello was refused")
        elif self._conversation is not None:
            self._conversation.disturbed("a sealed message was refused", now)

    # -- what happened, and when to come back -------------------------------------------------

    def events(self) -> list[Event]:
        """What happened since the last call, in order. Nothing comes after a ``Failed`` with
        ``security-error``."""
        events, self._events = self._events, []
        return events

    def deadline(self) -> float | None:
        """When to call ``tick``, or None."""
        if self._state is _State.PROTECTED and self._conversation is not None:
            return self._conversation.deadline()
        return self._deadline

    def tick(self, now: float) -> None:
        """Time has passed; does nothing before the deadline."""
        if self._state is _State.PROTECTED and self._conversation is not None:
            self._conversation.tick(now)
        elif self._deadline is not None and now >= self._deadline:
            awaited = "handshake" if self._state is _State.HANDSHAKE else "hello"
            self._fail(f"the {awaited} took too long")

    # -- payload ------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Plaintext in, any length; then ``data_to_send``.

        Raises:
            NotAvailable: not protected yet, our direction was closed, or the protection failed.
        """
        engine = self._engine
        # The promise of this program: nothing of the user's leaves before both hellos are right.
        if self._state is not _State.PROTECTED or engine is None:
            raise NotAvailable("This channel is not protected")
        if not self._try(lambda: engine.write(data)):
            raise NotAvailable("The protection of this channel failed")

    def read(self, limit: int = READ_SIZE) -> bytes:
        """Plaintext that arrived, at most ``limit`` bytes; ``b""`` if none is there now.

        What it found on the way (a failure, the end) is in ``events()`` and ``peer_closed``.
        """
        engine = self._engine
        # ... and nothing of a stranger's is given to the user before.
        if self._state is not _State.PROTECTED or engine is None:
            return b""
        data = b""
        try:
            data = engine.read(limit)
        except SecurityError as error:
            self._fail(str(error))
        else:
            self._check_cut(engine)
        return data

    @property
    def payload_waits(self) -> bool:
        """Plaintext waits for ``read``, so do not take more from the transport for now: a peer
        that is protected earlier than we are may send as fast as the transport is."""
        engine = self._engine
        if engine is None or self._state is _State.FAILED:
            return False
        try:
            return engine.waiting()
        except SecurityError as error:
            self._fail(str(error))
            return False

    @property
    def peer_closed(self) -> bool:
        """Their close_notify was read, and everything before it."""
        return self._engine is not None and self._engine.peer_closed

    def close(self) -> None:
        """Our close_notify; then ``data_to_send``. The other direction goes on. Nothing happens
        before the handshake is done and after a failure."""
        if self._engine is not None and self._state is not _State.FAILED:
            self._try(self._engine.close)

    # -- people -------------------------------------------------------------------------------

    def start_sas(self, now: float) -> None:
        """Begin to compare short strings, or agree to the other's beginning.

        Raises:
            NotAvailable: not now, or not with this peer; the text is for the user.
        """
        self._people().start_sas(now)

    def start_password(self, secret: str, now: float) -> None:
        """Begin to verify by a shared password, or answer the other's beginning with it.

        Args:
            secret: what this user typed.
        Raises:
            InvalidArgument: empty, or no password at all.
            NotAvailable: not now, or not with this peer; the text is for the user.
        """
        self._people().start_password(secret, now)

    def confirm_sas(self, match: bool, now: float) -> None:
        """What this user says of the two strings.

        Raises:
            NotAvailable: there is nothing to confirm.
        """
        self._people().confirm_sas(match, now)

    def tell_verdict(self, value: str, method: str) -> None:
        """Tell the peer what this side holds of it now, if it can be told.

        Args:
            value: ``verified``, ``unverified`` or ``rejected``.
            method: how, or empty.
        """
        if self._state is _State.PROTECTED and self._conversation is not None:
            self._conversation.tell_verdict(value, method)

    # -- inside -------------------------------------------------------------------------------

    def _established(self, engine: Engine) -> None:
        """TLS is done on this side; whoever is there has the key of the announced leaf."""
        if self._wall is None:
            raise AssertionError("a handshake without a start")
        early, self._early = self._early, []
        if engine.protocol != ALPN:
            if early:
                self._events.append(Reported("sealed messages of a peer without them were dropped"))
            self._protected(engine, None)
            return
        context = self._session.exporter_context(engine.peer_leaf)
        keys = exporter.split(engine.export(exporter.LABEL, context, exporter.LENGTH))
        conversation = Conversation(self._session, keys, engine.peer_leaf, self._wall, self._emit)
        self._conversation = conversation
        self._state = _State.AWAITING_HELLO
        self._deadline = self._now + HELLO_TIMEOUT
        conversation.begin()
        for message in early:
            if self._state is _State.AWAITING_HELLO:
                self._receive_hello(conversation, message)
            elif self._state is _State.PROTECTED:
                try:
                    conversation.receive_parsed(message, self._now)
                except PeerError:
                    continue  # reported; its stanza was answered long ago

    def _receive_hello(self, conversation: Conversation, message: SealedMessage) -> None:
        try:
            conversation.receive_hello(message)
        except PeerError as error:
            self._fail(str(error))
        else:
            self._protected(self._started(), conversation)

    def _protected(self, engine: Engine, conversation: Conversation | None) -> None:
        self._state = _State.PROTECTED
        self._deadline = None
        hello = None if conversation is None else conversation.hello
        if conversation is None or hello is None:
            # Without hello the leaf is the identity, theirs for us and ours for them.
            peer = identity_fingerprint(engine.peer_leaf)
            own = identity_fingerprint(self._session.credentials.leaf)
        else:
            peer, own = conversation.peer_fingerprint, self._session.own_fingerprint
        self._events.append(
            Protected(
                identity_certificate=None if hello is None else hello.identity,
                peer_fingerprint=peer,
                own_fingerprint=own,
                leaf_only=hello is None,
                cipher_suite=engine.cipher_suite,
                key_exchange=engine.key_exchange,
                peer_methods=() if hello is None else hello.methods,
                attestations=() if hello is None else hello.attestations,
                peer_leaf=engine.peer_leaf,
            )
        )

    def _people(self) -> Conversation:
        if self._state is not _State.PROTECTED:
            raise NotAvailable("This channel is not protected")
        if self._conversation is None:
            raise NotAvailable("The other side's client knows no verification messages")
        return self._conversation

    def _look(self, engine: Engine) -> None:
        """See alerts, the clean end and the cut, without taking plaintext."""
        if self._try(engine.waiting):
            self._check_cut(engine)

    def _check_cut(self, engine: Engine) -> None:
        if engine.cut and not self._cut:
            self._cut = True
            self._events.append(Failed("failed-transport", "the connection was cut"))

    def _started(self) -> Engine:
        if self._engine is None:
            raise ValueError("the protection was not started")
        return self._engine

    def _emit(self, event: Event) -> None:
        self._events.append(event)

    def _try(self, step: Callable[[], object]) -> bool:
        """Do something that may fail the protection; whether it did not."""
        try:
            step()
        except SecurityError as error:
            self._fail(str(error))
            return False
        return True

    def _fail(self, text: str) -> None:
        """The first failure is the one that counts."""
        if self._state is _State.FAILED:
            return
        if self._conversation is not None:
            self._conversation.abandon(text, self._now)
        self._state = _State.FAILED
        self._deadline = None
        self._early.clear()
        self._events.append(Failed("security-error", text))
