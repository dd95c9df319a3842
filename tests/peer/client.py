"""A second XMPP client, honest unless it is told otherwise.

It answers what it must, keeps a log of all that it received, and speaks Jingle stanza by stanza:
every element can be replaced by a wrong one. What it does with bytes is in ``roads`` and ``xtls``.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol
from xml.etree.ElementTree import Element, SubElement, tostring

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from telepathy_e2e.xmpp import caps
from tests.peer import stanzas
from tests.peer.stanzas import CLIENT, IBB, JINGLE
from tests.support.prosody import PASSWORD
from tests.support.waiting import PATIENCE

WAIT = PATIENCE

BASE = (
    caps.DISCO_INFO,
    JINGLE,
    stanzas.FILES,
    stanzas.S5B,
    stanzas.JINGLE_IBB,
    "urn:xmpp:hashes:2",
    "urn:xmpp:hash-function-text-names:sha-256",
)
PROTECTED = (*BASE, stanzas.XTLS, stanzas.VERIFICATION)

IQ = f"{{{CLIENT}}}iq"
MESSAGE = f"{{{CLIENT}}}message"
PRESENCE = f"{{{CLIENT}}}presence"
IDENTITY = caps.Identity("client", "pc", "", "peer")


class Server(Protocol):
    """What a peer needs to know of the server."""

    host: str
    port: int

    @property
    def ca_file(self) -> Path: ...

    def jid(self, name: str) -> str: ...


class Peer:
    """One client, connected by ``await Peer.start(...)``.

    Attributes:
        jid: full.
        features: what it says it can do.
        received: every iq that came, in order.
        messages, presences: every one, likewise.
        answers: asked for each set stanza before the honest answer: None for that one, False for
            no answer at all, or the (stanza condition, Jingle condition) of an error.
        in_band: (full JID, stream id) to whoever takes the in-band stanzas of that stream.
    """

    def __init__(self, jid: str, features: Iterable[str]) -> None:
        self.jid = jid
        self.features = frozenset(features)
        self.received: list[Element] = []
        self.messages: list[Element] = []
        self.presences: list[Element] = []
        self.answers: Callable[[Element], tuple[str, str] | bool | None] = lambda _: None
        self.in_band: dict[tuple[str, str], Callable[[Element], tuple[str, str] | None]] = {}
        self.sessions: dict[tuple[str, str], Session] = {}
        self._offered: list[Session] = []
        self._taken = 0
        self._replies: dict[str, asyncio.Future[Element]] = {}
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._client: Any = None

    @classmethod
    async def start(
        cls,
        server: Server,
        name: str,
        *,
        resource: str = "peer",
        features: Iterable[str] = PROTECTED,
        password: str = PASSWORD,
    ) -> Peer:
        """Log in and become available.

        Args:
            name: local part of an account of the server.
            features: for service discovery.
        """
        self = cls(f"{server.jid(name)}/{resource}", features)
        client = self._client = slixmpp.ClientXMPP(self.jid, password)
        client.ca_certs = Path(server.ca_file)
        client.add_event_handler("session_start", lambda _: self._ready.set())
        client.register_handler(Callback("iq", MatchXPath(IQ), self._received))
        client.register_handler(Callback("message", MatchXPath(MESSAGE), self._message))
        client.register_handler(Callback("presence", MatchXPath(PRESENCE), self._presence))
        client.connect(server.host, server.port)
        async with asyncio.timeout(WAIT):
            await self._ready.wait()
        self.jid = str(client.boundjid)
        presence = Element(f"{{{CLIENT}}}presence")
        presence.append(caps.build_caps("urn:test:peer", caps.ver(self._info())))
        self.send(presence)
        return self

    async def stop(self) -> None:
        await self._client.disconnect(wait=0)

    # -- stanzas ----------------------------------------------------------------------------

    def send(self, stanza: Element) -> None:
        """As it is."""
        self._client.send_raw(tostring(stanza, encoding="unicode"))

    def send_text(self, text: str) -> None:
        """Bytes of the stream, whatever they are."""
        self._client.send_raw(text)

    def post(self, to: str, payload: Element, *, type: str = "set") -> asyncio.Future[Element]:
        """Send an iq; the future is its answer (the whole iq)."""
        identifier = f"peer{next(self._numbers)}"
        iq = Element(IQ, {"type": type, "id": identifier, "to": to})
        iq.append(payload)
        answer: asyncio.Future[Element] = asyncio.get_running_loop().create_future()
        self._replies[identifier] = answer
        self.send(iq)
        return answer

    async def ask(self, to: str, payload: Element, *, type: str = "set") -> Element:
        """The same, and wait for the answer."""
        async with asyncio.timeout(WAIT):
            return await self.post(to, payload, type=type)

    def _message(self, stanza: Any) -> None:
        self.messages.append(copy.deepcopy(stanza.xml))
        self._news.set()

    def _presence(self, stanza: Any) -> None:
        self.presences.append(copy.deepcopy(stanza.xml))
        self._news.set()

    def _received(self, stanza: Any) -> None:
        iq: Element = copy.deepcopy(stanza.xml)
        self.received.append(iq)
        if iq.get("type") in ("result", "error"):
            answer = self._replies.pop(iq.get("id", ""), None)
            if answer is not None and not answer.done():
                answer.set_result(iq)
        elif len(iq):
            self._request(iq, iq[0])
        self._news.set()

    def _request(self, iq: Element, payload: Element) -> None:
        told = self.answers(iq)
        if isinstance(told, tuple):
            self.error(iq, *told)
            return
        if payload.tag == caps.QUERY_INFO and iq.get("type") == "get":
            self.result(iq, caps.build_info(self._info(), payload.get("node")))
            return
        if payload.tag.startswith(f"{{{IBB}}}"):
            take = self.in_band.get((iq.get("from", ""), payload.get("sid", "")))
            refusal = ("item-not-found", "") if take is None else take(payload)
            if refusal is not None:
                self.error(iq, *refusal)
            elif told is not False:
                self.result(iq)
            return
        if payload.tag == f"{{{JINGLE}}}jingle":
            if told is not False:
                self.result(iq)
            self._jingle(iq.get("from", ""), payload)
            return
        self.error(iq, "service-unavailable")

    def result(self, iq: Element, *children: Element) -> None:
        self._answer(iq, "result", *children)

    def error(self, iq: Element, condition: str, jingle_condition: str = "") -> None:
        error = Element(f"{{{CLIENT}}}error", {"type": "cancel"})
        SubElement(error, f"{{{stanzas.STANZA_ERRORS}}}{condition}")
        if jingle_condition:
            SubElement(error, f"{{{stanzas.JINGLE_ERRORS}}}{jingle_condition}")
        self._answer(iq, "error", error)

    def _answer(self, iq: Element, type: str, *children: Element) -> None:
        attributes = {"type": type, "id": iq.get("id", "")}
        if iq.get("from"):
            attributes["to"] = iq.get("from", "")
        answer = Element(IQ, attributes)
        answer.extend(children)
        self.send(answer)

    def _info(self) -> caps.Info:
        return caps.Info((IDENTITY,), self.features)

    # -- sessions ---------------------------------------------------------------------------

    def session(self, to: str, sid: str = "") -> Session:
        """A session that this peer is about to start."""
        session = Session(self, to, sid or secrets.token_hex(8), initiator=True)
        self.sessions[(to, session.sid)] = session
        return session

    async def offered(self) -> Session:
        """The next session that somebody started with us."""
        await self.until(lambda: len(self._offered) > self._taken)
        self._taken += 1
        return self._offered[self._taken - 1]

    def _jingle(self, sender: str, element: Element) -> None:
        key = (sender, element.get("sid", ""))
        if element.get("action") == "session-initiate" and key not in self.sessions:
            self.sessions[key] = Session(self, sender, key[1], initiator=False)
            self._offered.append(self.sessions[key])
        if key in self.sessions:
            self.sessions[key].received.append(element)

    async def until(self, condition: Callable[[], object], *, timeout: float = WAIT) -> None:
        """Wait until something that came makes it true."""
        async with asyncio.timeout(timeout):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Session:
    """One Jingle session as this peer sees it.

    Attributes:
        other: full JID.
        initiator: whether we are.
        received: the ``<jingle/>`` elements that came.
    """

    def __init__(self, peer: Peer, other: str, sid: str, *, initiator: bool) -> None:
        self.peer = peer
        self.other = other
        self.sid = sid
        self.initiator = initiator
        self.received: list[Element] = []
        self._seen: dict[str, int] = defaultdict(int)

    def post(self, action: str, *children: Element, **attributes: str) -> asyncio.Future[Element]:
        """Send a Jingle stanza; the future is the answer."""
        attributes.setdefault("initiator" if self.initiator else "responder", self.peer.jid)
        return self.peer.post(self.other, stanzas.jingle(action, self.sid, *children, **attributes))

    async def send(self, action: str, *children: Element, **attributes: str) -> tuple[str, str]:
        """The same, and wait: the (stanza, Jingle) error conditions, both "" if acknowledged."""
        async with asyncio.timeout(WAIT):
            return stanzas.error_of(await self.post(action, *children, **attributes))

    async def wait(self, action: str, *, timeout: float = WAIT) -> Element:
        """The next stanza with this action that nobody waited for yet."""

        def found() -> list[Element]:
            return [each for each in self.received if each.get("action") == action]

        try:
            await self.peer.until(lambda: len(found()) > self._seen[action], timeout=timeout)
        except TimeoutError:
            came = [each.get("action") for each in self.received]
            raise AssertionError(f"no {action} came, but {came}") from None
        self._seen[action] += 1
        return found()[self._seen[action] - 1]

    async def ended(self, *, timeout: float = WAIT) -> str:
        """Wait for the session-terminate; its condition."""
        return stanzas.condition_of(await self.wait("session-terminate", timeout=timeout))

    @property
    def actions(self) -> list[str]:
        return [each.get("action", "") for each in self.received]

    async def terminate(self, condition: str = "cancel", text: str = "") -> tuple[str, str]:
        return await self.send("session-terminate", stanzas.reason(condition, text))
