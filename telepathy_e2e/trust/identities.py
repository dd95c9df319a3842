"""Where identity keys are kept, and what certifies session keys with them.

``Identities`` is what a key agent looks like from here: it takes a public key and answers with
certificates; no key ever comes out of it. ``FileIdentities`` keeps one file for each account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.trust import identity_files as files

if TYPE_CHECKING:
    from telepathy_e2e.xtls.identity import PrivateKey


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
        path = files.path_of(self._directory, account)
        key, certificate = self._load_or_make(path, account, wall)
        try:
            return files.sign(account, public_key, key, certificate, wall), certificate
        except (ValueError, SecurityError) as error:
            raise files.damaged(path, str(error)) from error

    def _load_or_make(self, path: Path, account: str, wall: datetime) -> tuple[PrivateKey, bytes]:
        try:
            files.prepare(self._directory)
            data = files.read(path)
            if data is None:
                files.create(path, files.dump(*files.make(account, wall)))
                # Read back in any case: another process may have been first, and its key counts.
                data = files.read(path)
        except OSError as error:
            raise NotAvailable(
                f"The identity key in {path} cannot be used: {error.strerror or error}"
            ) from error
        if data is None:
            raise NotAvailable(f"The identity key in {path} vanished; try again")
        return files.parse(path, data)
