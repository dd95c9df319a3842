"""What kind of program contacts use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from telepathy_e2e.errors import Disconnected, InvalidHandle
from telepathy_e2e.service.client_types import ClientTypesUpdated, types_of
from telepathy_e2e.xmpp.caps import Identity
from telepathy_e2e.xmpp.roster import Resource
from tests.unit.publish_support import BOB, EVE, World


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


def program(jid: str, *types: str, priority: int = 0, show: str = "") -> Resource:
    identities = tuple(Identity("client", each, "", "") for each in types)
    return Resource(jid, priority, show, "", frozenset(), identities)


def told(world: World) -> list[tuple[int, tuple[str, ...]]]:
    return [(e.contact, e.client_types) for e in world.told if isinstance(e, ClientTypesUpdated)]


def test_types_that_nobody_knows_are_not_shown() -> None:
    assert types_of(program(BOB, "phone", "toaster", "bot")) == ("bot", "phone")
    account = Resource(BOB, 0, "", "", frozenset(), (Identity("account", "pc", "", ""),))
    assert types_of(account) == ()
    assert types_of(Resource(BOB)) is None
    assert types_of(None) == ()


async def test_the_program_whose_presence_is_shown_is_the_one(world: World) -> None:
    phone, pc = program(BOB + "/a", "phone"), program(BOB + "/b", "pc", show="dnd")
    world.client.online[BOB] = [phone, pc]
    assert world.types.of_all([world.bob]) == {world.bob: ("phone",)}
    world.types.changed(BOB)
    await world.settle()
    world.client.online[BOB] = [program(BOB + "/a", "phone", show="xa", priority=-1), pc]
    world.types.changed(BOB)
    world.types.changed(BOB)
    await world.settle()
    world.types.changed(BOB)
    await world.settle()
    world.client.online[BOB] = []
    world.types.changed(BOB)
    await world.settle()
    assert told(world) == [(world.bob, ("phone",)), (world.bob, ("pc",)), (world.bob, ())]


async def test_strangers_are_not_told_of(world: World) -> None:
    world.client.online[EVE] = [program(EVE + "/a", "phone")]
    world.types.changed(EVE)
    await world.settle()
    assert told(world) == []
    assert world.account.handles.find(EVE) is None


async def test_a_stranger_is_asked_when_somebody_wants_to_know(world: World) -> None:
    eve = world.account.handles.ensure(EVE)
    world.client.online[EVE] = [Resource(EVE + "/a")]
    world.client.knowledge[EVE + "/a"] = program(EVE + "/a", "phone")
    assert world.types.of_all([eve, world.me]) == {world.me: ("pc",)}
    assert world.types.of_all([eve]) == {}
    await world.settle()
    assert world.client.questions == [EVE + "/a"]
    assert world.types.of_all([eve]) == {eve: ("phone",)}


async def test_who_requests_waits_for_the_answer(world: World) -> None:
    world.client.online[BOB] = [Resource(BOB + "/a")]
    assert await world.types.request(world.bob) == ()
    world.client.knowledge[BOB + "/a"] = program(BOB + "/a", "web")
    assert await world.types.request(world.bob) == ("web",)
    assert world.types.of_all([world.bob]) == {world.bob: ("web",)}


async def test_contacts_are_not_asked_twice(world: World) -> None:
    world.client.online[BOB] = [Resource(BOB + "/a")]
    assert world.types.of_all([world.bob]) == {}
    await world.settle()
    assert world.client.questions == []


async def test_handles_and_states_are_checked(world: World) -> None:
    with pytest.raises(InvalidHandle):
        world.types.of_all([99])
    with pytest.raises(InvalidHandle):
        await world.types.request(99)
    world.account.status = 2
    with pytest.raises(Disconnected):
        world.types.of_all([world.bob])
