"""A file in Telepathy's words and in XEP-0234's."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from telepathy_e2e.jingle.files import FileOffer, Range
from telepathy_e2e.jingle.names import safe_name
from telepathy_e2e.service.capabilities import HASH_SHA256
from telepathy_e2e.service.failures import Fault

# File_Transfer_State
PENDING, ACCEPTED, OPEN, COMPLETED, CANCELLED = 1, 2, 3, 4, 5
# File_Transfer_State_Change_Reason
NONE, REQUESTED, LOCAL_STOPPED, REMOTE_STOPPED, LOCAL_ERROR, REMOTE_ERROR = range(6)
ENDED = (COMPLETED, CANCELLED)
# By whose fault it has ended.
REASONS: Final = {
    Fault.USER: LOCAL_STOPPED,
    Fault.OURS: LOCAL_ERROR,
    Fault.CONTACT: REMOTE_STOPPED,
    Fault.PEER: REMOTE_ERROR,
}
# File_Hash_Type
HASH_NONE = 0

UNKNOWN_SIZE: Final = 2**64 - 1


@dataclass(frozen=True)
class FileDetails:
    """The immutable facts of a file, in Telepathy's terms (units: bytes, seconds since 1970)."""

    filename: str
    size: int
    content_type: str
    content_hash_type: int = HASH_NONE
    content_hash: str = ""
    description: str = ""
    date: int = 0
    uri: str = ""

    @classmethod
    def from_offer(cls, offer: FileOffer) -> FileDetails:
        """What the receiver shows of a peer's offer; the name is made safe here and only here."""
        sha256 = offer.hashes.get("sha-256")
        return cls(
            filename=safe_name(offer.name or ""),
            size=UNKNOWN_SIZE if offer.size is None else offer.size,
            content_type=offer.media_type or "application/octet-stream",
            content_hash_type=HASH_SHA256 if sha256 else HASH_NONE,
            content_hash=sha256.hex() if sha256 else "",
            description=offer.description or "",
            date=int(offer.date.timestamp()) if offer.date else 0,
        )

    def to_offer(self) -> FileOffer:
        """What the sender offers; resuming is always allowed (an empty range)."""
        hashes = {}
        if self.content_hash_type == HASH_SHA256 and self.content_hash:
            hashes["sha-256"] = bytes.fromhex(self.content_hash)
        return FileOffer(
            name=_as_it_arrives(self.filename, keep=""),
            size=None if self.size == UNKNOWN_SIZE else self.size,
            date=datetime.fromtimestamp(self.date, UTC) if self.date else None,
            media_type=self.content_type,
            description=_as_it_arrives(self.description, keep="\n\t"),
            hashes=hashes,
            hash_used=() if hashes else ("sha-256",),
            range=Range(),
            resume=True,
        )


def _as_it_arrives(text: str, keep: str) -> str:
    """Without the control characters that servers and parsers turn into others (XML 1.0, 2.11).

    Both sides digest the offer as they saw it, and an honest server must not look like an attacker.
    """
    return "".join(c if c in keep or unicodedata.category(c) != "Cc" else " " for c in text)
