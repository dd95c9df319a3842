"""From the login to a session: a new resource, or one that was left behind when a connection broke.

RFC 6120 section 7, RFC 3921 section 3, XEP-0198.
"""

from __future__ import annotations

from typing import Protocol
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import (
    ConnectionFailed,
    ConnectionLost,
    ConnectionReplaced,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.iq import IQ_TIMEOUT, Iqs, IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare, normalise, resource_of
from telepathy_e2e.xmpp.management import SM, StreamManagement
from telepathy_e2e.xmpp.settings import Settings

BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SESSION = "urn:ietf:params:xml:ns:xmpp-session"


class BoundStream(Protocol):
    """What a binding needs of its stream."""

    def put(self, element: Element) -> None:
        """Send."""

    def session_begun(self, jid: str) -> None:
        """A new session is there; our full JID."""

    def session_resumed(self, again: list[Element]) -> None:
        """The old one is; what has to be sent again."""

    def fail(self, error: TelepathyError) -> None:
        """There is none; end everything."""


class Binding:
    """One stream's way to its session.

    Args:
        account: JID, normalised.
        iqs: the stream's.
        management: of the session, new or left behind.
        tasks: owns what waits.

    Attributes:
        offers: what the server offers on the logged-in stream, as Clark names.
    """

    def __init__(
        self,
        settings: Settings,
        account: str,
        stream: BoundStream,
        iqs: Iqs,
        management: StreamManagement,
        tasks: TaskOwner,
    ) -> None:
        self.offers: frozenset[str] = frozenset()
        self._settings = settings
        self._account = account
        self._stream = stream
        self._iqs = iqs
        self._management = management
        self._tasks = tasks
        self._resuming = False

    def offered(self, features: Element) -> bool:
        """What the server offers after the login; whether that gets us further."""
        self.offers = frozenset(each.tag for each in features)
        if self._management.resumable:
            self._resuming = True
            self._stream.put(self._management.resume())
            return True
        if f"{{{BIND}}}bind" not in self.offers:
            return False
        session = features.find(f"{{{SESSION}}}session")
        wanted = session is not None and session.find(f"{{{SESSION}}}optional") is None
        self._tasks.start("bind", self._bind(with_session=wanted))
        return True

    def receive(self, element: Element) -> None:
        """An element of stream management.

        Raises:
            PeerError: it makes no sense.
        """
        if not self._resuming:
            answer = self._management.receive(element)
            if answer is not None:
                self._stream.put(answer)
            return
        match element.tag.rpartition("}")[2]:
            case "resumed":
                self._resuming = False
                self._stream.session_resumed(self._management.resumed(element))
            case "failed":
                self._stream.fail(SessionGone(element))
            case _:
                raise PeerError("this is no answer to a resumption", "undefined-condition")

    async def _bind(self, *, with_session: bool) -> None:
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
            self._stream.fail(kind("The server did not accept this resource of the account"))
            return
        except (IqTimeout, ValueError):
            self._stream.fail(ConnectionFailed("The server did not give the account an address"))
            return
        if bare(jid) != bare(self._account) or not resource_of(jid):
            self._stream.fail(
                ConnectionFailed("The server gave the account the address of another")
            )
            return
        if f"{{{SM}}}sm" in self.offers:
            self._stream.put(self._management.enable())
        self._stream.session_begun(jid)


class SessionGone(ConnectionLost):
    """The server has given up the session that we want to resume.

    Args:
        answer: its ``<failed/>``.
    """

    def __init__(self, answer: Element) -> None:
        super().__init__("The connection to the server was lost, and the session with it")
        self.answer = answer
