"""The protection of one payload channel: what was offered and agreed, the handshake, the people.

A payload channel owns one ``Security``. Its script calls, in this order: ``offer`` or ``accept``
(which may ask for a certificate), ``offered``/``accepted``/``answered`` with the contents as they
went over the wire, and ``secure`` with the road. What ``secure`` returns carries payload that the
policy, the demands and the people allow; everything else comes out of it as ``SecurityFailed``.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    EncryptionError,
    NetworkError,
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
from telepathy_e2e.service.secure_stream import SecureStream
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.trust import policy
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.xmpp.client import Resource
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.offer import SecurityOffer, build_security, parse_security
from telepathy_e2e.xtls.protection import Protection


class Security(Guard):
    """See the module."""

    PROTOCOL = "xtls"

    def __init__(self, account: Account, payload: Payload, demands: Demands) -> None:
        super().__init__(account, payload, demands)
        self._offered: Content | None = None
        self._accepted: Content | None = None
        self._peer_offer: SecurityOffer | None = None
        self._tls: Protection | None = None

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
        self._protection = self._tls = Protection(
            role=link.role,
            sid=link.sid,
            initiator=initiator,
            responder=responder,
            credentials=self._credentials,
            peer_fingerprints=self._peer_offer.fingerprints,
            offered=offer_digest([self._offered]),
            accepted=offer_digest([self._accepted]),
            methods=CEREMONIES,
            tries=self._account.tries.session(own, peer),
            attestations=self._own_attestations,
            hello_last=self._hello_last(link.role),
        )

    # -- the handshake and the gate ---------------------------------------------------------

    async def secure(self, road: Stream) -> Stream:
        """Protect the road as agreed, ask who must be asked, and return what carries payload.

        Raises:
            SecurityFailed: see the class.
            StreamBroken: the road broke.
        """
        if self._tls is None:
            self._in_clear = True
            self._ask_in_clear()
            await self._gate
            self._check()
            return road
        stream = SecureStream(road, self)
        self._tls.start(time.monotonic(), datetime.now(UTC))
        self._drain()
        await stream.flush()
        await self._while_reading(stream, self._handshake)
        await self._while_reading(stream, self._gate)
        return stream

    async def _while_reading(self, stream: SecureStream, wanted: asyncio.Future[None]) -> None:
        """Wait for ``wanted``, and meanwhile keep the TLS machine fed.

        It is fed until the first payload waits inside it; past that the peer has to wait too, so
        that an unanswered question does not make us hold what he sends.
        """
        reader = self._account.tasks.start("handshake", self._read(stream))
        try:
            await asyncio.wait({reader, wanted}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done() and (broken := await reader) is not None:
                raise broken
            await wanted
        finally:
            reader.cancel()
            await asyncio.wait({reader})
        self._check()

    async def _read(self, stream: SecureStream) -> StreamBroken | SecurityFailed | None:
        """Until payload waits, or the end; what broke it is returned, since nobody may be left to
        whom it could be raised: the transfer ends first when the peer ends the session."""
        machine = self._tls
        try:
            while machine is not None and not machine.payload_waits and not machine.peer_closed:
                if not await stream.advance():
                    return None
        except (StreamBroken, SecurityFailed) as error:
            return error
        return None

    # -- ``secure_stream.Machine`` ----------------------------------------------------------

    def feed(self, data: bytes) -> None:
        machine = self._stream()
        if data:
            machine.receive_data(data, time.monotonic())
        else:
            machine.receive_eof(time.monotonic())
        self._drain()
        self._check()

    def take(self) -> bytes:
        return self._stream().data_to_send()

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        self._stream().write(data)

    def decrypt(self, limit: int) -> bytes:
        data = self._stream().read(limit)
        self._drain()
        self._check()
        return data

    def close_notify(self) -> None:
        self._stream().close()

    @property
    def peer_closed(self) -> bool:
        return self._stream().peer_closed

    def _stream(self) -> Protection:
        if self._tls is None:
            raise AssertionError("there is no protection")
        return self._tls

    def _is_clear(self) -> bool:
        return self._in_clear or (self._accepted is not None and not self.agreed)

    def _on_failed(self, reason: str, text: str) -> None:
        if reason != "failed-transport":
            self._fail(SecurityFailed(EncryptionError(text), reason))
        elif self._payload.receives or not self._gate.done():
            self._fail(SecurityFailed(NetworkError(text), reason))
        # Else the cut direction carries no payload (xtls-wire, section 2 step 6).
