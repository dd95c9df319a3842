"""Nobody becomes verified without a yes to the other's string, or the other's password.

Two sides compare strings and passwords while messages are lost, repeated, delayed, changed and
made up, and people press whatever they like. Then no message raises anything but ``PeerError``, no
press anything but ``NotAvailable``; verified is only who confirmed, in a ceremony whose string the
other had as well, or who typed a password that the other typed as well; a no is final; a try that
was spent without success counts; and with time everything ends.
"""

from __future__ import annotations

from collections.abc import Callable
from xml.etree.ElementTree import Element, ParseError, fromstring, tostring

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.ceremony import (
    MAX_PEER_STARTS,
    TIMEOUT,
    CeremonyEnded,
    Event,
    Outcome,
    Send,
    StringReady,
)
from telepathy_e2e.verify.tries import MAX_TRIES_PER_SESSION
from tests.unit.verify_support import Side

from .support import budget, mutated_element
from .test_stanzas import VERIFICATION

WHO = st.integers(0, 1)


class Ceremony(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sides = (Side(Role.INITIATOR), Side(Role.RESPONDER))
        self.inbox: tuple[list[bytes], list[bytes]] = ([], [])
        self.strings: tuple[list[str], list[str]] = ([], [])
        self.typed: tuple[list[str], list[str]] = ([], [])
        self.yes = [0, 0]
        self.verified = [0, 0]
        self.rejected = [False, False]
        self.seen: list[bytes] = []

    def act(self, who: int, step: Callable[[], list[Event]], confirmed: bool = False) -> None:
        for event in step():
            match event:
                case Send(element):
                    raw = tostring(element)
                    self.inbox[1 - who].append(raw)
                    self.seen.append(raw)
                case StringReady(text):
                    self.strings[who].append(text)
                case CeremonyEnded(outcome=Outcome.VERIFIED, method="password"):
                    assert not self.rejected[who], "verified after a no"
                    assert self.typed[who][-1] in self.typed[1 - who], "another password"
                    self.verified[who] += 1
                case CeremonyEnded(outcome=Outcome.VERIFIED):
                    assert confirmed, "verified without this user's yes"
                    assert not self.rejected[who], "verified after a no"
                    assert self.strings[who][-1] in self.strings[1 - who], "another string"
                    self.verified[who] += 1
                case CeremonyEnded(outcome=Outcome.REJECTED):
                    self.rejected[who] = True

    def press(self, who: int, step: Callable[[], list[Event]], confirmed: bool = False) -> None:
        try:
            self.act(who, step, confirmed)
        except NotAvailable:
            return

    def hear(self, who: int, said: Element) -> None:
        side = self.sides[who]
        try:
            element = fromstring(tostring(said))  # noqa: S314
        except ParseError:
            return  # no XML can say that
        try:
            self.act(who, lambda: side.hear(element, self.now))
        except PeerError:
            self.act(who, lambda: side.disturb(self.now))

    @rule(who=WHO)
    def start(self, who: int) -> None:
        self.press(who, lambda: self.sides[who].start(self.now))

    @rule(who=WHO, secret=st.sampled_from(("one", "two")))
    def type_password(self, who: int, secret: str) -> None:
        self.typed[who].append(secret)
        try:
            self.act(who, lambda: self.sides[who].password(secret, self.now))
        except NotAvailable:
            self.typed[who].pop()

    @rule(who=WHO, secrets=st.tuples(*[st.sampled_from(("one", "two"))] * 2))
    def type_undisturbed(self, who: int, secrets: tuple[str, str]) -> None:
        """All that is on the way arrives, and both type."""
        for each, secret in ((who, secrets[0]), (1 - who, secrets[1])):
            self.type_password(each, secret)
            self.deliver(1 - each, 5)
            self.deliver(each, 5)

    @rule(who=WHO)
    def compare_honestly(self, who: int) -> None:
        """A user reads to the other what both see now."""
        mine, theirs = self.strings[who][-1:], self.strings[1 - who][-1:]
        if mine and theirs:
            same = mine == theirs
            self.press(who, lambda: self.sides[who].confirm(same, self.now), confirmed=same)

    @rule(who=WHO, other=st.booleans())
    def compare_undisturbed(self, who: int, other: bool) -> None:
        """All that is on the way arrives, and people press what is there to press."""
        for _ in range(3):
            for each in (who, 1 - who):
                self.start(each)
                self.deliver(1 - each, 5)
                self.deliver(each, 5)
        self.compare_honestly(who)
        if other:
            self.compare_honestly(1 - who)

    @rule(who=WHO)
    def say_no(self, who: int) -> None:
        self.press(who, lambda: self.sides[who].confirm(False, self.now))

    @rule(who=WHO)
    def cancel(self, who: int) -> None:
        self.press(who, lambda: self.sides[who].machine.cancel(self.now))

    @rule(who=WHO, number=st.integers(1, 5))
    def deliver(self, who: int, number: int) -> None:
        for _ in range(min(number, len(self.inbox[who]))):
            self.hear(who, fromstring(self.inbox[who].pop(0)))  # noqa: S314

    @rule(who=WHO, noticed=st.booleans())
    def lose(self, who: int, noticed: bool) -> None:
        if self.inbox[who]:
            del self.inbox[who][0]
            if noticed:
                self.act(who, lambda: self.sides[who].disturb(self.now))

    @rule(who=WHO, data=st.data())
    def repeat_or_reflect(self, who: int, data: st.DataObject) -> None:
        if self.seen:
            self.hear(who, fromstring(data.draw(st.sampled_from(self.seen))))  # noqa: S314

    @rule(who=WHO, data=st.data())
    def change(self, who: int, data: st.DataObject) -> None:
        """A peer that is not our program says something nearly right."""
        if not self.seen:
            return
        original = fromstring(data.draw(st.sampled_from(self.seen)))  # noqa: S314
        self.hear(who, data.draw(mutated_element([original], 2)))

    @rule(who=WHO, element=mutated_element(VERIFICATION, 2))
    def make_up(self, who: int, element: Element) -> None:
        self.hear(who, element)

    @rule(seconds=st.sampled_from((1.0, TIMEOUT / 2, TIMEOUT)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for who, side in enumerate(self.sides):
            deadline = side.machine.deadline()
            if deadline is not None and self.now >= deadline:
                self.act(who, lambda side=side: side.tick(self.now))  # type: ignore[misc]

    @invariant()
    def tries_and_ids_are_bounded(self) -> None:
        for side in self.sides:
            assert 0 <= side.tries.failed <= MAX_TRIES_PER_SESSION
            assert side.machine._peer_starts <= MAX_PEER_STARTS
            spent = sum(end.spent and end.outcome is Outcome.FAILED for end in side.ends)
            assert side.tries.failed >= spent, "a failed try was given back"

    @invariant()
    def a_no_is_final(self) -> None:
        for who, side in enumerate(self.sides):
            if self.rejected[who]:
                ends = [end.outcome for end in side.ends]
                assert Outcome.VERIFIED not in ends[ends.index(Outcome.REJECTED) :]

    def teardown(self) -> None:
        for side in self.sides:
            side.tick(self.now + 2 * TIMEOUT)
            assert side.machine.deadline() is None, "it never ends"


Ceremony.TestCase.settings = budget(1, steps=40)
test_nobody_is_verified_without_a_yes_to_the_same_string = Ceremony.TestCase
