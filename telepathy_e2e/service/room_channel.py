"""A room: a text channel with members, a subject and a configuration (XEP-0045)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from telepathy_e2e.errors import ChannelBanned, InvalidArgument, NotAvailable
from telepathy_e2e.service import delivery, messages, names, outgoing, room_refusals
from telepathy_e2e.service.group import Reason
from telepathy_e2e.service.messages import Text
from telepathy_e2e.service.outgoing import Outgoing
from telepathy_e2e.service.room_stay import PROVIDE, PasswordFlagsChanged, RoomStay
from telepathy_e2e.service.room_talk import RoomTalk
from telepathy_e2e.service.text_channel import COMPOSING, INACTIVE, PAUSED, STATE_NAMES, TextChannel
from telepathy_e2e.xmpp import muc, muc_room
from telepathy_e2e.xmpp.messages import Failure, Message

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


log = logging.getLogger(__name__)


class RoomChannel(RoomStay):
    """What is said there, and who is there: events of the room become those of Telepathy."""

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

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.talk = RoomTalk(self.messages, self.target_id)

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
                self.people.become()
                self.send_presence(stanza)
            case muc_room.Joined(created):
                self._joined(created)
            case muc_room.Refused(condition, text):
                self.settle(room_refusals.refusal(condition, text))
            case muc_room.Came(occupant):
                self.people.came(occupant)
            case muc_room.Went():
                self.people.went(event)
                self._forget(event.occupant.nick)
            case muc_room.Renamed(before):
                self.people.renamed(event)
                self._forget(before.nick)
            case muc_room.Became(before, after):
                self._became(before, after)
            case muc_room.Out():
                self._out(event)
            case muc_room.Reconfigured():
                self.settings.look()
            case muc_room.SubjectChanged(nick=nick):
                handle = self.people.handle(nick) if nick else 0
                shown = self.account.handles.inspect(handle) if handle else ""
                self.topic.changed(event, handle, shown)
            case muc_room.Said():
                self._said(event)

    def _joined(self, created: bool) -> None:
        if self.password_flags:
            self.password_flags = 0
            self.events.emit(PasswordFlagsChanged(0, PROVIDE))
        self.people.enter()
        self.allow_subject()
        self.settle(created)

    def _became(self, before: muc_room.Occupant, after: muc_room.Occupant) -> None:
        self.people.became(after)
        if after.nick == self.room.nick and (
            (before.affiliation, before.role) != (after.affiliation, after.role)
        ):
            self.allow_subject()
            self.settings.look()
        if (before.show, before.status) != (after.show, after.status):
            if handle := self.people.known(after.nick):
                self.presences.occupant_changed(handle)

    def _out(self, event: muc_room.Out) -> None:
        """Thrown out, or the room is no more."""
        self.people.put_out(event)
        kind = ChannelBanned if event.why is muc_room.Departure.BANNED else NotAvailable
        self.settle(kind(f"The room does not let you in: {event.reason or event.why}"))
        self._gone()

    # -- messages ---------------------------------------------------------------------------

    def transmit(self, message: Outgoing, token: str, flags: int) -> int:
        if message.kind not in self.message_types:
            raise InvalidArgument("Messages of this message-type cannot be sent to a room")
        self.post(
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
        self.talk.sent(shown, report=bool(report))
        return report

    def _said(self, event: muc_room.Said) -> None:
        message, now = event.message, int(time.time())
        if event.ours and event.stamp is None and self.talk.is_echo(message):
            return
        if event.stamp is None and not event.ours:
            self._hear_state(event.nick, message)
        if not message.body:
            return
        kind, text = outgoing.received(message.body)
        handle = self.people.handle(event.nick)
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
                    supersedes=self.talk.corrected(event.nick, message),
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
        self.talk.forget(nick)
        if (handle := self.people.known(nick)) and handle in self.chat_states:
            self.show_state(handle, INACTIVE)

    def returned(self, message: Message) -> None:
        """A message of ours came back as an error."""
        failure = message.failure or Failure("undefined-condition")
        if not self.guests.returned(message) and not self.topic.refused(message.id, failure):
            self.talk.returned(message)

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
        handle = self.people.known(nick)
        if not handle or not self.group.is_member(handle):
            return
        if message.state:
            self.show_state(handle, STATE_NAMES.index(message.state) or INACTIVE)
        elif message.body and self.chat_states.get(handle) in (COMPOSING, PAUSED):
            self.show_state(handle, INACTIVE)

    def transmit_state(self, state: int) -> None:
        # Who may not speak gets an error for it.
        if self.room.state == "in" and self.room.me.role in ("participant", "moderator"):
            self.post(
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
            self.leave(message)
