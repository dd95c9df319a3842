"""What we need of aioice beyond its documented door; all of its private names that we use.

``tests/unit/test_media_inside.py`` fails if one of them goes. What is added: candidates come in
steps, several servers, and bounds on what others can make us hold.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import random
import secrets
import socket
import string
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from aioice import Candidate, Connection
from aioice.ice import (
    CandidatePair,
    StunProtocol,
    get_host_addresses,
    relayed_candidate,
    server_reflexive_candidate,
)
from aioice.stun import Message, TransactionError

from telepathy_e2e.media import silence
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.tasks import TaskOwner

log = logging.getLogger(__name__)

# Set to anything: only loopback addresses are used, ours and the peer's. For tests.
LOOPBACK_VARIABLE = "TELEPATHY_E2E_MEDIA_LOOPBACK"

# A machine with more addresses has containers or tunnels; each costs a socket a road.
MAX_ADDRESSES = 16
# Each server costs a query per address. STUN, and TURN in three ways, of two sides.
MAX_SERVERS = 6
# Candidates of a peer, those learnt from his checks included: each may be paired with each of
# ours. Browsers have about ten.
MAX_REMOTE = 64
# Datagrams that wait for us: half a second of video at 8 Mbit/s. Whoever knows the port can send.
MAX_WAITING = 512
# Bytes that the kernel may keep for us of one socket, of which each small datagram takes two
# thousand; it gives less if it must. Its own choice is full after some milliseconds in which this
# program does something else.
RECEIVE_BUFFER = 1024 * 1024
# Seconds for a server to answer; a dead one must not hold up the end of gathering longer.
SERVER_DEADLINE = 5.0
# Times that a check of consent is sent again, after half a second, one and two more; its answer
# counts for another four.
CHECK_RETRIES = 3

_Query: TypeAlias = Coroutine[Any, Any, tuple[Candidate, StunProtocol | None]]

_ICE_CHARS = string.ascii_letters + string.digits


def loopback_only() -> bool:
    return LOOPBACK_VARIABLE in os.environ


def host_addresses() -> list[str]:
    """Addresses of this machine; those of loopback if it has no others, so that two programs on
    it can call one another anywhere."""
    addresses = [] if loopback_only() else get_host_addresses(use_ipv4=True, use_ipv6=True)
    return addresses[:MAX_ADDRESSES] or ["127.0.0.1", "::1"]


def usable(address: str, own: Sequence[str]) -> bool:
    """Whether a peer's address may be sent checks: not where only programs of this machine or
    whole groups listen."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address.endswith(".local")
    # Python takes ::ffff:127.0.0.1 for no loopback; the kernel does.
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return any(ipaddress.ip_address(each).is_loopback for each in own)
    return not (ip.is_multicast or ip.is_unspecified or ip.is_reserved)


class TrickleConnection(Connection):
    """One generation of ICE for one component (RTP and RTCP share it)."""

    def __init__(self, *, controlling: bool) -> None:
        # RFC 8445 section 5.3 wants 24 and 128 bits at least.
        super().__init__(
            ice_controlling=controlling,
            local_username="".join(secrets.choice(_ICE_CHARS) for _ in range(8)),
            local_password="".join(secrets.choice(_ICE_CHARS) for _ in range(24)),
        )
        self.addresses: list[str] = []
        self._servers_done = False
        self._peer_done = False
        self.heard = self.answered = 0.0
        """When the last datagram came, and the last answer to a check; time of the loop."""

    # -- our candidates -------------------------------------------------------------------------

    async def gather_hosts(self) -> list[Candidate]:
        """Sockets on our addresses; checks can begin after this."""
        self._local_candidates_start = True
        self.addresses = host_addresses()
        candidates = await self.get_component_candidates(1, self.addresses)
        for protocol in self._protocols:
            sock = protocol.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._local_candidates += candidates
        self._local_candidates_end = True
        return candidates

    async def gather_servers(
        self,
        servers: Sequence[IceServer],
        tasks: TaskOwner,
        found: Callable[[Candidate], None],
    ) -> None:
        """Candidates from servers, ``found`` as they come; ends within ``SERVER_DEADLINE``."""
        running = [
            tasks.start("server", self._take(query, found), awaited=True)
            for server in servers[:MAX_SERVERS]
            for query in self._queries(server)
        ]
        if not running:
            return
        try:
            await asyncio.wait(running, timeout=SERVER_DEADLINE)
        finally:
            for task in running:
                task.cancel()
        await asyncio.wait(running)

    def servers_done(self) -> None:
        """Ours are complete."""
        self._servers_done = True

    async def peer_done(self) -> None:
        """His are."""
        self._peer_done = True

    async def maybe_end(self) -> None:
        """Let the checks fail once nobody has anything more to try.

        Only when our own candidates are complete as well: aioice starts no check for a relay
        that comes after the peer's end.
        """
        if self._servers_done and self._peer_done and not self._remote_candidates_end:
            await self.add_remote_candidate(None)

    def _queries(self, server: IceServer) -> list[_Query]:
        address = (server.host, server.port)
        if server.kind == "stun":
            return [
                server_reflexive_candidate(protocol, address)
                for protocol in self._protocols
                if protocol.local_candidate.type == "host"
                and ipaddress.ip_address(protocol.local_candidate.host).version == 4
            ]
        relay = relayed_candidate(
            component=1,
            hide_related_address=False,
            protocol_factory=lambda: StunProtocol(self),
            turn_server=address,
            turn_username=server.username,
            turn_password=server.password,
            turn_ssl=server.kind == "turns",
            turn_transport="tcp" if server.kind == "turns" else server.transport,
        )
        return [relay]

    async def _take(self, query: _Query, found: Callable[[Candidate], None]) -> None:
        try:
            candidate, protocol = await query
        except (TransactionError, OSError, ValueError) as error:
            log.info("a server gave no candidate: %s", type(error).__name__)
            return
        if self._closing:
            if protocol is not None:
                await protocol.close()
        elif self._add_local(candidate, protocol):
            found(candidate)

    def _add_local(self, candidate: Candidate, protocol: StunProtocol | None) -> bool:
        if any((c.host, c.port) == (candidate.host, candidate.port) for c in self.local_candidates):
            return False  # no NAT between us and the server: the host candidate says it already
        self._local_candidates.append(candidate)
        if protocol is not None:
            self._protocols.append(protocol)
            for remote in self._remote_candidates:
                self._pair_remote_candidate(remote)
            self.sort_check_list()
        return True

    # -- what others send -----------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """No more candidates of the peer are taken."""
        return len(self._remote_candidates) + self._remote_candidates_resolving >= MAX_REMOTE

    @property
    def ended(self) -> bool:
        """No more candidates can be added."""
        return self._remote_candidates_end or self._closing

    def check_incoming(
        self, message: Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        self.heard = asyncio.get_running_loop().time()
        # A check without the attribute is against RFC 8445 section 7.1.1; aioice would stumble.
        if "PRIORITY" not in message.attributes:
            return
        # Checks from ever new ports would be candidates without end.
        known = any((c._network_host, c.port) == addr for c in self._remote_candidates)
        if known or not self.full:
            super().check_incoming(message, addr, protocol)

    def data_received(self, data: bytes, component: int) -> None:
        self.heard = asyncio.get_running_loop().time()
        # An empty datagram, which anybody can send, would end aiortc's reading.
        if data and self._queue.qsize() < MAX_WAITING:
            super().data_received(data, component)

    # -- consent (RFC 7675) ---------------------------------------------------------------------

    async def query_consent(self) -> None:
        """In the place of aioice's, which asks as often when nothing is heard, and takes half a
        second on the way for no answer."""
        time = asyncio.get_running_loop().time
        self.heard = self.answered = time()
        checks = TaskOwner("consent")
        try:
            while time() - self.answered < silence.EXPIRY:
                # Not all at once, as section 5.1 wants.
                await asyncio.sleep(silence.AGAIN * (0.8 + 0.4 * random.random()))  # noqa: S311
                well = time() - self.answered < silence.CONSENT
                if not well or time() - self.heard >= silence.PROBE:
                    for pair in self._nominated.values():
                        checks.start("check", self._check(pair))
        finally:
            await checks.close()
        self._query_consent_task = None
        await self.close()

    async def _check(self, pair: CandidatePair) -> None:
        """Ask once. Others are asked meanwhile: behind much data the answer takes its time."""
        password = self.remote_password or ""
        try:
            await pair.protocol.request(
                self.build_request(pair, nominate=False),
                pair.remote_addr,
                integrity_key=password.encode(),
                retransmissions=CHECK_RETRIES,
            )
        except TransactionError:
            return
        self.heard = self.answered = asyncio.get_running_loop().time()
