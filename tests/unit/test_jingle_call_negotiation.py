from __future__ import annotations

from dataclasses import replace

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import rtp
from telepathy_e2e.jingle.call_negotiation import (
    OFFER_AUDIO,
    OFFER_VIDEO,
    Unsupported,
    agreed,
    answer,
    may_receive,
    may_send,
    offer,
    received,
    senders_for,
)
from telepathy_e2e.jingle.rtp import (
    Description,
    Feedback,
    HeaderExtension,
    PayloadType,
    Source,
    SourceGroup,
)
from telepathy_e2e.role import Role

from .jingle_support import over_the_wire
from .test_jingle_rtp import described

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"


def sound(*payload_types: PayloadType, mux: bool = True) -> Description:
    return Description("audio", payload_types, rtcp_mux=mux)


def picture(*payload_types: PayloadType) -> Description:
    return Description("video", payload_types, rtcp_mux=True)


def ids(description: Description) -> list[int]:
    return [each.id for each in description.payload_types]


def h264(**parameters: str) -> PayloadType:
    found = tuple((name.replace("_", "-"), value) for name, value in parameters.items())
    return PayloadType(100, "H264", 90000, parameters=found)


OPUS = PayloadType(96, "OPUS", 48000, channels=2)
PCMU = PayloadType(0, "PCMU", 8000)
VP8 = PayloadType(120, "VP8", 90000)


@pytest.mark.parametrize("media", ["audio", "video"])
def test_our_offer_is_answered_by_ourselves_with_all_of_it(media: str) -> None:
    own = rtp.parse(over_the_wire(rtp.build(offer(media))))
    assert own == offer(media)
    theirs = answer(own)
    assert (theirs.payload_types, theirs.extensions) == (own.payload_types, own.extensions)
    assert agreed(own, theirs).payload_types == agreed(theirs, own).payload_types


@pytest.mark.parametrize("client", ["Dino 0.4.2 calls", "audio and video", "calls Dino"])
def test_recorded_offers_are_answered_in_their_order_with_their_numbers(client: str) -> None:
    offered = described(client)
    ours = answer(offered)
    assert ids(ours)[0] == 111
    assert ids(ours) == [each for each in ids(offered) if each in ids(ours)]
    assert ours.rtcp_mux
    assert not ours.sdes


def test_a_browsers_pictures_are_taken_with_what_repeats_them() -> None:
    ours = answer(described("audio and video", at=1))
    assert [(each.id, each.name) for each in ours.payload_types] == [
        (96, "VP8"),
        (97, "rtx"),
        (102, "H264"),
        (103, "rtx"),
        (108, "H264"),
        (109, "rtx"),
    ]
    assert set(ours.payload_types[0].feedback) == {
        Feedback("goog-remb"),
        Feedback("nack"),
        Feedback("nack", "pli"),
    }
    assert MID in {each.uri for each in ours.extensions}


def test_names_are_compared_without_case_and_answered_as_they_came() -> None:
    (found,) = answer(sound(OPUS)).payload_types
    assert (found.id, found.name) == (96, "OPUS")


def test_opus_is_stereo_whatever_clients_write() -> None:
    assert ids(answer(sound(replace(OPUS, channels=1)))) == [96]
    with pytest.raises(Unsupported):
        answer(sound(replace(PCMU, channels=2)))


@pytest.mark.parametrize(
    "offered",
    [
        sound(),
        sound(PayloadType(100, "speex", 16000)),
        sound(replace(OPUS, clockrate=16000)),
        sound(PayloadType(101, "telephone-event", 8000)),
        sound(OPUS, mux=False),
        Description("message", (OPUS,), rtcp_mux=True),
        picture(PayloadType(97, "rtx", 90000, parameters=(("apt", "97"),))),
    ],
    ids=["nothing", "speex", "other clock", "keys alone", "two ports", "no media", "itself"],
)
def test_nothing_in_common_is_said(offered: Description) -> None:
    with pytest.raises(Unsupported) as caught:
        answer(offered)
    assert isinstance(caught.value, PeerError)
    assert caught.value.condition == "feature-not-implemented"


def test_keys_are_taken_at_the_clock_of_a_sound_that_is() -> None:
    keys = [PayloadType(100 + i, "telephone-event", r) for i, r in enumerate((8000, 16000, 48000))]
    assert ids(answer(sound(OPUS, *keys))) == [96, 102]
    assert ids(answer(sound(PCMU, *keys))) == [0, 100]


@pytest.mark.parametrize("apt", ["96", "x", "", "9999999999", "121", "-1"])
def test_what_repeats_something_that_is_not_taken_is_not_taken(apt: str) -> None:
    rtx = PayloadType(121, "rtx", 90000, parameters=(("apt", apt),))
    assert ids(answer(picture(VP8, rtx))) == [120]


def test_what_repeats_may_come_before_what_it_repeats() -> None:
    rtx = PayloadType(121, "rtx", 90000, parameters=(("apt", "120"), ("rtx-time", "3000")))
    found = answer(picture(rtx, VP8)).payload_types
    assert [(each.id, each.parameters) for each in found] == [
        (121, (("apt", "120"),)),
        (120, ()),
    ]


@pytest.mark.parametrize(
    ("parameters", "answered"),
    [
        ({"packetization_mode": "1", "profile_level_id": "42e01f"}, "42e01f"),
        ({"packetization_mode": "1", "profile_level_id": "42C00B"}, "42c00b"),
        ({"packetization_mode": "1", "profile_level_id": "42e034"}, "42e01f"),
        ({"packetization_mode": "1"}, "42e01f"),
        (
            {
                "packetization_mode": "1",
                "profile_level_id": "42001f",
                "level_asymmetry_allowed": "1",
            },
            "42001f",
        ),
        ({"packetization_mode": "0", "profile_level_id": "42e01f"}, None),
        ({"profile_level_id": "42e01f"}, None),
        ({"packetization_mode": "1", "profile_level_id": "640c1f"}, None),
        ({"packetization_mode": "1", "profile_level_id": "4d001f"}, None),
        ({"packetization_mode": "1", "profile_level_id": "42e"}, None),
        ({"packetization_mode": "1", "profile_level_id": "42e0zz"}, None),
        ({"packetization_mode": "1", "profile_level_id": "42e11f"}, None),
    ],
)
def test_h264_is_taken_in_the_profile_that_we_have(
    parameters: dict[str, str], answered: str | None
) -> None:
    offered = picture(VP8, h264(**parameters))
    found = {each.id: dict(each.parameters) for each in answer(offered).payload_types}
    assert found.get(100, {}).get("profile-level-id") == answered


def test_feedback_and_extensions_are_what_both_know() -> None:
    offered = replace(
        picture(replace(VP8, feedback=(Feedback("transport-cc"), Feedback("nack")))),
        extensions=(
            HeaderExtension(5, MID),
            HeaderExtension(6, "urn:3gpp:video-orientation"),
            HeaderExtension(15, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
        ),
    )
    ours = answer(offered)
    assert ours.payload_types[0].feedback == (Feedback("nack"),)
    assert ours.extensions == (HeaderExtension(5, MID),)


def test_what_is_sent_has_the_receivers_numbers_and_our_sources() -> None:
    source, group = Source(7), SourceGroup("FID", (7, 8))
    own = offer("audio", sources=(source,), groups=(group,))
    theirs = replace(
        sound(replace(OPUS, ptime=40, parameters=(("stereo", "1"),))), sources=(Source(9),)
    )
    sent = agreed(own, theirs)
    assert sent.payload_types == (
        PayloadType(96, "OPUS", 48000, channels=2, ptime=40, parameters=(("stereo", "1"),)),
    )
    assert (sent.sources, sent.groups, sent.ssrc) == ((source,), (group,), 7)
    taken = received(own, theirs)
    assert taken.payload_types == OFFER_AUDIO
    assert taken.sources == (Source(9),)


def test_an_extension_under_another_number_is_not_sent() -> None:
    own = offer("video")
    theirs = replace(own, extensions=(HeaderExtension(9, MID), *own.extensions[1:]))
    assert own.extensions[0].uri == MID
    assert agreed(own, theirs).extensions == own.extensions[1:] != ()


def test_an_answer_that_is_none_is_not_agreed_on() -> None:
    for theirs in (sound(OPUS), replace(picture(VP8), rtcp_mux=False), picture(h264())):
        with pytest.raises(Unsupported):
            agreed(offer("video"), theirs)


def test_the_offers_have_numbers_of_their_own() -> None:
    for payload_types in (OFFER_AUDIO, OFFER_VIDEO):
        found = [each.id for each in payload_types]
        assert len(set(found)) == len(found)
    bundle = {(e.id, e.uri) for media in ("audio", "video") for e in offer(media).extensions}
    assert len({number for number, _ in bundle}) == len(bundle)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("send", [True, False])
@pytest.mark.parametrize("receive", [True, False])
def test_directions_and_words_are_the_same(role: Role, send: bool, receive: bool) -> None:
    senders = senders_for(role, send, receive)
    assert (may_send(role, senders), may_receive(role, senders)) == (send, receive)
    assert (may_receive(role.other, senders), may_send(role.other, senders)) == (send, receive)


def test_without_a_word_both_send() -> None:
    assert may_send(Role.RESPONDER, None)
    assert may_receive(Role.RESPONDER, None)
