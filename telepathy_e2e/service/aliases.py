"""Aliasing: what contacts are called, by us and by themselves (roster names, XEP-0172)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, InvalidArgument, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp import nick
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, local_of, normalise, resource_of
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.roster import MAX_NAME, RosterChange

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Connection_Alias_Flags
USER_SET = 1

ITEM_ID = "current"


@dataclass(frozen=True)
class AliasesChanged(ConnectionEvent):
    """Pairs of handle and alias."""

    interface = names.ALIASING

    aliases: tuple[tuple[int, str], ...]


class Aliases(Feature):
    """What a contact is called: the user's name for it, else its own, else its address.

    Attributes:
        publish_nickname: also told our own new name (for the vCard), or None; raises
            TelepathyError.
    """

    flags = USER_SET

    def __init__(self, account: Account) -> None:
        self._account = account
        self._nicks = nick.Nicks(lambda jid: jid in account.client.contacts())
        # Nicknames of vCards; those of XEP-0172 are newer, as people change them more easily.
        self._cards = nick.Nicks(lambda jid: jid in account.client.contacts())
        self._own = str(account.parameters.get("alias") or "")[: nick.MAX_NICK]
        self.publish_nickname: Callable[[str], Awaitable[None]] | None = None

    # -- what they are ----------------------------------------------------------------------

    def of(self, handle: int) -> str:
        """The alias of a contact.

        Raises:
            InvalidHandle: no such contact.
        """
        return self._of(self._account.handles.inspect(handle))

    def of_self(self) -> str:
        """What we call ourselves, or the part of our address that people would use."""
        own = self._of(self._account.self_id)
        return own if own != self._account.self_id else local_of(own)

    def _of(self, jid: str) -> str:
        if "/" in jid:
            return resource_of(jid)  # somebody in a room: his nick there
        if jid == self._account.self_id:
            return self._own or self._nicks.get(jid) or self._cards.get(jid) or jid
        item = self._account.client.contacts().get(jid)
        name = item.name if item is not None else ""
        return name or self._nicks.get(jid) or self._cards.get(jid) or jid

    def of_all(self, handles: Sequence[int]) -> dict[int, str]:
        """Of many.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
        """
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        return {handle: self.of(handle) for handle in handles}

    def introduction(self) -> list[Element]:
        """What goes with a request to be somebody's contact (XEP-0172 section 4.2)."""
        return [nick.build(self._own)] if self._own and is_sendable(self._own) else []

    def _tell(self, jids: Iterable[str]) -> None:
        """Those of whom nobody on the bus has heard are not told of, and cost no handle."""
        find = self._account.handles.find
        handles = {handle: jid for jid in jids if (handle := find(jid)) is not None}
        if handles:
            self._account.events.emit(
                AliasesChanged(tuple((handle, self._of(jid)) for handle, jid in handles.items()))
            )

    # -- what others say --------------------------------------------------------------------

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        self._tell(
            change.jid
            for change in changes
            if (change.before.name if change.before is not None else "")
            != (change.after.name if change.after is not None else "")
        )

    def receive_presence(self, stanza: Element) -> bool:
        """Who asks to be a contact may say what he is called (XEP-0172 section 4.2)."""
        if stanza.get("type") == "subscribe" and (name := nick.parse(stanza)):
            try:
                jid = bare(normalise(stanza.get("from", "")))
            except ValueError:
                return False
            # A contact's name is learnt from what it publishes: a request is easier to forge.
            if jid not in self._account.client.contacts():
                self._learn(self._nicks, jid, name)
        return False

    def nick_published(self, bare_jid: str, payload: Element | None) -> None:
        """A PEP event of the node ``http://jabber.org/protocol/nick``; None: taken back."""
        name = nick.parse(payload)
        if bare_jid == self._account.self_id:
            self._own = name
        self._learn(self._nicks, bare_jid, name)

    def nickname_in_card(self, bare_jid: str, name: str) -> None:
        """Whoever reads vCards tells of the nickname in one."""
        self._learn(self._cards, bare_jid, " ".join(name.split())[: nick.MAX_NICK])

    def _learn(self, where: nick.Nicks, bare_jid: str, name: str) -> None:
        before = self._of(bare_jid)
        where.learn(bare_jid, name)
        if self._of(bare_jid) != before or bare_jid == self._account.self_id:
            self._tell([bare_jid])

    # -- what the user says -----------------------------------------------------------------

    def connected(self) -> None:
        if self._own:
            self._account.tasks.start("alias", self._publish_at_login())

    async def _publish_at_login(self) -> None:
        try:
            await self._set_own(self._own)
        except TelepathyError as error:
            log.info("the own name was not published: %s", error)

    async def set(self, aliases: Mapping[int, str]) -> None:
        """Aliasing.SetAliases: our names for others, and our own for ourselves.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
            InvalidArgument: a name that is too long or cannot be sent.
            NotYet: the contact list is not there yet.
            NetworkError, NotAvailable, PermissionDenied: the server does not want to.
        """
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        wanted = {self._account.handles.inspect(each): name for each, name in aliases.items()}
        for name in wanted.values():
            if len(name) > MAX_NAME or not is_sendable(name):
                raise InvalidArgument(f"A name has at most {MAX_NAME} characters, none of control")
        own = wanted.pop(self._account.self_id, None)
        if own is not None:
            await self._set_own(own)
        if not wanted:
            return
        contact_list, roster = self._account.contact_list, self._account.client.roster
        contact_list.check_ready()

        async def name_it(jid: str) -> None:
            # The address itself is no name: it is what is shown where there is none.
            name = "" if wanted[jid] == jid else wanted[jid]
            await roster.change(jid, lambda item: replace(item, name=name))

        await contact_list.for_each(list(wanted), name_it, "The name could not be set")

    async def _set_own(self, name: str) -> None:
        own = "" if name == self._account.self_id else name
        try:
            await self._account.pep.publish(nick.NICK, ITEM_ID, nick.build(own))
        except (StanzaError, IqTimeout) as error:
            # Not every server has personal eventing; a vCard shows the name as well.
            if self.publish_nickname is None:
                raise refusal(error, "The name could not be published") from error
        if self.publish_nickname is not None:
            await self.publish_nickname(own)
        before, self._own = self._of(self._account.self_id), own
        if self._of(self._account.self_id) != before:
            self._tell([self._account.self_id])
