"""What rooms say, as stanzas."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import muc
from telepathy_e2e.xmpp.markup import CLIENT, serialise
from telepathy_e2e.xmpp.muc import Declined, Destroyed, Invitation, Item

ROOM = "room@muc.example.test"
USER = f"xmlns='{muc.USER}'"


def stanza(kind: str, inner: str, **attributes: str) -> Element:
    given = "".join(f" {name.rstrip('_')}='{value}'" for name, value in attributes.items())
    return XML(f"<{kind} xmlns='{CLIENT}'{given}>{inner}</{kind}>")


def test_the_extension_of_a_presence_is_read() -> None:
    found = muc.parse(
        stanza(
            "presence",
            f"<x {USER}><item affiliation='admin' role='moderator' jid='A@B/c' nick='New'>"
            "<actor nick='Boss'/><reason>Because</reason></item>"
            "<status code='110'/><status code='x'/><status code='303'/></x>",
        )
    )
    assert found.item == Item("admin", "moderator", "a@b/c", "New", "Boss", "Because")
    assert found.statuses == {110, 303}
    assert found.destroyed is None
    assert muc.parse(stanza("presence", "")) == muc.Extension()


def test_what_is_no_role_is_none() -> None:
    found = muc.parse(
        stanza("presence", f"<x {USER}><item affiliation='god' role='x' jid='@'/></x>")
    )
    assert found.item == Item()


def test_a_destroyed_room_says_where_to_go() -> None:
    found = muc.parse(
        stanza(
            "presence",
            f"<x {USER}><destroy jid='new@muc.example.test'><reason>Moved</reason>"
            "<password>pw</password></destroy></x>",
        )
    )
    assert found.destroyed == Destroyed("new@muc.example.test", "Moved", "pw")


def test_a_mediated_invitation_is_of_the_room_that_sends_it() -> None:
    message = stanza(
        "message",
        f"<x {USER}><invite from='Bob@example.test/x'><reason>Come</reason></invite>"
        "<password>pw</password></x><x xmlns='jabber:x:conference' jid='other@muc'/>",
        from_=ROOM,
    )
    assert muc.invitation(message) == Invitation(ROOM, "bob@example.test/x", "Come", "pw")


def test_a_direct_invitation_is_of_whoever_sends_it() -> None:
    message = stanza(
        "message",
        f"<x xmlns='jabber:x:conference' jid='{ROOM}' reason='Come' password='pw'/>",
        from_="bob@example.test/x",
    )
    found = Invitation(ROOM, "bob@example.test", "Come", "pw", direct=True)
    assert muc.invitation(message) == found
    built = muc.direct(ROOM, "me@example.test", "Come", "pw")
    built.set("from", "bob@example.test/x")
    assert muc.invitation(built) == found


@pytest.mark.parametrize(
    "inner",
    [
        f"<x {USER}/>",
        f"<x {USER}><invite to='a@b'/></x>",
        "<x xmlns='jabber:x:conference'/>",
        "",
    ],
)
def test_what_invites_nobody_is_no_invitation(inner: str) -> None:
    assert muc.invitation(stanza("message", inner, from_=ROOM)) is None


@pytest.mark.parametrize("kind", ["groupchat", "error"])
def test_an_error_or_what_is_said_in_a_room_is_no_invitation(kind: str) -> None:
    inner = f"<x {USER}><invite from='a@b'/><decline from='a@b'/></x>"
    message = stanza("message", inner, from_=ROOM, type=kind)
    assert muc.invitation(message) is None
    assert muc.declined(message) is None


@pytest.mark.parametrize(
    ("from_", "inner"),
    [
        ("muc.example.test", f"<x {USER}><invite from='a@b'/></x>"),
        (ROOM, f"<x {USER}><invite from='@'/></x>"),
        ("", f"<x {USER}><invite from='a@b'/></x>"),
        ("a@b", "<x xmlns='jabber:x:conference' jid='muc.example.test'/>"),
        ("a@b", "<x xmlns='jabber:x:conference' jid='@'/>"),
        ("a@b", f"<x {USER}><decline from='@'/></x>"),
    ],
)
def test_invitations_of_nobody_or_to_nowhere_are_refused(from_: str, inner: str) -> None:
    message = stanza("message", inner, from_=from_)
    with pytest.raises(PeerError):
        muc.declined(message) or muc.invitation(message)


def test_a_refusal_says_of_whom() -> None:
    message = stanza(
        "message", f"<x {USER}><decline from='b@c/d'><reason>No</reason></decline></x>", from_=ROOM
    )
    assert muc.declined(message) == Declined(ROOM, "b@c/d", "No")
    assert muc.declined(stanza("message", "", from_=ROOM)) is None


def test_texts_are_bounded() -> None:
    for length, shown in ((muc.MAX_PASSWORD, muc.MAX_PASSWORD), (muc.MAX_PASSWORD + 1, 0)):
        inner = (
            f"<x {USER}><invite from='a@b'><reason>{'r' * (muc.MAX_REASON + 1)}</reason></invite>"
            f"<password>{'p' * length}</password></x>"
        )
        found = muc.invitation(stanza("message", inner, from_=ROOM))
        assert found is not None
        assert (len(found.reason), len(found.password)) == (muc.MAX_REASON, shown)
    many = "".join(f"<status code='{code}'/>" for code in range(100, 100 + 2 * muc.MAX_STATUSES))
    assert len(muc.parse(stanza("presence", f"<x {USER}>{many}</x>")).statuses) == muc.MAX_STATUSES


def test_what_we_say_is_what_the_standard_shows() -> None:
    """XEP-0045, examples 19, 42, 47, 55, 59, 87, 89, 201; XEP-0249, example 1."""
    shown = {
        muc.join("r@m", "me", password="pw", history=20, since="1970-01-01T00:00:00Z"): (
            "<presence to='r@m/me'><x xmlns='http://jabber.org/protocol/muc'><password>pw</password>"
            "<history maxstanzas='20' since='1970-01-01T00:00:00Z'/></x></presence>"
        ),
        muc.join("r@m", "me"): (
            "<presence to='r@m/me'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
        ),
        muc.present("r@m", "other"): "<presence to='r@m/other'/>",
        muc.leave("r@m", "me", "Bye"): (
            "<presence to='r@m/me' type='unavailable'><status>Bye</status></presence>"
        ),
        muc.mediated("r@m", "a@b", "Come"): (
            "<message to='r@m'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'>"
            "<reason>Come</reason></invite></x></message>"
        ),
        muc.decline("r@m", "a@b", "No"): (
            "<message to='r@m'><x xmlns='http://jabber.org/protocol/muc#user'><decline to='a@b'>"
            "<reason>No</reason></decline></x></message>"
        ),
        muc.admin(nick="x", role="none", reason="Go"): (
            "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='x' role='none'>"
            "<reason>Go</reason></item></query>"
        ),
        muc.admin(jid="a@b", affiliation="outcast"): (
            "<query xmlns='http://jabber.org/protocol/muc#admin'>"
            "<item jid='a@b' affiliation='outcast'/></query>"
        ),
        muc.destroy(alternate="n@m", reason="Moved"): (
            "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='n@m'>"
            "<reason>Moved</reason></destroy></query>"
        ),
    }
    for element, text in shown.items():
        assert serialise(element).decode() == text.replace("'", '"')


def test_an_invitation_that_comes_back_says_whom_it_was_for() -> None:
    assert muc.invited(muc.mediated(ROOM, "a@b")) == "a@b"
    assert muc.invited(stanza("message", "")) == ""


names = st.sampled_from(
    ["x", "item", "invite", "decline", "destroy", "actor", "reason", "status", "password"]
)
values = st.sampled_from(["", "a@b", "@", "110", "999999", "owner", "\N{SNOWMAN}", "a@b/c", "²²²"])


@st.composite
def extensions(draw: st.DrawFn) -> Element:
    top = Element(f"{{{CLIENT}}}message")
    for name in ("from", "type"):
        if draw(st.booleans()):
            top.set(name, draw(values))
    here = [top]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(here))
        space = draw(st.sampled_from([muc.USER, muc.DIRECT]))
        child = SubElement(parent, f"{{{space}}}{draw(names)}")
        child.text = draw(values)
        for name in ("jid", "nick", "from", "to", "role", "affiliation", "code"):
            if draw(st.booleans()):
                child.set(name, draw(values))
        here.append(child)
    return top


@given(extensions())
def test_nothing_from_a_room_raises_anything_but_a_peer_error(element: Element) -> None:
    muc.parse(element)
    muc.invited(element)
    for each in (muc.invitation, muc.declined):
        try:
            each(element)
        except PeerError:
            continue
