"""What protections of streams and of media have in common: the hellos, then the people.

An association is TLS over a stream (``protection``) or DTLS over datagrams (``dtls_protection``).
Once it is established its keys seal messages in the signalling, the first of which are the hellos.
It does no I/O and reads no clock. Ask ``events()`` after every call, and call ``tick`` at
``deadline()``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.xtls import exporter
from telepathy_e2e.xtls.conversation import Conversation, Session
from telepathy_e2e.xtls.events import Event, Failed, Protected, Reported
from telepathy_e2e.xtls.identity import key_fingerprint
from telepathy_e2e.xtls.sealed import SealedMessage, parse_sealed

# Seconds; from the wire format.
HELLO_TIMEOUT = 30.0

# Sealed messages that came before our handshake was done; from the wire format. Only one, the
# hello, has a reason to.
MAX_EARLY = 16

# Gives key material of the association: label, context, number of bytes (RFC 5705, RFC 8446
# section 7.5).
Export = Callable[[bytes, bytes, int], bytes]


@dataclass(frozen=True)
class Handshake:
    """What a handshake that is done has agreed on.

    Attributes:
        peer_leaf: DER, as shown and checked.
    """

    peer_leaf: bytes
    cipher_suite: str
    key_exchange: str


class State(Enum):
    IDLE = auto()
    """The transport is not up yet."""
    HANDSHAKE = auto()
    AWAITING_HELLO = auto()
    PROTECTED = auto()
    FAILED = auto()


class Association:
    """See the module.

    Args:
        session: what both hellos are about.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = State.IDLE
        self._now = 0.0  # when something came last
        self._deadline: float | None = None
        self._early: list[SealedMessage] = []
        self._handshake: Handshake | None = None
        self._conversation: Conversation | None = None
        self._events: list[Event] = []

    # -- the signalling -----------------------------------------------------------------------

    def receive_sealed(self, element: Element, now: float) -> None:
        """A ``<sealed/>`` from security-info.

        Raises:
            PeerError: answer the stanza with it. Before both hellos are right that is a failure
                instead, told by ``Failed``.
        """
        if self._state is State.FAILED:
            raise PeerError("a sealed message after the protection failed")
        if self._state is State.PROTECTED:
            if self._conversation is None:
                raise PeerError("a sealed message in a session without them")
            self._conversation.receive(element, now)
            return
        try:
            message = parse_sealed(element)
        except PeerError as error:
            self._fail(str(error))
            return
        self.receive_early(message)

    def receive_early(self, message: SealedMessage) -> None:
        """A ``<sealed/>`` that comes, or came, before both hellos are right."""
        if self._conversation is not None:
            self._receive_hello(self._conversation, message)
        elif len(self._early) < MAX_EARLY:
            self._early.append(message)
        else:
            self._fail("too many sealed messages before the handshake was done")

    def sealed_refused(self, now: float) -> None:
        """The peer answered one of ours with an error: it has not acted on it."""
        if self._state is not State.PROTECTED:
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
        if self._state is State.PROTECTED and self._conversation is not None:
            return self._conversation.deadline()
        return self._deadline

    def tick(self, now: float) -> None:
        """Time has passed; does nothing before the deadline."""
        if self._state is State.PROTECTED and self._conversation is not None:
            self._conversation.tick(now)
        elif self._deadline is not None and now >= self._deadline:
            awaited = "handshake" if self._state is State.HANDSHAKE else "hello"
            self._fail(f"the {awaited} took too long")

    @property
    def handshaking(self) -> bool:
        """The handshake has begun and is not done: nothing but the road is needed for it."""
        return self._state is State.HANDSHAKE

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
        if self._state is State.PROTECTED and self._conversation is not None:
            self._conversation.tell_verdict(value, method)

    def abandon(self, why: str, now: float) -> None:
        """Another association takes its place: its keys go, and with them what people compare."""
        if self._conversation is not None:
            self._conversation.abandon(why, now)

    # -- for those who have the association ---------------------------------------------------

    def _converse(
        self, handshake: Handshake, export: Export, wall: datetime, epoch: int = 0
    ) -> None:
        """The handshake is done, and both sides know sealed messages: exchange hellos."""
        context = self._session.exporter_context(handshake.peer_leaf)
        keys = exporter.split(export(exporter.LABEL, context, exporter.LENGTH))
        self._handshake = handshake
        conversation = Conversation(
            self._session, keys, handshake.peer_leaf, wall, self._emit, epoch
        )
        self._conversation = conversation
        self._state = State.AWAITING_HELLO
        self._deadline = self._now + HELLO_TIMEOUT
        conversation.begin()
        early, self._early = self._early, []
        for message in early:
            if self._state is State.AWAITING_HELLO:
                self._receive_hello(conversation, message)
            elif self._state is State.PROTECTED:
                try:
                    conversation.receive_parsed(message, self._now)
                except PeerError:
                    continue  # reported; its stanza was answered long ago

    def _without_messages(self, handshake: Handshake) -> None:
        """The handshake is done, and the leaf is all there is."""
        if self._early:
            self._early.clear()
            self._events.append(Reported("sealed messages of a peer without them were dropped"))
        self._handshake = handshake
        self._protected(None)

    def _receive_hello(self, conversation: Conversation, message: SealedMessage) -> None:
        try:
            conversation.receive_hello(message)
        except PeerError as error:
            self._fail(str(error))
        else:
            self._protected(conversation)

    def _protected(self, conversation: Conversation | None) -> None:
        handshake = self._handshake
        if handshake is None:
            raise AssertionError("protected without a handshake")
        self._state = State.PROTECTED
        self._deadline = None
        hello = None if conversation is None else conversation.hello
        if conversation is None or hello is None:
            # Without hello the leaf is the identity, theirs for us and ours for them.
            peer = self._leaf_fingerprint(handshake.peer_leaf)
            own = self._leaf_fingerprint(self._session.credentials.leaf)
        else:
            peer, own = conversation.peer_fingerprint, self._session.own_fingerprint
        self._events.append(
            Protected(
                identity_certificate=None if hello is None else hello.identity,
                peer_fingerprint=peer,
                own_fingerprint=own,
                leaf_only=hello is None,
                cipher_suite=handshake.cipher_suite,
                key_exchange=handshake.key_exchange,
                peer_methods=() if hello is None else hello.methods,
                attestations=() if hello is None else hello.attestations,
                peer_leaf=handshake.peer_leaf,
            )
        )

    def _leaf_fingerprint(self, leaf: bytes) -> bytes:
        """What people compare where there are no identities."""
        return key_fingerprint(leaf)

    def _people(self) -> Conversation:
        if self._state is not State.PROTECTED:
            raise NotAvailable("This channel is not protected")
        if self._conversation is None:
            raise NotAvailable("The other side's client knows no verification messages")
        return self._conversation

    def _emit(self, event: Event) -> None:
        self._events.append(event)

    def _fail(self, text: str) -> None:
        """The first failure is the one that counts."""
        if self._state is State.FAILED:
            return
        if self._conversation is not None:
            self._conversation.abandon(text, self._now)
        self._state = State.FAILED
        self._deadline = None
        self._early.clear()
        self._events.append(Failed("security-error", text))
