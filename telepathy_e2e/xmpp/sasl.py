"""Proving the password to the server (RFC 5802, RFC 7677, RFC 4616, XEP-0474). Pure.

slixmpp's mechanisms are not used: its SCRAM takes its nonce from ``random``, computes in the event
loop as many rounds as the server likes, and lets a server that skips its own proof through.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from telepathy_e2e.errors import AuthenticationFailed, ServiceConfused
from telepathy_e2e.xmpp.settings import Password

# RFC 5802 section 5.1 and RFC 7677 section 4: fewer rounds help who guesses passwords offline.
MIN_ROUNDS = 4096
# The server says how long we compute; this is half a second. Servers use 4,096 to 600,000.
MAX_ROUNDS = 1_000_000
# Characters of a server's message; real ones have 100 to 200.
MAX_MESSAGE = 4096

# Mechanisms that a server offers; real ones offer up to ten.
MAX_MECHANISMS = 32
# RFC 4422 section 3.1
_NAME = re.compile(r"[A-Z0-9_-]{1,20}\Z")

# Strongest first. RFC 9266 is for TLS 1.3, RFC 5929's tls-unique only for what came before;
# tls-server-end-point binds to the certificate alone.
_BINDING_TYPES = ("tls-exporter", "tls-unique", "tls-server-end-point")

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


@dataclass(frozen=True)
class Offer:
    """What a server offers, on what kind of connection.

    Args:
        mechanisms: in the server's order.
        binding_types: what it can bind a login to (XEP-0440); None if it does not say.
        bindings: of this connection, type to data; what we can bind to.
        safe: encrypted, and with the right server.
    """

    mechanisms: tuple[str, ...]
    binding_types: tuple[str, ...] | None = None
    bindings: Mapping[str, bytes] = field(default_factory=dict)
    safe: bool = True

    @classmethod
    def read(
        cls,
        mechanisms: Iterable[str],
        binding_types: Iterable[str] | None,
        bindings: Mapping[str, bytes],
        *,
        safe: bool,
    ) -> Offer:
        """Without what is no name of a mechanism, and not without end."""
        names = [each for each in mechanisms if _NAME.match(each)]
        types = None if binding_types is None else tuple(binding_types)[:MAX_MECHANISMS]
        return cls(tuple(dict.fromkeys(names))[:MAX_MECHANISMS], types, bindings, safe)

    def binding(self) -> tuple[str, bytes] | None:
        """What a login is bound to, if the server can: (type, data)."""
        wanted = self.binding_types
        if wanted is None:
            # It does not say: what its standard has servers do (RFC 5802 section 6, RFC 9266).
            wanted = ("tls-exporter", "tls-unique")
        for each in _BINDING_TYPES:
            if each in wanted and each in self.bindings:
                return each, self.bindings[each]
        return None

    def for_others(self) -> tuple[str, ...]:
        """What somebody else may drive: nobody outside can bind to this connection, and only
        SCRAM shows nothing to whoever listens."""
        return tuple(
            each
            for each in self.mechanisms
            if not each.endswith("-PLUS") and (self.safe or each in _HASHES)
        )

    def digest(self, hash_name: str) -> bytes:
        """XEP-0474 section 5.1: what the server says if nobody in between changed the offer."""
        text = "\x1e".join(sorted(self.mechanisms))
        if self.binding_types is not None:
            text += "\x1f" + "\x1e".join(sorted(self.binding_types))
        return hashlib.new(hash_name, text.encode()).digest()


class Scram:
    """SCRAM, bound to the connection if its name ends in -PLUS.

    Args:
        name: one of ``_HASHES``, or that with -PLUS.
        user: local part of the JID.
        offer: of the server.
        nonce: printable ASCII without a comma.
    """

    def __init__(
        self,
        name: str,
        user: str,
        password: Password,
        offer: Offer | None = None,
        nonce: str | None = None,
    ) -> None:
        self.name = name
        self._hash = _HASHES[name.removesuffix("-PLUS")]
        self._password = password
        self._offer = offer
        self._nonce = nonce if nonce is not None else secrets.token_urlsafe(24)
        self._header, self._binding = b"n,,", b""
        if offer is not None and name.endswith("-PLUS"):
            chosen = offer.binding()
            if chosen is None:
                raise ValueError("nothing to bind to")
            self._header, self._binding = f"p={chosen[0]},,".encode(), chosen[1]
        elif offer is not None and offer.bindings and not _plus(offer):
            # We could have, and the server says that it cannot. If somebody in between took that
            # out of its offer, the server sees it here (RFC 5802 section 6).
            self._header = b"y,,"
        escaped = user.replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={escaped},r={self._nonce}"
        self._server_signature: bytes | None = None
        self._verified = False

    def first(self) -> bytes:
        return self._header + self._first_bare.encode()

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
        self._check_offer(text.split(",")[3:])
        bound = b64encode(self._header + self._binding).decode()
        final = f"c={bound},r={fields['r']}"
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

    def _check_offer(self, extensions: Iterable[str]) -> None:
        """XEP-0474: somebody in between may have left us the weakest mechanism only."""
        for each in extensions:
            if each.startswith("h=") and self._offer is not None:
                if not hmac.compare_digest(_base64(each[2:]), self._offer.digest(self._hash)):
                    raise ServiceConfused("Somebody changed what the server offers")

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


def choose(offer: Offer, user: str, password: Password) -> Mechanism | None:
    """The strongest mechanism that both sides have, or None."""
    if offer.binding() is not None:
        for name in _HASHES:
            if f"{name}-PLUS" in offer.mechanisms:
                return Scram(f"{name}-PLUS", user, password, offer)
    for name in _HASHES:
        if name in offer.mechanisms:
            return Scram(name, user, password, offer)
    if "PLAIN" in offer.mechanisms and offer.safe:
        return Plain(user, password)
    return None


def _plus(offer: Offer) -> bool:
    return any(each.startswith("SCRAM-") and each.endswith("-PLUS") for each in offer.mechanisms)


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


def _wrong() -> ServiceConfused:
    return ServiceConfused("The server could not prove that it knows the password")


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
        raise ServiceConfused("The server's way to keep passwords is too weak, or absurd")
    return rounds
