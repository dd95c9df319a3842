"""How a secret crosses the bus on its way to and from the Secret Service.

The algorithm ``dh-ietf1024-sha256-aes128-cbc-pkcs7`` of the Secret Service API ("Transfer of
Secrets", 0.2 draft): it keeps secrets out of logs of the bus and of swapped pages, and from whoever
reads along. It authenticates nobody: who can own names on the session bus can stand in the middle.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

ALGORITHM: Final = "dh-ietf1024-sha256-aes128-cbc-pkcs7"

# The Second Oakley Group (RFC 2409, section 6.2), which the API prescribes.
PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)
GENERATOR: Final = 2
SIZE: Final = 128
_BLOCK: Final = 16


class BadSecret(ValueError):
    """What the service sent cannot be decrypted, or its share makes no sense."""


class Exchange:
    """Our half of one exchange of keys."""

    def __init__(self) -> None:
        # ``cryptography`` gives groups of numbers up. ``pow`` takes a time that depends on the
        # exponent, which is used twice and measured by nobody: the other end is the user's own.
        self._exponent = 2 + secrets.randbelow(PRIME - 4)

    @property
    def share(self) -> bytes:
        """What the other half needs."""
        return pow(GENERATOR, self._exponent, PRIME).to_bytes(SIZE, "big")

    def finish(self, share: bytes) -> SecretCipher:
        """With the other's share.

        Raises:
            BadSecret: it is none.
        """
        number = int.from_bytes(share, "big")
        # 1 and its like would make a key that everybody knows.
        if len(share) > SIZE or not 1 < number < PRIME - 1:
            raise BadSecret("a share that makes no sense")
        common = pow(number, self._exponent, PRIME).to_bytes(SIZE, "big")
        return SecretCipher(HKDF(hashes.SHA256(), 16, None, b"").derive(common))


class SecretCipher:
    """AES-128-CBC under the key of a session.

    Args:
        key: 16 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, secret: bytes) -> tuple[bytes, bytes]:
        """The initialisation vector, and the ciphertext."""
        vector = secrets.token_bytes(_BLOCK)
        padder = PKCS7(_BLOCK * 8).padder()
        encryptor = Cipher(algorithms.AES(self._key), modes.CBC(vector)).encryptor()
        padded = padder.update(secret) + padder.finalize()
        return vector, encryptor.update(padded) + encryptor.finalize()

    def decrypt(self, vector: bytes, data: bytes) -> bytes:
        """The opposite.

        Raises:
            BadSecret: not encrypted in this session.
        """
        try:
            decryptor = Cipher(algorithms.AES(self._key), modes.CBC(vector)).decryptor()
            padded = decryptor.update(data) + decryptor.finalize()
            unpadder = PKCS7(_BLOCK * 8).unpadder()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            raise BadSecret("not encrypted in this session") from None
