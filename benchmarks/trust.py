"""What trust costs: time for a pinned contact, time for a ceremony, questions for people."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dbus_fast import Message
from dbus_fast.aio import MessageBus

from telepathy_e2e.handler.book import Book
from telepathy_e2e.handler.memory import Memory
from telepathy_e2e.handler.pins import LEAP_OF_FAITH, Action, Question
from telepathy_e2e.handler.store import Store
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import FILE_TRANSFER, VERIFICATION, Side, Signal
from tests.support.trust import Trust

Row = Callable[[str, str, str], None]

# The key agents answer a burst of 200 certifications without holding back: all of them together
# stay below that.
ROUNDS, IN_ROUND, CEREMONIES = 6, 14, 10
SIZE = 1000
PEOPLE = (FILE_TRANSFER, VERIFICATION)
CONTACTS, DEVICES, TRANSFERS, ORDERS = 10, 3, 100, 5


async def run(server: Prosody, row: Row) -> None:
    """All of it."""
    os.environ["TELEPATHY_E2E_DEBUG"] = ""
    await pinned(server, row)
    await traffic(server, row)
    await ceremonies(server, row)
    await questions(row)


def _ms(values: list[float]) -> str:
    """The first tenth, which other people's programs on the machine disturb least; and as usual."""
    shown = [f"{_at(values, part) * 1000:.1f}" for part in (0.1, 0.5, 0.9)]
    return " / ".join(shown) + " ms"


def _at(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


class Watch:
    """When each question on a bus was put, and when it was answered."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._put: dict[str, float] = {}

    def __call__(self, message: Message) -> None:
        if message.member == "NewChannels":
            for path, _ in message.body[0]:
                self._put[path] = time.perf_counter()
        elif message.member == "Finished" and message.path in self._put:
            self.times.append(time.perf_counter() - self._put[message.path])

    @asynccontextmanager
    async def on(self, side: Side) -> AsyncIterator[None]:
        bus = await MessageBus(side.address).connect()
        try:
            bus.add_message_handler(self)
            await bus.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="AddMatch",
                    signature="s",
                    body=["type='signal'"],
                )
            )
            yield
        finally:
            bus.disconnect()


# -- a pinned contact -----------------------------------------------------------------------------


async def pinned(server: Prosody, row: Row) -> None:
    """Transfers between two who have pinned each other, and between two whom nobody asks."""
    pair = await Pair.start(server)
    watch = Watch()
    try:
        await _verify(pair)
        times: dict[bool, list[float]] = {False: [], True: []}
        async with watch.on(pair.alice):
            for _ in range(ROUNDS):
                for asked in (False, True):
                    handlers = await _handlers(pair) if asked else []
                    await _transfer(pair)
                    times[asked] += [await _transfer(pair) for _ in range(IN_ROUND)]
                    if asked:
                        await _by_pin(pair)
                    for each in handlers:
                        await each.stop()
        count = f"{len(times[True])} transfers of {SIZE} bytes, in turns of {IN_ROUND}"
        row("CreateChannel to completed, nobody handles questions", _ms(times[False]), count)
        row("the same, verified by pins on both sides", _ms(times[True]), count)
        more = [_at(times[True], part) - _at(times[False], part) for part in (0.1, 0.5, 0.9)]
        added = " / ".join(f"{each * 1000:.1f}" for each in more)
        row("verification by a pin adds", f"{added} ms", "the difference of the two above")
        row("a question put until it is answered by a pin", _ms(watch.times), "seen from the bus")
    finally:
        await pair.stop()


async def _handlers(pair: Pair) -> list[Trust]:
    return list(await asyncio.gather(Trust.start(pair.alice), Trust.start(pair.bob)))


async def _verify(pair: Pair) -> None:
    """Both have met, and then compared."""
    handlers = await _handlers(pair)
    await _transfer(pair)
    for each in handlers:
        pin = await each.pinned(LEAP_OF_FAITH)
        compared = replace(pin, methods=("sas",))
        each.store.update(partial(Book.put, pin=compared))
        await each.stop()


async def _transfer(pair: Pair) -> float:
    """Seconds from CreateChannel until both have it."""
    pair.alice.signals.clear()
    pair.bob.signals.clear()
    started = time.perf_counter()
    await pair.send(bytes(SIZE))
    return time.perf_counter() - started


async def _by_pin(pair: Pair) -> None:
    """It is what it is said to be."""
    for side in (pair.alice, pair.bob):
        told = await side.signal(lambda s: s.member == "Finished")
        if told.body[:2] != ("verified", "pin"):
            raise RuntimeError(f"not by a pin: {told}")


async def traffic(server: Prosody, row: Row) -> None:
    """Stanzas of one transfer, both ways, as the log of either daemon has them."""
    os.environ["TELEPATHY_E2E_DEBUG"] = "all"
    pair = await Pair.start(server)
    try:
        await _verify(pair)
        counts = {}
        for asked in (False, True):
            handlers = await _handlers(pair) if asked else []
            await _transfer(pair)
            # What comes after the first one is done (an answer that crossed) is not the second's.
            await asyncio.sleep(0.5)
            before = _stanzas(pair)
            await _transfer(pair)
            await asyncio.sleep(0.5)
            counts[asked] = _stanzas(pair) - before
            for each in handlers:
                await each.stop()
        row(
            "stanzas that both send for a transfer, nobody handles questions / by pins",
            f"{counts[False]} / {counts[True]}",
            "answers to iq included; each side tells the other that it is verified, and waits for "
            "nothing",
        )
    finally:
        await pair.stop()
        os.environ["TELEPATHY_E2E_DEBUG"] = ""


def _stanzas(pair: Pair) -> int:
    return sum(
        "telepathy_e2e.xmpp.trace: > iq" in line
        for side in (pair.alice, pair.bob)
        for line in side.log.splitlines()
    )


# -- ceremonies -----------------------------------------------------------------------------------


async def ceremonies(server: Prosody, row: Row) -> None:
    """From the first Start to Finished on both sides, with people who answer at once."""
    pair = await Pair.start(server, alice_handles=PEOPLE, bob_handles=PEOPLE)
    kinds: dict[str, Callable[[Pair, str, str], Awaitable[None]]] = {
        "sas": _sas,
        "password": _password,
        "fingerprint": _fingerprint,
    }
    try:
        for name, ceremony in kinds.items():
            times = [await _ceremony(pair, ceremony) for _ in range(CEREMONIES)]
            row(f"ceremony, {name}", _ms(times), f"{len(times)} times")
    finally:
        await pair.stop()


async def _ceremony(pair: Pair, ceremony: Callable[[Pair, str, str], Awaitable[None]]) -> float:
    pair.alice.signals.clear()
    pair.bob.signals.clear()
    mine, theirs = await pair.offer_sized(SIZE)
    moving = asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, bytes(SIZE)))
    (hers, _), (his, _) = [await s.new_channel(VERIFICATION) for s in (pair.alice, pair.bob)]
    started = time.perf_counter()
    await ceremony(pair, hers, his)
    for side, path in ((pair.alice, hers), (pair.bob, his)):
        told = await side.signal(partial(_tells, path, "Finished"))
        if told.body[0] != "verified":
            raise RuntimeError(f"not verified: {told}")
    taken = time.perf_counter() - started
    await moving
    for side, path in ((pair.alice, mine), (pair.bob, theirs)):
        await side.state(path, 4)
    return taken


def _tells(path: str, member: str, signal: Signal) -> bool:
    return signal.path == path and signal.member == member


def _shows_string(path: str, signal: Signal) -> bool:
    changed = _tells(path, "PropertiesChanged", signal)
    return changed and bool(signal.body[1].get("ShortAuthenticationString"))


async def _started(side: Side, path: str) -> None:
    await side.signal(partial(_tells, path, "PeerStarted"))


async def _sas(pair: Pair, hers: str, his: str) -> None:
    await pair.alice.cm(hers, VERIFICATION, "StartSAS")
    await _started(pair.bob, his)
    await pair.bob.cm(his, VERIFICATION, "StartSAS")
    shown = []
    for side, path in ((pair.alice, hers), (pair.bob, his)):
        told = await side.signal(partial(_shows_string, path))
        shown.append(told.body[1]["ShortAuthenticationString"])
    for side, path in ((pair.alice, hers), (pair.bob, his)):
        await side.cm(path, VERIFICATION, "ConfirmSAS", "b", shown[0] == shown[1])


async def _password(pair: Pair, hers: str, his: str) -> None:
    await pair.alice.cm(hers, VERIFICATION, "StartPassword", "s", "the key is under the mat")
    await _started(pair.bob, his)
    await pair.bob.cm(his, VERIFICATION, "StartPassword", "s", "the key is under the mat")


async def _fingerprint(pair: Pair, hers: str, his: str) -> None:
    for side, path in ((pair.alice, hers), (pair.bob, his)):
        await side.cm(path, VERIFICATION, "Accept", "s", "fingerprint")


# -- questions ------------------------------------------------------------------------------------


async def questions(row: Row) -> None:
    """How often a user is asked, by what really decides; over many orders of the transfers."""
    note = (
        f"{CONTACTS} contacts x {DEVICES} devices, {TRANSFERS} transfers; worst of {ORDERS} orders"
    )
    for signed in (False, True):
        how = "devices vouch for each other" if signed else "devices vouch for nobody"
        for setting in ("trust", "ask"):
            for compares in (False, True):
                seen = [await _user(signed, setting, compares, seed) for seed in range(ORDERS)]
                before, after = (max(each[at] for each in seen) for at in (0, 1))
                most = max(each[2] for each in seen)
                row(
                    f'questions, {how}, unknown-key = "{setting}", '
                    f"{'he compares each first device' if compares else 'he never compares'}",
                    f"{before} + {after}",
                    f"before + after a contact's first verification; at most {most} before it for "
                    f"one contact; {note}",
                )


async def _user(signed: bool, setting: str, compares: bool, seed: int) -> tuple[int, int, int]:
    """Questions before, and after, a contact's first verification, and the most of the former for
    one contact. Who is asked compares, or (``compares`` False) goes on unverified where he may.
    """
    order = random.Random(seed)  # noqa: S311
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        settings = Path(directory) / "trust.toml"
        settings.write_text(f'unknown-key = "{setting}"')
        store = Store(Path(directory) / "data")
        memory = Memory(store, settings, lambda: datetime(2026, 1, 1, tzinfo=UTC))
        before = [0] * CONTACTS
        after, verified = 0, set[int]()
        for _ in range(TRANSFERS):
            contact, device = order.randrange(CONTACTS), order.randrange(DEVICES)
            others = [d for d in range(DEVICES) if d != device] if signed else []
            question = Question(
                "alice@example.test",
                f"friend{contact}@example.test",
                "continuity",
                _key(contact, device),
                tuple(_key(contact, other) for other in others),
            )
            answer = await memory.prepare(question, memory.decide(question))
            end = {
                Action.ACCEPT: ("verified", answer.method),
                Action.PROCEED: ("unverified", ""),
            }.get(answer.action)
            if end is None:
                if contact in verified:
                    after += 1
                else:
                    before[contact] += 1
                end = ("verified", "sas") if compares else ("unverified", "")
            if compares and contact not in verified:
                # Unasked (tpe2e verify), where he was not asked.
                end = ("verified", "sas")
                verified.add(contact)
            await memory.finished(question, *end)
        return sum(before), after, max(before)


def _key(contact: int, device: int) -> str:
    return ":".join(f"{byte:02X}" for byte in bytes([contact, device] * 16))
