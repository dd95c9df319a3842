"""One room as we see it: who is in it, and what happens there (XEP-0045). Pure, and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import muc
from telepathy_e2e.xmpp.iq import stanza_error
from telepathy_e2e.xmpp.jid import bare, normalise, resource_of
from telepathy_e2e.xmpp.markup import CLIENT
from telepathy_e2e.xmpp.messages import Message
from telepathy_e2e.xmpp.muc import Destroyed, Extension, Item

# Occupants of one room that are kept. The largest public rooms have about two thousand; of those
# who come after the bound nothing is shown but what they say.
MAX_OCCUPANTS = 5_000
# Characters of what occupants say of themselves.
MAX_STATUS = 256
# Characters of a subject; public rooms fill some hundred.
MAX_SUBJECT = 10_000
# How often a nick that is taken gets a longer tail.
MAX_NICKS_TRIED = 5
# Bytes of a nick (RFC 7622), with room for the tail.
MAX_NICK = 1023

_SHOWS = frozenset(("away", "chat", "dnd", "xa"))


class Departure(StrEnum):
    """Why somebody is not in a room any longer."""

    LEFT = "left"
    KICKED = "kicked"
    BANNED = "banned"
    REMOVED = "removed"
    SHUTDOWN = "shutdown"
    FAILED = "failed"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Occupant:
    """Somebody in a room.

    Attributes:
        jid: real bare JID where the room shows it, or empty.
        show: as in a presence; empty is available.
    """

    nick: str
    affiliation: str = "none"
    role: str = "none"
    jid: str = ""
    show: str = ""
    status: str = ""


class Event:
    """What happened in a room."""


@dataclass(frozen=True)
class Send(Event):
    """A stanza has to go out."""

    stanza: Element


@dataclass(frozen=True)
class Joined(Event):
    """We are in, and everybody who was there before is in ``Room.occupants``.

    Attributes:
        created: it is a new room, and locked until it is configured.
    """

    created: bool
    statuses: frozenset[int]


@dataclass(frozen=True)
class Refused(Event):
    """We do not get in.

    Attributes:
        condition: of RFC 6120 section 8.3.3.
        text: the room's words.
    """

    condition: str
    text: str


@dataclass(frozen=True)
class Came(Event):
    """Somebody came in after us."""

    occupant: Occupant


@dataclass(frozen=True)
class Went(Event):
    """Somebody else is gone.

    Attributes:
        actor: nick or JID of who saw to it, or empty.
    """

    occupant: Occupant
    why: Departure
    actor: str
    reason: str


@dataclass(frozen=True)
class Became(Event):
    """Somebody, or we ourselves, is something else than before."""

    before: Occupant
    after: Occupant


@dataclass(frozen=True)
class Renamed(Event):
    """Somebody, or we ourselves (``ours``), has another nick."""

    before: Occupant
    after: Occupant
    ours: bool


@dataclass(frozen=True)
class Out(Event):
    """We are not in the room any longer."""

    why: Departure
    actor: str
    reason: str
    destroyed: Destroyed | None = None


@dataclass(frozen=True)
class Reconfigured(Event):
    """The room is not what it was; these status codes came with the news."""

    statuses: frozenset[int]


@dataclass(frozen=True)
class SubjectChanged(Event):
    """What the room talks about.

    Attributes:
        nick: of who says so, or empty if the room does.
        stamp: since when, if it was before we came.
        id: of the message.
    """

    subject: str
    nick: str
    stamp: datetime | None
    id: str


@dataclass(frozen=True)
class Said(Event):
    """A message.

    Attributes:
        nick: of who wrote it; empty: the room itself.
        stamp: when, if it is history.
        ours: it comes from our own nick.
    """

    nick: str
    message: Message
    stamp: datetime | None
    ours: bool


class Room:
    """One room; a new one each time that it is entered.

    Args:
        jid: bare, normalised.
        nick: that we would like to have; normalised as a resource.
    """

    def __init__(self, jid: str, nick: str) -> None:
        self.jid = jid
        self.nick = nick
        self.state = "out"
        self.subject = ""
        self._occupants: dict[str, Occupant] = {}
        self._password = ""
        self._history: int | None = None
        self._since = ""
        self._tried = 0
        self._statuses: frozenset[int] = frozenset()
        self._renaming: dict[str, str] = {}

    @property
    def occupants(self) -> Mapping[str, Occupant]:
        """Everybody who is in, by nick; ourselves too."""
        return self._occupants

    @property
    def me(self) -> Occupant:
        """Ourselves, also while we are not in."""
        return self._occupants.get(self.nick) or Occupant(self.nick)

    # -- ours -------------------------------------------------------------------------------

    def join(self, *, password: str = "", history: int | None = None, since: str = "") -> Element:
        """Begin to come in; ``Joined`` or ``Refused`` follows."""
        self.state = "joining"
        self._clear()
        self._password, self._history, self._since = password, history, since
        return self._join()

    def _join(self) -> Element:
        return muc.join(
            self.jid,
            self.nick,
            password=self._password,
            history=self._history,
            since=self._since,
        )

    def leave(self, message: str = "") -> Element:
        """Go; nothing of what still comes from there counts."""
        self.state = "out"
        self._clear()
        return muc.leave(self.jid, self.nick, message)

    # -- presence ---------------------------------------------------------------------------

    def receive_presence(self, stanza: Element) -> list[Event]:
        """A presence from the room or from somebody in it.

        Raises:
            PeerError: from nowhere.
        """
        try:
            sender = normalise(stanza.get("from", ""))
        except ValueError:
            raise PeerError("an address that is none", "jid-malformed") from None
        if bare(sender) != self.jid:
            raise PeerError("a presence from elsewhere", "not-acceptable")
        nick, type = resource_of(sender), stanza.get("type")
        if self.state == "out":
            return []
        if type == "error":
            return self._error(nick, stanza)
        extension = muc.parse(stanza)
        if type == "unavailable":
            return self._unavailable(nick, extension, stanza)
        # A room may have a presence of its own (a picture); nobody is called nothing.
        return self._available(nick, extension, stanza) if type is None and nick else []

    def _error(self, nick: str, stanza: Element) -> list[Event]:
        # Some servers answer as the room, others as who we would be there.
        if self.state != "joining" or nick not in ("", self.nick):
            return []
        error = stanza_error(stanza)
        longer = self.nick + "_"
        if (
            error.condition == "conflict"
            and self._tried < MAX_NICKS_TRIED
            and len(longer.encode()) <= MAX_NICK
        ):
            self._tried += 1
            self.nick = longer
            return [Send(self._join())]
        self.state = "out"
        self._clear()
        return [Refused(error.condition, error.text)]

    def _available(self, nick: str, extension: Extension, stanza: Element) -> list[Event]:
        occupant = _occupant(nick, extension.item, stanza)
        # Old servers do not say 110 (section 7.2.2); then it is the nick that we asked for.
        is_me = muc.SELF in extension.statuses or nick == self.nick
        if self.state == "joining":
            if is_me:
                return self._entered(occupant, extension.statuses)
            self._keep(occupant)
            return []
        if (promised := self._renaming.pop(nick, None)) is not None:
            old = self._occupants.pop(promised, None)
            if old is not None:
                return self._renamed(old, occupant)
        before = self._occupants.get(nick)
        if not self._keep(occupant):
            return []
        if before is None:
            return [Came(occupant)]
        return [Became(before, occupant)] if before != occupant else []

    def _entered(self, me: Occupant, statuses: frozenset[int]) -> list[Event]:
        self.state = "in"
        self.nick = me.nick  # the service may have given us another (status 210)
        self._occupants[me.nick] = me
        return [Joined(muc.CREATED in statuses, statuses)]

    def _keep(self, occupant: Occupant) -> bool:
        # One place is ours, and may come last.
        if occupant.nick not in self._occupants and len(self._occupants) >= MAX_OCCUPANTS - 1:
            return False
        self._occupants[occupant.nick] = occupant
        return True

    def _unavailable(self, nick: str, extension: Extension, stanza: Element) -> list[Event]:
        statuses, item = extension.statuses, extension.item
        is_me = nick == self.nick or (muc.SELF in statuses and nick not in self._occupants)
        if muc.NEW_NICK in statuses and item.nick and item.nick != nick:
            if self.state == "joining":
                self._occupants.pop(nick, None)
            elif nick in self._occupants:
                self._forget_promise(nick)
                self._renaming[item.nick] = nick
            return []
        why = _departure(extension)
        if is_me:
            # The end of an earlier visit may come when we are on our way in again.
            if self.state == "joining" and why is Departure.LEFT:
                return []
            self.state = "out"
            self._clear()
            reason = _reason(extension, stanza)
            return [Out(why, item.actor, reason, extension.destroyed)]
        gone = self._occupants.pop(nick, None)
        self._forget_promise(nick)
        if gone is None or self.state == "joining":
            return []
        return [Went(gone, why, item.actor, _reason(extension, stanza))]

    def _clear(self) -> None:
        self._occupants.clear()
        self._renaming.clear()

    def _forget_promise(self, nick: str) -> None:
        """One each, and of those who are there: no more than there are occupants."""
        for new in [new for new, old in self._renaming.items() if old == nick]:
            del self._renaming[new]

    def _renamed(self, old: Occupant, new: Occupant) -> list[Event]:
        # Two programs of the same person may end up under one nick.
        there = self._occupants.pop(new.nick, None)
        self._occupants[new.nick] = new
        ours = old.nick == self.nick
        if ours:
            self.nick = new.nick
        renamed = Renamed(old, new, ours)
        return [renamed] if there is None else [Went(there, Departure.LEFT, "", ""), renamed]

    # -- messages ---------------------------------------------------------------------------

    def receive_message(self, message: Message, extension: Extension) -> list[Event]:
        """A message of type groupchat, or one without a type from the room itself.

        Args:
            extension: what ``muc.parse`` says of its stanza.
        Raises:
            PeerError: from elsewhere.
        """
        if bare(message.from_) != self.jid:
            raise PeerError("a message from elsewhere", "not-acceptable")
        if self.state != "in":
            return []
        nick = resource_of(message.from_)
        events: list[Event] = []
        changed = extension.statuses & muc.CONFIGURATION
        if changed and not nick:  # occupants do not speak for the room
            events.append(Reconfigured(changed))
        if message.type != "groupchat":
            return events
        # The room strips this from what occupants send (section 7.2.14).
        stamp = message.delayed_by(self.jid)
        # "a <subject/> and a <body/> or a <subject/> and a <thread/> is a legitimate message, but
        # it SHALL NOT be interpreted as a subject change" (section 7.2.15)
        if message.subject is not None and message.body is None and not message.thread:
            self.subject = message.subject[:MAX_SUBJECT]
            events.append(SubjectChanged(self.subject, nick, stamp, message.token))
        elif message.body or message.state:
            ours = nick == self.nick
            # An old subject is no part of a text.
            said = replace(message, subject=None)
            events.append(Said(nick, said, stamp, ours))
        return events


def _occupant(nick: str, item: Item, stanza: Element) -> Occupant:
    show = stanza.findtext(f"{{{CLIENT}}}show", "")
    return Occupant(
        nick,
        item.affiliation,
        item.role,
        bare(item.jid),
        show if show in _SHOWS else "",
        stanza.findtext(f"{{{CLIENT}}}status", "")[:MAX_STATUS],
    )


def _departure(extension: Extension) -> Departure:
    statuses = extension.statuses
    if extension.destroyed is not None:
        return Departure.DESTROYED
    for code, why in (
        (muc.BANNED, Departure.BANNED),
        # A server that loses somebody may say both (section 9.1.1, 333): nobody kicked him.
        (muc.FAILED, Departure.FAILED),
        (muc.KICKED, Departure.KICKED),
        (muc.AFFILIATION_LOST, Departure.REMOVED),
        (muc.MEMBERS_ONLY, Departure.REMOVED),
        (muc.SHUTDOWN, Departure.SHUTDOWN),
    ):
        if code in statuses:
            return why
    return Departure.LEFT


def _reason(extension: Extension, stanza: Element) -> str:
    said = extension.destroyed.reason if extension.destroyed is not None else extension.item.reason
    return said or stanza.findtext(f"{{{CLIENT}}}status", "")[: muc.MAX_REASON]
