"""``<security/>`` in offer and answer (spec/xtls.md, "Offer and answer")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError, SecurityError

XTLS = "urn:xmpp:jingle:security:xtls:0"

# From the wire format: more than anybody has hashes or methods for.
MAX_FINGERPRINTS = 8
MAX_METHODS = 16

# Names of XEP-0300 section 2. SHA-1 and MD5 are not known on purpose: with a hash in which
# collisions can be made, somebody can prepare two certificates with one fingerprint.
_HASHES: dict[str, Callable[[bytes], bytes]] = {
    "sha-256": lambda data: hashlib.sha256(data).digest(),
    "sha-384": lambda data: hashlib.sha384(data).digest(),
    "sha-512": lambda data: hashlib.sha512(data).digest(),
    "sha3-256": lambda data: hashlib.sha3_256(data).digest(),
    "sha3-512": lambda data: hashlib.sha3_512(data).digest(),
    "blake2b-256": lambda data: hashlib.blake2b(data, digest_size=32).digest(),
    "blake2b-512": lambda data: hashlib.blake2b(data, digest_size=64).digest(),
}

_SIZES = {name: len(compute(b"")) for name, compute in _HASHES.items()}

_HEX = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*", re.ASCII)


@dataclass(frozen=True)
class Fingerprint:
    """A digest of a leaf's DER, as announced in the signalling."""

    hash: str
    """Name of XEP-0300, also one that we do not know."""
    digest: bytes
    """Empty if ``hash`` is not known."""

    @property
    def known(self) -> bool:
        return self.hash in _HASHES


@dataclass(frozen=True)
class SecurityOffer:
    """What one side said in ``<security/>``."""

    fingerprints: tuple[Fingerprint, ...]
    methods: tuple[str, ...]


def digest(name: str, data: bytes) -> bytes:
    """The digest of ``data`` by a hash that we know.

    Raises:
        ValueError: we do not.
    """
    try:
        return _HASHES[name](data)
    except KeyError:
        raise ValueError("not a hash that we know") from None


def shown(digest: bytes) -> str:
    """Upper-case hex with colons, as fingerprints are shown and sent."""
    return digest.hex(":").upper()


def parse_security(element: Element | None) -> SecurityOffer | None:
    """Read a peer's ``<security/>``.

    Returns:
        None if there is no XTLS: no element, one of another namespace, or the dialect of old
        clients whose ``<fingerprint/>`` has no ``hash``.
    Raises:
        SecurityError: no fingerprint by a hash that we know. Acknowledge the stanza, then
            terminate with ``<security-error/>``.
        PeerError: malformed; answer the stanza with it.
    """
    if element is None or element.tag != f"{{{XTLS}}}security":
        return None
    announced = element.findall(f"{{{XTLS}}}fingerprint")
    methods = element.findall(f"{{{XTLS}}}method")
    if len(announced) > MAX_FINGERPRINTS or len(methods) > MAX_METHODS:
        raise PeerError("more fingerprints or methods than anybody has")
    if any(child.get("hash") is None for child in announced):
        return None
    fingerprints = tuple(_fingerprint(child) for child in announced)
    if not any(fingerprint.known for fingerprint in fingerprints):
        raise SecurityError("no fingerprint by a hash that we know")
    return SecurityOffer(fingerprints, tuple(child.get("name", "") for child in methods))


def build_security(leaf: bytes, hashes: Sequence[str] = ("sha-256",)) -> Element:
    """``<security/>`` for our own leaf.

    Args:
        leaf: DER of the certificate that will be shown in TLS.
        hashes: names that we know, a fingerprint for each.
    """
    security = Element(f"{{{XTLS}}}security")
    for name in hashes:
        fingerprint = SubElement(security, f"{{{XTLS}}}fingerprint", {"hash": name})
        fingerprint.text = shown(digest(name, leaf))
    SubElement(security, f"{{{XTLS}}}method", {"name": "x509"})
    return security


def _fingerprint(element: Element) -> Fingerprint:
    name = element.get("hash", "")
    if name not in _HASHES:
        return Fingerprint(name, b"")
    text = (element.text or "").strip()
    # Two digits and a colon a byte: the length is known before anything is matched.
    if len(text) != 3 * _SIZES[name] - 1 or not _HEX.fullmatch(text):
        raise PeerError("a fingerprint that is none")
    return Fingerprint(name, bytes.fromhex(text.replace(":", "")))
