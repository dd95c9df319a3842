"""Which contents a call shows, how they are called, and whether it is muted."""

from __future__ import annotations

from typing import Any

import pytest

from telepathy_e2e.errors import InvalidArgument, NotYet
from telepathy_e2e.role import Role
from telepathy_e2e.service.call_content import INITIAL, CallContent
from telepathy_e2e.service.call_contents import MAX_CONTENTS, Contents
from telepathy_e2e.service.call_events import ContentAdded, ContentRemoved, MuteStateChanged
from telepathy_e2e.service.call_legs import Leg
from telepathy_e2e.service.call_words import MediaType, Mute, Sending, StateReason
from telepathy_e2e.service.events import ChannelEvent, Emitter
from telepathy_e2e.tasks import TaskOwner

AUDIO, VIDEO = MediaType.AUDIO, MediaType.VIDEO


class Call:
    """Of Alice, who is called by Bob."""

    role = Role.RESPONDER
    self_handle, target_handle, target_id = 1, 2, "bob@example.org"

    def __init__(self) -> None:
        self.tasks = TaskOwner("call")
        self.told: list[ChannelEvent] = []
        self.asked: list[str] = []
        self.accepted = True
        events: Emitter[ChannelEvent] = Emitter()
        events.subscribe(self.told.append)
        self.contents = Contents(self, "/call", events)

    def check_accepted(self) -> None:
        if not self.accepted:
            raise NotYet("not yet")

    async def set_direction(self, content: CallContent) -> None:
        self.asked.append(f"{content.wants_sending} {content.wants_receiving}")

    async def remove_content(self, content: CallContent) -> None:
        raise AssertionError

    def send_tone(self, content: CallContent, event: int, milliseconds: int) -> None:
        raise AssertionError

    def mute_changed(self, content: CallContent) -> None:
        self.contents.show_mute()

    def volume_changed(self, content: CallContent) -> None:
        self.asked.append(str(content.volumes))

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.told if isinstance(each, kind)]


def leg(name: str, media: MediaType = AUDIO, senders: str = "both") -> Leg:
    return Leg(("initiator", name), media, name, senders)


def test_contents_have_names_and_paths_of_their_own() -> None:
    call = Call()
    made = [
        call.contents.make_ours(Role.RESPONDER, "voice", AUDIO, sends=True, receives=True)
        for _ in range(MAX_CONTENTS)
    ]
    assert [each.name for each in made[:3]] == ["voice", "voice (1)", "voice (2)"]
    assert len({each.object_path for each in made}) == len({each.key for each in made}) == 8
    assert call.contents.full
    call.contents.drop(made[0].key, StateReason())
    assert not call.contents.full
    # A path is not used twice: programs may still have the old one.
    again = call.contents.make_ours(Role.RESPONDER, "", VIDEO, sends=True, receives=True)
    assert again.object_path not in {each.object_path for each in made}
    assert again.name == "video"


def test_what_was_promised_is_replaced_by_what_is_offered() -> None:
    call = Call()
    for name, media in (("audio", AUDIO), ("video", VIDEO)):
        call.contents.make(("initiator", name), name, media, INITIAL, pending=True)
    voice, face = call.contents
    call.contents.replace_promised([leg("m1"), leg("m2")])
    assert [each.key for each in call.contents] == [("initiator", "m1"), ("initiator", "m2")]
    assert call.contents.get(("initiator", "m1")) is voice
    (removed,) = call.of(ContentRemoved)
    assert removed.content == face.object_path
    (added,) = call.of(ContentAdded)
    assert [each.object_path for each in call.contents] == [voice.object_path, added.content]


def test_an_offer_at_once_says_which_names_its_first_contents_have() -> None:
    call = Call()
    assert call.contents.begin_with([leg("a"), leg("b"), leg("c", VIDEO)]) == {
        AUDIO: "a",
        VIDEO: "c",
    }
    assert call.of(ContentAdded) == []


@pytest.mark.parametrize(
    ("senders", "own", "theirs"),
    [
        ("both", Sending.PENDING_SEND, Sending.PENDING_SEND),
        ("initiator", Sending.NONE, Sending.PENDING_SEND),
        ("responder", Sending.PENDING_SEND, Sending.NONE),
        ("none", Sending.NONE, Sending.NONE),
    ],
)
def test_who_is_asked_to_send_is_what_the_contact_says(
    senders: str, own: Sending, theirs: Sending
) -> None:
    call = Call()
    call.contents.add(leg("m", senders=senders))
    (content,) = call.contents
    assert content.stream.local_sending_state == own
    assert content.stream.remote_members == {2: theirs}


async def test_who_was_stopped_is_only_asked_to_begin_again() -> None:
    call = Call()
    call.contents.add(leg("m"))
    (content,) = call.contents
    stream = content.stream
    await stream.set_sending(True)
    stream.receiving(Sending.SENDING, StateReason())
    for senders, states in (
        ("both", (Sending.SENDING, Sending.SENDING)),
        ("none", (Sending.NONE, Sending.NONE)),
        ("both", (Sending.PENDING_SEND, Sending.PENDING_SEND)),
    ):
        call.contents.follow(leg("m", senders=senders))
        assert (stream.local_sending_state, stream.remote_members[2]) == states
    await stream.request_receiving(2, False)
    assert call.asked == ["True True", "True False"]
    assert not content.sends
    call.accepted = False
    with pytest.raises(NotYet):
        await stream.set_sending(True)
    await stream.set_sending(False)


def test_a_call_is_muted_as_far_as_its_contents_are() -> None:
    call = Call()
    call.contents.add(leg("a"))
    (first,) = call.contents
    first.request_muted(True)
    assert call.contents.mute is Mute.MUTED
    call.contents.add(leg("b"))
    _, second = call.contents
    assert second.muted  # as the call is
    second.request_muted(False)
    second.request_muted(False)
    call.contents.drop(first.key, StateReason())
    call.contents.drop(second.key, StateReason())
    assert [each.mute_state for each in call.of(MuteStateChanged)] == [1, 4, 0]


@pytest.mark.parametrize("volume", [-2, 256])
def test_a_volume_has_bounds(volume: int) -> None:
    call = Call()
    call.contents.add(leg("a"))
    (content,) = call.contents
    for report in (content.report_input_volume, content.report_output_volume):
        with pytest.raises(InvalidArgument):
            report(volume)
    assert (content.volumes, call.asked) == ((255, 255), [])


def test_a_volume_is_told_when_it_changes() -> None:
    call = Call()
    call.contents.add(leg("a"))
    (content,) = call.contents
    for volume in (255, 0, 0, -1):
        content.report_input_volume(volume)
    content.report_output_volume(7)
    assert call.asked == ["(0, 255)", "(0, 7)"]
