"""What rooms and their occupants say, as stanzas (XEP-0045, XEP-0249). Pure, and bounded.

What a room is like after it has been said is in ``muc_room``, its configuration in ``muc_config``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import messages
from telepathy_e2e.xmpp.jid import bare, local_of, normalise
from telepathy_e2e.xmpp.markup import CLIENT

MUC = "http://jabber.org/protocol/muc"
USER = MUC + "#user"
ADMIN = MUC + "#admin"
OWNER = MUC + "#owner"
DIRECT = "jabber:x:conference"

PRESENCE = f"{{{CLIENT}}}presence"
MESSAGE = messages.MESSAGE

# Characters of reasons and passwords; people read the ones and type the others.
MAX_REASON = 2_000
MAX_PASSWORD = 1_024
# Status codes of one stanza; the most that make sense together are about five.
MAX_STATUSES = 16

# Section 15.6.2 of XEP-0045, those that somebody here looks at.
NON_ANONYMOUS = 100
SHOWS_UNAVAILABLE, HIDES_UNAVAILABLE, RECONFIGURED = 102, 103, 104
SELF = 110
LOGGED, NOT_LOGGED, NOW_OPEN, NOW_SEMI_ANONYMOUS, NOW_ANONYMOUS = 170, 171, 172, 173, 174
CREATED, NICK_ASSIGNED = 201, 210
BANNED, NEW_NICK, KICKED = 301, 303, 307
AFFILIATION_LOST, MEMBERS_ONLY, SHUTDOWN, FAILED = 321, 322, 332, 333

# A message with one of these says that the room is not what it was.
CONFIGURATION = frozenset(
    (
        SHOWS_UNAVAILABLE,
        HIDES_UNAVAILABLE,
        RECONFIGURED,
        LOGGED,
        NOT_LOGGED,
        NOW_OPEN,
        NOW_SEMI_ANONYMOUS,
        NOW_ANONYMOUS,
    )
)

ROLES = ("none", "visitor", "participant", "moderator")
AFFILIATIONS = ("outcast", "none", "member", "admin", "owner")

_X = f"{{{USER}}}x"
_ITEM = f"{{{USER}}}item"
_ACTOR = f"{{{USER}}}actor"
_REASON = f"{{{USER}}}reason"
_STATUS = f"{{{USER}}}status"
_DESTROY = f"{{{USER}}}destroy"
_INVITE = f"{{{USER}}}invite"
_DECLINE = f"{{{USER}}}decline"
_PASSWORD = f"{{{USER}}}password"


@dataclass(frozen=True, slots=True)
class Item:
    """Of whom a presence is, as the room knows him; empty is unknown.

    Attributes:
        jid: real full or bare JID, normalised.
        nick: the new one, with status 303.
        actor: who did it: a nick, or else a JID.
    """

    affiliation: str = "none"
    role: str = "none"
    jid: str = ""
    nick: str = ""
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Destroyed:
    """The room is no more.

    Attributes:
        alternate: room to go to, bare JID or empty.
        password: of that room.
    """

    alternate: str = ""
    reason: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Extension:
    """``<x/>`` of a room's presence or message."""

    item: Item = Item()
    statuses: frozenset[int] = frozenset()
    destroyed: Destroyed | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """Somebody would like us to come.

    Attributes:
        room: bare JID.
        inviter: bare JID, or an occupant's full one; by the word of the room if it is mediated.
        direct: XEP-0249, from the inviter himself: there is no way to decline it.
    """

    room: str
    inviter: str
    reason: str = ""
    password: str = field(default="", repr=False)
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Declined:
    """Somebody whom we invited does not want to come."""

    room: str
    invitee: str
    reason: str = ""


def is_of_room(stanza: Element) -> bool:
    """Whether a presence is one that only rooms send."""
    return stanza.find(_X) is not None


def parse(stanza: Element) -> Extension:
    """The ``<x/>`` of a presence or message; an empty one if there is none."""
    x = stanza.find(_X)
    if x is None:
        return Extension()
    codes = (each.get("code", "") for each in x.findall(_STATUS)[:MAX_STATUSES])
    item, destroy = x.find(_ITEM), x.find(_DESTROY)
    return Extension(
        _item(item) if item is not None else Item(),
        frozenset(int(each) for each in codes if len(each) == 3 and each.isdecimal()),
        _destroyed(destroy) if destroy is not None else None,
    )


def _item(element: Element) -> Item:
    role, affiliation = element.get("role", "none"), element.get("affiliation", "none")
    actor = element.find(_ACTOR)
    return Item(
        # The same strings for thousands of occupants.
        AFFILIATIONS[AFFILIATIONS.index(affiliation)] if affiliation in AFFILIATIONS else "none",
        ROLES[ROLES.index(role)] if role in ROLES else "none",
        _jid(element.get("jid")),
        _resource(element.get("nick")),
        (_resource(actor.get("nick")) or _jid(actor.get("jid"))) if actor is not None else "",
        _text(element, _REASON),
    )


def _destroyed(element: Element) -> Destroyed:
    return Destroyed(
        bare(_jid(element.get("jid"))), _text(element, _REASON), _password(element, _PASSWORD)
    )


def _jid(text: str | None) -> str:
    try:
        return normalise(text) if text else ""
    except ValueError:
        return ""


def _resource(nick: str | None) -> str:
    """A nick as it is in an address."""
    try:
        return normalise(f"x@x.invalid/{nick}").partition("/")[2] if nick else ""
    except ValueError:
        return ""


def _text(parent: Element, tag: str) -> str:
    return (parent.findtext(tag) or "")[:MAX_REASON]


def _password(parent: Element, tag: str) -> str:
    text = parent.findtext(tag) or ""
    return text if len(text) <= MAX_PASSWORD else ""


# -- invitations ----------------------------------------------------------------------------


def invitation(stanza: Element) -> Invitation | None:
    """The invitation in a message, if it is one.

    Raises:
        PeerError: to no room, or of nobody.
    """
    if stanza.get("type") in ("error", "groupchat"):
        return None
    x = stanza.find(_X)
    invite = x.find(_INVITE) if x is not None else None
    if x is not None and invite is not None and invite.get("from"):
        room = bare(_address(stanza.get("from")))
        found = Invitation(
            room, _address(invite.get("from")), _text(invite, _REASON), _password(x, _PASSWORD)
        )
    elif (direct := stanza.find(f"{{{DIRECT}}}x")) is not None and direct.get("jid"):
        # Servers add one of these to a mediated invitation for old programs: that one counts.
        password = direct.get("password", "")
        found = Invitation(
            bare(_address(direct.get("jid"))),
            bare(_address(stanza.get("from"))),
            direct.get("reason", "")[:MAX_REASON],
            password if len(password) <= MAX_PASSWORD else "",
            direct=True,
        )
    else:
        return None
    if not local_of(found.room):
        raise PeerError("an invitation to what is no room", "jid-malformed")
    return found


def declined(stanza: Element) -> Declined | None:
    """Whether a message says that somebody does not come (section 7.8.2), by word of the room.

    Raises:
        PeerError: nobody does.
    """
    if stanza.get("type") in ("error", "groupchat"):
        return None
    decline = stanza.find(f"{_X}/{_DECLINE}")
    if decline is None or not decline.get("from"):
        return None
    return Declined(
        bare(_address(stanza.get("from"))),
        _address(decline.get("from")),
        _text(decline, _REASON),
    )


def invited(stanza: Element) -> str:
    """Whom an invitation of ours went to that came back as an error; empty if it is none."""
    invite = stanza.find(f"{_X}/{_INVITE}")
    return _jid(invite.get("to")) if invite is not None else ""


def _address(text: str | None) -> str:
    try:
        return normalise(text or "")
    except ValueError:
        raise PeerError("an address that is none", "jid-malformed") from None


# -- what we say ----------------------------------------------------------------------------


def join(
    room: str,
    nick: str,
    *,
    password: str = "",
    history: int | None = None,
    since: str = "",
) -> Element:
    """The presence with which one comes in (section 7.2).

    Args:
        password: of the room, or empty.
        history: how many old messages to send at most; None: as many as the room likes.
        since: no older ones than this (XEP-0082), or empty.
    """
    presence = Element(PRESENCE, to=f"{room}/{nick}")
    x = SubElement(presence, f"{{{MUC}}}x")
    if password:
        SubElement(x, f"{{{MUC}}}password").text = password
    if history is not None or since:
        wanted = SubElement(x, f"{{{MUC}}}history")
        if history is not None:
            wanted.set("maxstanzas", str(history))
        if since:
            wanted.set("since", since)
    return presence


def present(room: str, nick: str) -> Element:
    """A presence while inside: another state, or another nick (sections 7.6, 7.7)."""
    return Element(PRESENCE, to=f"{room}/{nick}")


def leave(room: str, nick: str, message: str = "") -> Element:
    """The presence with which one goes (section 7.14)."""
    presence = Element(PRESENCE, to=f"{room}/{nick}", type="unavailable")
    if message:
        SubElement(presence, f"{{{CLIENT}}}status").text = message
    return presence


def mediated(room: str, invitee: str, reason: str = "") -> Element:
    """Ask the room to invite somebody (section 7.8.2)."""
    message = Element(MESSAGE, to=room)
    invite = SubElement(SubElement(message, _X), _INVITE, to=invitee)
    if reason:
        SubElement(invite, _REASON).text = reason
    return message


def direct(room: str, invitee: str, reason: str = "", password: str = "") -> Element:
    """Invite somebody oneself (XEP-0249)."""
    message = Element(MESSAGE, to=invitee)
    x = SubElement(message, f"{{{DIRECT}}}x", jid=room)
    for name, text in (("reason", reason), ("password", password)):
        if text:
            x.set(name, text)
    return message


def decline(room: str, inviter: str, reason: str = "") -> Element:
    """The answer to a mediated invitation that is not followed (section 7.8.2)."""
    message = Element(MESSAGE, to=room)
    element = SubElement(SubElement(message, _X), _DECLINE, to=inviter)
    if reason:
        SubElement(element, _REASON).text = reason
    return message


def admin(
    *,
    nick: str = "",
    jid: str = "",
    role: Literal["", "none", "visitor", "participant", "moderator"] = "",
    affiliation: Literal["", "outcast", "none", "member", "admin", "owner"] = "",
    reason: str = "",
) -> Element:
    """The payload that changes what somebody is in a room (sections 8 and 9); type ``set``."""
    query = Element(f"{{{ADMIN}}}query")
    item = SubElement(query, f"{{{ADMIN}}}item")
    for name, value in (("nick", nick), ("jid", jid), ("role", role), ("affiliation", affiliation)):
        if value:
            item.set(name, value)
    if reason:
        SubElement(item, f"{{{ADMIN}}}reason").text = reason
    return query


def owner(form: Element | None = None) -> Element:
    """The payload that asks for a room's configuration, or sets it (section 10)."""
    query = Element(f"{{{OWNER}}}query")
    if form is not None:
        query.append(form)
    return query


def destroy(*, alternate: str = "", reason: str = "") -> Element:
    """The payload that ends a room (section 10.9); type ``set``."""
    query = owner()
    element = SubElement(query, f"{{{OWNER}}}destroy")
    if alternate:
        element.set("jid", alternate)
    if reason:
        SubElement(element, f"{{{OWNER}}}reason").text = reason
    return query
