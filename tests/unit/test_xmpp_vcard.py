"""vCards: what is shown of them, what is written, and what stays."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, PeerError
from telepathy_e2e.xmpp import vcard
from telepathy_e2e.xmpp.markup import is_sendable, serialise
from telepathy_e2e.xmpp.vcard import Field


def card(inner: str) -> Element:
    return fromstring(f"<vCard xmlns='vcard-temp'>{inner}</vCard>")  # noqa: S314


EXAMPLE = card(
    """
    <FN>Peter Saint-Andre</FN>
    <N><FAMILY>Saint-Andre</FAMILY><GIVEN>Peter</GIVEN><MIDDLE/></N>
    <NICKNAME>stpeter</NICKNAME>
    <BDAY>1966-08-06</BDAY>
    <ORG><ORGNAME>XMPP Standards Foundation</ORGNAME><ORGUNIT>Council</ORGUNIT></ORG>
    <TEL><WORK/><VOICE/><NUMBER>303-308-3282</NUMBER></TEL>
    <TEL><WORK/><FAX/><NUMBER/></TEL>
    <ADR><WORK/><EXTADD>Suite 600</EXTADD><STREET>1899 Wynkoop Street</STREET>
      <LOCALITY>Denver</LOCALITY><REGION>CO</REGION><PCODE>80202</PCODE><CTRY>USA</CTRY></ADR>
    <LABEL><HOME/><LINE>One</LINE><LINE>Two
</LINE></LABEL>
    <EMAIL><INTERNET/><PREF/><USERID>stpeter@jabber.org</USERID></EMAIL>
    <JABBERID>stpeter@jabber.org</JABBERID>
    <GEO><LAT>39.75</LAT><LON>-104.99</LON></GEO>
    <DESC>More</DESC>
    <PHOTO><TYPE>image/png</TYPE><BINVAL>aGVs
      bG8=</BINVAL></PHOTO>
    <X-OTHER a="1">kept</X-OTHER>
    """
)
FIELDS: tuple[Field, ...] = (
    ("fn", (), ("Peter Saint-Andre",)),
    ("n", (), ("Saint-Andre", "Peter", "", "", "")),
    ("nickname", (), ("stpeter",)),
    ("bday", (), ("1966-08-06",)),
    ("org", (), ("XMPP Standards Foundation", "Council")),
    ("tel", ("type=work", "type=voice"), ("303-308-3282",)),
    (
        "adr",
        ("type=work",),
        ("", "Suite 600", "1899 Wynkoop Street", "Denver", "CO", "80202", "USA"),
    ),
    ("label", ("type=home",), ("One\nTwo",)),
    ("email", ("type=internet", "type=pref"), ("stpeter@jabber.org",)),
    ("x-jabber", (), ("stpeter@jabber.org",)),
    ("geo", (), ("39.75", "-104.99")),
    ("x-desc", (), ("More",)),
)


def test_the_example_of_the_standard_has_these_fields() -> None:
    assert vcard.read(EXAMPLE) == FIELDS


def test_fields_that_are_written_are_read_again_and_the_rest_stays() -> None:
    written = vcard.with_fields(EXAMPLE, vcard.checked(FIELDS[:3]))
    assert vcard.read(written) == FIELDS[:3]
    assert vcard.photo(written) == b"hello"
    assert written.findtext("{vcard-temp}X-OTHER") == "kept"
    assert vcard.read(EXAMPLE) == FIELDS


SPECS = {name: (parameters, most) for name, parameters, _, most in vcard.SUPPORTED_FIELDS}
SIZES = {"n": 5, "adr": 7, "geo": 2}
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda text: is_sendable(text) and text == text.strip() and "\r" not in text
)


@st.composite
def fields(draw: st.DrawFn) -> list[Field]:
    found: list[Field] = []
    for name in draw(st.lists(st.sampled_from(sorted(SPECS)), max_size=8)):
        parameters, most = SPECS[name]
        if most == 1 and any(each[0] == name for each in found):
            continue
        chosen = tuple(each for each in parameters if draw(st.booleans()))
        size = SIZES.get(name, draw(st.integers(1, 4)) if name == "org" else 1)
        text = TEXT if name != "label" else TEXT.filter(lambda text: "\n" not in text)
        found.append((name, chosen, tuple(draw(text) for _ in range(size))))
    return found


@given(fields())
def test_any_supported_fields_survive_the_way_there_and_back(given: list[Field]) -> None:
    written = vcard.with_fields(Element(vcard.TAG), vcard.checked(given))
    again = fromstring(serialise(written))  # noqa: S314
    assert vcard.read(again) == tuple(given)


@pytest.mark.parametrize(
    "wrong",
    [
        ("photo", (), ("x",)),
        ("FN", (), ("x",)),
        ("fn", ("type=home",), ("x",)),
        ("tel", ("type=satellite",), ("1",)),
        ("fn", (), ()),
        ("fn", (), ("a", "b")),
        ("geo", (), ("1", "2", "3")),
        ("note", (), ("a\0b",)),
        ("note", (), ("n" * (vcard.MAX_VALUE + 1),)),
        ("org", (), ("unit",) * (vcard.MAX_PARTS + 2)),
    ],
)
def test_fields_that_are_not_supported_are_refused(
    wrong: tuple[str, tuple[str, ...], tuple[str, ...]],
) -> None:
    with pytest.raises(InvalidArgument):
        vcard.checked([wrong])


def test_too_many_fields_are_refused() -> None:
    most = [("url", (), ("u",))] * vcard.MAX_FIELDS
    assert len(vcard.checked(most)) == vcard.MAX_FIELDS
    with pytest.raises(InvalidArgument):
        vcard.checked([*most, ("url", (), ("u",))])
    with pytest.raises(InvalidArgument):
        vcard.checked([("fn", (), ("a",)), ("fn", (), ("b",))])
    long = [("note", (), ("n" * vcard.MAX_VALUE,))]
    assert vcard.checked(long * 3)
    with pytest.raises(InvalidArgument):
        vcard.checked(long * 4)


def test_parts_that_are_not_given_are_empty_and_parameters_are_in_order() -> None:
    assert vcard.checked([("geo", (), ("1",)), ("tel", ("TYPE=CELL", "type=home"), ("2",))]) == (
        ("geo", (), ("1", "")),
        ("tel", ("type=home", "type=cell"), ("2",)),
    )


def test_what_is_read_of_a_hostile_card_is_bounded() -> None:
    many = card("<URL>u</URL>" * (vcard.MAX_FIELDS + 1))
    assert len(vcard.read(many)) == vcard.MAX_FIELDS
    long = card("<NOTE>" + "n" * 100_000 + "</NOTE>")
    assert [len(each[2][0]) for each in vcard.read(long)] == [vcard.MAX_VALUE]
    several = card(("<NOTE>" + "n" * 3_000 + "</NOTE>") * 10)
    assert len(vcard.read(several)) == 3
    label = card("<LABEL>" + "<LINE>x</LINE>" * 40_000 + "</LABEL>")
    assert vcard.read(label)[0][2][0].count("x") == vcard.MAX_PARTS
    units = card("<ORG>" + "<ORGUNIT>x</ORGUNIT>" * 40_000 + "</ORG>")
    assert len(vcard.read(units)[0][2]) == 1 + vcard.MAX_PARTS
    empty = card("<URL/>" * vcard.MAX_ELEMENTS + "<FN>beyond</FN>")
    assert vcard.read(empty) == ()


def test_the_nickname_is_the_first_one_and_else_the_name() -> None:
    named = (("nickname", (), ("a",)), ("nickname", (), ("b",)), ("fn", (), ("c",)))
    assert vcard.nickname(named) == "a"
    assert vcard.nickname(named[2:]) == "c"
    assert vcard.nickname(()) == ""


def test_a_nickname_takes_the_place_of_all_others() -> None:
    before = card("<NICKNAME>a</NICKNAME><NICKNAME>b</NICKNAME><FN>c</FN>")
    assert vcard.nickname(vcard.read(vcard.with_nickname(before, "d"))) == "d"
    assert tostring(vcard.with_nickname(before, "")).count(b"NICKNAME") == 0
    assert len(before) == 3


def test_a_picture_takes_the_place_of_the_other_one() -> None:
    changed = vcard.with_photo(EXAMPLE, b"new", "image/gif")
    assert vcard.photo(changed) == b"new"
    assert len(changed.findall("{vcard-temp}PHOTO")) == 1
    assert vcard.read(changed) == FIELDS
    gone = vcard.with_photo(changed, b"", "")
    assert vcard.photo(gone) == b""
    assert gone.find("{vcard-temp}PHOTO") is None


def test_a_picture_elsewhere_is_none() -> None:
    assert vcard.photo(card("<PHOTO><EXTVAL>http://example.test/</EXTVAL></PHOTO>")) == b""


def test_a_picture_that_is_too_large_or_no_base64_is_an_error() -> None:
    assert len(vcard.decode(base64.b64encode(bytes(vcard.MAX_PHOTO)).decode())) == vcard.MAX_PHOTO
    for text in (
        base64.b64encode(bytes(vcard.MAX_PHOTO + 1)).decode(),
        "A" * (2 * vcard.MAX_PHOTO + 1),
        "a",
        "!!!!",
        "äöü=",
    ):
        with pytest.raises(PeerError):
            vcard.decode(text)


def test_an_answer_that_is_no_vcard_is_an_error() -> None:
    assert len(vcard.check(None)) == 0
    with pytest.raises(PeerError):
        vcard.check(Element("{urn:x}vCard"))


tags = st.sampled_from([name for name in ("FN", "N", "TEL", "HOME", "NUMBER", "LABEL", "LINE")]) | (
    st.sampled_from(["ORG", "ORGNAME", "ORGUNIT", "PHOTO", "BINVAL", "EXTVAL", "vCard", "X"])
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Element:
    element = Element(f"{{{draw(st.sampled_from(['vcard-temp', 'urn:x']))}}}{draw(tags)}")
    element.text = draw(st.none() | st.text(max_size=6))
    for _ in range(draw(st.integers(0, 4)) if depth else 0):
        element.append(draw(trees(depth - 1)))
    return element


@given(st.lists(trees(), max_size=4))
def test_nothing_in_a_card_raises_anything_but_a_peer_error(children: list[Element]) -> None:
    root = Element(vcard.TAG)
    root.extend(children)
    for name, parameters, values in vcard.read(root):
        assert name in SPECS
        assert set(parameters) <= set(SPECS[name][0])
        assert any(values)
    try:
        vcard.photo(root)
    except PeerError:
        pass
    SubElement(root, "{vcard-temp}FN").text = "x"
    vcard.with_photo(root, b"x", "image/png")
