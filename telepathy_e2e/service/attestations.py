"""Attestations of identity keys: those that we show, and what those of contacts are worth here.

Each method has to be switched on by the user, who says whose word counts: ``e2e-ca-file`` names
authorities, ``e2e-openpgp`` lets his gpg judge by his key ring. What nobody switched on is not
looked at, only shown. ``trust.policy.attestations_answer`` says what follows from a good one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from telepathy_e2e.attest import own
from telepathy_e2e.attest.gnupg import Gpg, find_gpg
from telepathy_e2e.attest.statement import OPENPGP, X509
from telepathy_e2e.errors import InvalidArgument, NotAvailable, SecurityError
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.uri import enforced

if TYPE_CHECKING:
    from telepathy_e2e.attest.certificate import Authorities

log = logging.getLogger(__name__)

# Of each type, the first ones: somebody with two companies, or a new OpenPGP key beside the old
# one. A stranger who sends sixteen does not make us start gpg sixteen times.
MAX_JUDGED: Final = 2

# Seconds that payload and people wait for it at most; afterwards there is nothing but to ask them.
JUDGE_TIMEOUT: Final = 10.0


class Attestations:
    """Of one account.

    Args:
        parameters: of its connection.
        environment: of the user's session.
    """

    def __init__(
        self, parameters: Mapping[str, object], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._environment = environment
        # People are asked each time: then nobody else's word counts, and none is needed.
        asks_people = bool(parameters.get("e2e-always-verify"))
        ca_file = str(parameters.get("e2e-ca-file") or "")
        self._ca_file = Path(ca_file) if ca_file and not asks_people else None
        self._gpg: Gpg | None = None
        if parameters.get("e2e-openpgp") and not asks_people:
            program = find_gpg()
            if program is None:
                log.warning("gpg is not installed, so no OpenPGP attestation can be judged")
            else:
                self._gpg = Gpg(program, environment)

    async def own(self, account: str, fingerprint: bytes) -> tuple[Attestation, ...]:
        """What we show with our identity.

        Args:
            account: our bare JID.
            fingerprint: of the identity that is shown, 32 bytes.
        """
        try:
            where = own.directory(self._environment, account)
        except InvalidArgument:
            return ()
        found = await asyncio.to_thread(own.read, where, fingerprint)
        return tuple(Attestation(each.type, each.summary, each.data) for each in found)

    def to_judge(self, attestations: Sequence[Attestation]) -> list[Attestation]:
        """Those that can be judged here, as many as are."""
        wanted = {X509: self._ca_file is not None, OPENPGP: self._gpg is not None}
        return [
            each
            for kind, possible in wanted.items()
            if possible
            for each in [a for a in attestations if a.type == kind][:MAX_JUDGED]
        ]

    async def judge(
        self, attestations: Sequence[Attestation], *, bare_jid: str, identity: bytes
    ) -> list[str]:
        """The methods by which a contact is verified; why by no others is in the log.

        Args:
            attestations: see ``to_judge``.
            bare_jid: the contact's, normalised, from the stanzas.
            identity: his identity certificate (DER), checked.
        """
        methods: list[str] = []
        try:
            async with asyncio.timeout(JUDGE_TIMEOUT):
                for each in attestations:
                    if each.type not in methods and await self._holds(each, bare_jid, identity):
                        methods.append(each.type)
        except TimeoutError:
            log.warning("attestations could not be judged in time")
        return methods

    async def _holds(self, attestation: Attestation, bare_jid: str, identity: bytes) -> bool:
        try:
            if attestation.type == X509:
                await asyncio.to_thread(self._check_x509, attestation.data, bare_jid, identity)
            else:
                await self._check_openpgp(attestation.data, bare_jid, identity)
        except (SecurityError, NotAvailable, InvalidArgument) as error:
            log.warning("an attestation (%s) does not hold: %s", attestation.type, error)
            return False
        return True

    def _check_x509(self, data: bytes, bare_jid: str, identity: bytes) -> None:
        from telepathy_e2e.attest.certificate import check_x509  # late: cryptography is big

        check_x509(
            data,
            identity=identity,
            bare_jid=bare_jid,
            authorities=self._authorities(),
            wall=datetime.now(UTC),
        )

    def _authorities(self) -> Authorities:
        """Read each time: who takes an authority out of the file means it now."""
        from telepathy_e2e.attest.certificate import MAX_AUTHORITIES_FILE, read_authorities

        if self._ca_file is None:
            return ()
        try:
            with self._ca_file.open("rb") as file:
                return read_authorities(file.read(MAX_AUTHORITIES_FILE + 1))
        except OSError as error:
            raise NotAvailable(f"e2e-ca-file cannot be read: {error.strerror}") from error

    async def _check_openpgp(self, data: bytes, bare_jid: str, identity: bytes) -> None:
        from telepathy_e2e.xtls.identity import identity_fingerprint

        if self._gpg is None:
            raise NotAvailable("OpenPGP attestations are not judged for this account")
        key = await self._gpg.check(
            data,
            bare_jid=bare_jid,
            fingerprint=identity_fingerprint(identity),
            normalise=enforced,
        )
        log.info("an attestation by the OpenPGP key %s holds", key)
