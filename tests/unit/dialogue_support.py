"""Two sides of a call without a server, without media and without a clock."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from telepathy_e2e.jingle import ice
from telepathy_e2e.jingle.call_session import CallSession
from telepathy_e2e.jingle.events import CallInitiated, Event
from telepathy_e2e.jingle.rtp import Source
from telepathy_e2e.jingle.stanzas import Jingle
from telepathy_e2e.media import engine as media_engine
from telepathy_e2e.media import events as media
from telepathy_e2e.role import Role
from telepathy_e2e.service.call_dialogue import Dialogue, Prepared
from telepathy_e2e.service.call_words import MediaType
from telepathy_e2e.tasks import TaskOwner

from .call_support import CallWire

Key = tuple[str, str]
VOICE: Key = ("initiator", "voice")
FACTS = media.DtlsFacts(b"leaf", "DTLSv1.2", "cipher", "profile")


class Engine:
    """Does what tests tell, and writes down what it is told."""

    made: list[Engine]

    def __init__(
        self,
        *,
        controlling: bool,
        credentials: str,
        servers: Sequence[object],
        events: Callable[[media.MediaEvent], None],
    ) -> None:
        self.whose = credentials
        self.tell = events
        self.roads: dict[str, int] = {}
        self.started: dict[str, str] = {}
        self.closed_roads: list[str] = []
        self.theirs: list[tuple[str, ice.Transport]] = []
        # By road, the peer's credentials: those that count, and those of before our restart.
        self._known: dict[str, tuple[str, str]] = {}
        self._outdated: dict[str, tuple[str, str]] = {}
        self.contents: dict[str, tuple[bool, bool]] = {}
        """By name: whether it is sent and whether it is received."""
        self.muted: dict[str, bool] = {}
        self.closed = False

    def add_road(self, road: str) -> None:
        self.roads[road] = 0

    def local_transport(self, road: str, setup: str = "actpass") -> ice.Transport:
        digest = hashlib.sha256(self.whose.encode()).digest()
        ufrag = f"{self.whose}{self.roads[road]}{road}"
        return ice.Transport(
            ufrag, ufrag.ljust(22, "x"), (), (ice.DtlsFingerprint("sha-256", digest, setup),)
        )

    async def gather(self, road: str) -> None:
        self.tell(media.GatheringDone(road))

    def remote_transport(self, road: str, transport: ice.Transport) -> None:
        self.theirs.append((road, transport))
        told = transport.ufrag, transport.pwd
        if told == self._outdated.get(road) or told == self._known.setdefault(road, told):
            return
        self.tell(media.RestartWanted(road))
        self._known[road] = told

    def start(
        self, road: str, role: str, fingerprints: Sequence[object], *, strict_leaf: bool
    ) -> None:
        self.started[road] = role

    def restart(self, road: str) -> ice.Transport:
        self.roads[road] += 1
        if road in self._known:
            self._outdated[road] = self._known.pop(road)
        return self.local_transport(road)

    def export(self, road: str, label: bytes, context: bytes, length: int) -> bytes:
        return bytes(length)

    async def close_road(self, road: str) -> None:
        del self.roads[road]
        self.closed_roads.append(road)

    def local_sources(self, name: str, kind: str) -> tuple[tuple[Source, ...], tuple[()]]:
        return (Source(1, ()),), ()

    async def open_content(
        self, name: str, road: str, *, send: object, receive: object, **others: object
    ) -> None:
        assert road in self.roads
        assert name not in self.contents
        self.contents[name] = send is not None, receive is not None

    async def change_content(
        self, name: str, *, send: object, receive: object, **others: object
    ) -> None:
        self.contents[name] = send is not None, receive is not None

    async def close_content(self, name: str) -> None:
        del self.contents[name]

    def mute(self, name: str, on: bool) -> None:
        self.muted[name] = on

    def set_volumes(self, name: str, *, sent: int, played: int) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class Wishes:
    """Of a user who wants everything, unless the test says otherwise."""

    sends = True
    muted = False
    volumes = 255, 255


class Choice:
    def __init__(self) -> None:
        self.of: dict[Key, Wishes] = {}

    def source(self, kind: MediaType) -> str:
        return "tone"

    def sink(self, kind: MediaType) -> str:
        return "null"

    def wishes(self, key: Key) -> Wishes:
        return self.of.setdefault(key, Wishes())


class Security:
    """Always content, unless the test closes the gate."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self.epochs = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def certify(self) -> str:
        return self._whose

    def check_announced(self, fingerprints: object) -> None:
        pass

    def agree(self, *what: object, messages: bool) -> None:
        pass

    def connected(self, handshake: object, export: object) -> None:
        self.epochs += 1

    async def opened(self) -> None:
        await self.gate.wait()


Refused = Callable[[Exception], None]


class Wire(CallWire):
    """Tells senders what was refused."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[int, deque[Refused | None]] = defaultdict(deque)

    def send(self, sender: CallSession, jingle: Jingle, refused: Refused | None = None) -> None:
        self._told[id(sender)].append(refused)
        super().send(sender, jingle)

    def deliver(self, receiver: CallSession) -> list[Event]:
        packet = (self.to_alice if receiver is self.alice else self.to_bob)[0]
        events = super().deliver(receiver)
        if packet.answers:
            refused = self._told[id(receiver)].popleft()
            if packet.error is not None and refused is not None:
                refused(packet.error)
        return events


class Link:
    def __init__(self, side: Caller, wire: Wire) -> None:
        self._wire = wire
        self.call = wire.alice if side.role is Role.INITIATOR else wire.bob
        self.role = side.role
        self.ended = False

    async def send(self, jingle: Jingle) -> None:
        self.post(jingle)

    def post(self, jingle: Jingle, refused: Refused | None = None) -> None:
        self._wire.send(self.call, jingle, refused)


class Caller:
    """One side, and what its ``Listener`` was told."""

    def __init__(self, role: Role, wire: Wire, tasks: TaskOwner) -> None:
        self.role = role
        self.answers_with: str | None = None
        """In the place of what was offered: who sends in contents that the other side adds."""
        self.told: list[tuple[Any, ...]] = []
        self.choice = Choice()
        self.security = Security(role.value)
        self.link = Link(self, wire)
        fakes: Any = self.link, self.security, self
        self.dialogue = Dialogue(*fakes, prepare=self._prepare, choice=self.choice, tasks=tasks)
        self.engine: Engine

    async def _prepare(self) -> Prepared:
        return Prepared(False, ())

    def happened(self, event: Event) -> None:
        if isinstance(event, CallInitiated):
            self.dialogue.offered(event.contents, event.payload)
        else:
            self.dialogue.session_event(event)

    def of(self, what: str) -> list[tuple[Any, ...]]:
        """What was told under this name."""
        return [each[1:] for each in self.told if each[0] == what]

    # -- ``call_dialogue.Listener`` ---------------------------------------------------------

    def sounding(self) -> None:
        self.told.append(("sounding",))

    def interrupted(self) -> None:
        self.told.append(("interrupted",))

    def leg_added(self, leg: Any) -> None:
        self.told.append(("added", leg.key))
        leg.senders = self.answers_with or leg.senders

    def leg_gone(self, key: Key, condition: str) -> None:
        self.told.append(("gone", key, condition))

    def leg_lost(self, key: Key) -> None:
        self.told.append(("lost", key))

    def leg_changed(self, leg: Any) -> None:
        self.told.append(("changed", leg.key, leg.senders))

    def heard(self, key: Key) -> None:
        self.told.append(("heard", key))

    def media_lost(self, key: Key, what: str, text: str) -> None:
        self.told.append(("media lost", key, what))

    def dialogue_failed(self, condition: str, error: Exception) -> None:
        self.told.append(("failed", condition, error))


class Talk:
    """Alice calls Bob; ``await talking()``."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.tasks = TaskOwner("talk")
        self.alice = Caller(Role.INITIATOR, self.wire, self.tasks)
        self.bob = Caller(Role.RESPONDER, self.wire, self.tasks)

    async def settle(self) -> None:
        """Until nobody has anything to do."""
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0)
            quiet += 1
            while self.wire.to_bob or self.wire.to_alice:
                quiet = 0
                for side in (self.bob, self.alice):
                    waiting = self.wire.to_bob if side is self.bob else self.wire.to_alice
                    if waiting:
                        for event in self.wire.deliver(side.link.call):
                            side.happened(event)

    async def talking(self, *names: str) -> None:
        """They do, in contents of sound of these names that share one road."""
        wanted = {name: MediaType.AUDIO for name in names or ("voice",)}
        offering = asyncio.ensure_future(self.alice.dialogue.offer(wanted))
        await self.settle()
        await offering
        self.alice.engine = Engine.made[-1]
        answering = asyncio.ensure_future(self.bob.dialogue.answer())
        await self.settle()
        await answering
        self.bob.engine = Engine.made[-1]
        await self.connected(next(iter(wanted)))

    async def connected(self, road: str) -> None:
        """Both have shaken hands."""
        for side in (self.alice, self.bob):
            assert road in side.engine.started
            side.engine.tell(media.Connected(road, FACTS))
        await self.settle()

    async def add(self, name: str, *, up: bool = True, senders: str = "both") -> Key:
        """Alice adds a content, which has a road of its own."""
        adding = asyncio.ensure_future(self.alice.dialogue.add(name, MediaType.AUDIO, senders))
        await self.settle()
        key = await adding
        if up:
            await self.connected(name)
        return key

    async def end(self) -> None:
        await self.alice.dialogue.close()
        await self.bob.dialogue.close()
        await self.tasks.close()


@contextmanager
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls are made with ``Engine``."""

    class Made(Engine):
        def __init__(self, **how: Any) -> None:
            super().__init__(**how)
            Engine.made.append(self)

    Engine.made = []
    monkeypatch.setattr(media_engine, "MediaEngine", Made)
    yield
