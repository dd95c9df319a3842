"""SimplePresence: who is there, and what we say of ourselves (RFC 6121 section 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, E2EError, InvalidArgument, TelepathyError
from telepathy_e2e.service.events import PresencesChanged
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp.jid import normalise
from telepathy_e2e.xmpp.markup import CLIENT, is_sendable
from telepathy_e2e.xmpp.roster import MAX_STATUS, RosterChange, best_of

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

CONNECTED, CONNECTING, DISCONNECTED = range(3)

# Connection_Presence_Type and whether it may be set, has a message (SimplePresence.Statuses).
STATUSES: dict[str, tuple[int, bool, bool]] = {
    "offline": (1, False, True),
    "available": (2, True, True),
    "chat": (2, True, True),
    "away": (3, True, True),
    "xa": (4, True, True),
    "hidden": (5, False, True),
    "dnd": (6, True, True),
    "unknown": (7, False, True),
    "error": (8, False, True),
}
# Offered by servers with XEP-0186 alone, which is not done here.
_NOT_OFFERED = "hidden"
# Our status and what <show/> says of it.
SHOWS = {"available": "", "chat": "chat", "away": "away", "xa": "xa", "dnd": "dnd"}
_STATUS_OF_SHOW = {show: status for status, show in SHOWS.items()}

# Characters of our status message: people read it in a list, and servers end streams over long
# stanzas. What contacts may say is as long.
MAX_MESSAGE = MAX_STATUS


# Seconds after the login in which a contact's presence may be on its way to us: our server asks his
# (RFC 6121 section 4.3), and may have to connect to it first.
ARRIVING = 5.0


class PresenceFeature(Feature):
    """The presence of contacts, and our own."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._own = ("available", "")
        self._subscriptions_known = asyncio.Event()
        self._news: dict[str, None] = {}
        # Time of the loop until which presences are on their way, and who is waited for.
        self._arriving = 0.0
        self._awaited: dict[str, asyncio.Event] = {}
        self._over = False

    # -- our own ----------------------------------------------------------------------------

    @property
    def statuses(self) -> dict[str, tuple[int, bool, bool]]:
        """SimplePresence.Statuses."""
        return {name: spec for name, spec in STATUSES.items() if name != _NOT_OFFERED}

    @property
    def maximum_status_message_length(self) -> int:
        """In characters; 0 (no limit is known) until connected."""
        return MAX_MESSAGE if self._account.status == CONNECTED else 0

    def set(self, status: str, message: str) -> None:
        """SimplePresence.SetPresence; before Connect it is the presence to come up with.

        Raises:
            InvalidArgument: not a status that can be set, or a message that cannot be sent.
        """
        if not self.statuses.get(status, (0, False, False))[1]:
            raise InvalidArgument(f"{status!r} is not a status that can be set")
        message = message[:MAX_MESSAGE]
        if not is_sendable(message):
            raise InvalidArgument("The status message has a character that cannot be sent")
        self._own = (status, message)
        if self._account.status == CONNECTED:
            self.send()

    def send(self) -> None:
        """Tell the server, and the bus."""
        status, message = self._own
        priority = self._account.parameters.get("priority")
        self._account.client.set_presence(
            SHOWS[status], message, priority if isinstance(priority, int) else 0
        )
        self._account.rooms.presence_changed()
        self.tell([self._account.self_id])

    def own_elements(self) -> list[Element]:
        """What a presence says of our state, for those that go to somebody alone."""
        status, message = self._own
        elements = []
        for name, text in (("show", SHOWS[status]), ("status", message)):
            if text:
                element = Element(f"{{{CLIENT}}}{name}")
                element.text = text
                elements.append(element)
        return elements

    def receive_presence(self, stanza: Element) -> bool:
        """Our own comes back as the server tells it to others, and may have changed on the way."""
        client = self._account.client
        if stanza.get("type") is None and stanza.get("id") == client.presence_id:
            try:
                sender = normalise(stanza.get("from", ""))
            except ValueError:
                return False
            shown = stanza.findtext(f"{{{CLIENT}}}show", "")
            told = (
                _STATUS_OF_SHOW.get(shown, "available"),
                stanza.findtext(f"{{{CLIENT}}}status", "")[:MAX_MESSAGE],
            )
            if sender == client.jid and told != self._own:
                self._own = told
                self.tell([self._account.self_id])
        return False

    # -- contacts' --------------------------------------------------------------------------

    def of(self, handle: int) -> tuple[int, str, str]:
        """(type, status, message) of a contact.

        Raises:
            InvalidHandle: no such contact.
        """
        account = self._account
        jid = account.handles.inspect(handle)
        if account.status == DISCONNECTED:
            return (1, "offline", "")
        if jid == account.self_id:
            return (STATUSES[self._own[0]][0], *self._own)
        if "/" in jid:
            return self._of_occupant(jid)
        # A server says nothing more of who is blocked: what it said last would stay for ever.
        is_blocked = jid in account.blocking
        best = best_of(account.client.resources(jid)) if not is_blocked else None
        if best is not None:
            status = _STATUS_OF_SHOW.get(best.show, "available")
            return (STATUSES[status][0], status, best.status)
        item = account.client.contacts().get(jid)
        if item is None or not item.seen:
            return (7, "unknown", "")
        last = account.client.last_words(jid)
        if last is None or is_blocked:
            return (1, "offline", "")
        return (8, "error", last.text) if last.is_error else (1, "offline", last.text)

    def _of_occupant(self, full_jid: str) -> tuple[int, str, str]:
        shown = self._account.rooms.presence_of(full_jid)
        if shown is None:
            return (7, "unknown", "")
        status = _STATUS_OF_SHOW.get(shown[0], "available")
        return (STATUSES[status][0], status, shown[1])

    def occupant_changed(self, handle: int) -> None:
        """Somebody in a room is in another state."""
        self._account.events.emit(PresencesChanged({handle: self.of(handle)}))

    async def settled(self, bare_jid: str) -> None:
        """Wait until a contact shows himself, or can be taken for offline. For requests right after
        the login, which scripts make, and dispatchers that come back.

        Raises:
            Disconnected: the connection went meanwhile.
        """
        client = self._account.client
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._arriving):
                await self._subscriptions_known.wait()
                item = client.contacts().get(bare_jid)
                while (
                    not self._over
                    and item is not None
                    and item.seen
                    and not client.resources(bare_jid)
                    and client.last_words(bare_jid) is None
                ):
                    await self._awaited.setdefault(bare_jid, asyncio.Event()).wait()
        if self._over:
            raise Disconnected("The connection is not up")

    async def of_all(self, handles: Sequence[int]) -> Mapping[int, tuple[int, str, str]]:
        """SimplePresence.GetPresences: of many, once it is known whose presence we see at all.

        Raises:
            InvalidHandle: one is not a contact.
        """
        for handle in handles:
            self._account.handles.inspect(handle)
        await self._subscriptions_known.wait()
        return {handle: self.of(handle) for handle in handles}

    def changed(self, bare_jid: str) -> None:
        """Some resource came, changed or went; what comes in one piece is told as one signal.

        Whoever likes can send us a presence: people who are no contacts and of whom nobody on the
        bus has heard are not told of, so that they cost no handle.
        """
        account = self._account
        if (awaited := self._awaited.pop(bare_jid, None)) is not None:
            awaited.set()
        if bare_jid == account.self_id:
            return  # our other programs have a presence of their own
        if bare_jid not in account.client.contacts() and account.handles.find(bare_jid) is None:
            return
        if not self._news:
            asyncio.get_running_loop().call_soon(self._flush)
        self._news[bare_jid] = None

    def _flush(self) -> None:
        news, self._news = self._news, {}
        if self._account.status != DISCONNECTED:
            self.tell(news)

    def tell(self, bare_jids: Sequence[str] | Mapping[str, None]) -> None:
        """PresencesChanged of these, now."""
        handles = [self._account.handles.of_jid(jid) for jid in bare_jids]
        if handles:
            self._account.events.emit(
                PresencesChanged({handle: self.of(handle) for handle in handles})
            )

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        """Offline and unknown are told apart by the contact list."""
        for change in changes:
            before = change.before is not None and change.before.seen
            after = change.after is not None and change.after.seen
            # A contact without a handle has been shown to nobody.
            if before != after and self._account.handles.find(change.jid) is not None:
                self.changed(change.jid)

    def connected(self) -> None:
        self._arriving = asyncio.get_running_loop().time() + ARRIVING

    def roster_loaded(self, error: E2EError | None) -> None:
        self._subscriptions_known.set()

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._over = True
        self._subscriptions_known.set()
        for awaited in self._awaited.values():
            awaited.set()
