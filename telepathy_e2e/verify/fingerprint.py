"""Comparing identity fingerprints by eye or by scanner (design, section 5, ``fingerprint``).

Shown is ``72:72:DF:…``; what people type or paste back may have blanks, dashes or no separators.
"""

from __future__ import annotations

import hmac

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.verify.events import Outcome

DIGEST_SIZE = 32

# 64 digits with a separator after each, and room for line breaks of a pasted text.
MAX_TEXT = 256

_SEPARATORS = str.maketrans("", "", ": -\t\r\n")


def parse(text: str) -> bytes:
    """A SHA-256 fingerprint as somebody typed it: the whole, never a part of it.

    Returns:
        32 bytes.
    Raises:
        InvalidArgument: it is not 64 hexadecimal digits.
    """
    digits = text[: MAX_TEXT + 1].translate(_SEPARATORS)
    # A prefix would be compared in good faith and found by trial: 2^32 keys for 8 digits.
    if len(text) > MAX_TEXT or len(digits) != 2 * DIGEST_SIZE or not digits.isascii():
        raise InvalidArgument("A fingerprint has 64 hexadecimal digits; compare all of them")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise InvalidArgument("A fingerprint consists of hexadecimal digits") from None


def compare(entered: bytes, peer_fingerprint: bytes) -> Outcome:
    """What it means that the contact showed ``entered`` by another way.

    Args:
        entered: from ``parse``, or from a scanned URI.
        peer_fingerprint: the identity fingerprint of this session, 32 bytes.
    Returns:
        ``VERIFIED`` or ``REJECTED``.
    """
    same = len(entered) == DIGEST_SIZE and hmac.compare_digest(entered, peer_fingerprint)
    return Outcome.VERIFIED if same else Outcome.REJECTED


def compare_scanned(jid: str, entered: bytes, peer: str, peer_fingerprint: bytes) -> Outcome:
    """The same for a scanned URI.

    Args:
        jid: the bare JID in the URI, normalised.
        peer: the contact's bare JID, normalised.
    Raises:
        InvalidArgument: it is somebody else's code, which says nothing about this contact.
    """
    if jid != peer:
        raise InvalidArgument("This code belongs to another contact")
    return compare(entered, peer_fingerprint)
