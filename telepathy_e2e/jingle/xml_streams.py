"""XML streams as a Jingle application (XEP-0247, ``urn:xmpp:jingle:apps:xmlstream:0``)."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError

XML_STREAMS_NS: Final = "urn:xmpp:jingle:apps:xmlstream:0"

#: What service discovery says of a program that takes XML streams.
FEATURE: Final = XML_STREAMS_NS

#: The name of the content in our offers, as in the examples of the standard.
CONTENT_NAME: Final = "xmlstream"

_DESCRIPTION: Final = f"{{{XML_STREAMS_NS}}}description"


def is_xml_stream(description: Element | None) -> bool:
    """Whether a content is an XML stream."""
    return description is not None and description.tag == _DESCRIPTION


def build() -> Element:
    """The ``<description/>`` of an offer, and of an answer: nothing is negotiated."""
    return Element(_DESCRIPTION)


def check_offer(description: Element | None, senders: str | None) -> None:
    """Whether an offer is one of an XML stream in both directions; children are left alone.

    Raises: PeerError.
    """
    if not is_xml_stream(description):
        raise PeerError("not the description of an XML stream")
    if senders not in (None, "both"):
        # Each side has to answer the other's questions.
        raise PeerError("an XML stream goes in both directions", "feature-not-implemented")


def check_answer(description: Element | None, senders: str | None) -> None:
    """Whether an accept is of what was offered. Raises: PeerError."""
    if not is_xml_stream(description) or senders not in (None, "both"):
        raise PeerError("something else is accepted than was offered")
