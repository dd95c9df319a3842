"""Networks between two programs of a test: namespaces of the kernel, joined by a router.

Alice's namespace and Bob's are in subnets of their own; a third one routes between them, and is
where ways are closed, packets lost and servers run. Root is needed. The XMPP server stays on the
loopback device of the test: ``Networks.bridge`` puts its port on that of a namespace, so that what
happens to the network between the two happens to their media alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

from tests.support.waiting import PATIENCE

ALICE, BOB = "10.213.1.2", "10.213.2.2"
# The router, as Alice and Bob see it.
NEAR_ALICE, NEAR_BOB = "10.213.1.1", "10.213.2.1"
# The same where there is IPv6 alone (RFC 9637: of nobody, and like those that are routed).
ALICE_IPV6, BOB_IPV6 = "3fff:1::2", "3fff:2::2"
NEAR_ALICE_IPV6, NEAR_BOB_IPV6 = "3fff:1::1", "3fff:2::1"
_CLONE_NEWNET = 0x40000000
TURN_PORT, TURNS_PORT = 3478, 5349


def missing() -> str:
    """Why there can be no networks here; empty: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    made = subprocess.run(["ip", "netns", "add", f"t{os.getpid()}"], capture_output=True)
    if made.returncode:
        return "the kernel gives no network namespaces"
    subprocess.run(["ip", "netns", "del", f"t{os.getpid()}"], check=True)
    return ""


class Namespaces:
    """Alice's, Bob's and those between them; ``close`` removes them.

    Attributes:
        carried: bytes that went over bridges in both directions, by port.
    """

    def __init__(self, *between: str) -> None:
        self.alice, self.bob, *rest = (
            f"tpe2e-{each}{os.getpid()}" for each in ("a", "b", *between)
        )
        self._names = (self.alice, self.bob, *rest)
        self._relays: list[subprocess.Popen[bytes]] = []
        self._servers: list[asyncio.Server] = []
        self.carried: Counter[int] = Counter()

    @classmethod
    def make(cls) -> Self:
        self = cls()
        try:
            for name in self._names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def _join(self) -> None:
        raise NotImplementedError

    def within(self, name: str) -> tuple[str, ...]:
        """The command that runs another one in a namespace."""
        return ("ip", "netns", "exec", name)

    def run(self, name: str, *command: str, data: str = "") -> None:
        subprocess.run([*self.within(name), *command], check=True, input=data.encode())

    def ask(self, name: str, *command: str) -> str:
        """What a command says."""
        done = subprocess.run([*self.within(name), *command], check=True, capture_output=True)
        return done.stdout.decode()

    def cable(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Join a device of one namespace and one of another; each is a namespace and a name."""
        _ip("link", "add", one[1], "netns", one[0], "type", "veth",
            "peer", "name", other[1], "netns", other[0])  # fmt: skip

    def device(self, name: str, device: str, address: str) -> None:
        """Give it an address with its prefix, and let it be used."""
        # Nobody else has it, and nobody need wait until that is known.
        unique = ("nodad",) if ":" in address else ()
        _ip("-n", name, "addr", "add", address, "dev", device, *unique)
        _ip("-n", name, "link", "set", device, "up")

    def route(self, name: str, to: str, via: str) -> None:
        _ip("-n", name, "route", "replace", to, "via", via)

    def address(self, name: str, address: str, router: str) -> None:
        """Give a namespace an address of its subnet in the place of those that it has."""
        _ip("-n", name, "addr", "flush", "dev", "eth0", "scope", "global")
        self.device(name, "eth0", f"{address}/24")
        self.route(name, "default", router)

    def filter(self, name: str, through: str, into: str = "", leaving: str = "") -> None:
        """What a router does with what it forwards, what is for itself, and with addresses (nft).

        Args:
            leaving: rules of translation, for what was routed already.
        """
        table = (
            "flush ruleset\ntable inet t {\n"
            f"chain f {{ type filter hook forward priority 0\n{through}\n}}\n"
            f"chain i {{ type filter hook input priority 0\n{into}\n}}\n"
        )
        if leaving:
            table += f"chain n {{ type nat hook postrouting priority 100\n{leaving}\n}}\n"
        self.run(name, "nft", "-f", "-", data=table + "}\n")

    def coturn(
        self, name: str, address: str, directory: Path, *more: str, port: int = TURN_PORT
    ) -> None:
        """Run it in a namespace; its files are in ``directory``.

        Args:
            address: where it listens, and what it gives to others.
        """
        log = directory / f"coturn-{port}.log"
        output = log.open("wb")
        relay = subprocess.Popen(
            [
                *self.within(name), "turnserver", "-n", "--no-cli", "--no-multicast-peers",
                "--listening-ip", address, "--relay-ip", address, "--realm", "example.test",
                f"--listening-port={port}", "--no-dtls", "--log-file=stdout",
                "--pidfile", str(directory / f"coturn-{port}.pid"),
                "--userdb", str(directory / f"coturn-{port}.db"), *more,
            ],
            stdout=output,
            stderr=output,
        )  # fmt: skip
        self._relays.append(relay)
        output.close()
        deadline = time.monotonic() + PATIENCE
        while not self._listens(name, address, port):
            if time.monotonic() > deadline or relay.poll() is not None:
                raise AssertionError(log.read_text(errors="replace"))
            time.sleep(0.05)

    def _listens(self, name: str, address: str, port: int) -> bool:
        probe = self._socket(name)
        with probe:
            probe.settimeout(1)
            return probe.connect_ex((address, port)) == 0

    async def bridge(self, name: str, port: int, address: str = "127.0.0.1") -> None:
        """What connects to an address of a namespace gets to 127.0.0.1 here."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = self._socket(name, family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))

        async def copy(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: socket.socket
        ) -> None:
            # Servers wait for acknowledgements before they send small pieces (Nagle), and the
            # kernel would let them wait: everything would take 40 ms that no real way takes.
            with contextlib.suppress(OSError):
                while data := await reader.read(1 << 16):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                    self.carried[port] += len(data)
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answers, there = await asyncio.open_connection("127.0.0.1", port)
            near, far = (each.get_extra_info("socket") for each in (writer, there))
            await asyncio.gather(copy(reader, there, near), copy(answers, writer, far))

        self._servers.append(await asyncio.start_server(accepted, sock=listening))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for relay in self._relays:
            relay.terminate()
            relay.wait()
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def _socket(self, name: str, family: int = socket.AF_INET) -> socket.socket:
        """A socket of a namespace: it stays there whoever uses it."""
        made: list[socket.socket] = []

        def make() -> None:
            # Of this thread alone, which ends.
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{name}", "rb") as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    return
            made.append(socket.socket(family))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


class Networks(Namespaces):
    """Three namespaces: a router between Alice and Bob."""

    def __init__(self) -> None:
        super().__init__("r")
        self.router = self._names[2]

    def _join(self) -> None:
        for name, here, there in ((self.alice, ALICE, NEAR_ALICE), (self.bob, BOB, NEAR_BOB)):
            port = self._port(name)
            self.cable((name, "eth0"), (self.router, port))
            self.device(self.router, port, f"{there}/24")
            self.address(name, here, there)
        self.run(self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.rules("")

    def link(self, name: str, up: bool) -> None:
        """Plug a namespace in, or pull the plug: it sees no carrier."""
        _ip("-n", self.router, "link", "set", self._port(name), "up" if up else "down")

    def rules(self, through: str, into: str = "") -> None:
        """What the router does with what it forwards, and with what is for itself (nft)."""
        self.filter(self.router, through, into)

    def turn(self, directory: Path, secret: str) -> None:
        """Run coturn on the router; its certificate is in ``directory``."""
        self.coturn(self.router, NEAR_ALICE, directory, *secured(directory, secret))

    def lose(self, percent: int) -> None:
        """Of what is forwarded, in both directions."""
        # Kernels without netem can do as much with a rule.
        if all(self._netem(each, percent) for each in (self.alice, self.bob)):
            return
        self.rules(f"numgen random mod 100 < {percent} counter drop")

    def _netem(self, name: str, percent: int) -> bool:
        command = ("tc", "qdisc", "add", "dev", self._port(name), "root", "netem", "loss")
        if shutil.which("tc") is None:
            return False
        done = subprocess.run(
            [*self.within(self.router), *command, f"{percent}%"], capture_output=True
        )
        return done.returncode == 0

    def _port(self, name: str) -> str:
        """The router's end of a namespace's cable."""
        return "to-alice" if name == self.alice else "to-bob"


class IPv6Networks(Networks):
    """The same without a single address of IPv4, not even on loopback devices."""

    def _join(self) -> None:
        for name in self._names:
            _ip("-n", name, "addr", "del", "127.0.0.1/8", "dev", "lo")
        people = (
            (self.alice, ALICE_IPV6, NEAR_ALICE_IPV6),
            (self.bob, BOB_IPV6, NEAR_BOB_IPV6),
        )
        for name, here, there in people:
            port = self._port(name)
            self.cable((name, "eth0"), (self.router, port))
            self.device(self.router, port, f"{there}/64")
            self.device(name, "eth0", f"{here}/64")
            self.route(name, "default", there)
        self.run(self.router, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.rules("")


def secured(directory: Path, secret: str) -> tuple[str, ...]:
    """Arguments of a coturn that relays for whoever comes from the XMPP server, over TLS too."""
    return (
        "--use-auth-secret", f"--static-auth-secret={secret}",
        f"--tls-listening-port={TURNS_PORT}",
        "--cert", str(directory / "cert.pem"), "--pkey", str(directory / "key.pem"),
    )  # fmt: skip


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
