"""The agent on the bus (spec/Key_Agent1.xml): arguments in, work in a thread, answer out."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from telepathy_e2e.agent.attestations import Attestation, Confirm
from telepathy_e2e.agent.descriptors import read_all, write_all
from telepathy_e2e.agent.keyring import Keyring
from telepathy_e2e.agent.keys import InKeyring, Keys
from telepathy_e2e.agent.rate import Rate
from telepathy_e2e.agent.seal import MAX_PASSPHRASE
from telepathy_e2e.bus import caller
from telepathy_e2e.bus.members import Interface, Property, method
from telepathy_e2e.bus.types import ByteArrays, StringMap, Strings
from telepathy_e2e.bus.wire import DBusBytes, DBusStr, DBusUnixFd
from telepathy_e2e.errors import E2EError, InvalidArgument, NotAvailable, PermissionDenied
from telepathy_e2e.trust import agent_names
from telepathy_e2e.trust.identity_files import MAX_FILE
from telepathy_e2e.xtls.identity import identity_fingerprint, shown

log = logging.getLogger(__name__)

# Calls that wait here, for a passphrase, a file, or their turn to be certified. Each of a
# descriptor's holds that open; a process has 1,024 at most.
MAX_CALLS: Final = 256

# Bytes of a passphrase that the keyring keeps: as many as the key that scrypt makes of it.
KEPT_SIZE: Final = 32

P = ParamSpec("P")
T = TypeVar("T")


class KeyAgent(Interface):
    """``KeyAgent1``.

    Args:
        keys: that it is about.
        confirm: asks the person before an attestation is signed; None: there is nobody to ask.
        keyring: keeps passphrases; None: there is none.
        changed: called with the names of properties that may have changed.
        idle_changed: called whenever ``busy`` may have changed.
    """

    name = agent_names.INTERFACE

    Accounts = Property(Strings, signals_changes=True)
    Locked = Property(Strings, signals_changes=True)

    def __init__(
        self,
        keys: Keys,
        *,
        confirm: Confirm | None = None,
        keyring: Keyring | None = None,
        changed: Callable[[tuple[str, ...]], None] = lambda names: None,
        idle_changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._keys = keys
        self._confirm = confirm
        self._keyring = keyring
        # By account: who asked the keyring first, for whom all others wait.
        self._opening: dict[str, asyncio.Future[E2EError | None]] = {}
        self._changed = changed
        self._idle_changed = idle_changed
        self._rate = Rate()
        self._calls = 0
        # What changes files and what is unlocked goes one at a time; a passphrase takes 0.4 s.
        self._writing = asyncio.Lock()
        self._told: tuple[list[str], list[str]] = ([], [])

    @property
    def busy(self) -> bool:
        """Whether somebody waits for an answer, or a restart would lose what is unlocked."""
        return self._calls > 0 or self._keys.any_unlocked

    @property
    def accounts(self) -> list[str]:
        return self._keys.accounts()

    @property
    def locked(self) -> list[str]:
        return self._keys.locked()

    # -- what the connection manager needs ----------------------------------------------------

    @method("GetIdentity")
    async def get_identity(self, Account: DBusStr) -> DBusBytes:
        with self._counted():
            certificate = await asyncio.to_thread(self._keys.identity, Account)
            await self._tell()
            return certificate

    @method("GetFingerprints")
    async def get_fingerprints(self, Account: DBusStr) -> StringMap:
        with self._counted():
            certificate = await asyncio.to_thread(self._keys.existing_identity, Account)
            return {"sha-256": shown(identity_fingerprint(certificate))}

    @method("Certify")
    async def certify(self, Account: DBusStr, Subject_Public_Key_Info: DBusBytes) -> ByteArrays:
        with self._counted():
            wait = self._rate.take(asyncio.get_running_loop().time())
            if wait is None:
                log.warning("too many certificates at once")
                raise NotAvailable("Too many certificates at once; try again in a minute")
            if wait > 0:
                await asyncio.sleep(wait)
            key = bytes(Subject_Public_Key_Info)
            certified = await self._opened(
                lambda: asyncio.to_thread(self._keys.certify, Account, key)
            )
            await self._tell(only_new=Account)
            return list(certified)

    @method("SignAttestation")
    async def sign_attestation(
        self, Account: DBusStr, Type: DBusStr, Statement: DBusBytes
    ) -> DBusBytes:
        with self._counted():
            attestation = await self._stated(Account, Type, Statement)
            if self._confirm is None:
                raise PermissionDenied(
                    "There is no way to ask you here, and without it no signature"
                )
            if not await self._confirm(attestation):
                raise PermissionDenied("You did not agree that this is signed")
            return await self._opened(lambda: asyncio.to_thread(self._keys.attest, attestation))

    @method("SignAttestationWithPassphrase")
    async def sign_attestation_with_passphrase(
        self, Account: DBusStr, Type: DBusStr, Statement: DBusBytes, Passphrase: DBusUnixFd
    ) -> DBusBytes:
        with self._counted():
            attestation = await self._stated(Account, Type, Statement)
            passphrase = await read_all(Passphrase, MAX_PASSPHRASE)
            return await self._write(self._keys.attest_sealed, attestation, passphrase)

    async def _stated(self, account: str, kind: str, statement: bytes) -> Attestation:
        """What is asked to be signed, if this identity may be asked for it at all."""
        attestation = Attestation(account, kind, bytes(statement))
        certificate = await asyncio.to_thread(self._keys.existing_identity, account)
        attestation.check_signer(identity_fingerprint(certificate))
        return attestation

    # -- passphrases --------------------------------------------------------------------------

    @method("Lock")
    async def lock(self) -> None:
        with self._counted():
            async with self._writing:
                self._keys.lock()
                await self._tell()

    @method("Unlock")
    async def unlock(self, Passphrase: DBusUnixFd) -> None:
        with self._counted():
            passphrase = await read_all(Passphrase, MAX_PASSPHRASE)
            await self._write(self._keys.unlock, passphrase)

    @method("SetPassphrase")
    async def set_passphrase(self, Account: DBusStr, Current: DBusUnixFd, New: DBusUnixFd) -> None:
        with self._counted():
            current = await read_all(Current, MAX_PASSPHRASE)
            new = await read_all(New, MAX_PASSPHRASE)
            kept = await asyncio.to_thread(self._keys.kept, Account)
            await self._opened(
                lambda: self._write(self._keys.set_passphrase, Account, current, new)
            )
            await self._drop(Account, kept)

    @method("UseSecretService")
    async def use_secret_service(self, Account: DBusStr, Current: DBusUnixFd) -> None:
        with self._counted():
            if self._keyring is None:
                raise NotAvailable("There is no keyring on this desktop")
            current = await read_all(Current, MAX_PASSPHRASE)
            # In hexadecimal: keyrings show and export what they keep as text.
            new = secrets.token_hex(KEPT_SIZE).encode()
            fingerprint = await self._opened(
                lambda: asyncio.to_thread(self._keys.check_current, Account, current)
            )
            if await asyncio.to_thread(self._keys.kept, Account) is not None:
                return
            await self._keyring.keep(Account, fingerprint, new)
            await self._write(self._keys.seal_in_keyring, Account, current, new)

    async def _opened(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of a call, which may need a passphrase from the keyring first."""
        try:
            return await call()
        except InKeyring as needed:
            await self._open(needed)
        return await call()

    async def _open(self, needed: InKeyring) -> None:
        """Fetch a passphrase; those who need the same one meanwhile get the same answer.

        Else each of those who wait would be one more prompt for a person who closed the first.
        """
        if self._keyring is None:
            raise needed
        account = needed.account
        running = self._opening.get(account)
        if running is not None:
            error = await asyncio.shield(running)
            if error is not None:
                raise error
            return
        outcome: asyncio.Future[E2EError | None] = asyncio.get_running_loop().create_future()
        self._opening[account] = outcome
        told: E2EError | None = NotAvailable("The key agent is going away")
        try:
            found = await self._keyring.find(account, needed.fingerprint)
            await _in_thread(self._keys.open_with, account, found)
            told = None
        except E2EError as error:
            told = error
            raise
        finally:
            del self._opening[account]
            outcome.set_result(told)

    async def _drop(self, account: str, fingerprint: bytes | None) -> None:
        """Delete what nothing is sealed with any more; where that fails it is of no use."""
        if self._keyring is None or fingerprint is None:
            return
        try:
            await self._keyring.forget(account, fingerprint)
        except (NotAvailable, PermissionDenied) as error:
            log.info("a passphrase stays in the keyring: %s", error)

    # -- moving -------------------------------------------------------------------------------

    @method("Export")
    async def export(self, Account: DBusStr, Passphrase: DBusUnixFd, Output: DBusUnixFd) -> None:
        with self._counted():
            passphrase = await read_all(Passphrase, MAX_PASSPHRASE)
            data = await self._write(self._keys.export, Account, passphrase)
            await write_all(Output, data)

    @method("Import")
    async def import_(self, Account: DBusStr, Passphrase: DBusUnixFd, Input: DBusUnixFd) -> None:
        with self._counted():
            passphrase = await read_all(Passphrase, MAX_PASSPHRASE)
            data = await read_all(Input, MAX_FILE)
            await self._write(self._keys.import_, Account, passphrase, data)

    @method("Forget")
    async def forget(self, Account: DBusStr) -> None:
        with self._counted():
            kept = await asyncio.to_thread(self._keys.kept, Account)
            await self._write(self._keys.forget, Account)
            await self._drop(Account, kept)

    # -- around each call ---------------------------------------------------------------------

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._calls >= MAX_CALLS:
            raise NotAvailable("Too many programs ask the key agent at once; try again")
        self._calls += 1
        try:
            yield
        except (InvalidArgument, NotAvailable, PermissionDenied) as error:
            call = caller.current()
            who = call.sender if call is not None else "?"
            log.info("refused to %s: %s", who, type(error).__name__)
            raise
        finally:
            self._calls -= 1
            self._idle_changed()

    async def _write(self, function: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        async with self._writing:
            result = await _in_thread(function, *arguments, **more)
            await self._tell()
            return result

    async def _tell(self, *, only_new: str | None = None) -> None:
        """Signal what has changed.

        Args:
            only_new: nothing else than that this account is new can have happened.
        """
        if only_new is not None and only_new in self._told[0]:
            return
        now = await asyncio.to_thread(lambda: (self._keys.accounts(), self._keys.locked()))
        before, self._told = self._told, now
        names = [
            name for name, a, b in zip(("Accounts", "Locked"), before, now, strict=True) if a != b
        ]
        if names:
            self._changed(tuple(names))


def _in_thread(function: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> Awaitable[T]:
    return asyncio.to_thread(function, *arguments, **more)
