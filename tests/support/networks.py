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
from dataclasses import dataclass, field
from pathlib import Path

ALICE, BOB = "10.213.1.2", "10.213.2.2"
# The router, as Alice and Bob see it.
NEAR_ALICE, NEAR_BOB = "10.213.1.1", "10.213.2.1"
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


@dataclass
class Networks:
    """Three namespaces; ``close`` removes them."""

    alice: str = field(default_factory=lambda: f"tpe2e-a{os.getpid()}")
    bob: str = field(default_factory=lambda: f"tpe2e-b{os.getpid()}")
    router: str = field(default_factory=lambda: f"tpe2e-r{os.getpid()}")
    _relay: subprocess.Popen[bytes] | None = None
    _servers: list[asyncio.Server] = field(default_factory=list)

    @classmethod
    def make(cls) -> Networks:
        self = cls()
        try:
            for name in (self.alice, self.bob, self.router):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            for name, here, there in (
                (self.alice, ALICE, NEAR_ALICE),
                (self.bob, BOB, NEAR_BOB),
            ):
                port = self._port(name)
                _ip("link", "add", "eth0", "netns", name, "type", "veth",
                    "peer", "name", port, "netns", self.router)  # fmt: skip
                _ip("-n", self.router, "addr", "add", f"{there}/24", "dev", port)
                _ip("-n", self.router, "link", "set", port, "up")
                _ip("-n", name, "link", "set", "eth0", "up")
                self.address(name, here, there)
            self.run(self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self.rules("")
        except BaseException:
            self.close()
            raise
        return self

    def within(self, name: str) -> tuple[str, ...]:
        """The command that runs another one in a namespace."""
        return ("ip", "netns", "exec", name)

    def run(self, name: str, *command: str, data: str = "") -> None:
        subprocess.run([*self.within(name), *command], check=True, input=data.encode())

    def address(self, name: str, address: str, router: str) -> None:
        """Give a namespace an address of its subnet in the place of those that it has."""
        _ip("-n", name, "addr", "flush", "dev", "eth0", "scope", "global")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "route", "replace", "default", "via", router)

    def link(self, name: str, up: bool) -> None:
        """Plug a namespace in, or pull the plug: it sees no carrier."""
        _ip("-n", self.router, "link", "set", self._port(name), "up" if up else "down")

    def rules(self, through: str, into: str = "") -> None:
        """What the router does with what it forwards, and with what is for itself (nft)."""
        table = (
            "flush ruleset\ntable inet t {\n"
            f"chain f {{ type filter hook forward priority 0\n{through}\n}}\n"
            f"chain i {{ type filter hook input priority 0\n{into}\n}}\n}}\n"
        )
        self.run(self.router, "nft", "-f", "-", data=table)

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

    def turn(self, directory: Path, secret: str) -> None:
        """Run coturn on the router; its certificate is in ``directory``."""
        output = (directory / "coturn.log").open("wb")
        self._relay = subprocess.Popen(
            [
                *self.within(self.router), "turnserver", "-n", "--no-cli", "--no-multicast-peers",
                "--listening-ip", NEAR_ALICE, "--relay-ip", NEAR_ALICE, "--realm", "example.test",
                "--use-auth-secret", f"--static-auth-secret={secret}",
                f"--listening-port={TURN_PORT}", f"--tls-listening-port={TURNS_PORT}",
                "--cert", str(directory / "cert.pem"), "--pkey", str(directory / "key.pem"),
                "--no-dtls", "--log-file=stdout", "--pidfile", str(directory / "coturn.pid"),
                "--userdb", str(directory / "coturn.db"),
            ],
            stdout=output,
            stderr=output,
        )  # fmt: skip
        output.close()
        deadline = time.monotonic() + 10
        while not self._listens(TURN_PORT):
            if time.monotonic() > deadline or self._relay.poll() is not None:
                raise AssertionError((directory / "coturn.log").read_text(errors="replace"))
            time.sleep(0.05)

    def _listens(self, port: int) -> bool:
        probe = self._socket(self.alice)
        with probe:
            probe.settimeout(1)
            return probe.connect_ex((NEAR_ALICE, port)) == 0

    async def bridge(self, name: str, port: int) -> None:
        """What connects to 127.0.0.1 in a namespace gets to 127.0.0.1 here."""
        listening = self._socket(name)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

        self._servers.append(await asyncio.start_server(accepted, sock=listening))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        if self._relay is not None:
            self._relay.terminate()
            self._relay.wait()
        for name in (self.alice, self.bob, self.router):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def _port(self, name: str) -> str:
        """The router's end of a namespace's cable."""
        return "to-alice" if name == self.alice else "to-bob"

    def _socket(self, name: str) -> socket.socket:
        """A socket of a namespace: it stays there whoever uses it."""
        made: list[socket.socket] = []

        def make() -> None:
            # Of this thread alone, which ends.
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{name}", "rb") as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    return
            made.append(socket.socket())

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
