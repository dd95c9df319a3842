"""The protection of one payload channel: what was offered and agreed, the handshake, the people.

A payload channel owns one ``Security``. Its script calls, in this order: ``offer`` or ``accept``
(which may ask for a certificate), ``offered``/``accepted``/``answered`` with the contents as they
went over the wire, and ``secure`` with the road. What ``secure`` returns carries payload that the
policy, the demands and the people allow; everything else comes out of it as ``SecurityFailed``.
Where roads can be renewed, ``secure`` is called again with each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    EncryptionError,
    NetworkError,
    NotAvailable,
    PeerError,
    SecurityError,
)
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.capabilities import XTLS_FEATURE
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.service.guard import CEREMONIES, Guard, Payload, no_encryption
from telepathy_e2e.service.secure_stream import DtlsStream, SecureStream
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.trust import policy
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.xmpp.client import Resource
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xtls.association import MAX_EARLY, Association
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.conversation import Session
from telepathy_e2e.xtls.dtls_protection import DtlsProtection
from telepathy_e2e.xtls.identity import Credentials
from telepathy_e2e.xtls.offer import Fingerprint, SecurityOffer, build_security, parse_security
from telepathy_e2e.xtls.protection import Protection
from telepathy_e2e.xtls.sealed import SealedMessage, parse_sealed


class TlsRoad:
    """The TLS of one road, as its stream sees it (``secure_stream.Machine``).

    A road that another has taken the place of is broken for whoever still has it, so that nothing
    of it gets into the other's association.
    """

    def __init__(self, security: Security, protection: Protection) -> None:
        self._security = security
        self._protection = protection

    def feed(self, data: bytes) -> None:
        machine = self._current()
        if data:
            machine.receive_data(data, time.monotonic())
        elif self._security.may_begin_again:
            raise StreamBroken("the connection was cut in the handshake")
        else:
            machine.receive_eof(time.monotonic())
        self._security.look()

    def take(self) -> bytes:
        return self._current().data_to_send()

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        machine = self._current()
        self._security.check()
        try:
            machine.write(data)
        except NotAvailable:
            # It has failed since somebody looked: what was read last was good, what followed not.
            self._security.look()
            raise

    def decrypt(self, limit: int) -> bytes:
        data = self._current().read(limit)
        self._security.look()
        return data

    def close_notify(self) -> None:
        self._current().close()

    @property
    def peer_closed(self) -> bool:
        return self._protection.peer_closed

    @property
    def more(self) -> bool:
        return self._protection.may_have_more

    @property
    def payload_waits(self) -> bool:
        return self._current().payload_waits

    def _current(self) -> Protection:
        if not self._security.is_current(self._protection):
            raise StreamBroken("another road has taken the place of this one")
        return self._protection


class Security(Guard):
    """See the module.

    Args:
        renewable: a road that is cut is no failure: ``secure`` may be called again, with another,
            which is a new epoch of the session (xtls-wire, section 3).
    """

    def __init__(
        self, account: Account, payload: Payload, demands: Demands, *, renewable: bool = False
    ) -> None:
        super().__init__(account, payload, demands)
        self.renewable = renewable
        self._offered: Content | None = None
        self._accepted: Content | None = None
        self._peer_offer: SecurityOffer | None = None
        self._session: Session | None = None
        self._early: list[SealedMessage] = []
        # Of the association that there is, or will be first.
        self._epoch = 0
        # Of the session when the first association began.
        self._generation = 0
        # When that was; a session may live longer than its certificates are good for new ones.
        self._wall: datetime | None = None
        self._cut = False
        self._lost = asyncio.Event()

    # -- offer and answer (xtls-wire, section 1) ---------------------------------------------

    async def offer(self, link: Link, peer: Resource) -> Element | None:
        """What goes into our session-initiate; None where nothing is offered.

        Raises:
            SecurityFailed: protection is demanded and this program may not offer it.
        """
        self._link = link
        lists = peer.features is not None and XTLS_FEATURE in peer.features
        if not policy.may_offer(
            self._account.policy,
            self.demands,
            peer_lists=lists,
            key_known=lists or await self._account.find_key(bare(peer.jid)),
        ):
            if self.demands.encrypted:
                raise SecurityFailed(no_encryption(), "cancel", Fault.OURS)
            return None
        return build_security((await self.certify()).leaf)

    def offered(self, content: Content) -> None:
        """The content of the session-initiate, as we sent or received it."""
        self._offered = content

    def received_offer(self, link: Link, content: Content) -> None:
        """A peer's session-initiate.

        Raises:
            PeerError: malformed.
            SecurityFailed: no fingerprint that we know, or policy refuses an offer in the clear.
        """
        self._link = link
        self._offered = content
        try:
            offer = parse_security(content.security)
        except SecurityError as error:
            raise SecurityFailed(EncryptionError(str(error))) from error
        match policy.answer_offer(self._account.policy, self.demands, offered=offer is not None):
            case policy.Answer.PROTECT:
                self._peer_offer = offer
            case policy.Answer.CLEAR:
                self._peer_offer = None
            case policy.Answer.REFUSE:
                raise SecurityFailed(no_encryption(), "security-error", Fault.OURS)

    async def accept(self) -> Element | None:
        """What goes into our session-accept; nothing that was not offered."""
        if self._peer_offer is None:
            return None
        return build_security((await self.certify()).leaf)

    def accepted(self, content: Content) -> None:
        """Our own session-accept, as it is sent."""
        self._accepted = content
        self._agree()

    def answered(self, content: Content) -> None:
        """The peer's session-accept.

        Raises:
            PeerError: malformed, or protection that was not offered.
            SecurityError: none of its fingerprints can be checked.
        """
        answer = parse_security(content.security)
        if answer is not None and self._credentials is None:
            raise PeerError("protection in the answer that was not offered")
        self._peer_offer = answer
        self._accepted = content
        self._agree()

    def _agree(self) -> None:
        if self._credentials is None or self._peer_offer is None:
            return
        if self._link is None or self._offered is None or self._accepted is None:
            raise AssertionError("agreed before there was a session")
        link = self._link
        own, peer = bare(link.session.own), bare(link.peer)
        initiator, responder = (own, peer) if link.role is Role.INITIATOR else (peer, own)
        self.agreed = True
        self._session = Session(
            role=link.role,
            sid=link.sid,
            initiator=initiator,
            responder=responder,
            credentials=self._credentials,
            offered=offer_digest([self._offered]),
            accepted=offer_digest([self._accepted]),
            methods=CEREMONIES,
            tries=self._account.tries.session(own, peer),
            attestations=self._own_attestations,
            hello_last=self._hello_last(link.role),
        )

    # -- what a road with an encryption of its own is made of ----------------------------------

    @property
    def credentials(self) -> Credentials | None:
        """Ours in this session, once they are offered or accepted."""
        return self._credentials

    @property
    def peer_fingerprints_offered(self) -> tuple[Fingerprint, ...]:
        """Of the peer's leaf, from its ``<security/>``."""
        return () if self._peer_offer is None else tuple(self._peer_offer.fingerprints)

    def road_lost(self) -> None:
        """See ``road.Road.lost``."""
        self._lost.set()

    # -- the handshake and the gate ---------------------------------------------------------

    async def secure(self, road: Stream) -> Stream:
        """Protect the road as agreed, ask who must be asked, and return what carries payload.

        Raises:
            SecurityFailed: see the class.
            StreamBroken: the road broke.
        """
        if self._session is None:
            if not self._in_clear:
                self._in_clear = True
                self._ask_in_clear()
            await self._gate
            self.check()
            return road
        now, wall = self._begin(self._session)
        # Its certificate is judged and its keys are bound to the hellos like those of our own TLS.
        if isinstance(road, DtlsStream):
            return await self._secure_dtls(road, self._session, now, wall)
        protection = Protection(self._session, self.peer_fingerprints_offered, epoch=self._epoch)
        machine = TlsRoad(self, protection)
        stream = SecureStream(road, machine)
        self._protection = protection
        protection.start(now, wall)
        self._hand_over_early(protection)
        self.look()
        await stream.flush()
        await self._while_reading(stream, machine, self._handshake)
        await self._while_reading(stream, machine, self._gate)
        return stream

    def _begin(self, session: Session) -> tuple[float, datetime]:
        """The first road, or another.

        Returns:
            The time, monotonic and of the day: that of the first road, which certificates are
            judged by.
        """
        self.check()
        self._lost.clear()
        generation = 0 if self._link is None else self._link.session.transport_generation
        now = time.monotonic()
        former = self._protection
        if self._wall is None or former is None:
            self._wall, self._generation = datetime.now(UTC), generation
        else:
            self._handshake = asyncio.get_running_loop().create_future()
            former.abandon("the connection was made anew", now)
            self._drain()
            self._cut = False
        self._epoch = generation - self._generation
        return now, self._wall

    async def _secure_dtls(
        self, road: DtlsStream, session: Session, now: float, wall: datetime
    ) -> Stream:
        protection = DtlsProtection(
            # Both sides know sealed messages: nothing that servers hide can make it less.
            session,
            self.peer_fingerprints_offered,
            messages=True,
            epoch=self._epoch,
        )
        self._protection = protection
        protection.connected(road.handshake, road.export, now, wall)
        self._hand_over_early(protection)
        self.look()
        broken = self._account.tasks.start("watch", road.wait_broken())
        try:
            for wanted in (self._handshake, self._gate):
                await asyncio.wait({wanted, broken}, return_when=asyncio.FIRST_COMPLETED)
                self.check()
                if not wanted.done():
                    raise StreamBroken("the connection was cut")
        finally:
            broken.cancel()
            await asyncio.wait({broken})
        return road

    async def _while_reading(
        self, stream: SecureStream, machine: TlsRoad, wanted: asyncio.Future[None]
    ) -> None:
        """Wait for ``wanted``, and meanwhile keep the TLS machine fed.

        It is fed until the first payload waits inside it; past that the peer has to wait too, so
        that an unanswered question does not make us hold what he sends.
        """
        reader = self._account.tasks.start("handshake", self._read(stream, machine))
        lost = self._account.tasks.start("lost", self._lost.wait())
        try:
            await asyncio.wait({reader, wanted, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not (wanted.done() or lost.done()) and (broken := await reader) is not None:
                raise broken
            # Nobody reads any more, so nobody else would hear of it.
            await asyncio.wait({wanted, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                raise StreamBroken("the road was lost")
        finally:
            for task in (reader, lost):
                task.cancel()
            await asyncio.wait({reader, lost})
        self.check()

    async def _read(
        self, stream: SecureStream, machine: TlsRoad
    ) -> StreamBroken | SecurityFailed | None:
        """Until payload waits, or the end; what broke it is returned, since nobody may be left to
        whom it could be raised: the transfer ends first when the peer ends the session."""
        try:
            while not machine.payload_waits and not machine.peer_closed:
                if not await stream.advance():
                    return None
        except (StreamBroken, SecurityFailed) as error:
            return error
        return None

    # -- sealed messages ----------------------------------------------------------------------

    def receive(self, payload: Sequence[Element]) -> None:
        """See ``Guard.receive``. What is for an association that is to come is kept for it: the
        peer may be done with a handshake of which we do not know yet."""
        for element in payload:
            if self._session is None or not self._is_early(element):
                super().receive((element,))

    def _is_early(self, element: Element) -> bool:
        try:
            message = parse_sealed(element)
        except PeerError:
            return False  # whoever reads it says so
        if self._protection is not None:
            if message.epoch < self._epoch:
                raise PeerError("a sealed message of a former road")
            if message.epoch == self._epoch or not self.renewable:
                return False
        if len(self._early) >= MAX_EARLY:
            text = "too many sealed messages before the handshake was done"
            self._fail(SecurityFailed(EncryptionError(text), "security-error"))
            raise PeerError(text)
        self._early.append(message)
        return True

    def _hand_over_early(self, association: Association) -> None:
        early, self._early = self._early, []
        for message in early:
            if message.epoch == self._epoch:
                association.receive_early(message)
            elif message.epoch > self._epoch:
                self._early.append(message)

    # -- for the association of the road -------------------------------------------------------

    def is_current(self, association: Association) -> bool:
        """Whether it is that of the road in use."""
        return association is self._protection

    @property
    def epoch(self) -> int:
        """Of the road in use; 0: the first."""
        return self._epoch

    @property
    def may_begin_again(self) -> bool:
        """Whether the handshake that goes on may be repeated on another road.

        The first may not: there, a cut cannot be told from somebody who wants protection to fail.
        """
        return self.renewable and self._protected is not None and not self._handshake.done()

    def _tick(self) -> None:
        if self.may_begin_again and self._protection is not None and self._protection.handshaking:
            # A road that stalls there is no better than one that is cut there.
            self._cut = True
            self._lost.set()
            return
        super()._tick()

    def look(self) -> None:
        """Something came: see what it means.

        Raises:
            SecurityFailed: the protection failed.
            StreamBroken: the road was cut, and there may be another.
        """
        self._drain()
        self.check()
        if self._cut:
            raise StreamBroken("the connection was cut")

    def check(self) -> None:
        """Raises: SecurityFailed: the protection has failed."""
        self._check()

    @property
    def peer_closed(self) -> bool:
        """The peer's direction has ended, not just the road."""
        machine = self._protection
        return machine.peer_closed if isinstance(machine, Protection) else machine is not None

    def _protocol(self) -> str:
        return "xtls" if isinstance(self._protection, Protection) else "dtls-sctp"

    def _is_clear(self) -> bool:
        return self._in_clear or (self._accepted is not None and not self.agreed)

    def _on_failed(self, reason: str, text: str) -> None:
        if reason != "failed-transport":
            self._fail(SecurityFailed(EncryptionError(text), reason))
        elif self.renewable:
            self._cut = True
        elif self._payload.receives or not self._gate.done():
            self._fail(SecurityFailed(NetworkError(text), reason))
        # Else the cut direction carries no payload (xtls-wire, section 2 step 6).
