"""From an account to a session: at every place where its server may be, until one lets us in."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from telepathy_e2e.errors import (
    CertError,
    CertHostnameMismatch,
    ConnectionRefused,
    Disconnected,
    NetworkError,
    TelepathyError,
)
from telepathy_e2e.xmpp import targets, tls
from telepathy_e2e.xmpp.authenticator import Asking, ServerCertificate
from telepathy_e2e.xmpp.jid import domain_of
from telepathy_e2e.xmpp.settings import Settings
from telepathy_e2e.xmpp.targets import Target

if TYPE_CHECKING:
    from telepathy_e2e.xmpp.stream import Stream

log = logging.getLogger(__name__)

# Seconds for one place; a dead one must leave time for the next.
TARGET_SECONDS = 20.0
# Seconds for all of them, of the time for connecting.
ALL_TARGETS_SECONDS = 48.0

MakeStream = Callable[[Target, ssl.SSLContext], "Stream"]


class Opening:
    """How one client comes to its sessions, the first and those after a broken connection.

    Args:
        account: its JID, normalised.
        asking: knows what to try, and who judges certificates.
        make: a stream, which is the client's current one from then on.
    """

    def __init__(self, settings: Settings, account: str, asking: Asking, make: MakeStream) -> None:
        self._settings = settings
        self._domain = domain_of(account)
        self._asking = asking
        self._make = make
        # Of servers that the user has judged himself; for as long as this connection lives.
        self._accepted: set[bytes] = set()
        self._stream: Stream | None = None

    async def first(self) -> str:
        """A session, with as many streams as the people take to log in; our full JID.

        Raises:
            TelepathyError: there is none.
        """
        while True:
            try:
                return await self.once()
            except Disconnected:
                raise
            except TelepathyError as error:
                if self._stream is None or not self._stream.login_begun:
                    raise
                await self._asking.next_stream(error)

    async def once(self) -> str:
        """A session, in one login; our full JID.

        Raises:
            TelepathyError: there is none.
        """
        self._stream = None
        context = await asyncio.to_thread(
            tls.context, self._settings.ca_file, self._settings.extra_identities
        )
        places = await targets.find(self._settings, self._domain)
        seconds = min(TARGET_SECONDS, ALL_TARGETS_SECONDS / len(places))
        errors: list[tuple[TelepathyError, Target]] = []
        for target in places:
            try:
                return await (await self._reach(target, context, seconds)).ready
            except TelepathyError as error:
                if self._final(error):
                    raise
                log.info("%s port %d: %s", target.host, target.port, error)
                errors.append((error, target))
        # What is wrong with a certificate matters more than what is wrong with the next address;
        # but a server that proves who it is is the right one wherever it is, so that people are
        # only asked when there is none. An attacker gains nothing: he could as well be silent.
        worst, target = min(
            errors,
            key=lambda each: (
                not isinstance(each[0], CertError),
                type(each[0]) in (NetworkError, ConnectionRefused),
            ),
        )
        if isinstance(worst, CertError):
            return await self._unverified(target, worst, seconds)
        raise worst

    def _final(self, error: TelepathyError) -> bool:
        """Whether other places make no difference."""
        return self._stream is None or self._stream.login_begun or isinstance(error, Disconnected)

    async def _reach(self, target: Target, context: ssl.SSLContext, seconds: float) -> Stream:
        """A stream that has shown a certificate, begun its login, or failed.

        Raises:
            TelepathyError: it was not reached.
        """
        self._stream = stream = self._make(target, context)
        try:
            async with asyncio.timeout(seconds):
                await stream.open()
                await stream.found.wait()
        except TimeoutError:
            error = NetworkError("The server did not answer in time")
            stream.fail(error)
            _drop(stream)
            raise error from None
        return stream

    async def _unverified(self, target: Target, error: CertError, seconds: float) -> str:
        """A session with a server that does not verify, if the user says that it is the right one.

        Nothing goes to it before.

        Raises:
            TelepathyError: there is none.
        """
        if not self._accepted and not await self._asking.can_judge():
            raise error
        stream = await self._reach(target, tls.unverified_context(), seconds)
        if not stream.shown:
            return await stream.ready  # it ended
        certificate = stream.shown[0]
        if certificate not in self._accepted:
            try:
                await self._judge(error, stream.shown)
            except TelepathyError as no:
                stream.fail(no)
                _drop(stream)
                raise
            self._accepted.add(certificate)
        if stream.over:
            # It did not wait for the answer.
            _drop(stream)
            stream = await self._reach(target, tls.unverified_context(), seconds)
            if not stream.shown:
                return await stream.ready
        stream.go_on(certificate)
        return await stream.ready

    async def _judge(self, error: CertError, chain: tuple[bytes, ...]) -> None:
        if not await self._asking.can_judge():
            raise error
        if isinstance(error, CertHostnameMismatch):
            name = await asyncio.to_thread(tls.name_of, chain[0])
            error.details = {**error.details, "certificate-hostname": name}
        identities = (self._domain, *self._settings.extra_identities)
        await self._asking.judge(ServerCertificate(chain, error, self._domain, identities))


def _drop(stream: Stream) -> None:
    """Nobody waits for its session any longer."""
    if not stream.ready.cancel() and not stream.ready.cancelled():
        stream.ready.exception()
