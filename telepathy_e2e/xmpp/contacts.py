"""The contact list of one session: asked for, kept up to date, changed, remembered on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Literal, Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, E2EError
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.roster import (
    QUERY_ROSTER,
    Roster,
    RosterChange,
    RosterItem,
    item_element,
    removal,
    set_element,
)
from telepathy_e2e.xmpp.roster_cache import Cached, RosterCache

log = logging.getLogger(__name__)

ROSTER_VERSIONING = "{urn:xmpp:features:rosterver}ver"

# Contacts taken over before the event loop has its turn: a millisecond or two.
SLICE = 50
# Seconds until the list is asked for again after a failure; the last one is for all that follow.
RETRY_SECONDS = (5.0, 30.0, 120.0)
# Seconds for a long list of a busy server.
ROSTER_SECONDS = 60.0
# Seconds after a change until the copy on disk follows: changes come in groups.
SAVE_SECONDS = 2.0

Ask = Callable[
    [Element, Literal["get", "set"], Callable[[Element | None], None] | None],
    Awaitable[Element | None],
]


class Told(Protocol):
    """Whom the list tells of changes."""

    def roster_changed(self, changes: list[RosterChange]) -> None:
        """These are different now."""

    def roster_loaded(self, error: E2EError | None) -> None:
        """The list is there as a whole; or not, and why."""


class Contacts:
    """Of one session.

    Args:
        ask: sends an iq to our own account; the callback gets the result before any stanza that
            came after it is looked at. Raises StanzaError, IqTimeout, Disconnected.
        told: see there.
        cache: where the list is remembered, or None for nowhere.
    """

    def __init__(
        self, ask: Ask, told: Told, *, tasks: TaskOwner, cache: RosterCache | None
    ) -> None:
        self._ask = ask
        self._told = told
        self._tasks = tasks
        self._cache = cache
        self._roster = Roster()
        self._cached: Cached | None = None
        self._version = ""
        self._steps: Iterator[list[RosterChange]] | None = None
        self._unsaved = False
        self._saving = asyncio.Lock()
        self._again = asyncio.Event()
        self._writers: dict[str, asyncio.Lock] = {}
        # Items that we are about to change, and whether the server has pushed them meanwhile.
        self._in_flight: dict[str, bool] = {}
        self.state: Literal["new", "waiting", "failed", "loaded"] = "new"

    @property
    def items(self) -> Mapping[str, RosterItem]:
        """By bare JID."""
        return MappingProxyType(self._roster.contacts)

    @property
    def loading(self) -> bool:
        """It is not known yet who is on the list and who is not."""
        return self.state in ("new", "waiting")

    # -- getting it -------------------------------------------------------------------------

    def read_cache(self) -> None:
        """Look at the copy on disk; blocks, and may be called in a thread before ``fetch``."""
        if self._cache is not None:
            self._cached = self._cache.read()

    async def fetch(self, *, versioned: bool) -> None:
        """Ask for the list until it is there.

        Args:
            versioned: the server knows versions of lists (RFC 6121 section 2.6).
        """
        if not versioned:
            self._cache = self._cached = None
        delays = list(RETRY_SECONDS)
        while True:
            self.state = "waiting"
            self._again.clear()
            try:
                await self._fetch(versioned)
            except (StanzaError, IqTimeout) as error:
                log.warning("no contact list: %s", error)
                self.state = "failed"
                self._told.roster_loaded(error)
            except Disconnected:
                return
            else:
                return
            try:
                async with asyncio.timeout(delays.pop(0) if len(delays) > 1 else delays[0]):
                    await self._again.wait()
            except TimeoutError:
                continue

    def retry(self) -> None:
        """After a failure, ask again now."""
        self._again.set()

    async def _fetch(self, versioned: bool) -> None:
        query = Element(QUERY_ROSTER)
        if versioned:
            query.set("ver", self._cached.version if self._cached is not None else "")
        await self._ask(query, "get", self._arrived)
        for changes in self._steps or ():
            self._tell(changes)
            await asyncio.sleep(0)
        self._steps = self._cached = None
        self.state = "loaded"
        self._told.roster_loaded(None)
        self._save()

    def _arrived(self, query: Element | None) -> None:
        """The result; pushes that come from now on are newer than it."""
        if query is None:
            # The server knows our copy (RFC 6121 section 2.6.3), or has no contacts to tell of.
            cached, self._cached = self._cached, None
            self._version = cached.version if cached is not None else ""
            query = cached.query if cached is not None else Element(QUERY_ROSTER)
        else:
            self._version = query.get("ver", "")
        self._steps = self._roster.load(query, SLICE)
        self._tell(next(self._steps, []))

    def pushed(self, query: Element) -> None:
        """A roster push of our server."""
        for jid in self._in_flight.keys() & {each.get("jid", "") for each in query}:
            self._in_flight[jid] = True
        self._tell(self._roster.push(query))
        # Without a version it is not known of which list the next one will be the difference.
        self._version = query.get("ver", "")
        if self.state == "loaded":
            self._save()

    def _tell(self, changes: list[RosterChange]) -> None:
        if changes:
            self._told.roster_changed(changes)

    # -- changing it ------------------------------------------------------------------------

    async def change(self, jid: str, edit: Callable[[RosterItem], RosterItem]) -> None:
        """Set what the user decides of a contact; one that is not on the list comes onto it.

        Args:
            jid: bare.
            edit: gives the item another name or other groups; called more than once.
        Raises:
            StanzaError, IqTimeout, Disconnected: the server does not do it.
        """
        async with self._alone(jid):
            before = self._roster.contacts.get(jid)
            after = edit(before if before is not None else RosterItem("", "none", ()))
            if after == before:
                return
            await self._accepted(
                jid,
                set_element(jid, after.name, after.groups),
                # Its subscription may have changed while the server had our request.
                lambda: item_element(jid, edit(self._roster.contacts.get(jid, after))),
            )

    async def remove(self, jid: str) -> None:
        """Take a contact off the list; both subscriptions end (RFC 6121 section 2.5).

        Raises:
            StanzaError, IqTimeout, Disconnected: the server does not do it.
        """
        async with self._alone(jid):
            if jid in self._roster.contacts:
                await self._accepted(jid, removal(jid), lambda: removal(jid))

    @asynccontextmanager
    async def _alone(self, jid: str) -> AsyncIterator[None]:
        """A request carries the whole item: of two at the same time one would be undone."""
        lock = self._writers.setdefault(jid, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._writers.get(jid) is lock:
                del self._writers[jid]

    async def _accepted(self, jid: str, item: Element, ours: Callable[[], Element]) -> None:
        self._in_flight[jid] = False
        try:
            await self._ask(_query(item), "set", None)
            if not self._in_flight[jid]:
                # The push that says so may come after the result, or not at all.
                self._tell(self._roster.push(_query(ours())))
        finally:
            del self._in_flight[jid]

    # -- remembering it ---------------------------------------------------------------------

    def _save(self) -> None:
        if self._cache is not None and not self._unsaved:
            self._unsaved = True
            self._tasks.start("cache", self._save_later())

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_SECONDS)
        await self.close()

    async def close(self) -> None:
        """What has changed goes to the disk, and is there when this returns."""
        async with self._saving:  # what is being written is waited for
            if self._cache is None or not self._unsaved:
                return
            self._unsaved = False
            cache, version, copy = self._cache, self._version, Roster()
            copy.contacts = dict(self._roster.contacts)
            if version and self._roster.complete:
                await asyncio.to_thread(lambda: cache.write(version, copy.element()))
            else:
                # A copy that lacks somebody must not be claimed to be the list.
                await asyncio.to_thread(cache.drop)


def _query(item: Element) -> Element:
    query = Element(QUERY_ROSTER)
    query.append(item)
    return query
