"""Sealed messages: AES-256-GCM inside security-info stanzas (spec/xtls.md, "Sealed messages").

A ``Sealer`` for what this side sends, an ``Opener`` for what the other sends; each belongs to one
direction of one epoch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.events import V
from telepathy_e2e.xtls.encoding import decode, encode, from_xml, lv, lv_text, to_xml

SEALED = f"{{{V}}}sealed"

# From the wire format: lengths tell nothing finer than a kilobyte, and a message stays far below
# what servers let a stanza have.
PADDING = 1024
MAX_PLAINTEXT = 64 * 1024

_TAG_SIZE = 16
_NONCE_SIZE = 12

# Canonical decimal numbers. 18 digits are more messages than anybody will send, and fit the nonce
# many times over; a number longer than that is not even converted.
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,17})", re.ASCII)


@dataclass(frozen=True)
class SealedMessage:
    """A ``<sealed/>`` as it came, not opened yet; small enough to be kept."""

    epoch: int
    n: int
    data: bytes = field(repr=False)
    """Ciphertext and tag."""


def parse_sealed(element: Element) -> SealedMessage:
    """Read the outside.

    Raises:
        PeerError: not a ``<sealed/>``, a number that is none, not base64, or too long.
    """
    if element.tag != SEALED or len(element):
        raise PeerError("not a sealed message")
    data = decode(element.text, MAX_PLAINTEXT + _TAG_SIZE)
    return SealedMessage(_number(element.get("epoch")), _number(element.get("n")), data)


class Sealer:
    """Seals what ``role`` sends, in order.

    Args:
        key: KI or KR, whichever is of ``role``; 32 bytes.
        sid: of the Jingle session.
        role: the sender's, that is ours.
        epoch: number of the TLS or DTLS association in the session.
    """

    def __init__(self, key: bytes, sid: str, role: Role, epoch: int = 0) -> None:
        self._cipher = AESGCM(key)
        self._additional = _additional_data(sid, role, epoch)
        self._epoch = epoch
        self._next = 0

    def seal(self, element: Element) -> Element:
        """``<sealed/>`` around one element in V, with the next number.

        Raises:
            ValueError: longer than ``MAX_PLAINTEXT``.
        """
        plaintext = to_xml(element)
        plaintext += b" " * (-len(plaintext) % PADDING)
        if len(plaintext) > MAX_PLAINTEXT:
            raise ValueError("too long for a sealed message")
        n = self._next
        # Counted before it is used: a nonce must never serve twice, whatever happens next.
        self._next += 1
        sealed = Element(SEALED, {"epoch": str(self._epoch), "n": str(n)})
        sealed.text = encode(self._cipher.encrypt(_nonce(n), plaintext, self._additional))
        return sealed


class Opener:
    """Opens what the other side sends, and insists on the order.

    Args: as for ``Sealer``; ``role`` is the sender's, that is the other's. With our own role and
        key instead, messages could be reflected to us.
    """

    def __init__(self, key: bytes, sid: str, role: Role, epoch: int = 0) -> None:
        self._cipher = AESGCM(key)
        self._additional = _additional_data(sid, role, epoch)
        self._epoch = epoch
        self._expected = 0

    def open(self, message: SealedMessage) -> Element:
        """The element inside, which is authentic, the next in order and in V.

        Raises:
            PeerError: a repeat, a gap, a bad tag, a wrong length, or not one element in V. After
                an authentic message that left a gap the one after it is expected; after a repeat
                or a bad tag the expectation stands.
        """
        size = len(message.data) - _TAG_SIZE
        if not 0 < size <= MAX_PLAINTEXT or size % PADDING:
            raise PeerError("a sealed message of an impossible length")
        if message.epoch != self._epoch:
            raise PeerError("a sealed message of another epoch")
        if message.n < self._expected:
            raise PeerError("a sealed message that came before")
        try:
            plaintext = self._cipher.decrypt(_nonce(message.n), message.data, self._additional)
        except InvalidTag:
            raise PeerError("a sealed message that is not authentic") from None
        gap = message.n > self._expected
        self._expected = message.n + 1
        if gap:
            raise PeerError("a sealed message after one that is missing")
        element = from_xml(plaintext)
        if not element.tag.startswith(f"{{{V}}}"):
            raise PeerError("a sealed message with an element of another namespace")
        return element


def _number(text: str | None) -> int:
    if text is None or not _NUMBER.fullmatch(text):
        raise PeerError("a sealed message without a proper number")
    return int(text)


def _nonce(n: int) -> bytes:
    return n.to_bytes(_NONCE_SIZE, "big")


def _additional_data(sid: str, role: Role, epoch: int) -> bytes:
    return lv_text(sid) + lv_text(role.value) + lv(epoch.to_bytes(4, "big"))
