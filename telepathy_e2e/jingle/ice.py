"""ICE as a Jingle transport (XEP-0176) with the fingerprints of DTLS-SRTP (XEP-0320)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError, SecurityError

from .reading import decimal, identifier

ICE_NS: Final = "urn:xmpp:jingle:transports:ice-udp:1"
DTLS_NS: Final = "urn:xmpp:jingle:apps:dtls:0"
TRANSPORT: Final = f"{{{ICE_NS}}}transport"
CANDIDATE: Final = f"{{{ICE_NS}}}candidate"
FINGERPRINT: Final = f"{{{DTLS_NS}}}fingerprint"
_COMPLETE: Final = f"{{{ICE_NS}}}gathering-complete"

# Of one stanza; further ones are dropped. A machine with many networks has some twenty, twice that
# with TCP. Each is a place that we send packets to because the peer said so.
MAX_CANDIDATES: Final = 64

# Nobody who means well sends as many.
MAX_REFUSED: Final = 1000

# One per hash function; libraries send one or two.
MAX_FINGERPRINTS: Final = 16

# Bytes: twice the longest digest of any hash function in use.
MAX_DIGEST: Final = 128

# RFC 8839 section 5.1: a foundation has up to 32 characters, a component up to three digits.
MAX_FOUNDATION: Final = 32
MAX_COMPONENT: Final = 256

# RFC 8445 section 5.1.2 ends at 2^31 - 1; clients that count otherwise use the 32nd bit.
MAX_PRIORITY: Final = 2**32 - 1

# XEP-0176, schema: an unsigned byte.
MAX_GENERATION: Final = 255

# RFC 1035 section 2.3.4; names of mDNS candidates are 36 characters and ".local".
_MAX_HOST: Final = 253

TYPES: Final = frozenset(("host", "prflx", "relay", "srflx"))
SETUPS: Final = frozenset(("actpass", "active", "holdconn", "passive"))

# RFC 8839 section 5.4.
_UFRAG: Final = re.compile(r"[A-Za-z0-9+/]{4,256}\Z")
_PWD: Final = re.compile(r"[A-Za-z0-9+/]{22,256}\Z")
_MDNS: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.local\Z")
_HASH: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*\Z")

# Bytes. A digest of another length fits no certificate (RFC 8122 section 5).
_DIGEST_SIZES: Final = {
    "md5": 16,
    "sha-1": 20,
    "sha-224": 28,
    "sha-256": 32,
    "sha-384": 48,
    "sha-512": 64,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address where one side can perhaps be reached (RFC 8445 section 5.1)."""

    component: int
    """1: RTP, and RTCP with it; 2: RTCP alone."""
    foundation: str
    generation: int
    id: str
    """Empty where the peer gives none."""
    ip: str
    """IPv4 or IPv6 address, or a name of mDNS (``*.local``)."""
    port: int
    priority: int
    protocol: str
    """``udp`` or ``tcp``; others parse too."""
    type: str
    """One of ``TYPES``."""
    related_address: str | None = None
    related_port: int | None = None
    network: int = 0
    tcptype: str | None = None
    """``active``, ``passive`` or ``so`` (RFC 6544)."""


@dataclass(frozen=True, slots=True)
class DtlsFingerprint:
    """Which certificate the peer is going to show (RFC 8122)."""

    hash: str
    """Name of the hash function, such as ``sha-256``; may be one that we do not have."""
    digest: bytes
    """Of the certificate in DER."""
    setup: str | None
    """Of ``SETUPS``; None where it is missing, and then there is no role (``dtls_role``)."""


@dataclass(frozen=True, slots=True)
class Transport:
    """One ``<transport/>``."""

    ufrag: str
    """Empty where it is missing, as in news of a transport that is known already."""
    pwd: str = field(repr=False)
    """Empty where it is missing; an offer and an answer have both (``has_credentials``)."""
    candidates: tuple[Candidate, ...] = ()
    """Usable ones only."""
    fingerprints: tuple[DtlsFingerprint, ...] = ()
    """Empty: the peer offers no DTLS in this stanza."""
    gathering_complete: bool = False
    """No more candidates are to come."""

    @property
    def has_credentials(self) -> bool:
        """Whether connectivity checks can be made with it."""
        return bool(self.ufrag and self.pwd)


def is_ice(element: Element | None) -> bool:
    """Whether it is a transport of XEP-0176."""
    return element is not None and element.tag == TRANSPORT


def parse(element: Element | None) -> Transport:
    """Read a ``<transport/>``; candidates that nobody could send to are left out.

    Raises:
        PeerError: malformed.
        SecurityError: a fingerprint that is none, or whose roles in the handshake make no sense.
    """
    if element is None or element.tag != TRANSPORT:
        raise PeerError("not an ICE transport")
    found = [child for child in element if child.tag == CANDIDATE]
    if len(found) > MAX_REFUSED:
        raise PeerError("too many candidates")
    candidates = [candidate for child in found[:MAX_CANDIDATES] if (candidate := _candidate(child))]
    prints = [child for child in element if child.tag == FINGERPRINT]
    if len(prints) > MAX_FINGERPRINTS:
        raise PeerError("too many fingerprints")
    fingerprints = tuple(_fingerprint(child) for child in prints)
    if len({each.setup for each in fingerprints}) > 1:
        raise SecurityError("fingerprints with different setups")
    return Transport(
        ufrag=_credential(element.get("ufrag"), _UFRAG, "ufrag"),
        pwd=_credential(element.get("pwd"), _PWD, "pwd"),
        candidates=tuple(candidates),
        fingerprints=fingerprints,
        gathering_complete=element.find(_COMPLETE) is not None,
    )


def build(transport: Transport) -> Element:
    """The ``<transport/>`` to send."""
    element = Element(TRANSPORT)
    for name, value in (("ufrag", transport.ufrag), ("pwd", transport.pwd)):
        if value:
            element.set(name, value)
    for each in transport.fingerprints:
        child = SubElement(element, FINGERPRINT, {"hash": each.hash})
        if each.setup is not None:
            child.set("setup", each.setup)
        child.text = each.digest.hex(":").upper()
    for candidate in transport.candidates:
        element.append(_build_candidate(candidate))
    if transport.gathering_complete:
        SubElement(element, _COMPLETE)
    return element


def answer_setup(offered: str | None) -> str:
    """What to answer to the setup of an offer (RFC 8842 section 5.3: ``active`` to ``actpass``).

    Raises:
        SecurityError: no setup to answer to.
    """
    if offered in ("actpass", "passive"):
        return "active"
    if offered == "active":
        return "passive"
    raise SecurityError("the offer of DTLS names no role that can be taken")


def dtls_role(own: str | None, peer: str | None) -> Literal["client", "server"]:
    """Who we are in the handshake (RFC 5763 section 5).

    Args:
        own, peer: the setups of the offer and of its answer, whoever made which.
    Raises:
        SecurityError: missing, ``holdconn``, or both sides want the same. A handshake between
            two clients would never begin; who takes that for a fault of the network may be
            talked into doing without.
    """
    if own == "active" and peer in ("actpass", "passive"):
        return "client"
    if own == "passive" and peer in ("actpass", "active"):
        return "server"
    if own == "actpass" and peer == "active":
        return "server"
    if own == "actpass" and peer == "passive":
        return "client"
    raise SecurityError("the two sides' roles in the handshake do not fit")


def is_mdns(host: str) -> bool:
    """Whether it is a name that only its own network can resolve."""
    return _MDNS.match(host.lower()) is not None


def _candidate(element: Element) -> Candidate | None:
    """None: cannot be used, as an unknown type or a name of DNS (RFC 8839 section 5.1)."""
    related = element.get("rel-addr")
    related_port = element.get("rel-port")
    id_ = element.get("id")
    tcptype = element.get("tcptype")
    ip = identifier(element.get("ip"), "ip", _MAX_HOST)
    candidate = Candidate(
        component=decimal(element.get("component"), "component", minimum=1, maximum=MAX_COMPONENT),
        foundation=identifier(element.get("foundation"), "foundation", MAX_FOUNDATION),
        generation=_number(element, "generation", MAX_GENERATION),
        id=identifier(id_, "id of a candidate") if id_ else "",
        ip=ip,
        port=decimal(element.get("port"), "port", maximum=65535),
        priority=decimal(element.get("priority"), "priority", maximum=MAX_PRIORITY),
        protocol=identifier(element.get("protocol"), "protocol", 16).lower(),
        type=identifier(element.get("type"), "type of a candidate", 16),
        # Only for those who look for faults, so a wrong one makes no candidate wrong.
        related_address=related if related and _is_host(related, any_=True) else None,
        related_port=(decimal(related_port, "rel-port", maximum=65535) if related_port else None),
        network=_number(element, "network", 2**32 - 1),
        tcptype=identifier(tcptype, "tcptype", 16) if tcptype else None,
    )
    usable = candidate.port and candidate.type in TYPES and _is_host(ip)
    return candidate if usable else None


def _number(element: Element, name: str, maximum: int) -> int:
    return decimal(element.get(name, "0"), name, maximum=maximum)


def _is_host(host: str, *, any_: bool = False) -> bool:
    """Whether it is the address of one machine, or a name of mDNS.

    Other names are not resolved: a peer could have us ask name servers of its choice.

    Args:
        any_: ``0.0.0.0`` and ``::`` too, which browsers give to hide an address.
    """
    if is_mdns(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False  # an interface of the peer's machine
        address = address.ipv4_mapped or address
    if address.is_unspecified:
        return any_
    return not address.is_multicast and address != ipaddress.IPv4Address("255.255.255.255")


def _fingerprint(element: Element) -> DtlsFingerprint:
    hash_ = (element.get("hash") or "").lower()
    text = (element.text or "").strip()
    if not _HASH.match(hash_):
        raise SecurityError("a fingerprint without the name of a hash function")
    # Three characters a byte.
    if len(text) > 3 * MAX_DIGEST or not _DIGEST.match(text):
        raise SecurityError("a fingerprint that is none")
    digest = bytes.fromhex(text.replace(":", ""))
    if len(digest) != _DIGEST_SIZES.get(hash_, len(digest)):
        raise SecurityError("a fingerprint that is too long or too short")
    setup = element.get("setup")
    if setup is not None and setup not in SETUPS:
        raise SecurityError("setup has an undefined value")
    return DtlsFingerprint(hash_, digest, setup)


def _credential(value: str | None, form: re.Pattern[str], what: str) -> str:
    if value is None:
        return ""
    if not form.match(value):
        raise PeerError(f"{what} is not as RFC 8839 has it")
    return value


def _build_candidate(candidate: Candidate) -> Element:
    element = Element(
        CANDIDATE,
        {
            "component": str(candidate.component),
            "foundation": candidate.foundation,
            "generation": str(candidate.generation),
            "ip": candidate.ip,
            "network": str(candidate.network),
            "port": str(candidate.port),
            "priority": str(candidate.priority),
            "protocol": candidate.protocol,
            "type": candidate.type,
        },
    )
    optional = (
        ("id", candidate.id or None),
        ("rel-addr", candidate.related_address),
        ("rel-port", candidate.related_port),
        ("tcptype", candidate.tcptype),
    )
    for name, value in optional:
        if value is not None:
            element.set(name, str(value))
    return element
