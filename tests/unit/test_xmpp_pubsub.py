"""Publish-subscribe: what is asked, and what others say."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import pubsub
from telepathy_e2e.xmpp.markup import serialise

NODE = "urn:example:mood"


def event(inner: str) -> Element:
    return fromstring(f"<event xmlns='{pubsub.EVENT}'>{inner}</event>")  # noqa: S314


def answer(inner: str) -> Element:
    return fromstring(f"<pubsub xmlns='{pubsub.PUBSUB}'>{inner}</pubsub>")  # noqa: S314


def test_publishing_names_node_item_and_options() -> None:
    query = pubsub.publish(NODE, "one", Element("{urn:x}mood"), {"pubsub#access_model": "open"})
    assert serialise(query).decode() == (
        f'<pubsub xmlns="{pubsub.PUBSUB}"><publish node="{NODE}"><item id="one">'
        '<mood xmlns="urn:x"/></item></publish><publish-options>'
        '<x xmlns="jabber:x:data" type="submit">'
        '<field var="FORM_TYPE" type="hidden">'
        f"<value>{pubsub.PUBLISH_OPTIONS}</value></field>"
        '<field var="pubsub#access_model"><value>open</value></field>'
        "</x></publish-options></pubsub>"
    )


def test_without_options_the_node_keeps_its_own() -> None:
    query = pubsub.publish(NODE, None, Element("{urn:x}mood"), {})
    assert query.find(f"{{{pubsub.PUBSUB}}}publish-options") is None
    assert query[0][0].get("id") is None


def test_items_are_asked_for_by_id_or_by_number() -> None:
    assert pubsub.items(NODE, "one", 5)[0][0].get("id") == "one"
    assert pubsub.items(NODE, "one", 5)[0].get("max_items") is None
    assert pubsub.items(NODE, None, 5)[0].get("max_items") == "5"


def test_a_retraction_is_told_to_subscribers() -> None:
    query = pubsub.retract(NODE, "one")
    assert (query[0].get("notify"), query[0][0].get("id")) == ("true", "one")


def test_an_event_has_items_that_came_and_went() -> None:
    found = pubsub.parse_event(
        event(
            f"<items node='{NODE}'><item id='1'><m xmlns='urn:x'/></item><retract id='0'/></items>"
        )
    )
    assert found is not None
    assert found.node == NODE
    assert [(each.id, each.retracted) for each in found.items] == [("1", False), ("0", True)]
    assert found.items[0].payload is not None
    assert not found.emptied


@pytest.mark.parametrize("what", ["purge", "delete"])
def test_an_event_may_empty_a_node(what: str) -> None:
    found = pubsub.parse_event(event(f"<{what} node='{NODE}'/>"))
    assert found == pubsub.NodeEvent(NODE, (), emptied=True)


def test_other_events_are_none_of_ours() -> None:
    assert pubsub.parse_event(event("<configuration/><x xmlns='urn:y'/>")) is None


def test_an_event_without_a_node_is_an_error() -> None:
    for inner in ("<items/>", f"<items node='{'n' * (pubsub.MAX_NAME + 1)}'/>"):
        with pytest.raises(PeerError):
            pubsub.parse_event(event(inner))


def test_items_are_bounded() -> None:
    most = "<item/>" * pubsub.MAX_ITEMS
    found = pubsub.parse_event(event(f"<items node='n'>{most}</items>"))
    assert found is not None
    assert len(found.items) == pubsub.MAX_ITEMS
    with pytest.raises(PeerError):
        pubsub.parse_event(event(f"<items node='n'>{most}<item/></items>"))
    with pytest.raises(PeerError):
        pubsub.parse_event(
            event(f"<items node='n'><item id='{'i' * (pubsub.MAX_NAME + 1)}'/></items>")
        )


def test_an_answer_must_be_that_of_the_node_asked() -> None:
    inner = f"<items node='{NODE}'><item id='1'><m xmlns='urn:x'/></item></items>"
    assert [each.id for each in pubsub.parse_items(answer(inner), NODE)] == ["1"]
    for wrong in (answer(inner.replace(NODE, "other")), answer(""), None, event(inner)):
        with pytest.raises(PeerError):
            pubsub.parse_items(wrong, NODE)


names = st.sampled_from(["items", "item", "retract", "purge", "delete", "event", "x"])
spaces = st.sampled_from([pubsub.EVENT, pubsub.PUBSUB, "urn:x"])


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Element:
    element = Element(
        f"{{{draw(spaces)}}}{draw(names)}",
        draw(st.dictionaries(st.sampled_from(["node", "id"]), st.text(max_size=3), max_size=2)),
    )
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        element.append(draw(trees(depth - 1)))
    return element


@given(trees())
def test_nothing_that_a_server_sends_raises_anything_but_a_peer_error(tree: Element) -> None:
    root = Element(pubsub.EVENT_TAG)
    root.append(tree)
    query = Element(pubsub.QUERY)
    SubElement(query, "x")
    query.append(tree)
    for parse in (lambda: pubsub.parse_event(root), lambda: pubsub.parse_items(query, "n")):
        try:
            parse()
        except PeerError:
            pass
