"""Publish-subscribe as personal eventing uses it (XEP-0060, XEP-0163). Pure, and bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError

PUBSUB: Final = "http://jabber.org/protocol/pubsub"
EVENT: Final = PUBSUB + "#event"
PUBLISH_OPTIONS: Final = PUBSUB + "#publish-options"
DATA: Final = "jabber:x:data"

QUERY: Final = f"{{{PUBSUB}}}pubsub"
EVENT_TAG: Final = f"{{{EVENT}}}event"

# Items of one event or answer that are looked at. Nodes of personal eventing have one.
MAX_ITEMS: Final = 64
# Characters of a node or of an item's id: both are namespaces, hashes or words.
MAX_NAME: Final = 1024

Access = Literal["presence", "open", "whitelist"]


@dataclass(frozen=True)
class Item:
    """One item of a node; ``payload`` is None if it was retracted, or has none."""

    id: str
    payload: Element | None
    retracted: bool = False


@dataclass(frozen=True)
class NodeEvent:
    """What happened to a node: items came and went, or (``emptied``) all are gone."""

    node: str
    items: Sequence[Item]
    emptied: bool = False


# -- what we ask ----------------------------------------------------------------------------


def publish(
    node: str, item_id: str | None, payload: Element, options: Mapping[str, str]
) -> Element:
    """``<pubsub/>`` that publishes one item (XEP-0060 section 7.1).

    Args:
        item_id: None lets the service choose.
        options: fields of the node's configuration that must hold, such as
            ``{"pubsub#access_model": "presence"}`` (section 7.1.5); empty for whatever it is.
    """
    query = Element(QUERY)
    item = SubElement(
        SubElement(query, f"{{{PUBSUB}}}publish", node=node),
        f"{{{PUBSUB}}}item",
        {} if item_id is None else {"id": item_id},
    )
    item.append(payload)
    if options:
        form = SubElement(
            SubElement(query, f"{{{PUBSUB}}}publish-options"), f"{{{DATA}}}x", type="submit"
        )
        _field(form, "FORM_TYPE", PUBLISH_OPTIONS).set("type", "hidden")
        for name, value in options.items():
            _field(form, name, value)
    return query


def retract(node: str, item_id: str) -> Element:
    """``<pubsub/>`` that takes an item back, and lets subscribers know (section 7.2)."""
    query = Element(QUERY)
    container = SubElement(query, f"{{{PUBSUB}}}retract", node=node, notify="true")
    SubElement(container, f"{{{PUBSUB}}}item", id=item_id)
    return query


def items(node: str, item_id: str | None = None, most: int | None = None) -> Element:
    """``<pubsub/>`` that asks for items (section 6.5).

    Args:
        item_id: only this one.
        most: only so many, the newest.
    """
    query = Element(QUERY)
    container = SubElement(query, f"{{{PUBSUB}}}items", node=node)
    if item_id is not None:
        SubElement(container, f"{{{PUBSUB}}}item", id=item_id)
    elif most is not None:
        container.set("max_items", str(most))
    return query


def _field(form: Element, name: str, value: str) -> Element:
    field = SubElement(form, f"{{{DATA}}}field", var=name)
    SubElement(field, f"{{{DATA}}}value").text = value
    return field


# -- what others say ------------------------------------------------------------------------


def parse_items(query: Element | None, node: str) -> list[Item]:
    """The answer to ``items``.

    Raises:
        PeerError: it is none, or that of another node.
    """
    container = query.find(f"{{{PUBSUB}}}items") if query is not None else None
    if query is None or query.tag != QUERY or container is None or container.get("node") != node:
        raise PeerError("this is not the answer to a question for items", "bad-request")
    return _items(container, PUBSUB)


def parse_event(event: Element) -> NodeEvent | None:
    """The ``<event/>`` of a message; None if it is about nothing that we look at.

    Raises:
        PeerError: it makes no sense.
    """
    for child in event:
        space, _, name = child.tag.rpartition("}")
        if space != "{" + EVENT or name not in ("items", "purge", "delete"):
            continue
        node = child.get("node", "")
        if not 0 < len(node) <= MAX_NAME:
            raise PeerError("an event without a node, or with a very long one", "bad-request")
        if name == "items":
            return NodeEvent(node, _items(child, EVENT))
        return NodeEvent(node, (), emptied=True)
    return None


def _items(container: Element, space: str) -> list[Item]:
    found: list[Item] = []
    for child in container:
        id = child.get("id", "")
        if len(id) > MAX_NAME:
            raise PeerError("an item with a very long id", "bad-request")
        if child.tag == f"{{{space}}}item":
            found.append(Item(id, next(iter(child), None)))
        elif child.tag == f"{{{space}}}retract":
            found.append(Item(id, None, retracted=True))
        if len(found) > MAX_ITEMS:
            raise PeerError("too many items", "policy-violation")
    return found
