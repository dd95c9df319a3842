"""Two homes, each behind a router of its own, and the middle, where servers run.

What the routers translate and what the middle lets through changes while daemons run: a case is
set with ``Homes.be``. The XMPP server stays where it always is (``Namespaces.bridge``), so that
there is one way left when nothing else is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.support.networks import TURN_PORT, Namespaces, secured

ALICE, BOB = "10.213.1.2", "10.213.2.2"
# The middle, where both find its servers; outside of any range for homes.
MIDDLE: Final = "203.0.113.1"
STUN_PORT: Final = 3479
_ROUTERS: Final = (("10.213.1", "198.18.1"), ("10.213.2", "198.18.2"))


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
        """Change to this case: what was being let through is as well judged anew."""
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

    def cut(self) -> None:
        """Nothing gets from one home to the other any more, or to the servers between them."""
        self.filter(self.middle, "drop", 'iifname "lo" accept\ndrop')
