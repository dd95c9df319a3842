"""The protection of an XML stream: whom it is with, and when anybody is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from telepathy_e2e.errors import EncryptionNotAvailable, NotAvailable
from telepathy_e2e.service.failures import Fault, SecurityFailed
from telepathy_e2e.service.security import Security
from telepathy_e2e.trust import policy
from telepathy_e2e.trust.policy import Demands

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.guard import Payload


class StreamSecurity(Security):
    """Of a stream, which is for the holder of an identity and for nobody else.

    Args:
        accepted: whether whoever is asked has let an identity of the contact through before, in
            another channel of this connection.
        quiet: it fails rather than ask anybody.
    """

    def __init__(
        self,
        account: Account,
        payload: Payload,
        *,
        accepted: Callable[[bytes], bool],
        quiet: bool,
    ) -> None:
        super().__init__(account, payload, Demands(encrypted=True))
        self._accepted_before = accepted
        self._quiet = quiet

    def _question_reason(self, demands: Demands) -> policy.Reason | None:
        reason = super()._question_reason(demands)
        # Who compares with keys that were seen before has just seen this one, and said yes.
        protected = self._protected
        if (
            reason is policy.Reason.CONTINUITY
            and protected is not None
            and not protected.leaf_only
            and self._accepted_before(protected.peer_fingerprint)
        ):
            return None
        if reason is not None and self._quiet:
            self._fail(
                SecurityFailed(
                    NotAvailable("Somebody would have to be asked"), "cancel", Fault.OURS
                )
            )
            return None
        return reason

    def _on_peer_started(self, method: str) -> None:
        # Nor may the peer make anybody be asked: his ceremony ends by itself.
        if not self._quiet:
            super()._on_peer_started(method)

    def check_identity(self) -> None:
        """That the peer has shown one, and is protected.

        Raises:
            SecurityFailed: a client that shows certificates of the session alone. Nobody could
                tell whose stanzas these are.
        """
        if self._protected is None or self._protected.leaf_only:
            raise SecurityFailed(
                EncryptionNotAvailable("The contact's client does not show who it is")
            )

    def shows(self, fingerprint: bytes) -> bool:
        protected = self._protected
        return protected is not None and protected.peer_fingerprint == fingerprint

    def identity(self) -> bytes:
        """The peer's fingerprint. Raises: NotAvailable: not known yet."""
        if self._protected is None or self._protected.leaf_only:
            raise NotAvailable("The stream is not protected yet")
        return self._protected.peer_fingerprint
