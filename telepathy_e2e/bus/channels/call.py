"""Channel.Type.Call1, with what is beside it on a call's channel."""

from __future__ import annotations

from typing import Any, Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import (
    CallReason,
    CallStatistics,
    HandleIdentifiers,
    Handles,
    HoldState,
    NumberMap,
    Paths,
)
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import (
    DBusBool,
    DBusDict,
    DBusObjectPath,
    DBusStr,
    DBusUInt32,
    Variant,
)
from telepathy_e2e.service import names


class CallChannel(Protocol):
    """See ``service.call_channel.Call``, whose docstrings hold."""

    call_state_details: dict[str, object]

    def set_ringing(self) -> None: ...

    def set_queued(self) -> None: ...

    def accept(self) -> None: ...

    def hangup(self, reason: int, detailed: str, message: str) -> None: ...

    async def add_content(self, name: str, kind: int, direction: int) -> str: ...

    def get_hold_state(self) -> tuple[int, int]: ...

    def request_hold(self, hold: bool) -> None: ...

    def choose(self, which: str, value: str) -> None: ...

    async def get_statistics(self) -> dict[str, dict[str, object]]: ...


class CallInterface(Interface):
    """``Channel.Type.Call1``."""

    name = names.CALL

    Contents = Property(Paths)
    CallStateDetails = Property(DBusDict, attribute="details")
    CallState = Property(DBusUInt32)
    CallFlags = Property(DBusUInt32)
    CallStateReason = Property(CallReason)
    HardwareStreaming = Property(DBusBool)
    CallMembers = Property(NumberMap)
    MemberIdentifiers = Property(HandleIdentifiers)
    InitialTransport = Property(DBusUInt32)
    InitialAudio = Property(DBusBool)
    InitialVideo = Property(DBusBool)
    InitialAudioName = Property(DBusStr)
    InitialVideoName = Property(DBusStr)
    MutableContents = Property(DBusBool)

    ContentAdded = Signal(Content=DBusObjectPath)
    ContentRemoved = Signal(Content=DBusObjectPath, Reason=CallReason)
    CallStateChanged = Signal(
        Call_State=DBusUInt32,
        Call_Flags=DBusUInt32,
        Call_State_Reason=CallReason,
        Call_State_Details=DBusDict,
    )
    CallMembersChanged = Signal(
        Flags_Changed=NumberMap, Identifiers=HandleIdentifiers, Removed=Handles, Reason=CallReason
    )

    def __init__(self, call: CallChannel) -> None:
        super().__init__(call)
        self._call = call

    @property
    def details(self) -> dict[str, Variant]:
        return _details(self._call.call_state_details)

    def tell(self, event: Any) -> None:
        if type(event).__name__ == "CallStateChanged":
            self.CallStateChanged(
                event.call_state,
                event.call_flags,
                event.call_state_reason,
                _details(event.call_state_details),
            )
        else:
            super().tell(event)

    @method("SetRinging")
    def set_ringing(self) -> None:
        self._call.set_ringing()

    @method("SetQueued")
    def set_queued(self) -> None:
        self._call.set_queued()

    @method("Accept")
    def accept(self) -> None:
        self._call.accept()

    @method("Hangup")
    def hangup(self, Reason: DBusUInt32, Detailed_Hangup_Reason: DBusStr, Message: DBusStr) -> None:
        self._call.hangup(Reason, Detailed_Hangup_Reason, Message)

    @method("AddContent")
    async def add_content(
        self, Content_Name: DBusStr, Content_Type: DBusUInt32, InitialDirection: DBusUInt32
    ) -> DBusObjectPath:
        return await self._call.add_content(Content_Name, Content_Type, InitialDirection)


class HoldInterface(Interface):
    """``Channel.Interface.Hold``."""

    name = names.HOLD

    HoldStateChanged = Signal(HoldState=DBusUInt32, Reason=DBusUInt32)

    def __init__(self, call: CallChannel) -> None:
        super().__init__(call)
        self._call = call

    @method("GetHoldState")
    def get_hold_state(self) -> HoldState:
        return self._call.get_hold_state()

    @method("RequestHold")
    def request_hold(self, Hold: DBusBool) -> None:
        self._call.request_hold(Hold)


class Mutable(Protocol):
    """A call, or a content of one."""

    def request_muted(self, muted: bool) -> None: ...


class CallMuteInterface(Interface):
    """``Call1.Interface.Mute``."""

    name = names.CALL_MUTE

    LocalMuteState = Property(DBusUInt32)
    MuteStateChanged = Signal(MuteState=DBusUInt32)

    def __init__(self, muted: Mutable) -> None:
        super().__init__(muted)
        self._muted = muted

    @method("RequestMuted")
    def request_muted(self, Muted: DBusBool) -> None:
        self._muted.request_muted(Muted)


class CallMediaInterface(Interface):
    """``Channel.Interface.CallMedia1`` (spec/Channel_Interface_Call_Media1.xml)."""

    name = names.CALL_MEDIA

    AudioSource = Property(DBusStr, setter="set_audio_source", signals_changes=True)
    AudioSink = Property(DBusStr, setter="set_audio_sink", signals_changes=True)
    VideoSource = Property(DBusStr, setter="set_video_source", signals_changes=True)
    VideoSink = Property(DBusStr, setter="set_video_sink", signals_changes=True)

    MediaLost = Signal(Content=DBusObjectPath, What=DBusStr, Message=DBusStr)

    def __init__(self, call: CallChannel) -> None:
        super().__init__(call)
        self._call = call

    def set_audio_source(self, value: str) -> None:
        self._call.choose("call-audio-source", value)

    def set_audio_sink(self, value: str) -> None:
        self._call.choose("call-audio-sink", value)

    def set_video_source(self, value: str) -> None:
        self._call.choose("call-video-source", value)

    def set_video_sink(self, value: str) -> None:
        self._call.choose("call-video-sink", value)

    @method("GetStatistics")
    async def get_statistics(self) -> CallStatistics:
        return {
            path: {name: _figure(value) for name, value in figures.items()}
            for path, figures in (await self._call.get_statistics()).items()
        }


def _figure(value: object) -> Variant:
    match value:
        case int():
            return variant("t", value)
        case float():
            return variant("d", value)
        case _:
            return variant("s", str(value))


def _details(details: dict[str, object]) -> dict[str, Variant]:
    return {name: variant("s", str(value)) for name, value in details.items()}
