"""What people call themselves, within bounds."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.xmpp import nick as module
from telepathy_e2e.xmpp.nick import MAX_NICK, Nicks, build, parse


def presence(text: str) -> Element:
    return XML(
        f"<presence xmlns='jabber:client'><nick xmlns='{module.NICK}'>{text}</nick></presence>"
    )


def test_a_name_is_read_from_where_it_stands() -> None:
    assert parse(presence("Ishmael")) == parse(presence("Ishmael")[0]) == "Ishmael"
    assert parse(None) == parse(Element("x")) == parse(build("")) == ""
    assert parse(build("Ishmael")) == "Ishmael"


@given(st.text(max_size=3 * MAX_NICK))
def test_a_name_is_one_printable_line_of_some_length(text: str) -> None:
    element = build(text)
    name = parse(element)
    assert len(name) <= MAX_NICK
    assert name == name.strip()
    assert name.isprintable()


def test_the_last_name_counts_and_news_are_told() -> None:
    nicks = Nicks(lambda jid: True)
    assert nicks.learn("a@x", "A")
    assert not nicks.learn("a@x", "A")
    assert nicks.learn("a@x", "B")
    assert nicks.get("a@x") == "B"
    assert nicks.learn("a@x", "")
    assert nicks.get("a@x") == ""


def test_names_have_bounds_and_strangers_push_out_no_contact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_NICKS", 2)
    monkeypatch.setattr(module, "MAX_STRANGERS", 3)
    nicks = Nicks(lambda jid: jid.startswith("c"))
    for jid in ("c1", "c2", "c3", "s1", "s2", "s3", "s4"):
        nicks.learn(jid, "name")
    kept = [jid for jid in ("c1", "c2", "c3", "s1", "s2", "s3", "s4") if nicks.get(jid)]
    assert kept == ["c2", "c3", "s2", "s3", "s4"]


def test_a_stranger_who_becomes_a_contact_has_one_name() -> None:
    contacts: set[str] = set()
    nicks = Nicks(lambda jid: jid in contacts)
    nicks.learn("a@x", "stranger")
    contacts.add("a@x")
    nicks.learn("a@x", "contact")
    nicks.learn("a@x", "")
    assert nicks.get("a@x") == ""
