"""Proving the password to the server (RFC 5802, RFC 7677, RFC 4616). Pure.

slixmpp's mechanisms are not used: its SCRAM takes its nonce from ``random``, computes in the event
loop as many rounds as the server likes, and lets a server that skips its own proof through.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import Protocol

from telepathy_e2e.errors import AuthenticationFailed
from telepathy_e2e.xmpp.settings import Password

# RFC 5802 section 5.1 and RFC 7677 section 4: fewer rounds help who guesses passwords offline.
MIN_ROUNDS = 4096
# The server says how long we compute; this is half a second. Servers use 4,096 to 600,000.
MAX_ROUNDS = 1_000_000
# Characters of a server's message; real ones have 100 to 200.
MAX_MESSAGE = 4096

_HASHES = {
    "SCRAM-SHA-512": "sha512",
    "SCRAM-SHA-256": "sha256",
    "SCRAM-SHA-1": "sha1",
}


class Mechanism(Protocol):
    """One login. ``first``, then ``respond`` to each challenge, then ``finish``."""

    name: str

    def first(self) -> bytes:
        """The initial response."""

    def respond(self, challenge: bytes) -> bytes:
        """The answer to a challenge; may compute for half a second.

        Raises:
            AuthenticationFailed: the server is wrong, and is told nothing more.
        """

    def finish(self, data: bytes) -> None:
        """The server says that we are in.

        Raises:
            AuthenticationFailed: it did not prove that it knows the password.
        """


class Scram:
    """SCRAM without channel binding: Python's ssl has none that TLS 1.3 allows.

    Args:
        name: one of ``_HASHES``.
        user: local part of the JID.
        nonce: printable ASCII without a comma.
    """

    def __init__(self, name: str, user: str, password: Password, nonce: str | None = None) -> None:
        self.name = name
        self._hash = _HASHES[name]
        self._password = password
        self._nonce = nonce if nonce is not None else secrets.token_urlsafe(24)
        escaped = user.replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={escaped},r={self._nonce}"
        self._server_signature: bytes | None = None
        self._verified = False

    def first(self) -> bytes:
        return f"n,,{self._first_bare}".encode()

    def respond(self, challenge: bytes) -> bytes:
        if self._server_signature is not None:
            self._verify(challenge)
            return b""
        text = _decoded(challenge)
        fields = _fields(text, "rsi")
        salt, rounds = _base64(fields["s"]), _rounds(fields["i"])
        # A nonce that does not continue ours could be a recording.
        if not fields["r"].startswith(self._nonce) or fields["r"] == self._nonce:
            raise _wrong()
        final = f"c=biws,r={fields['r']}"
        salted = hashlib.pbkdf2_hmac(
            self._hash, saslprep(self._password.reveal()).encode(), salt, rounds
        )
        client_key = self._hmac(salted, b"Client Key")
        message = f"{self._first_bare},{text},{final}".encode()
        signature = self._hmac(hashlib.new(self._hash, client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        return f"{final},p={b64encode(proof).decode()}".encode()

    def finish(self, data: bytes) -> None:
        if not self._verified:
            self._verify(data)

    def _verify(self, data: bytes) -> None:
        signature = _base64(_fields(_decoded(data), "v")["v"])
        # A server that does not know the password could otherwise just say "success".
        if self._server_signature is None or not hmac.compare_digest(
            signature, self._server_signature
        ):
            raise _wrong()
        self._verified = True

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()


class Plain:
    """The password itself; only inside TLS."""

    name = "PLAIN"

    def __init__(self, user: str, password: Password) -> None:
        self._user = user
        self._password = password

    def first(self) -> bytes:
        return f"\0{self._user}\0{saslprep(self._password.reveal())}".encode()

    def respond(self, challenge: bytes) -> bytes:
        raise _wrong()

    def finish(self, data: bytes) -> None:
        return


def choose(
    offered: Iterable[str], user: str, password: Password, *, encrypted: bool
) -> Mechanism | None:
    """The strongest mechanism that both sides have, or None."""
    names = set(offered)
    for name in _HASHES:
        if name in names:
            return Scram(name, user, password)
    if "PLAIN" in names and encrypted:
        return Plain(user, password)
    return None


def saslprep(text: str) -> str:
    """RFC 4013, for a password as typed.

    Raises:
        AuthenticationFailed: it has characters that passwords cannot have.
    """
    if text.isascii() and text.isprintable():
        return text
    import stringprep
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )
    result = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(table(c) for c in result for table in prohibited):
        raise AuthenticationFailed("The password has a character that passwords cannot have")
    return result


def _wrong() -> AuthenticationFailed:
    return AuthenticationFailed("The server could not prove that it knows the password")


def _decoded(message: bytes) -> str:
    if len(message) > MAX_MESSAGE:
        raise _wrong()
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong() from None


def _fields(text: str, wanted: str) -> dict[str, str]:
    """The attributes of a SCRAM message, which must begin with the wanted ones in this order."""
    parts = text.split(",")
    if len(parts) < len(wanted) or any(
        not part.startswith(f"{key}=") for key, part in zip(wanted, parts, strict=False)
    ):
        raise _wrong()
    return {key: part[2:] for key, part in zip(wanted, parts, strict=False)}


def _base64(text: str) -> bytes:
    try:
        result = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise _wrong() from None
    if not result:
        raise _wrong()
    return result


def _rounds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _wrong()
    rounds = int(text)
    if not MIN_ROUNDS <= rounds <= MAX_ROUNDS:
        raise AuthenticationFailed("The server's way to keep passwords is too weak, or absurd")
    return rounds
