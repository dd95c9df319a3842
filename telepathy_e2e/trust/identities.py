"""Where identity keys are kept, and what certifies session keys with them.

``Identities`` is what a key agent looks like from here: it takes a public key and answers with
certificates; no key ever comes out of it. ``FileIdentities`` keeps one file for each account.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from telepathy_e2e.errors import InvalidArgument, NotAvailable, SecurityError

if TYPE_CHECKING:
    from telepathy_e2e.xtls.identity import PrivateKey

# A P-256 key and a certificate take 1 KiB; more than 64 KiB is not ours.
MAX_FILE = 64 * 1024

# File systems end a name at 255 bytes; with this there is room for suffixes.
MAX_NAME = 200

_KEY = "PRIVATE KEY"
_CERTIFICATE = "CERTIFICATE"


class Identities(Protocol):
    """Certifies session keys, and does nothing else with the identity key."""

    async def identity(self, account: str) -> bytes:
        """The identity certificate of an account, DER; made at first use.

        Args:
            account: bare JID, normalised.
        Raises:
            TelepathyError: it cannot be had; says what to do.
        """
        ...

    async def certify(self, account: str, public_key: bytes, wall: datetime) -> tuple[bytes, bytes]:
        """A leaf for a session key, and the identity certificate that signed it; both DER.

        Args:
            account: bare JID, normalised.
            public_key: DER SubjectPublicKeyInfo of the session key.
            wall: now, aware.
        Raises:
            InvalidArgument: not a key that can be certified.
            TelepathyError: the identity cannot be had; says what to do.
        """
        ...


class FileIdentities:
    """Identities in files that only their owner can read, one for each account.

    The key is read for each certificate and kept nowhere in between. A file that is damaged, or
    that others can read, is an error and never as good as none: a new key in its place would be
    an alarm for every contact, and would hide why.

    Args:
        directory: made when needed, 0700.
        clock: tells the time for new identities.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._directory = directory
        self._clock = clock

    async def identity(self, account: str) -> bytes:
        """See ``Identities``."""
        return await asyncio.to_thread(self._identity, account)

    async def certify(self, account: str, public_key: bytes, wall: datetime) -> tuple[bytes, bytes]:
        """See ``Identities``."""
        return await asyncio.to_thread(self._certify, account, public_key, wall)

    def _identity(self, account: str) -> bytes:
        from telepathy_e2e.xtls.identity import new_session_key

        # Certifying something is how the file is known to be whole.
        throwaway = new_session_key().public_key()
        return self._certify(account, throwaway, self._clock())[1]

    def _certify(self, account: str, public_key: bytes, wall: datetime) -> tuple[bytes, bytes]:
        path = self._path(account)
        key, certificate = self._load_or_make(path, account, wall)
        try:
            return _sign(account, public_key, key, certificate, wall), certificate
        except (ValueError, SecurityError) as error:
            raise _damaged(path, str(error)) from error

    def _path(self, account: str) -> Path:
        if not account:
            raise InvalidArgument("An identity belongs to an account")
        # "/" and "%" are quoted too, and "." alone cannot come out with the suffix behind it.
        name = quote(account, safe="@")
        if len(name) > MAX_NAME:
            # "%s" never comes out of quote(): no JID can be chosen to have this name.
            name = "%sha256-" + hashlib.sha256(account.encode()).hexdigest()
        return self._directory / (name + ".pem")

    def _load_or_make(self, path: Path, account: str, wall: datetime) -> tuple[PrivateKey, bytes]:
        try:
            self._prepare_directory()
            data = _read(path)
            if data is None:
                _create(path, _dump(*_make(account, wall)))
                # Read back in any case: another process may have been first, and its key counts.
                data = _read(path)
        except OSError as error:
            raise NotAvailable(
                f"The identity key in {path} cannot be used: {error.strerror or error}"
            ) from error
        if data is None:
            raise NotAvailable(f"The identity key in {path} vanished; try again")
        return _parse(path, data)

    def _prepare_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._directory.stat()
        # Whoever can write here can put his key in place of ours.
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise NotAvailable(
                f"Others have access to the identity keys: make {self._directory} your own and"
                f' run "chmod 700" on it'
            )


# The imports are late for the daemon's start: cryptography is slow to import.


def _make(account: str, wall: datetime) -> tuple[PrivateKey, bytes]:
    """A new identity, tried before anything is written."""
    from telepathy_e2e.xtls.identity import make_identity

    key, certificate = make_identity(account, wall)
    try:
        _sign(account, key.public_key(), key, certificate, wall)
    except SecurityError as error:
        raise InvalidArgument("An identity belongs to a normalised bare JID") from error
    return key, certificate


def _sign(
    account: str, public_key: bytes, key: PrivateKey, certificate: bytes, wall: datetime
) -> bytes:
    """A leaf, and the certainty that contacts will take the identity: above all its name."""
    from telepathy_e2e.xtls.identity import check_identity, make_leaf

    leaf = make_leaf(public_key, key, certificate, wall)
    check_identity(certificate, leaf, account, wall)
    return leaf


def _read(path: Path) -> bytes | None:
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
        raise _damaged(path, "it is too long")
    return data


def _create(path: Path, data: bytes) -> None:
    """Writes the whole file or nothing, and never over another.

    ``link`` is what makes it so: unlike ``rename`` it fails if the name is taken.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _dump(key: PrivateKey, certificate: bytes) -> bytes:
    """PEM (RFC 7468): PKCS#8, then the certificate."""
    return _armour(_KEY, key.dump()) + _armour(_CERTIFICATE, certificate)


def _armour(label: str, data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    edge = label.encode()
    return b"\n".join((b"-----BEGIN %b-----" % edge, *lines, b"-----END %b-----\n" % edge))


def _unarmour(label: str, data: bytes) -> tuple[bytes, bytes]:
    """What is between the marks, and what comes after them."""
    begin, end = (f"-----{word} {label}-----".encode() for word in ("BEGIN", "END"))
    before, found, rest = data.partition(begin)
    body, closed, rest = rest.partition(end)
    if before.strip() or not found or not closed:
        raise ValueError(f"no {label}")
    return base64.b64decode(b"".join(body.split()), validate=True), rest


def _parse(path: Path, data: bytes) -> tuple[PrivateKey, bytes]:
    from telepathy_e2e.xtls.identity import PrivateKey

    try:
        key, rest = _unarmour(_KEY, data)
        certificate, rest = _unarmour(_CERTIFICATE, rest)
        if rest.strip():
            raise ValueError("there is more in it than a key and a certificate")
        return PrivateKey.load(key), certificate
    except ValueError:
        # Without the cause: a parser's complaint may quote what it read.
        raise _damaged(path, "there is no key with a certificate in it") from None


def _damaged(path: Path, why: str) -> NotAvailable:
    return NotAvailable(
        f"The identity key in {path} is damaged or of another account ({why}). Put a backup in its"
        " place; or move it away to get a new identity, which all contacts must verify again"
    )
