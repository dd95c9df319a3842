"""Avatars: contacts' pictures and our own (XEP-0084, XEP-0153).

The hash of a picture is its token. Hashes are heard; pictures are fetched when somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
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
from telepathy_e2e.service.avatar_cache import AvatarCache
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.own_avatar import OwnAvatar
from telepathy_e2e.xmpp import avatar, vcard
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.roster import RosterChange
from telepathy_e2e.xmpp.roster_cache import directory as cache_directory

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Pictures fetched at the same time: each is up to 700 KB on the stream, which carries all else.
MAX_FETCHES: Final = 4
# Bytes a second that go to the bus: a whole contact list from the disk must not pile up in the
# socket, nor keep others waiting.
BUS_RATE: Final = 50_000_000
# Seconds for which changes are gathered. Whoever changes pictures faster is told of as often.
GATHER_SECONDS: Final = 0.1


@dataclass(frozen=True)
class AvatarUpdated(ConnectionEvent):
    """A contact has another picture, or none, or it became known."""

    interface = names.AVATARS

    contact: int
    new_avatar_token: str


@dataclass(frozen=True)
class AvatarRetrieved(ConnectionEvent):
    """The picture that somebody asked for."""

    interface = names.AVATARS

    contact: int
    token: str
    avatar: bytes
    type: str


class Avatars(Feature):
    """Everybody's picture; ``own_avatar`` says and decides what ours is."""

    supported_avatar_mime_types: Sequence[str] = avatar.MIME_TYPES
    minimum_avatar_height = minimum_avatar_width = avatar.MIN_SIZE
    recommended_avatar_height = recommended_avatar_width = avatar.RECOMMENDED_SIZE
    maximum_avatar_height = maximum_avatar_width = avatar.MAX_SIZE
    maximum_avatar_bytes = avatar.MAX_BYTES

    def __init__(self, account: Account, cache: AvatarCache | None = None) -> None:
        self._account = account
        self._cache = cache if cache is not None else AvatarCache(cache_directory(os.environ))
        self._tokens = avatar.Tokens()
        self._news: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: dict[int, None] = {}
        self._fetchers = 0
        self._fetches = asyncio.Semaphore(MAX_FETCHES)
        self.own = OwnAvatar(account, self._tokens, self._changed)
        account.pep.on(avatar.METADATA, self._published, self._is_current)
        account.contact_info.on_own_card = self.own.card_came

    @property
    def fetching(self) -> bool:
        """Whether somebody waits for pictures."""
        return self._fetchers > 0

    @property
    def known_to_us(self) -> int:
        """Of how many people something is known."""
        return len(self._tokens.known())

    # -- hashes -----------------------------------------------------------------------------

    def of(self, handle: int) -> str | None:
        """The token of a contact; empty: it has no picture; None: not known.

        Raises:
            InvalidHandle: no such contact.
        """
        token = self._tokens.get(self._account.handles.inspect(handle))
        return token.hex() if token is not None else None

    async def known_tokens(self, handles: Sequence[int]) -> dict[int, str]:
        """Avatars.GetKnownAvatarTokens; for our own it waits until the server has said it.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
        """
        self._check_connected()
        for handle in handles:
            self._account.handles.inspect(handle)
        if self._account.self_handle in handles:
            await self.own.known()
        tokens = {handle: self.of(handle) for handle in handles}
        return {handle: token for handle, token in tokens.items() if token is not None}

    def _published(self, bare_jid: str, payload: Element | None) -> None:
        self._learn(bare_jid, "events", avatar.parse_metadata(payload))

    def _is_current(self, bare_jid: str, item_id: str) -> bool:
        return avatar.parse_token(item_id) == self._tokens.of(bare_jid, "events")

    def receive_presence(self, stanza: Element) -> bool:
        if stanza.get("type") not in (None, "unavailable"):
            return False
        try:
            sender = normalise(stanza.get("from", ""))
        except ValueError:
            return False
        if bare(sender) == self._account.self_id:
            self.own.presence(sender, stanza)
        elif stanza.get("type") is None and self._is_interesting(bare(sender)):
            token = avatar.parse_update(stanza).token
            if token is not None:
                self._learn(bare(sender), "card", token)
        return False

    def _is_interesting(self, jid: str) -> bool:
        """Contacts; before the list is there, whoever may be one; and whoever was asked about."""
        client = self._account.client
        return (
            jid in client.contacts()
            or client.roster.loading
            or self._account.handles.find(jid) is not None
        )

    def roster_loaded(self, error: E2EError | None) -> None:
        self._account.tasks.start("avatars", self._forget_strangers())

    async def _forget_strangers(self) -> None:
        for number, jid in enumerate(self._tokens.known()):
            if number % 500 == 499:
                await asyncio.sleep(0)
            if jid != self._account.self_id and not self._is_interesting(jid):
                self._tokens.forget(jid)

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        for change in changes:
            if change.after is None and self._account.handles.find(change.jid) is None:
                self._tokens.forget(change.jid)

    def _learn(self, jid: str, source: avatar.Source, token: bytes) -> None:
        if self._tokens.learn(jid, source, token):
            self._changed(jid)

    def _changed(self, jid: str) -> None:
        """Told a little later, once for what came meanwhile: a flood of changes is one signal."""
        self._news[jid] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Tell what was gathered, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        news, self._news = self._news, {}
        if self._account.status == 0:
            self._account.tasks.start("avatars", self._tell(news))

    async def _tell(self, jids: Iterable[str]) -> None:
        for number, jid in enumerate(jids):
            if number % 100 == 99:
                await asyncio.sleep(0)
            handle = self._account.handles.find(jid)
            token = self._tokens.get(jid)
            # Those of whom nobody on the bus has heard cost no handle.
            if handle is not None and token is not None:
                self._account.events.emit(AvatarUpdated(handle, token.hex()))

    # -- pictures ---------------------------------------------------------------------------

    def request_all(self, handles: Sequence[int]) -> None:
        """Avatars.RequestAvatars: AvatarRetrieved for each that can be had.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
        """
        self._check_connected()
        for handle in handles:
            self._account.handles.inspect(handle)
        self._wanted.update(dict.fromkeys(handles))
        while self._fetchers < min(MAX_FETCHES, len(self._wanted)):
            self._fetchers += 1
            self._account.tasks.start("avatars", self._fetch_wanted())

    async def _fetch_wanted(self) -> None:
        try:
            while self._wanted:
                handle = next(iter(self._wanted))
                del self._wanted[handle]
                try:
                    token, data, image = await self._picture(self._account.handles.inspect(handle))
                except Disconnected:
                    return
                except (NotAvailable, PeerError, StanzaError, IqTimeout) as error:
                    log.info("no picture of a contact: %s", error)
                    continue
                self._account.events.emit(
                    AvatarRetrieved(handle, token.hex(), data, image.mime_type)
                )
                await asyncio.sleep(len(data) * MAX_FETCHES / BUS_RATE)
        finally:
            self._fetchers -= 1

    async def request(self, handle: int) -> tuple[bytes, str]:
        """Avatars.RequestAvatar: (picture, MIME type).

        Raises:
            Disconnected: not connected.
            InvalidHandle: no such contact.
            NotAvailable: it has no picture, or none that can be had.
            NetworkError, PermissionDenied: the server does not give it.
        """
        self._check_connected()
        try:
            _, data, image = await self._picture(self._account.handles.inspect(handle))
        except PeerError as error:
            raise NotAvailable("The contact's picture is damaged") from error
        except (StanzaError, IqTimeout) as error:
            raise refusal(error, "The contact's picture cannot be had") from error
        return data, image.mime_type

    async def _picture(self, jid: str) -> tuple[bytes, bytes, avatar.Image]:
        """(token, picture, what it is), from the disk or from the server."""
        token = self._tokens.get(jid)
        if token == b"":
            raise NotAvailable("The contact has no picture")
        if token is not None:
            data = await asyncio.to_thread(self._cache.get, token)
            if data is not None:
                return token, data, _checked(data)
        async with self._fetches:
            data = await self._fetch(jid, token)
        image = _checked(data)
        token = avatar.token_of(data)
        await asyncio.to_thread(self._cache.put, token, data)
        return token, data, image

    async def _fetch(self, jid: str, token: bytes | None) -> bytes:
        """The picture with this hash, or whatever is in the vCard if none was announced."""
        if token is not None and self._tokens.of(jid, "events") == token:
            try:
                return await self._fetch_published(jid, token)
            except (StanzaError, IqTimeout, PeerError) as error:
                if self._tokens.of(jid, "card") != token:
                    raise
                log.info("a published picture cannot be had: %s", error)
        data = vcard.photo(await self._account.contact_info.fetch(jid))
        if token is None:
            self._learn(jid, "card", avatar.token_of(data) if data else b"")
        elif data and not avatar.is_named(data, token):
            # It changed meanwhile, which will be told; or somebody shows what nobody announced.
            raise PeerError("a picture is not the one that was announced", "bad-request")
        if not data:
            raise NotAvailable("The contact has no picture")
        return data

    async def _fetch_published(self, jid: str, token: bytes) -> bytes:
        found = await self._account.pep.items(jid, avatar.DATA, token.hex())
        if not found or found[0].payload is None:
            raise PeerError("a published picture is not there", "item-not-found")
        data = vcard.decode(found[0].payload.text or "")
        if not avatar.is_named(data, token):
            raise PeerError("a picture is not the one that was announced", "bad-request")
        return data

    # -- our own ----------------------------------------------------------------------------

    async def set(self, data: bytes, mime_type: str) -> str:
        """Avatars.SetAvatar: the token of the picture, which is published as it is.

        Raises:
            Disconnected: not connected.
            InvalidArgument: it violates the requirements.
            NetworkError, PermissionDenied, NotAvailable: the server does not take it.
        """
        self._check_connected()
        image = avatar.check_own(data, mime_type)
        token = avatar.token_of(data)
        await self.own.set(token, data, image)
        await asyncio.to_thread(self._cache.put, token, data)
        return token.hex()

    async def clear(self) -> None:
        """Avatars.ClearAvatar; harmless if there is none.

        Raises:
            Disconnected: not connected.
            NetworkError: the server does not do it.
        """
        self._check_connected()
        try:
            await self.own.clear()
        except (Disconnected, NetworkError):
            raise
        except TelepathyError as error:
            raise NetworkError(str(error)) from error

    def presence_extras(self) -> list[Element]:
        return [avatar.build_update(self.own.advertised)]

    def _check_connected(self) -> None:
        if self._account.status != 0:
            raise Disconnected("The connection is not up")

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._wanted.clear()
        self._news.clear()
        self.own.disconnected()
        if self._timer is not None:
            self._timer.cancel()


def _checked(data: bytes) -> avatar.Image:
    image = avatar.inspect(data)
    if image is None:
        raise PeerError("what somebody shows is no picture", "bad-request")
    return image
