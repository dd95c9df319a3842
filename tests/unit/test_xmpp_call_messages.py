from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.stanzas import MAX_CONTENTS, MAX_TEXT
from telepathy_e2e.xmpp.call_messages import (
    CALLS_NS,
    STORE,
    CallMessage,
    Finish,
    Proceed,
    Propose,
    Reason,
    Reject,
    Retract,
    Ringing,
    build,
    parse,
)

from .jingle_support import over_the_wire, xml


def message(*children: Element) -> Element:
    element = Element("{jabber:client}message")
    element.extend(children)
    return element


def said(inner: str) -> CallMessage | None:
    return parse(xml(f"<message xmlns='jabber:client' xmlns:c='{CALLS_NS}'>{inner}</message>"))


@pytest.mark.parametrize(
    "call",
    [
        Propose("c1", ("audio", "video")),
        Ringing("c1"),
        Proceed("c1"),
        Reject("c1"),
        Reject("c1", Reason("expired", "Tie-Break"), tie_break=True),
        Retract("c1", Reason("cancel")),
        Finish("c1"),
        Finish("c1", Reason("expired", "Session migrated"), "c2"),
    ],
)
def test_what_is_built_is_read_again_and_kept_by_servers(call: CallMessage) -> None:
    element = over_the_wire(message(*build(call)))
    assert parse(element) == call
    assert element.find(STORE) is not None


def test_what_dino_says_is_read() -> None:
    # Recorded: a call of Dino 0.4.2, and its answer to one.
    assert said(
        "<propose xmlns='urn:xmpp:jingle-message:0' id='0948d506-c172-41a3-bc11-20fbf3d86b37'>"
        "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/></propose>"
        "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@localhost' id='nZkNIKyZEfY0FgENuUtRA8F5'/>"
    ) == Propose("0948d506-c172-41a3-bc11-20fbf3d86b37", ("audio",))
    assert said(
        "<proceed xmlns='urn:xmpp:jingle-message:0' id='f55678e6-9392-4316-b524-c73886ad9b16'>"
        "<device xmlns='http://gultsch.de/xmpp/drafts/omemo/dlts-srtp-verification'"
        " id='1153132303'/></proceed>"
    ) == Proceed("f55678e6-9392-4316-b524-c73886ad9b16")


def test_other_messages_say_nothing_about_calls() -> None:
    assert said("<body>hello</body>") is None
    assert said("<c:accept id='c1'/>") is None


def test_a_message_that_says_two_things_is_refused() -> None:
    with pytest.raises(PeerError):
        said("<c:proceed id='c1'/><c:reject id='c1'/>")


@pytest.mark.parametrize("identifier", ["", "a b", "a" * 257, "a\u200e"])
def test_an_id_that_is_none_is_refused(identifier: str) -> None:
    for inner in (f"<c:ringing id='{identifier}'/>", "<c:ringing/>"):
        with pytest.raises(PeerError):
            said(inner)
    with pytest.raises(PeerError):
        said(f"<c:finish id='c1'><c:migrated to='{identifier}'/></c:finish>")


def test_an_id_is_as_long_as_a_sid_may_be() -> None:
    assert said(f"<c:ringing id='{'a' * 256}'/>") == Ringing("a" * 256)


def test_only_media_are_calls() -> None:
    inner = "<description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/>"
    assert said(f"<c:propose id='c1'>{inner}</c:propose>") == Propose("c1", ())


def test_no_more_contents_are_proposed_than_a_session_has() -> None:
    inner = "<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio'/>"
    most = said(f"<c:propose id='c1'>{inner * MAX_CONTENTS}</c:propose>")
    assert most == Propose("c1", ("audio",) * MAX_CONTENTS)
    with pytest.raises(PeerError):
        said(f"<c:propose id='c1'>{inner * (MAX_CONTENTS + 1)}</c:propose>")


@pytest.mark.parametrize(
    ("inner", "condition"),
    [
        ("<busy/>", "busy"),
        ("", "general-error"),
        ("<success/><busy/>", "general-error"),
        ("<dancing/>", "general-error"),
    ],
)
def test_a_reason_that_says_nothing_is_no_success(inner: str, condition: str) -> None:
    assert said(
        f"<c:finish id='c1'><reason xmlns='urn:xmpp:jingle:1'>{inner}</reason></c:finish>"
    ) == Finish("c1", Reason(condition))


def test_the_words_of_a_reason_are_one_short_line() -> None:
    text = "a\nb" + "c" * MAX_TEXT
    call = said(
        f"<c:reject id='c1'><reason xmlns='urn:xmpp:jingle:1'><busy/><text>{text}</text>"
        "</reason></c:reject>"
    )
    assert isinstance(call, Reject)
    assert call.reason is not None
    assert call.reason.text == ("a b" + "c" * MAX_TEXT)[:MAX_TEXT]
