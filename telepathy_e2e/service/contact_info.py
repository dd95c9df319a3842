"""ContactInfo: vCards (XEP-0054), those of others and our own."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    E2EError,
    NetworkError,
    NotAvailable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp import vcard
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.markup import serialise
from telepathy_e2e.xmpp.vcard import Field, FieldSpec

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Contact_Info_Flags
CAN_SET: Final = 1

# vCards kept: those somebody has looked at lately. The program that asked has its own copy.
MAX_CARDS: Final = 128
# Seconds after which somebody who wants to see a vCard now gets a new one: nobody tells us when one
# changes.
FRESH_SECONDS: Final = 300.0
# Questions for vCards at the same time: servers answer them one by one, from disk.
MAX_QUESTIONS: Final = 8
# Contacts that RefreshContactInfo may have waiting: a whole contact list.
MAX_REFRESHES: Final = 20_000

# "If no vCard exists" (XEP-0054 section 3.1 and 3.3).
_NO_CARD: Final = ("item-not-found", "service-unavailable")
# The server does not keep vCards, or not ours.
UNSUPPORTED: Final = ("service-unavailable", "feature-not-implemented", "item-not-found")


@dataclass(frozen=True)
class ContactInfoChanged(ConnectionEvent):
    """A contact's fields are other ones, or were not known."""

    interface = names.CONTACT_INFO

    contact: int
    contact_info: tuple[Field, ...]


class ContactInfo(Feature):
    """vCards of contacts; everybody who wants one, or wants to change ours, asks here.

    Attributes:
        on_own_card: told of our own vCard each time that it came, or was accepted; None when it
            cannot be had at login.
    """

    supported_fields: Sequence[FieldSpec] = vcard.SUPPORTED_FIELDS
    flags: int = CAN_SET

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cards: OrderedDict[str, tuple[Field, ...]] = OrderedDict()
        self._stale_at: dict[str, float] = {}
        self._questions: dict[str, asyncio.Task[Element]] = {}
        self._turns = asyncio.Semaphore(MAX_QUESTIONS)
        self._refreshes: dict[str, None] = {}
        self._refreshers = 0
        # A vCard is written as a whole: of two changes at a time one would be undone.
        self._writer = asyncio.Lock()
        self.on_own_card: Callable[[Element | None], None] = lambda card: None

    # -- what is known ----------------------------------------------------------------------

    def of(self, handle: int) -> tuple[Field, ...] | None:
        """The fields of a contact as far as they are known.

        Raises:
            InvalidHandle: no such contact.
        """
        return self._cards.get(self._account.handles.inspect(handle))

    def of_all(self, handles: Sequence[int]) -> dict[int, tuple[Field, ...]]:
        """ContactInfo.GetContactInfo: of those of which they are known.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
        """
        self._check_connected()
        known = {handle: self.of(handle) for handle in handles}
        return {handle: fields for handle, fields in known.items() if fields is not None}

    def nickname(self, bare_jid: str) -> str | None:
        """What somebody's vCard says that it wants to be called; None: the vCard is not known."""
        fields = self._cards.get(bare_jid)
        return vcard.nickname(fields) if fields is not None else None

    # -- asking -----------------------------------------------------------------------------

    def connected(self) -> None:
        self._account.tasks.start("vcard", self._fetch_own())

    async def _fetch_own(self) -> None:
        try:
            await self.fetch(self._account.self_id)
        except E2EError as error:
            log.info("the own vCard cannot be had: %s", error)
            self.on_own_card(None)

    async def fetch(self, jid: str) -> Element:
        """Somebody's vCard, from the server; one question at a time for each.

        Args:
            jid: of a handle; our own is all right.
        Returns:
            The vCard, which is not to be changed; an empty one if there is none.
        Raises:
            PeerError: the answer makes no sense.
            StanzaError, IqTimeout, Disconnected: see ``Client.send_iq``.
        """
        task = self._questions.get(jid)
        if task is None:
            task = self._account.tasks.start("vcard", self._ask(jid), awaited=True)
            self._questions[jid] = task
            task.add_done_callback(lambda _: self._questions.pop(jid, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Disconnected("The connection to the server is gone") from None
            raise

    async def _ask(self, jid: str) -> Element:
        async with self._turns:
            own = jid == self._account.self_id
            to = None if own else jid
            try:
                answer = await self._account.client.send_iq(to, vcard.query(), "get")
            except StanzaError as error:
                if not own or error.condition not in _NO_CARD:
                    raise
                answer = None
            card = vcard.check(answer)
        self._learn(jid, card)
        return card

    def _learn(self, jid: str, card: Element) -> None:
        fields = vcard.read(card)
        before = self._cards.pop(jid, None)
        self._cards[jid] = fields
        if len(self._cards) > MAX_CARDS:
            for each in self._cards:
                if each != self._account.self_id:
                    del self._cards[each], self._stale_at[each]
                    break
        self._stale_at[jid] = asyncio.get_running_loop().time() + FRESH_SECONDS
        if fields != before:
            handle = self._account.handles.find(jid)
            if handle is not None:
                self._account.events.emit(ContactInfoChanged(handle, fields))
            self._account.aliases.nickname_in_card(jid, vcard.nickname(fields))
        if jid == self._account.self_id:
            self.on_own_card(card)

    async def request(self, handle: int) -> tuple[Field, ...]:
        """ContactInfo.RequestContactInfo.

        Raises:
            Disconnected: not connected.
            InvalidHandle: no such contact.
            NotAvailable, PermissionDenied, NetworkError: it cannot be had.
        """
        self._check_connected()
        jid = self._account.handles.inspect(handle)
        known = self._cards.get(jid)
        if known is not None and asyncio.get_running_loop().time() < self._stale_at[jid]:
            return known
        try:
            return vcard.read(await self.fetch(jid))
        except PeerError as error:
            raise NotAvailable("The contact's information makes no sense") from error
        except (StanzaError, IqTimeout) as error:
            raise refusal(error, "The contact's information cannot be had") from error

    def refresh(self, handles: Sequence[int]) -> None:
        """ContactInfo.RefreshContactInfo: ask for these again; changes are told.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
        """
        self._check_connected()
        for jid in [self._account.handles.inspect(each) for each in handles]:
            if len(self._refreshes) < MAX_REFRESHES:
                self._refreshes[jid] = None
        while self._refreshers < min(MAX_QUESTIONS, len(self._refreshes)):
            self._refreshers += 1
            self._account.tasks.start("vcards", self._refresh())

    async def _refresh(self) -> None:
        try:
            while self._refreshes:
                jid = next(iter(self._refreshes))
                del self._refreshes[jid]
                try:
                    await self.fetch(jid)
                except Disconnected:
                    return
                except (StanzaError, IqTimeout, PeerError) as error:
                    log.info("a contact's information cannot be had: %s", error)
        finally:
            self._refreshers -= 1

    # -- changing our own -------------------------------------------------------------------

    async def set(self, fields: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        """ContactInfo.SetContactInfo; what we do not understand of the vCard stays as it is.

        Raises:
            Disconnected: not connected.
            InvalidArgument: not what ``supported_fields`` promises.
            NetworkError, PermissionDenied, NotAvailable: the server does not do it.
        """
        self._check_connected()
        wanted = vcard.checked(fields)
        try:
            await self.edit(lambda card: vcard.with_fields(card, wanted))
        except PeerError as error:
            raise NetworkError("The server sent something that is no vCard") from error
        except (StanzaError, IqTimeout) as error:
            raise refusal(error, "The information could not be set") from error

    async def edit(self, change: Callable[[Element], Element]) -> None:
        """Change our vCard: read, change, write, with nobody else between.

        Args:
            change: makes the new vCard of the one that is there, without changing that.
        Raises:
            PeerError: the server sent something else.
            StanzaError, IqTimeout, Disconnected: see ``Client.send_iq``.
        """
        async with self._writer:
            # Another program of this account may have changed it since.
            before = await self._read_now()
            after = change(before)
            if serialise(after) != serialise(before):
                await self._account.client.send_iq(None, after, "set")
            self._learn(self._account.self_id, after)

    async def _read_now(self) -> Element:
        """Our vCard as it is now, not as a question of a moment ago says."""
        try:
            return vcard.check(await self._account.client.send_iq(None, vcard.query(), "get"))
        except StanzaError as error:
            if error.condition != "item-not-found":
                # Without having seen the vCard we would overwrite it with nothing.
                raise
            return vcard.check(None)

    async def publish_nickname(self, name: str) -> None:
        """Our own new name, which belongs into our vCard (Contact_Info_Field_Flags).

        Raises:
            StanzaError, IqTimeout, Disconnected: see ``Client.send_iq``.
        """
        try:
            await self.edit(lambda card: vcard.with_nickname(card, name))
        except PeerError as error:
            log.info("the name is not in our vCard: %s", error)
        except StanzaError as error:
            if error.condition not in UNSUPPORTED:
                raise

    def _check_connected(self) -> None:
        if self._account.status != 0:
            raise Disconnected("The connection is not up")

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._refreshes.clear()
