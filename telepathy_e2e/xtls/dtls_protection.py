"""Protection by DTLS: associations of a call's media or of data channels, and the people.

Whoever has the road does the handshakes (RFC 5764, RFC 8261); this judges what they have shown.
There is no payload here: it is let through or not by whoever asks ``events()``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.xtls.association import Association, Export, Handshake, State
from telepathy_e2e.xtls.conversation import Session
from telepathy_e2e.xtls.identity import check_announced, check_leaf, key_fingerprint
from telepathy_e2e.xtls.offer import Fingerprint

__all__ = ["DtlsProtection", "Export", "Handshake", "Session"]

# A new association for each change of network, and a flood of them is none.
MAX_EPOCHS = 1000


class DtlsProtection(Association):
    """The protection of one session.

    Args:
        session: what both hellos are about.
        peer_fingerprints: of the peer's leaf, from its offer or answer (XEP-0320). All contents of
            one side have the same leaf (xtls-wire, section 1).
        messages: whether both sides know sealed messages; else the leaf is all there is, and may
            be one that lives for years: browsers and phones make such.
        epoch: of the first association.
    """

    def __init__(
        self,
        session: Session,
        peer_fingerprints: Sequence[Fingerprint],
        *,
        messages: bool,
        epoch: int = 0,
    ) -> None:
        super().__init__(session)
        self._peer_fingerprints = tuple(peer_fingerprints)
        self._messages = messages
        self._leaf: bytes | None = None
        self._epoch = epoch - 1

    def connected(self, handshake: Handshake, export: Export, now: float, wall: datetime) -> None:
        """A DTLS handshake is done; each one is a new epoch.

        Args:
            handshake: what it agreed on; its certificate is judged here.
            export: gives key material of this association.
            now: monotonic, seconds.
            wall: the time of day, aware.
        """
        self._now = now
        if self._state is State.FAILED:
            return
        try:
            self._check(handshake.peer_leaf, wall)
        except SecurityError as error:
            self._fail(str(error))
            return
        self._epoch += 1
        if self._epoch >= MAX_EPOCHS:
            self._fail("too many handshakes in one session")
            return
        self.abandon("the connection was made anew", now)
        self._conversation = None
        if self._messages:
            self._converse(handshake, export, wall, self._epoch)
        else:
            self._without_messages(handshake)

    @property
    def open(self) -> bool:
        """Whether media may flow, as far as the protection is concerned."""
        return self._state is State.PROTECTED

    def _leaf_fingerprint(self, leaf: bytes) -> bytes:
        """Of the whole certificate: what browsers and other clients show of a call (RFC 8122)."""
        return hashlib.sha256(leaf).digest()

    def _check(self, leaf: bytes, wall: datetime) -> None:
        """That this is the certificate that was announced, now and after each restart.

        Raises:
            SecurityError: it is not.
        """
        if self._leaf is not None and leaf != self._leaf:
            raise SecurityError("the peer came back with another certificate")
        if self._messages:
            check_leaf(leaf, self._peer_fingerprints, wall)
        else:
            check_announced(leaf, self._peer_fingerprints)
            key_fingerprint(leaf)  # it is a certificate, and has a key
        self._leaf = leaf
