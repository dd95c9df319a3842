"""The occupants of one room as a Telepathy group: who has which handle, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from telepathy_e2e.errors import TP_ERROR
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.events import ChannelEvent, Emitter
from telepathy_e2e.service.group import Flag, Group, Pending, Reason
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.muc_room import Departure, Occupant, Out, Renamed, Room, Went

# What a room can always do here.
BASE = (
    Flag.CHANNEL_SPECIFIC_HANDLES
    | Flag.PROPERTIES
    | Flag.MEMBERS_CHANGED_DETAILED
    | Flag.MESSAGE_DEPART
)

_REASONS: Mapping[Departure, Reason] = {
    Departure.LEFT: Reason.NONE,
    Departure.KICKED: Reason.KICKED,
    Departure.BANNED: Reason.BANNED,
    Departure.REMOVED: Reason.PERMISSION_DENIED,
    Departure.SHUTDOWN: Reason.ERROR,
    Departure.FAILED: Reason.OFFLINE,
    Departure.DESTROYED: Reason.ERROR,
}
# What says more than the reason.
_ERRORS: Mapping[Departure, str] = {
    Departure.REMOVED: TP_ERROR + "Channel.InviteOnly",
    Departure.SHUTDOWN: TP_ERROR + "ServiceBusy",
    Departure.DESTROYED: TP_ERROR + "DoesNotExist",
}


class RoomMembers:
    """Keeps the ``Group`` of a room.

    Args:
        room: the state that it follows.
        handle_of: the handle of a full JID in a room or of a contact; 0 if there are too many.
    """

    def __init__(
        self,
        account: Account,
        room: Room,
        events: Emitter[ChannelEvent],
        handle_of: Callable[[str], int],
    ) -> None:
        self._account = account
        self._room = room
        self._handle_of = handle_of
        me = account.handles.of_jid(self._jid(room.nick))
        self.group = Group(events, account.handles.inspect, self_handle=me, flags=BASE)
        self.group.set_owners({me: account.self_handle})

    def _jid(self, nick: str) -> str:
        return f"{self._room.jid}/{nick}"

    def handle(self, nick: str) -> int:
        """Of an occupant, or 0: past the bounds nobody gets one."""
        if nick == self._room.nick:
            return self.group.self_handle
        return self._handle_of(self._jid(nick)) if nick else 0

    def known(self, nick: str) -> int:
        """The handle that an occupant has already, or 0."""
        return self._account.handles.find(self._jid(nick)) or 0

    def actor(self, name: str) -> int:
        """Of a nick or a JID that is said to have done something; we may be out already."""
        if not name:
            return 0
        handle = self.known(name)
        if self.group.is_member(handle):
            return handle
        contact = self._account.handles.find(bare(name)) or 0
        owners = self.group.handle_owners.items()
        return next((each for each, owner in owners if contact and owner == contact), contact)

    # -- ours -------------------------------------------------------------------------------

    def ask(self, inviter: int, message: str, *, can_decline: bool) -> None:
        """We were invited."""
        me = self.group.self_handle
        self.group.change(
            local={me: Pending(inviter, Reason.INVITED, message)},
            actor=inviter,
            reason=Reason.INVITED,
            message=message,
        )
        if can_decline:
            self.group.set_flags(BASE | Flag.MESSAGE_REJECT)

    def wait(self) -> None:
        """The room has to let us in."""
        me = self.group.self_handle
        self.group.change(remote=[me], actor=me)
        self.group.set_flags(BASE)

    def become(self) -> None:
        """Another nick was tried, or given to us."""
        me = self._account.handles.of_jid(self._jid(self._room.nick))
        self.group.become(me, self._account.self_handle)

    def enter(self) -> None:
        """We are in: so is everybody who was there."""
        self.become()
        owners = {self.group.self_handle: self._account.self_handle}
        owners.update(self._owners(self._room.occupants.values()))
        self.group.change(
            added=owners, owners=owners, removed=self._invited(self._room.occupants.values())
        )
        self.update_flags()

    def leave(self, message: str, *, error: str = "", reason: Reason = Reason.NONE) -> None:
        """We go."""
        me = self.group.self_handle
        self.group.change(
            removed=[me], actor=0 if error else me, reason=reason, message=message, error=error
        )

    def put_out(self, event: Out) -> None:
        """We have to go."""
        message = event.reason
        if event.destroyed is not None and event.destroyed.alternate:
            moved = f"The room has moved to {event.destroyed.alternate}"
            message = f"{message} ({moved})" if message else moved
        me = self.group.self_handle
        self.group.change(
            removed=[me],
            actor=self.actor(event.actor),
            reason=_REASONS[event.why],
            message=message,
            error=_ERRORS.get(event.why, ""),
        )

    # -- others -----------------------------------------------------------------------------

    def _owners(self, occupants: Iterable[Occupant]) -> dict[int, int]:
        """Handles with their owners', of those who can have one."""
        found = {}
        for each in occupants:
            if each.nick != self._room.nick and (handle := self.handle(each.nick)):
                found[handle] = self._handle_of(each.jid) if each.jid else 0
        return found

    def _invited(self, occupants: Iterable[Occupant]) -> list[int]:
        """Handles under which those who came were invited."""
        find = self._account.handles.find
        handles = {find(each.jid) for each in occupants if each.jid}
        return [each for each in self.group.remote_pending_members if each in handles]

    def came(self, occupant: Occupant) -> None:
        owners = self._owners([occupant])
        invited = self._invited([occupant])
        self.group.change(
            added=owners,
            removed=invited,
            owners=owners,
            actor=next(iter(owners), 0),
            reason=Reason.INVITED if invited else Reason.NONE,
        )
        self.update_flags()

    def went(self, event: Went) -> None:
        handle = self.known(event.occupant.nick)
        if handle and self.group.is_member(handle):
            actor = self.actor(event.actor)
            self.group.change(
                removed=[handle],
                actor=actor or (handle if event.why is Departure.LEFT else 0),
                reason=_REASONS[event.why],
                message=event.reason,
            )

    def renamed(self, event: Renamed) -> None:
        if event.ours:
            self.become()
            return
        old = self.known(event.before.nick)
        owners = self._owners([event.after])
        if old and self.group.is_member(old) and owners:
            self.group.change(
                added=owners,
                removed=[old],
                owners=owners,
                actor=next(iter(owners)),
                reason=Reason.RENAMED,
            )
        elif old:
            self.group.change(added=owners, removed=[old], owners=owners)
        else:
            self.came(event.after)

    def became(self, after: Occupant) -> None:
        """His address may be seen now."""
        handle = self.known(after.nick)
        if after.jid and handle and self.group.is_member(handle):
            owner = self.group.handle_owners.get(handle)
            if after.nick != self._room.nick and not owner:
                self.group.set_owners({handle: self._handle_of(after.jid)})
        self.update_flags()

    # -- what may be done -------------------------------------------------------------------

    def update_flags(self) -> None:
        """What we may do is a matter of our role."""
        if self._room.state != "in":
            return
        flags = BASE | Flag.CAN_ADD | Flag.MESSAGE_ADD
        if self._room.me.role == "moderator":
            flags |= Flag.CAN_REMOVE | Flag.MESSAGE_REMOVE
        if self.group.known_owners <= 1:  # our own
            flags |= Flag.HANDLE_OWNERS_NOT_AVAILABLE
        self.group.set_flags(flags)

    def is_in(self, contact: int) -> bool:
        """Whether a contact, or an occupant, is in the room."""
        owners = self.group.handle_owners
        return self.group.is_member(contact) or any(
            owner == contact and self.group.is_member(each) for each, owner in owners.items()
        )
