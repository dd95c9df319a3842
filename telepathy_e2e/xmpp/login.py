"""From TLS to a login: who we are (RFC 6120 section 6)."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionLost,
    EncryptionNotAvailable,
    NetworkError,
    ServiceConfused,
    TelepathyError,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import sasl
from telepathy_e2e.xmpp.authenticator import Asking, LoginOffer, LoginTry
from telepathy_e2e.xmpp.jid import local_of
from telepathy_e2e.xmpp.settings import Password, Settings

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BINDINGS = "urn:xmpp:sasl-cb:0"

# Characters of what a server says to people about a failure.
MAX_SERVER_MESSAGE = 1000

_SASL_ERRORS = {
    "account-disabled": "The server has disabled this account",
    "credentials-expired": "The password has expired",
    "not-authorized": "The password is wrong, or there is no such account",
    "temporary-auth-failure": "The server cannot check the password at the moment",
}
# Another password may be right.
_ASK_AGAIN = frozenset({"credentials-expired", "not-authorized"})


class LoginStream(Protocol):
    """What a login needs of its stream."""

    secure: bool

    def bindings(self) -> Mapping[str, bytes]:
        """What a login can be bound to here: type to data."""

    def put(self, element: Element) -> None:
        """Send."""

    def restart(self) -> None:
        """Begin a new stream on the same connection."""

    def fail(self, error: TelepathyError, *, broken: bool = False) -> None:
        """It failed; end everything."""


class Login:
    """One stream's login: as many tries as server and people have.

    Args:
        account: JID, normalised.
        asking: who knows what to try.
        tasks: owns the task that tries.

    Attributes:
        begun: whether the server is one to log in at; what goes wrong before is the server's.
        done: whether the server let us in.
    """

    def __init__(
        self,
        settings: Settings,
        account: str,
        stream: LoginStream,
        asking: Asking,
        tasks: TaskOwner,
    ) -> None:
        self._settings = settings
        self._account = account
        self._stream = stream
        self._asking = asking
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._try: LoginTry | None = None
        self._answer: asyncio.Future[tuple[str, bytes]] | None = None
        self.begun = False
        self.done = False

    def offered(self, features: Element) -> bool:
        """What the server offers, when TLS is up or cannot be had; whether that gets us further."""
        if not self._stream.secure and self._settings.require_encryption:
            # Nothing of the login, the name included, goes where anybody can read it.
            self._stream.fail(EncryptionNotAvailable("The server does not encrypt the connection"))
            return True
        bindings = features.find(f"{{{BINDINGS}}}sasl-channel-binding")
        offer = sasl.Offer.read(
            (each.text or "" for each in features.iter(f"{{{SASL}}}mechanism")),
            None
            if bindings is None
            else [each.get("type", "") for each in bindings.iter(f"{{{BINDINGS}}}channel-binding")],
            self._stream.bindings(),
            safe=self._stream.secure,
        )
        if self._task is not None or not features.findall(f".//{{{SASL}}}mechanism"):
            return False
        self.begun = True
        self._task = self._tasks.start("login", self._run(offer))
        return True

    def stop(self) -> None:
        """The stream is over."""
        if self._task is not None:
            self._task.cancel()

    # -- what we do -------------------------------------------------------------------------

    async def _run(self, offer: sasl.Offer) -> None:
        known = LoginOffer(
            offer.for_others(),
            sasl.choose(offer, local_of(self._account), self._settings.password) is not None,
        )
        try:
            if not known.mechanisms and not known.by_password:
                raise _no_way()
            while not self.done:
                self._try = None
                this = self._try = await self._asking.next_try(known)
                if this.password is not None:
                    await self._try_ours(this, this.password, offer)
                else:
                    await self._try_theirs(this)
        except ServiceConfused as error:
            if self._try is not None:
                self._try.confused(error)
            self._stream.fail(error)
        except TelepathyError as error:
            self._stream.fail(error, broken=isinstance(error, ConnectionLost))

    async def _try_ours(self, this: LoginTry, password: Password, offer: sasl.Offer) -> None:
        mechanism = sasl.choose(offer, local_of(self._account), password)
        try:
            # Before the server hears anything: it would count this as a wrong one.
            sasl.saslprep(password.reveal())
        except AuthenticationFailed as error:
            this.refused(error, again=True)
            return
        if mechanism is None:
            this.refused(_no_way(), again=False)
            return
        name, data = await self._ask("auth", mechanism.first(), mechanism.name)
        while name == "challenge":
            # In a thread: thousands of rounds of a hash, as many as the server says.
            answer = await asyncio.to_thread(mechanism.respond, data)
            name, data = await self._ask("response", answer)
        if name == "success":
            mechanism.finish(data)
            await self._asking.finish(this, b"")
            self._succeeded()

    async def _try_theirs(self, this: LoginTry) -> None:
        name, data = await self._ask("auth", this.initial, this.mechanism)
        while name == "challenge":
            name, data = await self._ask("response", await self._asking.respond(this, data))
        if name == "success":
            await self._asking.finish(this, data)
            self._succeeded()

    def _succeeded(self) -> None:
        self.done = True
        self._try = None
        self._stream.restart()

    async def _ask(
        self, name: str, data: bytes | None, mechanism: str | None = None
    ) -> tuple[str, bytes]:
        """Send an element of SASL; the server's answer: its name, and its data."""
        element = Element(f"{{{SASL}}}{name}")
        if mechanism is not None:
            element.set("mechanism", mechanism)
            # Nothing is nothing, and an empty initial response is "=" (RFC 6120 section 6.4.2).
            element.text = None if data is None else _encoded(data) or "="
        else:
            element.text = _encoded(data or b"")
        self._answer = asyncio.get_running_loop().create_future()
        self._stream.put(element)
        return await self._answer

    # -- what the server does ---------------------------------------------------------------

    def receive(self, name: str, element: Element) -> None:
        """An element of SASL."""
        answer, this = self._answer, self._try
        if answer is None or answer.done() or this is None or self.done:
            self._stream.fail(
                ConnectionFailed("The server speaks of a login that nobody asked for")
            )
            return
        if name == "failure":
            # At once: many servers hang up right behind it.
            error, again = _failure(element)
            this.refused(error, again=again)
            answer.set_result((name, b""))
            return
        if name not in ("challenge", "success"):
            self._stream.fail(ConnectionFailed("The server does not follow the standard"))
            return
        try:
            text = (element.text or "").strip()
            data = b"" if text in ("", "=") else b64decode(text, validate=True)
        except (Base64Error, ValueError):
            confused = ServiceConfused("The server does not follow its own way to log in")
            this.confused(confused)
            self._stream.fail(confused)
            return
        answer.set_result((name, data))


def _no_way() -> AuthenticationFailed:
    return AuthenticationFailed("The server offers no way to log in that is safe")


def _encoded(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _failure(element: Element) -> tuple[TelepathyError, bool]:
    """What a refusal means, and whether another password may help."""
    conditions = [child.tag.rpartition("}")[2] for child in element]
    condition = next((each for each in conditions if each in _SASL_ERRORS), "")
    kind = NetworkError if condition == "temporary-auth-failure" else AuthenticationFailed
    error = kind(_SASL_ERRORS.get(condition, "The server did not let this account in"))
    told = server_message(element.findtext(f"{{{SASL}}}text"))
    if told:
        error.details = {"server-message": told}
    return error, condition in _ASK_AGAIN


def server_message(text: str | None) -> str:
    """What a server says to people, as far as it can be shown."""
    shown = "".join(c if c.isprintable() else " " for c in (text or "")[:MAX_SERVER_MESSAGE])
    return shown.strip()
