"""The agent's files: one identity for each account, its key sealed with a passphrase or not.

The directory and the names are those of ``trust.identities``. Reading takes no lock, since files
are written whole; writing does, for two agents on two buses.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from telepathy_e2e.agent import seal
from telepathy_e2e.errors import DoesNotExist, InvalidArgument, NotAvailable, SecurityError
from telepathy_e2e.trust import identity_files as files
from telepathy_e2e.xtls.certificates import parse, xmpp_addr
from telepathy_e2e.xtls.identity import PrivateKey

SEALED: Final = "ENCRYPTED PRIVATE KEY"

# Explanatory text before the key (RFC 7468, section 2), which other programs skip: its passphrase
# is not one that a person knows. Without it a keyring that lost the passphrase would look like a
# person who forgot it.
KEYRING: Final = b"Passphrase: Secret Service\n"

# A person has a handful. Any program of the session can ask for the identity of an account that
# does not exist, and each makes a file.
MAX_ACCOUNTS: Final = 256

# RFC 7622, section 3.1: 1023 bytes on each side of the "@".
MAX_ACCOUNT: Final = 2047

# Seconds until another process that writes is waited for no longer; it takes some milliseconds.
LOCK_PATIENCE: Final = 5.0
_LOCK_STEP: Final = 0.02


@dataclass(frozen=True)
class Stored:
    """One identity as it is in its file: with a key, or with a sealed one."""

    certificate: bytes = field(repr=False)
    """DER."""
    key: PrivateKey | None = None
    sealed: bytes | None = field(default=None, repr=False)
    """EncryptedPrivateKeyInfo, DER."""
    in_keyring: bool = False
    """Its passphrase is in the desktop's keyring (``agent.keyring``)."""

    def dump(self) -> bytes:
        """The content of its file."""
        if self.key is not None:
            return files.dump(self.key, self.certificate)
        sealed = files.armour(SEALED, self.sealed or b"")
        certificate = files.armour(files.CERTIFICATE, self.certificate)
        return (KEYRING if self.in_keyring else b"") + sealed + certificate


class Store:
    """Identities in a directory.

    Args:
        directory: made when needed, 0700.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, account: str) -> Path:
        """The file of an account.

        Raises:
            InvalidArgument: that is none.
        """
        if len(account.encode(errors="replace")) > MAX_ACCOUNT:
            raise InvalidArgument("An account's name is not that long")
        if "/" in account or not account.isprintable() or " " in account:
            raise InvalidArgument("An identity belongs to a normalised bare JID")
        return files.path_of(self._directory, account)

    def accounts(self) -> list[str]:
        """Whose identities are here, sorted.

        A file that cannot be read is listed under its name, which shows that it is there.
        """
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unusable(self._directory, error) from error
        found = [each for each in names if _is_identity(each)][:MAX_ACCOUNTS]
        return sorted(self._account_of(name) for name in found)

    def find(self, account: str) -> Stored | None:
        """The identity of an account; None only if there is no file.

        Raises:
            NotAvailable: the file is not usable, or not ours alone.
        """
        path = self.path(account)
        with _explained(path):
            if not self._directory.exists():
                return None
            files.prepare(self._directory)
            data = files.read(path)
        return None if data is None else parse_file(path, data)

    def get(self, account: str) -> Stored:
        """The same.

        Raises:
            DoesNotExist: there is no file.
        """
        stored = self.find(account)
        if stored is None:
            raise DoesNotExist(f"There is no identity of {account} here")
        return stored

    def find_or_make(self, account: str, wall: datetime) -> Stored:
        """The same, made where there is none.

        Raises:
            InvalidArgument: nobody can have this account.
            NotAvailable: also: there are ``MAX_ACCOUNTS`` already.
        """
        stored = self.find(account)
        if stored is None:
            key, certificate = files.make(account, wall)
            self.add(account, Stored(certificate, key))
            # Read back in any case: another process may have been first, and its key counts.
            stored = self.find(account)
        if stored is None:
            raise NotAvailable(f"The identity key in {self.path(account)} vanished; try again")
        return stored

    def add(self, account: str, stored: Stored) -> bool:
        """Keep an identity; False, and nothing done, where the account has one."""
        path = self.path(account)
        with self._writing(path):
            if os.path.lexists(path):
                return False
            if len(self.accounts()) >= MAX_ACCOUNTS:
                raise NotAvailable(
                    f"There are {MAX_ACCOUNTS} identities in {self._directory} already; forget"
                    " those that nobody uses"
                )
            files.create(path, stored.dump())
            return True

    def replace(self, account: str, stored: Stored) -> None:
        """Keep the same identity in another form: sealed, or not any more.

        Raises:
            NotAvailable: another process made it another identity, or took it away, meanwhile.
        """
        path = self.path(account)
        with self._writing(path):
            data = files.read(path)
            if data is None or parse_file(path, data).certificate != stored.certificate:
                raise NotAvailable(f"The identity of {account} was changed meanwhile; try again")
            files.replace(path, stored.dump())

    def forget(self, account: str) -> None:
        """Delete an identity, a damaged one too; there is no way back but a backup.

        Raises:
            DoesNotExist: there is none.
        """
        path = self.path(account)
        with self._writing(path):
            try:
                path.unlink()
            except FileNotFoundError:
                raise DoesNotExist(f"There is no identity of {account} here") from None
            files.sync(self._directory)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Alone among those that write here; leftovers of those that died are taken away."""
        with _explained(path):
            files.prepare(self._directory)
            lock = os.open(
                self._directory / ".lock",
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
            try:
                _take(lock)
                for each in self._directory.glob(f".*{files.TEMPORARY}"):
                    each.unlink(missing_ok=True)  # there is a key in it
                yield
            finally:
                os.close(lock)

    def _account_of(self, name: str) -> str:
        if not name.startswith("%"):
            return unquote(name.removesuffix(files.SUFFIX))
        path = self._directory / name
        try:
            data = files.read(path)
            stored = parse_file(path, data or b"")
            (found,) = parse(stored.certificate).names or ()
            account = xmpp_addr(found) or ""
        except (OSError, NotAvailable, SecurityError, ValueError):
            return name
        return account if self.path(account).name == name else name


def parse_file(path: Path, data: bytes) -> Stored:
    """What is in a file.

    Raises:
        NotAvailable: no identity.
    """
    in_keyring = data.startswith(KEYRING)
    data = data.removeprefix(KEYRING)
    if not in_keyring and not data.startswith(b"-----BEGIN " + SEALED.encode()):
        key, certificate = files.parse(path, data)
        return Stored(certificate, key)
    try:
        return replace(parse_sealed(data), in_keyring=in_keyring)
    except ValueError as error:
        raise files.damaged(path, str(error)) from None


def parse_sealed(data: bytes) -> Stored:
    """A sealed key with a certificate, PEM.

    Raises:
        ValueError: something else.
    """
    sealed, rest = files.unarmour(SEALED, data)
    certificate, rest = files.unarmour(files.CERTIFICATE, rest)
    if rest.strip():
        raise ValueError("there is more in it than a key and a certificate")
    seal.check(sealed)
    return Stored(certificate, sealed=sealed)


def _is_identity(name: str) -> bool:
    return name.endswith(files.SUFFIX) and not name.startswith(".")


def _take(lock: int) -> None:
    end = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise NotAvailable("Another program is busy with the identity keys") from None
            time.sleep(_LOCK_STEP)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> NotAvailable:
    return NotAvailable(
        f"The identity key in {path} cannot be used: {error.strerror or type(error).__name__}"
    )
