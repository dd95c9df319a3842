"""The questions: PeerVerification1 and CertificateRequest1 (``spec/``), and TLSCertificate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import (
    Attestations,
    ByteArrays,
    CertificateRejections,
    StringMap,
    Strings,
)
from telepathy_e2e.bus.wire import DBusBool, DBusBytes, DBusObjectPath, DBusStr, DBusUInt32
from telepathy_e2e.service import names


class Question(Protocol):
    """See ``service.verification.PeerVerification``."""

    def start_sas(self) -> None: ...

    def confirm_sas(self, match: bool) -> None: ...

    def start_password(self, secret: str) -> None: ...

    def accept(self, method: str) -> None: ...

    def proceed_unverified(self) -> None: ...

    def reject(self, text: str) -> None: ...


class CertificateQuestion(Protocol):
    """See ``service.verification.CertificateRequest``."""

    async def provide(self, certificates: Sequence[bytes]) -> None: ...

    def use_own(self) -> None: ...


class Certificate(Protocol):
    """See ``service.certificate.TLSCertificate``."""

    @property
    def rejections(self) -> Sequence[tuple[int, str, dict[str, Any]]]: ...

    def accept(self) -> None: ...

    def reject(self, rejections: Sequence[tuple[int, str, dict[str, Any]]]) -> None: ...


class PeerVerificationInterface(Interface):
    """``Channel.Type.PeerVerification1``."""

    name = names.PEER_VERIFICATION

    PayloadChannel = Property(DBusObjectPath)
    PeerCertificate = Property(DBusObjectPath)
    PeerFingerprints = Property(StringMap)
    OwnFingerprints = Property(StringMap)
    Methods = Property(Strings)
    Attestations = Property(Attestations)
    Reason = Property(DBusStr)
    State = Property(DBusStr, signals_changes=True)
    ShortAuthenticationString = Property(DBusStr, signals_changes=True)
    StartedMethod = Property(DBusStr, signals_changes=True)

    PeerStarted = Signal(Method=DBusStr)
    CeremonyFailed = Signal(Method=DBusStr, Reason=DBusStr, Spent=DBusBool)
    Finished = Signal(State=DBusStr, Method=DBusStr)

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._question = question

    @method("StartSAS")
    def start_sas(self) -> None:
        self._question.start_sas()

    @method("ConfirmSAS")
    def confirm_sas(self, Match: DBusBool) -> None:
        self._question.confirm_sas(Match)

    @method("StartPassword")
    def start_password(self, Secret: DBusStr) -> None:
        self._question.start_password(Secret)

    @method("Accept")
    def accept(self, Method: DBusStr) -> None:
        self._question.accept(Method)

    @method("ProceedUnverified")
    def proceed_unverified(self) -> None:
        self._question.proceed_unverified()

    @method("Reject")
    def reject(self, Text: DBusStr) -> None:
        self._question.reject(Text)


class CertificateRequestInterface(Interface):
    """``Channel.Type.CertificateRequest1``."""

    name = names.CERTIFICATE_REQUEST

    PayloadChannel = Property(DBusObjectPath)
    SigningRequest = Property(DBusBytes)

    def __init__(self, request: CertificateQuestion) -> None:
        super().__init__(request)
        self._request = request

    @method("Provide")
    async def provide(self, Certificates: ByteArrays) -> None:
        await self._request.provide(Certificates)

    @method("UseOwn")
    def use_own(self) -> None:
        self._request.use_own()


class TLSCertificateInterface(Interface):
    """``Authentication.TLSCertificate``, an object of its own."""

    name = names.TLS_CERTIFICATE

    State = Property(DBusUInt32)
    Rejections = Property(CertificateRejections)
    CertificateType = Property(DBusStr)
    CertificateChainData = Property(ByteArrays)

    Accepted = Signal()
    Rejected = Signal(Rejections=CertificateRejections)

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self._certificate = certificate

    @property
    def rejections(self) -> list[list[Any]]:
        return [list(each) for each in self._certificate.rejections]

    @method("Accept")
    def accept(self) -> None:
        self._certificate.accept()

    @method("Reject")
    def reject(self, Rejections: CertificateRejections) -> None:
        # The details stay as they came, variants included: they are only shown again.
        self._certificate.reject([(reason, error, info) for reason, error, info in Rejections])
