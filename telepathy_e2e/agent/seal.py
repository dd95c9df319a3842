"""Keys under a passphrase: EncryptedPrivateKeyInfo of RFC 5958, PBES2 with scrypt (RFC 7914,
section 7) and AES-256-CBC. ``openssl pkcs8`` reads and writes the same.

``cryptography`` reads it but writes PBKDF2 with 2,048 rounds only, too few for what people can
remember. So the wrapping is put together here, from its Scrypt and AES.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_der_private_key

from telepathy_e2e.errors import PermissionDenied
from telepathy_e2e.xtls.identity import PrivateKey

# Bytes of a passphrase. Nobody types more; and an empty one is none.
MAX_PASSPHRASE: Final = 1024

# OWASP's "Password Storage Cheat Sheet" has this as one of its equal minima. Of these the one with
# the least memory: OpenSSL's command line reads no more than 32 MiB.
COST: Final = 1 << 14
BLOCK_SIZE: Final = 8
PARALLEL: Final = 5

# What a file from elsewhere may make us spend: 32 MiB, as with OpenSSL, and some four seconds.
MAX_MEMORY: Final = 32 << 20
MAX_PARALLEL: Final = 64

# RFC 7914 has no rule for the salt; 16 bytes as in RFC 8018, section 4.1 and what it cites.
SALT_SIZE: Final = 16
_AES_BLOCK: Final = 16

_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")


class WrongPassphrase(PermissionDenied):
    """The passphrase does not open this key."""

    def __init__(self) -> None:
        super().__init__("The passphrase is wrong")


def seal(key: PrivateKey, passphrase: bytes) -> bytes:
    """The key under a passphrase, DER.

    Args:
        passphrase: 1 to ``MAX_PASSPHRASE`` bytes.
    """
    salt, vector = secrets.token_bytes(SALT_SIZE), secrets.token_bytes(_AES_BLOCK)
    derived = Scrypt(salt, 32, COST, BLOCK_SIZE, PARALLEL).derive(passphrase)
    padder = PKCS7(_AES_BLOCK * 8).padder()
    padded = padder.update(key.dump()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(vector)).encryptor()
    parameters = [_tlv(_OCTETS, salt), *map(_integer, (COST, BLOCK_SIZE, PARALLEL))]
    derivation = _sequence(_SCRYPT, _sequence(*parameters))
    cipher = _sequence(_AES_256_CBC, _tlv(_OCTETS, vector))
    return _sequence(
        _sequence(_PBES2, _sequence(derivation, cipher)),
        _tlv(_OCTETS, encryptor.update(padded) + encryptor.finalize()),
    )


def unseal(sealed: bytes, passphrase: bytes) -> PrivateKey:
    """The opposite.

    Raises:
        WrongPassphrase: or the ciphertext was changed; nothing tells these two apart.
        ValueError: not a P-256 key sealed in this way, or one that costs too much to open.
    """
    check(sealed)
    try:
        key = load_der_private_key(sealed, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the cause: a parser may quote what a wrong key made of the ciphertext.
        raise WrongPassphrase from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 key")
    return PrivateKey(key)


def check(sealed: bytes) -> None:
    """That opening it will be affordable: before any passphrase is tried on it.

    Raises:
        ValueError: not of the form that ``seal`` makes, or too costly.
    """
    outer = _Reader(_Reader(sealed).only(_SEQUENCE))
    algorithm = _Reader(outer.next(_SEQUENCE))
    outer.only(_OCTETS)
    algorithm.expect(_PBES2)
    schemes = _Reader(algorithm.only(_SEQUENCE))
    derivation, cipher = _Reader(schemes.next(_SEQUENCE)), _Reader(schemes.only(_SEQUENCE))
    derivation.expect(_SCRYPT)
    cipher.expect(_AES_256_CBC)
    if len(cipher.only(_OCTETS)) != _AES_BLOCK:
        raise ValueError("an initialisation vector of another size")
    parameters = _Reader(derivation.only(_SEQUENCE))
    parameters.next(_OCTETS)
    cost, block, parallel = (_number(parameters.next(_INTEGER)) for _ in range(3))
    if parameters.left:  # the length of the key, which says nothing new
        parameters.only(_INTEGER)
    if 128 * cost * block > MAX_MEMORY or parallel > MAX_PARALLEL:
        raise ValueError("it would take too much memory or time to open")


class _Reader:
    """DER elements (X.690, section 10) with lengths of up to two bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def expect(self, exactly: bytes) -> None:
        if not self.left.startswith(exactly):
            raise ValueError("not PBES2 with scrypt and AES-256-CBC")
        self.left = self.left[len(exactly) :]

    def next(self, tag: int) -> bytes:
        if len(self.left) < 2 or self.left[0] != tag:
            raise ValueError("not an encrypted key")
        size, start = self.left[1], 2
        if size in (0x81, 0x82):
            start += size - 0x80
            size = int.from_bytes(self.left[2:start], "big")
        elif size > 0x7F:
            raise ValueError("an element that is too long")
        value, self.left = self.left[start : start + size], self.left[start + size :]
        if len(value) != size:
            raise ValueError("it was cut off")
        return value

    def only(self, tag: int) -> bytes:
        value = self.next(tag)
        if self.left:
            raise ValueError("more than belongs there")
        return value


def _number(data: bytes) -> int:
    # Four bytes are more than any of these numbers may be.
    if not data or len(data) > 4 or data[0] & 0x80:
        raise ValueError("a number that makes no sense")
    return int.from_bytes(data, "big")


def _integer(number: int) -> bytes:
    return _tlv(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _sequence(*parts: bytes) -> bytes:
    return _tlv(_SEQUENCE, b"".join(parts))


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    return (
        bytes((tag, 0x82)) + size.to_bytes(2, "big") + value
        if size > 0xFF
        else (bytes((tag, 0x81, size)) + value)
    )
