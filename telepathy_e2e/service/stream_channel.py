"""A channel over one protected stream: what files and tubes have in common."""

from __future__ import annotations

from telepathy_e2e.errors import TelepathyError
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import Fault, SessionFailed
from telepathy_e2e.service.protected import ProtectedChannel
from telepathy_e2e.service.security import Security
from telepathy_e2e.service.stream_session import StreamSession
from telepathy_e2e.trust.policy import Demands


class StreamChannel(StreamSession, ProtectedChannel):
    """See the module.

    Args:
        demands: what this channel was asked to guarantee.
        replaces: object path of the channel that this one takes over from, or ``/``.
        renewable: see ``Security``.
    """

    security: Security

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        demands: Demands,
        replaces: str,
        renewable: bool = False,
    ) -> None:
        ProtectedChannel.__init__(
            self,
            account,
            object_path,
            target_handle=target_handle,
            requested=requested,
            replaces=replaces,
        )
        StreamSession.__init__(self, account, Security(account, self, demands, renewable=renewable))

    def _take_over(self) -> None:
        """From the channel that this one replaces, if it is still there."""
        if (replaced := self._account.channels.get(self.replaces)) is not None:
            replaced.close()

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        """See ``Channel.disconnected``."""
        self._end(SessionFailed(error, "gone", Fault.USER if stopped else Fault.OURS))
        self._gone()

    def _tell(self, error: TelepathyError) -> None:
        if self.failure is None:
            self.failure = error
            self.security_changed("Error", "ErrorMessage")
