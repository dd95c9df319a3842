"""Bytes of an XMPP stream to elements (RFC 6120 section 4 and 11), with bounds. Pure.

slixmpp's own parser takes stanzas of any size and depth, document types and entities included, and
writes what it cannot parse into the log; this one replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from telepathy_e2e.errors import PeerError

# Bytes of one stanza. Servers forward 256 to 512 KiB at most; the largest thing that they send
# themselves is the roster, some 150 bytes a contact: this is room for 14,000.
MAX_STANZA = 2 * 1024 * 1024
# Bytes after which a stanza that is too large ends the stream; up to there its content is skipped.
# Servers that let vCards of 10 MB through exist, and whose they are must not end our connection.
MAX_SKIPPED = 64 * 1024 * 1024
# Bytes of one tag with its attributes: as long as it is not whole, expat begins it again with all
# that comes, so that it costs the square of its length. More than any stanza that servers forward:
# what a peer can make them send us must not end the connection.
MAX_TAG = 1024 * 1024
# Bytes of one stanza before login, when it is anybody who talks to us.
MAX_STANZA_EARLY = 64 * 1024
# Elements in one another. Jingle needs 8; deep trees overflow the stack of whoever walks them.
MAX_DEPTH = 64
# Elements and attributes in one stanza: each costs us some 200 bytes where it cost the sender four.
MAX_ELEMENTS = 50_000
# Bytes after which expat starts afresh: it remembers every name it ever saw.
RENEW_AFTER = 1024 * 1024


@dataclass(frozen=True)
class Opened:
    """The stream header came; ``header`` has its attributes and no children."""

    header: Element


@dataclass(frozen=True)
class Stanza:
    """One child of the stream, whole."""

    element: Element


@dataclass(frozen=True)
class Oversized:
    """One child of the stream that was too large: ``element`` has its attributes and no content."""

    element: Element


@dataclass(frozen=True)
class Closed:
    """The stream ended in order."""


Event = Opened | Stanza | Oversized | Closed


class StreamParser:
    """One stream in one direction; a restart of the stream is a new parser.

    Args:
        max_stanza: bytes that one stanza may have.
        max_skipped: bytes that one may have that is skipped for being larger than that; 0: none is.
        max_tag: bytes that one tag may have.
        who: who sends; the subject of the sentences of errors.
    """

    def __init__(
        self,
        max_stanza: int = MAX_STANZA,
        max_skipped: int = 0,
        *,
        max_tag: int = MAX_TAG,
        who: str = "The server",
    ) -> None:
        self.max_stanza = max_stanza
        self.max_skipped = max_skipped
        self._max_tag = max_tag
        self._who = who
        self._events: list[Event] = []
        self._namespaces: list[tuple[str | None, str]] = []
        self._header: Element | None = None
        self._begin()

    def _begin(self) -> None:
        self._fed = 0
        self._start = 0
        self._last_end = 0
        self._depth = 0
        self._elements = 0
        self._builder: TreeBuilder | None = None
        self._skipped: Element | None = None
        self._root: Any = None
        parser = expat.ParserCreate("UTF-8", "}")
        parser.buffer_text = True
        parser.StartElementHandler = self._opened
        parser.EndElementHandler = self._closed
        parser.CharacterDataHandler = self._text
        parser.StartNamespaceDeclHandler = self._namespace
        # RFC 6120 section 11.1. Entities are how small documents become large ones.
        parser.StartDoctypeDeclHandler = self._restricted
        parser.CommentHandler = self._restricted
        parser.ProcessingInstructionHandler = self._restricted
        # Newer expats hold a finished stanza back until more arrives. We bound the size ourselves.
        deferral: Callable[[bool], None] | None = getattr(parser, "SetReparseDeferralEnabled", None)
        if deferral is not None:
            deferral(False)
        self._parser = parser

    def feed(self, data: bytes) -> list[Event]:
        """What these bytes completed.

        Raises:
            PeerError: not XML, not what XMPP allows of it, or too large; ``condition`` is that of
                the stream error (RFC 6120 section 4.9.3). The parser must not be used again.
        """
        # RFC 6120 section 11.6. XML in UTF-8 has no zeros, in UTF-16 it cannot be without; and
        # expat takes that for UTF-16 whatever it was told.
        if b"\0" in data:
            raise self._wrong("something else than UTF-8", "not-well-formed")
        self._fed += len(data)
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError:
            raise self._wrong("broken XML", "not-well-formed") from None
        self._check_size(self._fed)
        if self._fed - self._parser.CurrentByteIndex > self._max_tag + len(data):
            raise self._wrong("a tag that is too large", "policy-violation")
        events, self._events = self._events, []
        if self._fed > RENEW_AFTER:
            self._renew(data)
        return events

    def _opened(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong("a stanza that is too deep", "policy-violation")
        tag = _clark(name)
        attrib = {_clark(key): value for key, value in attributes.items()}
        if self._depth == 1:
            if self._header is None:
                self._header = Element(tag, attrib)
                self._events.append(Opened(self._header))
            return
        if self._depth == 2:
            self._builder = TreeBuilder()
            self._start = self._parser.CurrentByteIndex
            self._elements = 0
        # Of what is skipped as well: expat remembers the names of it.
        self._elements += 1 + len(attrib)
        if self._elements > MAX_ELEMENTS:
            raise self._wrong("a stanza that is too large", "policy-violation")
        if self._builder is not None:
            element = self._builder.start(tag, attrib)
            if self._depth == 2:
                self._root = element

    def _closed(self, name: str) -> None:
        if self._depth == 1:
            self._depth = 0
            self._events.append(Closed())
            return
        if self._depth == 2:
            self._check_size(self._parser.CurrentByteIndex)
        self._depth -= 1
        if self._builder is not None:
            self._builder.end(_clark(name))
        if self._depth == 1:
            self._last_end = self._start = self._parser.CurrentByteIndex
            if self._skipped is not None:
                self._events.append(Oversized(self._skipped))
            elif self._builder is not None:
                element: Any = self._builder.close()
                self._events.append(Stanza(element))
            self._builder = self._skipped = self._root = None

    def _text(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)
        elif self._skipped is not None:
            return
        elif text.strip():
            raise self._wrong("text between stanzas", "invalid-xml")
        else:
            self._start = self._fed

    def _check_size(self, end: int) -> None:
        """Of what began at ``_start`` and goes on at ``end``."""
        size = end - self._start
        if size <= self.max_stanza:
            return
        if self._depth < 2 or size > self.max_skipped:
            raise self._wrong("a stanza that is too large", "policy-violation")
        if self._skipped is None:
            self._skipped = Element(self._root.tag, self._root.attrib)
            self._builder = self._root = None

    def _namespace(self, prefix: str | None, uri: str | None) -> None:
        if self._depth == 0 and self._header is None:
            self._namespaces.append((prefix, uri or ""))

    def _restricted(self, *_: object) -> None:
        raise self._wrong("XML that XMPP does not allow", "restricted-xml")

    def _wrong(self, what: str, condition: str) -> PeerError:
        return PeerError(f"{self._who} sent {what}", condition)

    def _renew(self, data: bytes) -> None:
        """Start expat afresh after the last whole stanza, if one ended in ``data``."""
        before = self._fed - len(data)
        primer = self._primer()
        if self._depth < 1 or self._last_end < max(before, 1) or not primer:
            return
        # expat points after an empty element, and else at the closing tag, which has one ">".
        tail = data[self._last_end - before :]
        if tail.startswith(b"</"):
            _, end, tail = tail.partition(b">")
            if not end:
                return  # of the stream, and not whole
        self._begin()
        self._parser.Parse(primer, False)
        self._start = len(primer)
        self._fed = len(primer) + len(tail)
        # What has begun already begins again; no stanza ends in it.
        self._parser.Parse(tail, False)

    def _primer(self) -> bytes:
        """The stream's opening tag with its prefixes, or nothing if we cannot tell what it was."""
        space, brace, name = (self._header.tag if self._header is not None else "").rpartition("}")
        prefixes = [prefix for prefix, uri in self._namespaces if uri == space[1:]]
        if not brace or len(prefixes) != 1:
            return b""
        declared = "".join(
            f" xmlns{':' + prefix if prefix else ''}='{_quoted(uri)}'"
            for prefix, uri in self._namespaces
        )
        return f"<{prefixes[0] + ':' if prefixes[0] else ''}{name}{declared}>".encode()


def _clark(name: str) -> str:
    return "{" + name if "}" in name else name


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")
