"""The configuration of a room, as far as anybody sees it, and changed by its owners
(Channel.Interface.RoomConfig1, XEP-0045 sections 6.4 and 10.2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    InvalidArgument,
    NotAvailable,
    NotImplementedByUs,
    PeerError,
    PermissionDenied,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import Changed, ChannelEvent, Emitter
from telepathy_e2e.xmpp import forms, muc, muc_config
from telepathy_e2e.xmpp.caps import QUERY_INFO
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import local_of
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.muc_config import RoomInfo

log = logging.getLogger(__name__)

# Seconds between two looks at what a room is like: one may say all the time that it has changed.
PAUSE: Final = 1.0

# Properties that can be changed at all, in Telepathy's words.
_SETTINGS: Final = (
    "Anonymous",
    "InviteOnly",
    "Limit",
    "Moderated",
    "Title",
    "Description",
    "Persistent",
    "Private",
    "PasswordProtected",
    "Password",
)
_PROPERTIES: Final[Mapping[str, str]] = {
    "Anonymous": "anonymous",
    "InviteOnly": "invite_only",
    "Limit": "limit",
    "Moderated": "moderated",
    "Title": "title",
    "Description": "description",
    "Persistent": "persistent",
    "Private": "private",
    "PasswordProtected": "password_protected",
    "Password": "password",
    "CanUpdateConfiguration": "can_update_configuration",
    "MutableProperties": "mutable_properties",
    "ConfigurationRetrieved": "configuration_retrieved",
}


class RoomSettings:
    """Attributes named like RoomConfig1's properties in snake case hold their values.

    Args:
        jid: of the room, bare.
        is_owner: whether we may configure it.
        learnt: called after ``info`` is known, or is known anew.
    """

    password_hint = ""  # XMPP has none

    def __init__(
        self,
        account: Account,
        jid: str,
        events: Emitter[ChannelEvent],
        *,
        is_owner: Callable[[], bool],
        learnt: Callable[[], None],
    ) -> None:
        self._account = account
        self._jid = jid
        self._events = events
        self._is_owner = is_owner
        self._learnt = learnt
        self._again = False
        self._looking = False
        self._over = False
        self.info = RoomInfo()
        self.anonymous = False
        self.invite_only = False
        self.limit = 0
        self.moderated = False
        self.title = ""
        self.description = ""
        self.persistent = False
        self.private = False
        self.password_protected = False
        self.password = ""
        self.can_update_configuration = False
        self.mutable_properties: list[str] = []
        self.configuration_retrieved = False

    def __repr__(self) -> str:
        return f"RoomSettings({self._jid!r})"  # no password

    # -- looking ----------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the room what it is like, now or when the question that is out is answered."""
        if self._over:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._account.tasks.start("room", self._look())

    def close(self) -> None:
        """We are not in the room any longer."""
        self._over = True

    async def _look(self) -> None:
        try:
            while not self._over:
                self._again = False
                await self.retrieve()
                if not self._again:
                    return
                await asyncio.sleep(PAUSE)
        finally:
            self._looking = False

    async def retrieve(self) -> None:
        """Ask the room; what it does not say stays as it was."""
        try:
            answer = await self._account.client.send_iq(self._jid, Element(QUERY_INFO), "get")
            if answer is not None:
                self.info = muc_config.parse_info(answer)
            form = await self._form() if self._is_owner() else None
        except (StanzaError, IqTimeout, PeerError) as error:
            log.info("a room does not say what it is like: %s", error)
            return
        except Disconnected:
            return
        if not self._over:
            self._take(form)

    async def _form(self) -> forms.Form | None:
        """What owners can change."""
        answer = await self._account.client.send_iq(self._jid, muc.owner(), "get")
        return forms.find(answer) if answer is not None else None

    def _take(self, form: forms.Form | None) -> None:
        info = self.info
        news: dict[str, object] = {
            "Anonymous": info.anonymous,
            "InviteOnly": info.invite_only,
            "Moderated": info.moderated,
            "Title": info.title if info.title != local_of(self._jid) else "",
            "Description": info.description,
            "Persistent": info.persistent,
            "Private": info.private,
            "PasswordProtected": info.password_protected,
            "Limit": muc_config.limit(form) if form is not None else info.limit,
            "Password": muc_config.password(form) if form is not None else "",
            "CanUpdateConfiguration": form is not None,
            "MutableProperties": muc_config.settable(form) if form is not None else [],
            "ConfigurationRetrieved": True,
        }
        changed = [name for name in news if getattr(self, _PROPERTIES[name]) != news[name]]
        for name in changed:
            setattr(self, _PROPERTIES[name], news[name])
        if changed:
            self._events.emit(Changed(names.ROOM_CONFIG, tuple(changed)))
        self._learnt()

    # -- changing ---------------------------------------------------------------------------

    async def update(self, settings: Mapping[str, str | bool | int]) -> None:
        """RoomConfig1.UpdateConfiguration.

        Args:
            settings: by property name; types are checked by the bus layer.
        Raises:
            NotAvailable: it is not known yet what the room is like.
            PermissionDenied: only owners may.
            NotImplementedByUs: something that this room cannot change.
            InvalidArgument: a value that it does not take.
            Disconnected, NetworkError: it cannot be asked.
        """
        if not self.configuration_retrieved:
            raise NotAvailable("It is not known yet what this room is like")
        if not self._is_owner():
            raise PermissionDenied("Only owners of a room may configure it")
        for name, value in settings.items():
            if name not in _SETTINGS:
                raise NotImplementedByUs(f"{name} cannot be changed in Jabber")
            if isinstance(value, str) and not is_sendable(value):
                raise InvalidArgument(f"{name} has a character that cannot be sent")
        if not settings:
            return
        try:
            form = await self._form()
            if form is None:
                raise NotAvailable("The room does not say what can be changed")
            answer = muc_config.configured(form, settings)
            await self._account.client.send_iq(self._jid, muc.owner(forms.build(answer)))
        except KeyError as error:
            raise NotImplementedByUs(f"{error.args[0]} cannot be changed in this room") from None
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        except (StanzaError, IqTimeout) as error:
            raise refusal(error, "The room could not be configured") from error
        except PeerError as error:
            raise NotAvailable(f"The room could not be configured: {error}") from error
        await self.retrieve()
