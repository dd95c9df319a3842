"""Two people who know a common word verify each other: real daemons, a real server, every road."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import (
    CHANNEL,
    E2E,
    FILE_TRANSFER,
    SECURABLE,
    VERIFICATION,
    DBusFailure,
    Side,
    Signal,
)
from tests.support.waiting import PATIENCE

SECRET = "Möwe 42 im Regen"
DATA = secrets.token_bytes(300_000)
HANDLES = (FILE_TRANSFER, VERIFICATION)


@pytest_asyncio.fixture(params=["direct", "in-band"])
async def asking(
    prosody: Prosody, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    """A client on either side handles verification; files go over this road."""
    monkeypatch.setenv("TELEPATHY_E2E_ROADS", request.param)
    pair = await Pair.start(prosody, alice_handles=HANDLES, bob_handles=HANDLES)
    yield pair
    # Whatever happened: nobody's log says what they typed.
    for side in (pair.alice, pair.bob):
        assert SECRET not in side.log
        assert "Möwe" not in side.log
    await pair.stop()


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    """Nobody handles verification: files flow on a leap of faith."""
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@dataclass
class Person:
    """One side of a transfer that waits for its question."""

    side: Side
    payload: str
    question: str

    async def type(self, secret: str) -> None:
        await self.side.cm(self.question, VERIFICATION, "StartPassword", "s", secret)

    async def prompted(self, times: int = 1) -> None:
        """The other began (so often)."""
        await self.side.signal(lambda _: len(self.said("PeerStarted")) >= times)
        assert self.said("PeerStarted")[-1].body == ("password",)

    async def failure(self, number: int = 1) -> tuple[str, str, bool]:
        """The number-th failed ceremony: method, reason, spent; and State is back."""
        await self.side.signal(lambda _: len(self.said("CeremonyFailed")) >= number)
        method, reason, spent = self.said("CeremonyFailed")[number - 1].body
        return str(method), str(reason), bool(spent)

    async def state(self, wanted: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.side.get(self.question, VERIFICATION, "State") != wanted:
                await asyncio.sleep(0.02)

    def said(self, member: str) -> list[Signal]:
        return [s for s in self.side.signals if s.path == self.question and s.member == member]

    async def verified_by(self) -> list[str]:
        await self.side.changed(self.payload, SECURABLE, "Verified", True)
        security = await self.side.get_all(self.payload, E2E)
        assert security["VerifiedBy"] == security["VerifiedMethods"][0]
        return list(security["VerifiedMethods"])


@dataclass
class Asked:
    alice: Person
    bob: Person
    sending: asyncio.Future[None]
    receiving: asyncio.Future[bytes]

    async def arrives(self) -> None:
        assert await self.receiving == DATA
        await self.sending
        for person in (self.alice, self.bob):
            assert await person.side.state(person.payload, 4, 5) == (4, 0)
            assert await person.verified_by() == ["password"]


async def ask(pair: Pair) -> Asked:
    """A transfer whose two questions are open."""
    mine, theirs = await pair.offer(DATA)
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    receiving = asyncio.ensure_future(pair.bob.accept(theirs))
    hers, shown = await pair.alice.new_channel(VERIFICATION)
    his, _ = await pair.bob.new_channel(VERIFICATION)
    assert shown[VERIFICATION + ".Methods"] == ["fingerprint", "sas", "password"]
    alice, bob = Person(pair.alice, mine, hers), Person(pair.bob, theirs, his)
    return Asked(alice, bob, sending, receiving)


WHO = pytest.mark.parametrize("who", ["the sender", "the receiver"])


def order(asked: Asked, who: str) -> tuple[Person, Person]:
    """Who begins, who answers."""
    pair = (asked.alice, asked.bob)
    return pair if who == "the sender" else (pair[1], pair[0])


@WHO
async def test_the_same_password_verifies_both(asking: Pair, who: str) -> None:
    asked = await ask(asking)
    begins, answers = order(asked, who)
    await begins.type(SECRET)
    await answers.prompted()
    await begins.state("comparing")
    # Typed on another keyboard: decomposed, and with a stray space.
    await answers.type(" Mo\u0308we 42 im Regen ")
    await asked.arrives()
    for person in (asked.alice, asked.bob):
        assert person.said("Finished")[-1].body == ("verified", "password")
        assert not person.said("CeremonyFailed")


@WHO
async def test_a_wrong_password_is_seen_by_both_and_the_right_one_works_after_it(
    asking: Pair, who: str
) -> None:
    asked = await ask(asking)
    begins, answers = order(asked, who)
    await begins.type(SECRET)
    await answers.prompted()
    await answers.type(SECRET.lower())
    for person in (begins, answers):
        assert await person.failure() == ("password", "wrong-password", True)
        await person.state("pending")
        assert await person.side.get(person.payload, SECURABLE, "Verified") is False
    await answers.type(SECRET)
    await begins.prompted()
    await begins.type(SECRET)
    await asked.arrives()


async def test_three_wrong_ones_close_the_session_and_a_fingerprint_still_helps(
    asking: Pair,
) -> None:
    asked = await ask(asking)
    for number in range(1, 4):
        await asked.alice.type(SECRET)
        await asked.bob.prompted(number)
        await asked.bob.type(f"guess {number}")
        for person in (asked.alice, asked.bob):
            assert await person.failure(number) == ("password", "wrong-password", True)
            await person.state("pending")
    for person in (asked.alice, asked.bob):
        for method, *arguments in (("StartPassword", "s", SECRET), ("StartSAS",)):
            with pytest.raises(DBusFailure, match="NotAvailable"):
                await person.side.cm(person.question, VERIFICATION, method, *arguments)
    for person in (asked.alice, asked.bob):
        await person.side.cm(person.question, VERIFICATION, "Accept", "s", "fingerprint")
    assert await asked.receiving == DATA
    await asked.sending


async def test_both_may_begin_at_once(asking: Pair) -> None:
    asked = await ask(asking)
    await asyncio.gather(asked.alice.type(SECRET), asked.bob.type(SECRET))
    await asked.arrives()


async def test_both_may_begin_at_once_with_different_passwords(asking: Pair) -> None:
    asked = await ask(asking)
    await asyncio.gather(asked.alice.type(SECRET), asked.bob.type("something else"))
    for person in (asked.alice, asked.bob):
        assert await person.failure() == ("password", "wrong-password", True)
    await asyncio.gather(asked.alice.type(SECRET), asked.bob.type(SECRET))
    await asked.arrives()


async def test_what_is_no_password_is_refused_and_costs_nothing(asking: Pair) -> None:
    asked = await ask(asking)
    for empty in ("", " \n\u3000", "x" * 1025):
        with pytest.raises(DBusFailure, match="InvalidArgument"):
            await asked.alice.type(empty)
    assert await asked.alice.side.get(asked.alice.question, VERIFICATION, "State") == "pending"
    await asked.alice.type(SECRET)
    await asked.bob.prompted()
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await asked.bob.type("")
    await asked.bob.type(SECRET)
    await asked.arrives()


async def test_a_leap_of_faith_becomes_verified_while_the_file_moves(pair: Pair) -> None:
    mine, theirs = await pair.offer(DATA)
    address = await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
    receiving = asyncio.ensure_future(pair.bob.accept(theirs))
    await pair.alice.state(mine, 3)
    _, writer = await asyncio.open_unix_connection(os.fsdecode(address))
    writer.write(DATA[:100_000])
    await writer.drain()
    assert await pair.alice.get(mine, SECURABLE, "Verified") is False

    alice = Person(pair.alice, mine, await pair.alice.cm(mine, E2E, "Verify"))
    await alice.type(SECRET)
    # Bob's daemon puts the question when Alice begins.
    his, shown = await pair.bob.new_channel(VERIFICATION)
    assert shown[VERIFICATION + ".Reason"] == "upgrade"
    bob = Person(pair.bob, theirs, his)
    await bob.prompted()
    await bob.type(SECRET)
    assert await alice.verified_by() == ["password"]
    assert await bob.verified_by() == ["password"]

    # One more method makes it stronger, and both are remembered.
    question = await pair.alice.cm(mine, E2E, "Verify")
    await pair.alice.cm(question, VERIFICATION, "Accept", "s", "fingerprint")
    await pair.alice.changed(mine, E2E, "VerifiedMethods", ["password", "fingerprint"])
    assert await pair.alice.get(mine, E2E, "VerifiedBy") == "fingerprint"

    writer.write(DATA[100_000:])
    await writer.drain()
    writer.close()
    assert await receiving == DATA
    assert await pair.alice.state(mine, 4, 5) == (4, 0)
    assert await pair.alice.get(mine, SECURABLE, "Verified") is True


async def test_a_pin_that_was_faster_and_the_password_are_both_recorded(asking: Pair) -> None:
    asked = await ask(asking)
    alice = asked.alice
    await alice.type(SECRET)
    await asked.bob.prompted()
    await alice.side.cm(alice.question, VERIFICATION, "Accept", "s", "pin")
    assert await alice.side.get(alice.payload, E2E, "VerifiedBy") == "pin"
    await asked.bob.type(SECRET)
    await alice.side.changed(alice.payload, E2E, "VerifiedMethods", ["pin", "password"])
    assert await alice.side.get(alice.payload, E2E, "VerifiedBy") == "password"
    assert await asked.bob.verified_by() == ["password"]
    assert await asked.receiving == DATA
    await asked.sending


async def test_verified_is_not_had_from_a_closed_question(asking: Pair) -> None:
    """Alice says no while her password is on its way: her no counts."""
    asked = await ask(asking)
    await asked.alice.type(SECRET)
    await asked.bob.prompted()
    await asked.alice.side.cm(asked.alice.question, CHANNEL, "Close")
    assert (await asked.alice.side.state(asked.alice.payload, 4, 5))[0] == 5
    assert (await asked.bob.side.state(asked.bob.payload, 4, 5))[0] == 5
    assert await asked.receiving == b""
    for person in (asked.alice, asked.bob):
        assert await person.side.get(person.payload, SECURABLE, "Verified") is False
