"""Finding out what contacts' programs can do: who is asked, when, and how many at a time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, PeerError
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import caps
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.roster import MAX_RESOURCES, MAX_STRANGERS, Presences

log = logging.getLogger(__name__)

# Programs asked at the same time; the others wait their turn.
MAX_QUERIES = 8
# Hashes kept beyond those of programs that are online, before the old ones are cleared away.
SLACK = MAX_STRANGERS * MAX_RESOURCES


class Capabilities:
    """What is advertised, and what it means (XEP-0115 section 6).

    Args:
        presences: gets what was found out.
        is_known: whether a bare JID is a contact; strangers are not asked of our own accord, that
            would show them that we are here.
        ask: sends an iq of type get.
        changed: told of full JIDs whose features changed.
    """

    def __init__(
        self,
        presences: Presences,
        *,
        is_known: Callable[[str], bool],
        ask: Callable[[str, Element], Awaitable[Element | None]],
        changed: Callable[[str], None],
        tasks: TaskOwner,
    ) -> None:
        self._presences = presences
        self._is_known = is_known
        self._ask = ask
        self._changed = changed
        self._tasks = tasks
        self._cache = caps.Cache()
        self._advertised: dict[str, caps.Advertised] = {}
        self._queue: dict[str, None] = {}
        self._asking: dict[str, caps.Advertised] = {}
        self._clear_at = SLACK

    def presence(self, full_jid: str, presence: Element) -> None:
        """A presence of a program that is online."""
        advertised = caps.parse_caps(presence)
        if advertised is None or advertised == self._advertised.get(full_jid):
            return  # a server may leave out a hash that did not change (XEP-0115 section 8.4)
        self._advertised[full_jid] = advertised
        self._clear()
        info = self._cache.get(bare(full_jid), advertised)
        self._learn(full_jid, info)
        if info is None:
            self._enqueue(full_jid)

    def gone(self, jid: str) -> None:
        """A program, or for a bare JID all of a contact, went offline."""
        if bare(jid) != jid:
            self._advertised.pop(jid, None)
            return
        for each in [each for each in self._advertised if bare(each) == jid]:
            del self._advertised[each]

    def now_known(self, bare_jid: str) -> None:
        """Somebody became a contact, whose programs may have come before."""
        for resource in self._presences.resources(bare_jid):
            if resource.features is None and resource.jid in self._advertised:
                self._enqueue(resource.jid)

    async def ask(self, full_jid: str) -> caps.Info | None:
        """Ask a program what it can do; None if it does not say.

        Raises:
            Disconnected: the stream is gone.
        """
        info = await self._query(full_jid, None)
        if info is not None:
            self._learn(full_jid, info)
        return info

    def _clear(self) -> None:
        """Strangers are dropped by ``Presences`` without a word; their hashes follow here."""
        if len(self._advertised) > self._clear_at:
            self._advertised = {
                jid: value
                for jid, value in self._advertised.items()
                if self._presences.get(jid) is not None
            }
            self._clear_at = len(self._advertised) + SLACK

    def _enqueue(self, full_jid: str) -> None:
        if self._is_known(bare(full_jid)):
            self._queue[full_jid] = None
            self._next()

    def _next(self) -> None:
        for jid in list(self._queue):
            if len(self._asking) >= MAX_QUERIES:
                return
            advertised = self._advertised.get(jid)
            if jid in self._asking or advertised in self._asking.values():
                continue  # that answer may do for this one too
            del self._queue[jid]
            if advertised is None or self._presences.get(jid) is None:
                continue
            if (info := self._cache.get(bare(jid), advertised)) is not None:
                self._learn(jid, info)
            else:
                self._asking[jid] = advertised
                self._tasks.start("capabilities", self._resolve(jid, advertised))

    async def _resolve(self, full_jid: str, advertised: caps.Advertised) -> None:
        try:
            info = await self._query(full_jid, f"{advertised.node}#{advertised.ver}")
        except Disconnected:
            return
        finally:
            del self._asking[full_jid]
        if info is not None and self._advertised.get(full_jid) == advertised:
            if not self._cache.put(bare(full_jid), advertised, info):
                log.info("a contact's program has other capabilities than it advertised")
            self._learn(full_jid, info)
        self._next()

    async def _query(self, jid: str, node: str | None) -> caps.Info | None:
        query = Element(caps.QUERY_INFO)
        if node is not None:
            query.set("node", node)
        try:
            answer = await self._ask(jid, query)
            return caps.parse_info(answer) if answer is not None else None
        except (StanzaError, IqTimeout, PeerError) as error:
            log.info("no capabilities: %s", error)
            return None

    def _learn(self, full_jid: str, info: caps.Info | None) -> None:
        if self._presences.learn(full_jid, info):
            self._changed(full_jid)
