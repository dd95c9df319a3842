"""What kind of room it is: its features (XEP-0045 section 6.4), and the owner's form (section 10).

Pure. Names of settings are those of Telepathy's RoomConfig1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import forms
from telepathy_e2e.xmpp.caps import DISCO_INFO, DISCO_ITEMS
from telepathy_e2e.xmpp.forms import Form
from telepathy_e2e.xmpp.jid import bare, local_of, normalise

ROOM_CONFIG: Final = "http://jabber.org/protocol/muc#roomconfig"
ROOM_INFO: Final = "http://jabber.org/protocol/muc#roominfo"
RSM: Final = "http://jabber.org/protocol/rsm"

# Features of one room that are looked at.
MAX_FEATURES: Final = 500
# Rooms of one page of a list, and characters of the name of one.
MAX_ITEMS: Final = 20_000
MAX_NAME: Final = 1_000
MAX_MARK: Final = 3_071

_PREFIX: Final = "muc#roomconfig_"
# Setting to the form's field; those with a value that is not the same are in ``_answers``.
_FIELDS: Final[Mapping[str, str]] = {
    "Anonymous": _PREFIX + "whois",
    "InviteOnly": _PREFIX + "membersonly",
    "Limit": _PREFIX + "maxusers",
    "Moderated": _PREFIX + "moderatedroom",
    "Title": _PREFIX + "roomname",
    "Description": _PREFIX + "roomdesc",
    "Persistent": _PREFIX + "persistentroom",
    "Private": _PREFIX + "publicroom",
    "PasswordProtected": _PREFIX + "passwordprotectedroom",
    "Password": _PREFIX + "roomsecret",
}


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """What a room says of itself to anybody.

    Attributes:
        exists: it is a room at all.
        title: what it is called, empty if only its address says.
        limit: 0 is no limit, or unknown.
        occupants: how many there are; None if it does not say.
        may_change_subject: whether occupants may; None if it does not say.
    """

    title: str = ""
    description: str = ""
    anonymous: bool = False
    invite_only: bool = False
    moderated: bool = False
    persistent: bool = False
    private: bool = False
    password_protected: bool = False
    limit: int = 0
    occupants: int | None = None
    may_change_subject: bool | None = None


def parse_info(query: Element) -> RoomInfo:
    """A room's answer to disco#info.

    Raises:
        PeerError: not the answer of a room, or too long.
    """
    identity = next(
        (
            each
            for each in query.iterfind(f"{{{DISCO_INFO}}}identity")
            if each.get("category") == "conference"
        ),
        None,
    )
    if identity is None:
        raise PeerError("not the answer of a room")
    elements = query.findall(f"{{{DISCO_INFO}}}feature")
    if len(elements) > MAX_FEATURES:
        raise PeerError("a room with too many features", "policy-violation")
    features = {each.get("var", "") for each in elements}
    fields: Mapping[str, forms.Field] = {}
    for element in query.findall(forms.X)[:4]:
        form = forms.parse(element)
        if form.type == ROOM_INFO:
            fields = form.fields
    allowed = fields.get("muc#roominfo_changesubject") or fields.get("muc#roomconfig_changesubject")
    return RoomInfo(
        title=identity.get("name", "")[:MAX_NAME],
        description=_value(fields, "muc#roominfo_description")
        or _value(fields, "muc#roomconfig_roomdesc"),
        anonymous="muc_semianonymous" in features or "muc_fullyanonymous" in features,
        invite_only="muc_membersonly" in features,
        moderated="muc_moderated" in features,
        persistent="muc_persistent" in features,
        private="muc_hidden" in features,
        password_protected="muc_passwordprotected" in features,
        limit=_number(_value(fields, "muc#roomconfig_maxusers")) or 0,
        occupants=_number(_value(fields, "muc#roominfo_occupants")),
        may_change_subject=allowed.is_true if allowed is not None else None,
    )


def _value(fields: Mapping[str, forms.Field], name: str) -> str:
    return fields[name].value if name in fields else ""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


# -- the owner's form -----------------------------------------------------------------------


def settable(form: Form) -> list[str]:
    """The settings that this room's form can change."""
    names = [name for name, field in _FIELDS.items() if field in form.fields]
    if "Password" in names and "PasswordProtected" not in names:
        # There a password is all that it takes (Prosody).
        names.append("PasswordProtected")
    return names


def password(form: Form) -> str:
    """The one that it takes to come in, or nothing."""
    protected = form.fields.get(_FIELDS["PasswordProtected"])
    if protected is not None and not protected.is_true:
        return ""
    return _value(form.fields, _FIELDS["Password"])


def limit(form: Form) -> int:
    """How many may be in; 0 is no limit."""
    return _number(_value(form.fields, _FIELDS["Limit"])) or 0


def configured(form: Form, settings: Mapping[str, str | bool | int]) -> Form:
    """The answer to the owner's form that changes these settings.

    Raises:
        KeyError: one is not ``settable``.
        ValueError: a value that the room does not offer; or a password that is missing.
    """
    return forms.filled_in(form, _answers(form, settings))


def _answers(form: Form, settings: Mapping[str, str | bool | int]) -> dict[str, str | bool]:
    known = settable(form)
    answers: dict[str, str | bool] = {}
    for name, value in settings.items():
        if name not in known:
            raise KeyError(name)
        field = _FIELDS[name]
        match name:
            case "Anonymous":
                answers[field] = "moderators" if value else "anyone"
            case "Private":
                answers[field] = not value
            case "Limit":
                answers[field] = _limit(form.fields[field], int(value))
            case "Password" | "PasswordProtected":
                pass
            case _:
                answers[field] = value if isinstance(value, bool) else str(value)
    if "Password" in settings or "PasswordProtected" in settings:
        answers.update(_password(form, settings))
    return answers


def _limit(field: forms.Field, wanted: int) -> str:
    """Of a list of numbers the smallest that is enough; no limit has several spellings."""
    if not wanted:
        return next((each for each in field.options if _number(each) is None), "")
    offered = sorted(number for each in field.options if (number := _number(each)) is not None)
    return str(next((each for each in offered if each >= wanted), wanted))


def _password(form: Form, settings: Mapping[str, str | bool | int]) -> dict[str, str | bool]:
    secret = str(settings.get("Password", password(form)))
    protected = bool(settings.get("PasswordProtected", bool(secret)))
    if protected and not secret:
        raise ValueError("A room that is protected by a password needs one")
    answers: dict[str, str | bool] = {}
    if _FIELDS["PasswordProtected"] in form.fields:
        answers[_FIELDS["PasswordProtected"]] = protected
    if _FIELDS["Password"] in form.fields:
        answers[_FIELDS["Password"]] = secret if protected else ""
    return answers


# -- lists of rooms -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListedRoom:
    """An entry of a list: bare JID, and what it is called there."""

    jid: str
    name: str


def page(query: Element, server: str) -> tuple[list[ListedRoom], str]:
    """An answer to disco#items of a conference service, with where the next page begins.

    Args:
        server: only rooms of this domain are listed: nobody lists others' rooms.
    Returns:
        The rooms, and the mark of the last (XEP-0059), empty if this is all.
    Raises:
        PeerError: more than anybody would look at.
    """
    elements = query.findall(f"{{{DISCO_ITEMS}}}item")
    if len(elements) > MAX_ITEMS:
        raise PeerError("too long a list of rooms", "policy-violation")
    rooms = []
    for each in elements:
        try:
            jid = normalise(each.get("jid", ""))
        except ValueError:
            continue
        if local_of(jid) and jid == bare(jid) and jid.endswith(f"@{server}"):
            rooms.append(ListedRoom(jid, each.get("name", "")[:MAX_NAME]))
    last = query.findtext(f"{{{RSM}}}set/{{{RSM}}}last") or ""
    return rooms, last if elements and len(last) <= MAX_MARK else ""
