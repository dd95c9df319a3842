"""Who is on the contact list, and who of them is there (RFC 6121). Pure, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

from telepathy_e2e.xmpp.caps import Identity, Info
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
# Resources of one contact. Servers allow about ten sessions an account.
MAX_RESOURCES = 32
# People not on the list whose (directed) presence is kept: whoever likes can send one.
MAX_STRANGERS = 256
# Characters of a status message.
MAX_STATUS = 1024

_SUBSCRIPTIONS = ("none", "to", "from", "both")
_SHOWS = ("away", "chat", "dnd", "xa")


@dataclass(frozen=True)
class RosterItem:
    """A contact as the server keeps it."""

    name: str
    subscription: str
    groups: tuple[str, ...]


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
    """The contact list."""

    def __init__(self) -> None:
        self.contacts: dict[str, RosterItem] = {}

    def apply(self, query: Element) -> list[str]:
        """Take over a roster result or push; the bare JIDs that changed."""
        changed = []
        for item in query.iterfind(f"{{{ROSTER}}}item"):
            try:
                jid = bare(normalise(item.get("jid", "")))
            except ValueError:
                continue
            subscription = item.get("subscription", "none")
            if subscription == "remove":
                if self.contacts.pop(jid, None) is not None:
                    changed.append(jid)
                continue
            if subscription not in _SUBSCRIPTIONS:
                continue
            if jid not in self.contacts and len(self.contacts) >= MAX_CONTACTS:
                continue
            groups = (group.text or "" for group in item.iterfind(f"{{{ROSTER}}}group"))
            entry = RosterItem(
                item.get("name", "")[:MAX_NAME],
                subscription,
                tuple(sorted({group[:MAX_NAME] for group in groups})[:MAX_GROUPS]),
            )
            if self.contacts.get(jid) != entry:
                self.contacts[jid] = entry
                changed.append(jid)
        return changed


class Presences:
    """Who is online.

    Args:
        known: whether a bare JID is on the contact list, or our own; others are strangers.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._contacts: dict[str, dict[str, Resource]] = {}
        self._strangers: OrderedDict[str, dict[str, Resource]] = OrderedDict()

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
            case "unavailable" | "error":
                return sender if self._gone(sender) else None
            case _:
                return None

    def _available(self, sender: str, presence: Element) -> bool:
        owner = bare(sender)
        if owner == sender:
            return False  # a presence of no resource is nobody's
        resources = self._of(owner)
        if sender not in resources and len(resources) >= MAX_RESOURCES:
            return False
        if self._known(owner):
            self._strangers.pop(owner, None)
            self._contacts[owner] = resources = dict(resources)
        else:
            self._contacts.pop(owner, None)
            self._strangers[owner] = resources = dict(resources)
            self._strangers.move_to_end(owner)
            while len(self._strangers) > MAX_STRANGERS:
                self._strangers.popitem(last=False)
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
