"""What every payload channel has: Securable and EndToEndSecurity1."""

from __future__ import annotations

from telepathy_e2e.errors import TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import Changed
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.guard import Guard


class ProtectedChannel(Channel):
    """A channel whose payload is one Jingle session, with its protection.

    Args:
        replaces: object path of the channel that this one takes over from, or ``/``.
    """

    # What the channel was asked to guarantee, and what it does; each kind of payload has its own.
    security: Guard

    interfaces: tuple[str, ...] = (names.SECURABLE, names.END_TO_END_SECURITY)

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        replaces: str,
    ) -> None:
        target_id = account.handles.inspect(target_handle)
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            target_id=target_id,
            requested=requested,
            initiator_handle=account.self_handle if requested else target_handle,
            initiator_id=account.self_id if requested else target_id,
        )
        self.replaces = replaces
        self.failure: TelepathyError | None = None
        self.receives = not requested

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        shown[names.END_TO_END_SECURITY + ".RequireEncrypted"] = self.require_encrypted
        shown[names.END_TO_END_SECURITY + ".RequireVerified"] = self.require_verified
        shown[names.END_TO_END_SECURITY + ".Replaces"] = self.replaces
        return shown

    def verify(self) -> str:
        """EndToEndSecurity1.Verify: the object path of the question, or ``/``.

        Raises:
            NotAvailable: in the clear.
            TelepathyError: what ended the channel, when it has ended.
        """
        self.check_alive()
        return self.security.verify()

    def check_alive(self) -> None:
        """Raises: TelepathyError, what ended the channel."""
        if self.failure is not None:
            raise self.failure

    def security_changed(self, *changed: str) -> None:
        """See ``security.Payload``."""
        securable = tuple(name for name in changed if name in ("Encrypted", "Verified"))
        others = tuple(name for name in changed if name not in securable)
        if securable:
            self.events.emit(Changed(names.SECURABLE, securable))
        if others:
            self.events.emit(Changed(names.END_TO_END_SECURITY, others))

    def security_failed(self, failure: SecurityFailed) -> None:
        """See ``security.Payload``: end the channel for it."""
        raise NotImplementedError

    # -- D-Bus properties -------------------------------------------------------------------

    @property
    def encrypted(self) -> bool:
        return self.security.encrypted

    @property
    def verified(self) -> bool:
        return self.security.verified

    @property
    def verified_by(self) -> str:
        return self.security.verified_by

    @property
    def verified_methods(self) -> list[str]:
        return list(self.security.verified_methods)

    @property
    def protocol(self) -> str:
        return self.security.protocol

    @property
    def cipher_suite(self) -> str:
        return self.security.cipher_suite

    @property
    def key_exchange(self) -> str:
        return self.security.key_exchange

    @property
    def peer_fingerprints(self) -> dict[str, str]:
        return self.security.peer_fingerprints

    @property
    def own_fingerprints(self) -> dict[str, str]:
        return self.security.own_fingerprints

    @property
    def require_encrypted(self) -> bool:
        return self.security.demands.encrypted

    @property
    def require_verified(self) -> bool:
        return self.security.demands.verified

    @property
    def verification_channel(self) -> str:
        return self.security.verification_channel

    @property
    def error(self) -> str:
        """D-Bus name of what ended the channel, empty while nothing has."""
        return "" if self.failure is None else self.failure.dbus_name

    @property
    def error_message(self) -> str:
        """The same in words for people."""
        return "" if self.failure is None else str(self.failure)
