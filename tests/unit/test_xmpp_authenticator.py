"""People take their time, and the time for connecting stands still."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from telepathy_e2e.errors import AuthenticationFailed, CertSelfSigned, TelepathyError
from telepathy_e2e.xmpp import authenticator
from telepathy_e2e.xmpp.authenticator import Asking, LoginOffer, PasswordOnly, ServerCertificate
from telepathy_e2e.xmpp.settings import Password

OFFER = LoginOffer((), by_password=True)
SHOWN = ServerCertificate((b"leaf",), CertSelfSigned("itself"), "a.test", ("a.test",))


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.may_ask: list[bool] = []

    async def next_try(self, offer: LoginOffer, *, may_ask: bool) -> Any:
        self.may_ask.append(may_ask)
        return await self.answers.get()

    async def next_stream(self, error: TelepathyError) -> None:
        await self.answers.get()

    async def can_judge(self) -> bool:
        return True

    async def judge(self, shown: ServerCertificate) -> None:
        await self.answers.get()


async def test_the_time_for_connecting_stands_still_while_somebody_thinks() -> None:
    people = Slow()
    asking = Asking(people)
    async with asyncio.timeout(30) as limit:
        with asking.within(limit, 60):
            task = asyncio.ensure_future(asking.next_try(OFFER))
            await asyncio.sleep(0)
            assert limit.when() is None
            before = asyncio.get_running_loop().time()
            people.answers.put_nowait("a try")
            assert str(await task) == "a try"
            after = asyncio.get_running_loop().time()
            assert before + 60 <= (limit.when() or 0) <= after + 60


async def test_one_answer_does_not_start_the_clock_for_another_question() -> None:
    people = Slow()
    asking = Asking(people)
    async with asyncio.timeout(30) as limit:
        with asking.within(limit, 60):
            first = asyncio.ensure_future(asking.next_try(OFFER))
            second = asyncio.ensure_future(asking.judge(SHOWN))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            assert limit.when() is None
            people.answers.put_nowait(None)
            await second
            assert limit.when() is not None


async def test_a_question_that_outlives_connecting_leaves_the_clock_alone() -> None:
    asking = Asking(Slow())
    async with asyncio.timeout(30) as limit:
        with asking.within(limit, 60):
            task = asyncio.ensure_future(asking.next_try(OFFER))
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_nobody_is_asked_outside_of_connecting() -> None:
    people = Slow()
    asking = Asking(people)
    people.answers.put_nowait("known")
    await asking.next_try(OFFER)
    assert people.may_ask == [False]
    assert not await asking.can_judge()


async def test_silence_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticator, "QUESTION_SECONDS", 0.0)
    asking = Asking(Slow())
    with pytest.raises(AuthenticationFailed):
        await asking.next_try(OFFER)
    with pytest.raises(CertSelfSigned):
        await asking.judge(SHOWN)


def test_people_have_minutes() -> None:
    assert authenticator.QUESTION_SECONDS >= 300


async def test_alone_the_password_is_tried_once() -> None:
    alone = PasswordOnly(Password("x"))
    first = await alone.next_try(OFFER, may_ask=True)
    first.refused(AuthenticationFailed("wrong"), again=True)
    with pytest.raises(AuthenticationFailed, match="wrong"):
        await alone.next_try(OFFER, may_ask=True)
    with pytest.raises(AuthenticationFailed, match="no password"):
        await PasswordOnly(Password("")).next_try(OFFER, may_ask=True)
    assert not await alone.can_judge()
    with pytest.raises(CertSelfSigned):
        await alone.judge(SHOWN)
