"""Who is in a channel, and who may come (Channel.Interface.Group)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from telepathy_e2e.service import names
from telepathy_e2e.service.events import ChannelEvent, Emitter


class Flag(IntFlag):
    """Channel_Group_Flags."""

    CAN_ADD = 1
    CAN_REMOVE = 2
    CAN_RESCIND = 4
    MESSAGE_ADD = 8
    MESSAGE_REMOVE = 16
    MESSAGE_ACCEPT = 32
    MESSAGE_REJECT = 64
    MESSAGE_RESCIND = 128
    CHANNEL_SPECIFIC_HANDLES = 256
    ONLY_ONE_GROUP = 512
    HANDLE_OWNERS_NOT_AVAILABLE = 1024
    PROPERTIES = 2048
    MEMBERS_CHANGED_DETAILED = 4096
    MESSAGE_DEPART = 8192


class Reason(IntEnum):
    """Channel_Group_Change_Reason."""

    NONE = 0
    OFFLINE = 1
    KICKED = 2
    BUSY = 3
    INVITED = 4
    BANNED = 5
    ERROR = 6
    INVALID_CONTACT = 7
    NO_ANSWER = 8
    RENAMED = 9
    PERMISSION_DENIED = 10
    SEPARATED = 11


@dataclass(frozen=True)
class GroupEvent(ChannelEvent):
    interface = names.GROUP


@dataclass(frozen=True)
class MembersChanged(GroupEvent):
    """Group.MembersChanged."""

    message: str
    added: list[int]
    removed: list[int]
    local_pending: list[int]
    remote_pending: list[int]
    actor: int
    reason: int


@dataclass(frozen=True)
class MembersChangedDetailed(GroupEvent):
    """Group.MembersChangedDetailed; ``details`` is plain."""

    added: list[int]
    removed: list[int]
    local_pending: list[int]
    remote_pending: list[int]
    details: Mapping[str, object]


@dataclass(frozen=True)
class HandleOwnersChanged(GroupEvent):
    """Group.HandleOwnersChanged, deprecated, and what telepathy-qt listens to."""

    added: dict[int, int]
    removed: list[int]


@dataclass(frozen=True)
class HandleOwnersChangedDetailed(GroupEvent):
    """Group.HandleOwnersChangedDetailed."""

    added: dict[int, int]
    removed: list[int]
    identifiers: dict[int, str]


@dataclass(frozen=True)
class SelfHandleChanged(GroupEvent):
    """Group.SelfHandleChanged, deprecated, and what telepathy-glib listens to."""

    self_handle: int


@dataclass(frozen=True)
class SelfContactChanged(GroupEvent):
    """Group.SelfContactChanged."""

    self_handle: int
    self_id: str


@dataclass(frozen=True)
class GroupFlagsChanged(GroupEvent):
    """Group.GroupFlagsChanged."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Pending:
    """Why somebody is waiting for the user's consent."""

    actor: int
    reason: Reason
    message: str


class Group:
    """The members of one channel, and every signal about them in the order that is specified.

    Args:
        events: of the channel.
        identify: the identifier of a contact handle.
        self_handle: the user in this channel; not a member yet.
        flags: from the beginning.

    Attributes:
        known_owners: how many of ``handle_owners`` are not 0.
    """

    def __init__(
        self,
        events: Emitter[ChannelEvent],
        identify: Callable[[int], str],
        *,
        self_handle: int,
        flags: Flag,
    ) -> None:
        self._events = events
        self._identify = identify
        self.self_handle = self_handle
        self.flags = flags
        self._members: dict[int, None] = {}
        self._local: dict[int, Pending] = {}
        self._remote: dict[int, None] = {}
        self.handle_owners: dict[int, int] = {}
        self.known_owners = 0

    # -- properties -------------------------------------------------------------------------

    @property
    def group_flags(self) -> int:
        """Group.GroupFlags."""
        return int(self.flags)

    @property
    def member_list(self) -> list[int]:
        """Group.Members."""
        return list(self._members)

    @property
    def local_pending_members(self) -> list[tuple[int, int, int, str]]:
        """Group.LocalPendingMembers."""
        return [
            (handle, each.actor, int(each.reason), each.message)
            for handle, each in self._local.items()
        ]

    @property
    def remote_pending_members(self) -> list[int]:
        """Group.RemotePendingMembers."""
        return list(self._remote)

    @property
    def member_identifiers(self) -> dict[int, str]:
        """Group.MemberIdentifiers."""
        owners = self.handle_owners
        return self._named(
            (
                self.self_handle,
                *self._members,
                *self._local,
                *(each.actor for each in self._local.values()),
                *self._remote,
                *owners,
                *owners.values(),
            )
        )

    def is_member(self, handle: int) -> bool:
        return handle in self._members

    def is_local_pending(self, handle: int) -> bool:
        return handle in self._local

    def is_remote_pending(self, handle: int) -> bool:
        return handle in self._remote

    def _named(self, handles: Iterable[int]) -> dict[int, str]:
        return {each: self._identify(each) for each in handles if each}

    # -- changes ----------------------------------------------------------------------------

    def change(
        self,
        *,
        added: Iterable[int] = (),
        removed: Iterable[int] = (),
        local: Mapping[int, Pending] | None = None,
        remote: Iterable[int] = (),
        owners: Mapping[int, int] | None = None,
        actor: int = 0,
        reason: Reason = Reason.NONE,
        message: str = "",
        error: str = "",
    ) -> None:
        """Somebody moved into, out of or between the three lists.

        Args:
            removed: those who are in none are left out.
            owners: of handles that are this channel's own; 0 where it is not known.
            error: D-Bus name that says more than ``reason``.
        """
        joined = [each for each in dict.fromkeys(added) if each not in self._members]
        gone = [each for each in dict.fromkeys(removed) if self._is_anywhere(each)]
        waiting = {k: v for k, v in (local or {}).items() if k not in self._local}
        invited = [each for each in dict.fromkeys(remote) if each not in self._remote]
        self.set_owners(owners or {})
        for each in (*joined, *gone, *waiting, *invited):
            self._members.pop(each, None)
            self._local.pop(each, None)
            self._remote.pop(each, None)
        self._members.update(dict.fromkeys(joined))
        self._local.update(waiting)
        self._remote.update(dict.fromkeys(invited))
        if joined or gone or waiting or invited:
            self._tell(joined, gone, list(waiting), invited, actor, reason, message, error)
        lost = [each for each in gone if each in self.handle_owners and each != self.self_handle]
        if lost:
            self._forget_owners(lost)

    def _is_anywhere(self, handle: int) -> bool:
        return handle in self._members or handle in self._local or handle in self._remote

    def _tell(
        self,
        added: list[int],
        removed: list[int],
        local: list[int],
        remote: list[int],
        actor: int,
        reason: Reason,
        message: str,
        error: str,
    ) -> None:
        self._events.emit(
            MembersChanged(message, added, removed, local, remote, actor, int(reason))
        )
        details: dict[str, object] = {
            "change-reason": int(reason),
            "contact-ids": self._named((*added, *local, *remote, actor)),
        }
        for key, value in (("actor", actor), ("message", message), ("error", error)):
            if value:
                details[key] = value
        self._events.emit(MembersChangedDetailed(added, removed, local, remote, details))

    def set_owners(self, owners: Mapping[int, int]) -> None:
        """It became known whose these handles are; 0 is not known."""
        news = {
            handle: owner
            for handle, owner in owners.items()
            if self.handle_owners.get(handle) != owner
        }
        if news:
            for handle, owner in news.items():
                self.known_owners += bool(owner) - bool(self.handle_owners.get(handle))
                self.handle_owners[handle] = owner
            self._tell_owners(news, [])

    def _forget_owners(self, handles: list[int]) -> None:
        for each in handles:
            self.known_owners -= bool(self.handle_owners.pop(each))
        self._tell_owners({}, handles)

    def _tell_owners(self, added: dict[int, int], removed: list[int]) -> None:
        self._events.emit(HandleOwnersChanged(added, removed))
        named = self._named((*added, *added.values()))
        self._events.emit(HandleOwnersChangedDetailed(added, removed, named))

    def become(self, handle: int, owner: int) -> None:
        """The user is somebody else in this channel from now on, wherever he is in it."""
        old = self.self_handle
        if handle == old:
            return
        self.set_owners({handle: owner})
        self.self_handle = handle
        self._events.emit(SelfHandleChanged(handle))
        self._events.emit(SelfContactChanged(handle, self._identify(handle)))
        if old in self._members:
            self.change(added=[handle], removed=[old], actor=handle, reason=Reason.RENAMED)
        elif old in self._remote:
            self.change(remote=[handle], removed=[old], actor=handle, reason=Reason.RENAMED)
        elif old in self._local:
            pending = {handle: self._local[old]}
            self.change(local=pending, removed=[old], actor=handle, reason=Reason.RENAMED)
        elif old in self.handle_owners:
            self._forget_owners([old])

    def set_flags(self, flags: Flag) -> None:
        """What is possible now."""
        before, self.flags = self.flags, flags
        if flags != before:
            self._events.emit(GroupFlagsChanged(int(flags & ~before), int(before & ~flags)))
