"""The object behind Authentication.TLSCertificate: a peer's leaf and identity certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from telepathy_e2e.errors import TP_ERROR, InvalidArgument
from telepathy_e2e.service.events import (
    CertificateAccepted,
    CertificateEvent,
    CertificateRejected,
    Emitter,
)

PENDING, ACCEPTED, REJECTED = range(3)
UNTRUSTED = 1

Rejection = tuple[int, str, dict[str, object]]

# TLS_Certificate_Reject_Reason has ten values; a client that lists more repeats itself.
MAX_REJECTIONS = 16


class TLSCertificate:
    """A certificate that waits for an answer; the answer is also the verification channel's.

    Args:
        object_path: where the bus layer exports it.
        chain: DER certificates, the leaf first.
        on_accept, on_reject: answer the channel; they raise what the channel raises.
    """

    def __init__(
        self,
        object_path: str,
        chain: Sequence[bytes],
        on_accept: Callable[[], None],
        on_reject: Callable[[str], None],
    ) -> None:
        self.object_path = object_path
        self.state = PENDING
        self.rejections: list[Rejection] = []
        self.certificate_type = "x509"
        self.certificate_chain_data = list(chain)
        self.events: Emitter[CertificateEvent] = Emitter()
        self._on_accept = on_accept
        self._on_reject = on_reject

    def accept(self) -> None:
        """TLSCertificate.Accept: the user vouches for the certificate.

        Raises:
            InvalidArgument: it was answered already.
        """
        self._check_pending()
        self._on_accept()

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """TLSCertificate.Reject; an empty list counts as Untrusted, as real clients send it.

        Raises:
            InvalidArgument: it was answered already.
        """
        self._check_pending()
        given = list(rejections)[:MAX_REJECTIONS]
        self.rejections = given or [(UNTRUSTED, TP_ERROR + "Cert.Untrusted", {})]
        self._on_reject("")

    def answered(self, accepted: bool) -> None:
        """The channel's answer is known, whichever way it was given."""
        if self.state != PENDING:
            return
        if accepted:
            self.state = ACCEPTED
            self.rejections = []
            self.events.emit(CertificateAccepted())
        else:
            self.state = REJECTED
            if not self.rejections:
                self.rejections = [(UNTRUSTED, TP_ERROR + "Cert.Untrusted", {})]
            self.events.emit(CertificateRejected(tuple(self.rejections)))

    def _check_pending(self) -> None:
        if self.state != PENDING:
            raise InvalidArgument("This certificate has been answered already")
