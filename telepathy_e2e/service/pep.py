"""Personal eventing (XEP-0163): what contacts publish about themselves, and we of us."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import E2EError, PeerError, TelepathyError
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xmpp.iq import StanzaError
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.markup import CLIENT
from telepathy_e2e.xmpp.pubsub import Access, Item

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Events kept while it is not known yet who is on the contact list: two nodes of each contact on a
# long list. They are small; a server that sends more before the list is there is slow or hostile.
MAX_WAITING: Final = 4_096

Callback = Callable[[str, Element | None], None]
Retracted = Callable[[str, str], bool]

_BODY: Final = f"{{{CLIENT}}}body"


class Pep(Feature):
    """Events of contacts and of our own account, by node; and publishing."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._callbacks: dict[str, list[tuple[Callback, Retracted | None]]] = {}
        self._waiting: deque[tuple[str, pubsub.NodeEvent]] = deque()

    # -- what others publish ----------------------------------------------------------------

    def on(self, node: str, callback: Callback, retracted: Retracted | None = None) -> None:
        """Ask for the events of a node, of everybody who lets us; to be called before connecting.

        Args:
            callback: gets the publisher's bare JID (a contact's, or our own) and the item's
                payload, None when it was taken back; it may raise PeerError.
            retracted: gets the bare JID and the id of an item that is gone, and says whether that
                was the current one (services trim old ones); without it every retraction counts.
        """
        self._callbacks.setdefault(node, []).append((callback, retracted))
        if (feature := node + "+notify") not in self.disco:
            self.disco = (*self.disco, feature)

    def receive_message(self, stanza: Element) -> bool:
        element = stanza.find(pubsub.EVENT_TAG)
        if element is None or stanza.get("type") == "error":
            return False
        if stanza.find(_BODY) is not None:
            return False  # somebody talks to us: events have no body
        try:
            # RFC 6120 section 8.1.2.1: without an address it comes from our own account.
            sender = normalise(stanza.get("from") or self._account.self_id)
        except ValueError:
            return True
        # The server speaks for the account; programs do not (CVE-2023-28686 and its kin: clients
        # that took events from anybody).
        if sender != bare(sender):
            log.info("an event that does not come from an account was dropped")
            return True
        event = pubsub.parse_event(element)
        if event is None or event.node not in self._callbacks:
            return True
        if self._may_tell(sender):
            self._tell(sender, event)
        elif self._account.client.roster.loading and len(self._waiting) < MAX_WAITING:
            self._waiting.append((sender, event))
        return True

    def _may_tell(self, bare_jid: str) -> bool:
        """Strangers could fill our memory, and would be shown as what they like."""
        return bare_jid == self._account.self_id or bare_jid in self._account.client.contacts()

    def _tell(self, sender: str, event: pubsub.NodeEvent) -> None:
        for callback, retracted in self._callbacks[event.node]:
            try:
                if event.emptied:
                    callback(sender, None)
                for item in event.items:
                    if not item.retracted or retracted is None or retracted(sender, item.id):
                        callback(sender, item.payload)
            except PeerError as error:
                log.info("an event was dropped: %s", error)

    def roster_loaded(self, error: E2EError | None) -> None:
        waiting, self._waiting = self._waiting, deque()
        for sender, event in waiting:
            if self._may_tell(sender):
                self._tell(sender, event)

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._waiting.clear()

    # -- what we publish --------------------------------------------------------------------

    async def publish(
        self,
        node: str,
        item_id: str | None,
        payload: Element,
        access: Access = "presence",
        most: int = 1,
    ) -> None:
        """Publish an item as the only one of its node, which need not exist.

        Args:
            item_id: None lets the server choose.
            access: who may see it: contacts that see our presence, everybody, nobody but us.
                A node that the user has set up otherwise keeps its setting, except that what is
                for us alone is not published to others.
            most: items that the node keeps; of more than one, each of our programs has its own.
        Raises:
            StanzaError, IqTimeout, Disconnected, InvalidArgument: see ``Client.send_iq``.
        """
        options = {
            "pubsub#persist_items": "true",
            "pubsub#max_items": str(most),
            "pubsub#access_model": access,
        }
        try:
            await self._account.client.send_iq(
                None, pubsub.publish(node, item_id, payload, options), "set"
            )
        except StanzaError as error:
            # XEP-0060 section 7.1.5: the node is there, and is another one.
            if access == "whitelist" or error.condition not in ("conflict", "bad-request"):
                raise
            await self._account.client.send_iq(
                None, pubsub.publish(node, item_id, payload, {}), "set"
            )

    async def retract(self, node: str, item_id: str) -> None:
        """Take an item back.

        Raises:
            StanzaError, IqTimeout, Disconnected: see ``Client.send_iq``.
        """
        await self._account.client.send_iq(None, pubsub.retract(node, item_id), "set")

    async def items(
        self, bare_jid: str, node: str, item_id: str | None = None, max: int | None = None
    ) -> list[Item]:
        """Items of somebody's node, as far as we may see them.

        Args:
            bare_jid: whose; our own is all right.
            item_id: only this one.
            max: only so many of the newest, where the server can do that.
        Raises:
            PeerError: the answer makes no sense.
            StanzaError, IqTimeout, Disconnected: see ``Client.send_iq``.
        """
        to = None if bare_jid == self._account.self_id else bare_jid
        answer = await self._account.client.send_iq(to, pubsub.items(node, item_id, max), "get")
        found = [each for each in pubsub.parse_items(answer, node) if not each.retracted]
        if item_id is not None:
            return [each for each in found if each.id == item_id]
        return found
