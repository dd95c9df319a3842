"""The offer of an XML stream, and its answer."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.xml_streams import (
    XML_STREAMS_NS,
    build,
    check_answer,
    check_offer,
    is_xml_stream,
)

OTHER = Element("{urn:xmpp:jingle:apps:stub:0}description")


@pytest.mark.parametrize("senders", [None, "both"])
def test_what_is_built_is_an_offer_and_an_answer(senders: str | None) -> None:
    description = build()
    assert description.tag == f"{{{XML_STREAMS_NS}}}description"
    assert is_xml_stream(description)
    SubElement(description, "{urn:x}more")
    check_offer(description, senders)
    check_answer(description, senders)


@pytest.mark.parametrize(
    ("description", "senders"),
    [(None, "both"), (OTHER, "both"), (build(), "initiator"), (build(), "responder")],
)
def test_anything_else_is_refused(description: Element | None, senders: str) -> None:
    with pytest.raises(PeerError):
        check_offer(description, senders)
    with pytest.raises(PeerError):
        check_answer(description, senders)
