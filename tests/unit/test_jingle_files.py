from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.files import (
    MAX_DESCRIPTION,
    MAX_HASHES,
    MAX_NAME,
    MAX_SIZE,
    FileOffer,
    Range,
)
from telepathy_e2e.jingle.stanzas import parse

from .jingle_support import FILES, elements, over_the_wire, sample, xml

HASHES = "urn:xmpp:hashes:2"
ZEROS = "A" * 43 + "="  # 32 bytes in base64


def described(inner: str) -> FileOffer:
    return files.parse(xml(f"<description xmlns='{FILES}'><file>{inner}</file></description>"))


def refused(inner: str) -> bool:
    with pytest.raises(PeerError) as caught:
        described(inner)
    return caught.value.condition == "bad-request"


def again(offer: FileOffer) -> FileOffer:
    return files.parse(over_the_wire(files.build(offer)))


def test_the_example_of_the_standard_is_understood() -> None:
    offer = described(
        "<date>1969-07-21T02:56:15Z</date><desc>This is a test.</desc>"
        "<media-type>text/plain</media-type><name>test.txt</name><range/><size>6144</size>"
        f"<hash xmlns='{HASHES}' algo='sha-1'>w0mcJylzCn+AfvuGdqkty2+KP48=</hash>"
    )
    assert offer == FileOffer(
        name="test.txt",
        size=6144,
        date=datetime(1969, 7, 21, 2, 56, 15, tzinfo=UTC),
        media_type="text/plain",
        description="This is a test.",
        hashes={"sha-1": bytes.fromhex("c3499c2729730a7f807efb8676a92dcb6f8a3f8f")},
        range=Range(),
    )


def test_what_stanza_offers_is_understood() -> None:
    offer = files.parse(parse(sample("in-band", "session-initiate")).contents[0].description)
    assert (offer.name, offer.size) == ("file.bin", 70001)
    assert offer.media_type == "application/octet-stream"
    assert offer.date == datetime(2026, 11, 21, 3, 21, 4, 656000, tzinfo=UTC)
    assert len(offer.hashes["sha-256"]) == 32
    assert offer.range is None


def test_what_gajim_answers_is_understood() -> None:
    offer = files.parse(parse(sample("in-band", "session-accept")).contents[0].description)
    assert offer.description is None
    assert offer.size == 70001


def test_a_date_with_microseconds_is_understood() -> None:
    offer = files.parse(parse(sample("Gajim 1.3.1", "session-initiate")).contents[0].description)
    assert offer.date == datetime(2026, 11, 21, 2, 36, 31, 767935, tzinfo=UTC)
    assert len(offer.hashes["blake2b-512"]) == 64


def test_a_hash_that_will_come_later_is_noticed() -> None:
    offer = files.parse(parse(sample("data channel", "session-initiate")).contents[0].description)
    assert offer.hash_used == ("sha-1",)
    assert offer.hashes == {}


def test_an_empty_hash_promises_one() -> None:
    assert described(f"<hash xmlns='{HASHES}' algo='sha-256'/>").hash_used == ("sha-256",)
    both = described(
        f"<hash xmlns='{HASHES}' algo='sha-256'>{ZEROS}</hash>"
        f"<hash-used xmlns='{HASHES}' algo='sha-256'/>"
    )
    assert both.hash_used == ()


_texts = st.text(alphabet=st.characters(categories=("L", "N")), min_size=1, max_size=30)
_offers = st.builds(
    FileOffer,
    name=st.none() | _texts,
    size=st.none() | st.integers(0, MAX_SIZE),
    date=st.none() | st.datetimes(timezones=st.just(UTC)),
    media_type=st.none() | st.just("image/svg+xml"),
    description=st.none() | _texts,
    hashes=st.dictionaries(st.sampled_from(("x-one", "x-two")), st.binary(min_size=1, max_size=64)),
    range=st.none()
    | st.builds(Range, st.integers(0, MAX_SIZE // 2), st.none() | st.integers(0, MAX_SIZE // 2)),
    hash_used=st.just(()) | st.just(("sha-256", "sha-512")),
    resume=st.booleans(),
    resuming=st.booleans(),
)


@given(_offers)
def test_an_offer_comes_back_as_it_went(offer: FileOffer) -> None:
    assert again(offer) == offer


def test_a_date_of_another_zone_is_sent_in_utc() -> None:
    there = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    built = files.build(FileOffer(date=there))
    assert built[0][0].text == "2025-12-31T23:00:00Z"


def test_names_that_xml_cannot_carry_do_not_break_the_stream() -> None:
    assert again(FileOffer(name="a\x01b")).name == "a\ufffdb"


@pytest.mark.parametrize(
    "size", ["-1", "+1", "", "1.5", "0x10", "1e9", "\u0661", str(MAX_SIZE + 1), "9" * 5000]
)
def test_a_size_that_is_not_a_file_size_is_refused(size: str) -> None:
    assert refused(f"<size>{size}</size>")


@pytest.mark.parametrize("size", ["0", " 6144\n", str(MAX_SIZE)])
def test_sizes_up_to_the_bound_are_taken(size: str) -> None:
    assert described(f"<size>{size}</size>").size == int(size)


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2015-07-26T21:46:00+01:00", datetime(2015, 7, 26, 20, 46, tzinfo=UTC)),
        ("2015-07-26T21:46:00-01:30", datetime(2015, 7, 26, 23, 16, tzinfo=UTC)),
        ("2015-07-26T21:46:00.5Z", datetime(2015, 7, 26, 21, 46, 0, 500000, tzinfo=UTC)),
        ("2015-07-26T21:46:00.123456789Z", datetime(2015, 7, 26, 21, 46, 0, 123456, tzinfo=UTC)),
    ],
)
def test_dates_of_the_profile_are_understood(date: str, expected: datetime) -> None:
    assert described(f"<date>{date}</date>").date == expected


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "2015-07-26",
        "2015-07-26 21:46:00Z",
        "2015-07-26T21:46:00",
        "2015-13-26T21:46:00Z",
        "2015-02-30T21:46:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "2015-07-26T21:46:00+99:99",
        "2015-07-26T21:46:00." + "1" * 13 + "Z",
    ],
)
def test_dates_of_no_calendar_are_refused(date: str) -> None:
    assert refused(f"<date>{date}</date>")


@pytest.mark.parametrize(
    "inner", ["offset='-1'", "length='-1'", "offset='x'", f"offset='1' length='{MAX_SIZE}'"]
)
def test_a_range_that_no_file_has_is_refused(inner: str) -> None:
    assert refused(f"<range {inner}/>")


def test_ranges_are_understood() -> None:
    assert described("<range/>").range == Range(0, None)
    assert described("<range offset='270336'/>").range == Range(270336)
    assert described(f"<range offset='1' length='{MAX_SIZE - 1}'/>").range == Range(1, MAX_SIZE - 1)


@pytest.mark.parametrize("name", ["name", "size", "date", "media-type", "range"])
def test_doubled_facts_are_refused(name: str) -> None:
    assert refused(f"<{name}/><{name}/>")


def test_two_digests_of_one_function_are_refused() -> None:
    one = f"<hash xmlns='{HASHES}' algo='sha-256'>{ZEROS}</hash>"
    described(one)
    assert refused(one + one)


@pytest.mark.parametrize(
    "inner",
    [
        f"<hash xmlns='{HASHES}'>{ZEROS}</hash>",
        f"<hash xmlns='{HASHES}' algo='SHA 256'>{ZEROS}</hash>",
        f"<hash xmlns='{HASHES}' algo='sha-256'>AAAA</hash>",
        f"<hash xmlns='{HASHES}' algo='sha-256'>{ZEROS[:-1]}</hash>",
        f"<hash xmlns='{HASHES}' algo='new'>{'AAAA' * 43}</hash>",
        f"<hash-used xmlns='{HASHES}' algo='{'a' * 33}'/>",
    ],
)
def test_hashes_that_are_none_are_refused(inner: str) -> None:
    assert refused(inner)


def test_hashes_are_bounded() -> None:
    many = [f"<hash-used xmlns='{HASHES}' algo='h{n}'/>" for n in range(MAX_HASHES + 1)]
    assert len(described("".join(many[:-1])).hash_used) == MAX_HASHES
    assert refused("".join(many))


def test_names_are_bounded() -> None:
    assert described(f"<name>{'n' * MAX_NAME}</name>").name == "n" * MAX_NAME
    assert refused(f"<name>{'n' * (MAX_NAME + 1)}</name>")


def test_descriptions_are_cut_and_cleaned() -> None:
    offer = described(f"<desc>one\ntwo\u202e{'x' * 2000}</desc><desc>zwei</desc>")
    assert offer.description is not None
    assert offer.description.startswith("one two x")
    assert len(offer.description) == MAX_DESCRIPTION


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("text/plain; charset=utf-8", "text/plain"),
        ("image/svg+xml", "image/svg+xml"),
        ("nonsense", None),
        ("a/b c", None),
        ("a/\u202eb", None),
        ("a" * 200 + "/b", None),
        ("", None),
    ],
)
def test_only_valid_media_types_are_believed(media_type: str, expected: str | None) -> None:
    assert described(f"<media-type>{media_type}</media-type>").media_type == expected


@pytest.mark.parametrize(
    "element",
    [None, Element("description"), Element(f"{{{FILES}}}description")],
)
def test_what_is_not_a_file_is_refused(element: Element | None) -> None:
    with pytest.raises(PeerError):
        files.parse(element)


def test_only_files_are_files() -> None:
    assert files.is_file(files.build(FileOffer()))
    assert not files.is_file(Element("{urn:xmpp:jingle:apps:rtp:1}description"))
    assert not files.is_file(None)


def test_a_receipt_says_of_which_content_it_is() -> None:
    element = over_the_wire(files.received("initiator", "file"))
    assert files.is_received(element)
    assert not files.is_checksum(element)
    assert files.about(element) == ("initiator", "file")


def test_what_stanza_says_when_it_has_the_file_is_understood() -> None:
    (element,) = parse(sample("in-band", "session-info")).payload
    assert files.is_received(element)
    assert files.about(element) == ("initiator", "file1VJYZ1KMSF5ZK86Z")


def test_a_checksum_comes_back_as_it_went() -> None:
    hashes = {"sha-256": bytes(32), "sha-512": bytes(64)}
    element = over_the_wire(files.checksum(hashes, "initiator", "file"))
    assert files.is_checksum(element)
    assert files.parse_checksum(element) == hashes
    assert files.about(element) == ("initiator", "file")
    assert files.about(files.checksum(hashes)) is None


def test_the_checksum_that_stanza_sends_is_understood() -> None:
    (element,) = parse(sample("data channel", "session-info")).payload
    assert list(files.parse_checksum(element)) == ["sha-1"]


def test_a_checksum_of_a_part_is_not_one_of_the_file() -> None:
    element = xml(
        f"<checksum xmlns='{FILES}' creator='initiator' name='f'><file><range offset='1'>"
        f"<hash xmlns='{HASHES}' algo='sha-256'>{ZEROS}</hash></range></file></checksum>"
    )
    assert files.parse_checksum(element) == {}


@pytest.mark.parametrize(
    "text",
    [
        f"<checksum xmlns='{FILES}'/>",
        f"<checksum xmlns='{FILES}' creator='x' name='f'><file/></checksum>",
        f"<checksum xmlns='{FILES}' creator='initiator'><file/></checksum>",
        f"<received xmlns='{FILES}'><file/></received>",
    ],
)
def test_a_malformed_checksum_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        files.parse_checksum(xml(text))


@given(st.one_of(elements(tag=f"{{{FILES}}}description"), elements(tag=f"{{{FILES}}}checksum")))
def test_no_element_raises_anything_but_a_peer_error(element: Element) -> None:
    for read in (files.parse, files.parse_checksum, files.about):
        try:
            read(element)
        except PeerError:
            continue


@given(elements(tag=f"{{{FILES}}}file", depth=2))
def test_no_file_raises_anything_but_a_peer_error(element: Element) -> None:
    description = Element(f"{{{FILES}}}description")
    description.append(element)
    try:
        offer = files.parse(description)
    except PeerError:
        return
    assert offer.size is None or 0 <= offer.size <= MAX_SIZE
    again(offer)
