"""The XML stream between two clients (XEP-0247): bytes in, stanzas out. Pure.

The stream belongs to one full JID on each side, and whoever speaks in it speaks as that JID alone:
a stanza that names anybody else ends the stream, and what is delivered has both addresses filled
in. So nothing in it can be taken for the word of a server, of an account, or of a third person.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import Disconnected, InvalidArgument, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.markup import CLIENT, serialise
from telepathy_e2e.xmpp.parser import Closed, Opened, Oversized, Stanza, StreamParser

STREAMS: Final = "http://etherx.jabber.org/streams"
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"

# Bytes of one stanza: as much as servers forward, so that what goes through them goes here.
MAX_STANZA: Final = 256 * 1024
# Bytes of one tag with its attributes. As long as it is not whole expat begins it again with each
# byte that comes, and a peer may send them one by one: 32 million steps, a tenth of a second.
MAX_TAG: Final = 8 * 1024

_STANZAS: Final = frozenset(f"{{{CLIENT}}}{name}" for name in ("message", "presence", "iq"))
_STREAM: Final = f"{{{STREAMS}}}stream"
_FEATURES: Final = f"{{{STREAMS}}}features"
_ERROR: Final = f"{{{STREAMS}}}error"


@dataclass(frozen=True)
class PeerOpened:
    """The peer's opening tag came: now stanzas may be sent."""


@dataclass(frozen=True)
class Received:
    """A stanza; ``from`` is the peer's full JID and ``to`` our own, whatever it said."""

    stanza: Element


@dataclass(frozen=True)
class PeerClosed:
    """The peer's closing tag came: nothing follows it, and our own was queued."""


@dataclass(frozen=True)
class PeerFailed:
    """The peer ended the stream with an error (RFC 6120 section 4.9).

    Args:
        condition: of the standard, or ``undefined-condition``.
    """

    condition: str


Event = PeerOpened | Received | PeerClosed | PeerFailed


class PeerStream:
    """One XML stream, both directions.

    Args:
        role: of the Jingle session; its initiator opens the stream.
        own, peer: full JIDs, normalised, those of the session.
    Attributes:
        opened: the peer's opening tag came.
        closing: our closing tag is queued or sent.
        over: nothing that comes counts any longer.
    """

    def __init__(self, role: Role, own: str, peer: str) -> None:
        self._role = role
        self._own = own
        self._peer = peer
        self._parser = StreamParser(MAX_STANZA, max_tag=MAX_TAG, who="The contact's client")
        self._out = bytearray()
        self._began = False
        self.opened = False
        self.closing = False
        self.over = False

    def start(self) -> None:
        """The bytes can flow: the initiator opens, the responder waits for that."""
        if self._role is Role.INITIATOR:
            self._open()

    def _open(self) -> None:
        if self._began:
            return
        self._began = True
        attributes = {"from": self._own, "to": self._peer, "version": "1.0"}
        if self._role is Role.RESPONDER:
            attributes["id"] = secrets.token_hex(8)
        whole = serialise(Element(_STREAM, attributes), STREAMS)
        # ``serialise`` gives one element whole, with the namespace of streams as the default one.
        said = whole.removeprefix(b"<stream").removesuffix(b"/>")
        self._out += b"<stream:stream xmlns='jabber:client' xmlns:stream='%b'%b>" % (
            STREAMS.encode(),
            said,
        )
        if self._role is Role.RESPONDER:
            # RFC 6120 section 4.3.2: that there is nothing to negotiate has to be said.
            self._out += b"<stream:features/>"

    # -- what comes -------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[Event]:
        """Bytes of the peer.

        Raises:
            PeerError: what no peer may send; ``condition`` is the stream error that was queued
                for him. Nothing that comes counts any longer.
        """
        if self.over:
            return []
        told: list[Event] = []
        try:
            for each in self._parser.feed(data):
                if self.over:
                    break  # behind an error of the peer's
                match each:
                    case Opened(header):
                        told.append(self._peer_opened(header))
                    case Stanza(element):
                        told += self._element(element)
                    case Closed():
                        self.over = True
                        self.close()
                        told.append(PeerClosed())
                    case Oversized():  # pragma: no cover - this parser skips nothing
                        raise AssertionError("skipped")
        except PeerError as error:
            self._fail(error.condition)
            raise
        return told

    def receive_eof(self) -> None:
        """The peer's direction ended.

        Raises:
            PeerError: before his closing tag: somebody, or something, cut it.
        """
        if not self.over:
            self._fail("not-well-formed")
            raise PeerError("The stream ended without its closing tag", "not-well-formed")

    def _peer_opened(self, header: Element) -> Event:
        if header.tag != _STREAM:
            raise PeerError("something else than an XML stream", "bad-format")
        self._check_addresses(header)
        self._open()
        self.opened = True
        return PeerOpened()

    def _element(self, element: Element) -> list[Event]:
        if element.tag in _STANZAS:
            self._check_addresses(element)
            element.set("from", self._peer)
            element.set("to", self._own)
            return [Received(element)]
        if element.tag == _FEATURES and self._role is Role.INITIATOR:
            return []  # the protection is there already, and so is the login
        if element.tag == _ERROR:
            self.over = True
            self.close()
            return [PeerFailed(_condition(element))]
        raise PeerError("something else than a stanza", "unsupported-stanza-type")

    def _check_addresses(self, element: Element) -> None:
        """That the peer speaks as himself, to us.

        His bare JID is somebody else too: it is how his server speaks for his account.
        """
        sender, receiver = element.get("from"), element.get("to")
        if sender is not None and _normal(sender) != self._peer:
            raise PeerError("a stanza in somebody else's name", "invalid-from")
        if receiver is not None and _normal(receiver) not in (self._own, bare(self._own)):
            raise PeerError("a stanza for somebody else", "improper-addressing")

    def _fail(self, condition: str) -> None:
        self.over = True
        if not self.closing:
            self._open()
            error = Element(_ERROR)
            SubElement(error, f"{{{STREAM_ERRORS}}}{condition}")
            # The prefix is declared in the opening tag; so is its namespace for this element.
            self._out += serialise(error)
            self.close()

    # -- what goes --------------------------------------------------------------------------

    def send(self, stanza: Element) -> None:
        """Queue a message, presence or iq; addresses are filled in.

        Raises:
            Disconnected: not open, or closed already.
            InvalidArgument: no stanza, too large, in somebody else's name, or with a character
                that XML cannot carry.
        """
        if not self.opened or self.closing:
            raise Disconnected("There is no stream to the contact's client")
        if stanza.tag not in _STANZAS:
            raise InvalidArgument("Only stanzas can be sent")
        for name, jid in (("from", self._own), ("to", self._peer)):
            if stanza.get(name, jid) != jid:
                raise InvalidArgument("A stream between two people carries stanzas of no others")
        whole = Element(stanza.tag, {**stanza.attrib, "from": self._own, "to": self._peer})
        whole.text = stanza.text
        whole.extend(stanza)
        try:
            data = serialise(whole)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
        if len(data) > MAX_STANZA:
            raise InvalidArgument("This is too large for one stanza")
        self._out += data

    def push(self) -> None:
        """Queue a blank, which means nothing (RFC 6120 section 4.6.1), behind all stanzas."""
        if self._began and not self.closing:
            self._out += b" "

    def close(self) -> None:
        """Queue our closing tag; what comes until the peer's still counts. May be repeated."""
        if self.closing:
            return
        self._open()
        self.closing = True
        self._out += b"</stream:stream>"

    def data_to_send(self) -> bytes:
        """Bytes for the peer, all that are queued."""
        data = bytes(self._out)
        self._out.clear()
        return data

    @property
    def unsent(self) -> int:
        """Bytes that are queued."""
        return len(self._out)


def _normal(jid: str) -> str:
    try:
        return normalise(jid)
    except ValueError:
        raise PeerError("an address that is none", "improper-addressing") from None


def _condition(error: Element) -> str:
    for child in error:
        space, _, name = child.tag.rpartition("}")
        if space == "{" + STREAM_ERRORS and name != "text" and name.replace("-", "").isascii():
            return name[:64]
    return "undefined-condition"
