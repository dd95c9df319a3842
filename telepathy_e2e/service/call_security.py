"""The protection of a call: DTLS-SRTP with our leaf, hellos where both know them, the people.

A call has no way to be in the clear: whoever announces no certificate is not talked to, whatever
the policy says (RFC 5764; SDES is never taken).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from telepathy_e2e.errors import EncryptionNotAvailable
from telepathy_e2e.jingle.ice import DtlsFingerprint
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.service.guard import CEREMONIES, Guard, Payload
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.trust import policy
from telepathy_e2e.trust.policy import Demands, Policy
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xtls.association import Export, Handshake
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.conversation import Session
from telepathy_e2e.xtls.dtls_protection import DtlsProtection
from telepathy_e2e.xtls.offer import Fingerprint


class CallSecurity(Guard):
    """See the module."""

    CALL = True

    def __init__(self, account: Account, payload: Payload, demands: Demands) -> None:
        super().__init__(account, payload, demands)
        self._media: DtlsProtection | None = None

    def check_announced(self, fingerprints: Sequence[DtlsFingerprint]) -> None:
        """That the peer announced a certificate that can be checked.

        Raises:
            SecurityFailed: it did not.
        """
        if not any(_fingerprint(each).known for each in fingerprints):
            raise SecurityFailed(
                EncryptionNotAvailable("The contact's client offers no encryption for this call"),
                "security-error",
                Fault.PEER,
            )

    def agree(
        self,
        link: Link,
        offered: Sequence[Content],
        accepted: Sequence[Content],
        fingerprints: Sequence[DtlsFingerprint],
        *,
        messages: bool,
    ) -> None:
        """Offer and answer are known.

        Args:
            offered, accepted: contents of session-initiate and session-accept, as this side sent
                or received them, in the order of the offer.
            fingerprints: that the peer announced, of all its contents.
            messages: whether both sides know sealed messages.
        """
        credentials = self._credentials
        if credentials is None:
            raise AssertionError("agreed without a certificate")
        self._link = link
        own, peer = bare(link.own), bare(link.peer)
        initiator, responder = (own, peer) if link.role is Role.INITIATOR else (peer, own)
        self.agreed = True
        self._protection = self._media = DtlsProtection(
            Session(
                role=link.role,
                sid=link.sid,
                initiator=initiator,
                responder=responder,
                credentials=credentials,
                offered=offer_digest(offered),
                accepted=offer_digest(accepted),
                methods=CEREMONIES,
                tries=self._account.tries.session(own, peer),
                attestations=self._own_attestations,
                hello_last=self._hello_last(link.role),
            ),
            [_fingerprint(each) for each in fingerprints],
            messages=messages,
        )

    def connected(self, handshake: Handshake, export: Export) -> None:
        """A DTLS handshake of the media is done; each one is a new epoch."""
        if self._media is None or self._over:
            return
        self._media.connected(handshake, export, time.monotonic(), datetime.now(UTC))
        self._drain()

    async def opened(self) -> None:
        """Wait until media may flow: for the hellos, and for people where that is demanded.

        Raises:
            SecurityFailed: it may not.
        """
        await self._handshake
        self._check()
        await self._gate
        self._check()

    def _protocol(self) -> str:
        return "dtls-srtp"

    def _question_reason(self, demands: Demands) -> policy.Reason | None:
        # Policy ``off`` asks for no protection; a call has it all the same, and nobody is asked.
        if self._account.policy is Policy.OFF and not demands.verified:
            return None
        if self._account.policy is Policy.OFF:
            return policy.Reason.REQUESTED
        return super()._question_reason(demands)


def _fingerprint(announced: DtlsFingerprint) -> Fingerprint:
    return Fingerprint(announced.hash, announced.digest)
