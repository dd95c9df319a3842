"""Message stanzas, parsed and built."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import messages
from telepathy_e2e.xmpp.markup import serialise
from telepathy_e2e.xmpp.messages import Delay, Failure, Message, build, carbon, parse

ALICE, BOB = "alice@example.test", "bob@example.test"


def xml(children: str, attributes: str = "type='chat'") -> Element:
    text = f"<message xmlns='jabber:client' {attributes}>{children}</message>"
    return ET.fromstring(text)  # noqa: S314, ours


FULL = Message(
    from_=BOB + "/phone",
    to=ALICE,
    type="chat",
    id="i1",
    origin_id="o1",
    stanza_ids=(("s1", ALICE),),
    body="Hello\r\n\tthere <&>",
    subject="About",
    thread="t1",
    delays=(Delay(datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC), "example.test"),),
    state="composing",
    wants_receipt=True,
    replaces="i0",
    failure=None,
    hints=frozenset({"no-store", "no-copy"}),
    nick="Bobby",
    links=("https://example.test/cat",),
)


def test_what_was_built_is_parsed_as_the_same() -> None:
    assert parse(ET.fromstring(serialise(build(FULL), ""))) == FULL  # noqa: S314


def test_a_receipt_asks_for_none() -> None:
    """XEP-0184 section 5.5: or two programs would never stop."""
    message = Message(to=BOB, receipt="i1", wants_receipt=True)
    assert parse(build(message)).wants_receipt is False
    both = "<received xmlns='urn:xmpp:receipts' id='a'/><request xmlns='urn:xmpp:receipts'/>"
    assert parse(xml(both)) == Message(type="chat", receipt="a")


def test_an_error_says_why() -> None:
    message = Message(type="error", id="1", failure=Failure("item-not-found", "No Bob", "cancel"))
    assert parse(build(message)) == message


def test_an_unknown_type_is_normal() -> None:
    assert parse(xml("", "type='shout'")).type == "normal"


def test_of_several_languages_the_one_without_a_name_counts() -> None:
    stanza = xml("<body xml:lang='de'>Hallo</body><body>Hello</body>")
    assert parse(stanza).body == "Hello"
    assert parse(xml("<body xml:lang='de'>Hallo</body><body xml:lang='fr'/>")).body == "Hallo"


def test_an_empty_body_is_one_and_none_is_none() -> None:
    assert parse(xml("<body/>")).body == ""
    assert parse(xml("")).body is None


def test_delays_of_the_old_kind_and_broken_ones_are_ignored() -> None:
    stanza = xml(
        "<x xmlns='jabber:x:delay' stamp='20260203T04:05:06'/>"
        "<delay xmlns='urn:xmpp:delay' stamp='yesterday'/>"
        "<delay xmlns='urn:xmpp:delay' stamp='2026-02-03T04:05:06'/>"
        "<delay xmlns='urn:xmpp:delay' stamp='0001-01-01T00:00:00+14:00'/>"
    )
    assert parse(stanza).delays == ()


def test_a_delay_is_believed_by_who_says_it() -> None:
    stanza = xml(
        "<delay xmlns='urn:xmpp:delay' from='eve@example.test' stamp='2000-01-01T00:00:00Z'/>"
        "<delay xmlns='urn:xmpp:delay' from='example.test' stamp='2026-02-03T05:05:06.7+01:00'/>"
    )
    message = parse(stanza)
    assert message.delayed_by("example.test") == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert message.delayed_by("elsewhere.test") is None
    assert message.delayed_by() == datetime(2000, 1, 1, tzinfo=UTC)


def test_two_states_at_once_are_none() -> None:
    both = f"<active xmlns='{messages.CHAT_STATES}'/><composing xmlns='{messages.CHAT_STATES}'/>"
    assert parse(xml(both)).state == ""


def test_an_id_that_is_too_long_is_none() -> None:
    fits = "a" * messages.MAX_ID
    assert parse(xml("", f"id='{fits}'")).id == fits
    assert parse(xml("", f"id='{fits}a'")).id == ""


def test_of_each_kind_only_so_many_count() -> None:
    delay = "<delay xmlns='urn:xmpp:delay' stamp='2026-02-03T04:05:06Z'/>"
    ids = "<stanza-id xmlns='urn:xmpp:sid:0' id='a' by='example.test'/>"
    links = "<x xmlns='jabber:x:oob'><url>https://example.test</url></x>"
    message = parse(xml(delay * 50 + ids * 50 + links * 50))
    assert len(message.delays) == messages.MAX_DELAYS
    assert len(message.stanza_ids) == messages.MAX_STANZA_IDS
    assert len(message.links) == messages.MAX_LINKS


@pytest.mark.parametrize("address", ["@", "a@b@/", "bob@example.test/\x07"])
def test_an_address_that_is_none_is_the_senders_fault(address: str) -> None:
    stanza = xml("")
    stanza.set("from", address)
    with pytest.raises(PeerError):
        parse(stanza)


# -- carbons --------------------------------------------------------------------------------


def copy(direction: str, from_: str | None, inner: Message) -> Element:
    wrapper = Element(f"{{{messages.CARBONS}}}{direction}")
    forwarded = Element(f"{{{messages.FORWARD}}}forwarded")
    forwarded.append(build(inner))
    wrapper.append(forwarded)
    stanza = build(Message(to=ALICE + "/desk", type="chat", from_=from_ or ""))
    stanza.append(wrapper)
    return stanza


FROM_BOB = Message(from_=BOB + "/a", to=ALICE + "/phone", type="chat", body="Hi")
TO_BOB = Message(from_=ALICE + "/phone", to=BOB, type="chat", body="Hi yourself")


def test_copies_from_our_own_account_are_taken() -> None:
    received = carbon(copy("received", ALICE, FROM_BOB), ALICE)
    sent = carbon(copy("sent", ALICE, TO_BOB), ALICE)
    assert received == messages.Carbon("received", FROM_BOB)
    assert sent == messages.Carbon("sent", TO_BOB)
    assert carbon(build(FROM_BOB), ALICE) is None


@pytest.mark.parametrize(
    "from_", [None, BOB, "mallory@example.test/x", ALICE + "/phone", "example.test"]
)
@pytest.mark.parametrize("direction", ["received", "sent"])
def test_nobody_else_may_send_us_copies(from_: str | None, direction: str) -> None:
    """CVE-2017-5589."""
    inner = FROM_BOB if direction == "received" else TO_BOB
    with pytest.raises(PeerError):
        carbon(copy(direction, from_, inner), ALICE)


def test_copies_of_what_is_not_ours_are_refused() -> None:
    for direction, inner in (("sent", FROM_BOB), ("received", TO_BOB)):
        with pytest.raises(PeerError):
            carbon(copy(direction, ALICE, inner), ALICE)
    empty = build(Message(from_=ALICE))
    empty.append(Element(f"{{{messages.CARBONS}}}received"))
    with pytest.raises(PeerError):
        carbon(empty, ALICE)


_TAGS = st.sampled_from(
    [
        f"{{{space}}}{name}"
        for space, names in {
            messages.CHAT_STATES: ("active", "gone"),
            messages.RECEIPTS: ("request", "received"),
            messages.DELAY: ("delay",),
            messages.CARBONS: ("sent", "received"),
            messages.FORWARD: ("forwarded",),
            messages.CORRECTION: ("replace",),
            messages.IDS: ("origin-id", "stanza-id"),
            messages.OOB: ("x", "url"),
            "jabber:client": ("body", "subject", "thread", "error", "message"),
        }.items()
        for name in names
    ]
)
_VALUES = st.one_of(st.sampled_from([ALICE, BOB + "/x", "error", "chat"]), st.text(max_size=30))
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(["id", "from", "to", "by", "stamp", "type"]), _VALUES, max_size=5
)


@st.composite
def _elements(draw: st.DrawFn, tag: str | None = None, depth: int = 3) -> Element:
    element = Element(tag or draw(_TAGS), draw(_ATTRIBUTES))
    element.text = draw(st.none() | st.text(max_size=10))
    if depth:
        element.extend(draw(st.lists(_elements(depth=depth - 1), max_size=4)))
    return element


@given(_elements(tag=messages.MESSAGE))
def test_no_stanza_raises_anything_but_a_peer_error(stanza: Element) -> None:
    for parser in (parse, lambda each: carbon(each, ALICE)):
        try:
            parser(stanza)
        except PeerError:
            continue
