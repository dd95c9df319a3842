"""What was offered and accepted, as bytes that do not depend on how XML was written.

Servers may rewrite prefixes and quotes of a stanza; they must not be able to change anything that
means something without changing the digest (spec/xtls.md, "hello").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.xtls.encoding import lv, lv_text

DIGEST_SIZE = 32

_OPEN, _TEXT, _CLOSE = b"\x01", b"\x02", b"\x03"


class Content(Protocol):
    """What ``offer_digest`` needs of ``jingle.stanzas.Content``."""

    @property
    def creator(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def senders(self) -> str | None: ...
    @property
    def description(self) -> Element | None: ...
    @property
    def security(self) -> Element | None: ...


def canonical(element: Element | None) -> bytes:
    """``C(element)``; empty for None. Without recursion: a peer chooses how deep elements nest."""
    if element is None:
        return b""
    out = bytearray(_start(element))
    stack: list[tuple[Element, Iterator[Element], list[str]]] = [
        (element, iter(element), [element.text or ""])
    ]
    while stack:
        current, children, text = stack[-1]
        for child in children:
            if not isinstance(child.tag, str):
                # A comment: the text around it is one text.
                text.append(child.tail or "")
                continue
            out += _text(text)
            out += _start(child)
            stack.append((child, iter(child), [child.text or ""]))
            break
        else:
            out += _text(text)
            out += _CLOSE
            stack.pop()
            if stack:
                stack[-1][2][:] = [current.tail or ""]
    return bytes(out)


def offer_digest(contents: Sequence[Content]) -> bytes:
    """SHA-256 over the contents of an offer or an answer, in the order of the offer.

    The transport is left out: it may be replaced on the way, and TLS does not care for it.
    """
    digest = hashlib.sha256()
    for content in contents:
        digest.update(lv_text(content.creator))
        digest.update(lv_text(content.name))
        digest.update(lv_text("both" if content.senders is None else content.senders))
        digest.update(lv(canonical(content.description)))
        digest.update(lv(canonical(content.security)))
    return digest.digest()


def _start(element: Element) -> bytes:
    attributes = sorted(_name(key) + lv_text(value) for key, value in element.attrib.items())
    count = len(attributes).to_bytes(4, "big")
    return b"".join((_OPEN, _name(element.tag), count, *attributes))


def _name(clark: str) -> bytes:
    if clark.startswith("{"):
        namespace, _, local = clark[1:].rpartition("}")
        return lv_text(namespace) + lv_text(local)
    return lv_text("") + lv_text(clark)


def _text(parts: list[str]) -> bytes:
    text = "".join(parts)
    return _TEXT + lv_text(text) if text else b""
