"""Who may not reach us (XEP-0191). Pure, and bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp.jid import bare, normalise

BLOCKING: Final = "urn:xmpp:blocking"
BLOCKLIST: Final = f"{{{BLOCKING}}}blocklist"
BLOCK: Final = f"{{{BLOCKING}}}block"
UNBLOCK: Final = f"{{{BLOCKING}}}unblock"
ITEM: Final = f"{{{BLOCKING}}}item"

# Addresses kept. Shared lists of spammers have some thousands.
MAX_BLOCKED = 20_000


@dataclass(frozen=True)
class BlockChange:
    """Bare JIDs that are blocked now, or no longer."""

    blocked: tuple[str, ...] = ()
    unblocked: tuple[str, ...] = ()


class Blocked:
    """The block list, as far as it is about whole accounts or domains.

    A single program of a contact can be blocked too (XEP-0191 section 5); the contact is not then.
    """

    def __init__(self) -> None:
        self._jids: set[str] = set()

    def __contains__(self, bare_jid: str) -> bool:
        return bare_jid in self._jids

    def __iter__(self) -> Iterator[str]:
        return iter(self._jids)

    def load(self, blocklist: Element | None) -> BlockChange:
        """Take over the whole list."""
        jids: set[str] = set()
        for jid in _jids(blocklist) if blocklist is not None else ():
            if len(jids) >= MAX_BLOCKED:
                break
            jids.add(jid)
        return self.update(jids - self._jids, self._jids - jids)

    def push(self, payload: Element) -> BlockChange:
        """Take over a push from our server (XEP-0191 sections 3.3 and 3.4).

        Raises:
            PeerError: nothing is blocked, which is no block.
        """
        jids = list(_jids(payload))
        if payload.tag == BLOCK:
            if not len(payload):
                raise PeerError("a block of nobody", "bad-request")
            return self.update(jids, ())
        return self.update((), jids if len(payload) else list(self._jids))

    def update(self, blocked: Iterable[str], unblocked: Iterable[str]) -> BlockChange:
        """Take over a change; what of it is one."""
        gone = tuple(jid for jid in dict.fromkeys(unblocked) if jid in self._jids)
        self._jids.difference_update(gone)
        come = []
        for jid in dict.fromkeys(blocked):
            if jid not in self._jids and len(self._jids) < MAX_BLOCKED:
                self._jids.add(jid)
                come.append(jid)
        return BlockChange(tuple(come), gone)


def build(tag: str, jids: Iterable[str]) -> Element:
    """A ``<block/>`` or ``<unblock/>`` of these bare JIDs, of which there must be one at least.

    Raises:
        ValueError: there is none: an empty ``<unblock/>`` would unblock everybody.
    """
    element = Element(tag)
    for jid in jids:
        SubElement(element, ITEM, jid=jid)
    if not len(element):
        raise ValueError("nobody to block or unblock")
    return element


def _jids(parent: Element) -> Iterator[str]:
    for item in parent.iterfind(ITEM):
        try:
            jid = normalise(item.get("jid", ""))
        except ValueError:
            continue
        if jid == bare(jid):
            yield jid
