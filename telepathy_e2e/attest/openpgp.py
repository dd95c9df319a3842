"""``openpgp`` attestations: what they look like, what gpg is asked, and what its answers mean.

No OpenPGP is done here: the user's gpg does that, with his key ring and his trust. But only what
has the form of one detached signature gets as far as gpg, and nothing that gpg prints is taken for
a yes but exactly the lines that a good signature makes (GnuPG, doc/DETAILS).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from telepathy_e2e.errors import NotAvailable, SecurityError

# One signature packet: 600 bytes by the longest RSA keys that gpg makes, plus notations.
MAX_SIGNATURE: Final = 4 * 1024

# Before every command. It must not talk to anybody, not for keys and not for trust: that would tell
# servers who talks to whom, at the wish of whoever sent the signature. It must not import what a
# signature brings along. And it asks nobody.
COMMON: Final = (
    "--batch",
    "--no-tty",
    "--no-auto-key-retrieve",
    "--no-auto-key-import",
    "--disable-dirmngr",
    "--display-charset=utf-8",
)

# Hashes by which somebody could be made to sign two things at once (RFC 4880 section 9.4): MD5,
# SHA-1, RIPEMD-160.
_BROKEN_HASHES: Final = frozenset({"1", "2", "3"})

_SIGNATURE_TAG: Final = 2
_BINARY_DOCUMENT: Final = 0x00
_BINARY_CLASS: Final = "00"

_STATUS: Final = b"[GNUPG:] "
_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}(?:[0-9A-F]{24})?", re.ASCII)

# Each of them means that something is wrong with the signature or with the key behind it.
_BAD: Final = frozenset(
    {
        "BADSIG",
        "ERRSIG",
        "EXPSIG",
        "EXPKEYSIG",
        "REVKEYSIG",
        "KEYREVOKED",
        "KEYEXPIRED",
        "SIGEXPIRED",
        "NO_PUBKEY",
        "NODATA",
        "UNEXPECTED",
        "FAILURE",
        "ERROR",
    }
)

# VALIDSIG: fingerprint, date, time, expiry, version, reserved, public key algorithm, hash, class,
# fingerprint of the primary key.
_VALIDSIG_FIELDS: Final = 10

# Field 2 of a record: what the user's trust makes of it.
_TRUSTED: Final = frozenset({"f", "u"})
_DEAD: Final = frozenset({"r", "e", "i", "d", "n"})
_MIN_FIELDS: Final = 10
_ESCAPE: Final = re.compile(r"\\x([0-9a-fA-F]{2})", re.ASCII)

# "xmpp:" before the JID is the whole user id (XEP-0373 section 4.1).
PREFIX: Final = "xmpp:"


@dataclass(frozen=True)
class UserId:
    """One user id of a key in the user's key ring."""

    text: str
    trusted: bool
    """Its validity is full or ultimate: by the user's own trust it is that person's."""


def check_packet(data: bytes) -> None:
    """That it is one signature of a binary document, and nothing else is with it.

    A message that brings its own text would be checked against that text, and more than one packet
    could mean two signatures of which one is good.

    Raises:
        SecurityError: it is not.
    """
    if len(data) > MAX_SIGNATURE:
        raise SecurityError("an OpenPGP signature that is too long")
    if len(data) < 2 or not data[0] & 0x80:
        raise SecurityError("something that is no OpenPGP signature")
    body = _new_body(data) if data[0] & 0x40 else _old_body(data)
    if len(body) < 2 or body[0] not in (4, 5, 6) or body[1] != _BINARY_DOCUMENT:
        raise SecurityError("an OpenPGP signature of another kind")


def _old_body(data: bytes) -> bytes:
    """RFC 4880 section 4.2.1."""
    tag, kind = (data[0] >> 2) & 0x0F, data[0] & 0x03
    # Kind 3 is "until the end", which hides where it is.
    size = (1, 2, 4, 0)[kind]
    return _body(tag, data, 1 + size, int.from_bytes(data[1 : 1 + size], "big") if size else -1)


def _new_body(data: bytes) -> bytes:
    """RFC 4880 section 4.2.2; lengths in parts are not taken."""
    tag, first = data[0] & 0x3F, data[1]
    if first < 192:
        return _body(tag, data, 2, first)
    if first < 224 and len(data) > 2:
        return _body(tag, data, 3, ((first - 192) << 8) + data[2] + 192)
    if first == 255:
        return _body(tag, data, 6, int.from_bytes(data[2:6], "big"))
    raise SecurityError("an OpenPGP signature in parts")


def _body(tag: int, data: bytes, start: int, length: int) -> bytes:
    if tag != _SIGNATURE_TAG or start + length != len(data):
        raise SecurityError("something else than one OpenPGP signature")
    return data[start:]


def verify_arguments(signature: str, signed: str) -> list[str]:
    """For gpg: judge a detached signature.

    Args:
        signature, signed: paths of files.
    """
    return [*COMMON, "--status-fd=1", "--verify", "--", signature, signed]


def list_arguments(fingerprint: str) -> list[str]:
    """For gpg: show a key with its user ids and what the user's trust makes of them."""
    # What follows in the command line is a key's fingerprint and can be nothing else.
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError("not a fingerprint")
    return [
        *COMMON,
        "--with-colons",
        "--fixed-list-mode",
        "--list-options=show-unusable-uids",
        "--list-keys",
        "--",
        fingerprint,
    ]


def list_secret_arguments(key: str) -> list[str]:
    """The same for a key that the user can sign with.

    Args:
        key: as he names it.
    """
    return [*COMMON, "--with-colons", "--fixed-list-mode", "--list-secret-keys", "--", key]


def sign_arguments(key: str) -> list[str]:
    """For gpg: a detached signature of standard input, to standard output, by this key.

    gpg-agent asks the user for the passphrase.

    Args:
        key: as the user names it.
    """
    return [
        "--batch",
        "--no-armor",
        "--digest-algo=SHA256",
        f"--local-user={key}",
        "--output=-",
        "--detach-sign",
    ]


def signer(status: bytes) -> str:
    """The fingerprint of the primary key that made a good signature.

    Args:
        status: what ``gpg --verify`` wrote to its status descriptor.
    Raises:
        SecurityError: anything else than exactly one good signature by a usable key.
    """
    good, valid = 0, []
    for line in status.split(b"\n"):
        if not line.startswith(_STATUS):
            continue
        word, *fields = line.removeprefix(_STATUS).decode("ascii", "replace").split(" ")
        if word in _BAD:
            raise SecurityError("an OpenPGP signature that is not good, or by no usable key")
        good += word == "GOODSIG"
        if word == "VALIDSIG":
            valid.append(fields)
    if good != 1 or len(valid) != 1 or len(valid[0]) < _VALIDSIG_FIELDS:
        raise SecurityError("not one good OpenPGP signature")
    fields = valid[0]
    if fields[7] in _BROKEN_HASHES:
        raise SecurityError("an OpenPGP signature by a hash that is broken")
    if fields[8] != _BINARY_CLASS:
        raise SecurityError("an OpenPGP signature of another kind")
    primary = fields[9]
    if not _FINGERPRINT.fullmatch(primary):
        raise SecurityError("an OpenPGP signature by a key without a proper fingerprint")
    return primary


def user_ids(listing: bytes, fingerprint: str) -> list[UserId]:
    """The user ids of a usable key.

    Args:
        listing: what gpg made of ``list_arguments``.
        fingerprint: of the primary key.
    Raises:
        SecurityError: it is not that one key, or it is revoked, expired, disabled or distrusted.
    """
    keys = _keys(listing, "pub")
    if [key.fingerprint for key in keys] != [fingerprint]:
        raise SecurityError("not the OpenPGP key that signed")
    if not keys[0].usable:
        raise SecurityError("an OpenPGP key that is revoked, expired, disabled or distrusted")
    return keys[0].user_ids


def secret_key(listing: bytes) -> tuple[str, list[UserId]]:
    """Fingerprint and user ids of the one key that the user means.

    Args:
        listing: what gpg made of ``list_secret_arguments``.
    Raises:
        NotAvailable: none, or several, or one that is revoked or expired.
    """
    keys = _keys(listing, "sec")
    if len(keys) != 1:
        raise NotAvailable(
            "You have several OpenPGP keys of that name; give the fingerprint of one"
            if keys
            else "You have no secret OpenPGP key of that name; 'gpg --list-secret-keys' shows yours"
        )
    if not keys[0].usable:
        raise NotAvailable("This OpenPGP key is revoked, expired or disabled")
    return keys[0].fingerprint, keys[0].user_ids


@dataclass
class _Key:
    usable: bool
    fingerprint: str = ""
    user_ids: list[UserId] = field(default_factory=list)


def _keys(listing: bytes, kind: str) -> list[_Key]:
    """The keys in a listing with colons; ``kind`` is the word for a primary key there."""
    keys: list[_Key] = []
    primary = False
    for line in listing.decode("utf-8", "replace").split("\n"):
        fields = line.split(":")
        # Shorter lines are of records that do not matter here, or cut.
        if len(fields) < _MIN_FIELDS:
            continue
        match fields[0]:
            case word if word == kind:
                primary = True
                # Capital D among the capabilities: the user has switched the key off.
                dead = fields[1] in _DEAD or "D" in (fields[11:12] or ["D"])[0]
                keys.append(_Key(usable=not dead))
            case "sub" | "ssb":
                primary = False
            case "fpr" if primary and keys:
                keys[-1].fingerprint = fields[9]
            case "uid" if keys:
                keys[-1].user_ids.append(UserId(_unescaped(fields[9]), fields[1] in _TRUSTED))
    return keys


def _unescaped(text: str) -> str:
    """C-style escapes, which is how gpg writes what would end a field or a line."""
    raw = _ESCAPE.sub(lambda found: chr(0xE000 + int(found[1], 16)), text)
    data = b"".join(
        bytes((ord(each) - 0xE000,)) if 0xE000 <= ord(each) <= 0xE0FF else each.encode()
        for each in raw
    )
    return data.decode("utf-8", "replace")
