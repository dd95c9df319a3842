"""A peer whose XML stream says what no honest one says (XEP-0247, spec/xml-streams.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from xml.etree.ElementTree import Element

import pytest
import pytest_asyncio

from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xtls.published import Published, build_published
from tests.peer import credentials, stanzas, xml_stream
from tests.peer.bench import Bench
from tests.peer.client import Peer, Session
from tests.peer.transfer import Way
from tests.peer.xml_stream import XML_STREAM, PeerStream, open_stream
from tests.support.prosody import Prosody
from tests.support.side import CONNECTION, TP

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

IDENTITY = "urn:x-telepathy-e2e:identity:0"
LIST = CONNECTION + ".Interface.ContactList"
# As in xmpp/peer_stream.py and service/xml_streams.py.
MAX_STANZA = 256 * 1024
MAX_OPENED = 12

MEGABYTE = 2**20


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def published(prosody: Prosody) -> None:
    """Their keys are in their nodes, so that the daemon has nothing to ask them itself."""
    options = {"pubsub#access_model": "open", "pubsub#max_items": "16"}
    for name in ("bob", "carol"):
        jid = prosody.jid(name)
        _, certificate = credentials.own_identity(jid)
        payload = build_published(Published(certificate))
        peer = await Peer.start(prosody, name, resource="publishes")
        try:
            answer = await peer.ask(jid, pubsub.publish(IDENTITY, "1", payload, options))
            assert answer.get("type") == "result"
        finally:
            await peer.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def carol(bench: Bench) -> AsyncIterator[Peer]:
    """A contact; each test has another one of hers, since streams of one are counted."""
    yield await bench.peer("carol", features=xml_stream.FEATURES, resource="stream")


async def asked(stream: PeerStream, payload: str, *, type: str = "get") -> Element:
    await stream.write(f"<iq type='{type}' id='q'>{payload}</iq>")
    return await stream.answer("q")


async def alive(stream: PeerStream) -> None:
    answer = await asked(stream, "<ping xmlns='urn:xmpp:ping'/>")
    assert answer.get("type") == "result"


async def closes(stream: PeerStream) -> None:
    """In order, from this side."""
    await stream.write("</stream:stream>")
    assert await stream.next() is None
    await stream.session.terminate("success")
    await stream.stop()


# -- what is answered -----------------------------------------------------------------------


@pytest.mark.parametrize("way", [Way.CONNECT, Way.FALL_BACK], ids=lambda way: way.name)
async def test_a_contact_is_answered_what_is_in_the_table(
    bench: Bench, carol: Peer, way: Way
) -> None:
    stream = await open_stream(carol, bench.jid, way=way)
    await alive(stream)
    info = await asked(stream, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    features = {each.get("var") for each in info.iter() if stanzas.local(each) == "feature"}
    assert {XML_STREAM, stanzas.XTLS} <= features
    told = await asked(stream, f"<identities xmlns='{IDENTITY}'/>")
    (pubkey,) = told[0]
    assert [stanzas.local(each) for each in pubkey] == ["identity"]
    for answer in (info, told):
        assert answer.get("from") == bench.jid
        assert answer.get("to") == carol.jid
    await closes(stream)


async def test_what_only_servers_say_reaches_nobody(bench: Bench, carol: Peer) -> None:
    """Each of these would do something if it came from the account's server."""
    stream = await open_stream(carol, bench.jid)
    side = bench.side
    before = await side.cm(side.connection, LIST, "GetContactListAttributes", "asb", [], False)
    side.signals.clear()  # those of her coming were before that answer
    pushed = await asked(
        stream, "<query xmlns='jabber:iq:roster'><item jid='eve@evil.test'/></query>", type="set"
    )
    assert stanzas.error_of(pushed) == ("service-unavailable", "")
    offered = await asked(
        stream,
        f"<jingle xmlns='{stanzas.JINGLE}' action='session-initiate' sid='x'/>",
        type="set",
    )
    assert stanzas.error_of(offered) == ("service-unavailable", "")
    block = await asked(stream, f"<open xmlns='{stanzas.IBB}' sid='x' block-size='1'/>", type="set")
    assert stanzas.error_of(block) == ("service-unavailable", "")
    own = stanzas.bare(bench.jid)
    seat = "<item xmlns='http://jabber.org/protocol/muc#user' role='none'/>"
    inner = (
        "<forwarded xmlns='urn:xmpp:forward:0'>"
        f"<message xmlns='jabber:client' from='eve@evil.test/x' to='{own}'><body>x</body></message>"
        "</forwarded>"
    )
    for said in (
        "<message><body>hello</body></message>",
        f"<message><received xmlns='urn:xmpp:carbons:2'>{inner}</received></message>",
        f"<message><result xmlns='urn:xmpp:mam:2'>{inner}</result></message>",
        "<message type='groupchat'><body>x</body></message>",
        f"<message><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='{IDENTITY}'>"
        "<item id='1'><pubkey/></item></items></event></message>",
        "<presence type='unavailable'/>",
        "<presence type='subscribe'/>",
        f"<presence><x xmlns='http://jabber.org/protocol/muc#user'>{seat}</x></presence>",
    ):
        await stream.write(said)
    await alive(stream)
    after = await side.cm(side.connection, LIST, "GetContactListAttributes", "asb", [], False)
    assert after == before
    seen = [each for each in side.signals if each.interface.startswith(TP)]
    assert seen == []
    await closes(stream)


# -- what ends it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        ("<message from='bob@{domain}/peer'><body>x</body></message>", "invalid-from"),
        ("<message from='carol@{domain}'/>", "invalid-from"),
        ("<iq type='set' id='1' from='{domain}'><query xmlns='jabber:iq:roster'/></iq>", ""),
        ("<message>" + "<a>" * 200, "policy-violation"),
        ("<message><body>&lol;</body></message>", "not-well-formed"),
    ],
    ids=["Bob's", "her server's", "a push", "too deep", "an entity"],
)
async def test_what_nobody_may_say_ends_the_stream(
    bench: Bench, carol: Peer, said: str, condition: str
) -> None:
    stream = await open_stream(carol, bench.jid)
    await stream.flood(said.replace("{domain}", bench.server.domain))
    assert await stream.error() == (condition or "invalid-from")
    assert await stream.ends() == "failed-application"
    await stream.stop()


async def test_a_document_type_is_refused(bench: Bench, carol: Peer) -> None:
    stream = await xml_stream.protect(await xml_stream.offer(carol, bench.jid))
    await stream.flood("<!DOCTYPE a [<!ENTITY b '" + "b" * 1000 + "'>]>" + xml_stream.HEADER)
    assert await stream.error() == "restricted-xml"
    assert await stream.ends() == "failed-application"
    await stream.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def dora(bench: Bench) -> AsyncIterator[Peer]:
    """Bob, who has a stream feature in this program."""
    yield await bench.peer("bob", features=xml_stream.FEATURES, resource="stream")


@pytest.mark.parametrize("what", ["text without an end", "a tag without an end"])
async def test_what_is_too_large_is_not_kept(bench: Bench, dora: Peer, what: str) -> None:
    stream = await open_stream(dora, bench.jid)
    before = bench.memory()
    await stream.flood({"a tag without an end": "<message "}.get(what, "<message><body>"))
    # Whether it hears why, while it does not listen, is its own affair.
    sending = asyncio.ensure_future(stream.flood(b"x" * (8 * MEGABYTE)))
    assert await stream.ends() == "failed-application"
    assert bench.memory() - before < 16 * MEGABYTE
    sending.cancel()
    await asyncio.wait([sending])
    await stream.stop()


async def test_an_end_without_its_closing_tag_is_none(bench: Bench, dora: Peer) -> None:
    stream = await open_stream(dora, bench.jid)
    await stream.secured.write_eof()
    assert await stream.ends() == "failed-application"
    await stream.stop()
    stream = await open_stream(dora, bench.jid)
    await stream.secured.abort()
    assert await stream.ends() == "failed-transport"
    await stream.stop()


async def test_who_asks_without_end_and_reads_nothing_is_not_read_any_more(
    bench: Bench, dora: Peer
) -> None:
    stream = await open_stream(dora, bench.jid)
    question = "<iq type='get' id='{}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    many = "".join(question.format(number) for number in range(1000))
    before = bench.memory()

    async def ask() -> None:
        while True:
            await stream.write(many)

    asking = asyncio.ensure_future(ask())
    # The daemon stops reading when it cannot write, and then this side cannot write either.
    await asyncio.wait([asking], timeout=2)
    assert bench.memory() - before < 24 * MEGABYTE
    assert not asking.done()
    asking.cancel()
    await asyncio.wait([asking])
    await stream.session.terminate("cancel")
    await stream.secured.abort()
    await stream.stop()


# -- who may open one -----------------------------------------------------------------------


async def test_in_the_clear_there_is_none(bench: Bench, carol: Peer) -> None:
    session = await xml_stream.offer(carol, bench.jid, xtls=False)
    assert await session.session.ended() == "security-error"
    await session.stop()


async def test_a_stranger_opens_none(bench: Bench) -> None:
    stranger = await bench.stranger(features=xml_stream.FEATURES)
    session = await xml_stream.offer(stranger, bench.jid)
    assert await session.session.ended() == "decline"
    await session.stop()


async def answered(session: Session) -> None:
    """Accepted or ended."""
    await session.peer.until(lambda: {"session-accept", "session-terminate"} & set(session.actions))


async def test_hundreds_of_streams_are_one_and_then_none(bench: Bench) -> None:
    bob = await bench.peer("bob", features=xml_stream.FEATURES, resource="many")
    stream = await open_stream(bob, bench.jid)
    sessions = [bob.session(bench.jid) for _ in range(400)]
    for start in range(0, len(sessions), 50):
        some = sessions[start : start + 50]
        for each in some:
            each.post(
                "session-initiate",
                stanzas.content(
                    Element(f"{{{XML_STREAM}}}description"),
                    stanzas.s5b(each.sid),
                    stream.transfer.security(),
                    name="xmlstream",
                    senders="both",
                ),
            )
        assert {await each.ended() for each in some} == {"busy"}
    await alive(stream)
    await closes(stream)
    # One after the other: so many in an hour.
    for _ in range(MAX_OPENED):
        session = await xml_stream.offer(bob, bench.jid)
        await answered(session.session)
        await session.stop()
        if session.session.actions == ["session-terminate"]:
            return
        await session.session.terminate()
    raise AssertionError("more streams were opened than an hour has")
