"""The contact list and who is there, within bounds."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element

import pytest

from telepathy_e2e.xmpp import roster as module
from telepathy_e2e.xmpp.caps import Identity, Info
from telepathy_e2e.xmpp.roster import (
    MAX_RESOURCES,
    MAX_STATUS,
    MAX_STRANGERS,
    LastWords,
    Presences,
    Resource,
    Roster,
    RosterChange,
    RosterItem,
    best_of,
)

FRIEND = "friend@example.test"


def query(*items: str) -> Element:
    return XML(f"<query xmlns='jabber:iq:roster'>{''.join(items)}</query>")


def jids(changes: list[RosterChange]) -> list[str]:
    return [change.jid for change in changes]


def presence(sender: str, type: str = "", inside: str = "") -> Element:
    kind = f" type='{type}'" if type else ""
    return XML(f"<presence xmlns='jabber:client' from='{sender}'{kind}>{inside}</presence>")


def presences() -> Presences:
    return Presences(lambda jid: jid == FRIEND)


def test_items_come_change_and_go() -> None:
    roster = Roster()
    item = "<item jid='A@x/r' name='Al' subscription='both'><group>G</group><group>F</group></item>"
    assert jids(roster.push(query(item, "<item jid='b@x'/>"))) == ["a@x", "b@x"]
    assert roster.contacts["a@x"] == RosterItem("Al", "both", ("F", "G"))
    assert roster.contacts["b@x"] == RosterItem("", "none", ())
    assert roster.push(query(item)) == []
    before = roster.contacts["a@x"]
    gone = query("<item jid='a@x' subscription='remove'/>")
    assert roster.push(gone) == [RosterChange("a@x", before, None)]
    assert roster.push(gone) == []
    assert list(roster.contacts) == ["b@x"]


def test_items_that_are_none_are_left_out() -> None:
    roster = Roster()
    wrong = ("<item/>", "<item jid=''/>", "<item jid='@'/>", "<item jid='a@x' subscription='?'/>")
    assert roster.push(query(*wrong)) == []


def test_the_contact_list_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONTACTS", 2)
    roster = Roster()
    items = [f"<item jid='{n}@x'/>" for n in range(3)]
    assert jids(roster.push(query(*items))) == ["0@x", "1@x"]
    assert not roster.complete
    assert jids(roster.push(query("<item jid='0@x' name='still changes'/>"))) == ["0@x"]


def test_what_is_asked_and_approved_is_known() -> None:
    roster = Roster()
    roster.push(query("<item jid='a@x' ask='subscribe' approved='true' subscription='from'/>"))
    item = roster.contacts["a@x"]
    assert (item.asked, item.approved, item.sees_us, item.seen) == (True, True, True, False)


def test_a_list_is_taken_over_in_steps_and_what_is_not_in_it_goes() -> None:
    roster = Roster()
    roster.push(query("<item jid='old@x'/>", "<item jid='0@x' name='before'/>"))
    steps = roster.load(query(*(f"<item jid='{n}@x'/>" for n in range(5))), 2)
    assert [jids(step) for step in steps] == [["0@x", "1@x"], ["2@x", "3@x"], ["4@x"], ["old@x"]]
    assert sorted(roster.contacts) == [f"{n}@x" for n in range(5)]


def test_pushes_between_the_steps_are_newer_than_the_list() -> None:
    roster = Roster()
    steps = roster.load(query(*(f"<item jid='{n}@x' name='old'/>" for n in range(4))), 1)
    next(steps)
    roster.push(query("<item jid='2@x' subscription='remove'/>"))
    roster.push(query("<item jid='3@x' name='new'/>", "<item jid='more@x'/>"))
    list(steps)
    assert {jid: item.name for jid, item in roster.contacts.items()} == {
        "0@x": "old",
        "1@x": "old",
        "3@x": "new",
        "more@x": "",
    }


def test_a_list_written_down_is_the_same_list() -> None:
    roster, again = Roster(), Roster()
    inside = "<group>A</group><group>B &amp; C</group>"
    roster.push(
        query(f"<item jid='a@x' name='Al' subscription='to' ask='subscribe'>{inside}</item>")
    )
    roster.push(query("<item jid='b@x' approved='1'/>"))
    list(again.load(roster.element(), 10))
    assert again.contacts == roster.contacts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Resource("a@x/1", 5, "xa"), Resource("a@x/2", 4, "chat")),
        (Resource("a@x/1", 1, "chat"), Resource("a@x/2", 1, "")),
        (Resource("a@x/1", 1, ""), Resource("a@x/2", 1, "away")),
        (Resource("a@x/1", 0, "dnd"), Resource("a@x/2", -1, "")),
    ],
)
def test_the_program_that_speaks_for_a_contact(one: Resource, other: Resource) -> None:
    assert best_of([one, other]) == best_of([other, one]) == one
    assert best_of([]) is None


def test_last_words_are_kept_until_the_contact_is_back() -> None:
    known = presences()
    known.receive(presence(FRIEND + "/A"))
    known.receive(presence(FRIEND + "/A", "unavailable", "<status>Gone home</status>"))
    assert known.last_words(FRIEND) == LastWords("Gone home", False)
    known.receive(presence(FRIEND + "/A"))
    assert known.last_words(FRIEND) is None


def test_a_server_that_cannot_be_reached_is_an_error_of_the_contact() -> None:
    known = presences()
    inside = "<error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"  # noqa: E501
    assert known.receive(presence(FRIEND, "error", inside)) == FRIEND
    assert known.last_words(FRIEND) == LastWords("remote-server-not-found", True)


def test_last_words_have_a_bound_and_strangers_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LAST_WORDS", 2)
    known = Presences(lambda jid: jid.startswith("c"))
    for name in ("c1", "c2", "c3", "stranger"):
        known.receive(presence(f"{name}@x/r", "unavailable", "<status>bye</status>"))
    kept = [name for name in ("c1", "c2", "c3", "stranger") if known.last_words(f"{name}@x")]
    assert kept == ["c2", "c3"]


def test_contacts_whose_presence_is_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONTACTS", 2)
    monkeypatch.setattr(module, "MAX_STRANGERS", 1)
    known = Presences(lambda jid: True)
    for name in ("a", "b", "c", "d", "a"):
        known.receive(presence(f"{name}@x/r"))
    assert [name for name in "abcd" if known.resources(f"{name}@x")] == ["a", "b", "d"]


def test_who_turns_out_to_be_a_stranger_counts_as_one() -> None:
    contacts: set[str] | None = None
    known = Presences(lambda jid: contacts is None or jid in contacts)
    for n in range(MAX_STRANGERS + 2):
        known.receive(presence(f"s{n}@x/r"))
    assert known.resources("s0@x")
    contacts = {"s0@x"}
    known.settle()
    assert known.resources("s0@x")
    assert not known.resources("s1@x")
    assert known.resources(f"s{MAX_STRANGERS + 1}@x")


def test_presence_tells_how_and_gone() -> None:
    known = presences()
    inside = "<show>dnd</show><priority>5</priority><status>hm</status>"
    assert known.receive(presence(FRIEND + "/A", inside=inside)) == FRIEND + "/A"
    (resource,) = known.resources(FRIEND)
    assert (resource.show, resource.priority, resource.status) == ("dnd", 5, "hm")
    assert known.receive(presence(FRIEND + "/A", "unavailable")) == FRIEND + "/A"
    assert known.resources(FRIEND) == []
    assert known.receive(presence(FRIEND + "/A", "unavailable")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("x", 0), ("127", 127), ("128", 0), ("-128", -128), ("-129", 0), ("9" * 5000, 0)],
)
def test_priorities_out_of_range_are_none(text: str, expected: int) -> None:
    known = presences()
    known.receive(presence(FRIEND + "/A", inside=f"<priority>{text}</priority>"))
    assert known.resources(FRIEND)[0].priority == expected


def test_what_is_unknown_or_long_is_left_out() -> None:
    known = presences()
    inside = f"<show>asleep</show><status>{'s' * (MAX_STATUS + 1)}</status>"
    known.receive(presence(FRIEND + "/A", inside=inside))
    (resource,) = known.resources(FRIEND)
    assert (resource.show, len(resource.status)) == ("", MAX_STATUS)


@pytest.mark.parametrize("type", ["subscribe", "subscribed", "unsubscribed", "probe", "odd"])
def test_other_presence_changes_nothing(type: str) -> None:
    known = presences()
    assert known.receive(presence(FRIEND + "/A", type)) is None
    assert known.resources(FRIEND) == []


@pytest.mark.parametrize("sender", ["", "@", FRIEND])
def test_presence_of_nobody_is_ignored(sender: str) -> None:
    assert presences().receive(presence(sender)) is None


def test_a_contact_that_leaves_altogether_takes_all_resources() -> None:
    known = presences()
    known.receive(presence(FRIEND + "/A"))
    known.receive(presence(FRIEND + "/B"))
    assert known.receive(presence(FRIEND, "unavailable")) == FRIEND
    assert known.resources(FRIEND) == []


def test_resources_of_one_contact_have_a_bound() -> None:
    known = presences()
    for n in range(MAX_RESOURCES):
        assert known.receive(presence(f"{FRIEND}/{n}"))
    assert known.receive(presence(f"{FRIEND}/more")) is None
    assert known.receive(presence(f"{FRIEND}/0")) == f"{FRIEND}/0"
    assert len(known.resources(FRIEND)) == MAX_RESOURCES


def test_strangers_have_a_bound_and_push_out_no_contact() -> None:
    known = presences()
    known.receive(presence(FRIEND + "/A"))
    for n in range(MAX_STRANGERS + 1):
        known.receive(presence(f"s{n}@x/r"))
    assert known.resources("s0@x") == []
    assert known.resources("s1@x")
    assert known.resources(f"s{MAX_STRANGERS}@x")
    assert known.resources(FRIEND)


def test_a_stranger_who_becomes_a_contact_keeps_its_resources() -> None:
    contacts: set[str] = set()
    known = Presences(lambda jid: jid in contacts)
    known.receive(presence("s@x/1"))
    contacts.add("s@x")
    known.receive(presence("s@x/2"))
    for n in range(MAX_STRANGERS + 1):
        known.receive(presence(f"s{n}@x/r"))
    assert {each.jid for each in known.resources("s@x")} == {"s@x/1", "s@x/2"}
    contacts.clear()
    known.receive(presence("s@x/3"))
    assert len(known.resources("s@x")) == 3


def test_features_stay_with_a_resource_until_it_goes() -> None:
    known = presences()
    info = Info((Identity("client", "pc"),), frozenset({"urn:a"}))
    assert not known.learn(FRIEND + "/A", info)
    known.receive(presence(FRIEND + "/A"))
    assert known.resources(FRIEND)[0].features is None
    assert known.learn(FRIEND + "/A", info)
    assert not known.learn(FRIEND + "/A", info)
    known.receive(presence(FRIEND + "/A", inside="<show>away</show>"))
    assert known.resources(FRIEND)[0].features == frozenset({"urn:a"})
    known.receive(presence(FRIEND + "/A", "unavailable"))
    known.receive(presence(FRIEND + "/A"))
    assert known.resources(FRIEND)[0].features is None
