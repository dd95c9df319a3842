"""Calls of an account beside its file transfers: which offer is what, and what crossed."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.events import (
    CallAccepted,
    CallInitiated,
    ContentModified,
    Event,
    Terminated,
)
from telepathy_e2e.jingle.states import State
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.xmpp.client import StanzaError
from tests.unit.call_support import media
from tests.unit.service_support import Side, file_content, two_sides, until, within

VOICE = ("initiator", "voice")


class Application:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def session_event(self, event: Event) -> None:
        self.events.append(event)

    def peer_offline(self) -> None:
        pass

    def session_lost(self, error: Exception) -> None:
        raise AssertionError(error)


async def call(alice: Side, bob: Side) -> tuple[Link, Application, Link, Application]:
    """A call of Alice's that Bob has not taken yet."""
    found: list[tuple[Link, CallInitiated]] = []
    bob.hub.take_calls(lambda link, event: found.append((link, event)))
    link = alice.hub.open_call(bob.client.jid, "announced")
    mine, theirs = Application(), Application()
    link.application = mine
    await within(link.send(link.call.initiate([media("voice")])))
    ((other, event),) = found
    other.application = theirs
    assert [each.name for each in event.contents] == ["voice"]
    return link, mine, other, theirs


async def test_an_offer_of_media_becomes_a_call_that_is_taken_and_ended() -> None:
    async with two_sides() as (alice, bob):
        link, mine, other, theirs = await call(alice, bob)
        assert (link.sid, other.sid) == ("announced", "announced")
        assert other.own == bob.client.jid
        await within(other.send(other.call.accept([media("voice")])))
        assert isinstance(mine.events[0], CallAccepted)
        link.terminate("success")
        await until(lambda: bool(theirs.events))
        assert isinstance(theirs.events[0], Terminated)
        assert alice.hub.links() == bob.hub.links() == []


async def test_a_call_is_no_session_of_one_content_and_the_other_way_round() -> None:
    async with two_sides() as (alice, bob):
        with pytest.raises(TypeError):
            _ = alice.hub.open_call(bob.client.jid).session
        with pytest.raises(TypeError):
            _ = alice.hub.open(bob.client.jid).call


async def test_two_calls_do_not_have_one_name() -> None:
    async with two_sides() as (alice, bob):
        alice.hub.open_call(bob.client.jid, "s")
        with pytest.raises(ValueError, match="in use"):
            alice.hub.open_call(bob.client.jid, "s")
        assert alice.hub.open_call(bob.client.jid).sid != alice.hub.open_call(bob.client.jid).sid


async def test_who_takes_calls_still_gets_files() -> None:
    async with two_sides() as (alice, bob):
        found: list[Link] = []
        bob.hub.take_calls(lambda link, event: None)
        bob.hub._offered = lambda link, content: found.append(link)
        link = alice.hub.open(bob.client.jid)
        await within(link.send(link.session.initiate(file_content(None))))
        assert found[0].session.state is State.PENDING


async def test_a_call_that_is_refused_before_anybody_sees_it_leaves_nothing() -> None:
    def refuse(link: Link, event: CallInitiated) -> None:
        raise PeerError("no such media", "feature-not-implemented")

    async with two_sides() as (alice, bob):
        bob.hub.take_calls(refuse)
        link = alice.hub.open_call(bob.client.jid)
        with pytest.raises(StanzaError):
            await within(link.send(link.call.initiate([media("voice")])))
        assert link.call.state is State.ENDED
        assert bob.hub.links() == []


async def test_whoever_sends_hears_what_became_of_a_change() -> None:
    async with two_sides() as (alice, bob):
        link, mine, other, _ = await call(alice, bob)
        await within(other.send(other.call.accept([media("voice")])))
        await within(link.send(link.call.content_modify(VOICE, "none")))
        # Acknowledged: what Bob says now has not crossed it.
        await within(other.send(other.call.content_modify(VOICE, "both")))
        assert mine.events[1:] == [ContentModified(VOICE, "both")]
        add = other.call.content_add([media("face", "responder")])
        link.application = _Refusing()
        with pytest.raises(StanzaError):
            await within(other.send(add))
        assert [each.key for each in other.call.contents] == [VOICE]
        assert [each.key for each in link.call.contents] == [VOICE]


class _Refusing(Application):
    def session_event(self, event: Event) -> None:
        raise PeerError("no", "feature-not-implemented")


async def test_without_anybody_who_takes_calls_media_are_offered_as_before() -> None:
    async with two_sides() as (alice, bob):
        found: list[Element | None] = []
        bob.hub._offered = lambda link, content: found.append(content.description)
        link = alice.hub.open_call(bob.client.jid)
        await within(link.send(link.call.initiate([media("voice")])))
        assert len(found) == 1
