"""Unread messages: kept, acknowledged, bounded; and what a client may send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.service import outgoing
from telepathy_e2e.service.events import ChannelEvent, Emitter
from telepathy_e2e.service.messages import (
    MAX_MESSAGES,
    OVERHEAD,
    Budget,
    MessageReceived,
    Messages,
    Parts,
    PendingMessagesRemoved,
    Refused,
    Text,
)


class Queue:
    """A queue, and what it told."""

    def __init__(self, **more: Any) -> None:
        self.told: list[ChannelEvent] = []
        events: Emitter[ChannelEvent] = Emitter()
        events.subscribe(self.told.append)
        self.messages = Messages(events, **more)

    @property
    def ids(self) -> list[object]:
        return [parts[0]["pending-message-id"] for parts in self.messages.parts()]


HELLO = Text("Hello", sender=2, sender_id="bob@example.test", received=1)


def test_a_message_is_told_of_and_shown_until_it_is_acknowledged() -> None:
    queue = Queue()
    queue.messages.receive(HELLO)
    parts: Parts = [
        {
            "message-type": 0,
            "message-received": 1,
            "message-sender": 2,
            "message-sender-id": "bob@example.test",
            "pending-message-id": 1,
        },
        {"content-type": "text/plain", "content": "Hello"},
    ]
    assert queue.told == [MessageReceived(parts)]
    assert queue.messages.parts() == [parts]
    queue.messages.acknowledge([1])
    assert queue.messages.parts() == []
    assert queue.told[1:] == [PendingMessagesRemoved((1,))]


@pytest.mark.parametrize("ids", [[1, 9], [9], [1, 1, 0]])
def test_an_unknown_id_acknowledges_nothing(ids: list[int]) -> None:
    queue = Queue()
    queue.messages.receive(HELLO)
    with pytest.raises(InvalidArgument):
        queue.messages.acknowledge(ids)
    assert queue.ids == [1]
    queue.messages.acknowledge([1, 1])
    assert queue.ids == []


def test_ids_are_not_used_again() -> None:
    queue = Queue()
    queue.messages.receive(HELLO)
    queue.messages.acknowledge([1])
    queue.messages.receive(HELLO)
    assert queue.ids == [2]


def test_one_message_more_than_there_is_room_for_is_refused_and_none_is_lost() -> None:
    queue = Queue()
    for _ in range(MAX_MESSAGES):
        queue.messages.receive(HELLO)
    with pytest.raises(Refused):
        queue.messages.receive(HELLO)
    assert queue.ids == list(range(1, MAX_MESSAGES + 1))
    queue.messages.acknowledge([1])
    queue.messages.receive(HELLO)
    assert len(queue.messages) == MAX_MESSAGES


def test_bytes_are_bounded_in_a_channel_and_over_several() -> None:
    budget = Budget(3 * HELLO.size)
    one, other = Queue(budget=budget, most_bytes=2 * HELLO.size), Queue(budget=budget)
    for queue in (one, one, other):
        queue.messages.receive(HELLO)
    for queue in (one, other):
        with pytest.raises(Refused):
            queue.messages.receive(HELLO)
    one.messages.acknowledge([1])
    other.messages.receive(HELLO)
    other.messages.clear()
    assert budget.used == HELLO.size


def test_a_room_drops_the_oldest_and_says_which() -> None:
    queue = Queue(most=2)
    for _ in range(3):
        queue.messages.receive(HELLO, make_room=True)
    assert queue.ids == [2, 3]
    assert queue.told[2] == PendingMessagesRemoved((1,))
    assert isinstance(queue.told[3], MessageReceived)


def test_what_is_too_large_for_an_empty_room_leaves_it_empty() -> None:
    queue = Queue(most_bytes=OVERHEAD)
    with pytest.raises(Refused):
        queue.messages.receive(HELLO, make_room=True)
    assert queue.ids == []


def test_rescued_messages_say_so_and_are_not_told_of() -> None:
    old, new = Queue(), Queue()
    old.messages.receive(HELLO)
    new.messages.rescue(old.messages.clear())
    assert old.ids == []
    (parts,) = new.messages.parts()
    assert parts[0]["rescued"] is True
    assert new.told == []


# -- what a client sends --------------------------------------------------------------------


def text(content: object, **more: object) -> dict[str, object]:
    return {"content-type": "text/plain", "content": content, **more}


def test_a_plain_text_is_sent_as_it_is() -> None:
    assert outgoing.parse([{}, text("Hello")]) == outgoing.Outgoing(0, "Hello")
    assert outgoing.parse([{}, {"x": 1}, text("Hello")]).text == "Hello"


def test_an_action_travels_behind_a_word() -> None:
    sent = outgoing.parse([{"message-type": 1}, text("waves")])
    assert sent.body == "/me waves"
    assert outgoing.received(sent.body) == (1, "waves")
    assert outgoing.received("/meow") == (0, "/meow")
    assert outgoing.received("Server down", notice=True) == (2, "Server down")


def test_of_alternatives_the_plain_one_is_sent() -> None:
    html = {"content-type": "text/html", "content": "<b>a</b>", "alternative": "main"}
    assert outgoing.parse([{}, html, text("a", alternative="main")]).text == "a"


def test_what_xml_cannot_carry_is_left_out() -> None:
    assert outgoing.parse([{}, text("a\x00\x07\x1bb\ufffe\tc\r\nd\re")]).text == "ab\tc\nd\ne"


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [{}],
        [{}, {"content": "no type"}],
        [{}, text("")],
        [{}, text("\x07")],
        [{}, text(b"bytes")],
        [{}, text("a"), text("b")],
        [{}, {"content-type": "image/png", "content": b""}],
        [{}, text("a"), {"content-type": "image/png", "content": b""}],
        [{}, {"content-type": "text/html", "content": "<b>a</b>"}],
        [{"message-type": 3}, text("a")],
        [{"message-type": 4}, text("a")],
        [{"message-type": "0"}, text("a")],
        [{"message-type": True}, text("a")],
        [{"message-sender": 1}, text("a")],
        [{"pending-message-id": 1}, text("a")],
        [{"supersedes": 7}, text("a")],
        [{}, *[text("a", alternative="x")] * outgoing.MAX_PARTS],
    ],
)
def test_what_cannot_be_sent_is_an_invalid_argument(parts: Sequence[Mapping[str, object]]) -> None:
    with pytest.raises(InvalidArgument):
        outgoing.parse(parts)


@pytest.mark.parametrize("character", ["a", "é", "<"])
def test_a_text_that_the_server_would_hang_up_over_is_not_sent(character: str) -> None:
    wire = {"a": 1, "é": 2, "<": 4}[character]
    most = outgoing.MAX_SENT_BYTES // wire
    assert outgoing.parse([{}, text(character * most)])
    with pytest.raises(InvalidArgument):
        outgoing.parse([{}, text(character * (most + 1))])
