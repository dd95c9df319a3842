from __future__ import annotations

from hashlib import sha1
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.candidates import (
    DEFAULT_PORT,
    MAX_CANDIDATES,
    MAX_PRIORITY,
    TRANSPORT,
    Candidate,
    Socks5Transport,
    best_first,
    build,
    dstaddr,
    is_plausible_host,
    parse,
    place,
    priority,
)
from telepathy_e2e.jingle.stanzas import parse as parse_jingle

from .jingle_support import S5B, elements, over_the_wire, sample, xml


def candidate(
    cid: str = "c1",
    host: str = "192.0.2.1",
    port: int = 5086,
    kind: str = "direct",
    value: int = 8257636,
) -> Candidate:
    return Candidate(cid, host, port, "romeo@montague.lit/orchard", value, kind)


def element(inner: str, attributes: str = "sid='s'") -> Element:
    return xml(f"<transport xmlns='{S5B}' {attributes}>{inner}</transport>")


def one(**attributes: str | None) -> str:
    values: dict[str, str | None] = {
        "cid": "c1",
        "host": "192.0.2.1",
        "port": "5086",
        "jid": "a@b/c",
        "priority": "8257636",
        "type": "direct",
    }
    values |= attributes
    text = " ".join(f"{name}='{value}'" for name, value in values.items() if value is not None)
    return f"<candidate {text}/>"


def refused(parsed: Element) -> str:
    with pytest.raises(PeerError) as caught:
        parse(parsed)
    return caught.value.condition


def test_what_gajim_offers_is_understood() -> None:
    content = parse_jingle(sample("Gajim 1.3.1", "session-initiate")).contents[0]
    assert content.transport is not None
    transport = parse(content.transport)
    assert transport.sid == "5105e44b-5a6d-4450-b3fc-8fe89b957c3d"
    assert [(c.host, c.port, c.type) for c in transport.candidates] == [
        ("127.0.0.1", 28011, "direct"),
        ("127.0.0.2", 28011, "direct"),
    ]


def test_what_gajim_chooses_is_understood() -> None:
    content = parse_jingle(sample("Gajim 1.3.1", "transport-info")).contents[0]
    assert content.transport is not None
    assert parse(content.transport).used is not None


@pytest.mark.parametrize(
    "transport",
    [
        Socks5Transport("s"),
        Socks5Transport("s", (candidate(), candidate("c2", "2001:db8::1")), "0" * 40),
        Socks5Transport("s", used="c1"),
        Socks5Transport("s", candidate_error=True),
        Socks5Transport("s", activated="c1"),
        Socks5Transport("s", proxy_error=True),
    ],
)
def test_a_transport_comes_back_as_it_went(transport: Socks5Transport) -> None:
    assert parse(over_the_wire(build(transport))) == transport


def test_the_mode_is_tcp() -> None:
    assert parse(element("", "sid='s' mode='tcp'")).sid == "s"
    assert refused(element("", "sid='s' mode='udp'")) == "feature-not-implemented"


@pytest.mark.parametrize(
    "inner",
    [
        "<candidate-used cid='a'/><candidate-error/>",
        "<candidate-used cid='a'/><candidate-used cid='b'/>",
        "<activated cid='a'/><proxy-error/>",
        "<candidate-error/><candidate-error/>",
        one() + "<candidate-error/>",
        "<candidate-used/>",
        "<activated/>",
        one() + one(),
        one(cid=None),
        one(host=None),
        one(jid=None),
        one(priority=None),
        one(priority="high"),
        one(priority="-1"),
        one(priority=str(MAX_PRIORITY + 1)),
        one(port="http"),
        one(cid="a\u202e"),
    ],
)
def test_a_malformed_transport_is_refused(inner: str) -> None:
    assert refused(element(inner)) == "bad-request"


def test_a_transport_needs_a_sid_and_its_name() -> None:
    assert refused(element("", "")) == "bad-request"
    assert refused(Element("{urn:other}transport", {"sid": "s"})) == "bad-request"


@pytest.mark.parametrize(
    "inner",
    [
        one(port="0"),
        one(port="65536"),
        one(type="carrier-pigeon"),
        one(host="0.0.0.0"),  # noqa: S104
        one(host="not a host"),
    ],
)
def test_a_candidate_that_cannot_be_reached_is_left_out(inner: str) -> None:
    good = one(cid="good")
    assert [c.cid for c in parse(element(inner + good)).candidates] == ["good"]


def test_what_may_be_missing_has_a_default() -> None:
    (found,) = parse(element(one(port=None, type=None))).candidates
    assert (found.port, found.type) == (DEFAULT_PORT, "direct")


def test_candidates_are_bounded_whether_they_can_be_reached_or_not() -> None:
    many = "".join(one(cid=f"c{n}", port=str(n)) for n in range(MAX_CANDIDATES))
    assert len(parse(element(many)).candidates) == MAX_CANDIDATES - 1
    assert refused(element(many + one(port="0"))) == "bad-request"


@pytest.mark.parametrize("address", ["", "0" * 39, "0" * 41, "x" * 40, "A" * 40])
def test_a_dstaddr_that_no_proxy_waits_for_is_ignored(address: str) -> None:
    assert parse(element("", f"sid='s' dstaddr='{address}'")).dstaddr is None


def test_the_priority_is_that_of_the_standard() -> None:
    assert priority("direct", 0) == 8257536
    assert priority("direct", 100) == 8257636
    assert priority("proxy", 65535) == 10 * 65536 + 65535
    assert priority("direct", 0) > priority("assisted", 65535) > priority("tunnel", 65535)
    for wrong in (-1, 65536):
        with pytest.raises(ValueError, match="16 bits"):
            priority("direct", wrong)


def test_the_dstaddr_is_that_of_the_standard() -> None:
    text = "vj3hs98yromeo@montague.lit/orchardjuliet@capulet.lit/balcony"
    assert dstaddr("vj3hs98y", "romeo@montague.lit/orchard", "juliet@capulet.lit/balcony") == (
        sha1(text.encode(), usedforsecurity=False).hexdigest()
    )
    # The value that the example of XEP-0260 section 2.2 shows.
    assert dstaddr("vj3hs98y", "romeo@montague.lit/orchard", "juliet@capulet.lit/balcony") == (
        "972b7bf47291ca609517f67f86b5081086052dad"
    )
    assert dstaddr("vj3hs98y", "juliet@capulet.lit/balcony", "romeo@montague.lit/orchard") == (
        "1a12fb7bc625e55f3ed5b29a53dbe0e4aa7d80ba"
    )


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",
        "127.0.0.1",
        "::1",
        "2001:db8::1",
        "proxy.example.org",
        "localhost",
        "xn--bcher-kva.example",
        "a_b.example.",
        "x1.y2",
    ],
)
def test_addresses_and_names_are_hosts(host: str) -> None:
    assert is_plausible_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "0.0.0.0",  # noqa: S104
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:0.0.0.0",
        "::ffff:255.255.255.255",
        "fe80::1%eth0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.0.0.1.",
        "256.1.1.1",
        "a..b",
        "-a.example",
        "a-.example",
        "exa mple.org",
        "ex\u00e4mple.org",
        "[::1]",
        "host:80",
        "user@host",
        "http://host/",
        "a" * 64 + ".example",
        "a." * 127 + "a",
    ],
)
def test_numbers_in_disguise_and_other_things_are_no_hosts(host: str) -> None:
    assert not is_plausible_host(host)


def test_the_same_place_has_one_spelling() -> None:
    assert place(candidate(host="2001:DB8:0:0::1")) == place(candidate(host="2001:db8::1"))
    assert place(candidate(host="::ffff:192.0.2.1")) == place(candidate(host="192.0.2.1"))
    assert place(candidate(host="Proxy.Example.")) == place(candidate(host="proxy.example"))
    assert place(candidate(port=1)) != place(candidate(port=2))


def test_the_best_comes_first_and_equals_keep_their_order() -> None:
    low, high, high2 = candidate("a", value=1), candidate("b", value=2), candidate("c", value=2)
    assert best_first([low, high, high2]) == (high, high2, low)


@given(elements(tag=TRANSPORT))
def test_no_element_raises_anything_but_a_peer_error(parsed: Element) -> None:
    try:
        transport = parse(parsed)
    except PeerError:
        return
    assert len(transport.candidates) <= MAX_CANDIDATES
    assert all(0 < c.port < 65536 and is_plausible_host(c.host) for c in transport.candidates)
    assert parse(over_the_wire(build(transport))).used == transport.used
