"""Contents that share one transport (XEP-0338, ``BUNDLE``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError

from .reading import identifier
from .stanzas import MAX_CONTENTS

GROUPING_NS: Final = "urn:xmpp:jingle:apps:grouping:0"
BUNDLE: Final = "BUNDLE"

_GROUP: Final = f"{{{GROUPING_NS}}}group"
_CONTENT: Final = f"{{{GROUPING_NS}}}content"


def parse_group(payload: Iterable[Element]) -> tuple[str, ...]:
    """The names of the contents that are bundled, in the order given; empty without a bundle.

    Groups of other semantics (``LS``) are left out.

    Args:
        payload: what came beside the contents.
    Raises:
        PeerError: two bundles, too many names, a name twice, or none.
    """
    groups = [
        element
        for element in payload
        if element.tag == _GROUP and element.get("semantics") == BUNDLE
    ]
    if not groups:
        return ()
    if len(groups) > 1:
        # SDP may have several; a name in two of them would have two transports.
        raise PeerError("two bundles", "feature-not-implemented")
    found = [child for child in groups[0] if child.tag == _CONTENT]
    if len(found) > MAX_CONTENTS:
        raise PeerError("too many contents in a bundle")
    names = tuple(identifier(child.get("name"), "name of a content") for child in found)
    if len(set(names)) != len(names):
        raise PeerError("a content is twice in a bundle")
    return names


def build_group(names: Iterable[str]) -> Element:
    """The ``<group/>`` to send beside the contents."""
    element = Element(_GROUP, {"semantics": BUNDLE})
    for name in names:
        SubElement(element, _CONTENT, {"name": name})
    return element
