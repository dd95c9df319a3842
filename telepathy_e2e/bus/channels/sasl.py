"""Channel.Interface.SASLAuthentication."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import Strings
from telepathy_e2e.bus.values import details
from telepathy_e2e.bus.wire import DBusBool, DBusBytes, DBusDict, DBusStr, DBusUInt32, Variant
from telepathy_e2e.service import names
from telepathy_e2e.service.events import SASLStatusChanged


class Login(Protocol):
    """See ``service.server_authentication.ServerAuthentication``."""

    @property
    def sasl_error_details(self) -> Mapping[str, str | bool]: ...

    def start_mechanism(self, mechanism: str) -> None: ...

    def start_mechanism_with_data(self, mechanism: str, data: bytes) -> None: ...

    def respond(self, data: bytes) -> None: ...

    def accept_sasl(self) -> None: ...

    def abort_sasl(self, reason: int, debug_message: str) -> None: ...


class SASLInterface(Interface):
    """``Channel.Interface.SASLAuthentication``."""

    name = names.SASL_AUTHENTICATION

    AvailableMechanisms = Property(Strings)
    HasInitialData = Property(DBusBool)
    CanTryAgain = Property(DBusBool)
    SASLStatus = Property(DBusUInt32)
    SASLError = Property(DBusStr)
    SASLErrorDetails = Property(DBusDict)
    AuthorizationIdentity = Property(DBusStr)
    DefaultUsername = Property(DBusStr)
    DefaultRealm = Property(DBusStr)
    MaySaveResponse = Property(DBusBool)

    SASLStatusChanged = Signal(Status=DBusUInt32, Reason=DBusStr, Details=DBusDict)
    NewChallenge = Signal(Challenge_Data=DBusBytes)

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        self._login = login

    @property
    def sasl_error_details(self) -> dict[str, Variant]:
        return details(self._login.sasl_error_details)

    def tell(self, event: object) -> None:
        if isinstance(event, SASLStatusChanged):
            self.SASLStatusChanged(event.status, event.reason, details(event.details))
        else:
            super().tell(event)

    @method("StartMechanism")
    def start_mechanism(self, Mechanism: DBusStr) -> None:
        self._login.start_mechanism(Mechanism)

    @method("StartMechanismWithData")
    def start_mechanism_with_data(self, Mechanism: DBusStr, Initial_Data: DBusBytes) -> None:
        self._login.start_mechanism_with_data(Mechanism, Initial_Data)

    @method("Respond")
    def respond(self, Response_Data: DBusBytes) -> None:
        self._login.respond(Response_Data)

    @method("AcceptSASL")
    def accept_sasl(self) -> None:
        self._login.accept_sasl()

    @method("AbortSASL")
    def abort_sasl(self, Reason: DBusUInt32, Debug_Message: DBusStr) -> None:
        self._login.abort_sasl(Reason, Debug_Message)
