"""Sealed messages: what opens, what does not, and what is expected afterwards."""

from __future__ import annotations

import base64
from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.events import V
from telepathy_e2e.xtls.encoding import lv, lv_text
from telepathy_e2e.xtls.sealed import (
    MAX_PLAINTEXT,
    SEALED,
    Opener,
    SealedMessage,
    Sealer,
    parse_sealed,
)
from tests.unit.xtls_support import SID, VECTORS

KEY = b"k" * 32
OVERHEAD = len("<ns0:a xmlns:ns0=''></ns0:a>") + len(V)


def sealer(role: Role = Role.INITIATOR, key: bytes = KEY, sid: str = SID, epoch: int = 0) -> Sealer:
    return Sealer(key, sid, role, epoch)


def opener(role: Role = Role.INITIATOR, key: bytes = KEY, sid: str = SID, epoch: int = 0) -> Opener:
    return Opener(key, sid, role, epoch)


def message(text: str = "x") -> Element:
    element = Element(f"{{{V}}}a")
    element.text = text
    return element


def sealed_by(sender: Sealer, text: str = "x") -> SealedMessage:
    return parse_sealed(sender.seal(message(text)))


def raw(plaintext: bytes, n: int = 0, *, pad: bool = True) -> SealedMessage:
    """An authentic message whatever it holds."""
    if pad:
        plaintext += b" " * (-len(plaintext) % 1024)
    additional = lv_text(SID) + lv_text("initiator") + lv(bytes(4))
    return SealedMessage(0, n, AESGCM(KEY).encrypt(n.to_bytes(12, "big"), plaintext, additional))


@pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda v: f"{v['from']}-{v['n']}")
def test_the_vectors_open(vector: dict[str, str]) -> None:
    role, n = Role(vector["from"]), int(vector["n"])
    key = bytes.fromhex(vector["key"])
    ours, theirs = sealer(role, key, vector["sid"]), opener(role, key, vector["sid"])
    for _ in range(n):
        theirs.open(sealed_by(ours))
    element = Element(SEALED, {"epoch": str(vector["epoch"]), "n": str(n)})
    element.text = vector["base64"]
    found = theirs.open(parse_sealed(element))
    expected = fromstring(vector["plaintext"])  # noqa: S314 - our own vectors
    assert (found.tag, found.attrib, found.text) == (expected.tag, expected.attrib, expected.text)


@pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda v: f"{v['from']}-{v['n']}")
def test_the_vectors_are_what_we_seal_with(vector: dict[str, str]) -> None:
    """Nonce, additional data and padding of ours open with those of the vectors."""
    role, n = Role(vector["from"]), int(vector["n"])
    key = bytes.fromhex(vector["key"])
    ours = sealer(role, key, vector["sid"])
    for _ in range(n):
        ours.seal(message())
    sealed = ours.seal(message("text"))
    assert (sealed.tag, sealed.get("n"), sealed.get("epoch")) == (SEALED, str(n), "0")
    plaintext = AESGCM(key).decrypt(
        bytes.fromhex(vector["nonce"]),
        base64.b64decode(sealed.text or ""),
        bytes.fromhex(vector["additional_data"]),
    )
    assert len(plaintext) == 1024
    assert fromstring(plaintext).text == "text"  # noqa: S314 - our own text


def test_a_full_kilobyte_is_not_padded_and_one_byte_more_is() -> None:
    assert len(sealed_by(sealer(), "x" * (1024 - OVERHEAD)).data) == 1024 + 16
    assert len(sealed_by(sealer(), "x" * (1025 - OVERHEAD)).data) == 2048 + 16


def test_64_kib_can_be_sent_and_not_a_byte_more() -> None:
    longest = "x" * (MAX_PLAINTEXT - OVERHEAD)
    assert opener().open(sealed_by(sealer(), longest)).text == longest
    with pytest.raises(ValueError, match="too long"):
        sealer().seal(message(longest + "x"))


def test_more_than_64_kib_is_refused_unseen() -> None:
    with pytest.raises(PeerError, match="impossible length"):
        opener().open(raw(b"<a xmlns='%s'/>" % V.encode() + b" " * MAX_PLAINTEXT))
    element = Element(SEALED, {"epoch": "0", "n": "0"})
    element.text = base64.b64encode(bytes(MAX_PLAINTEXT + 16)).decode()
    assert len(parse_sealed(element).data) == MAX_PLAINTEXT + 16
    element.text = base64.b64encode(bytes(MAX_PLAINTEXT + 17)).decode()
    with pytest.raises(PeerError):
        parse_sealed(element)


@pytest.mark.parametrize("size", [0, 1, 1023, 1025])
def test_an_authentic_message_of_another_length_is_refused_like_a_bad_tag(size: int) -> None:
    plaintext = (f"<a xmlns='{V}'/>".encode() + b" " * size)[:size]
    theirs = opener()
    with pytest.raises(PeerError, match="impossible length"):
        theirs.open(raw(plaintext, pad=False))
    assert theirs.open(sealed_by(sealer())).text == "x"


def test_messages_open_in_order() -> None:
    ours, theirs = sealer(), opener()
    for text in "abc":
        assert theirs.open(sealed_by(ours, text)).text == text


def test_a_repeat_is_refused_and_the_expectation_stands() -> None:
    ours, theirs = sealer(), opener()
    first = sealed_by(ours)
    theirs.open(first)
    with pytest.raises(PeerError, match="came before"):
        theirs.open(first)
    assert theirs.open(sealed_by(ours, "next")).text == "next"


def test_after_a_gap_the_one_after_it_is_expected() -> None:
    ours, theirs = sealer(), opener()
    lost, late, following = (sealed_by(ours, text) for text in "abc")
    with pytest.raises(PeerError, match="missing"):
        theirs.open(late)
    with pytest.raises(PeerError, match="came before"):
        theirs.open(lost)
    with pytest.raises(PeerError, match="came before"):
        theirs.open(late)
    assert theirs.open(following).text == "c"


def test_a_bad_tag_is_refused_and_the_expectation_stands() -> None:
    ours, theirs = sealer(), opener()
    good = sealed_by(ours)
    bad = replace(good, data=good.data[:-1] + bytes((good.data[-1] ^ 1,)))
    for n in (0, 5):
        with pytest.raises(PeerError, match="not authentic"):
            theirs.open(replace(bad, n=n))
    assert theirs.open(good).text == "x"


@pytest.mark.parametrize(
    "theirs",
    [
        opener(key=b"K" * 32),
        opener(sid="other"),
        opener(Role.RESPONDER),
    ],
    ids=["key", "sid", "role"],
)
def test_what_was_sealed_for_something_else_does_not_open(theirs: Opener) -> None:
    with pytest.raises(PeerError, match="not authentic"):
        theirs.open(sealed_by(sealer()))


def test_another_epoch_does_not_open() -> None:
    theirs = opener(epoch=1)
    with pytest.raises(PeerError, match="epoch"):
        theirs.open(sealed_by(sealer()))
    # ... nor when it only says that it is of this one.
    with pytest.raises(PeerError, match="not authentic"):
        theirs.open(replace(sealed_by(sealer()), epoch=1))
    assert theirs.open(sealed_by(sealer(epoch=1))).text == "x"


@pytest.mark.parametrize(
    "plaintext", [b"no xml", b"<a/>", b"<a xmlns='urn:x'/>", b"<!DOCTYPE a><a/>"]
)
def test_an_authentic_message_that_is_not_one_element_in_v_is_refused(plaintext: bytes) -> None:
    theirs = opener()
    with pytest.raises(PeerError):
        theirs.open(raw(plaintext))
    # It was authentic, so it counts.
    with pytest.raises(PeerError, match="came before"):
        theirs.open(sealed_by(sealer()))


@pytest.mark.parametrize("attribute", ["n", "epoch"])
@pytest.mark.parametrize(
    "value", [None, "", "-1", "+1", "01", " 1", "1 ", "1.0", "0x1", "\u0663", "1" * 19]
)
def test_numbers_are_read_strictly(attribute: str, value: str | None) -> None:
    element = sealer().seal(message())
    if value is None:
        del element.attrib[attribute]
    else:
        element.set(attribute, value)
    with pytest.raises(PeerError):
        parse_sealed(element)


def test_the_longest_number_is_taken() -> None:
    element = sealer().seal(message())
    element.set("n", "9" * 18)
    with pytest.raises(PeerError, match="not authentic"):
        opener().open(parse_sealed(element))


def test_only_sealed_elements_are_read() -> None:
    element = sealer().seal(message())
    element.tag = f"{{{V}}}hello"
    with pytest.raises(PeerError):
        parse_sealed(element)
    element.tag = SEALED
    element.append(Element("a"))
    with pytest.raises(PeerError):
        parse_sealed(element)


def test_no_nonce_is_used_twice_even_if_sealing_fails() -> None:
    ours = sealer()
    with pytest.raises(ValueError, match="too long"):
        ours.seal(message("x" * MAX_PLAINTEXT))
    numbers = [ours.seal(message()).get("n") for _ in range(3)]
    assert len(set(numbers)) == 3


@given(
    st.text(max_size=40),
    st.sampled_from(["0", "1", "x", ""]),
    st.binary(max_size=2100),
)
def test_nothing_a_peer_sends_raises_anything_but_a_peer_error(
    text: str, number: str, plaintext: bytes
) -> None:
    element = Element(SEALED, {"epoch": "0", "n": number})
    element.text = text
    try:
        opener().open(parse_sealed(element))
    except PeerError:
        pass
    try:
        opener().open(raw(plaintext))
    except PeerError:
        pass
