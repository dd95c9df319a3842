"""Jingle stanzas that no honest client sends: answered by the book, and nothing follows of them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from xml.etree.ElementTree import Element, SubElement

import pytest

from tests.peer import stanzas
from tests.peer.bench import CANCELLED, REMOTE_ERROR, REMOTE_STOPPED, Bench, Case
from tests.peer.client import BASE
from tests.peer.stanzas import FILES, JINGLE, XTLS
from tests.peer.transfer import Transfer, Way
from tests.support.side import CHANNEL
from tests.support.waiting import until

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD_REQUEST = ("bad-request", "")
OUT_OF_ORDER = ("unexpected-request", "out-of-order")
UNKNOWN_SESSION = ("item-not-found", "unknown-session")

# -- offers that make no sense ---------------------------------------------------------------


def good_offer() -> Element:
    """A ``<jingle/>`` that would be taken."""
    return stanzas.jingle(
        "session-initiate",
        "sid",
        stanzas.content(stanzas.description(size=5), stanzas.s5b("stream")),
    )


def content_of(jingle: Element) -> Element:
    return stanzas.only_content(jingle)


def file_of(jingle: Element) -> Element:
    found = next(jingle.iter(f"{{{FILES}}}file"))
    return found


def doubled(parent: Callable[[Element], Element], tag: str) -> Callable[[Element], None]:
    def change(jingle: Element) -> None:
        where = parent(jingle)
        child = where.find(tag)
        assert child is not None
        where.append(copy.deepcopy(child))

    return change


def without(parent: Callable[[Element], Element], tag: str) -> Callable[[Element], None]:
    def change(jingle: Element) -> None:
        where = parent(jingle)
        child = where.find(tag)
        assert child is not None
        where.remove(child)

    return change


def attribute(
    parent: Callable[[Element], Element], name: str, value: str | None
) -> Callable[[Element], None]:
    def change(jingle: Element) -> None:
        where = parent(jingle)
        where.attrib.pop(name, None)
        if value is not None:
            where.set(name, value)

    return change


def itself(jingle: Element) -> Element:
    return jingle


def two_contents_of_one_name(jingle: Element) -> None:
    jingle.append(copy.deepcopy(content_of(jingle)))


def seventeen_contents(jingle: Element) -> None:
    for number in range(16):
        more = copy.deepcopy(jingle[0])
        more.set("name", f"file{number}")
        jingle.append(more)


def unknown_application(jingle: Element) -> None:
    content_of(jingle)[0].tag = "{urn:example:chess}description"


MALFORMED: dict[str, Callable[[Element], None]] = {
    "no action": attribute(itself, "action", None),
    "an unknown action": attribute(itself, "action", "session-explode"),
    "no sid": attribute(itself, "sid", None),
    "an empty sid": attribute(itself, "sid", ""),
    "a sid of 100 kB": attribute(itself, "sid", "s" * 100_000),
    "two contents of one name": two_contents_of_one_name,
    "seventeen contents": seventeen_contents,
    "a content without a name": attribute(content_of, "name", None),
    "a content without a creator": attribute(content_of, "creator", None),
    "a content by a third": attribute(content_of, "creator", "mallory"),
    "unknown senders": attribute(content_of, "senders", "everybody"),
    "no description": without(content_of, f"{{{FILES}}}description"),
    "two descriptions": doubled(content_of, f"{{{FILES}}}description"),
    "two transports": doubled(content_of, f"{{{stanzas.S5B}}}transport"),
    "no transport": without(content_of, f"{{{stanzas.S5B}}}transport"),
    "a transport without a sid": attribute(lambda j: content_of(j)[1], "sid", None),
    "two files": doubled(lambda j: content_of(j)[0], f"{{{FILES}}}file"),
    "no file": without(lambda j: content_of(j)[0], f"{{{FILES}}}file"),
    "two names": doubled(file_of, f"{{{FILES}}}name"),
    "two sizes": doubled(file_of, f"{{{FILES}}}size"),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_offer_is_refused_and_makes_no_channel(
    bench: Bench, change: Callable[[Element], None]
) -> None:
    jingle = good_offer()
    change(jingle)
    answer = stanzas.error_of(await bench.bob.ask(bench.jid, jingle))
    if answer == ("", ""):  # understood, and refused as a session
        await bench.bob.until(lambda: _terminated(bench))
    else:
        assert answer[0] in ("bad-request", "feature-not-implemented"), answer
    assert bench.incoming() == []
    assert await bench.channels() == []


def _terminated(bench: Bench) -> bool:
    found = [stanzas.find_jingle(each) for each in bench.bob.received[-5:]]
    return any(each is not None and each.get("action") == "session-terminate" for each in found)


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        (unknown_application, "unsupported-applications"),
        (attribute(content_of, "senders", "responder"), "unsupported-applications"),
    ],
    ids=["another application", "a request for a file of ours"],
)
async def test_what_is_not_an_offer_of_a_file_is_terminated(
    bench: Bench, change: Callable[[Element], None], condition: str
) -> None:
    session = bench.bob.session(bench.jid)
    content = content_of(good_offer())
    jingle = stanzas.jingle("session-initiate", session.sid, content)
    change(jingle)
    assert await session.send("session-initiate", *jingle) == ("", "")
    assert await session.ended() == condition
    assert bench.incoming() == []


async def test_an_unknown_transport_is_terminated(bench: Bench) -> None:
    session = bench.bob.session(bench.jid)
    transport = Element("{urn:xmpp:jingle:transports:pigeon:0}transport", {"sid": "x"})
    content = stanzas.content(stanzas.description(size=5), transport)
    assert await session.send("session-initiate", content) == ("", "")
    assert await session.ended() in ("unsupported-transports", "connectivity-error")
    assert bench.incoming() == []


async def test_a_question_is_no_command(bench: Bench) -> None:
    answer = await bench.bob.ask(bench.jid, good_offer(), type="get")
    assert stanzas.error_of(answer)[0] != ""
    assert bench.incoming() == []


# -- which session? --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        "session-accept",
        "session-info",
        "security-info",
        "session-terminate",
        "transport-info",
        "transport-replace",
        "content-add",
        "description-info",
    ],
)
async def test_an_unknown_session_is_told_so(bench: Bench, action: str) -> None:
    session = bench.bob.session(bench.jid)
    assert await session.send(action, stanzas.content(stanzas.s5b("x"))) == UNKNOWN_SESSION


async def test_one_peer_cannot_touch_the_session_of_another(bench: Bench) -> None:
    """Sids are no secrets to the servers; the session is that of this full JID."""
    case = await bench.offered(b"12345")
    carol = await bench.peer("carol")
    thief = carol.session(bench.jid, case.transfer.session.sid)
    assert await thief.terminate() == UNKNOWN_SESSION
    assert await thief.send("session-info") == UNKNOWN_SESSION
    other_resource = await bench.peer("bob", resource="other")
    thief = other_resource.session(bench.jid, case.transfer.session.sid)
    assert await thief.terminate() == UNKNOWN_SESSION
    assert await bench.channels() == [case.path]


async def test_the_same_sid_from_two_peers_is_two_sessions(bench: Bench) -> None:
    carol = await bench.peer("carol")
    first = await bench.offered(b"bob's")
    second = await bench.offered(
        b"carol's",
        transfer_=Transfer(carol.session(bench.jid, first.transfer.session.sid), xtls=False),
    )
    assert first.path != second.path
    await first.transfer.session.terminate()
    await bench.failed(first, REMOTE_STOPPED)
    bench.accept(second)
    assert await second.transfer.send(b"carol's") == "success"
    assert await second.client == b"carol's"


async def test_a_second_initiate_of_the_same_session_is_out_of_order(bench: Bench) -> None:
    case = await bench.offered(b"12345")
    session = case.transfer.session
    assert await session.send("session-initiate", case.transfer.offered) == OUT_OF_ORDER
    assert bench.incoming() == [case.path]
    bench.accept(case)
    assert await case.transfer.send(b"12345") == "success"
    assert await case.client == b"12345"


async def test_an_accept_that_comes_twice_counts_once(bench: Bench) -> None:
    data = b"once" * 5000
    case = await bench.sends(data)
    transfer = case.transfer
    answer = await transfer.session.send("session-accept", transfer.accepted)
    assert answer == OUT_OF_ORDER
    stream = await transfer.protect()
    assert await _read(stream, len(data)) == data
    await stream.write_eof()
    assert await transfer.session.send("session-accept", transfer.accepted) == OUT_OF_ORDER
    await transfer.session.terminate("success")
    await bench.completed(case)


async def _read(stream: object, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read()  # type: ignore[attr-defined]
    return data


async def test_an_initiator_cannot_accept_his_own_offer(bench: Bench) -> None:
    case = await bench.offered(b"12345")
    session = case.transfer.session
    assert await session.send("session-accept", case.transfer.offered) == OUT_OF_ORDER
    assert await bench.channels() == [case.path]


async def test_a_session_that_is_over_is_unknown(bench: Bench) -> None:
    case = await bench.offered(b"12345")
    session = case.transfer.session
    assert await session.terminate() == ("", "")
    assert await session.terminate() == UNKNOWN_SESSION
    assert await session.send("session-info") == UNKNOWN_SESSION
    await bench.failed(case, REMOTE_STOPPED)


async def test_an_accept_after_our_own_end_is_for_an_unknown_session(bench: Bench) -> None:
    case = await bench.offers(b"12345")
    await bench.side.cm(case.path, CHANNEL, "Close")
    assert await case.transfer.session.ended() == "cancel"
    assert await case.transfer.accept() == UNKNOWN_SESSION


# -- what may come when ----------------------------------------------------------------------


async def test_a_candidate_error_before_the_accept_is_remembered(bench: Bench) -> None:
    """Clients that have nothing to try say so before their user has answered."""
    data = b"early" * 1000
    case = await bench.offers(data)
    transfer = case.transfer
    answer = await transfer.session.send("transport-info", transfer.note("candidate-error"))
    assert answer == ("", "")
    transfer.way = Way.FALL_BACK
    assert await transfer.accept() == ("", "")
    await transfer.heard("candidate-error")
    transfer.pipe = await transfer.take_replacement(
        await transfer.session.wait("transport-replace")
    )
    stream = await transfer.protect()
    assert await _read(stream, len(data)) == data
    await transfer.session.terminate("success")
    await bench.completed(case)


async def test_a_transport_info_before_our_accept_does_no_harm(bench: Bench) -> None:
    case = await bench.offered(b"12345")
    transfer = case.transfer
    for note in ("candidate-used", "candidate-error", "activated", "proxy-error"):
        await transfer.session.send("transport-info", transfer.note(note, "nobody's"))
    await transfer.session.send("transport-info", stanzas.content(None))
    await transfer.session.send("transport-info")
    assert await bench.channels() == [case.path]


async def _goes_on(case: Case, data: bytes = b"12345") -> None:
    """The transfer is as good as before."""
    stream = await case.transfer.protect()
    await stream.write(data)
    await stream.write_eof()
    assert await case.client == data
    assert await case.transfer.session.ended() == "success"


async def test_a_second_content_is_rejected(bench: Bench) -> None:
    case = await bench.receives(b"12345")
    session = case.transfer.session
    file = stanzas.description("second", 5)
    more = stanzas.content(file, stanzas.s5b("other"), name="additional")
    assert await session.send("content-add", more) == ("", "")
    rejected = await session.wait("content-reject")
    assert stanzas.only_content(rejected).get("name") == "additional"
    again = stanzas.content(file, stanzas.s5b("other"), name=case.transfer.name)
    assert await session.send("content-add", again) == BAD_REQUEST
    await _goes_on(case)
    assert len(bench.incoming()) == 1


async def test_the_direction_of_a_file_cannot_be_turned(bench: Bench) -> None:
    case = await bench.receives(b"12345")
    turned = stanzas.content(name=case.transfer.name, senders="responder")
    await case.transfer.session.send("content-modify", turned)
    accept = await case.transfer.session.send("content-accept", case.transfer.offered)
    assert accept == OUT_OF_ORDER
    await _goes_on(case)


async def test_without_its_content_a_session_is_over(bench: Bench) -> None:
    case = await bench.receives(b"12345")
    content = stanzas.content(name=case.transfer.name)
    assert await case.transfer.session.send("content-remove", content) == ("", "")
    await case.transfer.session.ended()
    await bench.failed(case, REMOTE_STOPPED)
    await bench.got_nothing(case)


async def test_unknown_session_info_is_unsupported_and_an_empty_one_is_a_ping(
    bench: Bench,
) -> None:
    case = await bench.offered(b"12345")
    session = case.transfer.session
    assert await session.send("session-info") == ("", "")
    answer = await session.send("session-info", Element("{urn:example:dance}tango"))
    assert answer == ("feature-not-implemented", "unsupported-info")
    assert await bench.channels() == [case.path]


async def test_security_info_in_the_old_way_is_acknowledged_and_changes_nothing(
    bench: Bench,
) -> None:
    case = await bench.receives(b"12345")
    old = Element(f"{{{XTLS}}}security")
    SubElement(old, f"{{{XTLS}}}method", {"name": "x509"})
    answer = await case.transfer.session.send("security-info", case.transfer.content(old))
    assert answer == ("", "")
    await _goes_on(case)


async def test_two_reasons_are_none(bench: Bench) -> None:
    case = await bench.offered(b"12345")
    answer = await case.transfer.session.send(
        "session-terminate", stanzas.reason("success"), stanzas.reason("cancel")
    )
    assert answer == BAD_REQUEST
    assert await bench.channels() == [case.path]


@pytest.mark.parametrize("condition", ["", "gone-fishing", "success"])
async def test_an_end_without_a_known_reason_is_an_end(bench: Bench, condition: str) -> None:
    case = await bench.offered(b"12345")
    children = [stanzas.reason(condition)] if condition else []
    assert await case.transfer.session.send("session-terminate", *children) == ("", "")
    state, _ = await bench.side.state(case.path, CANCELLED)
    assert state == CANCELLED


async def test_success_before_the_accept_is_no_success(bench: Bench) -> None:
    case = await bench.offers(b"12345")
    await case.transfer.session.terminate("success")
    await bench.failed(case, REMOTE_ERROR)


async def test_received_before_a_byte_was_sent_is_no_success(bench: Bench) -> None:
    case = await bench.offers(b"12345" * 1000)
    assert await case.transfer.accept() == ("", "")
    await case.transfer.session.send("session-info", stanzas.received())
    await case.transfer.session.terminate("success")
    await bench.failed(case, REMOTE_ERROR)


async def test_an_answer_to_another_content_is_refused(bench: Bench) -> None:
    case = await bench.offers(b"12345")
    transfer = case.transfer
    wrong = stanzas.content(
        stanzas.part(transfer.offered, "description"),
        await transfer.transport(),
        transfer.security(),
        name="another",
    )
    answer = await transfer.session.send("session-accept", wrong)
    assert answer == BAD_REQUEST
    assert not bench.opened(case)


@pytest.mark.parametrize("wrong", ["no transport", "another transport"])
async def test_after_an_accept_that_breaks_a_rule_another_may_come(
    bench: Bench, wrong: str
) -> None:
    data = b"second try" * 100
    case = await bench.offers(data)
    transfer = case.transfer
    transport = {"no transport": None, "another transport": stanzas.ibb("another")}[wrong]
    description = stanzas.part(transfer.offered, "description")
    content = transfer.content(description, transport, transfer.security())
    assert await transfer.accept(content=content) == BAD_REQUEST
    assert await transfer.receive() == data
    await bench.completed(case)


@pytest.mark.parametrize("wrong", ["another stream", "33 candidates", "two files"])
async def test_an_accept_that_cannot_be_used_is_the_end(bench: Bench, wrong: str) -> None:
    """Its sender knows that it was refused; the offer must not stay open for ever."""
    case = await bench.offers(b"12345")
    transfer = case.transfer
    description = stanzas.part(transfer.offered, "description")
    transport = stanzas.s5b(transfer.stream_id)
    match wrong:
        case "another stream":
            transport.set("sid", "another")
        case "33 candidates":
            jid = bench.bob.jid
            transport.extend(
                stanzas.candidate(f"c{n}", "127.0.0.1", 1000 + n, jid) for n in range(33)
            )
        case _:
            assert description is not None
            description.append(copy.deepcopy(description[0]))
    answer = await transfer.accept(
        content=transfer.content(description, transport, transfer.security())
    )
    assert answer[0] in ("bad-request", "resource-constraint"), answer
    await bench.failed(case, REMOTE_ERROR, "general-error", "NetworkError")


async def test_an_accept_without_a_description_takes_the_file_as_offered(bench: Bench) -> None:
    data = b"as offered" * 100
    case = await bench.offers(data)
    transfer = case.transfer
    content = transfer.content(await transfer.transport(), transfer.security())
    assert await transfer.accept(content=content) == ("", "")
    await transfer.connect()
    stream = await transfer.protect()
    assert await _read(stream, len(data)) == data
    await transfer.session.terminate("success")
    await bench.completed(case)


async def test_success_while_we_still_look_for_a_road_does_no_harm(bench: Bench) -> None:
    """A sender may be done before we are, so this is not the end; but nothing can be said now."""
    case = await bench.offered(b"12345", way=Way.LISTEN)
    transfer = case.transfer
    host = transfer.streamhost
    assert host is not None
    host.go.clear()
    bench.accept(case)
    await transfer.answered()
    await until(lambda: host.names)  # it is connecting
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    assert await transfer.session.terminate("success") == ("", "")
    # Before that it may have given up, where all of this took long.
    said = transfer.session.actions.count("transport-info")
    host.go.set()
    await host.pipe()
    await bench.tick()
    assert transfer.session.actions.count("transport-info") == said


async def test_the_attributes_of_a_stanza_are_nobodys_word(bench: Bench) -> None:
    """``initiator`` may say anything; who it is says the server's ``from``."""
    transfer = Transfer(bench.bob.session(bench.jid))
    transfer.offered = transfer.content(
        stanzas.description(size=5), await transfer.transport(), transfer.security()
    )
    mallory = "mallory@example.test/x"
    answer = await transfer.session.send("session-initiate", transfer.offered, initiator=mallory)
    assert answer == ("", "")
    case = bench.adopt(transfer, await bench.channel())
    assert await bench.side.get(case.path, CHANNEL, "TargetID") == stanzas.bare(bench.bob.jid)
    bench.accept(case)
    assert await transfer.send(b"12345") == "success"
    assert await case.client == b"12345"


async def test_two_transport_replaces_that_cross_are_a_tie_that_the_initiator_wins(
    bench: Bench,
) -> None:
    """XEP-0166 section 7.1: here the daemon is the initiator."""
    data = b"crossing" * 100
    case = await bench.offers(data)
    transfer = case.transfer
    assert await transfer.accept() == ("", "")
    # Its transport-replace is not answered yet when ours comes.
    bench.bob.answers = lambda iq: False if _is_replace(iq) else None
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    element = await transfer.session.wait("transport-replace")
    own = transfer.content(stanzas.ibb("of-our-own"))
    assert await transfer.session.send("transport-replace", own) == ("conflict", "tie-break")
    bench.bob.answers = lambda _: None
    request = next(
        each for each in bench.bob.received if each.find(f"{{{JINGLE}}}jingle") is element
    )
    bench.bob.result(request)
    transfer.pipe = await transfer.take_replacement(element)
    stream = await transfer.protect()
    assert await _read(stream, len(data)) == data
    await transfer.session.terminate("success")
    await bench.completed(case)


def _is_replace(iq: Element) -> bool:
    jingle = stanzas.find_jingle(iq)
    return jingle is not None and jingle.get("action") == "transport-replace"


async def test_our_own_sid_sent_back_is_a_tie_that_the_peer_loses(bench: Bench) -> None:
    case = await bench.offers(b"12345" * 1000)
    session = case.transfer.session
    answer = await session.send("session-initiate", case.transfer.offered)
    assert answer == ("conflict", "tie-break")
    assert bench.incoming() == []
    assert await case.transfer.receive() == b"12345" * 1000
    await bench.completed(case)


async def test_an_offer_that_crosses_with_ours_is_another_file(bench: Bench) -> None:
    """Two files are not the same application: each goes its way."""
    going = await bench.offers(b"there" * 1000)
    coming = await bench.offered(b"back" * 1000)
    bench.accept(coming)
    received, ended = await asyncio.gather(
        going.transfer.receive(), coming.transfer.send(b"back" * 1000)
    )
    assert (received, ended) == (b"there" * 1000, "success")
    assert await coming.client == b"back" * 1000
    await bench.completed(going)


# -- <security/> -----------------------------------------------------------------------------

DIGEST = ":".join(["AB"] * 32)
NINE = stanzas.security(*[("sha-256", DIGEST)] * 9)
SEVENTEEN = stanzas.security(("sha-256", DIGEST), methods=[f"m{n}" for n in range(17)])
NOT_HEX = stanzas.security(("sha-256", "fingerprint"))
SHORT = stanzas.security(("sha-256", "AB:CD"))
UNKNOWN_HASH = stanzas.security(("sha-1", ":".join(["AB"] * 20)), ("tiger", "AB"))
REFUSED = {"nine fingerprints": NINE, "17 methods": SEVENTEEN, "no hex": NOT_HEX, "short": SHORT}


async def _offer(bench: Bench, *security: Element) -> tuple[Transfer, tuple[str, str]]:
    transfer = Transfer(bench.bob.session(bench.jid))
    content = transfer.content(
        stanzas.description(size=5), await transfer.transport(), *map(copy.deepcopy, security)
    )
    return transfer, await transfer.offer(stanzas.description(), content=content)


@pytest.mark.parametrize("security", REFUSED.values(), ids=REFUSED.keys())
async def test_too_much_security_in_an_offer_is_a_bad_request(
    bench: Bench, security: Element
) -> None:
    _, answer = await _offer(bench, security)
    assert answer == BAD_REQUEST
    assert bench.incoming() == []


async def test_two_security_elements_in_an_offer_are_a_bad_request(bench: Bench) -> None:
    one = stanzas.security(("sha-256", DIGEST))
    _, answer = await _offer(bench, one, one)
    assert answer == BAD_REQUEST
    assert bench.incoming() == []


@pytest.mark.parametrize("security", REFUSED.values(), ids=REFUSED.keys())
async def test_too_much_security_in_an_accept_ends_the_session(
    bench: Bench, security: Element
) -> None:
    case = await bench.offers(b"12345")
    answer = await case.transfer.accept(security=copy.deepcopy(security))
    assert answer == BAD_REQUEST
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")


async def test_fingerprints_by_unknown_hashes_alone_end_an_offer(bench: Bench) -> None:
    transfer, answer = await _offer(bench, UNKNOWN_HASH)
    assert answer == ("", "")
    assert await transfer.session.ended() == "security-error"
    assert bench.incoming() == []


async def test_fingerprints_by_unknown_hashes_alone_end_an_accept(bench: Bench) -> None:
    case = await bench.offers(b"12345")
    assert await case.transfer.accept(security=copy.deepcopy(UNKNOWN_HASH)) == ("", "")
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")


async def test_an_unknown_hash_beside_a_known_one_does_no_harm(bench: Bench) -> None:
    transfer = Transfer(bench.bob.session(bench.jid))
    assert transfer.own is not None
    security = stanzas.security(
        ("tiger", "??"), stanzas.fingerprint(transfer.own.leaf, "sha-512"), methods=("srp", "x509")
    )
    content = transfer.content(stanzas.description(size=5), await transfer.transport(), security)
    assert await transfer.offer(stanzas.description(), content=content) == ("", "")
    case = bench.adopt(transfer, await bench.channel())
    bench.accept(case)
    assert await transfer.send(b"12345") == "success"
    assert await bench.secure(case) == {"Encrypted": True, "Verified": False}


async def test_one_of_two_fingerprints_wrong_is_a_wrong_certificate(bench: Bench) -> None:
    transfer = Transfer(bench.bob.session(bench.jid))
    assert transfer.own is not None
    wrong = ("sha-512", ":".join(["AB"] * 64))
    security = stanzas.security(stanzas.fingerprint(transfer.own.leaf), wrong)
    content = transfer.content(stanzas.description(size=5), await transfer.transport(), security)
    assert await transfer.offer(stanzas.description(), content=content) == ("", "")
    case = bench.adopt(transfer, await bench.channel())
    bench.accept(case)
    await transfer.answered()
    await transfer.connect()
    await transfer.secured().try_handshake()
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")
    await bench.got_nothing(case)


GAJIM = stanzas.security((None, DIGEST))


async def test_an_old_dialect_in_an_offer_is_no_security(bench: Bench) -> None:
    transfer, answer = await _offer(bench, GAJIM)
    assert answer == ("", "")
    case = bench.adopt(transfer, await bench.channel())
    bench.accept(case)
    accepted = await transfer.answered()
    assert stanzas.part(accepted, "security") is None
    await transfer.connect()
    await transfer.pipe.write(b"12345")
    await transfer.pipe.write_eof()
    assert await case.client == b"12345"
    await bench.completed(case)
    assert await bench.secure(case) == {"Encrypted": False, "Verified": False}


async def test_an_old_dialect_in_an_accept_is_no_security(bench: Bench) -> None:
    data = b"in the clear" * 100
    case = await bench.offers(data)
    assert await case.transfer.accept(security=copy.deepcopy(GAJIM)) == ("", "")
    case.transfer.own = None
    await case.transfer.connect()
    assert await _read(case.transfer.pipe, len(data)) == data
    await case.transfer.session.terminate("success")
    await bench.completed(case)
    assert await bench.secure(case) == {"Encrypted": False, "Verified": False}


async def test_security_that_was_not_offered_cannot_be_accepted(bench: Bench) -> None:
    """Carol's client does not list the feature, so nothing was offered to her."""
    carol = await bench.peer("carol", features=BASE)
    await bench.knows(carol)
    case = await bench.offers(b"12345", peer=carol)
    assert stanzas.part(case.transfer.offered, "security") is None
    case.transfer.own = case.transfer.new_credentials()
    answer = await case.transfer.accept()
    assert answer == BAD_REQUEST
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")
