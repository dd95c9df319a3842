"""Questions and answers (RFC 6120 section 8.2.3): ours to others, and theirs to us."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import Disconnected, E2EError, PeerError
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.markup import CLIENT

log = logging.getLogger(__name__)

IQ = f"{{{CLIENT}}}iq"
ERROR = f"{{{CLIENT}}}error"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
JINGLE_ERRORS = "urn:xmpp:jingle:errors:1"

# In place of a payload that was not kept; no element of XML can be called so.
TOO_LARGE = "too large"

# Seconds for an answer. A busy server far away takes a few; people do not wait longer.
IQ_TIMEOUT = 30.0
# Characters of an error's text that are kept; it is shown to people.
MAX_ERROR_TEXT = 500

# RFC 6120 section 8.3.3: what the asker may do about it.
_TYPES = {
    "bad-request": "modify",
    "forbidden": "auth",
    "gone": "cancel",
    "jid-malformed": "modify",
    "not-acceptable": "modify",
    "not-authorized": "auth",
    "policy-violation": "modify",
    "recipient-unavailable": "wait",
    "redirect": "modify",
    "registration-required": "auth",
    "remote-server-timeout": "wait",
    "resource-constraint": "wait",
    "unexpected-request": "wait",
}


class StanzaError(E2EError):
    """The other side answered with an error.

    Args:
        condition: of RFC 6120 section 8.3.3, ``undefined-condition`` if it was none.
        text: what the other side said; its words, not to be trusted.
        jingle_condition: of XEP-0166 section 10, or None.
    """

    def __init__(self, condition: str, text: str = "", jingle_condition: str | None = None) -> None:
        super().__init__(condition if not jingle_condition else f"{condition}, {jingle_condition}")
        self.condition = condition
        self.text = text
        self.jingle_condition = jingle_condition


class IqTimeout(E2EError):
    """Nobody answered in time."""


class IqRequest:
    """A question of somebody, answered exactly once: now, or later.

    Attributes:
        from_: full or bare JID, normalised, as our server stamped it.
        to: our full JID.
        id: chosen by the asker.
        type: ``get`` or ``set``.
        payload: the one child.
    """

    def __init__(
        self,
        send: Callable[[Element], None],
        *,
        from_: str,
        to: str,
        id: str,
        type: Literal["get", "set"],
        payload: Element,
        address: str | None,
    ) -> None:
        self.from_ = from_
        self.to = to
        self.id = id
        self.type = type
        self.payload = payload
        self.answered = False
        self._send = send
        self._address = address

    def reply(self, element: Element | None = None) -> None:
        """Answer; what is sent afterwards arrives afterwards.

        Raises:
            RuntimeError: answered already.
        """
        self._answer("result", element)

    def error(self, error: PeerError) -> None:
        """Answer with an error; its text stays here, it may say more than the peer should know.

        Raises:
            RuntimeError: answered already.
        """
        element = Element(ERROR, type=_TYPES.get(error.condition, "cancel"))
        SubElement(element, f"{{{STANZAS}}}{error.condition}")
        if error.jingle is not None:
            SubElement(element, f"{{{JINGLE_ERRORS}}}{error.jingle}")
        self._answer("error", element)

    def _answer(self, kind: str, element: Element | None) -> None:
        if self.answered:
            raise RuntimeError("this request was answered already")
        self.answered = True
        iq = Element(IQ, type=kind, id=self.id)
        if self._address is not None:
            iq.set("to", self._address)
        if element is not None:
            iq.append(element)
        self._send(iq)


Handler = Callable[[IqRequest], None]


class Iqs:
    """All iqs of one stream.

    Args:
        send: puts a stanza on the stream, or drops it if the stream is gone.
    """

    def __init__(self, send: Callable[[Element], None]) -> None:
        self.own = ""
        self._send = send
        self._handlers: dict[str, Handler] = {}
        self._pending: dict[
            str,
            tuple[
                str | None,
                asyncio.Future[Element | None],
                Callable[[Element | None], None] | None,
            ],
        ] = {}
        self._closed = False

    def on(self, tag: str, handler: Handler) -> None:
        """Give requests whose payload has this tag to ``handler``, in the order of arrival."""
        self._handlers[tag] = handler

    async def ask(
        self,
        to: str | None,
        payload: Element,
        type: str,
        timeout: float,  # noqa: ASYNC109, an answer that is late is no cancellation
        arrived: Callable[[Element | None], None] | None = None,
    ) -> Element | None:
        """Send, and wait for the answer; see ``Client.send_iq``.

        Args:
            arrived: gets the result before any stanza that came after it is looked at.
        """
        if self._closed:
            raise _disconnected()
        # Nobody who did not see the question can guess this and answer in another's place.
        id = secrets.token_hex(8)
        iq = Element(IQ, type=type, id=id)
        if to is not None:
            iq.set("to", to)
        iq.append(payload)
        future: asyncio.Future[Element | None] = asyncio.get_running_loop().create_future()
        self._pending[id] = (to, future, arrived)
        try:
            self._send(iq)
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise IqTimeout("There was no answer") from None
        finally:
            self._pending.pop(id, None)

    def close(self) -> None:
        """The stream is gone: nobody waits any longer."""
        self._closed = True
        for _, future, _ in self._pending.values():
            if not future.done():
                future.set_exception(_disconnected())
                future.exception()  # who waits may be gone at the same moment

    def receive(self, iq: Element) -> None:
        """An iq arrived."""
        match iq.get("type"):
            case "result" | "error":
                self._answered(iq)
            case "get" | "set" as kind:
                self._asked(iq, kind)
            case _:
                log.info("an iq of no type was ignored")

    def too_large(self, iq: Element) -> None:
        """An iq arrived that was too large to be kept; ``iq`` has its attributes."""
        if iq.get("type") in ("result", "error"):
            answer = Element(IQ, {**iq.attrib, "type": "error"})
            error = SubElement(answer, ERROR)
            SubElement(error, f"{{{STANZAS}}}policy-violation")
            SubElement(error, f"{{{STANZAS}}}text").text = "The answer is too large"
            self._answered(answer)
        else:
            # A payload that nobody asks for: what was asked is not known.
            asked = Element(IQ, iq.attrib)
            asked.append(Element(TOO_LARGE))
            self.receive(asked)

    def _answered(self, iq: Element) -> None:
        to, future, arrived = self._pending.get(iq.get("id", ""), (None, None, None))
        if future is None or future.done() or not self._is_from(iq.get("from"), to):
            log.info("an answer that nobody waits for was ignored")
            return
        if iq.get("type") == "error":
            future.set_exception(stanza_error(iq))
        else:
            result = next(iter(iq), None)
            future.set_result(result)
            if arrived is not None:
                arrived(result)

    def _is_from(self, from_: str | None, to: str | None) -> bool:
        """Whether an answer comes from whom we asked (RFC 6120 section 10.3)."""
        own = bare(self.own)
        if from_ is None:
            return to is None or to == own
        try:
            sender = normalise(from_)
        except ValueError:
            return False
        return sender == to or (to is None and sender in (own, self.own))

    def _asked(self, iq: Element, kind: Literal["get", "set"]) -> None:
        address, id = iq.get("from"), iq.get("id")
        try:
            sender = normalise(address) if address is not None else bare(self.own)
        except ValueError:
            sender = ""
        if not sender or not id:
            log.info("a request of nobody, or without an id, was ignored")
            return
        payloads = list(iq)
        request = IqRequest(
            self._send,
            from_=sender,
            to=self.own,
            id=id,
            type=kind,
            payload=payloads[0] if payloads else Element("none"),
            address=address,
        )
        try:
            # RFC 6120 section 8.2.3, rule 5
            if len(payloads) != 1:
                raise PeerError("a request needs exactly one child", "bad-request")
            if request.payload.tag == TOO_LARGE:
                raise PeerError("the request is too large", "policy-violation")
            handler = self._handlers.get(request.payload.tag)
            if handler is None:
                raise PeerError("nobody here knows this namespace", "service-unavailable")
            handler(request)
        except PeerError as error:
            if request.answered:
                log.warning("after an answer: %s", error)
            else:
                request.error(error)


def _disconnected() -> Disconnected:
    return Disconnected("The connection to the server is gone")


def stanza_error(stanza: Element) -> StanzaError:
    """The error in a stanza of type ``error``."""
    condition, text, jingle = "undefined-condition", "", None
    error = stanza.find(ERROR)
    for child in error if error is not None else ():
        space, _, name = child.tag.rpartition("}")
        if space == "{" + STANZAS and name == "text":
            text = (child.text or "")[:MAX_ERROR_TEXT]
        elif space == "{" + STANZAS:
            condition = name[:MAX_ERROR_TEXT]
        elif space == "{" + JINGLE_ERRORS:
            jingle = name[:MAX_ERROR_TEXT]
    return StanzaError(condition, text, jingle)
