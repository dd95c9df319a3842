"""The block list."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import blocking as module
from telepathy_e2e.xmpp.blocking import BLOCK, UNBLOCK, BlockChange, Blocked, build


def payload(name: str, *jids: str) -> Element:
    items = "".join(f"<item jid='{jid}'/>" for jid in jids)
    return XML(f"<{name} xmlns='urn:xmpp:blocking'>{items}</{name}>")


def test_a_list_is_taken_over_and_only_the_difference_is_news() -> None:
    blocked = Blocked()
    assert set(blocked.load(payload("blocklist", "A@x", "x.test")).blocked) == {"a@x", "x.test"}
    change = blocked.load(payload("blocklist", "a@x", "b@x"))
    assert change == BlockChange(("b@x",), ("x.test",))
    assert {*blocked} == {"a@x", "b@x"}
    assert set(blocked.load(None).unblocked) == {"a@x", "b@x"}


def test_pushes_block_and_unblock() -> None:
    blocked = Blocked()
    assert blocked.push(payload("block", "a@x", "b@x", "a@x")) == BlockChange(("a@x", "b@x"))
    assert blocked.push(payload("block", "a@x")) == BlockChange()
    assert blocked.push(payload("unblock", "a@x", "c@x")) == BlockChange((), ("a@x",))
    assert "a@x" not in blocked
    assert "b@x" in blocked


def test_an_empty_unblock_is_for_all_and_an_empty_block_for_nobody() -> None:
    blocked = Blocked()
    blocked.push(payload("block", "a@x"))
    with pytest.raises(PeerError):
        blocked.push(payload("block"))
    assert blocked.push(payload("unblock")) == BlockChange((), ("a@x",))


def test_unblocking_somebody_who_is_none_does_not_unblock_all() -> None:
    blocked = Blocked()
    blocked.push(payload("block", "a@x"))
    assert blocked.push(payload("unblock", "@")) == BlockChange()
    assert "a@x" in blocked


def test_one_program_of_a_contact_is_not_the_contact() -> None:
    blocked = Blocked()
    assert blocked.push(payload("block", "a@x/phone")) == BlockChange()


def test_nobody_is_unblocked_by_mistake() -> None:
    assert [each.get("jid") for each in build(UNBLOCK, ["a@x"])] == ["a@x"]
    with pytest.raises(ValueError, match="nobody"):
        build(UNBLOCK, [])


def test_the_list_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BLOCKED", 2)
    blocked = Blocked()
    blocked.push(payload("block", "a@x", "b@x", "c@x"))
    assert {*blocked} == {"a@x", "b@x"}
    blocked.load(payload("blocklist", "1@x", "2@x", "3@x"))
    assert {*blocked} == {"1@x", "2@x"}


@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from([BLOCK, UNBLOCK]))
def test_nothing_from_a_server_raises_anything_but_peer_errors(jids: list[str], tag: str) -> None:
    element = Element(tag)
    for jid in jids:
        element.append(Element(module.ITEM, jid=jid))
    blocked = Blocked()
    try:
        blocked.push(element)
    except PeerError:
        assert not jids
    blocked.load(element)
