"""The machine behind PeerVerification1: which answer is allowed when, and which one counts.

It knows no channel and no ceremony; it is told what happened and says what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, TypeAlias

from telepathy_e2e.errors import InvalidArgument, NotAvailable, PermissionDenied
from telepathy_e2e.trust import policy as rules
from telepathy_e2e.trust.policy import Close, Demands, Policy, Reason
from telepathy_e2e.verify.events import Outcome
from telepathy_e2e.verify.messages import MAX_METHOD, is_method

# What a ceremony finds out only a ceremony may say: a client that merely claims it would make
# VerifiedBy lie.
CEREMONIES: Final = frozenset({"sas", "password"})

# What answers without a person: not where people are to be asked each time.
IMPERSONAL: Final = frozenset({"pin", "x509", "openpgp", "cross-signature"})

# From the design's table of methods, by an attacker's odds: first what people have compared
# themselves, then the word of others, then memory.
STRENGTH: Final = (
    "fingerprint",
    "sas",
    "password",
    "x509",
    "openpgp",
    "cross-signature",
    "pin",
)


def strongest(methods: Sequence[str]) -> str:
    """The one of ``methods`` that says most; of those that we cannot judge the first.

    Args:
        methods: in the order in which they verified; not empty.
    """
    known = [method for method in STRENGTH if method in methods]
    return known[0] if known else methods[0]


class State(StrEnum):
    """PeerVerification1.State."""

    PENDING = "pending"
    COMPARING = "comparing"
    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    REJECTED = "rejected"


class Stage(Enum):
    """Where a question is: its state, and whether it has been let through already."""

    PENDING = State.PENDING, False
    COMPARING = State.COMPARING, False
    UNVERIFIED = State.UNVERIFIED, True
    COMPARING_ON = State.COMPARING, True
    """A ceremony runs after ProceedUnverified; payload flows."""
    VERIFIED = State.VERIFIED, True
    REJECTED = State.REJECTED, False


class Move(Enum):
    """All that can happen to a question."""

    CEREMONY = "a ceremony began"
    NO_RESULT = "a ceremony ended without a result"
    PROVED = "a ceremony verified the peer"
    DISPROVED = "a ceremony rejected the peer"
    ACCEPT = "somebody vouched"
    PROCEED = "let through unverified"
    REJECT = "the user or his handler said no"


_P, _C, _U, _CO, _V, _R = Stage

# The legal moves. An answer that is not here raises NotAvailable; a ceremony's move that is not
# here says nothing new. Neither changes anything.
MOVES: Final[Mapping[tuple[Stage, Move], Stage]] = {
    (_P, Move.CEREMONY): _C,
    (_U, Move.CEREMONY): _CO,
    (_C, Move.NO_RESULT): _P,
    (_CO, Move.NO_RESULT): _U,
    **{(stage, Move.PROVED): _V for stage in (_P, _C, _U, _CO)},
    # A no is believed late as well: the other user may look at the string after ours has.
    **{(stage, Move.DISPROVED): _R for stage in (_P, _C, _U, _CO, _V)},
    **{(stage, Move.ACCEPT): _V for stage in (_P, _C, _U, _CO)},
    **{(stage, Move.REJECT): _R for stage in (_P, _C, _U, _CO)},
    # Once only. The ceremony that may be running goes on.
    (_P, Move.PROCEED): _U,
    (_C, Move.PROCEED): _U,
}

_ANSWERS: Final = frozenset({_U, _V, _R})


@dataclass(frozen=True)
class StateChanged:
    """PropertiesChanged for State."""

    state: State


@dataclass(frozen=True)
class Answered:
    """An answer counts: ``verified`` and ``unverified`` open the gate, ``rejected`` ends the
    payload channel with ``<security-error/>``. Finished follows; then the question closes,
    except after ``unverified``."""

    state: State
    method: str
    """What verified or rejected, or empty."""


QuestionEvent: TypeAlias = StateChanged | Answered


class Question:
    """One question about one payload channel.

    Args:
        reason: why it is put.
        policy, demands: of the account and of the payload channel's request.
        handler_announced: whether a client had announced a handler when it was put.
        methods: what can be done here and now (PeerVerification1.Methods).
        waits: whether payload waits for the answer.
        always_verify: ``e2e-always-verify``: pins and attestations may not answer.
    """

    def __init__(
        self,
        *,
        reason: Reason,
        policy: Policy,
        demands: Demands,
        handler_announced: bool,
        methods: Sequence[str],
        waits: bool,
        always_verify: bool = False,
    ) -> None:
        self.reason = reason
        self.methods = tuple(methods)
        self.waits = waits
        self._may_proceed = rules.may_proceed(reason, policy, demands)
        self._close = rules.unanswered(reason, policy, demands, handler_announced=handler_announced)
        self._pins_answer = not always_verify
        self._stage = Stage.PENDING
        self._open = True
        self._gone = False

    @property
    def state(self) -> State:
        return self._stage.value[0]

    def check_open(self) -> None:
        """Nothing happens while the question can still be answered.

        Raises:
            NotAvailable: answered for good, or over.
        """
        if not self._open:
            raise NotAvailable("This question is over")
        if self._stage in (Stage.VERIFIED, Stage.REJECTED):
            raise NotAvailable("This question has been answered already")

    # -- answers ------------------------------------------------------------------------------

    def accept(self, method: str) -> list[QuestionEvent]:
        """Somebody vouches for the peer's key.

        Args:
            method: ``fingerprint``, ``pin``, ``x509``, …; never a ceremony's.
        Raises:
            NotAvailable: answered already; or there is no encryption, hence no key that anybody
                could vouch for (no other argument would help, so not InvalidArgument).
            InvalidArgument: not the name of a method, or that of a ceremony.
            PermissionDenied: a pin or an attestation, where people are to be asked each time.
        """
        self.check_open()
        if self.reason is Reason.NO_ENCRYPTION:
            raise NotAvailable("There is no encryption here, so there is no key to vouch for")
        if not is_method(method):
            raise InvalidArgument(
                f"A method is a word of at most {MAX_METHOD} lower-case letters, digits and dashes"
            )
        if method in CEREMONIES:
            raise InvalidArgument(f'"{method}" cannot be claimed; carry the ceremony out')
        if method in IMPERSONAL and not self._pins_answer:
            raise PermissionDenied(f"This account asks people each time; {method} does not count")
        return self._answer(Move.ACCEPT, method)

    def proceed_unverified(self) -> list[QuestionEvent]:
        """Let the data flow and decide later. The question stays open.

        Raises:
            NotAvailable: answered already.
            PermissionDenied: the policy, or a demand for encryption, forbids it.
        """
        self.check_open()
        if (self._stage, Move.PROCEED) not in MOVES:
            raise NotAvailable("This question has been answered already")
        if not self._may_proceed:
            raise PermissionDenied(
                "This channel must not go on unprotected"
                if self.reason is Reason.NO_ENCRYPTION
                else "This account's policy does not let unverified peers through"
            )
        return self._answer(Move.PROCEED, "")

    def reject(self) -> list[QuestionEvent]:
        """It is not he.

        Raises:
            NotAvailable: answered already.
        """
        self.check_open()
        return self._answer(Move.REJECT, "")

    def close(self) -> list[QuestionEvent]:
        """The channel is closed. Unanswered, that is an answer: see ``policy.unanswered``."""
        if not self._open:
            return []
        events: list[QuestionEvent] = []
        if self._stage in (Stage.PENDING, Stage.COMPARING):
            reject = self._close is Close.REJECT
            events = self._answer(Move.REJECT if reject else Move.PROCEED, "")
        self._open = False
        return events

    def payload_gone(self) -> list[QuestionEvent]:
        """The payload channel is over: nobody needs an answer any more."""
        self._open = False
        self._gone = True
        return []

    # -- ceremonies ---------------------------------------------------------------------------

    def ceremony_started(self, method: str) -> list[QuestionEvent]:
        """This user or the peer began."""
        del method
        return self._ceremony(Move.CEREMONY, "")

    def string_ready(self) -> list[QuestionEvent]:
        """There is a string to compare."""
        return self._ceremony(Move.CEREMONY, "")

    def ceremony_ended(self, outcome: str, method: str) -> list[QuestionEvent]:
        """How it ended, as in ``CeremonyEnded``."""
        moves = {
            Outcome.VERIFIED: Move.PROVED,
            Outcome.REJECTED: Move.DISPROVED,
            Outcome.FAILED: Move.NO_RESULT,
        }
        return self._ceremony(moves[Outcome(outcome)], method)

    def peer_rejected(self, method: str) -> list[QuestionEvent]:
        """The other user saw something else, now or after this user's yes."""
        return self._ceremony(Move.DISPROVED, method)

    # -- inside -------------------------------------------------------------------------------

    def _ceremony(self, move: Move, method: str) -> list[QuestionEvent]:
        if self._gone or (self._stage, move) not in MOVES:
            return []
        # After Close only a no still counts: the payload may be running.
        if not self._open and move is not Move.DISPROVED:
            return []
        return self._answer(move, method)

    def _answer(self, move: Move, method: str) -> list[QuestionEvent]:
        try:
            target = MOVES[self._stage, move]
        except KeyError:
            raise NotAvailable("This question has been answered already") from None
        before, self._stage = self.state, target
        events: list[QuestionEvent] = []
        if self.state is not before:
            events.append(StateChanged(self.state))
        if target in _ANSWERS and move is not Move.NO_RESULT:
            events.append(Answered(self.state, method))
        return events
