"""Our dataclasses and those of aiortc and aioice."""

from __future__ import annotations

import dataclasses

import pytest
from aioice.candidate import Candidate as AioCandidate

from telepathy_e2e.jingle.ice import Candidate
from telepathy_e2e.jingle.rtp import Description, HeaderExtension, Source, SourceGroup
from telepathy_e2e.media import mapping
from tests.support.media import H264, OPUS, PCMU, VP8, payload

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"

CANDIDATE = Candidate(
    component=1, foundation="1", generation=0, id="a", ip="192.0.2.1", port=4000,
    priority=5, protocol="udp", type="host",
)  # fmt: skip


def test_the_wanted_codec_comes_first_and_keys_are_none() -> None:
    found = mapping.codecs(OPUS)
    assert [(each.mimeType, each.clockRate, each.payloadType) for each in found] == [
        ("audio/opus", 48000, 96)
    ]
    assert found[0].channels == 2


def test_retransmission_is_taken_for_codecs_that_we_have() -> None:
    assert [each.name for each in mapping.codecs(VP8)] == ["VP8", "rtx"]
    assert mapping.codecs(VP8)[1].parameters == {"apt": 97}
    others = Description(
        "video", (*VP8.payload_types, payload(100, "rtx", 90000, parameters=(("apt", "55"),)))
    )
    assert [each.payloadType for each in mapping.codecs(others)] == [97, 98]


@pytest.mark.parametrize("apt", ["", "x", "-1", "٩٧", "9" * 5000])
def test_nonsense_in_a_retransmission_is_skipped(apt: str) -> None:
    nonsense = payload(98, "rtx", 90000, parameters=(("apt", apt),))
    description = Description("video", (VP8.payload_types[0], nonsense))
    assert [each.name for each in mapping.codecs(description)] == ["VP8"]


@pytest.mark.parametrize(
    ("name", "rate"), [("speex", 16000), ("opus", 16000), ("VP8", 90000), ("rtx", 90000)]
)
def test_what_aiortc_cannot_code_is_left_out(name: str, rate: int) -> None:
    assert mapping.codecs(Description("audio", (payload(110, name, rate),))) == []
    with pytest.raises(ValueError, match="no codec"):
        mapping.send_parameters(Description("audio", ()), "", "")
    with pytest.raises(ValueError, match="no codec"):
        mapping.receive_parameters(Description("audio", ()), "")


def test_names_are_compared_without_case() -> None:
    description = Description("video", (payload(1, "vp8", 90000), payload(2, "h264", 90000)))
    assert [each.name for each in mapping.codecs(description)] == ["VP8", "H264"]


def test_parameters_and_feedback_are_kept() -> None:
    found = mapping.codecs(H264)[0]
    assert found.parameters["profile-level-id"] == "42e01f"
    feedback = mapping.codecs(VP8)[0].rtcpFeedback
    assert [(each.type, each.parameter) for each in feedback] == [("nack", None), ("nack", "pli")]


def test_only_extensions_that_aiortc_understands_are_used() -> None:
    extensions = (
        HeaderExtension(4, MID),
        HeaderExtension(5, "urn:3gpp:video-orientation"),
        HeaderExtension(6, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
        HeaderExtension(200, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    )
    description = dataclasses.replace(OPUS, extensions=extensions)
    parameters = mapping.send_parameters(description, "audio", "name")
    assert [(each.id, each.uri) for each in parameters.headerExtensions] == [(4, MID)]
    assert (parameters.muxId, parameters.rtcp.cname) == ("audio", "name")


def test_keys_need_the_clock_of_the_sound() -> None:
    both = Description("audio", (*OPUS.payload_types, payload(102, "telephone-event", 8000)))
    assert mapping.event_type(both, 48000) == 101
    assert mapping.event_type(both, 8000) == 102
    assert mapping.event_type(PCMU, 48000) is None


def test_packets_with_keys_are_routed_to_the_receiver() -> None:
    parameters = mapping.receive_parameters(OPUS, "")
    assert [each.payloadType for each in parameters.codecs] == [96, 101]


def test_sources_are_routed_and_paired_with_their_retransmissions() -> None:
    description = dataclasses.replace(
        VP8, sources=(Source(1), Source(2)), groups=(SourceGroup("FID", (1, 2)),)
    )
    encodings = mapping.receive_parameters(description, "").encodings
    assert len(encodings) == 1
    assert encodings[0].ssrc == 1
    assert encodings[0].rtx is not None
    assert encodings[0].rtx.ssrc == 2


def test_candidates_go_both_ways() -> None:
    theirs = mapping.to_aioice(CANDIDATE)
    assert theirs is not None
    assert (theirs.host, theirs.port, theirs.type) == ("192.0.2.1", 4000, "host")
    ours = mapping.from_aioice(
        AioCandidate("f", 1, "udp", 9, "192.0.2.7", 5, "srflx", "10.0.0.1", 6), "c3", 2
    )
    assert (ours.id, ours.generation, ours.type) == ("c3", 2, "srflx")
    assert (ours.related_address, ours.related_port) == ("10.0.0.1", 6)


@pytest.mark.parametrize(
    "change",
    [{"component": 2}, {"protocol": "tcp"}, {"type": "prflx"}, {"port": 0}, {"port": 65536}],
)
def test_candidates_that_cannot_be_checked_are_skipped(change: dict[str, object]) -> None:
    assert mapping.to_aioice(dataclasses.replace(CANDIDATE, **change)) is None  # type: ignore[arg-type]
