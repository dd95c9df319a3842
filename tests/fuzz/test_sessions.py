"""Two sides of Jingle sessions never disagree for ever, and the table of them stays small.

Between them is a link that keeps the order of what it delivers, but loses, repeats and delays
stanzas and their answers; both do whatever they may at any time. Then a stanza raises nothing but
``PeerError`` and changes nothing if it does, a local move nothing but ``NotAvailable``, what has
begun can be ended at any time, and once the link is whole again a ping from each side is enough
for both to hold the same sessions in the same state over the same transport.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest import mock
from xml.etree.ElementTree import Element, tostring

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import registry
from telepathy_e2e.jingle.events import Send, TransportReplaceOffered
from telepathy_e2e.jingle.registry import Sessions
from telepathy_e2e.jingle.session import Session
from telepathy_e2e.jingle.stanzas import CONDITIONS, Action, Jingle, build, parse
from telepathy_e2e.jingle.states import State, TransportState
from telepathy_e2e.role import Role
from tests.unit.jingle_support import ALICE, BOB, IBB, S5B, content, transport, xml

from .support import budget

SIDES = st.integers(0, 1)
NAMES = (ALICE, BOB)
# Whoever sent one of these has changed more than he can take back when it is refused.
FATAL = (Action.SESSION_ACCEPT, Action.TRANSPORT_ACCEPT)
# Rounds in which a link that is whole must settle everything; each opens nothing new.
ROUNDS = 50

Snapshot = tuple[State, TransportState, str, Element | None]


def snapshot(session: Session) -> Snapshot:
    return (
        session.state,
        session.transport_state,
        session._transport_tag,
        session._replacement,
    )


@dataclass
class Stanza:
    """A request on its way (with ``jingle``), or the answer to one (without)."""

    id: int
    jingle: bytes = b""
    error: PeerError | None = None


@dataclass
class Asked:
    """A request whose answer is awaited."""

    session: Session
    action: Action


@dataclass
class Side:
    sessions: Sessions = field(default_factory=Sessions)
    known: list[Session] = field(default_factory=list)
    inbox: deque[Stanza] = field(default_factory=deque)
    asked: dict[int, Asked] = field(default_factory=dict)
    offers: dict[Session, Element] = field(default_factory=dict)
    """The transport that the peer wants instead."""

    def open(self) -> list[Session]:
        return [each for each in self.known if each.state in (State.PENDING, State.ACTIVE)]


class Link(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sides = (Side(), Side())
        self.numbers = count()
        self.opened = 0

    # -- what people and programs do ------------------------------------------------------------

    @rule(who=SIDES, name=st.sampled_from("zma"), senders=st.sampled_from(("both", "initiator")))
    @precondition(lambda self: self.opened < 3)
    def initiate(self, who: int, name: str, senders: str) -> None:
        self.opened += 1
        sid = f"{name}{next(self.numbers)}"
        session = Session(Role.INITIATOR, NAMES[who], NAMES[1 - who], sid)
        self.say(who, session, session.initiate(content(senders=senders)))
        self.sides[who].sessions.add(session)
        self.sides[who].known.append(session)

    def any_session(self, who: int, data: st.DataObject) -> Session | None:
        known = self.sides[who].known
        return data.draw(st.sampled_from(known)) if known else None

    def move(self, who: int, data: st.DataObject, step: Callable[[Session], Jingle]) -> None:
        """A local move at any time, also a wrong one."""
        session = self.any_session(who, data)
        if session is None:
            return
        before = snapshot(session)
        try:
            jingle = step(session)
        except NotAvailable:
            assert snapshot(session) == before, "a move that raises has changed something"
            return
        self.say(who, session, jingle)

    @rule(who=SIDES, data=st.data())
    def accept(self, who: int, data: st.DataObject) -> None:
        """Over the transport that is agreed on by then."""

        def answer(session: Session) -> Jingle:
            return session.accept(content(transport=session._transport_tag[1:].partition("}")[0]))

        self.move(who, data, answer)

    @rule(who=SIDES, data=st.data(), condition=st.sampled_from(sorted(CONDITIONS)))
    def terminate(self, who: int, data: st.DataObject, condition: str) -> None:
        self.move(who, data, lambda session: session.terminate(condition))

    @rule(who=SIDES, data=st.data(), kind=st.sampled_from((S5B, IBB)))
    def transport_info(self, who: int, data: st.DataObject, kind: str) -> None:
        self.move(who, data, lambda session: session.transport_info(transport(kind)))

    @rule(who=SIDES, data=st.data(), kind=st.sampled_from((S5B, IBB)))
    def transport_replace(self, who: int, data: st.DataObject, kind: str) -> None:
        self.move(who, data, lambda session: session.transport_replace(transport(kind)))

    @rule(who=SIDES, data=st.data(), take=st.booleans())
    def answer_replace(self, who: int, data: st.DataObject, take: bool) -> None:
        def answer(session: Session) -> Jingle:
            offered = self.sides[who].offers.get(session)
            if offered is None or not take:
                return session.transport_reject()
            return session.transport_accept(offered)

        self.move(who, data, answer)

    @rule(who=SIDES, data=st.data(), info=st.booleans())
    def inform(self, who: int, data: st.DataObject, info: bool) -> None:
        def say(session: Session) -> Jingle:
            return session.session_info() if info else session.security_info(Element("{v}x"))

        self.move(who, data, say)

    # -- what the link does ---------------------------------------------------------------------

    @rule()
    def calm(self) -> None:
        """All that is on the way arrives, so that there is something to harm next."""
        for _ in range(4):
            for who in (0, 1):
                self.deliver(who, len(self.sides[who].inbox))

    @rule(who=SIDES, data=st.data(), kind=st.sampled_from((S5B, IBB)), through=st.booleans())
    def both_replace(self, who: int, data: st.DataObject, kind: str, through: bool) -> None:
        """Offers that cross are rare and worth it."""
        session = self.any_session(who, data)
        for side in (who, 1 - who):
            for each in self.sides[side].known:
                if session is not None and each.sid == session.sid:
                    with suppress(NotAvailable):
                        self.say(side, each, each.transport_replace(transport(kind)))
        if through:
            self.calm()
            for side in (who, 1 - who):
                for each in self.sides[side].open():
                    with suppress(NotAvailable):
                        self.say(side, each, each.transport_reject())
            self.calm()

    @rule(who=SIDES, number=st.integers(1, 4))
    def deliver(self, who: int, number: int) -> None:
        for _ in range(min(number, len(self.sides[who].inbox))):
            self.hear(who, self.sides[who].inbox.popleft())

    @rule(who=SIDES)
    def lose(self, who: int) -> None:
        """The next one never comes; whoever waits for an answer gives up at some time."""
        if not self.sides[who].inbox:
            return
        lost = self.sides[who].inbox.popleft()
        asker = 1 - who if lost.jingle else who
        self.answered(asker, lost.id, PeerError("no answer", "remote-server-timeout"))

    @rule(who=SIDES, late=st.booleans())
    def repeat(self, who: int, late: bool) -> None:
        inbox = self.sides[who].inbox
        if inbox:
            inbox.insert(len(inbox) if late else 1, inbox[0])

    # -- how it works ---------------------------------------------------------------------------

    def say(self, who: int, session: Session, jingle: Jingle) -> None:
        number = next(self.numbers)
        self.sides[who].asked[number] = Asked(session, jingle.action)
        self.sides[1 - who].inbox.append(Stanza(number, tostring(build(jingle))))

    def hear(self, who: int, stanza: Stanza) -> None:
        if not stanza.jingle:
            self.answered(who, stanza.id, stanza.error)
            return
        side, peer = self.sides[who], NAMES[1 - who]
        jingle = parse(xml(stanza.jingle))
        before = {session: snapshot(session) for session in side.known}
        try:
            session, events = side.sessions.receive(peer, jingle, own=NAMES[who], in_roster=True)
        except PeerError as error:
            assert before == {session: snapshot(session) for session in side.known}
            self.sides[1 - who].inbox.append(Stanza(stanza.id, error=error))
            return
        self.sides[1 - who].inbox.append(Stanza(stanza.id))
        if session not in side.known:
            side.known.append(session)
        for each in events:
            if isinstance(each, TransportReplaceOffered):
                side.offers[session] = each.transport
            elif isinstance(each, Send):
                self.say(who, session, each.jingle)

    def answered(self, who: int, number: int, error: PeerError | None) -> None:
        asked = self.sides[who].asked.pop(number, None)
        if asked is None or error is None:
            return
        asked.session.refused(asked.action)
        if asked.action is Action.SESSION_INITIATE:
            assert asked.session.state is not State.PENDING, "a refused offer is open"
        gone = error.jingle == "unknown-session"
        if (gone or asked.action in FATAL) and asked.session in self.sides[who].open():
            self.say(who, asked.session, asked.session.terminate("general-error"))

    # -- the promises ---------------------------------------------------------------------------

    @invariant()
    def what_has_begun_can_be_ended(self) -> None:
        for side in self.sides:
            for session in side.open():
                ended = copy.copy(session)
                assert ended.terminate("cancel").action is Action.SESSION_TERMINATE
                assert ended.state is State.ENDED

    @invariant()
    def nothing_that_ended_is_kept_in_the_table(self) -> None:
        for side in self.sides:
            for session in side.known:
                if session.state is State.ENDED:
                    assert side.sessions.get(session.peer, session.sid) is not session

    def teardown(self) -> None:
        self.settle()
        held: list[dict[str, Any]] = [
            {
                each.sid: (each.state, each.transport_state, each._transport_tag)
                for each in side.open()
            }
            for side in self.sides
        ]
        assert held[0] == held[1], "they disagree for ever"
        for side in self.sides:
            assert all(each.transport_state is TransportState.AGREED for each in side.open())

    def settle(self) -> None:
        """The link is whole from now on; people stop, programs answer what is open."""
        for _ in range(ROUNDS):
            for who, side in enumerate(self.sides):
                while side.inbox:
                    self.hear(who, side.inbox.popleft())
                for session in side.open():
                    if session.transport_state.startswith(session.role.other.value):
                        self.say(who, session, session.transport_reject())
                    self.say(who, session, session.session_info())
        for who in (0, 1):
            assert all(
                each.action is Action.SESSION_INFO for each in self.sides[who].asked.values()
            )


Link.TestCase.settings = budget(1, steps=40)
test_two_sides_never_disagree_for_ever = Link.TestCase


PEERS = tuple(f"{name}@example.test/{device}" for name in "abcdef" for device in "xy")
BOUNDS: dict[str, Any] = {
    "MAX_SESSIONS": 12,
    "MAX_PER_PEER": 4,
    "MAX_PER_STRANGER": 2,
    "MAX_STRANGERS": 5,
}

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("offer", "offer", "offer", "offer", "own", "end", "forget")),
        st.sampled_from(PEERS),
        st.booleans(),
    ),
    min_size=20,
    max_size=80,
)


@given(STEPS)
def test_the_table_of_sessions_never_outgrows_its_bounds(
    steps: list[tuple[str, str, bool]],
) -> None:
    sessions = Sessions()
    strangers: set[Session] = set()
    with mock.patch.multiple(registry, **BOUNDS):
        for number, (step, peer, in_roster) in enumerate(steps):
            sid = f"{number:03}"
            alive = [each for each in sessions if each.state is not State.ENDED]
            theirs = [each for each in alive if each.role is Role.RESPONDER]
            of_peer = [each for each in theirs if _bare(each.peer) == _bare(peer)]
            match step:
                case "offer":
                    full = (
                        len(alive) >= BOUNDS["MAX_SESSIONS"]
                        or len(of_peer)
                        >= BOUNDS["MAX_PER_PEER" if in_roster else "MAX_PER_STRANGER"]
                        or (
                            not in_roster and len(strangers & set(alive)) >= BOUNDS["MAX_STRANGERS"]
                        )
                    )
                    offer = Jingle(Action.SESSION_INITIATE, sid, (content(),))
                    try:
                        session, _ = sessions.receive(peer, offer, own=ALICE, in_roster=in_roster)
                    except PeerError as error:
                        assert full, "refused although there was room"
                        assert error.condition == "resource-constraint"  # noqa: PT017
                    else:
                        assert not full, "one more than the bound"
                        strangers |= set() if in_roster else {session}
                case "own":
                    session = Session(Role.INITIATOR, ALICE, peer, sid)
                    session.initiate(content(senders="both"))
                    sessions.add(session)
                case "end" if alive:
                    alive[number % len(alive)].terminate("cancel")
                case "forget" if alive:
                    sessions.remove(alive[number % len(alive)])


def _bare(jid: str) -> str:
    return jid.partition("/")[0]
