"""Text with one contact: two and three desktops on a real server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.peer.client import Peer
from tests.support.chat import (
    CHAT_STATE,
    DELIVERY_REPORT,
    DESTROYABLE,
    MESSAGES,
    MODULES,
    REPORT_DELIVERY,
    TEXT,
    handle_of,
    next_message,
    online,
    open_text,
    received,
    report,
    request,
    sees,
    send,
    state_of,
    texts,
)
from tests.support.prosody import Prosody, available
from tests.support.side import CHANNEL, CONNECTION, E2E, REQUESTS, SECURABLE, DBusFailure, Side

ERROR = "org.freedesktop.Telepathy.Error."
GONE, INACTIVE, ACTIVE, PAUSED, COMPOSING = range(5)


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    if not available():
        pytest.skip("prosody is not installed")
    found = Prosody.start(settings=MODULES)
    yield found
    found.stop()


@dataclass
class Two:
    """Alice and Bob, who see each other."""

    server: Prosody
    alice: Side
    bob: Side

    @property
    def alice_id(self) -> str:
        return self.server.jid("alice")

    @property
    def bob_id(self) -> str:
        return self.server.jid("bob")


@pytest_asyncio.fixture
async def two(server: Prosody) -> AsyncIterator[Two]:
    alice, bob = await online(server, "alice"), await online(server, "bob")
    try:
        found = Two(server, alice, bob)
        await sees(alice, found.bob_id)
        await sees(bob, found.alice_id)
        yield found
    finally:
        await alice.stop()
        await bob.stop()


async def test_a_message_opens_a_channel_and_waits_there_until_it_is_acknowledged(
    two: Two,
) -> None:
    mine = await open_text(two.alice, two.bob_id)
    before = int(time.time())
    token = await send(two.alice, mine, "Hello\r\n\tBob <&> \N{GRINNING FACE}")
    theirs, shown = await two.bob.new_channel(TEXT)
    path, header = await next_message(two.bob, "Hello\n\tBob <&> \N{GRINNING FACE}")
    alice = await handle_of(two.bob, two.alice_id)
    assert path == theirs
    assert before <= header.pop("message-received") <= time.time()
    assert header == {
        "message-type": 0,
        "message-token": token,
        "message-sender": alice,
        "message-sender-id": two.alice_id,
        "pending-message-id": 1,
    }
    assert shown[CHANNEL + ".Interfaces"] == [MESSAGES, CHAT_STATE, DESTROYABLE, SECURABLE]
    assert shown[CHANNEL + ".InitiatorHandle"] == alice
    assert shown[CHANNEL + ".TargetID"] == shown[CHANNEL + ".InitiatorID"] == two.alice_id
    assert shown[MESSAGES + ".SupportedContentTypes"] == ["text/plain"]
    assert shown[MESSAGES + ".MessageTypes"] == [0, 1, 2]
    assert shown[MESSAGES + ".MessagePartSupportFlags"] == 0
    assert shown[MESSAGES + ".DeliveryReportingSupport"] == 3
    assert len(await two.bob.get(theirs, MESSAGES, "PendingMessages")) == 1
    with pytest.raises(DBusFailure, match="InvalidArgument"):
        await two.bob.cm(theirs, TEXT, "AcknowledgePendingMessages", "au", [1, 2])
    assert len(await two.bob.get(theirs, MESSAGES, "PendingMessages")) == 1
    await two.bob.cm(theirs, TEXT, "AcknowledgePendingMessages", "au", [1])
    assert await two.bob.get(theirs, MESSAGES, "PendingMessages") == []
    removed = await two.bob.signal(lambda s: s.member == "PendingMessagesRemoved")
    assert removed.body == ([1],)
    sent = await two.alice.signal(lambda s: s.member == "MessageSent")
    assert [s for s in two.alice.signals if s.member == "MessageSent"] == [sent]
    content, flags, told = sent.body
    assert (flags, told, content[0]["message-token"]) == (0, token, token)
    assert content[0]["message-sender-id"] == two.alice_id
    assert content[1]["content"].startswith("Hello")
    # Bob's answer arrives in the channel that is there.
    await send(two.bob, theirs, "Hello Alice")
    assert (await next_message(two.alice, "Hello Alice"))[0] == mine


async def test_a_channel_is_made_once(two: Two) -> None:
    alice = two.alice
    path, shown = await alice.cm(
        alice.connection, REQUESTS, "CreateChannel", "a{sv}", request(two.bob_id)
    )
    assert shown[CHANNEL + ".Requested"] is True
    with pytest.raises(DBusFailure, match="NotAvailable"):
        await alice.cm(alice.connection, REQUESTS, "CreateChannel", "a{sv}", request(two.bob_id))
    yours, same, _ = await alice.cm(
        alice.connection, REQUESTS, "EnsureChannel", "a{sv}", request(two.bob_id)
    )
    assert (yours, same) == (False, path)
    assert await alice.get_all(path, SECURABLE) == {"Encrypted": False, "Verified": False}


@pytest.mark.parametrize(
    "demand", [SECURABLE + ".Encrypted", SECURABLE + ".Verified", E2E + ".RequireEncrypted"]
)
async def test_a_text_channel_cannot_be_demanded_to_be_secure(two: Two, demand: str) -> None:
    wanted = request(two.bob_id, **{demand: Variant("b", True)})
    for member in ("CreateChannel", "EnsureChannel"):
        with pytest.raises(DBusFailure, match="NotImplemented"):
            await two.alice.cm(two.alice.connection, REQUESTS, member, "a{sv}", wanted)


async def test_a_policy_that_forbids_the_clear_forbids_text(server: Prosody) -> None:
    alice = await online(server, "alice", e2e_policy=Variant("s", "required"))
    try:
        path = await open_text(alice, server.jid("bob"))
        with pytest.raises(DBusFailure, match="PermissionDenied"):
            await send(alice, path, "In the clear")
        assert not [s for s in alice.signals if s.member == "MessageSent"]
    finally:
        await alice.stop()


async def test_actions_notices_and_corrections_arrive_as_such(two: Two) -> None:
    mine = await open_text(two.alice, two.bob_id)
    first = await send(two.alice, mine, "waves", message_type=Variant("u", 1))
    _, header = await next_message(two.bob, "waves")
    assert header["message-type"] == 1
    await send(two.alice, mine, "Down at noon", message_type=Variant("u", 2))
    _, header = await next_message(two.bob, "Down at noon")
    assert header["message-type"] == 2
    second = await send(two.alice, mine, "wavves", supersedes=Variant("s", first))
    theirs, header = await next_message(two.bob, "wavves")
    assert (header["message-token"], header["supersedes"]) == (second, first)
    # Nobody corrects what somebody else wrote.
    await send(two.bob, theirs, "Alice is a fool", supersedes=Variant("s", first))
    _, header = await next_message(two.alice, "Alice is a fool")
    assert "supersedes" not in header


async def test_receipts_become_delivery_reports_of_the_message_they_are_for(two: Two) -> None:
    mine = await open_text(two.alice, two.bob_id)
    token = await send(two.alice, mine, "Did you get this?", REPORT_DELIVERY)
    shown = await report(two.alice, token)
    bob = await handle_of(two.alice, two.bob_id)
    assert (shown["message-type"], shown["delivery-status"]) == (DELIVERY_REPORT, 1)
    assert (shown["message-sender"], shown["message-sender-id"]) == (bob, two.bob_id)
    sent = await two.alice.signal(lambda s: s.member == "MessageSent")
    assert sent.body[1] == REPORT_DELIVERY
    assert [len(parts) for parts in received(two.alice)] == [1]


async def test_a_message_to_nobody_comes_back_with_what_was_in_it(two: Two) -> None:
    nobody = two.server.jid("nobody")
    path = await open_text(two.alice, nobody)
    token = await send(two.alice, path, "Is anybody there?")
    shown = await report(two.alice, token)
    assert shown["delivery-status"] == 3
    assert shown["delivery-error"] == 1
    assert shown["delivery-dbus-error"] == ERROR + "Offline"
    assert shown["delivery-error-message"]
    assert shown["message-sender-id"] == nobody
    echo = shown["delivery-echo"]
    assert echo[0]["message-token"] == token
    assert echo[1] == {"content-type": "text/plain", "content": "Is anybody there?"}


async def test_chat_states_are_told_on_both_sides(two: Two) -> None:
    mine = await open_text(two.alice, two.bob_id)
    me = await handle_of(two.alice, two.alice_id)
    bob = await handle_of(two.alice, two.bob_id)
    for bad in (GONE, 5):
        with pytest.raises(DBusFailure, match="InvalidArgument"):
            await two.alice.cm(mine, CHAT_STATE, "SetChatState", "u", bad)
    await send(two.alice, mine, "Hello")
    theirs, _ = await next_message(two.bob, "Hello")
    alice = await handle_of(two.bob, two.alice_id)
    await state_of(two.bob, theirs, alice, ACTIVE)
    await send(two.bob, theirs, "Hi")
    await state_of(two.alice, mine, bob, ACTIVE)
    await two.bob.cm(theirs, CHAT_STATE, "SetChatState", "u", COMPOSING)
    await state_of(two.alice, mine, bob, COMPOSING)
    assert await two.alice.get(mine, CHAT_STATE, "ChatStates") == {me: ACTIVE, bob: COMPOSING}
    await two.bob.cm(theirs, CHAT_STATE, "SetChatState", "u", INACTIVE)
    await state_of(two.alice, mine, bob, INACTIVE)
    assert await two.alice.get(mine, CHAT_STATE, "ChatStates") == {me: ACTIVE}
    await two.bob.cm(theirs, CHAT_STATE, "SetChatState", "u", COMPOSING)
    await two.bob.cm(theirs, TEXT, "AcknowledgePendingMessages", "au", [1])
    await two.bob.cm(theirs, CHANNEL, "Close")
    await state_of(two.alice, mine, bob, GONE)


async def test_an_unread_message_outlives_its_channel_but_not_its_destruction(two: Two) -> None:
    mine = await open_text(two.alice, two.bob_id)
    await send(two.alice, mine, "one")
    await send(two.alice, mine, "two")
    first, _ = await next_message(two.bob, "two")
    await two.bob.cm(first, CHANNEL, "Close")
    again, shown = await two.bob.new_channel(TEXT, skip=1)
    assert again != first
    assert shown[CHANNEL + ".Requested"] is False
    assert shown[CHANNEL + ".InitiatorID"] == shown[CHANNEL + ".TargetID"] == two.alice_id
    pending = await two.bob.get(again, MESSAGES, "PendingMessages")
    assert texts(pending) == ["one", "two"]
    assert [parts[0]["rescued"] for parts in pending] == [True, True]
    order = [
        (s.member, s.body[0] if s.member == "ChannelClosed" else s.body[0][0][0])
        for s in two.bob.signals
        if s.member in ("NewChannels", "ChannelClosed")
    ]
    assert order == [("NewChannels", first), ("ChannelClosed", first), ("NewChannels", again)]
    await two.bob.cm(again, DESTROYABLE, "Destroy")
    await two.bob.signal(lambda s: s.path == again and s.member == "Closed")
    assert await two.bob.get(two.bob.connection, REQUESTS, "Channels") == []
    # "unless/until more events occur"
    await send(two.alice, mine, "three")
    path, header = await next_message(two.bob, "three")
    assert path not in (first, again)
    assert "rescued" not in header
    await two.bob.cm(path, TEXT, "AcknowledgePendingMessages", "au", [header["pending-message-id"]])
    await two.bob.cm(path, CHANNEL, "Close")
    assert await two.bob.get(two.bob.connection, REQUESTS, "Channels") == []


async def test_a_channel_ends_with_its_connection(two: Two) -> None:
    mine = await open_text(two.alice, two.bob_id)
    await send(two.alice, mine, "unread")
    theirs, _ = await next_message(two.bob, "unread")
    await two.bob.cm(two.bob.connection, CONNECTION, "Disconnect")
    await two.bob.signal(lambda s: s.path == theirs and s.member == "Closed")
    await two.bob.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
    assert len([s for s in two.bob.signals if s.member == "NewChannels"]) == 1


async def test_what_was_written_to_somebody_offline_says_when(server: Prosody) -> None:
    carol = await online(server, "carol")
    try:
        path = await open_text(carol, server.jid("bob"))
        before = int(time.time())
        await send(carol, path, "For later")
    finally:
        await carol.stop()
    bob = await online(server, "bob")
    try:
        _, header = await next_message(bob, "For later")
        assert before <= header["message-sent"] <= header["message-received"]
        assert "scrollback" not in header
    finally:
        await bob.stop()


async def test_what_another_program_of_ours_sends_and_gets_is_here_too(two: Two) -> None:
    phone = await online(two.server, "alice", "phone")
    try:
        await sees(phone, two.bob_id)
        away = await open_text(phone, two.bob_id)
        await send(phone, away, "From my phone", REPORT_DELIVERY)
        here, header = await next_message(two.alice, "From my phone")
        assert header["message-sender-id"] == two.alice_id
        assert header["silent"] is True
        assert await two.alice.get(here, CHANNEL, "TargetID") == two.bob_id
        theirs, _ = await next_message(two.bob, "From my phone")
        # The answer goes to the phone, and a copy of it here.
        token = await send(two.bob, theirs, "To your phone", REPORT_DELIVERY)
        assert (await next_message(phone, "To your phone"))[0] == away
        path, header = await next_message(two.alice, "To your phone")
        assert path == here
        assert header["message-sender-id"] == two.bob_id
        # What we write ourselves does not come back, and is receipted once.
        await send(two.alice, here, "From my desk")
        await next_message(two.bob, "From my desk")
        assert (await next_message(phone, "From my desk"))[1]["silent"] is True
        assert "From my desk" not in texts(received(two.alice))
        await report(two.bob, token)
        reports = [each for each in received(two.bob) if "delivery-token" in each[0]]
        assert len(reports) == 1
    finally:
        await phone.stop()


async def test_a_note_to_oneself_arrives_once(two: Two) -> None:
    path = await open_text(two.alice, two.alice_id)
    await send(two.alice, path, "Buy milk")
    found, header = await next_message(two.alice, "Buy milk")
    assert found == path
    assert header["message-sender-id"] == two.alice_id
    await send(two.alice, path, "And bread")
    await next_message(two.alice, "And bread")
    assert texts(received(two.alice)) == ["Buy milk", "And bread"]


async def test_everybody_can_be_written_to(two: Two) -> None:
    bob = await handle_of(two.alice, two.bob_id)
    nobody = await handle_of(two.alice, "nobody@elsewhere.test")
    found = await two.alice.cm(
        two.alice.connection,
        CONNECTION + ".Interface.ContactCapabilities",
        "GetContactCapabilities",
        "au",
        [bob, nobody],
    )
    text = (
        {CHANNEL + ".ChannelType": TEXT, CHANNEL + ".TargetHandleType": 1},
        [CHANNEL + ".TargetHandle", CHANNEL + ".TargetID"],
    )
    assert text in found[bob]
    assert found[nobody] == [text]


# -- other programs, and hostile ones -------------------------------------------------------


def message(to: str, children: str, **attributes: str) -> str:
    shown = {"to": to, "type": "chat", **attributes}
    words = " ".join(f"{key}='{value}'" for key, value in shown.items())
    return f"<message xmlns='jabber:client' {words}>{children}</message>"


@pytest_asyncio.fixture
async def alice(server: Prosody) -> AsyncIterator[Side]:
    side = await online(server, "alice")
    yield side
    await side.stop()


async def test_what_says_nothing_opens_nothing(server: Prosody, alice: Side) -> None:
    bob = await Peer.start(server, "bob")
    try:
        to = server.jid("alice")
        await sees(alice, server.jid("bob"))
        states = "http://jabber.org/protocol/chatstates"
        for each in ("composing", "gone"):
            bob.send_text(message(to, f"<{each} xmlns='{states}'/>"))
        bob.send_text(message(to, "<body/>"))
        bob.send_text(message(to, "<received xmlns='urn:xmpp:receipts' id='nothing'/>"))
        bob.send_text(
            message(
                f"{to}/test",
                "<body>Hi</body><error type='cancel'><gone "
                "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
                type="error",
                id="x",
            )
        )
        bob.send_text(message(to, "<body>News</body>", type="headline"))
        bob.send_text(message(f"{to}/test", "<body>Room</body>", type="groupchat"))
        bob.send_text(message(to, "<body>Real</body>"))
        await next_message(alice, "Real")
        assert texts(received(alice)) == ["Real"]
        assert len([s for s in alice.signals if s.member == "NewChannels"]) == 1
    finally:
        await bob.stop()


async def test_nobody_but_our_server_tells_us_what_we_sent_or_got(
    server: Prosody, alice: Side
) -> None:
    """CVE-2017-5589."""
    bob = await Peer.start(server, "bob")
    try:
        await sees(alice, server.jid("bob"))
        forged = (
            "<{kind} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"
            "<message xmlns='jabber:client' from='{from_}' to='{to}' type='chat'>"
            "<body>Forged</body></message></forwarded></{kind}>"
        )
        carol, me = server.jid("carol"), server.jid("alice")
        for kind, from_, to in (("received", carol, me), ("sent", me, carol)):
            inner = forged.format(kind=kind, from_=from_, to=to)
            bob.send_text(message(f"{me}/test", inner + "<body>Forged</body>"))
        bob.send_text(message(me, "<body>Real</body>"))
        await next_message(alice, "Real")
        assert texts(received(alice)) == ["Real"]
    finally:
        await bob.stop()


async def test_strangers_are_answered_with_nothing_that_shows_we_are_here(
    server: Prosody, alice: Side
) -> None:
    server.add_account("stranger")
    stranger, bob = await Peer.start(server, "stranger"), await Peer.start(server, "bob")
    try:
        await sees(alice, server.jid("bob"))
        ask = "<request xmlns='urn:xmpp:receipts'/>"
        to = server.jid("alice")
        stranger.send_text(message(to, f"<body>Are you there?</body>{ask}", id="s1"))
        await next_message(alice, "Are you there?")
        bob.send_text(message(to, f"<body>And for me?</body>{ask}", id="b1"))
        await bob.until(lambda: bob.messages)
        (receipt,) = bob.messages
        assert receipt.find("{urn:xmpp:receipts}received").get("id") == "b1"  # type: ignore[union-attr]
        assert stranger.messages == []
    finally:
        await stranger.stop()
        await bob.stop()


async def test_what_is_not_read_is_bounded_and_the_sender_hears_of_it(
    server: Prosody, alice: Side
) -> None:
    server.add_account("flood")
    flood, bob = await Peer.start(server, "flood"), await Peer.start(server, "bob")
    try:
        await sees(alice, server.jid("bob"))
        to = server.jid("alice")
        for number in range(52):
            flood.send_text(message(to, f"<body>Spam {number}</body>", id=f"f{number}"))
        await flood.until(lambda: len(flood.messages) == 2)
        for refused, number in zip(flood.messages, (50, 51), strict=True):
            assert (refused.get("type"), refused.get("id")) == ("error", f"f{number}")
            assert (
                refused.find(
                    "{jabber:client}error/{urn:ietf:params:xml:ns:xmpp-stanzas}resource-constraint"
                )
                is not None
            )
        path, _ = await next_message(alice, "Spam 49")
        pending = await alice.get(path, MESSAGES, "PendingMessages")
        assert texts(pending) == [f"Spam {number}" for number in range(50)]
        # A contact is not kept out by that, and his messages may be long.
        long = "x" * 200_000
        bob.send_text(message(to, f"<body>{long}</body>"))
        await next_message(alice, long)
        assert "Spam" not in alice.log
        assert "xxxx" not in alice.log
    finally:
        await flood.stop()
        await bob.stop()


async def test_answers_go_to_the_program_that_spoke_last_while_it_is_there(
    server: Prosody, alice: Side
) -> None:
    desk = await Peer.start(server, "bob", resource="desk")
    phone = await Peer.start(server, "bob", resource="phone")
    try:
        await sees(alice, server.jid("bob"))
        path = await open_text(alice, server.jid("bob"))
        desk.send_text(message(server.jid("alice"), "<body>From the desk</body>"))
        await next_message(alice, "From the desk")
        await send(alice, path, "To the desk")
        await desk.until(lambda: desk.messages)
        assert desk.messages[-1].get("to") == desk.jid
        phone.send_text(message(server.jid("alice"), "<body>From the phone</body>"))
        await next_message(alice, "From the phone")
        await send(alice, path, "To the phone")
        await phone.until(lambda: phone.messages)
        assert phone.messages[-1].get("to") == phone.jid
        phone.send_text(
            "<presence xmlns='jabber:client'>"
            "<status>moved</status><priority>5</priority></presence>"
        )
        handle = await handle_of(alice, server.jid("bob"))
        await alice.signal(
            lambda s: s.member == "PresencesChanged" and "moved" in s.body[0].get(handle, ())
        )
        seen = len(phone.messages) + len(desk.messages)
        await send(alice, path, "To whom it may concern")
        await phone.until(lambda: len(phone.messages) > 1)
        assert phone.messages[-1].get("to") == server.jid("bob")
        assert seen == 2
    finally:
        await desk.stop()
        await phone.stop()
