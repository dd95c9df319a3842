"""One run of the password method, from start to verdict (xtls-wire, section 5, "Password").

starter                              other
STARTED     -- pake-start -->        ASKED       his user is asked for the password
            <-- pake-reply --        ANSWERED    his user gave one: his try is spent
(verdict)   -- pake-confirm -->      (verdict)   the starter's try was spent with the reply

The side that answers shows its tag first, so a stranger who starts has one guess for each reply;
that is why the reply spends a try, whatever comes after it, or does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages, pake
from telepathy_e2e.verify.events import CeremonyEnded, Event, Outcome, Reported, Send
from telepathy_e2e.verify.messages import CancelReason, Message
from telepathy_e2e.verify.run import TIMEOUT, Session


class State(Enum):
    """Named by what is awaited."""

    STARTED = "started"
    """Our share is out; the other's reply is awaited."""
    ASKED = "asked"
    """The other started; this user's password is awaited."""
    ANSWERED = "answered"
    """Our share and tag are out; the other's tag is awaited."""
    ENDED = "ended"


class Move(Enum):
    """All that can happen to a run. The values of the peer's are the tags."""

    ANSWER = "answer"
    CANCEL = "cancel"
    REPLY = "pake-reply"
    CONFIRM = "pake-confirm"


# The legal moves. A local one that is not here raises NotAvailable and changes nothing; a message
# that is not here is out of place and ends the run.
MOVES: Final[Mapping[tuple[State, Move], State]] = {
    (State.STARTED, Move.REPLY): State.ENDED,
    (State.ASKED, Move.ANSWER): State.ANSWERED,
    (State.ANSWERED, Move.CONFIRM): State.ENDED,
    (State.STARTED, Move.CANCEL): State.ENDED,
    (State.ASKED, Move.CANCEL): State.ENDED,
    (State.ANSWERED, Move.CANCEL): State.ENDED,
}


class PakeRun:
    """One run. Ends with a ``CeremonyEnded`` as the last event of a list.

    Args:
        session: what it is bound to.
        ceremony: the ``id``.
        share: the peer's, if the peer started; None: we start.
        now: monotonic seconds.
    """

    method: Final = "password"

    def __init__(
        self, session: Session, ceremony: str, now: float, share: bytes | None = None
    ) -> None:
        self._session = session
        self.id = ceremony
        self._peer_share = share
        self._party: pake.Party | None = None
        self.secret: bytes | None = None
        """PRS, only where it may be needed once more: see ``begin``."""
        self.state = State.STARTED if share is None else State.ASKED
        self.deadline = now + TIMEOUT
        self.spent = False

    @property
    def ours_unanswered(self) -> bool:
        """See ``Run``."""
        return self.state is State.STARTED

    @property
    def awaits_agreement(self) -> bool:
        """See ``Run``: the peer started and this user has given no password."""
        return self.state is State.ASKED

    def begin(self, secret: bytes) -> list[Event]:
        """What opens our own run; call it once, first.

        Args:
            secret: PRS. The Jingle responder keeps it until there is an answer: if the starts
                crossed, its own is dropped and this answers the initiator's.
        """
        if self._session.role is Role.RESPONDER:
            self.secret = secret
        self._party = self._join(secret)
        start = messages.build("pake-start", self.id, self._party.share, suite=pake.SUITE)
        return [Send(start)]

    def answer(self, secret: bytes, now: float) -> list[Event]:
        """This user gave the password to what the peer started: only now our share goes out.

        Raises:
            NotAvailable: not awaited, or no try left.
        """
        try:
            target = MOVES[self.state, Move.ANSWER]
        except KeyError:
            raise NotAvailable("No password is awaited now") from None
        party = self._join(secret)
        try:
            # Before anything goes out that depends on the password.
            party.meet(self._peer_share or b"")
        except pake.RefusedShare as error:
            return self._refused(error)
        self._spend(now)
        self.state = target
        self._party = party
        return [Send(messages.build_reply(self.id, party.share, party.tag()))]

    def receive(self, message: Message, now: float) -> list[Event]:
        """See ``Run``."""
        try:
            move = Move(message.name)
            MOVES[self.state, move]
        except (ValueError, KeyError):
            return self._abort("out-of-place", "A verification message came out of place")
        party = self._party
        if party is None:
            raise AssertionError("a password run that awaits a message without having sent one")
        if move is Move.REPLY:
            return self._check_reply(party, message, now)
        if not party.knows(message.tag):
            return self._wrong()
        return [self._verified()]

    def end(self, outcome: Outcome, reason: str) -> CeremonyEnded:
        """See ``Run``."""
        self.state = State.ENDED
        self._party = None
        self.secret = None
        return CeremonyEnded(outcome, self.method, reason, self.spent)

    # -- inside -------------------------------------------------------------------------------

    def _join(self, secret: bytes) -> pake.Party:
        session = self._session
        return pake.Party(
            starts=self._peer_share is None,
            role=session.role,
            binding=session.binding,
            ceremony=self.id,
            initiator_fingerprint=session.initiator_fingerprint,
            responder_fingerprint=session.responder_fingerprint,
            secret=secret,
        )

    def _check_reply(self, party: pake.Party, message: Message, now: float) -> list[Event]:
        """We started; the reply is the other's one guess, right or wrong."""
        try:
            self._spend(now)
        except NotAvailable:
            # Other sessions with this contact have used up the day meanwhile.
            cancel = Send(messages.build_cancel(self.id, CancelReason.REFUSED))
            return [cancel, self.end(Outcome.FAILED, "tries")]
        try:
            party.meet(message.content)
        except pake.RefusedShare as error:
            return self._refused(error)
        # Our tag goes out only to somebody who has proved that he knows the password.
        if not party.knows(message.tag):
            return self._wrong()
        confirm = Send(messages.build("pake-confirm", self.id, party.tag()))
        return [confirm, self._verified()]

    def _verified(self) -> CeremonyEnded:
        self._session.tries.succeeded()
        return self.end(Outcome.VERIFIED, "")

    def _spend(self, now: float) -> None:
        self._session.tries.spend(now)
        self.spent = True
        self.deadline = now + TIMEOUT

    def _wrong(self) -> list[Event]:
        """The passwords differ, or somebody is in between: one looks like the other."""
        reason = CancelReason.WRONG_PASSWORD
        cancel = Send(messages.build_cancel(self.id, reason))
        return [cancel, self.end(Outcome.FAILED, reason.value)]

    def _refused(self, error: pake.RefusedShare) -> list[Event]:
        return self._abort("bad-share", f"The password method was attacked: {error}")

    def _abort(self, reason: str, text: str) -> list[Event]:
        cancel = Send(messages.build_cancel(self.id, CancelReason.ERROR))
        return [cancel, Reported(text), self.end(Outcome.FAILED, reason)]
