"""One comparison of short strings, from commitment to verdict (xtls-wire, section 5, "SAS").

starter                              other
COMMITTED   -- sas-commit -->        ASKED       his user is asked
            <-- sas-nonce --         AGREED      his user agreed: his try is spent
COMPARING   -- sas-reveal -->        COMPARING   the starter's try is spent with it
            <- sas-result ->                     both users say what they saw
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages, sas
from telepathy_e2e.verify.events import CeremonyEnded, Event, Outcome, Reported, Send, StringReady
from telepathy_e2e.verify.messages import CancelReason, Message
from telepathy_e2e.verify.run import TIMEOUT, Session


class State(Enum):
    """Named by what is awaited or known."""

    COMMITTED = "committed"
    """We promised; the other's nonce is awaited."""
    ASKED = "asked"
    """The other promised; this user's agreement is awaited."""
    AGREED = "agreed"
    """Our nonce is out; the reveal is awaited."""
    COMPARING = "comparing"
    """The string is shown; this user's word is awaited."""
    ENDED = "ended"


class Move(Enum):
    """All that can happen to a comparison. The values of the peer's are the tags."""

    AGREE = "agree"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    NONCE = "sas-nonce"
    REVEAL = "sas-reveal"
    RESULT = "sas-result"


# The legal moves. A local one that is not here raises NotAvailable and changes nothing; a message
# that is not here is out of place and ends the comparison.
MOVES: Final[Mapping[tuple[State, Move], State]] = {
    (State.COMMITTED, Move.NONCE): State.COMPARING,
    (State.ASKED, Move.AGREE): State.AGREED,
    # A reveal while ASKED is not here, and must not be: whoever has shown his nonce before he
    # saw ours cannot be told from one who chose it after.
    (State.AGREED, Move.REVEAL): State.COMPARING,
    (State.COMPARING, Move.RESULT): State.COMPARING,
    (State.COMPARING, Move.CONFIRM): State.ENDED,
    (State.COMMITTED, Move.CANCEL): State.ENDED,
    (State.ASKED, Move.CANCEL): State.ENDED,
    (State.AGREED, Move.CANCEL): State.ENDED,
    (State.COMPARING, Move.CANCEL): State.ENDED,
}


class SasRun:
    """One comparison. Ends with a ``CeremonyEnded`` as the last event of a list.

    Args:
        session: what it is bound to.
        ceremony: the ``id``.
        commitment: the peer's, if the peer started; None: we start.
        now: monotonic seconds.
    """

    method: Final = "sas"

    def __init__(
        self, session: Session, ceremony: str, now: float, commitment: bytes | None = None
    ) -> None:
        self._session = session
        self.id = ceremony
        self._nonce = session.random(sas.NONCE_SIZE)
        self._peer_commitment = commitment
        self.state = State.COMMITTED if commitment is None else State.ASKED
        self.deadline = now + TIMEOUT
        self.spent = False

    @property
    def ours_unanswered(self) -> bool:
        """We began and nothing came back: the one time at which a start of the peer crosses."""
        return self.state is State.COMMITTED

    @property
    def awaits_agreement(self) -> bool:
        """The peer began and this user has not agreed."""
        return self.state is State.ASKED

    def begin(self) -> list[Event]:
        """What opens our own comparison; call it once, first."""
        session = self._session
        promise = sas.commitment(session.binding, self.id, session.role, self._nonce)
        return [Send(messages.build("sas-commit", self.id, promise))]

    def agree(self, now: float) -> list[Event]:
        """This user wants to compare: only now our nonce goes out.

        Raises:
            NotAvailable: not awaited, or no try left.
        """
        target = self._local(Move.AGREE)
        self._spend(now)
        self.state = target
        return [Send(messages.build("sas-nonce", self.id, self._nonce))]

    def confirm(self, same: bool) -> list[Event]:
        """What this user saw.

        His own eyes are what counts for his verdict. The peer's result is not waited for: it can
        only take something away, now or later.

        Raises:
            NotAvailable: there is no string to compare.
        """
        target = self._local(Move.CONFIRM)
        said = "true" if same else "false"
        result = Send(messages.build("sas-result", self.id, match=said))
        if not same:
            return [result, self.end(Outcome.REJECTED, "mismatch")]
        self.state = target
        self._session.tries.succeeded()
        return [result, self.end(Outcome.VERIFIED, "")]

    def receive(self, message: Message, now: float) -> list[Event]:
        """A message with our id, other than ``<cancel/>``."""
        try:
            move = Move(message.name)
            target = MOVES[self.state, move]
        except (ValueError, KeyError):
            if message.name == Move.RESULT.value and not message.match:
                # A no is believed whenever it comes: at worst the peer harms himself.
                return [self.end(Outcome.REJECTED, "peer-mismatch")]
            return self._abort("out-of-place", "A verification message came out of place")
        if move is Move.NONCE:
            return self._reveal(message.content, target, now)
        if move is Move.REVEAL:
            return self._check(message.content, target)
        if not message.match:
            return [self.end(Outcome.REJECTED, "peer-mismatch")]
        return []

    def end(self, outcome: Outcome, reason: str) -> CeremonyEnded:
        """It is over, whatever was awaited."""
        self.state = State.ENDED
        self._nonce = b""
        return CeremonyEnded(outcome, self.method, reason, self.spent)

    def _local(self, move: Move) -> State:
        try:
            return MOVES[self.state, move]
        except KeyError:
            raise NotAvailable("There is nothing to answer in this comparison now") from None

    def _reveal(self, peer_nonce: bytes, target: State, now: float) -> list[Event]:
        """We started and have the other's nonce: open the commitment and compare."""
        try:
            self._spend(now)
        except NotAvailable:
            # Other sessions with this contact have used up the day meanwhile.
            cancel = Send(messages.build_cancel(self.id, CancelReason.REFUSED))
            return [cancel, self.end(Outcome.FAILED, "tries")]
        self.state = target
        reveal = Send(messages.build("sas-reveal", self.id, self._nonce))
        return [reveal, self._string(self._session.role, self._nonce, peer_nonce)]

    def _check(self, peer_nonce: bytes, target: State) -> list[Event]:
        """The other started: the reveal must be what he promised before he saw our nonce."""
        session, promise = self._session, self._peer_commitment
        peer = session.role.other
        # Before anything is computed: a starter who may choose his nonce after ours would search
        # for one that gives the string he needs (2^30 hashes, seconds).
        if promise is None or not sas.opens(promise, session.binding, self.id, peer, peer_nonce):
            return self._abort("wrong-reveal", "The peer revealed another nonce than it promised")
        self.state = target
        return [self._string(peer, peer_nonce, self._nonce)]

    def _string(self, starter: Role, starter_nonce: bytes, other_nonce: bytes) -> StringReady:
        session = self._session
        nonces = (starter_nonce, other_nonce)
        if starter is Role.RESPONDER:
            nonces = (other_nonce, starter_nonce)
        fingerprints = (session.initiator_fingerprint, session.responder_fingerprint)
        return StringReady(sas.short_string(session.binding, self.id, *fingerprints, *nonces))

    def _spend(self, now: float) -> None:
        self._session.tries.spend(now)
        self.spent = True
        self.deadline = now + TIMEOUT

    def _abort(self, reason: str, text: str) -> list[Event]:
        cancel = Send(messages.build_cancel(self.id, CancelReason.ERROR))
        return [cancel, Reported(text), self.end(Outcome.FAILED, reason)]
