"""Pictures of contacts and our own: what is believed, fetched and said."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element

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
from telepathy_e2e.service.avatars import MAX_FETCHES, AvatarRetrieved, AvatarUpdated
from telepathy_e2e.xmpp import avatar, pubsub, vcard
from tests.unit.publish_support import BOB, EVE, HERE, ME, World, update
from tests.unit.test_xmpp_avatar import png

PICTURE, OTHER = png(64, 64), png(64, 48)
TOKEN, OTHER_TOKEN = (avatar.token_of(each).hex() for each in (PICTURE, OTHER))
NONE = update("<photo/>")


def photo(token: str) -> str:
    return update(f"<photo>{token}</photo>")


def card(data: bytes) -> Element:
    return vcard.with_photo(Element(vcard.TAG), data, "image/png")


def metadata(token: str) -> str:
    return (
        f"<item id='{token}'><metadata xmlns='{avatar.METADATA}'>"
        f"<info id='{token}' bytes='1' type='image/png'/></metadata></item>"
    )


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


def publish(world: World, data: bytes, announced: str = "", *, event: bool = True) -> None:
    """Bob has a picture in his data node."""
    token = announced or avatar.token_of(data).hex()
    element = avatar.build_data(base64.b64encode(data).decode())
    world.client.nodes[(BOB, avatar.DATA)] = {token: element}
    if event:
        world.event(BOB, avatar.METADATA, metadata(token))


def updates(world: World) -> list[tuple[int, str]]:
    return [(e.contact, e.new_avatar_token) for e in world.told if isinstance(e, AvatarUpdated)]


def pictures(world: World) -> list[tuple[int, str, bytes, str]]:
    return [
        (e.contact, e.token, e.avatar, e.type) for e in world.told if isinstance(e, AvatarRetrieved)
    ]


async def fetched(world: World, *handles: int) -> None:
    """Ask for pictures and wait until nobody fetches any longer."""
    world.avatars.request_all(handles)
    async with asyncio.timeout(60):
        while world.avatars.fetching:
            await asyncio.sleep(0.001)


# -- contacts' ------------------------------------------------------------------------------


async def test_an_event_tells_of_a_picture_and_it_is_fetched_when_somebody_asks(
    world: World,
) -> None:
    publish(world, PICTURE)
    await world.settle()
    assert updates(world) == [(world.bob, TOKEN)]
    assert world.client.asked == []
    await fetched(world, world.bob)
    assert pictures(world) == [(world.bob, TOKEN, PICTURE, "image/png")]
    assert [to for to, _, _ in world.client.asked] == [BOB]
    # Now it is on the disk.
    assert await world.avatars.request(world.bob) == (PICTURE, "image/png")
    assert len(world.client.asked) == 1


async def test_a_presence_tells_of_the_picture_in_a_vcard(world: World) -> None:
    world.client.cards[BOB] = card(PICTURE)
    world.shows(BOB + "/phone", photo(TOKEN.upper()))
    await world.settle()
    assert updates(world) == [(world.bob, TOKEN)]
    await fetched(world, world.bob)
    assert pictures(world) == [(world.bob, TOKEN, PICTURE, "image/png")]


async def test_an_event_is_taken_back(world: World) -> None:
    publish(world, PICTURE)
    world.event(BOB, avatar.METADATA, f"<retract id='{OTHER_TOKEN}'/>")
    assert world.avatars.of(world.bob) == TOKEN
    world.event(BOB, avatar.METADATA, f"<retract id='{TOKEN}'/>")
    assert world.avatars.of(world.bob) == ""
    with pytest.raises(NotAvailable):
        await world.avatars.request(world.bob)
    assert world.client.asked == []


async def test_a_published_picture_that_cannot_be_had_is_looked_for_in_the_vcard(
    world: World,
) -> None:
    world.event(BOB, avatar.METADATA, metadata(TOKEN))
    world.shows(BOB + "/phone", photo(TOKEN))
    world.client.cards[BOB] = card(PICTURE)
    await fetched(world, world.bob)
    assert len(pictures(world)) == 1


@pytest.mark.parametrize("sent", [OTHER, b"", b"no picture", PICTURE + b"."])
async def test_a_picture_that_is_not_the_announced_one_is_dropped(
    world: World, tmp_path: Path, sent: bytes
) -> None:
    publish(world, sent, TOKEN)
    await fetched(world, world.bob)
    with pytest.raises(NotAvailable):
        await world.avatars.request(world.bob)
    world.client.cards[BOB] = card(sent)
    world.event(BOB, avatar.METADATA, "<retract id='" + TOKEN + "'/>")
    world.shows(BOB + "/phone", photo(TOKEN))
    await fetched(world, world.bob)
    assert pictures(world) == []
    assert not list(tmp_path.glob("avatars/*"))


async def test_what_is_no_picture_is_dropped_though_it_was_announced(
    world: World, tmp_path: Path
) -> None:
    publish(world, b"<html/>")
    await fetched(world, world.bob)
    assert pictures(world) == []
    assert not list(tmp_path.glob("avatars/*"))


async def test_without_any_word_the_vcard_is_looked_at(world: World) -> None:
    world.client.cards[BOB] = card(PICTURE)
    assert world.avatars.of(world.bob) is None
    assert await world.avatars.known_tokens([world.bob]) == {}
    await fetched(world, world.bob)
    assert pictures(world) == [(world.bob, TOKEN, PICTURE, "image/png")]
    await world.settle()
    assert updates(world) == [(world.bob, TOKEN)]
    world.client.cards[EVE] = Element(vcard.TAG)
    eve = world.account.handles.ensure(EVE)
    await fetched(world, eve)
    assert world.avatars.of(eve) == ""


async def test_strangers_cost_nothing(world: World) -> None:
    for number in range(1_000):
        world.shows(f"s{number}@elsewhere.test/x", photo(TOKEN))
    world.event(EVE, avatar.METADATA, metadata(TOKEN))
    await world.settle()
    assert updates(world) == []
    assert world.account.handles.find(EVE) is None
    assert world.avatars.known_to_us == 0


async def test_those_who_come_before_the_contact_list_are_kept_if_they_are_on_it(
    world: World,
) -> None:
    world.client.roster.loading = True
    world.client.list.clear()
    world.shows(BOB + "/phone", photo(TOKEN))
    world.shows(EVE + "/phone", photo(TOKEN))
    world.client.list[BOB] = object()
    world.client.roster.loading = False
    world.avatars.roster_loaded(None)
    await world.settle()
    assert world.avatars.known_to_us == 1


async def test_a_flood_of_changes_is_told_as_one(world: World) -> None:
    for number in range(1_000):
        world.shows(BOB + "/phone", photo(f"{number:040x}"))
    await world.settle()
    assert updates(world) == [(world.bob, f"{999:040x}")]
    assert world.client.asked == []


async def test_only_so_many_pictures_are_fetched_at_a_time(world: World) -> None:
    handles = []
    for number in range(5 * MAX_FETCHES):
        jid = f"c{number}@example.test"
        world.client.list[jid] = object()
        handles.append(world.account.handles.ensure(jid))
        world.client.cards[jid] = card(png(64, 33 + number))
    await fetched(world, *handles, *handles)
    assert len(pictures(world)) == len(handles)
    assert world.client.most_flying <= MAX_FETCHES
    assert world.client.gets(vcard.TAG) == len(handles)


async def test_many_pictures_are_known_without_a_question(world: World) -> None:
    for number in range(2_000):
        jid = f"c{number}@example.test"
        world.client.list[jid] = object()
        world.account.handles.ensure(jid)
        world.event(jid, avatar.METADATA, metadata(f"{number:040x}"))
    await world.settle()
    assert len(updates(world)) == 2_000
    assert world.client.asked == []


async def test_handles_are_checked(world: World) -> None:
    for call in (world.avatars.known_tokens([99]), world.avatars.request(99)):
        with pytest.raises(InvalidHandle):
            await call
    with pytest.raises(InvalidHandle):
        world.avatars.request_all([world.bob, 99])
    world.account.status = 2
    with pytest.raises(Disconnected):
        world.avatars.request_all([world.bob])


# -- our own --------------------------------------------------------------------------------


async def begin(world: World, data: bytes = PICTURE) -> None:
    """Log in with this picture in the vCard."""
    world.client.cards[ME] = card(data)
    world.info.connected()
    await world.settle()


async def test_a_presence_says_nothing_before_the_vcard_came_and_then_its_hash(
    world: World,
) -> None:
    (x,) = world.avatars.presence_extras()
    assert len(x) == 0
    await begin(world)
    assert world.client.presences == [TOKEN]
    assert await world.avatars.known_tokens([world.me]) == {world.me: TOKEN}
    assert updates(world) == [(world.me, TOKEN)]


async def test_without_a_picture_a_presence_says_so(world: World) -> None:
    await begin(world, b"")
    assert world.client.presences == ["none"]
    assert await world.avatars.known_tokens([world.me]) == {world.me: ""}


async def test_whoever_asks_for_our_own_waits_until_the_server_has_said(world: World) -> None:
    world.client.cards[ME] = card(PICTURE)
    world.client.gate = asyncio.Event()
    world.info.connected()
    asking = asyncio.ensure_future(world.avatars.known_tokens([world.me]))
    await world.settle()
    assert not asking.done()
    world.client.gate.set()
    assert await asking == {world.me: TOKEN}


async def test_a_server_that_does_not_say_does_not_hold_up_anybody(world: World) -> None:
    world.client.refuses[vcard.TAG] = "internal-server-error"
    world.info.connected()
    async with asyncio.timeout(60):
        assert await world.avatars.known_tokens([world.me]) == {}
    assert world.client.presences == []


async def test_a_picture_is_published_in_both_ways_and_said(world: World) -> None:
    await begin(world, b"")
    assert await world.avatars.set(PICTURE, "image/png") == TOKEN
    assert vcard.photo(world.client.cards[ME]) == PICTURE
    assert list(world.client.nodes[(ME, avatar.DATA)]) == [TOKEN]
    shown = world.client.nodes[(ME, avatar.METADATA)][TOKEN]
    assert avatar.parse_metadata(shown).hex() == TOKEN
    nodes = [each[0].get("node") for _, _, each in world.client.asked if each.tag == pubsub.QUERY]
    assert nodes == [avatar.DATA, avatar.METADATA]
    assert world.client.presences == ["none", TOKEN]
    await world.settle()
    assert updates(world)[-1] == (world.me, TOKEN)


async def test_a_picture_is_uploaded_once(world: World) -> None:
    await begin(world, b"")
    await world.avatars.set(PICTURE, "image/png")
    before = len(world.client.asked)
    assert await world.avatars.set(PICTURE, "image/png") == TOKEN
    assert len(world.client.asked) == before


async def test_a_server_that_keeps_both_the_same_gets_it_once(world: World) -> None:
    world.client.converts = True
    await begin(world, b"")
    await world.avatars.set(PICTURE, "image/png")
    assert world.client.sets(vcard.TAG) == 0
    assert world.client.presences == ["none", TOKEN]


@pytest.mark.parametrize("missing", [pubsub.QUERY, vcard.TAG])
async def test_a_server_that_knows_one_way_is_enough(world: World, missing: str) -> None:
    await begin(world, b"")
    world.client.refuses[missing] = "service-unavailable"
    assert await world.avatars.set(PICTURE, "image/png") == TOKEN
    assert world.avatars.of(world.me) == TOKEN
    await world.avatars.clear()
    assert world.avatars.of(world.me) == ""


async def test_a_server_that_takes_no_picture_is_an_error(world: World) -> None:
    await begin(world, b"")
    world.client.refuses = {pubsub.QUERY: "service-unavailable", vcard.TAG + "!": "forbidden"}
    with pytest.raises(PermissionDenied):
        await world.avatars.set(PICTURE, "image/png")
    assert world.avatars.of(world.me) == ""


@pytest.mark.parametrize("keeps", [pubsub.QUERY + "!", vcard.TAG + "!"])
async def test_a_picture_that_stays_somewhere_is_not_removed(world: World, keeps: str) -> None:
    await begin(world, b"")
    await world.avatars.set(PICTURE, "image/png")
    world.client.refuses[keeps] = "forbidden"
    with pytest.raises(NetworkError):
        await world.avatars.clear()


async def test_our_picture_is_removed_from_both(world: World) -> None:
    await begin(world)
    await world.avatars.clear()
    assert vcard.photo(world.client.cards[ME]) == b""
    (shown,) = world.client.nodes[(ME, avatar.METADATA)].values()
    assert avatar.parse_metadata(shown) == b""
    assert world.client.presences == [TOKEN, "none"]


async def test_what_violates_the_requirements_is_not_sent(world: World) -> None:
    await begin(world, b"")
    before = len(world.client.asked)
    with pytest.raises(InvalidArgument):
        await world.avatars.set(PICTURE, "image/gif")
    assert len(world.client.asked) == before


# -- other programs of this account (XEP-0153 section 4.3) ----------------------------------

OTHER_ONE = ME + "/other"


async def test_one_that_says_nothing_of_pictures_silences_us_until_it_goes(world: World) -> None:
    await begin(world)
    world.shows(OTHER_ONE)
    world.shows(OTHER_ONE)
    assert world.client.presences == [TOKEN, "-"]
    world.client.cards[ME] = card(OTHER)
    world.hears(f"<presence type='unavailable' from='{OTHER_ONE}'/>".replace("/>", "></presence>"))
    await world.settle()
    assert world.client.presences[-1] == OTHER_TOKEN
    assert TOKEN not in world.client.presences[1:]


@pytest.mark.parametrize("shown", [update(""), photo(TOKEN)])
async def test_one_that_agrees_or_knows_of_none_changes_nothing(world: World, shown: str) -> None:
    await begin(world)
    world.shows(OTHER_ONE, shown)
    await world.settle()
    assert world.client.presences == [TOKEN]
    assert world.client.gets(vcard.TAG) == 1


@pytest.mark.parametrize("shown", [NONE, photo(OTHER_TOKEN)])
async def test_one_that_has_another_makes_us_look_and_upload_nothing(
    world: World, shown: str
) -> None:
    await begin(world)
    world.client.cards[ME] = card(OTHER)
    world.shows(OTHER_ONE, shown)
    assert world.client.presences == [TOKEN, "-"]
    await world.settle()
    assert world.client.presences == [TOKEN, "-", OTHER_TOKEN]
    assert world.client.sets(vcard.TAG) == 0


async def test_one_that_never_agrees_is_looked_after_once(world: World) -> None:
    await begin(world)
    for _ in range(10):
        world.shows(OTHER_ONE, photo(OTHER_TOKEN))
        await world.settle()
    assert world.client.presences == [TOKEN, "-", TOKEN]
    assert world.client.gets(vcard.TAG) == 2


async def test_our_own_presence_is_no_other_program(world: World) -> None:
    await begin(world)
    world.shows(HERE)
    world.shows(HERE, photo(OTHER_TOKEN))
    await world.settle()
    assert world.client.presences == [TOKEN]


async def test_a_picture_of_ours_that_makes_no_sense_is_none(world: World) -> None:
    broken = card(PICTURE)
    broken[0][1].text = "%%%"
    world.client.cards[ME] = broken
    world.info.connected()
    await world.settle()
    assert world.client.presences == ["none"]
