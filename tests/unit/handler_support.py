"""A bus for tests of the handler: it keeps what is called, and answers as it is told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, cast

from telepathy_e2e.cli.bus import BusError
from telepathy_e2e.handler.wire import HandlerBus

SHOWS = ":1.9"


class FakeBus:
    """Set ``errors["Member"]`` to answer that call with an error of this name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, list[Any]]] = []
        self.errors: dict[str, str] = {}
        self.chain = [b"leaf", b"identity"]
        self.on_notify: Callable[[int], None] = lambda number: None
        self._number = 0

    @property
    def bus(self) -> HandlerBus:
        return cast(HandlerBus, self)

    async def call(
        self, destination: str, path: str, interface: str, member: str, signature: str, *body: Any
    ) -> list[Any]:
        self.calls.append((path, member, list(body)))
        if member in self.errors:
            raise BusError(self.errors[member], "")
        if member == "Notify":
            # A notification that takes the place of another one keeps its number.
            self._number += not body[1]
            number = body[1] or self._number
            self.on_notify(number)
            return [number]
        return []

    async def get_all(self, destination: str, path: str, interface: str) -> dict[str, Any]:
        if "GetAll" in self.errors:
            raise BusError(self.errors["GetAll"], "")
        return {"CertificateChainData": self.chain}

    async def owner(self, name: str) -> str:
        return SHOWS

    def members(self) -> list[str]:
        return [member for _, member, _ in self.calls]

    def notified(self) -> list[dict[str, Any]]:
        """What was shown: its title, text, actions and so on."""
        names = "application", "replaces", "icon", "title", "text", "actions", "hints", "timeout"
        found = [body for _, member, body in self.calls if member == "Notify"]
        return [dict(zip(names, body, strict=True)) for body in found]


class Later:
    """In place of tasks: what was started runs when the test says so."""

    def __init__(self) -> None:
        self._waiting: list[Coroutine[Any, Any, None]] = []

    @property
    def start(self) -> Callable[[str, Coroutine[Any, Any, None]], object]:
        return lambda _, coroutine: self._waiting.append(coroutine)

    async def run(self) -> int:
        """All that waits; how many those were."""
        count = 0
        while self._waiting:
            count += 1
            await self._waiting.pop(0)
        return count
