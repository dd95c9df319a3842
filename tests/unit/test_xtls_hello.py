"""``<hello/>``: read strictly, written as it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.verify.events import V
from telepathy_e2e.xtls.encoding import encode, from_xml
from telepathy_e2e.xtls.hello import (
    HELLO,
    MAX_ATTESTATION_BYTES,
    MAX_ATTESTATIONS,
    MAX_METHODS,
    MAX_SUMMARY,
    MAX_VERSIONS,
    MAX_WORD,
    Attestation,
    Hello,
    build_hello,
    check_attestations,
    parse_hello,
)

GOOD = Hello(
    identity=b"certificate",
    offered=b"o" * 32,
    accepted=b"a" * 32,
    methods=("sas", "password", "smoke-signals"),
    versions=(0, 7),
    attestations=(Attestation("openpgp", "signed by <somebody>", b"data"),),
)


def child(element: Element, name: str) -> Element:
    found = element.find(f"{{{V}}}{name}")
    assert found is not None
    return found


def test_what_is_built_is_read_back() -> None:
    assert parse_hello(build_hello(GOOD)) == GOOD


def test_elements_that_are_not_known_are_left_alone() -> None:
    element = build_hello(GOOD)
    SubElement(element, f"{{{V}}}future")
    SubElement(element, "{urn:x}identity").text = "?"
    assert parse_hello(element) == GOOD


def test_another_element_is_not_a_hello() -> None:
    element = build_hello(GOOD)
    element.tag = f"{{{V}}}sas-commit"
    with pytest.raises(SecurityError):
        parse_hello(element)


@pytest.mark.parametrize("name", ["identity", "offered", "accepted"])
def test_what_is_needed_must_be_there_once(name: str) -> None:
    missing, twice = build_hello(GOOD), build_hello(GOOD)
    missing.remove(child(missing, name))
    twice.append(child(build_hello(GOOD), name))
    for element in (missing, twice):
        with pytest.raises(SecurityError, match="exactly one"):
            parse_hello(element)


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.parametrize("name", ["offered", "accepted"])
def test_digests_have_32_bytes(name: str, size: int) -> None:
    element = build_hello(GOOD)
    child(element, name).text = encode(bytes(size))
    with pytest.raises(SecurityError):
        parse_hello(element)


@pytest.mark.parametrize("name", ["identity", "offered", "accepted", "attestation"])
def test_base64_is_strict(name: str) -> None:
    element = build_hello(GOOD)
    target = child(element, name)
    target.text = (target.text or "") + "\n"
    with pytest.raises(SecurityError, match="base64"):
        parse_hello(element)


@pytest.mark.parametrize("version", [None, "", "00", "-1", "1.0", " 0", "1" * 10, "\u0660"])
def test_versions_are_numbers(version: str | None) -> None:
    element = build_hello(GOOD)
    child(element, "version").text = version
    with pytest.raises(SecurityError, match="version"):
        parse_hello(element)


def hellos(many: int) -> dict[str, Hello]:
    return {
        "versions": replace(GOOD, versions=(0,) * many),
        "methods": replace(GOOD, methods=("sas",) * many),
        "attestations": replace(GOOD, attestations=(Attestation("x", "", b""),) * many),
    }


@pytest.mark.parametrize(
    ("what", "most"),
    [("versions", MAX_VERSIONS), ("methods", MAX_METHODS), ("attestations", MAX_ATTESTATIONS)],
)
def test_there_may_be_sixteen_of_a_kind_and_not_seventeen(what: str, most: int) -> None:
    assert most == 16
    assert parse_hello(build_hello(hellos(most)[what]))
    with pytest.raises(SecurityError, match="too many"):
        parse_hello(build_hello(hellos(most + 1)[what]))


def test_attestations_may_have_32_kib_together() -> None:
    half = bytes(MAX_ATTESTATION_BYTES // 2)
    both = (Attestation("x", "", half), Attestation("y", "", half))
    assert parse_hello(build_hello(replace(GOOD, attestations=both))).attestations == both
    more = (*both, Attestation("z", "", b"\0"))
    with pytest.raises(SecurityError, match="too much"):
        parse_hello(build_hello(replace(GOOD, attestations=more)))
    alone = (Attestation("x", "", bytes(MAX_ATTESTATION_BYTES + 1)),)
    with pytest.raises(SecurityError):
        parse_hello(build_hello(replace(GOOD, attestations=alone)))


@pytest.mark.parametrize(
    "make",
    [
        lambda extra: Attestation("t" * (MAX_WORD + extra), "", b""),
        lambda extra: Attestation("", "s" * (MAX_SUMMARY + extra), b""),
    ],
)
def test_words_of_attestations_are_bounded(make: Callable[[int], Attestation]) -> None:
    assert parse_hello(build_hello(replace(GOOD, attestations=(make(0),))))
    with pytest.raises(SecurityError, match="says too much"):
        parse_hello(build_hello(replace(GOOD, attestations=(make(1),))))


def test_names_of_methods_are_bounded() -> None:
    assert parse_hello(build_hello(replace(GOOD, methods=("m" * MAX_WORD,))))
    for name in ("", "m" * (MAX_WORD + 1)):
        with pytest.raises(SecurityError, match="proper name"):
            parse_hello(build_hello(replace(GOOD, methods=(name,))))


def test_our_own_attestations_are_held_to_the_same_bounds() -> None:
    check_attestations((Attestation("x", "", b""),) * MAX_ATTESTATIONS)
    with pytest.raises(PeerError):
        check_attestations((Attestation("x", "", b""),) * (MAX_ATTESTATIONS + 1))


def test_a_hello_does_not_show_what_it_holds() -> None:
    assert "certificate" not in repr(GOOD)
    assert "data" not in repr(GOOD)


@given(st.text(alphabet="<>/ =\"'hello identityversionabcQ=0", max_size=200))
def test_no_text_raises_anything_but_a_peer_error(text: str) -> None:
    try:
        parse_hello(from_xml(f"<hello xmlns='{V}'>{text}</hello>".encode()))
    except PeerError:
        pass


def test_the_tag_is_in_v() -> None:
    assert build_hello(GOOD).tag == HELLO == "{urn:x-telepathy-e2e:verification:0}hello"
