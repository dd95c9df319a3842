"""The protection of one payload channel: who certifies, what it says, the people and the gate.

``Guard`` is what protections of every kind of payload have in common: ``security.Security`` of
streams and ``call_security.CallSecurity`` of calls know how theirs is agreed on and established.
Whatever may not be comes out of it as ``SecurityFailed``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar, Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    CertUntrusted,
    EncryptionError,
    EncryptionNotAvailable,
    NotAvailable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.verification import CertificateRequest, PeerVerification
from telepathy_e2e.trust import policy
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.verify.events import Outcome
from telepathy_e2e.verify.question import Question, strongest
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError
from telepathy_e2e.xtls import events, identity
from telepathy_e2e.xtls.association import Association
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.identity import Credentials
from telepathy_e2e.xtls.offer import shown
from telepathy_e2e.xtls.sealed import SEALED

log = logging.getLogger(__name__)

# What people can do here and now besides comparing fingerprints.
CEREMONIES = ("sas", "password")


class Payload(Protocol):
    """What the security of a channel asks of the channel."""

    object_path: str
    target_handle: int
    target_id: str
    receives: bool

    def security_changed(self, *changed: str) -> None:
        """D-Bus properties with new values."""

    def security_failed(self, failure: SecurityFailed) -> None:
        """The protection failed, or a person said no."""


class Guard:
    """See the module.

    The attributes named like the properties of Securable and EndToEndSecurity1 hold their values.
    """

    # Whether payload may run while people verify (see ``policy.payload_waits``).
    CALL: ClassVar[bool] = False

    def __init__(self, account: Account, payload: Payload, demands: Demands) -> None:
        self._account = account
        self._payload = payload
        self.demands = demands
        self.encrypted = False
        self.verified = False
        self.verified_by = ""
        self.verified_methods: list[str] = []
        self.protocol = ""
        self.cipher_suite = ""
        self.key_exchange = ""
        self.peer_fingerprints: dict[str, str] = {}
        self.own_fingerprints: dict[str, str] = {}
        self.verification_channel = "/"
        self.agreed = False
        self._in_clear = False
        self._over = False
        self._link: Link | None = None
        self._credentials: Credentials | None = None
        # What is agreed on; subclasses make it.
        self._protection: Association | None = None
        self._protected: events.Protected | None = None
        self._failure: SecurityFailed | None = None
        self._request: CertificateRequest | None = None
        self._question: PeerVerification | None = None
        self._verify_requested = False
        self._own_attestations: tuple[Attestation, ...] = ()
        self._attested: list[str] = []
        self._judging: asyncio.Task[None] | None = None
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        loop = asyncio.get_running_loop()
        self._handshake: asyncio.Future[None] = loop.create_future()
        self._gate: asyncio.Future[None] = loop.create_future()

    # -- the own certificate ------------------------------------------------------------------

    async def certify(self) -> Credentials:
        """The key and the certificates of this session, from whoever has to say."""
        key = identity.new_session_key()
        if self._account.ask_certificate:
            self._request = CertificateRequest(self._account, self._payload, key)
            self._account.announce(self._request)
            self._credentials = await self._request.answer()
            self._request = None
        else:
            leaf, own = await self._account.identities.certify(
                self._account.self_id, key.public_key(), datetime.now(UTC)
            )
            self._credentials = Credentials(key, leaf, own)
        own_fingerprint = identity.identity_fingerprint(self._credentials.identity)
        self._own_attestations = await self._account.attestations.own(
            self._account.self_id, own_fingerprint
        )
        return self._credentials

    def _hello_last(self, role: Role) -> bool:
        """Whether we show our identity only to a peer whose own was accepted.

        The initiator never does: two that both wait would wait for ever (xtls.md, "hello").
        """
        return self._account.hide_identity and role is Role.RESPONDER

    # -- security-info ----------------------------------------------------------------------

    def receive(self, payload: Sequence[Element]) -> None:
        """The children of a security-info stanza.

        Raises:
            PeerError: a sealed message that does not open, or nothing of the kind expected.
        """
        for element in payload:
            if element.tag != SEALED or self._protection is None:
                raise PeerError("not a sealed message of this session")
            try:
                self._protection.receive_sealed(element, time.monotonic())
            finally:
                self._drain()

    def _drain(self) -> None:
        """Act on what the machine says, and be called again when it wants to."""
        machine = self._machine()
        for event in machine.events():
            # What was on its way when the session ended (a block behind the session-terminate)
            # must not put a question: nobody would close it.
            if self._over:
                return
            match event:
                case events.SendSealed(element):
                    self._send_sealed(element)
                case events.Protected():
                    self._on_protected(event)
                case events.PeerStarted(method):
                    self._on_peer_started(method)
                case events.StringReady(text):
                    if self._question is not None:
                        self._question.string_ready(text)
                case events.CeremonyEnded():
                    self._on_ceremony_ended(event)
                case events.PeerVerdict(value, method):
                    log.info("the contact's side now says: %s", value)
                case events.Reported(text):
                    log.warning("oddity in a protected session: %s", text)
                case events.Failed(reason, text):
                    self._on_failed(reason, text)
        deadline = None if self._over or self._failure is not None else machine.deadline()
        if deadline != self._deadline:
            self._schedule(deadline)

    def _schedule(self, deadline: float | None) -> None:
        self._deadline = deadline
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _on_failed(self, reason: str, text: str) -> None:
        self._fail(SecurityFailed(EncryptionError(text), reason))

    def _tick(self) -> None:
        self._timer = None
        self._deadline = None
        self._machine().tick(time.monotonic())
        self._drain()

    def _send_sealed(self, element: Element) -> None:
        if self._link is None or self._link.ended:
            return
        refused = partial(self._sealed_refused, self._machine())
        self._link.post(self._link.base.security_info((element,)), refused=refused)

    def _sealed_refused(self, machine: Association, error: StanzaError | IqTimeout) -> None:
        # Another association may have taken its place, and its ceremonies are gone.
        if self._failure is None and machine is self._protection:
            machine.sealed_refused(time.monotonic())
            self._drain()

    # -- the people (design: a question is a channel) ---------------------------------------

    def verify(self) -> str:
        """EndToEndSecurity1.Verify.

        Returns:
            The question's object path; ``/`` before the handshake, which will then ask.
        Raises:
            NotAvailable: in the clear, or over.
        """
        if self._question is not None:
            return self._question.object_path
        if self._over:
            raise NotAvailable("This channel is over; it is too late to verify the contact in it")
        if self._is_clear():
            raise NotAvailable("This channel is not encrypted, so there is nothing to verify")
        if self._protected is None:
            self._verify_requested = True
            return "/"
        # The question that holds the payload back, if there is one, comes first.
        self._ask()
        if self._question is not None:
            return self._question.object_path
        return self._open_question(policy.Reason.UPGRADE).object_path

    def _on_protected(self, event: events.Protected) -> None:
        before = self._protected
        if before is not None and (before.peer_leaf, before.peer_fingerprint) != (
            event.peer_leaf,
            event.peer_fingerprint,
        ):
            # What people said of the one holds for no other.
            text = "The contact came back with another key"
            self._fail(SecurityFailed(EncryptionError(text), "security-error"))
            return
        self._protected = event
        self.encrypted = True
        self.protocol = self._protocol()
        self.cipher_suite = event.cipher_suite
        self.key_exchange = event.key_exchange
        self.peer_fingerprints = {"sha-256": shown(event.peer_fingerprint)}
        self.own_fingerprints = {"sha-256": shown(event.own_fingerprint)}
        if not event.leaf_only:
            self._account.key_seen(self._payload.target_id, event.peer_fingerprint)
        self._payload.security_changed(
            "Encrypted",
            "Protocol",
            "CipherSuite",
            "KeyExchange",
            "PeerFingerprints",
            "OwnFingerprints",
        )
        if before is not None:  # another association of the session; all was asked
            _settle(self._handshake)
            return
        judged = self._account.attestations.to_judge(event.attestations)
        if judged and event.identity_certificate is not None:
            self._judging = self._account.tasks.start(
                "judge attestations", self._judge(judged, event.identity_certificate)
            )
        else:
            self._ask()
        _settle(self._handshake)

    async def _judge(self, attestations: Sequence[Attestation], certificate: bytes) -> None:
        """What others say of the peer's key comes before the question: it may need none."""
        self._attested = await self._account.attestations.judge(
            attestations, bare_jid=self._payload.target_id, identity=certificate
        )
        self._judging = None
        if self._over or self._failure is not None:
            return
        if not self._asked:
            self._ask()
        elif self._attested and self._attestations_answer():
            self._answer_late()
        self._drain()

    def _answer_late(self) -> None:
        """Somebody began to verify before it was known that nobody needs to."""
        if self._question is None:
            self._take_attestations()
            return
        try:
            self._question.accept(self._attested[0])
        except NotAvailable:
            log.info("the question was answered before the attestations were judged")
            return
        for method in self._attested[1:]:
            self._verify_by(method)

    def _attestations_answer(self) -> bool:
        return policy.attestations_answer(
            handler_announced=self._account.question_handler_announced(),
            always_verify=self._account.always_verify,
            requested=self._verify_requested,
        )

    def _take_attestations(self) -> None:
        """The peer is verified, and there is nothing to compare."""
        for method in self._attested:
            self._verify_by(method)
        self._machine().tell_verdict("verified", self.verified_by)

    def _protocol(self) -> str:
        """EndToEndSecurity1.Protocol."""
        raise NotImplementedError

    def _is_clear(self) -> bool:
        """Whether it is settled that there will be no protection."""
        return self._in_clear

    def _machine(self) -> Association:
        if self._protection is None:
            raise AssertionError("there is no protection")
        return self._protection

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _demanded(self) -> Demands:
        """What the request demanded, and who called ``verify`` before the handshake."""
        if self._verify_requested:
            return Demands(encrypted=True, verified=True)
        return self.demands

    def _ask(self) -> None:
        """Put the question that policy, demands and handlers call for, or open the gate; once.

        Before anything else that the peer says is acted on: his starting a ceremony must not turn
        the question that holds the payload back into one that does not.
        """
        if self._asked:
            return
        self._asked = True
        if self._attested and self._attestations_answer():
            self._take_attestations()
            _settle(self._gate)
            return
        demands = self._demanded()
        reason = self._question_reason(demands)
        if not policy.payload_waits(reason, self._account.policy, demands, call=self.CALL):
            _settle(self._gate)
        if reason is not None:
            self._open_question(reason)

    def _question_reason(self, demands: Demands) -> policy.Reason | None:
        """Why somebody must be asked, now that the channel is protected; None: nobody must."""
        return policy.question_when_protected(
            self._account.policy,
            demands,
            handler_announced=self._account.question_handler_announced(),
            always_verify=self._account.always_verify,
        )

    def _ask_in_clear(self) -> None:
        # A server that takes the protection out of an answer must not get around ``verify`` by it.
        match policy.without_protection(
            self._account.policy,
            self._demanded(),
            handler_announced=self._account.question_handler_announced(),
        ):
            case policy.Clear.GO:
                _settle(self._gate)
            case policy.Clear.ASK:
                self._open_question(policy.Reason.NO_ENCRYPTION)
            case policy.Clear.REFUSE:
                self._fail(SecurityFailed(no_encryption(), "security-error", Fault.OURS))

    def _open_question(self, reason: policy.Reason) -> PeerVerification:
        protected = self._protected
        chain: list[bytes] = []
        if protected is not None:
            chain = [protected.peer_leaf]
            if protected.identity_certificate is not None:
                chain.append(protected.identity_certificate)
        question = Question(
            reason=reason,
            policy=self._account.policy,
            demands=self.demands,
            handler_announced=self._account.question_handler_announced(),
            methods=self._methods(),
            waits=not self._gate.done(),
            always_verify=self._account.always_verify,
        )
        self._question = PeerVerification(
            self._account,
            self._payload,
            question,
            self,
            certificates=chain,
            peer_fingerprints=self.peer_fingerprints,
            own_fingerprints=self.own_fingerprints,
            attestations=[]
            if protected is None
            else [(each.type, each.summary, each.data) for each in protected.attestations],
        )
        self._account.announce(self._question)
        self._set_verification_channel(self._question.object_path)
        return self._question

    def _methods(self) -> tuple[str, ...]:
        if self._protected is None:
            return ()
        if self._protected.leaf_only:
            return ("fingerprint",)
        ceremonies = (each for each in CEREMONIES if each in self._protected.peer_methods)
        return ("fingerprint", *ceremonies, *self._attested)

    def _on_peer_started(self, method: str) -> None:
        self._ask()
        if self._question is None:
            self._open_question(policy.Reason.UPGRADE)
        if self._question is not None:
            self._question.peer_started(method)

    def _on_ceremony_ended(self, event: events.CeremonyEnded) -> None:
        if event.spent and event.outcome is Outcome.FAILED:
            log.warning("a verification by %s failed: %s", event.method, event.reason)
        if self._question is not None:
            self._question.ceremony_ended(
                event.outcome, event.method, event.reason, spent=event.spent
            )
        elif event.outcome is Outcome.REJECTED:
            # This user said yes already and the question is closed; the other's no counts for both.
            self._distrust()
            self._fail(SecurityFailed(CertUntrusted("The contact saw another short string")))
        elif event.outcome is Outcome.VERIFIED and self.verified:
            # A handler's pin was faster than the people; what they found out counts as well.
            self._verify_by(event.method)

    def _distrust(self) -> None:
        """A no takes back an earlier yes: who looks at the channel later must not see it."""
        if self.verified:
            self.verified = False
            self.verified_by = ""
            self.verified_methods = []
            self._payload.security_changed("Verified", "VerifiedBy", "VerifiedMethods")

    def start_sas(self) -> None:
        """See ``verification.Answerer``."""
        self._machine().start_sas(time.monotonic())
        if self._question is not None:
            self._question.own_started("sas")
        self._drain()

    def start_password(self, secret: str) -> None:
        """See ``verification.Answerer``."""
        self._machine().start_password(secret, time.monotonic())
        if self._question is not None:
            self._question.own_started("password")
        self._drain()

    def confirm_sas(self, match: bool) -> None:
        """See ``verification.Answerer``."""
        self._machine().confirm_sas(match, time.monotonic())
        self._drain()

    def question_answered(self, state: str, method: str, text: str) -> None:
        """See ``verification.Answerer``."""
        if self._protection is not None and self._failure is None:
            self._protection.tell_verdict(state, method)
        if self._protected is not None and not self._protected.leaf_only:
            self._account.key_judged(
                self._payload.target_id,
                self._protected.peer_fingerprint,
                accepted=state != "rejected",
            )
        if state == "rejected":
            self._distrust()
            self._fail(SecurityFailed(self._rejection(text), "security-error", Fault.USER))
            return
        if state == "verified":
            self._verify_by(method)
        _settle(self._gate)
        if self._protection is not None:
            self._drain()

    def _verify_by(self, method: str) -> None:
        """One more method has verified the peer; none takes anything from another."""
        self.verified = True
        if method not in self.verified_methods:
            self.verified_methods.append(method)
        self.verified_by = strongest(self.verified_methods)
        self._payload.security_changed("Verified", "VerifiedBy", "VerifiedMethods")

    def question_closed(self) -> None:
        """See ``verification.Answerer``."""
        self._question = None
        self._set_verification_channel("/")

    def _rejection(self, text: str) -> TelepathyError:
        if self._in_clear:
            return EncryptionNotAvailable(text or "The user does not want this in the clear")
        return CertUntrusted(text or "The contact's identity was not verified")

    def _set_verification_channel(self, path: str) -> None:
        if self.verification_channel != path:
            self.verification_channel = path
            self._payload.security_changed("VerificationChannel")

    # -- the end ----------------------------------------------------------------------------

    def finished(self) -> None:
        """The payload is over, well or not: the questions close, the keys go."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._judging is not None:
            self._judging.cancel()
        if self._question is not None:
            self._question.payload_gone()
        if self._request is not None:
            self._request.payload_gone()
        self._credentials = None

    def _fail(self, failure: SecurityFailed) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        _settle(self._handshake)
        _settle(self._gate)
        self._payload.security_failed(failure)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def no_encryption() -> EncryptionNotAvailable:
    """The peer's client has no protection, and there must be some."""
    return EncryptionNotAvailable(
        "The contact's client cannot protect this channel, and protection is demanded"
    )
