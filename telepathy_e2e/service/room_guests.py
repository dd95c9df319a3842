"""Whom we ask into a room, and whom we put out of it (XEP-0045 sections 7.8, 8.2 and 9.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from telepathy_e2e.errors import InvalidArgument, NotAvailable, PermissionDenied
from telepathy_e2e.service import outgoing
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.group import Reason
from telepathy_e2e.service.room_members import RoomMembers
from telepathy_e2e.xmpp import muc
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, resource_of
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.messages import Failure, Message
from telepathy_e2e.xmpp.muc_room import Room

# People whom we invited and who have not come.
MAX_INVITED: Final = 200
# One call of AddMembers or RemoveMembers.
MAX_CONTACTS: Final = 200


class RoomGuests:
    """Of one room.

    Args:
        may_tell: whether we may invite without asking the room.
    """

    def __init__(
        self, account: Account, room: Room, people: RoomMembers, may_tell: Callable[[], bool]
    ) -> None:
        self._account = account
        self._room = room
        self._people = people
        self._may_tell = may_tell
        self._group = people.group
        self._invited: dict[str, str] = {}
        self.password = ""

    def __repr__(self) -> str:
        return f"RoomGuests({self._room.jid!r})"  # no password

    def check(self, contacts: Sequence[int], message: str) -> None:
        """Of a call of the user.

        Raises:
            InvalidHandle: one is no contact.
            InvalidArgument: too many at once, or a message that cannot be sent.
        """
        if len(contacts) > MAX_CONTACTS:
            raise InvalidArgument(f"At most {MAX_CONTACTS} contacts at once")
        if not is_sendable(message) or len(message) > muc.MAX_REASON:
            raise InvalidArgument("This message cannot be sent")
        for each in contacts:
            self._account.handles.inspect(each)

    # -- asked in ---------------------------------------------------------------------------

    def invite(self, contacts: Sequence[int], message: str) -> None:
        """Invite those who are not in.

        Raises:
            NotAvailable: we are not in the room.
            Disconnected: the connection is not up.
        """
        me = self._group.self_handle
        others = [
            each for each in dict.fromkeys(contacts) if each != me and not self._people.is_in(each)
        ]
        if others and self._room.state != "in":
            raise NotAvailable("You are not in this room")
        for each in others:
            self._invite(each, message)

    def _invite(self, contact: int, message: str) -> None:
        jid = self._account.handles.inspect(contact)
        stanza = muc.mediated(self._room.jid, jid, message)
        token = outgoing.new_token()
        stanza.set("id", token)
        self._account.client.send(stanza)
        if len(self._invited) >= MAX_INVITED:
            del self._invited[next(iter(self._invited))]
        self._invited[token] = jid
        if len(self._group.remote_pending_members) < MAX_INVITED:
            me = self._group.self_handle
            self._group.change(remote=[contact], actor=me, reason=Reason.INVITED, message=message)

    def declined(self, invitee: str, reason: str) -> None:
        """Somebody does not want to come."""
        for jid in (invitee, bare(invitee)):
            handle = self._account.handles.find(jid)
            if handle is not None and self._is_waiting(handle):
                self._group.change(removed=[handle], actor=handle, message=reason)

    def _is_waiting(self, handle: int) -> bool:
        # What the room says of others must not move us ourselves.
        return handle != self._group.self_handle and self._group.is_remote_pending(handle)

    def returned(self, message: Message) -> bool:
        """The room does not invite somebody, or he cannot be reached; whether it was one of ours.

        A room that lets only its owners invite may be open to whoever hears of it: then the user
        tells the contact himself (XEP-0249).
        """
        jid = self._invited.pop(message.id, None)
        if jid is None:
            return False
        failure = message.failure or Failure("undefined-condition")
        refused = failure.condition in ("forbidden", "not-allowed", "not-acceptable")
        if refused and self._may_tell() and "/" not in jid:
            self._account.client.send(muc.direct(self._room.jid, jid, password=self.password))
            return True
        handle = self._account.handles.find(jid)
        if handle is not None and self._is_waiting(handle):
            error = refusal(StanzaError(failure.condition, failure.text), "The invitation failed")
            if failure.condition in ("item-not-found", "jid-malformed"):
                reason = Reason.INVALID_CONTACT
            elif isinstance(error, PermissionDenied):
                reason = Reason.PERMISSION_DENIED
            else:
                reason = Reason.ERROR
            self._group.change(removed=[handle], reason=reason, message=str(error))
        return True

    # -- put out ----------------------------------------------------------------------------

    async def put_out(self, contacts: Sequence[int], message: str, *, ban: bool) -> None:
        """Others than ourselves.

        Raises:
            NotAvailable: one is not in the room.
            PermissionDenied: we may not.
            NetworkError, Disconnected: the room cannot be asked.
        """
        for each in contacts:
            if self._group.is_remote_pending(each):
                raise PermissionDenied("An invitation to a room cannot be taken back")
            if not self._group.is_member(each):
                raise NotAvailable("This contact is not in the room")
        for each in contacts:
            await self._put_out(each, message, ban=ban)

    async def _put_out(self, contact: int, message: str, *, ban: bool) -> None:
        nick = resource_of(self._account.handles.inspect(contact))
        if not ban:
            payload = muc.admin(nick=nick, role="none", reason=message)
        else:
            # Whom we see without his address the room finds by his nick, if it likes to.
            occupant = self._room.occupants.get(nick)
            jid = occupant.jid if occupant is not None else ""
            payload = muc.admin(
                nick="" if jid else nick, jid=jid, affiliation="outcast", reason=message
            )
        try:
            await self._account.client.send_iq(self._room.jid, payload)
        except (StanzaError, IqTimeout) as error:
            raise refusal(error, "The room did not put this person out") from error
