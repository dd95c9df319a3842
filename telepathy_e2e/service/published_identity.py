"""Identities: what we publish of ours, and what contacts publish (spec/identity-node.md).

Nothing here makes anybody verified: who can write to a node, servers included, can put any key
there. It only raises what is expected: of somebody who publishes a key, protection.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.attest import own as own_attestations
from telepathy_e2e.errors import Disconnected, PeerError, SecurityError, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.pubsub import Item
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.published import (
    MAX_IDENTITIES,
    NODE,
    Published,
    build_published,
    check_published,
    item_id,
    parse_published,
)

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Bytes of certificates that were heard of and that nobody has asked about yet: about 4,000 of the
# usual size. What a server sends beyond that is as if it had kept it to itself.
MAX_UNJUDGED: Final = 2 * 1024 * 1024
# People without an entry in the contact list whose keys are remembered: each of them was asked for
# by somebody on this desktop.
MAX_STRANGERS: Final = 256
# Seconds for which a transfer waits for the node of somebody whose capabilities do not list
# protection. A server that keeps silent instead of saying no gains nothing but this.
FIND_SECONDS: Final = 3.0
# Seconds after which the node of somebody is looked into again for a key that he has shown.
AGAIN_SECONDS: Final = 5.0
# Bytes of what contacts told of their devices by themselves, kept for whoever asks.
MAX_TOLD: Final = 2 * 1024 * 1024
# Nodes fetched at the same time: each can be some hundred KB on the stream that carries all else.
MAX_FETCHES: Final = 4

_NOTHING: Final = frozenset({"item-not-found", "service-unavailable", "feature-not-implemented"})


@dataclass(frozen=True)
class IdentitiesChanged(ConnectionEvent):
    """What a contact publishes may be something else now."""

    interface = names.IDENTITIES

    contact: int


class PublishedIdentities(Feature):
    """Everybody's node.

    Certificates that are heard of are judged when somebody wants to know: that needs libraries of
    some megabytes, which people who never send a file can do without.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._unjudged: dict[str, list[bytes]] = {}
        self._unjudged_bytes = 0
        # Fingerprints, of contacts and of strangers. They stay when the item is taken back: or
        # whoever can write to the node could turn the expectation off again.
        self._keys: dict[str, set[bytes]] = {}
        self._strangers: dict[str, None] = {}
        self._fetches = asyncio.Semaphore(MAX_FETCHES)
        self._published = False
        self._publishing = False
        # What contacts told of themselves, over a stream that is protected with one of their keys.
        self._told: dict[str, tuple[Published, ...]] = {}
        self._told_bytes = 0
        # Contacts without a key in their node, who were looked up for one that they had shown.
        self._compared: set[str] = set()
        # Told of a contact who has shown a key that his node does not have.
        self.unknown: Callable[[str], None] = _ignore
        account.pep.on(NODE, self._heard)

    # -- what others publish ----------------------------------------------------------------

    def _heard(self, jid: str, payload: Element | None) -> None:
        """An event of the node of a contact, or of our own account."""
        if payload is not None:
            self._keep(jid, parse_published(payload).identity)
        self._account.events.emit(IdentitiesChanged(self._account.handles.of_jid(jid)))

    def _keep(self, jid: str, identity: bytes) -> None:
        waiting = self._unjudged.setdefault(jid, [])
        if identity in waiting:
            return
        if len(waiting) >= MAX_IDENTITIES or self._unjudged_bytes + len(identity) > MAX_UNJUDGED:
            log.warning("more identities were published than are kept")
            return
        waiting.append(identity)
        self._unjudged_bytes += len(identity)

    def has_key(self, bare_jid: str) -> bool:
        """Whether somebody published a key as his since we are connected.

        This is for expecting more of him, never for believing more.
        """
        waiting = self._unjudged.pop(bare_jid, [])
        self._unjudged_bytes -= sum(map(len, waiting))
        now = datetime.now(UTC)
        for identity in waiting:
            try:
                self._remember(bare_jid, check_published(identity, bare_jid, now))
            except SecurityError as error:
                log.warning("an identity that a contact publishes was dropped: %s", error)
        return bool(self._keys.get(bare_jid))

    async def find_key(self, bare_jid: str) -> bool:
        """The same; whoever is not known to have published one is looked up now.

        Events come to those alone whose capabilities ask for them, and a server that forges
        capabilities may forge ours too.
        """
        if not self.has_key(bare_jid):
            try:
                async with asyncio.timeout(FIND_SECONDS):
                    await self._ask(bare_jid)
            except (TimeoutError, TelepathyError) as error:
                log.info("it is not known whether a contact publishes an identity: %s", error)
        return self.has_key(bare_jid)

    def _remember(self, jid: str, fingerprint: bytes) -> None:
        known = self._keys.setdefault(jid, set())
        if len(known) < MAX_IDENTITIES:
            known.add(fingerprint)
        if jid != self._account.self_id and jid not in self._account.client.contacts():
            self._strangers[jid] = None
            if len(self._strangers) > MAX_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest], self._keys[oldest]

    def presented(self, bare_jid: str, fingerprint: bytes) -> None:
        """A hello of somebody was right; says so in the log if his node has other keys alone.

        That is no verdict: the node may be old, or the server may have written it. People see it
        through the trust handler, which compares with what it remembers.
        """
        publishes = self.has_key(bare_jid)
        if fingerprint not in self._keys.get(bare_jid, ()) and (
            publishes or self._compare_once(bare_jid)
        ):
            self._account.tasks.start("compare identity", self._compare(bare_jid, fingerprint))
        # The key agent can be used by now, if it could not when we came.
        self.publish()

    def _compare_once(self, bare_jid: str) -> bool:
        """Whether a contact who publishes nothing shall be looked up: he may have begun to."""
        if bare_jid in self._compared or bare_jid not in self._account.client.contacts():
            return False
        self._compared.add(bare_jid)
        return True

    async def _compare(self, bare_jid: str, fingerprint: bytes) -> None:
        """Events tell of one device at a time; all of them are in the node."""
        if await self._publishes(bare_jid, fingerprint):
            return
        if self._keys.get(bare_jid):
            log.warning("a contact's identity is none of those that he publishes")
        # He may be about to: we do it after a handshake, too, if we could not before.
        await asyncio.sleep(AGAIN_SECONDS)
        if not await self._publishes(bare_jid, fingerprint):
            # Who tells nothing of this key, or something else, may be his server.
            self.unknown(bare_jid)

    async def _publishes(self, bare_jid: str, fingerprint: bytes) -> bool:
        if not self.has_key(bare_jid) or fingerprint not in self._keys[bare_jid]:
            try:
                await self._ask(bare_jid)
            except TelepathyError as error:
                log.info("%s", error)
        return fingerprint in self._keys.get(bare_jid, ())

    async def told(self, bare_jid: str, identities: Sequence[Published]) -> None:
        """A contact told of his devices himself, over a stream protected with one of their keys.

        Who is at the other end may be unverified, and sits in the middle then: what is said here
        makes nobody verified either.
        """
        good = await asyncio.to_thread(_judge, bare_jid, identities, datetime.now(UTC))
        for _, fingerprint in good:
            self._remember(bare_jid, fingerprint)
        self._told_bytes -= sum(map(_size, self._told.pop(bare_jid, ())))
        kept = tuple(published for published, _ in good)
        size = sum(map(_size, kept))
        if not kept:
            return
        if self._told_bytes + size > MAX_TOLD:
            log.warning("contacts told of more identities than are kept")
            return
        self._told[bare_jid] = kept
        self._told_bytes += size
        self._account.events.emit(IdentitiesChanged(self._account.handles.of_jid(bare_jid)))

    async def fetch(self, handle: int) -> list[Published]:
        """Identities1.GetIdentities: of anybody, asked now; of the right form and for his JID.

        Those that he told of himself come first, so that a server cannot crowd them out.

        Raises:
            Disconnected: not connected.
            InvalidHandle: no such contact.
            PermissionDenied, NetworkError, NotAvailable: he, or his server, does not say.
        """
        jid = self._account.handles.inspect(handle)
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        told = self._told.get(jid, ())
        try:
            async with self._fetches:
                published = await self._ask(jid)
        except TelepathyError:
            if not told:
                raise
            published = []
        known = {each.identity for each in told}
        more = (each for each in published if each.identity not in known)
        return [*told, *more][:MAX_IDENTITIES]

    async def _ask(self, jid: str) -> list[Published]:
        try:
            items = await self._account.pep.items(jid, NODE, max=MAX_IDENTITIES)
        except StanzaError as error:
            if error.condition in _NOTHING:
                return []
            raise refusal(error, "The contact's identities cannot be had") from error
        except (IqTimeout, PeerError) as error:
            raise refusal(error, "The contact's identities cannot be had") from error
        found = [each for each in map(_read, items[:MAX_IDENTITIES]) if each is not None]
        good = await asyncio.to_thread(_judge, jid, found, datetime.now(UTC))
        for _, fingerprint in good:
            self._remember(jid, fingerprint)
        return [published for published, _ in good]

    # -- what we publish --------------------------------------------------------------------

    def connected(self) -> None:
        self.publish()

    def publish(self) -> None:
        """See that our node says what the account's settings want; again if it failed before."""
        if not self._published and not self._publishing:
            self._publishing = True
            self._account.tasks.start("publish identity", self._publish())

    async def _publish(self) -> None:
        try:
            await self._settle()
            self._published = True
        except TelepathyError as error:
            log.info("our identity could not be published: %s", error)
        except (StanzaError, IqTimeout, PeerError, SecurityError) as error:
            log.info("our identity could not be published: %s", error)
        finally:
            self._publishing = False

    async def _settle(self) -> None:
        account = self._account
        # Who switched protection off must not be expected to have it.
        wanted = (
            bool(account.parameters["e2e-publish-identity"]) and account.policy is not Policy.OFF
        )
        there = await self._own_items()
        if not wanted and not there:
            return
        identity = await account.identities.identity(account.self_id)
        name = item_id(identity)
        mine = [each for each in there if each.id == name]
        if not wanted:
            if mine:
                await account.pep.retract(NODE, name)
            return
        ours = Published(identity, await self._attestations(identity))
        # Told once and not at each login.
        if not any(_says(each, ours) for each in mine):
            await account.pep.publish(
                NODE, name, build_published(ours), access="open", most=MAX_IDENTITIES
            )

    async def _attestations(self, identity: bytes) -> tuple[Attestation, ...]:
        account = self._account
        if not own_attestations.directory(os.environ, account.self_id).is_dir():
            return ()  # so that most people need no cryptography yet
        fingerprint = await asyncio.to_thread(
            check_published, identity, account.self_id, datetime.now(UTC)
        )
        return await account.attestations.own(account.self_id, fingerprint)

    async def _own_items(self) -> Sequence[Item]:
        try:
            return await self._account.pep.items(self._account.self_id, NODE)
        except StanzaError as error:
            if error.condition == "item-not-found":
                return ()
            raise


def _read(item: Item) -> Published | None:
    try:
        return None if item.payload is None else parse_published(item.payload)
    except PeerError as error:
        log.warning("an identity that a contact publishes was dropped: %s", error)
        return None


def _judge(
    jid: str, identities: Sequence[Published], now: datetime
) -> list[tuple[Published, bytes]]:
    good = []
    for each in identities:
        try:
            good.append((each, check_published(each.identity, jid, now)))
        except SecurityError as error:
            log.warning("an identity that a contact publishes was dropped: %s", error)
    return good


def _size(published: Published) -> int:
    said = sum(len(each.data) + len(each.summary) for each in published.attestations)
    return len(published.identity) + said


def _ignore(bare_jid: str) -> None:
    """Nobody wants to know."""


def _says(item: Item, published: Published) -> bool:
    try:
        return item.payload is not None and parse_published(item.payload) == published
    except PeerError:
        return False
