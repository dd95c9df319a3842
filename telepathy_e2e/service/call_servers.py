"""STUN and TURN servers for a call: the user's, and those that our server tells of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError

if TYPE_CHECKING:
    from telepathy_e2e.media.servers import IceServer
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# XEP-0215.
SERVICES: Final = "urn:xmpp:extdisco:2"
# Each is asked for an address; more only make calls slower.
MAX_SERVERS: Final = 8
MAX_LENGTH: Final = 1024
STUN_PORT: Final = 3478
# Seconds: the other way to a call is not to ask.
PATIENCE: Final = 3.0

_Kind = Literal["stun", "turn", "turns"]


async def find_servers(account: Account) -> list[IceServer]:
    """All that are known, the user's own first; not being told of any is no failure."""
    from telepathy_e2e.media.servers import IceServer

    found: list[IceServer] = []
    host = str(account.parameters.get("stun-server") or "")
    if host:
        found.append(IceServer("stun", host, _port(account.parameters.get("stun-port"))))
    try:
        if SERVICES in await account.client.server_features():
            answer = await account.client.send_iq(
                None, Element(f"{{{SERVICES}}}services"), "get", PATIENCE
            )
            found += parse(answer)
    except (StanzaError, IqTimeout, Disconnected) as error:
        log.info("the server tells of no STUN or TURN servers: %s", error)
    fallback = str(account.parameters.get("fallback-stun-server") or "")
    if fallback and not any(each.kind == "stun" for each in found):
        port = account.parameters.get("fallback-stun-port")
        found.append(IceServer("stun", fallback, _port(port)))
    return found[:MAX_SERVERS]


def parse(services: Element | None) -> list[IceServer]:
    """What a server answered (XEP-0215 section 3.1); what makes no sense is left out."""
    from telepathy_e2e.media.servers import IceServer

    kinds: dict[str, _Kind] = {"stun": "stun", "turn": "turn", "turns": "turns"}
    found = []
    for service in services if services is not None else ():
        kind = kinds.get(service.get("type", ""))
        host, port = service.get("host", ""), service.get("port", "")
        words = (host, service.get("username", ""), service.get("password", ""))
        if kind is None or not host or any(len(each) > MAX_LENGTH for each in words):
            continue
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            continue
        transport: Literal["udp", "tcp"] = "tcp" if service.get("transport") == "tcp" else "udp"
        found.append(
            IceServer(
                kind,
                host,
                int(port or STUN_PORT),
                "tcp" if kind == "turns" else transport,
                words[1],
                words[2],
            )
        )
    return found[:MAX_SERVERS]


def _port(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 65536 else STUN_PORT
