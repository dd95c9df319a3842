"""Every error that crosses a door of this program, by whose fault it is.

E2EError
├── TelepathyError                  ours, the user's or the host's: answers a call, ends a channel
│   ├── InvalidArgument             what was asked makes no sense
│   ├── InvalidHandle               no such handle, or not a valid identifier
│   ├── NotAvailable                not now, or not in this state
│   ├── NotYet                      not before something else has happened
│   ├── DoesNotExist                nothing has this name
│   ├── NotImplemented              never, in this program
│   ├── PermissionDenied            policy forbids it
│   ├── NotCapable                  the contact's client cannot do it
│   ├── Offline                     the contact is not there
│   ├── Disconnected                the connection is not there
│   ├── NetworkError                the network or the server failed
│   ├── Cancelled                   the local user stopped it
│   ├── Terminated                  the peer stopped it
│   ├── ConnectionLost / ConnectionRefused / ConnectionFailed / ConnectionReplaced
│   ├── ChannelBanned / ChannelFull / ChannelInviteOnly / ChannelKicked    a room does not want us
│   ├── AuthenticationFailed        wrong password
│   │   ├── ServiceConfused         the server's part of the login is wrong
│   │   └── LoginCancelled          the user gave the login up
│   ├── EncryptionError             something was found out to be tampered with
│   ├── EncryptionNotAvailable      protection was demanded and cannot be had
│   └── CertError                   Cert.Invalid and its kin, below
│       └── CertNotProvided, CertUntrusted, CertExpired, CertNotActivated,
│           CertFingerprintMismatch, CertHostnameMismatch, CertSelfSigned,
│           CertRevoked, CertInsecure, CertLimitExceeded
├── RemoteError                     another program on the bus did not do what it was asked
└── PeerError                       the peer's (or server's) stanza or bytes are wrong
    └── SecurityError               ... so wrong that the session ends with <security-error/>
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

TP_ERROR = "org.freedesktop.Telepathy.Error."


class E2EError(Exception):
    """Base of all our errors."""


class TelepathyError(E2EError):
    """An error with a D-Bus name; ``str()`` is the sentence a person can act on.

    Attributes:
        details: more about it, by the names that ConnectionError and TLS_Certificate_Rejection
            have for that (``server-message``, ``expected-hostname``, ...).
    """

    dbus_name: ClassVar[str] = TP_ERROR + "NotAvailable"
    details: Mapping[str, str | bool] = MappingProxyType({})


class InvalidArgument(TelepathyError):
    dbus_name = TP_ERROR + "InvalidArgument"


class InvalidHandle(TelepathyError):
    dbus_name = TP_ERROR + "InvalidHandle"


class NotAvailable(TelepathyError):
    dbus_name = TP_ERROR + "NotAvailable"


class NotYet(TelepathyError):
    dbus_name = TP_ERROR + "NotYet"


class DoesNotExist(TelepathyError):
    dbus_name = TP_ERROR + "DoesNotExist"


class NotImplementedByUs(TelepathyError):
    dbus_name = TP_ERROR + "NotImplemented"


class PermissionDenied(TelepathyError):
    dbus_name = TP_ERROR + "PermissionDenied"


class NotCapable(TelepathyError):
    dbus_name = TP_ERROR + "NotCapable"


class Offline(TelepathyError):
    dbus_name = TP_ERROR + "Offline"


class Disconnected(TelepathyError):
    dbus_name = TP_ERROR + "Disconnected"


class NetworkError(TelepathyError):
    dbus_name = TP_ERROR + "NetworkError"


class Cancelled(TelepathyError):
    dbus_name = TP_ERROR + "Cancelled"


class Terminated(TelepathyError):
    dbus_name = TP_ERROR + "Terminated"


class ConnectionLost(TelepathyError):
    dbus_name = TP_ERROR + "ConnectionLost"


class ConnectionRefused(TelepathyError):
    dbus_name = TP_ERROR + "ConnectionRefused"


class ConnectionFailed(TelepathyError):
    dbus_name = TP_ERROR + "ConnectionFailed"


class ConnectionReplaced(TelepathyError):
    dbus_name = TP_ERROR + "ConnectionReplaced"


class ChannelBanned(TelepathyError):
    dbus_name = TP_ERROR + "Channel.Banned"


class ChannelFull(TelepathyError):
    dbus_name = TP_ERROR + "Channel.Full"


class ChannelInviteOnly(TelepathyError):
    dbus_name = TP_ERROR + "Channel.InviteOnly"


class ChannelKicked(TelepathyError):
    dbus_name = TP_ERROR + "Channel.Kicked"


class AuthenticationFailed(TelepathyError):
    dbus_name = TP_ERROR + "AuthenticationFailed"


class ServiceConfused(AuthenticationFailed):
    dbus_name = TP_ERROR + "ServiceConfused"


class LoginCancelled(AuthenticationFailed):
    dbus_name = TP_ERROR + "Cancelled"


class EncryptionError(TelepathyError):
    dbus_name = TP_ERROR + "EncryptionError"


class EncryptionNotAvailable(TelepathyError):
    dbus_name = TP_ERROR + "EncryptionNotAvailable"


class CertError(TelepathyError):
    dbus_name = TP_ERROR + "Cert.Invalid"


class CertNotProvided(CertError):
    dbus_name = TP_ERROR + "Cert.NotProvided"


class CertUntrusted(CertError):
    dbus_name = TP_ERROR + "Cert.Untrusted"


class CertExpired(CertError):
    dbus_name = TP_ERROR + "Cert.Expired"


class CertNotActivated(CertError):
    dbus_name = TP_ERROR + "Cert.NotActivated"


class CertFingerprintMismatch(CertError):
    dbus_name = TP_ERROR + "Cert.FingerprintMismatch"


class CertHostnameMismatch(CertError):
    dbus_name = TP_ERROR + "Cert.HostnameMismatch"


class CertSelfSigned(CertError):
    dbus_name = TP_ERROR + "Cert.SelfSigned"


class CertRevoked(CertError):
    dbus_name = TP_ERROR + "Cert.Revoked"


class CertInsecure(CertError):
    dbus_name = TP_ERROR + "Cert.Insecure"


class CertLimitExceeded(CertError):
    dbus_name = TP_ERROR + "Cert.LimitExceeded"


class RemoteError(E2EError):
    """Another program on the bus answered a call of ours with an error, or did not answer.

    Args:
        name: the error's D-Bus name.
        text: what that program says; may be empty.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class PeerError(E2EError):
    """What the other side sent is wrong; ``condition`` answers its stanza (RFC 6120 section 8.3.3).

    Args:
        text: for logs and people; never contains what the peer sent.
        condition: the defined stanza error condition.
        jingle: the application-specific condition of XEP-0166 section 10, if any
            (``out-of-order``, ``tie-break``, ``unknown-session``, ``unsupported-info``).
    """

    def __init__(
        self, text: str, condition: str = "bad-request", *, jingle: str | None = None
    ) -> None:
        super().__init__(text)
        self.condition = condition
        self.jingle = jingle


class SecurityError(PeerError):
    """The session must end with ``<security-error/>``: tampering, or what looks like it."""
