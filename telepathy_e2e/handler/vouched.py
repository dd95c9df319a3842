"""Which identities of a contact vouch for the one that he shows now (cross-signing). Pure."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final

from telepathy_e2e.attest.statement import IDENTITY
from telepathy_e2e.errors import SecurityError

log = logging.getLogger(__name__)

# Of them, the first ones: somebody with that many devices that vouch for each new one. Each costs
# three signatures' time, and a stranger may send sixteen.
MAX_JUDGED: Final = 8


def vouchers(
    attestations: Iterable[Any], *, contact: str, fingerprint: str, wall: datetime
) -> Collection[str]:
    """Fingerprints of identities of this contact that have signed this one. Whether any of them
    was verified is for ``pins``.

    Args:
        attestations: PeerVerification1.Attestations: type, summary, data.
        contact: his bare JID, normalised.
        fingerprint: of the identity in question, as PeerVerification1 shows it.
        wall: now, aware.
    """
    given = [bytes(data) for kind, _, data in attestations if kind == IDENTITY]
    if not given:
        return ()
    from telepathy_e2e.attest import identity  # late: cryptography is big, and these are rare

    vouched = bytes.fromhex(fingerprint.replace(":", ""))
    found: set[str] = set()
    for data in given[:MAX_JUDGED]:
        try:
            signer = identity.check(data, vouched=vouched, bare_jid=contact, wall=wall)
        except SecurityError as error:
            log.warning("an attestation (%s) does not hold: %s", IDENTITY, error)
            continue
        found.add(signer.hex(":").upper())
    return found
