"""Data forms (XEP-0004). Pure, and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError

DATA = "jabber:x:data"
X = f"{{{DATA}}}x"
FORM_TYPE = "FORM_TYPE"

_FIELD = f"{{{DATA}}}field"
_VALUE = f"{{{DATA}}}value"
_OPTION = f"{{{DATA}}}option"

# Fields of a form: the longest that servers show (the configuration of a room) has about fifty.
MAX_FIELDS = 300
# Values and options of all fields: lists of administrators are the longest.
MAX_VALUES = 5_000
# Characters of a name or a value; descriptions of rooms are the longest.
MAX_TEXT = 20_000

_TYPES = frozenset(
    (
        "boolean",
        "fixed",
        "hidden",
        "jid-multi",
        "jid-single",
        "list-multi",
        "list-single",
        "text-multi",
        "text-private",
        "text-single",
    )
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: what is in it, and what may be (``options``, of lists)."""

    name: str
    type: str = "text-single"
    # Passwords of rooms are among them.
    values: tuple[str, ...] = field(default=(), repr=False)
    options: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """Its text; several values are lines (section 3.3, ``text-multi``)."""
        return "\n".join(self.values)

    @property
    def is_true(self) -> bool:
        """Of a boolean (section 3.3)."""
        return self.value in ("1", "true")


@dataclass(frozen=True, slots=True)
class Form:
    """A form, filled in or not.

    Attributes:
        kind: ``form``, ``submit``, ``cancel`` or ``result``.
        fields: by name; ``FORM_TYPE`` is in ``type`` instead.
        type: what the names of the fields mean (XEP-0068), or empty.
    """

    kind: str
    fields: Mapping[str, Field]
    type: str = ""


def find(parent: Element) -> Form | None:
    """The first form in an element, if there is one.

    Raises:
        PeerError: see ``parse``.
    """
    element = parent.find(X)
    return parse(element) if element is not None else None


def parse(element: Element) -> Form:
    """Read a form.

    Raises:
        PeerError: not one, or too large.
    """
    if element.tag != X:
        raise PeerError("not a form")
    fields: dict[str, Field] = {}
    kind, count = "", 0
    for child in element.iterfind(_FIELD):
        name = _bounded(child.get("var", ""))
        values = tuple(_bounded(each.text or "") for each in child.iterfind(_VALUE))
        options = tuple(
            _bounded(option.findtext(_VALUE) or "") for option in child.iterfind(_OPTION)
        )
        count += len(values) + len(options)
        if name == FORM_TYPE:
            kind = kind or "".join(values[:1])
        elif name and name not in fields:  # a second one of the same name means nothing
            type = child.get("type", "")
            fields[name] = Field(name, type if type in _TYPES else "text-single", values, options)
        if len(fields) > MAX_FIELDS or count > MAX_VALUES:
            raise PeerError("a form that nobody could fill in", "policy-violation")
    return Form(element.get("type", "form"), fields, kind)


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise PeerError("a form with a text that is too long", "policy-violation")
    return text


def build(form: Form) -> Element:
    """The element; a parsed one becomes the same again, but for labels and instructions."""
    element = Element(X, type=form.kind)
    if form.type:
        _add(element, Field(FORM_TYPE, "hidden", (form.type,)), typed=True)
    for each in form.fields.values():
        _add(element, each, typed=form.kind != "submit")
    return element


def _add(parent: Element, field: Field, *, typed: bool) -> None:
    element = SubElement(parent, _FIELD, var=field.name)
    if typed:
        element.set("type", field.type)
        for option in field.options:
            SubElement(SubElement(element, _OPTION), _VALUE).text = option or None
    for value in field.values:
        SubElement(element, _VALUE).text = value or None


def filled_in(form: Form, answers: Mapping[str, str | bool]) -> Form:
    """The answer to a form: its own values, but for these.

    Fields that are not asked about keep their values: some servers take a field that is missing
    for one that was emptied.

    Args:
        answers: by name of a field that is in the form.
    Raises:
        KeyError: a field that is not.
        ValueError: a list has no such option.
    """
    fields = {name: each for name, each in form.fields.items() if each.type != "fixed"}
    for name, answer in answers.items():
        fields[name] = _answered(fields[name], answer)
    return Form("submit", fields, form.type)


def _answered(field: Field, answer: str | bool) -> Field:
    if isinstance(answer, bool):
        text = "1" if answer else "0"
    else:
        text = answer
        if field.type.startswith("list") and field.options and text not in field.options:
            raise ValueError(f"{field.name} has no option of this value")
    values = tuple(text.split("\n")) if field.type.endswith("-multi") else (text,)
    return replace(field, values=values)
