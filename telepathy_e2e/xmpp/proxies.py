"""SOCKS5 proxies that our server offers (XEP-0065 section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp.caps import DISCO_ITEMS, QUERY_INFO, QUERY_ITEMS, parse_info
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import normalise

BYTESTREAMS = "http://jabber.org/protocol/bytestreams"
QUERY = f"{{{BYTESTREAMS}}}query"
STREAMHOST = f"{{{BYTESTREAMS}}}streamhost"

# Services of the server that are looked at; public servers list about ten.
MAX_ITEMS = 50
# Proxies kept; a candidate more than these helps nobody.
MAX_PROXIES = 4
# RFC 1035 section 2.3.4
MAX_HOST = 255

Ask = Callable[[str, Element], Awaitable[Element | None]]


@dataclass(frozen=True)
class Proxy:
    """A proxy: its JID, and where it listens (host name or address, TCP port)."""

    jid: str
    host: str
    port: int


async def discover(ask: Ask, domain: str) -> list[Proxy]:
    """Find the proxies of a server.

    Args:
        ask: sends an iq of type get.
    Raises:
        Disconnected: the stream ended meanwhile.
    """
    found: list[Proxy] = []
    items = await _asked(ask, domain, Element(QUERY_ITEMS))
    for item in list(items.iterfind(f"{{{DISCO_ITEMS}}}item") if items is not None else ())[
        :MAX_ITEMS
    ]:
        if len(found) >= MAX_PROXIES:
            break
        try:
            jid = normalise(item.get("jid", ""))
        except ValueError:
            continue
        info = await _asked(ask, jid, Element(QUERY_INFO))
        if info is None or not _is_proxy(info):
            continue
        answer = await _asked(ask, jid, Element(QUERY))
        for streamhost in answer.iterfind(STREAMHOST) if answer is not None else ():
            if (proxy := _parse(streamhost)) is not None and len(found) < MAX_PROXIES:
                found.append(proxy)
    return found


def activation(sid: str, target: str) -> Element:
    """The request that joins the two sides of a stream (XEP-0065 section 6.3.5)."""
    query = Element(QUERY, sid=sid)
    SubElement(query, f"{{{BYTESTREAMS}}}activate").text = target
    return query


async def _asked(ask: Ask, jid: str, payload: Element) -> Element | None:
    """A service that does not answer, or with an error, is none."""
    try:
        return await ask(jid, payload)
    except (StanzaError, IqTimeout):
        return None


def _is_proxy(query: Element) -> bool:
    try:
        identities = parse_info(query).identities
    except PeerError:
        return False
    return any((each.category, each.type) == ("proxy", "bytestreams") for each in identities)


def _parse(streamhost: Element) -> Proxy | None:
    host, port = streamhost.get("host", ""), streamhost.get("port", "")
    if not 0 < len(host) <= MAX_HOST or not (port.isascii() and port.isdigit() and len(port) < 6):
        return None
    try:
        jid = normalise(streamhost.get("jid", ""))
    except ValueError:
        return None
    return Proxy(jid, host, int(port)) if 0 < int(port) < 65536 else None
