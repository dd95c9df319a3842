"""Whose word is looked at, and what it is worth beside what is remembered."""

from __future__ import annotations

from datetime import date

import pytest

from telepathy_e2e.handler.asked import PV, read_question
from telepathy_e2e.handler.pins import (
    LEAP_OF_FAITH,
    REJECTED,
    Action,
    Alarm,
    Answer,
    Pin,
    Settings,
    after,
    decide,
)
from telepathy_e2e.handler.vouched import MAX_JUDGED, vouchers
from tests.unit.test_attest_identity import BOB, CAROL, LAPTOP, MALLORY, NOW, OTHER, PHONE, Device

ALICE = "alice@example.org"
DAY = date(2026, 1, 1)
TRUST = Settings()


def shown(device: Device) -> str:
    return device.fingerprint.hex(":").upper()


def of(*attestations: tuple[str, str, bytes], contact: str = BOB) -> set[str]:
    return set(vouchers(attestations, contact=contact, fingerprint=shown(PHONE), wall=NOW))


def word(device: Device, for_whom: Device = PHONE) -> tuple[str, str, bytes]:
    return ("identity", "Another device", device.vouch(for_whom.fingerprint))


def pin(device: Device, *methods: str) -> Pin:
    return Pin(ALICE, BOB, shown(device), methods, DAY, DAY)


def test_each_device_that_vouches_is_named() -> None:
    assert of() == set()
    assert of(word(LAPTOP)) == {shown(LAPTOP)}
    assert of(word(LAPTOP), word(OTHER), word(LAPTOP)) == {shown(LAPTOP), shown(OTHER)}


def test_what_does_not_hold_spoils_nothing_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    wrong = [word(PHONE), word(LAPTOP, OTHER), word(MALLORY), ("identity", "", b"")]
    assert of(*wrong, word(LAPTOP)) == {shown(LAPTOP)}
    assert len(caplog.records) == len(wrong)
    assert of(word(LAPTOP), contact=CAROL) == set()


def test_other_types_are_not_looked_at() -> None:
    data = LAPTOP.vouch(PHONE.fingerprint)
    assert of(("openpgp", "", data), ("x509", "", data), ("Identity", "", data)) == set()


def test_as_many_are_judged_as_somebody_has_devices() -> None:
    bad = [("identity", "", b"")] * (MAX_JUDGED - 1)
    assert of(*bad, word(LAPTOP)) == {shown(LAPTOP)}
    assert of(*bad, bad[0], word(LAPTOP)) == set()


def question(*attestations: tuple[str, str, bytes], reason: str = "continuity", **more: object):  # type: ignore[no-untyped-def]
    from telepathy_e2e.cli import names

    return read_question(
        {
            names.CHANNEL + ".TargetID": BOB,
            names.CHANNEL + ".InitiatorID": ALICE,
            f"{PV}.Reason": reason,
            f"{PV}.PeerFingerprints": {"sha-256": shown(PHONE)},
            f"{PV}.Attestations": [list(each) for each in attestations],
            **more,
        },
        NOW,
    )


ACCEPTED = Answer(Action.ACCEPT, "cross-signature")
ALARM = Answer(Action.ASK, alarm=Alarm.CHANGED_KEY)


def test_a_verified_device_s_word_makes_a_new_one_verified_and_it_is_recorded() -> None:
    asked = question(word(LAPTOP))
    pins = [pin(LAPTOP, "sas")]
    assert decide(asked, pins, TRUST) == ACCEPTED
    new = after(asked, pins, "verified", "cross-signature", DAY)
    assert new == pin(PHONE, "cross-signature")
    assert decide(asked, [*pins, new], TRUST) == ACCEPTED
    assert decide(question(word(LAPTOP), reason="requested"), pins, TRUST) == ACCEPTED


def test_without_a_word_or_by_somebody_who_is_not_verified_it_is_an_alarm() -> None:
    pins = [pin(LAPTOP, "sas")]
    assert decide(question(), pins, TRUST) == ALARM
    assert decide(question(word(OTHER)), pins, TRUST) == ALARM
    assert decide(question(word(LAPTOP, OTHER)), pins, TRUST) == ALARM
    leap = [*pins, pin(OTHER, LEAP_OF_FAITH)]
    assert decide(question(word(OTHER)), leap, TRUST) == ALARM


def test_who_was_only_vouched_for_vouches_for_nobody() -> None:
    chain = [pin(LAPTOP, "sas"), pin(OTHER, "cross-signature")]
    assert decide(question(word(OTHER)), chain, TRUST) == ALARM
    # Somebody has compared since: now it has a word of its own.
    compared = [pin(LAPTOP, "sas"), pin(OTHER, "cross-signature", "sas")]
    assert decide(question(word(OTHER)), compared, TRUST) == ACCEPTED


@pytest.mark.parametrize("voucher", [[pin(LAPTOP, "sas", REJECTED)], [pin(LAPTOP, REJECTED)], []])
def test_what_was_taken_on_a_word_falls_with_it(voucher: list[Pin]) -> None:
    pins = [*voucher, pin(PHONE, "cross-signature")]
    assert decide(question(word(LAPTOP)), pins, TRUST) == ALARM
    # What people have compared themselves does not.
    pins = [*voucher, pin(PHONE, "cross-signature", "sas")]
    assert decide(question(word(LAPTOP)), pins, TRUST) == Answer(Action.ACCEPT, "pin")
    # Nor where another one vouches who still stands.
    pins = [*voucher, pin(PHONE, "cross-signature"), pin(OTHER, "password")]
    assert decide(question(word(LAPTOP), word(OTHER)), pins, TRUST) == ACCEPTED


def test_a_key_that_was_rejected_stays_rejected_whoever_vouches() -> None:
    pins = [pin(LAPTOP, "sas"), pin(PHONE, REJECTED)]
    assert decide(question(word(LAPTOP)), pins, TRUST).alarm is Alarm.REJECTED_KEY
