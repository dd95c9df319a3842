"""Channel.Type.ServerTLSConnection: is this the right server, though nothing proves it?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from telepathy_e2e.errors import (
    CertError,
    CertExpired,
    CertFingerprintMismatch,
    CertHostnameMismatch,
    CertInsecure,
    CertLimitExceeded,
    CertNotActivated,
    CertRevoked,
    CertSelfSigned,
    CertUntrusted,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.certificate import TLSCertificate
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.xmpp.authenticator import ServerCertificate

if TYPE_CHECKING:
    from telepathy_e2e.errors import TelepathyError
    from telepathy_e2e.service.account import Account

# By TLS_Certificate_Reject_Reason.
_REJECTIONS: tuple[type[CertError], ...] = (
    CertError,
    CertUntrusted,
    CertExpired,
    CertNotActivated,
    CertFingerprintMismatch,
    CertHostnameMismatch,
    CertSelfSigned,
    CertRevoked,
    CertInsecure,
    CertLimitExceeded,
)


class ServerTLSConnection(Channel):
    """One question about one certificate; nothing goes to the server before the answer.

    Args:
        shown: the certificate, and what is wrong with it.
    """

    channel_type = names.SERVER_TLS

    def __init__(self, account: Account, shown: ServerCertificate) -> None:
        super().__init__(
            account,
            account.next_path("ServerTLSConnection"),
            target_handle=0,
            target_id="",
            requested=False,
            initiator_handle=0,
            initiator_id="",
            target_handle_type=0,
        )
        self.certificate = TLSCertificate(
            self.object_path + "/TLSCertificate",
            shown.chain,
            on_accept=self._accepted,
            on_reject=lambda _: self._rejected(),
        )
        self.server_certificate = self.certificate.object_path
        self.hostname = shown.hostname
        self.reference_identities = list(shown.identities)
        self._error = shown.error
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.SERVER_TLS + "."
        shown[prefix + "ServerCertificate"] = self.server_certificate
        shown[prefix + "Hostname"] = self.hostname
        shown[prefix + "ReferenceIdentities"] = self.reference_identities
        return shown

    async def answered(self) -> None:
        """Wait for the answer; this returns if it is yes.

        Raises:
            CertError: what is wrong, in the client's view, or in ours if it does not say.
        """
        await self._answer

    def close(self) -> None:
        """Close: unanswered it means that the certificate counts as what we found it to be."""
        if not self._answer.done():
            self.certificate.answered(accepted=False)
            self._fail(self._error)
        self._gone()

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        if not self._answer.done():
            self._answer.cancel()
        self._gone()

    def _accepted(self) -> None:
        self.certificate.answered(accepted=True)
        if not self._answer.done():
            self._answer.set_result(None)

    def _rejected(self) -> None:
        reason = self.certificate.rejections[0][0]
        kind = _REJECTIONS[reason] if reason < len(_REJECTIONS) else CertError
        error: CertError = kind("The server's certificate was rejected by the user")
        error.details = {**self._error.details, "user-requested": True}
        self.certificate.answered(accepted=False)
        self._fail(error)

    def _fail(self, error: CertError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
