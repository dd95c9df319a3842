"""Jingle stanzas (XEP-0166) from XML and back.

``parse`` checks everything that can be checked without knowing the session; what it lets through
is bounded. ``description``, ``transport`` and ``security`` stay the elements that came, because
their digest is compared with the one that the other side made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role

from .reading import MAX_JID, identifier, local_name, namespace, readable, session_id, xml_text

JINGLE_NS: Final = "urn:xmpp:jingle:1"
ERRORS_NS: Final = "urn:xmpp:jingle:errors:1"

# A call has audio, video and perhaps a shared screen; nobody was seen sending more than three.
MAX_CONTENTS: Final = 16

# The largest offer seen (audio and video from Chromium) has 164; ten times that, and some.
MAX_ELEMENTS: Final = 2048

# The deepest one has five levels below <jingle/>. Deep trees overrun whatever walks them.
MAX_DEPTH: Final = 24

# Elements beside <content/> and <reason/>: one payload, or <group/> in a call.
MAX_PAYLOAD: Final = 16

# Characters of <text/>: a sentence or two, shown in a notification.
MAX_TEXT: Final = 512

# A token of RFC 2183; the longest one registered has 13 characters.
MAX_DISPOSITION: Final = 64

_JINGLE: Final = f"{{{JINGLE_NS}}}jingle"
_CONTENT: Final = f"{{{JINGLE_NS}}}content"
_REASON: Final = f"{{{JINGLE_NS}}}reason"
_SENDERS: Final = frozenset(("both", "initiator", "none", "responder"))


class Action(StrEnum):
    """XEP-0166 section 7.2."""

    CONTENT_ACCEPT = "content-accept"
    CONTENT_ADD = "content-add"
    CONTENT_MODIFY = "content-modify"
    CONTENT_REJECT = "content-reject"
    CONTENT_REMOVE = "content-remove"
    DESCRIPTION_INFO = "description-info"
    SECURITY_INFO = "security-info"
    SESSION_ACCEPT = "session-accept"
    SESSION_INFO = "session-info"
    SESSION_INITIATE = "session-initiate"
    SESSION_TERMINATE = "session-terminate"
    TRANSPORT_ACCEPT = "transport-accept"
    TRANSPORT_INFO = "transport-info"
    TRANSPORT_REJECT = "transport-reject"
    TRANSPORT_REPLACE = "transport-replace"


#: XEP-0166 section 7.4.
CONDITIONS: Final = frozenset(
    (
        "alternative-session",
        "busy",
        "cancel",
        "connectivity-error",
        "decline",
        "expired",
        "failed-application",
        "failed-transport",
        "general-error",
        "gone",
        "incompatible-parameters",
        "media-error",
        "security-error",
        "success",
        "timeout",
        "unsupported-applications",
        "unsupported-transports",
    )
)

# A content-reject should have some; stanza.js names none and means all that was added.
_WITHOUT_CONTENT: Final = frozenset(
    (
        Action.CONTENT_REJECT,
        Action.SESSION_INFO,
        Action.SESSION_TERMINATE,
        Action.SECURITY_INFO,
    )
)
_WITH_TRANSPORT: Final = frozenset(
    (
        Action.SESSION_INITIATE,
        Action.SESSION_ACCEPT,
        Action.TRANSPORT_INFO,
        Action.TRANSPORT_REPLACE,
        Action.TRANSPORT_ACCEPT,
    )
)


@dataclass(frozen=True)
class Content:
    """One ``<content/>`` (XEP-0166 section 7.3)."""

    creator: str
    """``initiator`` or ``responder``: who made it up; not who sends."""
    name: str
    senders: str | None = None
    """As it came; None means the default, ``both``."""
    disposition: str = "session"
    description: Element | None = None
    transport: Element | None = None
    security: Element | None = None
    """Whatever child is called ``security``, of any namespace."""


@dataclass(frozen=True)
class Reason:
    """One ``<reason/>`` (XEP-0166 section 7.4)."""

    condition: str
    """One of ``CONDITIONS``."""
    text: str = ""
    """For people; one line."""
    extra: Element | None = None
    """What another namespace has to say about it."""


@dataclass(frozen=True)
class Jingle:
    """One ``<jingle/>``."""

    action: Action
    sid: str
    contents: tuple[Content, ...] = ()
    reason: Reason | None = None
    payload: tuple[Element, ...] = ()
    """All other children, for session-info and security-info."""
    initiator: str | None = None
    """As the attribute says. For display only: whom we talk to is in ``from`` (section 7.1)."""
    responder: str | None = None


def parse(element: Element) -> Jingle:
    """Read a ``<jingle/>`` that came from a peer.

    Raises:
        PeerError: ``bad-request``; the stanza breaks a rule of XEP-0166 or a bound of ours.
    """
    if element.tag != _JINGLE:
        raise PeerError("not a jingle element")
    _check_bounds(element)
    try:
        action = Action(element.get("action", ""))
    except ValueError:
        raise PeerError("unknown jingle action") from None
    sid = session_id(element.get("sid"))
    contents = [child for child in element if child.tag == _CONTENT]
    if len(contents) > MAX_CONTENTS:
        raise PeerError("too many contents")
    reasons = [child for child in element if child.tag == _REASON]
    if len(reasons) > 1:
        raise PeerError("reason is doubled")
    payload = tuple(
        child for child in element if local_name(child) and child.tag not in (_CONTENT, _REASON)
    )
    if len(payload) > MAX_PAYLOAD:
        raise PeerError("too much payload")
    jingle = Jingle(
        action,
        sid,
        tuple(_content(content) for content in contents),
        _reason(reasons[0]) if reasons else None,
        payload,
        _jid(element, "initiator"),
        _jid(element, "responder"),
    )
    _check_action(jingle)
    return jingle


def build(jingle: Jingle) -> Element:
    """The ``<jingle/>`` to send."""
    element = Element(_JINGLE, {"action": jingle.action.value, "sid": jingle.sid})
    if jingle.initiator is not None:
        element.set("initiator", jingle.initiator)
    if jingle.responder is not None:
        element.set("responder", jingle.responder)
    for content in jingle.contents:
        element.append(_build_content(content))
    if jingle.reason is not None:
        reason = SubElement(element, _REASON)
        SubElement(reason, f"{{{JINGLE_NS}}}{jingle.reason.condition}")
        if jingle.reason.text:
            SubElement(reason, f"{{{JINGLE_NS}}}text").text = xml_text(jingle.reason.text)
        if jingle.reason.extra is not None:
            reason.append(jingle.reason.extra)
    element.extend(jingle.payload)
    return element


def _check_bounds(element: Element) -> None:
    level, count, depth = [element], 1, 0
    while level:
        level = [child for parent in level for child in parent]
        count, depth = count + len(level), depth + 1
        if count > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise PeerError("more or deeper elements than any session needs")


def _content(element: Element) -> Content:
    creator = element.get("creator")
    if creator not in (Role.INITIATOR, Role.RESPONDER):
        raise PeerError("creator is neither initiator nor responder")
    senders = element.get("senders")
    if senders is not None and senders not in _SENDERS:
        raise PeerError("senders has an undefined value")
    return Content(
        creator=str(creator),
        name=identifier(element.get("name"), "name of a content"),
        senders=senders,
        disposition=identifier(
            element.get("disposition", "session"), "disposition", MAX_DISPOSITION
        ),
        description=_only(element, "description"),
        transport=_only(element, "transport"),
        security=_only(element, "security"),
    )


def _only(content: Element, name: str) -> Element | None:
    """The child of this local name in whatever namespace.

    Doubled ones are refused: one of a pair would be agreed on and the other one acted on.
    """
    found = [child for child in content if local_name(child) == name]
    if len(found) > 1:
        raise PeerError(f"{name} is doubled")
    return found[0] if found else None


def _reason(element: Element) -> Reason:
    """A reason that says nothing, or two things, is an error and never a success.

    It is not refused: the session is over, whatever its other end meant to say about it.
    """
    found = [
        local_name(child)
        for child in element
        if namespace(child) == JINGLE_NS and local_name(child) != "text"
    ]
    condition = found[0] if len(found) == 1 and found[0] in CONDITIONS else "general-error"
    text = element.findtext(f"{{{JINGLE_NS}}}text")
    extra = next((child for child in element if namespace(child) not in ("", JINGLE_NS)), None)
    return Reason(condition, readable(text, MAX_TEXT), extra)


def _jid(element: Element, name: str) -> str | None:
    value = element.get(name)
    return None if value is None else identifier(value, name, MAX_JID)


def _check_action(jingle: Jingle) -> None:
    """What an action must carry (XEP-0166 sections 6.2 and 7.2)."""
    action, contents = jingle.action, jingle.contents
    if not contents and action not in _WITHOUT_CONTENT:
        raise PeerError(f"{action} without a content")
    if action in _WITH_TRANSPORT and any(content.transport is None for content in contents):
        raise PeerError(f"{action} without a transport")
    if action is Action.SESSION_INITIATE:
        if any(content.description is None for content in contents):
            raise PeerError("session-initiate without a description")
        if not _any_session(contents):
            raise PeerError("session-initiate without a content of disposition session")
    # A session-accept must have a description as well, but stanza.js leaves it out of its
    # answers to data-channel files; the session decides what that means.
    if action is Action.CONTENT_MODIFY and any(content.senders is None for content in contents):
        raise PeerError("content-modify without senders")


def _any_session(contents: Iterable[Content]) -> bool:
    return any(content.disposition == "session" for content in contents)


def _build_content(content: Content) -> Element:
    element = Element(_CONTENT, {"creator": content.creator, "name": content.name})
    if content.senders is not None:
        element.set("senders", content.senders)
    if content.disposition != "session":
        element.set("disposition", content.disposition)
    for child in (content.description, content.transport, content.security):
        if child is not None:
            element.append(child)
    return element
