"""XML streams of a connection: who may open one, what gets out of it and where it goes."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.errors import (
    Disconnected,
    EncryptionError,
    EncryptionNotAvailable,
    NetworkError,
    NotAvailable,
    NotCapable,
    Offline,
    PeerError,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.jingle.stanzas import JINGLE_NS
from telepathy_e2e.jingle.xml_streams import FEATURE
from telepathy_e2e.net.streams import Stream
from telepathy_e2e.service import xml_stream, xml_streams
from telepathy_e2e.service.connection import Connection
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.service.road import Road
from telepathy_e2e.service.xml_stream import XmlStream
from telepathy_e2e.service.xml_stream_security import StreamSecurity
from telepathy_e2e.service.xml_streams import XmlStreams
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp.iq import IqRequest, IqTimeout, StanzaError
from telepathy_e2e.xmpp.peer_stream import MAX_STANZA
from telepathy_e2e.xmpp.roster import Resource, RosterChange, RosterItem
from telepathy_e2e.xtls.identity import identity_fingerprint
from telepathy_e2e.xtls.offer import XTLS
from tests.unit.service_support import ALICE, BOB, jingle_of, turns, until, within
from tests.unit.xml_stream_support import CONTACT, StreamSide, message, stream_sides

PING = "{urn:xmpp:ping}ping"


async def opened(alice: StreamSide, bob: StreamSide) -> tuple[XmlStream, XmlStream]:
    """Alice's end, which opened it, and Bob's."""
    stream = await within(alice.xml_streams.get(alice.peer_jid))
    await until(lambda: bob.streams and bob.streams[0].ready.done())
    return stream, bob.streams[0]


def gone(*sides: StreamSide) -> bool:
    return not any(side.streams or side.hub.links() for side in sides)


# -- what goes through it -------------------------------------------------------------------


async def test_stanzas_arrive_in_order_on_both_sides_and_say_who_sent_them() -> None:
    async with stream_sides() as (alice, bob):
        ours, theirs = await opened(alice, bob)
        for number in range(50):
            ours.send(message(str(number)))
            theirs.send(message(str(number)))
        ours.send(Element("{jabber:client}presence"))
        await until(lambda: len(bob.got) == 51 and len(alice.got) == 50)
        for side, other, count in ((alice, bob, 50), (bob, alice, 50)):
            assert side.bodies()[:50] == [str(number) for number in range(count)]
            for stanza, mark in side.got:
                assert stanza.get("from") == mark.jid == other.client.jid
                assert stanza.get("to") == side.client.jid
                assert mark.fingerprint == identity_fingerprint(other.identities.certificate)
                assert not mark.verified
        assert bob.got[-1][0].tag == "{jabber:client}presence"


async def test_questions_are_answered_by_the_table_and_nobody_else() -> None:
    async with stream_sides() as (alice, bob):
        asked: list[tuple[IqRequest, ProtectedPeer]] = []

        def answer(request: IqRequest, peer: ProtectedPeer) -> None:
            asked.append((request, peer))
            request.reply(Element("{urn:x}answer"))

        bob.xml_streams.on_iq("{urn:x}question", answer)
        bob.client.on_iq("{urn:x}unprotected", lambda request: request.reply())
        ours, theirs = await opened(alice, bob)
        assert await within(ours.ask(Element(PING))) is None
        assert await within(theirs.ask(Element(PING))) is None
        info = await within(ours.ask(Element("{http://jabber.org/protocol/disco#info}query")))
        assert info is not None
        assert info.tag == "{http://jabber.org/protocol/disco#info}query"
        answered = await within(ours.ask(Element("{urn:x}question"), "set"))
        assert answered is not None
        assert answered.tag == "{urn:x}answer"
        ((request, peer),) = asked
        assert request.from_ == peer.jid == alice.client.jid
        for tag in ("{urn:x}unprotected", "{jabber:iq:roster}query", f"{{{JINGLE_NS}}}jingle"):
            with pytest.raises(StanzaError) as caught:
                await within(ours.ask(Element(tag), "set"))
            assert caught.value.condition == "service-unavailable"
        # And what is answered there is answered nowhere else.
        with pytest.raises(StanzaError):
            await alice.client.send_iq(bob.client.jid, Element("{urn:x}question"), "get")


async def test_a_handler_s_refusal_is_the_answer() -> None:
    async with stream_sides() as (alice, bob):

        def refuse(request: IqRequest, peer: ProtectedPeer) -> None:
            raise PeerError("no", "not-allowed")

        bob.xml_streams.on_iq("{urn:x}q", refuse)
        ours, _ = await opened(alice, bob)
        with pytest.raises(StanzaError) as caught:
            await within(ours.ask(Element("{urn:x}q")))
        assert caught.value.condition == "not-allowed"


async def test_nothing_of_the_stanzas_is_on_the_wire_of_the_server() -> None:
    async with stream_sides() as (alice, bob):
        ours, _ = await opened(alice, bob)
        ours.send(message("a secret of theirs"))
        await until(lambda: bob.got)
        assert not any(
            "a secret" in (each.text or "")
            for _, stanza in alice.server.carried
            for each in stanza.iter()
        )


async def test_protected_stanzas_are_for_features_that_ask_for_them() -> None:
    class Old(Feature):
        def receive_message(self, stanza: Element) -> bool:
            raise AssertionError("a handler that was not written for it")

        receive_presence = receive_message

    class New(Feature):
        def __init__(self, takes: bool) -> None:
            self.takes = takes
            self.got: list[str] = []

        def receive_protected_message(self, stanza: Element, peer: ProtectedPeer) -> bool:
            self.got.append("message")
            if stanza.get("type") == "wrong":
                raise PeerError("wrong")
            return self.takes

        def receive_protected_presence(self, stanza: Element, peer: ProtectedPeer) -> bool:
            self.got.append("presence")
            return self.takes

    first, second, third = New(False), New(True), New(True)
    connection = cast(Any, Connection.__new__(Connection))
    connection.features = (Old(), first, Old(), second, third)
    mark = ProtectedPeer(BOB + "/here", bytes(32), False)
    connection.protected_received(message("x"), mark)
    connection.protected_received(Element("{jabber:client}presence"), mark)
    connection.protected_received(message("x", type="wrong"), mark)
    assert first.got == ["message", "presence", "message"]
    assert second.got == ["message", "presence"]
    assert third.got == []


# -- one to each program --------------------------------------------------------------------


async def test_there_is_one_stream_to_a_program_however_often_it_is_asked_for() -> None:
    async with stream_sides() as (alice, bob):
        first, second = await within(
            asyncio.gather(*(alice.xml_streams.get(bob.client.jid) for _ in range(2)))
        )
        assert first is second
        assert await within(bob.xml_streams.get(alice.client.jid)) is bob.streams[0]
        assert len(alice.streams) == len(bob.streams) == 1
        assert len(alice.hub.links()) == 1


async def test_two_that_cross_become_one() -> None:
    async with stream_sides() as (alice, bob):
        ours, theirs = await within(
            asyncio.gather(
                alice.xml_streams.get(bob.client.jid), bob.xml_streams.get(alice.client.jid)
            )
        )
        ours.send(message("to Bob"))
        theirs.send(message("to Alice"))
        await until(lambda: alice.got and bob.got)
        assert (alice.streams, bob.streams) == ([ours], [theirs])
        assert ours.ours is not theirs.ours


async def test_another_offer_of_a_program_that_has_a_stream_is_refused() -> None:
    async with stream_sides() as (alice, bob):
        ours, theirs = await opened(alice, bob)
        del alice.xml_streams._streams[alice.peer_jid]  # as if she had forgotten it
        with pytest.raises(NetworkError):
            await within(alice.xml_streams.get(alice.peer_jid))
        assert alice.server.reason(bob.client.jid) == "busy"
        theirs.send(message("still there"))
        await until(lambda: alice.got)
        ours.close()
        await until(lambda: gone(alice, bob))


async def test_whoever_cannot_be_reached_or_cannot_do_it_is_told_so() -> None:
    async with stream_sides() as (alice, _):
        with pytest.raises(Offline):
            await alice.xml_streams.get(BOB + "/elsewhere")
        for features in (None, frozenset[str](), frozenset({XTLS})):
            alice.client.online[BOB] = [Resource(BOB + "/here", features=features)]
            with pytest.raises(NotCapable):
                await alice.xml_streams.get(BOB + "/here")
        alice.policy = Policy.OFF
        with pytest.raises(PermissionDenied):
            await alice.xml_streams.get(BOB + "/here")
        assert alice.server.carried == []


async def test_there_are_so_many_streams_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_streams, "MAX_STREAMS", 1)
    async with stream_sides() as (alice, bob):
        alice.client.online[BOB].append(Resource(BOB + "/other", features=frozenset({FEATURE})))
        await opened(alice, bob)
        with pytest.raises(NotAvailable):
            await alice.xml_streams.get(BOB + "/other")


async def test_the_feature_is_announced_where_there_is_protection() -> None:
    async with stream_sides() as (alice, _):
        assert alice.xml_streams.disco == (FEATURE,)
        alice.policy = Policy.OFF
        assert XmlStreams(alice.account).disco == ()


# -- who may open one -----------------------------------------------------------------------


async def refused(alice: StreamSide, bob: StreamSide) -> str:
    """With which reason Bob refuses Alice's stream, at once."""
    with pytest.raises(TelepathyError):
        await within(alice.xml_streams.get(bob.client.jid))
    await turns()
    assert gone(alice, bob)
    assert "session-accept" not in alice.server.actions(bob.client.jid)
    return alice.server.reason(bob.client.jid)


async def test_strangers_open_none() -> None:
    async with stream_sides() as (alice, bob):
        bob.client.in_roster.clear()
        assert await refused(alice, bob) == "decline"


@pytest.mark.parametrize("subscription", ["none", "to"])
async def test_nor_does_a_contact_who_may_not_see_that_we_are_here(subscription: str) -> None:
    async with stream_sides() as (alice, bob):
        bob.client.in_roster[ALICE] = RosterItem("", subscription, ())
        assert await refused(alice, bob) == "decline"


async def test_without_protection_there_is_none_on_either_side() -> None:
    async with stream_sides() as (alice, bob):
        bob.policy = Policy.OFF
        assert await refused(alice, bob) == "decline"


@pytest.mark.parametrize("action", ["session-initiate", "session-accept"])
async def test_a_server_that_takes_the_protection_out_gets_no_stream(action: str) -> None:
    def attack(sender: str, stanza: Element) -> Element:
        jingle = jingle_of(stanza)
        if jingle is not None and jingle.get("action") == action:
            content = jingle.find(f"{{{JINGLE_NS}}}content")
            assert content is not None
            security = content.find(f"{{{XTLS}}}security")
            assert security is not None
            content.remove(security)
        return stanza

    async with stream_sides() as (alice, bob):
        alice.server.attack = attack
        with pytest.raises(TelepathyError):
            await within(alice.xml_streams.get(bob.client.jid))
        await until(lambda: gone(alice, bob))
        assert not alice.got
        assert not bob.got


@pytest.mark.parametrize(
    "value", ["09:7B:13", "no hexadecimal at all"], ids=["too short", "no fingerprint"]
)
async def test_protection_that_makes_no_sense_in_the_answer_is_a_security_error(value: str) -> None:
    """xtls-wire, section 1: as for files and tubes."""
    told: list[str] = []

    def attack(sender: str, stanza: Element) -> Element:
        jingle = jingle_of(stanza)
        if jingle is not None and jingle.get("action") == "session-accept":
            for each in jingle.iter(f"{{{XTLS}}}fingerprint"):
                each.text = value
        if jingle is not None and jingle.get("action") == "session-terminate":
            told.extend(each.tag for each in jingle.iter() if each.tag.endswith("-error"))
        return stanza

    async with stream_sides() as (alice, bob):
        alice.server.attack = attack
        with pytest.raises(EncryptionError):
            await within(alice.xml_streams.get(bob.client.jid))
        await until(lambda: gone(alice, bob))
        assert told == [f"{{{JINGLE_NS}}}security-error"]


async def test_a_contact_opens_so_many_in_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_streams, "MAX_OPENED", 2)
    now = 1000.0
    async with stream_sides() as (alice, bob):
        bob.xml_streams = XmlStreams(bob.account, lambda: now)
        for _ in range(2):
            ours, _ = await opened(alice, bob)
            ours.close()
            await until(lambda: gone(alice, bob))
        before = len(alice.server.actions(bob.client.jid))
        with pytest.raises(NetworkError):
            await within(alice.xml_streams.get(bob.client.jid))
        assert alice.server.actions(bob.client.jid)[before:] == ["session-terminate"]
        # His own are another matter, and so is the next hour.
        theirs = await within(bob.xml_streams.get(alice.client.jid))
        theirs.close()
        await until(lambda: gone(alice, bob))
        now += xml_streams.HOUR + 1
        await opened(alice, bob)


async def test_all_contacts_together_open_so_many_in_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xml_streams, "MAX_OPENED_BY_ALL", 0)
    async with stream_sides() as (alice, bob):
        assert await refused(alice, bob) == "busy"


async def test_one_contact_does_not_take_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_streams, "MAX_PER_CONTACT", 0)
    async with stream_sides() as (alice, bob):
        assert await refused(alice, bob) == "busy"


async def test_an_offer_that_makes_no_sense_leaves_nothing_behind() -> None:
    async with stream_sides() as (alice, bob):

        def attack(sender: str, stanza: Element) -> Element:
            jingle = jingle_of(stanza)
            if jingle is not None and jingle.get("action") == "session-initiate":
                content = jingle.find(f"{{{JINGLE_NS}}}content")
                assert content is not None
                content.set("senders", "initiator")
            return stanza

        alice.server.attack = attack
        with pytest.raises(NetworkError):
            await within(alice.xml_streams.get(bob.client.jid))
        assert gone(alice, bob)


async def test_whoever_shows_no_identity_gets_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stream_sides() as (alice, bob):

        def leaf_only(self: Any) -> None:
            raise SecurityFailed(EncryptionNotAvailable("nobody"))

        monkeypatch.setattr(StreamSecurity, "check_identity", leaf_only)
        with pytest.raises(EncryptionNotAvailable):
            await within(alice.xml_streams.get(bob.client.jid))
        await until(lambda: gone(alice, bob))


# -- people ---------------------------------------------------------------------------------


async def test_where_verification_is_demanded_nothing_flows_before_it() -> None:
    async with stream_sides() as (alice, bob):
        alice.policy = Policy.VERIFIED
        getting = asyncio.ensure_future(alice.xml_streams.get(bob.client.jid))
        await until(lambda: alice.questions)
        (question,) = alice.questions
        assert question.payload_channel == alice.streams[0].object_path
        assert question.target_id == BOB
        await turns()
        assert not getting.done()
        question.accept("fingerprint")
        ours = await within(getting)
        assert ours.mark().verified
        assert ours.mark().methods == ("fingerprint",)
        bob.streams[0].send(message("hello"))
        await until(lambda: alice.got)
        assert alice.got[0][1].verified
        assert not bob.questions


async def test_a_no_ends_it_on_both_sides() -> None:
    async with stream_sides() as (alice, bob):
        alice.policy = Policy.VERIFIED
        getting = asyncio.ensure_future(alice.xml_streams.get(bob.client.jid))
        await until(lambda: alice.questions)
        alice.questions[0].reject("no")
        with pytest.raises(TelepathyError):
            await within(getting)
        await until(lambda: gone(alice, bob))
        assert alice.server.reason(alice.client.jid) == "security-error"


@pytest.mark.parametrize(
    "settings", [{"policy": Policy.VERIFIED}, {"always_verify": True}, {"ask_certificate": True}]
)
async def test_where_people_are_asked_about_everybody_contacts_open_none(
    settings: dict[str, object],
) -> None:
    async with stream_sides() as (alice, bob):
        for name, value in settings.items():
            setattr(bob, name, value)
        assert await refused(alice, bob) == "decline"
        assert not bob.announced


def judged(side: StreamSide, other: StreamSide, *, accepted: bool) -> None:
    """Whoever is asked has said who the other is, in a channel of this connection."""
    fingerprint = identity_fingerprint(other.identities.certificate)
    side.key_judged(other.self_id, fingerprint, accepted=accepted)


async def test_nobody_is_asked_because_a_contact_opens_one() -> None:
    """Contacts could put questions to people as often as they liked."""
    async with stream_sides() as (alice, bob):
        bob.handler = True
        judged(bob, bob, accepted=True)  # somebody else
        with pytest.raises(TelepathyError):
            await within(alice.xml_streams.get(bob.client.jid))
        await until(lambda: gone(alice, bob))
        assert not bob.announced
        assert not bob.got


async def test_a_key_that_was_let_through_before_needs_no_question() -> None:
    async with stream_sides() as (alice, bob):
        bob.handler = True
        judged(bob, alice, accepted=True)
        ours, theirs = await opened(alice, bob)
        ours.send(message("x"))
        await until(lambda: bob.got)
        assert not bob.announced
        assert not bob.got[0][1].verified
        # Who is rejected later has no stream any longer, and gets none.
        judged(bob, alice, accepted=False)
        assert theirs.over
        await until(lambda: gone(alice, bob))
        with pytest.raises(TelepathyError):
            await within(alice.xml_streams.get(bob.client.jid))
        assert not bob.announced


async def test_who_opens_one_is_asked_unless_it_shall_be_quiet() -> None:
    async with stream_sides() as (alice, bob):
        alice.handler = True
        with pytest.raises(TelepathyError):
            await within(alice.xml_streams.get(bob.client.jid, quiet=True))
        assert not alice.announced
        await until(lambda: gone(alice, bob))
        getting = asyncio.ensure_future(alice.xml_streams.get(bob.client.jid))
        await until(lambda: alice.questions)
        assert not getting.done()
        alice.questions[0].proceed_unverified()
        ours = await within(getting)
        assert not ours.mark().verified
        assert alice.judged[-1] == (BOB, ours.mark().fingerprint, True)
        ours.close()
        await until(lambda: gone(alice, bob))
        # The answer holds for the next one.
        await within(alice.xml_streams.get(bob.client.jid, quiet=True))
        assert len(alice.questions) == 1


async def test_a_contact_who_starts_a_comparison_in_his_stream_asks_nobody() -> None:
    async with stream_sides() as (alice, bob):
        ours, _ = await opened(alice, bob)
        ours.security.start_sas()
        assert await within(ours.ask(Element(PING))) is None
        assert not bob.announced


async def test_a_question_that_nobody_answers_ends_with_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[asyncio.Timeout] = []
    real = asyncio.timeout

    def timeout(delay: float | None) -> asyncio.Timeout:
        made = real(delay)
        if delay == xml_stream.SETUP_SECONDS:
            limits.append(made)
        return made

    monkeypatch.setattr(asyncio, "timeout", timeout)
    async with stream_sides() as (alice, bob):
        alice.handler = True
        getting = asyncio.ensure_future(alice.xml_streams.get(bob.client.jid))
        await until(lambda: alice.questions)
        limits[0].reschedule(asyncio.get_running_loop().time())  # hers, who has begun
        with pytest.raises(TelepathyError):
            await within(getting)
        await until(lambda: gone(alice, bob))
        assert alice.questions[0].closed


async def test_as_many_keys_are_remembered_as_people_have_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xml_streams, "MAX_ACCEPTED", 2)
    async with stream_sides() as (alice, _):
        for number in range(5):
            alice.xml_streams.key_judged(BOB, bytes([number]), accepted=True)
        assert list(alice.xml_streams._accepted) == [(BOB, bytes([3])), (BOB, bytes([4]))]


# -- the end --------------------------------------------------------------------------------


async def test_who_closes_ends_it_in_order() -> None:
    for closer in (0, 1):
        async with stream_sides() as sides:
            alice, bob = sides
            streams = await opened(alice, bob)
            other = (bob, alice)[closer]
            streams[closer].send(message("last words"))
            streams[closer].close()
            streams[closer].close()
            with pytest.raises(Disconnected):
                streams[closer].send(message("too late"))
            await until(lambda: gone(*sides))
            assert other.bodies() == ["last words"]
            assert alice.server.reason(sides[closer].client.jid) == "success"
            assert alice.server.actions(other.client.jid).count("session-terminate") == 0


async def test_both_may_close_at_once() -> None:
    async with stream_sides() as (alice, bob):
        for stream in await opened(alice, bob):
            stream.close()
        await until(lambda: gone(alice, bob))


async def test_a_stream_that_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stream_sides() as (alice, bob):
        with monkeypatch.context() as patch:
            patch.setattr(xml_stream, "IDLE_SECONDS", 1.0)
            await within(alice.xml_streams.get(bob.client.jid))
            await until(lambda: gone(alice, bob))
        # And the next one opens anew.
        ours, _ = await opened(alice, bob)
        assert not ours.over


async def test_whoever_waits_for_an_answer_is_told_of_the_end() -> None:
    async with stream_sides() as (alice, bob):
        bob.xml_streams.on_iq("{urn:x}silence", lambda request, peer: None)
        ours, theirs = await opened(alice, bob)
        asking = asyncio.ensure_future(ours.ask(Element("{urn:x}silence")))
        await turns()
        theirs.abandon("gone", Disconnected("away"))
        with pytest.raises(Disconnected):
            await within(asking)
        with pytest.raises(Disconnected):
            await ours.ask(Element(PING))


async def test_an_answer_that_never_comes_is_a_timeout() -> None:
    async with stream_sides() as (alice, bob):
        bob.xml_streams.on_iq("{urn:x}silence", lambda request, peer: None)
        ours, _ = await opened(alice, bob)
        with pytest.raises(IqTimeout):
            await ours.ask(Element("{urn:x}silence"), "get", 0.05)


@pytest.mark.parametrize("who", ["the contact went offline", "the contact left the list", "we go"])
async def test_a_stream_does_not_outlive_what_it_belongs_to(who: str) -> None:
    async with stream_sides() as (alice, bob):
        ours, theirs = await opened(alice, bob)
        match who:
            case "the contact went offline":
                theirs.peer_offline()
            case "the contact left the list":
                bob.xml_streams.roster_changed([RosterChange("x@y", CONTACT, None)])
                assert not theirs.over
                bob.xml_streams.roster_changed([RosterChange(ALICE, CONTACT, None)])
            case _:
                bob.xml_streams.disconnected(Disconnected("bye"), stopped=True)
        assert theirs.over
        await until(lambda: gone(alice, bob))
        assert ours.over
        assert not [name for name in alice.running() if "XMLStream" in name]


async def test_a_road_that_breaks_ends_it_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_stream, "REASON_GRACE", 0.05)
    async with stream_sides() as (alice, bob):
        ours, _ = await opened(alice, bob)
        for road in ours._carried:
            road.abort()
        await until(lambda: gone(alice, bob))


async def test_what_the_peer_may_not_say_ends_it_and_nothing_after_it_counts() -> None:
    async with stream_sides() as (alice, bob):
        ours, theirs = await opened(alice, bob)
        ours._machine._out += b"<message><body>before</body></message>" + b" " * xml_stream.SLICE
        ours._machine._out += (
            b"<message from='carol@example.test/c'><body>as Carol</body></message>"
        )
        ours._machine._out += b"<message><body>after</body></message>"
        ours._queued()
        await until(lambda: gone(alice, bob))
        assert bob.bodies() == ["before"]
        assert theirs.over


async def test_who_does_not_read_does_not_make_us_keep_more_than_so_much() -> None:
    async with stream_sides() as (alice, bob):
        ours, theirs = await opened(alice, bob)
        never = asyncio.Event()

        async def stuck(data: object) -> None:
            await never.wait()

        cast(Any, ours._carried[-1]).write = stuck
        sent = 0
        while ours._room.is_set():
            ours.send(message("x" * 100_000))
            sent += 100_000
        with pytest.raises(NotAvailable):
            ours.send(message())
        assert sent <= xml_stream.MAX_UNSENT + MAX_STANZA
        # Nor is he read any more: he could ask without end.
        for _ in range(40):
            theirs.send(message("x" * 10_000))
        await turns(500)
        assert len(alice.got) < 40


async def test_stanzas_of_the_largest_size_go_through() -> None:
    async with stream_sides() as (alice, bob):
        ours, _ = await opened(alice, bob)
        text = "x" * (MAX_STANZA - 200)
        ours.send(message(text))
        await until(lambda: bob.got)
        assert bob.bodies() == [text]


class Hoarder:
    """A road whose proxy keeps the end of what came at once until more comes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept = b""
        self.read, self.close, self.abort = stream.read, stream.close, stream.abort

    async def write(self, data: bytes) -> None:
        whole = self._kept + data
        passed = len(whole) - 4096 if len(data) > 4096 else len(whole)
        self._kept = whole[passed:]
        await self._stream.write(whole[:passed])

    async def write_eof(self) -> None:
        await self._stream.write(self._kept)
        await self._stream.write_eof()


async def test_what_a_proxy_keeps_back_is_pushed_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = Road.connect

    async def connected(road: Road) -> Hoarder:
        return Hoarder(await connect(road))

    monkeypatch.setattr(Road, "connect", connected)
    async with stream_sides() as (alice, bob):
        ours, theirs = await opened(alice, bob)
        for sender, receiver in ((ours, bob), (theirs, alice)):
            for number, size in ((1, 5_000), (2, 20_000)):
                sender.send(message("x" * size))
                await until(lambda: len(receiver.got) == number)  # noqa: B023
            # Several that make a burst together.
            for _ in range(10):
                sender.send(message("y" * 2_000))
            await until(lambda: len(receiver.got) == 12)  # noqa: B023


async def test_what_is_small_is_followed_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_stream, "PUSH_AFTER", (0.0, 0.0, 0.0))
    async with stream_sides() as (alice, bob):
        ours, _ = await opened(alice, bob)
        pushed: list[int] = []
        ours._machine.push = lambda: pushed.append(len(bob.got))  # type: ignore[method-assign]
        ours.send(message("x" * 500))
        await until(lambda: len(bob.got) == 1)
        await turns(50)
        assert not pushed
        ours.send(message("x" * 20_000))
        await until(lambda: len(pushed) == 3)
        await turns(50)
        assert len(pushed) == 3


async def test_a_session_that_is_talked_to_in_the_wrong_way_goes_on() -> None:
    async with stream_sides() as (alice, bob):
        ours, _ = await opened(alice, bob)
        jingle = Element(f"{{{JINGLE_NS}}}jingle", action="session-info", sid=ours._link.sid)
        SubElement(jingle, "{urn:x}y")
        with pytest.raises(StanzaError) as caught:
            await alice.client.send_iq(bob.client.jid, jingle)
        assert caught.value.jingle_condition == "unsupported-info"
        assert await within(ours.ask(Element(PING))) is None
