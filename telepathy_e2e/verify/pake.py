"""The password method: the computations (xtls-wire, section 5, "Password").

CPace is the package ``cpace``: draft-irtf-cfrg-cpace, CPACE-X25519-SHA512, initiator-responder,
with the confirmation tags of the draft. What goes into it, and what the wire page asks beyond the
draft, is here. Nobody who does not know the password learns more from one run than whether one
guess of his was right.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import TYPE_CHECKING

from telepathy_e2e.errors import InvalidArgument, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.sas import lv

if TYPE_CHECKING:
    from cpace import CPace

SUITE = "CPACE-X25519-SHA512"
SHARE_SIZE = 32
TAG_SIZE = 64

# Characters as given. A person types it, twice, on two keyboards: a thousand is more than anybody
# will, and keeps a client that gives us a file by mistake from being normalised for seconds.
MAX_PASSWORD = 1024

_CHANNEL_LABEL = b"x-telepathy-e2e pake v0"

# The characters with the property White_Space (Unicode, PropList.txt). ``str.strip`` would take
# U+001C to U+001F as well, and two implementations would disagree about a password.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


class RefusedShare(PeerError):
    """The peer's share is ours, or leads to the neutral element: whoever sends that knows the
    result without knowing the password."""


def password_related_string(secret: str) -> bytes:
    """PRS: what both users must have typed alike.

    Raises:
        InvalidArgument: nothing is left of it, it is too long, or no text. The error does not
            repeat it.
    """
    if len(secret) > MAX_PASSWORD:
        raise InvalidArgument(f"A shared password has at most {MAX_PASSWORD} characters")
    text = unicodedata.normalize("NFC", secret).strip(WHITE_SPACE)
    # Two users who typed nothing would verify anybody.
    if not text:
        raise InvalidArgument("A shared password must not be empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidArgument("A shared password must be text")
    return text.encode()


def session_id(binding: bytes, ceremony: str) -> bytes:
    """CPace's sid: this TLS session, this ceremony; 32 bytes.

    Args:
        binding: B, 32 bytes from the TLS exporter.
        ceremony: the ``id``.
    """
    return hashlib.sha256(lv(binding) + lv(ceremony.encode())).digest()


def channel_identifier(initiator_fingerprint: bytes, responder_fingerprint: bytes) -> bytes:
    """CPace's CI: the two identity keys that the users verify."""
    return lv(_CHANNEL_LABEL) + lv(initiator_fingerprint) + lv(responder_fingerprint)


def associated_data(role: Role, ceremony: str) -> bytes:
    """ADa or ADb: who says it. With it no share or tag can be sent back as the other side's."""
    return lv(role.value.encode()) + lv(ceremony.encode())


class Party:
    """One side of one run. Holds no password once it is made.

    Args:
        starts: whether this side started, and so is CPace's initiator.
        role: ours in the Jingle session.
        ceremony: the ``id``.
        secret: PRS.
    """

    def __init__(
        self,
        *,
        starts: bool,
        role: Role,
        binding: bytes,
        ceremony: str,
        initiator_fingerprint: bytes,
        responder_fingerprint: bytes,
        secret: bytes,
    ) -> None:
        # Imported with the first ceremony: nobody else needs it.
        from cpace import CPace, CPaceRole

        self._peer_ad = associated_data(role.other, ceremony)
        self._cpace: CPace = CPace.start(
            role=CPaceRole.INITIATOR if starts else CPaceRole.RESPONDER,
            prs=secret,
            sid=session_id(binding, ceremony),
            ci=channel_identifier(initiator_fingerprint, responder_fingerprint),
            ad=associated_data(role, ceremony),
        )

    @property
    def share(self) -> bytes:
        """Ya or Yb, ours; 32 bytes."""
        return self._cpace.public_share

    def meet(self, peer_share: bytes) -> None:
        """Take the other's share, once.

        Raises:
            RefusedShare: see there; nothing may be sent that depends on the password any more.
        """
        from cpace import CPaceError

        if peer_share == self.share:
            raise RefusedShare("our own share came back")
        try:
            self._cpace.derive(peer_share, self._peer_ad)
        except CPaceError:
            raise RefusedShare("a share that leads to the neutral element") from None

    def tag(self) -> bytes:
        """Our confirmation tag, 64 bytes; after ``meet``."""
        return self._cpace.tag()

    def knows(self, peer_tag: bytes) -> bool:
        """Whether the other's tag proves the same password, keys and session; constant time."""
        return self._cpace.verify(peer_tag)
