"""A call as a channel (Telepathy, Channel.Type.Call1): its states, its contents, its end.

Who is called and which client answers is in ``call_ways`` (a session offered at once, or announced
by messages to all devices); ``call_dialogue`` is the session that comes of it, with its media.
Nothing but ``_end`` ends a call.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from telepathy_e2e.errors import (
    Cancelled,
    Disconnected,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    NotCapable,
    NotYet,
    PeerError,
    TelepathyError,
    Terminated,
)
from telepathy_e2e.jingle import events as jingle
from telepathy_e2e.jingle import rtp_info
from telepathy_e2e.jingle.call_negotiation import senders_for
from telepathy_e2e.role import Role
from telepathy_e2e.service import names
from telepathy_e2e.service.call_content import INITIAL, CallContent
from telepathy_e2e.service.call_contents import Contents
from telepathy_e2e.service.call_ends import End, end_of
from telepathy_e2e.service.call_events import (
    CallMembersChanged,
    CallStateChanged,
    HoldStateChanged,
    MediaLost,
)
from telepathy_e2e.service.call_media import MediaChoice
from telepathy_e2e.service.call_security import CallSecurity
from telepathy_e2e.service.call_words import (
    Direction,
    Flags,
    MediaType,
    MemberFlags,
    Reason,
    Sending,
    State,
    StateReason,
    condition_of,
    ended_by_peer,
    of_error,
)
from telepathy_e2e.service.events import Changed
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.protected import ProtectedChannel
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.call_dialogue import Dialogue
    from telepathy_e2e.service.call_legs import Leg
    from telepathy_e2e.service.call_ways import Way

log = logging.getLogger(__name__)

Key = tuple[str, str]

UNHELD, HELD = 0, 1  # Local_Hold_State
HOLD_REQUESTED = 1  # Local_Hold_State_Reason

MAX_MESSAGE = 1024


class Call(ProtectedChannel):
    """One call with one contact.

    Args:
        way: how the contact is reached, or has reached us.
        initial: name and kind of the contents that it begins with.
    """

    channel_type = names.CALL
    interfaces = (
        names.SECURABLE,
        names.END_TO_END_SECURITY,
        names.HOLD,
        names.CALL_MUTE,
        names.CALL_MEDIA,
    )

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        demands: Demands,
        initial: Mapping[str, MediaType],
        replaces: str = "/",
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            requested=requested,
            replaces=replaces,
        )
        self._account = account
        self.security: CallSecurity = CallSecurity(account, self, demands)
        self.tasks = TaskOwner(object_path)
        self.self_handle = account.self_handle
        self.hardware_streaming = True
        self.mutable_contents = True
        self.initial_transport = 0
        kinds = {kind: name for name, kind in initial.items()}
        self.initial_audio = MediaType.AUDIO in kinds
        self.initial_video = MediaType.VIDEO in kinds
        self.initial_audio_name = kinds.get(MediaType.AUDIO, "")
        self.initial_video_name = kinds.get(MediaType.VIDEO, "")
        self.state = State.PENDING_INITIATOR if requested else State.INITIALISED
        self.flags = Flags(0)
        self.reason = StateReason(self.initiator_handle)
        self.call_state_details: dict[str, object] = {}
        self._member_flags = MemberFlags(0)
        self._contents = Contents(self, object_path, self.events)
        self.choice = MediaChoice(account.parameters, self._contents.get)
        self._way: Way | None = None
        self._dialogue: Dialogue | None = None
        self._link: Link | None = None
        for name, kind in initial.items():
            self._contents.make(("initiator", name), name, kind, INITIAL, pending=not requested)

    # -- properties -------------------------------------------------------------------------

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.CALL + "."
        shown[prefix + "HardwareStreaming"] = self.hardware_streaming
        shown[prefix + "InitialTransport"] = self.initial_transport
        shown[prefix + "InitialAudio"] = self.initial_audio
        shown[prefix + "InitialVideo"] = self.initial_video
        shown[prefix + "InitialAudioName"] = self.initial_audio_name
        shown[prefix + "InitialVideoName"] = self.initial_video_name
        shown[prefix + "MutableContents"] = self.mutable_contents
        return shown

    @property
    def objects(self) -> list[CallContent]:
        """What is below this channel on the bus."""
        return list(self._contents)

    @property
    def contents(self) -> list[str]:
        return [each.object_path for each in self._contents]

    @property
    def local_mute_state(self) -> int:
        return int(self._contents.mute)

    @property
    def call_state(self) -> int:
        return int(self.state)

    @property
    def call_flags(self) -> int:
        return int(self.flags)

    @property
    def call_state_reason(self) -> tuple[int, int, str, str]:
        return self.reason.struct()

    @property
    def call_members(self) -> dict[int, int]:
        return {} if self.state is State.ENDED else {self.target_handle: int(self._member_flags)}

    @property
    def member_identifiers(self) -> dict[int, str]:
        return {} if self.state is State.ENDED else {self.target_handle: self.target_id}

    @property
    def is_answered(self) -> bool:
        """Whether both want it."""
        return self.state in (State.ACCEPTED, State.ACTIVE)

    @property
    def dialogue(self) -> Dialogue | None:
        """The session with the contact's client, once there is one."""
        return self._dialogue

    # -- what clients call ------------------------------------------------------------------

    def set_ringing(self) -> None:
        """Call1.SetRinging.

        Raises:
            InvalidArgument: an outgoing call.
            NotAvailable: too late.
        """
        self._check_incoming("ring")
        if not self.flags & Flags.LOCALLY_RINGING:
            if self._way is not None:
                self._way.ringing()
            self._set_flags(self.flags | Flags.LOCALLY_RINGING)

    def set_queued(self) -> None:
        """Call1.SetQueued. Raises: as ``set_ringing``."""
        self._check_incoming("wait")
        self._set_flags(self.flags | Flags.LOCALLY_QUEUED)

    def _check_incoming(self, what: str) -> None:
        if self.requested:
            raise InvalidArgument(f"An outgoing call does not {what} here")
        if self.state is not State.INITIALISED:
            raise NotAvailable("The call is past that")

    def accept(self) -> None:
        """Call1.Accept: call the contact, or take the contact's call.

        Raises:
            NotAvailable: done already, or over.
        """
        if self._way is None or self.state not in (
            (State.PENDING_INITIATOR,) if self.requested else (State.INITIALISED,)
        ):
            raise NotAvailable("This call cannot be accepted now")
        by_user = StateReason(self.self_handle, Reason.USER_REQUESTED)
        for content in self._contents:
            asked = content.stream.local_sending_state == Sending.PENDING_SEND
            if asked and content.disposition == INITIAL:
                content.stream.sending(Sending.SENDING, by_user)
        if self.requested:
            self._set_state(State.INITIALISING, by_user)
            self._start(self._way.place())
        else:
            self.flags = Flags(0)
            self._set_state(State.ACCEPTED, by_user)
            self._start(self._way.take())

    def hangup(self, reason: int, detailed: str, message: str) -> None:
        """Call1.Hangup.

        Args:
            reason: Call_State_Change_Reason.
            detailed: a D-Bus error name, or empty.
            message: for the contact.
        Raises:
            NotAvailable: over already.
            InvalidArgument: no such reason.
        """
        if self.state is State.ENDED:
            raise NotAvailable("The call has ended")
        try:
            why = Reason(reason)
        except ValueError:
            raise InvalidArgument("There is no such reason") from None
        answered = self.state in (State.ACCEPTED, State.ACTIVE) and self._link is not None
        condition = condition_of(why, answered=answered, incoming=not self.requested)
        if detailed.rpartition(".")[2] in ("Cancelled", "Terminated"):
            detailed = ""  # "SHOULD NOT be used here" (Call_State_Reason)
        said = StateReason(self.self_handle, why or Reason.USER_REQUESTED, detailed)
        details: dict[str, object] = {"hangup-message": message} if message else {}
        self._end(said, Cancelled("The call was ended here"), condition, message, details)

    async def add_content(self, name: str, kind: int, direction: int) -> str:
        """Call1.AddContent: the new content's object path.

        Raises:
            InvalidArgument: no such type or direction.
            NotAvailable: the call is not going on.
            NotCapable: there are too many.
        """
        try:
            media, wanted = MediaType(kind), Direction(direction)
        except ValueError:
            raise InvalidArgument("There is no such type or direction") from None
        dialogue = self._dialogue
        if dialogue is None or self.state not in (State.ACCEPTED, State.ACTIVE):
            raise NotAvailable("Contents can be added once the contact has taken the call")
        if self._contents.full:
            raise NotCapable("There are too many contents in this call")
        content = self._contents.make_ours(
            dialogue.role,
            name,
            media,
            sends=bool(wanted & Direction.SEND),
            receives=bool(wanted & Direction.RECEIVE),
        )
        if wanted & Direction.SEND:
            content.stream.sending(
                Sending.SENDING, StateReason(self.self_handle, Reason.USER_REQUESTED)
            )
        try:
            await dialogue.add(content.key[1], media, self._senders(content))
        except TelepathyError:
            self._contents.take_back(content)
            raise
        self._contents.show(content)
        return content.object_path

    def request_hold(self, hold: bool) -> None:
        """Hold.RequestHold.

        Raises:
            NotAvailable: the call is not going on.
        """
        if self._dialogue is None or self.state not in (State.ACCEPTED, State.ACTIVE):
            raise NotAvailable("The call is not going on")
        if hold != bool(self.flags & Flags.LOCALLY_HELD):
            self._dialogue.hold(hold)
            self._dialogue.info(rtp_info.build(rtp_info.Hold() if hold else rtp_info.Unhold()))
            self._set_flags(self.flags ^ Flags.LOCALLY_HELD)
            self.events.emit(HoldStateChanged(*self.get_hold_state()))

    def get_hold_state(self) -> tuple[int, int]:
        """Hold.GetHoldState."""
        return (HELD if self.flags & Flags.LOCALLY_HELD else UNHELD), HOLD_REQUESTED

    def request_muted(self, muted: bool) -> None:
        """Mute.RequestMuted, of all contents."""
        for content in self._contents:
            content.request_muted(muted)

    def mute_changed(self, content: CallContent) -> None:
        """See ``call_content.Owner``."""
        if self._dialogue is not None:
            self._dialogue.adjust(content.key)
            info = (rtp_info.Mute if content.muted else rtp_info.Unmute)(*content.key)
            self._dialogue.info(rtp_info.build(info))
        self._contents.show_mute()

    def volume_changed(self, content: CallContent) -> None:
        """See ``call_content.Owner``."""
        if self._dialogue is not None:
            self._dialogue.adjust(content.key)

    # -- CallMedia1 -------------------------------------------------------------------------

    @property
    def audio_source(self) -> str:
        return self.choice.source(MediaType.AUDIO)

    @property
    def audio_sink(self) -> str:
        return self.choice.sink(MediaType.AUDIO)

    @property
    def video_source(self) -> str:
        return self.choice.source(MediaType.VIDEO)

    @property
    def video_sink(self) -> str:
        return self.choice.sink(MediaType.VIDEO)

    def choose(self, which: str, value: str) -> None:
        """A property of CallMedia1 is set: ``call-audio-source`` and the like.

        Raises:
            InvalidArgument: not a source or sink.
        """
        kind = self.choice.choose(which, value)
        shown = "".join(part.capitalize() for part in which.split("-")[1:])
        self.events.emit(Changed(names.CALL_MEDIA, (shown,)))
        if self._dialogue is not None:
            self._start(self._dialogue.media_chosen(kind))

    async def get_statistics(self) -> dict[str, dict[str, object]]:
        """CallMedia1.GetStatistics: by content's object path."""
        if self._dialogue is None:
            return {}
        found = await self._dialogue.statistics()
        return {
            content.object_path: _shown(found[content.key])
            for content in self._contents
            if content.key in found
        }

    # -- contents ---------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Ours in the session; a call of ours may have lost against one that crossed it."""
        if self._dialogue is not None:
            return self._dialogue.role
        return Role.INITIATOR if self.requested else Role.RESPONDER

    def _senders(self, content: CallContent) -> str:
        return senders_for(self.role, content.wants_sending, content.wants_receiving)

    def check_accepted(self) -> None:
        """See ``call_content.Owner``."""
        own = State.PENDING_INITIATOR if self.requested else State.INITIALISED
        if self.state is own:
            raise NotYet("The call was not accepted yet")

    async def set_direction(self, content: CallContent) -> None:
        """See ``call_content.Owner``."""
        if self._dialogue is not None:
            await self._dialogue.set_senders(content.key, self._senders(content))
            self._start(self._dialogue.reopen())

    async def remove_content(self, content: CallContent) -> None:
        """See ``call_content.Owner``. The last one takes the call with it."""
        if len(self._contents) == 1:
            self.hangup(Reason.USER_REQUESTED, "", "")
            return
        if self._dialogue is not None:
            await self._dialogue.remove(content.key)
        self._contents.drop(content.key, StateReason(self.self_handle, Reason.USER_REQUESTED))

    def send_tone(self, content: CallContent, event: int, milliseconds: int) -> None:
        """See ``call_content.Owner``. Raises: NotAvailable."""
        if self._dialogue is None:
            raise NotAvailable("The call is not going on")
        self._dialogue.tone(content.key, event, milliseconds)

    # -- ``call_dialogue.Listener`` -----------------------------------------------------------

    def sounding(self) -> None:
        if self.state is State.ACCEPTED:
            self._set_state(State.ACTIVE, StateReason())

    def interrupted(self) -> None:
        if self.state is State.ACTIVE:
            self._set_state(
                State.ACCEPTED, StateReason(0, Reason.CONNECTIVITY_ERROR, "", "Looking for a way")
            )

    def leg_added(self, leg: Leg) -> None:
        self._contents.add(leg)

    def leg_gone(self, key: Key, condition: str) -> None:
        reason = ended_by_peer(condition, self.target_handle)
        self._contents.drop(key, reason)
        if not self._contents:
            self._end(reason, Terminated("The contact took everything away"), "success")

    def leg_lost(self, key: Key) -> None:
        self._contents.drop(key, ended_by_peer("failed-transport", 0))

    def leg_changed(self, leg: Leg) -> None:
        self._contents.follow(leg)

    def heard(self, key: Key) -> None:
        if (content := self._contents.get(key)) is not None:
            content.stream.receiving(Sending.SENDING, StateReason(self.target_handle))

    def media_lost(self, key: Key, what: str, text: str) -> None:
        content = self._contents.get(key)
        self.events.emit(MediaLost(content.object_path if content else "/", what, text))

    def dialogue_failed(self, condition: str, error: Exception) -> None:
        self._stop(
            end_of(error, own=self.self_handle, peer=self.target_handle, condition=condition)
        )

    # -- ``call_ways.Owner``, and the session's events ------------------------------------------

    def attach_way(self, way: Way) -> None:
        """How this call is made or taken."""
        self._way = way

    def superseded(self) -> None:
        """The user has taken this call in another channel."""
        self._way = None
        error = names.TP + "Error.PickedUpElsewhere"
        self.ended(StateReason(self.self_handle, Reason.USER_REQUESTED, error))

    def waits_for(self, peer: str) -> bool:
        """Whether this is a call of ours whose offer a client of the contact has not answered."""
        link = self._link
        return (
            self.requested
            and link is not None
            and link.peer == peer
            and link.role is Role.INITIATOR
            and self.state in (State.INITIALISING, State.INITIALISED)
        )

    def adopt(self, way: Way) -> None:
        """Both called at once, and the contact's call counts: this channel is now about that one.

        Whoever called wants to talk, so it is taken at once.
        """
        link, dialogue = self._link, self._dialogue
        self._way, self._link, self._dialogue = way, None, None
        if link is not None:
            link.application = None
            if not link.ended:
                link.end()
        self._account.calls.release(dialogue)
        self._start(way.take())

    def attach(self, link: Link, dialogue: Dialogue) -> None:
        """The session with the client that calls, or answers."""
        self._link = link
        self._dialogue = dialogue
        link.application = self

    def begins_with(self, legs: Iterable[Leg]) -> None:
        """A contact's offer at once, before the channel is shown."""
        for media, name in self._contents.begin_with(legs).items():
            if media is MediaType.AUDIO and not self.initial_audio:
                self.initial_audio, self.initial_audio_name = True, name
            if media is MediaType.VIDEO and not self.initial_video:
                self.initial_video, self.initial_video_name = True, name

    def offered(self, legs: Iterable[Leg]) -> None:
        """The session of a call that was announced."""
        self._contents.replace_promised(legs)

    def alerted(self) -> None:
        """The contact's device asks its user."""
        if self.state is State.INITIALISING:
            self._set_state(State.INITIALISED, StateReason(self.target_handle))
        if self.state is State.INITIALISED:
            self._set_member_flags(self._member_flags | MemberFlags.RINGING)

    def answered(self) -> None:
        """The contact took the call."""
        self._set_member_flags(MemberFlags(0))
        if self.state in (State.INITIALISING, State.INITIALISED):
            self._set_state(State.ACCEPTED, StateReason(self.target_handle, Reason.USER_REQUESTED))

    def ended(self, reason: StateReason, condition: str | None = None) -> None:
        """The contact, or somebody on the way, ended it."""
        self._end(reason, Terminated("The call was ended by the contact"), condition)

    def session_event(self, event: jingle.Event) -> None:
        """See ``sessions.Application``."""
        match event:
            case jingle.Terminated(reason):
                details = {"hangup-message": reason.text} if reason.text else {}
                said = ended_by_peer(reason.condition, self.target_handle)
                if self.state in (State.INITIALISED,) and not self.requested:
                    said = StateReason(
                        self.target_handle, Reason.NO_ANSWER, names.TP + "Error.NoAnswer"
                    )
                error = Terminated("The contact hung up")
                self._end(said, error, None, details=details)
            case jingle.SessionInfo(payload):
                self._info(rtp_info.parse(payload))
            case _:
                if self._dialogue is None:
                    return
                if isinstance(event, jingle.CallAccepted):
                    self.answered()
                self._dialogue.session_event(event)

    def _info(self, infos: list[rtp_info.Info]) -> None:
        for info in infos:
            match info:
                case rtp_info.Ringing():
                    self.alerted()
                case rtp_info.Hold():
                    self._set_member_flags(self._member_flags | MemberFlags.HELD)
                case rtp_info.Unhold() | rtp_info.Active():
                    self._set_member_flags(self._member_flags & ~MemberFlags.HELD)
                case _:
                    log.info("the contact muted or unmuted")

    def session_lost(self, error: PeerError | Disconnected | StanzaError | IqTimeout) -> None:
        """See ``sessions.Application``."""
        self._fail(error)

    def peer_offline(self) -> None:
        """Media may go on: whether they do is seen there."""
        if self.state not in (State.ACCEPTED, State.ACTIVE):
            self._end(ended_by_peer("gone", self.target_handle), NetworkError("offline"), None)

    def security_failed(self, failure: SecurityFailed) -> None:
        """See ``guard.Payload``: hang up at once."""
        self._fail(failure)

    def close(self) -> None:
        """Channel.Close: hang up, then go."""
        if self.state is not State.ENDED:
            self.hangup(Reason.USER_REQUESTED, "", "")
        self._gone()

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        """The connection goes, and the call with it."""
        self._end(of_error(error, Reason.NETWORK_ERROR), error, "gone")
        self._gone()

    # -- states and the end -----------------------------------------------------------------

    def _start(self, script: Coroutine[Any, Any, None]) -> None:
        task = self.tasks.start("script", self._run(script), script=script)
        task.add_done_callback(lambda _: script.close())  # cancelled before it began

    async def _run(self, script: Coroutine[Any, Any, None]) -> None:
        try:
            await script
        except (TelepathyError, SecurityFailed, PeerError, StanzaError, IqTimeout) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._stop(end_of(error, own=self.self_handle, peer=self.target_handle))

    def _stop(self, end: End) -> None:
        self._end(end.reason, end.error, end.condition)

    def _end(
        self,
        reason: StateReason,
        error: TelepathyError,
        condition: str | None,
        text: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        """The one end.

        Args:
            condition: of the Jingle reason for the peer; None where the peer ended it.
            text: for the contact.
        """
        if self.state is State.ENDED:
            return
        self.failure = error
        self.security_changed("Error", "ErrorMessage")
        if self._way is not None:
            self._way.over(condition, text[:MAX_MESSAGE])
        if self._link is not None:
            if condition is not None:
                self._link.terminate(condition, text[:MAX_MESSAGE])
            elif not self._link.ended:
                self._link.end()
        self.security.finished()
        self._contents.drop_all(reason)
        self.flags = Flags(0)
        self.call_state_details = dict(details or {})
        if reason.message:
            self.call_state_details["debug-message"] = reason.message
        self._set_state(State.ENDED, reason)
        self.events.emit(CallMembersChanged({}, {}, (self.target_handle,), reason.struct()))
        self.tasks.cancel()
        self._account.calls.ended(self, self._dialogue)
        self._dialogue = None

    def _set_state(self, state: State, reason: StateReason) -> None:
        if state is not State.INITIALISED:
            self.flags &= ~(Flags.LOCALLY_RINGING | Flags.LOCALLY_QUEUED)
        self.state, self.reason = state, reason
        self._tell_state()

    def _set_flags(self, flags: Flags) -> None:
        if flags != self.flags:
            self.flags = flags
            self.reason = StateReason(self.self_handle, Reason.USER_REQUESTED)
            self._tell_state()

    def _tell_state(self) -> None:
        self.events.emit(
            CallStateChanged(
                int(self.state), int(self.flags), self.reason.struct(), self.call_state_details
            )
        )

    def _set_member_flags(self, flags: MemberFlags) -> None:
        if flags != self._member_flags:
            self._member_flags = flags
            self.events.emit(
                CallMembersChanged(
                    {self.target_handle: int(flags)},
                    {self.target_handle: self.target_id},
                    (),
                    StateReason(self.target_handle).struct(),
                )
            )


def _shown(stats: Any) -> dict[str, object]:
    """Of ``media.content.Stats``, what can be told on the bus; what is not known is left out."""
    fields = {name: getattr(stats, name) for name in stats.__slots__}
    return {name.replace("_", "-"): value for name, value in fields.items() if value is not None}
