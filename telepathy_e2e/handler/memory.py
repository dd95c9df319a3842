"""What the handler knows and what it does about it: pins, settings and decisions, joined."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from telepathy_e2e.handler.book import Book, BookFull
from telepathy_e2e.handler.pins import (
    STRICTEST,
    Action,
    Alarm,
    Answer,
    Pin,
    Question,
    Settings,
    after,
    decide,
)
from telepathy_e2e.handler.store import Store, StoreError, read_settings

log = logging.getLogger(__name__)


class Memory:
    """Decides, and puts on record.

    Args:
        store: where the pins are.
        settings: where the user's choices are; read for each decision, so that a change counts.
        clock: aware.
    """

    def __init__(
        self,
        store: Store,
        settings: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._settings_file = settings
        self._clock = clock

    def decide(self, question: Question) -> Answer:
        """See ``pins.decide``; what cannot be read is not nothing."""
        try:
            pins = self._store.read().pins(question.account, question.contact)
        except StoreError as error:
            log.error("%s", error)
            return decide(question, None, STRICTEST)
        return decide(question, pins, self._settings())

    async def prepare(self, question: Question, answer: Answer) -> Answer:
        """What must be on record before ``answer`` is given; the answer as it is to be given.

        Raised is nothing: where nothing can be put on record, people are asked.
        """
        try:
            if answer.alarm is not None and answer.alarm is not Alarm.DAMAGED:
                await self._update(_Alarm(question, answer.alarm, self._now()))
            if answer.remember:
                await self._update(_After(question, "unverified", "", self._today()))
        except (StoreError, BookFull) as error:
            log.error("not on record: %s", error)
            if answer.action is Action.PROCEED:
                return Answer(Action.ASK)
        return answer

    async def finished(self, question: Question, state: str, method: str) -> None:
        """A question has ended; whoever answered it, it goes on record."""
        change = _After(question, state, method, self._today())
        try:
            # The usual case, a pin seen today, changes nothing and must not cost a disk access.
            if change.pin(self._store.read()) is not None:
                await self._update(change)
        except (StoreError, BookFull) as error:
            log.error("not on record: %s", error)

    def _settings(self) -> Settings:
        try:
            return read_settings(self._settings_file)
        except StoreError as error:
            log.error("the settings are not understood, so people are asked: %s", error)
            return STRICTEST

    async def _update(self, change: Callable[[Book], None]) -> None:
        # A lock held by another process, and the disk, may take their time.
        await asyncio.to_thread(self._store.update, change)

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _today(self) -> date:
        return self._clock().date()


class _After:
    """One end of a question as a change of the book."""

    def __init__(self, question: Question, state: str, method: str, today: date) -> None:
        self._question = question
        self._state, self._method, self._today = state, method, today

    def pin(self, book: Book) -> Pin | None:
        question = self._question
        pins = book.pins(question.account, question.contact)
        return after(question, pins, self._state, self._method, self._today)

    def __call__(self, book: Book) -> None:
        if (pin := self.pin(book)) is not None:
            book.put(pin)


class _Alarm:
    def __init__(self, question: Question, kind: Alarm, now: datetime) -> None:
        self._question, self._kind, self._now = question, kind, now

    def __call__(self, book: Book) -> None:
        question = self._question
        fingerprint = question.fingerprint or ""
        book.alarm(question.account, question.contact, self._kind, fingerprint, self._now)
