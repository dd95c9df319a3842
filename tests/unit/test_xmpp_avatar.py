"""Pictures and their hashes."""

from __future__ import annotations

import struct
from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import InvalidArgument, PeerError
from telepathy_e2e.xmpp import avatar
from telepathy_e2e.xmpp.avatar import Image, Tokens, Update

A, B, C = (bytes([n]) * 20 for n in (1, 2, 3))
INFO = f"{{{avatar.METADATA}}}info"
JID = "bob@example.test"


def png(width: int, height: int, more: int = 0) -> bytes:
    size = struct.pack(">II", width, height)
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + size + bytes(more)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width: int, height: int, before: bytes = b"\xff\xe0\0\4ab") -> bytes:
    return b"\xff\xd8" + before + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width)


@pytest.mark.parametrize(
    ("data", "image"),
    [
        (png(64, 48), Image("image/png", 64, 48)),
        (gif(64, 48), Image("image/gif", 64, 48)),
        (jpeg(64, 48), Image("image/jpeg", 64, 48)),
        (jpeg(64, 48, b"\xff\xc4\0\2\xff\xff\xfe\0\3x"), Image("image/jpeg", 64, 48)),
        (b"\xff\xd8\xff\xe0", Image("image/jpeg", 0, 0)),
        (b"RIFF\0\0\0\0WEBP", Image("image/webp", 0, 0)),
        (png(64, 48)[:20], None),
        (b"<svg/>", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_its_first_bytes(data: bytes, image: Image | None) -> None:
    assert avatar.inspect(data) == image


@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8\xff", png(1, 1)[:16], b"GIF89a"]))
def test_no_bytes_make_looking_at_a_picture_fail(data: bytes, head: bytes) -> None:
    avatar.inspect(head + data)


def test_a_jpeg_of_endless_segments_is_given_up() -> None:
    assert avatar.inspect(b"\xff\xd8" + b"\xff\xe0\0\0" * 100_000) == Image("image/jpeg", 0, 0)


@pytest.mark.parametrize("size", [avatar.MIN_SIZE, avatar.MAX_SIZE])
def test_a_picture_at_the_edge_of_the_requirements_may_be_set(size: int) -> None:
    data = png(size, size, avatar.MAX_BYTES - 24)
    assert len(data) == avatar.MAX_BYTES
    assert avatar.check_own(data, "image/PNG") == Image("image/png", size, size)


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (png(64, 64, avatar.MAX_BYTES - 23), "image/png"),
        (png(64, avatar.MAX_SIZE + 1), "image/png"),
        (png(avatar.MIN_SIZE - 1, 64), "image/png"),
        (png(64, 64), "image/jpeg"),
        (png(64, 64), ""),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"", "image/png"),
    ],
)
def test_what_violates_the_requirements_may_not(data: bytes, mime_type: str) -> None:
    with pytest.raises(InvalidArgument):
        avatar.check_own(data, mime_type)


def test_metadata_that_is_built_is_read() -> None:
    data = png(64, 48)
    built = avatar.build_metadata(data, avatar.inspect(data))
    assert avatar.parse_metadata(built) == avatar.token_of(data)
    assert built[0].attrib == {
        "bytes": str(len(data)),
        "id": avatar.token_of(data).hex(),
        "type": "image/png",
        "width": "64",
        "height": "48",
    }
    assert avatar.parse_metadata(avatar.build_metadata()) == b""
    assert avatar.parse_metadata(None) == b""


def test_pictures_on_web_servers_are_passed_over() -> None:
    element = avatar.build_metadata()
    SubElement(element, INFO, id=A.hex(), url="https://example.test/")
    assert avatar.parse_metadata(element) == b""
    SubElement(element, INFO, id=B.hex())
    assert avatar.parse_metadata(element) == B


def test_metadata_that_makes_no_sense_is_an_error() -> None:
    wrong = avatar.build_metadata()
    SubElement(wrong, INFO, id="../../etc/passwd")
    many = avatar.build_metadata()
    for _ in range(avatar.MAX_INFOS + 1):
        SubElement(many, INFO, id=A.hex(), url="u")
    for element in (wrong, many, Element("{urn:x}metadata")):
        with pytest.raises(PeerError):
            avatar.parse_metadata(element)
    del many[0]
    assert avatar.parse_metadata(many) == b""


@pytest.mark.parametrize("token", [None, b"", A])
def test_what_a_presence_says_is_read(token: bytes | None) -> None:
    presence = Element("{jabber:client}presence")
    assert avatar.parse_update(presence) == Update(False, None)
    presence.append(avatar.build_update(token))
    assert avatar.parse_update(presence) == Update(True, token)


@pytest.mark.parametrize("text", ["x", "0" * 39, "0" * 41, "g" * 40, "\u0661" * 40])
def test_a_hash_that_is_none_is_no_word(text: str) -> None:
    presence = Element("{jabber:client}presence")
    presence.append(avatar.build_update(A))
    presence[0][0].text = text
    assert avatar.parse_update(presence) == Update(True, None)
    presence[0][0].text = f" {A.hex().upper()}\n"
    assert avatar.parse_update(presence) == Update(True, A)


def test_of_two_sources_the_one_that_changed_last_is_right() -> None:
    tokens = Tokens()
    assert tokens.get(JID) is None
    assert tokens.learn(JID, "card", A)
    assert tokens.learn(JID, "events", B)
    assert tokens.get(JID) == B
    # The presence is sent again for other reasons.
    assert not tokens.learn(JID, "card", A)
    assert tokens.get(JID) == B
    assert tokens.learn(JID, "card", C)
    assert tokens.get(JID) == C
    assert tokens.learn(JID, "events", A)
    assert tokens.get(JID) == A


def test_a_source_that_knows_no_picture_is_right_only_if_the_other_does_not() -> None:
    tokens = Tokens()
    assert tokens.learn(JID, "events", A)
    assert not tokens.learn(JID, "card", b"")
    assert tokens.get(JID) == A
    assert tokens.learn(JID, "events", b"")
    assert tokens.get(JID) == b""
    assert tokens.learn("x", "card", b"")
    assert tokens.get("x") == b""


def test_a_picture_that_goes_from_both_is_gone_without_a_word_between() -> None:
    tokens = Tokens()
    tokens.learn(JID, "events", A)
    tokens.learn(JID, "card", A)
    assert not tokens.learn(JID, "events", b"")
    assert tokens.learn(JID, "card", b"")
    assert tokens.get(JID) == b""


def test_what_is_forgotten_is_not_known() -> None:
    tokens = Tokens()
    tokens.learn(JID, "events", A)
    tokens.learn(JID, "card", B)
    assert tokens.known() == {JID}
    tokens.forget(JID)
    assert tokens.known() == set()
    assert tokens.get(JID) is None


def test_hashes_of_more_people_than_a_contact_list_has_are_not_kept() -> None:
    tokens = Tokens()
    for number in range(avatar.MAX_KNOWN):
        assert tokens.learn(str(number), "card", A)
    assert not tokens.learn("one more", "card", A)
    assert tokens.learn("0", "card", B)
