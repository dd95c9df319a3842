import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names, talking
from telepathy_e2e.cli.names import CallReason, CallState
from tests.unit.cli_support import (
    BOB,
    PATIENCE,
    FakeCM,
    FakeError,
    Person,
    Robot,
    bus_address,
    cm,
    tpe2e,
)

__all__ = ["bus_address", "cm"]

US, THEM = 1, 2
BYE = (THEM, int(CallReason.USER_REQUESTED), "", "")
Story = Callable[[str], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talking, "FIGURES", 0.01)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what no signal tells."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.002)


class Calls:
    """What the daemon does with calls: ``story`` is what happens after Accept."""

    def __init__(self, cm: FakeCM, story: Story | None = None) -> None:
        self.cm = cm
        self.story = story or self.nothing
        self.request: dict[str, Any] = {}
        self.ended: list[tuple[str, int]] = []
        cm.handlers["CreateChannel"] = self._create
        cm.handlers["Accept"] = self._accept
        cm.handlers["Hangup"] = self._hangup
        cm.handlers["GetStatistics"] = self._statistics
        cm.handlers["RequestMuted"] = self._muted

    async def _create(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.request = {name: variant.value for name, variant in call[1].items()}
        path = self.cm.add_call(requested=True, announce=False)
        asyncio.get_running_loop().call_soon(self.cm.announce, path)
        return "oa{sv}", [path, self.cm.channels[path]]

    async def _accept(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.cm.start(self.story(path))
        return "", []

    async def _hangup(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.ended.append((path, call[1]))
        self.cm.call_state(path, CallState.ENDED, (US, call[1], "", ""))
        return "", []

    async def _statistics(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        shown = {
            "codec-sent": Variant("s", "opus"),
            "packets-sent": Variant("t", 100),
            "packets-received": Variant("t", 99),
            "packets-lost": Variant("t", 1),
            "jitter": Variant("d", 0.002),
            "level-sent": Variant("d", float("-inf")),
        }
        return "a{oa{sv}}", [{path + "/Content1": shown}]

    async def _muted(self, path: str, call: list[Any]) -> tuple[str, list[Any]]:
        self.cm.emit(path, names.CALL_MUTE, "MuteStateChanged", "u", int(call[1]))
        return "", []

    async def talk(self, path: str) -> None:
        """Up to where both hear each other."""
        self.cm.call_state(path, CallState.ACCEPTED)
        self.cm.encrypt(path)
        self.cm.call_state(path, CallState.ACTIVE)

    async def talk_then_bye(self, path: str) -> None:
        await self.talk(path)
        # The first answer has been told before the second question.
        await until(lambda: self.cm.members().count("GetStatistics") > 1)
        self.cm.call_state(path, CallState.ENDED, BYE, hangup_message="bye")

    async def nothing(self, path: str) -> None:
        """It rings on."""


def chosen(cm: FakeCM) -> list[tuple[str, str]]:
    """What was set of CallMedia1, in order."""
    return [(body[1], body[2].value) for _, member, body in cm.calls if member == "Set"]


async def ended_by(cm: FakeCM, story: Story | None, *words: str) -> tuple[int, Robot]:
    await cm.add_connection()
    Calls(cm, story)
    robot = Robot()
    return await tpe2e(robot, "call", BOB, *words), robot


async def test_a_call_from_ringing_to_bye(cm: FakeCM) -> None:
    await cm.add_connection()
    robot = Robot()

    async def story(path: str) -> None:
        cm.call_state(path, CallState.INITIALISING)
        cm.call_state(path, CallState.INITIALISED)
        cm.call_member(path, names.MEMBER_RINGING)
        await until(lambda: "ringing" in robot.names())
        cm.call_member(path, 0)
        await calls.talk_then_bye(path)

    calls = Calls(cm, story)
    assert await tpe2e(robot, "call", BOB, "--video", "--mute", "--audio-source", "tone") == 0
    assert calls.request[names.CALL + ".InitialAudio"] is True
    assert calls.request[names.CALL + ".InitialVideo"] is True
    assert names.SECURITY + ".RequireVerified" not in calls.request
    assert chosen(cm) == [("AudioSource", "tone")]
    # Before anything is heard.
    members = cm.members()
    assert members.index("RequestMuted") < members.index("Accept")
    assert [name for name in robot.names() if name in ("calling", "ringing", "done")] == [
        *("calling", "ringing", "done")
    ]
    done = robot.event("done")
    assert done["hung_up_by"] == "there"
    assert done["protection"] == "encrypted"
    assert "bye" in done["message"]
    assert robot.event("muted")["muted"] is True
    (audio,) = robot.event("statistics")["contents"]
    assert audio["media"] == "audio"
    assert audio["codec_sent"] == "opus"
    assert audio["loss"] == 0.01
    assert audio["level_sent"] is None
    assert robot.event("statistics")["cipher_suite"] == "TLS_AES_256_GCM_SHA384"
    assert cm.channels == {}


async def test_paths_are_those_of_whoever_types_them(
    cm: FakeCM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk_then_bye
    media = ("--audio-source", "file:a.wav?loop", "--audio-sink", "unix:/run/s")
    assert await tpe2e(Robot(), "call", BOB, *media, "--video-sink", "null") == 0
    assert chosen(cm) == [
        ("AudioSource", f"file:{tmp_path}/a.wav?loop"),
        ("AudioSink", "unix:/run/s"),
        ("VideoSink", "null"),
    ]


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ((THEM, 8, "org.freedesktop.Telepathy.Error.Busy", ""), 1, "busy"),
        ((THEM, 4, "org.freedesktop.Telepathy.Error.Rejected", ""), 1, "declined"),
        ((THEM, 5, "org.freedesktop.Telepathy.Error.NoAnswer", ""), 1, "does not answer"),
        ((0, 10, "org.freedesktop.Telepathy.Error.EncryptionError", ""), 4, "not safe"),
        ((0, 9, "org.freedesktop.Telepathy.Error.NotCapable", ""), 1, "takes calls"),
    ],
)
async def test_a_call_that_nobody_takes(
    cm: FakeCM, reason: tuple[int, int, str, str], code: int, words: str
) -> None:
    async def story(path: str) -> None:
        cm.call_state(path, CallState.ENDED, reason)

    ended, robot = await ended_by(cm, story)
    assert ended == code
    assert words in robot.event("error")["message"]
    assert robot.event("error")["error"] == reason[2]
    assert "done" not in robot.names()
    assert cm.channels == {}


async def test_a_source_that_there_is_not_is_a_wrong_command_line(cm: FakeCM) -> None:
    async def refuse(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.InvalidArgument", "call-audio-source is one of tone")

    cm.handlers["Set"] = refuse
    ended, robot = await ended_by(cm, None, "--audio-source", "x")
    assert ended == 2
    assert "one of tone" in robot.event("error")["message"]
    assert cm.channels == {}


async def test_after_so_many_seconds_this_side_hangs_up(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk
    robot = Robot()
    assert await tpe2e(robot, "call", BOB, "--seconds", "0.05") == 0
    assert [reason for _, reason in calls.ended] == [CallReason.USER_REQUESTED]
    assert robot.event("done")["hung_up_by"] == "here"
    assert robot.event("done")["seconds"] >= 0.05


async def test_without_sound_for_a_while_is_told_and_the_call_goes_on(cm: FakeCM) -> None:
    async def story(path: str) -> None:
        await calls.talk(path)
        await cm.called("GetStatistics")
        cm.call_state(path, CallState.ACCEPTED)
        await until(lambda: "interrupted" in robot.names())
        cm.call_member(path, names.MEMBER_HELD)
        cm.emit(path, names.CALL_MEDIA, "MediaLost", "oss", path + "/Content1", "source", "gone\n")
        await until(lambda: "media-lost" in robot.names())
        cm.call_state(path, CallState.ACTIVE)
        cm.call_state(path, CallState.ENDED, BYE)

    await cm.add_connection()
    calls = Calls(cm, story)
    robot = Robot()
    assert await tpe2e(robot, "call", BOB) == 0
    assert "interrupted" in robot.names()
    assert (robot.event("held")["by"], robot.event("held")["held"]) == ("there", True)
    assert robot.event("media-lost")["what"] == "source"
    assert "\n" not in robot.event("media-lost")["message"]


async def test_who_is_muted_in_part_is_not_told_that_he_is_muted(cm: FakeCM) -> None:
    async def story(path: str) -> None:
        await calls.talk(path)
        for state in (4, 1):
            cm.emit(path, names.CALL_MUTE, "MuteStateChanged", "u", state)
        await until(lambda: "muted" in robot.names())
        cm.emit(path, names.CALL_MUTE, "MuteStateChanged", "u", 4)
        await until(lambda: robot.names().count("muted") == 2)
        cm.call_state(path, CallState.ENDED, BYE)

    await cm.add_connection()
    calls = Calls(cm, story)
    robot = Robot()
    assert await tpe2e(robot, "call", BOB) == 0
    told = [each["muted"] for each in robot.events if each["event"] == "muted"]
    assert told == [True, False]


async def test_verifying_begins_when_they_can_talk(cm: FakeCM) -> None:
    order: list[str] = []

    async def verify(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        order.append(str(cm.properties[path, names.CALL]["CallState"].value))
        question = cm.add_question(path, reason="upgrade")

        async def agreed() -> None:
            await cm.called("StartSAS")
            cm.set(question, names.PEER_VERIFICATION, ShortAuthenticationString=SAS)
            await cm.called("ConfirmSAS")
            cm.verified(path)
            cm.finish_question(question, "verified", "sas")
            await until(lambda: "answered" in robot.names())
            cm.call_state(path, CallState.ENDED, BYE)

        cm.start(agreed())
        return "o", [question]

    SAS = Variant("s", "ABC123")
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk
    cm.handlers["Verify"] = verify
    robot = Robot()
    assert await tpe2e(robot, "call", BOB, "--verify", "--sas-matches", "yes") == 0
    assert order[0] == str(int(CallState.ACTIVE))
    assert robot.event("sas")["string"] == "ABC123"
    assert robot.event("done")["verified_by"] == "sas"
    assert cm.announced == {names.CLIENT + ".call": []}


async def test_a_demand_that_the_daemon_did_not_keep_ends_the_call(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk
    robot = Robot()
    assert await tpe2e(robot, "call", BOB, "--require-verified", "--sas-matches", "yes") == 3
    assert calls.request[names.SECURITY + ".RequireVerified"] is True
    assert len(calls.ended) == 1
    assert "statistics" not in robot.names()


# -- answering ------------------------------------------------------------------------------------


async def test_a_call_rings_is_taken_and_ends(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk_then_bye
    path = cm.add_call(requested=False, video=True)
    robot = Robot()
    assert await tpe2e(robot, "answer", "--any", "--once", "--audio-sink", "null") == 0
    assert robot.event("call")["video"] is True
    members = cm.members()
    assert members.index("SetRinging") < members.index("Set") < members.index("Accept")
    assert robot.event("done")["contact"] == BOB
    assert cm.announced == {names.CLIENT + ".answer": []}
    assert path not in cm.channels


async def test_while_it_waits_calls_ring_here(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk_then_bye

    async def ring() -> None:
        await cm.called("UpdateCapabilities")
        assert cm.announced == {names.CLIENT + ".answer": [names.CALL]}
        cm.add_call(requested=False)

    cm.start(ring())
    assert await tpe2e(Robot(), "answer", BOB, "--once") == 0


async def test_only_the_calls_of_the_one_who_is_named(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    calls.story = calls.talk_then_bye
    other = cm.add_call(requested=False, contact="eve@example.org")
    cm.add_call(requested=False, contact="BOB@example.org/phone")
    assert await tpe2e(Robot(), "answer", BOB, "--once") == 0
    assert other in cm.channels
    assert not any(path == other for path, _, _ in cm.calls)


@pytest.mark.parametrize("how", ["option", "person"])
async def test_a_call_is_declined(cm: FakeCM, how: str) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    path = cm.add_call(requested=False)
    if how == "option":
        assert await tpe2e(Robot(), "answer", "--reject", "--once") == 0
    else:
        person = Person(Take_it="n")
        task = asyncio.ensure_future(tpe2e(person, "answer"))
        await cm.called("Close")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert person.event("declined")["contact"] == BOB
    assert calls.ended == [(path, CallReason.REJECTED)]
    assert "Accept" not in cm.members()


@pytest.mark.parametrize(
    ("state", "actor", "words"),
    [
        (CallState.ENDED, THEM, "gave up"),
        (CallState.ACCEPTED, US, "Another program"),
    ],
)
async def test_a_ring_that_stops_takes_the_question_back(
    cm: FakeCM, state: CallState, actor: int, words: str
) -> None:
    await cm.add_connection()
    Calls(cm)
    path = cm.add_call(requested=False)
    person = Person()

    async def stop() -> None:
        await cm.called("SetRinging")
        await until(lambda: bool(person.asked))
        cm.call_state(path, state, (actor, 5, names.TP + "Error.NoAnswer", ""))

    cm.start(stop())
    task = asyncio.ensure_future(tpe2e(person, "answer", "--once"))
    await until(lambda: "withdrawn" in person.names())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert words in person.event("withdrawn")["message"]
    # Somebody else may be talking in it.
    assert path in cm.channels
    assert "Hangup" not in cm.members()


async def test_who_stops_waiting_leaves_a_ringing_call_to_others(cm: FakeCM) -> None:
    await cm.add_connection()
    Calls(cm)
    path = cm.add_call(requested=False)
    person = Person()
    task = asyncio.ensure_future(tpe2e(person, "answer"))
    await until(lambda: bool(person.asked))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert path in cm.channels
    assert "Hangup" not in cm.members()
    assert cm.announced == {names.CLIENT + ".answer": []}


async def test_while_somebody_talks_others_hear_that_it_is_busy(cm: FakeCM) -> None:
    second = ""

    async def story(path: str) -> None:
        nonlocal second
        await calls.talk(path)
        second = cm.add_call(requested=False, contact="eve@example.org")
        await cm.called("Close")
        cm.call_state(path, CallState.ENDED, BYE)

    await cm.add_connection()
    calls = Calls(cm, story)
    cm.add_call(requested=False)
    robot = Robot()
    assert await tpe2e(robot, "answer", "--any", "--once") == 0
    assert calls.ended == [(second, CallReason.BUSY)]
    assert robot.event("busy")["contact"] == "eve@example.org"


async def test_one_mouth_answers_for_all_accounts(cm: FakeCM) -> None:
    """Who calls another account while somebody talks hears that it is busy, too."""

    async def story(path: str) -> None:
        await calls.talk(path)
        cm.connection = other
        cm.add_call(requested=False, contact="eve@example.org")
        await cm.called("Close")
        cm.call_state(path, CallState.ENDED, BYE)

    other = await cm.add_connection("alice@example.com")
    await cm.add_connection()
    calls = Calls(cm, story)
    cm.add_call(requested=False)
    robot = Robot()
    assert await tpe2e(robot, "answer", "--any", "--once") == 0
    assert [reason for _, reason in calls.ended] == [CallReason.BUSY]
    assert robot.event("busy")["contact"] == "eve@example.org"
    assert robot.event("done")["contact"] == BOB


async def test_a_log_out_ends_the_waiting(cm: FakeCM) -> None:
    await cm.add_connection()

    async def leave() -> None:
        await cm.called("UpdateCapabilities")
        cm.emit(cm.connection, names.CONNECTION, "StatusChanged", "uu", names.DISCONNECTED, 1)

    cm.start(leave())
    assert await tpe2e(Robot(), "answer", "--any") == 5


@pytest.mark.parametrize("verified", [True, False])
async def test_nothing_is_captured_or_played_before_a_demanded_verification(
    cm: FakeCM, verified: bool
) -> None:
    at_active: list[tuple[str, str]] = []

    async def story(path: str) -> None:
        cm.call_state(path, CallState.ACCEPTED)
        cm.encrypt(path)
        if verified:
            cm.verified(path)
        at_active.extend(chosen(cm))
        cm.call_state(path, CallState.ACTIVE)
        await cm.called("GetStatistics")
        cm.call_state(path, CallState.ENDED, BYE)

    await cm.add_connection()
    Calls(cm, story)
    cm.add_call(requested=False)
    options = ("--require-verified", "--sas-matches", "yes", "--audio-sink", "alsa")
    code = await tpe2e(Robot(), "answer", "--any", "--once", *options)
    nothing = [
        *(("AudioSource", "silence"), ("AudioSink", "null")),
        *(("VideoSource", "null"), ("VideoSink", "null")),
    ]
    assert at_active == nothing
    members = cm.members()
    assert members.index("Verify") < members.index("Accept")
    if verified:
        assert code == 0
        assert chosen(cm)[4:] == [
            *(("AudioSource", "pulse"), ("AudioSink", "alsa")),
            *(("VideoSource", "pulse"), ("VideoSink", "pulse")),
        ]
    else:
        assert code == 3
        assert chosen(cm) == nothing


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("answer",), "--any"),
        (("answer", "nonsense"), "JID"),
        (("call", "nonsense"), "JID"),
        (("call", BOB, "--verify"), "--sas-matches"),
        (("answer", "--any", "--require-verified"), "--sas-matches"),
    ],
)
async def test_what_cannot_work_is_refused_at_once(words: tuple[str, ...], match: str) -> None:
    robot = Robot()
    assert await tpe2e(robot, *words) == 2
    assert match in robot.event("error")["message"]


# -- hanging up -----------------------------------------------------------------------------------


async def test_hanging_up(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    cm.add_call(requested=True, state=CallState.ENDED)
    going = cm.add_call(requested=True, state=CallState.ACTIVE)
    robot = Robot()
    assert await tpe2e(robot, "hangup") == 0
    assert calls.ended == [(going, CallReason.USER_REQUESTED)]
    assert robot.event("hung-up")["contact"] == BOB
    assert await tpe2e(robot, "hangup", BOB) == 5


async def test_of_several_calls_one_is_named(cm: FakeCM) -> None:
    await cm.add_connection()
    calls = Calls(cm)
    cm.add_call(requested=True, state=CallState.ACTIVE)
    other = cm.add_call(requested=True, state=CallState.ACTIVE, contact="eve@example.org")
    robot = Robot()
    assert await tpe2e(robot, "hangup") == 2
    assert "eve@example.org" in robot.event("error")["message"]
    assert await tpe2e(robot, "hangup", "eve@example.org") == 0
    assert calls.ended == [(other, CallReason.USER_REQUESTED)]


# -- keys -----------------------------------------------------------------------------------------


class Typist(Robot):
    """Somebody who presses keys."""

    def __init__(self, keys: str) -> None:
        super().__init__()
        self.keys_ = keys
        self.press: Callable[[str], None] = lambda key: None

    @contextlib.contextmanager
    def keys(self, pressed: Callable[[str], None]) -> Iterator[None]:
        self.press = pressed
        for key in self.keys_:
            pressed(key)
        yield


async def test_keys_mute_hold_verify_and_hang_up(cm: FakeCM) -> None:
    async def hold(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        raise FakeError(names.TP + "Error.NotAvailable", "not yet")

    await cm.add_connection()
    calls = Calls(cm)
    cm.handlers["RequestHold"] = hold
    typist = Typist("mMhvxQ")
    assert await tpe2e(typist, "call", BOB) == 1
    assert "before the call was taken" in typist.event("error")["message"]
    muted = [body[0] for _, member, body in cm.calls if member == "RequestMuted"]
    assert muted == [True, False]
    assert [body[0] for _, member, body in cm.calls if member == "RequestHold"] == [True]
    assert "not yet" in typist.event("refused")["message"]
    assert "Verify" in cm.members()
    assert len(calls.ended) == 1


async def test_the_keys_of_a_telephone_are_tones_of_the_sound(cm: FakeCM) -> None:
    await cm.add_connection()
    typist = Typist("")

    async def story(path: str) -> None:
        await calls.talk(path)
        await until(lambda: "statistics" in typist.names())
        for key in "4#":
            typist.press(key)
        await until(lambda: cm.members().count("MultipleTones") == 2)
        cm.call_state(path, CallState.ENDED, BYE)

    calls = Calls(cm, story)
    assert await tpe2e(typist, "call", BOB) == 0
    tones = [(path[-9:], body) for path, member, body in cm.calls if member == "MultipleTones"]
    assert tones == [("/Content1", ["4"]), ("/Content1", ["#"])]
