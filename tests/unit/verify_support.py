"""Two ceremonies side by side, for the tests of ``verify``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TypeVar
from unittest import mock
from xml.etree.ElementTree import Element

import cpace

from telepathy_e2e.role import Role
from telepathy_e2e.verify.ceremony import (
    Ceremonies,
    CeremonyEnded,
    ContactTries,
    Event,
    Send,
    StringReady,
    Tries,
    V,
)

BINDING = b"B" * 32
FI, FR = b"I" * 32, b"R" * 32
SECRET = "open sesame"

E = TypeVar("E", bound=Event)


def drawing(draw: Callable[[int], bytes]) -> mock._patch[SimpleNamespace]:
    """A context in which CPace draws its scalars from ``draw``."""
    return mock.patch.object(cpace, "secrets", SimpleNamespace(token_bytes=draw))


@contextmanager
def scalars(*values: bytes) -> Iterator[None]:
    """CPace's next scalars are these, and all of them are drawn."""
    left = list(values)
    with drawing(lambda _: left.pop(0)):
        yield
    assert not left


@dataclass
class Counter:
    """Deterministic "randomness": every call gives other bytes."""

    label: str
    count: int = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_128(f"{self.label}{self.count}".encode()).digest(size)


@dataclass
class Side:
    """One side, its tries, and all it ever said."""

    role: Role
    methods: tuple[str, ...] = ("sas", "password")
    binding: bytes = BINDING
    contacts: ContactTries = field(default_factory=ContactTries)
    said: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tries: Tries = self.contacts.session(f"{self.role}@me", "contact@example.org")
        self.random = Counter(self.role.value)
        self.machine = Ceremonies(
            role=self.role,
            binding=self.binding,
            initiator_fingerprint=FI,
            responder_fingerprint=FR,
            methods=self.methods,
            tries=self.tries,
            random=self.random,
        )

    def start(self, now: float = 0) -> list[Event]:
        return self._note(self.machine.start_sas(now))

    def password(self, secret: str = SECRET, now: float = 0) -> list[Event]:
        with drawing(self.random):
            return self._note(self.machine.start_password(secret, now))

    def confirm(self, match: bool, now: float = 0) -> list[Event]:
        return self._note(self.machine.confirm_sas(match, now))

    def hear(self, element: Element, now: float = 0) -> list[Event]:
        # A start that crossed ours is answered at once.
        with drawing(self.random):
            return self._note(self.machine.receive(element, now))

    def tick(self, now: float) -> list[Event]:
        return self._note(self.machine.tick(now))

    def disturb(self, now: float = 0) -> list[Event]:
        return self._note(self.machine.disturbed("gap", now))

    def _note(self, events: list[Event]) -> list[Event]:
        self.said += events
        return events

    @property
    def string(self) -> str | None:
        """The last one that was shown."""
        return next((e.text for e in reversed(self.said) if isinstance(e, StringReady)), None)

    @property
    def ends(self) -> list[CeremonyEnded]:
        return of(self.said, CeremonyEnded)


def pair() -> tuple[Side, Side]:
    """Initiator and responder."""
    return Side(Role.INITIATOR), Side(Role.RESPONDER)


def of(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def sent(events: list[Event]) -> list[Element]:
    return [event.element for event in events if isinstance(event, Send)]


def one(events: list[Event]) -> Element:
    """The only element among the events."""
    (element,) = sent(events)
    return element


def names(events: list[Event]) -> list[str]:
    """Tags of what is sent, class names of the other events."""
    return [
        e.element.tag.removeprefix(f"{{{V}}}") if isinstance(e, Send) else type(e).__name__
        for e in events
    ]


def element(name: str, text: str | None = None, **attributes: str) -> Element:
    made = Element(f"{{{V}}}{name}", attributes)
    made.text = text
    return made


def compare(starter: Side, other: Side, now: float = 0) -> str:
    """Up to the point where both users see a string; returns its id."""
    commit = one(starter.start(now))
    other.hear(commit, now)
    reveal = one(starter.hear(one(other.start(now)), now))
    other.hear(reveal, now)
    return commit.get("id", "")
