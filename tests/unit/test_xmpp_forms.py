"""Data forms."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import forms
from telepathy_e2e.xmpp.forms import Field, Form

FORM = XML("""<x xmlns='jabber:x:data' type='form'><title>Room</title>
<field var='FORM_TYPE' type='hidden'><value>a:type</value></field>
<field type='fixed'><value>Read this</value></field>
<field var='fixed' type='fixed'><value>And this</value></field>
<field var='name' type='text-single' label='Name'><value>Lounge</value></field>
<field var='open' type='boolean'><value>true</value></field>
<field var='who' type='list-single'><value>all</value>
<option label='All'><value>all</value></option><option><value>none</value></option></field>
<field var='admins' type='jid-multi'><value>a@b</value><value>c@d</value></field>
<field var='odd' type='what'><value/></field>
</x>""")


def test_a_form_is_read() -> None:
    form = forms.parse(FORM)
    assert (form.kind, form.type) == ("form", "a:type")
    assert list(form.fields) == ["fixed", "name", "open", "who", "admins", "odd"]
    assert form.fields["who"] == Field("who", "list-single", ("all",), ("all", "none"))
    assert form.fields["open"].is_true
    assert form.fields["admins"].value == "a@b\nc@d"
    assert form.fields["odd"] == Field("odd", "text-single", ("",))


def test_an_answer_keeps_what_it_is_not_asked_to_change() -> None:
    form = forms.parse(FORM)
    answer = forms.filled_in(
        form, {"name": "Bar", "open": False, "who": "none", "admins": "e@f\ng@h"}
    )
    again = forms.parse(forms.build(answer))
    assert (again.kind, again.type) == ("submit", "a:type")
    assert {name: each.values for name, each in again.fields.items()} == {
        "name": ("Bar",),
        "open": ("0",),
        "who": ("none",),
        "admins": ("e@f", "g@h"),
        "odd": ("",),
    }


def test_an_answer_that_the_form_does_not_offer_is_refused() -> None:
    form = forms.parse(FORM)
    with pytest.raises(ValueError, match="who"):
        forms.filled_in(form, {"who": "some"})
    with pytest.raises(KeyError):
        forms.filled_in(form, {"absent": "some"})


def test_what_is_built_is_read_again() -> None:
    form = forms.parse(FORM)
    assert forms.parse(forms.build(form)) == form
    parent = Element("x")
    assert forms.find(parent) is None
    parent.append(forms.build(form))
    assert forms.find(parent) == form


def big(fields: int, values: int, length: int) -> Element:
    x = Element(forms.X)
    for number in range(fields):
        field = SubElement(x, f"{{{forms.DATA}}}field", var=f"f{number}")
        for _ in range(values):
            SubElement(field, f"{{{forms.DATA}}}value").text = "x" * length
    return x


def test_forms_are_bounded() -> None:
    assert len(forms.parse(big(forms.MAX_FIELDS, 0, 0)).fields) == forms.MAX_FIELDS
    assert len(forms.parse(big(1, forms.MAX_VALUES, 1)).fields["f0"].values) == forms.MAX_VALUES
    assert len(forms.parse(big(1, 1, forms.MAX_TEXT)).fields["f0"].value) == forms.MAX_TEXT
    for each in (
        big(forms.MAX_FIELDS + 1, 0, 0),
        big(1, forms.MAX_VALUES + 1, 1),
        big(1, 1, forms.MAX_TEXT + 1),
    ):
        with pytest.raises(PeerError):
            forms.parse(each)
    with pytest.raises(PeerError):
        forms.parse(Element("x"))


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@given(
    st.lists(
        st.tuples(text, st.sampled_from(["", "boolean", "list-multi", "x"]), st.lists(text)),
        max_size=8,
    ),
    text,
)
def test_no_form_raises_anything_else(fields: list[tuple[str, str, list[str]]], kind: str) -> None:
    x = Element(forms.X, type=kind)
    for name, type, values in fields:
        field = SubElement(x, f"{{{forms.DATA}}}field", var=name, type=type)
        for value in values:
            SubElement(field, f"{{{forms.DATA}}}value").text = value
    form = forms.parse(x)
    assert isinstance(form, Form)
    assert forms.parse(forms.build(form)).fields == form.fields
