from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import ice, rtp
from telepathy_e2e.jingle.call_contents import MAX_CONTENTS, MAX_GONE
from telepathy_e2e.jingle.call_session import CallSession
from telepathy_e2e.jingle.events import (
    CallAccepted,
    CallInitiated,
    CallTransportInfo,
    CallTransportReplaced,
    CallTransportReplaceOffered,
    CallTransportReplaceRejected,
    ContentAccepted,
    ContentAdded,
    ContentModified,
    ContentRejected,
    ContentRemoved,
    DescriptionInfo,
    Ignored,
    SecurityInfo,
    Send,
    SessionInfo,
    Terminated,
)
from telepathy_e2e.jingle.registry import Registry, new_call_or_session
from telepathy_e2e.jingle.session import Session
from telepathy_e2e.jingle.stanzas import Action, Content, Jingle, Reason, parse
from telepathy_e2e.jingle.states import ContentState, State, TransportState
from telepathy_e2e.role import Role

from .call_support import CallWire, active, media, ringing
from .jingle_support import ALICE, BOB, content, sample

VOICE, FACE = ("initiator", "voice"), ("initiator", "face")


def transport() -> Element:
    return Element(ice.TRANSPORT)


def keys(session: CallSession) -> list[tuple[str, str]]:
    return [each.key for each in session.contents]


def senders(session: CallSession) -> list[str]:
    return [each.senders for each in session.contents]


def sides(wire: CallWire, role: Role) -> tuple[CallSession, CallSession]:
    """Who does something, and the other one."""
    return (wire.alice, wire.bob) if role is Role.INITIATOR else (wire.bob, wire.alice)


def about(action: Action, *contents: Content, reason: Reason | None = None) -> Jingle:
    return Jingle(action, "sid1", contents, reason)


def refused(session: CallSession, jingle: Jingle) -> tuple[str, str | None]:
    before = session.state, session.contents
    with pytest.raises(PeerError) as caught:
        session.receive(jingle)
    assert (session.state, session.contents) == before
    return caught.value.condition, caught.value.jingle


OUT_OF_ORDER = ("unexpected-request", "out-of-order")
TIE_BREAK = ("conflict", "tie-break")


# -- the call -------------------------------------------------------------------------------------


def test_a_call_of_two_contents_is_offered_and_taken() -> None:
    wire = CallWire()
    offered = (media("voice"), media("face", kind="video"))
    group = rtp.build_group(["voice", "face"])
    wire.send(wire.alice, wire.alice.initiate(offered, [group]))
    (initiated,) = wire.deliver(wire.bob)
    assert isinstance(initiated, CallInitiated)
    assert [each.name for each in initiated.contents] == ["voice", "face"]
    assert rtp.parse_group(initiated.payload) == ("voice", "face")
    assert {each.state for each in wire.bob.contents} == {ContentState.PENDING}
    wire.send(wire.bob, wire.bob.accept(offered, [group]))
    (accepted,) = wire.settle()
    assert isinstance(accepted, CallAccepted)
    assert rtp.parse_group(accepted.payload) == ("voice", "face")
    for session in (wire.alice, wire.bob):
        assert session.state is State.ACTIVE
        assert keys(session) == [VOICE, FACE]
        assert {each.state for each in session.contents} == {ContentState.AGREED}


@pytest.mark.parametrize("client", ["Dino 0.4.2 calls", "calls Dino", "audio and video"])
def test_recorded_calls_are_taken_stanza_by_stanza(client: str) -> None:
    offer, answer = (
        parse(sample(client, action)) for action in ("session-initiate", "session-accept")
    )
    callee = CallSession(Role.RESPONDER, ALICE, BOB, offer.sid)
    (initiated,) = callee.receive(offer)
    assert isinstance(initiated, CallInitiated)
    caller = CallSession(Role.INITIATOR, BOB, ALICE, offer.sid)
    caller.initiate(offer.contents)
    news = parse(sample(client, "transport-info"))
    for session in (callee, caller):
        # Chromium's come before its answer.
        assert isinstance(session.receive(news)[0], CallTransportInfo)
    (accepted,) = caller.receive(answer)
    assert isinstance(accepted, CallAccepted)
    assert caller.state is State.ACTIVE
    (over,) = caller.receive(parse(sample(client, "session-terminate")))
    assert isinstance(over, Terminated)


def test_an_answer_that_leaves_something_out_has_refused_it_and_is_told() -> None:
    wire = ringing((media("voice"), media("face", kind="video")))
    events = wire.alice.receive(about(Action.SESSION_ACCEPT, media("voice")))
    assert [type(each) for each in events] == [CallAccepted, ContentRejected, Send]
    (remove,) = [each.jingle for each in events if isinstance(each, Send)]
    assert (remove.action, remove.contents[0].name) == (Action.CONTENT_REMOVE, "face")
    assert keys(wire.alice) == [VOICE]


@pytest.mark.parametrize(
    "contents",
    [
        (media("other"),),
        (media("voice"), media("voice")),
        (Content("initiator", "voice", transport=Element("{urn:x}transport")),),
        (Content("initiator", "voice", None, "session", Element("{urn:x}d"), transport()),),
    ],
    ids=["another content", "doubled", "another transport", "another application"],
)
def test_an_answer_to_something_else_is_refused(contents: tuple[Content, ...]) -> None:
    refused(ringing().alice, about(Action.SESSION_ACCEPT, *contents))


@pytest.mark.parametrize(
    "contents",
    [
        (media("voice", "responder"),),
        (media("voice"), media("voice")),
        tuple(media(str(number)) for number in range(MAX_CONTENTS + 1)),
    ],
    ids=["creator", "doubled", "too many"],
)
def test_an_offer_that_breaks_a_rule_is_refused(contents: tuple[Content, ...]) -> None:
    refused(CallWire().bob, about(Action.SESSION_INITIATE, *contents))


def test_as_many_contents_as_a_call_may_have_are_offered() -> None:
    wire = ringing([media(str(number)) for number in range(MAX_CONTENTS)])
    assert len(wire.bob.contents) == MAX_CONTENTS
    condition, _ = refused(wire.bob, about(Action.CONTENT_ADD, media("more")))
    assert condition == "resource-constraint"
    with pytest.raises(NotAvailable):
        wire.alice.content_add([media("more")])
    with pytest.raises(NotAvailable):
        CallWire().alice.initiate([media(str(n)) for n in range(MAX_CONTENTS + 1)])


def test_we_answer_all_of_an_offer_or_take_the_rest_away_before() -> None:
    wire = ringing((media("voice"), media("face", kind="video")))
    for answer in ((media("voice"),), (media("voice"), media("voice")), ()):
        with pytest.raises(ValueError, match="answer"):
            wire.bob.accept(answer)
    wire.send(wire.bob, wire.bob.content_reject([FACE]))
    wire.send(wire.bob, wire.bob.accept([media("voice")]))
    events = wire.settle()
    assert [type(each) for each in events] == [ContentRejected, CallAccepted]
    assert keys(wire.alice) == keys(wire.bob) == [VOICE]


@pytest.mark.parametrize(
    ("offered", "answered", "agreed"),
    [
        (None, None, "both"),
        ("both", "initiator", "initiator"),
        ("initiator", None, "initiator"),
        ("initiator", "both", "initiator"),
        ("initiator", "responder", "none"),
    ],
)
def test_an_answer_narrows_who_sends_and_never_widens_it(
    offered: str | None, answered: str | None, agreed: str
) -> None:
    wire = ringing([media("voice", senders=offered)])
    wire.send(wire.bob, wire.bob.accept([media("voice", senders=answered)]))
    wire.settle()
    assert senders(wire.alice) == senders(wire.bob) == [agreed]


def test_a_refused_offer_leaves_no_call() -> None:
    wire = CallWire()
    jingle = wire.alice.initiate([media("voice")])
    wire.alice.not_taken(jingle)
    assert wire.alice.state is State.ENDED


# -- contents that come and go --------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_either_side_adds_a_content_and_the_other_takes_it(role: Role) -> None:
    wire = active()
    who, other = sides(wire, role)
    added = media("face", role.value, kind="video")
    wire.send(who, who.content_add([added], [rtp.build_group(["voice", "face"])]))
    (event,) = wire.deliver(other)
    assert isinstance(event, ContentAdded)
    assert rtp.parse_group(event.payload) == ("voice", "face")
    assert other.contents[1].state is ContentState.PENDING
    wire.send(other, other.content_accept([added]))
    (accepted,) = wire.settle()
    assert isinstance(accepted, ContentAccepted)
    for session in (who, other):
        assert session.contents[1].state is ContentState.AGREED


@pytest.mark.parametrize("role", Role)
def test_either_side_refuses_what_the_other_adds(role: Role) -> None:
    wire = active()
    who, other = sides(wire, role)
    wire.send(who, who.content_add([media("face", role.value)]))
    wire.settle()
    wire.send(other, other.content_reject([(role.value, "face")], "failed-application"))
    (event,) = wire.settle()
    assert event == ContentRejected((role.value, "face"), Reason("failed-application"))
    assert keys(who) == keys(other) == [VOICE]


@pytest.mark.parametrize("role", Role)
def test_a_refusal_that_names_nothing_is_of_all_that_was_added(role: Role) -> None:
    wire = active()
    who, _ = sides(wire, role)
    nameless = about(Action.CONTENT_REJECT, reason=Reason("failed-application"))
    assert refused(who, nameless) == ("bad-request", None)
    who.content_add([media("face", role.value)])
    (event,) = who.receive(nameless)
    assert event == ContentRejected((role.value, "face"), Reason("failed-application"))
    assert keys(who) == [VOICE]


@pytest.mark.parametrize("role", Role)
def test_either_side_takes_a_content_away(role: Role) -> None:
    wire = active([media("voice"), media("face")])
    who, other = sides(wire, role)
    wire.send(who, who.content_remove([FACE], "cancel"))
    assert wire.settle() == [ContentRemoved(FACE, Reason("cancel"))]
    assert keys(who) == keys(other) == [VOICE]


@pytest.mark.parametrize("role", Role)
def test_taking_the_last_one_away_ends_the_call(role: Role) -> None:
    wire = active([media("voice"), media("face")])
    who, other = sides(wire, role)
    jingle = who.content_remove([VOICE, FACE], "success")
    assert (jingle.action, jingle.reason) == (Action.SESSION_TERMINATE, Reason("success"))
    wire.send(who, jingle)
    assert wire.settle() == [Terminated(Reason("success"))]
    assert who.state is other.state is State.ENDED


def test_a_peer_that_takes_the_last_one_away_is_told_that_it_is_over() -> None:
    wire = active()
    events = wire.alice.receive(about(Action.CONTENT_REMOVE, media("voice")))
    void = Send(Jingle(Action.SESSION_TERMINATE, "sid1", reason=Reason("success")))
    assert events == [ContentRemoved(VOICE, Reason("cancel")), void, Terminated(Reason("cancel"))]
    assert wire.alice.state is State.ENDED


def test_a_call_of_which_all_was_taken_away_before_the_answer_is_over() -> None:
    """Though something was added meanwhile: there is nothing that session-accept could take."""
    wire = ringing()
    wire.send(wire.alice, wire.alice.content_add([media("face")]))
    wire.settle()
    assert wire.bob.content_reject([VOICE]).action is Action.SESSION_TERMINATE
    assert wire.alice.content_remove([VOICE]).action is Action.SESSION_TERMINATE


def test_both_take_away_the_other_half_of_a_call_at_once() -> None:
    wire = active([media("voice"), media("face")])
    wire.send(wire.alice, wire.alice.content_remove([VOICE]))
    wire.send(wire.bob, wire.bob.content_remove([FACE]))
    wire.settle()
    assert wire.alice.state is wire.bob.state is State.ENDED


def test_an_answer_that_crosses_what_was_taken_away_changes_nothing() -> None:
    wire = ringing((media("voice"), media("face")))
    wire.send(wire.alice, wire.alice.content_remove([FACE]))
    wire.send(wire.bob, wire.bob.accept([media("voice"), media("face")]))
    wire.settle()
    assert keys(wire.alice) == keys(wire.bob) == [VOICE]
    assert not wire.errors


def test_what_was_said_of_a_content_that_is_gone_is_ignored() -> None:
    wire = active([media("voice"), media("face")])
    wire.send(wire.bob, wire.bob.transport_info(FACE, transport()))
    wire.send(wire.bob, wire.bob.content_modify(FACE, "none"))
    wire.alice.content_remove([FACE])
    events = wire.deliver(wire.alice) + wire.deliver(wire.alice)
    assert [type(each) for each in events] == [Ignored, Ignored]


def test_what_never_was_is_no_content() -> None:
    wire = active()
    for action in (
        Action.CONTENT_ACCEPT,
        Action.CONTENT_REJECT,
        Action.CONTENT_REMOVE,
        Action.TRANSPORT_INFO,
        Action.DESCRIPTION_INFO,
    ):
        assert refused(wire.alice, about(action, media("other")))[0] == "item-not-found"


def test_contents_that_were_are_not_remembered_without_end() -> None:
    wire = active()
    for number in range(MAX_GONE + 1):
        added = media(str(number), "responder")
        wire.alice.receive(about(Action.CONTENT_ADD, added))
        wire.alice.receive(about(Action.CONTENT_REMOVE, added))
    late = about(Action.CONTENT_REMOVE, media("1", "responder"))
    assert isinstance(wire.alice.receive(late)[0], Ignored)
    late = about(Action.CONTENT_REMOVE, media("0", "responder"))
    assert refused(wire.alice, late)[0] == "item-not-found"


@pytest.mark.parametrize(
    "added",
    [
        media("face", "initiator"),
        Content("responder", "face", transport=Element("{urn:x}transport")),
        Content("responder", "face", description=Element("{urn:x}description")),
    ],
    ids=["another's", "no description", "no transport"],
)
def test_an_added_content_that_breaks_a_rule_is_refused(added: Content) -> None:
    refused(active().alice, about(Action.CONTENT_ADD, added))


def test_an_added_content_may_not_take_the_place_of_another() -> None:
    wire = active()
    wire.alice.receive(about(Action.CONTENT_ADD, media("face", "responder")))
    refused(wire.alice, about(Action.CONTENT_ADD, media("face", "responder")))


def test_nobody_answers_for_the_other() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.content_add([media("face")]))
    wire.settle()
    for action in (Action.CONTENT_ACCEPT, Action.CONTENT_REJECT):
        # Alice's own, by herself.
        assert refused(wire.bob, about(action, media("face"))) == OUT_OF_ORDER
    with pytest.raises(NotAvailable):
        wire.alice.content_accept([media("face")])
    wire.send(wire.bob, wire.bob.content_accept([media("face")]))
    wire.settle()
    for action in (Action.CONTENT_ACCEPT, Action.CONTENT_REJECT):
        assert refused(wire.alice, about(action, media("face"))) == OUT_OF_ORDER


def test_the_offer_is_not_answered_piece_by_piece() -> None:
    wire = ringing()
    assert refused(wire.alice, about(Action.CONTENT_ACCEPT, media("voice"))) == OUT_OF_ORDER
    with pytest.raises(NotAvailable):
        wire.bob.content_accept([media("voice")])
    wire.alice.content_add([media("face")])
    refused(wire.alice, about(Action.SESSION_ACCEPT, media("voice"), media("face")))


def test_the_same_added_by_both_at_once_is_the_initiators() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.content_add([media("a", kind="video")]))
    wire.send(wire.bob, wire.bob.content_add([media("b", "responder", kind="video")]))
    wire.send(wire.bob, wire.bob.transport_info(("responder", "b"), transport()))
    wire.settle()
    assert [(each.condition, each.jingle) for each in wire.errors] == [TIE_BREAK]
    assert keys(wire.alice) == keys(wire.bob) == [VOICE, ("initiator", "a")]


def test_different_things_added_at_once_are_both_there() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.content_add([media("a", kind="video")]))
    wire.send(wire.bob, wire.bob.content_add([media("b", "responder")]))
    wire.settle()
    assert (
        set(keys(wire.alice))
        == set(keys(wire.bob))
        == {
            VOICE,
            ("initiator", "a"),
            ("responder", "b"),
        }
    )


def test_what_was_added_and_acknowledged_ties_no_more() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.content_add([media("a", kind="video")]))
    wire.settle()
    wire.send(wire.bob, wire.bob.content_add([media("b", "responder", kind="video")]))
    wire.settle()
    assert not wire.errors
    assert len(wire.alice.contents) == 3


def test_a_name_is_ours_once() -> None:
    wire = active([media("voice"), media("face")])
    wire.alice.content_remove([FACE])
    with pytest.raises(ValueError, match="name"):
        wire.alice.content_add([media("face")])


# -- what changes -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
def test_either_side_says_who_sends(role: Role) -> None:
    wire = active()
    who, other = sides(wire, role)
    wire.send(who, who.content_modify(VOICE, "none"))
    assert wire.settle() == [ContentModified(VOICE, "none")]
    assert senders(who) == senders(other) == ["none"]


def test_of_two_changes_at_once_the_initiators_counts() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.content_modify(VOICE, "initiator"))
    wire.send(wire.bob, wire.bob.content_modify(VOICE, "responder"))
    wire.send(wire.bob, wire.bob.content_modify(VOICE, "none"))
    wire.settle()
    assert [(each.condition, each.jingle) for each in wire.errors] == [TIE_BREAK] * 2
    assert senders(wire.alice) == senders(wire.bob) == ["initiator"]


def test_a_change_that_the_peer_refuses_has_not_been() -> None:
    wire = active()
    first = wire.alice.content_modify(VOICE, "initiator")
    second = wire.alice.content_modify(VOICE, "none")
    assert senders(wire.alice) == ["none"]
    wire.alice.acknowledged(first)
    wire.alice.not_taken(second)
    assert senders(wire.alice) == ["initiator"]


def test_a_change_that_crosses_the_answer_comes_after_it() -> None:
    wire = ringing([media("voice", senders="initiator")])
    wire.send(wire.alice, wire.alice.content_modify(VOICE, "both"))
    wire.send(wire.bob, wire.bob.accept([media("voice", senders="initiator")]))
    wire.settle()
    assert senders(wire.alice) == senders(wire.bob) == ["both"]


@pytest.mark.parametrize("role", Role)
def test_news_of_an_application_are_for_the_one_that_there_is(role: Role) -> None:
    wire = active()
    who, other = sides(wire, role)
    news = rtp.build(rtp.Description("audio", ()))
    wire.send(who, who.description_info(VOICE, news))
    (event,) = wire.settle()
    assert isinstance(event, DescriptionInfo)
    assert event.key == VOICE
    for wrong in (None, Element("{urn:x}description")):
        refused(
            other,
            about(Action.DESCRIPTION_INFO, Content(*VOICE, description=wrong)),
        )


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("agree", [True, False])
def test_a_transport_is_replaced_in_one_content_alone(role: Role, agree: bool) -> None:
    wire = active([media("voice"), media("face")])
    who, other = sides(wire, role)
    wire.send(who, who.transport_replace(FACE, transport()))
    (event,) = wire.settle()
    assert isinstance(event, CallTransportReplaceOffered)
    assert event.key == FACE
    states = [each.transport_state for each in other.contents]
    assert states[0] is TransportState.AGREED
    assert states[1] is not TransportState.AGREED
    with pytest.raises(NotAvailable):
        who.transport_replace(FACE, transport())
    if agree:
        wire.send(other, other.transport_accept(FACE, transport()))
    else:
        wire.send(other, other.transport_reject(FACE))
    (event,) = wire.settle()
    assert isinstance(event, CallTransportReplaced if agree else CallTransportReplaceRejected)
    for session in (who, other):
        assert {each.transport_state for each in session.contents} == {TransportState.AGREED}


def test_replacements_that_cross_are_settled_for_each_content() -> None:
    wire = active([media("voice"), media("face")])
    wire.send(wire.alice, wire.alice.transport_replace(VOICE, transport()))
    wire.send(wire.bob, wire.bob.transport_replace(VOICE, transport()))
    wire.send(wire.bob, wire.bob.transport_replace(FACE, transport()))
    wire.settle()
    assert [(each.condition, each.jingle) for each in wire.errors] == [TIE_BREAK]
    for session in (wire.alice, wire.bob):
        assert [each.transport_state for each in session.contents] == [
            TransportState.INITIATOR_OFFERED,
            TransportState.RESPONDER_OFFERED,
        ]


def test_what_was_declined_after_all_has_changed_nothing() -> None:
    wire = active([media("voice"), media("face")])
    before = wire.alice.contents
    for jingle in (
        about(Action.CONTENT_ADD, media("more", "responder")),
        about(Action.CONTENT_MODIFY, Content(*VOICE, senders="none")),
        about(Action.TRANSPORT_REPLACE, Content(*VOICE, transport=transport())),
    ):
        wire.alice.receive(jingle)
        assert wire.alice.contents != before
        wire.alice.declined(jingle)
        assert wire.alice.contents == before


def test_news_of_another_transport_are_ignored() -> None:
    wire = active()
    news = about(Action.TRANSPORT_INFO, Content(*VOICE, transport=Element("{urn:x}transport")))
    assert isinstance(wire.alice.receive(news)[0], Ignored)


def test_what_concerns_the_whole_call_is_as_in_every_session() -> None:
    wire = active()
    assert isinstance(
        wire.alice.receive(Jingle(Action.SESSION_INFO, "sid1", payload=(Element("{urn:x}y"),)))[0],
        SessionInfo,
    )
    assert isinstance(
        wire.alice.receive(about(Action.SECURITY_INFO, media("voice")))[0], SecurityInfo
    )
    refused(wire.alice, about(Action.SECURITY_INFO, media("other")))
    assert refused(wire.alice, about(Action.SESSION_ACCEPT, media("voice"))) == OUT_OF_ORDER
    wire.alice.terminate("success")
    assert refused(wire.alice, about(Action.SESSION_INFO))[1] == "unknown-session"


MOVES: Sequence[Callable[[CallSession], Jingle]] = (
    lambda session: session.accept([media("voice")]),
    lambda session: session.content_add([media("more", session.role.value)]),
    lambda session: session.content_accept([media("voice")]),
    lambda session: session.content_reject([VOICE]),
    lambda session: session.content_remove([VOICE]),
    lambda session: session.content_modify(VOICE, "none"),
    lambda session: session.description_info(VOICE, Element("{urn:x}y")),
    lambda session: session.transport_info(VOICE, transport()),
    lambda session: session.transport_replace(VOICE, transport()),
    lambda session: session.transport_accept(VOICE, transport()),
    lambda session: session.transport_reject(VOICE),
    lambda session: session.session_info(),
    lambda session: session.terminate("success"),
)


@pytest.mark.parametrize("role", Role)
def test_nothing_is_sent_in_a_call_that_is_not_there(role: Role) -> None:
    ended = sides(active(), role)[0]
    ended.terminate("success")
    for session in (sides(CallWire(), role)[0], ended):
        for move in MOVES:
            with pytest.raises(NotAvailable):
                move(session)


def test_what_makes_no_sense_is_not_sent() -> None:
    wire = active()
    with pytest.raises(ValueError, match="senders"):
        wire.alice.content_modify(VOICE, "all")
    with pytest.raises(ValueError, match="reason"):
        wire.alice.content_remove([VOICE], "boredom")
    for nothing in (wire.alice.content_add, wire.alice.content_remove):
        with pytest.raises(ValueError, match="content"):
            nothing([])
    with pytest.raises(ValueError, match="content"):
        CallWire().alice.initiate([])
    with pytest.raises(ValueError, match="creator"):
        wire.alice.content_add([media("face", "responder")])
    assert wire.alice.state is State.ACTIVE
    assert keys(wire.alice) == [VOICE]


# -- the table of sessions ------------------------------------------------------------------------


def offer(sid: str, *contents: Content) -> Jingle:
    return Jingle(Action.SESSION_INITIATE, sid, contents)


def test_an_offer_of_media_is_a_call_and_of_files_is_not() -> None:
    sessions = Registry(new_call_or_session)
    call, _ = sessions.receive(BOB, offer("a", media("voice")), own=ALICE, in_roster=True)
    assert isinstance(call, CallSession)
    file, _ = sessions.receive(BOB, offer("b", content()), own=ALICE, in_roster=True)
    assert isinstance(file, Session)


@pytest.mark.parametrize(("theirs", "overruled"), [("b", True), ("0", False)])
def test_two_who_call_each_other_have_one_call(theirs: str, overruled: bool) -> None:
    sessions = Registry(new_call_or_session)
    ours = CallSession(Role.INITIATOR, ALICE, BOB, "a")
    ours.initiate([media("face", kind="video"), media("voice")])
    sessions.add(ours)
    crossing = offer(theirs, media("0"))
    if not overruled:
        sessions.receive(BOB, crossing, own=ALICE, in_roster=True)
        return
    with pytest.raises(PeerError) as caught:
        sessions.receive(BOB, crossing, own=ALICE, in_roster=True)
    assert (caught.value.condition, caught.value.jingle) == TIE_BREAK


def test_every_content_is_looked_at_when_calls_cross() -> None:
    sessions = Registry(new_call_or_session)
    ours = CallSession(Role.INITIATOR, ALICE, BOB, "a")
    ours.initiate([media("face", senders="initiator"), media("voice", senders="both")])
    sessions.add(ours)
    crossing = offer("b", media("0", senders="none"), media("1"))
    with pytest.raises(PeerError) as caught:
        sessions.receive(BOB, crossing, own=ALICE, in_roster=True)
    assert caught.value.jingle == "tie-break"
