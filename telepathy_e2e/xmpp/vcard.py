"""vCards (XEP-0054) and the fields that Telepathy shows of them. Pure, and bounded.

A field is (name, parameters, values) as in Telepathy's Contact_Info_Field: the name and parameters
in lower case, one value, or as many as a structured field has parts.
"""

from __future__ import annotations

import base64
import binascii
import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import InvalidArgument, PeerError
from telepathy_e2e.xmpp.markup import is_sendable

VCARD: Final = "vcard-temp"
TAG: Final = f"{{{VCARD}}}vCard"

# Fields of one vCard that are shown: a card that people fill in by hand has about twenty.
MAX_FIELDS: Final = 64
# Elements of one vCard that are looked at, full or empty: some programs write an empty one for each
# field of their form.
MAX_ELEMENTS: Final = 1_024
# Characters of one value; notes are the longest.
MAX_VALUE: Final = 2_048
# Characters of all that is kept of one vCard: cards of many people are held at a time.
MAX_CARD: Final = 8_192
# Units of an organisation, lines of a label.
MAX_PARTS: Final = 32
# Bytes of a picture of somebody else. XEP-0153 asks for 8 KiB and for patience with those who send
# more; some programs send a few hundred. Base64 of this stays below the bound of a stanza.
MAX_PHOTO: Final = 512 * 1024

# Contact_Info_Field_Flags
OVERWRITTEN_BY_NICKNAME: Final = 2
PARAMETERS_EXACT: Final = 1
NO_LIMIT: Final = 2**32 - 1

Field = tuple[str, tuple[str, ...], tuple[str, ...]]
FieldSpec = tuple[str, tuple[str, ...], int, int]


class _Kind(Enum):
    TEXT = auto()  # the text of the element
    PARTS = auto()  # a child for each value
    LINES = auto()  # one value, a child for each line
    UNITS = auto()  # the last child repeats


@dataclass(frozen=True)
class _Spec:
    """How a field is written, in the vocabulary of the DTD of XEP-0054."""

    tag: str
    name: str
    kind: _Kind = _Kind.TEXT
    types: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    once: bool = False
    flags: int = 0

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(f"type={each.lower()}" for each in self.types)

    @property
    def shown(self) -> FieldSpec:
        exact = 0 if self.types else PARAMETERS_EXACT
        return (self.name, self.parameters, exact | self.flags, 1 if self.once else NO_LIMIT)


_PLACE = ("HOME", "WORK")
_POSTAL = (*_PLACE, "POSTAL", "PARCEL", "DOM", "INTL", "PREF")
_TEL = (*_PLACE, "VOICE", "FAX", "PAGER", "MSG", "CELL", "VIDEO", "BBS", "MODEM", "ISDN", "PCS")
_NAME_PARTS = ("FAMILY", "GIVEN", "MIDDLE", "PREFIX", "SUFFIX")
_ADDRESS_PARTS = ("POBOX", "EXTADD", "STREET", "LOCALITY", "REGION", "PCODE", "CTRY")

_SPECS: Final = (
    _Spec("FN", "fn", once=True),
    _Spec("N", "n", _Kind.PARTS, parts=_NAME_PARTS, once=True),
    _Spec("NICKNAME", "nickname", flags=OVERWRITTEN_BY_NICKNAME),
    _Spec("BDAY", "bday"),
    _Spec("ADR", "adr", _Kind.PARTS, _POSTAL, _ADDRESS_PARTS),
    _Spec("LABEL", "label", _Kind.LINES, _POSTAL, ("LINE",)),
    _Spec("TEL", "tel", _Kind.PARTS, (*_TEL, "PREF"), ("NUMBER",)),
    _Spec("EMAIL", "email", _Kind.PARTS, (*_PLACE, "INTERNET", "PREF", "X400"), ("USERID",)),
    _Spec("JABBERID", "x-jabber"),
    _Spec("MAILER", "mailer"),
    _Spec("TZ", "tz"),
    _Spec("GEO", "geo", _Kind.PARTS, parts=("LAT", "LON"), once=True),
    _Spec("TITLE", "title"),
    _Spec("ROLE", "role"),
    _Spec("ORG", "org", _Kind.UNITS, parts=("ORGNAME", "ORGUNIT")),
    _Spec("NOTE", "note"),
    _Spec("PRODID", "prodid"),
    _Spec("REV", "rev"),
    _Spec("SORT-STRING", "sort-string"),
    _Spec("UID", "uid"),
    _Spec("URL", "url"),
    _Spec("DESC", "x-desc"),
)
_BY_TAG: Final = {f"{{{VCARD}}}{each.tag}": each for each in _SPECS}
_BY_NAME: Final = {each.name: each for each in _SPECS}

# ContactInfo.SupportedFields. Pictures are Avatars' affair; keys, sounds and cards in cards are
# left as they are.
SUPPORTED_FIELDS: Final[tuple[FieldSpec, ...]] = tuple(each.shown for each in _SPECS)


def query() -> Element:
    """What asks for somebody's vCard."""
    return Element(TAG)


def check(card: Element | None) -> Element:
    """The vCard in an answer; an empty one if there is none.

    Raises:
        PeerError: the answer is something else.
    """
    if card is None:
        return Element(TAG)
    if card.tag != TAG:
        raise PeerError("this is no vCard", "bad-request")
    return card


# -- reading --------------------------------------------------------------------------------


def read(card: Element) -> tuple[Field, ...]:
    """The fields of a vCard that are understood, in its order, as far as the bounds reach."""
    found: list[Field] = []
    length = 0
    for child in islice(card, MAX_ELEMENTS):
        spec = _BY_TAG.get(child.tag)
        if spec is None:
            continue
        for field in _fields(spec, child):
            length += sum(map(len, (field[0], *field[1], *field[2])))
            if len(found) == MAX_FIELDS or length > MAX_CARD:
                return tuple(found)
            found.append(field)
    return tuple(found)


def _fields(spec: _Spec, element: Element) -> Iterator[Field]:
    types = {child.tag for child in element} if spec.types else set()
    parameters = tuple(f"type={each.lower()}" for each in spec.types if _tag(each) in types)
    match spec.kind:
        case _Kind.TEXT:
            # "A vCard field with multiple comma-separated values, such as 'nickname', should be
            # represented by several" (Contact_Info_Field); in XML commas are part of the value.
            values: tuple[str, ...] = (_text(element),)
        case _Kind.PARTS:
            values = tuple(_text(element.find(_tag(part))) for part in spec.parts)
        case _Kind.LINES:
            lines = [_text(each) for each in islice(element.iterfind(_tag("LINE")), MAX_PARTS)]
            values = ("\n".join(lines)[:MAX_VALUE],)
        case _Kind.UNITS:
            head, last = spec.parts
            units = element.findall(_tag(last))[:MAX_PARTS]
            values = (_text(element.find(_tag(head))), *map(_text, units))
    if any(values):  # people leave fields empty, and then have none
        yield spec.name, parameters, values


def _text(element: Element | None) -> str:
    return "" if element is None else (element.text or "")[:MAX_VALUE].strip()


def _tag(name: str) -> str:
    return f"{{{VCARD}}}{name}"


def nickname(fields: Iterable[Field]) -> str:
    """What the card's owner calls itself: the nickname, else the full name; empty if neither."""
    named = {name: values[0] for name, _, values in reversed(list(fields))}
    return named.get("nickname", "") or named.get("fn", "")


# -- writing --------------------------------------------------------------------------------


def checked(fields: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> tuple[Field, ...]:
    """Fields that somebody wants to publish.

    Raises:
        InvalidArgument: not what ``SUPPORTED_FIELDS`` promises, or too much of it.
    """
    result: list[Field] = []
    for name, parameters, values in fields:
        spec = _BY_NAME.get(name)
        if spec is None:
            raise InvalidArgument(f"A vCard here has no field {name[:40]!r}")
        wrong = [each for each in parameters if each.lower() not in spec.parameters]
        if wrong:
            raise InvalidArgument(f"The field {name!r} has no parameter {wrong[0][:40]!r}")
        most = _most_values(spec)
        if not 1 <= len(values) <= most:
            raise InvalidArgument(f"The field {name!r} has from 1 to {most} values")
        if any(len(each) > MAX_VALUE or not is_sendable(each) for each in values):
            raise InvalidArgument(
                f"A value of {name!r} is longer than {MAX_VALUE} characters or cannot be sent"
            )
        missing = ("",) * (len(spec.parts) - len(values) if spec.kind is _Kind.PARTS else 0)
        given = {each.lower() for each in parameters}
        ordered = tuple(each for each in spec.parameters if each in given)
        result.append((name, ordered, (*values, *missing)))
    _check_amount(result)
    return tuple(result)


def _most_values(spec: _Spec) -> int:
    match spec.kind:
        case _Kind.PARTS:
            return len(spec.parts)
        case _Kind.UNITS:
            return 1 + MAX_PARTS
        case _:
            return 1


def _check_amount(fields: Sequence[Field]) -> None:
    counts = Counter(name for name, _, _ in fields)
    for spec in _SPECS:
        if spec.once and counts[spec.name] > 1:
            raise InvalidArgument(f"There can be only one field {spec.name!r}")
    length = sum(sum(map(len, (name, *more, *values))) for name, more, values in fields)
    if len(fields) > MAX_FIELDS or length > MAX_CARD:
        raise InvalidArgument(
            f"A vCard has at most {MAX_FIELDS} fields and {MAX_CARD} characters in all"
        )


def with_fields(card: Element, fields: Iterable[Field]) -> Element:
    """A copy of a vCard with these instead of its fields; the rest of it stays.

    Args:
        fields: of ``checked``.
    """
    result = Element(TAG, card.attrib)
    for name, parameters, values in fields:
        if any(values):
            _write(result, _BY_NAME[name], parameters, values)
    for child in card:
        if child.tag not in _BY_TAG:
            result.append(copy.deepcopy(child))
    return result


def with_nickname(card: Element, name: str) -> Element:
    """A copy of a vCard with this nickname alone; empty for none."""
    result = copy.deepcopy(card)
    for each in result.findall(_tag("NICKNAME")):
        result.remove(each)
    if name:
        _write(result, _BY_NAME["nickname"], (), (name,))
    return result


def _write(
    card: Element, spec: _Spec, parameters: tuple[str, ...], values: tuple[str, ...]
) -> None:
    element = SubElement(card, _tag(spec.tag))
    for each in spec.types:
        if f"type={each.lower()}" in parameters:
            SubElement(element, _tag(each))
    match spec.kind:
        case _Kind.TEXT:
            element.text = values[0]
        case _Kind.LINES:
            for line in values[0].split("\n"):
                SubElement(element, _tag("LINE")).text = line
        case _Kind.PARTS:
            for part, value in zip(spec.parts, values, strict=True):
                if value:
                    SubElement(element, _tag(part)).text = value
        case _Kind.UNITS:
            head, last = spec.parts
            SubElement(element, _tag(head)).text = values[0]
            for value in values[1:]:
                SubElement(element, _tag(last)).text = value


# -- pictures -------------------------------------------------------------------------------


def photo(card: Element) -> bytes:
    """The picture in a vCard; empty if there is none.

    A picture that is elsewhere (EXTVAL) is none: to fetch it would tell a stranger's web server
    who we are and when we look.

    Raises:
        PeerError: it cannot be read, or is too large.
    """
    element = card.find(_tag("PHOTO"))
    text = element.findtext(_tag("BINVAL"), "") if element is not None else ""
    return decode(text)


def with_photo(card: Element, data: bytes, mime_type: str) -> Element:
    """A copy of a vCard with this picture; empty data for none."""
    result = copy.deepcopy(card)
    for each in result.findall(_tag("PHOTO")):
        result.remove(each)
    if data:
        element = SubElement(result, _tag("PHOTO"))
        SubElement(element, _tag("TYPE")).text = mime_type
        SubElement(element, _tag("BINVAL")).text = base64.b64encode(data).decode()
    return result


def decode(text: str) -> bytes:
    """Base64 with white space anywhere, as both standards for pictures have it.

    Raises:
        PeerError: it is not, or there is too much of it.
    """
    # Before the white space goes: a megabyte of it is not worth our time either.
    if len(text) > 2 * MAX_PHOTO:
        raise PeerError("a picture is too large", "policy-violation")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise PeerError("a picture is not base64", "bad-request") from None
    if len(data) > MAX_PHOTO:
        raise PeerError("a picture is too large", "policy-violation")
    return data
