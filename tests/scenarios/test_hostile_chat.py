"""A server that sends what none should: the stanza or the connection ends, the daemon does not.

One daemon has two accounts, one of them on the hostile server; the other must not notice.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.hostile.raw import RawServer
from tests.support.chat import TEXT, handle_of, next_message, open_text, send
from tests.support.pair import parameters
from tests.support.prosody import Prosody
from tests.support.side import CHANNEL, CONNECTION, PROPERTIES, REQUESTS, TP, DBusFailure, Side
from tests.support.waiting import PATIENCE, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

LIST = CONNECTION + ".Interface.ContactList"
INFO = CONNECTION + ".Interface.ContactInfo"
AVATARS = CONNECTION + ".Interface.Avatars"
CONNECTION_LOST = TP + "Error.ConnectionLost"
NOT_AVAILABLE = TP + "Error.NotAvailable"

FIVE = 5_000_000
# MB that the daemon may have grown by when it is over: what is on its way at one moment, and what
# the allocator does not give back. All that was sent is much more.
GROWTH = 10.0
# Seconds; a flood takes some on a busy machine.
FLOOD = 200.0


@dataclass
class Desktop:
    """Alice, with accounts on the hostile server and on an honest one."""

    raw: RawServer
    honest: Prosody
    side: Side
    other: tuple[str, str] = ("", "")

    async def log_in(self) -> None:
        """Her account on the hostile server, once more."""
        self.side.signals.clear()
        await self.side.connect(
            parameters(self.raw.prosody, self.raw.prosody.jid("alice")), handles=()
        )

    async def throw(self, data: bytes | str) -> None:
        await self.raw.send("alice", data.encode() if isinstance(data, str) else data)

    @property
    def resource(self) -> str:
        return self.raw.prosody.jid("alice") + "/test"

    async def lives(self, text: str, *, timeout: float = PATIENCE) -> None:
        """What comes after is delivered: the stream goes on, and all before it was looked at."""
        await self.throw(
            f"<message from='bob@example.test/x' to='{self.resource}' type='chat'>"
            f"<body>{text}</body></message>"
        )
        async with asyncio.timeout(timeout):
            await self.side.signal(
                lambda s: (
                    s.member == "MessageReceived"
                    and len(s.body[0]) > 1
                    and s.body[0][1].get("content") == text
                ),
                timeout=timeout,
            )
        assert await self.side.get(self.side.connection, CONNECTION, "Status") == 0

    async def others_live(self, text: str) -> None:
        """The account on the honest server writes to itself, there and back."""
        side = self.side
        name, path = self.other
        assert await side.call(name, path, PROPERTIES, "Get", "ss", CONNECTION, "Status") == 0
        request = {
            CHANNEL + ".ChannelType": Variant("s", TEXT),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", "bob@honest.test"),
        }
        _, chat, _ = await side.call(name, path, REQUESTS, "EnsureChannel", "a{sv}", request)
        await send(side, chat, text)
        # Nobody is there; that comes back from the server.
        await side.signal(
            lambda s: (
                s.path == chat
                and s.member == "MessageReceived"
                and s.body[0][0].get("message-type") == 4
            )
        )
        await side.call(name, chat, CHANNEL + ".Type.Text", "AcknowledgePendingMessages", "au",
                        [s.body[0][0]["pending-message-id"] for s in side.signals
                         if s.path == chat and s.member == "MessageReceived"])  # fmt: skip
        side.signals.clear()

    def memory(self) -> float:
        """Resident MB of the daemon."""
        assert self.side.daemon is not None
        status = Path(f"/proc/{self.side.daemon.pid}/status").read_text()
        (line,) = [each for each in status.splitlines() if each.startswith("VmRSS:")]
        return int(line.split()[1]) / 1000

    async def has_shrunk(self, before: float) -> None:
        """What was thrown has been let go of, all but GROWTH."""
        await until(lambda: self.memory() < before + GROWTH)

    def silent(self) -> None:
        assert self.side.daemon is not None
        assert self.side.daemon.poll() is None
        assert "Traceback" not in self.side.log


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desktop() -> AsyncIterator[Desktop]:
    honest = await asyncio.to_thread(Prosody.start, domain="honest.test", accounts=("alice", "bob"))
    raw = await RawServer.start()
    # Its log would be most of the work.
    side = await Side.start("alice", env={"TELEPATHY_E2E_DEBUG": ""})
    try:
        await side.connect(parameters(honest, honest.jid("alice")), handles=())
        yield Desktop(raw, honest, side, (side.bus_name, side.connection))
    finally:
        await side.stop()
        await raw.stop()
        await asyncio.to_thread(honest.stop)


@pytest_asyncio.fixture(loop_scope="module")
async def alice(desktop: Desktop) -> AsyncIterator[Desktop]:
    await desktop.log_in()
    connection = desktop.side.connection
    yield desktop
    desktop.silent()
    if any(s.member == "StatusChanged" and s.body[0] == 2 for s in desktop.side.signals):
        return
    await desktop.side.call(desktop.side.bus_name, connection, CONNECTION, "Disconnect")
    await desktop.side.signal(
        lambda s: s.path == connection and s.member == "StatusChanged" and s.body[0] == 2
    )


# -- what ends the connection -------------------------------------------------------------------

ENDS = {
    "tags that do not match": b"<message></presence>",
    "no character": b"<message><body>\x01</body></message>",
    "not UTF-8": b"<message><body>\xff\xfe</body></message>",
    "entities": b"<!DOCTYPE a [<!ENTITY b 'c'>]><message/>",
    "entities of nowhere": b"<message><body>&lol;</body></message>",
    "depth": b"<message>" + b"<a>" * 100_000,
    "elements": b"<iq>" + b"<a b=''/>" * 500_000 + b"</iq>",
    "a tag of 5 MB": b"<message from='" + b"x" * FIVE + b"'/>",
    "an element of 5 MB that is no stanza": b"<a xmlns='urn:a'>" + b"x" * FIVE + b"</a>",
    "a stanza that never ends": b"<message><body>" + b"x" * 70_000_000,
    "text": b"hello",
    "the end": b"</stream:stream>",
}


@pytest.mark.parametrize("how", ENDS)
async def test_what_is_no_stream_ends_the_connection_and_no_other(alice: Desktop, how: str) -> None:
    before = alice.memory()
    side = alice.side
    await alice.throw(ENDS[how])
    ended = await side.signal(
        lambda s: s.path == side.connection and s.member == "StatusChanged" and s.body[0] == 2,
    )
    assert ended.body == (2, 2), "because of the network"
    (failure,) = [s.body for s in side.signals if s.member == "ConnectionError"]
    assert failure[0] == CONNECTION_LOST
    assert failure[1]["debug-message"].startswith("The server ")
    with pytest.raises(DBusFailure):
        await side.get(side.connection, CONNECTION, "Status")
    await alice.has_shrunk(before)


# -- what ends a stanza -------------------------------------------------------------------------

BIG = "x" * FIVE
TO = "to='alice@example.test/test'"
DROPPED = {
    "message": f"<message from='bob@example.test/a' {TO}><body>{BIG}</body></message>",
    "presence": f"<presence from='bob@example.test/a' {TO}><status>{BIG}</status></presence>",
    "request": f"<iq from='bob@example.test/a' {TO} type='set' id='big'><a>{BIG}</a></iq>",
    "answer": f"<iq from='bob@example.test/a' {TO} type='result' id='big'><a>{BIG}</a></iq>",
    "roster push": f"<iq {TO} type='set' id='big'><query xmlns='jabber:iq:roster'>"
    f"<item jid='x@example.test' name='{'x' * 60_000}'/>{BIG}</query></iq>",
}


@pytest.mark.parametrize("kind", DROPPED)
async def test_a_stanza_of_five_megabytes_is_dropped_and_the_connection_lives(
    alice: Desktop, kind: str
) -> None:
    before = alice.memory()
    await alice.throw(DROPPED[kind])
    await alice.lives("still here")
    await alice.has_shrunk(before)
    await alice.others_live("and so are we")


async def test_a_vcard_of_five_megabytes_is_not_available(alice: Desktop) -> None:
    """Whoever has one could end the connection of whoever asks for it."""
    picture = base64.b64encode(bytes(FIVE)).decode()
    cards = alice.raw.prosody.directory / "data" / "example%2etest" / "vcard"
    cards.mkdir(parents=True, exist_ok=True)
    (cards / "bob.dat").write_text(
        "return { name = 'vCard', attr = { xmlns = 'vcard-temp' }, { name = 'PHOTO', attr = {}, "
        f"{{ name = 'BINVAL', attr = {{}}, '{picture}' }} }} }};"
    )
    side = alice.side
    before = alice.memory()
    bob = await handle_of(side, "bob@example.test")
    for interface, member in ((INFO, "RequestContactInfo"), (AVATARS, "RequestAvatar")):
        with pytest.raises(DBusFailure) as caught:
            await side.cm(side.connection, interface, member, "u", bob)
        assert caught.value.name == NOT_AVAILABLE
    await alice.lives("still here")
    await alice.has_shrunk(before)


# -- floods -------------------------------------------------------------------------------------


async def answered_meanwhile(alice: Desktop, flood: asyncio.Future[None]) -> int:
    """Read a property again and again until the flood is over; how often that was answered."""
    side, count = alice.side, 0
    while not flood.done():
        assert await side.get(side.connection, CONNECTION, "Status") == 0
        count += 1
    await flood
    return count


async def test_a_flood_of_presence_from_nobody_leaves_nothing_behind(alice: Desktop) -> None:
    side = alice.side
    before = alice.memory()
    await alice.throw(
        "".join(
            f"<presence from='n{number}@invented.test/x' {TO}><show>away</show>"
            f"<status>{number}</status></presence>"
            for number in range(100_000)
        )
    )
    flood = asyncio.ensure_future(alice.lives("after the flood", timeout=FLOOD))
    assert await answered_meanwhile(alice, flood) > 10
    await alice.has_shrunk(before)
    assert [s for s in side.signals if s.member == "PresencesChanged" and len(s.body[0]) > 3] == []
    # Nobody has got a handle of it: the next one is of who was asked for last.
    first = await handle_of(side, "one@example.test")
    assert await handle_of(side, "two@example.test") == first + 1 < 100
    await alice.others_live("what flood?")


async def test_a_flood_of_messages_from_strangers_opens_so_many_channels(alice: Desktop) -> None:
    side = alice.side
    before = alice.memory()
    await alice.throw(
        "".join(
            f"<message from='n{number}@invented.test/x' {TO} type='chat' id='{number}'>"
            f"<body>Buy {'this ' * 20}</body></message>"
            for number in range(4_000)
        )
    )
    flood = asyncio.ensure_future(alice.lives("after the flood", timeout=FLOOD))
    assert await answered_meanwhile(alice, flood) > 10
    opened = await side.get(side.connection, REQUESTS, "Channels")
    assert len(opened) == 100 + 1
    # Those who are known are heard, whoever shouts.
    await alice.has_shrunk(before)
    await alice.others_live("what flood?")


async def test_a_flood_of_messages_from_one_stranger_fills_one_channel(alice: Desktop) -> None:
    side = alice.side
    before = alice.memory()
    await alice.throw(
        "".join(
            f"<message from='mallory@invented.test/{number}' {TO} type='chat'>"
            f"<body>{'Buy this ' * 500}</body></message>"
            for number in range(3_000)
        )
    )
    await alice.lives("after the flood", timeout=FLOOD)
    (path,) = {
        s.path for s in side.signals
        if s.member == "MessageReceived" and "Buy" in str(s.body[0][1:])
    }  # fmt: skip
    pending = await side.get(path, CHANNEL + ".Interface.Messages", "PendingMessages")
    assert len(pending) <= 50
    await alice.has_shrunk(before)


# -- what is not theirs to say ------------------------------------------------------------------

EVENT = (
    "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='{node}'>"
    "<item id='current'>{payload}</item></items></event>"
)
FORWARDED = (
    "<{kind} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"
    "<message xmlns='jabber:client' from='bob@example.test/a' to='{to}' type='chat'>"
    "<body>forged</body></message></forwarded></{kind}>"
)


async def contacts(side: Side) -> dict[int, dict[str, Any]]:
    shown = await side.cm(
        side.connection,
        LIST,
        "GetContactListAttributes",
        "asb",
        [CONNECTION + ".Interface.Aliasing", AVATARS],
        False,
    )
    return dict(shown)


async def listed(side: Side) -> dict[int, dict[str, Any]]:
    await side.signal(lambda s: s.member == "ContactListStateChanged" and s.body == (3,))
    return await contacts(side)


async def test_what_others_say_in_the_servers_name_changes_nothing(alice: Desktop) -> None:
    side = alice.side
    before = await listed(side)
    assert before
    stranger = "from='mallory@invented.test/x'"
    own = alice.resource
    forged = [
        # Whose list it is, is for our server to say, and it speaks in nobody's name but ours.
        *(
            f"<iq {from_} {TO} type='set' id='p{number}'><query xmlns='jabber:iq:roster'>"
            "<item jid='mallory@invented.test' subscription='both'/>"
            "<item jid='bob@example.test' subscription='remove'/></query></iq>"
            for number, from_ in enumerate(
                (stranger, "from='example.test'", "from='bob@example.test'",
                 "from='bob@example.test/a'", "from='alice@example.test.invented.test'")
            )
        ),
        # Answers to what was never asked.
        *(
            f"<iq {from_} {TO} type='{kind}' id='{id}'><query xmlns='jabber:iq:roster'/></iq>"
            for kind in ("result", "error")
            for id in ("", "1", "roster")
            for from_ in ("", stranger)
        ),
        # Copies that are not from our own account.
        *(
            f"<message {from_} {TO}>{FORWARDED.format(kind=kind, to=to)}</message>"
            for kind, to in (("received", own), ("sent", "carol@example.test"))
            for from_ in (stranger, "from='example.test'", "from='bob@example.test'")
        ),
        # Rooms that nobody is in.
        *(
            f"<presence from='room@rooms.test/n{number}' {TO}>"
            "<x xmlns='http://jabber.org/protocol/muc#user'>"
            f"<item affiliation='owner' role='moderator' jid='{own}'/><status code='110'/></x>"
            "</presence>"
            for number in range(2_000)
        ),
        f"<message from='room@rooms.test/n1' {TO} type='groupchat'><body>forged</body></message>",
        f"<message from='room@rooms.test' {TO} type='groupchat'>"
        "<subject>forged</subject></message>",
        # Events of people whom nobody subscribed to, and of our own account from somebody else.
        *(
            f"<message {from_} {TO}>{EVENT.format(node=node, payload=payload)}</message>"
            for node, payload in (
                ("http://jabber.org/protocol/nick",
                 "<nick xmlns='http://jabber.org/protocol/nick'>forged</nick>"),
                ("urn:xmpp:avatar:metadata",
                 "<metadata xmlns='urn:xmpp:avatar:metadata'><info bytes='1' type='image/png' "
                 "id='da39a3ee5e6b4b0d3255bfef95601890afd80709'/></metadata>"),
            )
            for from_ in (stranger, "from='example.test'", "from='pubsub.example.test'")
        ),
        # Errors about what was never sent, and of no one.
        f"<message {stranger} {TO} type='error' id='1'><error type='cancel'/></message>",
        f"<presence {TO}/><message {TO}/><iq {TO}/>",
        f"<presence from='@' {TO}/><message from='/' {TO}><body>forged</body></message>",
    ]  # fmt: skip
    await alice.throw("".join(forged))
    await alice.lives("still here")
    assert await contacts(side) == before
    told = str([s.body for s in side.signals if s.path.startswith(side.connection)])
    assert "forged" not in told
    assert "mallory" not in told
    assert "rooms.test" not in told


async def test_an_honest_message_between_floods_arrives(alice: Desktop) -> None:
    """The test would not notice a connection that hears nothing any more."""
    side = alice.side
    await alice.throw(
        f"<message from='carol@example.test/x' {TO} type='chat'><body>hi</body></message>"
    )
    path, header = await next_message(side, "hi")
    assert header["message-sender-id"] == "carol@example.test"
    assert await open_text(side, "carol@example.test") == path
