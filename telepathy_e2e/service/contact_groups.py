"""ContactGroups: the groups of the contact list, which are marks on its entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from telepathy_e2e.errors import DoesNotExist, InvalidArgument, InvalidHandle, NotAvailable
from telepathy_e2e.service import names
from telepathy_e2e.service.contact_list import SLICE, STATE_SUCCESS
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.roster import MAX_GROUPS, MAX_NAME, RosterChange, RosterItem

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

# Contact_Metadata_Storage_Type
STORAGE_ANYONE = 3

Names = tuple[str, ...]


@dataclass(frozen=True)
class GroupsCreated(ConnectionEvent):
    interface = names.CONTACT_GROUPS

    groups: Names


@dataclass(frozen=True)
class GroupsRemoved(ConnectionEvent):
    interface = names.CONTACT_GROUPS

    groups: Names


@dataclass(frozen=True)
class GroupRenamed(ConnectionEvent):
    interface = names.CONTACT_GROUPS

    old_name: str
    new_name: str


@dataclass(frozen=True)
class GroupsChanged(ConnectionEvent):
    """These contacts were put into and taken out of groups."""

    interface = names.CONTACT_GROUPS

    contacts: tuple[int, ...]
    added: Names
    removed: Names


class ContactGroups(Feature):
    """See the methods of ``Connection.Interface.ContactGroups``.

    What one method changes is told when all of it is done: entries change one at a time, and a
    group that moves would be told of a hundred times.
    """

    disjoint_groups = False
    group_storage = STORAGE_ANYONE

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sizes: Counter[str] = Counter()
        self._told: set[str] = set()
        # What contacts' groups were when the first of the methods that run began.
        self._held: dict[str, Names] = {}
        self._holders = 0

    @property
    def groups(self) -> list[str]:
        """The names of all groups."""
        return sorted(self._sizes)

    def of(self, handle: int) -> list[str]:
        """The groups of a contact.

        Raises:
            InvalidHandle: no such contact.
        """
        return list(self._of(self._account.handles.inspect(handle)))

    def _of(self, jid: str) -> Names:
        item = self._account.client.contacts().get(jid)
        return item.groups if item is not None else ()

    # -- what the server says ---------------------------------------------------------------

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        moved: dict[str, Names] = {}
        for change in changes:
            before = change.before.groups if change.before is not None else ()
            after = change.after.groups if change.after is not None else ()
            if before == after:
                continue
            moved[change.jid] = before
            self._sizes.update(after)
            self._sizes.subtract(before)
            for group in before:
                if not self._sizes[group]:
                    del self._sizes[group]
        if self._account.contact_list.contact_list_state != STATE_SUCCESS:
            return
        if self._holders:
            for jid, before in moved.items():
                self._held.setdefault(jid, before)
        else:
            self._tell(moved)

    def announce(self, jids: Iterable[str]) -> None:
        """The list has been loaded: tell of the groups of these."""
        self._tell(dict.fromkeys(jids, ()))

    def _tell(self, moved: dict[str, Names], renamed: tuple[str, str] | None = None) -> None:
        """Signals in the order that the specification wants.

        Args:
            moved: contacts with the groups that they were in.
            renamed: the group that has another name, if that is what happened.
        """
        emit = self._account.events.emit
        there = set(self._sizes)
        created = tuple(sorted(there - self._told))
        removed = tuple(sorted(self._told - there))
        self._told = there
        if renamed is not None and renamed[0] in removed and renamed[1] in created:
            emit(GroupRenamed(*renamed))
        if created:
            emit(GroupsCreated(created))
        if removed:
            emit(GroupsRemoved(removed))
        alike: dict[tuple[Names, Names], list[int]] = {}
        for jid, before in moved.items():
            after = self._of(jid)
            added = tuple(each for each in after if each not in before)
            gone = tuple(each for each in before if each not in after)
            if added or gone:
                handle = self._account.handles.of_jid(jid)
                alike.setdefault((added, gone), []).append(handle)
        for (added, gone), handles in alike.items():
            for start in range(0, len(handles), SLICE):
                emit(GroupsChanged(tuple(handles[start : start + SLICE]), added, gone))

    @asynccontextmanager
    async def _together(self, renamed: tuple[str, str] | None = None) -> AsyncIterator[None]:
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                held, self._held = self._held, {}
                self._tell(held, renamed)

    # -- what the user says -----------------------------------------------------------------

    async def set_contact_groups(self, handle: int, groups: Sequence[str]) -> None:
        """ContactGroups.SetContactGroups.

        Raises:
            Disconnected, NotYet: see ``ContactList.check_ready``.
            InvalidHandle: no contact, or oneself.
            InvalidArgument: a name that no group can have, or too many of them.
            NetworkError, NotAvailable, PermissionDenied: the server does not want to.
        """
        (jid,) = self._jids([handle])
        wanted = set(self._checked(*groups))
        if len(wanted) > MAX_GROUPS:
            raise InvalidArgument(f"A contact cannot be in more than {MAX_GROUPS} groups")
        async with self._together():
            await self._edit([jid], wanted, set(self._of(jid)) - wanted)

    async def set_group_members(self, group: str, handles: Iterable[int]) -> None:
        """ContactGroups.SetGroupMembers: these and no others. Raises: likewise."""
        jids = self._jids(handles)
        self._checked(group)
        others = [jid for jid in self._members(group) if jid not in set(jids)]
        async with self._together():
            await self._edit(jids, {group}, set())
            await self._edit(others, set(), {group})

    async def add_to_group(self, group: str, handles: Iterable[int]) -> None:
        """ContactGroups.AddToGroup. Raises: likewise."""
        jids = self._jids(handles)
        self._checked(group)
        async with self._together():
            await self._edit(jids, {group}, set())

    async def remove_from_group(self, group: str, handles: Iterable[int]) -> None:
        """ContactGroups.RemoveFromGroup. Raises: likewise."""
        members = set(self._members(group))
        jids = [jid for jid in self._jids(handles) if jid in members]
        async with self._together():
            await self._edit(jids, set(), {group})

    async def remove_group(self, group: str) -> None:
        """ContactGroups.RemoveGroup; its members stay contacts. Raises: likewise."""
        self._account.contact_list.check_ready()
        async with self._together():
            await self._edit(self._members(group), set(), {group})

    async def rename_group(self, old: str, new: str) -> None:
        """ContactGroups.RenameGroup.

        Raises:
            DoesNotExist: no group has the old name.
            NotAvailable: one has the new name.
            TelepathyError: likewise.
        """
        self._account.contact_list.check_ready()
        if old not in self._sizes:
            raise DoesNotExist(f"There is no group {old!r}")
        self._checked(new)
        if new == old:
            return
        if new in self._sizes:
            raise NotAvailable(f"There is a group {new!r} already")
        async with self._together((old, new)):
            await self._edit(self._members(old), {new}, {old})

    def _members(self, group: str) -> list[str]:
        contacts = self._account.client.contacts()
        return [jid for jid, item in contacts.items() if group in item.groups]

    def _jids(self, handles: Iterable[int]) -> list[str]:
        self._account.contact_list.check_ready()
        jids = list(dict.fromkeys(self._account.handles.inspect(each) for each in handles))
        if self._account.self_id in jids:
            raise InvalidHandle("Nobody is in a group of his own contact list")
        return jids

    @staticmethod
    def _checked(*groups: str) -> tuple[str, ...]:
        for group in groups:
            if not 0 < len(group) <= MAX_NAME or not is_sendable(group):
                raise InvalidArgument(
                    f"The name of a group has 1 to {MAX_NAME} characters, and no control characters"
                )
        return groups

    async def _edit(self, jids: Sequence[str], add: set[str], remove: set[str]) -> None:
        def edit(item: RosterItem) -> RosterItem:
            return replace(item, groups=tuple(sorted((set(item.groups) - remove) | add)))

        roster = self._account.client.roster
        await self._account.contact_list.for_each(
            jids, lambda jid: roster.change(jid, edit), "The groups could not be changed"
        )
