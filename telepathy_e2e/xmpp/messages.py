"""Message stanzas: what is in them, and the same built (RFC 6121 section 5). Pure, and bounded.

XEP-0085 chat states, XEP-0172 nicknames, XEP-0184 receipts, XEP-0203 delays, XEP-0280 carbons,
XEP-0308 corrections, XEP-0334 hints, XEP-0359 ids. A body is as long as its stanza may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import nick
from telepathy_e2e.xmpp.iq import ERROR, STANZAS, stanza_error
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.markup import CLIENT

MESSAGE = f"{{{CLIENT}}}message"
CHAT_STATES = "http://jabber.org/protocol/chatstates"
RECEIPTS = "urn:xmpp:receipts"
DELAY = "urn:xmpp:delay"
CARBONS = "urn:xmpp:carbons:2"
FORWARD = "urn:xmpp:forward:0"
CORRECTION = "urn:xmpp:message-correct:0"
HINTS = "urn:xmpp:hints"
IDS = "urn:xmpp:sid:0"
OOB = "jabber:x:oob"

STATES = ("active", "inactive", "composing", "paused", "gone")
TYPES = ("normal", "chat", "groupchat", "headline", "error")

# Characters of an id. Programs use up to a hundred; a longer one is as good as none.
MAX_ID = 1_024
# Of each kind in one message: servers on the way add one each.
MAX_DELAYS = 4
MAX_STANZA_IDS = 4
MAX_LINKS = 8

_BODY = f"{{{CLIENT}}}body"
_SUBJECT = f"{{{CLIENT}}}subject"
_THREAD = f"{{{CLIENT}}}thread"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_ERROR_TYPES = ("auth", "cancel", "continue", "modify", "wait")


@dataclass(frozen=True, slots=True)
class Delay:
    """When a message was really sent, and who says so (XEP-0203).

    Attributes:
        stamp: aware, UTC.
        by: normalised JID, or empty.
    """

    stamp: datetime
    by: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message came back (RFC 6120 section 8.3).

    Attributes:
        condition: a defined condition, ``undefined-condition`` if it was none.
        text: somebody else's words.
        type: ``auth``, ``cancel``, ``continue``, ``modify``, ``wait``, or empty.
    """

    condition: str
    text: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message stanza; empty is absent.

    Attributes:
        from_, to: bare or full JIDs, normalised.
        type: one of ``TYPES``.
        origin_id: the sender's own (XEP-0359).
        stanza_ids: (id, by) of servers that keep it; only those of one's own server or room
            may be believed (XEP-0359 section 6).
        body: None where there is no element; may be empty.
        subject: likewise; an empty one takes a room's subject away.
        state: one of ``STATES``.
        wants_receipt: the sender would like to know that it arrived.
        receipt: id of a message that arrived at the sender of this one.
        replaces: id of the sender's earlier message that this one corrects.
        hints: names of XEP-0334, such as ``no-store``.
        links: URLs beside the text (XEP-0066).
    """

    from_: str = ""
    to: str = ""
    type: str = "normal"
    id: str = ""
    origin_id: str = ""
    stanza_ids: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    subject: str | None = None
    thread: str = ""
    delays: tuple[Delay, ...] = ()
    state: str = ""
    wants_receipt: bool = False
    receipt: str = ""
    replaces: str = ""
    failure: Failure | None = None
    hints: frozenset[str] = frozenset()
    nick: str = ""
    links: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """By which corrections and receipts name it."""
        return self.id or self.origin_id

    def delayed_by(self, *authorities: str) -> datetime | None:
        """When it was sent, as one of these JIDs says; without any, as whoever delayed it says."""
        for each in self.delays:
            if not authorities or each.by in authorities:
                return each.stamp
        return None


@dataclass(frozen=True, slots=True)
class Carbon:
    """A copy of what another program of ours got or sent (XEP-0280)."""

    direction: Literal["received", "sent"]
    message: Message


def parse(stanza: Element) -> Message:
    """What is in a message.

    Raises:
        PeerError: addresses that are none.
    """
    type = stanza.get("type", "normal")
    states = [each for each in STATES if stanza.find(f"{{{CHAT_STATES}}}{each}") is not None]
    receipt = stanza.find(f"{{{RECEIPTS}}}received")
    origin = stanza.find(f"{{{IDS}}}origin-id")
    replace = stanza.find(f"{{{CORRECTION}}}replace")
    return Message(
        from_=_jid(stanza.get("from")),
        to=_jid(stanza.get("to")),
        # RFC 6121 section 5.2.2: an unknown type is normal.
        type=type if type in TYPES else "normal",
        id=_id(stanza.get("id")),
        origin_id=_id(origin.get("id")) if origin is not None else "",
        stanza_ids=_stanza_ids(stanza),
        body=_text(stanza, _BODY),
        subject=_text(stanza, _SUBJECT),
        thread=_id(stanza.findtext(_THREAD)),
        delays=_delays(stanza),
        state=states[0] if len(states) == 1 else "",
        wants_receipt=receipt is None and stanza.find(f"{{{RECEIPTS}}}request") is not None,
        receipt=_id(receipt.get("id")) if receipt is not None else "",
        replaces=_id(replace.get("id")) if replace is not None else "",
        failure=_failure(stanza) if type == "error" else None,
        hints=frozenset(
            name
            for name in ("no-permanent-store", "no-store", "no-copy", "store")
            if stanza.find(f"{{{HINTS}}}{name}") is not None
        ),
        nick=nick.parse(stanza),
        links=tuple(
            url
            for each in stanza.findall(f"{{{OOB}}}x")[:MAX_LINKS]
            if (url := (each.findtext(f"{{{OOB}}}url") or "").strip())
        ),
    )


def build(message: Message) -> Element:
    """The stanza; a parsed one becomes the same again, but for what no message has said."""
    stanza = Element(MESSAGE)
    for name, value in (("from", message.from_), ("to", message.to), ("id", message.id)):
        if value:
            stanza.set(name, value)
    if message.type != "normal":
        stanza.set("type", message.type)
    for tag, text in ((_SUBJECT, message.subject), (_BODY, message.body)):
        if text is not None:
            SubElement(stanza, tag).text = text or None
    if message.thread:
        SubElement(stanza, _THREAD).text = message.thread
    if message.state:
        SubElement(stanza, f"{{{CHAT_STATES}}}{message.state}")
    if message.receipt:
        SubElement(stanza, f"{{{RECEIPTS}}}received", id=message.receipt)
    elif message.wants_receipt:
        SubElement(stanza, f"{{{RECEIPTS}}}request")
    if message.replaces:
        SubElement(stanza, f"{{{CORRECTION}}}replace", id=message.replaces)
    if message.origin_id:
        SubElement(stanza, f"{{{IDS}}}origin-id", id=message.origin_id)
    for id, by in message.stanza_ids:
        SubElement(stanza, f"{{{IDS}}}stanza-id", id=id, by=by)
    for delay in message.delays:
        stamp = delay.stamp.strftime("%Y-%m-%dT%H:%M:%SZ")
        element = SubElement(stanza, f"{{{DELAY}}}delay", stamp=stamp)
        if delay.by:
            element.set("from", delay.by)
    for name in sorted(message.hints):
        SubElement(stanza, f"{{{HINTS}}}{name}")
    for url in message.links:
        SubElement(SubElement(stanza, f"{{{OOB}}}x"), f"{{{OOB}}}url").text = url
    if message.nick:
        stanza.append(nick.build(message.nick))
    if message.failure is not None:
        stanza.append(_error_element(message.failure))
    return stanza


@dataclass(frozen=True)
class Copy:
    """A carbon copy as it came."""

    direction: str
    """``received`` or ``sent``."""
    element: Element


def carbon(stanza: Element, own_bare: str) -> Carbon | None:
    """The copy in a message, if it is one.

    Args:
        own_bare: our own bare JID.
    Raises:
        PeerError: somebody else's, or not a copy of a message of ours.
    """
    copy = copied(stanza, own_bare)
    if copy is None:
        return None
    message = parse(copy.element)
    return Carbon("sent" if copy.direction == "sent" else "received", message)


def is_delayed(stanza: Element) -> bool:
    """Whether it waited for us on some server (XEP-0203)."""
    return stanza.find(f"{{{DELAY}}}delay") is not None


def copied(stanza: Element, own_bare: str) -> Copy | None:
    """The same as it came, for messages that say other things than text.

    Raises: as ``carbon``.
    """
    for direction in ("received", "sent"):
        if (wrapper := stanza.find(f"{{{CARBONS}}}{direction}")) is not None:
            break
    else:
        return None
    # CVE-2017-5589: anybody could put words into anybody's mouth. Only our own server speaks
    # as our own bare JID.
    if stanza.get("from") is None or _jid(stanza.get("from")) != own_bare:
        raise PeerError("a carbon copy of somebody else", "forbidden")
    inner = wrapper.find(f"{{{FORWARD}}}forwarded/{MESSAGE}")
    if inner is None:
        raise PeerError("a carbon copy of nothing")
    sender = _jid(inner.get("from"))
    ours = sender if direction == "sent" else _jid(inner.get("to"))
    if bare(ours) != own_bare or not sender:
        raise PeerError("a carbon copy of somebody else's message", "forbidden")
    return Copy(direction, inner)


def refusal(message: Message, failure: Failure) -> Message:
    """The answer to a message that we do not take; an error is never answered with one."""
    return Message(to=message.from_, type="error", id=message.id, failure=failure)


def _jid(text: str | None) -> str:
    if text is None:
        return ""
    try:
        return normalise(text)
    except ValueError:
        raise PeerError("an address that is none", "jid-malformed") from None


def _id(text: str | None) -> str:
    return text if text is not None and len(text) <= MAX_ID else ""


def _text(stanza: Element, tag: str) -> str | None:
    """One text of perhaps several languages: the one that says none, or the first."""
    elements = stanza.findall(tag)
    for each in elements:
        if each.get(_LANG) is None:
            return each.text or ""
    return (elements[0].text or "") if elements else None


def _delays(stanza: Element) -> tuple[Delay, ...]:
    found = []
    for each in stanza.findall(f"{{{DELAY}}}delay")[:MAX_DELAYS]:
        try:
            by = normalise(each.get("from", "")) if each.get("from") else ""
            found.append(Delay(_stamp(each.get("stamp", "")), by))
        except (ValueError, OverflowError):
            continue  # a message is worth more than its date
    return tuple(found)


def _stamp(text: str) -> datetime:
    """XEP-0082, to the second."""
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        raise ValueError("no time zone")
    return stamp.astimezone(UTC).replace(microsecond=0)


def _stanza_ids(stanza: Element) -> tuple[tuple[str, str], ...]:
    found = []
    for each in stanza.findall(f"{{{IDS}}}stanza-id")[:MAX_STANZA_IDS]:
        try:
            by = normalise(each.get("by", ""))
        except ValueError:
            continue
        if id := _id(each.get("id")):
            found.append((id, by))
    return tuple(found)


def _failure(stanza: Element) -> Failure:
    error = stanza_error(stanza)
    element = stanza.find(ERROR)
    type = element.get("type", "") if element is not None else ""
    return Failure(error.condition, error.text, type if type in _ERROR_TYPES else "")


def _error_element(failure: Failure) -> Element:
    element = Element(ERROR, type=failure.type or "cancel")
    SubElement(element, f"{{{STANZAS}}}{failure.condition}")
    if failure.text:
        SubElement(element, f"{{{STANZAS}}}text").text = failure.text
    return element
