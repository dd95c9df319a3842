"""Why calls end, in everybody's words."""

from __future__ import annotations

import pytest

from telepathy_e2e.errors import CertUntrusted, EncryptionError, NetworkError, PeerError
from telepathy_e2e.jingle.stanzas import CONDITIONS
from telepathy_e2e.service.call_ends import end_of
from telepathy_e2e.service.call_words import Reason, condition_of, ended_by_peer
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError

OWN, PEER = 1, 7
ERROR = "org.freedesktop.Telepathy.Error."


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
def test_each_reason_of_the_peer_has_a_meaning(condition: str) -> None:
    reason = ended_by_peer(condition, PEER)
    assert reason.actor == PEER
    assert reason.error == "" or reason.error.startswith(ERROR)
    # "The errors Cancelled and Terminated SHOULD NOT be used here" (Call_State_Reason)
    assert not reason.error.endswith(("Cancelled", "Terminated"))
    assert reason.error or reason.reason is Reason.USER_REQUESTED


@pytest.mark.parametrize(
    ("reason", "answered", "incoming", "condition"),
    [
        (Reason.USER_REQUESTED, True, True, "success"),
        (Reason.USER_REQUESTED, True, False, "success"),
        (Reason.USER_REQUESTED, False, True, "decline"),
        (Reason.USER_REQUESTED, False, False, "cancel"),
        (Reason.REJECTED, False, True, "decline"),
        (Reason.BUSY, False, True, "busy"),
        (Reason.MEDIA_ERROR, True, False, "media-error"),
        (Reason.UNKNOWN, True, False, "success"),
    ],
)
def test_what_the_user_says_is_told_the_peer(
    reason: Reason, answered: bool, incoming: bool, condition: str
) -> None:
    assert condition_of(reason, answered=answered, incoming=incoming) == condition


def test_a_no_of_the_user_is_his_and_a_security_error_for_the_peer() -> None:
    failure = SecurityFailed(CertUntrusted("no"), "security-error", Fault.USER)
    end = end_of(failure, own=OWN, peer=PEER)
    assert (end.reason.actor, end.reason.reason) == (OWN, Reason.USER_REQUESTED)
    assert end.reason.error == CertUntrusted.dbus_name
    assert end.condition == "security-error"


def test_tampering_is_nobodys_of_the_two() -> None:
    end = end_of(SecurityFailed(EncryptionError("changed")), own=OWN, peer=PEER)
    assert (end.reason.actor, end.reason.error) == (0, EncryptionError.dbus_name)
    assert end.condition == "security-error"


def test_a_client_that_refuses_hears_no_more() -> None:
    end = end_of(StanzaError("service-unavailable", ""), own=OWN, peer=PEER)
    assert end.condition is None
    assert end.reason.actor == PEER


def test_a_client_that_is_silent_has_not_answered() -> None:
    assert end_of(IqTimeout(), own=OWN, peer=PEER).reason.reason is Reason.NO_ANSWER


def test_media_that_find_no_way_are_a_fault_of_the_connection() -> None:
    end = end_of(NetworkError("none"), own=OWN, peer=PEER, condition="connectivity-error")
    assert end.reason.reason is Reason.CONNECTIVITY_ERROR
    assert end.reason.error == NetworkError.dbus_name
    assert end.condition == "connectivity-error"


def test_what_a_peer_did_wrong_is_his() -> None:
    end = end_of(PeerError("nonsense"), own=OWN, peer=PEER)
    assert (end.reason.actor, end.reason.reason) == (PEER, Reason.SERVICE_ERROR)
    assert end.condition == "general-error"
