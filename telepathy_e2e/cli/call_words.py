"""What is said of a call: its line, its figures, its end; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from telepathy_e2e.cli.exits import FAILED, OK, TP_ERROR, UNPROTECTED, UNVERIFIED, Exit, code_of
from telepathy_e2e.cli.names import CallReason
from telepathy_e2e.cli.words import printable

# Of the level meters: decibels below full scale at which nothing is shown, and blocks in all.
QUIET: Final = -60.0
BLOCKS: Final = 10


def meter(level: object) -> str:
    """A level in dBFS as blocks and as a number; what is not known is nothing."""
    number = _finite(level)
    if number is None:
        return "░" * BLOCKS + "       dB"
    full = round(BLOCKS * min(1.0, max(0.0, 1 - number / QUIET)))
    return "█" * full + "░" * (BLOCKS - full) + f" {max(number, -99):5.0f} dB"


def clock(seconds: float) -> str:
    """How long somebody has talked: minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def figures(content: str, kind: str, statistics: Mapping[str, object]) -> dict[str, object]:
    """What GetStatistics says of one content, for ``--json``: what is not known is null, and so is
    what JSON has no number for.

    Args:
        content: its object path.
        kind: ``audio``, ``video``, or empty.
    """
    shown: dict[str, object] = {"content": content, "media": kind}
    for name in _FIGURES:
        value = statistics.get(name)
        shown[name.replace("-", "_")] = _finite(value) if isinstance(value, float) else value
    shown["loss"] = _share(statistics, "packets-lost", "packets-received", beside=True)
    shown["loss_there"] = _share(statistics, "packets-lost-there", "packets-sent", beside=False)
    return shown


_FIGURES: Final = (
    *("codec-sent", "codec-received", "packets-sent", "packets-received"),
    *("bytes-sent", "bytes-received", "packets-lost", "packets-lost-there"),
    *("jitter", "round-trip", "level-sent", "level-received"),
)


def figures_text(shown: Mapping[str, Any]) -> str:
    """``figures`` in one sentence for people."""
    codecs = " / ".join(
        f"{printable(str(shown[name]), 20)} {way}"
        for name, way in (("codec_sent", "out"), ("codec_received", "in"))
        if shown[name]
    )
    parts = [
        codecs,
        _percent("lost here", shown["loss"]),
        _percent("lost there", shown["loss_there"]),
        _milliseconds("jitter", shown["jitter"]),
        _milliseconds("round trip", shown["round_trip"]),
    ]
    return ", ".join(part for part in parts if part)


def _percent(name: str, share: float | None) -> str:
    return "" if share is None else f"{name} {share * 100:.1f} %"


def _milliseconds(name: str, seconds: float | None) -> str:
    return "" if seconds is None else f"{name} {seconds * 1000:.0f} ms"


def _share(
    statistics: Mapping[str, object], lost: str, others: str, *, beside: bool
) -> float | None:
    """Of all packets, those that were lost; ``beside``: the others do not count them."""
    part, rest = statistics.get(lost), statistics.get(others)
    if not isinstance(part, int) or not isinstance(rest, int):
        return None
    whole = rest + part if beside else rest
    # A peer's report can say anything.
    return min(1.0, part / whole) if whole else None


def _finite(value: object) -> float | None:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


# -- the end --------------------------------------------------------------------------------------

_SENTENCES: Final[Mapping[CallReason, str]] = {
    CallReason.FORWARDED: "{contact} took the call on another device.",
    CallReason.INVALID_CONTACT: "{contact} cannot be called.",
    CallReason.PERMISSION_DENIED: "The call was not allowed.",
    CallReason.BUSY: "{contact} is busy.",
    CallReason.NETWORK_ERROR: "The network broke the call off.",
    CallReason.MEDIA_ERROR: "The two programs agree on no sound or pictures.",
    CallReason.CONNECTIVITY_ERROR: "There is no way through the network between the two.",
}

_OF_ERROR: Final[Mapping[str, str]] = {
    "NotCapable": "No program of {contact} takes calls.",
    "Offline": "{contact} is not online.",
    "PickedUpElsewhere": "The call was taken on another device.",
    "EncryptionNotAvailable": "{contact}'s program cannot encrypt calls as this one does.",
    "EncryptionError": "The call was not safe, so it was ended.",
}


def ending(
    reason: Sequence[Any],
    *,
    own: int,
    contact: str,
    requested: bool,
    talked: bool,
    details: Mapping[str, object],
) -> Exit:
    """Why a call is over, with the exit code that fits.

    Args:
        reason: Call_State_Reason.
        own: handle of this side's user.
        contact: whom the call was with.
        requested: this side called.
        talked: there were sound or pictures.
        details: Call_State_Details.
    """
    actor, number, error, message = reason
    name = printable(contact)
    kind = CallReason(number) if number in set(CallReason) else CallReason.UNKNOWN
    code = _code(kind, error, talked=talked)
    text = _sentence(kind, error, here=actor == own, requested=requested, talked=talked)
    said = details.get("hangup-message")
    why = f' ("{printable(str(said))}")' if said else ""
    if not why and message and code != OK and kind is not CallReason.USER_REQUESTED:
        why = f" ({printable(str(message))})"
    return Exit(code, text.format(contact=name) + why, error)


def _code(kind: CallReason, error: str, *, talked: bool) -> int:
    if (code := code_of(error)) in (UNPROTECTED, UNVERIFIED):
        return code
    return OK if talked and kind is CallReason.USER_REQUESTED and not error else FAILED


def _sentence(kind: CallReason, error: str, *, here: bool, requested: bool, talked: bool) -> str:
    if error.startswith(TP_ERROR + "Cert."):
        return "{contact} was not verified, so the call was ended."
    if error.startswith(TP_ERROR) and error.removeprefix(TP_ERROR) in _OF_ERROR:
        return _OF_ERROR[error.removeprefix(TP_ERROR)]
    match kind:
        case CallReason.USER_REQUESTED if here:
            return "You hung up." if talked else "You hung up before the call was taken."
        case CallReason.USER_REQUESTED:
            return "{contact} hung up."
        case CallReason.REJECTED:
            return "The call was declined here." if here else "{contact} declined the call."
        case CallReason.NO_ANSWER if requested:
            return "{contact} does not answer."
        case CallReason.NO_ANSWER:
            return "{contact} gave up before the call was taken."
    return _SENTENCES.get(kind, "The call failed.")
