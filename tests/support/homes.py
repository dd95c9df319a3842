"""Two homes, each behind a router of its own, and the middle, where servers run.

Alice is in one, Bob in the other: ``homes_with`` and ``people_in`` start all of it.

What the routers translate and what the middle lets through changes while daemons run: a case is
set with ``Homes.be``. The XMPP server stays where it always is (``Namespaces.bridge``), so that
there is one way left when nothing else is.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.support.networks import TURN_PORT, Namespaces, missing, secured
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import Side

ALICE, BOB = "10.213.1.2", "10.213.2.2"
# The middle, where both find its servers; outside of any range for homes.
MIDDLE: Final = "203.0.113.1"
STUN_PORT: Final = 3479
_ROUTERS: Final = (("10.213.1", "198.18.1"), ("10.213.2", "198.18.2"))

_SECRET: Final = "between the two servers"


class Router(StrEnum):
    """What a home's router does with addresses."""

    OPEN = ""
    """Nothing: who knows an address there reaches it."""
    CONE = "masquerade persistent"
    """One port outside for each inside, whoever is talked to; in comes what was talked to."""
    SYMMETRIC = "masquerade fully-random"
    """Another port for each other end: nobody can tell in advance."""


class Middle(StrEnum):
    """What it lets through between the homes, by rules of nft."""

    ALL = ""
    NO_UDP = "meta l4proto udp drop"
    SILENT = "drop"
    """Nothing, and nobody is told."""
    REFUSING = "meta l4proto tcp reject with tcp reset\nreject with icmpx type admin-prohibited"


@dataclass(frozen=True)
class Case:
    """One state of the networks.

    Attributes:
        alice, bob: their routers.
        middle: between them.
        stun, relay: whether that server is reachable.
        proxy: whether the XMPP server's SOCKS5 proxy is; if not, it is silent.
    """

    alice: Router = Router.OPEN
    bob: Router = Router.OPEN
    middle: Middle = Middle.ALL
    stun: bool = True
    relay: bool = False
    proxy: bool = False


_CONE, _SYMMETRIC = Router.CONE, Router.SYMMETRIC
CASES: Final = {
    "no routers that translate": (Case(), "direct xtls"),
    "Alice behind one": (Case(_CONE), "direct xtls"),
    "Bob behind one": (Case(bob=_CONE), "direct xtls"),
    "Alice behind one, UDP blocked": (Case(_CONE, middle=Middle.NO_UDP), "direct xtls"),
    "nothing but XMPP and its proxy": (Case(middle=Middle.SILENT, proxy=True), "proxy xtls"),
    "both behind one": (Case(_CONE, _CONE), "direct dtls-sctp"),
    "both behind symmetric ones, a relay": (
        Case(_SYMMETRIC, _SYMMETRIC, relay=True),
        "relay dtls-sctp",
    ),
    "both behind one, UDP blocked, a relay over TCP": (
        Case(_CONE, _CONE, Middle.NO_UDP, relay=True),
        "relay dtls-sctp",
    ),
    "both behind symmetric ones, no relay": (Case(_SYMMETRIC, _SYMMETRIC), "in-band xtls"),
    "nothing but XMPP, silent": (Case(middle=Middle.SILENT), "in-band xtls"),
    "nothing but XMPP, refusing": (Case(middle=Middle.REFUSING), "in-band xtls"),
}
"""What is between the two, and by which way bytes go then (``Homes.way``)."""


class Homes(Namespaces):
    """Five namespaces.

    Attributes:
        proxy_port: of the proxy on the loopback device of the test, which ``bridge`` puts on that
            of the homes.
    """

    proxy_port = 0

    def __init__(self) -> None:
        super().__init__("ra", "rb", "m")
        self.routers = self._names[2:4]
        self.middle = self._names[4]

    def _join(self) -> None:
        people = zip((self.alice, self.bob), self.routers, _ROUTERS, strict=True)
        for number, (person, router, (inside, outside)) in enumerate(people):
            port = f"home{number}"
            self.cable((person, "eth0"), (router, "lan"))
            self.cable((router, "wan"), (self.middle, port))
            self.device(router, "lan", f"{inside}.1/24")
            self.device(router, "wan", f"{outside}.2/24")
            self.device(self.middle, port, f"{outside}.1/24")
            self.address(person, f"{inside}.2", f"{inside}.1")
            self.route(router, "default", f"{outside}.1")
            self.route(self.middle, f"{inside}.0/24", f"{outside}.2")
        self.device(self.middle, "lo", f"{MIDDLE}/32")
        for name in (*self.routers, self.middle):
            self.run(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.be(Case())

    def servers(self, directory: Path, secret: str) -> None:
        """Run a relay, and a STUN server that relays nothing."""
        self.coturn(self.middle, MIDDLE, directory, *secured(directory, secret))
        self.coturn(self.middle, MIDDLE, directory, "--stun-only", "--no-tls", port=STUN_PORT)

    def be(self, case: Case) -> None:
        """Change to this case; counting of bytes begins anew."""
        self.carried.clear()
        for router, kind in zip(self.routers, (case.alice, case.bob), strict=True):
            if kind is Router.OPEN:
                self.filter(router, "")
                continue
            # What is dropped leaves no trace: a router that answered would give the port away
            # before the home itself has used it.
            self.filter(
                router,
                'ct state established,related accept\niifname "lan" accept\ndrop',
                'iifname "wan" ct state new drop',
                f'oifname "wan" {kind}',
            )
        through = [str(case.middle)]
        # Nobody outside knows the way to a translated address.
        for kind, (inside, _) in zip((case.alice, case.bob), _ROUTERS, strict=True):
            if kind is not Router.OPEN:
                through.insert(0, f"ip daddr {inside}.0/24 drop")
        through.append("counter")
        self.filter(self.middle, "\n".join(through), self._into(case))
        for person in (self.alice, self.bob):
            silent = "" if case.proxy else f"tcp dport {self.proxy_port} drop"
            self.filter(person, "", silent)

    @staticmethod
    def _into(case: Case) -> str:
        rules = ['iifname "lo" accept']
        if case.relay:
            # Its port of TCP and TLS stays open where UDP is not.
            rules.append(f"tcp dport {TURN_PORT} accept")
        else:
            rules += [f"udp dport {TURN_PORT} drop", f"tcp dport {TURN_PORT} drop"]
        if not case.stun:
            rules += [f"meta l4proto {{ tcp, udp }} th dport {STUN_PORT} drop"]
        if case.middle:
            rules.append(str(case.middle))
        return "\n".join(rules)

    def forwarded(self) -> int:
        """Bytes that went from home to home through the middle since the case was set."""
        said = self.ask(self.middle, "nft", "list", "chain", "inet", "t", "f")
        found = re.search(r"counter packets \d+ bytes (\d+)", said)
        return int(found[1]) if found else 0

    def way(self, server: Prosody, size: int, protocol: str) -> str:
        """How ``size`` bytes went since the case was set: by where they were seen.

        Args:
            protocol: EndToEndSecurity1.Protocol.
        """
        if self.carried[server.port] > size:
            carrier = "in-band"
        elif self.carried[server.proxy_port] > size:
            carrier = "proxy"
        else:
            carrier = "direct" if self.forwarded() > size else "relay"
        return f"{carrier} {protocol}"

    def cut(self) -> None:
        """Nothing gets from one home to the other any more, or to the servers between them."""
        self.filter(self.middle, "drop", 'iifname "lo" accept\ndrop')


def why_not() -> str:
    """Why there can be no homes here; empty: there can."""
    if shutil.which("turnserver") is None:
        return "coturn is not installed"
    return missing()


def start_server() -> Prosody:
    """One that tells of the servers in the middle."""
    services = (
        _service("stun", "udp", STUN_PORT) + _service("turn", "udp") + _service("turn", "tcp")
    )
    return Prosody.start(
        modules=["external_services"], settings=f"external_services = {{ {services} }}"
    )


def _service(kind: str, transport: str, port: int = TURN_PORT) -> str:
    secret = f"secret = '{_SECRET}', algorithm = 'turn', ttl = 600" if kind == "turn" else ""
    return (
        f"{{ type = '{kind}', transport = '{transport}', host = '{MIDDLE}', port = {port},"
        f" {secret} }};"
    )


@asynccontextmanager
async def homes_with(server: Prosody) -> AsyncIterator[Homes]:
    """Homes from which the server of ``start_server`` is reached, and the servers in the middle."""
    homes = await asyncio.to_thread(Homes.make)
    try:
        homes.proxy_port = server.proxy_port
        homes.be(Case())
        await asyncio.to_thread(homes.servers, server.directory, _SECRET)
        for name in (homes.alice, homes.bob):
            for port in (server.port, server.proxy_port):
                await homes.bridge(name, port)
        yield homes
    finally:
        homes.close()


@asynccontextmanager
async def people_in(
    homes: Homes, server: Prosody, env: Mapping[str, str] | None = None
) -> AsyncIterator[Pair]:
    """Alice and Bob, each in the home.

    Args:
        env: of their daemons.
    """
    sides = await asyncio.gather(
        Side.start("alice", env=dict(env or {}), within=homes.within(homes.alice)),
        Side.start("bob", env=dict(env or {}), within=homes.within(homes.bob)),
    )
    pair = await Pair.start(server, sides=sides)
    try:
        yield pair
    finally:
        await pair.stop()
