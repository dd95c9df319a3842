"""The door to slixmpp: one XMPP stream (RFC 6120), from the host name to the bound resource.

Imported with the first connection and by nobody else: slixmpp costs 7 MB and a tenth of a second.

slixmpp finds the server, keeps the stream's state and runs the negotiation of its features. What it
does less strictly than we need is replaced here: parsing (``parser``), the login (``sasl``), the
errors, and ``see-other-host``, which slixmpp follows with the certificate of the other host, so
that anybody in between could send us to a server of his own. Stanzas leave it through its filter
for incoming ones, before it looks at them; its own roster and plugins never see any.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from slixmpp import ClientXMPP
from slixmpp.xmlstream.resolver import default_resolver, get_SRV

from telepathy_e2e.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    ConnectionRefused,
    ConnectionReplaced,
    EncryptionNotAvailable,
    InvalidArgument,
    NetworkError,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import sasl, tls
from telepathy_e2e.xmpp.iq import IQ_TIMEOUT, Iqs, IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import ascii_domain, bare, domain_of, local_of, normalise, resource_of
from telepathy_e2e.xmpp.markup import CLIENT, serialise
from telepathy_e2e.xmpp.parser import (
    MAX_STANZA,
    MAX_STANZA_EARLY,
    Closed,
    Opened,
    Stanza,
    StreamParser,
)
from telepathy_e2e.xmpp.settings import Settings

log = logging.getLogger(__name__)
# At DEBUG slixmpp writes every stanza into the log, and at ERROR some.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL)

# Loaded with this module, in the thread that imports it; slixmpp would do it inside the event loop.
for _name in ("starttls", "bind", "session", "rosterver", "preapproval", "mechanisms", "limits"):
    importlib.import_module(f"slixmpp.features.feature_{_name}")

STREAMS = "http://etherx.jabber.org/streams"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SESSION = "urn:ietf:params:xml:ns:xmpp-session"

PORT, DIRECT_TLS_PORT = 5222, 5223
# Seconds for one address; a dead one must leave time for the next.
ADDRESS_SECONDS = 20.0
# Seconds before the next address of the same host is tried at the same time (RFC 8305 section 5).
HAPPY_EYEBALLS_SECONDS = 0.25
# Servers that DNS names; more are not tried.
MAX_TARGETS = 8
# Seconds for the server to say goodbye.
CLOSE_SECONDS = 2.0

_STREAM_ERRORS: dict[str, tuple[type[TelepathyError], str]] = {
    "conflict": (ConnectionReplaced, "The same account logged in elsewhere with this resource"),
    "host-unknown": (ConnectionFailed, "The server does not serve this domain"),
    "not-authorized": (AuthenticationFailed, "The server does not let this account in"),
    "see-other-host": (ConnectionFailed, "The server wants to be reached elsewhere"),
    "system-shutdown": (ConnectionLost, "The server is being shut down"),
    "policy-violation": (ConnectionLost, "The server ended the connection: against its rules"),
    "reset": (ConnectionLost, "The server ended the connection: log in again"),
}
_SASL_ERRORS = {
    "account-disabled": "The server has disabled this account",
    "credentials-expired": "The password has expired",
    "not-authorized": "The password is wrong, or there is no such account",
    "temporary-auth-failure": "The server cannot check the password at the moment",
}


@dataclass(frozen=True)
class _Target:
    host: str
    port: int
    direct_tls: bool


class Stream(ClientXMPP):
    """One stream; not used twice.

    Args:
        settings: the account.
        account: its JID, normalised.
        context: from ``tls.context``.
        iqs: gets every iq.
        stanza: gets every message and presence, once bound.
        closed: told once, when the stream is over, with the reason (None: we closed it).
        tasks: owns the tasks of the negotiation.
    Raises:
        InvalidArgument: slixmpp cannot use this JID.
    """

    def __init__(
        self,
        settings: Settings,
        account: str,
        context: ssl.SSLContext,
        *,
        iqs: Iqs,
        stanza: Callable[[Element], None],
        closed: Callable[[TelepathyError | None], None],
        tasks: TaskOwner,
    ) -> None:
        try:
            super().__init__(account, "", ssl_context=context, loop=asyncio.get_running_loop())
        except ValueError:
            raise InvalidArgument("This account name cannot be used") from None
        self.secure = False
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._settings = settings
        self._account = account
        self._domain = domain_of(account)
        self._iqs = iqs
        self._stanza = stanza
        self._tell_closed = closed
        self._tasks = tasks
        self._mechanism: sasl.Mechanism | None = None
        self._awaiting_proceed = False
        self._is_bound = False
        self._over = False
        self._error: TelepathyError | None = None
        self._gone = asyncio.Event()
        self._replace_features()
        self.add_filter("in", self._incoming)
        self.add_event_handler("stream_negotiated", self._negotiated)

    def _replace_features(self) -> None:
        for name, order in (
            ("starttls", 0),
            ("mechanisms", 100),
            ("bind", 10000),
            ("session", 10001),
        ):
            self.unregister_feature(name, order)
        self.register_feature("starttls", self._offered_tls, restart=True, order=0)
        self.register_feature("mechanisms", self._offered_sasl, restart=True, order=100)
        self.register_feature("bind", self._offered_bind, restart=True, order=10000)

    # -- finding the server -----------------------------------------------------------------

    async def open(self) -> None:
        """Connect a socket; what follows is told by ``ready`` and ``closed``.

        Raises:
            TelepathyError: no address could be reached, or its certificate is wrong.
        """
        errors: list[TelepathyError] = []
        for target in await self._targets():
            try:
                await self._try(target)
            except TimeoutError:
                errors.append(NetworkError("The server did not answer in time"))
            except OSError as error:
                errors.append(_network_error(error))
            else:
                return
        # What is wrong with a certificate matters more than what is wrong with the next address.
        raise min(errors, key=lambda each: type(each) in (NetworkError, ConnectionRefused))

    async def _targets(self) -> list[_Target]:
        settings = self._settings
        if settings.server:
            port = settings.port or (DIRECT_TLS_PORT if settings.old_ssl else PORT)
            return [_Target(settings.server, port, settings.old_ssl)]
        domain = ascii_domain(self._domain)
        records = await get_SRV(
            domain, PORT, ["xmpps-client", "xmpp-client"], resolver=default_resolver(self.loop)
        )
        found = [
            _Target(host, port, service == "xmpps-client")
            for service, host, port in records
            if host and host != "."
        ]
        return found[:MAX_TARGETS] or [
            _Target(domain, settings.port or PORT, settings.old_ssl),
        ]

    async def _try(self, target: _Target) -> None:
        more: dict[str, Any] = {}
        if target.direct_tls:
            more = {"ssl": self.ssl_context, "server_hostname": ascii_domain(self._domain)}
        async with asyncio.timeout(ADDRESS_SECONDS):
            await self.loop.create_connection(
                lambda: self,
                target.host,
                target.port,
                happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
                **more,
            )

    # -- the transport ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport, send_event: bool = True) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream transport")
        self.transport = transport
        peer = transport.get_extra_info("ssl_object")
        if peer is not None:
            try:
                tls.check_names(peer, self._domain, self._settings.extra_identities)
            except TelepathyError as error:
                self.fail(error)
                return
            self.secure = True
        self._restart()

    def _restart(self) -> None:
        """A new stream on the same connection (RFC 6120 section 4.3.3)."""
        self.init_parser()
        self._write(
            f"<?xml version='1.0'?><stream:stream to='{self._domain}' version='1.0' "
            f"xml:lang='en' xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>".encode()
        )

    def init_parser(self) -> None:
        self.parser: Any = StreamParser(MAX_STANZA_EARLY)

    def data_received(self, data: bytes | str) -> None:
        self.received += len(data)
        parser = self.parser
        if not isinstance(parser, StreamParser) or not isinstance(data, bytes):
            return
        try:
            for event in parser.feed(data):
                match event:
                    case Opened(header) if header.tag != f"{{{STREAMS}}}stream":
                        self.fail(ConnectionFailed("This is not an XMPP server"))
                    case Opened(header):
                        self.start_stream_handler(header)  # type: ignore[no-untyped-call]
                    case Stanza(element):
                        self._spawn_event(element)
                    case Closed():
                        self.fail(ConnectionLost("The server ended the connection"))
                # What came before TLS, or the login, in the same packet as the word that starts it,
                # was put there by somebody in between (as in CVE-2011-0411).
                if self.parser is not parser:
                    return
        except PeerError as error:
            self._write(_stream_error(error.condition))
            self.fail(ConnectionLost(f"{error}"))

    def eof_received(self) -> None:
        return

    def connection_lost(self, exception: BaseException | None) -> None:
        self.parser = None
        self.transport = None
        self._gone.set()
        self._finish(ConnectionLost("The connection to the server was lost"))

    def fail(self, error: TelepathyError) -> None:
        """End the stream at once, for this reason."""
        self.parser = None
        if self.transport is not None:
            self.transport.abort()
        self._finish(error)

    async def close(self) -> None:
        """End the stream in order."""
        tell = not self._over
        self._over = True
        if self.transport is not None:
            self._write(b"</stream:stream>")
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._gone.wait()
            except TimeoutError:
                self.transport.abort()
                await self._gone.wait()
        if tell:
            self._tell_closed(None)

    def _finish(self, error: TelepathyError) -> None:
        if self._over:
            return
        self._over = True
        self._tell_closed(error)

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def put(self, element: Element) -> None:
        """Send a stanza now; dropped if the stream is over.

        Raises:
            ValueError: see ``markup.serialise``.
        """
        data = serialise(element)
        if not self._over:
            self._write(data)

    # -- what comes in ----------------------------------------------------------------------

    def _incoming(self, stanza: Any) -> Any:
        """slixmpp's filter: returns what slixmpp may see, that is the features and nothing else."""
        element: Element = stanza.xml
        space, _, name = element.tag.rpartition("}")
        match space[1:], name:
            case "jabber:client", "iq":
                # Before the resource is bound only answers to our own questions count.
                if self._is_bound or element.get("type") in ("result", "error"):
                    self._iqs.receive(element)
            case "jabber:client", "message" | "presence":
                if self._is_bound:
                    self._stanza(element)
            case "http://etherx.jabber.org/streams", "features":
                return None if self._is_bound else stanza
            case "http://etherx.jabber.org/streams", "error":
                self._stream_failed(element)
            case "urn:ietf:params:xml:ns:xmpp-tls", "proceed" if self._awaiting_proceed:
                self._awaiting_proceed = False
                self.parser = None  # deaf until TLS
                self._tasks.start("starttls", self._begin_tls())
            case "urn:ietf:params:xml:ns:xmpp-tls", _:
                self.fail(EncryptionNotAvailable("The server refuses to encrypt the connection"))
            case "urn:ietf:params:xml:ns:xmpp-sasl", _:
                self._sasl(name, element)
            case _:
                log.info("an element that no standard names was ignored")
        return None

    def _stream_failed(self, element: Element) -> None:
        for child in element:
            condition = child.tag.rpartition("}")[2]
            if condition in _STREAM_ERRORS:
                kind, text = _STREAM_ERRORS[condition]
                self.fail(kind(text))
                return
        self.fail(ConnectionLost("The server ended the connection with an error"))

    # -- negotiation ------------------------------------------------------------------------

    def _negotiated(self, _: object) -> None:
        """Nothing of what the server offers gets us further."""
        if not self._is_bound:
            self.fail(ConnectionFailed("The server offers no way to log in"))

    def _offered_tls(self, _: object) -> bool:
        if self.secure:
            return False
        self._awaiting_proceed = True
        self._write(f"<starttls xmlns='{TLS}'/>".encode())
        return True

    async def _begin_tls(self) -> None:
        if self.transport is None:
            return
        try:
            transport = await self.loop.start_tls(
                self.transport, self, self.ssl_context, server_hostname=ascii_domain(self._domain)
            )
        except OSError as error:
            self.transport = None
            self._gone.set()
            self._finish(_network_error(error))
            return
        if transport is None:
            self.fail(EncryptionNotAvailable("No secure connection to the server could be set up"))
            return
        if self._over:
            transport.abort()
            return
        self.connection_made(transport)

    def _offered_sasl(self, features: Any) -> bool:
        if self.authenticated:
            return False
        if not self.secure and self._settings.require_encryption:
            # Nothing of the login, the name included, goes where anybody can read it.
            self.fail(EncryptionNotAvailable("The server does not encrypt the connection"))
            return True
        names = (each.text for each in features.xml.iter(f"{{{SASL}}}mechanism"))
        self._mechanism = sasl.choose(
            [name for name in names if name],
            local_of(self._account),
            self._settings.password,
            encrypted=self.secure,
        )
        if self._mechanism is None:
            self.fail(AuthenticationFailed("The server offers no way to log in that is safe"))
            return True
        self._tasks.start("login", self._begin_login(self._mechanism))
        return True

    async def _begin_login(self, mechanism: sasl.Mechanism) -> None:
        try:
            first = await asyncio.to_thread(mechanism.first)
        except AuthenticationFailed as error:
            self.fail(error)
            return
        auth = Element(f"{{{SASL}}}auth", mechanism=mechanism.name)
        auth.text = b64encode(first).decode("ascii")
        self.put(auth)

    def _sasl(self, name: str, element: Element) -> None:
        mechanism = self._mechanism
        if mechanism is None or self.authenticated:
            self.fail(ConnectionFailed("The server speaks of a login that nobody asked for"))
            return
        try:
            text = (element.text or "").strip()
            data = b"" if text in ("", "=") else b64decode(text, validate=True)
        except (Base64Error, ValueError):
            self.fail(AuthenticationFailed("The server does not follow its own way to log in"))
            return
        match name:
            case "challenge":
                self._tasks.start("login", self._respond(mechanism, data))
            case "success":
                try:
                    mechanism.finish(data)
                except AuthenticationFailed as error:
                    self.fail(error)
                    return
                self.authenticated = True
                self._mechanism = None
                self._restart()
            case "failure":
                conditions = [child.tag.rpartition("}")[2] for child in element]
                condition = next((each for each in conditions if each in _SASL_ERRORS), "")
                kind = (
                    NetworkError if condition == "temporary-auth-failure" else AuthenticationFailed
                )
                self.fail(
                    kind(_SASL_ERRORS.get(condition, "The server did not let this account in"))
                )
            case _:
                self.fail(ConnectionFailed("The server does not follow the standard"))

    async def _respond(self, mechanism: sasl.Mechanism, challenge: bytes) -> None:
        # In a thread: thousands of rounds of a hash, as many as the server says.
        try:
            answer = await asyncio.to_thread(mechanism.respond, challenge)
        except AuthenticationFailed as error:
            self.fail(error)
            return
        response = Element(f"{{{SASL}}}response")
        response.text = b64encode(answer).decode("ascii")
        self.put(response)

    def _offered_bind(self, features: Any) -> bool:
        if not self.authenticated or self._is_bound:
            return False
        session = features.xml.find(f"{{{SESSION}}}session")
        wanted = session is not None and session.find(f"{{{SESSION}}}optional") is None
        self._tasks.start("bind", self._bind(with_session=wanted))
        return True

    async def _bind(self, *, with_session: bool) -> None:
        """RFC 6120 section 7, and RFC 3921 section 3 for servers that still want it."""
        request = Element(f"{{{BIND}}}bind")
        resource = self._settings.resource or resource_of(self._account)
        if resource:
            SubElement(request, f"{{{BIND}}}resource").text = resource
        try:
            answer = await self._iqs.ask(None, request, "set", IQ_TIMEOUT)
            jid = normalise(answer.findtext(f"{{{BIND}}}jid", "") if answer is not None else "")
            if with_session:
                await self._iqs.ask(None, Element(f"{{{SESSION}}}session"), "set", IQ_TIMEOUT)
        except StanzaError as error:
            conflict = error.condition == "conflict"
            kind = ConnectionReplaced if conflict else ConnectionFailed
            self.fail(kind("The server did not accept this resource of the account"))
            return
        except (IqTimeout, ValueError):
            self.fail(ConnectionFailed("The server did not give the account an address"))
            return
        if bare(jid) != bare(self._account) or not resource_of(jid):
            self.fail(ConnectionFailed("The server gave the account the address of another"))
            return
        self._is_bound = True
        if isinstance(self.parser, StreamParser):
            self.parser.max_stanza = MAX_STANZA
        if not self.ready.done():
            self.ready.set_result(jid)


def _network_error(error: OSError) -> TelepathyError:
    certificate = tls.failure(error)
    if certificate is not None:
        return certificate
    if isinstance(error, ConnectionRefusedError):
        return ConnectionRefused("The server refuses connections at this address")
    return NetworkError("The server could not be reached")


def _stream_error(condition: str) -> bytes:
    return (
        f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        "</stream:stream>"
    ).encode("ascii")
