"""Where the server of a domain is: what DNS says, in the order in which it is tried.

RFC 6120 section 3.2, RFC 2782, XEP-0368.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from telepathy_e2e.errors import ConnectionFailed
from telepathy_e2e.xmpp.jid import ascii_domain
from telepathy_e2e.xmpp.settings import Settings

log = logging.getLogger(__name__)

PORT, DIRECT_TLS_PORT = 5222, 5223
# Seconds for an answer of the name server, and how often it is asked.
DNS_SECONDS, DNS_TRIES = 3.0, 2
# Servers that DNS names; more are not tried. Large services name five.
MAX_TARGETS = 8
# Records of one answer that are looked at. A reply in one UDP packet holds some twenty.
MAX_RECORDS = 64


@dataclass(frozen=True)
class Target:
    """One place where the server may be."""

    host: str
    port: int
    direct_tls: bool


@dataclass(frozen=True)
class Record:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    target: Target


async def find(settings: Settings, domain: str) -> list[Target]:
    """The places to try, in this order; at least one.

    Args:
        domain: of the account.
    Raises:
        ConnectionFailed: the domain says that it has no such service.
    """
    if settings.server:
        port = settings.port or (DIRECT_TLS_PORT if settings.old_ssl else PORT)
        return [Target(settings.server, port, settings.old_ssl)]
    host = ascii_domain(domain)
    records = await _ask(host)
    targets = [each for each in order(records) if each.host][:MAX_TARGETS]
    if records and not targets:
        # "." means that the service is decidedly not there: then nobody goes on guessing.
        raise ConnectionFailed("This domain says that it has no XMPP service")
    # Without records the domain itself (RFC 6120 section 3.2.2).
    port = settings.port or (DIRECT_TLS_PORT if settings.old_ssl else PORT)
    return targets or [Target(host, port, settings.old_ssl)]


def order(
    records: Iterable[Record], below: Callable[[int], int] = secrets.randbelow
) -> list[Target]:
    """By priority, and within one at random by weight (RFC 2782, "Usage rules").

    Args:
        below: a random number from 0 to its argument, exclusive.
    """
    result: list[Target] = []
    left = list(records)
    while left:
        priority = min(each.priority for each in left)
        # Those without weight first, so that they have their small chance.
        here = sorted(
            (each for each in left if each.priority == priority), key=lambda each: each.weight > 0
        )
        left = [each for each in left if each.priority != priority]
        while here:
            wanted = below(sum(each.weight for each in here) + 1)
            running = 0
            for chosen in here:
                running += chosen.weight
                if running >= wanted:
                    break
            here.remove(chosen)
            result.append(chosen.target)
    return result


async def services(domain: str, names: Iterable[str]) -> dict[str, list[Target]]:
    """Other services of a domain, in the order in which they are to be used (RFC 2782).

    Args:
        names: such as ``_stun._udp``.
    Returns:
        By name, those that DNS knows; a name server that fails knows none.
    """
    host = ascii_domain(domain)
    asked = list(names)
    async with _resolver() as records:
        found = await asyncio.gather(*(records(f"{name}.{host}", False) for name in asked))
    return {
        name: [each for each in order(some) if each.host][:MAX_TARGETS]
        for name, some in zip(asked, found, strict=True)
    }


async def _ask(host: str) -> list[Record]:
    """Both services as one (XEP-0368 section 2); a name server that fails has none."""
    async with _resolver() as records:
        direct, plain = await asyncio.gather(
            records(f"_xmpps-client._tcp.{host}", True), records(f"_xmpp-client._tcp.{host}", False)
        )
    return direct + plain


_Records: TypeAlias = Callable[[str, bool], Awaitable[list[Record]]]


@asynccontextmanager
async def _resolver() -> AsyncIterator[_Records]:
    import aiodns  # 1 MB, for those who need it

    resolver = aiodns.DNSResolver(
        loop=asyncio.get_running_loop(), tries=DNS_TRIES, timeout=DNS_SECONDS
    )

    async def records(name: str, direct_tls: bool) -> list[Record]:
        try:
            found: Any = await resolver.query_dns(name, "SRV")
        except aiodns.error.DNSError:
            return []
        return [
            Record(
                data.priority,
                data.weight,
                Target(data.target.removesuffix("."), data.port, direct_tls),
            )
            for data in (each.data for each in found.answer[:MAX_RECORDS])
            # A name server also tells the aliases on the way.
            if hasattr(data, "priority")
        ]

    try:
        yield records
    finally:
        await resolver.close()
