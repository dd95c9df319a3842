"""The protection of one payload channel: when payload may flow, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.errors import (
    CertUntrusted,
    EncryptionError,
    EncryptionNotAvailable,
    NetworkError,
    NotAvailable,
    PeerError,
    PermissionDenied,
    SecurityError,
)
from telepathy_e2e.jingle.stanzas import JINGLE_NS
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.service.security import Security
from telepathy_e2e.trust.policy import Demands, Policy
from telepathy_e2e.xmpp.roster import Resource
from telepathy_e2e.xtls.offer import XTLS, build_security
from telepathy_e2e.xtls.sealed import SEALED
from tests.unit.service_support import (
    Attack,
    End,
    FakePayload,
    Secured,
    Side,
    file_content,
    jingle_of,
    pipes,
    turns,
    two_sides,
    until,
    watch,
    within,
)

SECRET = b"what the user's file says"
VERIFIED = Demands(encrypted=True, verified=True)


def without_security(action: str) -> Attack:
    """A server that takes the protection out of offers or answers."""

    def attack(sender: str, stanza: Element) -> Element:
        jingle = jingle_of(stanza)
        if jingle is not None and jingle.get("action") == action:
            content = jingle.find(f"{{{JINGLE_NS}}}content")
            assert content is not None
            security = content.find(f"{{{XTLS}}}security")
            assert security is not None
            content.remove(security)
        return stanza

    return attack


# -- offer and answer -----------------------------------------------------------------------


async def test_both_sides_are_encrypted_and_payload_flows() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        await one.write(SECRET)
        assert await within(other.read(100)) == SECRET
        for end in pair.ends:
            assert end.security.encrypted
            assert not end.security.verified
            assert end.security.protocol == "xtls"
            assert end.security.cipher_suite.startswith("TLS_")
            assert end.payload.changed[0] == "Encrypted"
        a, b = (end.security for end in pair.ends)
        assert a.peer_fingerprints == b.own_fingerprints
        assert a.own_fingerprints == b.peer_fingerprints
        assert SECRET not in pair.roads[0].written


async def test_who_writes_finds_what_came_altered_behind_what_was_read() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        await one.write(SECRET)
        pair.roads[1].arrive(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await within(other.read(100)) == SECRET
        with pytest.raises(SecurityFailed) as failure:
            await other.write(b"an answer")
        assert isinstance(failure.value.error, EncryptionError)


async def test_a_demand_under_the_policy_off_offers_nothing_and_fails_as_our_own_fault() -> None:
    async with two_sides() as (alice, _):
        alice.policy = Policy.OFF
        link = alice.hub.open("bob@example.test/here")
        security = Security(alice.account, FakePayload(alice, False), Demands(encrypted=True))
        with pytest.raises(SecurityFailed) as failure:
            await security.offer(link, alice.client.resources("bob@example.test")[0])
        assert isinstance(failure.value.error, EncryptionNotAvailable)
        assert (failure.value.condition, failure.value.fault) == ("cancel", Fault.OURS)
        assert alice.identities.certified == 0 or alice.policy is Policy.OFF
        link.end()


async def test_protection_is_offered_to_who_had_a_key_although_the_server_hides_the_feature() -> (
    None
):
    async with two_sides() as (alice, _):
        hidden = Resource("bob@example.test/here", features=frozenset())
        for known, offered in ((False, False), (True, True)):
            alice.keys = {"bob@example.test"} if known else set()
            link = alice.hub.open(hidden.jid)
            security = Security(alice.account, FakePayload(alice, False), Demands())
            assert (await security.offer(link, hidden) is not None) is offered
            security.finished()
            link.end()


async def test_an_answer_with_protection_that_was_not_offered_is_refused() -> None:
    async with two_sides() as (alice, bob):
        link = alice.hub.open("bob@example.test/here")
        alice.client.online["bob@example.test"] = [Resource(link.peer, features=frozenset())]
        end = End(alice, link, receives=False, demands=Demands())
        peer = alice.client.resources("bob@example.test")[0]
        assert await end.security.offer(link, peer) is None
        end.security.offered(file_content(None))
        theirs = Security(bob.account, FakePayload(bob, True), Demands())
        own = build_security((await theirs.certify()).leaf)
        with pytest.raises(PeerError):
            end.security.answered(file_content(own))
        assert not end.security.agreed
        link.end()


async def test_an_answer_none_of_whose_fingerprints_can_be_checked_ends_it() -> None:
    async with two_sides() as (alice, _):
        link = alice.hub.open("bob@example.test/here")
        end = End(alice, link, receives=False, demands=Demands())
        peer = alice.client.resources("bob@example.test")[0]
        content = file_content(await end.security.offer(link, peer))
        end.security.offered(content)
        weak = Element(f"{{{XTLS}}}security")
        SubElement(weak, f"{{{XTLS}}}fingerprint", hash="sha-1").text = "AA:" * 19 + "AA"
        SubElement(weak, f"{{{XTLS}}}method", name="x509")
        with pytest.raises(SecurityError):
            end.security.answered(file_content(weak))
        assert not end.security.agreed
        link.end()


async def test_an_offer_none_of_whose_fingerprints_can_be_checked_is_refused_as_tampering() -> None:
    async with two_sides() as (_, bob):
        link = bob.hub.open("alice@example.test/here")
        weak = Element(f"{{{XTLS}}}security")
        SubElement(weak, f"{{{XTLS}}}fingerprint", hash="md5").text = "AA:" * 15 + "AA"
        SubElement(weak, f"{{{XTLS}}}method", name="x509")
        security = Security(bob.account, FakePayload(bob, True), Demands())
        with pytest.raises(SecurityFailed) as failure:
            security.received_offer(link, file_content(weak))
        assert isinstance(failure.value.error, EncryptionError)
        assert (failure.value.condition, failure.value.fault) == ("security-error", Fault.PEER)
        link.end()


@pytest.mark.parametrize("policy", [Policy.REQUIRED, Policy.VERIFIED])
async def test_an_offer_whose_protection_was_taken_out_is_refused_where_it_is_demanded(
    policy: Policy,
) -> None:
    async with two_sides() as (alice, bob):
        bob.policy = policy
        alice.server.attack = without_security("session-initiate")
        security = Security(bob.account, FakePayload(bob, True), Demands())
        link = bob.hub.open("alice@example.test/here")
        with pytest.raises(SecurityFailed) as failure:
            security.received_offer(link, file_content(None))
        assert isinstance(failure.value.error, EncryptionNotAvailable)
        assert failure.value.condition == "security-error"
        link.end()


# -- in the clear ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "demands"),
    [
        (Policy.REQUIRED, Demands()),
        (Policy.VERIFIED, Demands()),
        (Policy.OPPORTUNISTIC, Demands(encrypted=True)),
        (Policy.OPPORTUNISTIC, VERIFIED),
    ],
)
@pytest.mark.parametrize("handler", [False, True])
async def test_an_answer_whose_protection_was_taken_out_lets_nothing_out_where_it_is_demanded(
    policy: Policy, demands: Demands, handler: bool
) -> None:
    async with two_sides() as (alice, bob):
        alice.policy, alice.handler = policy, handler
        alice.server.attack = without_security("session-accept")
        pair = await Secured(alice, bob, demands).agree()
        ours = pair.ends[0]
        with pytest.raises(SecurityFailed) as failure:
            await within(ours.security.secure(pair.roads[0]))
        assert isinstance(failure.value.error, EncryptionNotAvailable)
        assert (failure.value.condition, failure.value.fault) == ("security-error", Fault.OURS)
        assert [each is failure.value for each in ours.payload.failures] == [True]
        assert not ours.security.encrypted
        assert alice.questions == []
        assert not pair.roads[0].written


async def test_in_the_clear_a_handler_is_asked_first_and_its_yes_opens_the_road() -> None:
    async with two_sides() as (alice, bob):
        alice.handler = True
        alice.server.attack = without_security("session-accept")
        pair = await Secured(alice, bob).agree()
        task = asyncio.create_task(pair.ends[0].security.secure(pair.roads[0]))
        await turns()
        assert not task.done()
        (question,) = alice.questions
        assert question.reason == "no-encryption"
        assert question.certificate is None
        with pytest.raises(NotAvailable):
            question.accept("fingerprint")
        assert not task.done()
        question.proceed_unverified()
        assert await within(task) is pair.roads[0]
        assert not pair.ends[0].security.encrypted
        with pytest.raises(NotAvailable):
            await within(_verify_when_closed(question, pair.ends[0].security))


async def _verify_when_closed(question: object, security: Security) -> None:
    security.question_closed()
    security.verify()


@pytest.mark.parametrize("how", ["reject", "close"])
async def test_in_the_clear_a_handlers_no_or_its_crash_keeps_the_road_shut(how: str) -> None:
    async with two_sides() as (alice, bob):
        alice.handler = True
        alice.server.attack = without_security("session-accept")
        pair = await Secured(alice, bob).agree()
        task = asyncio.create_task(pair.ends[0].security.secure(pair.roads[0]))
        await turns()
        (question,) = alice.questions
        if how == "reject":
            question.reject("Not like this")
        else:
            question.close()
        with pytest.raises(SecurityFailed) as failure:
            await within(task)
        assert isinstance(failure.value.error, EncryptionNotAvailable)
        assert failure.value.fault is Fault.USER


async def test_who_asked_for_verification_before_does_not_get_the_clear_instead() -> None:
    # Otherwise taking <security/> out of an answer undoes what the user was promised.
    async with two_sides() as (alice, bob):
        alice.server.attack = without_security("session-accept")
        pair = Secured(alice, bob)
        paths: list[str] = []
        pair.before = lambda end: paths.append(end.security.verify())
        await pair.agree()
        assert paths == ["/"]
        with pytest.raises(SecurityFailed) as failure:
            await within(pair.ends[0].security.secure(pair.roads[0]))
        assert isinstance(failure.value.error, EncryptionNotAvailable)
        assert not pair.roads[0].written


# -- the question ---------------------------------------------------------------------------


@pytest.mark.parametrize("demander", ["demand", "policy", "always", "handler", "verify"])
async def test_payload_waits_for_whoever_must_be_asked(demander: str) -> None:
    async with two_sides() as (alice, bob):
        demands = VERIFIED if demander == "demand" else Demands()
        alice.policy = Policy.VERIFIED if demander == "policy" else Policy.OPPORTUNISTIC
        alice.always_verify = demander == "always"
        alice.handler = demander == "handler"
        pair = await Secured(alice, bob, demands).agree()
        ours = pair.ends[0].security
        if demander == "verify":
            assert ours.verify() == "/"
        one, other = pair.start()
        theirs = await within(other)
        await theirs.write(SECRET)
        await turns()
        assert ours.encrypted
        assert not one.done()
        (question,) = alice.questions
        expected = {"demand": "requested", "verify": "requested", "handler": "continuity"}
        assert question.reason == expected.get(demander, "policy")
        assert ours.verification_channel == question.object_path == ours.verify()
        question.accept("fingerprint")
        stream = await within(one)
        assert (ours.verified, ours.verified_by) == (True, "fingerprint")
        assert ours.verification_channel == "/"
        assert await within(stream.read(100)) == SECRET


async def test_nothing_can_be_written_or_read_past_an_unanswered_question() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, VERIFIED).agree()
        one, other = pair.start()
        await within(other)
        await turns()
        before = len(pair.roads[0].written)
        await turns()
        assert not one.done()
        assert len(pair.roads[0].written) == before


async def test_a_peer_that_sends_while_a_question_is_open_waits_and_fills_no_memory() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, VERIFIED).agree()
        one, other = pair.start()
        theirs = await within(other)
        for _ in range(100):
            await theirs.write(bytes(64 * 1024))
            await turns(2)
        # All but what one read of the road takes is still where it came from.
        assert len(pair.roads[0]._arrived) > 99 * 64 * 1024
        assert not one.done()


@pytest.mark.parametrize("how", ["reject", "close", "certificate"])
async def test_a_no_ends_it_in_the_users_name(how: str) -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, VERIFIED).agree()
        one, other = pair.start()
        await within(other)
        await until(lambda: alice.questions)
        (question,) = alice.questions
        assert question.certificate is not None
        if how == "reject":
            question.reject("That is not Bob")
        elif how == "close":
            question.close()
        else:
            question.certificate.reject([])
        with pytest.raises(SecurityFailed) as failure:
            await within(one)
        assert isinstance(failure.value.error, CertUntrusted)
        assert (failure.value.condition, failure.value.fault) == ("security-error", Fault.USER)
        if how == "reject":
            assert str(failure.value.error) == "That is not Bob"
        assert not pair.ends[0].security.verified
        assert question.certificate.state == 2


async def test_under_the_policy_verified_nobody_can_let_an_unverified_peer_through() -> None:
    async with two_sides() as (alice, bob):
        alice.policy = Policy.VERIFIED
        pair = await Secured(alice, bob).agree()
        one, _ = pair.start()
        await until(lambda: alice.questions)
        with pytest.raises(PermissionDenied):
            alice.questions[0].proceed_unverified()
        for method in ("sas", "password"):
            with pytest.raises(Exception, match="claimed"):
                alice.questions[0].accept(method)
        await turns()
        assert not one.done()


async def test_a_question_that_somebody_opens_later_holds_nothing_back() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        stream, other = await pair.secured()
        ours = pair.ends[0].security
        path = ours.verify()
        assert path == ours.verify() == alice.questions[0].object_path
        assert alice.questions[0].reason == "upgrade"
        await stream.write(SECRET)
        assert await within(other.read(100)) == SECRET


async def test_methods_add_up_and_the_strongest_is_named() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        ours = pair.ends[0].security
        for method in ("pin", "fingerprint"):
            ours.verify()
            alice.questions[-1].accept(method)
        assert ours.verified_methods == ["pin", "fingerprint"]
        assert ours.verified_by == "fingerprint"


# -- the people -----------------------------------------------------------------------------


async def strings(alice: Side, bob: Side, pair: Secured) -> None:
    """Both questions show a string."""
    for end in pair.ends:
        end.security.verify()
    alice.questions[0].start_sas()
    await until(lambda: bob.questions[0].state == "comparing")
    bob.questions[0].start_sas()
    await until(lambda: all(side.questions[0].short_authentication_string for side in (alice, bob)))


async def test_a_short_string_that_both_confirm_verifies_both() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        await strings(alice, bob, pair)
        shown = [side.questions[0].short_authentication_string for side in (alice, bob)]
        assert shown[0] == shown[1]
        alice.questions[0].confirm_sas(True)
        await turns()
        assert not pair.ends[1].security.verified
        bob.questions[0].confirm_sas(True)
        await until(lambda: all(end.security.verified for end in pair.ends))
        assert [end.security.verified_by for end in pair.ends] == ["sas", "sas"]
        assert alice.questions[0].short_authentication_string == ""


async def test_the_short_string_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        await strings(alice, bob, pair)
        shown = alice.questions[0].short_authentication_string
        alice.questions[0].confirm_sas(False)
        await until(lambda: pair.ends[1].payload.failures)
    assert len(shown) >= 4
    assert shown not in caplog.text


async def test_one_users_no_ends_it_on_both_sides_and_takes_back_a_yes() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        await strings(alice, bob, pair)
        # A handler knows the key and is faster than the people; then the other one says no.
        alice.questions[0].accept("pin")
        ours = pair.ends[0]
        assert ours.security.verified
        bob.questions[0].confirm_sas(False)
        await until(lambda: ours.payload.failures)
        (failure,) = ours.payload.failures
        assert isinstance(failure.error, CertUntrusted)
        assert failure.condition == "security-error"
        assert (ours.security.verified, ours.security.verified_by) == (False, "")
        assert ours.security.verified_methods == []
        assert pair.ends[1].payload.failures[0].fault is Fault.USER


async def test_a_peer_that_starts_a_ceremony_opens_a_question_that_holds_nothing_back() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        pair.ends[1].security.verify()
        bob.questions[0].start_sas()
        await until(lambda: alice.questions)
        assert alice.questions[0].reason == "upgrade"
        assert alice.questions[0].state == "comparing"


async def test_a_ceremony_that_the_peer_starts_does_not_turn_a_demand_into_an_upgrade() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, VERIFIED).agree()
        one, other = pair.start()
        await within(other)
        pair.ends[1].security.verify()
        bob.questions[0].start_sas()
        await until(lambda: alice.questions and alice.questions[0].state == "comparing")
        assert [each.reason for each in alice.questions] == ["requested"]
        alice.questions[0].close()
        with pytest.raises(SecurityFailed):
            await within(one)


# -- what goes wrong ------------------------------------------------------------------------


async def test_a_server_that_changes_the_offer_is_found_out_before_a_byte_of_payload() -> None:
    def attack(sender: str, stanza: Element) -> Element:
        jingle = jingle_of(stanza)
        if jingle is not None and jingle.get("action") == "session-initiate":
            for name in jingle.iter("{urn:xmpp:jingle:apps:file-transfer:5}name"):
                name.text = "other"
        return stanza

    async with two_sides() as (alice, bob):
        alice.server.attack = attack
        pair = await Secured(alice, bob).agree()
        for task in pair.start():
            with pytest.raises(SecurityFailed) as failure:
                await within(task)
            assert isinstance(failure.value.error, EncryptionError)
        assert not any(end.security.encrypted for end in pair.ends)
        assert bob.keys == set()


@pytest.mark.parametrize("end", [0, 1])
async def test_a_road_cut_in_the_handshake_cannot_be_told_from_tampering(end: int) -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        task = asyncio.create_task(pair.ends[end].security.secure(pair.roads[end]))
        await turns()
        pair.roads[end].cut()
        with pytest.raises(SecurityFailed) as failure:
            await within(task)
        assert isinstance(failure.value.error, EncryptionError)


@pytest.mark.parametrize("end", [0, 1])
async def test_a_road_cut_while_a_question_is_open_fails_as_the_network_whoever_sends(
    end: int,
) -> None:
    async with two_sides() as (alice, bob):
        side = (alice, bob)[end]
        side.always_verify = True
        pair = await Secured(alice, bob).agree()
        task = pair.start()[end]
        await until(lambda: side.questions)
        pair.roads[end].cut()
        with pytest.raises(SecurityFailed) as failure:
            await within(task)
        assert isinstance(failure.value.error, NetworkError)
        assert failure.value.condition == "failed-transport"
        assert failure.value.fault is Fault.PEER


async def test_a_direction_that_is_cut_matters_to_who_receives_in_it() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        for road in pair.roads:
            road.cut()
        with pytest.raises(SecurityFailed):
            await within(other.read(10))
        assert pair.ends[1].payload.failures[0].condition == "failed-transport"
        assert await within(one.read(10)) == b""
        assert pair.ends[0].payload.failures == []
        await one.write(b"still")


async def test_rubbish_on_the_road_is_tampering_and_the_first_failure_stays() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        _, other = await pair.secured()
        pair.roads[1].arrive(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(SecurityFailed) as failure:
            await within(other.read(10))
        assert isinstance(failure.value.error, EncryptionError)
        assert len(pair.ends[1].payload.failures) == 1
        for again in (other.read(10), other.write(SECRET)):
            with pytest.raises(SecurityFailed) as second:
                await within(again)
            assert second.value is failure.value
        assert len(pair.ends[1].payload.failures) == 1


async def test_a_sealed_message_without_protection_is_answered_with_an_error() -> None:
    async with two_sides() as (alice, bob):
        alice.server.attack = without_security("session-accept")
        pair = await Secured(alice, bob).agree()
        ours = pair.ends[0].security
        with pytest.raises(PeerError):
            ours.receive([Element(SEALED)])
        with pytest.raises(PeerError):
            pair.ends[1].security.receive([Element("{urn:x}sealed")])


async def test_a_server_that_holds_the_hellos_back_stops_it_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from telepathy_e2e.xtls import association

    def attack(sender: str, stanza: Element) -> Element | None:
        jingle = jingle_of(stanza)
        return None if jingle is not None and jingle.get("action") == "security-info" else stanza

    monkeypatch.setattr(association, "HELLO_TIMEOUT", 0.01)
    async with two_sides() as (alice, bob):
        alice.server.attack = attack
        pair = await Secured(alice, bob).agree()
        for task in pair.start():
            with pytest.raises(SecurityFailed) as failure:
                await within(task)
            assert failure.value.condition == "security-error"
        assert not any(end.security.encrypted for end in pair.ends)


class Hellos:
    """A server that notes who sends sealed messages, and keeps those of ``dropped`` back."""

    def __init__(self, dropped: str = "") -> None:
        self.dropped = dropped
        self.seen: list[str] = []

    def __call__(self, sender: str, stanza: Element) -> Element | None:
        jingle = jingle_of(stanza)
        if jingle is None or jingle.get("action") != "security-info":
            return stanza
        self.seen.append(sender.partition("@")[0])
        return None if sender.startswith(self.dropped or "-") else stanza


async def test_a_responder_that_hides_shows_its_identity_after_the_others() -> None:
    async with two_sides() as (alice, bob):
        alice.server.attack = hellos = Hellos()
        # Who initiates says hello first, whatever is set.
        alice.hide_identity = bob.hide_identity = True
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        assert hellos.seen[:2] == ["alice", "bob"]
        await one.write(SECRET)
        assert await within(other.read(100)) == SECRET
        assert all(end.security.encrypted for end in pair.ends)


@pytest.mark.parametrize("hides", [True, False])
async def test_whoever_shows_nothing_to_a_responder_that_hides_is_shown_nothing(
    hides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from telepathy_e2e.xtls import association

    monkeypatch.setattr(association, "HELLO_TIMEOUT", 1.0)
    async with two_sides() as (alice, bob):
        alice.server.attack = hellos = Hellos(dropped="alice")
        bob.hide_identity = hides
        pair = await Secured(alice, bob).agree()
        hers, his = pair.start()
        # Neither waits longer than it would otherwise.
        for task in (hers, his) if hides else (his,):
            with pytest.raises(SecurityFailed) as failure:
                await within(task)
            assert failure.value.condition == "security-error"
        if not hides:
            await within(hers)
        assert ("bob" in hellos.seen) is not hides


async def test_a_handshake_that_nobody_answers_stops_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from telepathy_e2e.xtls import protection

    monkeypatch.setattr(protection, "HANDSHAKE_TIMEOUT", 0.01)
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        with pytest.raises(SecurityFailed) as failure:
            await within(pair.ends[0].security.secure(pair.roads[0]))
        assert isinstance(failure.value.error, EncryptionError)


# -- the end --------------------------------------------------------------------------------


async def test_cancelled_in_the_handshake_it_leaves_no_task() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        task = asyncio.create_task(pair.ends[0].security.secure(pair.roads[0]))
        await turns()
        assert [t for t in asyncio.all_tasks() if "handshake" in t.get_name()]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [t for t in asyncio.all_tasks() if "handshake" in t.get_name()] == []


async def test_the_end_closes_the_question_and_stops_the_clock() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob, VERIFIED).agree()
        one, other = pair.start()
        await within(other)
        await until(lambda: alice.questions)
        question = alice.questions[0]
        seen = watch(question)
        security = pair.ends[0].security
        security.finished()
        assert question.closed
        assert [type(event).__name__ for event in seen] == ["Closed"]
        assert security.verification_channel == "/"
        assert security._timer is None
        with pytest.raises(NotAvailable):
            question.accept("fingerprint")
        assert not one.done()
        assert not security.verified
        one.cancel()


async def test_what_arrives_after_the_end_puts_no_question() -> None:
    # An in-band block, or what a socket had already given, may come right behind the stanza that
    # ended the session; nobody would ever close the question.
    async with two_sides() as (alice, bob):
        alice.handler = True
        pair = await Secured(alice, bob).agree()
        pair.roads[0].other = pipes()[0]  # what Alice sends is carried by hand
        one, other = pair.start()
        await turns()
        ours = pair.ends[0]
        sent = 0
        # Bob answers the handshake; his answer, and the hello, wait for the end of the session.
        for _ in range(3):
            pair.roads[1].arrive(bytes(pair.roads[0].written[sent:]))
            sent = len(pair.roads[0].written)
            await turns()
        if not ours.security.encrypted:
            pytest.fail("the handshake did not come to its end")
        for question in alice.questions:
            question.close()
        count = len(alice.questions)
        ours.security.finished()
        pair.ends[1].security.verify()
        bob.questions[-1].start_sas()
        await turns()
        assert len(alice.questions) == count
        for task in (one, other):
            task.cancel()
        await asyncio.gather(one, other, return_exceptions=True)


async def test_a_handshake_that_ends_after_the_session_puts_no_question() -> None:
    async with two_sides() as (alice, bob):
        alice.handler = True
        pair = await Secured(alice, bob).agree()
        ours = pair.ends[0]
        held = pair.roads[1]
        held.other = pipes()[0]  # Bob's bytes are delivered by hand
        one, other = pair.start()
        await turns()
        ours.security.finished()
        pair.roads[0].arrive(bytes(held.written))
        await turns()
        pair.roads[0].arrive(b"")
        await turns()
        assert alice.questions == []
        assert not ours.security.encrypted
        assert ours.security._timer is None
        for task in (one, other):
            task.cancel()
        await asyncio.gather(one, other, return_exceptions=True)


async def test_nothing_can_be_verified_when_it_is_over() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        pair.ends[0].security.finished()
        with pytest.raises(NotAvailable):
            pair.ends[0].security.verify()
        assert alice.questions == []


async def test_a_refusal_that_comes_after_the_end_starts_no_clock() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        await pair.secured()
        ours = pair.ends[0].security
        ours.verify()
        alice.questions[0].start_sas()
        ours.finished()
        from telepathy_e2e.xmpp.client import IqTimeout

        assert ours._protection is not None
        ours._sealed_refused(ours._protection, IqTimeout("late"))
        assert ours._timer is None
        assert pair.ends[0].payload.failures == []


async def test_a_road_that_takes_its_time_loses_nothing_of_the_handshake() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        for road in pair.roads:
            road.room.clear()
        task, other = pair.start()
        for _ in range(10):
            for road in pair.roads:
                await turns()
                road.room.set()
                await asyncio.sleep(0)
                road.room.clear()
        for road in pair.roads:
            road.room.set()
        one, two = await within(task), await within(other)
        await one.write(SECRET)
        assert await within(two.read(100)) == SECRET
