"""All Jingle sessions of one account, by peer and sid together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role

from .base import BaseSession
from .call_session import CallSession
from .events import Event, out_of_order, tie_break, unknown_session
from .rtp import is_rtp
from .session import Session
from .stanzas import Action, Content, Jingle
from .states import State

# Sessions in all from which on peers cannot open more. Each may hold a transport's buffers and
# a TLS state, some 100 kB together: a tenth of a gigabyte at the worst.
MAX_SESSIONS: Final = 1000

# Of one bare JID: more files at once than anybody drops on a contact, and too few for one contact
# to use up all.
MAX_PER_PEER: Final = 64

# Of one bare JID that is not in the roster: enough for a few files, each of which asks the user.
MAX_PER_STRANGER: Final = 8

# Of all strangers together. A server can make up bare JIDs without end; those may not keep the
# contacts out.
MAX_STRANGERS: Final = 200


_S = TypeVar("_S", bound=BaseSession)


@dataclass(frozen=True)
class _Entry(Generic[_S]):
    session: _S
    stranger: bool
    """Opened by a peer that was not in the roster then."""


class Registry(Generic[_S]):
    """The table of sessions, and the gate through which peers' stanzas reach them.

    Args:
        new: makes the session for a peer's offer, of own and peer's full JID and the offer.
    """

    def __init__(self, new: Callable[[str, str, Jingle], _S]) -> None:
        self._new = new
        self._entries: dict[tuple[str, str], _Entry[_S]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_S]:
        return iter([entry.session for entry in self._entries.values()])

    def add(self, session: _S) -> None:
        """Enter a session of our own making; its sid must be fresh and unguessable.

        No bound: the user's own sessions are few, and must not wait for what peers opened.
        Raises: ValueError: the peer and sid are in use.
        """
        key = (session.peer, session.sid)
        if self.get(*key) is not None:
            raise ValueError("this peer and sid are in use")
        self._entries[key] = _Entry(session, stranger=False)

    def get(self, peer: str, sid: str) -> _S | None:
        """The session with this full JID and sid that is not over."""
        entry = self._entries.get((peer, sid))
        if entry is not None and entry.session.state is State.ENDED:
            del self._entries[(peer, sid)]
            return None
        return None if entry is None else entry.session

    def remove(self, session: _S) -> None:
        """Forget a session; one that has been forgotten already is fine."""
        entry = self._entries.get((session.peer, session.sid))
        if entry is not None and entry.session is session:
            del self._entries[(session.peer, session.sid)]

    def receive(
        self, peer: str, jingle: Jingle, *, own: str, in_roster: bool
    ) -> tuple[_S, list[Event]]:
        """Hand a stanza to its session; a session-initiate makes one.

        Args:
            peer: full JID from the stanza's ``from``.
            own: full JID from its ``to``.
            in_roster: whether the peer's bare JID is a contact.
        Returns:
            the session and what happened; one that ended is forgotten already.
        Raises:
            PeerError: answer with this error; nothing has changed.
        """
        session = self.get(peer, jingle.sid)
        if jingle.action is Action.SESSION_INITIATE:
            return self._initiated(session, peer, jingle, own, in_roster)
        if session is None:
            raise unknown_session()
        events = session.receive(jingle)
        if session.state is State.ENDED:
            self.remove(session)
        return session, events

    def _initiated(
        self, existing: _S | None, peer: str, jingle: Jingle, own: str, in_roster: bool
    ) -> tuple[_S, list[Event]]:
        if existing is not None:
            # Our own sids are random and 128 bits long. Section 7.2.16 lets the lower JID win if
            # both sides chose the same; a peer that sends ours back did not choose it, and must
            # not get to put its session in the place of ours.
            if existing.role is Role.INITIATOR and existing.state is State.PENDING:
                raise tie_break()
            raise out_of_order(jingle.action)
        if any(self._ties(ours, jingle) and ours.peer == peer for ours in self):
            raise tie_break()
        session = self._new(own, peer, jingle)
        events = session.receive(jingle)
        self._admit(peer, in_roster)
        self._entries[(peer, jingle.sid)] = _Entry(session, stranger=not in_roster)
        return session, events

    @staticmethod
    def _ties(ours: BaseSession, theirs: Jingle) -> bool:
        """Whether our unanswered initiate overrules theirs: it asks for the same, with a lower sid.

        Theirs has the lower one: theirs goes on, and the peer will refuse ours.
        """
        if ours.role is not Role.INITIATOR or ours.state is not State.PENDING:
            return False
        # "i;octet" (RFC 4790 section 9.3): octets of UTF-8.
        if ours.sid.encode() > theirs.sid.encode():
            return False
        return any(_equivalent(own, their) for own in ours.offered for their in theirs.contents)

    def _admit(self, peer: str, in_roster: bool) -> None:
        """Raises: PeerError ``resource-constraint`` (section 6.3.2): no room for one more."""
        for key in [
            key for key, each in self._entries.items() if each.session.state is State.ENDED
        ]:
            del self._entries[key]
        bare = _bare(peer)
        of_peer = sum(
            entry.session.role is Role.RESPONDER and _bare(entry.session.peer) == bare
            for entry in self._entries.values()
        )
        strangers = sum(entry.stranger for entry in self._entries.values())
        if (
            len(self._entries) >= MAX_SESSIONS
            or of_peer >= (MAX_PER_PEER if in_roster else MAX_PER_STRANGER)
            or (not in_roster and strangers >= MAX_STRANGERS)
        ):
            raise PeerError("too many sessions", "resource-constraint")


def new_session(own: str, peer: str, jingle: Jingle) -> Session:
    """A session of one content, for a peer's offer."""
    return Session(Role.RESPONDER, own, peer, jingle.sid)


def new_call_or_session(own: str, peer: str, jingle: Jingle) -> BaseSession:
    """A call for an offer of media, and else a session of one content."""
    if jingle.contents and is_rtp(jingle.contents[0].description):
        return CallSession(Role.RESPONDER, own, peer, jingle.sid)
    return new_session(own, peer, jingle)


class Sessions(Registry[Session]):
    """A registry that has no calls."""

    def __init__(self) -> None:
        super().__init__(new_session)


def _equivalent(ours: Content, theirs: Content) -> bool:
    """Whether two initiates that crossed ask for the same thing (section 7.2.16).

    The same application, and data in the same direction. Two people who send each other a file in
    the same moment mean two files; two who call each other mean one call, whatever the media.
    """
    if ours.description is None or theirs.description is None:
        return False
    mirrored = {"initiator": "responder", "responder": "initiator"}
    senders = theirs.senders or "both"
    return ours.description.tag == theirs.description.tag and (
        (ours.senders or "both") == mirrored.get(senders, senders)
    )


def _bare(jid: str) -> str:
    return jid.partition("/")[0]
