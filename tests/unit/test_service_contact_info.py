"""vCards of contacts and our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import pytest
import pytest_asyncio

from telepathy_e2e.errors import (
    Disconnected,
    InvalidArgument,
    InvalidHandle,
    NetworkError,
    NotAvailable,
    PermissionDenied,
)
from telepathy_e2e.service.contact_info import MAX_CARDS, MAX_QUESTIONS, ContactInfoChanged
from telepathy_e2e.xmpp import vcard
from telepathy_e2e.xmpp.iq import StanzaError
from tests.unit.publish_support import BOB, ME, World

NAME = ("fn", (), ("Bob",))


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


def card(*fields: vcard.Field, more: str = "") -> Element:
    element = vcard.with_fields(Element(vcard.TAG), fields)
    if more:
        SubElement(element, "{vcard-temp}CATEGORIES").text = more
    return element


def changes(world: World) -> list[tuple[int, tuple[vcard.Field, ...]]]:
    return [(e.contact, e.contact_info) for e in world.told if isinstance(e, ContactInfoChanged)]


async def test_a_vcard_is_asked_for_once_and_kept(world: World) -> None:
    world.client.cards[BOB] = card(NAME)
    assert world.info.of_all([world.bob]) == {}
    assert world.info.nickname(BOB) is None
    both = await asyncio.gather(world.info.request(world.bob), world.info.request(world.bob))
    assert list(both) == [(NAME,), (NAME,)]
    assert world.info.of_all([world.bob]) == {world.bob: (NAME,)}
    await world.info.request(world.bob)
    assert world.client.gets(vcard.TAG) == 1
    assert changes(world) == [(world.bob, (NAME,))]
    assert world.aliases.told == [(BOB, "Bob")]
    assert world.info.nickname(BOB) == "Bob"


async def test_who_looks_again_much_later_gets_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.client.cards[BOB] = card(NAME)
    monkeypatch.setattr("telepathy_e2e.service.contact_info.FRESH_SECONDS", -1.0)
    await world.info.request(world.bob)
    world.client.cards[BOB] = card()
    assert world.info.of_all([world.bob]) == {world.bob: (NAME,)}
    assert await world.info.request(world.bob) == ()
    assert world.info.of_all([world.bob]) == {world.bob: ()}


async def test_a_refresh_tells_of_changes_alone(world: World) -> None:
    world.client.cards[BOB] = card(NAME)
    for _ in range(2):
        world.info.refresh([world.bob])
        await world.settle()
    assert changes(world) == [(world.bob, (NAME,))]
    world.client.cards[BOB] = card()
    world.info.refresh([world.bob])
    await world.settle()
    assert changes(world)[1:] == [(world.bob, ())]
    assert world.client.gets(vcard.TAG) == 3


async def test_a_whole_list_is_refreshed_some_at_a_time(world: World) -> None:
    handles = []
    for number in range(200):
        jid = f"c{number}@example.test"
        handles.append(world.account.handles.ensure(jid))
        if number % 2:
            world.client.cards[jid] = card(NAME)
    world.info.refresh(handles)
    async with asyncio.timeout(60):
        while world.client.gets(vcard.TAG) < 200 or world.client.flying:
            await asyncio.sleep(0)
    assert world.client.most_flying <= MAX_QUESTIONS
    await world.settle()
    assert len(changes(world)) == 100
    assert len(world.info.of_all(handles)) <= MAX_CARDS


async def test_our_own_stays_known_while_others_come_and_go(world: World) -> None:
    world.client.cards[ME] = card(NAME)
    world.info.connected()
    await world.settle()
    for number in range(MAX_CARDS + 10):
        jid = f"c{number}@example.test"
        world.client.cards[jid] = card(NAME)
        await world.info.fetch(jid)
    assert world.info.nickname(ME) == "Bob"
    assert world.info.nickname("c0@example.test") is None


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("service-unavailable", NotAvailable),
        ("forbidden", PermissionDenied),
        ("remote-server-timeout", NetworkError),
    ],
)
async def test_a_vcard_that_cannot_be_had_is_an_error(
    world: World, condition: str, error: type[Exception]
) -> None:
    world.client.refuses[vcard.TAG] = condition
    with pytest.raises(error):
        await world.info.request(world.bob)
    world.info.refresh([world.bob])
    await world.settle()
    assert changes(world) == []


async def test_what_is_no_vcard_is_not_available(world: World) -> None:
    world.client.cards[BOB] = Element("{urn:x}card")
    with pytest.raises(NotAvailable):
        await world.info.request(world.bob)


async def test_setting_keeps_what_is_not_understood(world: World) -> None:
    world.client.cards[ME] = card(("url", (), ("u",)), more="kept")
    await world.info.set([NAME])
    assert vcard.read(world.client.cards[ME]) == (NAME,)
    assert world.client.cards[ME].findtext("{vcard-temp}CATEGORIES") == "kept"
    assert changes(world) == [(world.me, (NAME,))]


async def test_what_is_there_already_is_not_written(world: World) -> None:
    world.client.cards[ME] = card(NAME)
    await world.info.set([NAME])
    assert world.client.sets(vcard.TAG) == 0


async def test_changes_at_the_same_time_do_not_undo_one_another(world: World) -> None:
    def adds(name: str, value: str) -> asyncio.Future[None]:
        def change(before: Element) -> Element:
            return vcard.with_fields(before, [*vcard.read(before), (name, (), (value,))])

        return asyncio.ensure_future(world.info.edit(change))

    await asyncio.gather(*(adds("url", str(number)) for number in range(10)))
    assert len(vcard.read(world.client.cards[ME])) == 10


async def test_a_vcard_that_was_not_seen_is_not_overwritten(world: World) -> None:
    world.client.refuses[vcard.TAG] = "internal-server-error"
    with pytest.raises(NotAvailable):
        await world.info.set([NAME])
    assert world.client.sets(vcard.TAG) == 0
    world.client.refuses.clear()
    world.client.cards[ME] = Element("{urn:x}card")
    with pytest.raises(NetworkError):
        await world.info.set([NAME])
    assert world.client.sets(vcard.TAG) == 0


async def test_a_name_goes_into_the_vcard_where_there_is_one(world: World) -> None:
    await world.info.publish_nickname("me")
    assert vcard.nickname(vcard.read(world.client.cards[ME])) == "me"
    world.client.refuses[vcard.TAG] = "service-unavailable"
    await world.info.publish_nickname("you")
    world.client.refuses[vcard.TAG] = "forbidden"
    with pytest.raises(StanzaError):
        await world.info.publish_nickname("you")


async def test_arguments_and_states_are_checked(world: World) -> None:
    with pytest.raises(InvalidArgument):
        await world.info.set([("photo", (), ("x",))])
    with pytest.raises(InvalidHandle):
        world.info.refresh([world.bob, 99])
    with pytest.raises(InvalidHandle):
        await world.info.request(99)
    world.account.status = 1
    for call in (world.info.request(world.bob), world.info.set([])):
        with pytest.raises(Disconnected):
            await call
    with pytest.raises(Disconnected):
        world.info.of_all([world.bob])
