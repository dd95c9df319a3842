"""Who is on the contact list, and who of them is there (RFC 6121). Pure, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.xmpp.caps import Identity, Info
from telepathy_e2e.xmpp.iq import stanza_error
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.markup import CLIENT

ROSTER = "jabber:iq:roster"
QUERY_ROSTER = f"{{{ROSTER}}}query"
PRESENCE = f"{{{CLIENT}}}presence"

# Contacts kept. Large public-service accounts have some thousands; the server is not trusted.
MAX_CONTACTS = 20_000
# Groups of one contact, and characters of a name or group: people type these.
MAX_GROUPS = 64
MAX_NAME = 256
# Names of groups that are held once; a list with more of them is not a person's.
MAX_SHARED = 1_000
# Resources of one contact. Servers allow about ten sessions an account.
MAX_RESOURCES = 32
# People not on the list whose (directed) presence is kept: whoever likes can send one.
MAX_STRANGERS = 256
# Characters of a status message.
MAX_STATUS = 1024

# Contacts whose last words (the message with which they left, or the server's error) are kept:
# a message is up to a kilobyte, and few leave one.
MAX_LAST_WORDS = 1_000

_SUBSCRIPTIONS = ("none", "to", "from", "both")
_SHOWS = ("away", "chat", "dnd", "xa")
# Among programs of the same priority the one whose user is most likely to answer.
_RANK = {"chat": 4, "": 3, "away": 2, "xa": 1, "dnd": 0}


@dataclass(frozen=True, slots=True)
class RosterItem:
    """A contact as the server keeps it (RFC 6121 section 2.1.2).

    Attributes:
        asked: we asked to see the contact's presence, and there is no answer yet.
        approved: the contact may see ours as soon as it asks.
    """

    name: str
    subscription: str
    groups: tuple[str, ...]
    asked: bool = False
    approved: bool = False

    @property
    def sees_us(self) -> bool:
        """Whether the contact gets our presence."""
        return self.subscription in ("from", "both")

    @property
    def seen(self) -> bool:
        """Whether we get the contact's presence."""
        return self.subscription in ("to", "both")


@dataclass(frozen=True, slots=True)
class RosterChange:
    """One contact's entry before and after; None: there is none."""

    jid: str
    before: RosterItem | None
    after: RosterItem | None


@dataclass(frozen=True)
class Resource:
    """One program of a contact, while it is online.

    Attributes:
        jid: full, normalised.
        priority: -128 to 127.
        show: ``""``, ``away``, ``chat``, ``dnd`` or ``xa``.
        status: the contact's words.
        features: of service discovery; None while unknown.
        identities: likewise, empty while unknown.
    """

    jid: str
    priority: int = 0
    show: str = ""
    status: str = ""
    features: frozenset[str] | None = None
    identities: tuple[Identity, ...] = ()

    def with_features(self, features: frozenset[str]) -> Resource:
        """The same program with this known of it."""
        return replace(self, features=features)


class Roster:
    """The contact list.

    Attributes:
        contacts: by bare JID.
        complete: nothing that the server told was left out for being too much.
    """

    def __init__(self) -> None:
        self.contacts: dict[str, RosterItem] = {}
        self.complete = True
        self._groups: dict[str, str] = {}
        self._newer: set[str] | None = None

    def push(self, query: Element) -> list[RosterChange]:
        """Take over a roster push, or what the server has just accepted from us."""
        changes = self._apply(query)
        if self._newer is not None and len(self._newer) < MAX_CONTACTS:
            self._newer.update(self._jids(query))
        return changes

    def load(self, query: Element, slice_size: int) -> Iterator[list[RosterChange]]:
        """Take over the whole list, so many items at a step; what is not in it goes.

        Pushes that come between the steps are newer than the list, and win.
        """
        self._newer = set()
        self.complete = True
        missing = set(self.contacts)
        items = query.findall(f"{{{ROSTER}}}item")
        for start in range(0, len(items), slice_size):
            changes = []
            for item in items[start : start + slice_size]:
                jid = _jid(item)
                if jid is None or jid in self._newer or item.get("subscription") == "remove":
                    continue
                missing.discard(jid)
                if (change := self._put(jid, item)) is not None:
                    changes.append(change)
            yield changes
        gone = [
            RosterChange(jid, self.contacts.pop(jid), None)
            for jid in missing - self._newer
            if jid in self.contacts
        ]
        self._newer = None
        if gone:
            yield gone

    def element(self) -> Element:
        """The list as the server would send it."""
        query = Element(QUERY_ROSTER)
        for jid, item in self.contacts.items():
            query.append(item_element(jid, item))
        return query

    def _jids(self, query: Element) -> Iterator[str]:
        for item in query.iterfind(f"{{{ROSTER}}}item"):
            if (jid := _jid(item)) is not None:
                yield jid

    def _apply(self, query: Element) -> list[RosterChange]:
        changes = []
        for item in query.iterfind(f"{{{ROSTER}}}item"):
            if (jid := _jid(item)) is None:
                continue
            if item.get("subscription") != "remove":
                change = self._put(jid, item)
            elif (before := self.contacts.pop(jid, None)) is not None:
                change = RosterChange(jid, before, None)
            else:
                change = None
            if change is not None:
                changes.append(change)
        return changes

    def _put(self, jid: str, item: Element) -> RosterChange | None:
        subscription = item.get("subscription", "none")
        if subscription not in _SUBSCRIPTIONS:
            self.complete = False
            return None
        before = self.contacts.get(jid)
        if before is None and len(self.contacts) >= MAX_CONTACTS:
            self.complete = False
            return None
        groups = (group.text or "" for group in item.iterfind(f"{{{ROSTER}}}group"))
        after = RosterItem(
            item.get("name", "")[:MAX_NAME],
            # One string each for what thousands have in common.
            _SUBSCRIPTIONS[_SUBSCRIPTIONS.index(subscription)],
            self._shared({group[:MAX_NAME] for group in groups if group}),
            item.get("ask") == "subscribe",
            item.get("approved") in ("true", "1"),
        )
        if before == after:
            return None
        self.contacts[jid] = after
        return RosterChange(jid, before, after)

    def _shared(self, groups: set[str]) -> tuple[str, ...]:
        names = sorted(groups)[:MAX_GROUPS]
        if len(self._groups) > MAX_SHARED:
            self._groups.clear()
        return tuple(self._groups.setdefault(name, name) for name in names)


def _jid(item: Element) -> str | None:
    try:
        return bare(normalise(item.get("jid", "")))
    except ValueError:
        return None


def item_element(jid: str, item: RosterItem) -> Element:
    """An item as in a result or push."""
    element = set_element(jid, item.name, item.groups)
    element.set("subscription", item.subscription)
    if item.asked:
        element.set("ask", "subscribe")
    if item.approved:
        element.set("approved", "true")
    return element


def set_element(jid: str, name: str, groups: Iterable[str]) -> Element:
    """An item as in a roster set (RFC 6121 section 2.1.2): what the user decides alone."""
    element = Element(f"{{{ROSTER}}}item", jid=jid)
    if name:
        element.set("name", name)
    for group in groups:
        SubElement(element, f"{{{ROSTER}}}group").text = group
    return element


def removal(jid: str) -> Element:
    """An item that is to go (RFC 6121 section 2.5.1)."""
    return Element(f"{{{ROSTER}}}item", jid=jid, subscription="remove")


def best_of(resources: Iterable[Resource]) -> Resource | None:
    """The program that speaks for a contact: by priority, then by how likely its user answers."""
    return max(resources, key=lambda each: (each.priority, _RANK.get(each.show, 0)), default=None)


@dataclass(frozen=True, slots=True)
class LastWords:
    """Of a contact that is not online.

    Attributes:
        text: the status message with which it left, or the server's error.
        is_error: its presence cannot be known.
    """

    text: str
    is_error: bool


class Presences:
    """Who is online.

    Args:
        known: whether a bare JID is on the contact list, or our own; others are strangers.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._contacts: dict[str, dict[str, Resource]] = {}
        self._strangers: OrderedDict[str, dict[str, Resource]] = OrderedDict()
        self._last: OrderedDict[str, LastWords] = OrderedDict()

    def resources(self, bare_jid: str) -> list[Resource]:
        """The programs of a contact that are online."""
        return list(self._of(bare_jid).values())

    def get(self, full_jid: str) -> Resource | None:
        """One of them."""
        return self._of(bare(full_jid)).get(full_jid)

    def _of(self, bare_jid: str) -> dict[str, Resource]:
        found = self._contacts.get(bare_jid)
        return found if found is not None else self._strangers.get(bare_jid, {})

    def receive(self, presence: Element) -> str | None:
        """A presence stanza; the full JID (or bare, of all its resources) that changed.

        Subscription requests change nothing here: they wait for the user.
        """
        try:
            sender = normalise(presence.get("from", ""))
        except ValueError:
            return None
        match presence.get("type"):
            case None:
                return sender if self._available(sender, presence) else None
            case "unavailable" | "error" as type:
                gone = self._gone(sender)
                told = self._keep_last(bare(sender), type == "error", presence)
                return sender if gone or told else None
            case _:
                return None

    def _available(self, sender: str, presence: Element) -> bool:
        owner = bare(sender)
        if owner == sender:
            return False  # a presence of no resource is nobody's
        resources = self._of(owner)
        if sender not in resources and len(resources) >= MAX_RESOURCES:
            return False
        # Until the list is there, everybody may be on it, but no more people than can be.
        if self._known(owner) and (owner in self._contacts or len(self._contacts) < MAX_CONTACTS):
            self._strangers.pop(owner, None)
            self._contacts[owner] = resources = dict(resources)
        else:
            self._contacts.pop(owner, None)
            self._strangers[owner] = resources = dict(resources)
            self._strangers.move_to_end(owner)
            while len(self._strangers) > MAX_STRANGERS:
                self._strangers.popitem(last=False)
        self._last.pop(owner, None)
        before = resources.get(sender)
        show = presence.findtext(f"{{{CLIENT}}}show", "")
        resources[sender] = Resource(
            sender,
            _priority(presence.findtext(f"{{{CLIENT}}}priority", "")),
            show if show in _SHOWS else "",
            presence.findtext(f"{{{CLIENT}}}status", "")[:MAX_STATUS],
            before.features if before is not None else None,
            before.identities if before is not None else (),
        )
        return True

    def _gone(self, sender: str) -> bool:
        owner = bare(sender)
        for holder in (self._contacts, self._strangers):
            resources = holder.get(owner)
            if resources is None:
                continue
            if sender == owner:
                del holder[owner]
                return True
            gone = resources.pop(sender, None) is not None
            if not resources:
                del holder[owner]
            return gone
        return False

    def _keep_last(self, owner: str, is_error: bool, presence: Element) -> bool:
        if is_error:
            error = stanza_error(presence)
            words = LastWords((error.text or error.condition)[:MAX_STATUS], True)
        else:
            words = LastWords(presence.findtext(f"{{{CLIENT}}}status", "")[:MAX_STATUS], False)
        if not words.text or not self._known(owner) or self._of(owner):
            return False
        if self._last.get(owner) == words:
            return False
        self._last[owner] = words
        self._last.move_to_end(owner)
        while len(self._last) > MAX_LAST_WORDS:
            self._last.popitem(last=False)
        return True

    def last_words(self, bare_jid: str) -> LastWords | None:
        """What a contact that is not online said when it left, or what its server says."""
        return self._last.get(bare_jid)

    def settle(self) -> None:
        """``known`` says something else of many: who is a stranger counts as one from now on."""
        for owner in [each for each in self._contacts if not self._known(each)]:
            self._strangers[owner] = self._contacts.pop(owner)
        while len(self._strangers) > MAX_STRANGERS:
            self._strangers.popitem(last=False)

    def learn(self, full_jid: str, info: Info | None) -> bool:
        """What a program can do, None for not known any longer; whether that is news."""
        resources = self._of(bare(full_jid))
        before = resources.get(full_jid)
        if before is None:
            return False
        features = info.features if info is not None else None
        identities = info.identities if info is not None else ()
        if (before.features, before.identities) == (features, identities):
            return False
        resources[full_jid] = replace(before, features=features, identities=identities)
        return True


def _priority(text: str) -> int:
    try:
        value = int(text.strip()[:8] or "0")
    except ValueError:
        return 0
    return value if -128 <= value <= 127 else 0
