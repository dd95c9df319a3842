"""Every interleaving of two ceremonies and an attacker, within small bounds.

The attacker stands between the machines, where the sealed channel would not let him stand: he
drops, delays, replays and reflects, and puts in messages of his own, with nonces of his or of
others under any id. The users are honest: they compare what they see. Whatever happens,
nobody is verified who saw another string than the other user.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages, sas
from telepathy_e2e.verify.ceremony import (
    CeremonyEnded,
    Event,
    Outcome,
    PeerStarted,
    Send,
    StringReady,
    V,
)
from telepathy_e2e.verify.sas_run import SasRun
from tests.unit.verify_support import Side, element

LATER = 1e6
# How many worlds a run may have; a bound on the test, not on the machines.
MAX_WORLDS = 60_000
# The id of what the attacker starts, and the nonce that he chose.
HIS, HIS_NONCE = "his", b"m" * 32


@dataclass
class User:
    """One side with its user, the road to it, and what the invariants need to remember."""

    side: Side
    inbox: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    starts: int = 0
    agreements: int = 0
    strings: dict[str, str] = field(default_factory=dict)
    shown: str | None = None
    reading: bool = False
    outcomes: list[Outcome] = field(default_factory=list)
    nonces: list[str] = field(default_factory=list)
    spent: int = 0
    confirmed: int = 0
    begun: list[str] = field(default_factory=list)


@dataclass
class World:
    users: tuple[User, User]
    attacks: int
    late: int = 1
    forges: bool = False

    def key(self) -> tuple[object, ...]:
        return (self.attacks, self.late, *(_key(user) for user in self.users))


def _key(user: User) -> tuple[object, ...]:
    machine, run = user.side.machine, user.side.machine._run
    inner: tuple[object, ...] = ()
    if isinstance(run, SasRun):
        inner = (run.id, run.state, run.spent, run._nonce, run._peer_commitment)
    return (
        inner,
        machine._rejected,
        tuple(sorted(machine._ids)),
        tuple(sorted(machine._compared)),
        user.side.tries.failed,
        tuple(user.inbox),
        tuple(sorted(set(user.heard))),
        tuple(sorted(set(user.sent))),
        user.starts,
        user.shown,
        user.reading,
        tuple(user.outcomes),
    )


def name_of(element: Element) -> str:
    return element.tag.removeprefix(f"{{{V}}}")


def act(world: World, who: int, events: list[Event]) -> None:
    """Passes on what a machine says, and checks each promise as it is made."""
    user, other = world.users[who], world.users[1 - who]
    user.side.said.clear()  # copied with each world otherwise
    for event in events:
        if isinstance(event, PeerStarted):
            run = user.side.machine._run
            assert run is not None
            assert run.id not in user.begun, "an id came again"
            user.begun.append(run.id)
        if isinstance(event, Send):
            sent = event.element
            name, ceremony = name_of(sent), sent.get("id", "")
            if name == "sas-nonce":
                user.agreements += 1
                assert user.agreements <= user.starts, "a nonce without this user's agreement"
            if name == "sas-reveal":
                answered = [fromstring(raw) for raw in user.heard]  # noqa: S314
                assert any(
                    name_of(e) == "sas-nonce" and e.get("id") == ceremony for e in answered
                ), "revealed before the other's nonce was there"
            if name in ("sas-nonce", "sas-reveal"):
                user.spent += 1
                assert sent.text not in user.nonces, "a nonce was sent twice"
                user.nonces.append(sent.text or "")
            raw = tostring(sent)
            user.sent.append(raw)
            other.inbox.append(raw)
        if isinstance(event, StringReady):
            run = user.side.machine._run
            assert run is not None
            assert run.id not in user.strings, "two strings in one ceremony"
            assert kept_its_promise(user, run.id), "a string for a nonce that was not promised"
            user.strings[run.id] = event.text
            user.shown, user.reading = event.text, True
        if isinstance(event, CeremonyEnded):
            user.reading = False
            if event.outcome is Outcome.VERIFIED:
                assert user.shown == other.shown is not None, "verified with differing strings"
                assert Outcome.REJECTED not in user.outcomes, "verified after a no"
                assert user.confirmed > user.outcomes.count(Outcome.VERIFIED)
            user.outcomes.append(event.outcome)
    won = user.outcomes.count(Outcome.VERIFIED)
    assert user.side.tries.failed == user.spent - won, "a try was lost or given away"


def kept_its_promise(user: User, ceremony: str) -> bool:
    """Whether who began this ceremony revealed what he had promised before he saw the other's
    nonce: else he looks for one that gives the string he needs, and comparing proves nothing."""
    told = [messages.parse(fromstring(raw)) for raw in user.heard]  # noqa: S314
    heard = [e for e in told if isinstance(e, messages.Message) and e.id == ceremony]
    promises = [e.content for e in heard if e.name == "sas-commit"]
    if not promises:
        return True  # this user began it
    reveal = [e.content for e in heard if e.name == "sas-reveal"][-1]
    side = user.side
    return promises[0] == sas.commitment(side.binding, ceremony, side.role.other, reveal)


def start(world: World, who: int) -> None:
    user = world.users[who]
    events = user.side.start()
    user.starts += 1
    act(world, who, events)


def confirm(world: World, who: int) -> None:
    """An honest user: yes if the other reads out, or has read out, what he sees himself."""
    user, other = world.users[who], world.users[1 - who]
    same = user.shown == other.shown
    user.confirmed += same
    act(world, who, user.side.confirm(same))


def hear(world: World, who: int, raw: bytes) -> None:
    user = world.users[who]
    user.heard.append(raw)
    try:
        events = user.side.hear(fromstring(raw))  # noqa: S314
    except PeerError:
        return
    act(world, who, events)


def deliver(world: World, who: int) -> None:
    hear(world, who, world.users[who].inbox.pop(0))


def drop(world: World, who: int, noticed: bool) -> None:
    """The sealed channel would notice; not noticing must not harm either."""
    world.attacks -= 1
    user = world.users[who]
    user.inbox.pop(0)
    if noticed:
        act(world, who, user.side.disturb())


def inject(world: World, who: int, raw: bytes) -> None:
    """A message that was delivered before, or that he sent himself."""
    world.attacks -= 1
    hear(world, who, raw)


def expire(world: World, who: int) -> None:
    world.late -= 1
    act(world, who, world.users[who].side.tick(LATER))


def forged(world: World, who: int) -> Iterator[Element]:
    """What the attacker can make: he is the TLS peer of his victim, and has seen all."""
    side = world.users[who].side
    promise = sas.commitment(side.binding, HIS, side.role.other, HIS_NONCE)
    yield messages.build("sas-commit", HIS, promise)
    run = side.machine._run
    if run is None:
        return
    seen = [messages.parse(fromstring(raw)) for user in world.users for raw in user.sent]  # noqa: S314
    nonces = {
        each.content
        for each in seen
        if isinstance(each, messages.Message) and each.name in ("sas-nonce", "sas-reveal")
    }
    for nonce in sorted(nonces | {HIS_NONCE}):
        yield messages.build("sas-nonce", run.id, nonce)
        yield messages.build("sas-reveal", run.id, nonce)
    yield messages.build("sas-result", run.id, match="true")


Step = Callable[[World], None]


def freeze(world: World) -> bytes:
    """Once for all steps from this world: most of the time goes here."""
    return pickle.dumps(world, pickle.HIGHEST_PROTOCOL)


def thaw(frozen: bytes) -> World:
    copied: World = pickle.loads(frozen)  # noqa: S301 - ours; faster than deepcopy
    return copied


def steps(world: World, starts: int) -> Iterator[Step]:
    """All that users, network, clock and attacker may do now."""
    for who, user in enumerate(world.users):
        if user.starts < starts:
            yield partial(start, who=who)
        if user.reading and world.users[1 - who].shown is not None:
            yield partial(confirm, who=who)
        if user.inbox:
            yield partial(deliver, who=who)
        if world.late and user.side.machine.deadline() is not None:
            yield partial(expire, who=who)
        if not world.attacks:
            continue
        if user.inbox:
            yield partial(drop, who=who, noticed=False)
            yield partial(drop, who=who, noticed=True)
        made = {tostring(each) for each in forged(world, who)} if world.forges else set()
        for raw in sorted(made | set(user.heard) | set(user.sent)):
            yield partial(inject, who=who, raw=raw)


def explore(
    attacks: int,
    starts: int,
    invariant: Callable[[World], None],
    bindings: bytes = b"BB",
    *,
    forges: bool = False,
    late: int = 1,
) -> int:
    """Visits every world that can be reached; returns how many there are.

    Args:
        attacks: how often the attacker may drop, replay or reflect.
        starts: how often each user may press the button, to begin or to agree.
        invariant: checked in each world, beside what ``act`` checks; may use it up.
        bindings: one byte for each side; different ones: a relay between two TLS sessions.
        forges: whether he makes messages of his own as well.
        late: how often a side may run out of time.
    """
    users = [
        User(Side(role, binding=bytes([byte]) * 32))
        for role, byte in zip(Role, bindings, strict=True)
    ]
    first = World((users[0], users[1]), attacks, late, forges)
    seen, todo = {first.key()}, [first]
    while todo:
        world = todo.pop()
        frozen, possible = freeze(world), list(steps(world, starts))
        invariant(world)
        for step in possible:
            after = thaw(frozen)
            try:
                step(after)
            except NotAvailable:
                continue
            if (key := after.key()) not in seen:
                seen.add(key)
                todo.append(after)
                assert len(seen) <= MAX_WORLDS, "the bounds are too wide for a unit test"
    return len(seen)


def ends_in_time(world: World) -> None:
    """Whatever happened, a minute of silence leaves both sides idle. Uses the world up."""
    for user in world.users:
        user.side.tick(LATER)
        assert user.side.machine.deadline() is None


@dataclass
class Seen:
    """What was reached at all: an invariant over worlds that never happen proves nothing."""

    verdicts: set[tuple[tuple[Outcome, ...], tuple[Outcome, ...]]] = field(default_factory=set)
    differing: bool = False

    def __call__(self, world: World) -> None:
        ends_in_time(world)
        first, second = world.users
        self.verdicts.add((tuple(first.outcomes), tuple(second.outcomes)))
        shown = {first.shown, second.shown} - {None}
        self.differing = self.differing or len(shown) == 2


BOTH_VERIFIED = ((Outcome.VERIFIED,), (Outcome.VERIFIED,))


def test_without_an_attacker_strings_never_differ_and_both_can_become_verified() -> None:
    seen = Seen()
    assert explore(attacks=0, starts=1, invariant=seen) > 100
    assert BOTH_VERIFIED in seen.verdicts
    assert not seen.differing
    assert not any(Outcome.REJECTED in ends for both in seen.verdicts for ends in both)


def test_two_ceremonies_one_after_the_other_keep_the_promise() -> None:
    seen = Seen()
    assert explore(attacks=0, starts=2, invariant=seen) > 1_000
    assert ((Outcome.VERIFIED,) * 2, (Outcome.VERIFIED,) * 2) in seen.verdicts


@pytest.mark.parametrize("attacks", [1, 2])
def test_an_attacker_who_drops_replays_and_reflects_verifies_nobody(attacks: int) -> None:
    seen = Seen()
    assert explore(attacks, starts=1, invariant=seen) > 1_000
    assert BOTH_VERIFIED in seen.verdicts


def test_an_attacker_who_makes_messages_of_his_own_verifies_nobody() -> None:
    seen = Seen()
    assert explore(1, starts=1, invariant=seen, forges=True) > 1_000
    assert BOTH_VERIFIED in seen.verdicts


def test_a_relay_that_makes_messages_of_its_own_verifies_nobody() -> None:
    seen = Seen()
    explore(2, starts=1, invariant=seen, forges=True, late=0, bindings=b"12")
    # He can show two strings, as a peer of each: the users who compare them see it.
    assert seen.differing
    assert not any(Outcome.VERIFIED in ends for both in seen.verdicts for ends in both)


def test_a_relay_between_two_tls_sessions_never_gets_a_string_from_both() -> None:
    def nobody(world: World) -> None:
        assert all(Outcome.VERIFIED not in user.outcomes for user in world.users)
        assert None in (world.users[0].shown, world.users[1].shown)

    assert explore(attacks=1, starts=1, invariant=nobody, bindings=b"12") > 100


def test_a_relay_that_starts_two_ceremonies_of_its_own_shows_two_strings() -> None:
    """The attacker is a full peer of both: users who compare see it, and their no is final."""
    victims = (Side(Role.INITIATOR, binding=b"1" * 32), Side(Role.RESPONDER, binding=b"2" * 32))
    for victim in victims:
        nonce, ceremony = b"m" * 32, "same-id"
        promise = sas.commitment(victim.binding, ceremony, victim.role.other, nonce)
        for name, content in (("sas-commit", promise), ("sas-reveal", nonce)):
            if name == "sas-reveal":
                victim.start()
            victim.hear(element(name, base64.b64encode(content).decode(), id=ceremony))
    assert None not in (victims[0].string, victims[1].string)
    assert victims[0].string != victims[1].string
    for victim in victims:
        victim.confirm(False)
        with pytest.raises(NotAvailable):
            victim.start()
