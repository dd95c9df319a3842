"""SOCKS5 candidates and the ``<transport/>`` that carries them (XEP-0260, XEP-0065)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha1
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError

from .reading import MAX_JID, decimal, identifier, session_id, single

S5B_NS: Final = "urn:xmpp:jingle:transports:s5b:1"
TRANSPORT: Final = f"{{{S5B_NS}}}transport"
CANDIDATE: Final = f"{{{S5B_NS}}}candidate"

# A machine has a handful of addresses and a server a proxy or two. Each candidate of a peer is a
# place that we connect to because he said so: this many, and no more, in a whole session.
MAX_CANDIDATES: Final = 32

# The formula below gives 23 bits; clients that rate otherwise have been seen to use 31.
MAX_PRIORITY: Final = 2**32 - 1

# XEP-0065 section 11.2: the port that SOCKS5 is registered with, when none is given.
DEFAULT_PORT: Final = 1080

# XEP-0260 section 2.2: what a kind of candidate is worth.
TYPE_PREFERENCES: Final = {"direct": 126, "assisted": 120, "tunnel": 110, "proxy": 10}

_DSTADDR: Final = re.compile(r"[0-9a-f]{40}\Z")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")

# RFC 1035 section 2.3.4.
_MAX_HOST: Final = 253


@dataclass(frozen=True)
class Candidate:
    """A host and port where one side, or its proxy, can be reached."""

    cid: str
    host: str
    """IPv4 or IPv6 address, or DNS name."""
    port: int
    jid: str
    """Of the side that offers it, or of the proxy."""
    priority: int
    type: str
    """One of ``TYPE_PREFERENCES``."""


@dataclass(frozen=True)
class Socks5Transport:
    """One ``<transport/>``; at most one of the last four says something."""

    sid: str
    candidates: tuple[Candidate, ...] = ()
    """Usable ones only."""
    dstaddr: str | None = None
    used: str | None = None
    """The cid of a candidate-used."""
    candidate_error: bool = False
    activated: str | None = None
    """The cid of an activated."""
    proxy_error: bool = False


def priority(kind: str, local_preference: int) -> int:
    """Section 2.2. Args: kind: of ``TYPE_PREFERENCES``; local_preference: 0 to 65535."""
    if not 0 <= local_preference <= 65535:
        raise ValueError("a local preference has 16 bits")
    return (TYPE_PREFERENCES[kind] << 16) + local_preference


def dstaddr(sid: str, requester: str, target: str) -> str:
    """What a SOCKS5 connection asks for (XEP-0065 section 5.3.2).

    Args:
        requester: full JID of the side that offered the candidate.
        target: full JID of the side that connects to it.
    """
    # SHA-1 is the standard's. It names the stream and protects nothing.
    return sha1(f"{sid}{requester}{target}".encode(), usedforsecurity=False).hexdigest()


def parse(element: Element) -> Socks5Transport:
    """Read a ``<transport/>``; candidates that cannot be connected to are left out.

    Raises:
        PeerError: malformed, more than one statement, or UDP.
    """
    if element.tag != TRANSPORT:
        raise PeerError("not a SOCKS5 transport")
    if element.get("mode", "tcp") != "tcp":
        raise PeerError("only TCP is supported", "feature-not-implemented")
    found = [child for child in element if child.tag == CANDIDATE]
    if len(found) > MAX_CANDIDATES:
        raise PeerError("too many candidates")
    used = single(element, _tag("candidate-used"), "candidate-used")
    activated = single(element, _tag("activated"), "activated")
    candidate_error = single(element, _tag("candidate-error"), "candidate-error")
    proxy_error = single(element, _tag("proxy-error"), "proxy-error")
    statements = [
        each for each in (used, activated, candidate_error, proxy_error) if each is not None
    ]
    # The schema has a choice here: a stanza that both fails and succeeds means nothing.
    if len(statements) + bool(found) > 1:
        raise PeerError("a transport that says several things")
    candidates = [_candidate(child) for child in found]
    if len({candidate.cid for candidate in candidates}) != len(candidates):
        raise PeerError("two candidates have the same cid")
    address = element.get("dstaddr")
    return Socks5Transport(
        sid=session_id(element.get("sid"), "sid of the stream"),
        candidates=tuple(each for each in candidates if _is_usable(each)),
        # One that is not a SHA-1 cannot be what a proxy waits for; ours is as good.
        dstaddr=address if address is not None and _DSTADDR.match(address) else None,
        used=None if used is None else identifier(used.get("cid"), "cid"),
        candidate_error=candidate_error is not None,
        activated=None if activated is None else identifier(activated.get("cid"), "cid"),
        proxy_error=proxy_error is not None,
    )


def build(transport: Socks5Transport) -> Element:
    """The ``<transport/>`` to send."""
    element = Element(TRANSPORT, {"sid": transport.sid})
    if transport.dstaddr is not None:
        element.set("dstaddr", transport.dstaddr)
    for candidate in transport.candidates:
        SubElement(
            element,
            CANDIDATE,
            {
                "cid": candidate.cid,
                "host": candidate.host,
                "jid": candidate.jid,
                "port": str(candidate.port),
                "priority": str(candidate.priority),
                "type": candidate.type,
            },
        )
    if transport.used is not None:
        SubElement(element, _tag("candidate-used"), {"cid": transport.used})
    if transport.candidate_error:
        SubElement(element, _tag("candidate-error"))
    if transport.activated is not None:
        SubElement(element, _tag("activated"), {"cid": transport.activated})
    if transport.proxy_error:
        SubElement(element, _tag("proxy-error"))
    return element


def place(candidate: Candidate) -> tuple[str, int]:
    """Host in its one spelling, and port: equal for candidates that lead to the same place."""
    try:
        return str(_plain(ipaddress.ip_address(candidate.host))), candidate.port
    except ValueError:
        return candidate.host.lower().rstrip("."), candidate.port


def best_first(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """In the order in which to try them; equal ones in the order given."""
    return tuple(sorted(candidates, key=lambda candidate: -candidate.priority))


def is_plausible_host(host: str) -> bool:
    """Whether a peer may have us connect there: an address of one machine, or a DNS name.

    Not a number in disguise: resolvers take ``127.1`` and ``0x7f000001`` for addresses.
    """
    try:
        address = _plain(ipaddress.ip_address(host))
    except ValueError:
        name = host.lower().removesuffix(".")
        labels = name.split(".")
        return (
            len(name) <= _MAX_HOST
            and all(_LABEL.match(label) for label in labels)
            and labels[-1][0].isalpha()
        )
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return False  # an interface of the peer's machine
    broadcast = address == ipaddress.IPv4Address("255.255.255.255")
    return not (address.is_unspecified or address.is_multicast or broadcast)


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """``::ffff:192.0.2.1`` is 192.0.2.1."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _candidate(element: Element) -> Candidate:
    return Candidate(
        cid=identifier(element.get("cid"), "cid"),
        host=identifier(element.get("host"), "host"),
        port=decimal(element.get("port", str(DEFAULT_PORT)), "port", maximum=2**32 - 1),
        jid=identifier(element.get("jid"), "jid of a candidate", MAX_JID),
        priority=decimal(element.get("priority"), "priority", maximum=MAX_PRIORITY),
        type=identifier(element.get("type", "direct"), "type of a candidate"),
    )


def _is_usable(candidate: Candidate) -> bool:
    return (
        0 < candidate.port < 65536
        and candidate.type in TYPE_PREFERENCES
        and is_plausible_host(candidate.host)
    )


def _tag(name: str) -> str:
    return f"{{{S5B_NS}}}{name}"
