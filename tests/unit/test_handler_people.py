"""Asking and telling by notifications."""

from __future__ import annotations

import pytest

from telepathy_e2e.cli.bus import Signal
from telepathy_e2e.handler.people import (
    CRITICAL,
    LOW,
    NORMAL,
    NOTICE_MILLISECONDS,
    NOTIFICATIONS,
    PATH,
    People,
)
from telepathy_e2e.handler.pins import Alarm
from tests.unit.handler_support import SHOWS, FakeBus

UNKNOWN = "org.freedesktop.DBus.Error.ServiceUnknown"


@pytest.fixture
def fake() -> FakeBus:
    return FakeBus()


@pytest.fixture
def people(fake: FakeBus) -> People:
    return People(fake.bus)


def invoked(number: int, action: str, interface: str = NOTIFICATIONS) -> Signal:
    return Signal(PATH, interface, "ActionInvoked", (number, action))


def closed(number: int) -> Signal:
    return Signal(PATH, NOTIFICATIONS, "NotificationClosed", (number, 2))


async def ask(people: People, chosen: list[str], key: str = "question") -> bool:
    actions = {
        each: (each.title(), lambda each=each: chosen.append(each)) for each in ("yes", "no")
    }
    return await people.show(key, "Is it he?", "<b>bold & brave</b>", actions=actions)


async def test_what_is_shown(fake: FakeBus, people: People) -> None:
    assert await ask(people, [])
    (shown,) = fake.notified()
    assert shown["title"] == "Is it he?"
    assert shown["text"] == "&lt;b&gt;bold &amp; brave&lt;/b&gt;"
    assert shown["actions"] == ["yes", "Yes", "no", "No"]
    assert shown["hints"]["urgency"].value == NORMAL
    assert (shown["replaces"], shown["timeout"]) == (0, 0)


async def test_only_a_notice_goes_by_itself(fake: FakeBus, people: People) -> None:
    for urgency in (LOW, NORMAL, CRITICAL):
        await people.show(str(urgency), "", "", urgency=urgency)
    assert [each["timeout"] for each in fake.notified()] == [NOTICE_MILLISECONDS, 0, 0]


async def test_a_button_does_what_stands_on_it(people: People) -> None:
    chosen: list[str] = []
    await ask(people, chosen)
    people.signal(SHOWS, invoked(1, "no"))
    assert chosen == ["no"]


async def test_a_button_may_be_pressed_before_we_know_its_number(
    fake: FakeBus, people: People
) -> None:
    chosen: list[str] = []
    fake.on_notify = lambda number: people.signal(SHOWS, invoked(number, "yes"))
    assert await ask(people, chosen)
    assert chosen == ["yes"]


async def test_nobody_else_can_press_it_early(fake: FakeBus, people: People) -> None:
    chosen: list[str] = []
    fake.on_notify = lambda number: people.signal(":1.66", invoked(number, "yes"))
    assert await ask(people, chosen)
    assert chosen == []


async def test_nobody_else_can_press_it(people: People) -> None:
    chosen: list[str] = []
    await ask(people, chosen)
    people.signal(":1.666", invoked(1, "yes"))
    people.signal(":1.666", closed(1))
    people.signal(SHOWS, invoked(2, "yes"))
    people.signal(SHOWS, invoked(1, "maybe"))
    people.signal(SHOWS, invoked(1, "yes", "org.example.Other"))
    people.signal(SHOWS, Signal(PATH, NOTIFICATIONS, "ActionInvoked", ()))
    assert chosen == []
    people.signal(SHOWS, invoked(1, "yes"))
    assert chosen == ["yes"]


async def test_what_was_closed_or_withdrawn_answers_nothing(fake: FakeBus, people: People) -> None:
    chosen: list[str] = []
    await ask(people, chosen, "one")
    await ask(people, chosen, "two")
    people.signal(SHOWS, closed(1))
    await people.withdraw("two")
    for number in (1, 2):
        people.signal(SHOWS, invoked(number, "yes"))
    assert chosen == []
    assert [body for _, member, body in fake.calls if member == "CloseNotification"] == [[2]]


async def test_the_same_question_again_takes_the_place_of_the_first(
    fake: FakeBus, people: People
) -> None:
    before: list[str] = []
    after: list[str] = []
    await ask(people, before)
    await ask(people, after)
    assert [each["replaces"] for each in fake.notified()] == [0, 1]
    people.signal(SHOWS, invoked(1, "yes"))
    assert (before, after) == ([], ["yes"])


async def test_a_desktop_without_notifications_is_no_error(fake: FakeBus, people: People) -> None:
    fake.errors["Notify"] = UNKNOWN
    assert not await ask(people, [])
    await people.withdraw("question")
    assert fake.members() == ["Notify"]


async def test_a_notification_that_is_gone_already_is_no_error(
    fake: FakeBus, people: People
) -> None:
    await ask(people, [])
    fake.errors["CloseNotification"] = "org.freedesktop.DBus.Error.Failed"
    await people.withdraw("question")
    await people.withdraw("question")
    assert fake.members().count("CloseNotification") == 1


@pytest.mark.parametrize("kind", list(Alarm))
async def test_every_alarm_stays_until_somebody_has_seen_it(
    fake: FakeBus, people: People, kind: Alarm
) -> None:
    await people.alarm(kind, "alice@example.org", "bob\u202e\n@example.org")
    (shown,) = fake.notified()
    assert shown["hints"]["urgency"].value == CRITICAL
    assert shown["timeout"] == 0
    for text in (shown["title"], shown["text"]):
        assert text
        assert "\u202e" not in text
        assert "\n" not in text


async def test_the_same_alarm_again_is_one_notification(fake: FakeBus, people: People) -> None:
    for contact in ("bob@x", "bob@x", "carol@x"):
        await people.alarm(Alarm.DOWNGRADE, "alice@x", contact)
    assert [each["replaces"] for each in fake.notified()] == [0, 1, 0]
