"""Conversations with contacts and strangers, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import XML, Element

import pytest

from telepathy_e2e.errors import Disconnected, NotAvailable, PeerError, PermissionDenied
from telepathy_e2e.service import delivery, text
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.conversation import Conversation
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.messages import MAX_MESSAGES, OVERHEAD, Text
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.text import TextChannels
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp import messages
from telepathy_e2e.xmpp.messages import Message, build, parse
from telepathy_e2e.xmpp.roster import Resource, RosterItem

ME, BOB, EVE = "me@example.test", "bob@example.test", "eve@spam.test"
COMPOSING, PAUSED, ACTIVE, INACTIVE = 4, 3, 2, 1


class FakeClient:
    jid = ME + "/here"

    def __init__(self) -> None:
        self.items = {BOB: RosterItem("", "both", ())}
        self.sent: list[Message] = []
        self.online: dict[str, list[Resource]] = {}
        self.features = frozenset({messages.CARBONS})
        self.asked: list[str] = []
        self.gone = False

    def contacts(self) -> Mapping[str, RosterItem]:
        return self.items

    def resources(self, jid: str) -> list[Resource]:
        return self.online.get(jid, [])

    def send(self, stanza: Element) -> None:
        if self.gone:
            raise Disconnected("The connection is not up")
        self.sent.append(parse(stanza))

    async def server_features(self) -> frozenset[str]:
        return self.features

    async def send_iq(self, to: str | None, payload: Element) -> None:
        self.asked.append(payload.tag)


class World:
    """A connection that is up."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.channels: dict[str, Conversation] = {}
        self.opened: list[Conversation] = []
        self.handles = Handles()
        self.tasks = TaskOwner("test")
        self.account = SimpleNamespace(
            handles=self.handles,
            self_id=ME,
            self_handle=self.handles.ensure(ME),
            client=self.client,
            tasks=self.tasks,
            policy=Policy.OPPORTUNISTIC,
            object_path="/c",
            next_path=lambda kind: f"/c/{kind}{len(self.opened) + len(self.channels)}",
            announce=self.announce,
            channel_closed=lambda channel: self.channels.pop(channel.object_path, None),
        )
        self.text = TextChannels(cast(Account, self.account))

    def announce(self, channel: Channel) -> None:
        assert isinstance(channel, Conversation)
        self.channels[channel.object_path] = channel
        self.opened.append(channel)

    def receive(self, body: str = "", from_: str = BOB + "/a", **more: Any) -> bool:
        given = {"from_": from_, "to": ME, "type": "chat", "body": body or None, **more}
        return self.text.receive_message(build(Message(**given)))

    def copy(self, direction: str, message: Message) -> bool:
        outer, middle, inner = (
            build(Message(from_=ME, to=self.client.jid, type="chat")),
            Element(f"{{{messages.CARBONS}}}{direction}"),
            Element(f"{{{messages.FORWARD}}}forwarded"),
        )
        inner.append(build(message))
        middle.append(inner)
        outer.append(middle)
        return self.text.receive_message(outer)

    async def request(self, jid: str = BOB) -> Conversation:
        handle = self.handles.ensure(jid)
        made = await self.text.create(ChannelRequest("", 1, handle, {}))
        assert isinstance(made, Conversation)
        self.channels[made.object_path] = made
        return made

    @property
    def errors(self) -> list[Message]:
        return [each for each in self.client.sent if each.type == "error"]


def say(channel: Conversation, words: str, flags: int = 0, **header: object) -> str:
    named = {key.replace("_", "-"): value for key, value in header.items()}
    parts: list[dict[str, object]] = [named, {"content-type": "text/plain", "content": words}]
    return channel.send_message(parts, flags).token


def texts(channel: Conversation) -> list[str]:
    return [each.text for each in channel.messages.pending]


def reports(channel: Conversation) -> Sequence[Mapping[str, Any]]:
    return [each.headers for each in channel.messages.pending if each.headers is not None]


@pytest.fixture
def world() -> World:
    return World()


# -- bounds ---------------------------------------------------------------------------------


def test_a_contact_that_writes_too_much_is_told_so_and_loses_nothing(world: World) -> None:
    for number in range(10_000):
        world.receive(f"{number}", id=f"i{number}")
    (channel,) = world.opened
    assert texts(channel) == [str(number) for number in range(MAX_MESSAGES)]
    assert [each.id for each in world.errors] == [f"i{n}" for n in range(MAX_MESSAGES, 10_000)]
    assert {(each.to, each.type) for each in world.errors} == {(BOB + "/a", "error")}
    refused = world.errors[0].failure
    assert refused is not None
    assert (refused.condition, refused.type) == ("resource-constraint", "wait")


def test_thousands_of_strangers_open_so_many_channels_and_cost_no_handles(world: World) -> None:
    for number in range(5_000):
        world.receive("Buy this", f"s{number}@spam.test/x", id="a")
    assert len(world.opened) == text.MAX_STRANGERS
    assert len(world.errors) == 5_000 - text.MAX_STRANGERS
    assert world.handles.find(f"s{text.MAX_STRANGERS}@spam.test") is None
    # Contacts are as welcome as before, and so is whoever is known by now.
    world.receive("Hello")
    assert texts(world.opened[-1]) == ["Hello"]
    world.client.items["s0@spam.test"] = RosterItem("", "both", ())
    world.receive("One more", "late@spam.test/x")
    assert texts(world.opened[-1]) == ["One more"]
    world.receive("And one", "later@spam.test/x")
    assert len(world.opened) == text.MAX_STRANGERS + 2
    # Room is made by reading, and closing.
    world.opened[1].destroy()
    world.receive("And one", "later@spam.test/x")
    assert len(world.opened) == text.MAX_STRANGERS + 3


def test_a_stranger_gets_little_room_and_all_together_not_much(world: World) -> None:
    most = text.MAX_STRANGER_BYTES - OVERHEAD
    world.receive("x" * (most + 1), EVE + "/x")
    assert world.opened == []
    assert world.handles.find(EVE) is None
    for number in range(text.MAX_STRANGERS_BYTES // text.MAX_STRANGER_BYTES + 1):
        world.receive("x" * most, f"s{number}@spam.test/x")
    assert len(world.opened) == text.MAX_STRANGERS_BYTES // text.MAX_STRANGER_BYTES
    assert len(world.errors) == 2
    world.receive("x" * 2_000_000)
    assert len(texts(world.opened[-1])[0]) == 2_000_000


def test_an_error_is_not_answered(world: World) -> None:
    assert world.receive("Hi", type="error") is False
    assert world.client.sent == []
    assert world.opened == []


def test_no_more_handles_is_no_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telepathy_e2e.service.handles.MAX_HANDLES", 1)
    world.receive("Hi", EVE)
    assert world.opened == []
    assert len(world.errors) == 1


def test_sent_messages_are_remembered_for_a_while(world: World) -> None:
    sent = delivery.SentMessages()
    for number in range(delivery.MAX_SENT + 1):
        sent.add(str(number), delivery.Sent(BOB, Text("x")))
    assert not sent.is_ours("0", BOB)
    assert sent.is_ours("1", BOB)
    assert sent.is_ours(str(delivery.MAX_SENT), BOB)


# -- what becomes of ours -------------------------------------------------------------------


async def test_only_whom_it_went_to_can_say_that_it_arrived_and_once(world: World) -> None:
    channel = await world.request()
    token = say(channel, "Hi", 1)
    assert world.client.sent[-1].wants_receipt
    world.receive(from_=EVE + "/x", receipt=token)
    world.receive(receipt="another")
    assert reports(channel) == []
    world.receive(receipt=token)
    world.receive(receipt=token)
    assert [each["delivery-status"] for each in reports(channel)] == [1]


@pytest.mark.parametrize(
    ("condition", "type", "status", "code", "name"),
    [
        ("item-not-found", "cancel", 3, 2, "DoesNotExist"),
        ("service-unavailable", "cancel", 3, 1, "Offline"),
        ("recipient-unavailable", "", 2, 1, "Offline"),
        ("resource-constraint", "wait", 2, None, "ServiceBusy"),
        ("forbidden", "auth", 3, 3, "PermissionDenied"),
        ("undefined-condition", "cancel", 3, None, "NotAvailable"),
    ],
)
async def test_an_error_becomes_a_report(
    world: World, condition: str, type: str, status: int, code: int | None, name: str
) -> None:
    channel = await world.request()
    token = say(channel, "Hi")
    error = (
        f"<error type='{type}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    )
    for sender in (EVE, BOB, BOB + "/x"):
        world.text.receive_message(
            XML(
                f"<message xmlns='jabber:client' from='{sender}' type='error' id='{token}'>"
                f"{error}</message>"
            )
        )
    (shown,) = reports(channel)
    assert (shown["delivery-status"], shown.get("delivery-error")) == (status, code)
    assert shown["delivery-dbus-error"] == f"org.freedesktop.Telepathy.Error.{name}"
    assert shown["delivery-echo"][1]["content"] == "Hi"


async def test_a_report_without_a_channel_opens_none(world: World) -> None:
    channel = await world.request()
    token = say(channel, "Hi", 1)
    channel.close()
    world.receive(receipt=token)
    world.receive("Hi", type="error", id=token)
    assert world.opened == []


async def test_what_never_reached_the_server_is_reported(world: World) -> None:
    channel = await world.request()
    token = say(channel, "Hi")
    world.text.undelivered([build(world.client.sent[-1]), XML("<iq xmlns='jabber:client'/>")])
    (shown,) = reports(channel)
    assert (shown["delivery-token"], shown["delivery-status"]) == (token, 2)


async def test_nothing_is_told_of_a_message_that_could_not_be_sent(world: World) -> None:
    channel = await world.request()
    world.client.gone = True
    with pytest.raises(Disconnected):
        say(channel, "Hi")
    world.client.gone = False
    world.account.policy = Policy.VERIFIED
    with pytest.raises(PermissionDenied):
        say(channel, "Hi")
    assert world.client.sent == []
    assert channel.chat_states == {}


# -- what others send -----------------------------------------------------------------------


def test_receipts_go_to_those_who_may_know_that_we_are_here(world: World) -> None:
    world.receive("Hi", id="1", wants_receipt=True)
    world.receive("Hi", EVE + "/x", id="2", wants_receipt=True)
    world.receive("Hi", wants_receipt=True)
    world.receive("Hi", from_=world.client.jid, id="3", wants_receipt=True)
    world.client.items[BOB] = RosterItem("", "to", ())
    world.receive("Hi", id="4", wants_receipt=True)
    assert [(each.to, each.receipt) for each in world.client.sent] == [(BOB + "/a", "1")]
    assert not world.client.sent[0].wants_receipt


def test_copies_are_not_answered(world: World) -> None:
    given = Message(
        from_=BOB + "/a", to=ME + "/phone", type="chat", id="1", body="Hi", wants_receipt=True
    )
    assert world.copy("received", given)
    (channel,) = world.opened
    assert texts(channel) == ["Hi"]
    assert world.client.sent == []


def test_what_we_wrote_elsewhere_is_our_own_and_needs_no_rescue(world: World) -> None:
    assert world.copy("sent", Message(from_=ME + "/phone", to=BOB, type="chat", body="Hi"))
    assert world.copy("sent", Message(from_=world.client.jid, to=BOB, type="chat", body="echo"))
    (channel,) = world.opened
    assert channel.initiator_id == ME
    (shown,) = channel.messages.pending
    assert (shown.sender_id, shown.silent, shown.text) == (ME, True, "Hi")
    channel.close()
    assert len(world.opened) == 1


def test_the_same_note_to_oneself_is_shown_once(world: World) -> None:
    for _ in range(2):
        world.receive("Milk", from_=world.client.jid, id="1")
    world.copy("sent", Message(from_=ME + "/phone", to=ME, type="chat", id="2", body="Bread"))
    world.receive("Bread", from_=ME + "/phone", id="2")
    assert texts(world.opened[0]) == ["Milk", "Bread"]


def test_a_forged_copy_is_the_peers_fault(world: World) -> None:
    stanza = build(Message(from_=EVE, to=ME, type="chat", body="x"))
    stanza.append(Element(f"{{{messages.CARBONS}}}sent"))
    with pytest.raises(PeerError):
        world.text.receive_message(stanza)
    assert world.opened == []


async def test_nobody_corrects_what_we_wrote(world: World) -> None:
    channel = await world.request()
    token = say(channel, "I agree")
    world.receive("I do not", replaces=token)
    world.receive("Mine", replaces="theirs")
    assert [each.supersedes for each in channel.messages.pending] == ["", "theirs"]


def test_a_date_in_the_future_is_not_believed(world: World) -> None:
    for stamp in ("2999-01-01T00:00:00Z", "2001-01-01T00:00:00Z"):
        world.text.receive_message(
            XML(
                f"<message xmlns='jabber:client' from='{BOB}' type='chat'><body>x</body>"
                f"<delay xmlns='urn:xmpp:delay' stamp='{stamp}'/></message>"
            )
        )
    first, second = world.opened[0].messages.pending
    assert first.sent == first.received
    assert second.sent == 978307200


def test_subjects_and_links_are_part_of_what_is_read(world: World) -> None:
    world.receive("Read this", type="normal", subject="News", links=("https://x.test/1",))
    world.receive(subject="Only this")
    world.receive("See https://x.test/2", links=("https://x.test/2",))
    assert texts(world.opened[0]) == [
        "News\nRead this\nhttps://x.test/1",
        "Only this",
        "See https://x.test/2",
    ]
    assert [each.kind for each in world.opened[0].messages.pending] == [2, 0, 0]


def test_somebody_in_a_room_is_talked_to_as_such(world: World) -> None:
    room = "tea@rooms.test"
    world.text.is_occupant = lambda jid: jid.startswith(room + "/")
    world.receive("Psst", room + "/Bob")
    world.receive("Psst", room + "/Eve")
    assert [each.target_id for each in world.opened] == [room + "/Bob", room + "/Eve"]
    say(world.opened[0], "Yes?")
    assert world.client.sent[-1].to == room + "/Bob"


# -- chat states ----------------------------------------------------------------------------


async def test_states_are_sent_to_those_who_know_them(world: World) -> None:
    channel = await world.request()
    channel.set_chat_state(COMPOSING)
    assert world.client.sent == []
    say(channel, "Hi")
    assert world.client.sent[-1].state == "active"
    world.receive("Hi, I have none")
    say(channel, "I see")
    assert world.client.sent[-1].state == ""
    channel.set_chat_state(PAUSED)
    assert len(world.client.sent) == 2
    world.receive("Now I do", state="active")
    channel.set_chat_state(COMPOSING)
    assert world.client.sent[-1].state == "composing"
    assert world.client.sent[-1].hints == {"no-store"}
    channel.set_chat_state(COMPOSING)
    assert len(world.client.sent) == 3


async def test_a_program_that_announces_states_gets_them_at_once(world: World) -> None:
    world.client.online[BOB] = [Resource(BOB + "/a", features=frozenset({messages.CHAT_STATES}))]
    channel = await world.request()
    channel.set_chat_state(COMPOSING)
    assert [each.state for each in world.client.sent] == ["composing"]
    # "It must not be sent to the peer if a channel is closed without being used"
    channel.close()
    assert [each.state for each in world.client.sent] == ["composing"]


async def test_who_goes_types_no_longer(world: World) -> None:
    channel = await world.request()
    bob = channel.target_handle
    world.receive(state="composing")
    assert channel.chat_states == {bob: COMPOSING}
    world.receive("Done, without a word of state")
    assert channel.chat_states == {bob: ACTIVE}
    world.receive(state="composing")
    presence = "<presence xmlns='jabber:client' from='{}' type='unavailable'/>"
    world.text.receive_presence(XML(presence.format(BOB + "/other")))
    assert channel.chat_states == {bob: COMPOSING}
    assert world.text.receive_presence(XML(presence.format(BOB + "/a"))) is False
    assert channel.chat_states == {}
    say(channel, "Gone?")
    assert world.client.sent[-1].to == BOB


# -- channels -------------------------------------------------------------------------------


async def test_one_channel_for_each_contact(world: World) -> None:
    channel = await world.request()
    asked = ChannelRequest("", 1, channel.target_handle, {})
    with pytest.raises(NotAvailable):
        await world.text.create(asked)
    assert await world.text.ensure(asked) == (False, channel)
    channel.close()
    yours, other = await world.text.ensure(asked)
    assert yours
    assert other is not channel


async def test_a_closed_channel_comes_back_for_what_matters_only(world: World) -> None:
    channel = await world.request()
    token = say(channel, "Hi", 1)
    world.receive(receipt=token)
    channel.close()
    channel.close()
    assert world.opened == []
    world.receive("Unread")
    world.opened[0].close()
    assert len(world.opened) == 2
    assert not world.opened[1].requested
    assert texts(world.opened[1]) == ["Unread"]
    world.opened[1].destroy()
    assert len(world.opened) == 2
    assert world.channels == {}


async def test_copies_are_asked_for_where_there_are_some(world: World) -> None:
    world.text.connected()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.client.asked == [f"{{{messages.CARBONS}}}enable"]
    world.client.features = frozenset()
    world.text.connected()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(world.client.asked) == 1
    await world.tasks.close()
