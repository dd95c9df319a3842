"""Sessions of an account: whose stanza is whose, what is answered, and how much a peer may hold."""

from __future__ import annotations

import asyncio
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import Disconnected, InvalidHandle, PeerError
from telepathy_e2e.jingle.session import Event, Terminated
from telepathy_e2e.jingle.stanzas import Action, Content, Jingle, Reason, build
from telepathy_e2e.service import handles, sessions
from telepathy_e2e.service.sessions import MAX_UNACKNOWLEDGED, Link
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError
from tests.unit.jingle_support import transport
from tests.unit.service_support import (
    Side,
    file_content,
    jingle_of,
    turns,
    two_sides,
    until,
    within,
)


class Application:
    """Writes down what its session says; refuses what it is told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lost: list[Exception] = []
        self.refuses: PeerError | None = None

    def session_event(self, event: Event) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.events.append(event)

    def peer_offline(self) -> None:
        pass

    def session_lost(self, error: Exception) -> None:
        self.lost.append(error)


async def open_session(alice: Side, bob: Side) -> tuple[Link, Application, Link, Application]:
    """A session of Alice's that Bob was offered, and both applications."""
    found: list[Link] = []
    bob.hub._offered = lambda link, content: found.append(link)
    link = alice.hub.open(bob.client.jid)
    mine, theirs = Application(), Application()
    link.application = mine
    await within(link.send(link.session.initiate(file_content(None))))
    found[0].application = theirs
    return link, mine, found[0], theirs


async def ask(side: Side, jingle: Jingle) -> str:
    """Send a stanza that nothing here would; the condition of the answer, or empty."""
    (to,) = [jid for jid in side.server.clients if jid != side.client.jid]
    try:
        await within(side.client.send_iq(to, build(jingle)))
    except StanzaError as error:
        return f"{error.condition} {error.jingle_condition or ''}".strip()
    return ""


async def test_the_acknowledgement_goes_out_before_what_follows_from_a_stanza() -> None:
    async with two_sides() as (alice, bob):
        bob.hub._offered = lambda link, content: link.terminate("decline")
        link = alice.hub.open(bob.client.jid)
        mine = link.application = Application()
        await within(link.send(link.session.initiate(file_content(None))))
        await turns()
        kinds = [
            "terminate" if jingle_of(stanza) is not None else stanza.get("type")
            for who, stanza in alice.server.carried
            if who == bob.client.jid
        ]
        assert kinds == ["result", "terminate"]
        assert isinstance(mine.events[0], Terminated)
        assert link.ended


async def test_what_an_application_refuses_is_answered_with_its_error_alone() -> None:
    async with two_sides() as (alice, bob):
        link, _, _, theirs = await open_session(alice, bob)
        theirs.refuses = PeerError("no", "not-acceptable", jingle="unsupported-info")
        with pytest.raises(StanzaError) as error:
            await within(link.send(link.session.session_info(Element("{urn:x}y"))))
        assert (error.value.condition, error.value.jingle_condition) == (
            "not-acceptable",
            "unsupported-info",
        )
        assert not link.ended


async def test_a_stanza_of_no_session_is_answered_so() -> None:
    async with two_sides() as (alice, bob):
        answer = await ask(alice, Jingle(Action.SESSION_TERMINATE, "none", reason=Reason("gone")))
        assert answer == "item-not-found unknown-session"
        assert bob.hub.links() == []


async def test_jingle_that_is_asked_for_instead_of_told_is_refused() -> None:
    async with two_sides() as (alice, bob):
        jingle = build(Jingle(Action.SESSION_INFO, "sid"))
        with pytest.raises(StanzaError) as error:
            await within(alice.client.send_iq(bob.client.jid, jingle, type="get"))
        assert error.value.condition == "bad-request"


async def test_a_session_that_ended_hears_nothing_more() -> None:
    async with two_sides() as (alice, bob):
        link, mine, theirs, _ = await open_session(alice, bob)
        theirs.terminate("cancel")
        await turns()
        assert [type(event) for event in mine.events] == [Terminated]
        late = Jingle(Action.SESSION_TERMINATE, link.sid, reason=Reason("cancel"))
        assert await ask(bob, late) == "item-not-found unknown-session"
        assert len(mine.events) == 1
        link.terminate("cancel")  # over already: nothing is sent
        await turns()
        assert "session-terminate" not in alice.server.actions(alice.client.jid)


async def test_terminating_twice_says_the_first_reason_once() -> None:
    async with two_sides() as (alice, bob):
        link, _, _, theirs = await open_session(alice, bob)
        link.terminate("media-error")
        link.terminate("success")
        await turns()
        assert alice.server.actions(alice.client.jid).count("session-terminate") == 1
        (event,) = theirs.events
        assert isinstance(event, Terminated)
        assert event.reason.condition == "media-error"


async def test_a_refused_post_ends_the_session_unless_somebody_wanted_to_know() -> None:
    async with two_sides() as (alice, bob):
        link, mine, _, theirs = await open_session(alice, bob)
        theirs.refuses = PeerError("no")
        told: list[StanzaError | IqTimeout] = []
        link.post(link.session.session_info(Element("{urn:x}y")), refused=told.append)
        await turns()
        assert (len(told), mine.lost, link.ended) == (1, [], False)
        link.post(link.session.session_info(Element("{urn:x}y")))
        await turns()
        assert [type(error) for error in mine.lost] == [StanzaError]
        assert link.ended
        assert alice.hub.links() == []


async def test_a_stream_that_is_gone_is_left_to_the_connection_to_tell() -> None:
    async with two_sides() as (alice, bob):
        link, mine, _, _ = await open_session(alice, bob)
        alice.client.iqs.close()
        link.post(link.session.session_info(()))
        await turns()
        assert (mine.lost, link.ended) == ([], False)
        with pytest.raises(Disconnected):
            await link.send(link.session.session_info(()))
        link.terminate("gone")
        await turns()


async def test_sids_are_fresh_and_cannot_be_guessed() -> None:
    async with two_sides() as (alice, bob):
        links = [alice.hub.open(bob.client.jid) for _ in range(50)]
        assert len({link.sid for link in links}) == 50
        assert all(len(link.sid) == 32 for link in links)
        assert alice.hub.peer_gone(bob.client.jid) == links
        assert alice.hub.peer_gone("bob@example.test/there") == []
        for link in links:
            link.end()
        assert alice.hub.links() == []


async def test_an_offer_that_makes_no_sense_leaves_no_session() -> None:
    async with two_sides() as (alice, bob):
        offer = Jingle(Action.SESSION_INITIATE, "sid", (bad_offer(),), initiator=alice.client.jid)
        assert await ask(alice, offer) == "bad-request"
        assert bob.hub.links() == []
        assert bob.announced == []


def bad_offer() -> Content:
    content = file_content(None)
    assert content.description is not None
    for size in content.description.iter("{urn:xmpp:jingle:apps:file-transfer:5}size"):
        size.text = "-1"
    return content


async def test_an_offer_for_which_there_is_no_handle_left_does_not_end_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever owns a domain can fill the table; the next offer must still be answered.
    async with two_sides() as (alice, bob):
        monkeypatch.setattr(handles, "MAX_HANDLES", 1)
        bob.handles = handles.Handles()
        bob.handles.ensure(bob.self_id)
        with pytest.raises(InvalidHandle):
            bob.handles.ensure(alice.self_id)
        offer = Jingle(
            Action.SESSION_INITIATE, "sid", (file_content(None),), initiator=alice.client.jid
        )
        assert await ask(alice, offer) == "resource-constraint"
        assert bob.hub.links() == []


def deaf(side: Side) -> None:
    """The server delivers nothing to the other side, and so no answer comes."""
    side.server.attack = lambda sender, stanza: stanza if sender != side.client.jid else None


async def test_stanzas_that_nobody_acknowledges_are_few() -> None:
    async with two_sides() as (alice, bob):
        link, mine, _, _ = await open_session(alice, bob)
        deaf(alice)
        for _ in range(MAX_UNACKNOWLEDGED):
            link.post(link.session.session_info(()))
        await turns()
        assert (mine.lost, link.ended) == ([], False)
        link.post(link.session.session_info(()))
        assert [type(error) for error in mine.lost] == [PeerError]
        assert link.ended
        before = len(asyncio.all_tasks())
        for _ in range(10):
            link.post(Jingle(Action.SESSION_INFO, link.sid))
        assert len(asyncio.all_tasks()) == before
        assert len(mine.lost) == 1


async def test_stanzas_that_are_acknowledged_can_be_as_many_as_it_takes() -> None:
    async with two_sides() as (alice, bob):
        link, mine, _, _ = await open_session(alice, bob)
        for _ in range(3):
            for _ in range(MAX_UNACKNOWLEDGED):
                link.post(link.session.session_info(()))
            await turns(200)
        assert (mine.lost, link.ended) == ([], False)


async def test_a_peer_that_makes_us_refuse_transports_without_end_is_left() -> None:
    async with two_sides() as (alice, bob):
        outgoing = alice.request_file(b"x")
        await until(lambda: bob.incoming)
        (incoming,) = bob.incoming
        await incoming.accept_file(1, 0, 0, 0)
        await until(lambda: "session-accept" in bob.server.actions(bob.client.jid))
        deaf(alice)
        link = bob.hub.links()[0]
        content = Content("initiator", "file", transport=transport("urn:x-unknown"))
        for _ in range(MAX_UNACKNOWLEDGED + 5):
            request = build(Jingle(Action.TRANSPORT_REPLACE, link.sid, (content,)))
            bob_hears(bob, alice, request)
            await turns(3)
        posted = [t for t in asyncio.all_tasks() if "transport-reject" in t.get_name()]
        assert len(posted) <= MAX_UNACKNOWLEDGED
        del outgoing


def bob_hears(bob: Side, alice: Side, payload: Element) -> None:
    iq = Element("{jabber:client}iq", {"type": "set", "id": "x", "from": alice.client.jid})
    iq.append(payload)
    bob.client.iqs.receive(iq)


async def test_last_stanzas_of_sessions_that_are_over_are_not_waited_for_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_LAST", 5)
    async with two_sides() as (alice, bob):
        deaf(bob)
        content = Content(
            "initiator",
            "file",
            "initiator",
            description=file_content(None).description,
            transport=transport("urn:x-unknown"),
        )
        for number in range(20):
            offer = Jingle(
                Action.SESSION_INITIATE, f"s{number}", (content,), initiator=alice.client.jid
            )
            bob_hears(bob, alice, build(offer))
            await turns(5)
            waiting = [t for t in asyncio.all_tasks() if "session-terminate" in t.get_name()]
            assert len(waiting) <= 5
        assert bob.hub.links() == []
