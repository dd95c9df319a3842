"""Lines of the log about stanzas: enough to follow what happens, and nothing of what is said."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

from telepathy_e2e.xmpp.trace import MAX_CHILDREN, MAX_TEXT, Shown


def shown(text: str) -> str:
    return str(Shown(fromstring(text)))  # noqa: S314, written here


def test_kind_addresses_and_the_names_of_children_are_shown() -> None:
    assert (
        shown("<iq xmlns='jabber:client' type='set' id='1' to='a@b'><query xmlns='x:y'/></iq>")
        == "iq type=set id=1 to=a@b <query x:y/>"
    )


def test_texts_and_other_attributes_are_not() -> None:
    message = (
        "<message xmlns='jabber:client' secret='attribute'><body secret='attribute'>secret</body>"
        "<x xmlns='y'><deep>secret</deep></x></message>"
    )
    assert shown(message) == "message <body/> <x y/>"
    assert "c2VjcmV0" not in shown("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>c2VjcmV0</auth>")


def test_what_others_choose_is_cut() -> None:
    line = shown(f"<{'n' * 500} type='{'t' * 500}'>{'<c/>' * 100}</{'n' * 500}>")
    assert len(line) < 3 * MAX_TEXT
    assert line.count("<c/>") == MAX_CHILDREN
    assert line.endswith("<.../>")
