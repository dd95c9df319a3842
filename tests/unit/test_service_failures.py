"""What each failure becomes in Telepathy's words and in Jingle's."""

from __future__ import annotations

import pytest

from telepathy_e2e.errors import (
    CertUntrusted,
    EncryptionError,
    EncryptionNotAvailable,
    InvalidArgument,
    NetworkError,
    Offline,
    PeerError,
    SecurityError,
    TelepathyError,
)
from telepathy_e2e.jingle.stanzas import CONDITIONS
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service.failures import (
    Fault,
    NoRoad,
    SecurityFailed,
    SessionFailed,
    ended_by_peer,
    failure_of,
    peer_broke,
    road_broke,
)
from telepathy_e2e.service.file_channel import program_broke
from telepathy_e2e.service.file_details import (
    LOCAL_ERROR,
    LOCAL_STOPPED,
    REASONS,
    REMOTE_ERROR,
    REMOTE_STOPPED,
)
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

TP = "org.freedesktop.Telepathy.Error."
NO = EncryptionNotAvailable("no")


@pytest.mark.parametrize(
    ("error", "reason", "name", "condition"),
    [
        (SecurityFailed(EncryptionError("x")), REMOTE_ERROR, "EncryptionError", "security-error"),
        (
            SecurityFailed(CertUntrusted("x"), "security-error", Fault.USER),
            LOCAL_STOPPED,
            "Cert.Untrusted",
            "security-error",
        ),
        (
            SecurityFailed(NO, "cancel", Fault.OURS),
            LOCAL_ERROR,
            "EncryptionNotAvailable",
            "cancel",
        ),
        (
            SecurityFailed(NetworkError("cut"), "failed-transport"),
            REMOTE_ERROR,
            "NetworkError",
            "failed-transport",
        ),
        (NoRoad("none"), REMOTE_ERROR, "NetworkError", "connectivity-error"),
        (StreamBroken("gone"), REMOTE_ERROR, "NetworkError", "failed-transport"),
        (IqTimeout("late"), REMOTE_ERROR, "NetworkError", "timeout"),
        (StanzaError("forbidden"), REMOTE_ERROR, "NetworkError", "general-error"),
        (Offline("away"), LOCAL_ERROR, "Offline", "cancel"),
        (InvalidArgument("bad"), LOCAL_ERROR, "InvalidArgument", "cancel"),
        (PeerError("bad"), REMOTE_ERROR, "NetworkError", "general-error"),
        (SecurityError("bad"), REMOTE_ERROR, "NetworkError", "general-error"),
    ],
)
def test_each_error_has_its_words(error: Exception, reason: int, name: str, condition: str) -> None:
    failure = failure_of(error)
    assert REASONS[failure.fault] == reason
    assert failure.error.dbus_name == TP + name
    assert failure.condition == condition
    assert condition in CONDITIONS
    assert str(failure) == str(failure.error)


def test_a_failure_that_has_its_words_already_keeps_them() -> None:
    failure = program_broke()
    assert failure_of(failure) is failure
    assert (REASONS[failure.fault], failure.condition) == (LOCAL_ERROR, "failed-application")


def test_what_a_stanza_says_in_words_is_not_passed_on() -> None:
    failure = failure_of(StanzaError("forbidden", "call this number: 0900"))
    assert "0900" not in str(failure.error)


@pytest.mark.parametrize(
    ("condition", "reason", "name"),
    [
        ("cancel", REMOTE_STOPPED, "Terminated"),
        ("decline", REMOTE_STOPPED, "Terminated"),
        ("busy", REMOTE_STOPPED, "Terminated"),
        ("security-error", REMOTE_ERROR, "EncryptionError"),
        ("failed-transport", REMOTE_ERROR, "NetworkError"),
        ("gone", REMOTE_ERROR, "Terminated"),
        ("timeout", REMOTE_ERROR, "NetworkError"),
    ],
)
def test_a_session_that_the_peer_ended_is_not_ended_again(
    condition: str, reason: int, name: str
) -> None:
    failure = ended_by_peer(condition, "transfer")
    assert (REASONS[failure.fault], failure.error.dbus_name) == (reason, TP + name)
    assert failure.condition is None


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (StreamBroken("x"), True),
        (peer_broke(), True),
        (SecurityFailed(NetworkError("x"), "failed-transport"), True),
        (SecurityFailed(EncryptionError("x")), False),
        (program_broke(), False),
        (NetworkError("x"), False),
        (IqTimeout("x"), False),
    ],
)
def test_only_a_broken_road_waits_for_the_peers_reason(error: Exception, waits: bool) -> None:
    assert road_broke(error) is waits


def test_a_security_failure_is_the_peers_and_an_alarm_unless_it_says_otherwise() -> None:
    failure = SecurityFailed(EncryptionError("x"))
    assert (failure.condition, failure.fault) == ("security-error", Fault.PEER)
    assert not isinstance(failure, TelepathyError)
    assert not isinstance(SessionFailed(NO, None), TelepathyError)
