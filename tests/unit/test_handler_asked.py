"""One question: answered from memory, or by people, and put on record."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Signal
from telepathy_e2e.handler.asked import PERMISSION_DENIED, PV, Asked, read_question
from telepathy_e2e.handler.memory import Memory
from telepathy_e2e.handler.people import CRITICAL, LOW, NORMAL, NOTIFICATIONS, People
from telepathy_e2e.handler.pins import LEAP_OF_FAITH, NO_IDENTITY, REJECTED, Alarm, Pin, Question
from telepathy_e2e.handler.store import Store
from tests.unit.handler_support import SHOWS, FakeBus, Later

ALICE, BOB = "alice@example.org", "bob@example.org"
KEY, OLD = (":".join([byte] * 32) for byte in ("AA", "BB"))
PATH = "/connection/question"
DAY = date(2026, 1, 1)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def properties(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "Reason": "continuity",
        "PeerFingerprints": {"sha-256": KEY},
        "PeerCertificate": "/certificate",
        "PayloadChannel": "/connection/file",
        "Methods": ["fingerprint", "sas"],
        **more,
    }
    return {
        names.CHANNEL + ".TargetID": BOB,
        names.CHANNEL + ".InitiatorID": ALICE,
        **{f"{PV}.{name}": value for name, value in values.items()},
    }


class Scene:
    """A question, and everything around it."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "data")
        self.settings = directory / "trust.toml"
        self.fake = FakeBus()
        self.people = People(self.fake.bus)
        self.later = Later()

    def question(self, **more: Any) -> Asked:
        return Asked(
            self.fake.bus,
            Memory(self.store, self.settings),
            self.people,
            self.later.start,
            connection="org.example.Connection",
            path=PATH,
            properties=properties(**more),
        )

    async def answer(self, **more: Any) -> Asked:
        asked = self.question(**more)
        await asked.answer()
        await self.later.run()
        return asked

    def remember(self, fingerprint: str, *methods: str) -> None:
        new = Pin(ALICE, BOB, fingerprint, methods, DAY, DAY)
        self.store.update(lambda book: book.put(new))

    def answers(self) -> list[tuple[str, list[Any]]]:
        """What was called on the channel."""
        return [(member, body) for path, member, body in self.fake.calls if path == PATH]

    async def press(self, action: str) -> None:
        self.people.signal(SHOWS, Signal("/", NOTIFICATIONS, "ActionInvoked", (self.shown, action)))
        await self.later.run()

    shown = 1

    def last(self) -> dict[str, Any]:
        return self.fake.notified()[-1]

    def buttons(self) -> list[str]:
        return list(self.last()["actions"][::2])


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# -- what is asked -------------------------------------------------------------------------------


def test_the_question_is_what_the_channel_says() -> None:
    assert read_question(properties(), NOW) == Question(ALICE, BOB, "continuity", KEY)
    for strange in ({}, None, {"sha-256": "AA"}, {"sha-1": KEY}, {"sha-256": KEY.lower()}):
        assert read_question(properties(PeerFingerprints=strange), NOW).fingerprint is None
    assert read_question({}, NOW) == Question("", "", "", None)


# -- answers from memory -------------------------------------------------------------------------


async def test_a_stranger_is_let_through_and_remembered(scene: Scene) -> None:
    await scene.answer()
    assert scene.answers() == [("ProceedUnverified", [])]
    assert [each.methods for each in scene.store.read()] == [(LEAP_OF_FAITH,)]
    assert scene.fake.notified() == []


async def test_a_verified_key_is_accepted_and_nothing_is_shown(scene: Scene) -> None:
    scene.remember(KEY, "sas")
    await scene.answer(Reason="requested")
    assert scene.answers() == [("Accept", ["pin"])]
    assert scene.fake.members() == ["Accept"]


async def test_a_second_device_of_a_stranger_is_noticed(scene: Scene) -> None:
    scene.remember(OLD, LEAP_OF_FAITH)
    await scene.answer()
    assert scene.answers() == [("ProceedUnverified", [])]
    (shown,) = scene.fake.notified()
    assert shown["hints"]["urgency"].value == LOW
    assert shown["actions"] == []


async def test_a_changed_key_is_an_alarm_and_a_question(scene: Scene) -> None:
    scene.remember(OLD, "sas")
    await scene.answer()
    assert scene.answers() == []
    assert [each.kind for each in scene.store.read().alarms] == [Alarm.CHANGED_KEY]
    question, alarm = sorted(scene.fake.notified(), key=lambda each: bool(each["actions"]))[::-1]
    assert question["hints"]["urgency"].value == alarm["hints"]["urgency"].value == CRITICAL
    # Where there is an alarm nobody goes on with one careless click.
    assert question["actions"][::2] == ["compare", "reject"]
    assert "AA AA" in question["text"]


async def test_a_contact_who_had_a_key_and_has_none_is_rejected(scene: Scene) -> None:
    scene.remember(OLD, LEAP_OF_FAITH)
    await scene.answer(Reason="no-encryption", PeerFingerprints={}, PeerCertificate="/")
    ((member, _),) = scene.answers()
    assert member == "Reject"
    assert [each.kind for each in scene.store.read().alarms] == [Alarm.DOWNGRADE]


@pytest.mark.parametrize("pins", [(), ("sas",)])
async def test_a_key_for_one_session_is_no_identity(scene: Scene, pins: tuple[str, ...]) -> None:
    if pins:
        scene.remember(OLD, *pins)
    scene.fake.chain = [b"leaf"]
    asked = await scene.answer()
    assert asked.question.fingerprint == NO_IDENTITY
    assert scene.answers() == ([] if pins else [("ProceedUnverified", [])])
    assert KEY not in {each.fingerprint for each in scene.store.read()}
    assert bool(scene.store.read().alarms) == bool(pins)


async def test_a_question_that_is_over_before_its_certificate_is_read_raises_nothing(
    scene: Scene,
) -> None:
    scene.fake.errors["GetAll"] = "org.freedesktop.DBus.Error.UnknownObject"
    scene.fake.errors["ProceedUnverified"] = "org.freedesktop.DBus.Error.UnknownObject"
    await scene.answer()
    assert scene.fake.notified() == []


async def test_somebody_who_was_faster_counts(scene: Scene) -> None:
    scene.remember(KEY, "sas")
    scene.fake.errors["Accept"] = names.TP + "Error.NotAvailable"
    await scene.answer()
    assert scene.fake.members() == ["Accept"]


async def test_what_the_policy_forbids_is_for_people(scene: Scene) -> None:
    scene.fake.errors["ProceedUnverified"] = PERMISSION_DENIED
    await scene.answer()
    assert scene.answers() == [("ProceedUnverified", [])]
    assert scene.last()["hints"]["urgency"].value == NORMAL


@pytest.mark.parametrize("state", ["verified", "unverified", "rejected", ""])
async def test_a_question_found_answered_is_left_alone(scene: Scene, state: str) -> None:
    asked = scene.question()
    await asked.follow(state)
    assert scene.fake.calls == []
    await asked.follow("pending")
    assert scene.answers() == [("ProceedUnverified", [])]


# -- answers from people -------------------------------------------------------------------------


async def test_people_are_asked_where_the_user_wants_it(scene: Scene) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    await scene.answer()
    assert scene.answers() == []
    assert scene.buttons() == ["compare", "accept", "reject"]
    assert "tpe2e verify /connection/file" in scene.last()["text"]
    await scene.press("accept")
    assert scene.answers() == [("ProceedUnverified", [])]


@pytest.mark.parametrize(
    ("more", "buttons"),
    [
        ({"Methods": ["fingerprint"]}, ["accept", "reject"]),
        ({"Methods": ["sas"]}, ["compare", "accept", "reject"]),
        ({"Reason": "policy", "Methods": ["sas"]}, ["compare", "reject"]),
    ],
)
async def test_buttons_are_what_is_possible(
    scene: Scene, more: dict[str, Any], buttons: list[str]
) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    await scene.answer(**more)
    assert scene.buttons() == buttons


async def test_in_the_clear_is_said_to_be_in_the_clear(scene: Scene) -> None:
    scene.settings.write_text('in-the-clear = "ask"')
    await scene.answer(Reason="no-encryption", PeerFingerprints={}, Methods=[])
    assert "Every server on the way can read" in scene.last()["text"]
    assert "Go on in the clear" in scene.last()["actions"]
    await scene.press("reject")
    assert [member for member, _ in scene.answers()] == ["Reject"]


@pytest.mark.parametrize(("button", "same"), [("accept", True), ("reject", False)])
async def test_strings_are_compared(scene: Scene, button: str, same: bool) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    asked = await scene.answer()
    asked.string_ready("ABC123")
    assert await scene.later.run() == 0  # who began elsewhere sees it there
    await scene.press("compare")
    asked.string_ready("")
    assert await scene.later.run() == 0
    asked.string_ready("ABC123")
    await scene.later.run()
    assert scene.last()["title"] == "A B C 1 2 3"
    assert scene.last()["hints"]["urgency"].value == CRITICAL
    await scene.press(button)
    assert scene.answers() == [("StartSAS", []), ("ConfirmSAS", [same])]


async def test_who_is_asked_to_compare_is_told_and_not_while_he_does(scene: Scene) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    asked = await scene.answer()
    asked.peer_started("sas")
    await scene.later.run()
    assert "wants to compare short strings" in scene.last()["text"]
    await scene.press("compare")
    asked.peer_started("sas")
    assert await scene.later.run() == 0


async def test_who_comes_late_finds_that_the_other_side_waits(scene: Scene) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    asked = scene.question()
    await asked.follow("comparing", "sas")
    await scene.later.run()
    assert "wants to compare short strings" in scene.last()["text"]
    assert scene.buttons() == ["compare", "accept", "reject"]


async def test_who_comes_late_and_lets_it_through_asks_all_the_same(scene: Scene) -> None:
    asked = scene.question()
    await asked.follow("comparing", "password")
    assert scene.answers() == [("ProceedUnverified", [])]
    assert "wants to compare a password" in scene.last()["text"]


async def test_who_comes_late_and_remembers_the_key_asks_nobody(scene: Scene) -> None:
    scene.remember(KEY, "sas")
    await scene.question().follow("comparing", "sas")
    assert scene.answers() == [("Accept", ["pin"])]
    assert scene.fake.notified() == []


@pytest.mark.parametrize(("started", "text"), [("", ""), ("", "ABC123"), ("sas", "ABC123")])
async def test_a_comparison_that_this_user_takes_part_in_is_left_alone(
    scene: Scene, started: str, text: str
) -> None:
    await scene.question().follow("comparing", started, text)
    assert scene.fake.calls == []


async def test_a_comparison_without_a_result_asks_again(scene: Scene) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    asked = await scene.answer()
    asked.ceremony_failed()
    assert await scene.later.run() == 0
    await scene.press("compare")
    asked.ceremony_failed()
    await scene.later.run()
    assert "came to no result" in scene.last()["text"]
    assert scene.buttons() == ["compare", "accept", "reject"]


async def test_what_is_not_allowed_is_asked_again(scene: Scene) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    await scene.answer()
    scene.fake.errors["ProceedUnverified"] = PERMISSION_DENIED
    await scene.press("accept")
    assert scene.last()["text"].startswith("That is not allowed")


# -- on record -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "method", "methods"),
    [
        ("verified", "fingerprint", ("fingerprint",)),
        ("unverified", "", (LEAP_OF_FAITH,)),
        ("rejected", "sas", (REJECTED,)),
    ],
)
async def test_whoever_answers_it_goes_on_record(
    scene: Scene, state: str, method: str, methods: tuple[str, ...]
) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    asked = await scene.answer()
    await asked.finished(state, method)
    assert [(each.fingerprint, each.methods) for each in scene.store.read()] == [(KEY, methods)]
    assert scene.fake.members()[-1] == "CloseNotification"


async def test_what_is_over_is_asked_no_more(scene: Scene) -> None:
    scene.settings.write_text('unknown-key = "ask"')
    asked = await scene.answer()
    await asked.closed()
    shown = len(scene.fake.notified())
    asked.peer_started("sas")
    await scene.later.run()
    assert len(scene.fake.notified()) == shown
    await scene.press("accept")
    assert scene.answers() == []
