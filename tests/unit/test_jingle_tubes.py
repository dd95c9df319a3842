"""What a tube says of itself in a session, and in what a program can do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, PeerError
from telepathy_e2e.jingle.tubes import (
    MAX_NAME,
    MAX_PARAMETERS,
    MAX_SERVICE,
    MAX_SERVICES,
    MAX_WRITTEN,
    TUBES_NS,
    Kind,
    Tube,
    Value,
    build,
    build_answer,
    check_answer,
    feature,
    is_tube,
    parse,
    services,
)

from .jingle_support import over_the_wire, xml

# Whatever a string of D-Bus may be.
STRINGS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
INTEGERS = {"y": 8, "q": 16, "u": 32, "t": 64, "n": -16, "i": -32, "x": -64}


def _integers(bits: int) -> st.SearchStrategy[int]:
    if bits > 0:
        return st.integers(0, 2**bits - 1)
    most = 2 ** (-bits - 1) - 1
    return st.integers(-most - 1, most)


VALUES = st.one_of(
    st.builds(Value, st.just("s"), STRINGS),
    st.builds(Value, st.just("ay"), st.binary(max_size=40)),
    st.builds(Value, st.just("b"), st.booleans()),
    *(st.builds(Value, st.just(each), _integers(bits)) for each, bits in INTEGERS.items()),
)
NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20).filter(
    str.isprintable
)
TUBES = st.builds(Tube, st.sampled_from(Kind), NAMES, st.dictionaries(NAMES, VALUES, max_size=8))


def description(inner: str = "", attributes: str = "type='stream' service='rsync'") -> str:
    return f"<description xmlns='{TUBES_NS}' {attributes}>{inner}</description>"


def parameter(attributes: str, text: str = "") -> str:
    return description(f"<parameters><parameter {attributes}>{text}</parameter></parameters>")


@given(TUBES)
def test_a_tube_arrives_as_it_was_offered(tube: Tube) -> None:
    element = over_the_wire(build(tube))
    assert is_tube(element)
    assert parse(element) == tube


@pytest.mark.parametrize(
    "text", ["", " a ", "a\r\nb", "\x01", "\ufffe", "<&>'\"", "\t\n", "e\u0301"]
)
def test_a_string_is_not_changed_by_xml(text: str) -> None:
    tube = Tube(Kind.STREAM, "rsync", {"p": Value("s", text)})
    assert parse(over_the_wire(build(tube))).parameters["p"] == Value("s", text)


def test_a_number_keeps_its_type() -> None:
    numbers = {each: Value(each, 1) for each in INTEGERS}
    assert parse(build(Tube(Kind.DBUS, "a.b", numbers))).parameters == numbers


@pytest.mark.parametrize(
    "value",
    [
        Value("u", -1),
        Value("u", 2**32),
        Value("i", 2**31),
        Value("y", 256),
        Value("u", True),
        Value("b", 1),
        Value("s", b"x"),
        Value("s", "a\0b"),
        Value("s", "\ud800"),
        Value("ay", "x"),
        Value("d", 1),
        Value("as", "x"),
    ],
    ids=lambda value: value.signature,
)
def test_what_cannot_be_sent_is_refused_here(value: Value) -> None:
    with pytest.raises(InvalidArgument):
        build(Tube(Kind.STREAM, "rsync", {"p": value}))


@pytest.mark.parametrize("service", ["", "x" * (MAX_SERVICE + 1), "a\nb"])
def test_a_service_without_a_decent_name_is_refused_on_both_sides(service: str) -> None:
    with pytest.raises(InvalidArgument):
        build(Tube(Kind.STREAM, service))
    element = xml(description())
    element.set("service", service)
    with pytest.raises(PeerError):
        parse(element)


@pytest.mark.parametrize(
    "parameters",
    [
        {f"n{each}": Value("b", True) for each in range(MAX_PARAMETERS)},
        {"x" * MAX_NAME: Value("s", "y" * (MAX_WRITTEN - MAX_NAME))},
    ],
    ids=["many", "long"],
)
def test_parameters_are_bounded_on_both_sides(parameters: dict[str, Value]) -> None:
    element = build(Tube(Kind.STREAM, "rsync", parameters))
    assert parse(element).parameters == parameters
    with pytest.raises(InvalidArgument):
        build(Tube(Kind.STREAM, "rsync", parameters | {"more": Value("s", "")}))
    element[0].append(xml(parameter("name='more' type='s'"))[0][0])
    with pytest.raises(PeerError):
        parse(element)


@pytest.mark.parametrize(
    "text",
    [
        "<description xmlns='urn:other' type='stream' service='a'/>",
        description(attributes="type='other' service='a'"),
        description(attributes="service='a'"),
        description(attributes="type='stream'"),
        description("<parameters/><parameters/>"),
        description("<parameters>" + 2 * "<parameter name='a' type='s'/>" + "</parameters>"),
        parameter("type='s'"),
        parameter("name='a'"),
        parameter("name='a' type='d'", "1.0"),
        parameter("name='a' type='u'", "-1"),
        parameter("name='a' type='u'", "+1"),
        parameter("name='a' type='u'", "01"),
        parameter("name='a' type='i'", "-0"),
        parameter("name='a' type='u'", "1_0"),
        parameter("name='a' type='u'", " 1"),
        parameter("name='a' type='u'", "\u0661"),
        parameter("name='a' type='u'", "4294967296"),
        parameter("name='a' type='u'"),
        parameter("name='a' type='b'", "1"),
        parameter("name='a' type='ay'", "eA"),
        parameter("name='a' type='ay'", "eB=="),
        parameter("name='a' type='s' encoding='base64'", "/w=="),
        parameter("name='a' type='s' encoding='base64'", "AA=="),
        parameter("name='a' type='s' encoding='rot13'", "a"),
        parameter("name='a' type='u' encoding='base64'", "MQ=="),
        parameter("name='a' type='s'", "a<b/>"),
    ],
)
def test_what_is_not_a_tube_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        parse(xml(text))


def test_elements_that_are_not_known_are_ignored() -> None:
    text = description("<x/><parameters><x/><parameter name='a' type='s'/></parameters>")
    assert parse(xml(text)) == Tube(Kind.STREAM, "rsync", {"a": Value("s", "")})


def test_an_answer_is_of_the_tube_that_was_offered_and_repeats_no_parameter() -> None:
    offer = Tube(Kind.STREAM, "rsync", {"p": Value("s", "secret")})
    answer = over_the_wire(build_answer(offer))
    assert len(answer) == 0
    check_answer(answer, offer)
    others = (Tube(Kind.DBUS, "rsync"), Tube(Kind.STREAM, "ssh"))
    for wrong in (None, xml("<description/>"), *map(build_answer, others)):
        with pytest.raises(PeerError):
            check_answer(wrong, offer)


def test_a_value_is_not_in_its_repr() -> None:
    tube = Tube(Kind.STREAM, "rsync", {"p": Value("s", "top-secret")})
    assert "top-secret" not in repr(tube)


@pytest.mark.parametrize("kind", list(Kind))
def test_services_are_announced_and_read(kind: Kind) -> None:
    one = feature(kind, "com.example.Game")
    assert one == f"urn:x-telepathy-e2e:tube:0/{kind}#com.example.Game"
    assert services([TUBES_NS, one, "urn:other"]) == {(kind, "com.example.Game")}


@pytest.mark.parametrize("service", ["", "a<b", "a/b", "a b", "é", "a\n", "x" * 256])
def test_a_name_that_could_confuse_the_hash_of_capabilities_is_not_announced(service: str) -> None:
    assert feature(Kind.STREAM, service) is None
    assert services([f"{TUBES_NS}/stream#{service}"]) == frozenset()


def test_more_services_than_anybody_has_are_not_looked_at() -> None:
    many = [f"{TUBES_NS}/dbus#a{each:04}" for each in range(MAX_SERVICES + 1)]
    assert services(many) == {(Kind.DBUS, f"a{each:04}") for each in range(MAX_SERVICES)}
