"""ContactList: who is on it, who may see whom (RFC 6121 sections 2 and 3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import (
    Disconnected,
    E2EError,
    InvalidArgument,
    InvalidHandle,
    NotYet,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.markup import CLIENT, is_sendable
from telepathy_e2e.xmpp.roster import MAX_STATUS, PRESENCE, RosterChange

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Contact_List_State
STATE_NONE, STATE_WAITING, STATE_FAILURE, STATE_SUCCESS = range(4)
# Subscription_State
UNKNOWN, NO, REMOVED_REMOTELY, ASK, YES = range(5)

PRE_APPROVAL = "{urn:xmpp:features:pre-approval}sub"

# People who are not on the list and asked to see our presence, or took that back, until the user
# has answered. Anybody can ask under as many names as he likes; the server keeps what we drop, and
# tells of it again at the next login (RFC 6121 section 3.1.3). Nobody reads more than this.
MAX_REQUESTS = 256
# Characters of a message that comes or goes with a request.
MAX_MESSAGE = MAX_STATUS
# Contacts whose next request is to be granted at once, without the server's help.
MAX_APPROVED = 1_000
# Contacts in one signal, so that none of them holds the event loop for long.
SLICE = 100
# Seconds for the server to say what came of a subscription that we changed. It says nothing if
# nothing did.
SETTLE_SECONDS = 5.0
# Requests to the server at the same time: those for a whole group must not take a round trip each.
MAX_AT_ONCE = 16

States = tuple[int, int, str]


@dataclass(frozen=True)
class ContactListStateChanged(ConnectionEvent):
    interface = names.CONTACT_LIST

    state: int


@dataclass(frozen=True)
class ContactsChangedWithID(ConnectionEvent):
    """Handle to (subscribe, publish, publish-request); handle to JID; removed handle to JID."""

    interface = names.CONTACT_LIST

    changes: Mapping[int, States]
    identifiers: Mapping[int, str]
    removals: Mapping[int, str]


@dataclass(frozen=True)
class ContactsChanged(ConnectionEvent):
    """The same for clients that are older than identifiers; emitted right after the other."""

    interface = names.CONTACT_LIST

    changes: Mapping[int, States]
    removals: tuple[int, ...]


class ContactList(Feature):
    """See the methods of ``Connection.Interface.ContactList``."""

    contact_list_persists = True
    can_change_contact_list = True
    request_uses_message = True
    download_at_connection = True

    def __init__(self, account: Account) -> None:
        self._account = account
        self._error: TelepathyError | None = None
        # JIDs that want to see our presence, with their words; None: they took it back.
        self._requests: dict[str, str | None] = {}
        self._refused: set[str] = set()
        self._approved: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._early: list[E2EError | None] = []
        self.contact_list_state = STATE_NONE

    # -- what it is like --------------------------------------------------------------------

    def states(self, jid: str) -> States:
        """(subscribe, publish, publish-request) of a bare JID."""
        item = self._account.client.contacts().get(jid)
        if item is not None and item.seen:
            subscribe = YES
        elif item is not None and item.asked:
            subscribe = ASK
        else:
            subscribe = REMOVED_REMOTELY if jid in self._refused else NO
        if item is not None and item.sees_us:
            return subscribe, YES, ""
        if jid not in self._requests:
            return subscribe, NO, ""
        message = self._requests[jid]
        return (subscribe, REMOVED_REMOTELY, "") if message is None else (subscribe, ASK, message)

    def known_states(self, handle: int) -> States | None:
        """Of a contact, or None while the list is not there."""
        if self.contact_list_state != STATE_SUCCESS:
            return None
        return self.states(self._account.handles.inspect(handle))

    def _listed(self, jid: str) -> bool:
        return (
            jid in self._account.client.contacts() and not self._hidden(jid)
        ) or jid in self._requests

    def _hidden(self, jid: str) -> bool:
        """Blocked contacts do not appear, unless there is still a subscription."""
        return jid in self._account.blocking and self.states(jid)[:2] == (NO, NO)

    def contacts(self) -> list[int]:
        """The handles of all that are on the list.

        Raises:
            NotYet: it is not there yet.
            TelepathyError: it cannot be had.
        """
        self._check_loaded()
        return [self._account.handles.of_jid(jid) for jid in self._all()]

    def _all(self) -> Iterator[str]:
        contacts = self._account.client.contacts()
        yield from [jid for jid in contacts if not self._hidden(jid)]
        yield from [jid for jid in self._requests if jid not in contacts]

    def _check_loaded(self) -> None:
        if self.contact_list_state == STATE_FAILURE and self._error is not None:
            raise self._error
        if self.contact_list_state != STATE_SUCCESS:
            raise NotYet("The contact list is not there yet")

    def check_ready(self) -> None:
        """For what changes the list, or depends on it.

        Raises:
            Disconnected: the connection is not up.
            NotYet: the list is not there yet.
            TelepathyError: it cannot be had.
        """
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        self._check_loaded()

    def _set_state(self, state: int) -> None:
        if state != self.contact_list_state:
            self.contact_list_state = state
            self._account.events.emit(ContactListStateChanged(state))

    # -- what the server says ---------------------------------------------------------------

    def connected(self) -> None:
        if self.contact_list_state == STATE_NONE:
            self._set_state(STATE_WAITING)
        for error in self._early:
            self.roster_loaded(error)

    def roster_loaded(self, error: E2EError | None) -> None:
        if self._account.status != 0:
            self._early = [error]  # a list before Connected would surprise clients
            return
        if error is not None:
            self._error = refusal(error, "The server does not give out the contact list")
            self._set_state(STATE_FAILURE)
            return
        self._set_state(STATE_SUCCESS)
        self._account.tasks.start("contacts", self._announce())

    async def _announce(self) -> None:
        """All contacts to those who listen, with their groups."""
        everybody = list(self._all())
        for start in range(0, len(everybody), SLICE):
            some = [jid for jid in everybody[start : start + SLICE] if self._listed(jid)]
            self._tell(some)
            self._account.groups.announce(some)
            await asyncio.sleep(0)

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        for change in changes:
            if change.after is not None and change.after.sees_us:
                self._requests.pop(change.jid, None)
                self._approved.pop(change.jid, None)
            if change.after is None or change.after.seen or change.after.asked:
                self._refused.discard(change.jid)
        self._changed.set()
        if self.contact_list_state == STATE_SUCCESS:
            self._tell(
                [each.jid for each in changes if _subscription(each, 0) != _subscription(each, 1)]
            )

    def contacts_changed(self, jids: Iterable[str]) -> None:
        """They may have come onto the list or left it."""
        contacts = self._account.client.contacts()
        if self.contact_list_state == STATE_SUCCESS:
            self._tell([jid for jid in jids if jid in contacts or jid in self._requests])

    def _tell(self, jids: Iterable[str]) -> None:
        changes: dict[int, States] = {}
        identifiers: dict[int, str] = {}
        removals: dict[int, str] = {}
        for jid in jids:
            handle = self._account.handles.of_jid(jid)
            if self._listed(jid):
                changes[handle] = self.states(jid)
                identifiers[handle] = jid
            else:
                removals[handle] = jid
        if changes or removals:
            emit = self._account.events.emit
            emit(ContactsChangedWithID(changes, identifiers, removals))
            emit(ContactsChanged(changes, tuple(removals)))

    def receive_presence(self, stanza: Element) -> bool:
        """Subscriptions asked for, granted, refused and ended by contacts."""
        kind = stanza.get("type")
        if kind not in ("subscribe", "subscribed", "unsubscribe", "unsubscribed"):
            return False
        try:
            jid = bare(normalise(stanza.get("from", "")))
        except ValueError:
            return True
        if jid == self._account.self_id:
            return True
        if kind == "subscribe":
            self._asked(jid, stanza.findtext(f"{{{CLIENT}}}status", "")[:MAX_MESSAGE])
        elif kind == "unsubscribe" and self._requests.get(jid) is not None:
            # It stays listed, and counted, until the user has seen it: else a stranger could ask
            # and take it back under ever new names.
            self._requests[jid] = None
            self._news(jid)
        elif kind == "unsubscribed" and jid in self._account.client.contacts():
            self._refused.add(jid)
            self._news(jid)
        return True

    def _asked(self, jid: str, message: str) -> None:
        item = self._account.client.contacts().get(jid)
        if jid in self._approved or (item is not None and item.sees_us):
            self._send("subscribed", jid)
            return
        if item is None and jid not in self._requests:
            strangers = sum(each not in self._account.client.contacts() for each in self._requests)
            if strangers >= MAX_REQUESTS:
                log.info("a request to see our presence was dropped: there are too many")
                return
        self._requests[jid] = message
        self._news(jid)

    def _news(self, jid: str) -> None:
        self._changed.set()
        if self.contact_list_state == STATE_SUCCESS:
            self._tell([jid])

    # -- what the user says -----------------------------------------------------------------

    def download(self) -> None:
        """ContactList.Download: it is being downloaded anyway; after a failure, again now.

        Raises:
            Disconnected: the connection is not up.
        """
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        if self.contact_list_state == STATE_FAILURE:
            self._account.client.roster.retry()

    def _jids(self, handles: Iterable[int]) -> list[str]:
        """All are looked at before anything is done."""
        self.check_ready()
        return list(dict.fromkeys(self._account.handles.inspect(handle) for handle in handles))

    async def request_subscription(self, handles: Iterable[int], message: str) -> None:
        """ContactList.RequestSubscription.

        Raises:
            Disconnected, NotYet: see ``check_ready``.
            InvalidHandle: no contact, or oneself.
            InvalidArgument: a message that cannot be sent.
            NetworkError, NotAvailable, PermissionDenied: the server does not want to.
        """
        jids = self._jids(handles)
        if self._account.self_id in jids:
            raise InvalidHandle("Nobody subscribes to himself")
        if not is_sendable(message):
            raise InvalidArgument("The message has a character that cannot be sent")
        wanted = [jid for jid in jids if self.states(jid)[0] != YES]
        for jid in wanted:
            self._refused.discard(jid)
            self._send("subscribe", jid, message[:MAX_MESSAGE])
        await self._settled(lambda: all(self.states(jid)[0] in (ASK, YES) for jid in wanted))

    async def authorize_publication(self, handles: Iterable[int]) -> None:
        """ContactList.AuthorizePublication.

        Raises:
            Disconnected, NotYet: see ``check_ready``.
            InvalidHandle: no contact.
        """
        asked = []
        for jid in self._jids(handles):
            publish = self.states(jid)[1]
            if publish == YES or jid == self._account.self_id:
                continue
            if publish == ASK:
                asked.append(jid)
                self._send("subscribed", jid)
                continue
            self._approved[jid] = None
            while len(self._approved) > MAX_APPROVED:
                del self._approved[next(iter(self._approved))]
            if PRE_APPROVAL in self._account.client.offers:  # RFC 6121 section 3.4
                self._send("subscribed", jid)
        await self._settled(lambda: all(self.states(jid)[1] == YES for jid in asked))

    async def unsubscribe(self, handles: Iterable[int]) -> None:
        """ContactList.Unsubscribe.

        Raises:
            Disconnected, NotYet: see ``check_ready``.
            InvalidHandle: no contact.
        """
        jids = self._jids(handles)
        for jid in jids:
            if self.states(jid)[0] in (ASK, YES):
                self._send("unsubscribe", jid)
            elif jid in self._refused:
                self._refused.discard(jid)
                self._news(jid)
        await self._settled(lambda: all(self.states(jid)[0] not in (ASK, YES) for jid in jids))

    async def unpublish(self, handles: Iterable[int]) -> None:
        """ContactList.Unpublish.

        Raises:
            Disconnected, NotYet: see ``check_ready``.
            InvalidHandle: no contact.
        """
        jids = self._jids(handles)
        for jid in jids:
            self._withdraw(jid)
        await self._settled(lambda: all(self.states(jid)[1] not in (ASK, YES) for jid in jids))

    def _withdraw(self, jid: str) -> None:
        """The contact may not see us: not now, and not when it asks."""
        item = self._account.client.contacts().get(jid)
        approved = self._approved.pop(jid, False) is None or (item is not None and item.approved)
        if approved or self.states(jid)[1] in (ASK, YES):
            self._send("unsubscribed", jid)
        if jid in self._requests:
            del self._requests[jid]
            self._news(jid)

    async def remove_contacts(self, handles: Iterable[int]) -> None:
        """ContactList.RemoveContacts: both subscriptions end, and the entry goes.

        Raises:
            Disconnected, NotYet: see ``check_ready``.
            InvalidHandle: no contact.
        """
        jids = self._jids(handles)
        for jid in jids:
            if self.states(jid)[1] != YES:
                self._withdraw(jid)
        await self.for_each(jids, self._remove)

    async def _remove(self, jid: str) -> None:
        try:
            await self._account.client.roster.remove(jid)
        except StanzaError as error:
            # "This method SHOULD succeed even if it was not possible" for some of them.
            log.info("a contact stays on the list: %s", error)

    async def for_each(
        self, jids: Sequence[str], change: Callable[[str], object], what: str = "Not all was done"
    ) -> None:
        """Change contacts at the server, several at a time, and wait for all.

        Args:
            change: a coroutine function.
            what: for the text of the error, see ``answers.refusal``.
        Raises:
            TelepathyError: what the first that failed was refused with.
        """
        waiting = iter(jids)
        failures: list[E2EError] = []

        async def work() -> None:
            for jid in waiting:
                try:
                    await change(jid)  # type: ignore[misc]
                except (StanzaError, IqTimeout, TelepathyError) as error:
                    failures.append(error)

        workers = [
            self._account.tasks.start("change", work()) for _ in range(min(MAX_AT_ONCE, len(jids)))
        ]
        if workers:
            await asyncio.wait(workers)
        if failures:
            raise refusal(failures[0], what)

    def _send(
        self,
        kind: Literal["subscribe", "subscribed", "unsubscribe", "unsubscribed"],
        jid: str,
        message: str = "",
    ) -> None:
        presence = Element(PRESENCE, to=jid, type=kind)
        if message:
            SubElement(presence, f"{{{CLIENT}}}status").text = message
        if kind == "subscribe":
            presence.extend(self._account.aliases.introduction())
        self._account.client.send(presence)

    async def _settled(self, done: Callable[[], bool]) -> None:
        """Wait for what the server makes of it; "state changes that immediately result" first."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not done() and self._account.status == 0:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.info("the server did not say what came of a subscription")

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._changed.set()


def _subscription(change: RosterChange, which: int) -> object:
    """What ``states`` looks at, before and after."""
    item = (change.before, change.after)[which]
    return None if item is None else (item.subscription, item.asked)
