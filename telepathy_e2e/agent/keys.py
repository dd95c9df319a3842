"""What the agent does with identity keys. Plain functions; they block on files and on scrypt.

The rules, for a caller that was taken over by a stranger: no key comes out of here but under a
passphrase, and of a sealed identity only under the one that seals it, also while it is unlocked.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from telepathy_e2e.agent import seal
from telepathy_e2e.agent.attestations import Attestation
from telepathy_e2e.agent.seal import MAX_PASSPHRASE, WrongPassphrase
from telepathy_e2e.agent.store import Store, Stored, parse_sealed
from telepathy_e2e.errors import InvalidArgument, NotAvailable, PermissionDenied, SecurityError
from telepathy_e2e.trust import identity_files as files
from telepathy_e2e.xtls.certificates import parse
from telepathy_e2e.xtls.identity import PrivateKey, identity_fingerprint

log = logging.getLogger(__name__)

# A P-256 SubjectPublicKeyInfo has 91 bytes; with explicit parameters, which are refused, some 350.
MAX_PUBLIC_KEY: Final = 512


class InKeyring(NotAvailable):
    """First what the desktop's keyring keeps has to open this key: ``Keys.open_with``.

    Args:
        fingerprint: of the identity, 32 bytes.
    """

    def __init__(self, account: str, fingerprint: bytes) -> None:
        super().__init__(f"The passphrase of {account}'s identity key is in the keyring")
        self.account = account
        self.fingerprint = fingerprint


class Keys:
    """The identities of one user, and which of the sealed ones are unlocked.

    Args:
        store: where they are.
        clock: tells the time, for certificates.
    """

    def __init__(
        self, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._clock = clock
        # By account; of sealed identities alone, since the others can be read again.
        self._unlocked: dict[str, PrivateKey] = {}
        # The same of those whose passphrase the keyring keeps, which can be asked again.
        self._from_keyring: dict[str, PrivateKey] = {}

    @property
    def any_unlocked(self) -> bool:
        """Whether something is held here that a restart would lose."""
        return bool(self._unlocked)

    def accounts(self) -> list[str]:
        """Whose identities there are."""
        return self._store.accounts()

    def locked(self) -> list[str]:
        """Those of ``accounts`` whose keys a passphrase is needed for, typed by a person."""
        found = []
        for account in self.accounts():
            if account not in self._unlocked:
                try:
                    stored = self._store.find(account)
                except (NotAvailable, InvalidArgument):
                    continue  # damaged: no passphrase helps
                if stored is not None and stored.sealed is not None and not stored.in_keyring:
                    found.append(account)
        return found

    def identity(self, account: str) -> bytes:
        """The identity certificate, DER; made at first use. A locked one can be had.

        Raises:
            InvalidArgument, NotAvailable: see ``Store.find_or_make``.
        """
        stored = self._store.find_or_make(account, self._clock())
        if stored.key is not None:
            # Using it is how the file is known to be whole.
            self._leaf(account, stored.key.public_key(), stored.key, stored.certificate)
        return stored.certificate

    def existing_identity(self, account: str) -> bytes:
        """The same; nothing is made.

        Raises:
            DoesNotExist: there is none.
            NotAvailable: its file is damaged.
        """
        certificate = self._store.get(account).certificate
        try:
            parse(certificate)
        except SecurityError as error:
            raise files.damaged(self._store.path(account), str(error)) from error
        return certificate

    def certify(self, account: str, public_key: bytes) -> tuple[bytes, bytes]:
        """A leaf for a session key, and the identity certificate; DER.

        All that is in the leaf comes from here but the key.

        Args:
            public_key: SubjectPublicKeyInfo, DER, P-256.
        Raises:
            InvalidArgument: not such a key, or the identity's own.
            NotAvailable: locked, or the identity is not usable.
        """
        if len(public_key) > MAX_PUBLIC_KEY:
            raise InvalidArgument("This is not a P-256 public key")
        stored = self._store.find_or_make(account, self._clock())
        key = self._usable(account, stored)
        if hmac.compare_digest(public_key, key.public_key()):
            # A leaf for it would let the identity key stand in a handshake, which it never does.
            raise InvalidArgument("The identity's own key is not certified for a session")
        leaf = self._leaf(account, public_key, key, stored.certificate)
        if parse(leaf).spki != public_key:
            raise InvalidArgument("This public key is written in an unusual way")
        return leaf, stored.certificate

    def attest(self, attestation: Attestation) -> bytes:
        """The signature of a statement, ECDSA with SHA-256, DER. Whoever calls has asked.

        Raises:
            DoesNotExist: no such identity.
            NotAvailable: it is locked.
        """
        account = attestation.account
        return _signature(self._usable(account, self._store.get(account)), attestation)

    def attest_sealed(self, attestation: Attestation, passphrase: bytes) -> bytes:
        """The same for who types the passphrase: that is how he agrees. Unlocked or not makes no
        difference, and it stays as it is.

        Raises:
            DoesNotExist: no such identity.
            PermissionDenied: it has none that people know, so that nobody can show by it that he
                agrees.
            WrongPassphrase: it is not the one.
        """
        _check_passphrase(passphrase)
        account = attestation.account
        stored = self._store.get(account)
        if stored.sealed is None or stored.in_keyring:
            raise PermissionDenied("This key has no passphrase to type; typing one says nothing")
        return _signature(self._open(account, stored, passphrase), attestation)

    # -- passphrases --------------------------------------------------------------------------

    def lock(self) -> None:
        """Forget what was unlocked."""
        self._unlocked.clear()
        self._from_keyring.clear()

    def unlock(self, passphrase: bytes) -> None:
        """Unlock all identities that this passphrase opens.

        Raises:
            NotAvailable: none is locked.
            WrongPassphrase: it opens none.
        """
        _check_passphrase(passphrase)
        locked = self.locked()
        if not locked:
            raise NotAvailable("No identity key is locked")
        opened = False
        for account in locked:
            stored = self._store.get(account)
            try:
                self._unlocked[account] = self._open(account, stored, passphrase)
                opened = True
            except WrongPassphrase:
                continue
        if not opened:
            raise WrongPassphrase

    def set_passphrase(self, account: str, current: bytes, new: bytes) -> None:
        """Seal the key of an account; it stays unlocked.

        Args:
            current: what seals it now; empty where nothing does, or the keyring has it.
            new: empty: not sealed any more.
        Raises:
            DoesNotExist: no such identity.
            InKeyring: see there.
            WrongPassphrase: ``current`` is not the one.
        """
        stored = self._store.get(account)
        key = self._prove(account, stored, current)
        if not new:
            self._store.replace(account, Stored(stored.certificate, key))
            self._unlocked.pop(account, None)
            self._from_keyring.pop(account, None)
            return
        _check_passphrase(new)
        self._store.replace(account, Stored(stored.certificate, sealed=seal.seal(key, new)))
        self._unlocked[account] = key
        self._from_keyring.pop(account, None)

    # -- the desktop's keyring ----------------------------------------------------------------

    def kept(self, account: str) -> bytes | None:
        """The fingerprint of an identity whose passphrase the keyring has; None: it has not."""
        try:
            stored = self._store.find(account)
            if stored is None or not stored.in_keyring:
                return None
            return identity_fingerprint(stored.certificate)
        except (NotAvailable, SecurityError):
            return None  # damaged

    def check_current(self, account: str, current: bytes) -> bytes:
        """The identity's fingerprint, for who knows what seals it now.

        Raises:
            DoesNotExist, InKeyring, WrongPassphrase: as ``set_passphrase``.
        """
        stored = self._store.get(account)
        self._prove(account, stored, current)
        return identity_fingerprint(stored.certificate)

    def seal_in_keyring(self, account: str, current: bytes, new: bytes) -> None:
        """As ``set_passphrase``, with one that the keyring keeps already."""
        _check_passphrase(new)
        stored = self._store.get(account)
        key = self._prove(account, stored, current)
        sealed = seal.seal(key, new)
        self._store.replace(account, Stored(stored.certificate, sealed=sealed, in_keyring=True))
        self._unlocked.pop(account, None)
        self._from_keyring[account] = key

    def open_with(self, account: str, passphrases: list[bytes]) -> None:
        """Have a key whose passphrase is one of these, from the keyring, ready for use.

        Raises:
            DoesNotExist: no such identity.
            NotAvailable: it is none of them.
        """
        stored = self._store.get(account)
        for each in passphrases:
            try:
                self._from_keyring[account] = self._prove_kept(account, stored, each)
                return
            except WrongPassphrase:
                continue
        raise NotAvailable(
            f"What the desktop's keyring keeps for {account} does not open the identity key; only a"
            " backup of the keyring, or of the identity, helps"
        )

    def _prove_kept(self, account: str, stored: Stored, passphrase: bytes) -> PrivateKey:
        if stored.key is not None:
            return stored.key  # not sealed any more, meanwhile
        if not 0 < len(passphrase) <= MAX_PASSPHRASE:
            raise WrongPassphrase
        return self._open(account, stored, passphrase)

    # -- moving -------------------------------------------------------------------------------

    def export(self, account: str, passphrase: bytes) -> bytes:
        """The identity as PEM: the key under the passphrase, and the certificate.

        Args:
            passphrase: where the identity is sealed, the one that seals it.
        Raises:
            DoesNotExist: no such identity.
            NotAvailable: the keyring has the one that seals it.
            WrongPassphrase: not the one that seals it.
        """
        _check_passphrase(passphrase)
        stored = self._store.get(account)
        if stored.in_keyring:
            # Whoever asks shows nothing; where people know it, they type what seals the key.
            raise NotAvailable(
                "The keyring has the passphrase of this key: give it one of your own, with"
                f' "tpe2e identity passphrase {account}", then export it'
            )
        key = self._prove(account, stored, passphrase if stored.sealed is not None else b"")
        return Stored(stored.certificate, sealed=seal.seal(key, passphrase)).dump()

    def import_(self, account: str, passphrase: bytes, data: bytes) -> None:
        """Keep an identity that was exported, not sealed. The same one again changes nothing.

        Raises:
            InvalidArgument: not the identity of this account in the form of ``export``.
            WrongPassphrase: it does not open it.
            NotAvailable: the account has another identity.
        """
        _check_passphrase(passphrase)
        try:
            given = parse_sealed(data)
            key = seal.unseal(given.sealed or b"", passphrase)
            # As contacts will: P-256, a certificate for exactly this key, in this account's name.
            files.sign(account, key.public_key(), key, given.certificate, self._clock())
        except (ValueError, SecurityError) as error:
            raise InvalidArgument(f"This is no identity of {account}: {error}") from None
        if self._store.add(account, Stored(given.certificate, key)):
            return
        stored = self._store.get(account)
        if stored.certificate != given.certificate:
            raise NotAvailable(
                f"{account} has another identity here; forget that one first, and all contacts"
                " have to verify this device again"
            )

    def forget(self, account: str) -> None:
        """Delete an identity.

        Raises:
            DoesNotExist: there is none.
        """
        self._store.forget(account)
        self._unlocked.pop(account, None)
        self._from_keyring.pop(account, None)

    # -- keys ---------------------------------------------------------------------------------

    def _usable(self, account: str, stored: Stored) -> PrivateKey:
        if stored.key is not None:
            return stored.key
        if stored.in_keyring:
            return self._prove(account, stored, b"")
        key = self._unlocked.get(account)
        if key is None:
            raise NotAvailable(
                f'The identity key of {account} is locked; unlock it, with "tpe2e identity unlock"'
                " for one"
            )
        return key

    def _prove(self, account: str, stored: Stored, passphrase: bytes) -> PrivateKey:
        """The key, for who knows the passphrase; unlocked or not makes no difference."""
        if stored.key is not None:
            return stored.key
        if stored.in_keyring and not passphrase:
            # Whoever can ask us can ask the keyring: there is nothing more that he could show.
            key = self._from_keyring.get(account)
            if key is None or key.public_key() != parse(stored.certificate).spki:
                raise InKeyring(account, identity_fingerprint(stored.certificate))
            return key
        return self._open(account, stored, passphrase)

    def _open(self, account: str, stored: Stored, passphrase: bytes) -> PrivateKey:
        try:
            key = seal.unseal(stored.sealed or b"", passphrase)
        except ValueError as error:
            raise files.damaged(self._store.path(account), str(error)) from None
        self._leaf(account, key.public_key(), key, stored.certificate)
        return key

    def _leaf(self, account: str, public_key: bytes, key: PrivateKey, certificate: bytes) -> bytes:
        try:
            return files.sign(account, public_key, key, certificate, self._clock())
        except (ValueError, SecurityError) as error:
            raise files.damaged(self._store.path(account), str(error)) from error


def _signature(key: PrivateKey, attestation: Attestation) -> bytes:
    return key.reveal().sign(attestation.to_be_signed(), ec.ECDSA(hashes.SHA256()))


def _check_passphrase(passphrase: bytes) -> None:
    if not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise InvalidArgument(f"A passphrase has 1 to {MAX_PASSPHRASE} bytes")
