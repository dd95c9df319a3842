"""Contacts' identities from themselves, where a server does not tell of them (spec/xml-streams.md).

A device answers with what it knows without any server: its own certificate, the devices that have
vouched for it, and those in the account's node that it has itself vouched for. It asks when a
contact has shown a key, in a session that somebody wanted, that his node does not have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.attest.statement import IDENTITY
from telepathy_e2e.errors import PeerError, SecurityError, TelepathyError
from telepathy_e2e.jingle.xml_streams import FEATURE
from telepathy_e2e.service.capabilities import XTLS_FEATURE
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp.iq import IqRequest, IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.published import (
    IDENTITIES,
    MAX_IDENTITIES,
    NODE,
    Published,
    build_identities,
    check_published,
    parse_identities,
    parse_published,
)

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Contacts asked at the same time. Each takes a session; nobody waits for it.
MAX_ASKED: Final = 2
# Contacts without a program that could be asked now, who are waited for.
MAX_WAITING: Final = 256
# Times that a contact is asked; the next time is when he shows a key again, or opens a stream.
MAX_TRIES: Final = 3
# Seconds that one answer to a question of theirs is good for: it takes a look into our own node,
# and some signatures.
FRESH_SECONDS: Final = 60.0
# Questions that wait for such an answer.
MAX_QUESTIONS: Final = 32


class IdentityExchange(Feature):
    """See the module."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._waiting: dict[str, None] = {}
        # Contacts with an identity that whoever is asked has let through.
        self._accepted: set[str] = set()
        self._tried: dict[str, int] = {}
        # Contacts who have told, or are being asked.
        self._done: set[str] = set()
        self._few = asyncio.Semaphore(MAX_ASKED)
        self._questions = 0
        self._answer: asyncio.Task[Sequence[Published]] | None = None
        self._answered_at = 0.0
        account.published.unknown = self.wanted
        account.xml_streams.on_iq(IDENTITIES, self._asked)
        account.xml_streams.opened = self._opened

    # -- we ask -------------------------------------------------------------------------------

    def wanted(self, bare_jid: str) -> None:
        """A contact has shown a key that his node does not have: ask himself, once."""
        account = self._account
        # A stream of its own would bring people a question about something that nobody began.
        asks_people = (
            account.policy is Policy.VERIFIED or account.always_verify or account.ask_certificate
        )
        if asks_people or account.policy is Policy.OFF:
            return
        if bare_jid in self._done or bare_jid not in account.client.contacts():
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting[bare_jid] = None
            self.capabilities_changed(bare_jid)

    def key_judged(self, bare_jid: str, *, accepted: bool) -> None:
        """Somebody said who a contact is, in a session that somebody wanted."""
        if accepted and bare_jid in self._account.client.contacts():
            self._accepted.add(bare_jid)
            self.capabilities_changed(bare_jid)
        elif not accepted:
            self._accepted.discard(bare_jid)

    def capabilities_changed(self, bare_jid: str) -> None:
        """It became known what a contact's program can do."""
        if bare_jid not in self._waiting or self._tried.get(bare_jid, 0) >= MAX_TRIES:
            return
        # Else he would be asked about twice at the same time.
        if self._account.question_handler_announced() and bare_jid not in self._accepted:
            return
        able = [
            each
            for each in self._account.client.resources(bare_jid)
            if each.features is not None and each.features >= {FEATURE, XTLS_FEATURE}
        ]
        if able:
            self._start(bare_jid, max(able, key=lambda each: each.priority).jid)

    def _opened(self, full_jid: str) -> None:
        """There is a stream, whoever opened it: he can be asked now if he could not before."""
        if bare(full_jid) in self._waiting:
            self._start(bare(full_jid), full_jid)

    def _start(self, bare_jid: str, full_jid: str) -> None:
        del self._waiting[bare_jid]
        self._done.add(bare_jid)
        self._tried[bare_jid] = self._tried.get(bare_jid, 0) + 1
        self._account.tasks.start("exchange identities", self._ask(bare_jid, full_jid))

    async def _ask(self, bare_jid: str, full_jid: str) -> None:
        account = self._account
        try:
            async with self._few:
                stream = await account.xml_streams.get(full_jid, quiet=True)
                told = parse_identities(await stream.ask(Element(IDENTITIES), "get"))
            await account.published.told(bare_jid, told)
        except (TelepathyError, StanzaError, IqTimeout, PeerError) as error:
            log.info("a contact does not tell of his devices: %s", error)
            # Perhaps somebody there has to say first who we are; then he opens one himself.
            self._done.discard(bare_jid)
            if self._tried.get(bare_jid, 0) < MAX_TRIES:
                self._waiting[bare_jid] = None

    # -- we are asked -------------------------------------------------------------------------

    def _asked(self, request: IqRequest, peer: ProtectedPeer) -> None:
        if request.type != "get":
            raise PeerError("identities are asked for with get", "bad-request")
        if self._questions >= MAX_QUESTIONS:
            raise PeerError("too many at once", "resource-constraint")
        self._questions += 1
        self._account.tasks.start("tell identities", self._tell(request))

    async def _tell(self, request: IqRequest) -> None:
        try:
            known = await asyncio.shield(self._known())
            request.reply(build_identities(known))
        except (TelepathyError, SecurityError) as error:
            log.info("no identities could be told: %s", error)
            request.error(PeerError(str(error), "internal-server-error"))
        finally:
            self._questions -= 1

    def _known(self) -> asyncio.Task[Sequence[Published]]:
        now = asyncio.get_running_loop().time()
        if self._answer is None or (
            self._answer.done() and now - self._answered_at > FRESH_SECONDS
        ):
            self._answered_at = now
            self._answer = self._account.tasks.start("own devices", self._devices(), awaited=True)
        return self._answer

    async def _devices(self) -> Sequence[Published]:
        """Ours, as far as this device knows by itself; its own first."""
        account = self._account
        identity = await account.identities.identity(account.self_id)
        now = datetime.now(UTC)
        fingerprint = await asyncio.to_thread(check_published, identity, account.self_id, now)
        own = Published(identity, await account.attestations.own(account.self_id, fingerprint))
        there: list[Published] = []
        try:
            items = await account.pep.items(account.self_id, NODE, max=MAX_IDENTITIES)
        except (TelepathyError, StanzaError, IqTimeout, PeerError) as error:
            log.info("our own node cannot be read: %s", error)
            items = []
        for item in items:
            with suppress(PeerError):
                if item.payload is not None:
                    there.append(parse_published(item.payload))
        return await asyncio.to_thread(_sure, own, fingerprint, there, account.self_id, now)

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._waiting.clear()


def _sure(
    own: Published, fingerprint: bytes, there: Sequence[Published], bare_jid: str, now: datetime
) -> list[Published]:
    """Our own and those that are ours by a signature of this device, or for it.

    What is in our node besides may have been put there by our server: passed on by us it would
    look as if we vouched for it.
    """
    from telepathy_e2e.attest import identity as word  # late: cryptography is big

    known = {own.identity: own}
    for said in own.attestations:
        try:
            if said.type == IDENTITY:
                word.check(said.data, vouched=fingerprint, bare_jid=bare_jid, wall=now)
                certificate, _ = word.read(said.data)
                known.setdefault(certificate, Published(certificate))
        except SecurityError as error:
            log.warning("what another device says of this one does not hold: %s", error)
    for each in there[:MAX_IDENTITIES]:
        statement = _word_of(fingerprint, each, bare_jid, now)
        if statement is not None and each.identity != own.identity:
            known[each.identity] = Published(each.identity, (statement,))
    return list(known.values())


def _word_of(
    fingerprint: bytes, published: Published, bare_jid: str, now: datetime
) -> Attestation | None:
    """What the device with this identity has signed about a published one."""
    from telepathy_e2e.attest import identity as word

    try:
        theirs = check_published(published.identity, bare_jid, now)
    except SecurityError as error:
        log.info("an item of our own node is not passed on: %s", error)
        return None
    for said in published.attestations:
        try:
            if said.type == IDENTITY and fingerprint == word.check(
                said.data, vouched=theirs, bare_jid=bare_jid, wall=now
            ):
                return said
        except SecurityError as error:
            log.info("an attestation in our own node does not hold: %s", error)
    return None
