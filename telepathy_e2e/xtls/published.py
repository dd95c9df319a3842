"""An identity that its owner publishes (spec/identity-node.md): building, reading, judging.

Reading is cheap and brings in no cryptography, so that it can be done for everybody who publishes;
judging is done when somebody wants to know.
"""

from __future__ import annotations

import hashlib
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
