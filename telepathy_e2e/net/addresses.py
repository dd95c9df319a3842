"""The addresses of this machine at which a peer may reach us.

``ifaddr`` (pure Python over getifaddrs, and a dependency of aioice already) lists them: the
standard library has ``socket.if_nameindex`` for names but nothing for addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

#: Addresses offered at most. A machine with many containers or virtual networks has more, each
#: costs the peer a connection attempt, and what is beyond the first dozen is hardly ever the one
#: that works.
MAX_ADDRESSES = 12

# unique local addresses, RFC 4193: reachable inside one site only
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")


def usable_addresses() -> list[str]:
    """Numeric addresses of all interfaces, fit to be offered, best first; see ``ordered``."""
    import ifaddr  # only needed when the first transfer starts

    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            found.append(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
    return ordered(found)


def ordered(addresses: Iterable[str]) -> list[str]:
    """Sort, clean and bound a list of numeric addresses.

    Global IPv6 comes first, then IPv4, then unique local IPv6, and loopback last: it serves a peer
    on the same machine. IPv4 link-local is left out unless there is nothing else beside loopback;
    IPv6 link-local always, since it means nothing without the scope, which only the peer could
    know. Loopback keeps its place when ``MAX_ADDRESSES`` cuts the list.
    """
    parsed = dict.fromkeys(ipaddress.ip_address(address) for address in addresses)
    usable = [ip for ip in parsed if not (ip.is_unspecified or ip.is_multicast)]
    loopback = sorted((ip for ip in usable if ip.is_loopback), key=lambda ip: ip.version)
    near = [ip for ip in usable if ip.is_link_local and ip.version == 4]
    far = sorted((ip for ip in usable if not (ip.is_loopback or ip.is_link_local)), key=_rank)
    chosen = (far or near)[: max(0, MAX_ADDRESSES - len(loopback))]
    return [str(ip) for ip in chosen + loopback][:MAX_ADDRESSES]


def _rank(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    if ip.version == 4:
        return 1
    return 2 if ip in _UNIQUE_LOCAL else 0


def normal(host: str) -> str:
    """One spelling for each numeric address, without an IPv6 scope; other names as they are."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return host
