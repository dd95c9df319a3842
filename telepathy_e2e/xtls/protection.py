"""The protection of one stream: handshake, hellos, ceremonies, payload.

``Protection`` puts the parts of this package together. It takes bytes from the transport and
sealed messages from the signalling, and gives bytes for the transport and events; it does no I/O
and reads no clock. Ask ``events()`` after every call, and call ``tick`` at ``deadline()``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.xtls.association import (
    HELLO_TIMEOUT,
    MAX_EARLY,
    Association,
    Handshake,
    State,
)
from telepathy_e2e.xtls.conversation import Session
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
from telepathy_e2e.xtls.identity import check_leaf
from telepathy_e2e.xtls.offer import Fingerprint

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
    "Session",
    "StringReady",
]

# Seconds; a handshake is four kilobytes and asks nobody, so that it needs no more even over the
# slowest transport.
HANDSHAKE_TIMEOUT = 30.0

# Bytes from the transport that wait while nobody reads. Who looks at ``payload_waits`` never comes
# near it; it stops a peer that sends payload before it may be read, and a caller that forgot.
MAX_HELD = 4 * 1024 * 1024

# What ``read`` gives at most unless told otherwise.
READ_SIZE = 256 * 1024


class Protection(Association):
    """The protection of one stream of a Jingle session.

    Args:
        session: what both hellos are about.
        peer_fingerprints: from the peer's ``<security/>``.
        epoch: number of this stream's association in the session.
    """

    def __init__(
        self, session: Session, peer_fingerprints: Sequence[Fingerprint], *, epoch: int = 0
    ) -> None:
        super().__init__(session)
        self._peer_fingerprints = tuple(peer_fingerprints)
        self._epoch = epoch
        self._engine: Engine | None = None
        self._wall: datetime | None = None
        self._cut = False

    # -- the transport ------------------------------------------------------------------------

    def start(self, now: float, wall: datetime) -> None:
        """The transport is up; then ask ``data_to_send``.

        Args:
            now: monotonic, seconds.
            wall: the time of day, aware; certificates are judged by it.
        """
        if self._state is State.FAILED:
            return
        if self._state is not State.IDLE:
            raise ValueError("started already")
        fingerprints = self._peer_fingerprints

        def check_peer(leaf: bytes) -> None:
            check_leaf(leaf, fingerprints, wall)

        credentials = self._session.credentials
        self._engine = Engine(self._session.role, credentials.key, credentials.leaf, check_peer)
        self._now, self._wall = now, wall
        self._state = State.HANDSHAKE
        self._deadline = now + HANDSHAKE_TIMEOUT
        self._try(self._engine.start)

    def receive_data(self, data: Buffer, now: float) -> None:
        """Bytes from the transport. Then ask ``data_to_send``, and ``read``, once protected."""
        self._now = now
        if self._state is State.FAILED:
            return
        engine = self._started()
        if engine.held >= MAX_HELD:
            self._fail("more was sent than could be read by now")
        elif self._try(lambda: engine.receive(data)):
            if self._state is State.HANDSHAKE and engine.established:
                self._established(engine)
            if self._state is State.AWAITING_HELLO:
                # A client is done before the server has judged its certificate; then the alert
                # is what comes next.
                self._look(engine)

    def receive_eof(self, now: float) -> None:
        """The transport ended; may be called again."""
        if self._state is State.FAILED:
            return
        engine = self._started()
        if self._try(engine.receive_eof):
            self._look(engine)

    def data_to_send(self) -> bytes:
        """Bytes for the transport, all that is pending; after a failure the alert."""
        return b"" if self._engine is None else self._engine.data_to_send()

    # -- payload ------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Plaintext in, any length; then ``data_to_send``.

        Raises:
            NotAvailable: not protected yet, our direction was closed, or the protection failed.
        """
        engine = self._engine
        # The promise of this program: nothing of the user's leaves before both hellos are right.
        if self._state is not State.PROTECTED or engine is None:
            raise NotAvailable("This channel is not protected")
        if not self._try(lambda: engine.write(data)):
            raise NotAvailable("The protection of this channel failed")

    def read(self, limit: int = READ_SIZE) -> bytes:
        """Plaintext that arrived, at most ``limit`` bytes; ``b""`` if none is there now.

        What it found on the way (a failure, the end) is in ``events()`` and ``peer_closed``.
        """
        engine = self._engine
        # ... and nothing of a stranger's is given to the user before.
        if self._state is not State.PROTECTED or engine is None:
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
    def may_have_more(self) -> bool:
        """``read`` has not seen all that came, be it payload or a failure."""
        return self._engine is not None and self._engine.held > 0

    @property
    def payload_waits(self) -> bool:
        """Plaintext waits for ``read``, so do not take more from the transport for now: a peer
        that is protected earlier than we are may send as fast as the transport is."""
        engine = self._engine
        if engine is None or self._state is State.FAILED:
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
        if self._engine is not None and self._state is not State.FAILED:
            self._try(self._engine.close)

    # -- inside -------------------------------------------------------------------------------

    def _established(self, engine: Engine) -> None:
        """TLS is done on this side; whoever is there has the key of the announced leaf."""
        if self._wall is None:
            raise AssertionError("a handshake without a start")
        handshake = Handshake(engine.peer_leaf, engine.cipher_suite, engine.key_exchange)
        if engine.protocol == ALPN:
            self._converse(handshake, engine.export, self._wall, self._epoch)
        else:
            self._without_messages(handshake)

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

    def _try(self, step: Callable[[], object]) -> bool:
        """Do something that may fail the protection; whether it did not."""
        try:
            step()
        except SecurityError as error:
            self._fail(str(error))
            return False
        return True
