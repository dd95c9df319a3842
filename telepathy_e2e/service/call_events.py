"""What calls tell: the signals of Call1 and of the objects below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from telepathy_e2e.service import names
from telepathy_e2e.service.events import ChannelEvent

# (actor, reason, error, message): Call_State_Reason.
ReasonStruct = tuple[int, int, str, str]


@dataclass(frozen=True)
class CallStateChanged(ChannelEvent):
    interface = names.CALL

    call_state: int
    call_flags: int
    call_state_reason: ReasonStruct
    call_state_details: Mapping[str, object]


@dataclass(frozen=True)
class CallMembersChanged(ChannelEvent):
    interface = names.CALL

    flags_changed: Mapping[int, int]
    identifiers: Mapping[int, str]
    removed: tuple[int, ...]
    reason: ReasonStruct


@dataclass(frozen=True)
class ContentAdded(ChannelEvent):
    interface = names.CALL

    content: str


@dataclass(frozen=True)
class ContentRemoved(ChannelEvent):
    interface = names.CALL

    content: str
    reason: ReasonStruct


@dataclass(frozen=True)
class HoldStateChanged(ChannelEvent):
    interface = names.HOLD

    hold_state: int
    reason: int


@dataclass(frozen=True)
class MuteStateChanged(ChannelEvent):
    interface = names.CALL_MUTE

    mute_state: int


@dataclass(frozen=True)
class LocalSendingStateChanged(ChannelEvent):
    interface = names.CALL_STREAM

    state: int
    reason: ReasonStruct


@dataclass(frozen=True)
class RemoteMembersChanged(ChannelEvent):
    interface = names.CALL_STREAM

    updates: Mapping[int, int]
    identifiers: Mapping[int, str]
    removed: tuple[int, ...]
    reason: ReasonStruct


@dataclass(frozen=True)
class TonesDeferred(ChannelEvent):
    interface = names.CALL_DTMF

    tones: str


@dataclass(frozen=True)
class SendingTones(ChannelEvent):
    interface = names.CALL_DTMF

    tones: str


@dataclass(frozen=True)
class StoppedTones(ChannelEvent):
    interface = names.CALL_DTMF

    cancelled: bool


@dataclass(frozen=True)
class MediaLost(ChannelEvent):
    """CallMedia1.MediaLost: a source or a sink is gone; the call goes on without it."""

    interface = names.CALL_MEDIA

    content: str
    what: str
    message: str
