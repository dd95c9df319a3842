"""Coming into a room, being there and leaving it (XEP-0045 section 7)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from telepathy_e2e.errors import (
    Disconnected,
    E2EError,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ChannelEvent
from telepathy_e2e.service.group import Group
from telepathy_e2e.service.handles import HANDLE_TYPE_ROOM
from telepathy_e2e.service.messages import Budget, Messages
from telepathy_e2e.service.room_guests import RoomGuests
from telepathy_e2e.service.room_members import RoomMembers
from telepathy_e2e.service.room_refusals import PasswordNeeded, reason_of
from telepathy_e2e.service.room_settings import RoomSettings
from telepathy_e2e.service.room_subject import UNKNOWN_TIME, RoomSubject
from telepathy_e2e.service.text_channel import TextChannel
from telepathy_e2e.xmpp import forms, muc
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import domain_of, local_of
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.messages import Message, build
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


class RoomStay(TextChannel):
    """A channel of a room that we are in, are on our way into, or are invited to.

    It is not brought back when it is closed with messages unread: to be in a room is seen by
    everybody there, and who closes it wants to be out.

    Args:
        nick: that we would like to have there.
        handle_of: of an occupant or contact; 0 if there are too many.
        gone: called when it is over.
        invitation: why it is there, if nobody here asked for it.
        unnamed: its name says nothing to people.

    Attributes:
        room: what is known of it; ``people`` shows that as a group.
        topic: its subject (Subject2).
        settings: its configuration (RoomConfig1).
        guests: whom we invite or put out.
    """

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        nick: str,
        budget: Budget,
        handle_of: Callable[[str], int],
        gone: Callable[[RoomStay], None],
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
        self.people = RoomMembers(account, self.room, self.events, handle_of)
        self.presences = presences
        self._on_gone = gone
        self._outcome: asyncio.Future[bool] | None = None
        self._checking = False
        self.topic = RoomSubject(self.events, target_id, self.post, lambda: self.group.self_handle)
        self.settings = RoomSettings(
            account,
            target_id,
            self.events,
            is_owner=lambda: self.room.me.affiliation == "owner",
            learnt=self.allow_subject,
        )
        self.guests = RoomGuests(
            account, self.room, self.people, lambda: not self.settings.invite_only
        )
        if invitation is not None:
            self.people.ask(inviter, invitation.reason, can_decline=not invitation.direct)
        else:
            self.people.wait()

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
        return self.people.group

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
            self.send_presence(stanza)
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
        self.people.wait()
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
        self.people.wait()
        try:
            await self.join(password)
        except PasswordNeeded:
            self.lock()
        except TelepathyError as error:
            self.give_up(error)
            raise

    def give_up(self, error: TelepathyError) -> None:
        """We do not get in: say so to whoever sees the channel, and end it."""
        self.people.leave(str(error), error=error.dbus_name, reason=reason_of(error))
        self._gone()

    def settle(self, outcome: bool | E2EError) -> bool:
        """Whoever waits for the end of ``join`` gets it; False if nobody does."""
        future = self._outcome
        if future is None or future.done():
            return False
        if isinstance(outcome, E2EError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return True

    # -- being there ------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Say something there.

        Raises:
            NotAvailable: we are not in.
            Disconnected: the connection is gone.
        """
        if self.room.state != "in":
            raise NotAvailable("You are not in this room")
        self.account.client.send(build(message))

    def allow_subject(self) -> None:
        """Servers differ in who may set it; this is what the standard says (section 8.1)."""
        role = self.room.me.role
        allowed = self.settings.info.may_change_subject
        self.topic.allow(role == "moderator" or (role == "participant" and allowed is not False))

    # -- our presence -----------------------------------------------------------------------

    def show_presence(self) -> None:
        """The user is in another state: so he is in the room (section 7.7)."""
        if self.room.state == "in":
            self.send_presence(muc.present(self.target_id, self.room.nick))

    def send_presence(self, stanza: Element) -> None:
        """A presence to the room, with our state."""
        stanza.extend(self.presences.own_elements())
        self.account.client.send(stanza)

    def _say_goodbye(self, message: str) -> None:
        if self.room.state == "out":
            return
        try:
            self.account.client.send(self.room.leave(message))
        except Disconnected as error:
            log.info("a room was left without a word: %s", error)

    # -- the end ----------------------------------------------------------------------------

    def leave(self, message: str) -> None:
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
        self.people.leave(message)
        self._gone()

    def close(self) -> None:
        """Channel.Close: leave."""
        self.leave("")

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        self.settle(Disconnected("The connection is gone"))
        super().disconnected(error, stopped)

    def _gone(self) -> None:
        if not self.closed:
            self.settle(NotAvailable("The room was left"))
            self.room.leave()
            self.messages.clear()
            self.topic.close()
            self.settings.close()
            self._on_gone(self)
        super()._gone()
