import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.attest.openpgp import (
    MAX_SIGNATURE,
    UserId,
    check_packet,
    list_arguments,
    secret_key,
    sign_arguments,
    signer,
    user_ids,
    verify_arguments,
)
from telepathy_e2e.errors import NotAvailable, SecurityError

KEY = "1EBC923B13DD7F3313B692D0E9D3D5B92A431B48"
SUBKEY = "2" * 40

GOOD = f"""[GNUPG:] NEWSIG
[GNUPG:] KEY_CONSIDERED {KEY} 0
[GNUPG:] SIG_ID aj8A2DhmHG+eHPuUInOfLoygT/8 2026-11-21 1795256234
[GNUPG:] GOODSIG E9D3D5B92A431B48 xmpp:bob@example.org
[GNUPG:] VALIDSIG {SUBKEY} 2026-11-21 1795256234 0 4 0 22 8 00 {KEY}
[GNUPG:] TRUST_FULLY 0 pgp
"""

LISTING = f"""tru::1:1795256234:1795342634:3:1:5
pub:{{key}}:255:22:E9D3D5B92A431B48:1795256234:1795342634::u:::{{caps}}:::::ed25519:::0:
fpr:::::::::{KEY}:
uid:{{first}}::::1795256234::9D38::xmpp\\x3abob@example.org::::::::::0:
uid:f::::1795256234::9D39::Bob \\x3cbob@example.org\\x3e::::::::::0:
sub:u:255:18:5555555555555555:1795256234::::::e:::::cv25519::
fpr:::::::::{SUBKEY}:
"""


def listing(key: str = "f", caps: str = "scSC", first: str = "f") -> bytes:
    return LISTING.format(key=key, caps=caps, first=first).encode()


# -- the packet ------------------------------------------------------------------------------------

BODY = b"\x04\x00" + bytes(10)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x88\x0c" + BODY,
        b"\x89\x00\x0c" + BODY,
        b"\x8a\x00\x00\x00\x0c" + BODY,
        b"\xc2\x0c" + BODY,
        b"\xc2\xff\x00\x00\x00\x0c" + BODY,
        b"\xc2\xc0\x00\x04\x00" + bytes(190),
    ],
)
def test_one_signature_packet_is_taken_however_its_length_is_written(packet: bytes) -> None:
    check_packet(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x88",
        b"-----BEGIN PGP SIGNATURE-----",
        b"\x88\x0d" + BODY,
        b"\x88\x0b" + BODY,
        b"\x88\x0c" + BODY + b"\x88\x0c" + BODY,  # two signatures
        b"\x8b" + BODY,  # until the end
        b"\xc2\xe3" + BODY,  # in parts
        b"\xa3\x01" + BODY,  # compressed data
        b"\x90\x0c" + BODY,  # one-pass signature: a message that brings its own text
        b"\xcb\x0c" + BODY,  # literal data
        b"\x88\x0c\x04\x01" + bytes(10),  # of a text, whose line ends may differ
        b"\x88\x0c\x04\x10" + bytes(10),  # of a user id
        b"\x88\x0c\x03\x00" + bytes(10),  # version 3
        b"\x88\x01\x04",
        b"\xc2\xff\x00",
        b"\xc2\xc0",
    ],
)
def test_anything_else_never_gets_to_gpg(packet: bytes) -> None:
    with pytest.raises(SecurityError):
        check_packet(packet)


def test_a_signature_has_a_bound() -> None:
    size = MAX_SIGNATURE - 3
    check_packet(b"\x89" + size.to_bytes(2, "big") + b"\x04\x00" + bytes(size - 2))
    size += 1
    with pytest.raises(SecurityError, match="too long"):
        check_packet(b"\x89" + size.to_bytes(2, "big") + b"\x04\x00" + bytes(size - 2))


@given(st.binary(max_size=64))
def test_no_bytes_of_a_peer_raise_anything_but_a_security_error(data: bytes) -> None:
    try:
        check_packet(data)
    except SecurityError:
        pass


# -- what gpg is asked -----------------------------------------------------------------------------


def test_gpg_is_kept_from_the_network_and_from_importing() -> None:
    for arguments in (verify_arguments("/a", "/b"), list_arguments(KEY)):
        for wanted in ("--batch", "--no-auto-key-retrieve", "--no-auto-key-import"):
            assert wanted in arguments
        assert "--disable-dirmngr" in arguments


@pytest.mark.parametrize("text", ["", "--delete-keys", KEY + "!", KEY.lower(), "bob@example.org"])
def test_nothing_but_a_fingerprint_gets_into_the_command_line(text: str) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        list_arguments(text)


def test_the_key_to_sign_with_cannot_be_an_option() -> None:
    assert "--local-user=--verify" in sign_arguments("--verify")


# -- what gpg says ---------------------------------------------------------------------------------


def test_a_good_signature_says_whose_it_is() -> None:
    assert signer(GOOD.encode()) == KEY


@pytest.mark.parametrize(
    "line",
    [
        "BADSIG E9D3D5B92A431B48 x",
        "ERRSIG E9D3D5B92A431B48 22 8 00 1795256234 9 -",
        "EXPSIG E9D3D5B92A431B48 x",
        "EXPKEYSIG E9D3D5B92A431B48 x",
        "REVKEYSIG E9D3D5B92A431B48 x",
        "KEYREVOKED",
        "KEYEXPIRED 1795256234",
        "NO_PUBKEY E9D3D5B92A431B48",
        "NODATA 4",
        "FAILURE verify 1",
        f"GOODSIG {KEY[-16:]} somebody else",
        f"VALIDSIG {KEY} 2026-11-21 1795256234 0 4 0 22 8 00 {KEY}",
    ],
)
def test_anything_strange_beside_it_makes_it_no_signature(line: str) -> None:
    with pytest.raises(SecurityError):
        signer(f"{GOOD}[GNUPG:] {line}\n".encode())
    with pytest.raises(SecurityError):
        signer(f"[GNUPG:] {line}\n{GOOD}".encode())


@pytest.mark.parametrize("hash", ["1", "2", "3"])
def test_broken_hashes_do_not_count(hash: str) -> None:
    with pytest.raises(SecurityError, match="hash"):
        signer(GOOD.replace(" 22 8 00 ", f" 22 {hash} 00 ").encode())


def test_a_signature_of_another_class_does_not_count() -> None:
    with pytest.raises(SecurityError, match="another kind"):
        signer(GOOD.replace(" 22 8 00 ", " 22 8 01 ").encode())


def test_lines_are_those_of_the_status_and_no_others() -> None:
    for wrong in (
        "",
        GOOD.replace("[GNUPG:] GOODSIG", "gpg: [GNUPG:] GOODSIG"),
        GOOD.replace("VALIDSIG", "VALID"),
        GOOD.replace(KEY + "\n[GNUPG:] TRUST", "\n[GNUPG:] TRUST"),
        GOOD.replace("00 " + KEY, "00 -" + KEY[1:]),
    ):
        with pytest.raises(SecurityError):
            signer(wrong.encode())


def test_user_ids_come_with_what_the_users_trust_makes_of_them() -> None:
    assert user_ids(listing(), KEY) == [
        UserId("xmpp:bob@example.org", True),
        UserId("Bob <bob@example.org>", True),
    ]


@pytest.mark.parametrize("validity", ["", "-", "o", "q", "n", "m", "r", "e", "i"])
def test_less_than_full_validity_is_no_trust(validity: str) -> None:
    assert user_ids(listing(first=validity), KEY)[0] == UserId("xmpp:bob@example.org", False)


def test_ultimate_validity_is_trust() -> None:
    assert user_ids(listing(first="u"), KEY)[0].trusted


@pytest.mark.parametrize("validity", ["r", "e", "i", "d", "n"])
def test_a_key_that_must_not_be_used_is_refused(validity: str) -> None:
    with pytest.raises(SecurityError, match="revoked"):
        user_ids(listing(key=validity), KEY)


def test_a_key_that_the_user_switched_off_is_refused() -> None:
    with pytest.raises(SecurityError, match="disabled"):
        user_ids(listing(caps="scSCD"), KEY)


def test_the_key_is_the_one_that_signed_and_alone() -> None:
    with pytest.raises(SecurityError, match="not the OpenPGP key"):
        user_ids(listing(), SUBKEY)
    with pytest.raises(SecurityError, match="not the OpenPGP key"):
        user_ids(listing() * 2, KEY)
    with pytest.raises(SecurityError, match="not the OpenPGP key"):
        user_ids(b"", KEY)


def test_escapes_are_undone_once() -> None:
    text = listing().replace(b"Bob \\x3c", b"\\x5cx3c R\xc3\xb6mer \\xc3\\xa9\\xff ")
    assert user_ids(text, KEY)[1].text == "\\x3c R\u00f6mer \u00e9\ufffd bob@example.org>"


def test_the_users_own_key_is_found_or_it_is_said_why_not() -> None:
    own = listing("u").replace(b"pub:", b"sec:")
    assert secret_key(own)[0] == KEY
    for wrong, why in ((b"", "no secret"), (own * 2, "several"), (own[:20], "no secret")):
        with pytest.raises(NotAvailable, match=why):
            secret_key(wrong)
    with pytest.raises(NotAvailable, match="expired"):
        secret_key(listing("e").replace(b"pub:", b"sec:"))


@given(st.binary(max_size=200))
def test_whatever_gpg_prints_is_read_or_refused(data: bytes) -> None:
    for text in (data, GOOD.encode() + data):
        try:
            signer(text)
        except SecurityError:
            pass
    try:
        user_ids(listing() + data, KEY)
    except SecurityError:
        pass
