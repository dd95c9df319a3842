"""From TLS to a login: who we are (RFC 6120 section 6)."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    EncryptionNotAvailable,
    NetworkError,
    TelepathyError,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import sasl
from telepathy_e2e.xmpp.iq import Iqs
from telepathy_e2e.xmpp.jid import local_of
from telepathy_e2e.xmpp.settings import Settings

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"

_SASL_ERRORS = {
    "account-disabled": "The server has disabled this account",
    "credentials-expired": "The password has expired",
    "not-authorized": "The password is wrong, or there is no such account",
    "temporary-auth-failure": "The server cannot check the password at the moment",
}


class LoginStream(Protocol):
    """What a login needs of its stream."""

    secure: bool

    def put(self, element: Element) -> None:
        """Send."""

    def restart(self) -> None:
        """Begin a new stream on the same connection."""

    def fail(self, error: TelepathyError) -> None:
        """It failed; end everything."""


class Login:
    """One login on one stream.

    Args:
        account: JID, normalised.
        iqs: the stream's.
        tasks: owns what computes or waits.

    Attributes:
        done: whether the server let us in.
    """

    def __init__(
        self,
        settings: Settings,
        account: str,
        stream: LoginStream,
        iqs: Iqs,
        tasks: TaskOwner,
    ) -> None:
        self._settings = settings
        self._account = account
        self._stream = stream
        self._iqs = iqs
        self._tasks = tasks
        self._mechanism: sasl.Mechanism | None = None
        self.done = False

    def offered(self, features: Element) -> bool:
        """What the server offers, when TLS is up or cannot be had; whether that gets us further."""
        if not self._stream.secure and self._settings.require_encryption:
            # Nothing of the login, the name included, goes where anybody can read it.
            self._stream.fail(EncryptionNotAvailable("The server does not encrypt the connection"))
            return True
        names = (each.text for each in features.iter(f"{{{SASL}}}mechanism"))
        self._mechanism = sasl.choose(
            [name for name in names if name],
            local_of(self._account),
            self._settings.password,
            encrypted=self._stream.secure,
        )
        if self._mechanism is None:
            self._stream.fail(
                AuthenticationFailed("The server offers no way to log in that is safe")
            )
            return True
        self._tasks.start("login", self._begin_login(self._mechanism))
        return True

    async def _begin_login(self, mechanism: sasl.Mechanism) -> None:
        try:
            first = await asyncio.to_thread(mechanism.first)
        except AuthenticationFailed as error:
            self._stream.fail(error)
            return
        auth = Element(f"{{{SASL}}}auth", mechanism=mechanism.name)
        auth.text = b64encode(first).decode("ascii")
        self._stream.put(auth)

    def receive(self, name: str, element: Element) -> None:
        """An element of SASL."""
        mechanism = self._mechanism
        if mechanism is None or self.done:
            self._stream.fail(
                ConnectionFailed("The server speaks of a login that nobody asked for")
            )
            return
        try:
            text = (element.text or "").strip()
            data = b"" if text in ("", "=") else b64decode(text, validate=True)
        except (Base64Error, ValueError):
            self._stream.fail(
                AuthenticationFailed("The server does not follow its own way to log in")
            )
            return
        match name:
            case "challenge":
                self._tasks.start("login", self._respond(mechanism, data))
            case "success":
                try:
                    mechanism.finish(data)
                except AuthenticationFailed as error:
                    self._stream.fail(error)
                    return
                self.done = True
                self._mechanism = None
                self._stream.restart()
            case "failure":
                conditions = [child.tag.rpartition("}")[2] for child in element]
                condition = next((each for each in conditions if each in _SASL_ERRORS), "")
                kind = (
                    NetworkError if condition == "temporary-auth-failure" else AuthenticationFailed
                )
                self._stream.fail(
                    kind(_SASL_ERRORS.get(condition, "The server did not let this account in"))
                )
            case _:
                self._stream.fail(ConnectionFailed("The server does not follow the standard"))

    async def _respond(self, mechanism: sasl.Mechanism, challenge: bytes) -> None:
        # In a thread: thousands of rounds of a hash, as many as the server says.
        try:
            answer = await asyncio.to_thread(mechanism.respond, challenge)
        except AuthenticationFailed as error:
            self._stream.fail(error)
            return
        response = Element(f"{{{SASL}}}response")
        response.text = b64encode(answer).decode("ascii")
        self._stream.put(response)
