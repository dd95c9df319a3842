"""Names on the bus that are made from accounts."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.bus.identifiers import MAX_NAME, connection_names, escape


def test_escaping_is_that_of_telepathy_glib() -> None:
    assert escape("alice@example.test/x") == "alice_40example_2etest_2fx"
    assert escape("1and1") == "_31and1"
    assert escape("a_b") == "a_5fb"
    assert escape("") == "_"
    assert escape("é") == "_c3_a9"


def test_a_connection_is_named_by_protocol_account_and_resource() -> None:
    assert connection_names("jabber", "alice@example.test", "") == (
        "org.freedesktop.Telepathy.Connection.e2e.jabber.alice_40example_2etest",
        "/org/freedesktop/Telepathy/Connection/e2e/jabber/alice_40example_2etest",
    )
    with_resource = connection_names("local-xmpp", "a@b", "home")
    assert with_resource[0] == "org.freedesktop.Telepathy.Connection.e2e.local_xmpp.a_40b_2fhome"


def test_a_long_account_still_has_a_valid_name_of_its_own() -> None:
    longest = ["a" * 158 + "@b.example", "a" * 300 + "@b.example", "a" * 301 + "@b.example"]
    found = [connection_names("jabber", account, "")[0] for account in longest]
    assert len(set(found)) == 3
    assert all(len(name) <= MAX_NAME for name in found)
    room = MAX_NAME - len("org.freedesktop.Telepathy.Connection.e2e.jabber.")
    fits, over = "a" * room, "a" * (room + 1)
    assert connection_names("jabber", fits, "")[0].endswith(fits)
    assert "_z" in connection_names("jabber", over, "")[0]


@given(st.text(), st.text())
def test_names_are_valid_and_differ_as_their_accounts_do(one: str, other: str) -> None:
    for text in (one, other):
        if not text.isascii():
            text = text.encode("utf-8", "ignore").decode()
        name, path = connection_names("jabber", text, "")
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.rpartition(".")[2])
        assert len(name) <= MAX_NAME
        assert path == "/" + name.replace(".", "/")
    try:
        same = escape(one) == escape(other)
    except UnicodeEncodeError:
        return
    assert same is (one == other)
