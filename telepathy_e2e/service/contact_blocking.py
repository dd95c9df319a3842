"""ContactBlocking: who may not reach us (XEP-0191)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    InvalidHandle,
    NotImplementedByUs,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp import blocking
from telepathy_e2e.xmpp.blocking import BlockChange, Blocked
from telepathy_e2e.xmpp.iq import IqRequest, IqTimeout, StanzaError

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Times that the list is asked for because it changed meanwhile; then the last answer has to do.
MAX_QUESTIONS = 3


@dataclass(frozen=True)
class BlockedContactsChanged(ConnectionEvent):
    """Handle to JID of those who are blocked now, and of those who are no longer."""

    interface = names.CONTACT_BLOCKING

    blocked: Mapping[int, str]
    unblocked: Mapping[int, str]


class ContactBlocking(Feature):
    """See the methods of ``Connection.Interface.ContactBlocking``."""

    # Servers are not told of abuse.
    contact_blocking_capabilities = 0

    def __init__(self, account: Account) -> None:
        self._account = account
        self._blocked = Blocked()
        self._ready: asyncio.Task[None] | None = None
        self._pushes = 0
        account.client.on_iq(blocking.BLOCK, self._pushed)
        account.client.on_iq(blocking.UNBLOCK, self._pushed)

    def __contains__(self, bare_jid: str) -> bool:
        return bare_jid in self._blocked

    def is_blocked(self, handle: int) -> bool:
        """Whether a contact is.

        Raises:
            InvalidHandle: no such contact.
        """
        return self._account.handles.inspect(handle) in self._blocked

    # -- what the server says ---------------------------------------------------------------

    def connected(self) -> None:
        self._ready = self._account.tasks.start("blocked", self._load())

    async def _load(self) -> None:
        try:
            await self._ask_list()
        except TelepathyError as error:
            log.info("no list of blocked contacts: %s", error)

    async def _ask_list(self) -> None:
        await self._check_server()
        for _ in range(MAX_QUESTIONS):
            pushes = self._pushes
            answer = await self._asked(Element(blocking.BLOCKLIST), "get")
            if pushes == self._pushes:  # else it is not known which of them is newer
                break
        self._tell(self._blocked.load(answer))

    async def _check_server(self) -> None:
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        if blocking.BLOCKING not in await self._account.client.server_features():
            raise NotImplementedByUs("The server cannot block contacts")

    def _pushed(self, request: IqRequest) -> None:
        # Anybody could unblock himself otherwise (XEP-0191 section 3.3 has the server push it).
        if request.type != "set" or request.from_ != self._account.self_id:
            raise PeerError("the list of blocked contacts is not yours", "service-unavailable")
        self._pushes += 1
        change = self._blocked.push(request.payload)
        request.reply()
        self._tell(change)

    def _tell(self, change: BlockChange) -> None:
        if not change.blocked and not change.unblocked:
            return
        handles = self._account.handles
        self._account.events.emit(
            BlockedContactsChanged(
                {handles.of_jid(jid): jid for jid in change.blocked},
                {handles.of_jid(jid): jid for jid in change.unblocked},
            )
        )
        for jid in (*change.blocked, *change.unblocked):
            self._account.presences.changed(jid)
        self._account.contact_list.contacts_changed([*change.blocked, *change.unblocked])

    # -- what the user says -----------------------------------------------------------------

    async def request_blocked_contacts(self) -> dict[int, str]:
        """ContactBlocking.RequestBlockedContacts: handle to JID.

        Raises:
            Disconnected: not connected.
            NotImplementedByUs: the server cannot do it.
            NetworkError, NotAvailable, PermissionDenied: it does not say.
        """
        await self._check_server()
        if self._ready is not None:
            await asyncio.wait([self._ready])
        return {self._account.handles.of_jid(jid): jid for jid in self._blocked}

    async def block(self, handles: Iterable[int]) -> None:
        """ContactBlocking.BlockContacts.

        Raises:
            InvalidHandle: no contact, or oneself.
            TelepathyError: as above.
        """
        await self._change(blocking.BLOCK, handles)

    async def unblock(self, handles: Iterable[int]) -> None:
        """ContactBlocking.UnblockContacts. Raises: as above."""
        await self._change(blocking.UNBLOCK, handles)

    async def _change(self, tag: str, handles: Iterable[int]) -> None:
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        jids = list(dict.fromkeys(self._account.handles.inspect(each) for each in handles))
        if self._account.self_id in jids:
            raise InvalidHandle("Nobody blocks himself")
        await self.request_blocked_contacts()
        block = tag == blocking.BLOCK
        jids = [jid for jid in jids if (jid in self._blocked) != block]
        if not jids:
            return
        await self._asked(blocking.build(tag, jids), "set")
        # The push may come later, or have come: then this is no change.
        self._tell(self._blocked.update(*((jids, ()) if block else ((), jids))))

    async def _asked(self, payload: Element, type: Literal["get", "set"]) -> Element | None:
        try:
            return await self._account.client.send_iq(None, payload, type)
        except (StanzaError, IqTimeout) as error:
            raise refusal(error, "The server does not block contacts") from error
