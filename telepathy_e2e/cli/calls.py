"""A call as its channel shows it, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import BusError, typed
from telepathy_e2e.cli.call_words import ending
from telepathy_e2e.cli.exits import FAILED, Exit
from telepathy_e2e.cli.names import CALL, CallReason, CallState
from telepathy_e2e.cli.views import ChannelView
from telepathy_e2e.cli.words import printable


@dataclass(frozen=True)
class Media:
    """Where sound and pictures come from and go to; None: as the account says.

    The words are those of CallMedia1, paths made absolute.
    """

    audio_source: str | None = None
    audio_sink: str | None = None
    video_source: str | None = None
    video_sink: str | None = None

    @classmethod
    def of(cls, arguments: Any) -> Media:
        """From the command line."""
        fields = cls.__dataclass_fields__
        return cls(**{name: _absolute(getattr(arguments, name)) for name in fields})

    async def choose(self, channel: ChannelView) -> None:
        """Tell the daemon. Raises: BusError: it knows no such source or sink."""
        for field in self.__dataclass_fields__:
            if (value := getattr(self, field)) is not None:
                name = "".join(part.capitalize() for part in field.split("_"))
                await channel.set(names.CALL_MEDIA, name, typed("s", value))

    def or_as(self, shown: Mapping[str, Any]) -> Media:
        """With what CallMedia1 shows where nothing was chosen."""
        chosen = {}
        for field in self.__dataclass_fields__:
            name = "".join(part.capitalize() for part in field.split("_"))
            chosen[field] = getattr(self, field) or shown.get(name)
        return Media(**chosen)


# Nothing is heard, seen, played or kept.
NOTHING: Final = Media("silence", "null", "null", "null")


def _absolute(choice: str | None) -> str | None:
    """The daemon is in another directory than whoever types a path."""
    kind, colon, path = (choice or "").partition(":")
    if colon and path and kind in ("file", "unix"):
        return f"{kind}:{Path.cwd() / path}"
    return choice


def is_over(channel: ChannelView) -> bool:
    """Whether a call has ended, or is gone."""
    return channel.closed or channel.get(CALL, "CallState") == CallState.ENDED


def state_of(channel: ChannelView) -> int:
    """Call_State."""
    return int(channel.get(CALL, "CallState", CallState.UNKNOWN))


async def prepare(channel: ChannelView, media: Media, *, muted: bool) -> None:
    """What is wanted of the media, before anything is heard.

    Raises:
        BusError: there is no such source or sink.
    """
    await media.choose(channel)
    if muted:
        await channel.call(names.CALL_MUTE, "RequestMuted", "b", True)


async def hang_up(channel: ChannelView, reason: CallReason = CallReason.USER_REQUESTED) -> None:
    """Call1.Hangup; nothing happens if it is over."""
    try:
        await channel.call(CALL, "Hangup", "uss", int(reason), "", "")
    except BusError as error:
        if not error.error.endswith((".NotAvailable", ".UnknownObject", ".UnknownMethod")):
            raise


@dataclass(frozen=True)
class Seen:
    """What is said whenever it changes."""

    state: int = CallState.UNKNOWN
    ringing: bool = False
    held_here: bool = False
    held_there: bool = False
    muted: bool = False

    @classmethod
    def of(cls, channel: ChannelView) -> Seen:
        members = channel.get(CALL, "CallMembers") or {}
        theirs = 0
        for flags in members.values():
            theirs |= flags
        return cls(
            state=state_of(channel),
            ringing=bool(theirs & names.MEMBER_RINGING),
            held_here=bool(channel.get(CALL, "CallFlags", 0) & names.LOCALLY_HELD),
            held_there=bool(theirs & names.MEMBER_HELD),
            # Partly muted is not: nobody may rely on silence because of a camera that is off.
            muted=channel.get(names.CALL_MUTE, "LocalMuteState", 0) == names.MUTED,
        )

    def news(self, before: Seen, contact: str) -> Iterator[tuple[str, str, dict[str, object]]]:
        """Event, sentence and fields of all that is not as before."""
        if self.ringing and not before.ringing:
            yield "ringing", f"It rings at {contact}'s.", {}
        if self.state != before.state:
            if self.state == CallState.ACCEPTED and before.state == CallState.ACTIVE:
                yield "interrupted", "Nothing is heard for now; another way is looked for …", {}
            elif self.state == CallState.ACCEPTED:
                yield "accepted", "The call was taken; looking for the way …", {}
            elif self.state == CallState.ACTIVE:
                yield "talking", f"You can talk to {contact} now.", {}
        if self.held_here != before.held_here:
            text = "The call is on hold." if self.held_here else "The call goes on."
            yield "held", text, {"by": "here", "held": self.held_here}
        if self.held_there != before.held_there:
            text = "put you on hold" if self.held_there else "is back"
            yield "held", f"{contact} {text}.", {"by": "there", "held": self.held_there}
        if self.muted != before.muted:
            text = "You are muted." if self.muted else "You are heard again."
            yield "muted", text, {"muted": self.muted}


def how_it_ended(channel: ChannelView, *, talked: bool) -> Exit:
    """The end of a call that is over."""
    if state_of(channel) != CallState.ENDED:
        return Exit(FAILED, f"The call with {printable(channel.target)} is gone.")
    return ending(
        tuple(channel.get(CALL, "CallStateReason") or (0, 0, "", "")),
        own=channel.connection.values.get("SelfHandle", 0),
        contact=channel.target,
        requested=channel.requested,
        talked=talked,
        details=channel.get(CALL, "CallStateDetails") or {},
    )
