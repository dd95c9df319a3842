"""How a command ends: the exit codes, and the exceptions that carry them with a sentence."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1  # the transfer, call or tube failed, or was declined
USAGE: Final = 2  # the command line or its input makes no sense
UNPROTECTED: Final = 3  # not protected as --require demands
UNVERIFIED: Final = 4  # verification failed, was rejected, or somebody tampered
NOT_CONNECTED: Final = 5  # no bus, no daemon, no connection, nothing of that name
INTERRUPTED: Final = 130  # Ctrl-C

MEANINGS: Final = """\
exit codes:
  0    done
  1    the transfer, call or tube failed, was declined, or nobody answered
  2    the command line or a file named on it is wrong
  3    not protected as --require demands; nothing was sent or kept
  4    verification failed or was rejected, or the protection was tampered with
  5    no bus, no daemon, no connection, or no such channel
  130  interrupted"""

TP_ERROR: Final = "org.freedesktop.Telepathy.Error."


class Exit(Exception):
    """The command ends here.

    Args:
        code: one of the exit codes above.
        sentence: what happened and what to do about it, for a person.
        error: the D-Bus error name behind it, or empty.
    """

    def __init__(self, code: int, sentence: str, error: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.error = error


class UsageError(Exit):
    """The user asked for something that makes no sense; ``sentence`` says what to do instead."""

    def __init__(self, sentence: str) -> None:
        super().__init__(USAGE, sentence)


class NotConnected(Exit):
    """There is nobody to talk to."""

    def __init__(self, sentence: str, error: str = "") -> None:
        super().__init__(NOT_CONNECTED, sentence, error)


# What each D-Bus error means for the exit code. Everything else is a failed transfer.
_CODES: Final = {
    TP_ERROR + "InvalidArgument": USAGE,
    TP_ERROR + "InvalidHandle": USAGE,
    TP_ERROR + "EncryptionNotAvailable": UNPROTECTED,
    TP_ERROR + "EncryptionError": UNVERIFIED,
    TP_ERROR + "Disconnected": NOT_CONNECTED,
    TP_ERROR + "AuthenticationFailed": NOT_CONNECTED,
    TP_ERROR + "NetworkError": FAILED,
    "org.freedesktop.DBus.Error.ServiceUnknown": NOT_CONNECTED,
    "org.freedesktop.DBus.Error.NameHasNoOwner": NOT_CONNECTED,
    "org.freedesktop.DBus.Error.NoReply": NOT_CONNECTED,
    "org.freedesktop.DBus.Error.UnknownObject": NOT_CONNECTED,
    "org.freedesktop.DBus.Error.UnknownMethod": NOT_CONNECTED,
}


def code_of(error_name: str) -> int:
    """The exit code for a D-Bus error name."""
    if error_name.startswith(TP_ERROR + "Cert."):
        return UNVERIFIED
    if error_name.startswith("org.freedesktop.DBus.Error.Spawn."):
        return NOT_CONNECTED
    return _CODES.get(error_name, FAILED)
