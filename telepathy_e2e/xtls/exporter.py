"""Keys from a TLS session (RFC 8446 section 7.5; spec/xtls.md, "Keys from the session")."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from telepathy_e2e.role import Role
from telepathy_e2e.xtls.encoding import lv, lv_text

LABEL = b"EXPORTER-x-telepathy-e2e-v0"
LENGTH = 96
KEY_SIZE = 32


@dataclass(frozen=True)
class Keys:
    """KI, KR and B of one epoch, 32 bytes each."""

    initiator: bytes = field(repr=False)
    """Seals what the initiator sends."""
    responder: bytes = field(repr=False)
    """Seals what the responder sends."""
    binding: bytes = field(repr=False)
    """Ties verification to this TLS session, so that a relay between two shows."""

    def sealing(self, role: Role) -> bytes:
        """The key of what ``role`` sends."""
        return self.initiator if role is Role.INITIATOR else self.responder


def context(
    sid: str, initiator: str, responder: str, initiator_leaf: bytes, responder_leaf: bytes
) -> bytes:
    """The exporter's context value, 32 bytes.

    Args:
        sid: of the Jingle session.
        initiator, responder: bare JIDs, normalised, from ``from`` and ``to`` of the stanzas; the
            attributes of ``<jingle/>`` are anybody's claim.
        initiator_leaf, responder_leaf: DER.
    """
    parts = (
        lv_text(sid),
        lv_text(initiator),
        lv_text(responder),
        lv(hashlib.sha256(initiator_leaf).digest()),
        lv(hashlib.sha256(responder_leaf).digest()),
    )
    return hashlib.sha256(b"".join(parts)).digest()


def split(material: bytes) -> Keys:
    """KI, KR and B out of the exporter's 96 bytes.

    Raises:
        ValueError: another length.
    """
    if len(material) != LENGTH:
        raise ValueError(f"the exporter gives {LENGTH} bytes")
    return Keys(material[:KEY_SIZE], material[KEY_SIZE : 2 * KEY_SIZE], material[2 * KEY_SIZE :])
