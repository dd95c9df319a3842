"""Channel.Interface.Securable, and Channel.Interface.EndToEndSecurity1 (``spec/``)."""

from __future__ import annotations

from typing import Protocol as TypingProtocol

from telepathy_e2e.bus.members import Interface, Property, method
from telepathy_e2e.bus.types import StringMap, Strings
from telepathy_e2e.bus.wire import DBusBool, DBusObjectPath, DBusStr
from telepathy_e2e.service import names


class Verifiable(TypingProtocol):
    """See ``service.protected.ProtectedChannel``."""

    def verify(self) -> str: ...


class SecurableInterface(Interface):
    """``Channel.Interface.Securable``."""

    name = names.SECURABLE

    Encrypted = Property(DBusBool, signals_changes=True)
    Verified = Property(DBusBool, signals_changes=True)


class EndToEndSecurityInterface(Interface):
    """``Channel.Interface.EndToEndSecurity1``."""

    name = names.END_TO_END_SECURITY

    Protocol = Property(DBusStr, signals_changes=True)
    CipherSuite = Property(DBusStr, signals_changes=True)
    KeyExchange = Property(DBusStr, signals_changes=True)
    PeerFingerprints = Property(StringMap, signals_changes=True)
    OwnFingerprints = Property(StringMap, signals_changes=True)
    VerifiedBy = Property(DBusStr, signals_changes=True)
    VerifiedMethods = Property(Strings, signals_changes=True)
    RequireEncrypted = Property(DBusBool)
    RequireVerified = Property(DBusBool)
    Replaces = Property(DBusObjectPath)
    VerificationChannel = Property(DBusObjectPath, signals_changes=True)
    Error = Property(DBusStr, signals_changes=True)
    ErrorMessage = Property(DBusStr, signals_changes=True)

    def __init__(self, channel: Verifiable) -> None:
        super().__init__(channel)
        self._channel = channel

    @method("Verify")
    def verify(self) -> DBusObjectPath:
        return self._channel.verify()
