"""Whatever a peer writes, no parser of ours raises anything but ``PeerError``.

The input is what real clients sent and what we build ourselves, with children dropped, doubled,
reordered and nested, and with attributes, texts and namespaces replaced: nearly right is what gets
past the first check. Every element of it goes to every parser, the wrong ones included, since a
peer chooses what it puts where. What a parser lets through must be fit for what is done with it
next: building it again, digesting it, showing it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from xml.etree.ElementTree import Element, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import candidates, files, ibb, stanzas
from telepathy_e2e.jingle.names import safe_name
from telepathy_e2e.jingle.reading import MAX_IDENTIFIER
from telepathy_e2e.jingle.s5b import Socks5Negotiation
from telepathy_e2e.jingle.session import Session
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages
from telepathy_e2e.verify.messages import CancelReason, build_cancel, build_verdict
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.encoding import from_xml
from telepathy_e2e.xtls.hello import Attestation, Hello, build_hello, parse_hello
from telepathy_e2e.xtls.offer import build_security, parse_security
from telepathy_e2e.xtls.sealed import Opener, Sealer, parse_sealed
from tests.unit.jingle_support import ALICE, BOB, active

from .support import STANZAS, budget, mutated_element

KEY = bytes(32)

# What the encrypted part of a session says.
HELLO = build_hello(
    Hello(
        bytes(400),
        bytes(32),
        bytes(32),
        methods=("sas",),
        attestations=(Attestation("openpgp", "signed by Carol", bytes(40)),),
    )
)
VERIFICATION = (
    HELLO,
    *(
        messages.build(name, "1", bytes(32))
        for name in ("sas-commit", "sas-nonce", "sas-reveal", "pake-start", "unknown")
    ),
    messages.build("sas-result", "1", match="true"),
    build_cancel("1", CancelReason.REFUSED),
    build_verdict("verified", "sas"),
)
SEALED = tuple(Sealer(KEY, "sid1", Role.INITIATOR).seal(each) for each in VERIFICATION)

ORIGINALS = (*STANZAS, build_security(b"leaf", ("sha-256", "sha-512")), *VERIFICATION, *SEALED)


def _jingle(element: Element) -> None:
    jingle = stanzas.parse(element)
    stanzas.build(jingle)
    assert 0 < len(jingle.sid) <= MAX_IDENTIFIER
    assert len(jingle.contents) <= stanzas.MAX_CONTENTS
    assert len(jingle.payload) <= stanzas.MAX_PAYLOAD
    with suppress(UnicodeEncodeError):  # half a character cannot come over the wire
        offer_digest(jingle.contents)
    for session in (
        Session(Role.RESPONDER, ALICE, BOB, jingle.sid),
        Session(Role.INITIATOR, ALICE, BOB, jingle.sid),
    ):
        with suppress(PeerError):
            session.receive(jingle)


def _file(element: Element) -> None:
    offer = files.parse(element)
    assert offer.size is None or 0 <= offer.size <= files.MAX_SIZE
    if offer.range is not None:
        assert 0 <= offer.range.offset + (offer.range.length or 0) <= files.MAX_SIZE
    # Of texts only what XML can carry comes back.
    again = files.parse(files.build(offer))
    assert replace(again, name=None, description=None) == replace(
        offer, name=None, description=None
    )
    safe_name(offer.name or "")


def _candidates(element: Element) -> None:
    transport = candidates.parse(element)
    candidates.build(transport)
    assert len(transport.candidates) <= candidates.MAX_CANDIDATES
    for each in transport.candidates:
        candidates.place(each)
    for receive in ("receive_candidates", "receive_info"):
        with suppress(PeerError):
            negotiation = Socks5Negotiation(Role.RESPONDER, transport.sid, BOB, ALICE)
            getattr(negotiation, receive)(element)


def _in_band(element: Element) -> None:
    receiver = ibb.InBandReceiver("stream", 64)
    for read in (receiver.receive, receiver.receive_close):
        with suppress(PeerError):
            read(element)
    with suppress(PeerError):
        ibb.check_open(element, ibb.InBandOffer("stream", 4096))
    offer = ibb.parse_transport(element)
    assert ibb.MIN_BLOCK_SIZE <= offer.block_size <= ibb.MAX_BLOCK_SIZE


def _sealed(element: Element) -> None:
    message = parse_sealed(element)
    Opener(KEY, "sid1", Role.INITIATOR).open(message)


PARSERS: dict[str, Callable[[Element], object]] = {
    "jingle": _jingle,
    "file": _file,
    "checksum": files.parse_checksum,
    "about": files.about,
    "candidates": _candidates,
    "in-band": _in_band,
    "security": parse_security,
    "hello": parse_hello,
    "sealed": _sealed,
    "verification": messages.parse,
}


def _taken(name: str) -> list[Element]:
    """All parts of the originals that this parser takes."""
    taken = {}
    for original in ORIGINALS:
        for part in original.iter():
            with suppress(PeerError):
                PARSERS[name](part)
                taken[tostring(part)] = part
    return list(taken.values())


TAKEN = {name: _taken(name) for name in PARSERS}


@pytest.mark.parametrize("name", PARSERS)
@budget(2)
@given(st.data())
def test_nothing_nearly_right_raises_anything_but_peer_error(
    name: str, data: st.DataObject
) -> None:
    element = data.draw(mutated_element(TAKEN[name], 2))
    with suppress(PeerError):
        PARSERS[name](element)


@given(mutated_element(ORIGINALS))
def test_no_element_raises_anything_but_peer_error(element: Element) -> None:
    parts = list(element.iter())[:60]
    for parse in PARSERS.values():
        for part in parts:
            with suppress(PeerError):
                parse(part)


@budget(0.5)
@given(mutated_element([each for each in STANZAS if each.tag.endswith("}jingle")]))
def test_no_stanza_in_a_session_raises_anything_but_peer_error(element: Element) -> None:
    wire = active()
    for session in (wire.alice, wire.bob):
        with suppress(PeerError):
            element.set("sid", session.sid)
            before = session.state, session.transport_state
            try:
                session.receive(stanzas.parse(element))
            except PeerError:
                assert (session.state, session.transport_state) == before
                raise


@given(
    st.binary(max_size=200)
    | st.text("<>/='\"&;![]? ab:xmlns-{}CDATA").map(str.encode)
    | st.sampled_from(
        [
            b"<a" + b" b='c'" * 3 + b"/>",
            b"<" + b"a:" * 9 + b"/>",
            b"<a xmlns:x=''/>",
            b"<a>\xed\xa0\x80</a>",
            b"\xff\xfe<\0a\0/\0>\0",
            b"<a>" * 20_000,
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        ]
    )
)
def test_no_opened_message_raises_anything_but_peer_error(data: bytes) -> None:
    with suppress(PeerError):
        element = from_xml(data)
        for parse in (messages.parse, parse_hello):
            with suppress(PeerError):
                parse(element)


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_takes_some_of_what_is_bent_here(name: str) -> None:
    """Else the others would look at nothing behind the first check."""
    assert TAKEN[name]
