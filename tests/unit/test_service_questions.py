"""The questions as channels, the certificate object, and what all channels have in common."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from telepathy_e2e.errors import InvalidArgument, NotAvailable
from telepathy_e2e.service import names
from telepathy_e2e.service.certificate import MAX_REJECTIONS, Rejection, TLSCertificate
from telepathy_e2e.service.events import (
    CertificateAccepted,
    CertificateRejected,
    Changed,
    Finished,
    PeerStarted,
)
from telepathy_e2e.service.verification import CertificateRequest, PeerVerification
from telepathy_e2e.trust.policy import Demands, Policy, Reason
from telepathy_e2e.verify.question import Question
from telepathy_e2e.xtls import identity
from tests.unit.service_support import FakePayload, Side, turns, two_sides, watch, within

UNTRUSTED: Rejection = (1, "org.freedesktop.Telepathy.Error.Cert.Untrusted", {})


class Answerer:
    """What a question calls, in order."""

    def __init__(self) -> None:
        self.called: list[tuple[object, ...]] = []

    def start_sas(self) -> None:
        self.called.append(("sas",))

    def start_password(self, secret: str) -> None:
        self.called.append(("password",))

    def confirm_sas(self, match: bool) -> None:
        self.called.append(("confirm", match))

    def question_answered(self, state: str, method: str, text: str) -> None:
        self.called.append((state, method, text))

    def question_closed(self) -> None:
        self.called.append(("closed",))


def ask(side: Side, reason: Reason = Reason.REQUESTED) -> tuple[PeerVerification, Answerer]:
    answerer = Answerer()
    question = Question(
        reason=reason,
        policy=Policy.OPPORTUNISTIC,
        demands=Demands(),
        handler_announced=True,
        methods=("fingerprint", "sas"),
        waits=True,
    )
    channel = PeerVerification(
        side.account,
        FakePayload(side, True),
        question,
        answerer,
        certificates=[b"leaf", b"identity"],
        peer_fingerprints={"sha-256": "AA"},
        own_fingerprints={"sha-256": "BB"},
        attestations=[],
    )
    side.announce(channel)
    return channel, answerer


async def test_a_yes_is_told_in_order_once_and_closes_the_question() -> None:
    async with two_sides() as (alice, _):
        channel, answerer = ask(alice)
        seen = watch(channel)
        certificate = channel.certificate
        assert certificate is not None
        told: list[object] = []
        certificate.events.subscribe(told.append)
        certificate.accept()
        assert [type(event).__name__ for event in seen] == ["Changed", "Finished", "Closed"]
        assert seen[0] == Changed(names.PEER_VERIFICATION, ("State",))
        assert seen[1] == Finished("verified", "fingerprint")
        assert told == [CertificateAccepted()]
        assert answerer.called == [("verified", "fingerprint", ""), ("closed",)]
        with pytest.raises(InvalidArgument):
            certificate.accept()
        with pytest.raises(InvalidArgument):
            certificate.reject([])
        with pytest.raises(NotAvailable):
            channel.accept("pin")
        with pytest.raises(NotAvailable):
            channel.reject("")
        with pytest.raises(NotAvailable):
            channel.start_sas()
        channel.close()
        channel.payload_gone()
        assert len(seen) == 3
        assert len(answerer.called) == 2
        assert channel.object_path not in alice.channels


async def test_a_no_carries_its_words_and_rejects_the_certificate() -> None:
    async with two_sides() as (alice, _):
        channel, answerer = ask(alice)
        assert channel.certificate is not None
        told: list[object] = []
        channel.certificate.events.subscribe(told.append)
        channel.reject("Not him")
        assert answerer.called == [("rejected", "", "Not him"), ("closed",)]
        assert told == [CertificateRejected((UNTRUSTED,))]
        assert channel.certificate.rejections == [UNTRUSTED]


async def test_letting_through_keeps_the_question_open_for_a_later_yes() -> None:
    async with two_sides() as (alice, _):
        channel, answerer = ask(alice)
        channel.proceed_unverified()
        assert channel.certificate is not None
        assert (channel.state, channel.closed, channel.certificate.state) == (
            "unverified",
            False,
            0,
        )
        with pytest.raises(NotAvailable):
            channel.proceed_unverified()
        channel.accept("fingerprint")
        assert [call[0] for call in answerer.called] == ["unverified", "verified", "closed"]


async def test_a_handler_that_goes_without_an_answer_said_no() -> None:
    async with two_sides() as (alice, _):
        channel, answerer = ask(alice)
        channel.close()
        assert answerer.called == [("rejected", "", ""), ("closed",)]


async def test_the_end_of_the_payload_closes_the_question_without_an_answer() -> None:
    async with two_sides() as (alice, _):
        channel, answerer = ask(alice)
        channel.payload_gone()
        assert answerer.called == [("closed",)]
        assert channel.certificate is not None
        assert channel.certificate.state == 0


async def test_there_must_be_a_string_before_it_can_be_confirmed() -> None:
    async with two_sides() as (alice, _):
        channel, answerer = ask(alice)
        with pytest.raises(NotAvailable):
            channel.confirm_sas(True)
        channel.start_sas()
        channel.string_ready("1234")
        channel.confirm_sas(False)
        assert answerer.called == [("sas",), ("confirm", False)]


async def test_a_ceremony_that_failed_says_why_before_its_string_and_state_go() -> None:
    async with two_sides() as (alice, _):
        channel, _ = ask(alice)
        channel.own_started("sas")
        channel.string_ready("1234")
        seen = watch(channel)
        channel.ceremony_ended("failed", "sas", "timeout", spent=True)
        assert [type(event).__name__ for event in seen] == ["CeremonyFailed", "Changed", "Changed"]
        assert (channel.state, channel.short_authentication_string) == ("pending", "")


@pytest.mark.parametrize("outcome", ["failed", "verified", "rejected"])
async def test_what_the_other_side_began_can_be_seen_until_it_is_over(outcome: str) -> None:
    async with two_sides() as (alice, _):
        channel, _ = ask(alice)
        seen = watch(channel)
        channel.own_started("sas")
        channel.ceremony_ended("failed", "sas", "crossed", spent=False)
        assert channel.started_method == ""
        started = Changed(names.PEER_VERIFICATION, ("StartedMethod",))
        assert started not in seen
        channel.peer_started("password")
        assert channel.started_method == "password"
        # Before the signal: who hears that may look.
        assert seen.index(started) < seen.index(PeerStarted("password"))
        channel.ceremony_ended(outcome, "password", "", spent=True)
        assert channel.started_method == ""
        assert seen.count(started) == 2


# -- the certificate ------------------------------------------------------------------------


def test_rejections_are_kept_up_to_their_bound_and_none_means_untrusted() -> None:
    called: list[str] = []
    for count, kept in ((0, 1), (MAX_REJECTIONS, MAX_REJECTIONS), (MAX_REJECTIONS + 1, 16)):
        certificate = TLSCertificate("/c", [b""], lambda: None, called.append)
        certificate.reject([(n, "name", {}) for n in range(count)])
        assert len(certificate.rejections) == kept
    assert called == ["", "", ""]


def test_a_certificate_is_answered_once_whichever_way() -> None:
    certificate = TLSCertificate("/c", [b""], lambda: None, lambda text: None)
    certificate.answered(True)
    certificate.answered(False)
    assert (certificate.state, certificate.rejections) == (1, [])


# -- which certificate shall I use? ---------------------------------------------------------


def request(side: Side) -> CertificateRequest:
    channel = CertificateRequest(side.account, FakePayload(side, True), identity.new_session_key())
    side.announce(channel)
    return channel


@pytest.mark.parametrize("how", ["use_own", "close"])
async def test_where_nobody_provides_the_own_identity_certifies(how: str) -> None:
    async with two_sides() as (alice, _):
        channel = request(alice)
        getattr(channel, how)()
        credentials = await within(channel.answer())
        identity.check_credentials(credentials, alice.self_id, datetime.now(UTC))
        assert credentials.identity == alice.identities.certificate
        with pytest.raises(NotAvailable):
            channel.use_own()
        with pytest.raises(NotAvailable):
            await channel.provide([b"", b""])


async def test_a_certificate_that_does_not_fit_leaves_the_question_open() -> None:
    async with two_sides() as (alice, bob):
        channel = request(alice)
        public = channel._key.public_key()
        own = alice.identities
        right = identity.make_leaf(public, own.key, own.certificate, datetime.now(UTC))
        other_key = identity.new_session_key().public_key()
        wrong_key = identity.make_leaf(other_key, own.key, own.certificate, datetime.now(UTC))
        theirs = bob.identities
        for bad in (
            [],
            [right],
            [right, own.certificate, own.certificate],
            [b"rubbish", own.certificate],
            [right, b"rubbish"],
            [wrong_key, own.certificate],
            [right, theirs.certificate],
        ):
            with pytest.raises(InvalidArgument):
                await channel.provide(bad)
        assert not channel.closed
        await channel.provide([right, own.certificate])
        assert channel.closed
        assert (await within(channel.answer())).leaf == right


async def test_the_end_of_the_payload_ends_the_wait_for_a_certificate() -> None:
    async with two_sides() as (alice, _):
        channel = request(alice)
        waiting = asyncio.create_task(channel.answer())
        await turns()
        channel.payload_gone()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert channel.closed
        channel.close()
        assert alice.identities.certificate not in channel.immutable_properties().values()


# -- every channel --------------------------------------------------------------------------


async def test_a_channel_goes_once_and_its_watchers_hear_before_its_owner() -> None:
    async with two_sides() as (alice, _):
        channel = request(alice)
        order: list[str] = []
        channel.events.subscribe(
            lambda event: order.append(f"event {channel.object_path in alice.channels}")
        )
        channel.close()
        channel.close()
        assert order == ["event True"]
        assert channel.object_path not in alice.channels


async def test_immutable_properties_name_both_ends_and_the_payload_channel() -> None:
    async with two_sides() as (alice, _):
        shown = request(alice).immutable_properties()
        assert shown[names.CHANNEL + ".TargetID"] == "bob@example.test"
        assert shown[names.CHANNEL + ".InitiatorID"] == alice.self_id
        assert shown[names.CHANNEL + ".Requested"] is False
        assert str(shown[names.CERTIFICATE_REQUEST + ".PayloadChannel"]).startswith("/c/Payload")
