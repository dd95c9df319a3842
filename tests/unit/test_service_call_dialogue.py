"""Roads and contents of a call that come and go; without media, a server or a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from telepathy_e2e.errors import ConnectionLost, NetworkError, PeerError
from telepathy_e2e.jingle import ice
from telepathy_e2e.jingle.stanzas import Action
from telepathy_e2e.media import events as media
from telepathy_e2e.service import call_dialogue
from telepathy_e2e.service.failures import SecurityFailed

from .call_support import Packet
from .dialogue_support import VOICE, Talk, engines

FACE = ("initiator", "face")


@pytest_asyncio.fixture
async def talk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Talk]:
    monkeypatch.setattr(call_dialogue, "REASON_GRACE", 0.0)
    with engines(monkeypatch):
        talk = Talk()
        yield talk
        await talk.end()


# -- directions -----------------------------------------------------------------------------------


def flows(talk: Talk, name: str = "initiator/voice") -> str:
    """Who sends, and is taken for a sender by the other side."""
    (sent, received), (sent_there, received_there) = (
        each.engine.contents[name] for each in (talk.alice, talk.bob)
    )
    assert (sent, sent_there) == (received_there, received)
    return {(True, True): "both", (True, False): "initiator", (False, True): "responder"}.get(
        (sent, sent_there), "none"
    )


@pytest.mark.parametrize("first", ["alice", "bob"])
async def test_both_sides_say_who_sends(talk: Talk, first: str) -> None:
    await talk.talking()
    assert flows(talk) == "both"
    pair = (talk.alice, talk.bob) if first == "alice" else (talk.bob, talk.alice)
    for step, senders in enumerate(("initiator", "none", "responder", "both", "responder")):
        us, them = pair if step % 2 else pair[::-1]
        await us.dialogue.set_senders(VOICE, senders)
        await talk.settle()
        assert flows(talk) == senders
        assert them.of("changed")[-1] == (VOICE, senders)
    assert talk.wire.errors == []


async def test_of_two_who_say_so_at_once_the_caller_counts(talk: Talk) -> None:
    await talk.talking()
    await talk.alice.dialogue.set_senders(VOICE, "initiator")
    await talk.bob.dialogue.set_senders(VOICE, "responder")
    await talk.settle()
    assert [each.condition for each in talk.wire.errors] == ["conflict"]
    assert flows(talk) == "initiator"
    assert [each.senders for each in talk.bob.dialogue.legs] == ["initiator"]
    assert talk.bob.of("changed") == [(VOICE, "initiator")]


async def test_an_answer_lets_nobody_send_who_was_not_to(talk: Talk) -> None:
    await talk.talking()
    talk.bob.answers_with = "both"
    await talk.add("face", senders="initiator")
    assert talk.alice.engine.contents["initiator/face"] == (True, False)
    assert talk.alice.of("changed")[-1] == (FACE, "initiator")


# -- roads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["ice", "dtls"])
@pytest.mark.parametrize("up", [True, False])
async def test_a_content_whose_own_road_fails_goes_and_the_call_goes_on(
    talk: Talk, why: media.Why, up: bool
) -> None:
    await talk.talking()
    assert await talk.add("face", up=up) == FACE
    talk.bob.engine.tell(media.RoadFailed("face", why, "gone"))
    await talk.settle()
    assert talk.bob.of("lost") == [(FACE,)]
    assert talk.alice.of("gone") == [(FACE, "failed-transport")]
    for side in (talk.alice, talk.bob):
        assert side.of("failed") == []
        assert list(side.engine.contents) == ["initiator/voice"]
        assert list(side.engine.roads) == ["voice"]
        assert [each.key for each in side.link.call.contents] == [VOICE]
    # Its road of the other side ends, too, and nobody minds.
    talk.alice.engine.tell(media.RoadFailed("face", why, "gone"))
    await talk.settle()
    assert talk.alice.of("failed") == []
    assert await talk.add("more") == ("initiator", "more")


@pytest.mark.parametrize(
    ("why", "condition", "kind"),
    [("ice", "failed-transport", ConnectionLost), ("dtls", "connectivity-error", NetworkError)],
)
async def test_with_the_road_of_its_only_content_a_call_ends(
    talk: Talk, why: media.Why, condition: str, kind: type[Exception]
) -> None:
    await talk.talking()
    talk.bob.engine.tell(media.RoadFailed("voice", why, "gone"))
    await talk.settle()
    ((said, error),) = talk.bob.of("failed")
    assert said == condition
    assert isinstance(error, kind)
    assert talk.bob.of("lost") == []


async def test_contents_that_share_a_road_end_with_it(talk: Talk) -> None:
    await talk.talking("voice", "music")
    talk.bob.engine.tell(media.RoadFailed("voice", "ice", "gone"))
    await talk.settle()
    assert [each[0] for each in talk.bob.of("failed")] == ["failed-transport"]


async def test_the_first_content_may_go_when_another_one_has_a_road(talk: Talk) -> None:
    await talk.talking()
    await talk.add("face")
    talk.bob.engine.tell(media.RoadFailed("voice", "ice", "gone"))
    await talk.settle()
    assert talk.alice.of("gone") == [(VOICE, "failed-transport")]
    assert list(talk.alice.engine.contents) == ["initiator/face"]
    talk.bob.engine.tell(media.RoadFailed("face", "ice", "gone"))
    await talk.settle()
    assert [each[0] for each in talk.bob.of("failed")] == ["failed-transport"]


@pytest.mark.parametrize("names", [("voice",), ("voice", "music")])
async def test_a_way_that_is_lost_is_looked_for_anew_by_the_caller(
    talk: Talk, names: tuple[str, ...]
) -> None:
    await talk.talking(*names)
    sides = (talk.alice, talk.bob)
    before = [side.engine.local_transport("voice").ufrag for side in sides]
    for _ in range(3):
        for side in sides:
            side.engine.tell(media.Disconnected("voice"))
    await talk.settle()
    assert [side.engine.roads["voice"] for side in sides] == [1, 1]
    after = [side.engine.local_transport("voice").ufrag for side in sides]
    assert not {*before} & {*after}
    # The last that each was told of the other is what counts there.
    for side, ufrag in zip(sides, reversed(after), strict=True):
        road, told = side.engine.theirs[-1]
        assert (road, told.ufrag) == ("voice", ufrag)
    for side in sides:
        side.engine.tell(media.Disconnected("voice"))
    await talk.settle()
    assert [side.engine.roads["voice"] for side in sides] == [2, 2]
    assert talk.wire.errors == []


async def test_another_way_by_transport_replace_is_answered(talk: Talk) -> None:
    await talk.talking()
    news = ice.build(
        replace(talk.alice.engine.local_transport("voice"), ufrag="newer", pwd="x" * 22)
    )
    talk.alice.link.post(talk.alice.link.call.transport_replace(VOICE, news))
    for event in talk.wire.deliver(talk.bob.link.call):
        talk.bob.happened(event)
    assert talk.bob.engine.roads == {"voice": 1}
    answers = [each for each in talk.wire.to_alice if not each.answers]
    accept = next(each.jingle for each in answers if each.jingle.action is Action.TRANSPORT_ACCEPT)
    answer = ice.parse(accept.contents[0].transport)
    assert answer.ufrag == talk.bob.engine.local_transport("voice").ufrag
    assert [each.setup for each in answer.fingerprints] == ["active"]
    assert talk.bob.engine.theirs[-1][1].ufrag == "newer"


async def never(road: str) -> None:
    """No address is found, so that nothing more is told."""


async def test_a_peer_that_refuses_to_look_is_asked_again(talk: Talk) -> None:
    await talk.talking()
    talk.alice.engine.gather = never  # type: ignore[method-assign]
    talk.alice.engine.tell(media.Disconnected("voice"))
    told = talk.wire.to_bob.popleft()
    assert told.jingle.action is Action.TRANSPORT_INFO
    talk.wire.to_alice.append(Packet(told.jingle, True, PeerError("no", "not-acceptable")))
    await talk.settle()
    assert talk.alice.engine.roads == {"voice": 1}
    talk.alice.engine.tell(media.Disconnected("voice"))
    assert talk.alice.engine.roads == {"voice": 2}
    assert talk.bob.engine.roads == {"voice": 0}


async def test_who_begins_ice_anew_does_not_get_another_association(talk: Talk) -> None:
    await talk.talking()
    assert talk.alice.engine.started == {"voice": "server"}
    own = talk.alice.engine.local_transport("voice", "active")
    news = ice.build(replace(own, ufrag="other", pwd="x" * 22))
    talk.alice.link.post(talk.alice.link.call.transport_info(VOICE, news))
    with pytest.raises(PeerError) as raised:
        await talk.settle()
    assert raised.value.condition == "not-acceptable"
    assert talk.bob.engine.roads == {"voice": 0}


async def test_a_wrong_certificate_on_one_road_is_the_end_of_all(talk: Talk) -> None:
    await talk.talking()
    await talk.add("face", up=False)
    talk.bob.engine.tell(media.RoadFailed("face", "security", "another certificate"))
    ((condition, error),) = talk.bob.of("failed")
    assert condition == "security-error"
    assert isinstance(error, SecurityFailed)


async def test_who_takes_a_content_away_ends_its_road_and_not_the_call(talk: Talk) -> None:
    await talk.talking()
    await talk.add("face")
    # Its end is seen before what is said through the servers.
    talk.bob.engine.tell(media.RoadFailed("face", "dtls", "the peer ended the association"))
    await talk.alice.dialogue.remove(FACE)
    await talk.settle()
    assert talk.bob.of("gone") == [(FACE, "success")]
    for side in (talk.alice, talk.bob):
        assert side.of("failed") == []
        assert list(side.engine.contents) == ["initiator/voice"]


async def test_a_call_is_interrupted_as_long_as_one_of_its_roads_is(talk: Talk) -> None:
    await talk.talking()
    await talk.add("face")
    talk.bob.told.clear()
    for road in ("voice", "face"):
        talk.bob.engine.tell(media.Disconnected(road))
    talk.bob.engine.tell(media.Restarted("voice"))
    assert talk.bob.told == [("interrupted",), ("interrupted",)]
    talk.bob.engine.tell(media.RoadFailed("face", "ice", "gone"))
    assert talk.bob.told[2:] == [("lost", FACE), ("sounding",)]
