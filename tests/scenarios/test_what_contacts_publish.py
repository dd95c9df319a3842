"""Pictures, vCards, client types and addresses, between two daemons and a real server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.peer.client import PROTECTED, Peer
from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import CONNECTION, TP, DBusFailure, Side
from tests.support.waiting import PATIENCE

AVATARS = CONNECTION + ".Interface.Avatars"
INFO = CONNECTION + ".Interface.ContactInfo"
TYPES = CONNECTION + ".Interface.ClientTypes"
ADDRESSING = CONNECTION + ".Interface.Addressing1"
CONTACTS = CONNECTION + ".Interface.Contacts"

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBSUB = "{http://jabber.org/protocol/pubsub}"
VCARD = "{vcard-temp}"


def picture(seed: int, size: int = 64) -> bytes:
    """A PNG that differs from others, of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes([seed, seed // 2, 7]) * size for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def token(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


async def handle_of(side: Side, jid: str) -> int:
    return int((await side.cm(side.connection, CONNECTION, "RequestHandles", "uas", 1, [jid]))[0])


async def updated(side: Side, handle: int, expected: str) -> None:
    """Wait for AvatarUpdated."""
    await side.signal(lambda s: s.member == "AvatarUpdated" and s.body == (handle, expected))


async def retrieved(side: Side, handle: int, data: bytes) -> None:
    """Ask for a picture and get exactly these bytes."""
    await side.cm(side.connection, AVATARS, "RequestAvatars", "au", [handle])
    await side.signal(
        lambda s: (
            s.member == "AvatarRetrieved" and s.body == (handle, token(data), data, "image/png")
        )
    )


async def attributes(side: Side, handle: int, interface: str) -> dict[str, Any]:
    found = await side.cm(
        side.connection, CONTACTS, "GetContactAttributes", "auasb", [handle], [interface], False
    )
    return dict(found[handle])


async def failing(side: Side, interface: str, member: str, signature: str, *args: Any) -> str:
    with pytest.raises(DBusFailure) as caught:
        await side.cm(side.connection, interface, member, signature, *args)
    return caught.value.name.removeprefix(TP + "Error.")


# -- pictures -------------------------------------------------------------------------------


async def test_a_picture_arrives_byte_by_byte_and_goes_again(pair: Pair) -> None:
    alice, bob = pair.alice, pair.bob
    me = await bob.get(bob.connection, CONNECTION, "SelfHandle")
    known = await bob.cm(bob.connection, AVATARS, "GetKnownAvatarTokens", "au", [me])
    assert known == {me: ""}
    theirs = await handle_of(alice, pair.server.jid("bob"))
    mine = picture(1)
    said = await bob.cm(bob.connection, AVATARS, "SetAvatar", "ays", mine, "image/png")
    assert said == token(mine)
    await updated(bob, me, said)
    await updated(alice, theirs, said)
    await retrieved(alice, theirs, mine)
    assert (await attributes(alice, theirs, AVATARS))[AVATARS + "/token"] == said
    data, kind = await alice.cm(alice.connection, AVATARS, "RequestAvatar", "u", theirs)
    assert (data, kind) == (mine, "image/png")
    assert (alice.directory / "cache/telepathy-e2e/avatars" / said).read_bytes() == mine

    alice.signals.clear()  # that he had none at first was told as well
    await bob.cm(bob.connection, AVATARS, "ClearAvatar")
    await updated(alice, theirs, "")
    assert await failing(alice, AVATARS, "RequestAvatar", "u", theirs) == "NotAvailable"
    known = await bob.cm(bob.connection, AVATARS, "GetKnownAvatarTokens", "au", [me])
    assert known == {me: ""}


async def test_what_violates_the_requirements_is_refused(pair: Pair) -> None:
    bob = pair.bob
    shown = await bob.get_all(bob.connection, AVATARS)
    assert shown["SupportedAvatarMIMETypes"] == ["image/png", "image/jpeg", "image/gif"]
    assert (shown["MaximumAvatarBytes"], shown["RecommendedAvatarWidth"]) == (8192, 96)
    for data, kind in (
        (b"no picture", "image/png"),
        (picture(1), "image/gif"),
        (picture(1, 200), "image/png"),
        (picture(1) + bytes(8192), "image/png"),
    ):
        assert await failing(bob, AVATARS, "SetAvatar", "ays", data, kind) == "InvalidArgument"
    assert await failing(bob, AVATARS, "RequestAvatars", "au", [9999]) == "InvalidHandle"


async def test_a_picture_outlives_the_session(prosody: Prosody, pair: Pair) -> None:
    mine = picture(2)
    await pair.bob.cm(pair.bob.connection, AVATARS, "SetAvatar", "ays", mine, "image/png")
    later = await Side.start("later")
    try:
        await later.connect(
            parameters(prosody, prosody.jid("bob"), resource=Variant("s", "later")), handles=()
        )
        me = await later.get(later.connection, CONNECTION, "SelfHandle")
        known = await later.cm(later.connection, AVATARS, "GetKnownAvatarTokens", "au", [me])
        assert known == {me: token(mine)}
        await retrieved(later, me, mine)
        # Of two programs of one account the other one changes it.
        mine = picture(3)
        await later.cm(later.connection, AVATARS, "SetAvatar", "ays", mine, "image/png")
        me = await pair.bob.get(pair.bob.connection, CONNECTION, "SelfHandle")
        await updated(pair.bob, me, token(mine))
        await retrieved(pair.bob, me, mine)
    finally:
        await later.stop()


def card_with(data: bytes, *, text: str = "") -> Element:
    card = Element(VCARD + "vCard")
    photo = SubElement(card, VCARD + "PHOTO")
    SubElement(photo, VCARD + "TYPE").text = "image/png"
    SubElement(photo, VCARD + "BINVAL").text = text or base64.encodebytes(data).decode()
    return card


def announce(peer: Peer, hash: str) -> None:
    presence = Element("{jabber:client}presence")
    SubElement(
        SubElement(presence, "{vcard-temp:x:update}x"), "{vcard-temp:x:update}photo"
    ).text = hash
    peer.send(presence)


def publication(node: str, item_id: str, payload: Element) -> Element:
    query = Element(PUBSUB + "pubsub")
    publish = SubElement(query, PUBSUB + "publish", node=node)
    SubElement(publish, PUBSUB + "item", id=item_id).append(payload)
    return query


async def publish(peer: Peer, data: bytes, announced: bytes | None = None) -> None:
    """As XEP-0084 says, and nothing else."""
    bare = peer.jid.partition("/")[0]
    name = token(announced if announced is not None else data)
    payload = Element("{urn:xmpp:avatar:data}data")
    payload.text = base64.b64encode(data).decode()
    answer = await peer.ask(bare, publication("urn:xmpp:avatar:data", name, payload))
    assert answer.get("type") == "result"
    metadata = Element("{urn:xmpp:avatar:metadata}metadata")
    SubElement(
        metadata,
        "{urn:xmpp:avatar:metadata}info",
        {"id": name, "bytes": str(len(data)), "type": "image/png"},
    )
    answer = await peer.ask(bare, publication("urn:xmpp:avatar:metadata", name, metadata))
    assert answer.get("type") == "result"


@pytest_asyncio.fixture(loop_scope="module")
async def carol(prosody: Prosody) -> AsyncIterator[Peer]:
    peer = await Peer.start(
        prosody, "carol", features=[*PROTECTED, "urn:xmpp:avatar:metadata+notify"]
    )
    yield peer
    await peer.stop()


async def test_a_contact_whose_program_knows_vcards_alone(pair: Pair, carol: Peer) -> None:
    theirs = await handle_of(pair.alice, pair.server.jid("carol"))
    data = picture(10)
    await carol.ask(pair.server.jid("carol"), card_with(data))
    announce(carol, token(data).upper())
    await updated(pair.alice, theirs, token(data))
    await retrieved(pair.alice, theirs, data)


async def test_a_contact_whose_program_knows_events_alone(pair: Pair, carol: Peer) -> None:
    theirs = await handle_of(pair.alice, pair.server.jid("carol"))
    data = picture(11)
    await publish(carol, data)
    await updated(pair.alice, theirs, token(data))
    await retrieved(pair.alice, theirs, data)


async def test_a_picture_that_is_not_the_one_announced_is_dropped(pair: Pair, carol: Peer) -> None:
    alice = pair.alice
    theirs = await handle_of(alice, pair.server.jid("carol"))
    announced, sent = picture(12), picture(13)
    await publish(carol, sent, announced)
    await updated(alice, theirs, token(announced))
    assert await failing(alice, AVATARS, "RequestAvatar", "u", theirs) == "NotAvailable"
    assert not (alice.directory / "cache/telepathy-e2e/avatars" / token(announced)).exists()
    assert not (alice.directory / "cache/telepathy-e2e/avatars" / token(sent)).exists()
    # Nor what is no picture, though its hash is right; nor what is not base64.
    for number, (card, name) in enumerate(
        [
            (card_with(b"<script>"), token(b"<script>")),
            (card_with(b"", text="!!!"), token(b"a")),
        ]
    ):
        await carol.ask(pair.server.jid("carol"), card)
        announce(carol, name)
        await updated(alice, theirs, name)
        assert await failing(alice, AVATARS, "RequestAvatar", "u", theirs) == "NotAvailable", number


# -- vCards ---------------------------------------------------------------------------------

FIELDS = [
    ["fn", [], ["Bob Builder"]],
    ["n", [], ["Builder", "Bob", "", "", ""]],
    ["nickname", [], ["bobby"]],
    ["tel", ["type=home", "type=cell"], ["+44 1223 362967"]],
    ["adr", ["type=work"], ["", "", "11 Kings Parade", "Cambridge", "", "CB2 1SJ", "UK"]],
    ["label", ["type=work"], ["11 Kings Parade\nCambridge"]],
    ["org", [], ["Collabora, Ltd.", "Management", "Human Resources; Policy"]],
    ["email", ["type=internet"], ["bob@example.com"]],
]
SHOWN = [tuple(each) for each in FIELDS]


async def test_a_vcard_goes_round_and_the_rest_of_it_stays(pair: Pair, prosody: Prosody) -> None:
    alice, bob = pair.alice, pair.bob
    theirs = await handle_of(alice, pair.server.jid("bob"))
    me = await bob.get(bob.connection, CONNECTION, "SelfHandle")
    await bob.cm(bob.connection, AVATARS, "SetAvatar", "ays", picture(20), "image/png")
    peer = await Peer.start(prosody, "bob", resource="other", features=PROTECTED)
    try:
        bare = pair.server.jid("bob")
        card = (await peer.ask(bare, Element(VCARD + "vCard"), type="get"))[0]
        SubElement(card, VCARD + "CATEGORIES").text = "kept"
        await peer.ask(bare, card)

        await bob.cm(bob.connection, INFO, "SetContactInfo", "a(sasas)", FIELDS)
        await bob.signal(lambda s: s.member == "ContactInfoChanged" and s.body == (me, SHOWN))
        got = await alice.cm(alice.connection, INFO, "RequestContactInfo", "u", theirs)
        assert got == SHOWN
        assert await alice.cm(alice.connection, INFO, "GetContactInfo", "au", [theirs]) == {
            theirs: SHOWN
        }
        assert (await attributes(alice, theirs, INFO))[INFO + "/info"] == SHOWN

        card = (await peer.ask(bare, Element(VCARD + "vCard"), type="get"))[0]
        assert card.findtext(VCARD + "CATEGORIES") == "kept"
        photo = card.findtext(f"{VCARD}PHOTO/{VCARD}BINVAL")
        assert photo is not None
        assert base64.b64decode(photo) == picture(20)
        # A picture and a name at the same moment: neither is lost.
        await asyncio.gather(
            bob.cm(bob.connection, AVATARS, "SetAvatar", "ays", picture(21), "image/png"),
            bob.cm(bob.connection, INFO, "SetContactInfo", "a(sasas)", FIELDS[:1]),
        )
        card = (await peer.ask(bare, Element(VCARD + "vCard"), type="get"))[0]
        photo = card.findtext(f"{VCARD}PHOTO/{VCARD}BINVAL")
        assert photo is not None
        assert base64.b64decode(photo) == picture(21)
        assert [each.tag for each in card if each.tag != VCARD + "PHOTO"] == [
            VCARD + "FN",
            VCARD + "CATEGORIES",
        ]
    finally:
        await peer.stop()
    await alice.cm(alice.connection, INFO, "RefreshContactInfo", "au", [theirs])
    await alice.signal(lambda s: s.member == "ContactInfoChanged" and s.body == (theirs, SHOWN[:1]))


async def test_fields_that_are_not_supported_are_refused(pair: Pair) -> None:
    bob = pair.bob
    assert await bob.get(bob.connection, INFO, "ContactInfoFlags") == 1
    shown = await bob.get(bob.connection, INFO, "SupportedFields")
    assert ("fn", [], 1, 1) in shown
    for field in (["photo", [], ["x"]], ["fn", ["type=home"], ["x"]], ["geo", [], ["1"] * 3]):
        name = await failing(bob, INFO, "SetContactInfo", "a(sasas)", [field])
        assert name == "InvalidArgument"
    assert await failing(bob, INFO, "RequestContactInfo", "u", 9999) == "InvalidHandle"


async def test_a_stranger_without_a_vcard_is_not_available(pair: Pair) -> None:
    alice = pair.alice
    nobody = await handle_of(alice, "nobody@" + pair.server.domain)
    assert await failing(alice, INFO, "RequestContactInfo", "u", nobody) == "NotAvailable"
    assert await alice.cm(alice.connection, INFO, "GetContactInfo", "au", [nobody]) == {}


# -- client types and addresses -------------------------------------------------------------


async def test_the_kind_of_program_is_known(pair: Pair) -> None:
    alice = pair.alice
    theirs = await handle_of(alice, pair.server.jid("bob"))
    nobody = await handle_of(alice, "nobody@" + pair.server.domain)
    types = await alice.cm(alice.connection, TYPES, "GetClientTypes", "au", [theirs, nobody])
    assert types == {theirs: ["pc"], nobody: []}
    assert await alice.cm(alice.connection, TYPES, "RequestClientTypes", "u", theirs) == ["pc"]
    assert (await attributes(alice, theirs, TYPES))[TYPES + "/client-types"] == ["pc"]
    assert await failing(alice, TYPES, "GetClientTypes", "au", [9999]) == "InvalidHandle"


async def test_a_contact_that_comes_and_goes_has_its_type_told(
    pair: Pair, prosody: Prosody
) -> None:
    alice = pair.alice
    theirs = await handle_of(alice, pair.server.jid("carol"))
    # The Carols of tests before this one may still be on their way out.
    async with asyncio.timeout(PATIENCE):
        while await alice.cm(alice.connection, TYPES, "GetClientTypes", "au", [theirs]) != {
            theirs: []
        }:
            await asyncio.sleep(0.02)

    def told_since() -> list[list[str]]:
        return [
            each.body[1]
            for each in alice.signals[seen:]
            if each.member == "ClientTypesUpdated" and each.body[0] == theirs
        ]

    seen = len(alice.signals)
    peer = await Peer.start(prosody, "carol", features=PROTECTED)
    await alice.signal(lambda _: ["pc"] in told_since())
    await peer.stop()
    await alice.signal(lambda _: told_since()[-1:] == [[]])


async def test_contacts_are_found_by_their_addresses(pair: Pair) -> None:
    alice = pair.alice
    jid = pair.server.jid("bob")
    theirs = await handle_of(alice, jid)
    uri = f"xmpp:{jid}"
    wanted = {
        CONNECTION + "/contact-id": jid,
        ADDRESSING + "/addresses": {"x-jabber": jid},
        ADDRESSING + "/uris": [uri],
    }
    asked = f"xmpp:BOB@{pair.server.domain}/there?message;body=Hello"
    found, shown = await alice.cm(
        alice.connection, ADDRESSING, "GetContactsByURI", "asas", [asked, "tel:1", "xmpp:@"], []
    )
    assert (found, shown) == ({asked: theirs}, {theirs: wanted})
    found, shown = await alice.cm(
        alice.connection,
        ADDRESSING,
        "GetContactsByVCardField",
        "sasas",
        "X-JABBER",
        [jid, "@", ""],
        [TYPES],
    )
    assert found == {jid: theirs}
    assert shown[theirs] == {**wanted, TYPES + "/client-types": ["pc"]}
    assert (
        await failing(alice, ADDRESSING, "GetContactsByVCardField", "sasas", "tel", ["1"], [])
        == "NotImplemented"
    )


async def test_before_connecting_everything_says_so(prosody: Prosody) -> None:
    side = await Side.start("early")
    try:
        await side.request_connection(parameters(prosody, prosody.jid("carol")))
        for interface, member, signature, arguments in (
            (AVATARS, "GetKnownAvatarTokens", "au", [[1]]),
            (AVATARS, "RequestAvatars", "au", [[1]]),
            (AVATARS, "SetAvatar", "ays", [picture(1), "image/png"]),
            (AVATARS, "ClearAvatar", "", []),
            (INFO, "GetContactInfo", "au", [[1]]),
            (INFO, "SetContactInfo", "a(sasas)", [[]]),
            (TYPES, "GetClientTypes", "au", [[1]]),
            (ADDRESSING, "GetContactsByURI", "asas", [["xmpp:a@b"], []]),
        ):
            name = await failing(side, interface, member, signature, *arguments)
            assert name == "Disconnected", member
        assert (await side.get_all(side.connection, AVATARS))["MaximumAvatarWidth"] == 96
    finally:
        await side.stop()


# -- what must not work ---------------------------------------------------------------------


def event_of(sender_node: str, name: str) -> Element:
    """A message that looks like an event about a picture."""
    event = Element("{http://jabber.org/protocol/pubsub#event}event")
    space = "{http://jabber.org/protocol/pubsub#event}"
    items = SubElement(event, space + "items", node=sender_node)
    metadata = SubElement(
        SubElement(items, space + "item", id=name), "{urn:xmpp:avatar:metadata}metadata"
    )
    SubElement(
        metadata,
        "{urn:xmpp:avatar:metadata}info",
        {"id": name, "bytes": "1", "type": "image/png"},
    )
    return event


async def test_a_program_cannot_pose_as_its_account(pair: Pair, carol: Peer) -> None:
    """Events come from accounts; whoever can send messages can send what looks like one."""
    alice = pair.alice
    theirs = await handle_of(alice, pair.server.jid("carol"))
    forged = event_of("urn:xmpp:avatar:metadata", "f" * 40)
    message = Element("{jabber:client}message", to=pair.server.jid("alice") + "/test")
    message.append(forged)
    carol.send(message)
    data = picture(30)
    await publish(carol, data)
    await updated(alice, theirs, token(data))
    assert "f" * 40 not in [s.body[1] for s in alice.signals if s.member == "AvatarUpdated"]


async def test_cards_that_are_wrong_or_large_harm_nobody(pair: Pair, carol: Peer) -> None:
    alice = pair.alice
    bare = pair.server.jid("carol")
    theirs = await handle_of(alice, bare)
    nested = Element(VCARD + "vCard")
    inner = nested
    for _ in range(40):
        inner = SubElement(inner, VCARD + "N")
    many = Element(VCARD + "vCard")
    for number in range(5_000):
        SubElement(many, VCARD + "URL").text = str(number)
    for card, expected in (
        (nested, 0),
        (many, 64),
        (card_with(b"", text="A" * 200_000), 0),
        (card_with(b"", text="%%%"), 0),
    ):
        assert (await carol.ask(bare, card)).get("type") == "result"
        seen = len(alice.signals)
        await alice.cm(alice.connection, INFO, "RefreshContactInfo", "au", [theirs])
        if expected:
            await alice.signal(
                lambda s: s.member == "ContactInfoChanged" and len(s.body[1]) == expected  # noqa: B023
            )
        fields = await alice.cm(alice.connection, INFO, "RequestContactInfo", "u", theirs)
        assert len(fields) in (expected, 64), alice.signals[seen:]
    announce(carol, token(b"A"))
    await updated(alice, theirs, token(b"A"))
    assert await failing(alice, AVATARS, "RequestAvatar", "u", theirs) == "NotAvailable"
    assert await alice.get(alice.connection, CONNECTION, "Status") == 0


# -- a server that keeps vCards as personal events (XEP-0398) -------------------------------


async def test_a_server_that_converts_keeps_both_kinds_the_same() -> None:
    server = Prosody.start(modules=["vcard_legacy"])
    try:
        pair = await Pair.start(server)
        try:
            alice, bob = pair.alice, pair.bob
            theirs = await handle_of(alice, server.jid("bob"))
            me = await bob.get(bob.connection, CONNECTION, "SelfHandle")
            data = picture(40)
            await bob.cm(bob.connection, AVATARS, "SetAvatar", "ays", data, "image/png")
            await updated(alice, theirs, token(data))
            await retrieved(alice, theirs, data)
            peer = await Peer.start(server, "carol", features=PROTECTED)
            try:
                answer = await peer.ask(server.jid("bob"), Element(VCARD + "vCard"), type="get")
                photo = answer[0].findtext(f"{VCARD}PHOTO/{VCARD}BINVAL")
                assert photo is not None
                assert base64.b64decode(photo) == data
            finally:
                await peer.stop()
            await bob.cm(bob.connection, INFO, "SetContactInfo", "a(sasas)", FIELDS[:3])
            got = await alice.cm(alice.connection, INFO, "RequestContactInfo", "u", theirs)
            assert got == SHOWN[:3]
            assert await bob.cm(bob.connection, AVATARS, "RequestAvatar", "u", me) == [
                data,
                "image/png",
            ]
            await bob.cm(bob.connection, AVATARS, "ClearAvatar")
            await updated(alice, theirs, "")
        finally:
            await pair.stop()
    finally:
        server.stop()


# -- many -----------------------------------------------------------------------------------


async def test_a_long_list_with_pictures_is_known_at_once_and_fetched_on_request() -> None:
    """Every name is a person whose server tells of a picture in each presence."""
    people = [f"p{number}" for number in range(12)]
    server = Prosody.start(accounts=["alice", *people])
    side = await Side.start("alice")
    peers: list[Peer] = []
    try:
        for number, name in enumerate(people):
            peer = await Peer.start(server, name, features=PROTECTED)
            peers.append(peer)
            await publish(peer, picture(100 + number))
        await side.connect(parameters(server, server.jid("alice")), handles=())
        handles = [await handle_of(side, server.jid(name)) for name in people]
        for number, handle in enumerate(handles):
            await updated(side, handle, token(picture(100 + number)))
        assert not [s for s in side.signals if s.member == "AvatarRetrieved"]
        await side.cm(side.connection, AVATARS, "RequestAvatars", "au", handles)
        for number, handle in enumerate(handles):
            data = picture(100 + number)
            await side.signal(
                lambda s: s.member == "AvatarRetrieved" and s.body[0] == handle  # noqa: B023
            )
            assert [
                s.body[2]
                for s in side.signals
                if s.member == "AvatarRetrieved" and s.body[0] == handle
            ] == [data]
    finally:
        for peer in peers:
            await peer.stop()
        await side.stop()
        server.stop()
