"""Keys under a passphrase: read by OpenSSL too, opened by nothing but the passphrase."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.agent import seal as module
from telepathy_e2e.agent.seal import WrongPassphrase, check, seal, unseal
from telepathy_e2e.xtls.identity import PrivateKey, new_session_key

KEY = new_session_key()
SEALED = seal(KEY, b"open sesame")


def openssl(*words: str, given: bytes) -> bytes:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, check=True)
    return done.stdout


def test_a_sealed_key_comes_back() -> None:
    assert unseal(SEALED, b"open sesame").dump() == KEY.dump()


def test_the_same_key_is_never_sealed_the_same_way_twice() -> None:
    assert seal(KEY, b"open sesame") != SEALED


@pytest.mark.parametrize("passphrase", [b"", b"open sesam", b"open sesame ", b"x" * 1024])
def test_another_passphrase_does_not_open_it(passphrase: bytes) -> None:
    with pytest.raises(WrongPassphrase):
        unseal(SEALED, passphrase)


def test_a_changed_ciphertext_does_not_open() -> None:
    with pytest.raises(WrongPassphrase):
        unseal(SEALED[:-1] + bytes([SEALED[-1] ^ 1]), b"open sesame")


def test_openssl_reads_what_is_sealed() -> None:
    words = ("pkcs8", "-inform", "DER", "-passin", "pass:open sesame", "-outform", "DER", "-topk8")
    assert openssl(*words, "-nocrypt", given=SEALED) == KEY.dump() or (
        PrivateKey.load(openssl(*words[:5], "-outform", "DER", given=SEALED)).dump() == KEY.dump()
    )


def test_what_openssl_seals_is_read() -> None:
    words = ("pkcs8", "-topk8", "-scrypt", "-inform", "DER", "-outform", "DER", "-passout")
    sealed = openssl(*words, "pass:other", given=KEY.dump())
    assert unseal(sealed, b"other").dump() == KEY.dump()


def test_weaker_wrappings_are_refused() -> None:
    weak = KEY.reveal().private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    with pytest.raises(ValueError, match="scrypt"):
        unseal(weak, b"x")


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_other_keys_than_p256_are_refused(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    monkeypatch.setattr(PrivateKey, "dump", lambda self: other)
    sealed = seal(KEY, b"x")
    with pytest.raises(ValueError, match="P-256"):
        unseal(sealed, b"x")


@pytest.mark.parametrize(
    ("cost", "block", "parallel", "good"),
    [
        (1 << 15, 8, 64, True),
        (1 << 16, 8, 1, False),
        (1 << 15, 9, 1, False),
        (1 << 14, 8, 65, False),
        ((1 << 31) - 1, (1 << 31) - 1, 1, False),
    ],
)
def test_what_would_take_too_much_memory_is_refused_before_it_does(
    cost: int, block: int, parallel: int, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cheap(*_: object) -> object:
        return Scrypt(b"salt", 32, 2, 1, 1)

    monkeypatch.setattr(module, "Scrypt", cheap)
    for name, value in (("COST", cost), ("BLOCK_SIZE", block), ("PARALLEL", parallel)):
        monkeypatch.setattr(module, name, value)
    sealed = seal(KEY, b"x")
    if good:
        check(sealed)
    else:
        with pytest.raises(ValueError, match="memory"):
            check(sealed)


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_but_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        check(data)


@given(st.integers(0, len(SEALED) - 145), st.integers(1, 255))
def test_no_changed_header_is_expensive(position: int, difference: int) -> None:
    changed = bytearray(SEALED)
    changed[position] ^= difference
    try:
        check(bytes(changed))
    except ValueError:
        return
    # The salt, the vector, or a number that is as good.
    assert len(changed) == len(SEALED)


def test_cutting_off_is_noticed_everywhere() -> None:
    for end in range(len(SEALED)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            check(SEALED[:end])
