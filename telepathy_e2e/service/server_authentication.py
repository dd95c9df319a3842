"""Channel.Type.ServerAuthentication: the login as a conversation with whoever has the password."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from telepathy_e2e.errors import (
    AuthenticationFailed,
    InvalidArgument,
    LoginCancelled,
    NotAvailable,
    NotImplementedByUs,
    ServiceConfused,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import NewChallenge, SASLStatusChanged
from telepathy_e2e.xmpp.authenticator import LoginOffer
from telepathy_e2e.xmpp.jid import domain_of, local_of
from telepathy_e2e.xmpp.settings import Password

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

# SASL_Status
(
    NOT_STARTED,
    IN_PROGRESS,
    SERVER_SUCCEEDED,
    CLIENT_ACCEPTED,
    SUCCEEDED,
    SERVER_FAILED,
    CLIENT_FAILED,
) = range(7)
# SASL_Abort_Reason
INVALID_CHALLENGE: Final = 0

PASSWORD_MECHANISM: Final = "X-TELEPATHY-PASSWORD"  # noqa: S105, a name

# Wrong passwords until the connection ends. Whoever needs more does not know it; servers lock
# accounts after as many.
MAX_TRIES = 10
# Bytes of a password, or of one answer of a mechanism. A token of Kerberos may have some thousand.
MAX_DATA = 65_536


class ServerAuthentication(Channel):
    """One login; the channel outlives the streams on which it is tried.

    Args:
        offer: what the server has.
        accepted: told the password that was right.
        give_up: ends the login now.
    """

    channel_type = names.SERVER_AUTHENTICATION
    interfaces = (names.SASL_AUTHENTICATION,)

    authentication_method = names.SASL_AUTHENTICATION
    has_initial_data = True
    can_try_again = True
    may_save_response = True

    def __init__(
        self,
        account: Account,
        offer: LoginOffer,
        *,
        accepted: Callable[[Password], None],
        give_up: Callable[[TelepathyError], None],
    ) -> None:
        super().__init__(
            account,
            account.next_path("ServerAuthentication"),
            target_handle=0,
            target_id="",
            requested=False,
            initiator_handle=0,
            initiator_id="",
            target_handle_type=0,
        )
        own = [PASSWORD_MECHANISM] if offer.by_password else []
        self.available_mechanisms = [*own, *offer.mechanisms]
        self.authorization_identity = account.self_id
        self.default_username = local_of(account.self_id)
        self.default_realm = domain_of(account.self_id)
        self.sasl_status = NOT_STARTED
        self.sasl_error = ""
        self.sasl_error_details: Mapping[str, str | bool] = {}
        self._accepted = accepted
        self._give_up = give_up
        self._try: _Try | None = None
        self._waiting: _Try | None = None
        self._news = asyncio.Event()
        self._answer: asyncio.Future[bytes] | None = None
        self._failed = 0
        self._refusal: TelepathyError | None = None
        self._end: TelepathyError | None = None

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.SASL_AUTHENTICATION + "."
        shown[names.SERVER_AUTHENTICATION + ".AuthenticationMethod"] = self.authentication_method
        shown[prefix + "AvailableMechanisms"] = self.available_mechanisms
        shown[prefix + "HasInitialData"] = self.has_initial_data
        shown[prefix + "CanTryAgain"] = self.can_try_again
        shown[prefix + "AuthorizationIdentity"] = self.authorization_identity
        shown[prefix + "DefaultUsername"] = self.default_username
        shown[prefix + "DefaultRealm"] = self.default_realm
        shown[prefix + "MaySaveResponse"] = self.may_save_response
        return shown

    # -- what clients call ------------------------------------------------------------------

    def start_mechanism(self, mechanism: str) -> None:
        """StartMechanism: a try without initial data.

        Raises:
            NotAvailable: one is under way, or it is too late.
            NotImplementedByUs: not one of AvailableMechanisms, or it needs initial data.
        """
        self._check_start(mechanism)
        if mechanism == PASSWORD_MECHANISM:
            raise NotImplementedByUs("Give the password as initial data: StartMechanismWithData")
        self._start(_Try(self, mechanism, None, None))

    def start_mechanism_with_data(self, mechanism: str, data: bytes) -> None:
        """StartMechanismWithData: a try with the password, or with the initial data of SASL.

        Raises:
            NotAvailable, NotImplementedByUs: see ``start_mechanism``.
            InvalidArgument: a password that is no UTF-8, or far too much data.
        """
        self._check_start(mechanism)
        _check_size(data)
        if mechanism == PASSWORD_MECHANISM:
            try:
                password = Password(bytes(data).decode("utf-8"))
            except UnicodeDecodeError:
                raise InvalidArgument("The password is not UTF-8") from None
            self._start(_Try(self, "", None, password))
        else:
            self._start(_Try(self, mechanism, bytes(data), None))

    def respond(self, data: bytes) -> None:
        """Respond: to the last challenge.

        Raises:
            NotAvailable: there is none that waits.
            InvalidArgument: far too much data.
        """
        answer = self._answer
        if self.sasl_status != IN_PROGRESS or answer is None or answer.done():
            raise NotAvailable("The server waits for no response")
        _check_size(data)
        answer.set_result(bytes(data))

    def accept_sasl(self) -> None:
        """AcceptSASL: for the client the login is right.

        Raises:
            NotAvailable: there is nothing to accept.
        """
        answer = self._answer
        if answer is None or answer.done():
            raise NotAvailable("There is nothing to accept")
        if self.sasl_status == SERVER_SUCCEEDED:
            self._set(SUCCEEDED)
        elif self.sasl_status == IN_PROGRESS:
            self._set(CLIENT_ACCEPTED)
        else:
            raise NotAvailable("There is nothing to accept")
        answer.set_result(b"")

    def abort_sasl(self, reason: int, debug_message: str) -> None:
        """AbortSASL: the login, and with it the connection, is given up.

        Raises:
            NotAvailable: it has succeeded.
        """
        if self.sasl_status in (SUCCEEDED, CLIENT_ACCEPTED):
            raise NotAvailable("The login has succeeded; it is too late to abort it")
        if self.sasl_status in (SERVER_FAILED, CLIENT_FAILED):
            return
        error: TelepathyError = LoginCancelled("The login was given up by the user")
        if reason == INVALID_CHALLENGE:
            error = ServiceConfused("The program that logs in found the server's part wrong")
        else:
            error.details = {"user-requested": True}
        self._set(CLIENT_FAILED, error)
        self._finally(error)

    def close(self) -> None:
        """Close: before the login has succeeded, nobody will log in."""
        self._gone()
        if self.sasl_status not in (SUCCEEDED, CLIENT_ACCEPTED):
            self._finally(
                self._refusal
                or AuthenticationFailed("Nobody gave the password that the server asks for")
            )

    # -- what the login asks; see ``xmpp.authenticator`` -------------------------------------

    async def next_try(self) -> _Try:
        await self._started()
        taken, self._waiting = self._waiting, None
        if taken is None:
            raise AuthenticationFailed("There is no login to try")
        return taken

    async def next_stream(self, error: TelepathyError) -> None:
        if self._end is None and self._waiting is None:
            if self.closed or self.sasl_status not in (NOT_STARTED, SERVER_FAILED):
                raise error
        await self._started()

    async def _started(self) -> None:
        while self._waiting is None:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()

    async def challenge(self, by: _Try, data: bytes) -> bytes:
        self._check_current(by)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self.events.emit(NewChallenge(data))
        return await answer

    async def finish(self, by: _Try, data: bytes) -> None:
        self._check_current(by)
        if data and self.sasl_status == IN_PROGRESS:
            await self.challenge(by, data)
        if self.sasl_status == CLIENT_ACCEPTED:
            self._set(SUCCEEDED)
        else:
            self._answer = asyncio.get_running_loop().create_future()
            self._set(SERVER_SUCCEEDED)
            await self._answer
        if by.password is not None:
            self._accepted(by.password)

    def refused(self, by: _Try, error: TelepathyError, *, again: bool) -> None:
        if by is not self._try or self._end is not None:
            return
        self._refusal = error
        self._failed += 1
        self._set(SERVER_FAILED, error)
        if self._failed >= MAX_TRIES or not again or self.closed:
            self._finally(error)

    def confused(self, by: _Try, error: TelepathyError) -> None:
        if by is self._try and self._end is None:
            self._set(CLIENT_FAILED, error)
            self._end = error

    # -- the state --------------------------------------------------------------------------

    def _check_start(self, mechanism: str) -> None:
        if self.sasl_status not in (NOT_STARTED, SERVER_FAILED) or self._end is not None:
            raise NotAvailable("A login cannot be started now")
        if mechanism not in self.available_mechanisms:
            raise NotImplementedByUs("The server does not have this mechanism")

    def _start(self, new: _Try) -> None:
        self._try = self._waiting = new
        self._answer = None
        self._set(IN_PROGRESS)
        self._news.set()

    def _check_current(self, by: _Try) -> None:
        if self._end is not None:
            raise self._end
        if by is not self._try:
            raise AuthenticationFailed("Another try was begun meanwhile")

    def _finally(self, error: TelepathyError) -> None:
        """There will be no login."""
        if self._end is not None:
            return
        self._end = error
        self._waiting = None
        self._news.set()
        # What waits for an answer ends with the stream.
        self._give_up(error)

    def _set(self, status: int, error: TelepathyError | None = None) -> None:
        self.sasl_status = status
        self.sasl_error = "" if error is None else error.dbus_name
        self.sasl_error_details = (
            {} if error is None else {"debug-message": str(error), **error.details}
        )
        self.events.emit(SASLStatusChanged(status, self.sasl_error, self.sasl_error_details))


class _Try:
    """See ``xmpp.authenticator.LoginTry``."""

    def __init__(
        self,
        channel: ServerAuthentication,
        mechanism: str,
        initial: bytes | None,
        password: Password | None,
    ) -> None:
        self._channel = channel
        self.mechanism = mechanism
        self.initial = initial
        self.password = password

    async def respond(self, challenge: bytes) -> bytes:
        return await self._channel.challenge(self, challenge)

    async def finish(self, data: bytes) -> None:
        await self._channel.finish(self, data)

    def refused(self, error: TelepathyError, *, again: bool) -> None:
        self._channel.refused(self, error, again=again)

    def confused(self, error: TelepathyError) -> None:
        self._channel.confused(self, error)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_DATA:
        raise InvalidArgument(f"More than {MAX_DATA} bytes are no part of a login")
