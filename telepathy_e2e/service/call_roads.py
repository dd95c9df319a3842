"""The roads of a call: which contents share one, the peer's side of each, and new ways for them.

A road is one ICE transport with one DTLS association. Contents are bundled on the first one where
both sides can (XEP-0338), else each has its own, called by its content.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.jingle import ice
from telepathy_e2e.media import events as media
from telepathy_e2e.role import Role

if TYPE_CHECKING:
    from telepathy_e2e.media.engine import MediaEngine
    from telepathy_e2e.tasks import TaskOwner

log = logging.getLogger(__name__)

# Seconds that an offer waits for the addresses of this machine: they are there at once.
HOSTS = 1.0

_OTHER = {"active": "passive", "passive": "active"}

# Candidates of the answerer that came before its answer.
MAX_EARLY = 100


class Roads:
    """See the module.

    Args:
        role: ours in the session.
        tell: sends candidates of ours for a road.

    Attributes:
        main: the road whose keys the sealed messages have.
        fingerprints: of the peer's certificate, the same for all contents.
        connected: those whose handshake is done.
    """

    def __init__(
        self, role: Role, tasks: TaskOwner, tell: Callable[[str, ice.Transport], None]
    ) -> None:
        self._role = role
        self._tasks = tasks
        self._tell = tell
        self._engine: MediaEngine | None = None
        self._bundle: tuple[str, ...] = ()
        self.main = ""
        self.fingerprints: tuple[ice.DtlsFingerprint, ...] = ()
        self.connected: set[str] = set()
        self._setup = "actpass"
        # By road that was started: our part in its handshake, as setup says it.
        self._started: dict[str, str] = {}
        self._trickling: set[str] = set()
        self._hosts: dict[str, asyncio.Event] = {}
        self._early: list[tuple[str, ice.Transport, bool]] = []
        self._theirs: dict[str, ice.Transport] = {}
        # Those whose ICE we began anew, until the peer does as well.
        self._renewing: set[str] = set()

    # -- which contents share one ----------------------------------------------------------------

    def bundled(self, names: Sequence[str], first: str) -> None:
        """What both sides bundle.

        Args:
            names: of contents; one alone is no bundle.
            first: the content whose road is the main one without a bundle.
        """
        self._bundle = tuple(names) if len(names) > 1 else ()
        self.main = self._bundle[0] if self._bundle else first

    def joined(self, name: str) -> Sequence[str]:
        """A content that is added goes where the others are; the bundle as it is then."""
        if self._bundle:
            self._bundle = (*self._bundle, name)
        return self._bundle

    def road_of(self, name: str) -> str:
        """Of a content."""
        return self.main if name in self._bundle else name

    def bundle_of(self, names: Iterable[str]) -> list[str]:
        """Those of these that are bundled, if that are several."""
        found = [name for name in names if name in self._bundle]
        return found if len(found) > 1 else []

    # -- ours ------------------------------------------------------------------------------------

    def begin(self, engine: MediaEngine) -> None:
        """The call has an engine."""
        self._engine = engine

    async def open(self, names: Iterable[str]) -> None:
        """Make roads, and wait for the addresses of this machine."""
        engine = self._live()
        wanted = [name for name in dict.fromkeys(names) if name not in self._hosts]
        for name in wanted:
            engine.add_road(name)
            if name in self._theirs:
                engine.remote_transport(name, self._theirs[name])
            self._hosts[name] = asyncio.Event()
            self._tasks.start(f"gather {name}", engine.gather(name))
        for name in wanted:
            try:
                async with asyncio.timeout(HOSTS):
                    await self._hosts[name].wait()
            except TimeoutError:
                log.info("no address of this machine so far; they follow")

    def own(self, name: str) -> ice.Transport:
        """Our side of a road, for an offer or an answer; what is found later is told."""
        self._trickling.add(name)
        return self._live().local_transport(name, self._said(name))

    def answering(self) -> None:
        """What we say from now on are answers (RFC 5763 section 5). Raises: SecurityError."""
        self._setup = ice.answer_setup(_setup(self.fingerprints))

    def gathered(self, event: media.LocalCandidates | media.GatheringDone) -> None:
        """Candidates of ours: those that come before the offer or the answer travel in it."""
        name = event.road
        if name in self._hosts:
            self._hosts[name].set()
        if name not in self._trickling or self._engine is None:
            return
        own = self._engine.local_transport(name, self._said(name))
        candidates = event.candidates if isinstance(event, media.LocalCandidates) else ()
        done = isinstance(event, media.GatheringDone)
        self._tell(name, ice.Transport(own.ufrag, own.pwd, candidates, (), done))

    def move(self, name: str) -> None:
        """The content of this road is bundled with another; the road is not needed."""
        self._trickling.discard(name)
        self._hosts.pop(name, None)
        self._tasks.start("close road", self._live().close_road(name))

    async def close(self, name: str) -> None:
        """Nothing is on it any more."""
        if name not in self._hosts:
            return
        del self._hosts[name]
        self.connected.discard(name)
        self._trickling.discard(name)
        self._started.pop(name, None)
        self._theirs.pop(name, None)
        self._renewing.discard(name)
        if self._engine is not None:
            await self._engine.close_road(name)

    # -- the peer's ------------------------------------------------------------------------------

    def take(self, name: str, transport: ice.Transport) -> None:
        """The peer's side of a road, in an offer or an answer.

        Raises:
            SecurityError: another certificate than that of its other contents.
        """
        self._check(transport)
        self.fingerprints = self.fingerprints or transport.fingerprints
        self._theirs.setdefault(name, transport)

    def start(self, names: Iterable[str], *, strict: bool) -> None:
        """Both sides are known: connect what is not connected.

        Args:
            strict: the peer's certificate has the form of ours (xtls-wire, section 2).
        Raises:
            SecurityError: the parts in the handshake do not fit.
        """
        engine = self._live()
        for name in dict.fromkeys(names):
            if name in self._started:
                continue
            theirs = self._theirs[name]
            role = ice.dtls_role(self._setup, _setup(theirs.fingerprints or self.fingerprints))
            if self._role is Role.INITIATOR:
                engine.remote_transport(name, theirs)
            self._started[name] = "active" if role == "client" else "passive"
            engine.start(name, role, self.fingerprints, strict_leaf=strict)
        early, self._early = self._early, []
        for name, transport, first in early:
            self.info(name, transport, first=first)

    def info(self, name: str, transport: ice.Transport, *, first: bool = True) -> None:
        """More of the peer's side. With new credentials ICE begins anew (section 5.12): they answer
        ours, or the engine says ``RestartWanted``.

        Args:
            first: what it is about is the first content of those that are on this road.
        Raises:
            NotAvailable: see ``restarted``.
            SecurityError: another certificate.
        """
        self._check(transport)
        if name not in self._started:
            if len(self._early) < MAX_EARLY:
                self._early.append((name, transport, first))
            return
        known = self._theirs.get(name)
        if not transport.pwd and known is not None and transport.ufrag in ("", known.ufrag):
            # stanza.js names the fragment alone.
            transport = ice.Transport(
                known.ufrag, known.pwd, transport.candidates, (), transport.gathering_complete
            )
        if not transport.has_credentials:
            return  # of a transport that is not known
        if known is not None and (transport.ufrag, transport.pwd) != (known.ufrag, known.pwd):
            if not first:
                # Of a transport that is not used, since its content is bundled with others.
                return
            self._check_part(name, transport)
            self._theirs[name] = transport
            self._renewing.discard(name)
        self._live().remote_transport(name, transport)

    # -- another way (XEP-0176 section 5.12) -----------------------------------------------------

    def renew(self, name: str) -> ice.Transport | None:
        """Look for another way.

        Returns: our new credentials, to be told; the candidates follow. None: the peer has not
            answered those before. To begin anew once more could go on for ever: either side
            would take the other's answer to the one before for a new beginning.
        Raises:
            NotAvailable: there is nothing to restart.
        """
        if name in self._renewing:
            return None
        own = self.restart(name)
        self._renewing.add(name)
        return ice.Transport(own.ufrag, own.pwd)

    def not_renewed(self, name: str) -> None:
        """The peer refuses what ``renew`` gave. He may be asked again."""
        self._renewing.discard(name)

    def restart(self, name: str) -> ice.Transport:
        """Begin ICE anew, since the peer does; our candidates tell him of it.

        Raises:
            NotAvailable: there is nothing to restart.
        """
        if name not in self._started:
            raise NotAvailable("This road was never there")
        transport = self._live().restart(name)
        self._tasks.start(f"gather {name}", self._live().gather(name))
        return transport

    def restarted(self, name: str, transport: ice.Transport) -> ice.Transport:
        """The peer looks for another way by transport-replace; our side of it, to be answered.

        Raises:
            NotAvailable: there is nothing to restart, or he wants another DTLS association over
                it, which nobody in the field does (docs/media.md).
            SecurityError: with another certificate.
        """
        self._check(transport)
        if name not in self._started:
            raise NotAvailable("This road was never there")
        self.info(name, transport)  # with which the engine wants ``restart``
        return self._live().local_transport(name, self._started[name])

    # -- inside ----------------------------------------------------------------------------------

    def _said(self, name: str) -> str:
        """Our setup: open before the handshake, what it was after it."""
        return self._started.get(name, self._setup)

    def _check(self, transport: ice.Transport) -> None:
        """xtls-wire, section 1: one certificate for all contents of one side, now and later."""
        known, shown = self.fingerprints, transport.fingerprints
        if known and shown and _digests(known) != _digests(shown):
            raise SecurityError("another certificate than that of the other contents")

    def _check_part(self, name: str, transport: ice.Transport) -> None:
        """RFC 8842 section 5.5: other parts in the handshake mean another handshake. To answer
        with the parts of the one that there was would leave both sides with different keys."""
        theirs = _setup(transport.fingerprints)
        if theirs is not None and theirs not in ("actpass", _OTHER[self._started[name]]):
            raise NotAvailable("Another DTLS association is not made in a call")

    def _live(self) -> MediaEngine:
        if self._engine is None:
            raise NotAvailable("The call has not begun, or has ended")
        return self._engine


def _digests(fingerprints: Sequence[ice.DtlsFingerprint]) -> set[tuple[str, bytes]]:
    return {(each.hash, each.digest) for each in fingerprints}


def _setup(fingerprints: Sequence[ice.DtlsFingerprint]) -> str | None:
    return next((each.setup for each in fingerprints), None)
