"""Without a switch the badly behaved peer is a good one: two of them understand each other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

import pytest

from tests.peer import stanzas, transfer
from tests.peer.client import BASE, Peer
from tests.peer.transfer import Way
from tests.support.prosody import Prosody


@pytest.fixture
async def pair(prosody: Prosody) -> AsyncIterator[tuple[Peer, Peer]]:
    both = await asyncio.gather(Peer.start(prosody, "alice"), Peer.start(prosody, "bob"))
    yield both
    for each in both:
        await each.stop()


@pytest.mark.parametrize("xtls", [True, False])
@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        (Way.CONNECT, Way.LISTEN),
        (Way.LISTEN, Way.CONNECT),
        (Way.IN_BAND, Way.IN_BAND),
        (Way.FALL_BACK, Way.FALL_BACK),
    ],
)
async def test_a_file_arrives_on_every_way(
    pair: tuple[Peer, Peer], sender: Way, receiver: Way, xtls: bool
) -> None:
    alice, bob = pair
    data = secrets.token_bytes(70_001)
    sending = await transfer.send(alice, bob.jid, data, way=sender, xtls=xtls)
    receiving = await transfer.incoming(bob, way=receiver, xtls=xtls)
    condition, got = await asyncio.gather(sending.send(data), receiving.receive())
    assert got == data
    assert condition == "success"
    await sending.stop()
    await receiving.stop()


async def test_a_stanza_that_is_nobodys_gets_an_error(pair: tuple[Peer, Peer]) -> None:
    alice, bob = pair
    answer = await alice.ask(bob.jid, stanzas.ibb("x"))
    assert stanzas.error_of(answer) == ("service-unavailable", "")
    bob.answers = lambda iq: ("conflict", "tie-break")
    session = alice.session(bob.jid)
    assert await session.send("session-info") == ("conflict", "tie-break")


async def test_a_client_with_few_features_says_so(prosody: Prosody) -> None:
    peer = await Peer.start(prosody, "carol", features=BASE)
    answer = await peer.ask(peer.jid, _disco(), type="get")
    features = {each.get("var") for each in answer.iter() if each.get("var")}
    assert features == set(BASE)
    await peer.stop()


def _disco() -> Element:
    return Element("{http://jabber.org/protocol/disco#info}query")
