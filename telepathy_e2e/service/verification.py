"""The questions that the daemon asks: is it really he, and which certificate shall I use?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from telepathy_e2e.errors import InvalidArgument, NotAvailable
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.certificate import TLSCertificate
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import CeremonyFailed, Changed, Finished, PeerStarted
from telepathy_e2e.verify.events import Outcome
from telepathy_e2e.verify.question import Answered, Question, QuestionEvent, StateChanged
from telepathy_e2e.xtls.identity import (
    Credentials,
    PrivateKey,
    check_credentials,
    signing_request,
)


class Asked(Protocol):
    """The payload channel that a question is about."""

    object_path: str
    target_handle: int
    target_id: str


class Answerer(Protocol):
    """Who does what the question's answers mean: the session's security."""

    def start_sas(self) -> None: ...

    def start_password(self, secret: str) -> None: ...

    def confirm_sas(self, match: bool) -> None: ...

    def question_answered(self, state: str, method: str, text: str) -> None: ...

    def question_closed(self) -> None: ...


class PeerVerification(Channel):
    """PeerVerification1: one question about one payload channel.

    Args:
        question: the machine that knows which answer is allowed when.
        answerer: the session's security.
        certificates: the peer's leaf and identity certificate (DER); empty in the clear.
    """

    channel_type = names.PEER_VERIFICATION

    def __init__(
        self,
        account: Account,
        asked: Asked,
        question: Question,
        answerer: Answerer,
        *,
        certificates: Sequence[bytes],
        peer_fingerprints: Mapping[str, str],
        own_fingerprints: Mapping[str, str],
        attestations: Sequence[tuple[str, str, bytes]],
    ) -> None:
        super().__init__(
            account,
            account.next_path("PeerVerification"),
            target_handle=asked.target_handle,
            target_id=asked.target_id,
            requested=False,
            initiator_handle=account.self_handle,
            initiator_id=account.self_id,
        )
        self._question = question
        self._answerer = answerer
        self._text = ""
        self.payload_channel = asked.object_path
        self.certificate: TLSCertificate | None = None
        if certificates:
            self.certificate = TLSCertificate(
                self.object_path + "/PeerCertificate",
                certificates,
                on_accept=lambda: self.accept("fingerprint"),
                on_reject=self.reject,
            )
        self.peer_certificate = self.certificate.object_path if self.certificate else "/"
        self.peer_fingerprints = dict(peer_fingerprints)
        self.own_fingerprints = dict(own_fingerprints)
        self.methods = list(question.methods)
        self.attestations = [list(a) for a in attestations]
        self.reason = question.reason
        self.short_authentication_string = ""
        self.started_method = ""

    @property
    def state(self) -> str:
        return str(self._question.state)

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.PEER_VERIFICATION + "."
        shown[prefix + "PayloadChannel"] = self.payload_channel
        shown[prefix + "PeerCertificate"] = self.peer_certificate
        shown[prefix + "PeerFingerprints"] = self.peer_fingerprints
        shown[prefix + "OwnFingerprints"] = self.own_fingerprints
        shown[prefix + "Methods"] = self.methods
        shown[prefix + "Attestations"] = self.attestations
        shown[prefix + "Reason"] = self.reason
        return shown

    # -- what clients call ------------------------------------------------------------------

    def start_sas(self) -> None:
        """StartSAS: begin, or agree to the other's beginning.

        Raises:
            NotAvailable: answered already, another ceremony runs, no tries are left, or the
                peer cannot do it.
        """
        self._question.check_open()
        self._answerer.start_sas()

    def confirm_sas(self, match: bool) -> None:
        """ConfirmSAS: whether the two strings were the same; False rejects.

        Raises:
            NotAvailable: there is no string to confirm.
        """
        self._question.check_open()
        if not self.short_authentication_string:
            raise NotAvailable("There is no short string to confirm; call StartSAS first")
        self._answerer.confirm_sas(match)

    def start_password(self, secret: str) -> None:
        """StartPassword: begin, or answer the other's beginning.

        Raises:
            InvalidArgument: empty, or no password.
            NotAvailable: answered already, another ceremony runs, no tries are left, or the
                peer cannot do it.
        """
        self._question.check_open()
        self._answerer.start_password(secret)

    def accept(self, method: str) -> None:
        """Accept: the user, or a handler from its pins, vouches.

        Raises:
            NotAvailable: answered already, or nothing to vouch for (in the clear).
            InvalidArgument: no method named.
        """
        self._act(self._question.accept(method))

    def proceed_unverified(self) -> None:
        """ProceedUnverified: let the data flow, decide later.

        Raises:
            PermissionDenied: policy forbids it.
            NotAvailable: answered already.
        """
        self._act(self._question.proceed_unverified())

    def reject(self, text: str) -> None:
        """Reject: end the payload channel.

        Raises:
            NotAvailable: answered already.
        """
        self._text = text
        self._act(self._question.reject())

    def close(self) -> None:
        """Close: unanswered it means what the design says, answered it changes nothing."""
        self._act(self._question.close())
        self._gone()

    # -- what the session says --------------------------------------------------------------

    def peer_started(self, method: str) -> None:
        self._set_started(method)
        self._act(self._question.ceremony_started(method))
        self.events.emit(PeerStarted(method))

    def own_started(self, method: str) -> None:
        self._act(self._question.ceremony_started(method))

    def _set_started(self, method: str) -> None:
        if method != self.started_method and not self.closed:
            self.started_method = method
            self.events.emit(Changed(names.PEER_VERIFICATION, ("StartedMethod",)))

    def string_ready(self, text: str) -> None:
        self.short_authentication_string = text
        self.events.emit(Changed(names.PEER_VERIFICATION, ("ShortAuthenticationString",)))

    def ceremony_ended(self, outcome: str, method: str, reason: str, *, spent: bool) -> None:
        if outcome == Outcome.FAILED and not self.closed:
            # Before State changes back: who waits for that knows why by then.
            self.events.emit(CeremonyFailed(method, reason, spent))
        if self.short_authentication_string:
            self.short_authentication_string = ""
            self.events.emit(Changed(names.PEER_VERIFICATION, ("ShortAuthenticationString",)))
        self._set_started("")
        self._act(self._question.ceremony_ended(outcome, method))

    def payload_gone(self) -> None:
        """The payload channel is over; so is the question."""
        self._act(self._question.payload_gone())
        self._gone()

    # -- what follows -----------------------------------------------------------------------

    def _act(self, events: Sequence[QuestionEvent]) -> None:
        for event in events:
            match event:
                case StateChanged():
                    self.events.emit(Changed(names.PEER_VERIFICATION, ("State",)))
                case Answered(state, method):
                    self._answered(str(state), method)

    def _answered(self, state: str, method: str) -> None:
        if self.certificate is not None and state != "unverified":
            self.certificate.answered(state == "verified")
        self.events.emit(Finished(state, method))
        self._answerer.question_answered(state, method, self._text)
        if state != "unverified":
            self._gone()

    def _gone(self) -> None:
        if not self.closed:
            super()._gone()
            self._answerer.question_closed()


class CertificateRequest(Channel):
    """CertificateRequest1: which certificate shall I use for this session's fresh key?"""

    channel_type = names.CERTIFICATE_REQUEST

    def __init__(self, account: Account, asked: Asked, key: PrivateKey) -> None:
        super().__init__(
            account,
            account.next_path("CertificateRequest"),
            target_handle=asked.target_handle,
            target_id=asked.target_id,
            requested=False,
            initiator_handle=account.self_handle,
            initiator_id=account.self_id,
        )
        self._account = account
        self._key = key
        self._answer: asyncio.Future[Credentials | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.payload_channel = asked.object_path
        self.signing_request = signing_request(key)

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        shown[names.CERTIFICATE_REQUEST + ".PayloadChannel"] = self.payload_channel
        shown[names.CERTIFICATE_REQUEST + ".SigningRequest"] = self.signing_request
        return shown

    async def answer(self) -> Credentials:
        """Wait for the answer; the account's own identity certifies where nobody provides.

        Raises:
            TelepathyError: the own identity cannot be used.
        """
        given = await self._answer
        if given is not None:
            return given
        leaf, own = await self._account.identities.certify(
            self._account.self_id, self._key.public_key(), datetime.now(UTC)
        )
        return Credentials(self._key, leaf, own)

    async def provide(self, certificates: Sequence[bytes]) -> None:
        """Provide: a leaf for this key and the identity certificate that signed it (DER).

        Raises:
            InvalidArgument: not exactly that; the question stays open.
            NotAvailable: answered already.
        """
        self._check_open()
        if len(certificates) != 2:
            raise InvalidArgument("Provide takes two certificates: the leaf, then the identity")
        credentials = Credentials(self._key, bytes(certificates[0]), bytes(certificates[1]))
        check_credentials(credentials, self._account.self_id, datetime.now(UTC))
        self._settle(credentials)

    def use_own(self) -> None:
        """UseOwn: the account's own identity.

        Raises:
            NotAvailable: answered already.
        """
        self._check_open()
        self._settle(None)

    def close(self) -> None:
        """Close without an answer means UseOwn."""
        if not self._answer.done():
            self._answer.set_result(None)
        self._gone()

    def payload_gone(self) -> None:
        self._answer.cancel()
        self._gone()

    def _check_open(self) -> None:
        if self._answer.done():
            raise NotAvailable("This question has been answered already")

    def _settle(self, credentials: Credentials | None) -> None:
        self._answer.set_result(credentials)
        self._gone()
