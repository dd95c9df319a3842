"""Personal events: who is believed, what is told, and how we publish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio

from telepathy_e2e.errors import PeerError
from telepathy_e2e.service.pep import MAX_WAITING
from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xmpp.iq import StanzaError
from tests.unit.publish_support import BOB, EVE, ME, P, World

NODE = "urn:example:mood"
ITEM = "<item id='1'><mood xmlns='urn:example:mood'/></item>"


class Told:
    """Collects what a node's callback gets."""

    def __init__(self, world: World) -> None:
        self.events: list[tuple[str, str | None]] = []
        world.pep.on(NODE, self.callback)

    def callback(self, jid: str, payload: Element | None) -> None:
        self.events.append((jid, None if payload is None else payload.tag))


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


async def test_an_event_of_a_contact_or_of_ourselves_is_told(world: World) -> None:
    told = Told(world)
    assert NODE + "+notify" in world.pep.disco
    assert world.event(BOB, NODE, ITEM)
    assert world.event(ME, NODE, ITEM)
    assert told.events == [(BOB, "{urn:example:mood}mood"), (ME, "{urn:example:mood}mood")]


@pytest.mark.parametrize("sender", [BOB + "/phone", ME + "/other", EVE, "@", "example.test"])
async def test_an_event_that_comes_from_no_contact_s_account_is_dropped(
    world: World, sender: str
) -> None:
    told = Told(world)
    assert world.event(sender, NODE, ITEM)
    assert told.events == []


async def test_what_is_no_event_is_for_somebody_else(world: World) -> None:
    told = Told(world)
    event = f"<event xmlns='{pubsub.EVENT}'><items node='{NODE}'>{ITEM}</items></event>"
    body = "<body xmlns='jabber:client'>Hello</body>"
    assert not world.hears(f"<message from='{BOB}'>{event}{body}</message>")
    assert not world.hears(f"<message from='{BOB}'>{body}</message>")
    assert not world.hears(f"<message type='error' from='{BOB}'>{event}</message>")
    assert told.events == []


async def test_events_of_other_nodes_are_nobody_s(world: World) -> None:
    told = Told(world)
    assert world.event(BOB, "urn:other", ITEM)
    assert told.events == []


async def test_before_the_contact_list_is_there_events_wait(world: World) -> None:
    told = Told(world)
    world.client.roster.loading = True
    world.client.list.clear()
    assert world.event(BOB, NODE, ITEM)
    assert world.event(EVE, NODE, ITEM)
    assert world.event(ME, NODE, ITEM)
    assert told.events == [(ME, "{urn:example:mood}mood")]
    world.client.list[BOB] = object()
    world.client.roster.loading = False
    world.pep.roster_loaded(None)
    assert told.events[1:] == [(BOB, "{urn:example:mood}mood")]


async def test_not_more_than_so_many_wait(world: World) -> None:
    told = Told(world)
    world.client.roster.loading = True
    world.client.list.clear()
    for number in range(MAX_WAITING + 1):
        world.event(f"c{number}@example.test", NODE, ITEM)
    world.client.list.update((f"c{n}@example.test", object()) for n in range(MAX_WAITING + 1))
    world.pep.roster_loaded(None)
    assert len(told.events) == MAX_WAITING


async def test_a_retraction_counts_if_it_is_that_of_the_current_item(world: World) -> None:
    told = Told(world)
    seen: list[tuple[str, str]] = []

    def retracted(jid: str, item_id: str) -> bool:
        seen.append((jid, item_id))
        return item_id == "now"

    heard: list[object] = []
    world.pep.on(NODE, lambda jid, payload: heard.append(payload), retracted)
    world.event(BOB, NODE, "<retract id='old'/>")
    assert (told.events, heard) == ([(BOB, None)], [])
    world.event(BOB, NODE, "<retract id='now'/>")
    assert heard == [None]
    assert seen == [(BOB, "old"), (BOB, "now")]


async def test_a_node_that_is_emptied_is_told_of(world: World) -> None:
    told = Told(world)
    inner = f"<event xmlns='{pubsub.EVENT}'><purge node='{NODE}'/></event>"
    assert world.hears(f"<message from='{BOB}'>{inner}</message>")
    assert told.events == [(BOB, None)]


async def test_one_who_finds_an_event_wrong_does_not_keep_it_from_others(world: World) -> None:
    def picky(jid: str, payload: Element | None) -> None:
        raise PeerError("wrong")

    world.pep.on(NODE, picky)
    told = Told(world)
    assert world.event(BOB, NODE, ITEM)
    assert len(told.events) == 1


async def test_what_is_published_is_there(world: World) -> None:
    await world.pep.publish(NODE, "1", Element("{urn:x}a"), "open")
    assert world.client.asked[0][2].findtext(".//*[@var='pubsub#access_model']/*") == "open"
    (item,) = await world.pep.items(ME, NODE)
    assert (item.id, item.payload is not None) == ("1", True)
    assert await world.pep.items(ME, NODE, "2") == []
    assert [to for to, _, _ in world.client.asked] == [None, None, None]
    await world.pep.items(BOB, NODE, max=3)
    assert world.client.asked[-1][0] == BOB
    assert world.client.asked[-1][2][0].get("max_items") == "3"


async def test_a_node_that_was_set_up_otherwise_keeps_its_settings(world: World) -> None:
    world.client.refuses["options"] = "conflict"
    await world.pep.publish(NODE, "1", Element("{urn:x}a"))
    assert world.client.asked[-1][2].find(P + "publish-options") is None


async def test_what_is_for_us_alone_is_not_published_to_others(world: World) -> None:
    world.client.refuses["options"] = "conflict"
    with pytest.raises(StanzaError):
        await world.pep.publish(NODE, "1", Element("{urn:x}a"), "whitelist")
    assert len(world.client.asked) == 1


async def test_an_item_is_taken_back(world: World) -> None:
    await world.pep.retract(NODE, "1")
    assert world.client.asked[-1][2][0].tag == P + "retract"
