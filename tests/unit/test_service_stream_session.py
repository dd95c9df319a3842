"""The end of a session over a stream, of whatever application: it has one, and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import (
    Disconnected,
    EncryptionError,
    Offline,
    PeerError,
    SecurityError,
    TelepathyError,
)
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.stanzas import Content, Reason
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service import stream_session
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import SecurityFailed, SessionFailed, ended_by_peer, peer_broke
from telepathy_e2e.service.security import Security
from telepathy_e2e.service.stream_session import StreamSession
from tests.unit.service_support import turns

CONTENT = Content("initiator", "it", description=Element("description"))


class Part:
    """Security, link and road in one: what is asked of each is put on record."""

    renewable = False
    ended = False

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.security_error: PeerError | None = None
        self.road_error: PeerError | None = None

    # Security
    def finished(self) -> None:
        self.seen.append("finished")

    # Link
    def terminate(self, condition: str) -> None:
        self.seen.append(condition)
        self.ended = True

    def end(self) -> None:
        self.ended = True

    # Road
    def close(self) -> None:
        self.seen.append("closed")

    # Security and road
    def answered(self, what: object) -> None:
        error = self.security_error if isinstance(what, Content) else self.road_error
        if error is not None:
            raise error


class Example(StreamSession):
    """A session that has been accepted or offered, and notes its ends."""

    object_path = "/example"

    def __init__(self) -> None:
        self.part = Part()
        super().__init__(cast(Account, None), cast(Security, self.part))
        self._link = cast(Any, self.part)
        self._road = cast(Any, self.part)
        self._attached = True
        self.told: list[TelepathyError] = []
        self.released: list[SessionFailed | None] = []
        self.application_error: PeerError | None = None
        self.disagreement: SessionFailed | None = None

    def start(self, script: Coroutine[Any, Any, None]) -> None:
        self._start(script)

    def complete(self) -> None:
        self._complete()

    def lost(self) -> None:
        self.session_lost(Disconnected("gone"))

    @property
    def agreed(self) -> bool:
        return self._answer.done() and not self._answer.cancelled()

    def _read_answer(self, content: Content) -> None:
        if self.application_error is not None:
            raise self.application_error

    def _check_answer(self) -> None:
        if self.disagreement is not None:
            raise self.disagreement

    def _terminated(self, condition: str) -> None:
        self._end(ended_by_peer(condition, "example"))

    def _tell(self, error: TelepathyError) -> None:
        self.told.append(error)

    def _release(self, failure: SessionFailed | None) -> None:
        super()._release(failure)
        self.released.append(failure)


async def raising(error: BaseException) -> None:
    raise error


async def test_a_session_has_one_end() -> None:
    example = Example()
    example.lost()
    example.lost()
    example.complete()
    assert [str(error) for error in example.told] == ["gone"]
    assert len(example.released) == 1
    assert example.part.seen == ["cancel", "finished", "closed"]


async def test_a_session_that_was_completed_does_not_fail_any_more() -> None:
    example = Example()
    example.complete()
    example.lost()
    assert example.released == [None]
    assert example.told == []
    assert example.part.seen == ["finished", "closed"]


async def test_what_a_script_raises_is_its_end() -> None:
    example = Example()
    example.start(raising(Offline("away")))
    await turns()
    assert [str(error) for error in example.told] == ["away"]
    assert example.part.seen[0] == "cancel"


async def test_a_fault_of_ours_in_a_script_ends_it_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    example = Example()
    example.start(raising(ZeroDivisionError()))
    await turns()
    assert [str(error) for error in example.told] == ["Internal error"]
    assert "died" in caplog.text


async def test_tampering_ends_it_at_once_and_a_broken_road_is_left_to_the_script() -> None:
    example = Example()
    example.security_failed(cast(SecurityFailed, peer_broke()))
    assert not example.over
    example.security_failed(SecurityFailed(EncryptionError("altered")))
    assert [str(error) for error in example.told] == ["altered"]
    assert example.part.seen[0] == "security-error"


@pytest.mark.parametrize("error", [StreamBroken("cut"), peer_broke()])
async def test_whoever_cut_the_road_has_time_to_say_why(error: Exception) -> None:
    example = Example()
    example.start(raising(error))
    await turns()
    assert not example.over
    example.session_event(jingle.Terminated(Reason("decline")))
    assert [str(error) for error in example.told] == ["The contact cancelled the example"]


async def test_a_cut_that_nobody_explains_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_session, "REASON_GRACE", 0.0)
    example = Example()
    example.start(raising(StreamBroken("cut")))
    await turns()
    assert example.part.seen[0] == "failed-transport"


async def test_the_script_goes_on_when_all_of_the_answer_is_right() -> None:
    example = Example()
    example.session_event(jingle.Accepted(CONTENT))
    assert example.agreed
    assert not example.over


@pytest.mark.parametrize(
    ("what", "error", "condition", "refused"),
    [
        ("application_error", PeerError("x"), "general-error", True),
        ("security_error", PeerError("x"), "security-error", True),
        # It is well-formed, so it is acknowledged, and means nothing all the same.
        ("security_error", SecurityError("x"), "security-error", False),
        ("disagreement", SessionFailed(Offline("x"), "media-error"), "media-error", False),
        ("road_error", PeerError("x"), "general-error", True),
    ],
)
async def test_an_answer_with_anything_wrong_ends_it(
    what: str, error: Exception, condition: str, refused: bool
) -> None:
    example = Example()
    setattr(example.part if hasattr(example.part, what) else example, what, error)
    if refused:
        with pytest.raises(PeerError):
            example.session_event(jingle.Accepted(CONTENT))
    else:
        example.session_event(jingle.Accepted(CONTENT))
    assert example.part.seen[0] == condition
    assert example.over
    assert not example.agreed


async def test_information_that_no_application_knows_is_refused() -> None:
    example = Example()
    with pytest.raises(PeerError) as refused:
        example.session_event(jingle.SessionInfo((Element("x"),)))
    assert refused.value.jingle == "unsupported-info"
    assert not example.over


async def test_nothing_of_a_script_runs_on_after_the_end() -> None:
    example = Example()
    waiting = asyncio.Event()
    example.start(_wait(waiting))
    await turns()
    example.lost()
    await turns()
    assert not example._tasks._tasks


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
