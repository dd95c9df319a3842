"""What people call themselves (XEP-0172). Pure, and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from xml.etree.ElementTree import Element

NICK = "http://jabber.org/protocol/nick"
NOTIFY = NICK + "+notify"
TAG = f"{{{NICK}}}nick"

# Characters of a name; people read it in a list.
MAX_NICK = 256
# Names kept: everybody on a large contact list, and those who ask to be on it.
MAX_NICKS = 4_096
# Of these, names of people who are not on the list: whoever likes can send one.
MAX_STRANGERS = 256


def parse(parent: Element | None) -> str:
    """The name in a ``<nick/>`` or in an element that has one; empty if there is none.

    Control characters and line ends would let a name look like several lines of a list.
    """
    if parent is None:
        return ""
    element = parent if parent.tag == TAG else parent.find(TAG)
    text = (element.text or "") if element is not None else ""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_NICK]).strip()[:MAX_NICK]


def build(nick: str) -> Element:
    """``<nick/>``; empty takes the name back (XEP-0172 section 4.2)."""
    element = Element(TAG)
    element.text = nick or None
    return element


class Nicks:
    """What contacts call themselves.

    Args:
        known: whether a bare JID is on the contact list.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known
        self._contacts: OrderedDict[str, str] = OrderedDict()
        self._strangers: OrderedDict[str, str] = OrderedDict()

    def get(self, bare_jid: str) -> str:
        """The contact's own name for itself, or nothing."""
        return self._contacts.get(bare_jid) or self._strangers.get(bare_jid, "")

    def learn(self, bare_jid: str, nick: str) -> bool:
        """Whether this is news; an empty name is none."""
        before = self.get(bare_jid)
        self._contacts.pop(bare_jid, None)
        self._strangers.pop(bare_jid, None)
        if nick:
            known = self._known(bare_jid)
            holder, most = (
                (self._contacts, MAX_NICKS) if known else (self._strangers, MAX_STRANGERS)
            )
            holder[bare_jid] = nick
            if len(holder) > most:
                holder.popitem(last=False)
        return nick != before
