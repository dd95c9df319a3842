from __future__ import annotations

from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import rtp
from telepathy_e2e.jingle.rtp import (
    Description,
    Feedback,
    HeaderExtension,
    PayloadType,
    Source,
    SourceGroup,
    build,
    build_group,
    parse,
    parse_group,
)

from .jingle_support import over_the_wire, sample, xml


def description(inner: str = "", attributes: str = "media='audio'") -> Element:
    return xml(
        f"<description xmlns='{rtp.RTP_NS}' xmlns:f='{rtp.FEEDBACK_NS}'"
        f" xmlns:h='{rtp.EXTENSIONS_NS}' xmlns:s='{rtp.SOURCES_NS}' {attributes}>"
        f"{inner}</description>"
    )


def described(client: str, action: str = "session-initiate", at: int = 0) -> Description:
    found = [each for each in sample(client, action).iter() if rtp.is_rtp(each)]
    return parse(found[at])


FULL = Description(
    "video",
    (
        PayloadType(
            96,
            "VP8",
            90000,
            ptime=20,
            maxptime=40,
            parameters=(("a", "b"), ("111/111", ""), ("", "0-15")),
            feedback=(Feedback("nack"), Feedback("nack", "pli"), Feedback("trr-int", value="7")),
        ),
        PayloadType(0, "PCMU", 8000),
        PayloadType(111, "opus", 48000, channels=2),
    ),
    feedback=(Feedback("ccm", "fir"),),
    extensions=(HeaderExtension(1, "urn:x"), HeaderExtension(2, "urn:y", "initiator")),
    sources=(Source(1, (("cname", "c"),)), Source(2**32 - 1)),
    groups=(SourceGroup("FID", (1, 2**32 - 1)),),
    ssrc=1,
    rtcp_mux=True,
    rtcp_reduced_size=True,
)


def test_what_is_built_is_read_again() -> None:
    assert parse(over_the_wire(build(FULL))) == FULL


def test_a_browsers_offer_is_read() -> None:
    voice = described("audio and video")
    assert (voice.media, voice.rtcp_mux, voice.rtcp_reduced_size) == ("audio", True, True)
    assert voice.payload_types[0] == PayloadType(
        111,
        "opus",
        48000,
        channels=2,
        parameters=(("minptime", "10"), ("useinbandfec", "1")),
        feedback=(Feedback("transport-cc"),),
    )
    assert voice.payload_types[1].parameters == (("111/111", ""),)  # without a value
    face = described("audio and video", at=1)
    assert face.groups == (SourceGroup("FID", tuple(each.ssrc for each in face.sources)),)
    assert not voice.sdes


def test_keys_in_the_clear_are_seen_and_neither_kept_nor_sent() -> None:
    offer = described("Dino 0.4.2 calls")
    assert offer.sdes
    assert "inline" not in repr(offer)
    again = parse(build(offer))
    assert again == replace(offer, sdes=False)


def test_static_payload_types_need_no_name_and_no_clock() -> None:
    found = parse(description("<payload-type id='0'/><payload-type id='18' name='G729'/>"))
    assert found.payload_types == (PayloadType(0, "PCMU", 8000), PayloadType(18, "G729", 0))
    assert parse(build(found)) == found


def test_media_that_we_do_not_have_are_read() -> None:
    assert parse(description(attributes="media='message'")).media == "message"


@pytest.mark.parametrize(
    "inner",
    [
        "<payload-type id='128' name='a' clockrate='1'/>",
        "<payload-type id='96' name='a' clockrate='0'/>",
        "<payload-type id='96' name='a' clockrate='2147483649'/>",
        "<payload-type id='96' clockrate='8000'/>",
        "<payload-type name='a' clockrate='8000'/>",
        "<payload-type id='96' name='a' channels='0'/>",
        "<payload-type id='96' name='a' channels='256'/>",
        "<payload-type id='96' name='a' ptime='60001'/>",
        "<payload-type id='96' name='a'/><payload-type id='96' name='b'/>",
        f"<payload-type id='96' name='{'a' * 65}'/>",
        "<payload-type id='96' name='a'><f:rtcp-fb/></payload-type>",
        "<payload-type id='96' name='a'><f:rtcp-fb type='trr-int'/></payload-type>",
        "<f:rtcp-fb-trr-int value='x'/>",
        "<h:rtp-hdrext id='0' uri='a'/>",
        "<h:rtp-hdrext id='4352' uri='a'/>",
        "<h:rtp-hdrext id='1'/>",
        "<h:rtp-hdrext id='1' uri='a' senders='all'/>",
        "<h:rtp-hdrext id='1' uri='a'/><h:rtp-hdrext id='1' uri='b'/>",
        "<s:source/>",
        "<s:source ssrc='4294967296'/>",
        "<s:source ssrc='1'/><s:source ssrc='1'/>",
        "<s:ssrc-group><s:source ssrc='1'/></s:ssrc-group>",
    ],
)
def test_what_is_malformed_is_refused(inner: str) -> None:
    with pytest.raises(PeerError):
        parse(description(inner))


def test_an_edge_is_inside() -> None:
    inner = (
        "<payload-type id='127' name='a' clockrate='2147483648' channels='255' ptime='60000'/>"
        "<h:rtp-hdrext id='4351' uri='a'/><s:source ssrc='4294967295'/>"
    )
    assert parse(description(inner)).payload_types[0].clockrate == 2**31


@pytest.mark.parametrize("attributes", ["", "media=''", "media='audio' ssrc='x'"])
def test_a_description_of_nothing_is_refused(attributes: str) -> None:
    with pytest.raises(PeerError):
        parse(description(attributes=attributes))


@pytest.mark.parametrize(
    ("tag", "attributes", "maximum"),
    [
        ("h:rtp-hdrext", "id='{}' uri='a'", rtp.MAX_EXTENSIONS),
        ("s:source", "ssrc='{}'", rtp.MAX_SOURCES),
        ("s:ssrc-group", "semantics='g{}'", rtp.MAX_GROUPS),
        ("f:rtcp-fb", "type='t{}'", rtp.MAX_FEEDBACK),
    ],
)
def test_there_are_no_more_than_anybody_needs(tag: str, attributes: str, maximum: int) -> None:
    parts = [f"<{tag} {attributes.format(number)}/>" for number in range(1, maximum + 2)]
    parse(description("".join(parts[:-1])))
    with pytest.raises(PeerError, match="too many"):
        parse(description("".join(parts)))


def test_parameters_are_bounded() -> None:
    element = description("<payload-type id='96' name='a'/>")
    for number in range(rtp.MAX_PARAMETERS):
        value = "v" * rtp.MAX_VALUE
        SubElement(element[0], f"{{{rtp.RTP_NS}}}parameter", {"name": str(number), "value": value})
    assert len(parse(element).payload_types[0].parameters) == rtp.MAX_PARAMETERS
    element[0][0].set("value", "v" * (rtp.MAX_VALUE + 1))
    with pytest.raises(PeerError, match="too long"):
        parse(element)
    element[0][0].set("value", "v")
    SubElement(element[0], f"{{{rtp.RTP_NS}}}parameter", {"name": "one more"})
    with pytest.raises(PeerError, match="too many"):
        parse(element)


def test_something_else_is_no_description() -> None:
    assert not rtp.is_rtp(None)
    for element in (None, Element("description")):
        with pytest.raises(PeerError):
            parse(element)


def test_a_bundle_names_its_contents() -> None:
    assert parse_group([Element("{urn:x}y"), over_the_wire(build_group(["a", "b"]))]) == ("a", "b")
    assert parse_group([]) == ()
    other = build_group(["a"])
    other.set("semantics", "LS")
    assert parse_group([other]) == ()


def test_bundles_that_say_two_things_are_refused() -> None:
    for payload in (
        [build_group(["a"]), build_group(["b"])],
        [build_group(["a", "a"])],
        [build_group([str(number) for number in range(17)])],
        [build_group([""])],
    ):
        with pytest.raises(PeerError):
            parse_group(payload)
    assert len(parse_group([build_group([str(number) for number in range(16)])])) == 16
