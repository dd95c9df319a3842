"""Taking apart what a peer wrote: each helper returns a checked value or raises ``PeerError``.

Texts of errors name the field and never repeat its content: a peer's words stay out of our logs.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from unicodedata import category
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError

# XEP-0166 asks for an Nmtoken; clients send UUIDs, SIP Call-IDs and 32 random characters. Four
# times the longest seen, because identifiers are keys of tables and words in log lines.
MAX_IDENTIFIER: Final = 256

# RFC 7622 section 3.1: three parts of 1,023 octets, "@" and "/".
MAX_JID: Final = 3071

# Twenty digits hold every 64-bit number; int() of a longer text would be work that a peer gave us.
_DECIMAL: Final = re.compile(r"[0-9]{1,20}\Z")
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# What turns a line of text around, so that "gpj.exe" reads as "exe.jpg" (Unicode UAX #9).
BIDI_CONTROLS: Final = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def local_name(element: Element) -> str:
    """The tag without its namespace; empty for comments and processing instructions."""
    tag: object = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def namespace(element: Element) -> str:
    """The namespace of the tag, or the empty string."""
    tag: object = element.tag
    if not isinstance(tag, str) or not tag.startswith("{"):
        return ""
    return tag[1:].partition("}")[0]


def single(parent: Element, tag: str, what: str) -> Element | None:
    """The only child of this name, None without one. Raises: PeerError when it is doubled."""
    found = [child for child in parent if child.tag == tag]
    if len(found) > 1:
        # Two parsers that read different ones of a pair would see different offers.
        raise PeerError(f"{what} is doubled")
    return found[0] if found else None


def identifier(value: str | None, what: str, maximum: int = MAX_IDENTIFIER) -> str:
    """A name for machines: not empty, bounded, nothing invisible or moving in it."""
    if not value or len(value) > maximum or not value.isprintable():
        raise PeerError(f"{what} is missing, too long or not printable")
    return value


def session_id(value: str | None, what: str = "sid") -> str:
    """An ``identifier`` without spaces."""
    value = identifier(value, what)
    if " " in value:
        raise PeerError(f"{what} contains a space")
    return value


def decimal(value: str | None, what: str, *, minimum: int = 0, maximum: int) -> int:
    """An ASCII decimal number between ``minimum`` and ``maximum``, both included; no sign."""
    if value is None or not _DECIMAL.match(value):
        raise PeerError(f"{what} is not a decimal number")
    number = int(value)
    if not minimum <= number <= maximum:
        raise PeerError(f"{what} is out of range")
    return number


def base64_bytes(value: str | None, what: str) -> bytes:
    """Base64 of RFC 4648 section 4 with exact padding, no line breaks and zero padding bits.

    Each value has one spelling only: others are a covert channel (XEP-0047 section 7).
    """
    text = value or ""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PeerError(f"{what} is not base64") from None
    if base64.b64encode(decoded).decode("ascii") != text:
        raise PeerError(f"{what} is not canonical base64")
    return decoded


def is_unsafe(char: str) -> bool:
    """Whether a character could break or turn around the line in which it is shown."""
    return char in BIDI_CONTROLS or category(char) in ("Cc", "Cs", "Zl", "Zp")


def readable(value: str | None, maximum: int) -> str:
    """A peer's words for people: one line, cut to ``maximum`` characters."""
    cut = (value or "")[:maximum]
    return "".join(" " if is_unsafe(char) else char for char in cut).strip()


def xml_text(value: str) -> str:
    """Our own text for an element: one forbidden character would end the stream to the server."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value)
