"""What is remembered of a contact's keys, and what follows from it. Pure.

Blind trust until the first verification, strict for that contact afterwards. Two things are told
apart everywhere: what may be answered without a person, and what a person must be told. No setting
takes an alarm away.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Final

# What verified a key. ``pin`` is not here: it is this memory itself.
CROSS_SIGNATURE: Final = "cross-signature"
VERIFYING: Final = ("fingerprint", "sas", "password", "x509", "openpgp", CROSS_SIGNATURE)
LEAP_OF_FAITH: Final = "leap-of-faith"
"""Let through, never verified."""
REJECTED: Final = "rejected"
"""Somebody compared, or looked, and said no."""
METHODS: Final = frozenset({*VERIFYING, LEAP_OF_FAITH, REJECTED})

NO_IDENTITY: Final = ""
"""In place of a fingerprint: this contact's client has shown session keys only. They change with
each session, so that they cannot be remembered; that there were some is."""

_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}\Z")


def is_fingerprint(text: str) -> bool:
    """Whether this is a SHA-256 fingerprint as PeerVerification1 shows it."""
    return _FINGERPRINT.match(text) is not None


@dataclass(frozen=True)
class Pin:
    """One key of one contact.

    Args:
        account: the own bare JID.
        contact: his bare JID.
        fingerprint: of the identity key, upper-case hex with colons; or ``NO_IDENTITY``.
        methods: in the order in which they happened; of ``METHODS``, never empty.
        since: when it was met.
        seen: when it was presented last.
    """

    account: str
    contact: str
    fingerprint: str
    methods: tuple[str, ...]
    since: date
    seen: date

    @property
    def verified(self) -> bool:
        """Whether people, or somebody they chose, have vouched for it, and nobody said no."""
        return REJECTED not in self.methods and any(m in VERIFYING for m in self.methods)

    @property
    def rejected(self) -> bool:
        return REJECTED in self.methods

    @property
    def vouches(self) -> bool:
        """Whether its word counts for another key of the same contact.

        A key that was only vouched for itself vouches for none: whoever has stolen one device
        must not be able to let a chain of others in, which stand when the first is found out.
        """
        return self.verified and any(m in VERIFYING and m != CROSS_SIGNATURE for m in self.methods)


class Standing(StrEnum):
    """What is known of the key that was presented."""

    VERIFIED = "verified"
    VOUCHED = "vouched"
    """A verified key of the same contact has signed it."""
    LEAP = "leap of faith"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """How a question is answered."""

    ACCEPT = "accept"
    PROCEED = "proceed"
    REJECT = "reject"
    ASK = "ask"
    """By a person; the question stays open until then."""


class Alarm(StrEnum):
    """What a person must be told."""

    CHANGED_KEY = "changed-key"
    """A verified contact presents a key that nobody has verified."""
    DOWNGRADE = "downgrade"
    """A contact who had a key offers no encryption."""
    REJECTED_KEY = "rejected-key"
    """A key that somebody said no to is there again."""
    DAMAGED = "damaged"
    """What was remembered cannot be read."""


class UnknownKey(StrEnum):
    """The setting ``unknown-key``: a new key of a contact whom nobody has verified."""

    TRUST = "trust"
    ASK = "ask"


class InClear(StrEnum):
    """The setting ``in-the-clear``: a contact without encryption who never had any."""

    PROCEED = "proceed"
    ASK = "ask"
    REJECT = "reject"


@dataclass(frozen=True)
class Settings:
    """What the user may choose."""

    unknown_key: UnknownKey = UnknownKey.TRUST
    in_the_clear: InClear = InClear.PROCEED


# Where the settings cannot be read nobody is let through on the guess that they were the default.
STRICTEST: Final = Settings(UnknownKey.ASK, InClear.ASK)


@dataclass(frozen=True)
class Question:
    """A PeerVerification1 channel as far as the answer depends on it.

    Args:
        reason: PeerVerification1.Reason, as it is.
        fingerprint: of the peer's identity; ``NO_IDENTITY`` where he has none, None where there is
            no encryption, or none that could be understood.
        vouched_by: fingerprints of identities that have signed this one, checked already.
    """

    account: str
    contact: str
    reason: str
    fingerprint: str | None
    vouched_by: Collection[str] = ()


@dataclass(frozen=True)
class Answer:
    """What to do.

    Args:
        action: see ``Action``.
        method: of Accept.
        alarm: to be raised first.
        remember: the key is new and goes on record before it is answered.
        notice: tell the person, at his leisure, that there is a new device.
    """

    action: Action
    method: str = ""
    alarm: Alarm | None = None
    remember: bool = False
    notice: bool = False


def standing(question: Question, pins: Sequence[Pin]) -> Standing:
    """What ``pins`` say of the key in question."""
    trusted = {pin.fingerprint for pin in pins if pin.vouches}
    vouched = not trusted.isdisjoint(question.vouched_by)
    if question.fingerprint == NO_IDENTITY:
        # It changes with each session: nobody vouches for it, and it never is one on record.
        return Standing.UNKNOWN
    pin = next((pin for pin in pins if pin.fingerprint == question.fingerprint), None)
    if pin is not None:
        if pin.rejected:
            return Standing.REJECTED
        if pin.vouches:
            return Standing.VERIFIED
    if vouched:
        return Standing.VOUCHED
    # What was taken on the word of a key stands and falls with it: if that was rejected or
    # forgotten since, people decide anew.
    return Standing.UNKNOWN if pin is None or pin.verified else Standing.LEAP


_IN_CLEAR: Final[Mapping[InClear, Action]] = {
    InClear.PROCEED: Action.PROCEED,
    InClear.ASK: Action.ASK,
    InClear.REJECT: Action.REJECT,
}


def decide(question: Question, pins: Sequence[Pin] | None, settings: Settings) -> Answer:
    """The answer to a question.

    Args:
        pins: all of this account and contact; None if what was remembered cannot be read, which is
            never the same as nothing.
    """
    if pins is None:
        return Answer(Action.ASK, alarm=Alarm.DAMAGED)
    if question.reason == "no-encryption":
        if pins:
            # Whoever sits between them can take the encryption out of the offer. That he had a key
            # is what only we know.
            return Answer(Action.REJECT, alarm=Alarm.DOWNGRADE)
        return Answer(_IN_CLEAR[settings.in_the_clear])
    if question.fingerprint is None:
        return Answer(Action.ASK)
    known = standing(question, pins)
    strict = any(pin.verified for pin in pins)
    if known is Standing.REJECTED:
        return Answer(Action.ASK, alarm=Alarm.REJECTED_KEY)
    if known is Standing.UNKNOWN and strict:
        return Answer(Action.ASK, alarm=Alarm.CHANGED_KEY)
    if question.reason not in ("continuity", "policy", "requested"):
        # ``upgrade``: somebody wants to compare here and now, and memory would only stop him.
        return Answer(Action.ASK)
    if known is Standing.VERIFIED:
        return Answer(Action.ACCEPT, "pin")
    if known is Standing.VOUCHED:
        return Answer(Action.ACCEPT, CROSS_SIGNATURE)
    if question.reason != "continuity":
        # Verification is demanded: going on unverified is for people to say.
        return Answer(Action.ASK)
    if known is Standing.LEAP:
        return Answer(Action.PROCEED)
    if settings.unknown_key is UnknownKey.TRUST:
        new_device = any(pin.fingerprint != NO_IDENTITY for pin in pins)
        return Answer(Action.PROCEED, remember=True, notice=new_device)
    return Answer(Action.ASK)


def after(
    question: Question, pins: Sequence[Pin], state: str, method: str, today: date
) -> Pin | None:
    """What goes on record when a question has ended, whoever answered it.

    Args:
        pins: all of this account and contact.
        state, method: as in PeerVerification1.Finished.
    Returns:
        The pin as it is from now on; None: nothing to write.
    """
    fingerprint = question.fingerprint
    if fingerprint is None:
        return None
    old = next((pin for pin in pins if pin.fingerprint == fingerprint), None)
    if fingerprint == NO_IDENTITY:
        if old is not None or state == "rejected":
            return _seen(old, today)
        return _new(question, LEAP_OF_FAITH, today)
    if state == "verified" and method in VERIFYING:
        if old is None or old.rejected:
            return _new(question, method, today)
        if method not in old.methods:
            kept = tuple(m for m in old.methods if m != LEAP_OF_FAITH)
            return replace(old, methods=(*kept, method), seen=today)
        return _seen(old, today)
    if state == "rejected":
        # A ceremony that failed the comparison overrules what was believed. A plain no may have
        # many reasons, so it takes nothing from a verified key.
        if old is not None and (old.rejected or (old.verified and method not in VERIFYING)):
            return _seen(old, today)
        return _new(question, REJECTED, today)
    if old is not None:
        return _seen(old, today)
    if state == "unverified" and not any(pin.verified for pin in pins):
        return _new(question, LEAP_OF_FAITH, today)
    # What a person lets through after an alarm is let through once.
    return None


def _new(question: Question, method: str, today: date) -> Pin:
    return Pin(
        question.account, question.contact, question.fingerprint or "", (method,), today, today
    )


def _seen(pin: Pin | None, today: date) -> Pin | None:
    """By the day: a pinned contact's transfer must not wait for a disk."""
    return replace(pin, seen=today) if pin is not None and pin.seen < today else None
