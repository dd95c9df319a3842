"""Two sessions and a wire between them, stanzas that clients sent, and stanzas that none would."""

from __future__ import annotations

import json
import pathlib
from collections import deque
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.events import Event
from telepathy_e2e.jingle.session import Session
from telepathy_e2e.jingle.stanzas import JINGLE_NS, Action, Content, Jingle, build, parse
from telepathy_e2e.role import Role

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "vectors" / "jingle.json").read_text())

ALICE = "alice@example.test/a"
BOB = "bob@example.test/b"

FILES = "urn:xmpp:jingle:apps:file-transfer:5"
S5B = "urn:xmpp:jingle:transports:s5b:1"
IBB = "urn:xmpp:jingle:transports:ibb:1"
XTLS = "urn:xmpp:jingle:security:xtls:0"


def xml(text: str | bytes) -> Element:
    return fromstring(text)  # noqa: S314 - written by the tests


def over_the_wire(element: Element) -> Element:
    """The element as its receiver sees it."""
    return xml(tostring(element))


def jingle_of(stanza: str) -> Element:
    """The ``<jingle/>`` of an iq."""
    found = xml(stanza).find(f"{{{JINGLE_NS}}}jingle")
    assert found is not None
    return found


def sample(client: str, action: str) -> Element:
    """The first stanza of this action that a client (by part of its description) sent."""
    for entry in VECTORS["stanzas"]:
        if client in entry["from"] and entry["action"] == action:
            return jingle_of(entry["stanza"])
    raise AssertionError(f"no {action} of {client}")


def jingle_xml(inner: str, action: str = "session-initiate", sid: str = "sid1") -> Element:
    """A ``<jingle/>`` with these children, given as text."""
    return xml(f"<jingle xmlns='{JINGLE_NS}' action='{action}' sid='{sid}'>{inner}</jingle>")


def content(
    *,
    creator: str = "initiator",
    name: str = "file",
    senders: str | None = "initiator",
    transport: str = S5B,
    application: str = FILES,
    security: bool = False,
) -> Content:
    return Content(
        creator=creator,
        name=name,
        senders=senders,
        description=Element(f"{{{application}}}description"),
        transport=Element(f"{{{transport}}}transport", {"sid": "stream"}),
        security=Element(f"{{{XTLS}}}security") if security else None,
    )


def transport(namespace: str) -> Element:
    return Element(f"{{{namespace}}}transport", {"sid": "stream"})


@dataclass
class Wire:
    """Two sessions; what one sends is serialised, parsed and delivered when the test says so."""

    alice: Session = field(default_factory=lambda: Session(Role.INITIATOR, ALICE, BOB, "sid1"))
    bob: Session = field(default_factory=lambda: Session(Role.RESPONDER, BOB, ALICE, "sid1"))
    to_alice: deque[bytes] = field(default_factory=deque)
    to_bob: deque[bytes] = field(default_factory=deque)

    def send(self, sender: Session, jingle: Jingle) -> None:
        queue = self.to_bob if sender is self.alice else self.to_alice
        queue.append(tostring(build(jingle)))

    def deliver(self, receiver: Session) -> list[Event]:
        """The oldest stanza for ``receiver``; an error answer reaches the sender as ``refused``."""
        queue = self.to_bob if receiver is self.bob else self.to_alice
        jingle = parse(xml(queue.popleft()))
        try:
            return receiver.receive(jingle)
        except PeerError:
            (self.alice if receiver is self.bob else self.bob).refused(jingle.action)
            raise

    def pass_on(self, sender: Session, jingle: Jingle) -> list[Event]:
        """Send and deliver at once."""
        self.send(sender, jingle)
        return self.deliver(self.bob if sender is self.alice else self.alice)

    def other(self, session: Session) -> Session:
        return self.bob if session is self.alice else self.alice

    def of(self, role: Role) -> Session:
        return self.alice if role is Role.INITIATOR else self.bob


def pending(offer: Content | None = None) -> Wire:
    wire = Wire()
    wire.pass_on(wire.alice, wire.alice.initiate(offer or content()))
    return wire


def active(offer: Content | None = None) -> Wire:
    wire = pending(offer)
    wire.pass_on(wire.bob, wire.bob.accept(offer or content()))
    return wire


# -- what no client would send ----------------------------------------------------------------

_WORDS = (
    "",
    "initiator",
    "responder",
    "both",
    "file",
    "sid1",
    "stream",
    "session",
    "tcp",
    "udp",
    "iq",
    "message",
    "0",
    "1",
    "4096",
    "65535",
    "-1",
    "99999999999999999999",
    "1e3",
    "\u0661",
    "sha-256",
    "AAAA",
    "A===",
    "127.0.0.1",
    "::1%eth0",
    "host.example",
    "direct",
    "proxy",
    "2026-11-21T03:21:04.656Z",
    "0001-01-01T00:00:00+14:00",
    "\u202e",
    "\x00",
    "a" * 5000,
    *(action.value for action in Action),
)
_ATTRIBUTES = (
    "action",
    "sid",
    "initiator",
    "responder",
    "creator",
    "name",
    "senders",
    "disposition",
    "algo",
    "offset",
    "length",
    "cid",
    "host",
    "port",
    "jid",
    "priority",
    "type",
    "mode",
    "dstaddr",
    "block-size",
    "seq",
    "stanza",
)
_NAMES = (
    "jingle",
    "content",
    "reason",
    "success",
    "text",
    "description",
    "transport",
    "security",
    "file",
    "name",
    "size",
    "date",
    "range",
    "media-type",
    "desc",
    "hash",
    "hash-used",
    "checksum",
    "received",
    "candidate",
    "candidate-used",
    "candidate-error",
    "activated",
    "proxy-error",
    "open",
    "data",
    "close",
)
_NAMESPACES = (
    JINGLE_NS,
    FILES,
    S5B,
    IBB,
    XTLS,
    "urn:xmpp:hashes:2",
    "http://jabber.org/protocol/ibb",
    "",
)

_texts = st.one_of(st.sampled_from(_WORDS), st.text(max_size=12))


@st.composite
def elements(draw: st.DrawFn, tag: str | None = None, depth: int = 3) -> Element:
    """Any tree of the words that Jingle uses, in any place; ``tag`` fixes the outermost."""
    if tag is None:
        namespace = draw(st.sampled_from(_NAMESPACES))
        name = draw(st.sampled_from(_NAMES))
        tag = f"{{{namespace}}}{name}" if namespace else name
    names = draw(st.lists(st.sampled_from(_ATTRIBUTES), max_size=6, unique=True))
    element = Element(tag, {name: draw(_texts) for name in names})
    element.text = draw(st.one_of(st.none(), _texts))
    if depth:
        element.extend(draw(st.lists(elements(depth=depth - 1), max_size=4)))
    return element


@st.composite
def jingles(draw: st.DrawFn) -> Element:
    """A nearly right ``<jingle/>`` for session ``sid1``, so that much of it gets through."""
    element = Element(
        f"{{{JINGLE_NS}}}jingle",
        {"action": draw(st.sampled_from(list(Action))).value, "sid": "sid1"},
    )
    for _ in range(draw(st.integers(0, 2))):
        child = SubElement(
            element,
            f"{{{JINGLE_NS}}}content",
            {
                "creator": draw(st.sampled_from(("initiator", "initiator", "responder", "x"))),
                "name": draw(st.sampled_from(("file", "file", "other"))),
            },
        )
        if draw(st.booleans()):
            child.set("senders", draw(st.sampled_from(("initiator", "both", "x"))))
        for name, namespaces in (
            ("description", (FILES, FILES, "urn:other")),
            ("transport", (S5B, S5B, IBB)),
            ("security", (XTLS,)),
        ):
            for _ in range(draw(st.sampled_from((1, 1, 1, 1, 0, 2)))):
                namespace = draw(st.sampled_from(namespaces))
                SubElement(child, f"{{{namespace}}}{name}")
    if draw(st.booleans()):
        element.append(draw(elements(depth=1)))
    return element
