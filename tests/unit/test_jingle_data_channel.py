"""The transport of XEP-0343: as it stands there, as we write it, and as nobody should."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.jingle import data_channel, ice
from telepathy_e2e.jingle.data_channel import DataTransport
from telepathy_e2e.jingle.ice import DtlsFingerprint, Transport

DIGEST = bytes(range(32))
PRINT = DtlsFingerprint("sha-256", DIGEST, "actpass")
OURS = DataTransport(Transport("8hhy", "asd88fgpdd777uzjYhagZg", fingerprints=(PRINT,)))
EXAMPLE = """<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'
    pwd='asd88fgpdd777uzjYhagZg' ufrag='8hhy'>
  <sctpmap xmlns='urn:xmpp:jingle:transports:dtls-sctp:1' number='5000'
      protocol='webrtc-datachannel' streams='1024'/>
  <fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass'>
    02:1A:CC:54:27:AB:EB:9C:53:3F:3E:4B:65:2E:7D:46:3F:54:42:CD:54:F1:7A:03:A2:7D:F9:B0:7F:46:19:B2
  </fingerprint>
  <candidate component='1' foundation='1' generation='0' id='el0747fg11' ip='10.0.1.1' network='1'
    port='8998' priority='2130706431' protocol='udp' type='host'/>
</transport>"""


def test_the_example_of_the_standard_is_read() -> None:
    element = fromstring(EXAMPLE)  # noqa: S314 - ours
    assert data_channel.is_data(element)
    read = data_channel.parse(element)
    assert (read.port, read.ice.ufrag) == (5000, "8hhy")
    assert [each.ip for each in read.ice.candidates] == ["10.0.1.1"]
    assert data_channel.check(read, [("sha-512", b"x")])[0].setup == "actpass"


def test_what_is_written_is_read_again() -> None:
    assert data_channel.parse(data_channel.build(OURS)) == OURS
    news = DataTransport(Transport("8hhy", "asd88fgpdd777uzjYhagZg"), None)
    element = data_channel.build(news)
    assert data_channel.parse(element) == news
    assert not data_channel.is_data(element)


def test_the_table_of_the_standard_calls_the_number_a_port() -> None:
    element = data_channel.build(OURS)
    map_ = element.find(f"{{{data_channel.SCTP_NS}}}sctpmap")
    assert map_ is not None
    map_.set("port", map_.attrib.pop("number"))
    assert data_channel.parse(element).port == 5000


def _map(**attributes: str) -> Element:
    return Element(f"{{{data_channel.SCTP_NS}}}sctpmap", attributes)


@pytest.mark.parametrize(
    "child",
    [
        _map(),
        _map(number="0"),
        _map(number="65536"),
        _map(number="five"),
        _map(number="5000", protocol="bfcp"),
        Element(f"{{{data_channel.CHANNEL_NS}}}channel", {"id": "1", "negotiated": "true"}),
    ],
)
def test_a_map_or_a_channel_of_another_kind_is_refused(child: Element) -> None:
    element = ice.build(OURS.ice)
    if child.tag.endswith("channel"):
        element.append(_map(number="5000"))
    element.append(child)
    with pytest.raises(PeerError):
        data_channel.parse(element)


def test_two_maps_are_refused() -> None:
    element = data_channel.build(OURS)
    SubElement(element, f"{{{data_channel.SCTP_NS}}}sctpmap", {"number": "5001"})
    with pytest.raises(PeerError):
        data_channel.parse(element)


def test_an_offer_has_a_map_credentials_and_a_fingerprint() -> None:
    announced = [("sha-256", DIGEST)]
    assert data_channel.check(OURS, announced) == (PRINT,)
    for wrong in (
        DataTransport(OURS.ice, None),
        DataTransport(Transport("", "", fingerprints=(PRINT,))),
        DataTransport(Transport("8hhy", "asd88fgpdd777uzjYhagZg")),
    ):
        with pytest.raises(PeerError) as caught:
            data_channel.check(wrong, announced)
        assert not isinstance(caught.value, SecurityError)


def test_another_certificate_than_that_of_the_session_is_tampering() -> None:
    with pytest.raises(SecurityError):
        data_channel.check(OURS, [("sha-256", bytes(32))])
