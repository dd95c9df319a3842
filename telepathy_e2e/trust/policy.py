"""From policy, demands and facts to what is done: every decision is one small table.

Two rules run through all of them. Demands strengthen and never weaken: everything is decided on
``effective``, the stronger of policy and demand. And what is not known to be right is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from telepathy_e2e.errors import InvalidArgument


class Policy(StrEnum):
    """The account parameter ``e2e-policy``."""

    OFF = "off"
    """Protection is neither offered nor accepted."""
    OPPORTUNISTIC = "opportunistic"
    """Protect when the peer can, and show when not."""
    REQUIRED = "required"
    """Never in the clear."""
    VERIFIED = "verified"
    """Never unverified."""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """The policy of that name.

        Raises:
            InvalidArgument: there is none.
        """
        try:
            return cls(text)
        except ValueError:
            raise InvalidArgument(
                "e2e-policy must be one of " + ", ".join(f'"{policy}"' for policy in cls)
            ) from None


@dataclass(frozen=True)
class Demands:
    """What a request asked its channel to guarantee. Who is verified is also encrypted to."""

    encrypted: bool = False
    verified: bool = False

    def __post_init__(self) -> None:
        if self.verified and not self.encrypted:
            object.__setattr__(self, "encrypted", True)


class Reason(StrEnum):
    """Why a question is put (PeerVerification1.Reason)."""

    REQUESTED = "requested"
    """The request, or Verify() before the handshake, demanded it."""
    POLICY = "policy"
    """The account's settings demand it."""
    CONTINUITY = "continuity"
    """A client handles such questions: it compares with the keys it has seen."""
    UPGRADE = "upgrade"
    """Somebody wants to verify later."""
    NO_ENCRYPTION = "no-encryption"
    """There is no protection: go on in the clear?"""


class Clear(Enum):
    """What to do where there is no protection."""

    GO = "go"
    """Payload flows in the clear."""
    ASK = "ask"
    """A question is put, ``Reason.NO_ENCRYPTION``; payload waits."""
    REFUSE = "refuse"
    """The channel ends with EncryptionNotAvailable."""


class Answer(Enum):
    """How a responder answers an offer."""

    PROTECT = "protect"
    """With ``<security/>``."""
    CLEAR = "clear"
    """Without; then ``without_protection`` decides."""
    REFUSE = "refuse"
    """Not at all: the channel ends with EncryptionNotAvailable."""


class Close(Enum):
    """What it means that a question was closed without an answer."""

    REJECT = "reject"
    PROCEED = "proceed"


_FLOOR: Final[Mapping[Policy, Demands]] = {
    Policy.OFF: Demands(),
    Policy.OPPORTUNISTIC: Demands(),
    Policy.REQUIRED: Demands(encrypted=True),
    Policy.VERIFIED: Demands(encrypted=True, verified=True),
}


def effective(policy: Policy, demands: Demands) -> Demands:
    """The stronger of both: a false or missing demand never undercuts the policy."""
    floor = _FLOOR[policy]
    return Demands(floor.encrypted or demands.encrypted, floor.verified or demands.verified)


def may_offer(policy: Policy, demands: Demands, *, peer_lists: bool, key_known: bool) -> bool:
    """Whether ``<security/>`` goes into our offer.

    Where this is False and ``effective`` demands encryption, nothing may be offered at all:
    policy ``off`` and a demand cannot both be kept.

    Args:
        peer_lists: his capabilities list XTLS.
        key_known: a key of his is known. Capabilities pass through the servers, so one that
            takes the feature out of them must not be able to turn protection off.
    """
    if policy is Policy.OFF:
        return False
    return effective(policy, demands).encrypted or peer_lists or key_known


# (policy off, encryption demanded, offered with <security/>)
_ANSWERS: Final[Mapping[tuple[bool, bool, bool], Answer]] = {
    (False, False, False): Answer.CLEAR,
    (False, False, True): Answer.PROTECT,
    (False, True, False): Answer.REFUSE,
    (False, True, True): Answer.PROTECT,
    (True, False, False): Answer.CLEAR,
    (True, False, True): Answer.CLEAR,
    (True, True, False): Answer.REFUSE,
    (True, True, True): Answer.REFUSE,
}


def answer_offer(policy: Policy, demands: Demands, *, offered: bool) -> Answer:
    """How a responder answers.

    Args:
        offered: the offer has a ``<security/>`` that we understand.
    """
    return _ANSWERS[policy is Policy.OFF, effective(policy, demands).encrypted, offered]


# (encryption demanded, a client handles questions)
_WITHOUT: Final[Mapping[tuple[bool, bool], Clear]] = {
    (False, False): Clear.GO,
    (False, True): Clear.ASK,
    # Not asked: nobody may say yes to it.
    (True, False): Clear.REFUSE,
    (True, True): Clear.REFUSE,
}


def without_protection(policy: Policy, demands: Demands, *, handler_announced: bool) -> Clear:
    """What to do when offer and answer agreed on no protection, for either side.

    Args:
        handler_announced: some client's UpdateCapabilities filter names PeerVerification1. It
            is asked under policy ``off`` too: it alone knows whether this contact had a key.
    """
    return _WITHOUT[effective(policy, demands).encrypted, handler_announced]


def question_when_protected(
    policy: Policy, demands: Demands, *, handler_announced: bool, always_verify: bool
) -> Reason | None:
    """Why a question must be put once both hellos are right; None: it need not.

    The first that holds is told, the strongest first.

    Args:
        always_verify: ``e2e-always-verify``: people are asked, whoever can answer.
    Raises:
        ValueError: policy ``off`` never gets this far.
    """
    if policy is Policy.OFF:
        raise ValueError("there is no protection under policy off")
    table = (
        (policy is Policy.VERIFIED, Reason.POLICY),
        (demands.verified, Reason.REQUESTED),
        (always_verify, Reason.POLICY),
        (handler_announced, Reason.CONTINUITY),
    )
    return next((reason for holds, reason in table if holds), None)


def attestations_answer(*, handler_announced: bool, always_verify: bool, requested: bool) -> bool:
    """Whether an attestation that holds (``x509``, ``openpgp``) makes the peer verified by itself.

    Where a client handles questions it gets one, with that method among ``Methods``: it alone knows
    whether this contact had another key before, which is an alarm whoever vouches for the new one.

    Args:
        handler_announced: some client handles questions.
        always_verify: ``e2e-always-verify``: people are asked, whoever can answer.
        requested: somebody has called Verify() and waits for the question.
    """
    return not (handler_announced or always_verify or requested)


def payload_waits(
    reason: Reason | None, policy: Policy, demands: Demands, *, call: bool = False
) -> bool:
    """Whether payload waits for the answer.

    Args:
        reason: of the question; None: no question.
        call: calls may run while people verify (they read the string to each other), except
            where verification is demanded: then they would run unverified.
    """
    if reason is None or reason is Reason.UPGRADE:
        return False
    if reason is Reason.NO_ENCRYPTION:
        return True
    return not call or effective(policy, demands).verified


def may_proceed(reason: Reason, policy: Policy, demands: Demands) -> bool:
    """Whether ProceedUnverified is allowed.

    It lifts a demand for verification, never the policy. It cannot lift a demand for encryption:
    then the channel would be in the clear and still say RequireEncrypted.
    """
    if reason is Reason.NO_ENCRYPTION:
        return not effective(policy, demands).encrypted
    return policy is not Policy.VERIFIED


# (a client handled questions when it was put, the answer was demanded)
_UNANSWERED: Final[Mapping[tuple[bool, bool], Close]] = {
    (False, False): Close.PROCEED,
    (False, True): Close.REJECT,
    # A handler that crashes must not open the gate.
    (True, False): Close.REJECT,
    (True, True): Close.REJECT,
}


def unanswered(
    reason: Reason, policy: Policy, demands: Demands, *, handler_announced: bool
) -> Close:
    """What it means that the question was closed without an answer.

    Args:
        handler_announced: as it was when the question was put.
    """
    needed = effective(policy, demands)
    demanded = needed.verified or reason is Reason.REQUESTED
    if reason is Reason.NO_ENCRYPTION:
        demanded = needed.encrypted
    return _UNANSWERED[handler_announced, demanded]
