"""The door to slixmpp: one XMPP stream (RFC 6120), from the socket to the bound resource.

Imported with the first connection and by nobody else: slixmpp costs 7 MB and a tenth of a second.

slixmpp keeps the stream's state and runs the negotiation of its features. What it does less
strictly than we need is replaced: finding the server (``targets``), parsing (``parser``), the login
(``sasl``), the errors, and ``see-other-host``, which slixmpp follows with the certificate of the
other host, so that anybody in between could send us to a server of his own. It
sees the server's features and nothing else: its own roster and plugins never see a stanza.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from slixmpp import ClientXMPP

from telepathy_e2e.errors import (
    AuthenticationFailed,
    CertFingerprintMismatch,
    CertHostnameMismatch,
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
from telepathy_e2e.xmpp import tls
from telepathy_e2e.xmpp.authenticator import Asking
from telepathy_e2e.xmpp.binding import Binding
from telepathy_e2e.xmpp.iq import Iqs
from telepathy_e2e.xmpp.jid import ascii_domain, domain_of
from telepathy_e2e.xmpp.login import Login, server_message
from telepathy_e2e.xmpp.management import StreamManagement
from telepathy_e2e.xmpp.markup import CLIENT, serialise
from telepathy_e2e.xmpp.parser import (
    MAX_SKIPPED,
    MAX_STANZA,
    MAX_STANZA_EARLY,
    Closed,
    Opened,
    Oversized,
    Stanza,
    StreamParser,
)
from telepathy_e2e.xmpp.settings import Settings
from telepathy_e2e.xmpp.targets import Target
from telepathy_e2e.xmpp.trace import Shown

log = logging.getLogger(__name__)
trace = logging.getLogger("telepathy_e2e.xmpp.trace")
# At DEBUG slixmpp writes every stanza into the log, and at ERROR some.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL)

# Loaded with this module, in the thread that imports it; slixmpp would do it inside the event loop.
for _name in ("starttls", "bind", "session", "rosterver", "preapproval", "mechanisms", "limits"):
    importlib.import_module(f"slixmpp.features.feature_{_name}")

STREAMS = "http://etherx.jabber.org/streams"
STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"

# Seconds before the next address of the same host is tried at the same time (RFC 8305 section 5).
HAPPY_EYEBALLS_SECONDS = 0.25
# Seconds in which stanzas are looked at in a row, and bytes that are parsed in one go: between them
# everybody else has a turn. TLS hands over a quarter of a megabyte, which can be 2,000 presences.
TURN_SECONDS = 0.002
SLICE = 4096
# Seconds for the server to say goodbye.
CLOSE_SECONDS = 2.0

_STREAM_ERRORS: dict[str, tuple[type[TelepathyError], str]] = {
    "conflict": (ConnectionReplaced, "The same account logged in elsewhere with this resource"),
    "host-unknown": (ConnectionFailed, "The server does not serve this domain"),
    "not-authorized": (AuthenticationFailed, "The server does not let this account in"),
    "see-other-host": (ConnectionFailed, "The server wants to be reached elsewhere"),
    "system-shutdown": (ConnectionLost, "The server is being shut down"),
    "policy-violation": (ConnectionLost, "The server ended the connection: against its rules"),
    "connection-timeout": (ConnectionLost, "The server heard nothing from us for too long"),
    "reset": (ConnectionLost, "The server ended the connection: log in again"),
}
# The server gave up on the connection only, or wants to see the password again: a new one tells.
_SESSION_GOES_ON = frozenset({"connection-timeout", "reset"})


class Stream(ClientXMPP):
    """One stream; not used twice.

    Args:
        settings: the account.
        account: its JID, normalised.
        target: where.
        context: from ``tls.context``, or ``tls.unverified_context()``: then the stream stops with
            the server's certificate in ``shown``, and says nothing before ``go_on``.
        asking: how to log in.
        iqs: gets every iq.
        management: of the session, which may have been left behind by another stream.
        stanza: gets every message and presence, once bound.
        resumed: told when the session that was left behind goes on, before any stanza of it.
        closed: told once, when the stream is over, with the reason (None: we closed it) and whether
            it broke, so that the session may still be there.
        tasks: owns the tasks of the negotiation.
    Attributes:
        secure: encrypted, and with the server that is meant.
        found: set when this is known to be a server that one can log in at, or the stream over.
        shown: the certificates of a server that is not verified, its own first.
        ready: our full JID, when the session is there; or why there is none.
        received: bytes so far.
    Raises:
        InvalidArgument: slixmpp cannot use this JID.
    """

    def __init__(
        self,
        settings: Settings,
        account: str,
        target: Target,
        context: ssl.SSLContext,
        *,
        asking: Asking,
        iqs: Iqs,
        management: StreamManagement,
        stanza: Callable[[Element], None],
        resumed: Callable[[], None],
        closed: Callable[[TelepathyError | None, bool], None],
        tasks: TaskOwner,
    ) -> None:
        try:
            super().__init__(account, "", ssl_context=context, loop=asyncio.get_running_loop())
        except ValueError:
            raise InvalidArgument("This account name cannot be used") from None
        self.secure = False
        self.found = asyncio.Event()
        self.shown: tuple[bytes, ...] = ()
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._settings = settings
        self._account = account
        self._domain = domain_of(account)
        self._iqs = iqs
        self._management = management
        self._stanza = stanza
        self._tell_resumed = resumed
        self._tell_closed = closed
        self._tasks = tasks
        self._target = target
        self._verified = context.verify_mode is ssl.CERT_REQUIRED
        self._login = Login(settings, account, self, asking, tasks)
        self._binding = Binding(settings, account, self, iqs, management, tasks)
        self._awaiting_proceed = False
        self._is_bound = False
        self._over = False
        self._error: TelepathyError | None = None
        self._gone = asyncio.Event()
        self._unread: deque[memoryview] = deque()
        self._is_paused = False
        self._replace_features()
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
        self.register_feature("mechanisms", self._offered_login, restart=True, order=100)
        self.register_feature("bind", self._offered_login, restart=True, order=10000)

    async def open(self) -> None:
        """Connect a socket; what follows is told by ``found``, ``ready`` and ``closed``.

        Raises:
            TelepathyError: no address could be reached, or its certificate is wrong.
        """
        more: dict[str, Any] = {}
        if self._target.direct_tls:
            more = {"ssl": self.ssl_context, "server_hostname": ascii_domain(self._domain)}
        try:
            await self.loop.create_connection(
                lambda: self,
                self._target.host,
                self._target.port,
                happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
                **more,
            )
        except OSError as error:
            raise self._network_error(error) from None

    # -- the transport ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport, send_event: bool = True) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream transport")
        self.transport = transport
        self._is_paused = False
        peer = transport.get_extra_info("ssl_object")
        if peer is None:
            self.restart()
            return
        try:
            if not self._verified:
                self.shown = tls.chain_of(peer)
                self.found.set()
                return
            tls.check_names(peer, self._domain, self._settings.extra_identities)
        except TelepathyError as error:
            self.fail(self._explained(error))
            return
        self.secure = True
        self.restart()

    def go_on(self, certificate: bytes) -> None:
        """The user has judged the server by its certificate, DER: log in there."""
        if not self.shown or self.shown[0] != certificate:
            self.fail(CertFingerprintMismatch("This server has another certificate now"))
            return
        if not self._over:
            self.secure = True
            self.restart()

    @property
    def login_begun(self) -> bool:
        """Whether what went wrong is the account's and not this server's."""
        return self._login.begun

    @property
    def over(self) -> bool:
        """Whether it is at an end."""
        return self._over

    def bindings(self) -> Mapping[str, bytes]:
        """See ``login.LoginStream``."""
        peer = None if self.transport is None else self.transport.get_extra_info("ssl_object")
        return {} if peer is None else tls.bindings_of(peer)

    def restart(self) -> None:
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
        self._acknowledge()
        if not isinstance(data, bytes) or self.parser is None:
            return
        self._unread.append(memoryview(data))
        if len(self._unread) == 1:
            self._read()

    def _read(self) -> None:
        """Look at what came, for a while; if that is not all, go on when others had their turn."""
        end = self.loop.time() + TURN_SECONDS
        while self._unread:
            data = self._unread[0]
            if len(data) > SLICE:
                self._unread[0] = data[SLICE:]
            else:
                self._unread.popleft()
            self._parse(bytes(data[:SLICE]))
            if self._unread and self.loop.time() > end:
                # The server has to wait as well: nothing is kept beyond what came meanwhile.
                self._pause(True)
                self.loop.call_soon(self._read)
                return
        self._pause(False)

    def _pause(self, paused: bool) -> None:
        if paused != self._is_paused and isinstance(self.transport, asyncio.Transport):
            self._is_paused = paused
            if not self.transport.is_closing():
                (self.transport.pause_reading if paused else self.transport.resume_reading)()

    def _parse(self, data: bytes) -> None:
        parser = self.parser
        if not isinstance(parser, StreamParser):
            self._unread.clear()
            return
        try:
            for event in parser.feed(data):
                match event:
                    case Opened(header) if header.tag != f"{{{STREAMS}}}stream":
                        self.fail(ConnectionFailed("This is not an XMPP server"))
                    case Opened(header):
                        self.start_stream_handler(header)  # type: ignore[no-untyped-call]
                    case Stanza(element):
                        if self._incoming(element):
                            self._spawn_event(element)
                    case Oversized(element):
                        self._skipped(element)
                    case Closed():
                        self.fail(ConnectionLost("The server ended the connection"))
                # What came before TLS, or the login, in the same packet as the word that starts it,
                # was put there by somebody in between (as in CVE-2011-0411).
                if self.parser is not parser:
                    self._unread.clear()
                    return
        except PeerError as error:
            self._write(_stream_error(error.condition))
            self.fail(ConnectionLost(f"{error}"))

    def _acknowledge(self) -> None:
        """Have TCP acknowledge what came now and not in 40 ms.

        Servers leave Nagle's algorithm on (Prosody does): a second small stanza waits there until
        the first is acknowledged, and a session is a row of small stanzas.
        """
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):  # closed in this moment
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def eof_received(self) -> None:
        return

    def connection_lost(self, exception: BaseException | None) -> None:
        # The last words may say why.
        while self._unread:
            self._parse(bytes(self._unread.popleft()))
        self.parser = None
        self.transport = None
        self._gone.set()
        self._finish(ConnectionLost("The connection to the server was lost"), broken=True)

    def fail(self, error: TelepathyError, *, broken: bool = False) -> None:
        """End the stream at once, for this reason.

        Args:
            broken: only the stream is at an end, the session need not be.
        """
        self.parser = None
        if self.transport is not None:
            self.transport.abort()
        self._finish(error, broken=broken)

    async def close(self) -> None:
        """End the stream in order."""
        tell = not self._over
        self._over = True
        self._login.stop()
        self.found.set()
        if self.transport is not None:
            self._write(b"</stream:stream>")
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._gone.wait()
            except TimeoutError:
                self.transport.abort()
                await self._gone.wait()
        if tell:
            self._tell_closed(None, False)

    def _finish(self, error: TelepathyError, *, broken: bool) -> None:
        if self._over:
            return
        self._over = True
        self._login.stop()
        self.found.set()
        self._tell_closed(error, broken)

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def put(self, element: Element) -> None:
        """Send a stanza now; dropped if the stream is over.

        Raises:
            ValueError: see ``markup.serialise``.
        """
        self.put_bytes(serialise(element), element)

    def put_bytes(self, data: bytes, element: Element) -> None:
        """The same for what is serialised already."""
        if not self._over:
            trace.debug("> %s", Shown(element))
            self._write(data)

    # -- what comes in ----------------------------------------------------------------------

    def _incoming(self, element: Element) -> bool:
        """Whether slixmpp may see it: the features and nothing else.

        Of a contact list of 2,000 it would make 2,000 objects before it asked us.
        """
        trace.debug("< %s", Shown(element))
        space, _, name = element.tag.rpartition("}")
        match space[1:], name:
            case "jabber:client", "iq":
                # Before the resource is bound only answers to our own questions count.
                if self._is_bound or element.get("type") in ("result", "error"):
                    self._iqs.receive(element)
                    self._management.handled()
            case "jabber:client", "message" | "presence":
                if self._is_bound:
                    self._stanza(element)
                    self._management.handled()
            case "urn:xmpp:sm:3", _ if self._login.done:
                self._managed(element)
            case "http://etherx.jabber.org/streams", "features":
                return not self._is_bound
            case "http://etherx.jabber.org/streams", "error":
                self._stream_failed(element)
            case "urn:ietf:params:xml:ns:xmpp-tls", "proceed" if self._awaiting_proceed:
                self._awaiting_proceed = False
                self.parser = None  # deaf until TLS
                self._tasks.start("starttls", self._begin_tls())
            case "urn:ietf:params:xml:ns:xmpp-tls", _:
                self.fail(EncryptionNotAvailable("The server refuses to encrypt the connection"))
            case "urn:ietf:params:xml:ns:xmpp-sasl", _:
                self._login.receive(name, element)
            case _:
                log.info("an element that no standard names was ignored")
        return False

    def _skipped(self, element: Element) -> None:
        """A stanza was so large that its content has not been kept: whose it is does not end our
        connection."""
        space, _, name = element.tag.rpartition("}")
        if space[1:] != "jabber:client" or name not in ("iq", "message", "presence"):
            self._write(_stream_error("policy-violation"))
            self.fail(ConnectionLost("The server sent a stanza that is too large"))
            return
        log.warning("a stanza (%s) that was too large was dropped", name)
        if name == "iq":
            self._iqs.too_large(element)
        self._management.handled()

    def _managed(self, element: Element) -> None:
        try:
            self._binding.receive(element)
        except PeerError as error:
            self._write(_stream_error(error.condition))
            self.fail(ConnectionLost(f"{error}"))

    def _stream_failed(self, element: Element) -> None:
        for child in element:
            condition = child.tag.rpartition("}")[2]
            if condition in _STREAM_ERRORS:
                kind, text = _STREAM_ERRORS[condition]
                failure = kind(text)
                told = server_message(element.findtext(f"{{{STREAM_ERRORS}}}text"))
                if told:
                    failure.details = {"server-message": told}
                self.fail(failure, broken=condition in _SESSION_GOES_ON)
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
            self._finish(self._network_error(error), broken=True)
            return
        if transport is None:
            self.fail(EncryptionNotAvailable("No secure connection to the server could be set up"))
            return
        if self._over:
            transport.abort()
            return
        self.connection_made(transport)

    def _offered_login(self, features: Any) -> bool:
        element: Element = features.xml
        if self._login.done:
            return self._binding.offered(element)
        further = self._login.offered(element)
        if further:
            self.found.set()
        return further

    @property
    def offers(self) -> frozenset[str]:
        """What the server offers on the logged-in stream, as Clark names."""
        return self._binding.offers

    def session_resumed(self, again: list[Element]) -> None:
        """The session goes on; what the server has not seen is sent again."""
        for stanza in again:
            self.put(stanza)
        self.session_begun(self._iqs.own)
        self._tell_resumed()

    def session_begun(self, jid: str) -> None:
        """The session is there: stanzas may come."""
        self._is_bound = True
        if isinstance(self.parser, StreamParser):
            self.parser.max_stanza = MAX_STANZA
            self.parser.max_skipped = MAX_SKIPPED
        if not self.ready.done():
            self.ready.set_result(jid)

    def _network_error(self, error: OSError) -> TelepathyError:
        certificate = tls.failure(error)
        if certificate is not None:
            return self._explained(certificate)
        if isinstance(error, ConnectionRefusedError):
            return ConnectionRefused("The server refuses connections at this address")
        return NetworkError("The server could not be reached")

    def _explained(self, error: TelepathyError) -> TelepathyError:
        if isinstance(error, CertHostnameMismatch):
            error.details = {"expected-hostname": self._domain}
        return error


def _stream_error(condition: str) -> bytes:
    return (
        f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        "</stream:stream>"
    ).encode("ascii")
