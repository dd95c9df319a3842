"""Two multiplexers and a road between them, which tests cut, hold up and take away."""

from __future__ import annotations

from dataclasses import dataclass, field

from telepathy_e2e.role import Role
from telepathy_e2e.tubes.events import Data, Eof, Event, Opened, Reset
from telepathy_e2e.tubes.frames import Kind, Preface, build_preface, header
from telepathy_e2e.tubes.limits import Limits
from telepathy_e2e.tubes.mux import Multiplexer

BOTH = (Role.INITIATOR, Role.RESPONDER)


@dataclass
class Tube:
    """Both sides; ``seen[role]`` is what that side was told."""

    limits: Limits = field(default_factory=Limits)
    consume: bool = True
    """Whether programs take what comes at once; those in ``stuck`` never do."""

    def __post_init__(self) -> None:
        self.end = {role: Multiplexer(role, self.limits) for role in BOTH}
        self.seen: dict[Role, list[Event]] = {role: [] for role in BOTH}
        self.got: dict[Role, dict[int, bytearray]] = {role: {} for role in BOTH}
        self.held: dict[Role, dict[int, int]] = {role: {} for role in BOTH}
        self.wire: dict[Role, bytearray] = {role: bytearray() for role in BOTH}
        """By sender."""
        self.stuck: set[int] = set()
        self.up()

    def up(self) -> None:
        for role in BOTH:
            self.end[role].road_up()

    def lose_road(self) -> None:
        """What is on the way is gone."""
        for role in BOTH:
            self.end[role].road_lost()
            self.wire[role].clear()

    def take(self, role: Role, limit: int = 98_304) -> bool:
        data = self.end[role].data_to_send(limit)
        self.wire[role] += data
        self.note(role, self.end[role].events())
        return bool(data)

    def give(self, sender: Role, size: int = 1 << 30) -> bool:
        data = bytes(self.wire[sender][:size])
        del self.wire[sender][:size]
        if data:
            self.note(sender.other, self.end[sender.other].receive_data(data))
        return bool(data)

    def note(self, role: Role, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Data):
                self.got[role].setdefault(event.id, bytearray()).extend(event.data)
                if self.consume and event.id not in self.stuck:
                    self.end[role].consumed(event.id, len(event.data))
                else:
                    held = self.held[role]
                    held[event.id] = held.get(event.id, 0) + len(event.data)
            else:
                self.seen[role].append(event)

    def run(self) -> Tube:
        """Until nothing moves."""
        while any([*map(self.take, BOTH), *map(self.give, BOTH)]):
            pass
        return self

    def told(self, role: Role, kind: type[Event]) -> list[Event]:
        return [event for event in self.seen[role] if isinstance(event, kind)]

    def opened(self, role: Role) -> list[int]:
        """Ids of the connections that the other side opened."""
        return [event.id for event in self.seen[role] if isinstance(event, Opened)]

    def ended(self, role: Role) -> list[int]:
        return [event.id for event in self.seen[role] if isinstance(event, Eof)]

    def resets(self, role: Role) -> list[Reset]:
        return [event for event in self.seen[role] if isinstance(event, Reset)]


def alone(role: Role = Role.RESPONDER, limits: Limits | None = None) -> Multiplexer:
    """One side whose peer is the test: its preface has come, with room for everything."""
    mux = Multiplexer(role, limits)
    mux.road_up()
    mux.receive_data(build_preface(Preface(1024, 1 << 20, 0)))
    mux.data_to_send()
    mux.events()
    return mux


def frame(kind: int, number: int, n: int | bytes = 0) -> bytes:
    """A frame; bytes are its payload."""
    if isinstance(n, bytes):
        return header(kind, number, len(n)) + n
    return header(kind, number, n)


__all__ = ["BOTH", "Kind", "Tube", "alone", "frame"]
