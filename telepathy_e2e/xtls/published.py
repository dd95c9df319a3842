"""An identity that its owner publishes (spec/identity-node.md): building, reading, judging.

Reading is cheap and brings in no cryptography, so that it can be done for everybody who publishes;
judging is done when somebody wants to know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xtls.encoding import MAX_CERTIFICATE, decode, encode
from telepathy_e2e.xtls.hello import (
    Attestation,
    add_attestations,
    check_attestations,
    read_attestations,
)

# The node of personal eventing, and the namespace of what is in it.
NODE: Final = "urn:x-telepathy-e2e:identity:0"

PUBKEY: Final = f"{{{NODE}}}pubkey"

# Identities of one account: one for each device that he uses, and some that he used once.
MAX_IDENTITIES: Final = 16

# What one device tells another of all of them, over a protected stream (spec/xml-streams.md).
IDENTITIES: Final = f"{{{NODE}}}identities"

# Bytes of certificates and of what is said of them, in one answer: as base64, with the words
# around, it fits into a stanza of a stream between two clients (256 KiB).
MAX_TOLD: Final = 160 * 1024

_IDENTITY: Final = f"{{{NODE}}}identity"
_ATTESTATION: Final = f"{{{NODE}}}attestation"


@dataclass(frozen=True)
class Published:
    """One item of the node, not judged."""

    identity: bytes = field(repr=False)
    """DER of an identity certificate, which is all the proof that there is."""
    attestations: tuple[Attestation, ...] = ()


def item_id(identity: bytes) -> str:
    """The id of the item with this certificate (DER); for readers it means nothing."""
    return hashlib.sha256(identity).hexdigest()


def build_published(published: Published) -> Element:
    """The payload of an item.

    Raises:
        PeerError: more than the bounds allow.
    """
    if len(published.identity) > MAX_CERTIFICATE:
        raise PeerError("a certificate that is too long")
    check_attestations(published.attestations)
    element = Element(PUBKEY)
    SubElement(element, _IDENTITY).text = encode(published.identity)
    add_attestations(element, _ATTESTATION, published.attestations)
    return element


def parse_published(element: Element) -> Published:
    """The payload of an item, as somebody wrote it; elements that we do not know are left alone.

    Raises:
        PeerError: not of the form, or beyond the bounds.
    """
    if element.tag != PUBKEY:
        raise PeerError("something else than an identity")
    found = element.findall(_IDENTITY)
    # Of two, one could be checked and the other used.
    if len(found) != 1:
        raise PeerError("not exactly one <identity/>")
    return Published(
        decode(found[0].text, MAX_CERTIFICATE),
        read_attestations(element.findall(_ATTESTATION)),
    )


def build_identities(known: Iterable[Published]) -> Element:
    """The answer to ``<identities/>``: as many of these as fit, the first first.

    Raises:
        PeerError: one of them is beyond the bounds of an item.
    """
    element = Element(IDENTITIES)
    room = MAX_TOLD
    for each in list(known)[:MAX_IDENTITIES]:
        # A certificate is worth more than what others say of it.
        for published in (each, Published(each.identity)):
            if _size(published) <= room:
                room -= _size(published)
                element.append(build_published(published))
                break
    return element


def _size(published: Published) -> int:
    said = sum(len(each.data) + 6 * len(each.summary) + 100 for each in published.attestations)
    return len(published.identity) + said + 100


def parse_identities(element: Element | None) -> list[Published]:
    """The opposite, as a peer wrote it; what is no identity is left out.

    Raises:
        PeerError: not an answer.
    """
    if element is None or element.tag != IDENTITIES:
        raise PeerError("something else than identities")
    found = []
    for child in list(element)[:MAX_IDENTITIES]:
        with suppress(PeerError):
            found.append(parse_published(child))
    return found


def check_published(identity: bytes, bare_jid: str, wall: datetime) -> bytes:
    """That a certificate is one for this JID, signed by its own key.

    Whoever can write to the node can put a key of his own there, the server first of all: what
    passes is a claim, which makes nobody verified.

    Args:
        identity: DER.
        bare_jid: whose node it is, normalised.
        wall: now, aware.
    Returns:
        The identity fingerprint, 32 bytes.
    Raises:
        SecurityError: anything but the form in the wire format.
    """
    from telepathy_e2e.xtls.identity import check_identity_alone  # late: cryptography is big

    return check_identity_alone(identity, bare_jid, wall)
