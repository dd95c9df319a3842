"""The hostile server without an attack is an honest server, and an attack can do what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import pytest

from tests.hostile import stanzas
from tests.hostile.peers import Peer
from tests.hostile.server import Attack, HostileServer, Together
from tests.support.prosody import available

pytestmark = pytest.mark.skipif(not available(), reason="prosody is not installed")

AWKWARD_TEXT = (
    "<iq type='set' id='a1' to='bob@example.test/peer'>"
    "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='s'>"
    "<content creator='initiator' name='&lt;&amp;\"'>\n  text  "
    "<description xmlns='urn:d' xmlns:o='urn:o' o:attr='1' attr='2' xml:lang='de'>"
    "<o:inner/><plain>ü\U0001f512</plain> tail</description></content>"
    "</jingle></iq>"
)


def awkward() -> Element:
    return fromstring(AWKWARD_TEXT)  # noqa: S314 - our own


class Pair:
    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self.alice = Peer(server, "alice")
        self.bob = Peer(server, "bob")


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    server = await HostileServer.start(kinds=("iq", "message", "presence"))
    pair = Pair(server)
    await pair.alice.start()
    await pair.bob.start()
    yield pair
    await pair.alice.stop()
    await pair.bob.stop()
    await server.stop()


def offer(pair: Pair, identifier: str = "i1") -> Element:
    iq = stanzas.jingle_set(pair.alice.jid, pair.bob.jid, "s1", "session-initiate")
    iq.set("id", identifier)
    return iq


def canonical(element: Element) -> object:
    """What an element says, however it is written; the stream's namespace counts as none."""
    return (
        element.tag.removeprefix("{jabber:client}"),
        dict(element.attrib),
        element.text or "",
        [(canonical(child), child.tail or "") for child in element],
    )


async def test_without_an_attack_a_stanza_arrives_as_it_was_sent(pair: Pair) -> None:
    pair.alice.send(awkward())
    got = await pair.bob.receive("a1")
    sent = awkward()
    sent.set("from", pair.alice.jid)
    got.attrib.pop("{http://www.w3.org/XML/1998/namespace}lang")  # Prosody adds the stream's
    assert canonical(got) == canonical(sent), tostring(got)


async def test_without_an_attack_answers_come_back(pair: Pair) -> None:
    pair.alice.send(offer(pair))
    answer = await pair.alice.receive("i1")
    assert (answer.get("type"), answer.get("from")) == ("result", pair.bob.jid)


async def test_without_an_attack_messages_and_presence_arrive(pair: Pair) -> None:
    message = Element("message", {"to": pair.bob.jid, "id": "m1", "type": "chat"})
    SubElement(message, "{jabber:client}body").text = "hello"
    pair.alice.send(message)
    assert (await pair.bob.receive("m1")).findtext("{jabber:client}body") == "hello"
    pair.alice.send(Element("presence", {"id": "p1"}))
    assert (await pair.bob.receive("p1")).get("from") == pair.alice.jid


async def test_nobody_there_is_an_error_as_with_any_server(pair: Pair) -> None:
    iq = offer(pair)
    iq.set("to", "carol@example.test/nowhere")
    pair.alice.send(iq)
    answer = await pair.alice.receive("i1")
    assert answer.get("type") == "error"
    assert answer.find(f".//{{{stanzas.STANZA_ERRORS}}}service-unavailable") is not None


async def test_order_is_kept(pair: Pair) -> None:
    for number in range(50):
        pair.alice.send(offer(pair, f"n{number}"))
    await pair.bob.receive("n49")
    got = [each.get("id") for each in pair.bob.got if (each.get("id") or "").startswith("n")]
    assert got == [f"n{number}" for number in range(50)]


async def test_what_a_user_sends_himself_is_not_taken(pair: Pair) -> None:
    iq = Element("iq", {"type": "get", "id": "d1", "to": "example.test"})
    SubElement(iq, f"{{{stanzas.DISCO_INFO}}}query")
    pair.alice.send(iq)
    await pair.alice.receive("d1")
    assert "d1" not in [each.get("id") for each in pair.server.seen]


class Swallow(Attack):
    def stanza(self, element: Element) -> list[Element]:
        return [] if stanzas.jingle(element) is not None else [element]


class Rename(Attack):
    def stanza(self, element: Element) -> list[Element]:
        found = stanzas.jingle(element)
        if found is not None:
            found.set("sid", found.get("sid", "") + "x")
        return [element]


class Twice(Attack):
    def stanza(self, element: Element) -> list[Element]:
        if stanzas.jingle(element) is None:
            return [element]
        return [element, stanzas.again(element)]


async def test_an_attack_can_swallow(pair: Pair) -> None:
    await pair.server.use(Swallow())
    pair.alice.send(offer(pair))
    await pair.server.until(lambda: pair.server.actions() or None)
    await pair.server.use(Attack())
    pair.alice.send(offer(pair, "i2"))
    await pair.bob.receive("i2")
    assert "i1" not in [each.get("id") for each in pair.bob.got]


async def test_attacks_change_and_repeat_together(pair: Pair) -> None:
    await pair.server.use(Together(Rename(), Twice()))
    pair.alice.send(offer(pair))
    await pair.bob.receive("i1")
    await pair.server.use(Attack())
    pair.alice.send(offer(pair, "last"))
    await pair.bob.receive("last")
    sids = [
        found.get("sid")
        for each in pair.bob.got
        for found in each.iter(f"{{{stanzas.JINGLE}}}jingle")
    ]
    assert sids == ["s1x", "s1x", "s1"]


async def test_the_server_can_say_anything_in_anybodys_name(pair: Pair) -> None:
    pair.server.inject(
        stanzas.jingle_set(pair.alice.jid, pair.bob.jid, "forged", "session-terminate")
    )
    forged = pair.server.delivered[-1].get("id", "")
    got = await pair.bob.receive(forged)
    assert got.get("from") == pair.alice.jid


async def test_a_broken_attack_is_not_silent() -> None:
    class Broken(Attack):
        def stanza(self, element: Element) -> list[Element]:
            raise LookupError("a mistake in an attack")

    server = await HostileServer.start()
    pair = Pair(server)
    await pair.alice.start()
    await pair.bob.start()
    await server.use(Broken())
    pair.alice.send(offer(pair))
    await server.until(lambda: server.problems or None)
    await pair.alice.stop()
    await pair.bob.stop()
    with pytest.raises(LookupError):
        await server.stop()
