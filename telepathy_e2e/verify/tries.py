"""How often somebody may guess (xtls-wire, section 5, "Tries").

A try counts from the moment it is spent, and only success takes it back. So a session that dies
half way, or a hundred sessions side by side, buy nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from telepathy_e2e.errors import NotAvailable

# Both from the wire page: with 30 bits a string, ten tries a day leave an attacker one chance in
# a hundred million a day, and each is seen.
MAX_TRIES_PER_SESSION = 3
MAX_TRIES_PER_CONTACT = 10

# "A day" is any 24 hours of the monotonic clock, not a date: a date would allow twice as many
# around midnight, and setting the wall clock would allow as many as one likes.
DAY = 24 * 60 * 60.0

_CLOSED_FOR_SESSION = (
    "Verification failed too often in this session; nothing more can be tried in it"
)
_CLOSED_FOR_CONTACT = (
    "Too many verifications of this contact failed within a day. Find out why, then"
    " reopen verification for this contact"
)


@dataclass
class _Contact:
    spent: dict[int, float] = field(default_factory=dict)
    closed: bool = False


class ContactTries:
    """The tries of all sessions, by account and contact. One for the whole process.

    An entry costs a ceremony that this user has started or agreed to, so people bound the memory.
    """

    def __init__(self) -> None:
        self._contacts: dict[tuple[str, str], _Contact] = {}
        self._next = 0

    def session(self, account: str, contact: str) -> Tries:
        """The tries of a new session.

        Args:
            account, contact: bare JIDs.
        """
        return Tries(self, account, contact)

    def closed(self, account: str, contact: str, now: float) -> bool:
        """Whether a person has to reopen the methods for this contact first."""
        return self._contact(account, contact, now).closed

    def reopen(self, account: str, contact: str) -> None:
        """A person wants to try again with this contact."""
        self._contacts.pop((account, contact), None)

    def spend(self, account: str, contact: str, now: float) -> int:
        """Counts a try; returns the token for ``give_back``.

        Raises:
            NotAvailable: closed for this contact.
        """
        entry = self._contact(account, contact, now)
        if entry.closed:
            raise NotAvailable(_CLOSED_FOR_CONTACT)
        self._next += 1
        self._contacts[account, contact] = entry
        entry.spent[self._next] = now
        # Closed stays closed when the day is over: only a person opens it again.
        entry.closed = len(entry.spent) >= MAX_TRIES_PER_CONTACT
        return self._next

    def give_back(self, account: str, contact: str, token: int) -> None:
        """The try ended well."""
        entry = self._contacts.get((account, contact))
        if entry is None or entry.spent.pop(token, None) is None:
            return
        entry.closed = len(entry.spent) >= MAX_TRIES_PER_CONTACT
        if not entry.spent:
            del self._contacts[account, contact]

    def _contact(self, account: str, contact: str, now: float) -> _Contact:
        entry = self._contacts.get((account, contact))
        if entry is None:
            return _Contact()
        if not entry.closed:
            entry.spent = {token: at for token, at in entry.spent.items() if now - at < DAY}
            if not entry.spent:
                del self._contacts[account, contact]
        return entry


class Tries:
    """The tries of one session, over all its epochs and methods. At most one is under way."""

    def __init__(self, contacts: ContactTries, account: str, contact: str) -> None:
        self._contacts = contacts
        self._account = account
        self._contact = contact
        self._token: int | None = None
        self._spent = 0

    @property
    def failed(self) -> int:
        """How many were spent and did not succeed; one that is under way counts."""
        return self._spent

    def check(self, now: float) -> None:
        """Nothing happens if there is a try left.

        Raises:
            NotAvailable: with the sentence for the user.
        """
        if self._spent >= MAX_TRIES_PER_SESSION:
            raise NotAvailable(_CLOSED_FOR_SESSION)
        if self._contacts.closed(self._account, self._contact, now):
            raise NotAvailable(_CLOSED_FOR_CONTACT)

    def spend(self, now: float) -> None:
        """Call before the message that spends it is sent.

        Raises:
            NotAvailable: none left; nothing was spent.
        """
        self.check(now)
        self._token = self._contacts.spend(self._account, self._contact, now)
        self._spent += 1

    def succeeded(self) -> None:
        """The try that was spent last ended well and does not count."""
        if self._token is None:
            raise ValueError("no try is under way")
        self._contacts.give_back(self._account, self._contact, self._token)
        self._token = None
        self._spent -= 1
