"""Handles: small numbers for contacts, stable while the connection lives."""

from __future__ import annotations

from telepathy_e2e.errors import InvalidHandle, NotImplementedByUs
from telepathy_e2e.xmpp.jid import bare, normalise

HANDLE_TYPE_NONE = 0
HANDLE_TYPE_CONTACT = 1

# Strangers can make us learn JIDs (an offer, a presence); past this many the connection answers
# with an error instead of growing. A large roster has some thousand contacts.
MAX_HANDLES = 100_000


class Handles:
    """Contact handles and their normalised bare JIDs; handles are immortal and never reused."""

    def __init__(self) -> None:
        self._by_identifier: dict[str, int] = {}
        self._identifiers: list[str] = [""]

    def ensure(self, identifier: str) -> int:
        """The handle of a contact.

        Args:
            identifier: any JID; a resource is cut off.
        Raises:
            InvalidHandle: not a JID, or too many handles.
        """
        try:
            jid = bare(normalise(identifier))
        except ValueError as error:
            raise InvalidHandle(f"This is not a valid contact identifier: {error}") from error
        return self.of_jid(jid)

    def of_jid(self, jid: str) -> int:
        """The same for a bare JID that is known to be normalised."""
        handle = self._by_identifier.get(jid)
        if handle is None:
            if len(self._identifiers) > MAX_HANDLES:
                raise InvalidHandle("This connection knows too many contacts already")
            handle = len(self._identifiers)
            self._identifiers.append(jid)
            self._by_identifier[jid] = handle
        return handle

    def inspect(self, handle: int) -> str:
        """The bare JID of a contact handle.

        Raises:
            InvalidHandle: no such handle.
        """
        if not 0 < handle < len(self._identifiers):
            raise InvalidHandle(f"There is no contact with the handle {handle}")
        return self._identifiers[handle]

    @staticmethod
    def check_type(handle_type: int) -> None:
        """Only contacts have handles so far.

        Raises:
            NotImplementedByUs: another handle type.
        """
        if handle_type != HANDLE_TYPE_CONTACT:
            raise NotImplementedByUs("Only handles of contacts (type 1) are supported")
