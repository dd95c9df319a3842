"""Bytes, base64 and XML as the wire format has them (spec/xtls.md, "Notation").

Everything here that reads is given what a peer wrote.
"""

from __future__ import annotations

import base64
import re
from xml.etree.ElementTree import Element, ParseError, XMLParser, tostring

from telepathy_e2e.errors import PeerError

# Bytes of a certificate (DER). Ours have about 400, most of what varies is a JID of up to 3,071.
# Bounds what is decoded and parsed.
MAX_CERTIFICATE = 8 * 1024

# RFC 6120 section 11.1 keeps comments, processing instructions and document types out of XMPP, and
# without a document type there are no entities: nothing can grow while it is parsed, and nothing
# can be fetched. The parser is never shown such a thing.
_FORBIDDEN_XML = re.compile(rb"<\?|<!(?!\[CDATA\[)")


def lv(data: bytes) -> bytes:
    """``LV(x)``: the length as 4 bytes big-endian, then the bytes."""
    return len(data).to_bytes(4, "big") + data


def lv_text(text: str) -> bytes:
    """``LV`` of a string in UTF-8."""
    return lv(text.encode())


def encode(data: bytes) -> str:
    """Base64 with padding and without line breaks (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str | None, limit: int) -> bytes:
    """The opposite of ``encode``.

    Args:
        text: what the peer wrote.
        limit: most bytes that may come out of it; longer text is refused before it is decoded.
    Raises:
        PeerError: not base64, or too long.
    """
    text = text or ""
    if len(text) > 4 * ((limit + 2) // 3):
        raise PeerError("base64 that is too long")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise PeerError("something that is not base64") from None
    if len(data) > limit:
        raise PeerError("base64 that is too long")
    return data


def to_xml(element: Element) -> bytes:
    """One element, UTF-8, without declaration."""
    return tostring(element, encoding="unicode").encode()


def from_xml(data: bytes) -> Element:
    """Parse one element a peer wrote; the caller has bounded its length.

    Raises:
        PeerError: not UTF-8, not well-formed, or with a comment, a processing instruction or a
            document type (RFC 6120 section 11.1).
    """
    # In another encoding the search would be blind, and a document type with entities come through.
    # XML has no zeros (XML 1.0, section 2.2), but in UTF-16 every "<" has one; and expat takes that
    # for UTF-16 whatever it was told.
    if b"\0" in data:
        raise PeerError("XML that is not UTF-8")
    if _FORBIDDEN_XML.search(data):
        raise PeerError("XML with constructs that XMPP forbids")
    try:
        # As text, so that what it declares as its encoding counts for nothing.
        parser = XMLParser()  # noqa: S314 - what makes it dangerous was refused above
        parser.feed(data.decode())
        root: Element = parser.close()
    except (UnicodeDecodeError, ParseError):
        raise PeerError("XML that is not well-formed") from None
    return root
