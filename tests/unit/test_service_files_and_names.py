"""Hashes, file details, handles, names, channel requests and capabilities."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotImplementedByUs
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.files import FileOffer, Range
from telepathy_e2e.service import capabilities, file_requests, handles, names, requests
from telepathy_e2e.service.capabilities import (
    FILE_TRANSFER_FEATURE,
    HandlerCapabilities,
    channel_classes,
    contact_classes,
    file_classes,
    takes_files,
    text_classes,
)
from telepathy_e2e.service.file_details import HASH_NONE, UNKNOWN_SIZE, FileDetails
from telepathy_e2e.service.handles import (
    HANDLE_TYPE_CONTACT,
    HANDLE_TYPE_NONE,
    HANDLE_TYPE_ROOM,
    Handles,
)
from telepathy_e2e.service.hashes import HASHES
from telepathy_e2e.xmpp.roster import Resource
from tests.unit.jingle_support import over_the_wire

BOB = "bob@example.test"
SHA256 = hashlib.sha256(b"").digest()

# -- hashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("sha-256", hashlib.sha256),
        ("sha-384", hashlib.sha384),
        ("sha-512", hashlib.sha512),
        ("sha3-256", hashlib.sha3_256),
        ("sha3-512", hashlib.sha3_512),
    ],
)
def test_a_hash_is_the_one_that_its_name_says(name: str, digest: Any) -> None:
    ours = HASHES[name]()
    ours.update(b"one ")
    ours.update(b"two")
    assert ours.digest() == digest(b"one two").digest()


@pytest.mark.parametrize(("name", "bits"), [("blake2b-256", 256), ("blake2b-512", 512)])
def test_blake2b_has_the_length_of_its_name_and_is_no_prefix(name: str, bits: int) -> None:
    ours = HASHES[name]()
    ours.update(b"x")
    assert ours.digest() == hashlib.blake2b(b"x", digest_size=bits // 8).digest()


def test_no_hash_in_which_collisions_can_be_made_is_computed() -> None:
    assert not {"md5", "sha-1", "sha1", "md2", "sha-224"} & set(HASHES)


def test_the_hash_that_we_offer_ourselves_is_taken_first() -> None:
    assert next(iter(HASHES)) == "sha-256"


# -- file details ---------------------------------------------------------------------------


def test_an_offer_that_says_nothing_gets_telepathys_words_for_nothing() -> None:
    details = FileDetails.from_offer(FileOffer())
    assert details.size == UNKNOWN_SIZE == 2**64 - 1
    assert details.content_type == "application/octet-stream"
    assert (details.content_hash_type, details.content_hash) == (HASH_NONE, "")
    assert details.date == 0
    assert details.description == ""


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "a\\..\\b", "x\x00y", "..", ""])
def test_a_peers_file_name_is_one_name_in_one_directory(name: str) -> None:
    shown = FileDetails.from_offer(FileOffer(name=name)).filename
    assert shown
    assert shown not in (".", "..")
    assert not set(shown) & set("/\\\x00\n")


def test_the_sha256_of_an_offer_is_shown_in_hex_and_others_are_not() -> None:
    details = FileDetails.from_offer(FileOffer(hashes={"sha-256": SHA256, "sha-512": b"x" * 64}))
    assert (details.content_hash_type, details.content_hash) == (3, SHA256.hex())
    assert FileDetails.from_offer(FileOffer(hashes={"sha-512": b"x" * 64})).content_hash == ""


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1, UNKNOWN_SIZE])
def test_a_file_comes_back_from_its_offer_as_it_was(size: int) -> None:
    details = FileDetails("name.txt", size, "text/plain", 3, SHA256.hex(), "a note", 1_700_000)
    again = files.parse(over_the_wire(files.build(details.to_offer())))
    assert FileDetails.from_offer(again) == details


def test_a_file_without_a_hash_promises_one_and_can_always_be_resumed() -> None:
    offer = FileDetails("n", 1, "text/plain").to_offer()
    assert offer.hash_used == ("sha-256",)
    assert offer.range == Range()
    known = FileDetails("n", 1, "text/plain", 3, SHA256.hex()).to_offer()
    assert known.hash_used == ()
    assert known.hashes == {"sha-256": SHA256}


def test_what_parsers_would_change_is_not_in_our_offer() -> None:
    # The digests of the offer must be the same on both sides of an honest server.
    offer = FileDetails("a\r\n\tb\x85", 1, "text/plain", description="a\r\n\tb\x85").to_offer()
    assert offer.name == "a   b "
    assert offer.description == "a \n\tb "


@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_any_date_of_a_peer_fits_the_type_of_the_property(year: int) -> None:
    offer = FileOffer(name="x", date=datetime(year, 1, 1, tzinfo=UTC))
    assert -(2**63) <= FileDetails.from_offer(offer).date < 2**63


# -- handles --------------------------------------------------------------------------------


def test_a_handle_is_stable_and_starts_at_one() -> None:
    table = Handles()
    first = table.ensure(BOB)
    assert first == 1
    assert table.ensure("Bob@EXAMPLE.test/phone") == first
    assert table.ensure("eve@example.test") == 2
    assert table.inspect(first) == BOB


def test_contacts_and_rooms_have_tables_of_their_own() -> None:
    table = Handles()
    contact = table.ensure(BOB, HANDLE_TYPE_CONTACT)
    assert table.find(BOB, HANDLE_TYPE_ROOM) is None
    with pytest.raises(InvalidHandle):
        table.inspect(contact, HANDLE_TYPE_ROOM)
    assert table.ensure(BOB, HANDLE_TYPE_ROOM) == 1


@pytest.mark.parametrize("text", ["", "@", "a@", "@b", "a b@c d", "a@b@c", "x" * 1024 + "@y", "/r"])
def test_what_is_no_jid_has_no_handle(text: str) -> None:
    table = Handles()
    with pytest.raises(InvalidHandle):
        table.ensure(text)
    assert table.ensure(BOB) == 1


def test_a_room_without_a_local_part_is_no_room() -> None:
    with pytest.raises(InvalidHandle):
        Handles().ensure("conference.example.test", HANDLE_TYPE_ROOM)


@pytest.mark.parametrize("handle", [0, -1, 2, 2**32])
def test_a_handle_that_was_not_given_is_invalid(handle: int) -> None:
    table = Handles()
    table.ensure(BOB)
    with pytest.raises(InvalidHandle):
        table.inspect(handle)


def test_handle_types_that_there_are_not_are_told_from_those_that_we_do_not_have() -> None:
    table = Handles()
    for kind in (0, 5, -1):
        with pytest.raises(InvalidArgument):
            table.ensure(BOB, kind)
    for kind in (3, 4):
        with pytest.raises(NotImplementedByUs):
            table.inspect(1, kind)


def test_looking_for_a_handle_makes_none() -> None:
    table = Handles()
    assert table.find(BOB) is None
    assert table.ensure("eve@example.test") == 1


def test_the_table_is_full_at_its_bound_and_what_is_in_it_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handles, "MAX_HANDLES", 3)
    table = Handles()
    given = [table.of_jid(f"{name}@example.test") for name in "abc"]
    assert given == [1, 2, 3]
    with pytest.raises(InvalidHandle):
        table.of_jid("d@example.test")
    assert table.of_jid("b@example.test") == 2
    assert table.inspect(3) == "c@example.test"
    # Strangers who fill one table leave room in the other.
    assert table.ensure(BOB, HANDLE_TYPE_ROOM) == 1


# -- names ----------------------------------------------------------------------------------


def test_every_interface_name_is_telepathys_and_there_once() -> None:
    given = [value for key, value in vars(names).items() if key.isupper()]
    assert len(given) == len(set(given))
    assert all(value.startswith("org.freedesktop.Telepathy.") for value in given)
    assert not [value for value in given if value.endswith(".") and value != names.TP]


# -- requests -------------------------------------------------------------------------------


def _request(**more: object) -> dict[str, object]:
    base: dict[str, object] = {
        requests.CHANNEL_TYPE: names.FILE_TRANSFER,
        requests.TARGET_HANDLE_TYPE: HANDLE_TYPE_CONTACT,
        requests.TARGET_ID: BOB,
    }
    for name, value in more.items():
        key = getattr(requests, name)
        if value is None:
            base.pop(key, None)
        else:
            base[key] = value
    return base


def _parse(request: dict[str, object], table: Handles | None = None) -> requests.ChannelRequest:
    return requests.parse(request, [*text_classes(), *file_classes()], table or Handles())


def test_a_request_names_its_target_by_id_or_by_handle() -> None:
    table = Handles()
    assert _parse(_request(), table).handle == 1
    assert _parse(_request(TARGET_ID=None, TARGET_HANDLE=1), table).handle == 1


def test_a_request_without_a_target_type_means_that_of_its_channel_type() -> None:
    assert _parse(_request(TARGET_HANDLE_TYPE=None)).target_type == HANDLE_TYPE_CONTACT


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"CHANNEL_TYPE": None}, NotImplementedByUs),
        ({"CHANNEL_TYPE": names.CHANNEL + ".Type.Call1"}, NotImplementedByUs),
        ({"TARGET_HANDLE_TYPE": HANDLE_TYPE_NONE}, NotImplementedByUs),
        ({"TARGET_HANDLE_TYPE": 7}, NotImplementedByUs),
        ({"TARGET_HANDLE_TYPE": "1"}, NotImplementedByUs),
        ({"REQUESTED": False}, InvalidArgument),
        ({"TARGET_HANDLE": 1}, InvalidArgument),
        ({"TARGET_ID": None}, InvalidHandle),
        ({"TARGET_ID": "a@b@c"}, InvalidHandle),
        ({"TARGET_ID": None, "TARGET_HANDLE": 0}, InvalidHandle),
        ({"TARGET_ID": None, "TARGET_HANDLE": 99}, InvalidHandle),
    ],
)
def test_each_wrong_request_has_its_error(change: dict[str, object], error: type) -> None:
    table = Handles()
    with pytest.raises(error):
        _parse(_request(**change), table)
    assert table.find(BOB) is None


def test_a_property_that_nobody_knows_is_refused_rather_than_forgotten() -> None:
    for name in (names.END_TO_END_SECURITY + ".RequireMagic", names.SECURABLE + ".encrypted"):
        with pytest.raises(NotImplementedByUs):
            _parse({**_request(), name: True})


def test_text_is_in_the_clear_so_that_nothing_can_be_demanded_of_it() -> None:
    request = _request(CHANNEL_TYPE=names.TEXT)
    assert _parse(request).channel_type == names.TEXT
    with pytest.raises(NotImplementedByUs):
        _parse({**request, names.END_TO_END_SECURITY + ".RequireEncrypted": True})


# -- requests for files ---------------------------------------------------------------------

FT = names.FILE_TRANSFER + "."


def _file(**more: object) -> file_requests.FileRequest:
    properties: dict[str, object] = {
        FT + "Filename": "a",
        FT + "Size": 1,
        FT + "ContentType": "t/p",
    }
    properties |= {FT + name if "." not in name else name: value for name, value in more.items()}
    request = requests.ChannelRequest(names.FILE_TRANSFER, 1, 1, properties)
    return file_requests.parse(request)


@pytest.mark.parametrize(
    ("name", "most", "too_much"),
    [
        (
            "Filename",
            "é" * (file_requests.MAX_FILENAME_BYTES // 2),
            "é" * (file_requests.MAX_FILENAME_BYTES // 2) + "x",
        ),
        (
            "Description",
            "é" * file_requests.MAX_DESCRIPTION,
            "é" * (file_requests.MAX_DESCRIPTION + 1),
        ),
        ("Size", 2**63 - 1, 2**63),
        ("Size", UNKNOWN_SIZE, UNKNOWN_SIZE - 1),
        ("Date", 2**33 - 1, 2**33),
        ("InitialOffset", 0, 1),
    ],
)
def test_a_value_is_taken_up_to_its_bound(name: str, most: object, too_much: object) -> None:
    assert _file(**{name: most})
    with pytest.raises(InvalidArgument):
        _file(**{name: too_much})


@pytest.mark.parametrize(
    ("asked", "encrypted", "verified"),
    [
        ({}, False, False),
        ({names.END_TO_END_SECURITY + ".RequireEncrypted": True}, True, False),
        ({names.SECURABLE + ".Encrypted": True}, True, False),
        ({names.END_TO_END_SECURITY + ".RequireVerified": True}, True, True),
        ({names.SECURABLE + ".Verified": True}, True, True),
        ({names.SECURABLE + ".Verified": False}, False, False),
        (
            {
                names.SECURABLE + ".Encrypted": False,
                names.END_TO_END_SECURITY + ".RequireVerified": True,
            },
            True,
            True,
        ),
    ],
)
def test_demands_add_up_whichever_interface_they_are_made_on(
    asked: dict[str, object], encrypted: bool, verified: bool
) -> None:
    demands = _file(**asked).demands
    assert (demands.encrypted, demands.verified) == (encrypted, verified)


@pytest.mark.parametrize("text", ["", "ab", SHA256.hex()[:-1], SHA256.hex() + "0", "g" * 64])
def test_a_content_hash_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        _file(ContentHashType=3, ContentHash=text)


# -- capabilities ---------------------------------------------------------------------------


def _handler(channel_type: str, **more: object) -> list[dict[str, object]]:
    return [{names.CHANNEL + ".ChannelType": channel_type, **more}]


def test_files_are_announced_while_a_client_takes_them() -> None:
    known = HandlerCapabilities()
    assert FILE_TRANSFER_FEATURE not in known.features()
    known.update([("one", _handler(names.FILE_TRANSFER), [])])
    known.update([("two", _handler(names.FILE_TRANSFER), [])])
    known.update([("one", [], [])])
    assert FILE_TRANSFER_FEATURE in known.features()
    known.update([("two", [], [])])
    assert FILE_TRANSFER_FEATURE not in known.features()
    assert capabilities.XTLS_FEATURE in known.features()


def test_a_client_that_takes_files_of_rooms_only_takes_none_of_people() -> None:
    known = HandlerCapabilities()
    room = _handler(names.FILE_TRANSFER, **{names.CHANNEL + ".TargetHandleType": 2})
    known.update([("one", room, [])])
    assert FILE_TRANSFER_FEATURE not in known.features()


def test_a_handler_of_questions_is_known_until_it_goes() -> None:
    known = HandlerCapabilities()
    known.update([("one", _handler(names.PEER_VERIFICATION), ["token"])])
    assert known.handles(names.PEER_VERIFICATION)
    assert not known.handles(names.CERTIFICATE_REQUEST)
    known.update([("one", [], ["token"])])
    assert not known.handles(names.PEER_VERIFICATION)


def test_clients_are_kept_up_to_a_bound_and_those_that_are_known_can_still_change() -> None:
    known = HandlerCapabilities()
    known.update((str(n), _handler(names.TEXT), []) for n in range(capabilities.MAX_CLIENTS))
    known.update([("one more", _handler(names.FILE_TRANSFER), [])])
    assert not known.handles(names.FILE_TRANSFER)
    known.update([("0", _handler(names.FILE_TRANSFER), [])])
    assert known.handles(names.FILE_TRANSFER)
    known.update([("1", [], []), ("one more", _handler(names.PEER_VERIFICATION), [])])
    assert known.handles(names.PEER_VERIFICATION)


def test_a_contact_takes_files_if_one_of_its_clients_is_known_to() -> None:
    unknown = Resource(BOB + "/a", 0, "", "", None)
    without = Resource(BOB + "/b", 0, "", "", frozenset())
    able = Resource(BOB + "/c", 0, "", "", frozenset({FILE_TRANSFER_FEATURE}))
    assert [takes_files(each) for each in (unknown, without, able)] == [False, False, True]
    assert contact_classes([unknown, without]) == text_classes()
    assert contact_classes([without, able]) == [*text_classes(), *file_classes()]


def test_classes_are_made_afresh_so_that_nobody_changes_anothers() -> None:
    channel_classes()[0][0]["x"] = 1
    channel_classes()[0][1].append("y")
    assert "x" not in channel_classes()[0][0]
    assert "y" not in channel_classes()[0][1]
