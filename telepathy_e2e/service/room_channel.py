"""A room: a text channel with members, a subject and a configuration (XEP-0045)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from telepathy_e2e.errors import (
    ChannelBanned,
    Disconnected,
    E2EError,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    TelepathyError,
)
from telepathy_e2e.service import delivery, messages, names, outgoing, room_refusals
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ChannelEvent
from telepathy_e2e.service.group import Group, Reason
from telepathy_e2e.service.handles import HANDLE_TYPE_ROOM
from telepathy_e2e.service.messages import Budget, Messages, Text
from telepathy_e2e.service.outgoing import Outgoing
from telepathy_e2e.service.room_guests import RoomGuests
from telepathy_e2e.service.room_members import RoomMembers
from telepathy_e2e.service.room_refusals import PasswordNeeded, reason_of
from telepathy_e2e.service.room_settings import RoomSettings
from telepathy_e2e.service.room_subject import UNKNOWN_TIME, RoomSubject
from telepathy_e2e.service.room_talk import RoomTalk
from telepathy_e2e.service.text_channel import COMPOSING, INACTIVE, PAUSED, STATE_NAMES, TextChannel
from telepathy_e2e.xmpp import forms, muc, muc_room
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import domain_of, local_of
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.messages import Failure, Message, build
from telepathy_e2e.xmpp.muc import Invitation
from telepathy_e2e.xmpp.muc_room import Room

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from telepathy_e2e.service.presence import PresenceFeature

log = logging.getLogger(__name__)

# Seconds in which a room has to let us in, or not.
JOIN_SECONDS: Final = 60.0
# Old messages that are asked for; more than this few read, and rooms send what they like.
HISTORY: Final = 100
# Unread messages of one room: the oldest make room for the newest.
MAX_MESSAGES: Final = 1_000
MAX_BYTES: Final = 1024 * 1024
# Channel_Password_Flags
PROVIDE: Final = 8


@dataclass(frozen=True)
class PasswordFlagsChanged(ChannelEvent):
    """Password.PasswordFlagsChanged."""

    interface = names.PASSWORD

    added: int
    removed: int


class RoomChannel(TextChannel):
    """A room that we are in, are on our way into, or are invited to.

    It is not brought back when it is closed with messages unread: to be in a room is seen by
    everybody there, and who closes it wants to be out.

    Args:
        nick: that we would like to have there.
        handle_of: of an occupant or contact; 0 if there are too many.
        gone: called when it is over.
        invitation: why it is there, if nobody here asked for it.
        unnamed: its name says nothing to people.
    """

    interfaces = (
        *TextChannel.interfaces,
        names.GROUP,
        names.PASSWORD,
        names.ROOM,
        names.ROOM_CONFIG,
        names.SUBJECT,
    )
    # A room has no place for notices.
    message_types: ClassVar[tuple[int, ...]] = (messages.NORMAL, messages.ACTION)
    delivery_reporting_support = messages.RECEIVE_FAILURES | messages.RECEIVE_SUCCESSES

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        nick: str,
        budget: Budget,
        handle_of: Callable[[str], int],
        gone: Callable[[RoomChannel], None],
        presences: PresenceFeature,
        invitation: Invitation | None = None,
        inviter: int = 0,
        unnamed: bool = False,
    ) -> None:
        target_id = account.handles.inspect(target_handle, HANDLE_TYPE_ROOM)
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            target_id=target_id,
            target_handle_type=HANDLE_TYPE_ROOM,
            requested=invitation is None,
            initiator_handle=inviter or account.self_handle,
            initiator_id=account.handles.inspect(inviter) if inviter else account.self_id,
        )
        self.room_name = "" if unnamed else local_of(target_id)
        self.server = domain_of(target_id)
        self.creator = ""
        self.creator_handle = 0
        self.creation_timestamp = UNKNOWN_TIME
        self.messages = Messages(
            self.events, budget=budget, most=MAX_MESSAGES, most_bytes=MAX_BYTES
        )
        self.password_flags = 0
        self.invitation = invitation
        self.room = Room(target_id, nick)
        self._people = RoomMembers(account, self.room, self.events, handle_of)
        self._presences = presences
        self._on_gone = gone
        self._outcome: asyncio.Future[bool] | None = None
        self._checking = False
        self._talk = RoomTalk(self.messages, target_id)
        self.topic = RoomSubject(self.events, target_id, self._post, lambda: self.group.self_handle)
        self.settings = RoomSettings(
            account,
            target_id,
            self.events,
            is_owner=lambda: self.room.me.affiliation == "owner",
            learnt=self._allow_subject,
        )
        self.guests = RoomGuests(
            account, self.room, self._people, lambda: not self.settings.invite_only
        )
        if invitation is not None:
            self._people.ask(inviter, invitation.reason, can_decline=not invitation.direct)
        else:
            self._people.wait()

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.ROOM + "."
        shown[prefix + "RoomName"] = self.room_name
        shown[prefix + "Server"] = self.server
        shown[prefix + "Creator"] = self.creator
        shown[prefix + "CreatorHandle"] = self.creator_handle
        shown[prefix + "CreationTimestamp"] = self.creation_timestamp
        return shown

    @property
    def group(self) -> Group:
        """Who is in it."""
        return self._people.group

    @property
    def self_handle(self) -> int:
        return self.group.self_handle

    @property
    def self_id(self) -> str:
        return self.account.handles.inspect(self.group.self_handle)

    @property
    def is_invitation(self) -> bool:
        """Whether the user has not said yet that he wants to come."""
        return self.group.is_local_pending(self.self_handle)

    # -- coming in --------------------------------------------------------------------------

    async def join(self, password: str = "") -> None:
        """Come in, and unlock the room if it is a new one.

        Raises:
            PasswordNeeded: the room has a password, and this is not it.
            TelepathyError: it does not let us in.
        """
        self._outcome = asyncio.get_running_loop().create_future()
        try:
            stanza = self.room.join(password=password, history=HISTORY)
            self.guests.password = password
            self._show_presence(stanza)
            async with asyncio.timeout(JOIN_SECONDS):
                created = await self._outcome
                if created:
                    await self._unlock()
        except TimeoutError:
            self._say_goodbye("")
            raise NetworkError("The room did not answer") from None
        finally:
            self._outcome = None
        self.settings.look()

    async def _unlock(self) -> None:
        """A new room lets nobody in before it is configured (section 10.1.2)."""
        instant = forms.build(forms.Form("submit", {}))
        try:
            await self.account.client.send_iq(self.target_id, muc.owner(instant))
        except (StanzaError, IqTimeout) as error:
            self._say_goodbye("")
            raise refusal(error, "The room could not be created") from error
        if self.requested:  # an invitation was shown already, and this never changes
            self.creator, self.creator_handle = self.account.self_id, self.account.self_handle
            self.creation_timestamp = int(time.time())

    def lock(self) -> None:
        """It takes a password to come in: ask for it."""
        self._people.wait()
        if not self.password_flags:
            self.password_flags = PROVIDE
            self.events.emit(PasswordFlagsChanged(PROVIDE, 0))

    async def provide_password(self, password: str) -> bool:
        """Password.ProvidePassword: whether it was right.

        Raises:
            InvalidArgument: none is asked for, or it cannot be sent.
            TelepathyError: something else keeps us out; the channel closes.
        """
        if not self.password_flags or self._checking:
            raise InvalidArgument("The room does not ask for a password")
        if not is_sendable(password) or len(password) > muc.MAX_PASSWORD:
            raise InvalidArgument("This cannot be a password")
        self._checking = True
        try:
            await self.join(password)
        except PasswordNeeded:
            return False
        except TelepathyError as error:
            self.give_up(error)
            raise
        finally:
            self._checking = False
        return True

    async def accept(self) -> None:
        """Follow the invitation.

        Raises:
            TelepathyError: the room does not let us in; the channel closes.
        """
        password = self.invitation.password if self.invitation is not None else ""
        self._people.wait()
        try:
            await self.join(password)
        except PasswordNeeded:
            self.lock()
        except TelepathyError as error:
            self.give_up(error)
            raise

    def give_up(self, error: TelepathyError) -> None:
        """We do not get in: say so to whoever sees the channel, and end it."""
        self._people.leave(str(error), error=error.dbus_name, reason=reason_of(error))
        self._gone()

    def _settle(self, outcome: bool | E2EError) -> bool:
        """Whoever waits for the end of ``join`` gets it; False if nobody does."""
        future = self._outcome
        if future is None or future.done():
            return False
        if isinstance(outcome, E2EError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return True

    # -- what the room says -----------------------------------------------------------------

    def receive_presence(self, stanza: Element) -> None:
        """A presence from the room or an occupant.

        Raises:
            PeerError: it is no good.
        """
        for event in self.room.receive_presence(stanza):
            self._happened(event)

    def receive_message(self, message: Message, extension: muc.Extension) -> None:
        """A message of the room, or in it.

        Raises:
            PeerError: it is no good.
        """
        for event in self.room.receive_message(message, extension):
            self._happened(event)

    def _happened(self, event: muc_room.Event) -> None:
        match event:
            case muc_room.Send(stanza):
                self._people.become()
                self._show_presence(stanza)
            case muc_room.Joined(created):
                self._joined(created)
            case muc_room.Refused(condition, text):
                self._settle(room_refusals.refusal(condition, text))
            case muc_room.Came(occupant):
                self._people.came(occupant)
            case muc_room.Went():
                self._people.went(event)
                self._forget(event.occupant.nick)
            case muc_room.Renamed(before):
                self._people.renamed(event)
                self._forget(before.nick)
            case muc_room.Became(before, after):
                self._became(before, after)
            case muc_room.Out():
                self._out(event)
            case muc_room.Reconfigured():
                self.settings.look()
            case muc_room.SubjectChanged(nick=nick):
                handle = self._people.handle(nick) if nick else 0
                shown = self.account.handles.inspect(handle) if handle else ""
                self.topic.changed(event, handle, shown)
            case muc_room.Said():
                self._said(event)

    def _joined(self, created: bool) -> None:
        if self.password_flags:
            self.password_flags = 0
            self.events.emit(PasswordFlagsChanged(0, PROVIDE))
        self._people.enter()
        self._allow_subject()
        self._settle(created)

    def _became(self, before: muc_room.Occupant, after: muc_room.Occupant) -> None:
        self._people.became(after)
        if after.nick == self.room.nick and (
            (before.affiliation, before.role) != (after.affiliation, after.role)
        ):
            self._allow_subject()
            self.settings.look()
        if (before.show, before.status) != (after.show, after.status):
            if handle := self._people.known(after.nick):
                self._presences.occupant_changed(handle)

    def _out(self, event: muc_room.Out) -> None:
        """Thrown out, or the room is no more."""
        self._people.put_out(event)
        kind = ChannelBanned if event.why is muc_room.Departure.BANNED else NotAvailable
        self._settle(kind(f"The room does not let you in: {event.reason or event.why}"))
        self._gone()

    def _allow_subject(self) -> None:
        """Servers differ in who may set it; this is what the standard says (section 8.1)."""
        role = self.room.me.role
        allowed = self.settings.info.may_change_subject
        self.topic.allow(role == "moderator" or (role == "participant" and allowed is not False))

    # -- messages ---------------------------------------------------------------------------

    def _post(self, message: Message) -> None:
        if self.room.state != "in":
            raise NotAvailable("You are not in this room")
        self.account.client.send(build(message))

    def transmit(self, message: Outgoing, token: str, flags: int) -> int:
        if message.kind not in self.message_types:
            raise InvalidArgument("Messages of this message-type cannot be sent to a room")
        self._post(
            Message(
                to=self.target_id,
                type="groupchat",
                id=token,
                origin_id=token,
                body=message.body,
                state=STATE_NAMES[2],
                replaces=message.supersedes,
            )
        )
        report = flags & messages.REPORT_DELIVERY
        shown = Text(
            message.text[: delivery.MAX_ECHO],
            message.kind,
            sender=self.self_handle,
            sender_id=self.self_id,
            token=token,
            sent=int(time.time()),
        )
        self._talk.sent(shown, report=bool(report))
        return report

    def _said(self, event: muc_room.Said) -> None:
        message, now = event.message, int(time.time())
        if event.ours and event.stamp is None and self._talk.is_echo(message):
            return
        if event.stamp is None and not event.ours:
            self._hear_state(event.nick, message)
        if not message.body:
            return
        kind, text = outgoing.received(message.body)
        handle = self._people.handle(event.nick)
        try:
            self.messages.receive(
                Text(
                    text,
                    kind,
                    sender=handle,
                    sender_id=self.account.handles.inspect(handle) if handle else "",
                    token=message.token,
                    sent=min(int(event.stamp.timestamp()), now)
                    if event.stamp is not None
                    else None,
                    received=now,
                    supersedes=self._talk.corrected(event.nick, message),
                    nickname="" if handle else event.nick,
                    scrollback=event.stamp is not None,
                    # Another program of the user's, under the same nick.
                    silent=event.ours,
                ),
                make_room=True,
            )
        except messages.Refused:
            log.warning("no room for another message in %s", self.target_id)

    def _forget(self, nick: str) -> None:
        """He is not here any longer under this nick."""
        self._talk.forget(nick)
        if (handle := self._people.known(nick)) and handle in self.chat_states:
            self.show_state(handle, INACTIVE)

    def returned(self, message: Message) -> None:
        """A message of ours came back as an error."""
        failure = message.failure or Failure("undefined-condition")
        if not self.guests.returned(message) and not self.topic.refused(message.id, failure):
            self._talk.returned(message)

    def lost(self, token: str) -> None:
        """The server never got a message."""
        self.returned(
            Message(
                id=token,
                failure=Failure("remote-server-timeout", "The connection was lost", "wait"),
            )
        )

    # -- chat states ------------------------------------------------------------------------

    def _hear_state(self, nick: str, message: Message) -> None:
        handle = self._people.known(nick)
        if not handle or not self.group.is_member(handle):
            return
        if message.state:
            self.show_state(handle, STATE_NAMES.index(message.state) or INACTIVE)
        elif message.body and self.chat_states.get(handle) in (COMPOSING, PAUSED):
            self.show_state(handle, INACTIVE)

    def transmit_state(self, state: int) -> None:
        # Who may not speak gets an error for it.
        if self.room.state == "in" and self.room.me.role in ("participant", "moderator"):
            self._post(
                Message(
                    to=self.target_id,
                    type="groupchat",
                    id=outgoing.new_token(),
                    state=STATE_NAMES[state],
                    hints=frozenset({"no-store"}),
                )
            )

    # -- members ----------------------------------------------------------------------------

    async def add_members(self, contacts: Sequence[int], message: str) -> None:
        """Group.AddMembers: invite somebody, or follow an invitation.

        Raises:
            InvalidHandle: one is no contact.
            InvalidArgument: too many at once, or a message that cannot be sent.
            NotAvailable: we are not in the room.
            TelepathyError: see ``accept``.
        """
        self.guests.check(contacts, message)
        if self.self_handle in contacts and self.is_invitation:
            await self.accept()
        self.guests.invite(contacts, message)

    async def remove_members(self, contacts: Sequence[int], message: str, reason: int) -> None:
        """Group.RemoveMembers and RemoveMembersWithReason: throw somebody out, or leave.

        Raises:
            InvalidHandle: one is no contact.
            InvalidArgument: no such reason, or a message that cannot be sent.
            NotAvailable: one is not in the room.
            PermissionDenied: we may not.
            NetworkError, Disconnected: the room cannot be asked.
        """
        if reason not in Reason._value2member_map_:
            raise InvalidArgument("There is no such reason")
        self.guests.check(contacts, message)
        others = [each for each in dict.fromkeys(contacts) if each != self.self_handle]
        await self.guests.put_out(others, message, ban=reason == Reason.BANNED)
        if self.self_handle in contacts:
            self._leave(message)

    # -- our presence -----------------------------------------------------------------------

    def show_presence(self) -> None:
        """The user is in another state: so he is in the room (section 7.7)."""
        if self.room.state == "in":
            self._show_presence(muc.present(self.target_id, self.room.nick))

    def _show_presence(self, stanza: Element) -> None:
        stanza.extend(self._presences.own_elements())
        self.account.client.send(stanza)

    def _say_goodbye(self, message: str) -> None:
        if self.room.state == "out":
            return
        try:
            self.account.client.send(self.room.leave(message))
        except Disconnected as error:
            log.info("a room was left without a word: %s", error)

    # -- the end ----------------------------------------------------------------------------

    def _leave(self, message: str) -> None:
        """The user goes, or does not come."""
        if self.closed:
            return
        invitation = self.invitation
        if self.is_invitation and invitation is not None and not invitation.direct:
            stanza = muc.decline(self.target_id, invitation.inviter, message)
            try:
                self.account.client.send(stanza)
            except Disconnected as error:
                log.info("an invitation was not declined: %s", error)
        self._say_goodbye(message)
        self._people.leave(message)
        self._gone()

    def close(self) -> None:
        """Channel.Close: leave."""
        self._leave("")

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        self._settle(Disconnected("The connection is gone"))
        super().disconnected(error, stopped)

    def _gone(self) -> None:
        if not self.closed:
            self._settle(NotAvailable("The room was left"))
            self.room.leave()
            self.messages.clear()
            self.topic.close()
            self.settings.close()
            self._on_gone(self)
        super()._gone()
