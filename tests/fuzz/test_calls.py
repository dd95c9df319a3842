"""Calls: whatever both sides do, in whatever order it arrives, they agree; and no parser of calls
raises anything but ``PeerError``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any
from xml.etree.ElementTree import Element, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import call_negotiation, grouping, ice, rtp, rtp_info, stanzas
from telepathy_e2e.jingle.call_contents import MAX_CONTENTS
from telepathy_e2e.jingle.call_session import CallSession
from telepathy_e2e.jingle.stanzas import Jingle
from telepathy_e2e.jingle.states import State, TransportState
from telepathy_e2e.xmpp import call_messages
from tests.unit.call_support import CallWire, active, media

from .support import STANZAS, budget, mutated_element

SIDES = st.sampled_from((0, 1))
SENDERS = st.sampled_from(("both", "initiator", "none", "responder"))
#: A content among those that there are; taken modulo their number.
WHICH = st.integers(0, MAX_CONTENTS - 1)

Move = Callable[[CallSession], Jingle]


class Calls(RuleBasedStateMachine):
    """Two people on the phone, whose clients do what they like at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = CallWire()
        self.names = count()
        self.begun = False

    @property
    def sides(self) -> tuple[CallSession, CallSession]:
        return self.wire.alice, self.wire.bob

    def move(self, who: int, step: Move) -> None:
        """A local move at any time, also a wrong one."""
        session = self.sides[who]
        before = _snapshot(session)
        try:
            jingle = step(session)
        except NotAvailable:
            assert _snapshot(session) == before, "a move that raises has changed something"
            return
        self.wire.send(session, jingle)

    def about(self, who: int, which: int, step: Callable[[CallSession, Any], Jingle]) -> None:
        contents = self.sides[who].contents
        if contents:
            self.move(who, lambda session: step(session, contents[which % len(contents)]))

    def new(self, who: int, kind: str, senders: str) -> stanzas.Content:
        creator = self.sides[who].role.value
        return media(f"c{next(self.names)}", creator, kind=kind, senders=senders)

    # -- what people and programs do --------------------------------------------------------------

    @rule(kinds=st.lists(SENDERS, min_size=1, max_size=3))
    @precondition(lambda self: not self.begun)
    def initiate(self, kinds: list[str]) -> None:
        self.begun = True
        contents = [self.new(0, "audio", senders) for senders in kinds]
        self.move(0, lambda session: session.initiate(contents))

    @rule(senders=st.one_of(st.none(), SENDERS))
    def accept(self, senders: str | None) -> None:
        def answer(session: CallSession) -> Jingle:
            return session.accept(
                [
                    replace(each.content, senders=senders)
                    for each in session.contents
                    if each.content in session.offered
                ]
            )

        if self.wire.bob.state is State.PENDING and any(
            each.content in self.wire.bob.offered for each in self.wire.bob.contents
        ):
            self.move(1, answer)

    @rule(who=SIDES, kind=st.sampled_from(("audio", "video")), senders=SENDERS)
    def add(self, who: int, kind: str, senders: str) -> None:
        self.move(who, lambda session: session.content_add([self.new(who, kind, senders)]))

    @rule(who=SIDES, which=WHICH, senders=st.one_of(st.none(), SENDERS))
    def take(self, who: int, which: int, senders: str | None) -> None:
        self.about(
            who,
            which,
            lambda session, each: session.content_accept([replace(each.content, senders=senders)]),
        )

    @rule(who=SIDES, which=WHICH)
    def reject(self, who: int, which: int) -> None:
        self.about(who, which, lambda session, each: session.content_reject([each.key]))

    @rule(who=SIDES, which=WHICH)
    def remove(self, who: int, which: int) -> None:
        self.about(who, which, lambda session, each: session.content_remove([each.key]))

    @rule(who=SIDES, which=WHICH, senders=SENDERS)
    def modify(self, who: int, which: int, senders: str) -> None:
        self.about(who, which, lambda session, each: session.content_modify(each.key, senders))

    @rule(who=SIDES, which=WHICH)
    def inform(self, who: int, which: int) -> None:
        new = Element(ice.TRANSPORT)
        self.about(who, which, lambda session, each: session.transport_info(each.key, new))

    @rule(who=SIDES, which=WHICH)
    def replace_transport(self, who: int, which: int) -> None:
        new = Element(ice.TRANSPORT)
        self.about(who, which, lambda session, each: session.transport_replace(each.key, new))

    @rule(who=SIDES, which=WHICH, agree=st.booleans())
    def answer_transport(self, who: int, which: int, agree: bool) -> None:
        def answer(session: CallSession, each: Any) -> Jingle:
            if agree:
                return session.transport_accept(each.key, Element(ice.TRANSPORT))
            return session.transport_reject(each.key)

        self.about(who, which, answer)

    @rule(who=SIDES, roll=st.integers(0, 19))
    def hang_up(self, who: int, roll: int) -> None:
        if not roll:  # seldom: nothing comes after it
            self.move(who, lambda session: session.terminate("success"))

    @rule(who=SIDES, times=st.integers(1, 6))
    def deliver(self, who: int, times: int) -> None:
        queue = (self.wire.to_alice, self.wire.to_bob)[who]
        for _ in range(times):
            if queue:
                self.wire.deliver(self.sides[who])

    def teardown(self) -> None:
        self.wire.settle()
        # What is left open is answered, as people do in the end.
        for who, session in enumerate(self.sides):
            for each in session.contents:
                if each.transport_state is not TransportState.AGREED:
                    self.move(who, lambda s, key=each.key: s.transport_reject(key))  # type: ignore[misc]
        self.wire.settle()
        alice, bob = (_view(each) for each in self.sides)
        assert alice == bob, "they disagree for ever"
        for error in self.wire.errors:
            # Nothing that one of us does is an offence to the other.
            assert error.jingle in ("tie-break", "unknown-session") or (
                error.condition == "resource-constraint"
            ), error
        assert all(len(each.contents) <= MAX_CONTENTS + 8 for each in self.sides)


def _view(session: CallSession) -> tuple[State, dict[Any, Any]]:
    if session.state is State.ENDED:
        return State.ENDED, {}
    return session.state, {
        each.key: (each.state, each.senders, each.transport_state) for each in session.contents
    }


def _snapshot(session: CallSession) -> object:
    return session.state, session.contents


Calls.TestCase.settings = budget(0.5, 40)
TestCalls = Calls.TestCase


# -- parsers --------------------------------------------------------------------------------------


def _message(*children: Element) -> Element:
    message = Element("{jabber:client}message")
    message.extend(children)
    return message


_REASON = call_messages.Reason("busy", "not now")
MESSAGES = tuple(
    _message(*call_messages.build(each))
    for each in (
        call_messages.Propose("c1", ("audio", "video")),
        call_messages.Ringing("c1"),
        call_messages.Proceed("c1"),
        call_messages.Reject("c1", _REASON, tie_break=True),
        call_messages.Retract("c1", _REASON),
        call_messages.Finish("c1", _REASON, "c2"),
    )
)
INFOS = tuple(
    rtp_info.build(each)
    for each in (
        rtp_info.Active(),
        rtp_info.Hold(),
        rtp_info.Mute("initiator", "voice"),
        rtp_info.Unmute(),
        rtp_info.Ringing(),
    )
)
CALLS = tuple(
    each
    for each in STANZAS
    if each.tag.endswith("}jingle")
    and any(rtp.is_rtp(part) or ice.is_ice(part) for part in each.iter())
)
OURS = (
    rtp.build(call_negotiation.offer("audio")),
    rtp.build(call_negotiation.offer("video")),
)
ORIGINALS = (*CALLS, *OURS, *MESSAGES, *INFOS, grouping.build_group(["voice", "face"]))


def _description(element: Element) -> None:
    description = rtp.parse(element)
    assert rtp.parse(rtp.build(description)) == replace(description, sdes=False)
    with suppress(PeerError):
        answer = call_negotiation.answer(description)
        assert {each.id for each in answer.payload_types} <= {
            each.id for each in description.payload_types
        }
        call_negotiation.agreed(answer, description)
    for media_ in ("audio", "video"):
        with suppress(PeerError):
            call_negotiation.agreed(call_negotiation.offer(media_), description)


def _ice(element: Element) -> None:
    transport = ice.parse(element)
    assert len(transport.candidates) <= ice.MAX_CANDIDATES
    assert ice.parse(ice.build(transport)) == transport
    for each in transport.fingerprints:
        for own in ("active", "passive", "actpass"):
            with suppress(PeerError):
                ice.dtls_role(own, each.setup)
        with suppress(PeerError):
            ice.dtls_role(ice.answer_setup(each.setup), each.setup)


def _infos(element: Element) -> None:
    (info,) = rtp_info.parse([element])
    assert rtp_info.parse([rtp_info.build(info)]) == [info]


def _bundle(element: Element) -> None:
    names = grouping.parse_group([element])
    if names:
        assert grouping.parse_group([grouping.build_group(names)]) == names


def _announcement(element: Element) -> None:
    call = call_messages.parse(element)
    if call is not None:
        assert call_messages.parse(_message(*call_messages.build(call))) == call


def _call(element: Element) -> None:
    jingle = stanzas.parse(element)
    for wire in (active(), CallWire()):
        for session in (wire.alice, wire.bob):
            before = _snapshot(session)
            try:
                session.receive(replace(jingle, sid=session.sid))
            except PeerError:
                assert _snapshot(session) == before
            assert len(session.contents) <= MAX_CONTENTS


PARSERS: dict[str, Callable[[Element], None]] = {
    "description": _description,
    "ice": _ice,
    "info": _infos,
    "group": _bundle,
    "message": _announcement,
    "call": _call,
}


def _taken(name: str) -> list[Element]:
    """All parts of the originals that this parser takes."""
    taken = {}
    for original in ORIGINALS:
        for part in original.iter():
            with suppress(PeerError):
                PARSERS[name](part)
                taken[tostring(part)] = part
    return list(taken.values())


TAKEN = {name: _taken(name) for name in PARSERS}


@pytest.mark.parametrize("name", PARSERS)
@given(st.data())
def test_nothing_nearly_right_raises_anything_but_peer_error(
    name: str, data: st.DataObject
) -> None:
    element = data.draw(mutated_element(TAKEN[name], 3))
    with suppress(PeerError):
        PARSERS[name](element)


@budget(0.5)
@given(mutated_element(ORIGINALS))
def test_no_element_raises_anything_but_peer_error(element: Element) -> None:
    for parse in PARSERS.values():
        for part in list(element.iter())[:40]:
            with suppress(PeerError):
                parse(part)


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_takes_some_of_what_is_bent_here(name: str) -> None:
    assert TAKEN[name]


def test_every_recorded_description_and_transport_is_taken() -> None:
    found = [part for each in CALLS for part in each.iter()]
    descriptions = [part for part in found if rtp.is_rtp(part)]
    transports = [part for part in found if ice.is_ice(part)]
    assert len(descriptions) == 10
    assert len(transports) > 20
    for part in descriptions:
        _description(part)
    for part in transports:
        _ice(part)
