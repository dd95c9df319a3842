"""Our own picture: what we say of it, and how it is changed (XEP-0084, XEP-0153)."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import E2EError, PeerError
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.contact_info import UNSUPPORTED
from telepathy_e2e.xmpp import avatar, caps, vcard
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.roster import MAX_RESOURCES

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# The server keeps both kinds of pictures the same (XEP-0398 section 3).
CONVERSION: Final = "urn:xmpp:pep-vcard-conversion:0"


class OwnAvatar:
    """The picture of this account, which other programs of it may change as well.

    Args:
        tokens: of everybody; ours are learnt here.
        changed: told of our JID when its token changed.
    """

    def __init__(
        self, account: Account, tokens: avatar.Tokens, changed: Callable[[str], None]
    ) -> None:
        self._account = account
        self._tokens = tokens
        self._changed = changed
        self._known = asyncio.Event()
        # Of our vCard; None while it must not be told.
        self._in_card: bytes | None = None
        # Programs of ours that change vCards without telling (XEP-0153 section 4.3), full JIDs.
        self._silent: set[str] = set()
        self._disagreed: dict[str, bytes] = {}
        self._resetting: asyncio.Task[None] | None = None
        self._writer = asyncio.Lock()
        self._converts: bool | None = None

    # -- what is known ----------------------------------------------------------------------

    @property
    def advertised(self) -> bytes | None:
        """What each presence says: the hash in our vCard, empty for none, None for no word."""
        return None if self._silent else self._in_card

    async def known(self) -> None:
        """Wait until the server has said what our picture is, or that it does not."""
        await self._known.wait()

    def card_came(self, card: Element | None) -> None:
        """Our vCard as it is on the server now; None: it cannot be had."""
        if card is None:
            self._known.set()
            return
        try:
            data = vcard.photo(card)
            token = avatar.token_of(data) if data else b""
        except PeerError as error:
            log.info("our own picture makes no sense: %s", error)
            token = b""
        self._learn("card", token)
        self._known.set()
        self._advertise(token)

    def _learn(self, source: avatar.Source, token: bytes) -> None:
        if self._tokens.learn(self._account.self_id, source, token):
            self._changed(self._account.self_id)

    def _advertise(self, token: bytes | None) -> None:
        if token != self._in_card:
            before, self._in_card = self.advertised, token
            if self.advertised != before:
                self._account.client.presence_extras_changed()

    def disconnected(self) -> None:
        self._known.set()

    # -- other programs of this account (XEP-0153 section 4.3) ------------------------------

    def presence(self, sender: str, stanza: Element) -> None:
        """A presence of our own account."""
        if sender == self._account.client.jid:
            return
        if stanza.get("type") == "unavailable":
            self._disagreed.pop(sender, None)
            if sender in self._silent:
                self._silent.discard(sender)
                if not self._silent:
                    self._reset()
            return
        update = avatar.parse_update(stanza)
        if not update.conforms:
            # "That resource could modify the contents of the vCard": we cannot vouch for it.
            if sender not in self._silent and len(self._silent) < MAX_RESOURCES:
                before = self.advertised
                self._silent.add(sender)
                if before is not None:
                    self._account.client.presence_extras_changed()
            return
        if sender in self._silent:
            self._silent.discard(sender)
            self._reset()
        if update.token is None or update.token == self._in_card or self._in_card is None:
            return
        # Looked at once for each hash: two programs that never agree would go on for ever.
        if self._disagreed.get(sender) == update.token or len(self._disagreed) >= MAX_RESOURCES:
            return
        self._disagreed[sender] = update.token
        self._reset()

    def _reset(self) -> None:
        """Say nothing, look at the vCard, and say what is in it. Nothing is uploaded."""
        self._advertise(None)
        if self._resetting is None or self._resetting.done():
            self._resetting = self._account.tasks.start("avatar", self._look_again())

    async def _look_again(self) -> None:
        try:
            await self._account.contact_info.fetch(self._account.self_id)
        except E2EError as error:
            log.info("our own vCard cannot be had: %s", error)

    # -- changing it ------------------------------------------------------------------------

    async def set(self, token: bytes, data: bytes, image: avatar.Image) -> None:
        """Publish a picture in both ways, as far as the server knows them.

        Raises:
            Disconnected: the stream is gone.
            NetworkError, PermissionDenied, NotAvailable: the server knows neither, or refuses.
        """
        async with self._writer:
            own = self._account.self_id
            if token == self._tokens.of(own, "events") and token == self._in_card:
                return  # "MUST NOT attempt to upload a given avatar image more than once"
            await self._write(
                self._publish(token, data, image),
                lambda card: vcard.with_photo(card, data, image.mime_type),
                token,
                "The picture could not be set",
            )

    async def clear(self) -> None:
        """Publish that there is none.

        Raises:
            as ``set``.
        """
        async with self._writer:
            await self._write(
                self._publish(b"", b"", None),
                lambda card: vcard.with_photo(card, b"", ""),
                b"",
                "The picture could not be removed",
            )

    async def _publish(self, token: bytes, data: bytes, image: avatar.Image | None) -> None:
        pep = self._account.pep
        if data:
            # The picture first: who hears of it will ask for it (XEP-0084 section 3.1).
            text = base64.b64encode(data).decode()
            await pep.publish(avatar.DATA, token.hex(), avatar.build_data(text))
        await pep.publish(avatar.METADATA, token.hex() or None, avatar.build_metadata(data, image))

    async def _write(
        self,
        publishing: Awaitable[None],
        change: Callable[[Element], Element],
        token: bytes,
        what: str,
    ) -> None:
        refused: StanzaError | None = None
        try:
            await publishing
            self._learn("events", token)
        except StanzaError as error:
            log.info("the picture is not published as an event: %s", error)
            refused = error
        except IqTimeout as error:
            raise refusal(error, what) from error
        try:
            if refused is None and await self._server_converts():
                # The server has written it into the vCard; it need not travel again.
                self._learn("card", token)
                self._known.set()
                self._advertise(token)
                return
            await self._account.contact_info.edit(change)
        except StanzaError as error:
            # One of the two is enough to show a picture, but not to take it away.
            if refused is not None or not (token or error.condition in UNSUPPORTED):
                raise refusal(error, what) from error
            log.info("the picture is not in our vCard: %s", error)
        except (IqTimeout, PeerError) as error:
            raise refusal(error, what) from error
        if refused is not None and not token and refused.condition not in UNSUPPORTED:
            raise refusal(refused, what)

    async def _server_converts(self) -> bool:
        if self._converts is None:
            try:
                answer = await self._account.client.send_iq(None, Element(caps.QUERY_INFO), "get")
                info = caps.parse_info(answer) if answer is not None else None
            except (StanzaError, IqTimeout, PeerError) as error:
                log.info("the server does not say what our account can do: %s", error)
                info = None
            self._converts = info is not None and CONVERSION in info.features
        return self._converts
