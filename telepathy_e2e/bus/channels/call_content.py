"""What is below a call: Call1.Content and Call1.Stream."""

from __future__ import annotations

from typing import Protocol

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import (
    AudioVolume,
    Byte,
    CallReason,
    HandleIdentifiers,
    Handles,
    NumberMap,
    Paths,
    Strings,
)
from telepathy_e2e.bus.wire import DBusBool, DBusStr, DBusUInt32
from telepathy_e2e.service import names


class Content(Protocol):
    """See ``service.call_content.CallContent``, whose docstrings hold."""

    interfaces: tuple[str, ...]

    async def remove(self) -> None: ...

    def start_tone(self, event: int) -> None: ...

    def stop_tone(self) -> None: ...

    def multiple_tones(self, tones: str) -> None: ...

    def report_input_volume(self, volume: int) -> None: ...

    def report_output_volume(self, volume: int) -> None: ...


class Stream(Protocol):
    """See ``service.call_content.CallStream``, whose docstrings hold."""

    interfaces: tuple[str, ...]

    async def set_sending(self, send: bool) -> None: ...

    async def request_receiving(self, contact: int, receive: bool) -> None: ...


class CallContentInterface(Interface):
    """``Call1.Content``."""

    name = names.CALL_CONTENT

    Interfaces = Property(Strings, attribute="interface_list")
    Name = Property(DBusStr, attribute="content_name")
    Type = Property(DBusUInt32)
    Disposition = Property(DBusUInt32)
    Streams = Property(Paths)

    StreamsAdded = Signal(Streams=Paths)
    StreamsRemoved = Signal(Streams=Paths, Reason=CallReason)

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._content = content

    @property
    def interface_list(self) -> list[str]:
        return list(self._content.interfaces)

    @property
    def content_name(self) -> str:
        return str(getattr(self._content, "name"))  # noqa: B009, ours is the interface's name

    @method("Remove")
    async def remove(self) -> None:
        await self._content.remove()


class CallDTMFInterface(Interface):
    """``Call1.Content.Interface.DTMF``."""

    name = names.CALL_DTMF

    CurrentlySendingTones = Property(DBusBool, signals_changes=True)
    DeferredTones = Property(DBusStr, signals_changes=True)

    TonesDeferred = Signal(Tones=DBusStr)
    SendingTones = Signal(Tones=DBusStr)
    StoppedTones = Signal(Cancelled=DBusBool)

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._content = content

    @method("StartTone")
    def start_tone(self, Event: Byte) -> None:
        self._content.start_tone(Event)

    @method("StopTone")
    def stop_tone(self) -> None:
        self._content.stop_tone()

    @method("MultipleTones")
    def multiple_tones(self, Tones: DBusStr) -> None:
        self._content.multiple_tones(Tones)


class CallAudioControlInterface(Interface):
    """``Call1.Content.Interface.AudioControl``.

    In the specification a client that carries the media tells the connection manager of its
    volume. Here the connection manager carries them, and what a client reports is what it gets.
    """

    name = names.CALL_AUDIO_CONTROL

    RequestedInputVolume = Property(AudioVolume, signals_changes=True)
    RequestedOutputVolume = Property(AudioVolume, signals_changes=True)

    def __init__(self, content: Content) -> None:
        super().__init__(content)
        self._content = content

    @method("ReportInputVolume")
    def report_input_volume(self, Volume: AudioVolume) -> None:
        self._content.report_input_volume(Volume)

    @method("ReportOutputVolume")
    def report_output_volume(self, Volume: AudioVolume) -> None:
        self._content.report_output_volume(Volume)


class CallStreamInterface(Interface):
    """``Call1.Stream``."""

    name = names.CALL_STREAM

    Interfaces = Property(Strings, attribute="interface_list")
    RemoteMembers = Property(NumberMap)
    RemoteMemberIdentifiers = Property(HandleIdentifiers)
    LocalSendingState = Property(DBusUInt32)
    CanRequestReceiving = Property(DBusBool)

    RemoteMembersChanged = Signal(
        Updates=NumberMap, Identifiers=HandleIdentifiers, Removed=Handles, Reason=CallReason
    )
    LocalSendingStateChanged = Signal(State=DBusUInt32, Reason=CallReason)

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._stream = stream

    @property
    def interface_list(self) -> list[str]:
        return list(self._stream.interfaces)

    @method("SetSending")
    async def set_sending(self, Send: DBusBool) -> None:
        await self._stream.set_sending(Send)

    @method("RequestReceiving")
    async def request_receiving(self, Contact: DBusUInt32, Receive: DBusBool) -> None:
        await self._stream.request_receiving(Contact, Receive)
