"""STUN and TURN servers for a call: the user's, and those that our server tells of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.xmpp import targets
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import domain_of

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
# RFC 8656 section 18.
TURNS_PORT: Final = 5349
# Seconds: the other way to a call is not to ask.
PATIENCE: Final = 3.0

_Kind = Literal["stun", "turn", "turns"]
_Transport = Literal["udp", "tcp"]
_TURN: Final[dict[str, tuple[_Kind, _Transport]]] = {
    "udp": ("turn", "udp"),
    "tcp": ("turn", "tcp"),
    "tls": ("turns", "tcp"),
}
_NAMES: Final[dict[str, tuple[_Kind, _Transport]]] = {
    "_stun._udp": ("stun", "udp"),
    "_turn._udp": _TURN["udp"],
    "_turn._tcp": _TURN["tcp"],
    "_turns._tcp": _TURN["tls"],
}


async def find_servers(account: Account) -> list[IceServer]:
    """All that are known, the user's own first; not being told of any is no failure.

    Where the XMPP server tells of none (XEP-0215), DNS is asked (RFC 8489 section 8.1, RFC 8656
    section 5) unless the user named the server: then the domain may not be in DNS at all.
    """
    from telepathy_e2e.media.servers import IceServer

    given = account.parameters
    domain = domain_of(str(given["account"]))
    found: list[IceServer] = []
    host = str(given.get("stun-server") or "")
    if host:
        found.append(IceServer("stun", host, _port(given.get("stun-port"))))
    host = str(given.get("turn-server") or "")
    if host:
        kind, transport = _TURN[str(given.get("turn-transport") or "udp")]
        port = _port(given.get("turn-port"))
        found.append(IceServer(kind, host, port, transport, *_credentials(given)))
    try:
        if SERVICES in await account.client.server_features():
            answer = await account.client.send_iq(
                domain, Element(f"{{{SERVICES}}}services"), "get", PATIENCE
            )
            found += parse(answer)
    except (StanzaError, IqTimeout, Disconnected) as error:
        log.info("the server tells of no STUN or TURN servers: %s", error)
    if not found and not given.get("server"):
        found += await _in_dns(domain, *_credentials(given))
    fallback = str(given.get("fallback-stun-server") or "")
    if fallback and not any(each.kind == "stun" for each in found):
        found.append(IceServer("stun", fallback, _port(given.get("fallback-stun-port"))))
    return list(dict.fromkeys(found))[:MAX_SERVERS]


async def _in_dns(domain: str, username: str, password: str) -> list[IceServer]:
    from telepathy_e2e.media.servers import IceServer

    # TURN servers let nobody in without a name (RFC 8656 section 5): those of strangers are of use
    # only with credentials of the user's.
    asked = [name for name in _NAMES if username or name == "_stun._udp"]
    try:
        async with asyncio.timeout(PATIENCE):
            told = await targets.services(domain, asked)
    except (TimeoutError, ValueError):
        return []
    return [
        IceServer(kind, each.host, each.port, transport, *(
            ("", "") if kind == "stun" else (username, password)
        ))
        for name, (kind, transport) in _NAMES.items()
        for each in told.get(name, ())
    ]  # fmt: skip


def _credentials(given: Mapping[str, Any]) -> tuple[str, str]:
    return str(given.get("turn-username") or ""), str(given.get("turn-password") or "")


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
        if kind == "stun" and service.get("transport", "udp") != "udp":
            continue  # it tells of an address that nobody sends media from
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            continue
        transport: _Transport = "tcp" if service.get("transport") == "tcp" else "udp"
        found.append(
            IceServer(
                kind,
                host,
                int(port or (TURNS_PORT if kind == "turns" else STUN_PORT)),
                "tcp" if kind == "turns" else transport,
                words[1],
                words[2],
            )
        )
    return found[:MAX_SERVERS]


def _port(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 65536 else STUN_PORT
