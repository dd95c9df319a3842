import json
import math

import pytest

from telepathy_e2e.cli.call_words import clock, ending, figures, figures_text, meter
from telepathy_e2e.cli.exits import TP_ERROR, Exit
from telepathy_e2e.cli.names import CallReason

US, THEM = 1, 2


def end(
    actor: int,
    reason: int,
    error: str = "",
    message: str = "",
    *,
    talked: bool = False,
    requested: bool = True,
    said: str = "",
) -> Exit:
    return ending(
        (actor, reason, error and TP_ERROR + error, message),
        own=US,
        contact="bob@x",
        requested=requested,
        talked=talked,
        details={"hangup-message": said} if said else {},
    )


@pytest.mark.parametrize(
    ("actor", "reason", "error", "talked", "code", "words"),
    [
        (THEM, CallReason.USER_REQUESTED, "", True, 0, "bob@x hung up"),
        (US, CallReason.USER_REQUESTED, "", True, 0, "You hung up"),
        (US, CallReason.USER_REQUESTED, "", False, 1, "before the call was taken"),
        (THEM, CallReason.BUSY, "Busy", False, 1, "busy"),
        (THEM, CallReason.REJECTED, "Rejected", False, 1, "declined"),
        (US, CallReason.REJECTED, "Rejected", False, 1, "declined here"),
        (THEM, CallReason.NO_ANSWER, "NoAnswer", False, 1, "does not answer"),
        (US, CallReason.NO_ANSWER, "PickedUpElsewhere", False, 1, "another device"),
        (THEM, CallReason.FORWARDED, "PickedUpElsewhere", False, 1, "another device"),
        (0, CallReason.INTERNAL_ERROR, "NotCapable", False, 1, "takes calls"),
        (0, CallReason.INTERNAL_ERROR, "Offline", False, 1, "not online"),
        (0, CallReason.SERVICE_ERROR, "EncryptionError", True, 4, "not safe"),
        (US, CallReason.USER_REQUESTED, "Cert.Untrusted", True, 4, "not verified"),
        (0, CallReason.SERVICE_ERROR, "EncryptionNotAvailable", False, 3, "encrypt"),
        (0, CallReason.NETWORK_ERROR, "NetworkError", True, 1, "network"),
        (0, CallReason.CONNECTIVITY_ERROR, "ConnectionLost", True, 1, "no way"),
        (THEM, CallReason.MEDIA_ERROR, "Media.CodecsIncompatible", False, 1, "agree on no"),
        (THEM, 77, "", True, 1, "failed"),
    ],
)
def test_each_end_has_its_code_and_its_sentence(
    actor: int, reason: int, error: str, talked: bool, code: int, words: str
) -> None:
    ended = end(actor, reason, error, talked=talked)
    assert (ended.code, ended.error) == (code, error and TP_ERROR + error)
    assert words in str(ended)


def test_a_caller_who_gave_up_did_not_fail_to_answer() -> None:
    assert "gave up" in str(end(THEM, CallReason.NO_ANSWER, "NoAnswer", requested=False))


def test_what_was_said_on_hanging_up_is_shown_without_its_control_characters() -> None:
    text = str(end(THEM, CallReason.USER_REQUESTED, talked=True, said="see {contact}\x1b[2J"))
    assert "see {contact}" in text
    assert "\x1b" not in text


def test_why_something_failed_is_told() -> None:
    assert "no relay" in str(end(0, CallReason.CONNECTIVITY_ERROR, "ConnectionFailed", "no relay"))


def test_figures_are_shares_and_what_json_cannot_say_is_null() -> None:
    shown = figures(
        "/c",
        "audio",
        {
            "packets-received": 90,
            "packets-lost": 10,
            "packets-sent": 50,
            "packets-lost-there": 5,
            "level-sent": -math.inf,
            "level-received": -20.5,
            "jitter": 0.003,
            "round-trip": math.nan,
            "codec-sent": "opus\x1b[2J",
        },
    )
    assert shown["loss"] == pytest.approx(0.1)
    assert shown["loss_there"] == pytest.approx(0.1)
    assert shown["level_sent"] is None
    assert shown["level_received"] == -20.5
    assert shown["round_trip"] is None
    assert shown["codec_received"] is None
    json.dumps(shown, allow_nan=False)
    text = figures_text(shown)
    assert "lost here 10.0 %" in text
    assert "jitter 3 ms" in text
    assert "round trip" not in text
    assert "\x1b" not in text


def test_a_report_of_more_lost_than_sent_is_all_of_it() -> None:
    shown = figures("/c", "audio", {"packets-sent": 3, "packets-lost-there": 2**40})
    assert shown["loss_there"] == 1.0
    assert (
        figures("/c", "audio", {"packets-sent": 0, "packets-lost-there": 0})["loss_there"] is None
    )


@pytest.mark.parametrize(
    ("level", "full"), [(0.0, 10), (-30.0, 5), (-60.0, 0), (-127.0, 0), (6.0, 10), (None, 0)]
)
def test_a_meter_has_always_the_same_width(level: float | None, full: int) -> None:
    assert meter(level).count("█") == full
    assert len(meter(level)) == len(meter(-30.0))
    assert len(meter(-math.inf)) == len(meter(-30.0))


def test_a_clock() -> None:
    assert [clock(0.9), clock(61), clock(3600)] == ["00:00", "01:01", "60:00"]
