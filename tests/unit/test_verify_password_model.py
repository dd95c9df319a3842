"""Every interleaving of two people who type a password and an attacker, within small bounds.

The attacker stands between the machines, where the sealed channel would not let him stand. He
drops, delays, replays and reflects; he joins shares and tags of different messages; and he takes
part himself with a guess. The cryptography is the real one, with scalars that repeat.

Whatever happens: nobody is verified unless the other side's own machine made the tag that convinced
him, from the same password in the same TLS session; nobody is rejected; every answer to a guess
costs a try; everything ends. Only a right guess helps the attacker.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from xml.etree.ElementTree import Element, fromstring, tostring

import pytest

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages, pake
from telepathy_e2e.verify.ceremony import CeremonyEnded, Event, Outcome, PeerStarted, Send, V
from telepathy_e2e.verify.pake_run import PakeRun, State
from tests.unit.verify_support import FI, FR, SECRET, Side, scalars

LATER = 1e6
# How many worlds a run may have; a bound on the test, not on the machines.
MAX_WORLDS = 20_000
# The id of what the attacker starts.
HIS = "his"


@dataclass
class User:
    """One side with its user, the road to it, and what the invariants need to remember."""

    side: Side
    secret: str
    inbox: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    typed: int = 0
    replies: int = 0
    verified: int = 0
    failed: int = 0
    begun: list[str] = field(default_factory=list)

    @property
    def run(self) -> PakeRun | None:
        run = self.side.machine._run
        assert run is None or isinstance(run, PakeRun)
        return run


@dataclass
class World:
    users: tuple[User, User]
    attacks: int
    guess: str | None
    late: int

    def key(self) -> tuple[object, ...]:
        return (self.attacks, self.late, *(_key(user) for user in self.users))


def _key(user: User) -> tuple[object, ...]:
    machine, run = user.side.machine, user.run
    inner: tuple[object, ...] = ()
    if run is not None:
        share = run._party.share if run._party else None
        inner = (run.id, run.state, run.spent, share, run._peer_share, run.secret)
    return (
        inner,
        tuple(sorted(machine._ids)),
        user.side.tries.failed,
        tuple(user.inbox),
        tuple(sorted(set(user.sent))),
        (user.typed, user.verified, user.failed),
    )


def name_of(element: Element) -> str:
    return element.tag.removeprefix(f"{{{V}}}")


@lru_cache(maxsize=4096)  # the same few hundred come up in ten thousand worlds
def read(raw: bytes) -> messages.Message:
    message = messages.parse(fromstring(raw))  # noqa: S314
    assert isinstance(message, messages.Message)
    return message


def act(world: World, who: int, events: list[Event], heard: messages.Message | None) -> None:
    """Passes on what a machine says, and checks each promise as it is made."""
    user, other = world.users[who], world.users[1 - who]
    user.side.said.clear()  # copied with each world otherwise
    won = any(isinstance(e, CeremonyEnded) and e.outcome is Outcome.VERIFIED for e in events)
    for event in events:
        if isinstance(event, PeerStarted):
            run = user.side.machine._run
            assert run is not None
            assert run.id not in user.begun, "an id came again"
            user.begun.append(run.id)
        if isinstance(event, Send):
            name = name_of(event.element)
            if name == "pake-reply":
                user.replies += 1
                assert user.replies <= user.typed, "a reply without this user's password"
            assert name != "pake-confirm" or won, "our tag for somebody who proved nothing"
            raw = tostring(event.element)
            user.sent.append(raw)
            other.inbox.append(raw)
        if isinstance(event, CeremonyEnded):
            assert event.outcome is not Outcome.REJECTED
            if event.outcome is Outcome.VERIFIED:
                user.verified += 1
                convinced(world, user, other, heard)
            else:
                user.failed += event.spent
    under_way = user.run is not None and user.run.spent
    assert user.side.tries.failed == user.failed + under_way, "a try was lost or given away"


def convinced(world: World, user: User, other: User, heard: messages.Message | None) -> None:
    """Who is verified was convinced by the other's own machine, about the same password."""
    assert heard is not None, "verified by nothing"
    if world.guess == user.secret:
        return
    assert user.secret == other.secret, "verified with another password"
    assert user.side.binding == other.side.binding, "verified over a relay"
    theirs = [read(raw) for raw in other.sent]
    assert any((e.id, e.tag) == (heard.id, heard.tag) for e in theirs), "a tag of nobody"


Step = Callable[[World], None]


def type_password(world: World, who: int) -> None:
    user = world.users[who]
    events = user.side.password(user.secret)
    user.typed += 1
    act(world, who, events, None)


def hear(world: World, who: int, raw: bytes) -> None:
    user = world.users[who]
    try:
        events = user.side.hear(fromstring(raw))  # noqa: S314
    except PeerError:
        return
    act(world, who, events, read(raw))


def deliver(world: World, who: int) -> None:
    hear(world, who, world.users[who].inbox.pop(0))


def drop(world: World, who: int, noticed: bool) -> None:
    """The sealed channel would notice; not noticing must not harm either."""
    world.attacks -= 1
    user = world.users[who]
    user.inbox.pop(0)
    if noticed:
        act(world, who, user.side.disturb(), None)


def inject(world: World, who: int, raw: bytes) -> None:
    world.attacks -= 1
    hear(world, who, raw)


def expire(world: World, who: int) -> None:
    world.late -= 1
    act(world, who, world.users[who].side.tick(LATER), None)


def known(world: World, who: int) -> Iterator[bytes]:
    """All that either side ever said, to be replayed or reflected. Answers to what is not running
    are left out: they are ignored, as ``test_verify_ceremony`` has it."""
    run = world.users[who].run
    for raw in {raw for each in world.users for raw in each.sent}:
        message = read(raw)
        if message.name == "pake-start" or (run is not None and message.id == run.id):
            yield raw


def forged(world: World, who: int) -> Iterator[Element]:
    """What the attacker can make from what he saw, and from his guess."""
    user = world.users[who]
    seen = [read(raw) for each in world.users for raw in each.sent]
    shares = sorted({e.content for e in seen if e.name in ("pake-start", "pake-reply")})
    tags = sorted({e.tag for e in seen if e.tag})
    for share in shares:
        yield messages.build("pake-start", HIS, share, suite=pake.SUITE)
    run = user.run
    if run is None:
        if world.guess:
            yield messages.build(
                "pake-start", HIS, attacker(world, user, HIS, True).share, suite=pake.SUITE
            )
        return
    if run.state is State.STARTED:
        for share in (*shares, bytes(32)):
            for tag in tags or [bytes(64)]:
                yield messages.build_reply(run.id, share, tag)
        if world.guess:
            own = next(e for e in seen if (e.name, e.id) == ("pake-start", run.id))
            party = attacker(world, user, run.id, False)
            party.meet(own.content)
            yield messages.build_reply(run.id, party.share, party.tag())
    if run.state is State.ANSWERED:
        for tag in tags:
            yield messages.build("pake-confirm", run.id, tag)
        if world.guess and run.id == HIS:
            reply = next(e for e in seen if (e.name, e.id) == ("pake-reply", HIS))
            party = attacker(world, user, HIS, True)
            party.meet(reply.content)
            yield messages.build("pake-confirm", HIS, party.tag())


def attacker(world: World, victim: User, ceremony: str, starts: bool) -> pake.Party:
    """He takes part: he is the TLS peer of his victim, and guesses."""
    assert world.guess is not None
    with scalars(b"\x66" * 32):
        return pake.Party(
            starts=starts,
            role=victim.side.role.other,
            binding=victim.side.binding,
            ceremony=ceremony,
            initiator_fingerprint=FI,
            responder_fingerprint=FR,
            secret=pake.password_related_string(world.guess),
        )


def steps(world: World, types: int) -> Iterator[Step]:
    """All that users, network, clock and attacker may do now."""
    for who, user in enumerate(world.users):
        if user.typed < types:
            yield partial(type_password, who=who)
        if user.inbox:
            yield partial(deliver, who=who)
        if world.late and user.side.machine.deadline() is not None:
            yield partial(expire, who=who)
        if not world.attacks:
            continue
        if user.inbox:
            yield partial(drop, who=who, noticed=False)
            yield partial(drop, who=who, noticed=True)
        made = {tostring(each) for each in forged(world, who)}
        for raw in sorted(made | set(known(world, who))):
            yield partial(inject, who=who, raw=raw)


@dataclass
class Seen:
    """What was reached at all: an invariant over worlds that never happen proves nothing."""

    verified: set[tuple[int, int]] = field(default_factory=set)
    failed: set[tuple[int, int]] = field(default_factory=set)

    def __call__(self, world: World) -> None:
        """Uses the world up."""
        first, second = world.users
        self.verified.add((first.verified, second.verified))
        self.failed.add((first.failed, second.failed))
        # Whatever happened, a minute of silence leaves both sides idle.
        for user in world.users:
            user.side.tick(LATER)
            assert user.side.machine.deadline() is None
            assert user.side.machine._run is None


def freeze(world: World) -> bytes:
    """Once for all steps from this world: most of the time goes here."""
    return pickle.dumps(world, pickle.HIGHEST_PROTOCOL)


def thaw(frozen: bytes) -> World:
    copied: World = pickle.loads(frozen)  # noqa: S301 - ours; faster than deepcopy
    return copied


def explore(
    attacks: int,
    types: int = 1,
    *,
    late: int = 1,
    bindings: bytes = b"BB",
    passwords: tuple[str, str] = (SECRET, SECRET),
    guess: str | None = None,
) -> Seen:
    """Visits every world that can be reached.

    Args:
        attacks: how often the attacker may drop, replay, reflect, join or guess.
        types: how often each user may type the password, to begin or to answer.
        late: how often a side may run out of time.
        bindings: one byte for each side; different ones: a relay between two TLS sessions.
        guess: the attacker's password; None: he never takes part himself.
    """
    users = [
        User(Side(role, binding=bytes([byte]) * 32), secret)
        for role, byte, secret in zip(Role, bindings, passwords, strict=True)
    ]
    first = World((users[0], users[1]), attacks, guess, late)
    seen = Seen()
    keys, todo = {first.key()}, [first]
    while todo:
        world = todo.pop()
        frozen, possible = freeze(world), list(steps(world, types))
        seen(world)
        for step in possible:
            after = thaw(frozen)
            try:
                step(after)
            except NotAvailable:
                continue
            if (key := after.key()) not in keys:
                keys.add(key)
                todo.append(after)
                assert len(keys) <= MAX_WORLDS, "the bounds are too wide for a unit test"
    return seen


def test_without_an_attacker_both_become_verified_whoever_begins() -> None:
    seen = explore(attacks=0)
    assert (1, 1) in seen.verified
    # A minute may pass at the worst moment: then one knows, and the other has lost a try.
    assert seen.verified <= {(0, 0), (1, 0), (0, 1), (1, 1)}
    assert (1, 1) not in seen.failed


def test_two_runs_one_after_the_other_keep_the_promise() -> None:
    assert (2, 2) in explore(attacks=0, types=2).verified


# Two attacks and a timeout are as many worlds as all others together, and show nothing new: what
# a timeout does, a message that was dropped and noticed does as well.
BOUNDS = pytest.mark.parametrize(("attacks", "late"), [(1, 1), (2, 0)])


@BOUNDS
def test_an_attacker_without_a_guess_verifies_nobody_for_himself(attacks: int, late: int) -> None:
    assert (1, 1) in explore(attacks, late=late).verified


@BOUNDS
def test_different_passwords_verify_nobody(attacks: int, late: int) -> None:
    seen = explore(attacks, late=late, passwords=(SECRET, "open barley"))
    assert seen.verified == {(0, 0)}
    assert (1, 1) in seen.failed


@BOUNDS
def test_a_relay_between_two_tls_sessions_verifies_nobody(attacks: int, late: int) -> None:
    seen = explore(attacks, late=late, bindings=b"12")
    assert seen.verified == {(0, 0)}
    assert (1, 1) in seen.failed


@pytest.mark.parametrize("bindings", [b"BB", b"12"], ids=["in between", "relay"])
def test_a_wrong_guess_is_a_failed_try_and_nothing_else(bindings: bytes) -> None:
    """In between he can only spoil what two users do; as a relay not even they verify."""
    seen = explore(attacks=2, late=0, guess="open barley", bindings=bindings)
    assert {(1, 0), (0, 1)} <= seen.failed
    if bindings == b"12":
        assert seen.verified == {(0, 0)}


def test_a_right_guess_is_what_it_takes() -> None:
    """Else the tests above would prove nothing: he can do all that a peer can."""
    seen = explore(attacks=2, late=0, guess=SECRET, bindings=b"12")
    assert {(1, 0), (0, 1)} <= seen.verified


def test_what_the_attacker_sends_with_a_right_guess_is_what_a_peer_sends() -> None:
    victim = Side(Role.RESPONDER)
    world = World((User(Side(Role.INITIATOR), SECRET), User(victim, SECRET)), 0, SECRET, 0)
    party = attacker(world, world.users[1], HIS, True)
    victim.hear(messages.build("pake-start", HIS, party.share, suite=pake.SUITE))
    (reply,) = (e.element for e in victim.password() if isinstance(e, Send))
    party.meet(base64.b64decode(reply.text or ""))
    assert party.knows(base64.b64decode(reply.get("tag", "")))
