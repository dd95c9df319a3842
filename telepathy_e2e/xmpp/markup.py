"""Elements to bytes, exactly: what we send is what the other side parses.

Both sides of a protected session hash the offer as they saw it, so white space in attributes and
carriage returns have to survive, and no character may be sent that ends our own stream.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

CLIENT = "jabber:client"
_XML = "http://www.w3.org/XML/1998/namespace"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*\Z")
# XML 1.0 section 2.2; a server closes the stream over anything else.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_ATTRIBUTE = {**_TEXT, '"': "&quot;", "\t": "&#9;", "\n": "&#10;"}
_TEXT_TABLE = str.maketrans(_TEXT)
_ATTRIBUTE_TABLE = str.maketrans(_ATTRIBUTE)


def is_sendable(text: str) -> bool:
    """Whether XML can carry this text."""
    return not _ILLEGAL.search(text)


def serialise(element: Element, namespace: str = CLIENT) -> bytes:
    """UTF-8 of an element, without its tail.

    Args:
        element: in Clark notation.
        namespace: the default namespace where it will stand.
    Raises:
        ValueError: a name or a character that XML cannot carry.
    """
    parts: list[str] = []
    _write(parts, element, namespace)
    return "".join(parts).encode("utf-8")


def _write(parts: list[str], element: Element, namespace: str) -> None:
    own, name = _split(element.tag)
    parts.append(f"<{name}")
    if own != namespace:
        parts.append(f' xmlns="{_escaped(own, _ATTRIBUTE_TABLE)}"')
    for number, (key, value) in enumerate(element.attrib.items()):
        space, attribute = _split(key)
        escaped = _escaped(value, _ATTRIBUTE_TABLE)
        if space == _XML:
            attribute = f"xml:{attribute}"
        elif space:
            parts.append(f' xmlns:a{number}="{_escaped(space, _ATTRIBUTE_TABLE)}"')
            attribute = f"a{number}:{attribute}"
        parts.append(f' {attribute}="{escaped}"')
    if not element.text and not len(element):
        parts.append("/>")
        return
    parts.append(">")
    parts.append(_escaped(element.text or "", _TEXT_TABLE))
    for child in element:
        _write(parts, child, own)
        parts.append(_escaped(child.tail or "", _TEXT_TABLE))
    parts.append(f"</{name}>")


def _split(tag: str) -> tuple[str, str]:
    space, brace, name = tag.rpartition("}")
    if not _NAME.match(name) or (brace and not space.startswith("{")):
        raise ValueError("not the name of an element or attribute")
    return space[1:], name


def _escaped(text: str, table: dict[int, str]) -> str:
    if _ILLEGAL.search(text):
        raise ValueError("a character that XML cannot carry")
    return text.translate(table)
