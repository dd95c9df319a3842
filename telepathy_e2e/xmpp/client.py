"""One XMPP account: the stream, questions and answers, contacts and what their programs can do.

It decides nothing about people.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import (
    Disconnected,
    E2EError,
    InvalidArgument,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import caps, proxies
from telepathy_e2e.xmpp.authenticator import Asking, Authenticator, PasswordOnly
from telepathy_e2e.xmpp.capabilities import Capabilities
from telepathy_e2e.xmpp.contacts import ROSTER_SECONDS, ROSTER_VERSIONING, Contacts
from telepathy_e2e.xmpp.iq import IQ_TIMEOUT, Handler, IqRequest, IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, domain_of, normalise
from telepathy_e2e.xmpp.markup import CLIENT
from telepathy_e2e.xmpp.proxies import Proxy
from telepathy_e2e.xmpp.roster import (
    PRESENCE,
    QUERY_ROSTER,
    LastWords,
    Presences,
    Resource,
    RosterChange,
    RosterItem,
)
from telepathy_e2e.xmpp.roster_cache import RosterCache
from telepathy_e2e.xmpp.session import PING, Session
from telepathy_e2e.xmpp.settings import Password, Settings

__all__ = [
    "Client",
    "ClientEvents",
    "IqRequest",
    "IqTimeout",
    "Password",
    "Proxy",
    "Resource",
    "RosterChange",
    "RosterItem",
    "Settings",
    "StanzaError",
]

log = logging.getLogger(__name__)

NODE = "https://telepathy.freedesktop.org/wiki/telepathy-e2e"
IDENTITY = caps.Identity("client", "pc", "", "telepathy-e2e")
ALWAYS = (caps.CAPS, caps.DISCO_INFO, caps.DISCO_ITEMS, PING)


class ClientEvents(Protocol):
    """What a client tells its owner, in the order in which it happened."""

    def disconnected(self, error: TelepathyError | None) -> None:
        """The stream that ``connect`` brought up ended; None: by our own ``disconnect``.

        Told once, and not at all if ``connect`` raised.
        """

    def undelivered(self, stanzas: list[Element]) -> None:
        """What was sent and never confirmed by the server; told before ``disconnected``."""

    def message_received(self, stanza: Element) -> None:
        """A message stanza, as it came."""

    def presence_received(self, stanza: Element) -> bool:
        """A presence stanza, as it came; True if it must not count as a contact's."""

    def presence_extras(self) -> list[Element]:
        """Further children for each presence that is sent."""

    def presence_changed(self, bare_jid: str) -> None:
        """``resources(bare_jid)`` changed: somebody came, went, or is busy."""

    def capabilities_changed(self, bare_jid: str) -> None:
        """The features of some resource of a contact became known, or changed."""

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        """``contacts()`` changed for these."""

    def roster_loaded(self, error: E2EError | None) -> None:
        """``contacts()`` is the whole list now; or it cannot be had, and why."""


class Client:
    """One login; a new one needs a new client. Handlers and features may be set before ``connect``.

    Args:
        settings: the account.
        events: who is told.
        authenticator: whom the login asks; None if nobody is there, only the account's password.
    Raises:
        InvalidArgument: the account is not a JID.
    """

    def __init__(
        self,
        settings: Settings,
        events: ClientEvents,
        authenticator: Authenticator | None = None,
    ) -> None:
        try:
            self._account = normalise(settings.account)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        self._settings = settings
        self._events = events
        self._tasks = TaskOwner(f"xmpp {bare(self._account)}")
        self._session = Session(
            settings,
            self._account,
            Asking(authenticator or PasswordOnly(settings.password)),
            received=self._received,
            ended=self._ended,
            tasks=self._tasks,
        )
        self._iqs = self._session.iqs
        self._own = caps.Own(NODE, IDENTITY, ALWAYS)
        self.roster = Contacts(
            self._ask_account,
            self,
            tasks=self._tasks,
            cache=None
            if settings.cache_directory is None
            else RosterCache(settings.cache_directory, bare(self._account)),
        )
        # Who counts as a stranger is not known before the list is: it is too early to drop any.
        self._presences = Presences(lambda jid: self.roster.loading or self._is_known(jid))
        self._presence: Element | None = None
        self.presence_id = ""
        self._server_features: asyncio.Task[frozenset[str]] | None = None
        self._proxies: list[Proxy] = []
        self._capabilities = Capabilities(
            self._presences,
            is_known=self._is_known,
            ask=self._get,
            changed=lambda full_jid: events.capabilities_changed(bare(full_jid)),
            tasks=self._tasks,
        )
        self._iqs.on(caps.QUERY_INFO, self._asked_info)
        self._iqs.on(caps.QUERY_ITEMS, self._asked_items)
        self._iqs.on(QUERY_ROSTER, self._roster_push)
        self._iqs.on(f"{{{PING}}}ping", lambda request: request.reply())

    # -- the connection ---------------------------------------------------------------------

    @property
    def jid(self) -> str:
        """Our full JID while connected, before that the account's as it was given."""
        return self._session.jid or self._account

    async def connect(self) -> None:
        """Log in; the contact list and contacts' presence follow later, as events.

        Raises:
            NotAvailable: used before.
            InvalidArgument: the settings cannot work.
            AuthenticationFailed: wrong password, or a server that does not know it itself.
            CertError: a server that cannot show who it is.
            EncryptionNotAvailable: no TLS.
            ConnectionRefused, ConnectionFailed, ConnectionReplaced, NetworkError: no connection.
        """
        await asyncio.to_thread(self.roster.read_cache)
        try:
            await self._session.open()
        except BaseException:
            await self._tasks.close()
            raise
        # Asked for before anybody can send our presence: so it arrives before the contacts' do
        # (RFC 6121 section 2.2).
        versioned = ROSTER_VERSIONING in self.offers
        self._tasks.start("roster", self.roster.fetch(versioned=versioned))
        await asyncio.sleep(0)
        self._tasks.start("proxies", self._find_proxies())

    def give_up(self, error: TelepathyError) -> None:
        """End a ``connect`` that is under way, with this error; nothing otherwise."""
        self._session.give_up(error)

    async def disconnect(self) -> None:
        """Log out; whoever waits for an answer gets ``Disconnected``. Harmless if repeated."""
        await self._session.close()
        await self._clean_up()

    def _ended(self, error: TelepathyError | None, lost: list[Element]) -> None:
        if lost:
            self._events.undelivered(lost)
        self._events.disconnected(error)
        self._tasks.start("end", self._clean_up())

    async def _clean_up(self) -> None:
        await self.roster.close()
        await self._tasks.close()

    def _check_up(self) -> None:
        if not self._session.is_up:
            raise Disconnected("The connection to the server is not up")

    # -- questions and answers --------------------------------------------------------------

    async def send_iq(
        self,
        to: str | None,
        payload: Element,
        type: Literal["get", "set"] = "set",
        timeout: float = IQ_TIMEOUT,  # noqa: ASYNC109, an answer that is late is no cancellation
    ) -> Element | None:
        """Ask somebody; stanzas go out in the order of these calls.

        Args:
            to: full or bare JID, normalised; None for our own account on the server.
            payload: the one child.
            timeout: seconds for the answer.
        Returns:
            The first child of the result, or None if it was empty.
        Raises:
            StanzaError: the answer was an error.
            IqTimeout: there was none. An answer that comes later is ignored.
            InvalidArgument: the payload has a character that XML cannot carry.
            Disconnected: the stream is gone, or ended meanwhile.
        """
        self._check_up()
        return await self._iqs.ask(to, payload, type, timeout)

    def on_iq(self, tag: str, handler: Handler) -> None:
        """Give requests with this payload to ``handler``, in the order of arrival.

        A ``PeerError`` that it raises becomes the answer. What nobody handles is answered
        ``service-unavailable``.
        """
        self._iqs.on(tag, handler)

    def send(self, stanza: Element) -> None:
        """Send a message or presence, after all that was sent before.

        Raises:
            Disconnected: the stream is gone.
            InvalidArgument: a character that XML cannot carry.
        """
        self._check_up()
        self._session.put(stanza)

    # -- presence and contacts --------------------------------------------------------------

    def set_presence(self, show: str, status: str, priority: int) -> None:
        """Be online, and say how.

        Args:
            show: ``""`` (available), ``away``, ``chat``, ``dnd`` or ``xa``.
            priority: -128 to 127.
        Raises:
            Disconnected: not connected.
            InvalidArgument: a character that cannot be sent.
        """
        self._check_up()
        presence = Element(PRESENCE)
        texts = {"show": show, "status": status, "priority": str(priority) if priority else ""}
        for name, text in texts.items():
            if text:
                SubElement(presence, f"{{{CLIENT}}}{name}").text = text
        self._send_presence(presence)

    def _send_presence(self, presence: Element) -> None:
        self.presence_id = secrets.token_hex(4)
        whole = Element(PRESENCE, id=self.presence_id)
        whole.extend(presence)
        whole.extend(self._events.presence_extras())
        whole.append(self._own.element())
        self._session.put(whole)
        self._presence = presence

    def presence_extras_changed(self) -> None:
        """Send the presence again if it has been sent: it says something new."""
        if self._presence is not None and self._session.is_up:
            self._send_presence(self._presence)

    def contacts(self) -> Mapping[str, RosterItem]:
        """The contact list by bare JID."""
        return self.roster.items

    def resources(self, bare_jid: str) -> list[Resource]:
        """The programs of a contact that are online, as far as we are told."""
        return self._presences.resources(bare_jid) if self._session.is_up else []

    def _is_known(self, bare_jid: str) -> bool:
        return bare_jid in self.roster.items or bare_jid == bare(self.jid)

    def last_words(self, bare_jid: str) -> LastWords | None:
        """What a contact that is not online said when it left."""
        return self._presences.last_words(bare_jid)

    async def _ask_account(
        self,
        payload: Element,
        type: Literal["get", "set"],
        arrived: Callable[[Element | None], None] | None,
    ) -> Element | None:
        return await self._iqs.ask(None, payload, type, ROSTER_SECONDS, arrived)

    def _roster_push(self, request: IqRequest) -> None:
        # Only our own server may change the list (RFC 6121 section 2.1.6; CVE-2015-8688).
        if request.type != "set" or request.from_ != bare(self.jid):
            raise PeerError("the contact list is not yours", "service-unavailable")
        request.reply()
        self.roster.pushed(request.payload)

    def roster_changed(self, changes: list[RosterChange]) -> None:
        self._events.roster_changed(changes)
        for change in changes:
            self._capabilities.now_known(change.jid)

    def roster_loaded(self, error: E2EError | None) -> None:
        self._presences.settle()
        self._events.roster_loaded(error)

    def _received(self, stanza: Element) -> None:
        """A presence or a message."""
        if stanza.tag != PRESENCE:
            self._events.message_received(stanza)
            return
        if self._events.presence_received(stanza):
            return
        sender = self._presences.receive(stanza)
        if sender is None:
            return
        if self._presences.get(sender) is None:
            self._capabilities.gone(sender)
        self._events.presence_changed(bare(sender))
        if sender != self._session.jid and self._presences.get(sender) is not None:
            self._capabilities.presence(sender, stanza)

    # -- saving power -----------------------------------------------------------------------

    @property
    def can_be_inactive(self) -> bool:
        """Whether the server wants to know that nobody looks (XEP-0352)."""
        return self._session.can_be_inactive

    def set_inactive(self, inactive: bool) -> None:
        """Tell the server that nobody looks, so that it may hold back what is not urgent.

        Raises:
            Disconnected: not connected.
        """
        self._check_up()
        self._session.set_inactive(inactive)

    # -- what the server can do -------------------------------------------------------------

    @property
    def offers(self) -> frozenset[str]:
        """The stream features after the login, as Clark names."""
        return self._session.offers

    async def server_features(self) -> frozenset[str]:
        """Service discovery of our server (XEP-0030), asked once; nothing if it does not say.

        Raises:
            Disconnected: the stream is gone.
        """
        if self._server_features is None:
            self._server_features = self._tasks.start("features", self._ask_features())
        try:
            return await asyncio.shield(self._server_features)
        except asyncio.CancelledError:
            if self._server_features.cancelled():
                raise Disconnected("The connection to the server is gone") from None
            raise

    async def _ask_features(self) -> frozenset[str]:
        try:
            answer = await self._get(domain_of(self._account), Element(caps.QUERY_INFO))
            return caps.parse_info(answer).features if answer is not None else frozenset()
        except (StanzaError, IqTimeout, PeerError, Disconnected) as error:
            log.info("the server does not say what it can do: %s", error)
            return frozenset()

    # -- capabilities -----------------------------------------------------------------------

    def set_features(self, features: Iterable[str]) -> None:
        """Say from now on that we can do this (and what every client can)."""
        if self._own.set_features(features):
            self.presence_extras_changed()

    def info(self, node: str | None) -> Element:
        """What we say of ourselves (XEP-0030).

        Args:
            node: of the question.
        Raises:
            PeerError: there is no such node.
        """
        return self._own.answer(node)

    async def features_of(self, full_jid: str) -> frozenset[str]:
        """What a program can do, asked of itself if its presence did not say.

        Returns:
            Nothing if it does not answer, or not sensibly.
        Raises:
            Disconnected: the stream is gone.
        """
        known = self._presences.get(full_jid)
        if known is not None and known.features is not None:
            return known.features
        info = await self._capabilities.ask(full_jid)
        return info.features if info is not None else frozenset()

    def _asked_info(self, request: IqRequest) -> None:
        if request.type != "get":
            raise PeerError("disco#info is asked with get", "bad-request")
        request.reply(self.info(request.payload.get("node")))

    def _asked_items(self, request: IqRequest) -> None:
        if request.type != "get":
            raise PeerError("disco#items is asked with get", "bad-request")
        if request.payload.get("node"):
            raise PeerError("no such node", "item-not-found")
        request.reply(Element(caps.QUERY_ITEMS))

    # -- proxies ----------------------------------------------------------------------------

    def proxies(self) -> list[Proxy]:
        """The SOCKS5 proxies of our server that are known by now; looked for after ``connect``."""
        return list(self._proxies)

    async def _find_proxies(self) -> None:
        try:
            self._proxies = await proxies.discover(self._get, domain_of(self._account))
        except Disconnected:
            return

    async def _get(self, to: str, payload: Element) -> Element | None:
        return await self.send_iq(to, payload, "get")

    async def activate_proxy(self, proxy_jid: str, sid: str, target: str) -> None:
        """Let a proxy join our connection to the target's (XEP-0065 section 6.3.5).

        Args:
            sid: of the stream.
            target: full JID of the other side.
        Raises:
            StanzaError, IqTimeout, Disconnected: it does not.
        """
        await self.send_iq(proxy_jid, proxies.activation(sid, target))
