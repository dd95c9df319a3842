"""ClientTypes: what kind of program a contact uses (identities of XEP-0030)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from telepathy_e2e.errors import Disconnected, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.events import ConnectionEvent
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.xmpp.roster import Resource, best_of

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# The types of the category "client" that Telepathy knows, in its order; others would only be
# words of a stranger on somebody's screen.
KNOWN: Final = ("bot", "console", "handheld", "pc", "phone", "web")
OWN: Final = ("pc",)

# Contacts that may be asked because somebody wanted to know: more than that wait for their
# capabilities as everybody else.
MAX_QUESTIONS: Final = 64


@dataclass(frozen=True)
class ClientTypesUpdated(ConnectionEvent):
    """A contact uses another kind of program now."""

    interface = names.CLIENT_TYPES

    contact: int
    client_types: tuple[str, ...]


def types_of(resource: Resource | None) -> tuple[str, ...] | None:
    """What a program says that it is; None while that is not known.

    A contact that is not there uses no program.
    """
    if resource is None:
        return ()
    if resource.features is None:
        return None
    said = {each.type for each in resource.identities if each.category == "client"}
    return tuple(each for each in KNOWN if each in said)


class ClientTypes(Feature):
    """Of the program of each contact whose presence is the one that is shown."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._told: dict[int, tuple[str, ...]] = {}
        self._news: dict[int, None] = {}
        self._asked: set[str] = set()

    def of(self, handle: int) -> tuple[str, ...] | None:
        """The types of a contact; None: not known.

        Raises:
            InvalidHandle: no such contact.
        """
        jid = self._account.handles.inspect(handle)
        if jid == self._account.self_id:
            return OWN
        return types_of(self._best(jid))

    def _best(self, jid: str) -> Resource | None:
        return best_of(self._account.client.resources(jid))

    def of_all(self, handles: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """ClientTypes.GetClientTypes: of those of which they are known; the others are asked.

        Raises:
            Disconnected: not connected.
            InvalidHandle: one is no contact.
        """
        self._check_connected()
        types = {handle: self.of(handle) for handle in handles}
        for handle, each in types.items():
            if each is None:
                self._ask(self._account.handles.inspect(handle))
        return {handle: each for handle, each in types.items() if each is not None}

    def _ask(self, jid: str) -> None:
        best = self._best(jid)
        # Contacts are asked in any case, as soon as they come (``xmpp.capabilities``).
        if best is None or jid in self._account.client.contacts() or best.jid in self._asked:
            return
        if len(self._asked) < MAX_QUESTIONS:
            self._asked.add(best.jid)
            self._account.tasks.start("client types", self._find_out(best.jid))

    async def _find_out(self, full_jid: str) -> None:
        try:
            await self._account.client.features_of(full_jid)  # ``changed`` follows
        except TelepathyError as error:
            log.info("it is not known what program a contact uses: %s", error)
        finally:
            self._asked.discard(full_jid)

    async def request(self, handle: int) -> tuple[str, ...]:
        """ClientTypes.RequestClientTypes: asked if need be; empty if it does not say.

        Raises:
            Disconnected: not connected.
            InvalidHandle: no such contact.
        """
        self._check_connected()
        known = self.of(handle)
        if known is not None:
            return known
        best = self._best(self._account.handles.inspect(handle))
        if best is not None:
            await self._account.client.features_of(best.jid)
        return self.of(handle) or ()

    def changed(self, bare_jid: str) -> None:
        """Some program of a contact came, changed, went or said what it is.

        Those of whom nobody on the bus has heard are not told of, and cost no handle.
        """
        handle = self._account.handles.find(bare_jid)
        if handle is None:
            return
        if not self._news:
            asyncio.get_running_loop().call_soon(self._flush)
        self._news[handle] = None

    def _flush(self) -> None:
        news, self._news = self._news, {}
        if self._account.status != 0:
            return
        for handle in news:
            types = self.of(handle) or ()
            if types == self._told.get(handle, ()):
                continue
            if types:
                self._told[handle] = types
            else:
                del self._told[handle]
            self._account.events.emit(ClientTypesUpdated(handle, types))

    def _check_connected(self) -> None:
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
