"""Identities as files: names, access rights, writing whole or not at all, PEM.

What is in a file: a key (PKCS#8) and its certificate. A file that is damaged, or that others can
read, is an error and never as good as none: a new key in its place would be an alarm for every
contact, and would hide why.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from telepathy_e2e.errors import InvalidArgument, NotAvailable, SecurityError

if TYPE_CHECKING:
    from telepathy_e2e.xtls.identity import PrivateKey

# A P-256 key and a certificate take 1 KiB; more than 64 KiB is not ours.
MAX_FILE: Final = 64 * 1024

# File systems end a name at 255 bytes; with this there is room for suffixes.
MAX_NAME: Final = 200

SUFFIX: Final = ".pem"
TEMPORARY: Final = ".tmp"

KEY: Final = "PRIVATE KEY"
CERTIFICATE: Final = "CERTIFICATE"


def path_of(directory: Path, account: str) -> Path:
    """Where the identity of an account is.

    Raises:
        InvalidArgument: not an account.
    """
    if not account:
        raise InvalidArgument("An identity belongs to an account")
    # "/" and "%" are quoted too, and "." alone cannot come out with the suffix behind it.
    name = quote(account, safe="@")
    if len(name) > MAX_NAME:
        # "%s" never comes out of quote(): no JID can be chosen to have this name.
        name = "%sha256-" + hashlib.sha256(account.encode()).hexdigest()
    return directory / (name + SUFFIX)


def prepare(directory: Path) -> None:
    """Make the directory where it is missing, and refuse one that others can use.

    Raises:
        NotAvailable: it is not ours alone.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    # Whoever can write here can put his key in place of ours.
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise NotAvailable(
            f"Others have access to the identity keys: make {directory} your own and"
            f' run "chmod 700" on it'
        )


# The imports are late for the daemon's start: cryptography is slow to import.


def make(account: str, wall: datetime) -> tuple[PrivateKey, bytes]:
    """A new identity, tried before anything is written."""
    from telepathy_e2e.xtls.identity import make_identity

    key, certificate = make_identity(account, wall)
    try:
        sign(account, key.public_key(), key, certificate, wall)
    except SecurityError as error:
        raise InvalidArgument("An identity belongs to a normalised bare JID") from error
    return key, certificate


def sign(
    account: str, public_key: bytes, key: PrivateKey, certificate: bytes, wall: datetime
) -> bytes:
    """A leaf, and the certainty that contacts will take the identity: above all its name."""
    from telepathy_e2e.xtls.identity import check_identity, make_leaf

    leaf = make_leaf(public_key, key, certificate, wall)
    check_identity(certificate, leaf, account, wall)
    return leaf


def read(path: Path) -> bytes | None:
    """The content; None only if there is no such file.

    Raises:
        NotAvailable: it is not a file that only we can read.
    """
    try:
        # Never through a link to somewhere else, never waiting for a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotAvailable(f"{path} is not a file; move it away")
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise NotAvailable(
                f"Others can read the identity key in {path}, so they may know it. Move it away"
                ' to get a new one, or run "chmod 600" on it if you are sure that nobody did'
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE:
        raise damaged(path, "it is too long")
    return data


def create(path: Path, data: bytes) -> None:
    """Writes the whole file or nothing, and never over another.

    ``link`` is what makes it so: unlike ``rename`` it fails if the name is taken.
    """
    temporary = _write(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """The same over what is there: at any instant the name is of the old file or of the new."""
    temporary = _write(path, data)
    try:
        os.rename(temporary, path)
    except OSError:
        temporary.unlink()
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make names that were given or taken away last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> Path:
    """The data on the disk beside ``path``, under a name that nobody knows."""
    temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary


def dump(key: PrivateKey, certificate: bytes) -> bytes:
    """PEM (RFC 7468): PKCS#8, then the certificate."""
    return armour(KEY, key.dump()) + armour(CERTIFICATE, certificate)


def armour(label: str, data: bytes) -> bytes:
    """PEM (RFC 7468)."""
    text = base64.b64encode(data)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    edge = label.encode()
    return b"\n".join((b"-----BEGIN %b-----" % edge, *lines, b"-----END %b-----\n" % edge))


def unarmour(label: str, data: bytes) -> tuple[bytes, bytes]:
    """What is between the marks, and what comes after them."""
    begin, end = (f"-----{word} {label}-----".encode() for word in ("BEGIN", "END"))
    before, found, rest = data.partition(begin)
    body, closed, rest = rest.partition(end)
    if before.strip() or not found or not closed:
        raise ValueError(f"no {label}")
    return base64.b64decode(b"".join(body.split()), validate=True), rest


def parse(path: Path, data: bytes) -> tuple[PrivateKey, bytes]:
    """Key and certificate (DER) from the content of a file.

    Raises:
        NotAvailable: there is something else in it.
    """
    from telepathy_e2e.xtls.identity import PrivateKey

    try:
        key, rest = unarmour(KEY, data)
        certificate, rest = unarmour(CERTIFICATE, rest)
        if rest.strip():
            raise ValueError("there is more in it than a key and a certificate")
        return PrivateKey.load(key), certificate
    except ValueError:
        # Without the cause: a parser's complaint may quote what it read.
        raise damaged(path, "there is no key with a certificate in it") from None


def damaged(path: Path, why: str) -> NotAvailable:
    """The error for a file that is not what it should be."""
    return NotAvailable(
        f"The identity key in {path} is damaged or of another account ({why}). Put a backup in its"
        " place; or move it away to get a new identity, which all contacts must verify again"
    )
