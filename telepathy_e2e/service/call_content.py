"""Contents and streams of a call, as Telepathy shows them (Call1.Content, Call1.Stream)."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotAvailable
from telepathy_e2e.role import Role
from telepathy_e2e.service import names
from telepathy_e2e.service.call_events import (
    LocalSendingStateChanged,
    MuteStateChanged,
    RemoteMembersChanged,
    SendingTones,
    StoppedTones,
    TonesDeferred,
)
from telepathy_e2e.service.call_words import MediaType, Mute, Reason, Sending, StateReason
from telepathy_e2e.service.events import Changed, ChannelEvent, Emitter
from telepathy_e2e.tasks import TaskOwner

INITIAL, ADDED = 1, 0  # Call_Content_Disposition

# Audio_Control_Volume: as loud as it is, and "unknown".
FULL_VOLUME, UNKNOWN_VOLUME = 255, -1

# Keys of MultipleTones in the order of DTMF_Event; p waits, w waits for the user.
KEYS: Final = "0123456789*#ABCD"
PAUSE, WAIT = "pP,", "wW"
# Seconds: RFC 4733 wants 40 ms at least, and people's telephones send 100.
TONE, GAP, PAUSE_TIME = 0.1, 0.1, 3.0
# A telephone number with an extension, and a PIN behind it.
MAX_TONES = 256


class Owner(Protocol):
    """What a content asks of its call."""

    target_handle: int
    target_id: str
    self_handle: int
    tasks: TaskOwner

    @property
    def role(self) -> Role:
        """Of this side in the session."""

    def check_accepted(self) -> None:
        """Raises: NotYet: the user has not placed or taken the call."""

    async def set_direction(self, content: CallContent) -> None:
        """Let the peer know what ``wants_sending`` and ``wants_receiving`` are now."""

    async def remove_content(self, content: CallContent) -> None: ...

    def send_tone(self, content: CallContent, event: int, milliseconds: int) -> None: ...

    def mute_changed(self, content: CallContent) -> None: ...

    def volume_changed(self, content: CallContent) -> None: ...


class CallStream:
    """The only stream of a content: with the contact whom the call is with."""

    interfaces: tuple[str, ...] = ()
    object_interface = names.CALL_STREAM

    def __init__(self, content: CallContent, sending: Sending, receiving: Sending) -> None:
        self._content = content
        self.object_path = content.object_path + "/Stream"
        self.events: Emitter[ChannelEvent] = Emitter()
        self.local_sending_state = int(sending)
        self.can_request_receiving = True
        self._receiving = receiving
        self.objects: tuple[CallStream, ...] = ()

    @property
    def remote_members(self) -> dict[int, int]:
        return {self._content.owner.target_handle: int(self._receiving)}

    @property
    def remote_member_identifiers(self) -> dict[int, str]:
        return {self._content.owner.target_handle: self._content.owner.target_id}

    async def set_sending(self, send: bool) -> None:
        """Stream.SetSending.

        Raises:
            NotYet: the call was not accepted, which is what begins it.
        """
        if send:
            self._content.owner.check_accepted()
        self._content.wants_sending = send
        reason = StateReason(self._content.owner.self_handle, Reason.USER_REQUESTED)
        # First of all: nothing more is sent, whatever comes of telling the contact.
        self.sending(Sending.SENDING if send else Sending.NONE, reason)
        await self._content.owner.set_direction(self._content)

    async def request_receiving(self, contact: int, receive: bool) -> None:
        """Stream.RequestReceiving.

        Raises:
            InvalidHandle: not the contact of this call.
        """
        if contact != self._content.owner.target_handle:
            raise InvalidHandle("This contact is not in the call")
        self._content.wants_receiving = receive
        reason = StateReason(self._content.owner.self_handle, Reason.USER_REQUESTED)
        self.contact_sends(receive, reason)
        await self._content.owner.set_direction(self._content)

    def asked_to_send(self, send: bool, reason: StateReason) -> None:
        """The contact wants, or does not want, what we send: only users begin."""
        if not send:
            self.sending(Sending.NONE, reason)
        elif self.local_sending_state == Sending.NONE:
            self.sending(Sending.PENDING_SEND, reason)

    def contact_sends(self, sends: bool, reason: StateReason) -> None:
        """The contact says so; whether it is true is heard."""
        if not sends:
            self.receiving(Sending.NONE, reason)
        elif self._receiving == Sending.NONE:
            self.receiving(Sending.PENDING_SEND, reason)

    def sending(self, state: Sending, reason: StateReason) -> None:
        """What we send changed."""
        if state != self.local_sending_state:
            self.local_sending_state = int(state)
            self.events.emit(LocalSendingStateChanged(int(state), reason.struct()))

    def receiving(self, state: Sending, reason: StateReason) -> None:
        """What the contact sends changed."""
        if state != self._receiving:
            self._receiving = state
            self.events.emit(
                RemoteMembersChanged(
                    self.remote_members, self.remote_member_identifiers, (), reason.struct()
                )
            )


class CallContent:
    """One content.

    Args:
        key: (creator, name) of the Jingle content.
        disposition: ``INITIAL`` or ``ADDED``.
        wants_sending, wants_receiving: what this side wants.
        muted: as the call is.
    """

    object_interface = names.CALL_CONTENT

    def __init__(
        self,
        owner: Owner,
        object_path: str,
        key: tuple[str, str],
        name: str,
        media: MediaType,
        disposition: int,
        *,
        wants_sending: bool = True,
        wants_receiving: bool = True,
        pending: bool = False,
        muted: bool = False,
    ) -> None:
        self.owner = owner
        self.object_path = object_path
        self.key = key
        self.name = name
        self.type = int(media)
        self.media = media
        self.disposition = disposition
        self.wants_sending = wants_sending
        self.wants_receiving = wants_receiving
        self.interfaces: tuple[str, ...] = (names.CALL_MUTE,)
        if media is MediaType.AUDIO:
            self.interfaces += (names.CALL_DTMF, names.CALL_AUDIO_CONTROL)
        self.local_mute_state = Mute.MUTED if muted else Mute.UNMUTED
        self.requested_input_volume = self.requested_output_volume = FULL_VOLUME
        self.events: Emitter[ChannelEvent] = Emitter()
        own = Sending.PENDING_SEND if pending or wants_sending else Sending.NONE
        self.stream = CallStream(
            self, own, Sending.PENDING_SEND if wants_receiving else Sending.NONE
        )
        self.objects = (self.stream,)
        self.streams = [self.stream.object_path]
        self.currently_sending_tones = False
        self.deferred_tones = ""
        self._tones: asyncio.Task[None] | None = None

    def directions(self, *, sends: bool, receives: bool, reason: StateReason) -> None:
        """Who may send is agreed anew, because the contact says so."""
        self.wants_sending, self.wants_receiving = sends, receives
        self.stream.asked_to_send(sends, reason)
        self.stream.contact_sends(receives, reason)

    async def remove(self) -> None:
        """Content.Remove."""
        await self.owner.remove_content(self)

    # -- ``call_media.Wishes`` -------------------------------------------------------------------

    @property
    def sends(self) -> bool:
        return self.stream.local_sending_state == Sending.SENDING

    @property
    def muted(self) -> bool:
        return self.local_mute_state is Mute.MUTED

    @property
    def volumes(self) -> tuple[int, int]:
        return self.requested_input_volume, self.requested_output_volume

    # -- mute and volume -------------------------------------------------------------------------

    def request_muted(self, muted: bool) -> None:
        """Mute.RequestMuted, of this content alone."""
        state = Mute.MUTED if muted else Mute.UNMUTED
        if state != self.local_mute_state:
            self.local_mute_state = state
            self.events.emit(MuteStateChanged(int(state)))
            self.owner.mute_changed(self)

    def report_input_volume(self, volume: int) -> None:
        """AudioControl.ReportInputVolume: what is captured goes out so loud from now on.

        Args:
            volume: 0 to 255, or -1 for one that the client does not know: it stays then.
        Raises:
            InvalidArgument: no volume.
        """
        if _is_news(volume, self.requested_input_volume):
            self.requested_input_volume = volume
            self._volume_changed("RequestedInputVolume")

    def report_output_volume(self, volume: int) -> None:
        """AudioControl.ReportOutputVolume: what the contact says is played so loud.

        Args, Raises: as ``report_input_volume``.
        """
        if _is_news(volume, self.requested_output_volume):
            self.requested_output_volume = volume
            self._volume_changed("RequestedOutputVolume")

    def _volume_changed(self, name: str) -> None:
        self.owner.volume_changed(self)
        self.events.emit(Changed(names.CALL_AUDIO_CONTROL, (name,)))

    # -- DTMF ------------------------------------------------------------------------------------

    def start_tone(self, event: int) -> None:
        """DTMF.StartTone: until StopTone, or for as long as a key is pressed at most.

        Raises:
            InvalidArgument: no such key.
            NotAvailable: other tones are sent, or the contact takes none.
        """
        if not 0 <= event < len(KEYS):
            raise InvalidArgument("There is no such key")
        self._check_idle()
        self._play(KEYS[event])

    def stop_tone(self) -> None:
        """DTMF.StopTone."""
        if self._tones is not None:
            self._tones.cancel()

    def multiple_tones(self, tones: str) -> None:
        """DTMF.MultipleTones.

        Raises:
            InvalidArgument: keys that there are not, or too many.
            NotAvailable: others are sent, or the contact takes none.
        """
        if len(tones) > MAX_TONES or any(
            each.upper() not in KEYS + PAUSE + WAIT.upper() for each in tones
        ):
            raise InvalidArgument("Keys are 0 to 9, *, #, A to D, p and w")
        self._check_idle()
        self._play(tones)

    def _check_idle(self) -> None:
        if self.currently_sending_tones:
            raise NotAvailable("Tones are being sent already")

    def _play(self, tones: str) -> None:
        # The first is tried here, so that the caller hears if the contact takes none.
        played = tones[:1]
        if played and played.upper() in KEYS:
            self._press(played)
        self.currently_sending_tones = True
        now, _, later = _split(tones)
        self._defer(later)
        self.events.emit(SendingTones(now))
        self._changed("CurrentlySendingTones")
        self._tones = self.owner.tasks.start("tones", self._sequence(now))
        self._tones.add_done_callback(self._stopped)

    async def _sequence(self, tones: str) -> None:
        for index, tone in enumerate(tones):
            if tone in PAUSE:
                await asyncio.sleep(PAUSE_TIME)
                continue
            if index:
                self._press(tone)
            await asyncio.sleep(TONE + GAP)

    def _press(self, tone: str) -> None:
        self.owner.send_tone(self, KEYS.index(tone.upper()), int(TONE * 1000))

    def _stopped(self, task: asyncio.Task[None]) -> None:
        self._tones = None
        self.currently_sending_tones = False
        self.events.emit(StoppedTones(task.cancelled()))
        self._changed("CurrentlySendingTones")

    def _defer(self, tones: str) -> None:
        if tones != self.deferred_tones:
            self.deferred_tones = tones
            if tones:
                self.events.emit(TonesDeferred(tones))
            self._changed("DeferredTones")

    def _changed(self, name: str) -> None:
        self.events.emit(Changed(names.CALL_DTMF, (name,)))


def _is_news(volume: int, before: int) -> bool:
    """Raises: InvalidArgument: no volume."""
    if not UNKNOWN_VOLUME <= volume <= FULL_VOLUME:
        raise InvalidArgument("A volume is 0 to 255, or -1 for one that is not known")
    return volume not in (UNKNOWN_VOLUME, before)


def _split(tones: str) -> tuple[str, str, str]:
    """Before the first key that waits for the user, and after it."""
    for index, tone in enumerate(tones):
        if tone in WAIT:
            return tones[:index], tone, tones[index + 1 :]
    return tones, "", ""
