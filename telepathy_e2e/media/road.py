"""One road of a call: a generation of ICE or several, one DTLS association over them."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from aioice import Candidate as AioCandidate

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.jingle.ice import Candidate, DtlsFingerprint, Transport
from telepathy_e2e.media import mapping
from telepathy_e2e.media.events import (
    Connected,
    Disconnected,
    DtlsFacts,
    GatheringDone,
    LocalCandidates,
    MediaEvent,
    Restarted,
    RestartWanted,
    RoadFailed,
    Why,
)
from telepathy_e2e.media.inside_aioice import TrickleConnection, usable
from telepathy_e2e.media.inside_aiortc import SecureTransport
from telepathy_e2e.media.path import Path
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.media.silence import Silence, patience
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.identity import Credentials
from telepathy_e2e.xtls.offer import Fingerprint, digest

log = logging.getLogger(__name__)

# Seconds.
DTLS_DEADLINE = 30.0
LOOK = 0.5
# Candidates of a peer that wait for our sockets (aioice bounds what it holds from then on).
MAX_EARLY = 64
# Stanzas that wait for our restart: one with each of his candidates.
MAX_PARKED = 32

HASH = "sha-256"


class _Generation:
    """One ICE of a road."""

    def __init__(self, controlling: bool, number: int) -> None:
        self.connection = TrickleConnection(controlling=controlling)
        self.number = number
        self.candidates: list[Candidate] = []
        self.hosts = asyncio.Event()
        """Our sockets are there."""
        self.credentials = asyncio.Event()
        """The peer's are there."""
        self.asking: asyncio.Task[None] | None = None
        """Servers, for further addresses."""
        self.over = False

    async def end(self) -> None:
        """Give its sockets back; may be called twice."""
        self.over = True
        self.hosts.set()  # nobody waits for them any more
        if self.asking is not None:
            self.asking.cancel()
        await self.connection.close()


class Road:
    """See ``engine``, which has the same methods with the road's name before the arguments."""

    def __init__(
        self,
        name: str,
        *,
        controlling: bool,
        credentials: Credentials,
        servers: Sequence[IceServer],
        events: Callable[[MediaEvent], None],
        association: type[SecureTransport] = SecureTransport,
        found: Callable[[], None] = lambda: None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self._association = association
        self._controlling = controlling
        self._credentials = credentials
        self._servers = tuple(servers)
        self._events = events
        self._tasks = TaskOwner(f"road {name}")
        self._ids = itertools.count()
        self._path = Path(controlling, self._lost)
        self._generation = _Generation(controlling, 0)
        self._former: list[_Generation] = []
        self._parked: list[Transport] = []
        self._outdated: tuple[str | None, str | None] = (None, None)
        self._early = 0
        self._establishing: asyncio.Task[None] | None = None
        self._role = ""
        self._fingerprints: tuple[Fingerprint, ...] = ()
        self._strict = True
        self._closed = False
        self._patience = patience()
        self._silence = Silence(self._patience)
        self._found = found
        self._wall = wall
        self.dtls: SecureTransport | None = None
        self.facts: DtlsFacts | None = None
        """Once connected."""

    def give_up_after(self, seconds: float) -> None:
        """Of silence, in the place of what people wait for in calls."""
        self._silence.patience = seconds

    # -- the signalling -------------------------------------------------------------------------

    def local_transport(self, setup: str = "actpass") -> Transport:
        connection = self._generation.connection
        print_ = DtlsFingerprint(HASH, digest(HASH, self._credentials.leaf), setup)
        return Transport(
            ufrag=connection.local_username,
            pwd=connection.local_password,
            candidates=tuple(self._generation.candidates),
            fingerprints=(print_,),
        )

    async def gather(
        self, more: Callable[[], Awaitable[Sequence[IceServer]]] | None = None
    ) -> None:
        """Find our addresses.

        Args:
            more: asks for further servers; addresses of this machine do not wait for it.
        """
        generation = self._generation
        connection = generation.connection
        if generation.hosts.is_set() or generation.over or self._closed:
            return

        def found(*candidates: AioCandidate) -> None:
            ours = tuple(
                mapping.from_aioice(each, f"c{next(self._ids)}", generation.number)
                for each in candidates
            )
            generation.candidates += ours
            if ours and generation is self._generation and not self._closed:
                self._events(LocalCandidates(self.name, ours))

        hosts = await connection.gather_hosts()
        if self._closed or generation.over:  # meanwhile: nobody else closes these sockets
            await connection.close()
            return
        found(*hosts)
        generation.hosts.set()
        servers = self._servers if more is None else (*self._servers, *await more())
        if not generation.over:
            asking = connection.gather_servers(servers, self._tasks, found)
            generation.asking = self._tasks.start("servers", asking, awaited=True)
            await asyncio.wait([generation.asking])
            if not generation.asking.cancelled():
                generation.asking.result()
        connection.servers_done()
        if generation is self._generation and not self._closed:
            self._events(GatheringDone(self.name))
            await connection.maybe_end()

    def remote_transport(self, transport: Transport) -> None:
        if self._closed:
            return
        connection = self._generation.connection
        if transport.ufrag and transport.pwd:
            told = (transport.ufrag, transport.pwd)
            known = (connection.remote_username, connection.remote_password)
            if told == self._outdated:
                return  # sent before he heard of our restart
            if known == (None, None):
                connection.remote_username = transport.ufrag
                connection.remote_password = transport.pwd
                self._generation.credentials.set()
            elif known != told:
                self._park(transport)
                return
        self._take_candidates(transport)

    def _park(self, transport: Transport) -> None:
        """His ICE begins anew. It waits until ours does."""
        wanted = not self._parked
        if not wanted and self._parked[0].ufrag != transport.ufrag:
            self._parked.clear()  # and anew once more
        if len(self._parked) < MAX_PARKED:
            self._parked.append(transport)
        if wanted:
            self._events(RestartWanted(self.name))

    def _take_candidates(self, transport: Transport) -> None:
        candidates = transport.candidates[: max(MAX_EARLY - self._early, 0)]
        if candidates or transport.gathering_complete:
            self._early += len(candidates)
            adding = self._add(self._generation, candidates, transport.gathering_complete)
            self._tasks.start("candidates", adding)

    async def _add(
        self, generation: _Generation, candidates: Sequence[Candidate], complete: bool
    ) -> None:
        connection = generation.connection
        # Which of his addresses are good depends on ours.
        try:
            await generation.hosts.wait()
        finally:
            self._early -= len(candidates)
        for each in candidates:
            candidate = mapping.to_aioice(each)
            if candidate is None or not usable(candidate.host, connection.addresses):
                continue
            if connection.full or connection.ended:
                break
            if candidate.host.endswith(".local"):
                # The answer takes up to a second (RFC 6762); others do not wait for it. It is
                # counted from its first step on.
                self._tasks.start("mdns", _resolve(connection, candidate))
                await asyncio.sleep(0)
                continue
            await connection.add_remote_candidate(candidate)
        if complete:
            await connection.peer_done()
            await connection.maybe_end()

    # -- connecting -----------------------------------------------------------------------------

    def start(self, role: str, fingerprints: Sequence[DtlsFingerprint], strict: bool) -> None:
        if self._role:
            raise NotAvailable("This road was started already")
        self._role = role
        self._fingerprints = tuple(Fingerprint(each.hash, each.digest) for each in fingerprints)
        self._strict = strict
        self._begin()

    def restart(self) -> Transport:
        if self._closed or not self._role:
            raise NotAvailable("There is nothing to restart")
        former = self._generation
        self._former.append(former)
        # What it found already, a handshake may be going on over, and media. If it found nothing
        # its sockets go: a peer that begins anew all the time would have us hold many.
        if former.connection is not self._path.current:
            if self._establishing is not None:
                self._establishing.cancel()
            self._tasks.start("former", self._end_former(former))
        if former.credentials.is_set():  # else he has not heard of the restart before this one
            known = former.connection
            self._outdated = (known.remote_username, known.remote_password)
        self._generation = _Generation(self._controlling, former.number + 1)
        self._begin()
        parked, self._parked = self._parked, []
        for transport in parked:
            self.remote_transport(transport)
        return self.local_transport()

    async def _end_former(self, generation: _Generation) -> None:
        await generation.end()
        if generation in self._former:
            self._former.remove(generation)

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        if self.dtls is None or self.facts is None:
            raise NotAvailable("There are no keys before the handshake is done")
        return self.dtls.export(label, context, length)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._path.stop_receiving()
        await self._tasks.close()
        if self.dtls is not None:
            await self.dtls.end()
        self._path.close()
        for generation in (*self._former, self._generation):
            await generation.end()

    def _begin(self) -> None:
        self._establishing = self._tasks.start("connect", self._establish(self._generation))

    async def _establish(self, generation: _Generation) -> None:
        try:
            if generation.number == 0:  # the peer is still asked whether he wants to talk
                await generation.credentials.wait()
            async with asyncio.timeout(self._patience):
                await generation.credentials.wait()
                await generation.hosts.wait()
                await generation.connection.connect()
        except (ConnectionError, TimeoutError):
            await generation.end()
            if self.facts is None:
                self._failed("ice", "no way to the peer was found")
            # Else the former way may be good still; how long that is waited for, _watch knows.
            return
        now = asyncio.get_running_loop().time()
        generation.connection.heard = generation.connection.answered = now
        self._silence.found()
        self._path.use(generation.connection)
        former, self._former = self._former, []
        for each in former:
            await each.end()
        if self.dtls is None:
            self._found()
            await self._secure()
        elif self.facts is not None:
            self._events(Restarted(self.name))

    async def _secure(self) -> None:
        self.dtls = self._association(self._path, self._credentials, self._check_peer)
        try:
            async with asyncio.timeout(DTLS_DEADLINE):
                facts = await self.dtls.handshake(self._role)
        except SecurityError as error:
            await self.dtls.end()
            self._failed("security", str(error))
        except TimeoutError:
            await self.dtls.end()
            self._failed("dtls", "the handshake was not completed in time")
        else:
            if facts is None:
                await self.dtls.end()
                self._failed("dtls", "the handshake failed")
                return
            if self._closed:
                return  # by its last datagram: see ``Path.stop_receiving``
            self.facts = facts
            self.dtls.on("statechange", self._state_changed)
            self._events(Connected(self.name, facts))
            self._tasks.start("watch", self._watch())

    async def _watch(self) -> None:
        """Say when the peer is not heard any more, and when he is again."""
        time = asyncio.get_running_loop().time
        heard = answered = time()
        while True:
            await asyncio.sleep(LOOK)
            if (connection := self._path.current) is not None:
                heard, answered = connection.heard, connection.answered
            match self._silence.look(time(), heard, answered):
                case "interrupted" | "again":
                    self._events(Disconnected(self.name))
                case "back":
                    self._events(Restarted(self.name))
                case "gone":
                    self._failed("ice", "the peer is not heard any more")
                    return
                case "well":
                    pass

    def _check_peer(self, certificate: bytes, depth: int) -> None:
        if not self._strict:
            if depth == 0:
                check_fingerprints(certificate, self._fingerprints)
            return
        if depth > 0:
            raise SecurityError("more than one certificate was shown")
        identity.check_leaf(certificate, self._fingerprints, self._wall())

    def _state_changed(self) -> None:
        if self.dtls is not None and self.dtls.state == "closed" and not self._closed:
            self._failed("dtls", "the peer ended the association")

    def _lost(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._closed and self._silence.lost(now) == "interrupted":
            self._events(Disconnected(self.name))

    def _failed(self, why: Why, text: str) -> None:
        if not self._closed:
            log.info("road %s failed (%s): %s", self.name, why, text)
            self._events(RoadFailed(self.name, why, text))


async def _resolve(connection: TrickleConnection, candidate: AioCandidate) -> None:
    try:
        await connection.add_remote_candidate(candidate)
    except (OSError, ValueError) as error:  # no multicast here; too late
        log.info("a name was not resolved: %s", type(error).__name__)


def check_fingerprints(certificate: bytes, fingerprints: Sequence[Fingerprint]) -> None:
    """What RFC 8122 section 5 wants of anybody's certificate.

    All whose hash we know must match, and there must be one: a browser's certificate has no
    form that could be checked beyond that.

    Raises:
        SecurityError: it is not the announced one.
    """
    known = [each for each in fingerprints if each.known]
    if not known:
        raise SecurityError("no fingerprint by a hash that we know")
    for each in known:
        if not hmac.compare_digest(digest(each.hash, certificate), each.digest):
            raise SecurityError("the certificate is not the one that was announced")
