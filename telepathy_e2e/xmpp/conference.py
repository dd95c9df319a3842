"""Which service of a server has rooms (XEP-0045 section 6.1)."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp.caps import DISCO_ITEMS, QUERY_INFO, QUERY_ITEMS, parse_info
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import domain_of, normalise
from telepathy_e2e.xmpp.muc import MUC
from telepathy_e2e.xmpp.proxies import MAX_ITEMS, Ask


async def discover(ask: Ask, domain: str) -> str:
    """The first conference service of a server, or nothing.

    Args:
        ask: sends an iq of type get.
    Raises:
        Disconnected: the stream ended meanwhile.
    """
    items = await _asked(ask, domain, Element(QUERY_ITEMS))
    found = items.findall(f"{{{DISCO_ITEMS}}}item") if items is not None else []
    for item in found[:MAX_ITEMS]:
        try:
            jid = normalise(item.get("jid", ""))
        except ValueError:
            continue
        if jid != domain_of(jid) or item.get("node"):
            continue
        answer = await _asked(ask, jid, Element(QUERY_INFO))
        try:
            info = parse_info(answer) if answer is not None else None
        except PeerError:
            continue
        if info is not None and MUC in info.features:
            # Gateways to other networks have rooms too, of another type.
            if any(
                (each.category, each.type) == ("conference", "text") for each in info.identities
            ):
                return jid
    return ""


async def _asked(ask: Ask, jid: str, payload: Element) -> Element | None:
    """A service that does not answer, or with an error, is none."""
    try:
        return await ask(jid, payload)
    except (StanzaError, IqTimeout):
        return None
