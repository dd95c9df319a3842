"""Calls announced by messages, which reach all of a person's devices (XEP-0353 0.6).

Pure. Who may say what when is the caller's to judge: every field is what a stranger wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle.reading import (
    identifier,
    local_name,
    namespace,
    readable,
    session_id,
    xml_text,
)
from telepathy_e2e.jingle.rtp import MAX_WORD, RTP_NS, is_rtp
from telepathy_e2e.jingle.stanzas import CONDITIONS, JINGLE_NS, MAX_CONTENTS, MAX_TEXT

CALLS_NS: Final = "urn:xmpp:jingle-message:0"
STORE: Final = "{urn:xmpp:hints}store"

# Elements of other namespaces beside the one that is ours, or in it, are left alone.
_REASON: Final = f"{{{JINGLE_NS}}}reason"
_DESCRIPTION: Final = f"{{{RTP_NS}}}description"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call ended or did not begin (XEP-0166 section 7.4)."""

    condition: str
    """One of ``jingle.stanzas.CONDITIONS``."""
    text: str = ""
    """For people; one line."""


@dataclass(frozen=True, slots=True)
class Propose:
    """Somebody calls: to all of the other one's devices."""

    id: str
    """The sid of the session that is to follow."""
    descriptions: tuple[str, ...]
    """Of media: ``audio``, ``video``."""


@dataclass(frozen=True, slots=True)
class Ringing:
    """A device asks its user."""

    id: str


@dataclass(frozen=True, slots=True)
class Proceed:
    """The user of a device takes the call: to that device the session-initiate goes."""

    id: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The call is not taken, by no device."""

    id: str
    reason: Reason | None = None
    tie_break: bool = False
    """Two calls crossed and this one lost (section 3.6)."""


@dataclass(frozen=True, slots=True)
class Retract:
    """The caller gave up."""

    id: str
    reason: Reason | None = None
    tie_break: bool = False
    """Two calls crossed and this one lost (section 3.6)."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over, for the devices and archives that saw it begin."""

    id: str
    reason: Reason | None = None
    migrated_to: str = ""
    """The id of the call that goes on in its place; or empty."""


CallMessage: TypeAlias = Propose | Ringing | Proceed | Reject | Retract | Finish

_NAMES: Final = ("propose", "ringing", "proceed", "reject", "retract", "finish")


def parse(message: Element) -> CallMessage | None:
    """What a message says about a call; None: nothing.

    Raises:
        PeerError: malformed, or several of them in one message.
    """
    found = [child for child in message if namespace(child) == CALLS_NS]
    # Drafts of the standard had others (accept, session-info); what we do not know is not for us.
    found = [child for child in found if local_name(child) in _NAMES]
    if not found:
        return None
    if len(found) > 1:
        raise PeerError("a message that says several things about calls")
    (element,) = found
    call = session_id(element.get("id"), "id of a call")
    match local_name(element):
        case "propose":
            return Propose(call, _media(element))
        case "ringing":
            return Ringing(call)
        case "proceed":
            return Proceed(call)
        case "reject":
            return Reject(call, _reason(element), _ties(element))
        case "retract":
            return Retract(call, _reason(element), _ties(element))
    migrated = element.find(f"{{{CALLS_NS}}}migrated")
    return Finish(
        call,
        _reason(element),
        "" if migrated is None else session_id(migrated.get("to"), "id of a call"),
    )


def build(call: CallMessage) -> list[Element]:
    """The children of the message to send.

    The hint (XEP-0334) has it kept for devices that are not there: who comes back learns that a
    call was missed, or that another device has taken it.
    """
    element = Element(f"{{{CALLS_NS}}}{type(call).__name__.lower()}", {"id": call.id})
    match call:
        case Propose(_, media):
            for each in media:
                SubElement(element, _DESCRIPTION, {"media": each})
        case Reject(_, reason, tie_break) | Retract(_, reason, tie_break):
            _add_reason(element, reason)
            if tie_break:
                SubElement(element, f"{{{CALLS_NS}}}tie-break")
        case Finish(_, reason, migrated_to):
            _add_reason(element, reason)
            if migrated_to:
                SubElement(element, f"{{{CALLS_NS}}}migrated", {"to": migrated_to})
    return [element, Element(STORE)]


def _ties(element: Element) -> bool:
    return element.find(f"{{{CALLS_NS}}}tie-break") is not None


def _media(element: Element) -> tuple[str, ...]:
    """Files and the like may be proposed too; those are left out, and nothing may be left."""
    found: Iterable[Element] = [child for child in element if is_rtp(child)]
    media = [identifier(child.get("media"), "media", MAX_WORD) for child in found]
    if len(media) > MAX_CONTENTS:
        raise PeerError("too many contents")
    return tuple(media)


def _reason(element: Element) -> Reason | None:
    """As in Jingle itself, what says nothing or two things is an error and never a success."""
    reason = element.find(_REASON)
    if reason is None:
        return None
    conditions = [
        local_name(child)
        for child in reason
        if namespace(child) == JINGLE_NS and local_name(child) != "text"
    ]
    condition = conditions[0] if len(conditions) == 1 else ""
    return Reason(
        condition if condition in CONDITIONS else "general-error",
        readable(reason.findtext(f"{{{JINGLE_NS}}}text"), MAX_TEXT),
    )


def _add_reason(parent: Element, reason: Reason | None) -> None:
    if reason is None:
        return
    element = SubElement(parent, _REASON)
    SubElement(element, f"{{{JINGLE_NS}}}{reason.condition}")
    if reason.text:
        SubElement(element, f"{{{JINGLE_NS}}}text").text = xml_text(reason.text)
