"""What a login asks of people: the password, and whether this is the right server.

The client knows nobody to ask; whoever makes it gives it an ``Authenticator``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from telepathy_e2e.errors import AuthenticationFailed, CertError, ConnectionFailed, TelepathyError
from telepathy_e2e.xmpp.settings import Password

T = TypeVar("T")

# Seconds for a person to answer one question. Somebody may have to look for the password; but a
# question that nobody hears (no dispatcher, no client) must not stand for ever.
QUESTION_SECONDS = 900.0


@dataclass(frozen=True)
class LoginOffer:
    """How one may log in here.

    Attributes:
        mechanisms: SASL mechanisms that somebody else than we may drive, strongest first.
        by_password: whether we can do it ourselves, with the password.
    """

    mechanisms: tuple[str, ...]
    by_password: bool


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate that does not verify.

    Attributes:
        chain: DER, the server's own first.
        error: what is wrong with it.
        hostname: whom it should be for.
        identities: whom it may be for, ``hostname`` among them.
    """

    chain: tuple[bytes, ...]
    error: CertError
    hostname: str
    identities: tuple[str, ...]


class LoginTry(Protocol):
    """One try at a login.

    Attributes:
        password: for our own mechanisms; None if somebody else drives ``mechanism``.
        initial: what that one begins with, if anything.
    """

    @property
    def password(self) -> Password | None: ...

    @property
    def mechanism(self) -> str: ...

    @property
    def initial(self) -> bytes | None: ...

    async def respond(self, challenge: bytes) -> bytes:
        """The answer to the server's challenge, of somebody else's mechanism.

        Raises:
            TelepathyError: the login is given up.
        """

    async def finish(self, data: bytes) -> None:
        """The server says yes; returns when the people do.

        Args:
            data: what came with it, if somebody else drives the mechanism.
        Raises:
            TelepathyError: the login is given up.
        """

    def refused(self, error: TelepathyError, *, again: bool) -> None:
        """The server says no.

        Args:
            again: another password may help.
        """

    def confused(self, error: TelepathyError) -> None:
        """What the server says is wrong; the login is at an end."""


class Authenticator(Protocol):
    """Answers for a person."""

    async def next_try(self, offer: LoginOffer, *, may_ask: bool) -> LoginTry:
        """What to try (next).

        Args:
            may_ask: whether people may be asked.
        Raises:
            TelepathyError: nothing any more.
        """

    async def next_stream(self, error: TelepathyError) -> None:
        """The connection went during the login. Returns when there is something to try on another.

        Raises:
            TelepathyError: ``error``, or what matters more.
        """

    async def can_judge(self) -> bool:
        """Whether there is anybody who could look at a certificate."""

    async def judge(self, shown: ServerCertificate) -> None:
        """Return if this server is the right one all the same.

        Raises:
            TelepathyError: it is not, or nobody says so.
        """


class PasswordOnly:
    """Nobody is there: the password of the account, once, and no bad certificate.

    Args:
        password: may be empty.
    """

    def __init__(self, password: Password) -> None:
        self._password = password
        self._error: TelepathyError | None = None

    async def next_try(self, offer: LoginOffer, *, may_ask: bool) -> LoginTry:
        if self._error is not None:
            raise self._error
        if not self._password:
            raise AuthenticationFailed("There is no password for this account")
        return KnownPassword(self._password, self._refused)

    def _refused(self, error: TelepathyError, again: bool) -> None:
        self._error = error

    async def next_stream(self, error: TelepathyError) -> None:
        raise self._error or error

    async def can_judge(self) -> bool:
        return False

    async def judge(self, shown: ServerCertificate) -> None:
        raise shown.error


class RefusedCallback(Protocol):
    """Told that the server says no."""

    def __call__(self, error: TelepathyError, again: bool) -> None: ...


class KnownPassword:
    """A try that needs nobody. See ``LoginTry``."""

    mechanism = ""
    initial = None

    def __init__(self, password: Password, refused: RefusedCallback) -> None:
        self.password = password
        self._refused = refused

    async def respond(self, challenge: bytes) -> bytes:
        raise ConnectionFailed("Nobody drives this login")

    async def finish(self, data: bytes) -> None:
        return

    def refused(self, error: TelepathyError, *, again: bool) -> None:
        self._refused(error, again)

    def confused(self, error: TelepathyError) -> None:
        return


class Asking:
    """One client's questions. While people think, the time for connecting stands still."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._seconds = 0.0
        self._limit: asyncio.Timeout | None = None
        self._open = 0

    @contextmanager
    def within(self, limit: asyncio.Timeout, seconds: float) -> Iterator[None]:
        """Inside, people may be asked; outside only what is known counts.

        Args:
            limit: the time for connecting.
            seconds: the time for the rest of it, after an answer.
        """
        self._limit, self._seconds = limit, seconds
        try:
            yield
        finally:
            self._limit = None

    async def next_try(self, offer: LoginOffer) -> LoginTry:
        """See ``Authenticator``."""
        may_ask = self._limit is not None
        return await self._answer(self._authenticator.next_try(offer, may_ask=may_ask))

    async def respond(self, to: LoginTry, challenge: bytes) -> bytes:
        """See ``LoginTry``."""
        return await self._answer(to.respond(challenge))

    async def finish(self, with_: LoginTry, data: bytes) -> None:
        """See ``LoginTry``."""
        await self._answer(with_.finish(data))

    async def next_stream(self, error: TelepathyError) -> None:
        """See ``Authenticator``."""
        await self._answer(self._authenticator.next_stream(error))

    async def can_judge(self) -> bool:
        """See ``Authenticator``; nobody can when it is too late to ask."""
        return self._limit is not None and await self._authenticator.can_judge()

    async def judge(self, shown: ServerCertificate) -> None:
        """See ``Authenticator``."""
        await self._answer(self._authenticator.judge(shown), shown.error)

    async def _answer(
        self, answer: Coroutine[Any, Any, T], silence: TelepathyError | None = None
    ) -> T:
        limit = self._limit
        if limit is not None:
            limit.reschedule(None)
        self._open += 1
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                return await answer
        except TimeoutError:
            raise silence or AuthenticationFailed(
                "Nobody answered the question for the password"
            ) from None
        finally:
            self._open -= 1
            # Another question may be open already, and the whole may be over.
            if not self._open and limit is not None and self._limit is limit:
                if not limit.expired():
                    limit.reschedule(asyncio.get_running_loop().time() + self._seconds)
