from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.reading import MAX_IDENTIFIER, MAX_JID
from telepathy_e2e.jingle.stanzas import (
    CONDITIONS,
    JINGLE_NS,
    MAX_CONTENTS,
    MAX_DEPTH,
    MAX_DISPOSITION,
    MAX_ELEMENTS,
    MAX_PAYLOAD,
    MAX_TEXT,
    Action,
    Content,
    Jingle,
    Reason,
    build,
    parse,
)

from .jingle_support import (
    FILES,
    IBB,
    S5B,
    VECTORS,
    XTLS,
    elements,
    jingle_of,
    jingle_xml,
    jingles,
    over_the_wire,
    sample,
)

DESCRIPTION = f"<description xmlns='{FILES}'/>"
TRANSPORT = f"<transport xmlns='{S5B}'/>"
CONTENT = f"<content creator='initiator' name='file'>{DESCRIPTION}{TRANSPORT}</content>"


def refused(element: Element) -> str:
    with pytest.raises(PeerError) as caught:
        parse(element)
    return caught.value.condition


@pytest.mark.parametrize(
    "entry", VECTORS["stanzas"], ids=lambda entry: f"{entry['from']}: {entry['action']}"
)
def test_what_other_clients_send_is_understood(entry: Any) -> None:
    element = jingle_of(entry["stanza"])
    jingle = parse(element)
    assert jingle.action == entry["action"]
    again = parse(over_the_wire(build(jingle)))
    assert [c.name for c in again.contents] == [c.name for c in jingle.contents]
    assert again.reason == jingle.reason
    assert (again.initiator, again.responder) == (jingle.initiator, jingle.responder)


def test_an_offer_without_initiator_and_senders_is_understood() -> None:
    jingle = parse(sample("Chromium, audio and video", "session-initiate"))
    assert jingle.initiator is None
    assert [content.senders for content in jingle.contents] == [None, None]
    assert [child.tag for child in jingle.payload] == ["{urn:xmpp:jingle:apps:grouping:0}group"]


def test_an_answer_without_a_description_is_understood() -> None:
    (content,) = parse(sample("data channel", "session-accept")).contents
    assert content.description is None
    assert content.transport is not None


def test_the_security_of_another_dialect_is_handed_on_as_it_came() -> None:
    element = sample("Gajim 1.3.1", "session-initiate")
    (content,) = parse(element).contents
    assert content.security is element[0].find(f"{{{XTLS}}}security")
    assert content.description is element[0].find(f"{{{FILES}}}description")
    assert content.transport is element[0].find(f"{{{S5B}}}transport")


def test_security_of_any_namespace_is_noticed() -> None:
    odd = "<security xmlns='urn:something:else'/>"
    (content,) = parse(jingle_xml(CONTENT.replace("</content>", odd + "</content>"))).contents
    assert content.security is not None
    assert content.security.tag == "{urn:something:else}security"


@pytest.mark.parametrize("name", ["description", "transport", "security"])
@pytest.mark.parametrize("namespace", [S5B, "urn:other"])
def test_doubled_elements_are_refused_even_of_different_namespaces(
    name: str, namespace: str
) -> None:
    element = jingle_xml(CONTENT)
    SubElement(element[0], f"{{{XTLS}}}{name}")
    SubElement(element[0], f"{{{namespace}}}{name}")
    assert refused(element) == "bad-request"


def test_a_doubled_reason_is_refused() -> None:
    reason = "<reason><success/></reason>"
    parse(jingle_xml(reason, "session-terminate"))
    assert refused(jingle_xml(reason * 2, "session-terminate")) == "bad-request"


@pytest.mark.parametrize(
    "inner",
    [
        "",
        f"<content creator='initiator' name='file'>{DESCRIPTION}</content>",
        f"<content creator='initiator' name='file'>{TRANSPORT}</content>",
        f"<content name='file'>{DESCRIPTION}{TRANSPORT}</content>",
        f"<content creator='nobody' name='file'>{DESCRIPTION}{TRANSPORT}</content>",
        f"<content creator='initiator'>{DESCRIPTION}{TRANSPORT}</content>",
        f"<content creator='initiator' name=''>{DESCRIPTION}{TRANSPORT}</content>",
        CONTENT.replace("name=", "senders='some' name="),
        CONTENT.replace("name=", "disposition='early-session' name="),
        CONTENT.replace("name=", "disposition='' name="),
        CONTENT.replace("'file'", "'a\u202eb'"),
    ],
)
def test_a_malformed_offer_is_refused(inner: str) -> None:
    parse(jingle_xml(CONTENT))
    assert refused(jingle_xml(inner)) == "bad-request"


def test_one_content_of_several_may_have_another_disposition() -> None:
    early = CONTENT.replace("name='file'", "disposition='early-session' name='early'")
    contents = parse(jingle_xml(CONTENT + early)).contents
    assert [content.disposition for content in contents] == ["session", "early-session"]


@pytest.mark.parametrize("action", [None, "", "session-begin", "SESSION-INITIATE"])
def test_an_unknown_action_is_refused(action: str | None) -> None:
    element = jingle_xml(CONTENT)
    element.attrib.pop("action")
    if action is not None:
        element.set("action", action)
    assert refused(element) == "bad-request"


@pytest.mark.parametrize("sid", [None, "", "a b", "a\tb", "\u202e"])
def test_an_unusable_sid_is_refused(sid: str | None) -> None:
    element = jingle_xml("", "session-info")
    element.attrib.pop("sid")
    if sid is not None:
        element.set("sid", sid)
    assert refused(element) == "bad-request"


def test_something_else_is_refused() -> None:
    assert refused(Element("{urn:xmpp:jingle:0}jingle")) == "bad-request"


@pytest.mark.parametrize(
    "action",
    [
        a
        for a in Action
        if a.startswith(("content", "transport", "desc")) and a is not Action.CONTENT_REJECT
    ],
)
def test_actions_on_contents_need_one(action: str) -> None:
    assert refused(jingle_xml("", action)) == "bad-request"


@pytest.mark.parametrize("action", ["transport-info", "transport-replace", "transport-accept"])
def test_actions_on_transports_need_one(action: str) -> None:
    assert refused(jingle_xml("<content creator='initiator' name='x'/>", action)) == "bad-request"


def test_content_modify_needs_senders() -> None:
    inner = "<content creator='initiator' name='x'{}/>"
    assert refused(jingle_xml(inner.format(""), "content-modify")) == "bad-request"
    parse(jingle_xml(inner.format(" senders='none'"), "content-modify"))


@pytest.mark.parametrize("action", ["session-info", "session-terminate", "security-info"])
def test_an_empty_element_is_allowed_where_the_standard_allows_it(action: str) -> None:
    assert parse(jingle_xml("", action)).contents == ()


def test_contents_are_bounded() -> None:
    many = "".join(CONTENT.replace("'file'", f"'{n}'") for n in range(MAX_CONTENTS))
    assert len(parse(jingle_xml(many)).contents) == MAX_CONTENTS
    assert refused(jingle_xml(many + CONTENT)) == "bad-request"


def test_payload_is_bounded() -> None:
    payload = "<x xmlns='urn:x'/>" * MAX_PAYLOAD
    assert len(parse(jingle_xml(payload, "session-info")).payload) == MAX_PAYLOAD
    assert refused(jingle_xml(payload + "<y xmlns='urn:x'/>", "session-info")) == "bad-request"


def test_elements_in_all_are_bounded() -> None:
    # jingle, content, description and transport are four of them.
    inside = "<a/>" * (MAX_ELEMENTS - 4)
    full = CONTENT.replace(DESCRIPTION, f"<description xmlns='{FILES}'>{inside}</description>")
    parse(jingle_xml(full))
    assert refused(jingle_xml(full.replace(TRANSPORT, f"{TRANSPORT}<b/>"))) == "bad-request"


def test_depth_is_bounded() -> None:
    deepest = MAX_DEPTH - 1
    parse(jingle_xml("<a>" * deepest + "</a>" * deepest, "session-info"))
    deepest += 1
    assert refused(jingle_xml("<a>" * deepest + "</a>" * deepest, "session-info")) == "bad-request"


@pytest.mark.parametrize(
    ("name", "maximum"),
    [("sid", MAX_IDENTIFIER), ("initiator", MAX_JID), ("responder", MAX_JID)],
)
def test_attributes_are_bounded(name: str, maximum: int) -> None:
    element = jingle_xml(CONTENT)
    element.set(name, "a" * maximum)
    parse(element)
    element.set(name, "a" * (maximum + 1))
    assert refused(element) == "bad-request"


@pytest.mark.parametrize(
    ("name", "maximum"), [("name", MAX_IDENTIFIER), ("disposition", MAX_DISPOSITION)]
)
def test_attributes_of_contents_are_bounded(name: str, maximum: int) -> None:
    element = jingle_xml(CONTENT + CONTENT.replace("'file'", "'two'"))
    element[0].set(name, "a" * maximum)
    parse(element)
    element[0].set(name, "a" * (maximum + 1))
    assert refused(element) == "bad-request"


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
def test_every_reason_comes_back_as_it_went(condition: str) -> None:
    reason = Reason(condition, "a sentence", Element("{urn:x}detail"))
    jingle = Jingle(Action.SESSION_TERMINATE, "sid1", reason=reason)
    again = parse(over_the_wire(build(jingle))).reason
    assert again is not None
    assert (again.condition, again.text) == (condition, "a sentence")
    assert again.extra is not None
    assert again.extra.tag == "{urn:x}detail"


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<text>hello</text>",
        "<sucess/>",
        "<success xmlns='urn:x'/>",
        "<success/><security-error/>",
        "<success/><success/>",
    ],
)
def test_a_reason_that_is_not_one_is_never_a_success(inner: str) -> None:
    reason = parse(jingle_xml(f"<reason>{inner}</reason>", "session-terminate")).reason
    assert reason is not None
    assert reason.condition == "general-error"


def test_the_text_of_a_reason_is_cut_and_cleaned() -> None:
    text = "\u202eevil" + "x" * MAX_TEXT
    inner = f"<reason><decline/><text>{text}</text></reason>"
    reason = parse(jingle_xml(inner, "session-terminate")).reason
    assert reason is not None
    assert reason.text.startswith("evil")
    assert len(reason.text) < MAX_TEXT


def test_a_content_comes_back_as_it_went() -> None:
    content = Content(
        "responder",
        "a name",
        "none",
        "early-session",
        Element(f"{{{FILES}}}description"),
        Element(f"{{{IBB}}}transport"),
        Element(f"{{{XTLS}}}security"),
    )
    jingle = Jingle(Action.CONTENT_ADD, "sid1", (content,), initiator="a@b/c", responder="d@e/f")
    again = parse(over_the_wire(build(jingle)))
    assert (again.initiator, again.responder) == ("a@b/c", "d@e/f")
    (back,) = again.contents
    assert (back.creator, back.name, back.senders, back.disposition) == (
        "responder",
        "a name",
        "none",
        "early-session",
    )
    assert back.description is not None
    assert back.transport is not None
    assert back.security is not None


def test_forbidden_characters_in_our_own_text_do_not_break_the_stream() -> None:
    jingle = Jingle(Action.SESSION_TERMINATE, "s", reason=Reason("decline", "a\x00b"))
    reason = parse(over_the_wire(build(jingle))).reason
    assert reason is not None
    assert reason.text == "a\ufffdb"


@given(st.one_of(elements(tag=f"{{{JINGLE_NS}}}jingle"), elements(), jingles()))
def test_no_element_raises_anything_but_a_peer_error(element: Element) -> None:
    try:
        jingle = parse(element)
    except PeerError:
        return
    assert len(jingle.contents) <= MAX_CONTENTS
    build(jingle)
