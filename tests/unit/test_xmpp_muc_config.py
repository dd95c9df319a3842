"""What kind of room it is."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import forms, muc_config
from telepathy_e2e.xmpp.caps import DISCO_INFO, DISCO_ITEMS
from telepathy_e2e.xmpp.forms import Field, Form
from telepathy_e2e.xmpp.muc_config import ListedRoom, RoomInfo

INFO = XML("""<query xmlns='http://jabber.org/protocol/disco#info'>
<identity category='conference' type='text' name='A Dark Cave'/>
<feature var='http://jabber.org/protocol/muc'/><feature var='muc_passwordprotected'/>
<feature var='muc_hidden'/><feature var='muc_persistent'/><feature var='muc_membersonly'/>
<feature var='muc_semianonymous'/><feature var='muc_moderated'/>
<x xmlns='jabber:x:data' type='result'>
<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roominfo</value></field>
<field var='muc#roominfo_description'><value>The place</value></field>
<field var='muc#roominfo_changesubject'><value>1</value></field>
<field var='muc#roominfo_occupants'><value>3</value></field></x></query>""")


def owner_form(**values: str) -> Form:
    fields = {
        "roomname": Field("muc#roomconfig_roomname", "text-single", ("Cave",)),
        "roomsecret": Field("muc#roomconfig_roomsecret", "text-private", ("",)),
        "whois": Field(
            "muc#roomconfig_whois", "list-single", ("moderators",), ("moderators", "anyone")
        ),
        "publicroom": Field("muc#roomconfig_publicroom", "boolean", ("1",)),
        "maxusers": Field("muc#roomconfig_maxusers", "list-single", ("20",), ("20", "none", "50")),
    }
    found = {each.name: each for each in fields.values()}
    for name, value in values.items():
        full = "muc#roomconfig_" + name
        found[full] = Field(full, "boolean", (value,))
    return Form("form", found, muc_config.ROOM_CONFIG)


def values(form: Form) -> dict[str, str]:
    return {name.rpartition("_")[2]: each.value for name, each in form.fields.items()}


def test_a_room_says_what_it_is() -> None:
    assert muc_config.parse_info(INFO) == RoomInfo(
        title="A Dark Cave",
        description="The place",
        anonymous=True,
        invite_only=True,
        moderated=True,
        persistent=True,
        private=True,
        password_protected=True,
        occupants=3,
        may_change_subject=True,
    )


def test_what_is_no_room_is_refused() -> None:
    with pytest.raises(PeerError):
        muc_config.parse_info(
            XML(f"<query xmlns='{DISCO_INFO}'><identity category='client'/></query>")
        )
    many = XML(f"<query xmlns='{DISCO_INFO}'><identity category='conference'/></query>")
    for _ in range(muc_config.MAX_FEATURES):
        SubElement(many, f"{{{DISCO_INFO}}}feature", var="x")
    assert muc_config.parse_info(many) == RoomInfo()
    SubElement(many, f"{{{DISCO_INFO}}}feature", var="x")
    with pytest.raises(PeerError):
        muc_config.parse_info(many)


def test_settings_become_the_answer_to_the_form() -> None:
    form = owner_form()
    answer = muc_config.configured(
        form, {"Title": "Den", "Anonymous": False, "Private": True, "Password": "pw", "Limit": 30}
    )
    assert (answer.kind, answer.type) == ("submit", muc_config.ROOM_CONFIG)
    assert values(answer) == {
        "roomname": "Den",
        "roomsecret": "pw",
        "whois": "anyone",
        "publicroom": "0",
        "maxusers": "50",
    }
    assert values(muc_config.configured(form, {"Limit": 0}))["maxusers"] == "none"
    with pytest.raises(ValueError, match="option"):
        muc_config.configured(form, {"Limit": 51})


def test_only_what_is_in_the_form_can_be_changed() -> None:
    form = owner_form()
    assert set(muc_config.settable(form)) == {
        "Anonymous",
        "Limit",
        "Title",
        "Private",
        "Password",
        "PasswordProtected",
    }
    for name in ("Moderated", "PasswordHint", "What"):
        with pytest.raises(KeyError):
            muc_config.configured(form, {name: True})


def test_a_password_and_its_protection_go_together() -> None:
    form = owner_form()
    with pytest.raises(ValueError, match="password"):
        muc_config.configured(form, {"PasswordProtected": True})
    both = owner_form(passwordprotectedroom="0")
    answer = values(muc_config.configured(both, {"Password": "pw"}))
    assert (answer["roomsecret"], answer["passwordprotectedroom"]) == ("pw", "1")
    protected = owner_form(passwordprotectedroom="1", roomsecret="old")
    assert muc_config.password(protected) == "old"
    answer = values(muc_config.configured(protected, {"PasswordProtected": False}))
    assert (answer["roomsecret"], answer["passwordprotectedroom"]) == ("", "0")
    answer = values(muc_config.configured(protected, {"Title": "x"}))
    assert (answer["roomsecret"], answer["passwordprotectedroom"]) == ("old", "1")
    assert muc_config.password(owner_form(passwordprotectedroom="0", roomsecret="old")) == ""


def test_a_page_of_a_list_has_the_rooms_of_that_server() -> None:
    query = XML(f"""<query xmlns='{DISCO_ITEMS}'>
    <item jid='a@m.test' name='A'/><item jid='b@other.test'/><item jid='m.test'/><item jid='@'/>
    <item jid='c@m.test/x'/><item jid='B@m.test'/><item/>
    <set xmlns='{muc_config.RSM}'><last>mark</last></set></query>""")
    assert muc_config.page(query, "m.test") == (
        [ListedRoom("a@m.test", "A"), ListedRoom("b@m.test", "")],
        "mark",
    )
    assert muc_config.page(XML(f"<query xmlns='{DISCO_ITEMS}'/>"), "m.test") == ([], "")


def test_lists_are_bounded() -> None:
    query = Element("query")
    for _ in range(muc_config.MAX_ITEMS):
        SubElement(query, f"{{{DISCO_ITEMS}}}item")
    assert muc_config.page(query, "m.test") == ([], "")
    SubElement(query, f"{{{DISCO_ITEMS}}}item")
    with pytest.raises(PeerError):
        muc_config.page(query, "m.test")


@given(
    st.lists(st.tuples(st.sampled_from(["", "muc_hidden", "x"]), st.text(max_size=4)), max_size=6),
    st.dictionaries(
        st.sampled_from(["muc#roominfo_occupants", "muc#roomconfig_maxusers", "FORM_TYPE", "x"]),
        st.sampled_from(["", "1", "-1", "x" * 100, "²", "9" * 30, muc_config.ROOM_INFO]),
    ),
)
def test_no_answer_raises_anything_but_a_peer_error(
    features: list[tuple[str, str]], fields: dict[str, str]
) -> None:
    query = Element("query")
    SubElement(query, f"{{{DISCO_INFO}}}identity", category="conference")
    for var, _ in features:
        SubElement(query, f"{{{DISCO_INFO}}}feature", var=var)
    query.append(
        forms.build(Form("result", {n: Field(n, "hidden", (v,)) for n, v in fields.items()}))
    )
    try:
        muc_config.parse_info(query)
    except PeerError:
        return
