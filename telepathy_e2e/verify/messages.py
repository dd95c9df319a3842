"""Elements of V: reading them strictly, writing them (xtls-wire, section 5)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from enum import StrEnum
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.verify import pake, sas
from telepathy_e2e.verify.events import PeerVerdict, V

# Ids are kept for the life of the epoch; a UUID has 36 characters, so 64 is generous.
MAX_ID = 64
# The longest method we know has eleven characters; the word is shown to people.
MAX_METHOD = 32

_VERDICTS = ("verified", "unverified", "rejected")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}  # XML Schema part 2, 3.2.2


class CancelReason(StrEnum):
    """Why a ceremony was cancelled; the value is the word on the wire."""

    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - the word for it, not one
    REFUSED = "refused"
    BUSY = "busy"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """One message of a ceremony, read whole: what can be wrong with it is known to be right."""

    name: str
    """The tag, also one that we do not know."""
    id: str | None
    """None only for a tag that we do not know."""
    content: bytes = field(default=b"", repr=False)
    tag: bytes = field(default=b"", repr=False)
    """The confirmation tag of ``pake-reply`` and ``pake-confirm``, 64 bytes."""
    known_suite: bool = True
    """Whether a ``pake-start`` is in the suite that we know; else its content was not looked at."""
    match: bool = False
    reason: CancelReason = CancelReason.ERROR


# Size of the content in bytes.
_CONTENT = {
    "sas-commit": sas.COMMITMENT_SIZE,
    "sas-nonce": sas.NONCE_SIZE,
    "sas-reveal": sas.NONCE_SIZE,
    "sas-result": None,
    "pake-start": pake.SHARE_SIZE,
    "pake-reply": pake.SHARE_SIZE,
    "pake-confirm": pake.TAG_SIZE,
    "cancel": None,
}


def parse(element: Element) -> Message | PeerVerdict:
    """Read an element in V.

    Raises:
        PeerError: another namespace, an id that is missing or longer than ``MAX_ID``, content
            that is not base64 of the right size, a result that is neither true nor false, a
            verdict that is none.
    """
    namespace, brace, name = element.tag.rpartition("}")
    if not brace or namespace != "{" + V:
        raise PeerError("an element of another namespace in a sealed message")
    if name == "hello":
        raise PeerError("a second hello", "unexpected-request")
    if name == "verdict":
        return _verdict(element)
    ceremony = element.get("id")
    if ceremony is None and name not in _CONTENT:
        return Message(name, None)
    if ceremony is None or not 0 < len(ceremony) <= MAX_ID:
        raise PeerError("a verification message without a proper id")
    # Shares of a suite that we do not know have a length that we do not know.
    known_suite = name != "pake-start" or element.get("suite") == pake.SUITE
    size = _CONTENT.get(name) if known_suite else None
    content = b"" if size is None else _content(element, size)
    return Message(
        name,
        ceremony,
        content,
        _tag(name, element, content),
        known_suite,
        name == "sas-result" and _match(element),
        _reason(element),
    )


def _tag(name: str, element: Element, content: bytes) -> bytes:
    if name == "pake-confirm":
        return content
    return _octets(element.get("tag", ""), pake.TAG_SIZE) if name == "pake-reply" else b""


def _content(element: Element, size: int) -> bytes:
    if len(element):
        raise PeerError("a verification message with elements inside")
    return _octets(element.text or "", size)


def _octets(text: str, size: int) -> bytes:
    # Length first: nothing is decoded, however long, that cannot be right.
    if len(text) != 4 * ((size + 2) // 3):
        raise PeerError("a verification message with content of the wrong length")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise PeerError("a verification message that is not base64") from error
    if len(data) != size:
        raise PeerError("a verification message with content of the wrong length")
    return data


def _match(element: Element) -> bool:
    try:
        return _BOOLEANS[element.get("match", "")]
    except KeyError:
        raise PeerError("a result that is neither true nor false") from None


def _reason(element: Element) -> CancelReason:
    """A word that we do not know counts as ``error``: it ends the ceremony all the same."""
    try:
        return CancelReason(element.get("reason", ""))
    except ValueError:
        return CancelReason.ERROR


def _verdict(element: Element) -> PeerVerdict:
    value, method = element.get("value", ""), element.get("method", "")
    if value not in _VERDICTS:
        raise PeerError("a verdict that is none")
    if method and not is_method(method):
        raise PeerError("a verdict with an improper method")
    return PeerVerdict(value, method)


def is_method(word: str) -> bool:
    """Whether this can be the name of a method: lower-case letters, digits and dashes."""
    return 0 < len(word) <= MAX_METHOD and all(
        c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in word
    )


def build(name: str, ceremony: str, content: bytes | None = None, **attributes: str) -> Element:
    """An element of a ceremony; ``content`` goes in as base64."""
    element = Element(f"{{{V}}}{name}", {"id": ceremony, **attributes})
    if content is not None:
        element.text = base64.b64encode(content).decode()
    return element


def build_reply(ceremony: str, share: bytes, tag: bytes) -> Element:
    """``<pake-reply/>``: our share, and the tag that shows that we know the password."""
    return build("pake-reply", ceremony, share, tag=base64.b64encode(tag).decode())


def build_cancel(ceremony: str, reason: CancelReason) -> Element:
    return build("cancel", ceremony, reason=reason.value)


def build_verdict(value: str, method: str) -> Element:
    """``<verdict/>``, for ``Protection.tell_verdict``.

    Raises:
        ValueError: not a verdict, or not a method.
    """
    if value not in _VERDICTS or (method and not is_method(method)):
        raise ValueError("not a verdict")
    return Element(f"{{{V}}}verdict", {"value": value, "method": method})
