from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import s5b
from telepathy_e2e.jingle.s5b import (
    MAX_CANDIDATES,
    Activate,
    AwaitActivation,
    Candidate,
    Event,
    Failed,
    GiveUp,
    SendTransportInfo,
    Socks5Negotiation,
    Socks5Transport,
    TryCandidates,
    Use,
    build,
    parse,
    priority,
)
from telepathy_e2e.role import Role

from .jingle_support import ALICE, BOB, elements, over_the_wire

BOTH = pytest.mark.parametrize("role", list(Role))

JIDS = {Role.INITIATOR: ALICE, Role.RESPONDER: BOB}


def candidate(
    cid: str, host: str = "192.0.2.1", port: int = 5000, *, value: int = 100, kind: str = "direct"
) -> Candidate:
    return Candidate(cid, host, port, "x@example.test/y", value, kind)


def negotiation(role: Role, *own: Candidate) -> Socks5Negotiation:
    return Socks5Negotiation(role, "stream", JIDS[role], JIDS[role.other], own)


def offer(*candidates: Candidate, dstaddr: str | None = None) -> Element:
    return build(Socks5Transport("stream", candidates, dstaddr))


def used(cid: str) -> Element:
    return build(Socks5Transport("stream", used=cid))


def error() -> Element:
    return build(Socks5Transport("stream", candidate_error=True))


def activated(cid: str) -> Element:
    return build(Socks5Transport("stream", activated=cid))


def proxy_error() -> Element:
    return build(Socks5Transport("stream", proxy_error=True))


def said(event: Event) -> Socks5Transport:
    assert isinstance(event, SendTransportInfo)
    return parse(over_the_wire(event.transport))


def refused(machine: Socks5Negotiation, transport: Element) -> str:
    before = dict(vars(machine))
    with pytest.raises(PeerError) as caught:
        machine.receive_info(transport)
    assert vars(machine) == before
    return caught.value.condition


OURS = candidate("ours", "192.0.2.10")
THEIRS = candidate("theirs", "192.0.2.20")


# -- trying -----------------------------------------------------------------------------------


@BOTH
def test_the_peers_candidates_are_tried_best_first(role: Role) -> None:
    machine = negotiation(role)
    low, high = candidate("low", value=1), candidate("high", "192.0.2.2", value=2)
    assert machine.receive_candidates(offer(low, high)) == [TryCandidates((high, low))]


@BOTH
def test_a_connection_is_told_to_the_peer(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS))
    (event,) = machine.connected("theirs")
    assert said(event).used == "theirs"


@BOTH
def test_no_connection_is_told_to_the_peer(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS))
    (event,) = machine.could_not_connect()
    assert said(event).candidate_error


@BOTH
def test_an_empty_offer_is_one_without_a_connection(role: Role) -> None:
    (event,) = negotiation(role).receive_candidates(offer())
    assert said(event).candidate_error


@BOTH
def test_the_same_place_is_never_tried_twice(role: Role) -> None:
    machine = negotiation(role)
    one = candidate("one", "2001:db8::1")
    again = candidate("again", "2001:DB8::0:1")
    other_port = candidate("other", "2001:db8::1", 5001)
    (tries,) = machine.receive_candidates(offer(one, again, other_port))
    assert tries == TryCandidates((one, other_port))
    assert machine.receive_info(offer(candidate("later", "2001:db8:0::1"))) == []


@BOTH
def test_candidates_that_come_later_are_tried_too(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS))
    late = candidate("late", "192.0.2.30")
    assert machine.receive_info(offer(late)) == [TryCandidates((late,))]
    assert machine.could_not_connect() == []  # one of two lists
    *_, event = machine.connected("late")
    assert said(event).used == "late"
    assert machine.could_not_connect() == []


@BOTH
def test_candidates_that_come_after_the_choice_are_not_tried(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS))
    machine.could_not_connect()
    assert machine.receive_info(offer(candidate("late", "192.0.2.30"))) == []


@BOTH
def test_a_peer_has_us_connect_to_so_many_places_and_no_more(role: Role) -> None:
    machine = negotiation(role)
    half = MAX_CANDIDATES // 2
    many = [candidate(f"c{n}", port=1000 + n) for n in range(MAX_CANDIDATES + 1)]
    machine.receive_candidates(offer(*many[:half]))
    machine.receive_info(offer(*many[half:MAX_CANDIDATES]))
    assert refused(machine, offer(many[-1])) == "resource-constraint"
    # Those that are dropped count as well.
    machine = negotiation(role)
    machine.receive_candidates(offer(*[candidate(f"c{n}") for n in range(MAX_CANDIDATES)]))
    assert refused(machine, offer(candidate("more"))) == "resource-constraint"


@BOTH
def test_a_cid_is_used_once(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS))
    assert refused(machine, offer(candidate("theirs", "192.0.2.99"))) == "bad-request"


@BOTH
def test_failures_one_by_one_end_the_list_sooner(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS, candidate("two", "192.0.2.30")))
    assert machine.failed("theirs") == []
    (event,) = machine.failed("two")
    assert said(event).candidate_error
    assert machine.could_not_connect() == []


@BOTH
def test_a_connection_that_comes_too_late_is_of_no_use(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS, candidate("two", "192.0.2.30")))
    events = machine.connected("two")
    assert isinstance(events[0], GiveUp)
    assert machine.connected("theirs") == []


@BOTH
def test_connections_to_nobodys_candidates_are_a_fault_of_ours(role: Role) -> None:
    with pytest.raises(ValueError, match="not to be tried"):
        negotiation(role).connected("x")


# -- our own offer ----------------------------------------------------------------------------


@BOTH
def test_our_candidates_are_offered(role: Role) -> None:
    transport = parse(over_the_wire(negotiation(role, OURS).transport()))
    assert transport == Socks5Transport("stream", (OURS,))


@BOTH
def test_an_offer_with_a_proxy_says_what_to_ask_it_for(role: Role) -> None:
    machine = negotiation(role, candidate("p", kind="proxy"))
    transport = parse(over_the_wire(machine.transport()))
    assert transport.dstaddr == machine.own_dstaddr
    assert machine.own_dstaddr == s5b.dstaddr("stream", JIDS[role], JIDS[role.other])
    assert machine.peer_dstaddr == s5b.dstaddr("stream", JIDS[role.other], JIDS[role])


@BOTH
def test_the_peers_dstaddr_is_asked_for(role: Role) -> None:
    machine = negotiation(role)
    machine.receive_candidates(offer(THEIRS, dstaddr="1" * 40))
    assert machine.peer_dstaddr == "1" * 40


def test_the_responder_leaves_a_common_proxy_to_the_initiator() -> None:
    proxy = candidate("theirs", kind="proxy")
    machine = negotiation(Role.RESPONDER, candidate("ours", kind="proxy"), OURS)
    assert machine.receive_candidates(offer(proxy)) == [TryCandidates((proxy,))]
    transport = parse(over_the_wire(machine.transport()))
    assert [each.host for each in transport.candidates] == [OURS.host]


def test_a_common_proxy_is_the_initiators_even_if_both_offered_it() -> None:
    proxies = {role: candidate(role.value, kind="proxy") for role in Role}
    responder = negotiation(Role.RESPONDER, proxies[Role.RESPONDER])
    responder.transport()
    (tries,) = responder.receive_candidates(offer(proxies[Role.INITIATOR]))
    assert tries == TryCandidates((proxies[Role.INITIATOR],))
    initiator = negotiation(Role.INITIATOR, proxies[Role.INITIATOR])
    (event,) = initiator.receive_candidates(offer(proxies[Role.RESPONDER]))
    assert said(event).candidate_error


@BOTH
def test_nobody_has_us_connect_to_ourselves(role: Role) -> None:
    machine = negotiation(role, OURS)
    reflected = candidate("x", "::ffff:192.0.2.10")
    (event,) = machine.receive_candidates(offer(reflected))
    assert said(event).candidate_error


@BOTH
def test_our_own_candidates_are_bounded_too(role: Role) -> None:
    many = [candidate(f"c{n}") for n in range(MAX_CANDIDATES + 1)]
    negotiation(role, *many[1:])
    with pytest.raises(ValueError, match="too many"):
        negotiation(role, *many)


# -- choosing ---------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_when_both_fail_socks5_has_failed(role: Role, first: str) -> None:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIRS))
    if first == "ours":
        machine.could_not_connect()
        assert machine.receive_info(error()) == [Failed()]
    else:
        assert machine.receive_info(error()) == []
        events = machine.could_not_connect()
        assert said(events[0]).candidate_error
        assert events[1:] == [Failed()]
    assert machine.phase is s5b.Phase.FAILED


@BOTH
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_the_only_connection_is_used(role: Role, first: str) -> None:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIRS))
    if first == "ours":
        machine.connected("theirs")
        assert machine.receive_info(error()) == [Use(THEIRS, theirs=True)]
    else:
        machine.receive_info(error())
        assert machine.connected("theirs")[1:] == [Use(THEIRS, theirs=True)]


@BOTH
def test_the_peers_only_connection_is_used(role: Role) -> None:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIRS))
    machine.could_not_connect()
    assert machine.receive_info(used("ours")) == [Use(OURS, theirs=False)]


@BOTH
@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (2, 1)])
def test_of_two_connections_the_higher_priority_counts(role: Role, ours: int, theirs: int) -> None:
    own, other = candidate("own", value=ours), candidate("other", "192.0.2.2", value=theirs)
    machine = negotiation(role, own)
    machine.receive_candidates(offer(other))
    machine.connected("other")
    expected = Use(other, theirs=True) if theirs > ours else Use(own, theirs=False)
    assert machine.receive_info(used("own")) == [expected]


@BOTH
def test_of_two_equal_connections_the_initiators_choice_counts(role: Role) -> None:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIRS))
    machine.connected("theirs")
    (use,) = machine.receive_info(used("ours"))
    chosen_by_us = role is Role.INITIATOR
    assert use == Use(THEIRS if chosen_by_us else OURS, theirs=chosen_by_us)


@BOTH
def test_only_better_candidates_are_tried_after_the_peers_connection(role: Role) -> None:
    machine = negotiation(role, candidate("own", value=50))
    low = candidate("low", "192.0.2.2", value=49)
    high = candidate("high", "192.0.2.3", value=51)
    machine.receive_candidates(offer(low, high))
    assert machine.receive_info(used("own")) == [GiveUp((low,))]
    assert machine.connected("high")[1:] == [Use(high, theirs=True)]


@BOTH
def test_nothing_is_tried_when_the_peers_connection_cannot_be_beaten(role: Role) -> None:
    machine = negotiation(role, candidate("own", value=50))
    low = candidate("low", "192.0.2.2", value=49)
    machine.receive_candidates(offer(low))
    give_up, send, use = machine.receive_info(used("own"))
    assert give_up == GiveUp((low,))
    assert said(send).candidate_error
    assert isinstance(use, Use)
    assert machine.could_not_connect() == []
    assert machine.connected("low") == []


def test_equal_candidates_are_worth_trying_for_the_initiator_only() -> None:
    initiator, responder = (negotiation(role, OURS) for role in Role)
    for machine in (initiator, responder):
        machine.receive_candidates(offer(THEIRS))
    assert initiator.receive_info(used("ours")) == []
    assert responder.receive_info(used("ours"))[0] == GiveUp((THEIRS,))


@BOTH
def test_what_the_peer_has_reached_is_known_until_we_have_chosen(role: Role) -> None:
    own = candidate("own", value=50)
    machine = negotiation(role, own)
    machine.receive_candidates(offer(candidate("high", "192.0.2.3", value=51)))
    assert machine.reached is None
    machine.receive_info(used("own"))
    assert machine.reached == own
    machine.could_not_connect()
    assert machine.reached is None


@BOTH
def test_a_choice_may_come_before_the_offer(role: Role) -> None:
    machine = negotiation(role, OURS)
    assert machine.receive_info(used("ours")) == []
    events = machine.receive_candidates(offer(candidate("low", "192.0.2.2", value=1)))
    assert said(events[0]).candidate_error
    assert events[1:] == [Use(OURS, theirs=False)]


@BOTH
def test_the_peer_chooses_once(role: Role) -> None:
    machine = negotiation(role, OURS, candidate("two", "192.0.2.11"))
    machine.receive_candidates(offer(THEIRS))
    machine.receive_info(used("ours"))
    for again in (used("ours"), used("two"), error()):
        assert refused(machine, again) == "unexpected-request"


@BOTH
def test_the_peer_chooses_what_we_offered(role: Role) -> None:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIRS))
    assert refused(machine, used("theirs")) == "item-not-found"


@BOTH
def test_an_offer_does_not_choose(role: Role) -> None:
    for statement in (used("ours"), error(), activated("ours"), proxy_error()):
        with pytest.raises(PeerError):
            negotiation(role, OURS).receive_candidates(statement)


@BOTH
def test_another_stream_is_refused(role: Role) -> None:
    machine = negotiation(role, OURS)
    other = build(Socks5Transport("other", (THEIRS,)))
    with pytest.raises(PeerError):
        machine.receive_candidates(other)
    assert refused(machine, other) == "bad-request"


# -- proxies ----------------------------------------------------------------------------------

OUR_PROXY = candidate("p1", "192.0.2.50", kind="proxy", value=priority("proxy", 1))
THEIR_PROXY = candidate("p2", "192.0.2.51", kind="proxy", value=priority("proxy", 1))


def at_our_proxy(role: Role) -> Socks5Negotiation:
    machine = negotiation(role, OUR_PROXY)
    machine.receive_candidates(offer(THEIRS))
    machine.could_not_connect()
    assert machine.receive_info(used("p1")) == [Activate(OUR_PROXY)]
    return machine


def at_their_proxy(role: Role) -> Socks5Negotiation:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIR_PROXY))
    machine.connected("p2")
    assert machine.receive_info(error()) == [AwaitActivation(THEIR_PROXY)]
    return machine


@BOTH
def test_our_proxy_is_activated_and_then_used(role: Role) -> None:
    machine = at_our_proxy(role)
    send, use = machine.activated()
    assert said(send).activated == "p1"
    assert use == Use(OUR_PROXY, theirs=False)
    assert machine.activated() == []
    assert machine.proxy_failed() == []


@BOTH
def test_their_proxy_is_used_once_it_is_activated(role: Role) -> None:
    machine = at_their_proxy(role)
    assert machine.receive_info(activated("p2")) == [Use(THEIR_PROXY, theirs=True)]
    assert refused(machine, activated("p2")) == "unexpected-request"


@BOTH
def test_a_proxy_that_fails_us_is_told_to_the_peer(role: Role) -> None:
    for machine in (at_our_proxy(role), at_their_proxy(role)):
        send, failed = machine.proxy_failed()
        assert said(send).proxy_error
        assert failed == Failed()
        assert machine.activated() == []
        assert machine.proxy_failed() == []


@BOTH
def test_a_proxy_that_fails_the_peer_fails(role: Role) -> None:
    for machine in (at_our_proxy(role), at_their_proxy(role)):
        assert machine.receive_info(proxy_error()) == [Failed()]
        assert machine.activated() == []


@BOTH
def test_only_the_side_that_offered_the_proxy_activates_it(role: Role) -> None:
    assert refused(at_our_proxy(role), activated("p1")) == "unexpected-request"
    assert refused(at_their_proxy(role), activated("other")) == "item-not-found"


@BOTH
def test_nothing_is_activated_or_failed_where_there_is_no_proxy(role: Role) -> None:
    machine = negotiation(role, OURS)
    machine.receive_candidates(offer(THEIRS))
    for _ in range(2):
        assert refused(machine, activated("ours")) == "unexpected-request"
        assert refused(machine, proxy_error()) == "unexpected-request"
        machine.connected("theirs")
        machine = at_direct(machine)
    assert machine.proxy_failed() == []


def at_direct(machine: Socks5Negotiation) -> Socks5Negotiation:
    if machine.phase is s5b.Phase.CHOICE:
        machine.receive_info(error())
    return machine


# -- two sides --------------------------------------------------------------------------------


@dataclass
class Side:
    """One side, with sockets that a test decides about."""

    machine: Socks5Negotiation
    reachable: frozenset[str]
    inbox: deque[Element] = field(default_factory=deque)
    trying: list[deque[Candidate]] = field(default_factory=list)
    tried: list[tuple[str, int]] = field(default_factory=list)
    activating: bool = False
    proxy_works: bool = True
    result: Use | Failed | None = None

    def act(self, events: Sequence[Event], other: Side) -> None:
        for event in events:
            match event:
                case TryCandidates(candidates):
                    self.trying.append(deque(candidates))
                case SendTransportInfo(transport):
                    other.inbox.append(over_the_wire(transport))
                case Activate():
                    self.activating = True
                case Use() | Failed():
                    assert self.result is None
                    self.result = event

    def can_step(self) -> bool:
        return bool(self.inbox or self.trying or self.activating)

    def step(self, other: Side) -> None:
        if self.inbox:
            self.act(self.machine.receive_info(self.inbox.popleft()), other)
        elif self.activating:
            self.activating = False
            report = self.machine.activated if self.proxy_works else self.machine.proxy_failed
            self.act(report(), other)
        else:
            self.attempt(other)

    def attempt(self, other: Side) -> None:
        """One connection of the oldest list, though there may be mail."""
        if not self.trying:
            return
        todo = self.trying[0]
        if not todo:
            self.trying.pop(0)
            self.act(self.machine.could_not_connect(), other)
            return
        candidate = todo.popleft()
        assert (candidate.host, candidate.port) not in self.tried
        self.tried.append((candidate.host, candidate.port))
        if candidate.cid in self.reachable:
            self.trying.pop(0)
            self.act(self.machine.connected(candidate.cid), other)


def _candidates(prefix: str) -> st.SearchStrategy[list[Candidate]]:
    return st.lists(
        st.builds(
            candidate,
            cid=st.integers(0, 10**9).map(lambda number: f"{prefix}{number}"),
            host=st.integers(1, 4).map(lambda number: f"192.0.2.{number}"),
            port=st.integers(1, 3),
            value=st.integers(1, 4),
            kind=st.sampled_from(("direct", "proxy")),
        ),
        max_size=4,
        unique_by=lambda each: each.cid,
    )


@given(_candidates("a"), _candidates("b"), st.data())
def test_both_sides_always_agree(
    alices: list[Candidate], bobs: list[Candidate], data: st.DataObject
) -> None:
    """Whatever can be reached and in whichever order things happen."""
    everybody = [each.cid for each in alices + bobs]
    reachable = (
        st.frozensets(st.sampled_from(everybody)) if everybody else st.just(frozenset[str]())
    )
    alice = Side(negotiation(Role.INITIATOR, *alices), data.draw(reachable))
    bob = Side(negotiation(Role.RESPONDER, *bobs), data.draw(reachable))
    alice.proxy_works, bob.proxy_works = data.draw(st.booleans()), data.draw(st.booleans())
    first = over_the_wire(alice.machine.transport())
    events = bob.machine.receive_candidates(first)
    answer = over_the_wire(bob.machine.transport())
    bob.act(events, alice)
    if data.draw(st.booleans()):  # Bob may choose before his answer arrives
        while bob.trying:
            bob.attempt(alice)
        while alice.inbox:
            alice.step(bob)
    alice.act(alice.machine.receive_candidates(answer), bob)
    while alice.can_step() or bob.can_step():
        sides = [pair for pair in ((alice, bob), (bob, alice)) if pair[0].can_step()]
        side, other = sides[0] if len(sides) == 1 else data.draw(st.sampled_from(sides))
        if side.trying and (side.inbox or side.activating) and data.draw(st.booleans()):
            side.attempt(other)
        else:
            side.step(other)
    if isinstance(alice.result, Use):
        assert isinstance(bob.result, Use)
        assert alice.result.candidate == bob.result.candidate
        assert alice.result.theirs is not bob.result.theirs
        user = alice if alice.result.theirs else bob
        assert alice.result.candidate.cid in user.reachable
    else:
        assert alice.result == bob.result == Failed()


@given(st.lists(elements(tag=s5b.TRANSPORT, depth=1), max_size=6), st.sampled_from(list(Role)))
def test_no_element_raises_anything_but_a_peer_error(transports: list[Element], role: Role) -> None:
    machine = negotiation(role, OURS, OUR_PROXY)
    for transport in transports:
        transport.set("sid", "stream")
        try:
            events = machine.receive_info(transport)
        except PeerError:
            continue
        for event in events:
            if isinstance(event, SendTransportInfo):
                said(event)
