from __future__ import annotations

from dataclasses import replace
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.jingle import ice
from telepathy_e2e.jingle.ice import (
    Candidate,
    DtlsFingerprint,
    Transport,
    answer_setup,
    build,
    dtls_role,
    parse,
)

from .jingle_support import over_the_wire, sample, xml

HOST = Candidate(1, "1", 0, "c1", "192.0.2.1", 5000, 2130706431, "udp", "host")
REFLEXIVE = Candidate(
    2, "2", 3, "c2", "2001:db8::1", 5001, 1, "tcp", "srflx", "10.0.0.1", 9, 2, "active"
)
PRINT = DtlsFingerprint("sha-256", bytes(range(32)), "actpass")
FULL = Transport("ufrg", "p" * 22, (HOST, REFLEXIVE), (PRINT,), gathering_complete=True)


def transport(inner: str = "", attributes: str = "") -> Element:
    return xml(
        f"<transport xmlns='{ice.ICE_NS}' xmlns:d='{ice.DTLS_NS}' {attributes}>{inner}</transport>"
    )


def candidate(**changed: str) -> str:
    attributes = {
        "component": "1",
        "foundation": "1",
        "ip": "192.0.2.1",
        "port": "5000",
        "priority": "1",
        "protocol": "udp",
        "type": "host",
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return "<candidate " + " ".join(f"{k}='{v}'" for k, v in attributes.items()) + "/>"


def transports(client: str, action: str) -> list[Transport]:
    return [parse(each) for each in sample(client, action).iter() if ice.is_ice(each)]


def test_what_is_built_is_read_again() -> None:
    assert parse(over_the_wire(build(FULL))) == FULL
    nothing = Transport("", "")
    assert parse(over_the_wire(build(nothing))) == nothing


def test_the_password_is_in_no_representation() -> None:
    assert "p" * 22 not in repr(FULL)


def test_a_browsers_news_before_its_answer_name_the_fragment_alone() -> None:
    (news,) = transports("audio and video", "transport-info")
    assert (news.ufrag != "", news.pwd, news.has_credentials) == (True, "", False)
    (found,) = news.candidates
    assert (found.id, found.generation, found.network) == ("", 0, 0)


def test_a_browsers_offer_has_what_a_handshake_needs() -> None:
    offer = transports("audio and video", "session-initiate")[0]
    assert offer.has_credentials
    assert [(each.hash, each.setup) for each in offer.fingerprints] == [("sha-256", "actpass")]


def test_dinos_second_component_is_read() -> None:
    (offer,) = transports("Dino 0.4.2 calls", "session-initiate")
    assert [each.component for each in offer.candidates] == [1, 2]


def test_an_offer_without_a_fingerprint_has_none() -> None:
    assert parse(transport()).fingerprints == ()


def test_tcp_candidates_are_read() -> None:
    (found,) = parse(transport(candidate(protocol="TCP", port="9", tcptype="active"))).candidates
    assert (found.protocol, found.port, found.tcptype) == ("tcp", 9, "active")


@pytest.mark.parametrize(
    "ip",
    [
        "0.0.0.0",  # noqa: S104
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:224.0.0.1",
        "fe80::1%eth0",
        "example.org",
        "127.1",
        "a.b.local",
        "local",
    ],
)
def test_where_nobody_can_be_reached_is_left_out(ip: str) -> None:
    assert parse(transport(candidate(ip=ip) + candidate())).candidates == (
        replace(HOST, id="", priority=1),
    )


@pytest.mark.parametrize(
    "changed", [{"type": "other"}, {"port": "0"}], ids=["unknown type", "no port"]
)
def test_what_cannot_be_used_is_left_out(changed: dict[str, str]) -> None:
    assert parse(transport(candidate(**changed))).candidates == ()


def test_names_of_the_local_network_are_kept() -> None:
    name = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local"
    (found,) = parse(transport(candidate(ip=name))).candidates
    assert found.ip == name
    assert ice.is_mdns(found.ip)


@pytest.mark.parametrize(
    ("related", "kept"),
    [
        ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - browsers hide an address so
        ("example.org", None),
        ("", None),
    ],
)
def test_a_related_address_that_is_none_spoils_nothing(related: str, kept: str | None) -> None:
    (found,) = parse(transport(candidate(rel_addr=related, rel_port="9"))).candidates
    assert (found.related_address, found.related_port) == (kept, 9)


@pytest.mark.parametrize(
    "changed",
    [
        {"component": "0"},
        {"component": "257"},
        {"foundation": ""},
        {"foundation": "f" * 33},
        {"generation": "256"},
        {"port": "65536"},
        {"priority": "4294967296"},
        {"priority": "-1"},
        {"protocol": ""},
        {"ip": ""},
        {"rel_port": "65536"},
    ],
)
def test_a_malformed_candidate_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(PeerError):
        parse(transport(candidate(**changed)))


def test_candidates_beyond_what_anybody_has_are_dropped_and_a_flood_is_refused() -> None:
    assert len(parse(transport(candidate() * 64)).candidates) == 64
    assert len(parse(transport(candidate() * 65)).candidates) == ice.MAX_CANDIDATES
    assert len(parse(transport(candidate() * 1000)).candidates) == ice.MAX_CANDIDATES
    with pytest.raises(PeerError):
        parse(transport(candidate() * 1001))


@pytest.mark.parametrize(
    ("attributes", "fine"),
    [
        (f"ufrag='abcd' pwd='{'p' * 22}'", True),
        (f"ufrag='{'a' * 256}' pwd='{'p' * 256}'", True),
        ("ufrag='abc'", False),
        (f"ufrag='{'a' * 257}'", False),
        (f"pwd='{'p' * 21}'", False),
        (f"pwd='{'p' * 257}'", False),
        ("ufrag='ab cd'", False),
        ("ufrag=''", False),
    ],
)
def test_credentials_are_as_the_standard_has_them(attributes: str, fine: bool) -> None:
    if fine:
        assert parse(transport(attributes=attributes)).has_credentials
        return
    with pytest.raises(PeerError):
        parse(transport(attributes=attributes))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ("hash='sha-256' setup='maybe'", ":".join(["00"] * 32)),
        ("hash='sha-256' setup=''", ":".join(["00"] * 32)),
        ("hash='sha-256' setup='active'", ":".join(["00"] * 31)),
        ("hash='sha-256' setup='active'", "00" * 32),
        ("hash='sha-256' setup='active'", ""),
        ("hash='new' setup='active'", ":".join(["00"] * 129)),
        ("setup='active'", "00:00"),
        ("hash='s h' setup='active'", "00:00"),
    ],
)
def test_a_fingerprint_that_is_none_ends_the_session(attributes: str, text: str) -> None:
    with pytest.raises(SecurityError):
        parse(transport(f"<d:fingerprint {attributes}>{text}</d:fingerprint>"))


def test_fingerprints_of_unknown_functions_are_kept() -> None:
    text = ":".join(["0A"] * 128)
    inner = f"<d:fingerprint hash='NEW-1' setup='active'>\n {text}\n</d:fingerprint>"
    (found,) = parse(transport(inner)).fingerprints
    assert found == DtlsFingerprint("new-1", b"\x0a" * 128, "active")


def test_fingerprints_of_two_minds_end_the_session() -> None:
    two = replace(FULL, fingerprints=(PRINT, replace(PRINT, setup="active")))
    with pytest.raises(SecurityError):
        parse(build(two))


def test_there_are_no_more_fingerprints_than_hash_functions() -> None:
    assert len(parse(build(replace(FULL, fingerprints=(PRINT,) * 16))).fingerprints) == 16
    with pytest.raises(PeerError):
        parse(build(replace(FULL, fingerprints=(PRINT,) * 17)))


@pytest.mark.parametrize(
    ("own", "peer", "role"),
    [
        ("actpass", "active", "server"),
        ("actpass", "passive", "client"),
        ("active", "actpass", "client"),
        ("passive", "actpass", "server"),
        ("active", "passive", "client"),
        ("passive", "active", "server"),
    ],
)
def test_the_two_sides_take_different_roles(own: str, peer: str, role: str) -> None:
    assert dtls_role(own, peer) == role
    assert {dtls_role(own, peer), dtls_role(peer, own)} == {"client", "server"}


@pytest.mark.parametrize(
    ("own", "peer"),
    [
        ("actpass", None),
        ("actpass", "actpass"),
        ("actpass", "holdconn"),
        ("active", "active"),
        ("passive", "passive"),
        ("active", None),
        ("passive", "holdconn"),
        (None, "active"),
    ],
)
def test_roles_that_do_not_fit_end_the_session(own: str | None, peer: str | None) -> None:
    with pytest.raises(SecurityError):
        dtls_role(own, peer)


def test_an_answer_takes_the_role_that_is_left() -> None:
    for offered in ("actpass", "active", "passive"):
        dtls_role(answer_setup(offered), offered)
    assert answer_setup("actpass") == "active"
    for missing in (None, "holdconn", "nonsense"):
        with pytest.raises(SecurityError):
            answer_setup(missing)


def test_something_else_is_no_transport() -> None:
    for element in (None, Element("transport")):
        assert not ice.is_ice(element)
        with pytest.raises(PeerError):
            parse(element)
