"""Handles: small numbers for contacts and rooms, stable while the connection lives."""

from __future__ import annotations

from collections.abc import Callable

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotImplementedByUs
from telepathy_e2e.xmpp.jid import bare, local_of, normalise

# Handle_Type
HANDLE_TYPE_NONE = 0
HANDLE_TYPE_CONTACT = 1
HANDLE_TYPE_ROOM = 2

_KINDS = {HANDLE_TYPE_CONTACT: "contact", HANDLE_TYPE_ROOM: "room"}

# Strangers can make us learn JIDs (an offer, a presence, a room full of them); past this many the
# connection answers with an error instead of growing. A large roster has some thousand contacts, 50
# large rooms have ten thousand occupants.
MAX_HANDLES = 100_000


class Handles:
    """Handles of each type and their normalised JIDs; handles are immortal and never reused.

    A contact is a bare JID, or an occupant of a room by its full JID in it; a room is a bare JID.

    Attributes:
        is_occupant: whether a full JID is that of somebody in a room that we are in.
    """

    def __init__(self) -> None:
        self.is_occupant: Callable[[str], bool] = lambda full_jid: False
        self._tables = {kind: _Table() for kind in _KINDS}

    def ensure(self, identifier: str, kind: int = HANDLE_TYPE_CONTACT) -> int:
        """The handle of a contact or room.

        Args:
            identifier: any JID; a resource is cut off, but of an occupant.
            kind: Handle_Type.
        Raises:
            InvalidHandle: not a JID, or too many handles.
            NotImplementedByUs: another handle type.
        """
        self.check_type(kind)
        try:
            full = normalise(identifier)
        except ValueError as error:
            raise InvalidHandle(
                f"This is not a valid {_KINDS[kind]} identifier: {error}"
            ) from error
        jid = full if kind == HANDLE_TYPE_CONTACT and self.is_occupant(full) else bare(full)
        if kind == HANDLE_TYPE_ROOM and not local_of(jid):
            raise InvalidHandle("A room looks like name@conference.example.org")
        return self.of_jid(jid, kind)

    def of_jid(self, jid: str, kind: int = HANDLE_TYPE_CONTACT) -> int:
        """The same for a JID that is known to be normalised, and taken as it is."""
        return self._tables[kind].ensure(jid)

    def find(self, jid: str, kind: int = HANDLE_TYPE_CONTACT) -> int | None:
        """The handle of a normalised JID if it has one: for what strangers make us hear of."""
        return self._tables[kind].find(jid)

    def inspect(self, handle: int, kind: int = HANDLE_TYPE_CONTACT) -> str:
        """The JID of a handle.

        Raises:
            InvalidHandle: no such handle.
            NotImplementedByUs: another handle type.
        """
        self.check_type(kind)
        return self._tables[kind].inspect(handle, _KINDS[kind])

    @staticmethod
    def check_type(kind: int) -> None:
        """Contacts and rooms have handles.

        Raises:
            InvalidArgument: no such handle type.
            NotImplementedByUs: another one.
        """
        if not 0 < kind <= 4:
            raise InvalidArgument(f"There is no handle type {kind}")
        if kind not in _KINDS:
            raise NotImplementedByUs("Only contacts (type 1) and rooms (type 2) have handles")


class _Table:
    """Handles of one type."""

    def __init__(self) -> None:
        self._handles: dict[str, int] = {}
        self._identifiers: list[str] = [""]

    def ensure(self, jid: str) -> int:
        handle = self._handles.get(jid)
        if handle is None:
            if len(self._identifiers) > MAX_HANDLES:
                raise InvalidHandle("This connection knows too many contacts already")
            handle = len(self._identifiers)
            self._identifiers.append(jid)
            self._handles[jid] = handle
        return handle

    def find(self, jid: str) -> int | None:
        return self._handles.get(jid)

    def inspect(self, handle: int, word: str) -> str:
        if not 0 < handle < len(self._identifiers):
            raise InvalidHandle(f"There is no {word} with the handle {handle}")
        return self._identifiers[handle]
