"""No bytes of a peer make his XML stream say anything in another name, or raise but PeerError.

Real streams are broken, cut and joined, and given to one side whole and in pieces: as long as they
are right it is told the same, and whatever comes out of any of them is a stanza of the peer's.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring, tostring

from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import Disconnected, InvalidArgument, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.xmpp.markup import serialise
from telepathy_e2e.xmpp.parser import StreamParser
from telepathy_e2e.xmpp.peer_stream import (
    MAX_STANZA,
    Event,
    PeerClosed,
    PeerFailed,
    PeerOpened,
    PeerStream,
    Received,
)
from telepathy_e2e.xtls.published import (
    MAX_IDENTITIES,
    build_identities,
    parse_identities,
    parse_published,
)

from .support import CUTS, budget, mutated_bytes, mutated_element, pieces

VECTORS = Path(__file__).parents[1] / "vectors"

OWN, PEER = "alice@example.test/a", "bob@example.test/b"
ROLES = st.sampled_from(list(Role))

HEADER = (
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"from='bob@example.test/b' to='alice@example.test/a' version='1.0'>"
)
STANZAS = (
    b"<message from='bob@example.test/b' to='alice@example.test'><body>Hi &amp;</body></message>",
    b"<message from='carol@example.test/c'><body>Hi</body></message>",
    b"<message from='bob@example.test'/>",
    b"<presence type='unavailable'/>",
    b"<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='e@x'/></query></iq>",
    b"<iq type='result' id='1' from='bob@example.test/b'/>",
    b"<stream:features><a/></stream:features>",
    b"<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    b"<x:message xmlns:x='jabber:client' to='alice@example.test/a'><x:body/></x:message>",
    b"</stream:stream>",
)
BYTES = st.lists(
    st.sampled_from(STANZAS) | mutated_bytes((*STANZAS, HEADER)) | st.binary(max_size=20),
    max_size=8,
).map(b"".join)
HEADERS = st.sampled_from((HEADER, b"<?xml version='1.0'?>" + HEADER)) | mutated_bytes((HEADER,))


def told(role: Role, parts: list[bytes]) -> tuple[list[Event], str]:
    """What came out, and the condition with which it ended, if it did."""
    stream = PeerStream(role, OWN, PEER)
    stream.start()
    events: list[Event] = []
    condition = ""
    for part in parts:
        try:
            events += stream.receive_data(part)
        except PeerError as error:
            condition = error.condition
            assert stream.over
    said = stream.data_to_send()
    # Whatever we said is a stream, and says why it ended.
    StreamParser().feed(said)
    if condition:
        assert said.endswith(b"</stream:stream>")
        assert condition.encode() in said
    if stream.over:
        assert stream.receive_data(b"<message/>") == []
    return events, condition


def shown(events: list[Event]) -> list[object]:
    return [tostring(each.stanza) if isinstance(each, Received) else each for each in events]


@budget(2)
@given(ROLES, HEADERS, BYTES, CUTS)
def test_whatever_comes_out_is_the_peers_and_his_alone(
    role: Role, header: bytes, data: bytes, cuts: list[int]
) -> None:
    whole, whole_condition = told(role, [header + data])
    cut, cut_condition = told(role, pieces(header + data, cuts))
    # In pieces it may be seen later that something is wrong; it never says other things.
    one, other = shown(whole), shown(cut)
    assert one == other[: len(one)] or other == one[: len(other)]
    assert whole_condition or cut_condition or one == other
    check(whole)
    check(cut)


def check(events: list[Event]) -> None:
    for place, event in enumerate(events):
        assert isinstance(event, PeerOpened) is (place == 0)
        if isinstance(event, Received):
            assert (event.stanza.get("from"), event.stanza.get("to")) == (PEER, OWN)
            assert event.stanza.tag.startswith("{jabber:client}")
        if isinstance(event, PeerClosed | PeerFailed):
            assert event is events[-1]


_STANZA = Element("{jabber:client}iq", {"type": "get", "id": "1", "to": PEER})
_STANZA.append(Element("{urn:xmpp:ping}ping"))


@budget(1)
@given(mutated_element([_STANZA]))
def test_what_is_sent_arrives_whole(stanza: Element) -> None:
    ours, theirs = PeerStream(Role.INITIATOR, OWN, PEER), PeerStream(Role.RESPONDER, PEER, OWN)
    ours.start()
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    try:
        ours.send(stanza)
    except InvalidArgument:
        return
    except Disconnected as error:  # pragma: no cover - it is open
        raise AssertionError from error
    try:
        (event,) = theirs.receive_data(ours.data_to_send())
    except PeerError as error:
        # Too deep, or in namespaces that XML keeps for itself: nobody here makes such stanzas.
        assert error.condition in ("policy-violation", "not-well-formed")  # noqa: PT017
        return
    assert isinstance(event, Received)
    assert event.stanza.tag == stanza.tag
    assert len(event.stanza) == len(stanza)


_PUBLISHED = [
    parse_published(fromstring(each["xml"]))  # noqa: S314 - ours
    for each in json.loads((VECTORS / "identity-node.json").read_text())["items"]
]


@budget(1)
@given(mutated_element([build_identities(_PUBLISHED)]))
def test_what_a_contact_tells_of_his_devices_is_read_or_refused(element: Element) -> None:
    try:
        found = parse_identities(element)
    except PeerError:
        return
    assert len(found) <= MAX_IDENTITIES
    answer = build_identities(found)
    # Characters that XML cannot carry do not come out of a parser either.
    with suppress(ValueError):
        assert len(serialise(answer)) < MAX_STANZA - 1024
    again = parse_identities(answer)
    assert [each.identity for each in again] == [each.identity for each in found]
