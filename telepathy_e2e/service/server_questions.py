"""What a connection asks while it logs in: see ``xmpp.authenticator``, whose docstrings hold.

The channels are imported with the first question: most logins have none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from telepathy_e2e.errors import ConnectionFailed, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.xmpp.authenticator import (
    KnownPassword,
    LoginOffer,
    LoginTry,
    ServerCertificate,
)
from telepathy_e2e.xmpp.settings import Password

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.server_authentication import ServerAuthentication


class ServerQuestions:
    """The password of the account, and the people at the desktop.

    Without a password they are asked, whoever is there: there is nothing else to do. A second try,
    or a judgement on a certificate, is asked for only if somebody could give it: a client that said
    so by UpdateCapabilities, or a channel dispatcher, which knows whom to start. A channel that
    nobody ever closes would keep the connection from failing as it must.

    Args:
        password: may be empty.
        handles: whether some client said that it handles a channel type.
        dispatcher: whether a channel dispatcher is on the bus.
        give_up: end the login now.
    """

    def __init__(
        self,
        account: Account,
        password: Password,
        *,
        handles: Callable[[str], bool],
        dispatcher: Callable[[], Awaitable[bool]],
        give_up: Callable[[TelepathyError], None],
    ) -> None:
        self._account = account
        self._password = password
        self._handles = handles
        self._dispatcher = dispatcher
        self._give_up = give_up
        self._channel: ServerAuthentication | None = None
        self._refused: TelepathyError | None = None
        self._may_help = False
        self._streams = 0

    async def next_try(self, offer: LoginOffer, *, may_ask: bool) -> LoginTry:
        if self._password and self._refused is None:
            return KnownPassword(self._password, self._was_refused)
        if not may_ask:
            # With a broken session: a new connection asks.
            raise self._refused or ConnectionFailed("Logging in again takes somebody's answer")
        if self._channel is None:
            await self._check_refusal()
            from telepathy_e2e.service.server_authentication import ServerAuthentication

            self._channel = ServerAuthentication(
                self._account, offer, accepted=self._was_accepted, give_up=self._give_up
            )
            self._account.announce(self._channel)
        return await self._channel.next_try()

    async def next_stream(self, error: TelepathyError) -> None:
        if self._channel is not None:
            await self._channel.next_stream(error)
            return
        if self._refused is None or self._streams:
            raise self._refused or error
        # The server hung up after the password of the account: the question needs another stream.
        await self._check_refusal()
        self._streams += 1

    async def can_judge(self) -> bool:
        return await self._somebody(names.SERVER_TLS)

    async def judge(self, shown: ServerCertificate) -> None:
        from telepathy_e2e.service.server_tls import ServerTLSConnection

        channel = ServerTLSConnection(self._account, shown)
        self._account.announce(channel)
        await channel.answered()

    async def _somebody(self, channel_type: str) -> bool:
        return self._handles(channel_type) or await self._dispatcher()

    async def _check_refusal(self) -> None:
        """The password of the account was wrong: ask for another, or leave it at that."""
        if self._refused is None:
            return
        if not self._may_help or not await self._somebody(names.SERVER_AUTHENTICATION):
            raise self._refused

    def _was_refused(self, error: TelepathyError, again: bool) -> None:
        self._refused, self._may_help = error, again

    def _was_accepted(self, password: Password) -> None:
        """Kept as long as the connection, for when it breaks and is taken up again."""
        self._password, self._refused = password, None
