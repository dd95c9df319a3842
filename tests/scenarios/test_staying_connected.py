"""A connection that breaks is taken up again, and what was sent arrives once (XEP-0198)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ConnectionReplaced,
    Disconnected,
)
from telepathy_e2e.xmpp.settings import Password
from tests.scenarios.test_xmpp_client import Person, server_with
from tests.support.prosody import Prosody, available
from tests.support.waiting import PATIENCE
from tests.support.wire import Wire, wire_to

BODY = "{jabber:client}body"
# Seconds; only what should never happen takes so long.
WAIT = PATIENCE

Make = Callable[..., Person]


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    """In the place of the usual one: it keeps a session for as long as another login may take."""
    if not available():
        pytest.skip("prosody is not installed")
    server = Prosody.start(hibernation=300)
    yield server
    server.stop()


@pytest.fixture
async def wire(prosody: Prosody) -> AsyncIterator[Wire]:
    async with wire_to(prosody.port) as made:
        yield made


@pytest.fixture
async def person(prosody: Prosody) -> AsyncIterator[Make]:
    made: list[Person] = []

    def make(name: str, **settings: Any) -> Person:
        made.append(Person(prosody, name, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.client.disconnect()


async def connected(*people: Person) -> None:
    for each in people:
        await each.client.connect()
        each.client.set_presence("", "", 0)
    for each in people:
        for other in people:
            await each.sees.until(lambda: each.client.resources(other.bare))  # noqa: B023
    for each in people:
        # The server has enabled stream management and confirmed what came before.
        await ping(each)


async def ping(person: Person) -> None:
    await person.client.send_iq("example.test", Element("{urn:xmpp:ping}ping"), "get", WAIT)


def say(sender: Person, receiver: Person, text: str) -> None:
    message = Element("{jabber:client}message", to=receiver.client.jid, type="chat", id=text)
    SubElement(message, BODY).text = text
    sender.client.send(message)


def heard(person: Person) -> list[str]:
    return [text for each in person.sees.messages if (text := each.findtext(BODY))]


def lost(person: Person) -> list[str]:
    return [text for each in person.sees.lost if (text := each.findtext(BODY))]


async def test_messages_in_both_directions_survive_a_broken_connection(
    wire: Wire, person: Make
) -> None:
    alice, bob = person("alice", port=wire.port), person("bob")
    await connected(alice, bob)
    for number in range(30):
        say(alice, bob, f"a{number}")
        say(bob, alice, f"b{number}")
        if number % 10 == 5:
            wire.cut()
            # Not yet seen by us, and sent all the same.
            say(alice, bob, f"in between {number}")
        await asyncio.sleep(0)
    say(alice, bob, "last")
    say(bob, alice, "last")
    await bob.sees.until(lambda: "last" in heard(bob))
    await alice.sees.until(lambda: "last" in heard(alice))
    expected = []
    for number in range(30):
        expected.append(f"a{number}")
        if number % 10 == 5:
            expected.append(f"in between {number}")
    assert heard(bob) == [*expected, "last"]
    assert heard(alice) == [*(f"b{number}" for number in range(30)), "last"]
    assert wire.connections > 1
    assert alice.sees.ended == []


async def test_a_question_that_was_asked_before_the_break_is_answered_after_it(
    wire: Wire, person: Make
) -> None:
    alice, bob = person("alice", port=wire.port), person("bob")
    await connected(alice, bob)
    wire.freeze()
    question = asyncio.create_task(
        alice.client.send_iq(bob.client.jid, Element("{urn:xmpp:ping}ping"), "get", WAIT)
    )
    await asyncio.sleep(0)
    wire.cut()
    wire.thaw()
    assert await question is None
    assert alice.client.resources(bob.bare), "nobody went offline meanwhile"
    assert bob.client.resources(alice.bare)


async def test_a_dead_connection_is_found_out_by_asking(wire: Wire, person: Make) -> None:
    alice, bob = person("alice", port=wire.port, keepalive_interval=0.2), person("bob")
    await connected(alice, bob)
    from telepathy_e2e.xmpp import session

    wire.freeze()
    before = wire.connections
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "PING_SECONDS", 0.3)
        async with asyncio.timeout(WAIT):
            while wire.connections == before:
                await asyncio.sleep(0.05)
    # So short a patience is not for what answers.
    wire.thaw()
    say(alice, bob, "I am back")
    await bob.sees.until(lambda: "I am back" in heard(bob))
    assert alice.sees.ended == []


async def test_a_server_that_refuses_connections_is_gone_and_the_messages_are_given_back(
    wire: Wire, person: Make
) -> None:
    alice, bob = person("alice", port=wire.port), person("bob")
    await connected(alice, bob)
    wire.freeze()
    say(alice, bob, "lost")
    await asyncio.sleep(0)
    await wire.unplug()
    await alice.sees.until(lambda: alice.sees.ended)
    assert isinstance(alice.sees.ended[0], ConnectionLost)
    assert lost(alice) == ["lost"]
    with pytest.raises(Disconnected):
        say(alice, bob, "too late")


async def test_a_server_that_forgot_the_session_ends_it() -> None:
    with server_with(hibernation=1) as server:
        async with wire_to(server.port) as wire:
            alice, bob = Person(server, "alice", port=wire.port), Person(server, "bob")
            await connected(alice, bob)
            wire.freeze()
            say(alice, bob, "lost")
            wire.cut()
            # The server gives the session up: Bob sees Alice go offline.
            await bob.sees.until(lambda: not bob.client.resources(alice.bare))
            wire.thaw()
            await alice.sees.until(lambda: alice.sees.ended)
            assert isinstance(alice.sees.ended[0], ConnectionLost)
            assert lost(alice) == ["lost"]
            await bob.client.disconnect()


async def test_a_second_login_with_the_same_resource_ends_the_first(person: Make) -> None:
    first, second = person("alice", resource="same"), person("alice", resource="same")
    await first.client.connect()
    await second.client.connect()
    await first.sees.until(lambda: first.sees.ended)
    assert isinstance(first.sees.ended[0], ConnectionReplaced)


async def test_a_changed_password_ends_the_connection_for_that_reason() -> None:
    with server_with() as server:
        alice, again = Person(server, "alice"), Person(server, "alice", resource="other")
        await alice.client.connect()
        await again.client.connect()
        await ping(alice)
        change = Element("{jabber:iq:register}query")
        SubElement(change, "{jabber:iq:register}username").text = "alice"
        SubElement(change, "{jabber:iq:register}password").text = "new password"
        await again.client.send_iq("example.test", change, "set")
        await alice.sees.until(lambda: alice.sees.ended)
        assert isinstance(alice.sees.ended[0], AuthenticationFailed)
        await again.client.disconnect()
        later = Person(server, "alice", password=Password("new password"))
        await later.client.connect()
        await later.client.disconnect()


async def test_logging_out_while_the_connection_is_down_is_quick_and_quiet(
    wire: Wire, person: Make
) -> None:
    alice = person("alice", port=wire.port)
    await connected(alice)
    wire.freeze()
    wire.cut()
    await asyncio.sleep(0)
    # It does not wait for what comes of the attempts to get the session back, up to a minute.
    async with asyncio.timeout(PATIENCE / 2):
        await alice.client.disconnect()


async def test_nobody_looks_and_the_server_knows(person: Make) -> None:
    alice = person("alice")
    await connected(alice)
    assert alice.client.can_be_inactive
    alice.client.set_inactive(True)
    alice.client.set_inactive(False)
    await ping(alice)
