"""The agent on the bus (spec/Key_Agent1.xml): arguments in, work in a thread, answer out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

from telepathy_e2e.agent.attestations import Attestation, Confirm
from telepathy_e2e.agent.descriptors import read_all, write_all
from telepathy_e2e.agent.keys import Keys
from telepathy_e2e.agent.rate import Rate
from telepathy_e2e.agent.seal import MAX_PASSPHRASE
from telepathy_e2e.bus import caller
from telepathy_e2e.bus.members import Interface, Property, method
from telepathy_e2e.bus.types import ByteArrays, StringMap, Strings
from telepathy_e2e.bus.wire import DBusBytes, DBusStr, DBusUnixFd
from telepathy_e2e.errors import InvalidArgument, NotAvailable, PermissionDenied
from telepathy_e2e.trust import agent_names
from telepathy_e2e.trust.identity_files import MAX_FILE
from telepathy_e2e.xtls.identity import identity_fingerprint, shown

log = logging.getLogger(__name__)

# Calls that wait here, for a passphrase, a file, or their turn to be certified. Each of a
# descriptor's holds that open; a process has 1,024 at most.
MAX_CALLS: Final = 256

P = ParamSpec("P")
T = TypeVar("T")


class KeyAgent(Interface):
    """``KeyAgent1``.

    Args:
        keys: that it is about.
        confirm: asks the person before an attestation is signed; None: there is nobody to ask.
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
        changed: Callable[[tuple[str, ...]], None] = lambda names: None,
        idle_changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._keys = keys
        self._confirm = confirm
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
            certified = await asyncio.to_thread(self._keys.certify, Account, key)
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
            return await asyncio.to_thread(self._keys.attest, attestation)

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
            await self._write(self._keys.set_passphrase, Account, current, new)

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
            await self._write(self._keys.forget, Account)

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
