from __future__ import annotations

from collections.abc import Callable
from functools import partial
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle.events import (
    Accepted,
    Ignored,
    Initiated,
    SecurityInfo,
    Send,
    SessionInfo,
    Terminated,
    TransportInfo,
    TransportReplaced,
    TransportReplaceOffered,
    TransportReplaceRejected,
    unsupported_info,
)
from telepathy_e2e.jingle.session import Session
from telepathy_e2e.jingle.stanzas import Action, Content, Jingle, Reason, build, parse
from telepathy_e2e.jingle.states import MOVES, TRANSPORT_MOVES, State, TransportState
from telepathy_e2e.role import Role

from .jingle_support import (
    ALICE,
    BOB,
    IBB,
    S5B,
    XTLS,
    Wire,
    active,
    content,
    jingle_xml,
    jingles,
    pending,
    sample,
    transport,
)

BOTH = pytest.mark.parametrize("role", list(Role))


def refused(session: Session, jingle: Jingle) -> tuple[str, str | None]:
    """How ``session`` answers; nothing may change."""
    before = (session.state, session.transport_state)
    with pytest.raises(PeerError) as caught:
        session.receive(jingle)
    assert (session.state, session.transport_state) == before
    return caught.value.condition, caught.value.jingle


def states(wire: Wire) -> list[State]:
    return [wire.alice.state, wire.bob.state]


OUT_OF_ORDER = ("unexpected-request", "out-of-order")
UNKNOWN = ("item-not-found", "unknown-session")
TIE_BREAK = ("conflict", "tie-break")


# -- from offer to end ------------------------------------------------------------------------


def test_an_offer_is_accepted_and_ended() -> None:
    wire = Wire()
    (initiated,) = wire.pass_on(wire.alice, wire.alice.initiate(content(security=True)))
    assert isinstance(initiated, Initiated)
    assert initiated.content.security is not None
    assert states(wire) == [State.PENDING, State.PENDING]
    assert wire.bob.content_name == "file"
    (accepted,) = wire.pass_on(wire.bob, wire.bob.accept(content(security=True)))
    assert isinstance(accepted, Accepted)
    assert accepted.content.security is not None
    assert states(wire) == [State.ACTIVE, State.ACTIVE]
    (ended,) = wire.pass_on(wire.bob, wire.bob.terminate("success"))
    assert ended == Terminated(Reason("success"))
    assert states(wire) == [State.ENDED, State.ENDED]


def test_an_offer_names_its_sender_and_an_answer_its_own() -> None:
    wire = Wire()
    assert wire.alice.initiate(content()).initiator == ALICE
    wire.bob.receive(Jingle(Action.SESSION_INITIATE, "sid1", (content(),)))
    assert wire.bob.accept(content()).responder == BOB


def test_sessions_of_other_clients_run_through() -> None:
    gajim = Session(Role.INITIATOR, "dave@localhost/stanza", "alice@localhost/gajim", "x")
    offer = parse(sample("in-band", "session-initiate"))
    gajim.sid = offer.sid
    gajim.initiate(offer.contents[0])
    (accepted,) = gajim.receive(parse(sample("in-band", "session-accept")))
    assert isinstance(accepted, Accepted)
    (ended,) = gajim.receive(parse(sample("in-band", "session-terminate")))
    assert ended == Terminated(Reason("success"))


def test_an_answer_without_a_description_is_an_answer() -> None:
    offer = parse(sample("data channel", "session-initiate"))
    session = Session(Role.INITIATOR, ALICE, BOB, offer.sid)
    session.initiate(offer.contents[0])
    (accepted,) = session.receive(parse(sample("data channel", "session-accept")))
    assert isinstance(accepted, Accepted)
    assert accepted.content.description is None


@BOTH
def test_either_side_can_end_it_before_it_is_accepted(role: Role) -> None:
    wire = pending()
    (ended,) = wire.pass_on(wire.of(role), wire.of(role).terminate("decline", "no, thanks"))
    assert ended == Terminated(Reason("decline", "no, thanks"))
    assert states(wire) == [State.ENDED, State.ENDED]


@BOTH
def test_a_terminate_without_a_reason_is_not_a_success(role: Role) -> None:
    wire = active()
    (ended,) = wire.of(role).receive(Jingle(Action.SESSION_TERMINATE, "sid1"))
    assert ended == Terminated(Reason("general-error"))


def test_terminates_that_cross_leave_no_session() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.terminate("success"))
    wire.send(wire.bob, wire.bob.terminate("cancel"))
    for session in (wire.alice, wire.bob):
        with pytest.raises(PeerError) as caught:
            wire.deliver(session)
        assert (caught.value.condition, caught.value.jingle) == UNKNOWN
        assert session.state is State.ENDED


@BOTH
@pytest.mark.parametrize("action", list(Action))
def test_nothing_is_heard_after_the_end(role: Role, action: Action) -> None:
    wire = active()
    wire.pass_on(wire.alice, wire.alice.terminate("success"))
    assert refused(wire.of(role), Jingle(action, "sid1", (content(),))) == UNKNOWN


# -- out of order -----------------------------------------------------------------------------


def test_a_replayed_accept_changes_nothing() -> None:
    wire = active()
    replay = Jingle(Action.SESSION_ACCEPT, "sid1", (content(name="file"),))
    assert refused(wire.alice, replay) == OUT_OF_ORDER
    assert wire.alice.state is State.ACTIVE


def test_a_replayed_offer_changes_nothing() -> None:
    for wire in (pending(), active()):
        replay = Jingle(Action.SESSION_INITIATE, "sid1", (content(name="other"),))
        assert refused(wire.bob, replay) == OUT_OF_ORDER
        assert wire.bob.content_name == "file"


def test_nobody_accepts_his_own_offer() -> None:
    wire = pending()
    assert refused(wire.bob, Jingle(Action.SESSION_ACCEPT, "sid1", (content(),))) == OUT_OF_ORDER
    with pytest.raises(NotAvailable):
        wire.alice.accept(content())


def test_the_responder_does_not_offer() -> None:
    wire = Wire()
    offer = Jingle(Action.SESSION_INITIATE, "sid1", (content(),))
    assert refused(wire.alice, offer) == OUT_OF_ORDER
    with pytest.raises(NotAvailable):
        wire.bob.initiate(content())


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.SESSION_INITIATE])
def test_nothing_but_an_offer_begins_a_session(action: Action) -> None:
    assert refused(Wire().bob, Jingle(action, "sid1", (content(),))) == OUT_OF_ORDER


@BOTH
def test_an_answer_to_content_that_nobody_added_is_out_of_order(role: Role) -> None:
    jingle = Jingle(Action.CONTENT_ACCEPT, "sid1", (content(),))
    assert refused(active().of(role), jingle) == OUT_OF_ORDER
    assert refused(pending().of(role), jingle) == OUT_OF_ORDER


@BOTH
def test_a_stanza_of_another_session_is_a_fault_of_ours(role: Role) -> None:
    with pytest.raises(ValueError, match="another session"):
        active().of(role).receive(Jingle(Action.SESSION_INFO, "sid2"))


# -- one content ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "condition"),
    [
        ((content(), content(name="two")), "feature-not-implemented"),
        ((content(creator="responder"),), "bad-request"),
    ],
)
def test_an_offer_has_one_content_of_the_initiators(
    contents: tuple[Content, ...], condition: str
) -> None:
    jingle = Jingle(Action.SESSION_INITIATE, "sid1", contents)
    assert refused(Wire().bob, jingle) == (condition, None)


@pytest.mark.parametrize(
    "answer",
    [
        content(name="other"),
        content(creator="responder"),
        content(transport=IBB),
        content(application="urn:other"),
    ],
)
def test_an_answer_is_to_what_was_offered(answer: Content) -> None:
    wire = pending()
    jingle = Jingle(Action.SESSION_ACCEPT, "sid1", (answer,))
    assert refused(wire.alice, jingle) == ("bad-request", None)
    jingle = Jingle(Action.SESSION_ACCEPT, "sid1", (content(), answer))
    assert refused(wire.alice, jingle) == ("bad-request", None)
    wire.pass_on(wire.bob, wire.bob.accept(content()))  # the right one still counts


@BOTH
@pytest.mark.parametrize(
    "action",
    [
        Action.TRANSPORT_INFO,
        Action.TRANSPORT_REPLACE,
        Action.CONTENT_MODIFY,
        Action.CONTENT_REMOVE,
        Action.SECURITY_INFO,
    ],
)
def test_what_is_about_another_content_is_refused(role: Role, action: Action) -> None:
    jingle = Jingle(action, "sid1", (content(name="other"),))
    assert refused(active().of(role), jingle) == ("bad-request", None)


@BOTH
@pytest.mark.parametrize("make", [pending, active])
def test_added_content_is_acknowledged_and_rejected(role: Role, make: Callable[[], Wire]) -> None:
    wire = make()
    added = content(creator=role.other.value, name="more", security=True)
    events = wire.of(role).receive(Jingle(Action.CONTENT_ADD, "sid1", (added,)))
    send, ignored = events
    assert isinstance(ignored, Ignored)
    assert isinstance(send, Send)
    assert send.jingle.action is Action.CONTENT_REJECT
    assert send.jingle.contents == (Content(role.other.value, "more"),)
    parse(build(send.jingle))
    assert wire.of(role).content_name == "file"


@BOTH
def test_content_is_not_added_in_the_name_of_the_other_side(role: Role) -> None:
    added = content(creator=role.value, name="more")
    jingle = Jingle(Action.CONTENT_ADD, "sid1", (added,))
    assert refused(active().of(role), jingle) == ("bad-request", None)


def test_content_is_not_added_under_a_name_in_use() -> None:
    jingle = Jingle(Action.CONTENT_ADD, "sid1", (content(),))
    assert refused(active().bob, jingle) == ("bad-request", None)


@BOTH
def test_a_change_of_direction_is_acknowledged_and_ignored(role: Role) -> None:
    wire = active()
    jingle = Jingle(Action.CONTENT_MODIFY, "sid1", (content(senders="none"),))
    (ignored,) = wire.of(role).receive(jingle)
    assert isinstance(ignored, Ignored)
    assert wire.of(role).content.senders == "initiator"


@BOTH
@pytest.mark.parametrize("make", [pending, active])
def test_a_session_without_content_is_over(role: Role, make: Callable[[], Wire]) -> None:
    wire = make()
    send, ended = wire.of(role).receive(Jingle(Action.CONTENT_REMOVE, "sid1", (content(),)))
    assert isinstance(send, Send)
    assert send.jingle.action is Action.SESSION_TERMINATE
    assert ended == Terminated(Reason("cancel"))
    assert wire.of(role).state is State.ENDED


def test_an_offer_can_be_turned_down_by_rejecting_its_content() -> None:
    wire = pending()
    why = Reason("failed-application")
    jingle = Jingle(Action.CONTENT_REJECT, "sid1", (content(),), why)
    assert wire.alice.receive(jingle)[-1] == Terminated(why)
    bare = Jingle(Action.CONTENT_REJECT, "sid1", (content(),))
    assert pending().alice.receive(bare)[-1] == Terminated(Reason("decline"))


def test_content_is_rejected_by_the_responder_and_before_it_is_accepted_only() -> None:
    jingle = Jingle(Action.CONTENT_REJECT, "sid1", (content(),))
    assert refused(pending().bob, jingle) == OUT_OF_ORDER
    assert refused(active().alice, jingle) == OUT_OF_ORDER
    assert refused(active().bob, jingle) == OUT_OF_ORDER


# -- information ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("make", [pending, active])
def test_information_passes_in_both_directions(role: Role, make: Callable[[], Wire]) -> None:
    wire = make()
    sender = wire.of(role)
    (info,) = wire.pass_on(sender, sender.session_info(Element("{urn:x}hello")))
    assert isinstance(info, SessionInfo)
    assert [element.tag for element in info.payload] == ["{urn:x}hello"]
    (security,) = wire.pass_on(sender, sender.security_info([Element("{urn:x}sealed")]))
    assert isinstance(security, SecurityInfo)
    assert [element.tag for element in security.payload] == ["{urn:x}sealed"]
    (info_too,) = wire.pass_on(sender, sender.transport_info(transport(S5B)))
    assert isinstance(info_too, TransportInfo)
    assert info_too.transport.get("sid") == "stream"


@BOTH
def test_a_ping_is_acknowledged_and_nothing_else(role: Role) -> None:
    wire = active()
    sender = wire.of(role)
    assert wire.pass_on(sender, sender.session_info()) == []


@BOTH
def test_a_payload_element_with_children_is_sent_whole(role: Role) -> None:
    parent = Element("{urn:x}a")
    parent.append(Element("{urn:x}b"))
    assert active().of(role).session_info(parent).payload == (parent,)
    assert active().of(role).security_info(parent).payload == (parent,)


@BOTH
def test_hints_about_the_application_are_not_understood(role: Role) -> None:
    jingle = Jingle(Action.DESCRIPTION_INFO, "sid1", (content(),))
    expected = unsupported_info()
    assert refused(active().of(role), jingle) == (expected.condition, expected.jingle)
    assert (expected.condition, expected.jingle) == ("feature-not-implemented", "unsupported-info")


@BOTH
def test_security_info_in_a_content_as_the_proposal_has_it_is_taken(role: Role) -> None:
    inner = (
        f"<content creator='initiator' name='file'>"
        f"<security xmlns='{XTLS}'><method name='x509'/></security></content>"
    )
    (info,) = active().of(role).receive(parse(jingle_xml(inner, "security-info")))
    assert isinstance(info, SecurityInfo)
    assert info.payload == ()
    assert info.contents[0].security is not None


@BOTH
def test_late_news_of_another_transport_is_ignored(role: Role) -> None:
    jingle = Jingle(Action.TRANSPORT_INFO, "sid1", (content(transport=IBB),))
    (ignored,) = active().of(role).receive(jingle)
    assert isinstance(ignored, Ignored)


@BOTH
def test_nothing_is_sent_before_the_beginning_or_after_the_end(role: Role) -> None:
    fresh, over = Wire(), active()
    over.pass_on(over.alice, over.alice.terminate("success"))
    for wire in (fresh, over):
        session = wire.of(role)
        state = session.state
        moves: list[Callable[[], Jingle]] = [
            partial(session.terminate, "cancel"),
            session.session_info,
            partial(session.security_info, ()),
            partial(session.transport_info, transport(S5B)),
            partial(session.transport_replace, transport(IBB)),
            partial(session.transport_accept, transport(IBB)),
            session.transport_reject,
            partial(session.accept, content()),
        ]
        for move in moves:
            with pytest.raises(NotAvailable):
                move()
        assert session.state is state


def test_a_session_that_has_no_offer_has_no_content() -> None:
    with pytest.raises(NotAvailable):
        _ = Wire().bob.content_name


# -- what our own code may not ask for ---------------------------------------------------------


@pytest.mark.parametrize(
    "offer",
    [
        content(creator="responder"),
        Content("initiator", "x", transport=transport(S5B)),
        Content("initiator", "x", description=Element("d")),
    ],
)
def test_an_incomplete_offer_is_not_made(offer: Content) -> None:
    session = Wire().alice
    with pytest.raises(ValueError, match=r"offer|transport"):
        session.initiate(offer)
    assert session.state is State.NEW


@pytest.mark.parametrize(
    "answer", [content(name="x"), content(transport=IBB), Content("initiator", "file")]
)
def test_an_answer_to_something_else_is_not_made(answer: Content) -> None:
    session = pending().bob
    with pytest.raises(ValueError, match=r"answer|transport"):
        session.accept(answer)
    assert session.state is State.PENDING


@BOTH
def test_an_invented_reason_is_not_given(role: Role) -> None:
    session = active().of(role)
    with pytest.raises(ValueError, match="reason"):
        session.terminate("because")
    assert session.state is State.ACTIVE


# -- refusals ---------------------------------------------------------------------------------


def test_a_refused_offer_leaves_no_session() -> None:
    wire = Wire()
    wire.alice.initiate(content())
    wire.alice.refused(Action.SESSION_INITIATE)
    assert wire.alice.state is State.ENDED
    with pytest.raises(NotAvailable):
        wire.alice.terminate("cancel")


def test_after_a_refused_accept_the_peer_can_still_be_told() -> None:
    wire = pending()
    wire.bob.accept(content())
    wire.bob.refused(Action.SESSION_ACCEPT)
    (ended,) = wire.pass_on(wire.bob, wire.bob.terminate("general-error"))
    assert isinstance(ended, Terminated)


@BOTH
@pytest.mark.parametrize("action", [a for a in Action if a is not Action.SESSION_INITIATE])
def test_other_refusals_change_no_state(role: Role, action: Action) -> None:
    session = active().of(role)
    session.refused(action)
    assert session.state is State.ACTIVE


# -- another transport --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("make", [pending, active])
def test_a_transport_is_replaced(role: Role, make: Callable[[], Wire]) -> None:
    wire = make()
    one, two = wire.of(role), wire.of(role.other)
    (offered,) = wire.pass_on(one, one.transport_replace(transport(IBB)))
    assert isinstance(offered, TransportReplaceOffered)
    (replaced,) = wire.pass_on(two, two.transport_accept(transport(IBB)))
    assert isinstance(replaced, TransportReplaced)
    assert replaced.transport.tag == f"{{{IBB}}}transport"
    assert one.transport_state is two.transport_state is TransportState.AGREED
    for session in (one, two):  # news of the old one is old news
        (old,) = wire.pass_on(session, session.transport_info(transport(S5B)))
        assert isinstance(old, Ignored)
        (new,) = wire.pass_on(session, session.transport_info(transport(IBB)))
        assert isinstance(new, TransportInfo)


def test_an_accept_after_a_replacement_has_the_new_transport() -> None:
    wire = pending()
    wire.pass_on(wire.alice, wire.alice.transport_replace(transport(IBB)))
    wire.pass_on(wire.bob, wire.bob.transport_accept(transport(IBB)))
    with pytest.raises(ValueError, match="not to what was offered"):
        wire.bob.accept(content())
    wire.pass_on(wire.bob, wire.bob.accept(content(transport=IBB)))
    assert wire.alice.state is State.ACTIVE


@BOTH
def test_a_replacement_is_rejected(role: Role) -> None:
    wire = active()
    one, two = wire.of(role), wire.of(role.other)
    wire.pass_on(one, one.transport_replace(transport(IBB)))
    assert wire.pass_on(two, two.transport_reject()) == [TransportReplaceRejected()]
    assert one.transport_state is two.transport_state is TransportState.AGREED
    (info,) = wire.pass_on(one, one.transport_info(transport(S5B)))
    assert isinstance(info, TransportInfo)


@BOTH
def test_news_of_an_offered_transport_is_taken(role: Role) -> None:
    wire = active()
    one = wire.of(role)
    wire.pass_on(one, one.transport_replace(transport(IBB)))
    for namespace in (S5B, IBB):
        (info,) = wire.pass_on(one, one.transport_info(transport(namespace)))
        assert isinstance(info, TransportInfo)


@BOTH
def test_nobody_answers_a_replacement_that_was_not_offered(role: Role) -> None:
    wire = active()
    session = wire.of(role)
    for action in (Action.TRANSPORT_ACCEPT, Action.TRANSPORT_REJECT):
        jingle = Jingle(action, "sid1", (content(transport=IBB),))
        assert refused(session, jingle) == OUT_OF_ORDER
    with pytest.raises(NotAvailable):
        session.transport_accept(transport(IBB))
    with pytest.raises(NotAvailable):
        session.transport_reject()


@BOTH
def test_nobody_answers_his_own_replacement(role: Role) -> None:
    wire = active()
    one, two = wire.of(role), wire.of(role.other)
    wire.pass_on(one, one.transport_replace(transport(IBB)))
    with pytest.raises(NotAvailable):
        one.transport_accept(transport(IBB))
    accept = Jingle(Action.TRANSPORT_ACCEPT, "sid1", (content(transport=IBB),))
    assert refused(two, accept) == OUT_OF_ORDER


@BOTH
def test_a_replacement_is_answered_with_the_transport_that_was_offered(role: Role) -> None:
    wire = active()
    one, two = wire.of(role), wire.of(role.other)
    wire.pass_on(one, one.transport_replace(transport(IBB)))
    other = Jingle(Action.TRANSPORT_ACCEPT, "sid1", (content(transport="urn:other"),))
    assert refused(one, other) == ("bad-request", None)
    with pytest.raises(ValueError, match="not to the transport"):
        two.transport_accept(transport("urn:other"))


@BOTH
def test_one_replacement_is_offered_at_a_time(role: Role) -> None:
    wire = active()
    one, two = wire.of(role), wire.of(role.other)
    replace = one.transport_replace(transport(IBB))
    with pytest.raises(NotAvailable):
        one.transport_replace(transport("urn:other"))
    wire.pass_on(one, replace)
    with pytest.raises(NotAvailable):  # answer first
        two.transport_replace(transport("urn:other"))
    assert refused(two, replace) == OUT_OF_ORDER


def test_of_two_replacements_that_cross_the_initiators_counts() -> None:
    wire = active()
    wire.send(wire.alice, wire.alice.transport_replace(transport(IBB)))
    wire.send(wire.bob, wire.bob.transport_replace(transport("urn:other")))
    (offered,) = wire.deliver(wire.bob)
    assert isinstance(offered, TransportReplaceOffered)
    with pytest.raises(PeerError) as caught:
        wire.deliver(wire.alice)  # the answer reaches Bob as a refusal
    assert (caught.value.condition, caught.value.jingle) == TIE_BREAK
    assert wire.alice.transport_state is wire.bob.transport_state
    assert wire.alice.transport_state is TransportState.INITIATOR_OFFERED
    (replaced,) = wire.pass_on(wire.bob, wire.bob.transport_accept(transport(IBB)))
    assert isinstance(replaced, TransportReplaced)


def test_the_refusal_of_an_overruled_replacement_does_not_touch_the_next_one() -> None:
    wire = active()
    wire.send(wire.bob, wire.bob.transport_replace(transport("urn:other")))
    wire.pass_on(wire.alice, wire.alice.transport_replace(transport(IBB)))
    wire.bob.transport_reject()
    wire.bob.transport_replace(transport(IBB))
    wire.bob.refused(Action.TRANSPORT_REPLACE)  # the first one
    assert wire.bob.transport_state is TransportState.RESPONDER_OFFERED
    wire.bob.refused(Action.TRANSPORT_REPLACE)
    assert wire.bob.transport_state.value == "agreed"


@BOTH
def test_a_refused_replacement_is_void(role: Role) -> None:
    session = active().of(role)
    session.transport_replace(transport(IBB))
    session.refused(Action.TRANSPORT_REPLACE)
    assert session.transport_state is TransportState.AGREED
    session.transport_replace(transport(IBB))


# -- everything at once -------------------------------------------------------------------------


@given(st.lists(jingles(), max_size=8), st.sampled_from(list(Role)), st.integers(0, 3))
def test_states_change_by_legal_moves_only(stanzas: list[Element], role: Role, stage: int) -> None:
    wire = (Wire, pending, active, active)[stage]()
    session = wire.of(role)
    if stage == 3:
        session.transport_replace(transport(IBB))
    for stanza in stanzas:
        try:
            jingle = parse(stanza)
        except PeerError:
            continue
        before, transport_before = session.state, session.transport_state
        move = (before, role.other, jingle.action)
        try:
            events = session.receive(jingle)
        except PeerError:
            assert (session.state, session.transport_state) == (before, transport_before)
            continue
        assert session.state is MOVES[move]
        if session.transport_state is not transport_before:
            transport_move = (transport_before, role.other, jingle.action)
            assert session.transport_state is TRANSPORT_MOVES[transport_move]
        assert (session.state is State.ENDED) == any(isinstance(e, Terminated) for e in events)
        for event in events:
            if isinstance(event, Send):
                build(event.jingle)


@given(st.data())
def test_two_honest_sides_never_disagree_for_long(data: st.DataObject) -> None:
    """Whatever is sent and however it crosses: with an empty wire, both have the same states."""
    wire = active()
    for _ in range(data.draw(st.integers(0, 12))):
        who = wire.of(data.draw(st.sampled_from(list(Role))))
        moves: dict[str, Callable[[], Jingle]] = {
            "replace": partial(who.transport_replace, transport(IBB)),
            "accept": partial(who.transport_accept, transport(IBB)),
            "reject": who.transport_reject,
            "end": partial(who.terminate, "cancel"),
        }
        what = data.draw(st.sampled_from((*moves, "deliver", "deliver")))
        if what == "deliver":
            _deliver_one(wire, who)
            continue
        try:
            wire.send(who, moves[what]())
        except NotAvailable:
            continue
    while wire.to_alice or wire.to_bob:
        for session in (wire.alice, wire.bob):
            _deliver_one(wire, session)
    assert wire.alice.state == wire.bob.state
    if wire.alice.state is State.ACTIVE:
        assert wire.alice.transport_state is wire.bob.transport_state


def _deliver_one(wire: Wire, receiver: Session) -> None:
    if wire.to_bob if receiver is wire.bob else wire.to_alice:
        try:
            wire.deliver(receiver)
        except PeerError as error:
            allowed = (UNKNOWN, TIE_BREAK, OUT_OF_ORDER)
            if (error.condition, error.jingle) not in allowed:
                raise


def test_a_replacement_that_was_declined_after_all_leaves_room_for_another() -> None:
    """The application found it malformed, and the peer was told so."""
    wire = active()
    offered = wire.alice.transport_replace(transport(IBB))
    wire.send(wire.alice, offered)
    wire.deliver(wire.bob)
    wire.bob.declined(offered)
    wire.alice.refused(Action.TRANSPORT_REPLACE)
    wire.send(wire.alice, wire.alice.transport_replace(transport(IBB)))
    wire.deliver(wire.bob)
    assert wire.bob.transport_state is TransportState.INITIATOR_OFFERED
